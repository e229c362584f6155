//! Judges a run: what happened, why, and whether it is what the scenario is for.
//!
//! The rules, once: a *collision* is a contact with a closing speed of at least 0.8 m/s (kerbs: 1 m/s). A *near
//! collision* is a run without contact in which two rectangles came within 1 s of touching at unchanged speeds, or
//! within 1.7 s while the driver braked with 4.5 m/s^2 or more, or passed within 0.8 m at 3 m/s or more; with a kerb, one
//! in which a wheel came within 1 s of it and as near as 0.5 m. *Normal* is a
//! run that stays above 2 s and 1 m; what lies between is no clear case, and is drawn anew.

use super::cast::{two_wheeled, walks};
use super::engine::{Contact, Party, Trace};
use super::scenario::{EgoAct, Expect, Role};
use super::stage::Stage;
use super::state::ActorKind;
use crate::maths::PI;

/// Contacts below this closing speed are no collisions, m/s.
const TOUCH_MPS: f64 = 0.8;
const KERB_MPS: f64 = 1.0;
/// A wheel nearer than this to a kerb that it nears fast, metres: a near collision.
const KERB_NEAR_M: f64 = 0.5;

/// Others that collide farther off than this are too small to be told, metres.
const SEEN_M: f64 = 40.0;

/// What a run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Index of the contact that is the collision.
    pub(crate) contact: Option<usize>,
    pub(crate) near: bool,
}

/// The verdict if the run ended as the scenario is for.
pub(crate) fn judge(expect: Expect, stage: &Stage, trace: &Trace) -> Option<Verdict> {
    if trace.spoiled {
        return None;
    }
    let first = trace.contacts.iter().position(is_collision);
    let with_ego = |c: &Contact| c.parties.contains(&Party::Ego);
    let closest = trace.closest;
    match expect {
        Expect::Collision => {
            let contact = first?;
            let hit = trace.contacts.get(contact)?;
            let partner = partner(hit);
            let own = partner.is_none_or(|i| stage.facts.cast.contains(&i));
            let soft = partner.and_then(|i| stage.movers.get(i)).is_some_and(|m| walks(m.kind) || two_wheeled(m.kind));
            let least = if partner.is_none() || soft { 2.0 } else { 3.2 };
            (with_ego(hit) && own && hit.closing >= least).then_some(Verdict { contact: Some(contact), near: false })
        }
        Expect::CollisionOfOthers => {
            let contact = first?;
            let hit = trace.contacts.get(contact)?;
            let seen = hit.parties.iter().all(|p| {
                matches!(p, Party::Mover(i) if in_view(stage, trace, *i, hit.ms) && distance(trace, *i, hit.ms) < SEEN_M)
            });
            let calm = !trace.contacts.iter().any(with_ego);
            (seen && calm && hit.closing >= 2.5).then_some(Verdict { contact: Some(contact), near: false })
        }
        Expect::NearCollision => {
            let braked = trace.hardest >= 4.5;
            let kerb = stage.facts.act == EgoAct::DriftBack;
            let near = if kerb {
                closest.ttc <= 1.0 && closest.kerb_gap <= KERB_NEAR_M
            } else {
                closest.ttc <= 1.0 || (closest.ttc <= 1.7 && braked) || closest.gap <= 0.8
            };
            // It must be the scenario's own danger, and soon after it showed.
            let own = match closest.who {
                Some(Party::Mover(i)) => stage.facts.cast.contains(&i),
                Some(Party::Kerb) => kerb,
                Some(Party::Ego) | None => false,
            };
            let since = closest.ttc_at - stage.facts.hazard_at.unwrap_or(closest.ttc_at);
            let near = near && own && (-0.5..8.0).contains(&since);
            (trace.contacts.is_empty() && near && trace.ego.len() == stage.length_ms)
                .then_some(Verdict { contact: None, near: true })
        }
        Expect::Normal => {
            let calm = closest.ttc >= 2.0 && closest.gap >= 1.0;
            let smooth = trace.hardest < 4.3 || stage.facts.act == EgoAct::EmergencyStop;
            (first.is_none() && calm && smooth).then_some(Verdict { contact: None, near: false })
        }
    }
}

