//! The configured camera: does it open, what does it give, what does its picture show; and what to do about it.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::Config;
use crate::config::camera::{CameraConfig, CameraKind};
use crate::io::camera::probe::{Probe, probe};
use crate::io::camera::v4l2::list::{cameras, is_stable};
use crate::io::camera::{Camera, Fault, make, picture::PictureFault};

/// Opens the configured camera and watches it. `works` is null where none is configured.
pub(super) fn camera(config: &Config, seconds: f64) -> Value {
    let mut line = match make::camera(config) {
        Ok(None) => json!({"check": "camera", "works": null, "why": "none is configured"}),
        Ok(Some(mut camera)) => watched(config, camera.as_mut(), seconds),
        Err(why) => {
            let advice =
                ["correct what is named, or install the program that has it; `check-config` prints what is in force"];
            json!({"check": "camera", "works": false, "why": why, "advice": advice})
        }
    };
    let found: Vec<Value> = cameras(Path::new("/dev"), Path::new("/sys/class/video4linux"))
        .into_iter()
        .map(|f| json!({"name": f.path, "device": f.device, "card": f.card}))
        .collect();
    line["found"] = json!(found);
    line
}

fn watched(config: &Config, camera: &mut dyn Camera, seconds: f64) -> Value {
    let settings = &config.sources.camera;
    let width = u16::try_from(config.rings.small_frame_width).unwrap_or(u16::MAX);
    match probe(camera, seconds, width) {
        Ok(seen) => {
            let advice = advice(settings, config.rings.video_max_mbit_s, &seen);
            json!({"check": "camera", "works": true, "seen": seen, "advice": advice})
        }
        Err(fault) => {
            let advice = [remedy(&fault, settings.kind)];
            json!({"check": "camera", "works": false, "why": fault.to_string(), "advice": advice})
        }
    }
}

/// What to do about a camera that cannot be used.
fn remedy(fault: &Fault, kind: CameraKind) -> &'static str {
    use CameraKind::{Csi, File, Pipeline, Rtsp, Usb, V4l2};
    match (fault, kind) {
        (Fault::Missing(_), Rtsp) => {
            "has it power and the network, and is its address in sources.camera.url the right one?"
        }
        (Fault::Missing(_), File) => {
            "sources.camera.file names no file that is there; paths begin at the configuration's folder"
        }
        (Fault::Missing(_), Csi) => {
            "check the ribbon cable on both ends, and that the board's device tree names this sensor (jetson-io.py)"
        }
        (Fault::Missing(_), _) => {
            "check its cable and power; `found` lists the cameras that are there, sources.camera.device names one of them"
        }
        (Fault::Unplugged(_), _) => {
            "it went while it was watched: check plug, cable and power; a hub without a supply of its own drops cameras"
        }
        (Fault::Denied(_), Rtsp) => {
            "sources.camera.credentials names a file with one line user:password that the camera takes"
        }
        (Fault::Denied(_), _) => {
            "run this as root or as a user of the device's group: `usermod -aG video USER`, and log in again"
        }
        (Fault::Busy(_), _) => {
            "`fuser -v DEVICE` names the program that has it; a running agent gives it back by `systemctl stop firmware-agent`"
        }
        (Fault::Refused(_), V4l2 | Usb) => {
            "`v4l2-ctl -d DEVICE --list-formats-ext` lists what it gives: set sources.camera.format, width and height to one of \
             them (format = \"auto\" takes what there is)"
        }
        (Fault::Refused(_), Pipeline) => {
            "sources.camera.pipeline: try it with `gst-launch-1.0`; it needs an appsink named kept, and base.toml says what else"
        }
        (Fault::Refused(_), _) => {
            "the pipeline cannot be made: `gst-inspect-1.0 ELEMENT` says whether what is named is installed; GStreamer's plugins \
             good, bad and ugly have it, on a Jetson NVIDIA's"
        }
        (Fault::Failed(_), V4l2 | Usb) => {
            "unplug it and plug it in again; `journalctl -k` says what the kernel saw of it; try another cable and another port"
        }
        (Fault::Failed(_), Csi) => {
            "`systemctl restart nvargus-daemon`, and `journalctl -u nvargus-daemon` for what it says"
        }
        (Fault::Failed(_), Rtsp) => {
            "try the address with another player; sources.camera.transport = \"tcp\" where packets are lost; it must give H.264"
        }
        (Fault::Failed(_), _) => "`GST_DEBUG=3` in the environment makes GStreamer say more",
    }
}

