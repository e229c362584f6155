//! Runs a stage: every road user every 5 ms, the ego vehicle and whatever was hit every millisecond.
//!
//! It records what the sensors and the camera need, every contact, and how close it came. What it never does: judge
//! ([`super::verdict`]).

use super::cast::{falls, pulse_ms};
use super::contact::{blow, draw_pulse};
use super::driver::{Driver, Own, Seen, body_of, own, see, time_to_touch};
use super::geometry::{Rect, dot};
use super::layout::EGO_START_M;
use super::mover::{Leader, Mover, Pushing};
use super::rigid::{Control, Push, Rigid};
use super::scenario::EgoAct;
use super::stage::Stage;
use super::state::{Actor, ActorKind};
use crate::limits::{CONTACTS, TRACE_MS};
use crate::maths::{PI, cos, sin};
use crate::rng::Rng;

/// Milliseconds between decisions and tests of touch.
const TICK_MS: usize = 5;

/// One millisecond of the ego vehicle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EgoMs {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) heading: f64,
    /// Forward speed, m/s.
    pub(crate) v: f64,
    pub(crate) yaw_rate: f64,
    /// Means over the millisecond, forward and left, m/s^2.
    pub(crate) accel: [f64; 2],
    /// Of the front wheels, rad.
    pub(crate) steer: f64,
    /// What the pedals ask, m/s^2.
    pub(crate) pedal: f64,
    /// Way along the route and offset.
    pub(crate) s: f64,
    pub(crate) left: f64,
}

/// Who touched whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Ego,
    Mover(usize),
    Kerb,
}

/// A contact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contact {
    pub(crate) ms: usize,
    pub(crate) parties: [Party; 2],
    pub(crate) closing: f64,
    pub(crate) restitution: f64,
    pub(crate) pulse_ms: usize,
    /// Change of velocity that the impulse makes of each party, world axes, m/s.
    pub(crate) delta_v: [[f64; 2]; 2],
    /// Direction from which the ego vehicle is pushed, radians from forward, if it takes part: 0 is a frontal blow.
    pub(crate) from: f64,
    /// Direction of the blow's place from the ego vehicle's middle, radians from forward, if it takes part.
    pub(crate) bearing: f64,
}

/// How close it came, outside contacts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closest {
    /// Least time to touch at unchanged speeds, s, with a closing speed above 2 m/s, and when.
    pub(crate) ttc: f64,
    pub(crate) ttc_at: f64,
    /// Least gap at a relative speed above 3 m/s, m.
    pub(crate) gap: f64,
    /// Least distance of the right front wheel from the kerb, m; measured where the ego vehicle drifts to it and comes back.
    pub(crate) kerb_gap: f64,
    /// Who was nearest in time.
    pub(crate) who: Option<Party>,
}

impl Closest {
    /// Nothing came near.
    pub(crate) const NONE: Self =
        Self { ttc: f64::INFINITY, ttc_at: 0.0, gap: f64::INFINITY, kerb_gap: f64::INFINITY, who: None };

    /// At `t`, `who` is so long from touching.
    fn nears(&mut self, who: Party, ttc: f64, t: f64) {
        if ttc < self.ttc {
            (self.ttc, self.ttc_at, self.who) = (ttc, t, Some(who));
        }
    }
}

/// A run.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) ego: Vec<EgoMs>,
    /// Actors every [`TRACE_MS`], all of one instant after the other.
    pub(crate) actors: Vec<Actor>,
    pub(crate) actors_per_step: usize,
    pub(crate) contacts: Vec<Contact>,
    pub(crate) closest: Closest,
    /// Hardest braking by the tyres, m/s^2, and the first time that the emergency braking bit.
    pub(crate) hardest: f64,
    pub(crate) answered: Option<f64>,
    /// Somebody who is not of the scenario was touched, before or after: the draw is void.
    pub(crate) spoiled: bool,
}

