//! Places the actors of a scenario so that, if nobody answers, the danger comes at the event.

use super::geometry::{Path, Pose};
use super::layout::{CROSS_LANE_M, EGO_START_M};
use super::mover::{Follow, Go, Leader, Mover, Shift};
use super::scenario::{ActorSpec, Role, Side};
use super::stage::Setting;
use super::state::{ActorKind, RoadKind};
use crate::maths::PI;
use crate::rng::Rng;

/// Radius of the turn across, metres.
const TURN_RADIUS_M: f64 = 9.0;
/// A danger that stands in the way counts from this long before the contact, s.
const STANDING_SIGHT_S: f64 = 3.0;

/// Places one actor. `reaction` is the ego driver's, from when the danger shows.
pub(crate) fn place(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, reaction: f64) {
    let kind = spec.kind[(rng.next_u64() % spec.kind.len().max(1) as u64) as usize];
    let first = set.movers.len();
    let hazard = match spec.role {
        Role::LeadBrakes => lead_brakes(set, rng, spec, kind),
        Role::LeadStands | Role::Obstacle | Role::Parked => stands(set, rng, spec, kind),
        Role::CutIn => cut_in(set, rng, spec, kind),
        Role::PullOut => pull_out(set, rng, spec, kind),
        Role::Cross => cross(set, rng, spec, kind, None),
        Role::Yields => yields(set, rng, spec, kind),
        Role::Waits => waits(set, rng, spec, kind),
        Role::TurnAcross => turn_across(set, rng, spec, kind),
        Role::StepOut => step_out(set, rng, spec, kind, None),
        Role::SwingOut => swing_out(set, rng, spec, kind),
        Role::Falls => falls(set, rng, spec, kind),
        Role::Follower => follower(set, rng, spec, kind),
        Role::Oncoming => oncoming(set, rng, spec, kind),
        Role::PairFront => pair_front(set, rng, spec, kind),
        Role::PairBack => pair_back(set, rng, spec, kind),
        Role::PairThrough => pair_through(set, rng, spec, kind),
        Role::PairCross => cross(set, rng, spec, kind, set.pair),
        Role::PairWalker => step_out(set, rng, spec, kind, set.pair),
    };
    set.facts.kinds.push(kind);
    set.facts.cast.push(first);
    set.facts.runs_light |= spec.runs_light;
    if set.facts.headway_s == 0.0 {
        set.facts.headway_s = spec.headway_s.low;
    }
    let Some(hazard) = hazard else { return };
    if set.facts.hazard_at.is_none_or(|t| hazard < t) {
        set.facts.hazard_at = Some(hazard);
        set.ego.notice = hazard + reaction;
        let since = if matches!(spec.role, Role::LeadStands | Role::Obstacle | Role::Parked) { 9.0 } else { 0.3 };
        set.ego.blind = [hazard - since, hazard + reaction];
    }
}

/// The gap between bumpers that a headway makes, metres.
fn gap(headway_s: f64, v: f64) -> f64 {
    2.9 + headway_s * v
}

/// Adds a vehicle that drives ahead as fast as we mean to; it comes back as the last mover.
fn ahead(set: &mut Setting<'_>, rng: &mut Rng, kind: ActorKind, bumpers: f64, behind_s: f64) -> Option<usize> {
    let v = set.ego.speeds.at(0.0).0;
    let mover = set.add(rng, kind, 0, behind_s, 0.0)?;
    mover.s += bumpers + mover.build.size[0] / 2.0;
    mover.v = v;
    mover.with_plan = Some(1.0);
    mover.hot = true;
    Some(set.movers.len() - 1)
}

fn front(set: &Setting<'_>) -> f64 {
    EGO_START_M + set.ego_length / 2.0
}

fn end_of(mover: &Mover) -> f64 {
    mover.s + mover.build.size[0] / 2.0
}

