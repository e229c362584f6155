//! Cars, tall cars and vans: a lower body along stations, a cabin of glass on it, wheels, lamps and plates.
//!
//! Terms: a *station* is a cross-section: x in shares of the length, bottom and top in shares of the height, half
//! width in shares of the width. Figures are ours, by eye, after common vehicles.

use super::light::Paint;
use super::mesh::Pen;
use super::vec3::{V3, lin, scale};
use crate::world::state::{Actor, ActorKind};

struct Station {
    x: f32,
    bottom: f32,
    top: f32,
    half: f32,
}

const fn at(x: f32, bottom: f32, top: f32, half: f32) -> Station {
    Station { x, bottom, top, half }
}

const CAR: [Station; 7] = [
    at(-0.500, 0.27, 0.56, 0.42),
    at(-0.475, 0.19, 0.62, 0.47),
    at(-0.360, 0.16, 0.64, 0.50),
    at(0.180, 0.16, 0.62, 0.50),
    at(0.400, 0.17, 0.54, 0.48),
    at(0.475, 0.19, 0.48, 0.45),
    at(0.500, 0.26, 0.42, 0.39),
];

const TALL: [Station; 7] = [
    at(-0.500, 0.27, 0.57, 0.45),
    at(-0.480, 0.20, 0.60, 0.48),
    at(-0.360, 0.18, 0.60, 0.50),
    at(0.200, 0.18, 0.60, 0.50),
    at(0.420, 0.19, 0.56, 0.49),
    at(0.480, 0.21, 0.51, 0.46),
    at(0.500, 0.27, 0.46, 0.42),
];

const VAN: [Station; 7] = [
    at(-0.500, 0.19, 0.50, 0.49),
    at(-0.490, 0.15, 0.50, 0.50),
    at(-0.360, 0.14, 0.50, 0.50),
    at(0.260, 0.14, 0.50, 0.50),
    at(0.430, 0.15, 0.45, 0.49),
    at(0.480, 0.16, 0.40, 0.47),
    at(0.500, 0.20, 0.36, 0.44),
];

/// The cabin: x of its base and roof, rear then front, and half widths of base and roof.
struct Cabin {
    base: [f32; 2],
    roof: [f32; 2],
    foot: f32,
    half: [f32; 2],
}

struct Model {
    body: &'static [Station; 7],
    cabin: Cabin,
    /// Rear lamps: inner and outer y, low and high z.
    tail: [f32; 4],
    head: [f32; 4],
    /// Sides of the load space without glass.
    closed: bool,
    axles: [f32; 2],
    wheel_m: f32,
}

fn model(actor: &Actor) -> Model {
    let cabin = |base, roof, foot, half| Cabin { base, roof, foot, half };
    let tail = [0.26, 0.415, 0.42, 0.54];
    let head = [0.20, 0.38, 0.33, 0.41];
    match actor.kind {
        ActorKind::Van => Model {
            body: &VAN,
            cabin: cabin([-0.498, 0.40], [-0.492, 0.20], 0.48, [0.495, 0.45]),
            tail: [0.38, 0.48, 0.24, 0.42],
            head: [0.25, 0.42, 0.26, 0.34],
            closed: true,
            axles: [-0.30, 0.33],
            wheel_m: 0.34,
        },
        ActorKind::Suv => Model {
            body: &TALL,
            cabin: cabin([-0.495, 0.24], [-0.43, 0.08], 0.59, [0.475, 0.40]),
            tail: [0.28, 0.445, 0.40, 0.55],
            head: [0.22, 0.41, 0.36, 0.45],
            closed: false,
            axles: [-0.29, 0.31],
            wheel_m: 0.37,
        },
        _ if actor.id.is_multiple_of(3) => Model {
            body: &CAR,
            cabin: cabin([-0.49, 0.22], [-0.38, 0.04], 0.60, [0.465, 0.37]),
            tail,
            head,
            closed: false,
            axles: [-0.30, 0.31],
            wheel_m: 0.32,
        },
        _ => Model {
            body: &CAR,
            cabin: cabin([-0.42, 0.22], [-0.25, 0.03], 0.60, [0.465, 0.37]),
            tail,
            head,
            closed: false,
            axles: [-0.29, 0.31],
            wheel_m: 0.32,
        },
    }
}

