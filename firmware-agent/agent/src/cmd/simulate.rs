//! `simulate`: makes a drive of a scenario and a seed, and the truth about it beside it; or many short clips at once,
//! for training.
//!
//! The drive says that it is simulated, every picture does, and so does the truth.

mod batch;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use agent_drive::{CameraInfo, DriveInfo, DriveWriter, PictureEncoder};
use agent_sim::SimRecord;
use agent_sim::render::{BoxTruth, Camera, CameraLook};
use agent_sim::world::truth::{DriveTruth, FrameTruth, TrackTruth, kind_name};
use agent_sim::world::{DriveOptions, Next, Scenario, WorldDrive, built_in, names};
use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use crate::cli::SimulateArgs;
use crate::exit::{Outcome, bad_input, usage};
use crate::show::{put, say};

/// Bounds of what may be asked for.
const SIDES: [usize; 2] = [64, 1920];
const FPS: [f64; 2] = [0.0, 60.0];
const IMU_HZ: [usize; 2] = [10, 1000];
const GNSS_HZ: [usize; 2] = [1, 10];

pub(crate) fn simulate(args: &SimulateArgs) -> anyhow::Result<Outcome> {
    if args.list {
        return list();
    }
    let options = options(args)?;
    if args.batch {
        return batch::run(args, options);
    }
    let name = args.scenario.first().ok_or_else(|| usage("which scenario? --list names the built-in ones"))?;
    let Some(out) = &args.out else { return Err(usage("--out DRIVE.mcap is needed")) };
    let scenario = scenario(name)?;
    let truth = drive(&scenario, args.seed, options, out)?;
    put!(
        "{}",
        json!({"drive": out, "truth": truth_path(out), "scenario": scenario.name(), "seed": args.seed,
               "severity": truth.severity, "description": truth.description.text, "cause": truth.cause.text,
               "contact_s": truth.event.as_ref().map(|e| e.contact_s),
               "delta_v_kmh": truth.event.as_ref().map(|e| e.delta_v_150ms_kmh)})
    )?;
    Ok(Outcome::Done)
}

fn list() -> anyhow::Result<Outcome> {
    for name in names() {
        if let Some(scenario) = built_in(name) {
            put!("{name:26} {}", scenario?.text())?;
        }
    }
    Ok(Outcome::Done)
}

fn options(args: &SimulateArgs) -> anyhow::Result<DriveOptions> {
    let within = |value: f64, [low, high]: [f64; 2], name: &str| {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(usage(format!("--{name} {value} is not within {low} to {high}")))
    };
    let wide = |bounds: [usize; 2]| bounds.map(|n| n as f64);
    within(args.width as f64, wide(SIDES), "width")?;
    within(args.height as f64, wide(SIDES), "height")?;
    within(args.fps, FPS, "fps")?;
    within(args.imu_hz as f64, wide(IMU_HZ), "imu-hz")?;
    within(args.gnss_hz as f64, wide(GNSS_HZ), "gnss-hz")?;
    for (value, name) in [(args.imu_hz, "imu-hz"), (args.gnss_hz, "gnss-hz")] {
        if !1000_usize.is_multiple_of(value) {
            return Err(usage(format!("--{name} {value} does not divide 1000: samples fall on whole milliseconds")));
        }
    }
    if !args.width.is_multiple_of(2) || !args.height.is_multiple_of(2) {
        return Err(usage("--width and --height are even numbers"));
    }
    Ok(DriveOptions { size: [args.width, args.height], fps: args.fps, imu_hz: args.imu_hz, gnss_hz: args.gnss_hz })
}

/// A built-in scenario, or one from a file.
pub(crate) fn scenario(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = built_in(name) {
        return Ok(scenario?);
    }
    let path = Path::new(name);
    if path.extension().is_none_or(|e| e != "toml") {
        return Err(usage(format!(
            "there is no scenario {name}; --list names those that there are, or give a .toml file"
        )));
    }
    let text = crate::convert::read_text(path)?;
    Scenario::parse(&text).map_err(|e| bad_input(format!("{name}: {e}")))
}

/// Where the truth of a drive is written: beside it.
fn truth_path(drive: &Path) -> PathBuf {
    let mut name = drive.as_os_str().to_owned();
    name.push(".truth.json");
    PathBuf::from(name)
}

