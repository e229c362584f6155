//! The telemetry trigger: mounting angle, impacts and harsh manoeuvres, from IMU, speed and nothing else.
//!
//! `attitude` says at every sample which way is down, `align` which way the vehicle points, `impact` and `harsh` make
//! events of what is left of the specific force, `history` lets them look back. Everything costs the same per sample
//! and lives in buffers made at the start. Bad samples are counted and left out, never an error: [`TelemetryHealth`].
//!
//! It never waits for speed, never needs the forward axis to find an impact, and never reads a clock.

mod align;
mod attitude;
mod harsh;
mod history;
mod impact;
mod vec3;

use align::Align;
use attitude::{Attitude, G};
use harsh::Harsh;
use history::{Entry, History};
use impact::{ImpactFinder, Step};
use vec3::{V3, add, conj, norm, rotate, scale, wide};

use crate::config::TelemetryConfig;
use crate::samples::ImuSample;
use crate::time::{MonoTime, Span};

/// Estimate of how the unit sits in the vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Alignment {
    /// Rows: the vehicle's forward, left and up axes in sensor axes. Identity until `up_known`; until `forward_known`
    /// the first two are any two horizontal axes.
    pub vehicle_from_sensor: [[f32; 3]; 3],
    /// Gravity is known: up is right.
    pub up_known: bool,
    /// Forward is known too.
    pub forward_known: bool,
    /// How sure, 0 to 1: the probability that every axis said to be known is within 10 degrees of the truth. 0 until
    /// `up_known`.
    pub confidence: f32,
    /// Standard error of up, degrees, once there is an estimate.
    pub up_sigma_deg: Option<f32>,
    /// Standard error of forward about up, degrees, once there is an estimate.
    pub forward_sigma_deg: Option<f32>,
}

/// State of an impact: from time zero on, updated while it lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impact {
    /// Time zero: Part 563-style (facts in the module that finds it).
    pub t_zero: MonoTime,
    /// When this estimate was made.
    pub t: MonoTime,
    /// Delta-V since time zero in vehicle axes (forward, left), m/s; when `axes_known` is false the first holds the
    /// horizontal magnitude and the second 0.
    pub delta_v_mps: [f32; 2],
    /// Largest resultant so far, m/s, and when.
    pub max_delta_v_mps: f32,
    /// When it was reached.
    pub max_delta_v_at: MonoTime,
    /// Largest horizontal delta-V within the impact window (150 ms) so far, m/s: what the threshold is about.
    pub delta_v_window_mps: f32,
    /// Vertical delta-V since time zero, up positive, m/s.
    pub vertical_delta_v_mps: f32,
    /// Whether forward was known at time zero.
    pub axes_known: bool,
    /// Largest specific force minus gravity, m/s^2.
    pub peak_mps2: f32,
    /// When.
    pub peak_at: MonoTime,
    /// A sample was at the range of the sensor: delta-V and peak are lower bounds.
    pub clipped: bool,
    /// The impact is over (Part 563: 0.8 km/h or less within 20 ms).
    pub ended: bool,
}

/// Which harsh manoeuvre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manoeuvre {
    /// Deceleration.
    Braking,
    /// Acceleration.
    Acceleration,
    /// Lateral.
    Cornering,
    /// Horizontal, direction not known.
    Unknown,
}

/// What the telemetry trigger says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TelemetryEvent {
    /// An impact crossed the threshold: once per impact.
    ImpactBegan(Impact),
    /// Its estimate changed: at each sample until `ended`, which comes exactly once.
    ImpactUpdated(Impact),
    /// A harsh manoeuvre crossed its threshold for its duration: once per manoeuvre.
    Harsh {
        /// Which.
        manoeuvre: Manoeuvre,
        /// When it crossed the threshold.
        t_zero: MonoTime,
        /// Low-passed value now, m/s^2, magnitude.
        value_mps2: f32,
        /// Threshold, m/s^2.
        threshold_mps2: f32,
    },
    /// A shock that is no crash: pothole, bump, door, handling. For counting only.
    Disturbance {
        /// When.
        t: MonoTime,
        /// Largest specific force minus gravity, m/s^2.
        peak_mps2: f32,
    },
}

/// At most this many events from one sample.
pub const MAX_EVENTS_PER_SAMPLE: usize = 4;

/// Events of one sample.
pub type TelemetryEvents = heapless::Vec<TelemetryEvent, MAX_EVENTS_PER_SAMPLE>;

/// What became of the samples, counted since the start.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct TelemetryHealth {
    /// Samples taken.
    pub taken: u64,
    /// Samples left out: not finite, or beyond any sensor.
    pub implausible: u64,
    /// Samples left out: not later than the one before.
    pub out_of_order: u64,
    /// Gaps longer than a quarter of a second.
    pub gaps: u64,
    /// Speeds left out: not finite, negative, beyond 150 m/s or out of order.
    pub bad_speeds: u64,
    /// How often the unit was found to have been moved in its mount.
    pub remounts: u32,
    /// Rate of the IMU, samples a second, 0 until known. Below 40 no impact is sought.
    pub imu_hz: f32,
}