fn lead_brakes(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let headway = spec.headway_s.draw(rng);
    let v0 = set.ego.speeds.at(0.0).0;
    let from = front(set);
    let lead = ahead(set, rng, kind, gap(headway, v0), from)?;
    let to = spec.speed_kmh.map_or(0.0, |r| r.draw(rng) / 3.6);
    let a = spec.brake_mps2.draw(rng);
    let event = set.event;
    set.movers.get_mut(lead)?.goes.push(Go { t: event, v: to, a });
    // What makes it brake, if it is only a little way ahead, is out of sight of us.
    set.ego.headway_s = headway * 0.77;
    set.facts.headway_s = headway;
    Some(event)
}

fn stands(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let default = match spec.role {
        Role::Parked => rng.between(-1.9, -1.45),
        Role::Obstacle => rng.between(-0.5, 0.5),
        _ => rng.between(-0.2, 0.2),
    };
    let left = spec.lateral_m.map_or(default, |r| r.draw(rng));
    let s = set.way + set.ego_length / 2.0;
    let brakes = spec.role == Role::LeadStands;
    let event = set.event;
    let mover = set.add(rng, kind, 0, s, left)?;
    mover.s += mover.build.size[0] / 2.0;
    mover.hot = true;
    if brakes {
        mover.goes.push(Go { t: 0.0, v: 0.0, a: 1.0 });
    }
    let place = end_of(mover);
    let parks = spec.role == Role::Parked;
    if brakes && rng.unit() < 0.7 {
        // The end of a queue.
        let mut s = place;
        for _ in 0..1 + rng.next_u64() % 3 {
            s += rng.between(1.5, 3.0);
            let aside = rng.between(-0.2, 0.2);
            let other = set.add(rng, ActorKind::Car, 0, s, aside)?;
            other.s += other.build.size[0] / 2.0;
            other.goes.push(Go { t: 0.0, v: 0.0, a: 1.0 });
            other.hot = true;
            s = end_of(other);
        }
    }
    if spec.role == Role::Obstacle && kind == ActorKind::Barrier {
        set.features.works = Some(s - 60.0);
        for k in 1..4 {
            let back = 6.0 * f64::from(k);
            set.add(rng, ActorKind::Cone, 0, s - back, -2.0 + 0.25 * f64::from(3 - k));
        }
    }
    set.clear.push([s - if parks { 14.0 } else { 4.0 }, s + 16.0]);
    Some(event - STANDING_SIGHT_S)
}

fn cut_in(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let from_left = match spec.side {
        Some(side) => side == Side::Left,
        None => rng.unit() < 0.5,
    };
    let lane = set.layout.neighbour(from_left);
    let share = rng.between(0.78, 0.92);
    let v = spec.speed_kmh.map_or(set.speed * share, |r| r.draw(rng) / 3.6);
    let room = spec.headway_s.draw(rng) * set.speed * 0.5;
    let (event, way, half) = (set.event, set.way, set.ego_length / 2.0);
    let brake = spec.brake_mps2.draw(rng);
    let seconds = rng.between(1.3, 2.2);
    let slows = rng.unit() < 0.7;
    let mover = set.add(rng, kind, 0, 0.0, lane)?;
    mover.s = way + half + room + mover.build.size[0] / 2.0 - v * event;
    mover.v = v;
    mover.goes.push(Go { t: 0.0, v, a: 1.0 });
    if slows {
        mover.goes.push(Go { t: event + seconds * 0.7, v: v * rng.between(0.3, 0.7), a: brake });
    }
    mover.shifts.push(Shift { t: event, seconds, to: rng.between(-0.2, 0.2) });
    let side = if from_left { 1 } else { -1 };
    mover.signal = (rng.unit() < 0.5).then_some((event - 0.8, event + seconds, side));
    mover.hot = true;
    set.facts.headway_s = room / set.speed.max(1.0);
    Some(event + 0.2)
}

