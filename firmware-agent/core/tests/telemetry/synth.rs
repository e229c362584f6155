//! What the synthetic shocks are laid on and made of: the recorded drive as a function of time, mounts, a seeded
//! random number generator, and a sensor that averages over its sample period, clips and adds noise.

use super::data;
use agent_core::samples::ImuSample;
use agent_core::time::MonoTime;

pub(super) type V3 = [f64; 3];
pub(super) type M3 = [V3; 3];

pub(super) fn apply(m: M3, v: V3) -> V3 {
    [0, 1, 2].map(|i| m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2])
}

pub(super) fn transpose(m: M3) -> M3 {
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| m[j][i]))
}

pub(super) fn product(a: M3, b: M3) -> M3 {
    let cols = transpose(b).map(|c| apply(a, c));
    transpose(cols)
}

pub(super) fn add(a: V3, b: V3) -> V3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(super) fn dot(a: V3, b: V3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: V3, b: V3) -> V3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(super) fn scale(a: V3, k: f64) -> V3 {
    a.map(|x| x * k)
}

pub(super) fn unit(a: V3) -> V3 {
    scale(a, 1.0 / dot(a, a).sqrt())
}

pub(super) fn degrees(a: V3, b: V3) -> f64 {
    let c = cross(a, b);
    dot(c, c).sqrt().atan2(dot(a, b)).to_degrees()
}

/// The rotation matrix of an axis-angle vector.
pub(super) fn rotation(r: V3) -> M3 {
    let angle = dot(r, r).sqrt();
    if angle < 1e-12 {
        return [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    }
    let [x, y, z] = scale(r, 1.0 / angle);
    let (s, c) = angle.sin_cos();
    let k = 1.0 - c;
    [
        [c + x * x * k, x * y * k - z * s, x * z * k + y * s],
        [y * x * k + z * s, c + y * y * k, y * z * k - x * s],
        [z * x * k - y * s, z * y * k + x * s, c + z * z * k],
    ]
}

/// xorshift64*: the same numbers on every machine.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn range(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.next()
    }

    pub(super) fn direction(&mut self) -> V3 {
        let z = self.range(-1.0, 1.0);
        let a = self.range(0.0, std::f64::consts::TAU);
        let r = (1.0 - z * z).sqrt();
        [r * a.cos(), r * a.sin(), z]
    }

    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// Any mount at all: a rotation of the sensor against the device that recorded the drive.
pub(super) fn mounts(n: usize) -> Vec<M3> {
    let mut random = Random(0x5EED_0001);
    let mut all = vec![rotation([0.0; 3])];
    while all.len() < n {
        all.push(rotation(scale(random.direction(), random.range(0.3, 3.1))));
    }
    all
}

/// The recorded drive: specific force and turn rate by time from its start, in device axes turned to forward, left,
/// up; speeds from the bus.
pub(super) struct Drive {
    pub t: Vec<f64>,
    pub accel: Vec<V3>,
    pub gyro: Vec<V3>,
    pub speed: Vec<(f64, f64)>,
    /// Speeds from the u-blox receiver at 10 Hz, by the time they arrived.
    pub gnss_speed: Vec<(f64, f64)>,
    /// Columns: the vehicle's forward, left, up in device axes, from the recorded poses.
    pub device_from_vehicle: M3,
}

impl Drive {
    pub(super) fn load(test: &str) -> Option<Self> {
        let dir = data::folder(test)?.join("comma2k19");
        let log = dir.join("processed_log");
        let t = data::npy(log.join("IMU/accelerometer/t"));
        let t0 = t[0][0];
        // Recorded as forward, right, down.
        let flu = |rows: Vec<Vec<f64>>| rows.iter().map(|r| [r[0], -r[1], -r[2]]).collect::<Vec<V3>>();
        let speed_t = data::npy(log.join("CAN/speed/t"));
        let speed_v = data::npy(log.join("CAN/speed/value"));
        let gnss_t = data::npy(log.join("GNSS/live_gnss_ublox/t"));
        let gnss = data::npy(log.join("GNSS/live_gnss_ublox/value"));
        Some(Self {
            gnss_speed: gnss_t.iter().zip(&gnss).map(|(t, v)| (t[0] - t0, v[2])).collect(),
            t: t.iter().map(|r| r[0] - t0).collect(),
            accel: flu(data::npy(log.join("IMU/accelerometer/value"))),
            gyro: flu(data::npy(log.join("IMU/gyro/value"))),
            speed: speed_t.iter().zip(&speed_v).map(|(t, v)| (t[0] - t0, v[0])).collect(),
            device_from_vehicle: vehicle_axes(&dir),
        })
    }

    /// Specific force and turn rate at a time, interpolated.
    pub(super) fn at(&self, t: f64) -> (V3, V3) {
        let i = self.t.partition_point(|&x| x <= t).clamp(1, self.t.len() - 1);
        let k = ((t - self.t[i - 1]) / (self.t[i] - self.t[i - 1])).clamp(0.0, 1.0);
        let mix = |v: &[V3]| add(scale(v[i - 1], 1.0 - k), scale(v[i], k));
        (mix(&self.accel), mix(&self.gyro))
    }
}

