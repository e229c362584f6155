//! How the unit sits in the vehicle: the vehicle's up and forward axes in sensor axes, and how sure that is.
//!
//! *Up* is the mean specific force of one-second blocks: over a drive slopes and manoeuvres cancel. *Forward* is the
//! horizontal direction that best explains the changing part of the specific force by the vehicle's own speed: along
//! it the change of speed, across it speed times yaw rate. Both parts enter one least-squares fit of a single angle.
//! Slopes of the road are slower than manoeuvres, so a running mean (10 blocks) is taken away on both sides.
//!
//! The standard errors come from the residuals of the fit, with floors for what residuals cannot show (mean slope,
//! suspension). `confidence` is the probability that every axis said to be known lies within 10 degrees of the
//! truth, under those errors. Never uses a sample of a shock, and never uses position.

use super::Alignment;
use super::attitude::G;
use super::vec3::{V3, add, angle, cross, dot, narrow, norm, reject, scale, sub, unit};
use crate::time::MonoTime;

/// Length of a block, s.
const BLOCK_S: f64 = 1.0;
/// A block over a longer gap between speeds is thrown away, s.
const MAX_BLOCK_S: f64 = 2.5;
/// Share by which old blocks fade, per block: half is gone after some 14 minutes.
const FADE: f64 = 1.0 / 1200.0;
/// Time constant of the running mean that is taken away, blocks.
const MEAN_BLOCKS: f64 = 10.0;
/// Below this speed reversing cannot be told from driving on, m/s.
const MIN_SPEED: f64 = 2.0;
/// Spread of road slopes, deg, and how long one lasts, blocks (the comma2k19 drive: -2.5 to +3 deg in 60 s).
const SLOPE_DEG: f64 = 2.5;
const SLOPE_BLOCKS: f64 = 30.0;
/// Acceleration of a vehicle whose speed is not known, m/s^2, and how long it lasts, blocks.
const DRIVING_MPS2: f64 = 1.0;
const DRIVING_BLOCKS: f64 = 10.0;
/// Floors of the standard errors, deg: suspension pitch, sensor cross-axis sensitivity, timing.
const UP_FLOOR_DEG: f64 = 1.0;
const FORWARD_FLOOR_DEG: f64 = 1.5;
/// An axis is said to be known below this standard error, deg.
const KNOWN_DEG: f64 = 6.0;
/// Energy of manoeuvres that the fit needs before it may be believed, (m/s^2)^2 blocks.
const MIN_ENERGY: f64 = 2.0;
/// Up moved by more than this for some blocks: the unit was moved in its mount.
const MOVED_RAD: f64 = 0.4;
const MOVED_BLOCKS: u32 = 3;
/// The error that `confidence` is about, deg.
const CONFIDENCE_DEG: f64 = 10.0;

/// Sums of one block.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    force: V3,
    turn: V3,
    seconds: f64,
}

impl Block {
    fn take(&mut self, dt_s: f64, force: V3, gyro: V3) {
        self.force = add(self.force, scale(force, dt_s));
        self.turn = add(self.turn, scale(gyro, dt_s));
        self.seconds += dt_s;
    }
}

/// The fit of forward: sums over blocks, faded.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    /// Changing force times change of speed, and times speed by yaw rate.
    along: V3,
    across: V3,
    /// Energy of the explanation, and of the force by axis pairs.
    explained: f64,
    force: [[f64; 3]; 3],
    blocks: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Align {
    up_block: Block,
    up_sum: V3,
    /// Sum of the vehicle's own acceleration over the same blocks, m/s^2, and in how many of them it was known.
    up_slope: f64,
    up_aided: f64,
    up_spread: f64,
    up_blocks: f64,
    moved_for: u32,
    block: Block,
    start: Option<(MonoTime, f64)>,
    mean_force: V3,
    mean_explained: [f64; 2],
    mean_blocks: f64,
    fit: Fit,
    now: Alignment,
    forward: Option<V3>,
    left: V3,
    /// How often the unit was found to have been moved.
    pub(super) remounts: u32,
}

impl Align {
    pub(super) fn new() -> Self {
        Self {
            up_block: Block::default(),
            up_sum: [0.0; 3],
            up_slope: 0.0,
            up_aided: 0.0,
            up_spread: 0.0,
            up_blocks: 0.0,
            moved_for: 0,
            block: Block::default(),
            start: None,
            mean_force: [0.0; 3],
            mean_explained: [0.0; 2],
            mean_blocks: 0.0,
            fit: Fit::default(),
            now: Alignment { vehicle_from_sensor: IDENTITY_ROWS, ..Alignment::default() },
            forward: None,
            left: [0.0; 3],
            remounts: 0,
        }
    }

    pub(super) fn alignment(&self) -> Alignment {
        self.now
    }

    /// Forward and left in sensor axes, once known.
    pub(super) fn horizontal_axes(&self) -> Option<(V3, V3)> {
        self.forward.map(|f| (f, self.left))
    }