fn pull_out(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let lane = set.layout.parking.unwrap_or(-2.9);
    let (way, half, event) = (set.way, set.ego_length / 2.0, set.event);
    let v = spec.speed_kmh.map_or(rng.between(5.0, 8.0), |r| r.draw(rng) / 3.6);
    let lead = rng.between(1.6, 2.4) + spec.offset_s.draw(rng);
    let mover = set.add(rng, kind, 0, way + half, lane)?;
    mover.s += mover.build.size[0] / 2.0 - rng.between(0.0, 2.0);
    mover.goes.extend([Go { t: 0.0, v: 0.0, a: 1.0 }, Go { t: event - lead, v, a: rng.between(1.8, 2.8) }]);
    mover.shifts.push(Shift { t: event - lead + 0.2, seconds: rng.between(1.7, 2.4), to: 0.0 });
    mover.signal = (rng.unit() < 0.6).then_some((event - lead - 2.0, event + 1.0, 1)).map(|(a, b, _)| (a, b, -1));
    mover.hot = true;
    let s = mover.s;
    set.clear.push([s - 6.0, s + 30.0]);
    Some(event - lead + 0.4)
}

/// A vehicle on the crossing road; `pair` is where the other of two is met, `None` for the ego vehicle at the event.
fn cross(
    set: &mut Setting<'_>,
    rng: &mut Rng,
    spec: &ActorSpec,
    kind: ActorKind,
    pair: Option<Meeting>,
) -> Option<f64> {
    let junction = set.layout.junction?;
    let from_right = match spec.side {
        Some(side) => side == Side::Right,
        None => rng.unit() < 0.5,
    };
    let v = spec.speed_kmh.map_or(rng.between(8.0, 14.0), |r| r.draw(rng) / 3.6);
    let meet = pair.map_or(set.event, |p| p.t) + spec.offset_s.draw(rng);
    let middle = set.layout.route.at(junction, 0.0);
    let way = v * meet;
    let start = if from_right { middle.offset(CROSS_LANE_M, -way) } else { middle.offset(-CROSS_LANE_M, way) };
    let heading = middle.heading + if from_right { PI / 2.0 } else { -PI / 2.0 };
    set.paths.push(Path::line(Pose { heading, ..start }, way + 150.0));
    let path = set.paths.len() - 1;
    let mover = set.add(rng, kind, path, 0.0, 0.0)?;
    mover.v = v;
    mover.goes.push(Go { t: 0.0, v, a: 2.0 });
    mover.hot = true;
    set.clear.push([junction - 14.0, junction + 10.0]);
    // From here on it could no longer stop before us with 3 m/s^2.
    Some(meet - (v * v / 6.0 + 4.0) / v.max(1.0))
}

/// Somebody on the crossing road who stops for us: no danger, though it may look like one.
fn yields(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    cross(set, rng, spec, kind, None)?;
    let [right, left] = set.layout.edges;
    let event = set.event;
    let brake = spec.brake_mps2.draw(rng).min(4.5);
    let mover = set.movers.last_mut()?;
    let from_right = spec.side != Some(Side::Left);
    let line = if from_right { -right } else { left } + 2.5 + mover.build.size[0] / 2.0;
    // It would be in our lane at the event: so far from there it begins to brake.
    let begin = event - (line + mover.v * mover.v / (2.0 * brake)) / mover.v.max(1.0);
    mover.goes.push(Go { t: begin.max(0.1), v: 0.0, a: brake });
    None
}

/// Somebody who stands at the kerb and stays there.
fn waits(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let [right, left] = set.layout.edges;
    let away = rng.between(0.4, 1.2);
    let from_right = match spec.side {
        Some(side) => side == Side::Right,
        None => rng.unit() < 0.6,
    };
    let start = if from_right { right - away } else { left + away };
    let at = set.layout.route.at(set.way + rng.between(-10.0, 10.0), start);
    let heading = at.heading + if from_right { PI / 2.0 } else { -PI / 2.0 };
    set.paths.push(Path::line(Pose { heading, ..at }, 5.0));
    let path = set.paths.len() - 1;
    let way = set.way;
    let mover = set.add(rng, kind, path, 0.0, 0.0)?;
    mover.goes.push(Go { t: 0.0, v: 0.0, a: 1.0 });
    mover.hot = true;
    set.clear.push([way - 20.0, way + 16.0]);
    None
}

