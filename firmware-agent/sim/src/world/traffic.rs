//! Everybody else: traffic that keeps out of the way, parked vehicles and people on the pavements.

use super::cast;
use super::geometry::Path;
use super::layout::EGO_START_M;
use super::mover::{Follow, Go, Leader};
use super::scenario::Role;
use super::stage::Setting;
use super::state::{Actor, ActorKind, Body, RoadKind};
use crate::maths::PI;
use crate::rng::Rng;

/// Of the cap on actors, what traffic leaves to the scenario.
const SPARE: usize = 10;
/// Most parked vehicles.
const PARKED: usize = 60;

/// Keeps clear of whatever the scenario puts on its lane.
const CAREFUL: Follow = Follow { leader: Leader::Next, headway_s: 1.5, blind: [0.0; 2], brake: 8.0 };

/// Adds traffic of a density from 0 to 1.
pub(crate) fn fill(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    lead(set, rng, density);
    behind(set, rng, density);
    neighbours(set, rng, density);
    oncoming(set, rng, density);
    if set.layout.kind == RoadKind::Town {
        walkers(set, rng, density);
        parked(set, rng, density);
    }
}

fn vehicle(rng: &mut Rng) -> ActorKind {
    match rng.next_u64() % 12 {
        0..=5 => ActorKind::Car,
        6 | 7 => ActorKind::Suv,
        8 | 9 => ActorKind::Van,
        10 => ActorKind::Truck,
        _ => ActorKind::Motorbike,
    }
}

fn full(set: &Setting<'_>) -> bool {
    set.movers.len() + SPARE >= crate::limits::ACTORS
}

/// Somebody far enough ahead, unless the scenario has filled our lane.
fn lead(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    let taken = set.movers.iter().any(|m| m.path == 0 && m.dir > 0.0 && m.s > EGO_START_M && m.left.abs() < 1.7);
    let crossed = set.facts.role.is_some_and(|r| !matches!(r, Role::Follower));
    if taken || crossed || rng.unit() > density {
        return;
    }
    let v = set.ego.speeds.at(0.0).0;
    let far = 12.0 + rng.between(2.0, 4.5) * v.max(set.speed);
    let kind = vehicle(rng);
    let stopping: Vec<_> = set.ego.stops.clone();
    if !stopping.is_empty() {
        return;
    }
    if let Some(mover) = set.add(rng, kind, 0, EGO_START_M + far, 0.0) {
        mover.v = v;
        mover.with_plan = Some(1.0);
        mover.follow = Some(CAREFUL);
    }
}

fn behind(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    let taken = set.facts.role == Some(Role::Follower);
    if taken || rng.unit() > density * 0.8 {
        return;
    }
    let v = set.ego.speeds.at(0.0).0;
    let kind = vehicle(rng);
    let headway_s = rng.between(1.6, 2.6);
    if let Some(mover) = set.add(rng, kind, 0, EGO_START_M - 12.0 - headway_s * v, 0.0) {
        mover.v = v;
        mover.with_plan = Some(1.0);
        mover.follow = Some(Follow { leader: Leader::Ego, headway_s, blind: [0.0; 2], brake: 8.0 });
    }
}

/// Traffic in the other lanes of our direction, each lane at its own speed.
fn neighbours(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    let lanes: Vec<f64> = set.layout.ours.iter().copied().filter(|l| l.abs() > 0.5).collect();
    let used: Vec<f64> = set.movers.iter().filter(|m| m.path == 0).map(|m| m.left).collect();
    for lane in lanes {
        if used.iter().any(|l| (l - lane).abs() < 1.0) {
            continue;
        }
        let v = (set.speed * if lane > 0.0 { rng.between(1.02, 1.15) } else { rng.between(0.8, 0.97) }).max(5.0);
        let mut s = rng.between(0.0, 40.0);
        while s < EGO_START_M + 260.0 && !full(set) {
            if rng.unit() < density
                && let kind = vehicle(rng)
                && let Some(mover) = set.add(rng, kind, 0, s, lane)
            {
                mover.v = v;
                mover.goes.push(Go { t: 0.0, v, a: 1.0 });
                mover.follow = Some(CAREFUL);
            }
            s += rng.between(25.0, 70.0);
        }
    }
}

