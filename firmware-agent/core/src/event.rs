//! One event, from its first trigger to its report, as a state machine with named states.
//!
//! `Gathering` until the post-roll is over (each further impact extends it, up to a cap), then `Awaiting` the evidence
//! file and the student's answer until a deadline, then reported. While one event gathers, whatever fires joins it: it
//! may raise the alert, it never makes a second event of the same incident.

use agent_wire::limits::{EVIDENCE_ITEMS, LADDER_FALLS};
use agent_wire::{EventId, EventKind, Evidence, EvidenceFile, EvidenceSource, LadderFall, Severity, StudentOutcome};

use crate::edr::clamp_i16;
use crate::fusion::{Reason, Trigger};
use crate::limits::{MAX_EVENT, MAX_IMPACTS, MAX_REVISIONS, OBJECT_TABLE};
use crate::telemetry::Impact;
use crate::time::{MonoTime, Span};
use crate::vision::TrackedObject;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// Post-roll is being recorded until this time.
    Gathering {
        /// End of the post-roll.
        until: MonoTime,
    },
    /// The evidence file and the student's answer are awaited.
    Awaiting {
        /// The report goes out at this time, whatever is missing.
        deadline: MonoTime,
    },
}

/// What a trigger did to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// It only added to what is known.
    Noted,
    /// The alert must be sent again with a higher revision.
    Raised,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Identity.
    pub id: EventId,
    /// Where it stands.
    pub state: EventState,
    /// Kind now.
    pub kind: EventKind,
    /// Severity now.
    pub severity: Severity,
    /// Time zero now: the impact's once there is one.
    pub t_zero: MonoTime,
    /// Time of the first trigger: evidence reaches back from here.
    pub first_t: MonoTime,
    /// Revision of the last alert.
    pub revision: u8,
    /// Why, at most one reason per source.
    pub reasons: heapless::Vec<Reason, EVIDENCE_ITEMS>,
    /// Impacts, oldest first.
    pub impacts: heapless::Vec<Impact, MAX_IMPACTS>,
    /// Number of impacts, also those beyond the capacity.
    pub impact_count: u8,
    /// Highest vision risk seen while it gathered.
    pub max_risk: Option<f32>,
    /// The nearest objects at the first trigger or the last raise.
    pub objects: heapless::Vec<TrackedObject, OBJECT_TABLE>,
    /// All of the post-roll was recorded.
    pub complete: bool,
    /// Evidence was taken out of the rings up to this time.
    pub taken: MonoTime,
    /// The evidence file: not known yet, or known to be absent.
    pub evidence: Option<Option<EvidenceFile>>,
    /// The student's outcome, once known.
    pub student: Option<StudentOutcome>,
    /// Steps of its ladder that gave no answer.
    pub student_falls: heapless::Vec<LadderFall, LADDER_FALLS>,
}

impl Event {
    /// A new event of `trigger`; its post-roll lasts `gather` from now.
    #[must_use]
    pub fn open(id: EventId, trigger: &Trigger, now: MonoTime, gather: Span) -> Self {
        let mut event = Self {
            id,
            state: EventState::Gathering { until: now + gather },
            kind: trigger.kind,
            severity: trigger.severity,
            t_zero: trigger.t_zero,
            first_t: trigger.t_zero,
            revision: 0,
            reasons: heapless::Vec::new(),
            impacts: heapless::Vec::new(),
            impact_count: 0,
            max_risk: None,
            objects: heapless::Vec::new(),
            complete: true,
            taken: MonoTime::ZERO,
            evidence: None,
            student: None,
            student_falls: heapless::Vec::new(),
        };
        event.note(trigger);
        event
    }

