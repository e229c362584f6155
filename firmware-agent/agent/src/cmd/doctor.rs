//! `doctor`: what works on this unit, a JSON object a line, with what to do about what does not.
//!
//! Looks at camera, motion sensor, lines and GNSS receiver, which must not be in use by a running agent, and at everything
//! else, which may.

mod keys;
mod unit;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::config::camera::{CameraConfig, CameraKind};
use crate::config::gnss::GnssKind;
use crate::exit::{Outcome, usage};
use crate::io::camera::probe::probe;
use crate::io::camera::v4l2::list::{cameras, is_stable};
use crate::io::can::{self, BusReport};
use crate::io::gnss::News;
use crate::io::news::Told;
use crate::show::put;

/// A bus that lives has hundreds of frames in this time.
const BUS_S: f64 = 2.0;
/// A receive buffer below this, in the kernel's own accounting, holds less than 50 ms of a full bus.
const ROOM_BYTES: usize = 1 << 20;
/// A receiver at 1 Hz is heard in this time.
const LISTEN_S: f64 = 3.0;

pub(crate) fn doctor(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    if !(0.1..=86_400.0).contains(&args.seconds) {
        return Err(usage("--seconds is 0.1 to 86400"));
    }
    let config = super::replay::load_config(Some(&args.config))?;
    let mut failed = false;
    for check in [
        camera,
        buses,
        unit::motion,
        receiver,
        unit::lines,
        unit::clock,
        unit::heat,
        unit::models,
        unit::disk,
        unit::broker,
        keys::certificates,
        keys::token,
        keys::unit_key,
        keys::commands,
        keys::updates,
    ] {
        let line = check(&config, args.seconds);
        failed |= line["works"] == json!(false);
        put!("{line}")?;
    }
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

/// Listens to the configured interfaces, all at once. A bus works when frames come.
fn buses(config: &Config, seconds: f64) -> Value {
    let interfaces = &config.sources.can.interfaces;
    if interfaces.is_empty() {
        return json!({"check": "can", "works": null, "why": "none is configured"});
    }
    hear(interfaces, seconds.max(BUS_S))
}

fn hear(interfaces: &[String], seconds: f64) -> Value {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let stop = AtomicBool::new(false);
    let beat = || stop.store(Instant::now() >= until, Ordering::Relaxed);
    let reports = can::run(interfaces, None, None, &stop, &beat, &mut |_| Told::Taken);
    let works = reports.iter().all(|bus| bus.frames > 0);
    let reports: Vec<Value> = reports.iter().map(bus_line).collect();
    json!({"check": "can", "works": works, "buses": reports})
}

fn bus_line(bus: &BusReport) -> Value {
    let advice = match (&bus.why, bus.frames, bus.errors.any()) {
        (Some(why), ..) => why.as_str(),
        (None, 0, true) => {
            "only errors are heard: the bit rate is another one, CAN high and low are swapped, or termination is missing"
        }
        (None, 0, false) => {
            "it is up and silent: is the ignition on, is it the right connector, does the gateway let frames through?"
        }
        _ if bus.room_bytes < ROOM_BYTES => {
            "bursts may be lost before they are read: `sysctl -w net.core.rmem_max=4194304`, and in /etc/sysctl.d to stay"
        }
        _ => "",
    };
    json!({
        "interface": bus.name, "works": bus.frames > 0, "up": bus.up, "frames": bus.frames, "errors": bus.errors,
        "bus_off": bus.bus_offs, "lost": bus.dropped, "room_bytes": bus.room_bytes, "advice": advice,
    })
}

/// Most words of the receiver that are shown.
const SAID: usize = 16;

/// Listens to the configured receiver. It works when sound sentences come; without a position they do too, indoors.
fn receiver(config: &Config, seconds: f64) -> Value {
    let settings = &config.sources.gnss;
    if settings.kind == GnssKind::None {
        return json!({"check": "gnss", "works": null, "why": "none is configured"});
    }
    let until = Instant::now() + Duration::from_secs_f64(seconds.max(LISTEN_S));
    let stop = AtomicBool::new(false);
    let (mut fixes, mut damaged, mut said) = (0_u32, 0_u32, Vec::new());
    let beat = || stop.store(Instant::now() >= until, Ordering::Relaxed);
    let spoke = crate::io::gnss::run(settings, &config.gnss_device(), &stop, &beat, &mut |news| {
        match news {
            News::Sample(_) => fixes += 1,
            News::Lost(lost) => damaged += lost,
            News::Said(text) if said.len() < SAID => said.push(text),
            News::Said(_) => {}
        }
        true
    });
    let advice = match (fixes > 0, spoke, damaged > 0) {
        (true, ..) => "",
        (_, true, _) => {
            "it has no position: the antenna must see the sky; after a cold start that takes a minute or more"
        }
        (.., true) => "bytes come and make no sentences: the rate (sources.gnss.baud) is another one",
        _ => "nothing comes: check cable, power, the device's name and that no other program reads it",
    };
    json!({"check": "gnss", "works": fixes > 0 || spoke, "fixes": fixes, "damaged": damaged, "said": said, "advice": advice})
}

/// Opens the configured camera and watches it. `works` is null where none is configured.
fn camera(config: &Config, seconds: f64) -> Value {
    let settings = &config.sources.camera;
    let found: Vec<Value> = cameras(Path::new("/dev"), Path::new("/sys/class/video4linux"))
        .into_iter()
        .map(|f| json!({"name": f.path, "device": f.device, "card": f.card}))
        .collect();
    let opened = match crate::io::camera::make::camera(config) {
        Ok(None) => return json!({"check": "camera", "works": null, "why": "none is configured", "found": found}),
        Ok(Some(mut camera)) => {
            let width = u16::try_from(config.rings.small_frame_width).unwrap_or(u16::MAX);
            probe(camera.as_mut(), seconds, width).map_err(|fault| fault.to_string())
        }
        Err(why) => Err(why),
    };
    match opened {
        Ok(seen) => {
            let advice = advice(settings, config.rings.video_max_mbit_s, &seen);
            json!({"check": "camera", "works": true, "seen": seen, "advice": advice, "found": found})
        }
        Err(why) => json!({"check": "camera", "works": false, "why": why, "found": found}),
    }
}

/// What could be better, in words.
fn advice(settings: &CameraConfig, ring_mbit_s: f32, seen: &crate::io::camera::probe::Probe) -> Vec<String> {
    let mut advice = Vec::new();
    if let (CameraKind::V4l2 | CameraKind::Usb, Some(device)) = (settings.kind, &settings.device)
        && !is_stable(device)
    {
        advice.push(format!("{} may be another camera after a restart: name it by /dev/v4l/by-id", device.display()));
    }
    if seen.mbit_s > f64::from(ring_mbit_s) {
        advice.push(format!("{:.1} Mbit/s are more than rings.video_max_mbit_s ({ring_mbit_s})", seen.mbit_s));
    }
    if seen.fps < 0.9 * f64::from(settings.fps) {
        advice.push(format!(
            "{:.1} frames a second; {} are asked for (dark scenes slow cameras down)",
            seen.fps, settings.fps
        ));
    }
    if seen.lost > 0 {
        advice.push(format!(
            "{} of {} frames were lost: bus or processor are too slow",
            seen.lost,
            seen.frames + seen.lost
        ));
    }
    if let Some(fault) = seen.fault {
        advice.push(format!("the picture is {fault}"));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_camera_there_is_nothing_to_say_against_it() {
        let line = camera(&Config::default_embedded().unwrap(), 1.0);
        assert_eq!((&line["works"], &line["why"]), (&Value::Null, &json!("none is configured")));
    }

    #[test]
    fn a_receiver_that_is_not_there_is_said_with_what_to_do() {
        let mut config = Config::default_embedded().unwrap();
        assert_eq!(receiver(&config, 0.1)["works"], Value::Null);
        config.sources.gnss.kind = GnssKind::Serial;
        config.sources.gnss.device = Some("/dev/gone".into());
        let line = receiver(&config, 0.1);
        assert_eq!((&line["works"], &line["fixes"]), (&json!(false), &json!(0)));
        assert!(line["said"][0].as_str().unwrap().contains("/dev/gone: No such file"), "{line}");
        assert!(line["advice"].as_str().unwrap().contains("cable"), "{line}");
    }

    #[test]
    fn a_bus_that_is_not_there_is_said_with_what_to_do() {
        assert_eq!(buses(&Config::default_embedded().unwrap(), 0.1)["works"], Value::Null);
        let line = hear(&["nocan9".to_owned()], 0.05);
        let bus = &line["buses"][0];
        assert_eq!((&line["works"], &bus["up"], &bus["frames"]), (&json!(false), &json!(false), &json!(0)), "{line}");
        assert!(bus["advice"].as_str().unwrap().contains("is not there"), "{line}");
    }

    #[test]
    fn a_bus_that_is_up_says_what_is_wrong_with_it() {
        let good =
            BusReport { name: "can0".to_owned(), frames: 900, up: true, room_bytes: 8 << 20, ..Default::default() };
        assert_eq!(bus_line(&good)["advice"], "");
        let silent = BusReport { frames: 0, ..good.clone() };
        assert!(bus_line(&silent)["advice"].as_str().unwrap().contains("ignition"));
        let small = BusReport { room_bytes: 425_984, ..good };
        assert!(bus_line(&small)["advice"].as_str().unwrap().contains("rmem_max"));
    }

    #[test]
    fn what_could_be_better_is_said() {
        let config = Config::default_embedded().unwrap();
        let settings = CameraConfig {
            kind: CameraKind::V4l2,
            device: Some("/dev/video0".into()),
            ..config.sources.camera.clone()
        };
        let seen = crate::io::camera::probe::Probe {
            camera: String::new(),
            codec: "jpeg".to_owned(),
            size: [1280, 720],
            frames: 98,
            lost: 2,
            unseen: 0,
            seconds: 10.0,
            fps: 9.8,
            mbit_s: 30.0,
            jitter_ms: 1.0,
            longest_ms: 200.0,
            delay_ms: [5.0, 9.0],
            first_ms: 300.0,
            brightness: Some(1.0),
            fault: Some("black"),
        };
        let advice = advice(&settings, 8.0, &seen).join("\n");
        for part in ["/dev/v4l/by-id", "30.0 Mbit/s", "9.8 frames a second", "2 of 100 frames", "the picture is black"]
        {
            assert!(advice.contains(part), "{part}: {advice}");
        }
    }
}
