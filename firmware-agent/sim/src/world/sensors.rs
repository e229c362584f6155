//! What the sensors read on a run: an inertial sensor of a consumer part, a satellite receiver, the vehicle bus.
//!
//! The inertial sensor averages over its period (its own filter), then errs: mount, cross-axis misalignment, scale,
//! bias, white noise by its density, resolution, range. Figures are of the class of the parts that dashcams carry
//! (accelerometer 100 to 250 ug/sqrt(Hz), gyroscope 4 to 10 mdps/sqrt(Hz), bias 20 to 60 mg at most, 16 g, 1000 dps);
//! none is a maker's.

use agent_core::samples::{GnssFix, ImuSample};
use agent_core::time::{MonoTime, WallQuality, WallTime};

use super::engine::{EgoMs, Trace};
use super::ride::RideMs;
use super::rigid::G;
use crate::bus::{BusState, wheel_deg};
use crate::gnss::{METRES_PER_DEG, ORIGIN_DEG, START_UNIX_MS};
use crate::limits::{ACCEL_RANGE_MPS2, GYRO_RANGE_RPS};
use crate::maths::{Mat3, PI, cos, mul, rotation, sin, transpose};
use crate::rng::Rng;
use crate::road::course_deg;

/// The inertial sensor and its errors.
#[derive(Clone, Debug)]
pub(crate) struct Imu {
    /// `vehicle = mount * sensor`, before any knock.
    pub(crate) mount: Mat3,
    pub(crate) accel_bias: [f64; 3],
    pub(crate) gyro_bias: [f64; 3],
    /// What the sensor makes of true values in its axes: scale on the diagonal, misalignment beside it.
    accel_gain: Mat3,
    gyro_gain: Mat3,
    noise: [f64; 2],
    period_ms: usize,
    rng: Rng,
}

impl Imu {
    pub(crate) fn new(root: u64, period_ms: usize) -> Self {
        let mut rng = Rng::new(root, 110);
        let degree = PI / 180.0;
        let mount = rotation(
            rng.between(-40.0, 40.0) * degree,
            rng.between(-26.0, 12.0) * degree,
            rng.between(-9.0, 9.0) * degree,
        );
        let mut three = |size: f64| core::array::from_fn(|_| rng.between(-size, size));
        let (accel_bias, gyro_bias) = (three(0.25), three(0.009));
        let mut gain = |size: f64| {
            let mut m = [[0.0; 3]; 3];
            for (i, row) in m.iter_mut().enumerate() {
                for (j, value) in row.iter_mut().enumerate() {
                    *value = if i == j { 1.0 + rng.between(-0.012, 0.012) } else { rng.between(-size, size) };
                }
            }
            m
        };
        let (accel_gain, gyro_gain) = (gain(0.008), gain(0.01));
        // Density times the root of half the rate: standard deviation of one sample.
        let band = (500.0 / period_ms as f64).sqrt();
        let noise = [rng.between(100e-6, 250e-6) * G * band, rng.between(0.004, 0.01) * degree * band];
        Self { mount, accel_bias, gyro_bias, accel_gain, gyro_gain, noise, period_ms, rng }
    }

    /// The sample at a millisecond.
    pub(crate) fn sample(&mut self, ride: &[RideMs], ms: usize, t: MonoTime) -> ImuSample {
        let last = ride.len().saturating_sub(1);
        let (mut force, mut rates) = ([0.0; 3], [0.0; 3]);
        for k in 0..self.period_ms {
            let now = ride.get((ms + k).saturating_sub(self.period_ms / 2).min(last)).copied().unwrap_or_default();
            for i in 0..3 {
                force[i] += now.accel[i] / self.period_ms as f64;
                rates[i] += now.rates[i] / self.period_ms as f64;
            }
        }
        let now = ride.get(ms.min(last)).copied().unwrap_or_default();
        let up = rotation(0.0, now.pitch, now.roll)[2];
        for i in 0..3 {
            force[i] += G * up[i];
        }
        let unit = transpose(&rotation(now.unit[2], now.unit[1], now.unit[0]));
        let to_sensor = transpose(&self.mount);
        let accel = mul(&self.accel_gain, mul(&to_sensor, mul(&unit, force)));
        let gyro = mul(&self.gyro_gain, mul(&to_sensor, mul(&unit, rates)));
        let mut read = |value: f64, bias: f64, noise: f64, range: f64| {
            let steps = 32768.0 / range;
            let value = (value + bias + noise * self.rng.normal()).clamp(-range, range);
            ((value * steps).round() / steps) as f32
        };
        let noise = self.noise;
        let accel_mps2 = core::array::from_fn(|i| read(accel[i], self.accel_bias[i], noise[0], ACCEL_RANGE_MPS2));
        let gyro_rps = core::array::from_fn(|i| read(gyro[i], self.gyro_bias[i], noise[1], GYRO_RANGE_RPS));
        ImuSample { t, accel_mps2, gyro_rps, gyro_valid: true }
    }
}

