//! Whether what a chip says can be true.

use agent_core::samples::ImuSample;

use super::chip::{G, Raw};

/// Readings over which rest is judged, as a time.
const WINDOW_S: f64 = 2.0;
/// At rest the force varies by less than this, m/s^2 (standard deviation), and the turn rate is below this, rad/s.
const STILL_MPS2: f32 = 0.15;
const STILL_RPS: f32 = 0.05;
/// Gravity measured at rest is off by less than this, m/s^2: offset and scale of the worst part, four times.
const GRAVITY_OFF: f32 = 1.5;
/// The same reading for so long is no measurement.
const REPEATS_S: f64 = 0.5;
/// Where the chips are specified, degrees Celsius.
pub(super) const WORKS_C: core::ops::RangeInclusive<f32> = -40.0..=85.0;

/// Watches the samples of one start of a chip.
#[derive(Debug)]
pub(super) struct Truth {
    last: Option<Raw>,
    repeats: u32,
    most_repeats: u32,
    window: u32,
    n: u32,
    sum: f32,
    squares: f32,
    fastest: f32,
}

impl Truth {
    pub(super) fn new(hz: f64) -> Self {
        Self {
            last: None,
            repeats: 0,
            most_repeats: (hz * REPEATS_S) as u32,
            window: (hz * WINDOW_S) as u32,
            n: 0,
            sum: 0.0,
            squares: 0.0,
            fastest: 0.0,
        }
    }

    /// Whether the reading is the one before once more, for too long.
    pub(super) fn repeats(&mut self, raw: &Raw) -> bool {
        self.repeats = if self.last == Some(*raw) { self.repeats + 1 } else { 0 };
        self.last = Some(*raw);
        self.repeats >= self.most_repeats
    }

    /// At the end of each window at rest: what was measured in place of gravity, m/s^2, and whether that can be.
    pub(super) fn gravity(&mut self, sample: &ImuSample) -> Option<(f32, bool)> {
        let norm = |v: &[f32; 3]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
        // About gravity, so that the sum of squares keeps its digits.
        let off = norm(&sample.accel_mps2) - G;
        self.n += 1;
        self.sum += off;
        self.squares += off * off;
        self.fastest = self.fastest.max(norm(&sample.gyro_rps));
        if self.n < self.window {
            return None;
        }
        let n = self.n as f32;
        let (mean, fastest) = (self.sum / n, self.fastest);
        let deviation = (self.squares / n - mean * mean).max(0.0).sqrt();
        (self.n, self.sum, self.squares, self.fastest) = (0, 0.0, 0.0, 0.0);
        (deviation < STILL_MPS2 && fastest < STILL_RPS).then_some((G + mean, mean.abs() <= GRAVITY_OFF))
    }
}
