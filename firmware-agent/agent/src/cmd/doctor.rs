//! `doctor`: what works on this unit, a JSON object a line, with what to do about what does not.
//!
//! Looks at camera, motion sensor, lines and GNSS receiver, which must not be in use by a running agent, and at everything
//! else, which may.

mod camera;
mod keys;
mod unit;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::config::gnss::GnssKind;
use crate::exit::{Outcome, usage};
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
        camera::camera,
        buses,
        unit::motion,
        receiver,
        unit::lines,
        unit::clock,
        unit::heat,
        unit::power_mode,
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