/// Draws a car, a tall car or a van.
pub(crate) fn draw(pen: &mut Pen<'_, '_>, actor: &Actor, on: bool) {
    let m = model(actor);
    let soot = 1.0 - 0.35 * pen.damage;
    let paint = Paint::glossy(actor.colour, 0.30).times(soot);
    body(pen, &m, &paint);
    cabin(pen, &m, &paint);
    if pen.detail > 3.0 {
        trim(pen, &m);
    }
    lamps(pen, &m, actor, on);
    let size = pen.size;
    pen.size = [1.0; 3];
    let hub = Paint::glossy([120, 122, 126], 0.2);
    for x in m.axles {
        for side in [-1.0, 1.0] {
            let y = side * (size[1] * 0.5 - 0.09);
            pen.wheel([x * size[0], y, m.wheel_m], m.wheel_m, 0.11, &hub);
        }
    }
    pen.size = size;
}

fn body(pen: &mut Pen<'_, '_>, m: &Model, paint: &Paint) {
    let sill = paint.times(0.35);
    for pair in m.body.windows(2) {
        let [a, b] = pair else { continue };
        for side in [1.0, -1.0] {
            let mut side_of = |low: [f32; 2], high: [f32; 2], bulge: [f32; 2], paint: &Paint| {
                let (p, q) = ([a.x, side * a.half * bulge[0], low[0]], [b.x, side * b.half * bulge[0], low[1]]);
                let (r, s) = ([b.x, side * b.half * bulge[1], high[1]], [a.x, side * a.half * bulge[1], high[0]]);
                if side > 0.0 { pen.face(&[q, p, s, r], paint) } else { pen.face(&[p, q, r, s], paint) }
            };
            let crease = [a.bottom * 0.45 + a.top * 0.55, b.bottom * 0.45 + b.top * 0.55];
            let skirt = [a.bottom + 0.07, b.bottom + 0.07];
            side_of([a.bottom, b.bottom], skirt, [0.97, 1.0], &sill);
            side_of(skirt, crease, [1.0, 1.0], paint);
            side_of(crease, [a.top, b.top], [1.0, 0.95], paint);
        }
        let (h0, h1) = (a.half * 0.95, b.half * 0.95);
        pen.face(&[[a.x, -h0, a.top], [b.x, -h1, b.top], [b.x, h1, b.top], [a.x, h0, a.top]], paint);
    }
    let [rear, .., front] = m.body;
    let end = |s: &Station, y: f32, z: f32| [s.x, s.half * y, z];
    let (r, f) = (rear, front);
    pen.face(&[end(r, 1.0, r.bottom), end(r, -1.0, r.bottom), end(r, -1.0, r.top), end(r, 1.0, r.top)], paint);
    pen.face(&[end(f, -1.0, f.bottom), end(f, 1.0, f.bottom), end(f, 1.0, f.top), end(f, -1.0, f.top)], paint);
}

