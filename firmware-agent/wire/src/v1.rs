//! The report as version 1 of the envelope wrote it: read for as long as units with it may be on the road, never written.
//! Status and health are those of version 2 (`v2.rs`), every other message is as it is now.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::ids::{EventId, Hash8};
use crate::limits::{CAUSE_BYTES, DESCRIPTION_BYTES, GROUNDING_ITEMS, PREVENTION_BYTES};
use crate::message::{EventKind, Flags, Losses, Severity};
use crate::report::{
    Answer, EdrSummary, EvidenceFile, Grounding, Interval, Report, SeverityEstimate, StudentAnswers, StudentOutcome,
    StudentRefusal,
};
use crate::units::EventTime;

#[derive(Serialize, Deserialize)]
struct StudentAnswersV1 {
    model: Hash8,
    codebook: u16,
    ladder_step: u8,
    label_ms: u32,
    total_ms: u32,
    severity: SeverityEstimate,
    recognition_e4: u16,
    description: Answer<DESCRIPTION_BYTES>,
    cause: Answer<CAUSE_BYTES>,
    prevention: Answer<PREVENTION_BYTES>,
    crash: Option<Interval>,
    pre_crash: Option<Interval>,
}

#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "no allocator in this crate to box with")]
enum StudentOutcomeV1 {
    Answered(StudentAnswersV1),
    Refused(StudentRefusal),
}

/// See [`Report`].
#[derive(Serialize, Deserialize)]
pub(crate) struct ReportV1 {
    event: EventId,
    kind: EventKind,
    severity: Severity,
    time: EventTime,
    student: StudentOutcomeV1,
    edr: Option<EdrSummary>,
    grounding: Vec<Grounding, GROUNDING_ITEMS>,
    evidence_file: Option<EvidenceFile>,
    flags: Flags,
    losses: Losses,
    config: Hash8,
    trigger_model: Option<Hash8>,
}

impl From<StudentAnswersV1> for StudentAnswers {
    /// Version 1 did not say whether the label was calibrated: it is not taken for it.
    fn from(v1: StudentAnswersV1) -> Self {
        Self {
            model: v1.model,
            codebook: v1.codebook,
            ladder_step: v1.ladder_step,
            label_ms: v1.label_ms,
            total_ms: v1.total_ms,
            severity: Some(v1.severity),
            recognition_e4: v1.recognition_e4,
            calibrated: false,
            frames: 0,
            telemetry: false,
            description: v1.description,
            cause: v1.cause,
            prevention: v1.prevention,
            crash: v1.crash,
            pre_crash: v1.pre_crash,
        }
    }
}

impl From<ReportV1> for Report {
    fn from(v1: ReportV1) -> Self {
        Self {
            event: v1.event,
            kind: v1.kind,
            severity: v1.severity,
            time: v1.time,
            student: match v1.student {
                StudentOutcomeV1::Answered(answers) => StudentOutcome::Answered(answers.into()),
                StudentOutcomeV1::Refused(why) => StudentOutcome::Refused(why),
            },
            student_falls: Vec::new(),
            edr: v1.edr,
            grounding: v1.grounding,
            evidence_file: v1.evidence_file,
            flags: v1.flags,
            losses: v1.losses,
            config: v1.config,
            trigger_model: v1.trigger_model,
        }
    }
}
