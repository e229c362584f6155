//! Where a road's lanes and edges are, and the line it follows. Traffic keeps to the right.
//!
//! Offsets are metres to the left of the route, which is the middle of the ego vehicle's lane.

use super::geometry::{Path, Pose};
use super::state::RoadKind;
use crate::maths::PI;
use crate::rng::Rng;

/// Way of the ego vehicle at the begin of a drive, metres: the road begins behind it.
pub(crate) const EGO_START_M: f64 = 90.0;
/// Road beyond the farthest place the ego vehicle can reach, metres.
pub(crate) const ROAD_AHEAD_M: f64 = 330.0;
/// Half the width of a crossing road, metres.
pub(crate) const CROSS_HALF_M: f64 = 3.6;
/// Half of the crossing road's lane offset, metres.
pub(crate) const CROSS_LANE_M: f64 = 1.75;

/// A road's cross-section and line.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) kind: RoadKind,
    pub(crate) route: Path,
    /// Width of a lane.
    pub(crate) lane: f64,
    /// Middles of the lanes in our direction, the ego lane (0) among them, and of those that come towards us.
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
    /// Edges of the asphalt: right, left.
    pub(crate) edges: [f64; 2],
    /// Middle of the parking strip at the right, if there is one.
    pub(crate) parking: Option<f64>,
    /// Way of the junction.
    pub(crate) junction: Option<f64>,
}

/// A bend: from where, over which way, how much per metre.
struct Bend {
    from: f64,
    length: f64,
    curvature: f64,
    ease: f64,
}

/// What a layout is drawn for.
pub(crate) struct Wanted {
    pub(crate) kind: RoadKind,
    /// Farthest way of the ego vehicle.
    pub(crate) reach: f64,
    /// No bend between these ways.
    pub(crate) straight: [f64; 2],
    /// Fastest speed planned, m/s.
    pub(crate) speed: f64,
    pub(crate) junction: Option<f64>,
    /// There must be a parking strip.
    pub(crate) parking: bool,
    /// Way of a turn into another street, and whether it goes left.
    pub(crate) turn: Option<(f64, bool)>,
}

impl Layout {
    pub(crate) fn draw(rng: &mut Rng, wanted: &Wanted) -> Self {
        let length = EGO_START_M + wanted.reach + ROAD_AHEAD_M;
        let bends = bends(rng, wanted, length);
        let heading = rng.between(-PI, PI);
        let curvature = |s: f64| {
            bends
                .iter()
                .map(|b| {
                    let into = ((s - b.from) / b.ease).clamp(0.0, 1.0);
                    let out = ((b.from + b.length - s) / b.ease).clamp(0.0, 1.0);
                    b.curvature * into.min(out)
                })
                .sum()
        };
        let start = Pose { x: 0.0, y: 0.0, heading };
        let route = Path::from_curvature(start, length, 2.0, curvature);
        let (lane, ours, theirs, edges, parking) = match wanted.kind {
            RoadKind::Town => {
                let parking = wanted.parking || rng.unit() < 0.5;
                let right = if parking { -4.0 } else { -1.95 };
                let left = if rng.unit() < 0.5 { 7.3 } else { 5.2 };
                (3.25, vec![0.0], vec![3.25], [right, left], parking.then_some(-2.85))
            }
            RoadKind::Motorway => {
                // In the right, middle or left one of three lanes.
                let lane = 3.6;
                let right = (rng.next_u64() % 2) as f64;
                let ours: Vec<f64> = (0..3).map(|i| (f64::from(i) - right) * lane).collect();
                let [low, high] = [-right * lane, (2.0 - right) * lane];
                let theirs = vec![high + 8.2, high + 11.8];
                (lane, ours, theirs, [low - 1.9 - 2.4, high + 2.3], None)
            }
            RoadKind::Country => (3.3, vec![0.0], vec![3.3], [-2.0, 5.3], None),
        };
        Self { kind: wanted.kind, route, lane, ours, theirs, edges, parking, junction: wanted.junction }
    }

    /// The neighbouring lane of our direction at a side, if there is one; in town and country that is the roadside or
    /// the lane of those who come towards us.
    pub(crate) fn neighbour(&self, left: bool) -> f64 {
        let step = if left { self.lane } else { -self.lane };
        if self.ours.iter().any(|l| (l - step).abs() < 0.1) {
            return step;
        }
        if left { self.lane } else { self.parking.unwrap_or(self.edges[0] + 0.2) }
    }
}

/// Radius of a turn into another street, metres.
const TURN_M: f64 = 15.0;
/// Way over which a bend tightens, and over which a turn does, metres.
const EASE_M: f64 = 15.0;
const TURN_EASE_M: f64 = 6.0;

fn bends(rng: &mut Rng, wanted: &Wanted, length: f64) -> Vec<Bend> {
    let mut all = Vec::new();
    if let Some((from, left)) = wanted.turn {
        let curvature = if left { 1.0 / TURN_M } else { -1.0 / TURN_M };
        // A right angle: the eased ends count half.
        all.push(Bend { from, length: TURN_M * PI / 2.0 + TURN_EASE_M, curvature, ease: TURN_EASE_M });
    }
    let (lateral, gap) = match wanted.kind {
        RoadKind::Town => (1.6, [60.0, 140.0]),
        RoadKind::Motorway => (0.7, [150.0, 320.0]),
        RoadKind::Country => (2.1, [30.0, 110.0]),
    };
    let fastest = wanted.speed.max(8.0) * 1.15;
    let tightest = (lateral / (fastest * fastest)).min(0.02);
    let mut from = EGO_START_M + rng.between(5.0, 50.0);
    while from < length && all.len() < 32 {
        let turn = rng.between(0.06, 0.5);
        let curvature = tightest * rng.between(0.4, 1.0);
        let bend = Bend {
            from,
            length: (turn / curvature + EASE_M).min(220.0),
            ease: EASE_M,
            curvature: if rng.unit() < 0.5 { curvature } else { -curvature },
        };
        from += bend.length + rng.between(gap[0], gap[1]);
        if bend.from > wanted.straight[1] || bend.from + bend.length < wanted.straight[0] {
            all.push(bend);
        }
    }
    all
}