fn is_collision(contact: &Contact) -> bool {
    contact.closing >= if contact.parties.contains(&Party::Kerb) { KERB_MPS } else { TOUCH_MPS }
}

/// The mover that the ego vehicle met.
pub(crate) fn partner(contact: &Contact) -> Option<usize> {
    contact.parties.iter().find_map(|p| if let Party::Mover(i) = p { Some(*i) } else { None })
}

/// Whether a mover is before the camera at a time: within its angle of view, and 90 m, less in fog.
pub(crate) fn in_view(stage: &Stage, trace: &Trace, mover: usize, ms: usize) -> bool {
    let step = ms / crate::limits::TRACE_MS;
    let actor = trace.actors.get(step * trace.actors_per_step + mover);
    let (Some(actor), Some(ego)) = (actor, trace.ego.get(ms.min(trace.ego.len().saturating_sub(1)))) else {
        return false;
    };
    let fog = f64::from(stage.weather.fog);
    let far = 90.0 - 60.0 * fog;
    let d = [actor.body.x - ego.x, actor.body.y - ego.y];
    let [ahead, left] = super::sensors::to_vehicle(ego.heading, d);
    ahead > 1.0 && ahead < far && crate::maths::atan2(left, ahead).abs() < stage.half_view
}

/// From the ego vehicle to a mover, metres.
fn distance(trace: &Trace, mover: usize, ms: usize) -> f64 {
    let actor = trace.actors.get(ms / crate::limits::TRACE_MS * trace.actors_per_step + mover);
    let (Some(actor), Some(ego)) = (actor, trace.ego.get(ms)) else { return f64::INFINITY };
    let d = [actor.body.x - ego.x, actor.body.y - ego.y];
    (d[0] * d[0] + d[1] * d[1]).sqrt()
}

const fn large(kind: ActorKind) -> bool {
    matches!(kind, ActorKind::Truck | ActorKind::Bus)
}

/// Code of what happened.
pub(crate) fn description(stage: &Stage, trace: &Trace, verdict: Verdict) -> &'static str {
    let Some(contact) = verdict.contact.and_then(|i| trace.contacts.get(i)) else { return "none" };
    if !contact.parties.contains(&Party::Ego) {
        return others(stage, contact);
    }
    let Some(mover) = partner(contact).and_then(|i| stage.movers.get(i)) else { return "ego_kerb" };
    match mover.kind {
        ActorKind::Pedestrian | ActorKind::Child => return "ego_pedestrian",
        ActorKind::Animal => return "ego_animal",
        ActorKind::Cyclist => return "ego_cyclist",
        ActorKind::Barrier | ActorKind::Cone => return "ego_road_block",
        ActorKind::Debris => return "ego_object",
        _ => {}
    }
    let role = role_of(stage, contact);
    match role {
        Some(Role::Follower) => "struck_rear",
        // Pushed from the side, the ego vehicle is the one that was run into.
        Some(Role::Cross | Role::TurnAcross) if contact.from.abs() > PI / 4.0 => "struck_side",
        Some(Role::Cross) if mover.kind == ActorKind::Motorbike => "ego_cross_motorbike",
        Some(Role::Cross) if large(mover.kind) => "ego_cross_large",
        Some(Role::Cross) => "ego_cross_car",
        Some(Role::TurnAcross) => "ego_turning",
        Some(Role::PullOut) => "ego_pull_out",
        Some(Role::CutIn) => "ego_cut_in",
        Some(Role::Parked) => "ego_parked",
        Some(Role::Oncoming) => "ego_head_on",
        Some(Role::Falls) => "ego_fallen",
        _ if mover.kind == ActorKind::Motorbike => "ego_rear_motorbike",
        _ if large(mover.kind) => "ego_rear_large",
        _ => "ego_rear_car",
    }
}

