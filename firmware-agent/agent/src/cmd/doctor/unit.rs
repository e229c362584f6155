//! The unit around its cameras and buses: motion sensor, lines, clock, models, disk, broker.

use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_core::time::WallQuality;
use agent_worker::ladder::Heat;
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::imu::ImuKind;
use crate::config::types::BrokerUrl;
use crate::io::gpio::{self, Lines as _};
use crate::io::imu::{self, ImuReport};
use crate::io::news::Told;
use crate::io::power_mode::{self, Mode};
use crate::io::wall::WallClock;
use crate::student;

/// Long enough for the self-test, a start and a judgement of rest.
const IMU_S: f64 = 5.0;
/// A sync above this makes evidence wait.
const SLOW_SYNC_MS: f64 = 500.0;
const BROKER: Duration = Duration::from_secs(3);

/// Reads the configured chip, with its self-test.
pub(super) fn motion(config: &Config, seconds: f64) -> Value {
    let mut settings = config.sources.imu.clone();
    if settings.kind == ImuKind::None {
        return json!({"check": "imu", "works": null, "why": "none is configured"});
    }
    settings.self_test = true;
    let until = Instant::now() + Duration::from_secs_f64(seconds.max(IMU_S));
    let stop = AtomicBool::new(false);
    let beat = || stop.store(Instant::now() >= until, Ordering::Relaxed);
    let device = config.imu_device();
    let report = imu::run(&settings, config.imu_range_g(), &device, &stop, &beat, &mut |_| Told::Taken);
    motion_line(&report)
}

fn motion_line(report: &ImuReport) -> Value {
    let advice = match (&report.why, &report.self_test, report.at_rest_mps2) {
        (Some(why), ..) => format!("{why}: check bus, address and kind; `i2cdetect -y -r BUS` shows what answers"),
        (None, Some(Err(_)), _) => {
            "let the vehicle stand still and try again; if it fails then too, replace the unit".to_owned()
        }
        (None, _, None) => "it was never at rest, so that gravity could not be checked".to_owned(),
        (None, _, Some(g)) if (g - 9.81).abs() > 0.5 => format!("at rest it measures {g:.2} m/s^2"),
        _ => String::new(),
    };
    let tested = report.self_test.as_ref().map(|t| t.clone().err().unwrap_or_else(|| "passed".to_owned()));
    let works = report.up && report.samples > 0 && !matches!(report.self_test, Some(Err(_)));
    json!({
        "check": "imu", "works": works, "samples": report.samples, "hz": report.hz, "lost": report.overwritten + report.no_room,
        "bus_errors": report.bus_errors, "restarts": report.restarts, "self_test": tested,
        "temperature_c": report.temperature_c, "at_rest_mps2": report.at_rest_mps2, "advice": advice,
    })
}

/// Reads the configured lines once.
pub(super) fn lines(config: &Config, _seconds: f64) -> Value {
    let settings = &config.sources.gpio;
    if settings.chip.is_none() {
        return json!({"check": "gpio", "works": null, "why": "none is configured"});
    }
    let read = || -> Result<Value, String> {
        let mut kernel = gpio::Kernel::open(settings, &config.gpio_chip())?;
        Ok(json!({"check": "gpio", "works": true, "ignition_on": kernel.ignition()?, "panic_pressed": kernel.panic()?}))
    };
    read().unwrap_or_else(|why| {
        let advice = "`gpioinfo` names chips and lines; a line that another program holds cannot be had";
        json!({"check": "gpio", "works": false, "why": why, "advice": advice})
    })
}

/// How hot the board is and what that means for the student.
pub(super) fn heat(config: &Config, _seconds: f64) -> Value {
    if config.student.thermal_zone.is_none() && config.student.throttled.is_none() {
        return json!({"check": "heat", "works": null, "why": "neither student.thermal_zone nor student.throttled is configured"});
    }
    let (thermal, missing) = student::heat(config);
    let celsius = thermal.celsius();
    let silent = || thermal.zone.as_ref().filter(|_| celsius.is_none());
    if let Some(why) = missing.or_else(|| silent().map(|zone| format!("{} gives no temperature", zone.display()))) {
        let advice = "`cat /sys/class/thermal/thermal_zone*/type` lists what student.thermal_zone may name after type:";
        return json!({"check": "heat", "works": false, "why": why, "advice": advice});
    }
    let student = match thermal.now() {
        Heat::Cool => "everything may run".to_owned(),
        Heat::Warm(why) => format!("its full budget is not used: {why}"),
        Heat::Hot(why) => format!("it is not asked: {why}"),
    };
    json!({"check": "heat", "works": true, "zone": thermal.zone, "celsius": celsius, "student": student})
}

/// Whether the board runs in the power mode that its configuration was written for.
pub(super) fn power_mode(config: &Config, _seconds: f64) -> Value {
    match &config.unit.power_mode {
        None => json!({"check": "power_mode", "works": null, "why": "unit.power_mode is none"}),
        Some(wanted) => mode_line(wanted.as_str(), power_mode::mode(wanted.as_str())),
    }
}