    /// Takes a further trigger of the same incident.
    pub fn absorb(&mut self, trigger: &Trigger, now: MonoTime, gather: Span) -> Absorbed {
        let new_impact = trigger.opens && trigger.impact.is_some();
        self.note(trigger);
        if new_impact && let EventState::Gathering { until } = &mut self.state {
            *until = (*until).max(now + gather).min(self.first_t + MAX_EVENT);
        }
        let becomes_collision = trigger.kind == EventKind::Collision && self.kind != EventKind::Collision;
        if !(trigger.severity > self.severity || becomes_collision) || self.revision + 1 >= MAX_REVISIONS {
            return Absorbed::Noted;
        }
        if becomes_collision {
            self.t_zero = trigger.t_zero;
        }
        if self.kind != EventKind::Collision {
            self.kind = trigger.kind;
        }
        self.severity = self.severity.max(trigger.severity);
        self.revision += 1;
        Absorbed::Raised
    }

    fn note(&mut self, trigger: &Trigger) {
        self.first_t = self.first_t.min(trigger.t_zero);
        for reason in &trigger.reasons {
            self.note_reason(reason);
        }
        let Some(impact) = trigger.impact else { return };
        if let Some(known) = self.impacts.iter_mut().find(|i| i.t_zero == impact.t_zero) {
            *known = impact;
        } else if trigger.opens {
            // The airbag's bit may come before the delta-V: time zero is the impact's all the same.
            if self.impacts.is_empty() && self.kind == EventKind::Collision {
                self.t_zero = impact.t_zero;
            }
            self.impact_count = self.impact_count.saturating_add(1);
            // Full: the first impacts stay, later ones are only counted.
            let _ = self.impacts.push(impact);
        }
    }

    /// Keeps one reason per source, its strongest; a full list drops its weakest source.
    fn note_reason(&mut self, reason: &Reason) {
        if let Some(known) = self.reasons.iter_mut().find(|r| r.source == reason.source) {
            if strength(reason) > strength(known) {
                *known = *reason;
            }
        } else if self.reasons.push(*reason).is_err()
            && let Some(weakest) = self.reasons.iter_mut().min_by_key(|r| rank(r.source))
            && rank(weakest.source) < rank(reason.source)
        {
            *weakest = *reason;
        }
        self.reasons.sort_unstable_by_key(|r| core::cmp::Reverse(rank(r.source)));
    }

    /// The reasons, scaled for the wire, relative to time zero.
    #[must_use]
    pub fn evidence_items(&self) -> heapless::Vec<Evidence, EVIDENCE_ITEMS> {
        let milli = |v: f32| (f64::from(v) * 1000.0).round() as i32;
        self.reasons
            .iter()
            .map(|r| Evidence {
                source: r.source,
                value_milli: milli(r.value),
                threshold_milli: milli(r.threshold),
                at_ms: clamp_i16(r.t.ms_from(self.t_zero)),
            })
            .collect()
    }

    /// The strongest impact.
    #[must_use]
    pub fn strongest(&self) -> Option<&Impact> {
        self.impacts.iter().max_by(|a, b| a.max_delta_v_mps.total_cmp(&b.max_delta_v_mps))
    }

    /// True while the post-roll is recorded.
    #[must_use]
    pub const fn gathering(&self) -> bool {
        matches!(self.state, EventState::Gathering { .. })
    }

    /// True when nothing more is awaited.
    #[must_use]
    pub const fn answered(&self) -> bool {
        self.evidence.is_some() && self.student.is_some()
    }
}

/// A lower time to collision is stronger; otherwise more is.
fn strength(r: &Reason) -> f32 {
    if r.source == EvidenceSource::TimeToCollision { -r.value } else { r.value.abs() }
}

/// Which sources say most about a crash.
const fn rank(source: EvidenceSource) -> u8 {
    match source {
        EvidenceSource::Airbag => 9,
        EvidenceSource::DeltaV => 8,
        EvidenceSource::PeakAcceleration => 7,
        EvidenceSource::SpeedDrop => 6,
        EvidenceSource::VisionRisk => 5,
        EvidenceSource::TimeToCollision => 4,
        EvidenceSource::Signal(_) => 3,
        EvidenceSource::Longitudinal => 2,
        EvidenceSource::Lateral => 1,
        EvidenceSource::Horizontal => 0,
    }
}