fn turn_across(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let junction = set.layout.junction?;
    let lane = *set.layout.theirs.first()?;
    let v = spec.speed_kmh.map_or(rng.between(6.0, 9.0), |r| r.draw(rng) / 3.6).max(1.0);
    let meet = set.event + spec.offset_s.draw(rng);
    // Along the arc to where it crosses the middle of our lane: radius times the angle whose cosine is 1 - lane / r.
    let cosine = 1.0 - lane / TURN_RADIUS_M;
    let arc = TURN_RADIUS_M * crate::maths::atan2((1.0 - cosine * cosine).max(0.0).sqrt(), cosine);
    let straight = (v * meet - arc).max(5.0);
    let begin = junction - CROSS_LANE_M + TURN_RADIUS_M;
    let pose = set.layout.route.at(begin, lane);
    let start = Pose { heading: pose.heading + PI, ..pose }.offset(-straight, 0.0);
    let quarter = TURN_RADIUS_M * PI / 2.0;
    let turn = move |s: f64| {
        if (straight..straight + quarter).contains(&s) { 1.0 / TURN_RADIUS_M } else { 0.0 }
    };
    set.paths.push(Path::from_curvature(start, straight + quarter + 120.0, 0.5, turn));
    let path = set.paths.len() - 1;
    let mover = set.add(rng, kind, path, 0.0, 0.0)?;
    mover.v = v;
    mover.goes.push(Go { t: 0.0, v, a: 2.0 });
    let hazard = straight / v;
    mover.signal = (rng.unit() < 0.7).then_some((hazard - 3.0, hazard + 3.0, -1));
    mover.hot = true;
    set.clear.push([junction - 14.0, junction + 10.0]);
    Some(hazard + 0.2)
}

/// Somebody who crosses the road on foot or on a bicycle. `pair` as in [`cross`].
fn step_out(
    set: &mut Setting<'_>,
    rng: &mut Rng,
    spec: &ActorSpec,
    kind: ActorKind,
    pair: Option<Meeting>,
) -> Option<f64> {
    let from_right = match (spec.side, pair) {
        // On to the lane of those who come towards us: from their side.
        (_, Some(meeting)) if meeting.left > 1.0 => false,
        (Some(side), _) => side == Side::Right,
        (None, _) => rng.unit() < 0.6,
    };
    let usual = match kind {
        ActorKind::Child => [2.0, 3.2],
        ActorKind::Animal => [3.0, 5.5],
        ActorKind::Cyclist => [3.2, 4.8],
        _ => [1.2, 2.0],
    };
    let v = match spec.speed_kmh {
        Some(range) => range.draw(rng) / 3.6,
        None => rng.between(usual[0], usual[1]),
    };
    let v = v.max(0.3);
    let here = Meeting { t: set.event, s: set.way + set.ego_length / 2.0 + 0.2, left: 0.0 };
    let Meeting { t: meet, s, left: lane } = pair.unwrap_or(here);
    let meet = meet + spec.offset_s.draw(rng);
    let [right, left] = set.layout.edges;
    let away = rng.between(0.5, 1.3);
    let start = if from_right { right - away } else { left + away };
    let aside = (start - lane).abs();
    let side = if from_right { -1.0 } else { 1.0 };
    let at = set.layout.route.at(s, start);
    let heading = at.heading - side * PI / 2.0;
    set.paths.push(Path::line(Pose { heading, ..at }, 60.0));
    let path = set.paths.len() - 1;
    let accel = 3.0;
    let go = meet - aside / v - v / (2.0 * accel);
    let hides = from_right && kind == ActorKind::Child && pair.is_none();
    let zebra = kind == ActorKind::Pedestrian && set.layout.junction.is_none() && rng.unit() < 0.4;
    let mover = set.add(rng, kind, path, 0.0, 0.0)?;
    if go > 0.5 {
        mover.goes.extend([Go { t: 0.0, v: 0.0, a: 2.0 }, Go { t: go, v, a: accel }]);
    } else {
        // So slow or so far that it walks from the begin on.
        mover.v = v;
        mover.s = -v * (meet - aside / v).min(0.0);
        mover.goes.push(Go { t: 0.0, v, a: accel });
    }
    mover.hot = true;
    let town = set.layout.kind == RoadKind::Town;
    if zebra && town {
        set.features.zebra = Some(s + 0.5);
    }
    // Who runs out from between parked vehicles is hidden by one.
    set.clear.push(if hides { [s - 0.8, s + 14.0] } else { [s - 12.0, s + 8.0] });
    Some((go + 0.25).max(meet - 3.0))
}

