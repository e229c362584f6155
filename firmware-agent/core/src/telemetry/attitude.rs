//! Which way is down, at every sample: the turn of the unit against a *local frame* whose z is up.
//!
//! The gyroscope carries the orientation from sample to sample, and gravity pulls its tilt right slowly, so that a
//! shock of some 100 ms hardly moves it. The heading of the local frame is arbitrary and drifts: nothing here uses
//! it, because differences of velocity within one event are all that is asked. What the speed of the vehicle
//! explains of the specific force is taken away first (*aiding*). Never finds the vehicle's forward axis; that is
//! `align`'s work.

use super::vec3::{IDENTITY, Quat, UP, V3, add, between, clamp_len, conj, cross, exp, mul, norm, normalise, rotate};
use super::vec3::{scale, sub};

/// Standard gravity, m/s^2.
pub(super) const G: f64 = 9.806_65;

/// Time constant with which gravity corrects the tilt while driving, s. Long against braking (2 to 4 s).
const TILT_TAU_S: f64 = 8.0;
/// The same without a gyroscope, where nothing else tells of a turn, s.
const TILT_TAU_NO_GYRO_S: f64 = 1.5;
/// Low-pass of the specific force before it is compared with gravity, s: above the road's vibration.
const FORCE_TAU_S: f64 = 0.25;
/// How far one sample may pull that low-pass, m/s^2: shocks are cut off.
const SHOCK_LIMIT: f64 = 6.0;
/// Deviation of the magnitude from gravity at which the correction has lost nearly all its weight, m/s^2.
const MAGNITUDE_GATE: f64 = 0.8;
/// Tilt error that, when it lasts, shows that the estimate is wrong and not the vehicle, rad.
const LOST_RAD: f64 = 0.35;
/// For how long, s.
const LOST_S: f64 = 1.5;
/// Largest gyroscope bias that is believed, rad/s.
const MAX_BIAS: f64 = 0.15;

#[derive(Clone, Debug)]
pub(super) struct Attitude {
    /// Local frame from sensor axes.
    q: Quat,
    /// The same without any correction by gravity.
    gyro_q: Quat,
    /// Seconds of samples taken; 0 before the first.
    age_s: f64,
    started: bool,
    force_lp: V3,
    taken: u32,
    g: f64,
    bias: V3,
    lost_s: f64,
}

impl Attitude {
    pub(super) fn new() -> Self {
        Self {
            q: IDENTITY,
            gyro_q: IDENTITY,
            age_s: 0.0,
            started: false,
            force_lp: [0.0; 3],
            taken: 0,
            g: G,
            bias: [0.0; 3],
            lost_s: 0.0,
        }
    }

    pub(super) fn orientation(&self) -> Quat {
        self.q
    }

    pub(super) fn by_gyro(&self) -> Quat {
        self.gyro_q
    }

    /// Whether enough samples were averaged for horizontal and vertical to mean something.
    pub(super) fn up_roughly_known(&self) -> bool {
        self.age_s >= 0.3
    }

    /// Up in sensor axes.
    pub(super) fn up_in_sensor(&self) -> V3 {
        rotate(conj(self.q), UP)
    }

    /// A vector of the sensor axes in the local frame.
    pub(super) fn to_local(&self, v: V3) -> V3 {
        rotate(self.q, v)
    }

    /// Takes a sample and returns the acceleration (specific force minus gravity) in the local frame, m/s^2.
    ///
    /// `aiding` is the acceleration that the vehicle's speed explains, in sensor axes, zero if unknown.
    pub(super) fn update(&mut self, dt_s: f64, accel: V3, gyro: Option<V3>, aiding: V3) -> V3 {
        if !self.started {
            // Falling or struck at the very first sample: gravity cannot be read from it.
            if (0.3 * G..3.0 * G).contains(&norm(accel)) {
                self.q = between(accel, UP);
                self.started = true;
            }
            self.force_lp = [0.0, 0.0, G];
            self.taken = 0;
            return [0.0; 3];
        }
        self.age_s += dt_s;
        if let Some(w) = gyro {
            let step = exp(scale(sub(w, self.bias), dt_s));
            self.q = normalise(mul(self.q, step));
            self.gyro_q = normalise(mul(self.gyro_q, step));
        }
        let local = self.to_local(accel);
        self.correct(dt_s, self.to_local(sub(accel, aiding)), gyro.is_some());
        sub(local, [0.0, 0.0, self.g])
    }