    /// Takes a sample that is no shock: specific force (m/s^2) and turn rate (rad/s) in sensor axes, and the vehicle's
    /// acceleration by its speed, m/s^2, if that is known.
    pub(super) fn on_imu(&mut self, dt_s: f64, force: V3, gyro: V3, slope: Option<f64>) {
        self.up_block.take(dt_s, force, gyro);
        if self.start.is_some() {
            self.block.take(dt_s, force, gyro);
        }
        if self.up_block.seconds >= BLOCK_S {
            let block = core::mem::take(&mut self.up_block);
            self.take_up(scale(block.force, 1.0 / block.seconds), slope);
            self.refresh();
        }
    }

    /// Takes a speed of the vehicle, m/s.
    pub(super) fn on_speed(&mut self, t: MonoTime, speed: f64) {
        let Some((t0, v0)) = self.start else {
            self.start = Some((t, speed));
            self.block = Block::default();
            return;
        };
        let seconds = t.since(t0).as_s();
        if seconds < BLOCK_S {
            return;
        }
        let block = core::mem::take(&mut self.block);
        self.start = Some((t, speed));
        // Samples must cover the block: shocks and gaps leave holes.
        let covered = block.seconds > 0.8 * seconds;
        if seconds > MAX_BLOCK_S || !covered || v0.min(speed) < MIN_SPEED || self.up_blocks < 1.0 {
            return;
        }
        let Some(up) = unit(self.up_sum) else { return };
        let yaw = dot(block.turn, up) / block.seconds;
        let explained = [(speed - v0) / seconds, 0.5 * (v0 + speed) * yaw];
        self.take_forward(scale(block.force, 1.0 / block.seconds), explained);
    }

    fn take_up(&mut self, force: V3, slope: Option<f64>) {
        if norm(force) < 0.7 * G || norm(force) > 1.3 * G {
            return;
        }
        if self.up_blocks >= 2.0 {
            let off = angle(force, self.up_sum);
            self.moved_for = if off > MOVED_RAD { self.moved_for + 1 } else { 0 };
            if self.moved_for >= MOVED_BLOCKS {
                let remounts = self.remounts.saturating_add(1);
                *self = Self { remounts, ..Self::new() };
            } else if off > MOVED_RAD {
                return;
            }
            self.up_spread = (1.0 - FADE) * self.up_spread + off.min(MOVED_RAD).powi(2);
        }
        self.up_sum = add(scale(self.up_sum, 1.0 - FADE), force);
        self.up_slope = (1.0 - FADE) * self.up_slope + slope.unwrap_or(0.0);
        self.up_aided = (1.0 - FADE) * self.up_aided + if slope.is_some() { 1.0 } else { 0.0 };
        self.up_blocks = (1.0 - FADE) * self.up_blocks + 1.0;
    }

    fn take_forward(&mut self, force: V3, explained: [f64; 2]) {
        let first = self.mean_blocks < 0.5;
        let y = sub(force, self.mean_force);
        let x = [explained[0] - self.mean_explained[0], explained[1] - self.mean_explained[1]];
        self.mean_blocks = (self.mean_blocks + 1.0).min(MEAN_BLOCKS);
        let k = 1.0 / self.mean_blocks;
        self.mean_force = add(self.mean_force, scale(y, k));
        self.mean_explained = [self.mean_explained[0] + k * x[0], self.mean_explained[1] + k * x[1]];
        if first {
            return;
        }
        let keep = 1.0 - FADE;
        let f = &mut self.fit;
        f.along = add(scale(f.along, keep), scale(y, x[0]));
        f.across = add(scale(f.across, keep), scale(y, x[1]));
        f.explained = f.explained * keep + x[0] * x[0] + x[1] * x[1];
        for (row, a) in f.force.iter_mut().zip(y) {
            for (cell, b) in row.iter_mut().zip(y) {
                *cell = *cell * keep + a * b;
            }
        }
        f.blocks = f.blocks * keep + 1.0;
        self.refresh();
    }

    /// Standard error of up, deg; `None` before there is an estimate. `corrected`: the vehicle's own mean acceleration
    /// was taken off the mean force.
    fn up_sigma_deg(&self, corrected: bool) -> Option<f64> {
        (self.up_blocks >= 2.0).then(|| {
            let n = self.up_blocks;
            let spread = (self.up_spread / n).to_degrees().to_degrees();
            let slope = SLOPE_DEG * SLOPE_DEG / (1.0 + n / SLOPE_BLOCKS);
            // A vehicle that pulls away all the while tilts its mean force by its mean acceleration.
            let unaided = (n - self.up_aided).max(0.0) / n;
            let seen = if corrected { 0.0 } else { self.up_slope / n / G };
            let unseen = unaided * DRIVING_MPS2 / G;
            let driving = seen.to_degrees().powi(2) + unseen.to_degrees().powi(2) / (1.0 + n / DRIVING_BLOCKS);
            (spread * 2.0 / n + slope + driving + UP_FLOOR_DEG * UP_FLOOR_DEG).sqrt()
        })
    }

