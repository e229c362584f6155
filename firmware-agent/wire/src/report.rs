//! The report: what the student said, what the event data say, and whether the two agree.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::ids::{EventId, Hash8};
use crate::limits::{CAUSE_BYTES, DESCRIPTION_BYTES, FILE_NAME_BYTES, GROUNDING_ITEMS, LADDER_FALLS, PREVENTION_BYTES};
use crate::message::{EventKind, Flags, Losses, Severity};
use crate::units::{DeltaV, EventTime, PeakAcceleration, Quality};

/// A text answer of the student: a code of the versioned codebook of known answers, or the text itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<const N: usize> {
    /// Known answer: its index in the codebook named by [`StudentAnswers::codebook`], and its probability, 1e-4.
    Known {
        /// Index in the codebook.
        code: u16,
        /// Probability, 1e-4.
        probability_e4: u16,
    },
    /// Any other answer, in full.
    Text {
        /// The text.
        text: String<N>,
        /// Probability, 1e-4.
        probability_e4: u16,
    },
    /// The student gave none that could be used.
    Absent,
}

/// An interval in milliseconds from time zero of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Begin, milliseconds from time zero.
    pub from_ms: i32,
    /// End, milliseconds from time zero.
    pub to_ms: i32,
    /// Probability of this interval on the student's time grid, 1e-4.
    pub probability_e4: u16,
}

/// The three severities of the literature (Trinci et al.): probabilities sum to 1e4 but for rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeverityEstimate {
    /// A collision happened, 1e-4.
    pub collision_e4: u16,
    /// A near-collision, 1e-4.
    pub near_collision_e4: u16,
    /// Neither, 1e-4.
    pub normal_e4: u16,
}

/// The student's six answers from one pass (CrashChat's six tasks).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudentAnswers {
    /// Model file in force.
    pub model: Hash8,
    /// Version of the codebook that the codes refer to.
    pub codebook: u16,
    /// Step of the ladder it ran on: 0 full, 1 smaller budget, 2 small model on the CPU.
    pub ladder_step: u8,
    /// Time from the moment the answer was asked for to the label, milliseconds: frames were encoded as they came before
    /// that. 0 in a replay, whose messages hold nothing that differs from run to run.
    pub label_ms: u32,
    /// Time from the same moment to the last answer, milliseconds; 0 in a replay.
    pub total_ms: u32,
    /// Severity, where the model was trained to tell it.
    pub severity: Option<SeverityEstimate>,
    /// Probability that a collision happens in the window, 1e-4 (crash recognition).
    pub recognition_e4: u16,
    /// Whether `recognition_e4` is calibrated. If not it is the model's own figure, and usually too sure.
    #[serde(default)]
    pub calibrated: bool,
    /// Frames that the answers rest on; 0 in messages of version 1, which did not say.
    #[serde(default)]
    pub frames: u8,
    /// Whether the model read telemetry beside the frames.
    #[serde(default)]
    pub telemetry: bool,
    /// Who hits whom.
    pub description: Answer<DESCRIPTION_BYTES>,
    /// The most likely cause.
    pub cause: Answer<CAUSE_BYTES>,
    /// What would have prevented it.
    pub prevention: Answer<PREVENTION_BYTES>,
    /// When it happens.
    pub crash: Option<Interval>,
    /// First visible sign, as an interval of no length.
    pub pre_crash: Option<Interval>,
}

/// Why there are no answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StudentRefusal {
    /// No student model is installed on this unit.
    NotInstalled,
    /// The deadline passed.
    Late,
    /// The unit was too hot or throttled.
    Hot,
    /// The worker failed on every step of the ladder.
    Failed,
    /// There was no video of the event.
    NoVideo,
    /// Events of this severity are not put to the student by configuration.
    NotAsked,
}

/// Why the student did not answer on a step of its ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LadderReason {
    /// No model or no worker program is installed for this step.
    NotInstalled,
    /// Memory was not enough.
    OutOfMemory,
    /// The worker process ended or was killed (the kernel kills for memory too; that cannot be told apart from outside).
    WorkerDied,
    /// The model file is damaged or of another form.
    CorruptModel,
    /// It did not answer in its time, or hung.
    Deadline,
    /// The unit was too hot.
    Hot,
    /// The worker could not be started or reached.
    Unreachable,
    /// What came over its socket was not the protocol.
    Protocol,
    /// More frames waited for the worker than the unit holds.
    Overload,
    /// The worker said that it failed.
    Failed,
}

