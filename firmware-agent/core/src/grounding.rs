//! Grounding: claims of one source held against another that could know. A verdict never changes the event; it tells
//! the reader of the report what to read with care.

use agent_wire::limits::GROUNDING_ITEMS;
use agent_wire::{EventKind, Grounding, GroundingCheck, StudentOutcome, Verdict};

use crate::event::Event;
use crate::fusion::KMH_PER_MPS;
use crate::history::History;
use crate::telemetry::Impact;
use crate::time::{MonoTime, Span};

/// Every check that the event allows.
#[must_use]
pub fn of(event: &Event, history: &History) -> heapless::Vec<Grounding, GROUNDING_ITEMS> {
    let mut out = heapless::Vec::new();
    let mut add = |check, verdict| {
        // Four checks, six places.
        let _ = out.push(Grounding { check, verdict });
    };
    if let Some(impact) = event.strongest() {
        add(GroundingCheck::DeltaVVersusSpeed, delta_v_versus_speed(impact, history));
        add(GroundingCheck::ImpactVersusVision, impact_versus_vision(event));
    }
    if let Some(StudentOutcome::Answered(a)) = &event.student {
        let says = a.recognition_e4 >= 5000;
        let felt = event.kind == EventKind::Collision;
        // A collision between others is seen and not felt: only "none" against a felt one is a contradiction.
        let verdict = match (says, felt) {
            (true, true) | (false, false) => Verdict::Agrees,
            (false, true) => Verdict::Contradicts,
            (true, false) => Verdict::Unknown,
        };
        add(GroundingCheck::CollisionVersusDeltaV, verdict);
        let interval = match a.crash {
            Some(i) if i.from_ms <= 500 && i.to_ms >= -500 => Verdict::Agrees,
            Some(_) => Verdict::Contradicts,
            None => Verdict::Unknown,
        };
        add(GroundingCheck::IntervalVersusTimeZero, interval);
    }
    out
}

/// Longitudinal delta-V against the loss of bus speed from just before time zero to 0.5 s after. Wheels may lock
/// or lift, so the bounds are wide: 8 km/h or 40 %.
fn delta_v_versus_speed(impact: &Impact, history: &History) -> Verdict {
    let row = |t: MonoTime| history.row_at(t).and_then(|r| r.speed_mps).filter(|(_, bus)| *bus);
    let before = row(impact.t_zero);
    let after = row(impact.t_zero + Span::from_ms(500));
    let (Some((before, _)), Some((after, _)), true) = (before, after, impact.axes_known) else {
        return Verdict::Unknown;
    };
    let bus = (after - before) * KMH_PER_MPS;
    let imu = impact.delta_v_mps[0] * KMH_PER_MPS;
    // A clipped delta-V is a lower bound of the magnitude.
    let beyond = impact.clipped && bus.abs() > imu.abs() && bus.signum() == imu.signum();
    let near = (bus - imu).abs() <= f32::max(8.0, 0.4 * imu.abs());
    if near || beyond { Verdict::Agrees } else { Verdict::Contradicts }
}

/// The camera sees forward: it can confirm or deny only an impact from the front.
fn impact_versus_vision(event: &Event) -> Verdict {
    let frontal = event.strongest().is_some_and(|i| i.axes_known && i.delta_v_mps[0] < -i.delta_v_mps[1].abs());
    match event.max_risk {
        Some(risk) if risk >= 0.5 => Verdict::Agrees,
        Some(_) if frontal => Verdict::Contradicts,
        _ => Verdict::Unknown,
    }
}
