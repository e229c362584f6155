//! Lays a synthetic shock on the recorded drive and notes what the trigger says: shared by the tests of shocks.

use super::synth::{Drive, M3, Quiet, RANGE, Random, Sensor, Shock, V3};
use agent_core::config::TelemetryConfig;
use agent_core::telemetry::{Impact, TelemetryEvent, TelemetryTrigger};
use agent_core::time::MonoTime;
use std::f64::consts::PI;

pub(super) const G: f64 = 9.806_65;

/// What came of a shock.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) began: Vec<Impact>,
    pub(super) ended: Vec<Impact>,
    pub(super) disturbances: usize,
    pub(super) harsh: usize,
    /// The sensor was at its range.
    pub(super) clipped: bool,
}

/// A trigger that has driven up to a moment.
pub(super) struct Prefix<'a> {
    pub(super) drive: &'a Drive,
    pub(super) mount: M3,
    pub(super) hz: f64,
    pub(super) t: f64,
    pub(super) gyro: bool,
    pub(super) trigger: TelemetryTrigger,
}

impl<'a> Prefix<'a> {
    pub(super) fn bare(drive: &'a Drive, mount: M3, hz: f64) -> Self {
        Self { drive, mount, hz, t: 0.0, gyro: true, trigger: TelemetryTrigger::new(TelemetryConfig::default()) }
    }

    pub(super) fn new(drive: &'a Drive, mount: M3, hz: f64, until: f64) -> Self {
        let mut p = Self::bare(drive, mount, hz);
        let mut out = Outcome::default();
        p.go(&Quiet, 0.0, until, 7, &mut out);
        assert!(out.began.is_empty());
        p
    }

    pub(super) fn go(&mut self, shock: &dyn Shock, start: f64, until: f64, seed: u64, out: &mut Outcome) {
        let mut sensor = Sensor::new(self.drive, self.mount, self.hz, seed);
        let mut next = self.drive.speed.partition_point(|s| s.0 <= self.t);
        while self.t < until {
            self.t += 1.0 / self.hz;
            while let Some(&(t, v)) = self.drive.speed.get(next).filter(|s| s.0 <= self.t) {
                self.trigger.on_speed(MonoTime::from_s(100.0 + t), v as f32);
                next += 1;
            }
            let mut sample = sensor.sample(self.t, shock, start);
            if !self.gyro {
                (sample.gyro_rps, sample.gyro_valid) = ([0.0; 3], false);
            }
            out.clipped |= sample.accel_mps2.iter().any(|x| f64::from(x.abs()) >= 0.98 * RANGE);
            for event in self.trigger.on_imu(&sample) {
                match event {
                    TelemetryEvent::ImpactBegan(i) => out.began.push(i),
                    TelemetryEvent::ImpactUpdated(i) if i.ended => out.ended.push(i),
                    TelemetryEvent::ImpactUpdated(_) => {}
                    TelemetryEvent::Harsh { .. } => out.harsh += 1,
                    TelemetryEvent::Disturbance { .. } => out.disturbances += 1,
                }
            }
        }
    }

    /// Lays a shock right after the prefix, at a phase of the sampling that the seed chooses.
    pub(super) fn with(&self, shock: &dyn Shock, seed: u64, after_s: f64) -> Outcome {
        let mut p = Self { trigger: self.trigger.clone(), ..*self };
        let mut out = Outcome::default();
        let start = p.start(seed);
        p.go(shock, start, start + shock.seconds() + after_s, seed, &mut out);
        out
    }

    pub(super) fn start(&self, seed: u64) -> f64 {
        self.t + Random(seed | 1).range(0.0, 0.03)
    }
}

pub(super) fn worst(v: &[f64]) -> f64 {
    v.iter().copied().fold(0.0, |a, b| if b.abs() > f64::abs(a) { b } else { a })
}

pub(super) fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len().max(1) as f64
}

/// A shock made of parts.
pub(super) struct Made<A: Fn(f64) -> V3, T: Fn(f64) -> V3> {
    pub(super) accel: A,
    pub(super) turn: T,
    pub(super) fall: (f64, f64),
    pub(super) seconds: f64,
}

impl<A: Fn(f64) -> V3, T: Fn(f64) -> V3> Shock for Made<A, T> {
    fn accel(&self, t: f64) -> V3 {
        (self.accel)(t)
    }
    fn turn(&self, t: f64) -> V3 {
        (self.turn)(t)
    }
    fn falling(&self, t: f64) -> bool {
        (self.fall.0..self.fall.1).contains(&t)
    }
    fn seconds(&self) -> f64 {
        self.seconds
    }
}

pub(super) fn still(_: f64) -> V3 {
    [0.0; 3]
}

/// Half a sine over `seconds`, beginning at `from`.
pub(super) fn lobe(t: f64, from: f64, seconds: f64) -> f64 {
    let x = (t - from) / seconds;
    if (0.0..1.0).contains(&x) { (PI * x).sin() } else { 0.0 }
}

pub(super) fn boxed<A: Fn(f64) -> V3 + 'static, T: Fn(f64) -> V3 + 'static>(
    accel: A,
    turn: T,
    seconds: f64,
) -> Box<dyn Shock> {
    Box::new(Made { accel, turn, fall: (0.0, 0.0), seconds })
}
