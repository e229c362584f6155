//! Other road users: each follows a path by a script until something hits it; from then on physics moves it.
//!
//! Terms: a *script* is a list of speeds to take up and of shifts to the side, each from a given time; a *follower*
//! also keeps its distance from a leader by the intelligent driver model (Treiber, Hennecke and Helbing 2000).

use super::cast::{Build, falls, walks};
use super::contact::{Blow, Pulse, push};
use super::geometry::Path;
use super::rigid::{Control, Push, Rigid};
use super::state::{Actor, ActorKind, Body};
use crate::maths::{PI, atan2};

/// From `t` on: take up the speed `v` with at most `a`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Go {
    pub(crate) t: f64,
    pub(crate) v: f64,
    pub(crate) a: f64,
}

/// From `t` on, within `seconds`: move to the offset `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    pub(crate) t: f64,
    pub(crate) seconds: f64,
    pub(crate) to: f64,
}

/// Whom a follower follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    Ego,
    Mover(usize),
    /// Whoever of the scenario, the ego vehicle among them, is next on the lane.
    Next,
}

/// How a follower follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow {
    pub(crate) leader: Leader,
    pub(crate) headway_s: f64,
    /// Sees nothing between these times.
    pub(crate) blind: [f64; 2],
    /// Braking after `blind`, m/s^2.
    pub(crate) brake: f64,
}

/// One road user.
#[derive(Clone, Debug)]
pub(crate) struct Mover {
    pub(crate) id: u32,
    pub(crate) kind: ActorKind,
    pub(crate) build: Build,
    pub(crate) path: usize,
    /// 1 along the path, -1 against it.
    pub(crate) dir: f64,
    pub(crate) s: f64,
    pub(crate) v: f64,
    pub(crate) a: f64,
    /// Offset before the first shift.
    pub(crate) left: f64,
    pub(crate) goes: Vec<Go>,
    pub(crate) shifts: Vec<Shift>,
    /// Takes the speed of the ego driver's plan times this, when no `Go` rules.
    pub(crate) with_plan: Option<f64>,
    pub(crate) follow: Option<Follow>,
    /// Indicator between two times.
    pub(crate) signal: Option<(f64, f64, i8)>,
    /// Lies down by itself at this time.
    pub(crate) falls_at: Option<f64>,
    /// May collide with the ego vehicle and with other such ones.
    pub(crate) hot: bool,
    pub(crate) headlights: bool,
    pub(crate) free: Option<Rigid>,
    pub(crate) fallen_since: Option<f64>,
    pub(crate) damage: f64,
    pub(crate) gait: f64,
    pub(crate) brakes: bool,
    pub(crate) body: Body,
}

/// Free road and interaction of the intelligent driver model: acceleration at a speed, wish, gap and closing speed.
pub(crate) fn idm(v: f64, wish: f64, headway_s: f64, gap: Option<(f64, f64)>) -> f64 {
    const ACCEL: f64 = 1.6;
    const COMFORT: f64 = 2.2;
    const STANDING_GAP: f64 = 2.2;
    let ratio = v / wish.max(0.5);
    let free = 1.0 - ratio * ratio * ratio * ratio;
    let near = gap.map_or(0.0, |(gap, closing)| {
        let wanted = STANDING_GAP + (v * headway_s + v * closing / (2.0 * (ACCEL * COMFORT).sqrt())).max(0.0);
        let q = wanted / gap.max(0.3);
        q * q
    });
    ACCEL * (free - near)
}

impl Mover {
    /// Speed that the script or the plan asks for, and with which acceleration.
    fn wish(&self, t: f64, plan_v: f64) -> (f64, f64) {
        if let Some(go) = self.goes.iter().rev().find(|g| t >= g.t) {
            return (go.v, go.a);
        }
        self.with_plan.map_or((self.v, 1.0), |share| (plan_v * share, 2.5))
    }

    /// Offset and its rate at a time.
    fn side(&self, t: f64) -> (f64, f64) {
        let mut at = (self.left, 0.0);
        for shift in &self.shifts {
            if t < shift.t {
                break;
            }
            let f = ((t - shift.t) / shift.seconds).min(1.0);
            let way = shift.to - at.0;
            at = (at.0 + way * f * f * (3.0 - 2.0 * f), way * 6.0 * f * (1.0 - f) / shift.seconds);
        }
        at
    }

    /// Moves on along the script by `dt`; `ahead` is gap and closing speed to the leader.
    pub(crate) fn follow_script(&mut self, path: &Path, t: f64, dt: f64, plan_v: f64, ahead: Option<(f64, f64)>) {
        let (wish, most) = self.wish(t, plan_v);
        let mut a = ((wish - self.v) / 0.4).clamp(-most, most);
        let mut standing = wish < 0.1;
        if let Some(follow) = &self.follow {
            let blind = (follow.blind[0]..follow.blind[1]).contains(&t);
            if let Some((gap, closing)) = ahead.filter(|_| !blind) {
                let keep = idm(self.v, wish.max(0.5), follow.headway_s, Some((gap, closing)));
                a = a.min(keep.max(-4.5));
                let needed = closing.max(0.0) * closing.max(0.0) / (2.0 * (gap - 1.0).max(0.3));
                if t >= follow.blind[1] && needed > 4.0 {
                    a = -follow.brake;
                }
                standing |= gap < 4.0;
            }
        }
        // The pedal is not a switch.
        self.a += (a - self.a) * (dt / 0.1).min(1.0);
        let before = self.v;
        self.v = (self.v + self.a * dt).max(0.0);
        let way = (before + self.v) / 2.0 * dt;
        self.s += self.dir * way;
        self.brakes = self.a < -0.7 || (self.v < 0.3 && standing);
        self.gait += way / if walks(self.kind) { 1.4 * self.build.size[2] / 1.75 } else { 2.0 };
        self.place(path, t);
    }

