//! The telemetry trigger: mounting angle, impacts and harsh manoeuvres, from IMU, speed and nothing else.

use crate::config::TelemetryConfig;
use crate::samples::ImuSample;
use crate::time::MonoTime;

/// Estimate of how the unit sits in the vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Alignment {
    /// Rows: the vehicle's forward, left and up axes in sensor axes. Identity until `up_known`.
    pub vehicle_from_sensor: [[f32; 3]; 3],
    /// Gravity is known: up is right.
    pub up_known: bool,
    /// Forward is known too.
    pub forward_known: bool,
    /// How sure, 0 to 1.
    pub confidence: f32,
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

/// The telemetry trigger.
#[derive(Clone, Debug)]
pub struct TelemetryTrigger {
    config: TelemetryConfig,
}

impl TelemetryTrigger {
    /// A trigger that knows nothing of the mounting yet.
    #[must_use]
    pub fn new(config: TelemetryConfig) -> Self {
        Self { config }
    }

    /// Takes one IMU sample; times must not go back (an older sample is ignored).
    pub fn on_imu(&mut self, _sample: &ImuSample) -> TelemetryEvents {
        let _ = &self.config;
        TelemetryEvents::new()
    }

    /// Takes a speed of the vehicle from the bus or GNSS, m/s.
    pub fn on_speed(&mut self, _t: MonoTime, _speed_mps: f32) {}

    /// The mounting estimate now.
    #[must_use]
    pub fn alignment(&self) -> Alignment {
        Alignment::default()
    }
}