    /// Forward (unit, horizontal) and its standard error, deg, if the fit can be believed at all.
    fn fit_forward(&self, up: V3) -> Option<(V3, f64)> {
        let f = &self.fit;
        if f.blocks < 3.0 || f.explained < MIN_ENERGY {
            return None;
        }
        // left = up x forward, so the part across adds (across x up) to the direction sought.
        let sum = reject(add(f.along, cross(f.across, up)), up);
        let length = norm(sum);
        let forward = unit(sum)?;
        // How much of the manoeuvres arrives: far from 1, something else moved the unit.
        if !(0.5..=1.8).contains(&(length / f.explained)) {
            return None;
        }
        let vertical = dot(up, [dot(f.force[0], up), dot(f.force[1], up), dot(f.force[2], up)]);
        let horizontal = f.force[0][0] + f.force[1][1] + f.force[2][2] - vertical;
        let residual = (horizontal + f.explained - 2.0 * length).max(0.0);
        // Two components a block; blocks are correlated and few at first, hence the widening.
        let widen = 1.0 + 3.0 / f.blocks;
        let variance = residual / (2.0 * (f.blocks - 1.0)) / f.explained * widen * widen;
        let sigma = variance.sqrt().to_degrees();
        Some((forward, (sigma * sigma + FORWARD_FLOOR_DEG * FORWARD_FLOOR_DEG).sqrt()))
    }

    /// Works out the estimate after a block.
    fn refresh(&mut self) {
        let Some(mean_up) = unit(self.up_sum).filter(|_| self.up_blocks >= 2.0) else {
            self.now = Alignment { vehicle_from_sensor: IDENTITY_ROWS, ..Alignment::default() };
            self.forward = None;
            return;
        };
        // Forward first, from the mean force; then up again without what the vehicle's own acceleration added, and
        // forward made square to that.
        let rough = self.fit_forward(mean_up).filter(|&(_, sigma)| sigma < KNOWN_DEG);
        let up = rough.and_then(|(f, _)| unit(sub(self.up_sum, scale(f, self.up_slope)))).unwrap_or(mean_up);
        let fitted = self.fit_forward(up);
        let Some(up_sigma) = self.up_sigma_deg(rough.is_some()) else { return };
        let up_known = up_sigma < KNOWN_DEG;
        // A known axis is given up only well above the limit at which it was accepted.
        let limit = if self.forward.is_some() { 1.5 * KNOWN_DEG } else { KNOWN_DEG };
        let known = fitted.filter(|&(_, sigma)| up_known && sigma < limit);
        let other = if up[0].abs() < 0.8 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] };
        let Some(forward) = known.map(|(f, _)| f).or_else(|| unit(reject(other, up))) else { return };
        let left = cross(up, forward);
        let up_sure = 1.0 - (-CONFIDENCE_DEG * CONFIDENCE_DEG / (2.0 * up_sigma * up_sigma)).exp();
        let sure = known.map_or(up_sure, |(_, sigma)| up_sure * erf(CONFIDENCE_DEG / (sigma * 2f64.sqrt())));
        self.forward = known.map(|(f, _)| f);
        self.left = left;
        self.now = Alignment {
            vehicle_from_sensor: if up_known { [narrow(forward), narrow(left), narrow(up)] } else { IDENTITY_ROWS },
            up_known,
            forward_known: known.is_some(),
            confidence: if up_known { sure as f32 } else { 0.0 },
            up_sigma_deg: Some(up_sigma as f32),
            forward_sigma_deg: fitted.map(|(_, s)| s as f32),
        };
    }
}

/// Rows of the identity.
const IDENTITY_ROWS: [[f32; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

/// The error function for x >= 0 to 1.5e-7 (Abramowitz and Stegun 7.1.26).
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    1.0 - poly * (-x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_function_has_its_known_values() {
        for (x, y) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)] {
            assert!((erf(x) - y).abs() < 1e-6);
        }
    }

    #[test]
    fn braking_and_starting_show_forward() {
        // Sensor x points to the vehicle's left, y backwards.
        let mut a = Align::new();
        let mut v = 10.0;
        for i in 0..4000u64 {
            let accel = if (i / 300) % 2 == 0 { 1.5 } else { -1.5 };
            v += accel * 0.01;
            a.on_imu(0.01, [0.0, -accel, G], [0.0; 3], Some(accel));
            a.on_speed(MonoTime(i * 10_000_000), v);
        }
        let got = a.alignment();
        assert!(got.up_known && got.forward_known && got.confidence > 0.8, "{got:?}");
        let f = got.vehicle_from_sensor[0];
        assert!(f[1] < -0.99, "{f:?}");
    }

    #[test]
    fn steady_driving_shows_up_but_not_forward() {
        let mut a = Align::new();
        for i in 0..4000u64 {
            a.on_imu(0.01, [0.0, 0.0, G], [0.0; 3], Some(0.0));
            a.on_speed(MonoTime(i * 10_000_000), 20.0);
        }
        let got = a.alignment();
        assert!(got.up_known && !got.forward_known);
        assert!(got.forward_sigma_deg.is_none());
    }
}
