//! The inertial sensor: specific force and turn rate in the axes of a tilted unit, with bias, noise, vibration of
//! the engine and the road, and the sensor's range.

use agent_core::samples::ImuSample;
use agent_core::time::MonoTime;

use crate::limits::{ACCEL_RANGE_MPS2, GYRO_RANGE_RPS};
use crate::maths::{Mat3, mul, rotation, transpose};
use crate::motion::Motion;
use crate::rng::Rng;

const GRAVITY_MPS2: f64 = 9.806_65;
/// Deviation of one sample's noise, m/s^2 and rad/s: a consumer part at 100 Hz.
const ACCEL_NOISE: f64 = 0.035;
const GYRO_NOISE: f64 = 0.002;

/// The sensor and its errors.
pub(crate) struct Imu {
    /// `vehicle = mount * sensor`.
    pub(crate) mount: Mat3,
    pub(crate) accel_bias: [f64; 3],
    pub(crate) gyro_bias: [f64; 3],
    rng: Rng,
}

impl Imu {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 2);
        // On the windscreen, turned and tilted as a hurried fitter leaves it: degrees.
        let degree = crate::maths::PI / 180.0;
        let yaw = rng.between(24.0, 38.0) * degree;
        let pitch = rng.between(-24.0, -12.0) * degree;
        let roll = rng.between(-9.0, 9.0) * degree;
        let mut bias = |size: f64| core::array::from_fn(|_| rng.between(-size, size));
        let (accel_bias, gyro_bias) = (bias(0.12), bias(0.008));
        Self { mount: rotation(yaw, pitch, roll), accel_bias, gyro_bias, rng }
    }

    pub(crate) fn sample(&mut self, motion: &Motion, ms: usize, t: MonoTime) -> ImuSample {
        let (mut force, rates) = motion.mean(ms);
        let step = motion.at(ms);
        // Gravity in the axes of the leaning body; the angles are below 2 degrees, so their sines are themselves.
        force[0] += -step.pitch * GRAVITY_MPS2;
        force[1] += step.roll * GRAVITY_MPS2;
        force[2] += GRAVITY_MPS2;
        let shake = 0.05 + 0.022 * step.v;
        force[0] += 0.4 * shake * self.rng.normal();
        force[1] += 0.4 * shake * self.rng.normal();
        force[2] += shake * self.rng.normal();
        let to_sensor = transpose(&self.mount);
        let (accel, gyro) = (mul(&to_sensor, force), mul(&to_sensor, rates));
        let mut reading = |value: f64, bias: f64, noise: f64, range: f64| {
            (value + bias + noise * self.rng.normal()).clamp(-range, range) as f32
        };
        let accel_mps2 = core::array::from_fn(|i| reading(accel[i], self.accel_bias[i], ACCEL_NOISE, ACCEL_RANGE_MPS2));
        let gyro_rps = core::array::from_fn(|i| reading(gyro[i], self.gyro_bias[i], GYRO_NOISE, GYRO_RANGE_RPS));
        ImuSample { t, accel_mps2, gyro_rps, gyro_valid: true }
    }
}