fn mode_line(wanted: &str, found: Result<Mode, String>) -> Value {
    match found {
        Ok(mode) => {
            let advice = match mode.wanted {
                _ if mode.name == wanted => String::new(),
                Some(number) => format!("`sudo nvpmodel -m {number}` sets {wanted}; some changes take a restart"),
                None => format!("this board has {}: name one of them in unit.power_mode", mode.there.join(", ")),
            };
            let works = mode.name == wanted;
            json!({"check": "power_mode", "works": works, "wanted": wanted, "found": mode.name, "number": mode.number, "advice": advice})
        }
        Err(why) => {
            let advice = "a board without nvpmodel has no such modes: set unit.power_mode to \"none\"";
            json!({"check": "power_mode", "works": false, "wanted": wanted, "why": why, "advice": advice})
        }
    }
}

/// What times in messages are worth now.
pub(super) fn clock(_config: &Config, _seconds: f64) -> Value {
    let (_, wall) = WallClock::new().read();
    let advice = match wall.quality {
        WallQuality::None => {
            "messages say that no wall time is known until GNSS gives one: set up a time service, or an RTC with a battery"
        }
        WallQuality::Rtc => "the time was not checked since the start: it may be off by minutes",
        WallQuality::Ntp | WallQuality::Gnss => "",
    };
    let works = wall.quality != WallQuality::None;
    json!({"check": "clock", "works": works, "quality": wall.quality, "unix_ms": wall.unix_ms, "advice": advice})
}

/// Loads the trigger's networks; looks whether the student's file is there.
pub(super) fn models(config: &Config, _seconds: f64) -> Value {
    let trigger = crate::convert::detector(config)
        .and_then(|d| Ok((d.is_some(), crate::convert::risk_head(config, d.is_some())?.is_some())));
    let student = config.student.model.as_ref().map(|model| {
        let builtin = model.as_os_str() == crate::builtin::WORD;
        let path = if builtin { crate::builtin::find(crate::builtin::STUDENT) } else { Some(config.resolve(model)) };
        match path {
            Some(path) if path.is_file() => Ok(path),
            Some(path) => Err(format!("{}: no such file", path.display())),
            None => Err(crate::builtin::missing(crate::builtin::STUDENT)),
        }
    });
    let (mut why, mut advice) = (Vec::new(), Vec::new());
    let (detector, head) = trigger.unwrap_or_else(|e| {
        why.push(format!("{e:#}"));
        advice.push(
            "`run` does not start so: trigger.vision.model and risk_head name a manifest beside its ONNX file, and where \"tract\" is false \
             its probe file (`models probe` of a program with it); \"builtin\" takes those that ship; without a model (\"none\") telemetry alone makes events",
        );
        (false, false)
    });
    let student = match student {
        None => Value::Null,
        Some(Ok(path)) => json!(path.display().to_string()),
        Some(Err(e)) => {
            why.push(e);
            advice.push(
                "`models pull MANIFEST` fetches a model file, `models verify FILE` checks it, student.model names it; \"builtin\" \
                 is the one that the package brings; with \"none\" reports go without a student",
            );
            Value::Null
        }
    };
    json!({
        "check": "models", "works": why.is_empty(), "detector": detector, "risk_head": head, "student": student, "why": why,
        "tract": agent_models::HAS_TRACT, "advice": advice,
    })
}

/// Writes a small file where evidence and outbox go, and looks how much room there is.
pub(super) fn disk(config: &Config, _seconds: f64) -> Value {
    let evidence = config.resolve(&config.evidence.dir);
    let store = config.resolve(&config.link.outbox.store);
    let folders = [Some(evidence.as_path()), store.parent()];
    let mut worst_ms = 0.0_f64;
    for folder in folders.into_iter().flatten() {
        match probe(folder) {
            Ok(ms) => worst_ms = worst_ms.max(ms),
            Err(e) => {
                let why = format!("{}: {e}", folder.display());
                return json!({"check": "disk", "works": false, "why": why, "advice": "evidence and messages have nowhere to go"});
            }
        }
    }
    let free = rustix::fs::statvfs(&evidence).map(|v| v.f_bavail.saturating_mul(v.f_frsize)).unwrap_or(0);
    let quota = u64::from(config.evidence.quota_mb) * 1_000_000;
    let advice = if free < quota {
        "less is free than evidence.quota_mb promises: old evidence counts against the quota, other files do not"
    } else if worst_ms > SLOW_SYNC_MS {
        "syncing is slow: a worn card, or much that others write"
    } else {
        ""
    };
    json!({"check": "disk", "works": true, "free_mb": free / 1_000_000, "sync_ms": worst_ms, "advice": advice})
}

/// How long a small file takes to be safe, milliseconds. It is removed again; folders that were missing are made.
fn probe(folder: &Path) -> std::io::Result<f64> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(".doctor.part");
    let begun = Instant::now();
    let written = std::fs::File::create(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    std::fs::remove_file(&path)?;
    written.map(|()| ms)
}

