//! Faults are noticed in time and taken back; what a road shows is none.

use std::path::PathBuf;

use agent_core::samples::VideoCodec;
use agent_core::time::{MonoTime, Span};
use agent_drive::import::{Input, InputKind, Offset, import};
use agent_drive::{DriveInfo, DriveReader, DriveRecord, VideoDecoder};
use agent_sim::render::{Camera, CameraLook};
use agent_sim::world::{DriveOptions, WorldDrive, built_in};

use super::*;

const SIZE: (usize, usize) = (640, 360);
const STEP_MS: u64 = 200;

/// Pictures of a simulated drive, `STEP_MS` apart, over and over.
struct Road {
    drive: WorldDrive,
    camera: Camera,
    ms: usize,
    rgb: Vec<u8>,
}

impl Road {
    fn new(scenario: &str) -> Self {
        let scenario = built_in(scenario).unwrap().unwrap();
        let options = DriveOptions { size: [SIZE.0, SIZE.1], fps: 5.0, imu_hz: 100, gnss_hz: 1 };
        let drive = WorldDrive::new(&scenario, 3, options).unwrap();
        let look = drive.look();
        let look = CameraLook {
            bonnet_height: look.bonnet_height,
            reflection: look.reflection,
            noise: look.noise,
            exposure_s: look.exposure_s,
            ..CameraLook::default()
        };
        let camera = Camera::new(SIZE.0, SIZE.1, look);
        let rgb = vec![0; camera.bytes()];
        Self { drive, camera, ms: 0, rgb }
    }

    fn next(&mut self) -> &mut Vec<u8> {
        self.camera.render(&self.drive.scene(self.ms), &mut self.rgb);
        self.ms = (self.ms + STEP_MS as usize) % self.drive.length_ms();
        &mut self.rgb
    }
}

/// A judge and the time that goes on picture by picture.
struct Watch {
    judge: Judge,
    t: MonoTime,
    said: Vec<(u64, Option<PictureFault>)>,
}

impl Watch {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self { judge: Judge::new(limits), t: MonoTime(1_000_000_000), said: vec![(0, None)] }
    }

    fn look(&mut self, rgb: &[u8]) {
        let fault = self.judge.look(self.t, SIZE, rgb, true);
        if self.said.last().unwrap().1 != fault {
            self.said.push((self.t.0 / 1_000_000, fault));
        }
        self.t = self.t + Span::from_ms(STEP_MS);
    }

    fn drive(&mut self, road: &mut Road, seconds: u64, spoil: impl Fn(&mut Vec<u8>)) {
        for _ in 0..seconds * 1000 / STEP_MS {
            let rgb = road.next();
            spoil(rgb);
            let copy = rgb.clone();
            self.look(&copy);
        }
    }

    fn faults(&self) -> Vec<Option<PictureFault>> {
        self.said.iter().skip(1).map(|(_, f)| *f).collect()
    }
}

/// Averages along rows and columns with a window of `2 * radius + 1`.
fn blur(rgb: &mut [u8], radius: usize) {
    for (step, count) in [(3, SIZE.0), (3 * SIZE.0, SIZE.1)] {
        let lines = rgb.len() / 3 / count;
        let from = rgb.to_vec();
        for line in 0..lines {
            for c in 0..3 {
                let base = c + if step == 3 { line * 3 * SIZE.0 } else { line * 3 };
                let at = |k: usize| usize::from(from[base + k * step]);
                let mut sum: usize = (0..radius.min(count)).map(at).sum();
                for i in 0..count {
                    sum += if i + radius < count { at(i + radius) } else { 0 };
                    sum -= if i > radius { at(i - radius - 1) } else { 0 };
                    let n = (i + radius + 1).min(count) - i.saturating_sub(radius);
                    rgb[base + i * step] = (sum / n) as u8;
                }
            }
        }
    }
}

fn noisy(rgb: &mut [u8], level: u8, salt: usize) {
    for (i, b) in rgb.iter_mut().enumerate() {
        *b = level + ((i * 2_654_435_761 + salt * 40_503) >> 13) as u8 % 4;
    }
}

#[test]
fn each_fault_is_noticed_and_taken_back() {
    type Spoil = fn(&mut Vec<u8>);
    let faults: [(PictureFault, Spoil); 3] = [
        (PictureFault::Black, |rgb| noisy(rgb, 3, 1)),
        (PictureFault::Covered, |rgb| {
            let salt = usize::from(rgb[1000]);
            noisy(rgb, 95, salt);
        }),
        (PictureFault::Blurred, |rgb| (0..2).for_each(|_| blur(rgb, 5))),
    ];
    for (fault, spoil) in faults {
        let (mut road, mut watch) = (Road::new("following"), Watch::new());
        watch.drive(&mut road, 22, |_| {});
        assert_eq!(watch.faults(), [], "{fault:?}");
        watch.drive(&mut road, 20, spoil);
        assert_eq!(watch.faults(), [Some(fault)]);
        watch.drive(&mut road, 5, |_| {});
        assert_eq!(watch.faults(), [Some(fault), None], "taken back");
    }
}

