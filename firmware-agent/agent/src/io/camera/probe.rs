//! A look at a camera for people: does it open, do frames come, at which rate and how evenly, what does the picture show.
//!
//! For `doctor` and for measuring capture. One thread; what the looker would decode is decoded between frames.

use std::time::Duration;

use agent_core::samples::FrameMeta;
use agent_core::time::{MonoTime, Span};
use serde::Serialize;

use super::clock::monotonic_now;
use super::keeper::POLL;
use super::looker::{Look, Looker};
use super::picture::{Judge, Limits, PictureFault};
use super::{Camera, Fault, Got, Shot};

/// Longest measurement whose intervals are kept one by one.
const MOST_FRAMES: usize = 1 << 20;
/// A camera that gives no frame for this long gives none.
const PATIENCE: Span = Span::from_s(10);

/// What was seen. Times are those of the capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Probe {
    /// What was opened.
    pub(crate) camera: String,
    /// Codec of the kept frames.
    pub(crate) codec: String,
    /// Width and height of the kept frames, pixels.
    pub(crate) size: [u16; 2],
    /// Frames taken after the first.
    pub(crate) frames: u64,
    /// Frames that the source lost, and damaged ones.
    pub(crate) lost: u64,
    /// Frames without a small picture, where the source makes them.
    pub(crate) unseen: u64,
    /// From the first to the last frame, s.
    pub(crate) seconds: f64,
    /// Frames a second.
    pub(crate) fps: f64,
    /// Kept, Mbit/s.
    pub(crate) mbit_s: f64,
    /// Deviation of the intervals, ms.
    pub(crate) jitter_ms: f64,
    /// Longest interval, ms.
    pub(crate) longest_ms: f64,
    /// From capture until the frame was here: median and longest, ms.
    pub(crate) delay_ms: [f64; 2],
    /// From opening to the first frame, ms.
    pub(crate) first_ms: f64,
    /// Mean brightness of the last picture, 0 to 255, and what is wrong with it, if that can be said.
    pub(crate) brightness: Option<f32>,
    /// See `brightness`.
    pub(crate) fault: Option<PictureFault>,
}

/// Opens the camera and takes frames for a while.
///
/// # Errors
/// Why there are none.
pub(crate) fn probe(camera: &mut dyn Camera, seconds: f64, small_width: u16) -> Result<Probe, Fault> {
    let opened = monotonic_now();
    let mut stream = camera.open()?;
    let mut looker = Looker::new(Some(Judge::new(Limits::glance())), false, small_width);
    let mut shot = Shot::default();
    let mut taken = Taken::default();
    let long = Span(Duration::try_from_secs_f64(seconds.clamp(0.1, 86_400.0)).map_or(0, |d| d.as_nanos() as u64));
    let mut last = opened;
    let mut seq = 0;
    while taken.times.first().is_none_or(|first| last.since(*first) < long) && taken.times.len() < MOST_FRAMES {
        let got = stream.next(POLL, &mut shot)?;
        let now = monotonic_now();
        match got {
            Got::Nothing if now.since(last) >= PATIENCE => {
                return Err(Fault::Failed(format!("{}: no frame for {} s", stream.describe(), PATIENCE.as_s())));
            }
            Got::Nothing => continue,
            Got::Damaged => taken.lost += 1 + u64::from(shot.lost),
            Got::Frame => {
                taken.frame(&mut shot, now);
                let meta = FrameMeta { t: shot.t, seq, codec: shot.codec, key: shot.key, size: shot.size };
                seq += 1;
                let look = if shot.small_size == [0; 2] {
                    Look::Encoded(&meta, &shot.kept)
                } else {
                    Look::Small(&meta, shot.small_size, &shot.small, shot.small_raw)
                };
                let _ = looker.look(&look);
            }
        }
        last = now;
    }
    let mut probe = taken.sum(opened);
    probe.camera = stream.describe();
    probe.codec = format!("{:?}", shot.codec).to_lowercase();
    probe.size = shot.size;
    probe.brightness = looker.brightness();
    probe.fault = looker.fault();
    Ok(probe)
}

/// Frames as they came.
#[derive(Default)]
struct Taken {
    times: Vec<MonoTime>,
    delays_ms: Vec<f64>,
    arrived: Option<MonoTime>,
    bytes: u64,
    lost: u64,
    unseen: u64,
}

impl Taken {
    fn frame(&mut self, shot: &mut Shot, now: MonoTime) {
        self.lost += u64::from(shot.lost);
        self.unseen += u64::from(std::mem::take(&mut shot.unseen));
        self.arrived.get_or_insert(now);
        self.bytes += if self.times.is_empty() { 0 } else { shot.kept.len() as u64 };
        self.times.push(shot.t);
        self.delays_ms.push(now.since(shot.t).as_s() * 1e3);
    }