/// A gap longer than this ends what is open.
const GAP: Span = Span::from_ms(250);
/// Slowest mean spacing at which an impact can be found, s (Part 563 asks for 0.01).
const SLOWEST_S: f64 = 0.025;
/// Beyond these no sensor reads, m/s^2, rad/s and m/s.
const MAX_ACCEL: f32 = 5000.0;
const MAX_TURN: f32 = 100.0;
const MAX_SPEED: f32 = 150.0;
/// A speed older than this says nothing of now.
const SPEED_FRESH: Span = Span::from_ms(1500);
/// Nothing is called harsh for this long after an impact.
const AFTER_IMPACT: Span = Span::from_ms(2000);
/// At or above this share of its range an axis is clipped.
const CLIP_SHARE: f32 = 0.98;

/// The telemetry trigger.
#[derive(Clone, Debug)]
pub struct TelemetryTrigger {
    config: TelemetryConfig,
    health: TelemetryHealth,
    attitude: Attitude,
    align: Align,
    history: History,
    impact: ImpactFinder,
    harsh: Harsh,
    last: Option<MonoTime>,
    spacing_s: f64,
    velocity: V3,
    accel: V3,
    turn_lp: V3,
    speed: Option<(MonoTime, f64)>,
    /// Speed some tenths of a second ago and the change of speed since, m/s^2.
    slope_from: Option<(MonoTime, f64)>,
    slope: f64,
}

impl TelemetryTrigger {
    /// A trigger that knows nothing of the mounting yet.
    #[must_use]
    pub fn new(config: TelemetryConfig) -> Self {
        Self {
            config,
            health: TelemetryHealth::default(),
            attitude: Attitude::new(),
            align: Align::new(),
            history: History::new(),
            impact: ImpactFinder::new(),
            harsh: Harsh::new(),
            last: None,
            spacing_s: 0.0,
            velocity: [0.0; 3],
            accel: [0.0; 3],
            turn_lp: [0.0; 3],
            speed: None,
            slope_from: None,
            slope: 0.0,
        }
    }

    /// Takes one IMU sample; times must not go back (an older sample is ignored and counted).
    pub fn on_imu(&mut self, sample: &ImuSample) -> TelemetryEvents {
        let mut events = TelemetryEvents::new();
        let finite = |v: [f32; 3], limit: f32| v.iter().all(|x| x.abs() <= limit);
        if !finite(sample.accel_mps2, MAX_ACCEL) || (sample.gyro_valid && !finite(sample.gyro_rps, MAX_TURN)) {
            self.health.implausible += 1;
            return events;
        }
        let t = sample.t;
        let dt = match self.last {
            Some(last) if t <= last => {
                self.health.out_of_order += 1;
                return events;
            }
            Some(last) => t.since(last),
            None => Span(0),
        };
        self.last = Some(t);
        self.health.taken += 1;
        if dt > GAP {
            self.health.gaps += 1;
            let now = self.moment(t);
            push(&mut events, self.impact.interrupt(now));
            self.history.clear();
            self.harsh.reset();
        }
        // Over a gap nothing is integrated.
        let dt_s = if dt > GAP { 0.0 } else { dt.as_s() };
        if dt_s > 0.0 {
            let k = (1.0 / 50.0_f64).max(1.0 / (self.health.taken as f64));
            self.spacing_s += k * (dt_s - self.spacing_s);
        }
        self.advance(sample, dt_s, &mut events);
        events
    }

    /// Moves everything on by one good sample.
    fn advance(&mut self, sample: &ImuSample, dt_s: f64, events: &mut TelemetryEvents) {
        let t = sample.t;
        let force = wide(sample.accel_mps2);
        let gyro = sample.gyro_valid.then(|| wide(sample.gyro_rps));
        self.turn_lp = vec3::lerp(self.turn_lp, gyro.unwrap_or([0.0; 3]), (dt_s / 0.25).min(1.0));
        let accel = self.attitude.update(dt_s, force, gyro, self.aiding(t));
        self.velocity = add(self.velocity, scale(add(self.accel, accel), 0.5 * dt_s));
        self.accel = accel;
        let now = self.moment(t);
        self.history.push(now);

        let axes = self.align.horizontal_axes();
        let clip_at = CLIP_SHARE * self.config.accel_range_mps2;
        if self.spacing_s > 0.0 && self.spacing_s <= SLOWEST_S {
            let step = Step {
                history: &self.history,
                now,
                accel,
                force: norm(force),
                dt_s,
                clipped: sample.accel_mps2.iter().any(|x| x.abs() >= clip_at),
                up_rough: self.attitude.up_roughly_known(),
                gyro_valid: sample.gyro_valid,
                forward: axes.map(|(forward, _)| forward),
                speed: self.fresh_speed(t),
            };
            push(events, self.impact.step(&self.config, &step));
        }
        // What a hand does to the unit is no manoeuvre either, and says nothing of the mounting.
        if self.impact.busy(t, AFTER_IMPACT) || self.impact.in_hand(t) {
            self.harsh.reset();
        } else {
            let horizontal = rotate(conj(now.q), [accel[0], accel[1], 0.0]);
            if self.attitude.up_roughly_known() {
                push(events, self.harsh.step(&self.config, t, dt_s, horizontal, axes));
            }
            if norm(accel) < 1.5 * G {
                let slope = self.fresh_speed(t).map(|_| self.slope);
                self.align.on_imu(dt_s, force, gyro.unwrap_or([0.0; 3]), slope);
            }
        }
    }