/// The vehicle's axes in device axes from the recorded poses: forward is the mean direction of travel in the device,
/// up the earth's vertical made square to it (so that the slope of the road does not count).
fn vehicle_axes(dir: &std::path::Path) -> M3 {
    let pose = dir.join("global_pose");
    let orientations = data::npy(pose.join("frame_orientations"));
    let velocities = data::npy(pose.join("frame_velocities"));
    let positions = data::npy(pose.join("frame_positions"));
    let (mut forward, mut up) = ([0.0; 3], [0.0; 3]);
    for ((q, v), p) in orientations.iter().zip(&velocities).zip(&positions) {
        let (w, x, y, z) = (q[0], q[1], q[2], q[3]);
        let half = 2.0 * w.clamp(-1.0, 1.0).acos();
        let s = (1.0 - w * w).sqrt().max(1e-12);
        let earth_to_device = transpose(rotation(scale([x / s, y / s, z / s], half)));
        forward = add(forward, apply(earth_to_device, unit([v[0], v[1], v[2]])));
        up = add(up, apply(earth_to_device, unit([p[0], p[1], p[2]])));
    }
    let flu = |v: V3| unit([v[0], -v[1], -v[2]]);
    let (forward, up) = (flu(forward), flu(up));
    let up = unit(add(up, scale(forward, -dot(up, forward))));
    transpose([forward, cross(up, forward), up])
}

/// A shock laid on the drive: what the vehicle and what the unit alone does, by time from its beginning.
pub(super) trait Shock {
    /// Extra acceleration of the vehicle (or the unit), m/s^2, vehicle axes at its beginning.
    fn accel(&self, t: f64) -> V3;
    /// Turn rate of the unit against the vehicle, rad/s, sensor axes.
    fn turn(&self, _t: f64) -> V3 {
        [0.0; 3]
    }
    /// Turn rate of the vehicle, and the unit with it, rad/s, vehicle axes.
    fn vehicle_turn(&self, _t: f64) -> V3 {
        [0.0; 3]
    }
    /// Whether the unit falls freely (the drive's own specific force is gone).
    fn falling(&self, _t: f64) -> bool {
        false
    }
    fn seconds(&self) -> f64;
}

/// Nothing happens.
pub(super) struct Quiet;

impl Shock for Quiet {
    fn accel(&self, _t: f64) -> V3 {
        [0.0; 3]
    }
    fn seconds(&self) -> f64 {
        0.0
    }
}

/// Range of the accelerometer: 16 g.
pub(super) const RANGE: f64 = 16.0 * 9.806_65;

/// A sensor: averages over its sample period, clips each axis, adds white noise of 0.03 m/s^2 and 0.002 rad/s.
pub(super) struct Sensor<'a> {
    pub drive: &'a Drive,
    /// Sensor axes from device axes.
    pub mount: M3,
    pub hz: f64,
    pub random: Random,
    /// Unit as turned by hands: sensor axes as mounted from sensor axes now.
    pub turned: M3,
}

impl<'a> Sensor<'a> {
    pub(super) fn new(drive: &'a Drive, mount: M3, hz: f64, seed: u64) -> Self {
        Self { drive, mount, hz, random: Random(seed | 1), turned: rotation([0.0; 3]) }
    }

    /// The sample at `t`, with `shock` beginning at `start`; both in seconds of the drive.
    pub(super) fn sample(&mut self, t: f64, shock: &dyn Shock, start: f64) -> ImuSample {
        let period = 1.0 / self.hz;
        let parts = (period / 0.000_5).ceil().max(1.0) as usize;
        let (mut accel, mut gyro) = ([0.0; 3], [0.0; 3]);
        let (base, base_turn) = self.drive.at(t);
        let in_sensor = product(self.mount, self.drive.device_from_vehicle);
        for i in 0..parts {
            let h = period / parts as f64;
            let x = t - period + (i as f64 + 0.5) * h - start;
            let on = (0.0..shock.seconds()).contains(&x);
            let turn = if on { add(shock.turn(x), apply(in_sensor, shock.vehicle_turn(x))) } else { [0.0; 3] };
            self.turned = product(self.turned, rotation(scale(turn, h)));
            let back = transpose(self.turned);
            let own = if on && shock.falling(x) { [0.0; 3] } else { apply(self.mount, base) };
            let extra = if on { apply(in_sensor, shock.accel(x)) } else { [0.0; 3] };
            accel = add(accel, scale(apply(back, add(own, extra)), 1.0 / parts as f64));
            let turning = add(apply(back, apply(self.mount, base_turn)), turn);
            gyro = add(gyro, scale(turning, 1.0 / parts as f64));
        }
        let random = &mut self.random;
        ImuSample {
            t: MonoTime::from_s(100.0 + t),
            accel_mps2: accel.map(|x| (x + 0.03 * random.normal()).clamp(-RANGE, RANGE) as f32),
            gyro_rps: gyro.map(|x| (x + 0.002 * random.normal()).clamp(-35.0, 35.0) as f32),
            gyro_valid: true,
        }
    }
}