    /// Turns the tilt a little towards what gravity says.
    fn correct(&mut self, dt_s: f64, force: V3, has_gyro: bool) {
        self.taken = self.taken.saturating_add(1);
        let k = (dt_s / FORCE_TAU_S).max(1.0 / (f64::from(self.taken) + 1.0)).min(1.0);
        let step = clamp_len(sub(force, self.force_lp), SHOCK_LIMIT);
        self.force_lp = add(self.force_lp, scale(step, k));
        let magnitude = norm(self.force_lp);
        let Some(direction) = super::vec3::unit(self.force_lp) else { return };
        let deviation = (magnitude - self.g).abs();
        let trust = (1.0 - deviation / MAGNITUDE_GATE).clamp(0.05, 1.0);
        let error = cross(direction, UP);
        let err_rad = norm(error).atan2(direction[2]);
        self.lost_s = if err_rad > LOST_RAD { self.lost_s + dt_s } else { 0.0 };

        let rate = if self.age_s < 1.0 {
            1.0 / self.age_s.max(dt_s)
        } else if self.lost_s > LOST_S {
            1.0
        } else if has_gyro {
            trust / TILT_TAU_S
        } else {
            trust / TILT_TAU_NO_GYRO_S
        };
        let turn = scale(error, (rate * dt_s).min(0.5));
        self.q = normalise(mul(exp(turn), self.q));
        self.force_lp = rotate(exp(turn), self.force_lp);
        if has_gyro && self.age_s > 1.0 && self.lost_s <= 0.0 {
            // A proportional-integral observer: critically damped at ki = kp^2 / 4.
            let ki = trust * 0.25 / (TILT_TAU_S * TILT_TAU_S);
            let in_sensor = rotate(conj(self.q), error);
            self.bias = clamp_len(sub(self.bias, scale(in_sensor, ki * dt_s)), MAX_BIAS);
        }
        if trust > 0.5 {
            // Scale and bias of a consumer sensor move its gravity by a few percent.
            let k = dt_s / 20.0;
            self.g = (self.g + k.min(0.1) * (magnitude - self.g)).clamp(0.95 * G, 1.05 * G);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::vec3::angle;

    #[test]
    fn finds_up_and_keeps_it_through_a_turn_of_the_unit() {
        let mut a = Attitude::new();
        let up = [0.6 * G, 0.0, 0.8 * G];
        for _ in 0..200 {
            a.update(0.01, up, Some([0.0; 3]), [0.0; 3]);
        }
        assert!(angle(a.up_in_sensor(), up) < 0.01);
        // Turn by 1 rad about y in 0.5 s while a shock hides gravity: the gyroscope alone must carry it.
        for _ in 0..50 {
            a.update(0.01, [0.0, 100.0, 0.0], Some([0.0, 2.0, 0.0]), [0.0; 3]);
        }
        let expected = rotate(exp([0.0, -1.0, 0.0]), up);
        assert!(angle(a.up_in_sensor(), expected) < 0.1, "{}", angle(a.up_in_sensor(), expected));
    }

    #[test]
    fn a_gyroscope_bias_does_not_tilt_it_for_good() {
        let mut a = Attitude::new();
        for _ in 0..12_000 {
            a.update(0.01, [0.0, 0.0, G], Some([0.05, -0.03, 0.0]), [0.0; 3]);
        }
        assert!(angle(a.up_in_sensor(), UP) < 0.02, "{}", angle(a.up_in_sensor(), UP));
    }

    #[test]
    fn without_a_gyroscope_it_still_follows() {
        let mut a = Attitude::new();
        for _ in 0..200 {
            a.update(0.01, [0.0, 0.0, G], None, [0.0; 3]);
        }
        for _ in 0..1500 {
            a.update(0.01, [G, 0.0, 0.0], None, [0.0; 3]);
        }
        assert!(angle(a.up_in_sensor(), [1.0, 0.0, 0.0]) < 0.05);
    }
}