fn oncoming(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    let away = matches!(
        set.facts.role,
        Some(
            Role::Oncoming
                | Role::TurnAcross
                | Role::Cross
                | Role::Yields
                | Role::PairThrough
                | Role::PairCross
                | Role::StepOut
                | Role::PairWalker
                | Role::SwingOut
        )
    );
    let theirs = set.layout.theirs.clone();
    for lane in theirs {
        let v = set.speed.max(7.0) * rng.between(0.85, 1.15);
        let reach = EGO_START_M + set.ego.speeds.way(set.length) + v * set.length + 150.0;
        let mut s = EGO_START_M + rng.between(10.0, 90.0);
        while s < reach && !full(set) {
            // Nobody else near the place of the danger at the time of the danger.
            let then = s - v * set.event;
            let disturbs = away && (then - set.way).abs() < 45.0 + v * 2.0;
            if rng.unit() < density && !disturbs {
                let kind = vehicle(rng);
                if let Some(mover) = set.add(rng, kind, 0, s, lane) {
                    mover.dir = -1.0;
                    mover.v = v;
                    mover.goes.push(Go { t: 0.0, v, a: 1.0 });
                    mover.follow = Some(CAREFUL);
                }
            }
            s += rng.between(30.0, 110.0);
        }
    }
}

/// People on the pavements.
fn walkers(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    let [right, left] = set.layout.edges;
    let count = (density * 9.0) as usize;
    for _ in 0..count {
        if full(set) {
            return;
        }
        let side = if rng.unit() < 0.5 { right - rng.between(0.7, 2.0) } else { left + rng.between(0.7, 2.0) };
        let s = EGO_START_M + rng.between(10.0, set.ego.speeds.way(set.length) + 60.0);
        let v = rng.between(0.9, 1.7);
        let dir = if rng.unit() < 0.5 { 1.0 } else { -1.0 };
        let crosses = set.layout.junction.is_some_and(|j| (s - j).abs() < 40.0);
        if crosses {
            continue;
        }
        if let Some(mover) = set.add(rng, ActorKind::Pedestrian, 0, s, side) {
            mover.dir = dir;
            mover.v = v;
            mover.goes.push(Go { t: 0.0, v, a: 1.0 });
        }
    }
}

/// Vehicles on the parking strip.
fn parked(set: &mut Setting<'_>, rng: &mut Rng, density: f64) {
    let Some(lane) = set.layout.parking else { return };
    let route: &Path = &set.layout.route;
    let mut s = rng.between(20.0, 40.0);
    let mut id = 10_000;
    let share = 0.35 + 0.5 * density;
    while s < route.length() - 20.0 && set.features.parked.len() < PARKED {
        let kind = match rng.next_u64() % 6 {
            0 => ActorKind::Suv,
            1 => ActorKind::Van,
            _ => ActorKind::Car,
        };
        let build = cast::draw(rng, kind);
        let [length, width, height] = build.size;
        let (from, to) = (s, s + length);
        s = to + rng.between(0.8, 2.2);
        let near = |at: Option<f64>, room: f64| at.is_some_and(|at| from - room < at && to + room > at);
        let in_way = set.clear.iter().any(|[a, b]| from < *b && to > *a)
            || near(set.layout.junction, 12.0)
            || near(set.features.zebra, 6.0);
        if in_way || rng.unit() > share {
            continue;
        }
        let pose = route.at((from + to) / 2.0, lane + rng.between(-0.15, 0.1));
        let heading = pose.heading + if rng.unit() < 0.06 { PI } else { 0.0 };
        id += 1;
        set.features.parked.push(Actor {
            id,
            kind,
            body: Body { x: pose.x, y: pose.y, heading, ..Body::default() },
            length,
            width,
            height,
            colour: build.colour,
            brake: false,
            indicator: 0,
            headlights: false,
            lying: 0.0,
            damage: 0.0,
            gait: 0.0,
        });
    }
}