    /// Takes a speed of the vehicle from the bus or GNSS, m/s.
    pub fn on_speed(&mut self, t: MonoTime, speed_mps: f32) {
        let late = self.speed.is_some_and(|(last, _)| t <= last);
        if late || !(0.0..=MAX_SPEED).contains(&speed_mps) {
            self.health.bad_speeds += 1;
            return;
        }
        let v = f64::from(speed_mps);
        self.speed = Some((t, v));
        self.align.on_speed(t, v);
        match self.slope_from {
            Some((t0, v0)) if t.since(t0) >= Span::from_ms(400) => {
                let s = t.since(t0).as_s();
                self.slope = if s <= 1.5 { ((v - v0) / s).clamp(-12.0, 12.0) } else { 0.0 };
                self.slope_from = Some((t, v));
            }
            Some(_) => {}
            None => self.slope_from = Some((t, v)),
        }
    }

    /// The mounting estimate now.
    #[must_use]
    pub fn alignment(&self) -> Alignment {
        self.align.alignment()
    }

    /// What became of the samples.
    #[must_use]
    pub fn health(&self) -> TelemetryHealth {
        let imu_hz = if self.spacing_s > 0.0 { (1.0 / self.spacing_s) as f32 } else { 0.0 };
        TelemetryHealth { remounts: self.align.remounts, imu_hz, ..self.health }
    }

    fn moment(&self, t: MonoTime) -> Entry {
        Entry { t, v: self.velocity, q: self.attitude.orientation(), gyro_q: self.attitude.by_gyro() }
    }

    fn fresh_speed(&self, t: MonoTime) -> Option<f64> {
        self.speed.filter(|&(at, _)| t.since(at) <= SPEED_FRESH).map(|(_, v)| v)
    }

    /// The acceleration that the vehicle's speed and turn explain, in sensor axes, m/s^2; zero if not known.
    fn aiding(&self, t: MonoTime) -> V3 {
        let (Some((forward, left)), Some(v)) = (self.align.horizontal_axes(), self.fresh_speed(t)) else {
            return [0.0; 3];
        };
        let yaw = vec3::dot(self.turn_lp, self.attitude.up_in_sensor());
        let across = (v * yaw).clamp(-12.0, 12.0);
        add(scale(forward, self.slope), scale(left, across))
    }
}

/// Adds an event if there is one. At most three arise from a sample (gap, impact, harsh), so none is lost.
fn push(events: &mut TelemetryEvents, event: Option<TelemetryEvent>) {
    if let Some(event) = event {
        // The capacity is above what a sample can give, see above.
        let _ = events.push(event);
    }
}