struct Engine<'a> {
    stage: &'a mut Stage,
    rng: Rng,
    ego: Rigid,
    applied: Control,
    driver: Driver,
    own: Own,
    seen: Vec<Seen>,
    pushing: Vec<Pushing>,
    touching: Vec<[Party; 2]>,
    trace: Trace,
}

/// Slower than this across the road, a wheel does not near the kerb, m/s: lanes are not kept better.
const NEARS_KERB_MPS: f64 = 0.3;

/// The right front wheel, the directions from the kerb inward and along it, the wheel's velocity, its distance and how fast that falls.
struct AtKerb {
    wheel: [f64; 2],
    inward: [f64; 2],
    along: [f64; 2],
    v: [f64; 2],
    gap: f64,
    closing: f64,
}

/// Runs a stage to its end, or to the first sign that the draw is void.
pub(crate) fn run(stage: &mut Stage, root: u64) -> Trace {
    let mut rng = Rng::new(root, 102);
    let [length, width, _] = stage.ego_build.size;
    let start = stage.layout.route.at(EGO_START_M, 0.0);
    let body = super::state::Body {
        x: start.x,
        y: start.y,
        heading: start.heading,
        speed: stage.ego.speeds.at(0.0).0,
        ..super::state::Body::default()
    };
    let ego = Rigid::new(&body, stage.ego_build.mass, [length, width], stage.mu);
    let weave = [rng.between(0.03, 0.14), rng.between(0.0, 2.0 * PI)];
    let steps = stage.length_ms / TRACE_MS + 2;
    let trace = Trace {
        ego: Vec::with_capacity(stage.length_ms),
        actors: Vec::with_capacity(steps * stage.movers.len()),
        actors_per_step: stage.movers.len(),
        contacts: Vec::with_capacity(CONTACTS),
        closest: Closest::NONE,
        hardest: 0.0,
        answered: None,
        spoiled: false,
    };
    let mut engine = Engine {
        ego,
        rng,
        applied: Control::default(),
        driver: Driver::new(weave),
        own: Own { s: EGO_START_M, ..Own::default() },
        seen: Vec::with_capacity(stage.movers.len()),
        pushing: Vec::with_capacity(CONTACTS),
        touching: Vec::with_capacity(CONTACTS),
        trace,
        stage,
    };
    for ms in 0..engine.stage.length_ms {
        if ms.is_multiple_of(TICK_MS) {
            engine.tick(ms);
        }
        engine.step(ms);
        if engine.trace.spoiled {
            break;
        }
    }
    engine.trace
}