    fn sum(mut self, opened: MonoTime) -> Probe {
        let intervals: Vec<f64> = self.times.windows(2).map(|w| w[1].since(w[0]).as_s() * 1e3).collect();
        let n = intervals.len().max(1) as f64;
        let total: f64 = intervals.iter().sum();
        let mean = total / n;
        let variance = intervals.iter().map(|i| (i - mean) * (i - mean)).sum::<f64>() / n;
        self.delays_ms.sort_by(f64::total_cmp);
        let median = self.delays_ms.get(self.delays_ms.len() / 2).copied().unwrap_or(0.0);
        let seconds = total / 1e3;
        let per_second = |x: f64| if seconds > 0.0 { x / seconds } else { 0.0 };
        Probe {
            camera: String::new(),
            codec: String::new(),
            size: [0; 2],
            frames: intervals.len() as u64,
            lost: self.lost,
            unseen: self.unseen,
            seconds,
            fps: per_second(intervals.len() as f64),
            mbit_s: per_second(self.bytes as f64 * 8e-6),
            jitter_ms: variance.sqrt(),
            longest_ms: intervals.iter().copied().fold(0.0, f64::max),
            delay_ms: [median, self.delays_ms.last().copied().unwrap_or(0.0)],
            first_ms: self.arrived.map_or(0.0, |a| a.since(opened).as_s() * 1e3),
            brightness: None,
            fault: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Stream;
    use super::*;

    /// A camera of drawn pictures, 200 a second: what each pixel of the picture of a number is.
    pub(crate) struct Drawn(pub(crate) fn(u64, usize) -> u8);

    struct Pictures(fn(u64, usize) -> u8, u64);

    impl Camera for Drawn {
        fn open(&mut self) -> Result<Box<dyn Stream>, Fault> {
            Ok(Box::new(Pictures(self.0, 0)))
        }
    }

    impl Stream for Pictures {
        fn next(&mut self, _wait: Duration, shot: &mut Shot) -> Result<Got, Fault> {
            std::thread::sleep(Duration::from_millis(5));
            let Self(draw, number) = self;
            (shot.t, shot.size, shot.small_size, shot.small_raw) = (monotonic_now(), [320, 180], [320, 180], true);
            shot.kept.resize(1000, 0);
            shot.small.clear();
            shot.small.extend((0..320 * 180).flat_map(|pixel| [draw(*number, pixel); 3]));
            *number += 1;
            Ok(Got::Frame)
        }

        fn fps(&self) -> f32 {
            200.0
        }

        fn describe(&self) -> String {
            "drawn".to_owned()
        }
    }

    /// Noise of a few steps, another one in each picture.
    pub(crate) fn noise(number: u64, pixel: usize) -> u8 {
        ((pixel as u64 * 2_654_435_761 + number * 40_503) >> 13) as u8 % 4
    }

    #[test]
    fn what_is_wrong_with_a_picture_is_seen_in_a_second() {
        let seen = |draw: fn(u64, usize) -> u8| probe(&mut Drawn(draw), 1.0, 640).unwrap();
        let black = seen(|number, pixel| 3 + noise(number, pixel));
        assert_eq!(black.fault, Some(PictureFault::Black));
        assert!(black.brightness.is_some_and(|b| b < 7.0) && black.frames > 10, "{black:?}");
        assert_eq!(seen(|number, pixel| 95 + noise(number, pixel)).fault, Some(PictureFault::Covered));
        assert_eq!(seen(|_, pixel| (pixel * 37 % 251) as u8).fault, Some(PictureFault::Frozen));
        assert_eq!(seen(|number, pixel| ((pixel + number as usize * 7) * 37 % 251) as u8).fault, None);
    }

    #[test]
    fn the_sums_are_those_of_the_frames() {
        let mut taken = Taken::default();
        for (i, t) in [0_u64, 33, 66, 132, 165].into_iter().enumerate() {
            let mut shot = Shot { t: MonoTime(1_000_000_000 + t * 1_000_000), kept: vec![0; 1000], ..Shot::default() };
            shot.lost = u32::from(i == 3);
            taken.frame(&mut shot, MonoTime(1_005_000_000 + t * 1_000_000));
        }
        let probe = taken.sum(MonoTime(905_000_000));
        assert_eq!((probe.frames, probe.lost), (4, 1));
        assert!((probe.seconds - 0.165).abs() < 1e-9 && (probe.fps - 4.0 / 0.165).abs() < 1e-6);
        assert!((probe.mbit_s - 0.032 / 0.165).abs() < 1e-6);
        assert_eq!((probe.longest_ms.round(), probe.first_ms.round()), (66.0, 100.0));
        assert!((probe.jitter_ms - 14.289).abs() < 0.01, "{}", probe.jitter_ms);
        assert!(probe.delay_ms.iter().all(|d| (d - 5.0).abs() < 1e-6));
        let none = Taken::default().sum(MonoTime::ZERO);
        assert_eq!((none.frames, none.fps, none.jitter_ms), (0, 0.0, 0.0));
    }
}
