//! The ego driver: keeps to the plan, to the lane and to a distance, overlooks what the plan says is overlooked, and
//! answers a danger by braking and perhaps by moving aside once it is noticed.
//!
//! What it never does: know how the scenario ends.

use super::cast::{two_wheeled, walks};
use super::geometry::{Path, wrap};
use super::mover::{Mover, idm};
use super::plan::EgoPlan;
use super::rigid::{Control, Rigid};
use super::state::Body;
use crate::maths::{PI, cos, sin};

/// Longest that speeds are extrapolated, s.
const HORIZON_S: f64 = 4.5;
/// Braking that is still comfortable, m/s^2.
const COMFORT_MPS2: f64 = 3.8;

/// Another road user as the driver sees it: along and across the route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) s: f64,
    pub(crate) left: f64,
    /// Half extents along and across the route.
    pub(crate) half: [f64; 2],
    /// Speeds along and across the route.
    pub(crate) v: [f64; 2],
    pub(crate) hot: bool,
    pub(crate) soft: bool,
    pub(crate) index: usize,
}

/// Sees a mover in the route's axes.
pub(crate) fn see(mover: &Mover, index: usize, route: &Path, guess: f64) -> Seen {
    let (s, left) = if mover.path == 0 && mover.free.is_none() {
        // The script knows its way; the offset is that of the body.
        (mover.s, route.locate([mover.body.x, mover.body.y], mover.s).1)
    } else {
        route.locate([mover.body.x, mover.body.y], guess)
    };
    let turn = mover.body.heading - route.at(s, 0.0).heading;
    let (sin_t, cos_t) = (sin(turn), cos(turn));
    let [length, width, _] = mover.build.size;
    Seen {
        s,
        left,
        half: [(length * cos_t.abs() + width * sin_t.abs()) / 2.0, (length * sin_t.abs() + width * cos_t.abs()) / 2.0],
        v: [mover.body.speed * cos_t, mover.body.speed * sin_t],
        hot: mover.hot,
        soft: walks(mover.kind) || two_wheeled(mover.kind),
        index,
    }
}

/// The ego vehicle along and across the route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    pub(crate) s: f64,
    pub(crate) left: f64,
    pub(crate) v: [f64; 2],
    pub(crate) half: [f64; 2],
}

/// Time until two rectangles with these speeds touch along both axes, with room to the side; `None` within the
/// horizon.
pub(crate) fn time_to_touch(own: &Own, other: &Seen, room: f64) -> Option<f64> {
    let axis = |d: f64, v: f64, reach: f64| {
        // d + v t within -reach..reach.
        if v.abs() < 1e-3 {
            return (d.abs() <= reach).then_some((0.0, HORIZON_S));
        }
        let (a, b) = ((-reach - d) / v, (reach - d) / v);
        Some((a.min(b), a.max(b)))
    };
    let along = axis(other.s - own.s, other.v[0] - own.v[0], own.half[0] + other.half[0])?;
    let across = axis(other.left - own.left, other.v[1] - own.v[1], own.half[1] + other.half[1] + room)?;
    let (from, to) = (along.0.max(across.0).max(0.0), along.1.min(across.1));
    (from <= to && from <= HORIZON_S).then_some(from)
}

/// What the driver carries from tick to tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Driver {
    /// Braking for the danger since.
    pub(crate) emergency: Option<f64>,
    clear_since: Option<f64>,
    /// Pedals and wheel as asked, before they take effect.
    pub(crate) asked: Control,
    pub(crate) contact: Option<f64>,
    weave: [f64; 2],
}

impl Driver {
    pub(crate) fn new(weave: [f64; 2]) -> Self {
        Self { weave, ..Self::default() }
    }

    /// Decides every few milliseconds.
    pub(crate) fn decide(&mut self, plan: &EgoPlan, t: f64, own: &Own, others: &[Seen], route: &Path, body: &Rigid) {
        let v = body.speed();
        if let Some(since) = self.contact {
            // Startled, then braking to rest, the wheel held.
            let brake = if t - since > 0.3 { -5.5 } else { self.asked.accel.min(0.0) };
            self.asked = Control { accel: brake, steer: self.asked.steer * 0.98 };
            return;
        }
        let (wish, slope) = plan.speeds.at(t);
        let mut a = (slope + 0.9 * (wish - v)).clamp(-3.5, 2.6);
        if wish < 0.05 && v < 0.6 {
            a = -1.5;
        }
        let blind = (plan.blind[0]..plan.blind[1]).contains(&t);
        if !blind {
            a = a.min(self.keep_distance(plan, own, others, wish, v));
        }
        for stop in plan.stops.iter().filter(|s| (s.from..s.until).contains(&t)) {
            let gap = stop.s - own.s - own.half[0];
            if gap > -3.0 {
                a = a.min(idm(v, wish.max(2.0) * 1.25, 0.6, Some((gap + 2.0, v))).max(-COMFORT_MPS2));
            }
        }
        if let Some(own_brake) = plan.own_brake.filter(|b| (b.t..b.until).contains(&t)) {
            a = -own_brake.decel;
        }
        if t >= plan.notice && self.danger(plan, t, own, others) {
            a = -plan.brake;
        }
        self.asked = Control { accel: a, steer: self.steer(plan, t, own, route, body) };
    }

