//! What really happened on a simulated drive: the yardstick for whatever looks at its records.

use agent_core::time::MonoTime;

use crate::maths::Mat3;

/// The truth about a drive with one frontal impact.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// The seed it was made from.
    pub seed: u64,
    /// The vehicles touch.
    pub contact: MonoTime,
    /// Part 563-style time zero: the first point of the first 20 ms interval in which the noise-free longitudinal
    /// delta-V exceeds 0.8 km/h. It may lie some milliseconds before contact: the brakes count too.
    pub time_zero: MonoTime,
    /// Length of the crash pulse (haversine), milliseconds.
    pub pulse_ms: u32,
    /// Change of velocity by the collision force alone, in vehicle axes (forward, left), m/s.
    pub collision_delta_v_mps: [f64; 2],
    /// Change of velocity by everything (collision, brakes, tyres) from contact to the pulse's end, in vehicle axes
    /// (forward, left), m/s: what a recorder that integrates the acceleration should find.
    pub recorder_delta_v_mps: [f64; 2],
    /// Largest horizontal acceleration without noise, m/s^2, averaged over 10 ms as the sensor does.
    pub peak_mps2: f64,
    /// Where the force came from, degrees from straight ahead, left positive (0: frontal).
    pub direction_deg: f64,
    /// Closing speed at contact, m/s.
    pub closing_mps: f64,
    /// Speed of the vehicle at contact, m/s.
    pub speed_at_contact_mps: f64,
    /// Coefficient of restitution.
    pub restitution: f64,
    /// The driver's last braking begins.
    pub last_brake: MonoTime,
    /// The bus says that an airbag deployed.
    pub airbag: MonoTime,
    /// A wheel meets the pothole.
    pub pothole: MonoTime,
    /// The vehicle stands again after the impact.
    pub standstill: MonoTime,
    /// How the unit is mounted: rows are the vehicle's forward, left and up axes in sensor axes, so that
    /// `vehicle = m * sensor`.
    pub vehicle_from_sensor: Mat3,
    /// Constant error of the accelerometer, m/s^2, sensor axes.
    pub accel_bias_mps2: [f64; 3],
    /// Constant error of the gyroscope, rad/s, sensor axes.
    pub gyro_bias_rps: [f64; 3],
}
