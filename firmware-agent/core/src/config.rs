//! What the core can be told, as checked numbers. The binary parses files into these types; defaults live in the
//! binary's one shipped configuration file and are repeated here only as `Default` for tests, held equal by a test.

use agent_wire::{EventKind, Flags, Hash8, Severity, UnitId};

use crate::limits::MAX_CUSTOM_SIGNALS;
use crate::time::Span;

/// Thresholds of the telemetry trigger, for one vehicle class.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    /// Delta-V within `impact_window_ms` that makes an impact, km/h (49 CFR 563.9: 8).
    pub impact_delta_v_kmh: f32,
    /// Share of `impact_delta_v_kmh` at which the trigger decides: a measured delta-V of an impact of exactly the
    /// legal size scatters around it by vibration, road and sampling, and must still be found.
    pub impact_decision_share: f32,
    /// How long the delta-V must stay before it is an impact, ms: a shock that rebounds has gone back by then.
    pub impact_hold_ms: u32,
    /// Share of the vertical delta-V taken off the horizontal one before it decides: the tilt of the vehicle and the
    /// error of the estimated up leak that much.
    pub vertical_leak_share: f32,
    /// Peak that a hand does not reach while it moves the unit, m/s^2.
    pub handling_peak_mps2: f32,
    /// Turn of the unit around the onset, with a peak below `handling_peak_mps2`, that means a hand, rad.
    pub handling_turn_rad: f32,
    /// Tilt of the unit around the onset that no vehicle on its wheels makes, rad.
    pub handling_tilt_rad: f32,
    /// Window for that, ms (49 CFR 563.9: 150).
    pub impact_window_ms: u32,
    /// Delta-V from which an impact is critical, km/h (UN R160 locks above 25).
    pub critical_delta_v_kmh: f32,
    /// Harsh braking, low-passed longitudinal deceleration, m/s^2.
    pub harsh_braking_mps2: f32,
    /// Harsh acceleration, m/s^2.
    pub harsh_acceleration_mps2: f32,
    /// Harsh cornering, lateral, m/s^2.
    pub harsh_cornering_mps2: f32,
    /// How long a harsh value must last, ms.
    pub harsh_duration_ms: u32,
    /// Share of a harsh threshold below which the manoeuvre is over (hysteresis).
    pub harsh_release_share: f32,
    /// Range of the accelerometer, m/s^2 per axis: at or above 0.98 of it a sample is clipped.
    pub accel_range_mps2: f32,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            impact_delta_v_kmh: 8.0,
            // 7 km/h: halfway between 6 (must stay silent) and 8 (must fire). On the comma2k19 drive the road alone
            // makes up to 1.3 km/h in 150 ms, 0.3 typically.
            impact_decision_share: 0.875,
            impact_window_ms: 150,
            impact_hold_ms: 20,
            // 0.1: 6 degrees.
            vertical_leak_share: 0.1,
            // 2.4 g: hands stay near 2 g; a haversine of 8 km/h in 150 ms peaks at 3.0 g.
            handling_peak_mps2: 23.5,
            // Vehicles turn less than 0.5 rad/s before an impact and some 0.1 rad while a light one lasts.
            handling_turn_rad: 0.12,
            handling_tilt_rad: 0.5,
            critical_delta_v_kmh: 25.0,
            // 3.0: the largest threshold in steps of 0.1 at which all six labelled hard brakings of trip 17 of the Driver
            // Behavior Dataset are found. It labels accelerations that are weaker than its ordinary driving at times and
            // gives no value for turns; in towns 3 m/s^2 sideways is ordinary, so those two stay near what makers of
            // trackers ship. While the direction is not known the smallest of the three counts.
            harsh_braking_mps2: 3.0,
            harsh_acceleration_mps2: 3.5,
            harsh_cornering_mps2: 4.5,
            harsh_duration_ms: 300,
            harsh_release_share: 0.6,
            accel_range_mps2: 16.0 * 9.806_65,
        }
    }
}