    /// Distance to whoever is ahead on the lane.
    fn keep_distance(&self, plan: &EgoPlan, own: &Own, others: &[Seen], wish: f64, v: f64) -> f64 {
        let mut a = f64::INFINITY;
        for other in others {
            let gap = other.s - own.s - own.half[0] - other.half[0];
            let beside = (other.left - own.left).abs() > own.half[1] + other.half[1] + 0.3;
            if other.s < own.s || gap > 120.0 || beside {
                continue;
            }
            let keep = idm(v, wish.max(1.0) * 1.25, plan.headway_s, Some((gap, v - other.v[0])));
            a = a.min(keep.max(-COMFORT_MPS2));
        }
        a
    }

    /// Whether the danger that was noticed still calls for the brake.
    fn danger(&mut self, plan: &EgoPlan, t: f64, own: &Own, others: &[Seen]) -> bool {
        let threat = others.iter().filter(|o| o.hot).any(|o| {
            let gap = o.s - own.s - own.half[0] - o.half[0];
            let on_lane = (o.left - own.left).abs() < own.half[1] + o.half[1] + 0.4;
            let near = o.s > own.s && gap < 2.5 + 0.7 * own.v[0] && o.v[0] < own.v[0] + 0.5;
            let room = if o.soft { 0.9 } else { 0.4 };
            (on_lane && near) || time_to_touch(own, o, room).is_some_and(|ttc| ttc < 3.5 && o.s > own.s - 1.0)
        });
        if threat {
            self.emergency.get_or_insert(t);
            self.clear_since = None;
        } else if self.emergency.is_some() && t - *self.clear_since.get_or_insert(t) > 0.6 {
            self.emergency = None;
        }
        let _ = plan;
        self.emergency.is_some()
    }

    fn steer(&self, plan: &EgoPlan, t: f64, own: &Own, route: &Path, body: &Rigid) -> f64 {
        let v = body.speed().max(0.0);
        let ahead = (0.75 * v).clamp(4.5, 26.0);
        let mut left = self.weave[0] * sin(2.0 * PI * t / 9.0 + self.weave[1]);
        let soon = t + 0.35;
        for shift in plan.shifts.iter().filter(|s| soon >= s.t) {
            let f = ((soon - shift.t) / shift.seconds).clamp(0.0, 1.0);
            left += (shift.to - left) * f * f * (3.0 - 2.0 * f);
        }
        if t >= plan.notice {
            let f = ((t - plan.notice) / 1.1).clamp(0.0, 1.0);
            left += plan.swerve * f * f * (3.0 - 2.0 * f);
        }
        let target = route.at(own.s + ahead, left);
        let (dx, dy) = (target.x - body.x, target.y - body.y);
        let side = cos(body.heading) * dy - sin(body.heading) * dx;
        let reach = dx * dx + dy * dy;
        (2.0 * body.wheelbase * side / reach.max(9.0)).clamp(-0.5, 0.5)
    }
}

/// The ego vehicle in the route's axes.
pub(crate) fn own(body: &Rigid, size: [f64; 2], route: &Path, guess: f64) -> Own {
    let (s, left) = route.locate([body.x, body.y], guess);
    let turn = wrap(body.heading - route.at(s, 0.0).heading);
    let (sin_t, cos_t) = (sin(turn), cos(turn));
    let [length, width] = size;
    let v = body.speed();
    Own {
        s,
        left,
        v: [v * cos_t, v * sin_t],
        half: [(length * cos_t.abs() + width * sin_t.abs()) / 2.0, (length * sin_t.abs() + width * cos_t.abs()) / 2.0],
    }
}

/// The body of the ego vehicle for tests of touch.
pub(crate) fn body_of(rigid: &Rigid) -> Body {
    Body {
        x: rigid.x,
        y: rigid.y,
        heading: rigid.heading,
        speed: rigid.speed(),
        yaw_rate: rigid.yaw_rate,
        ..Body::default()
    }
}