fn role_of(stage: &Stage, contact: &Contact) -> Option<Role> {
    let index = partner(contact)?;
    let place = stage.facts.cast.iter().position(|i| *i == index)?;
    stage.facts.roles.get(place).copied()
}

fn others(stage: &Stage, contact: &Contact) -> &'static str {
    let kinds = contact.parties.map(|p| match p {
        Party::Mover(i) => stage.movers.get(i).map_or(ActorKind::Car, |m| m.kind),
        _ => ActorKind::Car,
    });
    let any = |f: fn(ActorKind) -> bool| kinds.into_iter().any(f);
    if any(walks) {
        "others_pedestrian"
    } else if any(|k| k == ActorKind::Cyclist) {
        "others_cyclist"
    } else if any(|k| k == ActorKind::Motorbike) {
        "others_motorbike"
    } else if stage.facts.role == Some(Role::PairThrough) {
        "others_cross"
    } else if kinds.first().copied().is_some_and(large) {
        "others_rear_large"
    } else {
        "others_rear"
    }
}

/// Code of why it happened, or, of a near collision, of what brought it about.
pub(crate) fn cause(stage: &Stage, trace: &Trace, verdict: Verdict) -> &'static str {
    let facts = &stage.facts;
    let contact = verdict.contact.and_then(|i| trace.contacts.get(i));
    let contact_s = contact.map(|c| c.ms as f64 * 1e-3);
    // Long on the brakes and still too fast: the road.
    let slid = match (trace.answered, contact_s) {
        (Some(answer), Some(contact)) => contact - answer > 0.9 && stage.weather.wet > 0.4,
        _ => false,
    };
    let dim = stage.weather.night || stage.weather.fog > 0.3;
    let role = contact.and_then(|c| role_of(stage, c)).or(facts.role);
    let kind = facts.kinds.first().copied().unwrap_or(ActorKind::Car);
    match role {
        None if matches!(facts.act, EgoAct::Drift | EgoAct::DriftBack) => "off_lane",
        None | Some(Role::Yields | Role::Waits) => "none",
        Some(Role::LeadBrakes) if facts.headway_s < 0.95 => "too_close",
        Some(Role::LeadBrakes | Role::LeadStands) if slid => "wet_road",
        Some(Role::LeadBrakes) => "late_brake",
        Some(Role::LeadStands | Role::Obstacle) if dim => "poor_sight",
        Some(Role::LeadStands) => "late_standing",
        Some(Role::Obstacle) => "late_obstacle",
        Some(Role::Parked) => "no_room",
        Some(Role::CutIn) => "cut_in",
        Some(Role::PullOut) => "pull_out",
        Some(Role::Cross) if facts.act == EgoAct::RunLight => "ego_light",
        Some(Role::Cross | Role::PairThrough | Role::PairCross) if facts.runs_light => "ran_light",
        Some(Role::PairThrough | Role::PairWalker) if facts.kinds.iter().any(|k| walks(*k)) => "stepped_out",
        Some(Role::PairThrough | Role::PairWalker) if facts.kinds.contains(&ActorKind::Cyclist) => "rode_out",
        Some(Role::Cross | Role::PairThrough | Role::PairCross | Role::PairWalker) => "no_way",
        Some(Role::TurnAcross) => "turned_across",
        Some(Role::Oncoming) => "left_its_lane",
        Some(Role::StepOut) => match kind {
            ActorKind::Child => "ran_out",
            ActorKind::Animal => "animal",
            ActorKind::Cyclist => "rode_out",
            _ => "stepped_out",
        },
        Some(Role::SwingOut) => "swung_out",
        Some(Role::Falls) => "fell",
        Some(Role::Follower) => "follower_late",
        Some(Role::PairFront | Role::PairBack) => "others_late",
    }
}