/// Thresholds of the vision trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// The rule's figure at which an event begins, where no risk head judges or the rule does beside it, 0 to 1.
    pub risk_on: f32,
    /// Whether the rule judges beside a risk head too, with [`Self::risk_on`].
    pub rule_beside: bool,
    /// Probability of a collision ahead at which an event begins where a risk head judges, 0 to 1.
    pub ahead_on: f32,
    /// Risk below which it may end (hysteresis), at most `risk_on`.
    pub risk_off: f32,
    /// Probability of a collision having just begun, by the risk head, at which an event is one, 0 to 1.
    pub contact_on: f32,
    /// Detections below this score are not looked at.
    pub min_score: f32,
    /// Horizontal field of view of the camera, degrees: for rough distances.
    pub hfov_deg: f32,
}

impl Default for VisionConfig {
    fn default() -> Self {
        // `risk_on`: the highest of 37 ordinary simulated drives was 0.55 with the boxes of YOLOX-nano and 0.35 with those of the
        // detector that ships; two had an event with FastestDet's. Six ordinary real clips are smoke evidence (0.00 to 0.40).
        Self {
            risk_on: 0.6,
            rule_beside: false,
            risk_off: 0.3,
            ahead_on: 0.95,
            contact_on: 0.95,
            min_score: 0.3,
            hfov_deg: 70.0,
        }
    }
}

/// What the rings hold and how large they are.
#[derive(Clone, Debug, PartialEq)]
pub struct RingConfig {
    /// Samples kept before an event.
    pub sample_pre_roll: Span,
    /// Video kept before an event.
    pub video_pre_roll: Span,
    /// Samples and video kept after an event.
    pub post_roll: Span,
    /// Room for encoded frames, bytes.
    pub video_bytes: usize,
    /// Room for frames, count.
    pub video_frames: usize,
    /// Room for IMU samples, count.
    pub imu_samples: usize,
    /// Room for CAN frames, count.
    pub can_frames: usize,
    /// Room for GNSS fixes, count.
    pub gnss_fixes: usize,
}

/// What one CAN frame takes in its ring: its payload on average (a classic frame's 8 bytes; FD frames take more, and
/// the ring then holds fewer) and its entry in the index.
pub const CAN_RECORD_BYTES: usize = CAN_PAYLOAD_BYTES + crate::agent::CAN_ENTRY_BYTES;
/// Payload for one CAN frame in the ring's arena, bytes.
pub const CAN_PAYLOAD_BYTES: usize = 8;

/// Rates that the rings are sized for: the highest, not the usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RingRates {
    /// Encoded video, Mbit/s.
    pub video_mbit_s: f32,
    /// Frames a second.
    pub fps: u32,
    /// IMU samples a second.
    pub imu_hz: u32,
    /// CAN frames a second over all buses.
    pub can_hz: u32,
    /// GNSS fixes a second.
    pub gnss_hz: u32,
}

impl RingConfig {
    /// Sizes for the given rolls and rates. The video ring begins at a key frame, so it holds up to `key_frame_max`
    /// more. An event that further impacts prolong beyond the post-roll pushes its oldest pre-roll out when the
    /// sources run at these rates; that is counted.
    #[must_use]
    pub fn sized(
        sample_pre_roll: Span,
        video_pre_roll: Span,
        post_roll: Span,
        key_frame_max: Span,
        rates: &RingRates,
    ) -> Self {
        let samples_s = (sample_pre_roll.as_s() + post_roll.as_s()).ceil() as u64;
        let video_s = (video_pre_roll.as_s() + post_roll.as_s() + key_frame_max.as_s()).ceil();
        let count = |seconds: f64, hz: u32| (seconds * f64::from(hz)) as usize;
        Self {
            sample_pre_roll,
            video_pre_roll,
            post_roll,
            video_bytes: (video_s * f64::from(rates.video_mbit_s) * 125_000.0) as usize,
            video_frames: count(video_s, rates.fps),
            imu_samples: room_of_own_clock(rates.imu_hz, samples_s) as usize,
            can_frames: room(rates.can_hz, samples_s) as usize,
            gnss_fixes: room(rates.gnss_hz, samples_s) as usize,
        }
    }