const _: () = assert!(MAX_EVENTS_PER_SAMPLE >= 3);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_G: f32 = 9.806_65;

    fn sample(ms: u64, accel_mps2: [f32; 3]) -> ImuSample {
        ImuSample { t: MonoTime(ms * 1_000_000), accel_mps2, gyro_rps: [0.0; 3], gyro_valid: true }
    }

    fn rested(until_ms: u64) -> TelemetryTrigger {
        let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
        for i in 1..=until_ms / 5 {
            assert!(trigger.on_imu(&sample(i * 5, [0.0, 0.0, ONE_G])).is_empty());
        }
        trigger
    }

    #[test]
    fn bad_samples_and_speeds_are_counted_and_left_out() {
        let mut trigger = rested(1000);
        let before = trigger.health();
        for accel in [[f32::NAN, 0.0, ONE_G], [0.0, f32::INFINITY, 0.0], [1e9, 0.0, 0.0]] {
            assert!(trigger.on_imu(&sample(1005, accel)).is_empty());
        }
        assert!(trigger.on_imu(&sample(1000, [0.0, 0.0, ONE_G])).is_empty());
        assert!(trigger.on_imu(&sample(400, [0.0, 0.0, ONE_G])).is_empty());
        trigger.on_speed(MonoTime::from_s(1.0), 10.0);
        for (s, v) in [(1.0, 10.0), (0.5, 10.0), (1.1, f32::NAN), (1.1, -1.0), (1.1, 1000.0)] {
            trigger.on_speed(MonoTime::from_s(s), v);
        }
        assert!(trigger.on_imu(&sample(2000, [0.0, 0.0, ONE_G])).is_empty());
        let after = trigger.health();
        assert_eq!((after.implausible, after.out_of_order, after.bad_speeds, after.gaps), (3, 2, 5, 1));
        assert_eq!(after.taken, before.taken + 1);
    }

    #[test]
    fn an_impact_that_the_samples_leave_ends_at_the_next_one() {
        let mut trigger = rested(1000);
        let mut began = 0;
        for i in 201..=220 {
            for e in trigger.on_imu(&sample(i * 5, [-80.0, 0.0, ONE_G])) {
                began += usize::from(matches!(e, TelemetryEvent::ImpactBegan(_)));
            }
        }
        assert_eq!(began, 1);
        let after = trigger.on_imu(&sample(5000, [0.0, 0.0, ONE_G]));
        assert!(matches!(after[..], [TelemetryEvent::ImpactUpdated(Impact { ended: true, .. })]), "{after:?}");
        assert!(trigger.on_imu(&sample(5005, [0.0, 0.0, ONE_G])).is_empty());
    }

    #[test]
    fn an_impact_from_the_left_pushes_to_the_right() {
        // Sensor x points to the vehicle's left, y backwards, as starting and braking show.
        let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
        let mut v = 10.0;
        let force = |a: f32| [0.0, -a, ONE_G];
        for i in 1..=6000u64 {
            let a = if (i / 600) % 2 == 0 { 1.5 } else { -1.5 };
            v += a * 0.005;
            trigger.on_speed(MonoTime(i * 5_000_000), v);
            assert!(trigger.on_imu(&sample(i * 5, force(a))).is_empty());
        }
        assert!(trigger.alignment().forward_known);
        let mut last = None;
        for i in 6001..=6100u64 {
            let push = if i <= 6020 { -60.0 } else { 0.0 };
            for e in trigger.on_imu(&sample(i * 5, [push, 0.0, ONE_G])) {
                if let TelemetryEvent::ImpactBegan(impact) | TelemetryEvent::ImpactUpdated(impact) = e {
                    last = Some(impact);
                }
            }
        }
        let impact = last.unwrap();
        assert!(impact.ended && impact.axes_known && !impact.clipped);
        let [forward, left] = impact.delta_v_mps;
        assert!(forward.abs() < 0.3 && (left + 6.0).abs() < 0.4, "{forward} {left}");
        assert!((impact.max_delta_v_mps - 6.0).abs() < 0.4, "{impact:?}");
    }

    /// A light blow while the unit tilts at 3 rad/s: a hand or a roll-over. `after`: the speed from then on, m/s.
    fn struck_while_tilting(after: f32) -> usize {
        let mut trigger = rested(2000);
        let mut began = 0;
        let mut tilt = 0.0_f32;
        for i in 401..=600u64 {
            let tilting = (401..480).contains(&i);
            tilt += if tilting { 3.0 * 0.005 } else { 0.0 };
            let push = if (460..480).contains(&i) { 28.0 } else { 0.0 };
            if i % 4 == 0 {
                trigger.on_speed(MonoTime(i * 5_000_000), if i < 482 { 20.0 } else { after });
            }
            // Turned about x, the push comes along it.
            let accel_mps2 = [push, ONE_G * tilt.sin(), ONE_G * tilt.cos()];
            let gyro_rps = [if tilting { 3.0 } else { 0.0 }, 0.0, 0.0];
            let sample = ImuSample { t: MonoTime(i * 5_000_000), accel_mps2, gyro_rps, gyro_valid: true };
            for e in trigger.on_imu(&sample) {
                began += usize::from(matches!(e, TelemetryEvent::ImpactBegan(_)));
            }
        }
        began
    }

    #[test]
    fn the_speed_tells_a_hand_from_a_roll_over() {
        assert_eq!(struck_while_tilting(20.0), 0);
        assert_eq!(struck_while_tilting(16.0), 1);
    }

    #[test]
    fn a_unit_put_elsewhere_is_noticed_and_learnt_anew() {
        let mut trigger = rested(10_000);
        assert!(trigger.alignment().up_known);
        for i in 2001..=8000u64 {
            trigger.on_imu(&sample(i * 5, [ONE_G, 0.0, 0.0]));
        }
        assert_eq!(trigger.health().remounts, 1);
        let a = trigger.alignment();
        assert!(a.up_known && a.vehicle_from_sensor[2][0] > 0.99, "{a:?}");
    }
}