fn cabin(pen: &mut Pen<'_, '_>, m: &Model, paint: &Paint) {
    let glass = Paint::glossy([26, 30, 34], 0.55);
    let c = &m.cabin;
    let base = |k: usize, y: f32| [c.base[k], y * c.half[0], c.foot];
    let roof = |k: usize, y: f32| [c.roof[k], y * c.half[1], 0.985];
    let rear_glass = if m.closed { *paint } else { glass };
    pen.face(&[base(1, -1.0), base(1, 1.0), roof(1, 1.0), roof(1, -1.0)], paint);
    pen.face(&[base(0, 1.0), base(0, -1.0), roof(0, -1.0), roof(0, 1.0)], paint);
    // Panes a little outside, so that pillars and the edge of the roof stay in paint.
    let pane = |k: usize, y: f32, up: f32| -> V3 {
        let (a, b) = (base(k, y), roof(k, y));
        let mix = |i: usize| a[i] + (b[i] - a[i]) * up;
        [mix(0) + if k == 1 { 0.004 } else { -0.004 }, mix(1) * 0.90, mix(2) + 0.004]
    };
    pen.face(&[pane(1, -1.0, 0.03), pane(1, 1.0, 0.03), pane(1, 1.0, 0.93), pane(1, -1.0, 0.93)], &glass);
    pen.face(&[pane(0, 1.0, 0.10), pane(0, -1.0, 0.10), pane(0, -1.0, 0.86), pane(0, 1.0, 0.86)], &rear_glass);
    let (low, high) = (0.94 * c.half[1], 0.998);
    let lid = |x: f32, y: f32, z: f32| [x, y, z];
    let inset = (c.roof[1] - c.roof[0]) * 0.08;
    let (x0, x1) = (c.roof[0] + inset, c.roof[1] - inset);
    pen.face(&[lid(x0, -low, high), lid(x1, -low, high), lid(x1, low, high), lid(x0, low, high)], paint);
    let rim = |k: usize| (roof(k, -1.0), roof(k, 1.0));
    let (b, f) = (rim(0), rim(1));
    pen.face(&[f.0, f.1, lid(x1, low, high), lid(x1, -low, high)], paint);
    pen.face(&[b.1, b.0, lid(x0, -low, high), lid(x0, low, high)], paint);
    for side in [1.0, -1.0] {
        let (p, q, r, s) = (base(0, side), base(1, side), roof(1, side), roof(0, side));
        let mut wall = |a: V3, b: V3, c: V3, d: V3, paint: &Paint| {
            if side > 0.0 { pen.face(&[b, a, d, c], paint) } else { pen.face(&[a, b, c, d], paint) }
        };
        wall(p, q, r, s, paint);
        wall(s, r, lid(x1, side * low, high), lid(x0, side * low, high), paint);
        // Panes a finger's breadth outside the wall, with the pillar between them left in paint.
        let panes: &[[f32; 2]] = if m.closed { &[[0.74, 0.95]] } else { &[[0.06, 0.47], [0.52, 0.94]] };
        for [from, to] in panes {
            let spot = |along: f32, up: f32| -> V3 {
                let mix = |i: usize| {
                    let (low, high) = (p[i] + (q[i] - p[i]) * along, s[i] + (r[i] - s[i]) * along);
                    low + (high - low) * up
                };
                [mix(0), mix(1) + side * 0.006, mix(2)]
            };
            wall(spot(*from, 0.08), spot(*to, 0.08), spot(*to, 0.88), spot(*from, 0.88), &glass);
        }
    }
}

fn trim(pen: &mut Pen<'_, '_>, m: &Model) {
    let dark = Paint::matt([30, 30, 32]);
    let plate = Paint::matt([226, 226, 210]);
    let rear = m.body[0].x - 0.004;
    let front = m.body[6].x + 0.004;
    let (rb, fb) = (m.body[0].bottom, m.body[6].bottom);
    let mut back = |y: [f32; 2], z: [f32; 2], out: f32, paint: &Paint| {
        let x = rear - out;
        pen.face(&[[x, y[1], z[0]], [x, y[0], z[0]], [x, y[0], z[1]], [x, y[1], z[1]]], paint);
    };
    back([-0.41, 0.41], [rb - 0.01, rb + 0.075], 0.0, &dark);
    back([-0.40, 0.40], [rb + 0.075, rb + 0.085], 0.0, &Paint::matt([70, 70, 72]));
    back([-0.13, 0.13], [rb + 0.10, rb + 0.165], 0.001, &plate);
    let mut nose = |y: [f32; 2], z: [f32; 2], out: f32, paint: &Paint| {
        let x = front + out;
        pen.face(&[[x, y[0], z[0]], [x, y[1], z[0]], [x, y[1], z[1]], [x, y[0], z[1]]], paint);
    };
    nose([-0.19, 0.19], [fb + 0.04, fb + 0.13], 0.0, &dark);
    nose([-0.13, 0.13], [fb, fb + 0.055], 0.001, &plate);
    let mirror = [m.cabin.base[1] - 0.06, m.cabin.half[0], m.cabin.foot + 0.02];
    for side in [-1.0, 1.0] {
        let y = side * (mirror[1] + 0.05);
        let (y0, y1) = (y - 0.05, y + 0.05);
        pen.block([mirror[0], y0, mirror[2]], [mirror[0] + 0.03, y1, mirror[2] + 0.1], &dark);
    }
}

/// Whether an indicator is lit on a side (-1 left, 1 right) now; 1.5 Hz.
pub(crate) fn blinks(actor: &Actor, side: i8, t_s: f32) -> bool {
    let phase = t_s * 1.5 - (t_s * 1.5).floor();
    phase < 0.5 && (actor.indicator == side || actor.indicator == 2)
}