    /// Puts the body where the script has it.
    pub(crate) fn place(&mut self, path: &Path, t: f64) {
        let (left, rate) = self.side(t);
        let pose = path.at(self.s, left);
        let base = if self.dir < 0.0 { PI } else { 0.0 };
        // A vehicle that moves aside slowly does not stand across the road.
        let most = if walks(self.kind) { PI } else { 0.5 };
        let turn = if rate == 0.0 { 0.0 } else { self.dir * atan2(rate, self.v.max(0.5)).clamp(-most, most) };
        let turn = base + turn;
        let heading = pose.heading + turn;
        let speed = if rate == 0.0 { self.v } else { (self.v * self.v + rate * rate).sqrt() };
        self.body = Body {
            x: pose.x,
            y: pose.y,
            heading,
            yaw_rate: path.curvature(self.s) * self.v * self.dir,
            speed,
            pitch: (-0.0022 * self.a).clamp(-0.02, 0.03),
            ..Body::default()
        };
    }

    /// The body as physics sees it, whether it is free or not.
    pub(crate) fn rigid(&self, mu: f64) -> Rigid {
        self.free.unwrap_or_else(|| self.make_rigid(mu))
    }

    fn make_rigid(&self, mu: f64) -> Rigid {
        let [length, width, _] = self.build.size;
        let mut rigid = Rigid::new(&self.body, self.build.mass, [length, width], mu);
        rigid.slides = falls(self.kind) || matches!(self.kind, ActorKind::Debris | ActorKind::Barrier);
        if rigid.slides {
            rigid.mu = 0.55 * mu.min(0.9) / 0.9;
        }
        rigid
    }

    /// From now on physics moves it.
    pub(crate) fn set_free(&mut self, t: f64, mu: f64) {
        if self.free.is_none() {
            self.free = Some(self.make_rigid(mu));
            if falls(self.kind) {
                self.fallen_since = Some(t);
            }
        }
    }

    /// Moves a free body on by a millisecond under the pushes on it.
    pub(crate) fn slide(&mut self, push: Push) {
        let Some(rigid) = &mut self.free else { return };
        let control = Control { accel: -4.5, steer: 0.0 };
        rigid.advance(1e-3, control, push);
        self.brakes = true;
        self.v = rigid.speed();
        self.body = Body {
            x: rigid.x,
            y: rigid.y,
            heading: rigid.heading,
            speed: self.v,
            yaw_rate: rigid.yaw_rate,
            pitch: (-0.0022 * rigid.accel[0]).clamp(-0.05, 0.05),
            roll: (0.0022 * rigid.accel[1]).clamp(-0.06, 0.06),
            ..Body::default()
        };
    }

    /// What the camera sees of it.
    pub(crate) fn actor(&self, t: f64) -> Actor {
        let lying = self.fallen_since.map_or(0.0, |since| {
            let f = ((t - since) / 0.7).clamp(0.0, 1.0);
            f * f * (3.0 - 2.0 * f)
        });
        let [length, width, height] = self.build.size;
        let indicator = match self.signal {
            _ if self.free.is_some() && !falls(self.kind) && self.v.abs() < 0.5 => 2,
            Some((from, to, side)) if (from..to).contains(&t) => side,
            _ => 0,
        };
        Actor {
            id: self.id,
            kind: self.kind,
            body: self.body,
            length,
            width,
            height,
            colour: self.build.colour,
            brake: self.brakes,
            indicator,
            headlights: self.headlights,
            lying,
            damage: self.damage,
            gait: self.gait,
        }
    }
}

/// A contact that is still pushing: between the ego vehicle (`None`) or a mover and a mover.
#[derive(Clone, Debug)]
pub(crate) struct Pushing {
    pub(crate) bodies: [Option<usize>; 2],
    pub(crate) blow: Blow,
    pub(crate) pulse: Pulse,
    pub(crate) since_ms: usize,
}

impl Pushing {
    /// Force on a body in this millisecond.
    pub(crate) fn on(&self, body: Option<usize>, ms: usize) -> Push {
        let share = self.pulse.share(ms.saturating_sub(self.since_ms));
        let mut sum = Push::default();
        for (i, who) in self.bodies.iter().enumerate() {
            if *who == body && share > 0.0 {
                let p = push(&self.blow, i == 0, share);
                sum = Push {
                    force: [sum.force[0] + p.force[0], sum.force[1] + p.force[1]],
                    moment: sum.moment + p.moment,
                };
            }
        }
        sum
    }

    pub(crate) fn over(&self, ms: usize) -> bool {
        ms >= self.since_ms + self.pulse.length_ms()
    }
}