fn swing_out(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let v = spec.speed_kmh.map_or(rng.between(4.0, 6.5), |r| r.draw(rng) / 3.6);
    let bumpers = spec.headway_s.draw(rng) * (set.speed - v).max(1.0);
    let (event, way, half) = (set.event, set.way, set.ego_length / 2.0);
    let to = spec.lateral_m.map_or(rng.between(0.1, 0.7), |r| r.draw(rng));
    let seconds = rng.between(0.8, 1.3);
    let mover = set.add(rng, kind, 0, 0.0, -1.15)?;
    mover.s = way + half + bumpers + mover.build.size[0] / 2.0 - v * event;
    mover.v = v;
    mover.goes.push(Go { t: 0.0, v, a: 1.0 });
    mover.shifts.push(Shift { t: event, seconds, to });
    mover.hot = true;
    // We mean to pass with some room; with enough of it where nobody swings out.
    let room = if to < -1.0 { 1.8 } else { 0.75 };
    set.ego.shifts.push(Shift { t: event - 3.5, seconds: 2.0, to: room });
    set.ego.blind[0] = event - 8.0;
    Some(event + 0.15)
}

fn falls(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let headway = spec.headway_s.draw(rng);
    let v0 = set.ego.speeds.at(0.0).0;
    let from = front(set);
    let lead = ahead(set, rng, kind, gap(headway, v0), from)?;
    let event = set.event;
    set.movers.get_mut(lead)?.falls_at = Some(event);
    set.ego.headway_s = headway * 0.77;
    set.facts.headway_s = headway;
    Some(event)
}

fn follower(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let headway = spec.headway_s.draw(rng);
    let v0 = set.ego.speeds.at(0.0).0;
    let back = EGO_START_M - set.ego_length / 2.0 - gap(headway, v0);
    let (event, reaction, brake) = (set.event, spec.reaction_s.draw(rng), spec.brake_mps2.draw(rng));
    let aside = rng.between(-0.25, 0.25);
    let mover = set.add(rng, kind, 0, back, aside)?;
    mover.s -= mover.build.size[0] / 2.0;
    mover.v = v0;
    mover.with_plan = Some(1.02);
    mover.follow =
        Some(Follow { leader: Leader::Ego, headway_s: headway * 0.77, blind: [event - 0.3, event + reaction], brake });
    mover.hot = true;
    None
}

fn oncoming(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let lane = *set.layout.theirs.first()?;
    let v = spec.speed_kmh.map_or(set.speed, |r| r.draw(rng) / 3.6);
    let (event, way, half) = (set.event, set.way, set.ego_length / 2.0);
    let to = spec.lateral_m.map_or(rng.between(0.0, 1.0), |r| r.draw(rng));
    let begin = event - rng.between(1.3, 1.9);
    let mover = set.add(rng, kind, 0, 0.0, lane)?;
    mover.dir = -1.0;
    mover.s = way + half + mover.build.size[0] / 2.0 + v * event;
    mover.v = v;
    mover.goes.push(Go { t: 0.0, v, a: 1.0 });
    mover.shifts.push(Shift { t: begin, seconds: (event - begin) * 1.05, to });
    if rng.unit() < 0.4 {
        mover.shifts.push(Shift { t: event + 0.1, seconds: 1.4, to: lane });
    }
    mover.hot = true;
    Some(begin + 0.25)
}

/// Where and when two others meet: time, way along the route, offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting {
    pub(crate) t: f64,
    pub(crate) s: f64,
    pub(crate) left: f64,
}