/// Lamps of any vehicle: places in shares of its size. Rear and front x; y inner and outer; z low and high.
pub(crate) struct Lamps {
    pub(crate) x: [f32; 2],
    pub(crate) tail_y: [f32; 2],
    pub(crate) tail_z: [f32; 2],
    pub(crate) head_y: [f32; 2],
    pub(crate) head_z: [f32; 2],
}

fn lamps(pen: &mut Pen<'_, '_>, m: &Model, actor: &Actor, on: bool) {
    let x = [m.body[0].x - 0.006, m.body[6].x + 0.006];
    let (t, h) = (m.tail, m.head);
    let places = Lamps { x, tail_y: [t[0], t[1]], tail_z: [t[2], t[3]], head_y: [h[0], h[1]], head_z: [h[2], h[3]] };
    all_lamps(pen, &places, actor, on);
    if actor.brake && !m.closed {
        let z = m.cabin.foot + 0.01;
        let x = m.cabin.base[0] - 0.01;
        let red = Paint::shining([255, 40, 30], 1.5);
        pen.face(&[[x, 0.1, z], [x, -0.1, z], [x, -0.1, z + 0.03], [x, 0.1, z + 0.03]], &red);
    }
}

/// Draws rear lamps, headlights and indicators, and remembers how they glow.
pub(crate) fn all_lamps(pen: &mut Pen<'_, '_>, l: &Lamps, actor: &Actor, on: bool) {
    let dark = pen.light.dark;
    let t_s = pen.canvas.t_s;
    let tail_emit = if actor.brake {
        2.4
    } else if on {
        0.5
    } else {
        0.0
    };
    // A lit lamp is paler than its glass.
    let glass = if actor.brake { [255, 46, 38] } else { [150, 14, 14] };
    let tail = Paint { emit: tail_emit, ..Paint::glossy(glass, 0.1) };
    let housing = Paint::matt([40, 16, 16]);
    let head = if on { Paint::shining([255, 250, 235], 2.2) } else { Paint::glossy([214, 218, 222], 0.4) };
    for side in [1.0f32, -1.0] {
        let amber = blinks(actor, if side > 0.0 { -1 } else { 1 }, t_s);
        let orange = Paint::shining([255, 150, 20], 2.2);
        let [y0, y1] = [l.tail_y[0] * side, l.tail_y[1] * side];
        let (low, high) = (l.tail_z[0], l.tail_z[1]);
        let mut quad = |x: f32, ya: f32, yb: f32, z: [f32; 2], paint: &Paint| {
            let c = [[x, ya, z[0]], [x, yb, z[0]], [x, yb, z[1]], [x, ya, z[1]]];
            let towards_front = x > 0.0;
            let forward = (yb > ya) == towards_front;
            if forward { pen.face(&c, paint) } else { pen.face(&[c[3], c[2], c[1], c[0]], paint) }
        };
        quad(l.x[0] + 0.001_5, y0 * 0.94, y1 * 1.04, [low - 0.015, high + 0.015], &housing);
        quad(l.x[0], y0, y1, [low, high], &tail);
        quad(l.x[1], l.head_y[0] * side, l.head_y[1] * side, l.head_z, &head);
        if amber {
            let split = low + (high - low) * 0.55;
            quad(l.x[0] - 0.002, y0, y1, [split, high], &orange);
            quad(l.x[1] + 0.002, l.head_y[1] * side * 0.85, l.head_y[1] * side, l.head_z, &orange);
        }
        let (rear, front) = (
            [l.x[0], (y0 + y1) * 0.5, (low + high) * 0.5],
            [l.x[1], (l.head_y[0] + l.head_y[1]) * 0.5 * side, (l.head_z[0] + l.head_z[1]) * 0.5],
        );
        if tail_emit > 0.0 {
            let power = tail_emit * (0.14 + 0.30 * dark);
            pen.glow(rear, [-1.0, 0.0, 0.0], scale(lin([255, 36, 24]), power), 0.10);
        }
        if on {
            pen.glow(front, [1.0, 0.0, 0.0], scale([1.0, 0.95, 0.84], 0.45 + 3.2 * dark), 0.13);
        }
        if amber {
            let colour = scale(lin([255, 150, 20]), 0.5 + 1.2 * dark);
            pen.glow(rear, [-1.0, 0.0, 0.0], colour, 0.09);
            pen.glow(front, [1.0, 0.0, 0.0], colour, 0.09);
        }
    }
}