/// One step of the ladder that gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LadderFall {
    /// The step: 0 full, 1 smaller budget, 2 small model on the CPU.
    pub step: u8,
    /// Why.
    pub reason: LadderReason,
}

/// What came of asking the student.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "no allocator in this crate to box with")]
pub enum StudentOutcome {
    /// It answered.
    Answered(StudentAnswers),
    /// It did not, and why.
    Refused(StudentRefusal),
}

/// Event data of the crash, Part 563-style (49 CFR Part 563 binds makers of light vehicles, not this unit).
/// The whole table stands in the evidence file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdrSummary {
    /// Delta-V at the end of the event.
    pub delta_v: DeltaV,
    /// Largest resultant delta-V, 0.1 km/h.
    pub max_delta_v_dkmh: u16,
    /// Time of the largest delta-V, 0.1 ms from time zero (resolution 2.5 ms in Part 563).
    pub max_delta_v_at_dms: u16,
    /// Largest acceleration.
    pub peak: PeakAcceleration,
    /// Speed 5 s before time zero, 0.1 km/h.
    pub speed_before_dkmh: Option<u16>,
    /// Speed at time zero, 0.1 km/h.
    pub speed_at_dkmh: Option<u16>,
    /// Where the speeds come from.
    pub speed_quality: Quality,
    /// Service brake on at time zero.
    pub brake_on: Option<bool>,
    /// How long the brake had been on at time zero, milliseconds.
    pub brake_before_ms: Option<u16>,
    /// Number of impacts in the event (Part 563: multi-event count, 1 to 2; here up to 255).
    pub impacts: u8,
    /// Gap between the first two impacts, 0.1 s.
    pub gap_ds: Option<u8>,
    /// Complete file recorded.
    pub complete: bool,
}

/// A claim that is held against measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroundingCheck {
    /// "A collision of this vehicle" against delta-V.
    CollisionVersusDeltaV,
    /// Alert's kind against what the camera tracks showed.
    ImpactVersusVision,
    /// Delta-V against the change of bus or GNSS speed.
    DeltaVVersusSpeed,
    /// The student's crash interval against time zero.
    IntervalVersusTimeZero,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both say the same.
    Agrees,
    /// They contradict each other: read both with care.
    Contradicts,
    /// One of them is not there.
    Unknown,
}

/// One check and its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounding {
    /// What was compared.
    pub check: GroundingCheck,
    /// What came of it.
    pub verdict: Verdict,
}

/// The evidence file of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// File name on the unit. Unchecked text to a receiver: to be shown, never to be opened as a path.
    pub name: String<FILE_NAME_BYTES>,
    /// Size, bytes.
    pub bytes: u64,
    /// First eight bytes of its SHA-256.
    pub sha256_8: Hash8,
}

/// Second message of an event: at most 1 KB; goes out even when the student does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Identity of the event: the alert's.
    pub event: EventId,
    /// Final kind.
    pub kind: EventKind,
    /// Final severity.
    pub severity: Severity,
    /// Time zero.
    pub time: EventTime,
    /// The student's answers, or why there are none.
    pub student: StudentOutcome,
    /// Steps of the student's ladder that gave no answer, in the order tried. Since version 2.
    #[serde(default)]
    pub student_falls: Vec<LadderFall, LADDER_FALLS>,
    /// Event data, if there was an impact or a harsh manoeuvre with an IMU.
    pub edr: Option<EdrSummary>,
    /// Claims held against measurements.
    pub grounding: Vec<Grounding, GROUNDING_ITEMS>,
    /// The evidence file; absent when it could not be written.
    pub evidence_file: Option<EvidenceFile>,
    /// Circumstances.
    pub flags: Flags,
    /// Losses since the alert.
    pub losses: Losses,
    /// Configuration in force.
    pub config: Hash8,
    /// Trigger model in force, if any.
    pub trigger_model: Option<Hash8>,
}