impl Engine<'_> {
    fn tick(&mut self, ms: usize) {
        let t = ms as f64 * 1e-3;
        let [length, width, _] = self.stage.ego_build.size;
        self.own = own(&self.ego, [length, width], &self.stage.layout.route, self.own.s);
        self.move_others(t);
        let route = &self.stage.layout.route;
        self.seen.clear();
        let guess = self.own.s;
        self.seen.extend(self.stage.movers.iter().enumerate().map(|(i, m)| see(m, i, route, guess)));
        self.find_contacts(ms);
        let route = &self.stage.layout.route;
        self.driver.decide(&self.stage.ego, t, &self.own, &self.seen, route, &self.ego);
        if self.driver.emergency.is_some() {
            self.trace.answered.get_or_insert(t);
        }
        self.measure(t);
        if ms.is_multiple_of(TRACE_MS) {
            self.trace.actors.extend(self.stage.movers.iter().map(|m| m.actor(t)));
        }
    }

    /// Others by their scripts.
    fn move_others(&mut self, t: f64) {
        let plan_v = self.stage.ego.speeds.at(t).0;
        for i in 0..self.stage.movers.len() {
            let ahead = self.leader(i);
            let Some(mover) = self.stage.movers.get_mut(i) else { continue };
            if mover.free.is_some() {
                continue;
            }
            if let Some(path) = self.stage.paths.get(mover.path) {
                mover.follow_script(path, t, TICK_MS as f64 * 1e-3, plan_v, ahead);
            }
            if mover.falls_at.is_some_and(|at| t >= at) {
                mover.set_free(t, self.stage.mu);
            }
        }
    }

    /// Gap and closing speed to a follower's leader.
    fn leader(&self, i: usize) -> Option<(f64, f64)> {
        let me = self.stage.movers.get(i)?;
        let follow = me.follow?;
        let half = me.build.size[0] / 2.0;
        let to = |s: f64, reach: f64, v: f64| {
            let gap = me.dir * (s - me.s) - half - reach;
            (gap > -6.0 && me.dir * (s - me.s) > 0.0).then_some((gap, me.v - v * me.dir))
        };
        let ego = || to(self.own.s, self.own.half[0], self.own.v[0]);
        match follow.leader {
            Leader::Ego => ego(),
            Leader::Mover(j) => {
                let other = self.seen.get(j)?;
                to(other.s, other.half[0], other.v[0])
            }
            Leader::Next => {
                let mine = self.seen.get(i)?;
                let beside = |left: f64, half: f64| (left - mine.left).abs() > half + mine.half[1] + 0.3;
                let others = self.seen.iter().filter(|o| o.hot && o.index != i && !beside(o.left, o.half[1]));
                let next = others.filter_map(|o| to(o.s, o.half[0], o.v[0]));
                let ego = ego().filter(|_| !beside(self.own.left, self.own.half[1]));
                next.chain(ego).min_by(|a, b| a.0.total_cmp(&b.0))
            }
        }
    }

    fn step(&mut self, ms: usize) {
        const DT: f64 = 1e-3;
        // Brakes bite faster than an engine pulls; a wheel turns no faster than hands do.
        let lag = if self.driver.asked.accel < self.applied.accel { 0.09 } else { 0.16 };
        self.applied.accel += (self.driver.asked.accel - self.applied.accel) * DT / lag;
        let turn = ((self.driver.asked.steer - self.applied.steer) / 0.06).clamp(-0.9, 0.9);
        self.applied.steer += turn * DT;
        let push = self.push_on(None, ms);
        self.ego.advance(DT, self.applied, push);
        for i in 0..self.stage.movers.len() {
            if self.stage.movers.get(i).is_some_and(|m| m.free.is_some()) {
                let push = self.push_on(Some(i), ms);
                if let Some(mover) = self.stage.movers.get_mut(i) {
                    mover.slide(push);
                }
            }
        }
        self.pushing.retain(|p| !p.over(ms + 1));
        if self.pushing.is_empty() && self.driver.contact.is_none() {
            self.trace.hardest = self.trace.hardest.max(-self.ego.accel[0]);
        }
        self.trace.ego.push(EgoMs {
            x: self.ego.x,
            y: self.ego.y,
            heading: self.ego.heading,
            v: self.ego.speed(),
            yaw_rate: self.ego.yaw_rate,
            accel: self.ego.accel,
            steer: self.applied.steer,
            pedal: self.applied.accel,
            s: self.own.s,
            left: self.own.left,
        });
    }

    fn push_on(&self, body: Option<usize>, ms: usize) -> Push {
        self.pushing.iter().fold(Push::default(), |sum, p| {
            let more = p.on(body, ms);
            Push {
                force: [sum.force[0] + more.force[0], sum.force[1] + more.force[1]],
                moment: sum.moment + more.moment,
            }
        })
    }

    fn find_contacts(&mut self, ms: usize) {
        let [length, width, _] = self.stage.ego_build.size;
        let ego = Rect::new(&body_of(&self.ego), length, width);
        let near = |m: &Mover| {
            let d = [m.body.x - self.ego.x, m.body.y - self.ego.y];
            dot(d, d) < 20.0 * 20.0
        };
        let rect = |m: &Mover| Rect::new(&m.body, m.build.size[0], m.build.size[1]);
        let mut found: heapless_pairs::Pairs = heapless_pairs::Pairs::default();
        for (i, mover) in self.stage.movers.iter().enumerate().filter(|(_, m)| near(m)) {
            if let Some(touch) = ego.touch(&rect(mover)) {
                if !mover.hot && mover.kind != ActorKind::Cone {
                    self.trace.spoiled = true;
                    return;
                }
                found.push([Party::Ego, Party::Mover(i)], touch);
            }
        }
        let beside = |a: &Actor| (a.body.x - self.ego.x).abs() + (a.body.y - self.ego.y).abs() < 12.0;
        let parked = self.stage.world.parked.iter().filter(|a| beside(a));
        if parked.map(|a| Rect::new(&a.body, a.length, a.width)).any(|r| ego.touch(&r).is_some()) {
            self.trace.spoiled = true;
            return;
        }
        let movers = &self.stage.movers;
        for (i, a) in movers.iter().enumerate().filter(|(_, m)| m.hot) {
            for (j, b) in movers.iter().enumerate().skip(i + 1).filter(|(_, m)| m.hot) {
                let d = [a.body.x - b.body.x, a.body.y - b.body.y];
                if dot(d, d) < 20.0 * 20.0
                    && let Some(touch) = rect(a).touch(&rect(b))
                {
                    found.push([Party::Mover(i), Party::Mover(j)], touch);
                }
            }
        }
        let apart = |pair: &[Party; 2]| !found.has(pair);
        self.touching.retain(|pair| !apart(pair));
        for (pair, touch) in found.iter() {
            if !self.touching.contains(pair) && self.trace.contacts.len() < CONTACTS {
                self.meet(ms, *pair, touch);
            }
        }
        self.kerb(ms);
    }

    /// Two bodies have begun to touch.
    fn meet(&mut self, ms: usize, pair: [Party; 2], touch: &super::geometry::Touch) {
        let mu = self.stage.mu;
        let rigid = |p: Party| match p {
            Party::Mover(i) => self.stage.movers.get(i).map(|m| m.rigid(mu)),
            _ => Some(self.ego),
        };
        let (Some(a), Some(b)) = (rigid(pair[0]), rigid(pair[1])) else { return };
        let Some(hit) = blow(&a, &b, touch, true) else { return };
        let kind = |p: Party| match p {
            Party::Mover(i) => self.stage.movers.get(i).map_or(ActorKind::Car, |m| m.kind),
            _ => self.stage.ego_kind,
        };
        let pulse = draw_pulse(&mut self.rng, pulse_ms(kind(pair[0]), kind(pair[1])));
        self.trace.contacts.push(Contact {
            ms,
            parties: pair,
            closing: hit.closing,
            restitution: hit.restitution,
            pulse_ms: pulse.length_ms(),
            delta_v: [hit.impulse.map(|j| j / a.mass), hit.impulse.map(|j| -j / b.mass)],
            bearing: self.bearing(touch.point),
            from: self.bearing([self.ego.x + touch.normal[0], self.ego.y + touch.normal[1]]),
        });
        let t = ms as f64 * 1e-3;
        let hurt = (hit.closing / 12.0).min(1.0);
        for party in pair {
            match party {
                Party::Mover(i) => {
                    if let Some(m) = self.stage.movers.get_mut(i) {
                        m.set_free(t, mu);
                        m.damage = m.damage.max(if falls(m.kind) { 0.0 } else { hurt });
                    }
                }
                _ => {
                    self.driver.contact.get_or_insert(t);
                }
            }
        }
        let bodies = pair.map(|p| if let Party::Mover(i) = p { Some(i) } else { None });
        self.touching.push(pair);
        self.pushing.push(Pushing { bodies, blow: hit, pulse, since_ms: ms });
    }

    fn bearing(&self, point: [f64; 2]) -> f64 {
        let d = [point[0] - self.ego.x, point[1] - self.ego.y];
        let forward = [cos(self.ego.heading), sin(self.ego.heading)];
        crate::maths::atan2(forward[0] * d[1] - forward[1] * d[0], dot(forward, d))
    }

    /// The right front wheel and the kerb.
    fn wheel(&self) -> AtKerb {
        let [length, width, _] = self.stage.ego_build.size;
        let (s, c) = (sin(self.ego.heading), cos(self.ego.heading));
        let (ahead, aside) = (length * 0.3, -width / 2.0);
        let wheel = [self.ego.x + c * ahead - s * aside, self.ego.y + s * ahead + c * aside];
        let route = &self.stage.layout.route;
        let (way, left) = route.locate(wheel, self.own.s + ahead);
        let heading = route.at(way, 0.0).heading;
        let (inward, along) = ([-sin(heading), cos(heading)], [cos(heading), sin(heading)]);
        let v = self.ego.velocity_at(wheel);
        AtKerb { wheel, inward, along, v, gap: left - self.stage.layout.edges[0], closing: -dot(v, inward) }
    }

    /// The right front wheel meets the kerb: it takes most of the speed across it, and drags.
    fn kerb(&mut self, ms: usize) {
        if !self.stage.ego.kerb || self.touching.contains(&[Party::Ego, Party::Kerb]) {
            return;
        }
        let AtKerb { wheel, inward, along, v, gap, closing } = self.wheel();
        if gap > 0.0 || closing <= 0.01 {
            return;
        }
        let mass = self.ego.mass;
        let jn = 0.8 * mass * closing;
        let jt = (0.55 * jn).min(0.5 * mass * dot(v, along).abs());
        let impulse = [inward[0] * jn - along[0] * jt, inward[1] * jn - along[1] * jt];
        let arm = [wheel[0] - self.ego.x, wheel[1] - self.ego.y];
        let hit = super::contact::Blow { impulse, arms: [arm, arm], closing, restitution: 0.0 };
        let pulse = draw_pulse(&mut self.rng, [55.0, 90.0]);
        self.trace.contacts.push(Contact {
            ms,
            parties: [Party::Ego, Party::Kerb],
            closing,
            restitution: 0.0,
            pulse_ms: pulse.length_ms(),
            delta_v: [impulse.map(|j| j / mass), [0.0; 2]],
            bearing: self.bearing(wheel),
            from: self.bearing([self.ego.x - inward[0], self.ego.y - inward[1]]),
        });
        if closing > 1.0 {
            self.driver.contact.get_or_insert(ms as f64 * 1e-3);
        }
        self.touching.push([Party::Ego, Party::Kerb]);
        // The kerb is nobody: its side of the blow goes to a mover that does not exist.
        self.pushing.push(Pushing { bodies: [None, Some(usize::MAX)], blow: hit, pulse, since_ms: ms });
    }

    /// How close it comes.
    fn measure(&mut self, t: f64) {
        if self.driver.contact.is_some() {
            return;
        }
        if self.stage.facts.act == EgoAct::DriftBack {
            let AtKerb { gap, closing, .. } = self.wheel();
            self.trace.closest.kerb_gap = self.trace.closest.kerb_gap.min(gap);
            if closing > NEARS_KERB_MPS {
                self.trace.closest.nears(Party::Kerb, gap.max(0.0) / closing, t);
            }
        }
        let [length, width, _] = self.stage.ego_build.size;
        let ego = Rect::new(&body_of(&self.ego), length, width);
        for other in self.seen.iter().filter(|o| (o.s - self.own.s).abs() < 60.0) {
            let Some(mover) = self.stage.movers.get(other.index) else { continue };
            let relative = [other.v[0] - self.own.v[0], other.v[1] - self.own.v[1]];
            let speed = dot(relative, relative).sqrt();
            if speed < 2.0 {
                continue;
            }
            if let Some(ttc) = time_to_touch(&self.own, other, 0.0) {
                self.trace.closest.nears(Party::Mover(other.index), ttc, t);
            }
            if mover.hot && speed > 3.0 {
                let gap = ego.gap(&Rect::new(&mover.body, mover.build.size[0], mover.build.size[1]));
                self.trace.closest.gap = self.trace.closest.gap.min(gap);
            }
        }
    }
}