#[test]
fn a_glance_says_what_the_picture_shows_now() {
    type Spoil = fn(&mut Vec<u8>);
    let faults: [(Option<PictureFault>, Spoil); 4] = [
        (None, |_| {}),
        (Some(PictureFault::Black), |rgb| noisy(rgb, 3, 1)),
        (Some(PictureFault::Covered), |rgb| {
            let salt = usize::from(rgb[1000]);
            noisy(rgb, 95, salt);
        }),
        (Some(PictureFault::Blurred), |rgb| (0..2).for_each(|_| blur(rgb, 5))),
    ];
    for (fault, spoil) in faults {
        let (mut road, mut watch) = (Road::new("following"), Watch::with(Limits::glance()));
        watch.drive(&mut road, 3, spoil);
        assert_eq!(watch.judge.fault(), fault, "{:?} {:?}", watch.said, watch.judge.last());
        watch.drive(&mut road, 1, |_| {});
        assert_eq!(watch.judge.fault(), None, "after {fault:?}");
    }
    let mut watch = Watch::with(Limits::glance());
    let stuck = Road::new("following").next().clone();
    (0..15).for_each(|_| watch.look(&stuck));
    assert_eq!(watch.faults(), [Some(PictureFault::Frozen)], "within three seconds");
}

#[test]
fn the_same_picture_again_and_again_is_frozen_until_another_comes() {
    let (mut road, mut watch) = (Road::new("following"), Watch::new());
    watch.drive(&mut road, 12, |_| {});
    let stuck = road.next().clone();
    for _ in 0..40 {
        watch.look(&stuck);
    }
    assert_eq!(watch.faults(), [Some(PictureFault::Frozen)]);
    watch.drive(&mut road, 4, |_| {});
    assert_eq!(watch.faults(), [Some(PictureFault::Frozen), None]);
    // Decoded from H.264 a standing scene repeats itself: that is not asked.
    let mut judge = Judge::new(Limits::default());
    assert!((0..400).all(|i| judge.look(MonoTime(i * 200_000_000), SIZE, &stuck, false).is_none()));
}

#[test]
fn faults_shorter_than_their_time_are_not_said() {
    let (mut road, mut watch) = (Road::new("following"), Watch::new());
    watch.drive(&mut road, 22, |_| {});
    for _ in 0..3 {
        watch.drive(&mut road, 3, |rgb| noisy(rgb, 3, 1));
        watch.drive(&mut road, 2, |_| {});
        watch.drive(&mut road, 3, |rgb| noisy(rgb, 95, 2));
        watch.drive(&mut road, 2, |_| {});
    }
    assert_eq!(watch.faults(), []);
}

#[test]
fn a_lens_that_was_covered_from_the_start_takes_a_minute() {
    let mut watch = Watch::new();
    let mut rgb = vec![0; 3 * SIZE.0 * SIZE.1];
    for i in 0..350 {
        noisy(&mut rgb, 120, i);
        watch.look(&rgb);
    }
    let (at_ms, fault) = watch.said[1];
    assert_eq!(fault, Some(PictureFault::Covered));
    assert!((60_000..63_000).contains(&at_ms), "{at_ms} ms");
}

/// Night, fog, rain, a tunnel, the low sun, a car wash: what a working camera sees.
#[test]
fn no_simulated_weather_is_a_fault() {
    for name in ["night", "fog", "heavy_rain", "tunnel", "low_sun", "motorway"] {
        let (mut road, mut watch) = (Road::new(name), Watch::new());
        let seconds = road.drive.length_ms() as u64 / 1000;
        watch.drive(&mut road, seconds, |_| {});
        assert_eq!(watch.faults(), [], "{name}: {:?}", watch.said);
    }
}

/// Recorded clips, where they are; all of them with `AGENT_ALL_CLIPS`.
#[test]
fn no_recorded_clip_is_a_fault() {
    let places = ["../../../shared/data/clips", "../../../../shared/data/clips"];
    let places = places.map(|place| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(place));
    let Some(folder) = places.into_iter().find(|p| p.exists()) else {
        println!("skipped: no clips in the data folder");
        return;
    };
    let all = std::env::var_os("AGENT_ALL_CLIPS").is_some();
    let temporary = tempfile::tempdir().unwrap();
    let mut clips = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !all && !matches!(name.as_str(), "carnd_vd_test_small2" | "kart_dashcam2") {
            continue;
        }
        let drive = temporary.path().join("clip.mcap");
        let input = Input { path, kind: InputKind::Video, offset: Offset::FirstAt(0.0) };
        if let Err(error) = import(&[input], &drive, DriveInfo::new(&name), true) {
            println!("skipped: {name}: {error}");
            continue;
        }
        let mut reader = DriveReader::open(&drive).unwrap();
        let mut decoder = VideoDecoder::new(VideoCodec::H264, SIZE.0 as u16).unwrap();
        let mut judge = Judge::new(Limits::default());
        while let Ok(Some(record)) = reader.next() {
            let DriveRecord::Frame(meta, bytes) = record else { continue };
            if let Ok(Some(small)) = decoder.decode(&meta, bytes) {
                let size = (usize::from(small.width), usize::from(small.height));
                let fault = judge.look(meta.t, size, small.rgb, true);
                assert_eq!(fault, None, "{name} at {}: {:?}", meta.t, judge.last());
            }
        }
        clips += 1;
    }
    assert!(clips > 0, "the folder holds no clip that can be read");
}

#[test]
fn odd_pictures_make_no_panic() {
    let mut judge = Judge::new(Limits::default());
    for size in [(0, 0), (1, 1), (2, 1), (1, 500), (16, 16), (3000, 2), (640, 360), (641, 359)] {
        for level in [0, 255] {
            let rgb = vec![level; 3 * size.0 * size.1];
            judge.look(MonoTime(1), size, &rgb, true);
            judge.look(MonoTime(u64::MAX), size, &rgb[..rgb.len() / 2], true);
            judge.look(MonoTime::ZERO, size, &rgb, false);
        }
    }
}