/// The truth file: the drive's truth and that of each picture.
#[derive(Serialize)]
struct TruthFile<'a> {
    #[serde(flatten)]
    drive: &'a DriveTruth,
    frames: &'a [FrameTruth],
}

/// The camera of a drive: what belongs to it is drawn from the drive's own seed.
pub(crate) fn camera(drive: &WorldDrive, size: [usize; 2]) -> Camera {
    let draw = drive.look();
    let look = CameraLook {
        bonnet: draw.bonnet,
        bonnet_height: draw.bonnet_height,
        reflection: draw.reflection,
        noise: draw.noise,
        exposure_s: draw.exposure_s,
        ..CameraLook::default()
    };
    Camera::new(size[0], size[1], look)
}

/// Draws the picture at a millisecond and says whom it shows.
pub(crate) fn picture(
    drive: &mut WorldDrive,
    camera: &mut Camera,
    ms: usize,
    rgb: &mut [u8],
    boxes: &mut Vec<BoxTruth>,
) -> FrameTruth {
    let scene = drive.scene(ms);
    camera.render(&scene, rgb);
    camera.boxes(&scene, boxes);
    let mut truth = drive.frame_truth(ms);
    // Who is in the picture has a box; of the others only those that move and are near are kept.
    truth.tracks.retain(|t| t.at_m[0] > -25.0 && (t.speed_mps > 0.1 || boxes.iter().any(|b| b.id == t.id)));
    for b in boxes.iter() {
        let corners = b.corners.map(f32::from);
        match truth.tracks.iter_mut().find(|t| t.id == b.id) {
            Some(track) => (track.box_px, track.visible) = (Some(corners), Some(b.visible)),
            None => truth.tracks.push(TrackTruth {
                id: b.id,
                kind: kind_name(b.kind),
                at_m: [f64::from(b.distance_m), 0.0],
                speed_mps: 0.0,
                box_px: Some(corners),
                visible: Some(b.visible),
            }),
        }
    }
    truth
}

/// Writes the drive of a scenario and its truth; returns the truth.
pub(crate) fn drive(scenario: &Scenario, seed: u64, options: DriveOptions, out: &Path) -> anyhow::Result<DriveTruth> {
    let mut sim = WorldDrive::new(scenario, seed, options)?;
    let [width, height] = options.size;
    let hfov_deg = Some(sim.hfov_deg() as f32);
    let camera_info = CameraInfo { width: width as u16, height: height as u16, fps: options.fps as f32, hfov_deg };
    let info = DriveInfo {
        simulated: true,
        synthetic: true,
        camera: (options.fps > 0.0).then_some(camera_info),
        importer: concat!("firmware-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..DriveInfo::new(format!("simulated: {}, seed {seed}", scenario.name()))
    };
    let mut writer = DriveWriter::create(out, &info)?;
    let mut camera = camera(&sim, options.size);
    let mut encoder = PictureEncoder::new([width as u16, height as u16], options.fps as f32)?;
    let mut left_out = 0;
    let (mut rgb, mut boxes, mut frames) = (vec![0; width * height * 3], Vec::new(), Vec::new());
    while let Some(next) = sim.next_due() {
        match next {
            Next::Record(SimRecord::Imu(s)) => writer.write_imu(&s)?,
            Next::Record(SimRecord::Gnss(f)) => writer.write_gnss(&f)?,
            Next::Record(SimRecord::Can(f)) => writer.write_can(&f)?,
            Next::Record(SimRecord::Frame { .. }) => {}
            Next::Picture { seq, t } => {
                let ms = (t.0 / 1_000_000) as usize;
                frames.push(picture(&mut sim, &mut camera, ms, &mut rgb, &mut boxes));
                match encoder.encode_rgb(&rgb, t, seq)? {
                    Some((meta, data)) => writer.write_frame(&meta, &data)?,
                    None => left_out += 1,
                }
            }
        }
    }
    writer.finish()?;
    if left_out > 0 {
        say!("the encoder left {left_out} pictures out");
    }
    let path = truth_path(out);
    let file = std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let mut file = std::io::BufWriter::new(file);
    serde_json::to_writer(&mut file, &TruthFile { drive: sim.truth(), frames: &frames })?;
    file.write_all(b"\n")?;
    file.flush()?;
    Ok(sim.truth().clone())
}