/// The satellite receiver.
#[derive(Clone, Debug)]
pub(crate) struct Gnss {
    rng: Rng,
    walk_m: [f64; 2],
    course: f64,
    noise: f64,
    /// Times without a fix, s.
    pub(crate) outages: Vec<(f64, f64)>,
}

impl Gnss {
    /// `tunnel` are the times in which the sky is hidden.
    pub(crate) fn new(root: u64, length_s: f64, tunnel: Option<(f64, f64)>) -> Self {
        let mut rng = Rng::new(root, 111);
        let mut outages: Vec<(f64, f64)> =
            tunnel.map(|(a, b)| (a + 0.3, b + rng.between(0.5, 2.5))).into_iter().collect();
        if rng.unit() < 0.12 {
            let from = rng.between(0.0, length_s);
            outages.push((from, from + rng.between(0.6, 5.0)));
        }
        let noise = rng.between(0.6, 2.2);
        Self { rng, walk_m: [0.0; 2], course: 90.0, noise, outages }
    }

    /// The fix at a millisecond, `None` in an outage.
    pub(crate) fn fix(&mut self, ego: &EgoMs, ms: usize, t: MonoTime) -> Option<GnssFix> {
        for walk in &mut self.walk_m {
            *walk = *walk * 0.985 + 0.12 * self.noise * self.rng.normal();
        }
        let now = ms as f64 * 1e-3;
        let speed = (ego.v.abs() + 0.05 * self.noise * self.rng.normal()).max(0.0);
        // Below walking pace a receiver holds its course: the velocity's direction is noise there.
        let turn = self.rng.normal();
        if ego.v > 1.0 {
            self.course = course_deg(ego.heading) + 1.5 / ego.v * turn;
            self.course -= (self.course / 360.0).floor() * 360.0;
        }
        let height = 12.0 + 0.5 * self.rng.normal();
        if self.outages.iter().any(|(a, b)| (*a..*b).contains(&now)) {
            return None;
        }
        Some(GnssFix {
            t,
            lat_deg: ORIGIN_DEG[0] + (ego.y + self.walk_m[0]) / METRES_PER_DEG[0],
            lon_deg: ORIGIN_DEG[1] + (ego.x + self.walk_m[1]) / METRES_PER_DEG[1],
            alt_m: height as f32,
            speed_mps: speed as f32,
            course_deg: self.course as f32,
            accuracy_m: Some((1.2 * self.noise + 0.4) as f32),
            wall: Some(WallTime { unix_ms: START_UNIX_MS + ms as u64, quality: WallQuality::Gnss }),
        })
    }
}

/// What the vehicle's controllers know at a millisecond. Wheels that lock or slide sideways still count as speed: the
/// bus says the speed along the vehicle.
pub(crate) fn bus_state(trace: &Trace, mu: f64, ms: usize, airbag: Option<usize>) -> BusState {
    let ego = trace.ego.get(ms).or(trace.ego.last()).copied().unwrap_or_default();
    let standing = ego.v.abs() < 0.25 && ego.pedal <= 0.05;
    let brake = ego.pedal < -0.45 || standing;
    BusState {
        v: ego.v.abs(),
        accel: if standing { 0.0 } else { ego.pedal.min(0.0) },
        brake,
        abs: ego.pedal < -0.94 * mu * G && ego.v > 1.5,
        wheel_deg: wheel_deg(ego.steer),
        yaw_rate: ego.yaw_rate,
        throttle: if brake { 0.0 } else { (3.0 + 0.25 * ego.v + 13.0 * ego.pedal.max(-0.3)).clamp(0.0, 100.0) },
        airbag: airbag.is_some_and(|at| ms >= at),
    }
}

/// A vector of the world in the axes of the ego vehicle: forward, left.
pub(crate) fn to_vehicle(heading: f64, v: [f64; 2]) -> [f64; 2] {
    let (s, c) = (sin(heading), cos(heading));
    [c * v[0] + s * v[1], c * v[1] - s * v[0]]
}