/// Whether the port of a broker answers. What they say to the unit's certificate, `run` finds out.
pub(super) fn broker(config: &Config, _seconds: f64) -> Value {
    let reach = |broker: &BrokerUrl| -> std::io::Result<()> {
        let mut last = std::io::Error::other("the name has no address");
        for address in (broker.host.as_str(), broker.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, BROKER) {
                Ok(_) => return Ok(()),
                Err(e) => last = e,
            }
        }
        Err(last)
    };
    let mut why = Vec::new();
    for broker in config.link.all_brokers() {
        let place = format!("{}:{}", broker.host, broker.port);
        match reach(broker) {
            Ok(()) => {
                return json!({
                    "check": "broker", "works": true, "broker": place, "tried": "a TCP connection", "before_it": why,
                });
            }
            Err(e) => why.push(format!("{place}: {e}")),
        }
    }
    let broker = config.link.all_brokers().first().map(|b| format!("{}:{}", b.host, b.port));
    json!({
        "check": "broker", "works": false, "broker": broker, "why": why.join("; "),
        "advice": "messages wait on disk meanwhile, crashes for as long as it takes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelChoice;

    #[test]
    fn what_is_not_configured_is_not_held_against_the_unit() {
        let config = Config::default_embedded().unwrap();
        assert_eq!(motion(&config, 0.1)["works"], Value::Null);
        assert_eq!(lines(&config, 0.1)["works"], Value::Null);
    }

    #[test]
    fn another_power_mode_is_said_with_the_command_that_sets_it() {
        let there = vec!["15W".to_owned(), "MAXN_SUPER".to_owned()];
        let found = |wanted| Ok(Mode { name: "MAXN_SUPER".to_owned(), number: 2, wanted, there: there.clone() });
        let line = mode_line("15W", found(Some(0)));
        assert!(line["works"] == json!(false) && line["advice"].as_str().unwrap().contains("nvpmodel -m 0"), "{line}");
        let line = mode_line("25W", found(None));
        assert!(line["advice"].as_str().unwrap().contains("has 15W, MAXN_SUPER:"), "{line}");
        let line = mode_line("MAXN_SUPER", found(Some(2)));
        assert_eq!((&line["works"], &line["advice"], &line["found"]), (&json!(true), &json!(""), &json!("MAXN_SUPER")));
        let line = mode_line("15W", Err("no file".to_owned()));
        assert!(line["works"] == json!(false) && line["why"] == json!("no file"), "{line}");
        assert_eq!(power_mode(&Config::default_embedded().unwrap(), 0.1)["works"], Value::Null);
    }

    #[test]
    fn a_chip_that_is_not_there_is_said_with_what_to_do() {
        let report = ImuReport { why: Some("nothing answers as a BMI160 does".to_owned()), ..Default::default() };
        let line = motion_line(&report);
        assert!(line["works"] == json!(false) && line["advice"].as_str().unwrap().contains("i2cdetect"), "{line}");
        let moved =
            ImuReport { up: true, samples: 9, self_test: Some(Err("x moved".to_owned())), ..Default::default() };
        let line = motion_line(&moved);
        assert!(line["works"] == json!(false) && line["self_test"] == json!("x moved"), "{line}");
        let good = ImuReport { self_test: Some(Ok(())), at_rest_mps2: Some(9.8), ..moved };
        assert_eq!((&motion_line(&good)["works"], &motion_line(&good)["advice"]), (&json!(true), &json!("")));
    }

    #[test]
    fn lines_disk_models_and_broker_say_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "[sources.gpio]\nchip = \"/dev/nochip9\"\nignition = \"1\"\n[link]\nbroker = \"mqtt://127.0.0.1:1\"\n";
        let mut config = crate::config::load_str("unit.toml", text).unwrap();
        config.folder = folder.path().to_owned();
        assert!(lines(&config, 0.1)["why"].as_str().unwrap().contains("nochip9"));
        assert_eq!(broker(&config, 0.1)["works"], json!(false));
        let line = disk(&config, 0.1);
        assert!(line["works"] == json!(true) && line["free_mb"].as_u64() > Some(0), "{line}");
        std::fs::write(folder.path().join("file"), "").unwrap();
        config.evidence.dir = "file".into();
        assert!(disk(&config, 0.1)["why"].as_str().unwrap().contains("file"));
        let line = models(&config, 0.1);
        assert_eq!((&line["works"], &line["advice"]), (&json!(true), &json!([])));
        config.student.model = Some("nowhere.gguf".into());
        let line = models(&config, 0.1);
        assert!(line["works"] == json!(false) && line["why"][0].as_str().unwrap().contains("nowhere.gguf"), "{line}");
        assert!(line["advice"][0].as_str().unwrap().contains("models pull"), "{line}");
        config.trigger.vision.model = ModelChoice::File("nowhere.toml".into());
        let line = models(&config, 0.1);
        assert!(line["why"][0].as_str().unwrap().contains("nowhere.toml"), "{line}");
        let advice = &line["advice"];
        assert!(advice[0].as_str().unwrap().contains("trigger.vision.model") && advice[1].is_string(), "{line}");
    }
}
