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

/// Share of its slow walk that a receiver keeps over [`WALK_MS`], and what comes to it meanwhile, in parts of its noise, m.
const WALK_KEPT: f64 = 0.985;
const WALK_NEW_M: f64 = 0.12;
const WALK_MS: usize = 200;

/// Share of the walk that is kept over some milliseconds: a power by exactly rounded operations only, to the 32nd binary
/// place of its exponent.
fn kept(ms: usize) -> f64 {
    let mut keep = 1.0;
    for _ in 0..ms / WALK_MS {
        keep *= WALK_KEPT;
    }
    let (mut rest, mut root) = ((ms % WALK_MS) as f64 / WALK_MS as f64, WALK_KEPT);
    for _ in 0..32 {
        root = root.sqrt();
        rest *= 2.0;
        if rest >= 1.0 {
            keep *= root;
            rest -= 1.0;
        }
    }
    keep
}

/// The satellite receiver.
#[derive(Clone, Debug)]
pub(crate) struct Gnss {
    rng: Rng,
    walk_m: [f64; 2],
    /// Of the walk: the share that is kept from fix to fix, and what comes to it, in parts of the noise, m. However often
    /// fixes come, the walk strays as far and as slowly.
    keep: f64,
    step_m: f64,
    course: f64,
    noise: f64,
    /// Times without a fix, s.
    pub(crate) outages: Vec<(f64, f64)>,
}

impl Gnss {
    /// With a fix every `period_ms`; `tunnel` are the times in which the sky is hidden.
    pub(crate) fn new(root: u64, period_ms: usize, length_s: f64, tunnel: Option<(f64, f64)>) -> Self {
        let mut rng = Rng::new(root, 111);
        let mut outages: Vec<(f64, f64)> =
            tunnel.map(|(a, b)| (a + 0.3, b + rng.between(0.5, 2.5))).into_iter().collect();
        if rng.unit() < 0.12 {
            let from = rng.between(0.0, length_s);
            outages.push((from, from + rng.between(0.6, 5.0)));
        }
        let noise = rng.between(0.6, 2.2);
        let keep = kept(period_ms);
        let step_m = WALK_NEW_M * ((1.0 - keep * keep) / (1.0 - WALK_KEPT * WALK_KEPT)).sqrt();
        Self { rng, walk_m: [0.0; 2], keep, step_m, course: 90.0, noise, outages }
    }