/// The way of the rear and the offset of the first of two others ahead. On a motorway they drive beside our lane, where
/// both are seen; elsewhere the ego vehicle follows them, near enough to see and far enough to stop.
fn before_our_eyes(set: &mut Setting<'_>, rng: &mut Rng) -> (f64, f64) {
    let v0 = set.ego.speeds.at(0.0).0;
    let headway = rng.between(0.7, 1.3);
    set.ego.headway_s = headway * 0.77;
    set.facts.headway_s = headway;
    if set.layout.kind == RoadKind::Motorway {
        let left = set.layout.neighbour(rng.unit() < 0.5);
        let left =
            if set.layout.ours.iter().any(|l| (l - left).abs() < 0.1) { left } else { set.layout.neighbour(true) };
        return (front(set) + rng.between(6.0, 20.0), left);
    }
    (front(set) + gap(headway, v0), 0.0)
}

fn pair_back(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let (from, left) = before_our_eyes(set, rng);
    let (event, reaction) = (set.event, spec.reaction_s.draw(rng));
    let (headway, brake) = (spec.headway_s.draw(rng), spec.brake_mps2.draw(rng));
    let back = ahead(set, rng, kind, 0.0, from)?;
    // The one ahead is placed next, and becomes its leader.
    let leader = Leader::Mover(back + 1);
    let mover = set.movers.get_mut(back)?;
    mover.follow = Some(Follow { leader, headway_s: headway * 0.77, blind: [event - 0.3, event + reaction], brake });
    mover.with_plan = Some(1.03);
    mover.left = left;
    None
}

fn pair_front(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let back = *set.facts.cast.last()?;
    let (place, headway, left) = {
        let mover = set.movers.get(back)?;
        (end_of(mover), mover.follow.map_or(1.0, |f| f.headway_s / 0.77), mover.left)
    };
    let v0 = set.ego.speeds.at(0.0).0;
    let lead = ahead(set, rng, kind, gap(headway, v0), place)?;
    let (t, a) = (set.event, spec.brake_mps2.draw(rng));
    // A little beside, so that it is not all hidden.
    let aside = rng.between(-0.5, 0.5);
    let mover = set.movers.get_mut(lead)?;
    mover.goes.push(Go { t, v: 0.0, a });
    mover.left = left + aside;
    Some(t)
}

fn pair_through(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind) -> Option<f64> {
    let theirs = set.layout.theirs.first().copied();
    if let (None, Some(lane)) = (set.layout.junction, theirs.filter(|_| rng.unit() < 0.6)) {
        return towards_us(set, rng, spec, kind, lane);
    }
    let (from, _) = before_our_eyes(set, rng);
    let through = ahead(set, rng, kind, 0.0, from)?;
    if let Some(v) = spec.speed_kmh.map(|r| r.draw(rng) / 3.6) {
        set.movers.get_mut(through)?.goes.push(Go { t: 0.0, v, a: 1.5 });
    }
    let nose = end_of(set.movers.get(through)?);
    let t = match set.layout.junction {
        Some(junction) => time_of_way(set, junction + 1.0 - nose),
        None => set.event + 1.0,
    };
    set.pair = Some(Meeting { t, s: nose + set.ego.speeds.way(t) + 0.2, left: 0.0 });
    None
}

/// The first of two others comes towards us, and meets the other before us.
fn towards_us(set: &mut Setting<'_>, rng: &mut Rng, spec: &ActorSpec, kind: ActorKind, lane: f64) -> Option<f64> {
    let v = spec.speed_kmh.map_or(set.speed * rng.between(0.85, 1.1), |r| r.draw(rng) / 3.6);
    let (t, s) = (set.event, set.way + set.ego_length / 2.0 + rng.between(14.0, 30.0));
    let mover = set.add(rng, kind, 0, 0.0, lane)?;
    mover.dir = -1.0;
    mover.s = s + 0.2 + mover.build.size[0] / 2.0 + v * t;
    mover.v = v;
    mover.goes.push(Go { t: 0.0, v, a: 1.0 });
    mover.hot = true;
    set.pair = Some(Meeting { t, s, left: lane });
    None
}

/// When a driver who keeps to the plan has driven a way.
fn time_of_way(set: &Setting<'_>, wanted: f64) -> f64 {
    const STEP: f64 = 0.02;
    let (mut t, mut way) = (0.0, 0.0);
    while way < wanted && t < set.length {
        way += set.ego.speeds.at(t).0 * STEP;
        t += STEP;
    }
    t
}
