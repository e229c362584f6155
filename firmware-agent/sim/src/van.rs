//! The van ahead, seen from behind: body, window, wheels, lights, number plate without a number, shadow.

use crate::maths::{PI, cos, sin};
use crate::raster::Canvas;
use crate::road::Road;
use crate::scene::{disc, shade};
use crate::view::{View, beside};

const WIDTH_M: f64 = 1.95;
const LENGTH_M: f64 = 4.9;
const HEIGHT_M: f64 = 2.1;
const BODY: [u8; 3] = [188, 40, 38];

/// Draws the van whose rear bumper is `s` metres along the road.
pub(crate) fn draw_van(view: &View, canvas: &mut Canvas, road: &Road, s: f64, brake: bool, blink: bool) {
    let pose = road.pose(s, -0.1);
    let half = WIDTH_M / 2.0;
    let at = |ahead: f64, left: f64, up: f64| beside(&pose, ahead, left, up);
    let shadow = [
        at(-0.35, -half - 0.2, 0.0),
        at(-0.35, half + 0.2, 0.0),
        at(LENGTH_M + 0.2, half + 0.25, 0.0),
        at(LENGTH_M + 0.2, -half - 0.25, 0.0),
    ];
    view.fill(canvas, &shadow, [26, 26, 30], 0.6);
    let under = [at(-0.1, -half + 0.05, 0.02), at(-0.1, half - 0.05, 0.02), at(0.1, half, 0.4), at(0.1, -half, 0.4)];
    view.fill(canvas, &under, [24, 24, 26], 0.9);
    for left in [-half + 0.02, half - 0.02] {
        // The side that the camera can see of each long side: dark glass over paint, and two wheels.
        let lean = |z: f64| if z > 1.2 { left * (1.0 - 0.13 * (z - 1.2)) } else { left };
        let side = |a0: f64, a1: f64, z0: f64, z1: f64| {
            [at(a0, lean(z0), z0), at(a1, lean(z0), z0), at(a1, lean(z1), z1), at(a0, lean(z1), z1)]
        };
        view.fill(canvas, &side(0.0, LENGTH_M, 0.35, 1.2), shade(BODY, 0.7), 1.0);
        view.fill(canvas, &side(0.12, LENGTH_M - 1.2, 1.2, HEIGHT_M), shade(BODY, 0.75), 1.0);
        view.fill(canvas, &side(0.5, LENGTH_M - 1.4, 1.25, 1.9), [40, 46, 54], 1.0);
        for wheel in [0.85, LENGTH_M - 0.95] {
            let round: [_; 16] = core::array::from_fn(|k| {
                let a = k as f64 * PI / 8.0;
                at(wheel + 0.33 * cos(a), left * 1.01, 0.33 + 0.33 * sin(a))
            });
            view.fill(canvas, &round, [18, 18, 20], 1.0);
        }
    }
    let rear =
        |l0: f64, l1: f64, z0: f64, z1: f64| [at(0.0, l0, z0), at(0.0, l1, z0), at(0.0, l1, z1), at(0.0, l0, z1)];
    for left in [-half + 0.2, half - 0.2] {
        view.fill(canvas, &rear(left - 0.13, left + 0.13, 0.0, 0.55), [20, 20, 22], 1.0);
        view.fill(canvas, &disc(at(0.05, left, 0.12), pose.heading, 0.13, 0.12), [16, 16, 18], 1.0);
    }
    // Rear: bumper, door, window, roof edge.
    let w = half;
    view.fill(canvas, &rear(-w, w, 0.36, 1.15), BODY, 1.0);
    let upper = [at(0.0, -w, 1.15), at(0.0, w, 1.15), at(0.12, w - 0.12, HEIGHT_M), at(0.12, -w + 0.12, HEIGHT_M)];
    view.fill(canvas, &upper, shade(BODY, 0.92), 1.0);
    let glass = [at(0.01, -w + 0.2, 1.22), at(0.01, w - 0.2, 1.22), at(0.1, w - 0.28, 1.9), at(0.1, -w + 0.28, 1.9)];
    view.fill(canvas, &glass, [44, 54, 66], 1.0);
    let glint =
        [at(0.01, -w + 0.3, 1.26), at(0.01, -w + 0.6, 1.26), at(0.09, -w + 0.95, 1.86), at(0.09, -w + 0.65, 1.86)];
    view.fill(canvas, &glint, [110, 126, 142], 0.6);
    view.fill(canvas, &rear(-w - 0.02, w + 0.02, 0.36, 0.58), [52, 52, 56], 1.0);
    view.fill(canvas, &rear(-0.27, 0.27, 0.7, 0.84), [228, 226, 210], 1.0);
    view.fill(canvas, &rear(-0.02, 0.02, 0.6, 1.2), shade(BODY, 0.7), 1.0);
    lights(view, canvas, &rear, pose.heading, (brake, blink));
}

/// The rectangle of the rear between two ways to the left and two heights, metres.
type Rear<'a> = dyn Fn(f64, f64, f64, f64) -> [[f64; 3]; 4] + 'a;

/// Tail lights, brighter with a glow when braking, and the hazard lights after the impact.
fn lights(view: &View, canvas: &mut Canvas, rear: &Rear<'_>, heading: f64, (brake, blink): (bool, bool)) {
    let w = WIDTH_M / 2.0;
    for side in [-1.0, 1.0] {
        let inner = side * (w - 0.24);
        let outer = side * (w - 0.02);
        let (l0, l1) = (inner.min(outer), inner.max(outer));
        if brake {
            for size in [0.62, 0.48, 0.36, 0.27] {
                let [middle, ..] = rear((l0 + l1) / 2.0, l1, 1.03, 1.03);
                view.fill(canvas, &disc(middle, heading, size * 0.8, size), [255, 70, 50], 0.13);
            }
        }
        view.fill(canvas, &rear(l0, l1, 0.84, 1.22), if brake { [255, 52, 36] } else { [118, 14, 16] }, 1.0);
        if brake {
            view.fill(canvas, &rear(l0 + 0.05, l1 - 0.05, 0.92, 1.12), [255, 190, 160], 0.9);
        }
        view.fill(canvas, &rear(l0, l1, 0.72, 0.84), if blink { [255, 176, 32] } else { [150, 96, 40] }, 1.0);
    }
    if brake {
        view.fill(canvas, &rear(-0.35, 0.35, 1.94, 2.0), [255, 60, 44], 1.0);
    }
}
