//! `import`: makes a drive from what people have. Inputs of different recordings make a composite, and the drive says so.

use std::path::PathBuf;

use agent_drive::DriveInfo;
use agent_drive::import::{AccelUnit, GyroUnit, ImuColumns, Input, InputKind, Offset, TimeUnit, import as make};
use serde_json::json;

use crate::cli::ImportArgs;
use crate::convert::read_text;
use crate::exit::{Outcome, bad_input, usage};
use crate::show::{put, say};

pub(crate) fn import(args: &ImportArgs) -> anyhow::Result<Outcome> {
    let inputs = inputs(args)?;
    let names: Vec<String> = inputs.iter().map(|i| name(&i.path)).collect();
    let info = DriveInfo {
        simulated: args.simulated,
        importer: concat!("firmware-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..DriveInfo::new(names.join(" + "))
    };
    let report = make(&inputs, &args.out, info, args.same_recording).map_err(bad_input)?;
    for warning in &report.warnings {
        say!("{warning}");
    }
    let c = report.counts;
    put!(
        "{}",
        json!({"drive": args.out, "frames": c.frames, "imu_samples": c.imu, "can_frames": c.can, "gnss_fixes": c.gnss,
               "skipped": report.skipped, "composite": report.info.composite, "transcoded": report.info.transcoded})
    )?;
    Ok(if report.skipped > 0 { Outcome::Loss } else { Outcome::Done })
}

fn name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

fn inputs(args: &ImportArgs) -> anyhow::Result<Vec<Input>> {
    let mut out = Vec::new();
    let mut add = |path: &PathBuf, kind, offset| out.push(Input { path: path.clone(), kind, offset });
    // Wherever the others lie, one input alone begins where its own clock says; with a video, logs begin at 0 unless
    // they are told otherwise.
    let log_offset = |offset: Option<f64>| match offset {
        Some(seconds) => Offset::OwnClock(seconds),
        None if args.video.is_some() => Offset::FirstAt(0.0),
        None => Offset::OwnClock(0.0),
    };
    if let Some(path) = &args.video {
        add(path, InputKind::Video, Offset::OwnClock(args.video_offset_s));
    }
    if let Some(path) = &args.candump {
        add(path, InputKind::Candump, log_offset(args.candump_offset_s));
    }
    if let Some(path) = &args.imu_csv {
        let text = args.imu_columns.as_deref().ok_or_else(|| usage("--imu-csv needs --imu-columns"))?;
        let columns = columns(text).map_err(|why| usage(format!("--imu-columns {text}: {why}")))?;
        add(path, InputKind::ImuCsv(columns), log_offset(args.imu_offset_s));
    }
    if let Some(path) = &args.comma2k19 {
        let dbc = args.dbc.as_deref().map(dbc_text).transpose()?;
        add(path, InputKind::Comma2k19(dbc), log_offset(args.comma2k19_offset_s));
    }
    // Making the drive would destroy the input before it is read.
    let place = args.out.canonicalize().ok();
    if let Some(same) = out.iter().find(|i| place.is_some() && i.path.canonicalize().ok() == place) {
        return Err(usage(format!("--out {} is an input: the drive needs a file of its own", same.path.display())));
    }
    if out.is_empty() {
        return Err(usage("nothing to import: give --video, --candump, --imu-csv or --comma2k19"));
    }
    Ok(out)
}

/// The text of a DBC file that can be read.
fn dbc_text(path: &std::path::Path) -> anyhow::Result<String> {
    let text = read_text(path)?;
    agent_drive::dbc::check(&text).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    Ok(text)
}

/// `t=NAME[:s|ms|us|ns],x=NAME,y=NAME,z=NAME[,gx=NAME,gy=NAME,gz=NAME][,accel=g|mps2][,gyro=radps|degps]`
fn columns(text: &str) -> Result<ImuColumns, String> {
    let mut columns = ImuColumns {
        time: (String::new(), TimeUnit::S),
        accel: Default::default(),
        accel_unit: AccelUnit::Mps2,
        gyro: None,
    };
    let mut gyro_unit = GyroUnit::RadPerS;
    let mut turn: [String; 3] = Default::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part} is not KEY=NAME"))?;
        let value = value.trim().to_owned();
        match key.trim() {
            "t" => {
                let (name, unit) = value.rsplit_once(':').unwrap_or((&value, "s"));
                let unit = match unit {
                    "s" => TimeUnit::S,
                    "ms" => TimeUnit::Ms,
                    "us" => TimeUnit::Us,
                    "ns" => TimeUnit::Ns,
                    other => return Err(format!("{other} is none of s, ms, us, ns")),
                };
                columns.time = (name.to_owned(), unit);
            }
            "x" => columns.accel[0] = value,
            "y" => columns.accel[1] = value,
            "z" => columns.accel[2] = value,
            "gx" => turn[0] = value,
            "gy" => turn[1] = value,
            "gz" => turn[2] = value,
            "accel" => {
                columns.accel_unit = match value.as_str() {
                    "g" => AccelUnit::G,
                    "mps2" => AccelUnit::Mps2,
                    other => return Err(format!("accel={other} is neither g nor mps2")),
                };
            }
            "gyro" => {
                gyro_unit = match value.as_str() {
                    "radps" => GyroUnit::RadPerS,
                    "degps" => GyroUnit::DegPerS,
                    other => return Err(format!("gyro={other} is neither radps nor degps")),
                };
            }
            other => return Err(format!("{other} is none of t, x, y, z, gx, gy, gz, accel, gyro")),
        }
    }
    if columns.time.0.is_empty() || columns.accel.iter().any(String::is_empty) {
        return Err("t, x, y and z are needed".to_owned());
    }
    match turn.iter().filter(|n| n.is_empty()).count() {
        0 => columns.gyro = Some((turn, gyro_unit)),
        3 => {}
        _ => return Err("gx, gy and gz go together".to_owned()),
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_with_their_units_and_errors_name_the_part() {
        let c = columns("t=time:ms,x=ax,y=ay,z=az,gx=a,gy=b,gz=c,accel=g,gyro=degps").unwrap();
        assert_eq!((c.time, c.accel_unit), (("time".to_owned(), TimeUnit::Ms), AccelUnit::G));
        assert_eq!(c.gyro.unwrap().1, GyroUnit::DegPerS);
        for (text, why) in [
            ("x=a", "t, x, y and z are needed"),
            ("t=a:h,x=a,y=b,z=c", "h is none of s, ms, us, ns"),
            ("t=a,x=a,y=b,z=c,gx=d", "gx, gy and gz go together"),
            ("t=a,x", "x is not KEY=NAME"),
            ("t=a,x=a,y=b,z=c,accel=lb", "accel=lb is neither g nor mps2"),
        ] {
            assert_eq!(columns(text).unwrap_err(), why);
        }
    }
}