    /// How long samples must stay.
    #[must_use]
    pub fn sample_keep(&self) -> Span {
        Span(self.sample_pre_roll.0 + self.post_roll.0)
    }

    /// How long video must stay.
    #[must_use]
    pub fn video_keep(&self) -> Span {
        Span(self.video_pre_roll.0 + self.post_roll.0)
    }
}

/// Seconds of records that a ring holds beyond what an event is promised: an event lasts a little longer than from its first word to
/// the post-roll (the risk head speaks before the contact, a second impact follows), and its oldest records are wanted until they have
/// been taken out.
pub const MORE_S: u64 = 2;

/// Records that a ring has room for, of a source with `hz` of them a second, over `seconds`: both ends belong to the time, and
/// [`MORE_S`] stay beyond it.
#[must_use]
pub const fn room(hz: u32, seconds: u64) -> u64 {
    let hz = hz as u64;
    hz.saturating_mul(seconds.saturating_add(MORE_S)).saturating_add(1)
}

/// The same of a motion sensor, which counts time by a clock of its own that may run fast by 2 %.
#[must_use]
pub const fn room_of_own_clock(hz: u32, seconds: u64) -> u64 {
    let records = room(hz, seconds);
    records.saturating_add(records / 50)
}

impl Default for RingConfig {
    fn default() -> Self {
        let rates = RingRates { video_mbit_s: 8.0, fps: 60, imu_hz: 500, can_hz: 20_000, gnss_hz: 10 };
        Self::sized(Span::from_s(20), Span::from_s(10), Span::from_s(5), Span::from_s(2), &rates)
    }
}

/// A rule that makes an event of a configured vehicle signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalRule {
    /// Index of the signal ([`crate::samples::VehicleSignal::Custom`]).
    pub index: u8,
    /// Threshold in the signal's unit.
    pub threshold: f32,
    /// Fires above the threshold if true, below it if false.
    pub above: bool,
    /// Severity of the event.
    pub severity: Severity,
}

/// How triggers become events.
#[derive(Clone, Debug, PartialEq)]
pub struct FusionConfig {
    /// After an event ends, triggers that are not impacts make no new event for this long.
    pub cool_down: Span,
    /// An impact within this time of the last one joins its event (49 CFR 563: multi-event gap of at most 5.0 s).
    pub join_window: Span,
    /// Whether harsh manoeuvres make events.
    pub harsh_events: bool,
    /// Configured signals that make events.
    pub signals: heapless::Vec<SignalRule, MAX_CUSTOM_SIGNALS>,
}

impl Default for FusionConfig {
    fn default() -> Self {
        Self {
            cool_down: Span::from_s(10),
            join_window: Span::from_s(5),
            harsh_events: true,
            signals: heapless::Vec::new(),
        }
    }
}

/// Which events are put to the student.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskStudent {
    /// Impacts only.
    Collisions,
    /// Impacts and near collisions.
    NearCollisions,
    /// Every event.
    All,
}

impl AskStudent {
    /// Whether an event of this kind and severity is one of them.
    #[must_use]
    pub fn includes(self, kind: EventKind, severity: Severity) -> bool {
        match self {
            Self::Collisions => kind == EventKind::Collision,
            Self::NearCollisions => severity >= Severity::Moderate,
            Self::All => true,
        }
    }
}

/// Everything the core is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name of the unit.
    pub unit: UnitId,
    /// Which start of the agent, from the store.
    pub boot: u32,
    /// Telemetry thresholds.
    pub telemetry: TelemetryConfig,
    /// Vision thresholds.
    pub vision: VisionConfig,
    /// Rings.
    pub rings: RingConfig,
    /// Fusion.
    pub fusion: FusionConfig,
    /// Which events are put to the student.
    pub ask: AskStudent,
    /// The report goes out this long after the event closed, whatever is still missing.
    pub report_deadline: Span,
    /// Health goes out this often.
    pub health_interval: Span,
    /// Circumstances that hold for all messages.
    pub flags: Flags,
    /// Hash of the effective configuration.
    pub config: Hash8,
    /// Hash of the trigger model, if one is installed.
    pub trigger_model: Option<Hash8>,
}
