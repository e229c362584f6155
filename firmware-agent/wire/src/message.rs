//! The five messages and what they are made of; the report's own parts stand in [`crate::report`].

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::ids::{EventId, Hash8, UnitId};
use crate::limits::{ALERT_BYTES, EVIDENCE_ITEMS, REPORT_BYTES, SMALL_MESSAGE_BYTES, VERSION_BYTES};
use crate::report::Report;
use crate::sensors::Sensors;
use crate::units::{DeltaV, EventTime, PeakAcceleration, Position, WallQuality};

/// What kind of event it is. `Collision` may replace any weaker kind when an alert is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Harsh braking: longitudinal deceleration above the vehicle class's threshold.
    HarshBraking,
    /// Harsh acceleration.
    HarshAcceleration,
    /// Harsh cornering.
    HarshCornering,
    /// A harsh manoeuvre whose direction is not known because the unit's mounting angle is not yet known.
    HarshManoeuvre,
    /// The camera saw a collision coming, or one between others; no impact was felt.
    NearCollision,
    /// A configured vehicle signal crossed its threshold (other than the airbag).
    VehicleSignal,
    /// An impact of this vehicle: delta-V, or the airbag bit.
    Collision,
}

/// How urgent an event is, least first. An alert is only ever raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Harsh driving: for coaching.
    Minor,
    /// A near collision, or a collision seen between others.
    Moderate,
    /// An impact at or above the trigger threshold (8 km/h within 150 ms by default).
    Severe,
    /// An impact at or above the lock threshold (25 km/h by default), or a deployed airbag.
    Critical,
}

/// Which measurement spoke for the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceSource {
    /// Delta-V within the trigger window, km/h.
    DeltaV,
    /// Peak specific force minus gravity, m/s^2.
    PeakAcceleration,
    /// Longitudinal acceleration, low-passed, m/s^2.
    Longitudinal,
    /// Lateral acceleration, low-passed, m/s^2.
    Lateral,
    /// Horizontal acceleration when the vehicle's axes are not known, low-passed, m/s^2.
    Horizontal,
    /// Loss of wheel or indicated speed, m/s.
    SpeedDrop,
    /// The airbag bit of the vehicle bus.
    Airbag,
    /// A configured vehicle signal, by its index in the configuration, in the signal's own unit.
    Signal(u8),
    /// Risk from the vision trigger, 0 to 1.
    VisionRisk,
    /// Time to collision from looming, seconds.
    TimeToCollision,
}

/// One reason why the event was made: a value, the threshold it crossed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which measurement.
    pub source: EvidenceSource,
    /// Its value, 1e-3 of the unit that the source names.
    pub value_milli: i32,
    /// The threshold it was held against, same unit.
    pub threshold_milli: i32,
    /// When, milliseconds from time zero of the event.
    pub at_ms: i16,
}

/// What was lost since the last message that carried losses: never silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Camera frames that never reached the ring.
    pub frames: u32,
    /// IMU samples.
    pub imu: u32,
    /// CAN frames.
    pub can: u32,
    /// GNSS fixes.
    pub gnss: u32,
    /// Frames that the trigger model did not see (overload).
    pub unseen_frames: u32,
}

impl Losses {
    /// True when nothing was lost.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Circumstances that change how a message must be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// The input was simulated or synthesised, wholly or in part.
    pub simulated: bool,
    /// The input was a logged drive.
    pub replayed: bool,
    /// A second impact joined this event.
    pub multi_event: bool,
    /// No trigger model was installed: telemetry alone decided.
    pub no_vision: bool,
    /// No telemetry reached the agent: vision alone decided.
    pub no_telemetry: bool,
}

/// First message of an event: at most 256 bytes, sent at once, raised at most a few times, never doubled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Identity of the event.
    pub event: EventId,
    /// 0 for the first alert, then one more for each raise.
    pub revision: u8,
    /// What kind of event.
    pub kind: EventKind,
    /// How urgent.
    pub severity: Severity,
    /// Time zero.
    pub time: EventTime,
    /// Last position, if there ever was a fix.
    pub position: Option<Position>,
    /// Largest acceleration so far, if an IMU is there.
    pub peak: Option<PeakAcceleration>,
    /// Delta-V so far, if an IMU is there.
    pub delta_v: Option<DeltaV>,
    /// Vehicle speed at time zero, 0.1 km/h.
    pub speed_dkmh: Option<u16>,
    /// The strongest reasons, strongest first.
    pub evidence: Vec<Evidence, EVIDENCE_ITEMS>,
    /// How sure the estimate of the unit's mounting angle is, percent.
    pub alignment_pct: u8,
    /// Circumstances.
    pub flags: Flags,
    /// Losses since the last alert or report.
    pub losses: Losses,
    /// Configuration in force.
    pub config: Hash8,
    /// Trigger model in force, if any.
    pub trigger_model: Option<Hash8>,
}

