//! The road: a centre line by arc length with its curvature, and what stands beside it. The vehicle follows it, so
//! what the camera sees and what the gyroscope feels belong together.

use crate::limits::{ROAD_M, ROAD_POINTS_PER_M, SCENERY};
use crate::maths::{PI, cos, sin};
use crate::rng::Rng;

/// Where the pothole lies, metres along the road.
pub(crate) const POTHOLE_S: f64 = 118.0;
/// The road behind the start, metres, so that the camera has ground under it.
const BEFORE_M: f64 = 20.0;

/// A place on the plane and a direction, metres and radians, x east, y north, heading counter-clockwise from x.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pose {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) heading: f64,
}

/// What stands beside the road.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Thing {
    /// A house: length along the road, depth and height in metres, colour.
    House { length: f64, depth: f64, height: f64, colour: [u8; 3] },
    /// A tree: height of the crown's middle and radius, metres.
    Tree { height: f64, radius: f64, colour: [u8; 3] },
    /// A street lamp.
    Lamp,
}

/// One thing, its place along the road and to the left of the driven line, metres.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenery {
    pub(crate) s: f64,
    pub(crate) left: f64,
    pub(crate) thing: Thing,
}

/// Curvature bend: begin, full length between two ramps of 5 m, curvature 1/m (left positive).
const BENDS: [(f64, f64, f64); 4] =
    [(42.0, 18.56, 1.0 / 15.0), (84.0, 12.0, -0.012), (101.0, 12.0, 0.012), (156.0, 19.0, -1.0 / 15.5)];
const RAMP_M: f64 = 5.0;

/// Curvature at `s` metres, 1/m, left positive.
pub(crate) fn curvature(s: f64) -> f64 {
    BENDS.iter().fold(0.0, |sum, &(begin, length, k)| {
        let into = ((s - begin) / RAMP_M).clamp(0.0, 1.0);
        let out = ((begin + 2.0 * RAMP_M + length - s) / RAMP_M).clamp(0.0, 1.0);
        sum + k * into.min(out)
    })
}

/// The road.
pub(crate) struct Road {
    points: Vec<Pose>,
    pub(crate) scenery: Vec<Scenery>,
}

impl Road {
    pub(crate) fn new(seed: u64) -> Self {
        let step = 1.0 / ROAD_POINTS_PER_M as f64;
        let mut points = Vec::with_capacity(ROAD_M * ROAD_POINTS_PER_M);
        let mut pose = Pose { x: -BEFORE_M, y: 0.0, heading: 0.0 };
        for i in 0..ROAD_M * ROAD_POINTS_PER_M {
            points.push(pose);
            let turn = curvature((i as f64 + 0.5) * step - BEFORE_M) * step;
            let middle = pose.heading + turn / 2.0;
            pose.x += cos(middle) * step;
            pose.y += sin(middle) * step;
            pose.heading += turn;
        }
        Self { points, scenery: scenery(&mut Rng::new(seed, 11)) }
    }

    /// The pose at `s` metres along the driven line and `left` metres to the left of it.
    pub(crate) fn pose(&self, s: f64, left: f64) -> Pose {
        let place = ((s + BEFORE_M) * ROAD_POINTS_PER_M as f64).max(0.0);
        let last = self.points.len().saturating_sub(2);
        let i = (place as usize).min(last);
        let (Some(a), Some(b)) = (self.points.get(i), self.points.get(i + 1)) else { return Pose::default() };
        let f = (place - i as f64).clamp(0.0, 1.0);
        let heading = a.heading + (b.heading - a.heading) * f;
        Pose { x: a.x + (b.x - a.x) * f - sin(heading) * left, y: a.y + (b.y - a.y) * f + cos(heading) * left, heading }
    }
}

/// Houses, trees and lamps on both sides; none inside a bend's circle, where they would stand on the other street.
fn scenery(rng: &mut Rng) -> Vec<Scenery> {
    const WALLS: [[u8; 3]; 6] =
        [[196, 178, 150], [176, 120, 96], [206, 200, 190], [150, 142, 136], [188, 160, 120], [166, 150, 158]];
    let mut all = Vec::with_capacity(SCENERY);
    for side in [1.0, -1.0] {
        let kerb = if side > 0.0 { 8.6 } else { 5.0 };
        let mut s = 4.0;
        while s < 430.0 && all.len() + 2 < SCENERY {
            let ahead = curvature(s + 6.0) + curvature(s - 6.0) + curvature(s);
            let inside = ahead * side > 0.02;
            let outside = ahead * side < -0.02;
            let grove = (70.0..100.0).contains(&s) || (225.0..240.0).contains(&s);
            if !inside && !grove && rng.unit() < 0.72 {
                let length = rng.between(8.0, 14.0);
                let colour = WALLS[(rng.next_u64() % WALLS.len() as u64) as usize];
                let thing = Thing::House { length, depth: 9.0, height: rng.between(5.0, 11.0), colour };
                let set_back = if outside { 3.0 } else { rng.between(1.0, 2.5) };
                all.push(Scenery { s: s + length / 2.0, left: side * (kerb + set_back), thing });
                s += length + rng.between(0.8, 3.0);
            } else {
                let green = rng.between(-14.0, 14.0);
                let colour = [(62.0 + green) as u8, (104.0 + green) as u8, 52];
                let thing = Thing::Tree { height: rng.between(3.4, 5.0), radius: rng.between(1.5, 2.2), colour };
                let set_back = if inside { 0.6 } else { rng.between(0.4, 3.0) };
                all.push(Scenery { s, left: side * (kerb + set_back), thing });
                s += rng.between(5.0, 8.0);
            }
        }
    }
    let mut s = 12.0;
    while s < 430.0 && all.len() < SCENERY {
        all.push(Scenery { s, left: -3.4, thing: Thing::Lamp });
        s += 28.0;
    }
    all
}

/// A whole turn's degrees clockwise from north for a heading counter-clockwise from east.
pub(crate) fn course_deg(heading: f64) -> f64 {
    let degrees = 90.0 - heading * 180.0 / PI;
    degrees - (degrees / 360.0).floor() * 360.0
}