/// A small list of pairs without allocation.
mod heapless_pairs {
    use super::super::geometry::Touch;
    use super::Party;
    use crate::limits::CONTACTS;

    #[derive(Default)]
    pub(super) struct Pairs {
        all: [Option<([Party; 2], Touch)>; CONTACTS],
        count: usize,
    }

    impl Pairs {
        /// Adds a pair; beyond the cap it is seen at a later tick.
        pub(super) fn push(&mut self, pair: [Party; 2], touch: Touch) {
            if let Some(slot) = self.all.get_mut(self.count) {
                *slot = Some((pair, touch));
                self.count += 1;
            }
        }

        pub(super) fn iter(&self) -> impl Iterator<Item = &([Party; 2], Touch)> {
            self.all.iter().flatten()
        }

        pub(super) fn has(&self, pair: &[Party; 2]) -> bool {
            self.iter().any(|(p, _)| p == pair) || pair[1] == Party::Kerb
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::scenario::Scenario;
    use crate::world::stage::set;

    const ROLES: [&str; 20] = [
        "lead_brakes",
        "lead_stands",
        "parked",
        "cut_in",
        "pull_out",
        "cross",
        "yields",
        "waits",
        "turn_across",
        "step_out",
        "swing_out",
        "falls",
        "obstacle",
        "follower",
        "oncoming",
        "pair_front",
        "pair_back",
        "pair_through",
        "pair_cross",
        "pair_walker",
    ];

    /// A scenario of a role at the bounds of what a file may say.
    fn extreme(role: &str, ego_kmh: &str, other: &str, kind: &str) -> Scenario {
        let text = format!(
            "name = \"x\"\ntext = \"x\"\nexpect = \"normal\"\nroad = [\"town\", \"motorway\", \"country\"]\n\
             length_s = [6, 9]\nevent_s = [1, 4]\ntraffic = 1\njunction = true\nlights = true\n\
             [ego]\nspeed_kmh = {ego_kmh}\nreaction_s = [0, 20]\nbrake_mps2 = 10\nswerve_m = [-5, 5]\n\
             [[actor]]\nrole = \"{role}\"\nkind = [\"{kind}\"]\n{other}\n[[actor]]\nrole = \"{role}\"\nkind = [\"car\"]\n"
        );
        Scenario::parse(&text).unwrap()
    }

    #[test]
    fn the_bounds_of_scenario_files_give_finite_runs() {
        let others = [
            "speed_kmh = 0\nheadway_s = 0.2\nbrake_mps2 = 10\noffset_s = -5",
            "speed_kmh = 180\nheadway_s = 8\nreaction_s = 20\noffset_s = 5\nlateral_m = 8",
        ];
        let mut root = 77;
        for role in ROLES {
            for (other, ego) in others.iter().zip(["0", "180"]) {
                for kind in ["truck", "child"] {
                    root += 1;
                    let mut stage = set(&extreme(role, ego, other, kind), root);
                    let trace = run(&mut stage, root);
                    let finite = |e: &EgoMs| {
                        [e.x, e.y, e.heading, e.v, e.accel[0], e.accel[1], e.s, e.left].iter().all(|v| v.is_finite())
                    };
                    assert!(trace.ego.iter().all(finite), "{role} {kind} {other}");
                    let places = trace.actors.iter().all(|a| (a.body.x + a.body.y + a.body.heading).is_finite());
                    assert!(places && trace.contacts.len() <= CONTACTS, "{role} {kind} {other}");
                    // No tyre and no blow throws a vehicle through the country.
                    assert!(trace.ego.iter().all(|e| e.v.abs() < 80.0), "{role} {kind} {other}");
                }
            }
        }
    }
}