/// Whether the unit is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// Connected.
    Online,
    /// Said goodbye.
    Stopped,
    /// The broker's last will: the connection was lost.
    Lost,
}

/// Retained message on the status topic, and its last will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who.
    pub unit: UnitId,
    /// Which start of the agent.
    pub boot: u32,
    /// Whether it is there.
    pub state: UnitState,
    /// Software version.
    pub version: String<VERSION_BYTES>,
    /// Configuration in force.
    pub config: Hash8,
    /// Which broker this came by: its place in the unit's order of preference, 0 the preferred one.
    #[serde(default)]
    pub broker: u8,
}

/// What the unit's disk does and does not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// The outbox cannot be written: messages are held in memory and sent from there; a power cut would lose them.
    pub outbox_failing: bool,
    /// How many messages are in memory alone.
    pub not_durable: u32,
    /// The last evidence file could not be made safe.
    pub evidence_failing: bool,
    /// Events since the start whose evidence could not be made safe.
    pub evidence_lost: u32,
    /// Lesser evidence files that went since the start to make room.
    pub evidence_rotated: u32,
}

/// Periodic state of the unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Who.
    pub unit: UnitId,
    /// Which start of the agent.
    pub boot: u32,
    /// Seconds since that start.
    pub uptime_s: u32,
    /// Quality of the wall clock now.
    pub clock: WallQuality,
    /// How sure the mounting angle is, percent.
    pub alignment_pct: u8,
    /// Video held in the ring, milliseconds.
    pub ring_video_ms: u32,
    /// Messages that wait in the outbox.
    pub outbox_waiting: u32,
    /// Messages given up by the written policy since the start.
    pub outbox_expired: u32,
    /// Events since the start.
    pub events: u32,
    /// Shocks that were judged to be handling, potholes or bumps and made no event.
    pub disturbances: u32,
    /// Everything lost since the start.
    pub losses: Losses,
    /// Circumstances.
    pub flags: Flags,
    /// Which broker is in use: its place in the unit's order of preference, 0 the preferred one.
    #[serde(default)]
    pub broker: u8,
    /// How its disk is.
    #[serde(default)]
    pub storage: Storage,
    /// How its sensors are.
    #[serde(default)]
    pub sensors: Sensors,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandAction {
    /// Publish health now.
    SendHealth,
    /// Never rotate this event's evidence away.
    KeepEvidence(EventId),
}

/// A command from the fleet to one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// For whom; any other unit refuses it.
    pub unit: UnitId,
    /// Grows with each command; an old one is refused.
    pub counter: u64,
    /// What to do.
    pub action: CommandAction,
}

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "no allocator in this crate to box the report with")]
pub enum Message {
    /// See [`Alert`].
    Alert(Alert),
    /// See [`Report`].
    Report(Report),
    /// See [`Status`].
    Status(Status),
    /// See [`Health`].
    Health(Health),
    /// See [`Command`].
    Command(Command),
}

/// The kind byte of the envelope and the last level of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageKind {
    /// [`Alert`]
    Alert = 1,
    /// [`Report`]
    Report = 2,
    /// [`Status`]
    Status = 3,
    /// [`Health`]
    Health = 4,
    /// [`Command`]
    Command = 5,
}

impl MessageKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Alert, Self::Report, Self::Status, Self::Health, Self::Command];

    /// Last level of the topic `fleet/<fleet>/<unit>/...`.
    #[must_use]
    pub const fn topic_level(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Report => "report",
            Self::Status => "status",
            Self::Health => "health",
            Self::Command => "command",
        }
    }

    /// Most bytes that a message of this kind takes on the wire, envelope included.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Alert => ALERT_BYTES,
            Self::Report => REPORT_BYTES,
            Self::Status | Self::Health | Self::Command => SMALL_MESSAGE_BYTES,
        }
    }
}

impl Message {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Alert(_) => MessageKind::Alert,
            Self::Report(_) => MessageKind::Report,
            Self::Status(_) => MessageKind::Status,
            Self::Health(_) => MessageKind::Health,
            Self::Command(_) => MessageKind::Command,
        }
    }

    /// The event it speaks of, if it is an alert or a report.
    #[must_use]
    pub const fn event(&self) -> Option<&EventId> {
        match self {
            Self::Alert(a) => Some(&a.event),
            Self::Report(r) => Some(&r.event),
            _ => None,
        }
    }
}
