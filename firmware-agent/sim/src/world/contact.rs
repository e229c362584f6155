//! What happens when two bodies meet: an impulse by momentum and restitution, spread over a crash pulse.
//!
//! The impulse is that of two rigid bodies in the plane with Coulomb friction at the point of contact. It acts as a
//! force of haversine shape (sine squared) with a ring of some tens of hertz on it, as measured pulses of frontal and
//! rear impacts show in outline; 80 to 150 ms between vehicles, shorter against persons and stiff obstacles.
//! Restitution falls with the closing speed. The crush of the bodies is their overlap while the pulse lasts.
//!
//! What it never does: break, roll over or deform anything.

use super::geometry::{Touch, cross, dot};
use super::rigid::{Push, Rigid};
use super::state::Point2;
use crate::limits::PULSE_MS_MAX;
use crate::maths::{PI, sin};
use crate::rng::Rng;

/// Friction between bodies.
const FRICTION: f64 = 0.35;

/// A crash pulse: shares of an impulse per millisecond that sum to one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pulse {
    shares: Vec<f64>,
}

impl Pulse {
    /// Of a length in milliseconds; `ring` is the size of the ring against the haversine, `hz` its frequency.
    pub(crate) fn new(length_ms: usize, ring: f64, hz: f64) -> Self {
        let n = length_ms.clamp(2, PULSE_MS_MAX);
        let mut shares: Vec<f64> = (0..n)
            .map(|k| {
                let t = k as f64 + 0.5;
                let hat = sin(PI * t / n as f64);
                // The ring fades in with the force and is never stronger than it: contact pushes, it does not pull.
                hat * hat * (1.0 + ring * sin(2.0 * PI * hz * t * 1e-3))
            })
            .collect();
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|s| *s /= sum);
        Self { shares }
    }

    pub(crate) fn length_ms(&self) -> usize {
        self.shares.len()
    }

    /// Share of the impulse in the millisecond `ms` after its begin.
    pub(crate) fn share(&self, ms: usize) -> f64 {
        self.shares.get(ms).copied().unwrap_or(0.0)
    }
}

/// Restitution at a closing speed, m/s: near 0.35 at walking pace, below 0.15 at town speed.
pub(crate) fn restitution(closing: f64) -> f64 {
    0.06 + 0.34 / (1.0 + closing.max(0.0) / 3.0)
}

/// An impulse between two bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Blow {
    /// On the first body, newton seconds, world axes; the second takes the opposite.
    pub(crate) impulse: Point2,
    /// Where it acts, from the middles of both, at the moment of contact.
    pub(crate) arms: [Point2; 2],
    /// Speed at which the points of contact near each other along the normal, m/s.
    pub(crate) closing: f64,
    pub(crate) restitution: f64,
}

/// The impulse of two bodies that touch, `None` if they move apart.
pub(crate) fn blow(a: &Rigid, b: &Rigid, touch: &Touch, elastic: bool) -> Option<Blow> {
    let (va, vb) = (a.velocity_at(touch.point), b.velocity_at(touch.point));
    let relative = [va[0] - vb[0], va[1] - vb[1]];
    let closing = dot(relative, touch.normal);
    if closing <= 0.02 {
        return None;
    }
    let arms = [[touch.point[0] - a.x, touch.point[1] - a.y], [touch.point[0] - b.x, touch.point[1] - b.y]];
    let yielding = |n: Point2| {
        let (ca, cb) = (cross(arms[0], n), cross(arms[1], n));
        1.0 / a.mass + 1.0 / b.mass + ca * ca / a.inertia + cb * cb / b.inertia
    };
    let restitution = if elastic { restitution(closing) } else { 0.0 };
    let normal = (1.0 + restitution) * closing / yielding(touch.normal);
    let tangent = [-touch.normal[1], touch.normal[0]];
    let sliding = dot(relative, tangent);
    let along = (sliding.abs() / yielding(tangent)).min(FRICTION * normal);
    let along = if sliding < 0.0 { -along } else { along };
    let impulse = [-normal * touch.normal[0] - along * tangent[0], -normal * touch.normal[1] - along * tangent[1]];
    Some(Blow { impulse, arms, closing, restitution })
}

/// Force on one of the bodies in a millisecond of the pulse.
pub(crate) fn push(blow: &Blow, first: bool, share: f64) -> Push {
    let sign = if first { 1.0 } else { -1.0 };
    let force = blow.impulse.map(|j| sign * j * share * 1000.0);
    Push { force, moment: cross(blow.arms[usize::from(!first)], force) }
}

/// Length and ring of a pulse against a partner of the given stiffness class.
pub(crate) fn draw_pulse(rng: &mut Rng, range_ms: [f64; 2]) -> Pulse {
    let length = rng.between(range_ms[0], range_ms[1]).round() as usize;
    Pulse::new(length, rng.between(0.1, 0.35), rng.between(35.0, 75.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::state::Body;

    fn body(x: f64, speed: f64, mass: f64) -> Rigid {
        Rigid::new(&Body { x, speed, ..Body::default() }, mass, [4.5, 1.8], 0.8)
    }

    #[test]
    fn momentum_is_kept_and_restitution_is_what_it_says() {
        let (mut a, mut b) = (body(0.0, 12.0, 1500.0), body(4.5, 2.0, 2400.0));
        let touch = Touch { normal: [1.0, 0.0], point: [2.25, 0.0], depth: 0.0 };
        let blow = blow(&a, &b, &touch, true).unwrap();
        let pulse = Pulse::new(110, 0.3, 50.0);
        for ms in 0..pulse.length_ms() {
            for (body, first) in [(&mut a, true), (&mut b, false)] {
                let p = push(&blow, first, pulse.share(ms));
                body.v[0] += p.force[0] / body.mass * 1e-3;
            }
        }
        assert!((1500.0 * a.v[0] + 2400.0 * b.v[0] - 1500.0 * 12.0 - 2400.0 * 2.0).abs() < 1e-6);
        assert!((b.v[0] - a.v[0] - blow.restitution * 10.0).abs() < 1e-9, "{} {}", a.v[0], b.v[0]);
        assert!((0.1..0.2).contains(&blow.restitution), "{}", blow.restitution);
    }

    #[test]
    fn a_pulse_is_one_hump_that_sums_to_one_and_never_pulls() {
        for (n, ring, hz) in [(80, 0.0, 50.0), (150, 0.35, 75.0), (30, 0.3, 40.0)] {
            let pulse = Pulse::new(n, ring, hz);
            let sum: f64 = (0..n).map(|k| pulse.share(k)).sum();
            let peak = (0..n).map(|k| pulse.share(k)).fold(0.0, f64::max);
            assert!((sum - 1.0).abs() < 1e-12 && (0..n).all(|k| pulse.share(k) >= 0.0));
            // A haversine's peak is twice its mean.
            assert!((1.9..2.8).contains(&(peak * n as f64)), "{}", peak * n as f64);
        }
    }

    #[test]
    fn bodies_that_part_make_no_blow_and_an_eccentric_one_turns() {
        let touch = Touch { normal: [1.0, 0.0], point: [2.25, 0.6], depth: 0.0 };
        assert_eq!(blow(&body(0.0, 1.0, 1500.0), &body(4.5, 2.0, 1500.0), &touch, true), None);
        let hit = blow(&body(0.0, 10.0, 1500.0), &body(4.5, 0.0, 1500.0), &touch, true).unwrap();
        // Pushed back on its left front corner, the striker turns to the left.
        assert!(push(&hit, true, 0.02).moment > 0.0);
    }
}
