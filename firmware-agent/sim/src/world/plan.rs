//! What the ego driver means to do: speeds over time, where to stop, when to look and how to answer a danger.

use super::mover::Shift;
use crate::rng::Rng;

/// Speeds over time, straight between the knots, level before and after them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speeds {
    knots: Vec<(f64, f64)>,
}

/// Most knots of a plan.
const KNOTS: usize = 64;

impl Speeds {
    /// Knots in the order of time.
    pub(crate) fn new(knots: Vec<(f64, f64)>) -> Self {
        Self { knots }
    }

    /// Drives at about `v`, wavering by a share, level around `event`; from standstill if `starts`.
    pub(crate) fn wavering(rng: &mut Rng, v: f64, share: f64, event: f64, length: f64, starts: bool) -> Self {
        let mut knots = Vec::new();
        let mut t = 0.0;
        if starts {
            let go = rng.between(0.8, 2.0);
            let pull = rng.between(1.5, 2.3);
            knots.extend([(go, 0.0), (go + v / pull, v)]);
            t = go + v / pull;
        } else {
            knots.push((0.0, v * (1.0 + share * rng.between(-1.0, 1.0))));
        }
        while t < length && knots.len() < KNOTS {
            t += rng.between(3.0, 5.5);
            let level = (event - 3.0..event + 2.0).contains(&t);
            knots.push((t, if level { v } else { v * (1.0 + share * rng.between(-1.0, 1.0)) }));
        }
        // Level from 2.5 s before the event on, and until it is over.
        knots.retain(|(t, _)| !(event - 2.5..event + 2.0).contains(t));
        knots.extend([(event - 2.5, v), (event + 2.0, v)]);
        knots.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { knots }
    }

    /// Speed and its change at a time: m/s, m/s^2.
    pub(crate) fn at(&self, t: f64) -> (f64, f64) {
        let next = self.knots.partition_point(|(at, _)| *at <= t);
        match (next.checked_sub(1).and_then(|i| self.knots.get(i)), self.knots.get(next)) {
            (Some((t0, v0)), Some((t1, v1))) => {
                let slope = (v1 - v0) / (t1 - t0).max(1e-3);
                (v0 + slope * (t - t0), slope)
            }
            (Some((_, v)), None) | (None, Some((_, v))) => (*v, 0.0),
            (None, None) => (0.0, 0.0),
        }
    }

    /// Way driven until a time by a driver who keeps to the plan, metres.
    pub(crate) fn way(&self, t: f64) -> f64 {
        const STEP: f64 = 0.02;
        let steps = (t / STEP).max(0.0) as usize;
        (0..steps).map(|i| self.at((i as f64 + 0.5) * STEP).0 * STEP).sum()
    }

    /// Fastest speed of the plan, m/s.
    pub(crate) fn fastest(&self) -> f64 {
        self.knots.iter().fold(0.0, |m, k| k.1.max(m))
    }
}

/// A line to stop at, between two times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// Way along the route at which the front shall stand.
    pub(crate) s: f64,
    pub(crate) from: f64,
    pub(crate) until: f64,
}

/// A braking of the driver's own accord.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnBrake {
    pub(crate) t: f64,
    pub(crate) until: f64,
    pub(crate) decel: f64,
}

/// The ego driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct EgoPlan {
    pub(crate) speeds: Speeds,
    pub(crate) headway_s: f64,
    /// Sees no other road user between these times.
    pub(crate) blind: [f64; 2],
    /// From when on the driver answers the danger; beyond the end: never.
    pub(crate) notice: f64,
    pub(crate) brake: f64,
    /// Moves aside by this when noticing, m.
    pub(crate) swerve: f64,
    pub(crate) shifts: Vec<Shift>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) own_brake: Option<OwnBrake>,
    /// Touching the kerb is part of it.
    pub(crate) kerb: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_the_integral_of_the_speeds() {
        let speeds = Speeds::new(vec![(2.0, 0.0), (6.0, 8.0)]);
        assert_eq!((speeds.at(1.0), speeds.at(4.0), speeds.at(9.0)), ((0.0, 0.0), (4.0, 2.0), (8.0, 0.0)));
        assert!((speeds.way(6.0) - 16.0).abs() < 0.01 && (speeds.way(8.0) - 32.0).abs() < 0.01);
        assert_eq!(speeds.fastest(), 8.0);
    }
}