/// What to do about what the picture shows.
const fn clean(fault: PictureFault) -> &'static str {
    match fault {
        PictureFault::Black => {
            "is the cap off and is there light? if so its sensor gives nothing: plug it in again, then replace it"
        }
        PictureFault::Covered => {
            "most of it shows nothing: clean lens and windscreen, and look what is in front of them"
        }
        PictureFault::Frozen => "it does not change at all: cut the camera's power and give it again",
        PictureFault::Blurred => "no edge is sharp: clean lens and windscreen, let condensation dry, set the focus",
    }
}

/// What could be better, in words.
fn advice(settings: &CameraConfig, ring_mbit_s: f32, seen: &Probe) -> Vec<String> {
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
        advice.push(format!("the picture is {}: {}", fault.name(), clean(fault)));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::camera::Stream;
    use crate::io::camera::probe::tests::{Drawn, noise};

    #[test]
    fn without_a_camera_there_is_nothing_to_say_against_it() {
        let line = camera(&Config::default_embedded().unwrap(), 1.0);
        assert_eq!((&line["works"], &line["why"]), (&Value::Null, &json!("none is configured")));
        assert!(line["found"].is_array(), "{line}");
    }

    #[test]
    fn a_black_picture_is_said_with_what_to_do_within_the_time_that_is_usual() {
        let config = Config::default_embedded().unwrap();
        let line = watched(&config, &mut Drawn(|number, pixel| 3 + noise(number, pixel)), 1.0);
        assert_eq!((&line["works"], &line["seen"]["fault"]), (&json!(true), &json!("black")), "{line}");
        let advice = line["advice"].to_string();
        assert!(advice.contains("the picture is black") && advice.contains("cap"), "{advice}");
    }

    /// Cannot be opened.
    struct Broken(Fault);

    impl Camera for Broken {
        fn open(&mut self) -> Result<Box<dyn Stream>, Fault> {
            Err(self.0.clone())
        }
    }

    #[test]
    fn each_way_not_to_work_has_something_to_do() {
        let name = || "camera".to_owned();
        let faults = [
            (Fault::Missing(name()), CameraKind::V4l2, "found"),
            (Fault::Missing(name()), CameraKind::Rtsp, "sources.camera.url"),
            (Fault::Missing(name()), CameraKind::File, "sources.camera.file"),
            (Fault::Missing(name()), CameraKind::Csi, "ribbon"),
            (Fault::Unplugged(name()), CameraKind::Usb, "plug"),
            (Fault::Denied(name()), CameraKind::V4l2, "usermod -aG video"),
            (Fault::Denied(name()), CameraKind::Rtsp, "sources.camera.credentials"),
            (Fault::Busy(name()), CameraKind::V4l2, "fuser -v"),
            (Fault::Refused(name()), CameraKind::V4l2, "--list-formats-ext"),
            (Fault::Refused(name()), CameraKind::Pipeline, "gst-launch-1.0"),
            (Fault::Refused(name()), CameraKind::Csi, "gst-inspect-1.0"),
            (Fault::Failed(name()), CameraKind::Usb, "journalctl -k"),
            (Fault::Failed(name()), CameraKind::Csi, "nvargus-daemon"),
            (Fault::Failed(name()), CameraKind::Rtsp, "transport"),
            (Fault::Failed(name()), CameraKind::Test, "GST_DEBUG"),
        ];
        for (fault, kind, part) in faults {
            let mut config = Config::default_embedded().unwrap();
            config.sources.camera.kind = kind;
            let line = watched(&config, &mut Broken(fault.clone()), 0.1);
            assert_eq!((&line["works"], &line["why"]), (&json!(false), &json!(fault.to_string())));
            assert!(line["advice"][0].as_str().unwrap().contains(part), "{kind:?}: {line}");
        }
        let mut config = Config::default_embedded().unwrap();
        (config.sources.camera.kind, config.sources.camera.credentials) = (CameraKind::Rtsp, Some("gone".into()));
        let line = camera(&config, 0.1);
        assert!(line["works"] == json!(false) && line["advice"].to_string().contains("check-config"), "{line}");
    }

    #[test]
    fn what_could_be_better_is_said() {
        let config = Config::default_embedded().unwrap();
        let settings = CameraConfig {
            kind: CameraKind::V4l2,
            device: Some("/dev/video0".into()),
            ..config.sources.camera.clone()
        };
        let seen = Probe {
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
            fault: Some(PictureFault::Blurred),
        };
        let advice = advice(&settings, 8.0, &seen).join("\n");
        for part in
            ["/dev/v4l/by-id", "30.0 Mbit/s", "9.8 frames a second", "2 of 100 frames", "the picture is blurred"]
        {
            assert!(advice.contains(part), "{part}: {advice}");
        }
    }
}