    /// The fix at a millisecond, one period after the one before; `None` in an outage.
    pub(crate) fn fix(&mut self, ego: &EgoMs, ms: usize, t: MonoTime) -> Option<GnssFix> {
        for walk in &mut self.walk_m {
            *walk = *walk * self.keep + self.step_m * self.noise * self.rng.normal();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimRecord;
    use crate::world::{DriveOptions, Next, WorldDrive, built_in};

    const DEGREE: f64 = PI / 180.0;

    /// Readings of a vehicle that keeps these accelerations and rates, three of acceleration and three of turn.
    fn readings(imu: &mut Imu, motion: RideMs, count: usize) -> Vec<[f64; 6]> {
        let one = |k: usize| {
            let sample = imu.sample(&[motion], k * imu.period_ms, MonoTime(0));
            core::array::from_fn(|i| f64::from(if i < 3 { sample.accel_mps2[i] } else { sample.gyro_rps[i - 3] }))
        };
        (0..count).map(one).collect()
    }

    fn mean(readings: &[[f64; 6]]) -> [f64; 6] {
        core::array::from_fn(|i| readings.iter().map(|r| r[i]).sum::<f64>() / readings.len() as f64)
    }

    /// Deviations of acceleration and turn rate, each over its three axes.
    fn deviation(readings: &[[f64; 6]]) -> [f64; 2] {
        let middle = mean(readings);
        let of = |axes: core::ops::Range<usize>| {
            let squares =
                readings.iter().flat_map(|r| axes.clone().map(move |i| (r[i] - middle[i]) * (r[i] - middle[i])));
            (squares.sum::<f64>() / (3 * readings.len()) as f64).sqrt()
        };
        [of(0..3), of(3..6)]
    }

    #[test]
    fn noise_goes_with_the_root_of_half_the_rate() {
        for root in 0..6 {
            let mut densities = Vec::new();
            for (hz, period_ms) in [(100.0_f64, 10), (500.0, 2)] {
                let mut imu = Imu::new(root, period_ms);
                let density = imu.noise.map(|n| n / (hz / 2.0).sqrt());
                assert!((100e-6 * G..250e-6 * G).contains(&density[0]), "{root}, {hz}: {density:?}");
                assert!((0.004 * DEGREE..0.01 * DEGREE).contains(&density[1]), "{root}, {hz}: {density:?}");
                let found = deviation(&readings(&mut imu, RideMs::default(), 3000));
                for (found, density) in found.into_iter().zip(density) {
                    let ratio = found / (density * (hz / 2.0).sqrt());
                    assert!((0.9..1.1).contains(&ratio), "{root}, {hz}: {ratio} of {density}");
                }
                densities.push(density);
            }
            // A part is the same part at both rates.
            let same = |i: usize| (densities[0][i] / densities[1][i] - 1.0).abs() < 1e-12;
            assert!(same(0) && same(1), "{root}: {densities:?}");
        }
    }

    #[test]
    fn scale_and_misalignment_stay_in_their_bounds() {
        for root in 0..200 {
            let imu = Imu::new(root, 10);
            for (gain, cross) in [(imu.accel_gain, 0.008), (imu.gyro_gain, 0.01)] {
                for (i, row) in gain.iter().enumerate() {
                    for (j, value) in row.iter().enumerate() {
                        let error = if i == j { (value - 1.0).abs() / 0.012 } else { value.abs() / cross };
                        assert!(error <= 1.0, "{root}: {gain:?}");
                    }
                }
            }
            assert!(imu.accel_bias.iter().all(|b| b.abs() <= 0.25), "{root}: {:?}", imu.accel_bias);
            assert!(imu.gyro_bias.iter().all(|b| b.abs() <= 0.009), "{root}: {:?}", imu.gyro_bias);
        }
    }

    #[test]
    fn a_known_motion_comes_out_turned_scaled_and_crossed() {
        for root in 0..4 {
            let mut imu = Imu::new(root, 10);
            let motion = RideMs { accel: [3.0, -2.0, 1.0], rates: [0.5, -0.3, 0.8], ..RideMs::default() };
            let found = mean(&readings(&mut imu, motion, 2000));
            let to_sensor = transpose(&imu.mount);
            let parts = [
                ([3.0, -2.0, 1.0 + G], imu.accel_gain, imu.accel_bias, 0.003),
                ([0.5, -0.3, 0.8], imu.gyro_gain, imu.gyro_bias, 0.0003),
            ];
            for (part, (vehicle, gain, bias, close)) in parts.into_iter().enumerate() {
                let ideal = mul(&to_sensor, vehicle);
                let (mut off, mut size) = (0.0, 0.0);
                for i in 0..3 {
                    let read = found[3 * part + i] - bias[i];
                    let wanted = gain[i][0] * ideal[0] + gain[i][1] * ideal[1] + gain[i][2] * ideal[2];
                    assert!((read - wanted).abs() < close, "{root}, {part}: {read} {wanted}");
                    off += (read - ideal[i]) * (read - ideal[i]);
                    size += ideal[i] * ideal[i];
                }
                // It is not the ideal sensor, and no axis is off by more than scale and both crosses together.
                let share = (off / size).sqrt();
                assert!((0.0005..0.04).contains(&share), "{root}, {part}: {share}");
            }
        }
    }

    #[test]
    fn at_500_hz_it_clips_at_sixteen_g_and_at_its_turn_rate() {
        for root in 0..4 {
            let mut imu = Imu::new(root, 2);
            for sign in [1.0, -1.0] {
                // Along the sensor's first axis, far beyond both ranges.
                let accel = mul(&imu.mount, [sign * 600.0, 0.0, 0.0]);
                let rates = mul(&imu.mount, [sign * 60.0, 0.0, 0.0]);
                let motion = RideMs { accel, rates, ..RideMs::default() };
                for read in readings(&mut imu, motion, 50) {
                    assert!((read[0] - sign * 16.0 * 9.806_65).abs() < 1e-3, "{root}: {read:?}");
                    assert!((read[3] - sign * GYRO_RANGE_RPS).abs() < 1e-3, "{root}: {read:?}");
                    // The others read what is theirs.
                    assert!([1, 2].iter().all(|i| read[*i].abs() < 30.0 && read[i + 3].abs() < 2.0), "{read:?}");
                }
            }
        }
    }

    #[test]
    fn the_walk_is_the_same_in_time_however_often_fixes_come() {
        // At five fixes a second it is what it has always been, to the last bit.
        assert_eq!(kept(WALK_MS).to_bits(), WALK_KEPT.to_bits());
        assert_eq!(Gnss::new(1, WALK_MS, 20.0, None).step_m.to_bits(), WALK_NEW_M.to_bits());
        assert!((kept(1000) - WALK_KEPT.powi(5)).abs() < 1e-12);
        assert!((kept(100) * kept(100) - WALK_KEPT).abs() < 1e-9 && (kept(125) - WALK_KEPT.powf(0.625)).abs() < 1e-9);
    }

    /// Distances north and east of a standing receiver's fix, m, after a minute.
    fn strayed(root: u64, period_ms: usize) -> ([f64; 2], f64) {
        let mut gnss = Gnss::new(root, period_ms, 60.0, None);
        gnss.outages.clear();
        let mut last = None;
        for ms in (0..60_000).step_by(period_ms) {
            last = gnss.fix(&EgoMs::default(), ms, MonoTime(ms as u64 * 1_000_000));
        }
        let fix = last.unwrap();
        let north = (fix.lat_deg - ORIGIN_DEG[0]) * METRES_PER_DEG[0];
        let east = (fix.lon_deg - ORIGIN_DEG[1]) * METRES_PER_DEG[1];
        assert!(f64::from(fix.accuracy_m.unwrap()) > 1.2 * gnss.noise, "{fix:?}");
        assert!(f64::from(fix.speed_mps) < 0.3 * gnss.noise, "{fix:?}");
        ([north, east], gnss.noise)
    }

    #[test]
    fn fixes_of_a_standing_vehicle_stray_by_some_tenths_of_a_metre_to_some_metres() {
        for period_ms in [1000, 200, 100] {
            let mut squares = 0.0;
            for root in 0..300 {
                let (off, noise) = strayed(root, period_ms);
                assert!((0.6..2.2).contains(&noise), "{root}: {noise}");
                // In parts of the receiver's noise; no further than five deviations.
                let parts = off.map(|d| d / noise);
                assert!(parts.iter().all(|d| d.abs() < 3.5), "{root}, every {period_ms} ms: {off:?} at {noise}");
                squares += parts[0] * parts[0] + parts[1] * parts[1];
            }
            // What a walk with that memory settles at.
            let wanted = WALK_NEW_M / (1.0 - WALK_KEPT * WALK_KEPT).sqrt();
            let ratio = (squares / 600.0).sqrt() / wanted;
            assert!((0.85..1.15).contains(&ratio), "every {period_ms} ms: {ratio}");
        }
    }

    #[test]
    fn outages_come_at_random_and_no_fix_falls_into_one() {
        let mut with = 0;
        for root in 0..1000 {
            let mut gnss = Gnss::new(root, 100, 20.0, None);
            let Some((from, to)) = gnss.outages.first().copied() else { continue };
            with += 1;
            assert!((0.0..20.0).contains(&from) && (0.6..5.0).contains(&(to - from)), "{root}: {from} {to}");
            for ms in (0..20_000).step_by(100) {
                let lost = gnss.fix(&EgoMs::default(), ms, MonoTime(0)).is_none();
                assert_eq!(lost, (from..to).contains(&(ms as f64 * 1e-3)), "{root}: {ms} ms of {from} to {to}");
            }
        }
        // 12 %, within four deviations.
        assert!((80..161).contains(&with), "{with}");
        let tunnel = Gnss::new(1, 100, 20.0, Some((4.0, 9.0))).outages[0];
        assert!((tunnel.0 - 4.3).abs() < 1e-9 && (9.5..11.5).contains(&tunnel.1), "{tunnel:?}");
    }

    #[test]
    fn a_drive_has_as_many_fixes_as_its_rate_says() {
        for hz in [1, 10] {
            let options = DriveOptions { size: [0, 0], fps: 0.0, imu_hz: 100, gnss_hz: hz };
            let mut drive = WorldDrive::new(&built_in("slammed_door").unwrap().unwrap(), 3, options).unwrap();
            let outages = drive.truth().sensors.gnss_outages_s.clone();
            let lost = |ms: usize| outages.iter().any(|(a, b)| (*a..*b).contains(&(ms as f64 * 1e-3)));
            let wanted = (0..drive.length_ms()).step_by(1000 / hz).filter(|ms| !lost(*ms)).count();
            let mut count = 0;
            while let Some(next) = drive.next_due() {
                count += usize::from(matches!(next, Next::Record(SimRecord::Gnss(_))));
            }
            assert!(wanted >= 4 * hz && count == wanted, "{hz} Hz: {count} of {wanted}");
        }
    }
}
