//! The estate car ahead, seen mostly from behind: body, windows, wheels, lights, a number plate without a number and a
//! shadow. Its proportions are a real estate car's, so that a detector trained on photographs knows it.

use crate::maths::{PI, cos, sin};
use crate::raster::Canvas;
use crate::road::Road;
use crate::scene::{disc, shade};
use crate::view::{Place, View, beside};

const WIDTH_M: f64 = 1.92;
const LENGTH_M: f64 = 4.7;
const HEIGHT_M: f64 = 1.66;
/// Height of the waist, where the windows begin.
const WAIST_M: f64 = 0.98;
const BODY: [u8; 3] = [176, 52, 46];
const GLASS: [u8; 3] = [36, 42, 50];
const RUBBER: [u8; 3] = [20, 20, 22];

/// How far the body's half width shrinks at a height above the waist, metres.
fn tumblehome(z: f64) -> f64 {
    0.36 * (z - WAIST_M).max(0.0)
}

/// A rectangle of the rear: from left to right, and from low to high; the tailgate leans forward above the waist.
type Rear<'a> = dyn Fn([f64; 2], [f64; 2]) -> [Place; 4] + 'a;

/// Draws the car whose rear bumper is `s` metres along the road.
pub(crate) fn draw_lead(view: &View, canvas: &mut Canvas, road: &Road, s: f64, brake: bool, blink: bool) {
    let pose = road.pose(s, -0.1);
    let w = WIDTH_M / 2.0;
    let at = |ahead: f64, left: f64, up: f64| beside(&pose, ahead, left, up);
    for (more, alpha) in [(0.3, 0.3), (0.12, 0.45)] {
        let (a0, a1) = (-0.15 - more, LENGTH_M + more);
        let shadow = [at(a0, -w - more, 0.0), at(a0, w + more, 0.0), at(a1, w + more, 0.0), at(a1, -w - more, 0.0)];
        view.fill(canvas, &shadow, [24, 24, 28], alpha);
    }
    for left in [-w + 0.02, w - 0.02] {
        let lean = |z: f64| left - left.signum() * tumblehome(z);
        let side = |a0: f64, a1: f64, z0: f64, z1: f64| {
            [at(a0, lean(z0), z0), at(a1, lean(z0), z0), at(a1, lean(z1), z1), at(a0, lean(z1), z1)]
        };
        view.fill(canvas, &side(0.05, LENGTH_M, 0.3, 0.9), shade(BODY, 0.72), 1.0);
        view.fill(canvas, &side(0.05, LENGTH_M - 1.2, 0.9, WAIST_M), shade(BODY, 0.85), 1.0);
        view.fill(canvas, &side(0.4, LENGTH_M - 1.9, WAIST_M, HEIGHT_M - 0.05), shade(BODY, 0.75), 1.0);
        view.fill(canvas, &side(0.5, LENGTH_M - 2.0, WAIST_M + 0.04, HEIGHT_M - 0.13), GLASS, 1.0);
        for wheel in [0.85, LENGTH_M - 0.9] {
            let round = |radius: f64| -> [Place; 16] {
                core::array::from_fn(|k| {
                    let a = k as f64 * PI / 8.0;
                    at(wheel + radius * cos(a), left * 1.01, 0.33 + radius * sin(a))
                })
            };
            view.fill(canvas, &round(0.34), RUBBER, 1.0);
            view.fill(canvas, &round(0.2), [120, 122, 126], 1.0);
        }
    }
    let rear = |[l0, l1]: [f64; 2], [z0, z1]: [f64; 2]| {
        let back = |z: f64| 0.55 * (z - WAIST_M).max(0.0);
        [at(back(z0), l0, z0), at(back(z0), l1, z0), at(back(z1), l1, z1), at(back(z1), l0, z1)]
    };
    body(view, canvas, &rear, &at);
    lights(view, canvas, &rear, pose.heading, (brake, blink));
}

fn body(view: &View, canvas: &mut Canvas, rear: &Rear<'_>, at: &dyn Fn(f64, f64, f64) -> Place) {
    let w = WIDTH_M / 2.0;
    for side in [-1.0, 1.0] {
        let (outer, inner) = (side * (w - 0.03), side * (w - 0.25));
        view.fill(canvas, &rear([outer.min(inner), outer.max(inner)], [0.0, 0.4]), RUBBER, 1.0);
    }
    view.fill(canvas, &rear([-w + 0.25, w - 0.25], [0.2, 0.4]), [14, 14, 16], 1.0);
    let mut fill = |l: [f64; 2], z: [f64; 2], colour: [u8; 3]| view.fill(canvas, &rear(l, z), colour, 1.0);
    fill([-w + 0.04, w - 0.04], [0.28, 0.4], [34, 34, 38]);
    // Paint from the bumper's lip to the waist: darker low, a bright edge along the bumper and the shoulder.
    fill([-w, w], [0.38, 0.62], shade(BODY, 0.86));
    fill([-w, w], [0.61, 0.65], shade(BODY, 1.25));
    fill([-w + 0.01, w - 0.01], [0.65, 0.92], BODY);
    fill([-w + 0.02, w - 0.02], [0.91, WAIST_M], shade(BODY, 1.15));
    fill([-0.3, 0.3], [0.66, 0.83], shade(BODY, 0.7));
    fill([-0.26, 0.26], [0.69, 0.8], [228, 226, 210]);
    fill([-w + 0.12, -w + 0.3], [0.43, 0.48], [120, 20, 20]);
    fill([w - 0.3, w - 0.12], [0.43, 0.48], [120, 20, 20]);
    // The tailgate's window in its frame, and the roof's edge with its spoiler.
    let frame = |low: f64, high: f64, inset: f64| -> [Place; 4] {
        let (l0, l1) = (w - inset - tumblehome(low), w - inset - tumblehome(high));
        let back = |z: f64| 0.55 * (z - WAIST_M).max(0.0);
        [at(back(low), -l0, low), at(back(low), l0, low), at(back(high), l1, high), at(back(high), -l1, high)]
    };
    view.fill(canvas, &frame(WAIST_M, HEIGHT_M, 0.02), shade(BODY, 0.8), 1.0);
    view.fill(canvas, &frame(WAIST_M + 0.05, HEIGHT_M - 0.12, 0.16), GLASS, 1.0);
    view.fill(canvas, &frame(HEIGHT_M - 0.3, HEIGHT_M - 0.12, 0.16), [70, 82, 94], 0.7);
    for left in [-0.38, 0.38] {
        view.fill(canvas, &rear([left - 0.11, left + 0.11], [WAIST_M + 0.06, 1.34]), [18, 20, 24], 0.8);
    }
    view.fill(canvas, &frame(HEIGHT_M - 0.09, HEIGHT_M, 0.06), shade(BODY, 1.1), 1.0);
}

/// Tail lights, brighter with a glow when braking, and the hazard lights after the impact.
fn lights(view: &View, canvas: &mut Canvas, rear: &Rear<'_>, heading: f64, (brake, blink): (bool, bool)) {
    let w = WIDTH_M / 2.0;
    for side in [-1.0, 1.0] {
        let (inner, outer) = (side * (w - 0.38), side * (w - 0.01));
        let (l0, l1) = (inner.min(outer), inner.max(outer));
        if brake {
            for size in [0.42, 0.32, 0.24] {
                let [middle, ..] = rear([(l0 + l1) / 2.0, l1], [0.83, 0.9]);
                view.fill(canvas, &disc(middle, heading, size, size * 0.7), [255, 70, 50], 0.12);
            }
        }
        let red = if brake { [255, 44, 32] } else { [110, 12, 16] };
        view.fill(canvas, &rear([l0, l1], [0.74, 0.94]), red, 1.0);
        if brake {
            view.fill(canvas, &rear([l0 + 0.07, l1 - 0.07], [0.79, 0.88]), [255, 176, 146], 0.9);
        }
        let amber = if blink { [255, 176, 32] } else { [142, 84, 40] };
        view.fill(canvas, &rear([l0 + 0.06, l1 - 0.02], [0.69, 0.74]), amber, 1.0);
    }
    if brake {
        view.fill(canvas, &rear([-0.28, 0.28], [HEIGHT_M - 0.07, HEIGHT_M - 0.03]), [255, 60, 44], 1.0);
    }
}
