//! Street furniture: signs, traffic lights, lamps, rails and walls, bumps, and the barriers of a level crossing.
//!
//! What it never does: decide anything; lights and barriers follow the scene's time.

use super::light::{Light, Paint};
use super::limits::FAR_M;
use super::mesh::{Canvas, Pen, ring};
use super::vec3::{V3, add, lin, normal, scale, sin_cos, sub};
use crate::world::state::{
    Bump, Lamp, LevelCrossing, LightColour, Point2, Rail, RailKind, Sign, SignKind, TrafficLight,
};

const POST: Paint = Paint::matt([118, 120, 122]);
const WHITE: Paint = Paint::matt([240, 240, 238]);
const RED: Paint = Paint::matt([204, 22, 26]);
const BLACK: Paint = Paint::matt([18, 18, 20]);

/// A flat disc (or other outline) that looks ahead, at x.
fn disc(pen: &mut Pen<'_, '_>, (x, z): (f32, f32), r: f32, paint: &Paint) {
    let points = ring().map(|(c, s)| [x, r * c, z + r * s]);
    pen.face(&points, paint);
}

fn post(pen: &mut Pen<'_, '_>, height: f32) {
    pen.block([-0.05, -0.035, 0.0], [-0.01, 0.035, height], &POST);
}

/// Draws a sign.
pub(crate) fn sign(canvas: &mut Canvas<'_>, light: &Light, sign: &Sign) {
    let (z, r) = (sign.height.clamp(0.3, 12.0) as f32, sign.size.clamp(0.1, 8.0) as f32 * 0.5);
    let Some(mut pen) = Pen::upright(canvas, light, (sign.at, sign.facing), z + r) else { return };
    let pen = &mut pen;
    post(pen, z);
    let blue = Paint::matt([20, 70, 168]);
    pen.board(
        &[
            [-0.004, -r * 0.7, z - r * 0.7],
            [-0.004, r * 0.7, z - r * 0.7],
            [-0.004, r * 0.7, z + r * 0.7],
            [-0.004, -r * 0.7, z + r * 0.7],
        ],
        &POST,
    );
    let triangle = |k: f32, down: bool| -> [V3; 3] {
        let (x, f) = (0.01 * (2.0 - k), if down { -1.0 } else { 1.0 });
        let c =
            [[x, -0.87 * r * k, z - 0.5 * r * k * f], [x, 0.87 * r * k, z - 0.5 * r * k * f], [x, 0.0, z + r * k * f]];
        if down { [c[1], c[0], c[2]] } else { c }
    };
    match sign.kind {
        SignKind::Limit(kmh) => {
            disc(pen, (0.0, z), r, &RED);
            disc(pen, (0.012, z), r * 0.76, &WHITE);
            number(pen, z, r, kmh);
        }
        SignKind::Stop => {
            disc(pen, (0.0, z), r, &WHITE);
            disc(pen, (0.012, z), r * 0.92, &RED);
            pen.front((1.0, 0.02), [-r * 0.66, r * 0.66], [z - r * 0.2, z + r * 0.2], &WHITE);
            for k in 0..3 {
                let y = r * (-0.36 + 0.33 * k as f32);
                pen.front((1.0, 0.026), [y, y + 0.06 * r], [z - r * 0.2, z + r * 0.2], &RED);
            }
        }
        SignKind::GiveWay => {
            pen.face(&triangle(1.0, true), &RED);
            pen.face(&triangle(0.68, true), &WHITE);
        }
        SignKind::Warning => {
            pen.face(&triangle(1.0, false), &RED);
            pen.face(&triangle(0.68, false), &WHITE);
            pen.front((1.0, 0.02), [-r * 0.06, r * 0.06], [z - r * 0.12, z + r * 0.34], &BLACK);
            pen.front((1.0, 0.02), [-r * 0.06, r * 0.06], [z - r * 0.3, z - r * 0.2], &BLACK);
        }
        SignKind::Crossing => {
            pen.front((1.0, 0.0), [-r, r], [z - r, z + r], &blue);
            pen.face(&triangle(0.8, false), &WHITE);
            pen.limb(([0.03, 0.0, z - r * 0.35], r * 0.08), ([0.03, 0.0, z + r * 0.35], r * 0.1), &BLACK);
        }
        SignKind::Railway => {
            for k in [-1.0, 1.0] {
                pen.limb(([0.02, -r * k, z - r * 0.6], r * 0.13), ([0.02, r * k, z + r * 0.6], r * 0.13), &WHITE);
            }
            pen.limb(([0.06, -r * 0.3, z - r * 0.18], r * 0.1), ([0.06, r * 0.3, z + r * 0.18], r * 0.1), &RED);
        }
        SignKind::Direction => {
            let (w, h) = (r, r * 0.55);
            let green = Paint::matt([16, 104, 70]);
            pen.front((1.0, 0.0), [-w, w], [z - h, z + h], &WHITE);
            pen.front(
                (1.0, 0.012),
                [-w * 0.97, w * 0.97],
                [z - h * 0.94, z + h * 0.94],
                if r > 1.2 { &blue } else { &green },
            );
            for (k, long) in [(0.5, 0.5), (0.0, 0.35), (-0.5, 0.6)] {
                pen.front(
                    (1.0, 0.024),
                    [-w * 0.75, w * (long - 0.3)],
                    [z + h * (k - 0.13), z + h * (k + 0.13)],
                    &WHITE,
                );
            }
        }
        SignKind::Works => {
            pen.front((1.0, 0.0), [-r, r], [z - r * 0.6, z + r * 0.6], &BLACK);
            for k in [-0.6f32, 0.0, 0.6] {
                let amber = Paint::shining([255, 180, 30], 0.9);
                let y = k * r;
                pen.face(
                    &[
                        [0.015, y, z - r * 0.4],
                        [0.015, y + r * 0.14, z - r * 0.4],
                        [0.015, y - r * 0.22, z],
                        [0.015, y - r * 0.3, z],
                    ],
                    &amber,
                );
                pen.face(
                    &[
                        [0.015, y - r * 0.3, z],
                        [0.015, y - r * 0.22, z],
                        [0.015, y + r * 0.14, z + r * 0.4],
                        [0.015, y, z + r * 0.4],
                    ],
                    &amber,
                );
            }
        }
    }
}

/// Which of the seven strokes a digit has: top, upper left, upper right, middle, lower left, lower right, bottom.
const DIGITS: [u8; 10] = [
    0b111_0111, 0b001_0010, 0b101_1101, 0b101_1011, 0b011_1010, 0b110_1011, 0b110_1111, 0b101_0010, 0b111_1111,
    0b111_1011,
];

fn number(pen: &mut Pen<'_, '_>, z: f32, r: f32, value: u8) {
    if pen.detail * r < 4.0 {
        return;
    }
    let digits: &[u8] = if value >= 100 { &[1, 0, 0] } else { &[0, 0] };
    let n = digits.len();
    let (wide, high, t) = (r * 0.30, r * 0.36, r * 0.11);
    for k in 0..n {
        let power = [100u16, 10, 1][3 - n + k];
        let digit = (u16::from(value) / power % 10) as usize;
        let mask = DIGITS[digit % 10];
        // The sign's own left is the reader's right.
        let y = (k as f32 - (n as f32 - 1.0) * 0.5) * (wide + t * 1.9);
        let (l, rr) = (y - wide * 0.5, y + wide * 0.5);
        let strokes = [
            ([l, rr], [z + high - t, z + high]),
            ([l, l + t], [z, z + high]),
            ([rr - t, rr], [z, z + high]),
            ([l, rr], [z - t * 0.5, z + t * 0.5]),
            ([l, l + t], [z - high, z]),
            ([rr - t, rr], [z - high, z]),
            ([l, rr], [z - high, z - high + t]),
        ];
        for (bit, (ys, zs)) in strokes.into_iter().enumerate() {
            if mask >> (6 - bit) & 1 == 1 {
                pen.front((1.0, 0.024), ys, zs, &BLACK);
            }
        }
    }
}

/// Draws a traffic light as it is at `t_s`.
pub(crate) fn traffic_light(canvas: &mut Canvas<'_>, light: &Light, lamp: &TrafficLight, t_s: f64) {
    let z = lamp.height.clamp(1.0, 12.0) as f32;
    let Some(mut pen) = Pen::upright(canvas, light, (lamp.at, lamp.facing), z + 1.0) else { return };
    pen.block([-0.12, -0.06, 0.0], [-0.02, 0.06, z + 0.4], &POST);
    pen.block([0.0, -0.17, z - 0.5], [0.22, 0.17, z + 0.5], &BLACK);
    pen.front((1.0, 0.0), [-0.27, 0.27], [z - 0.6, z + 0.6], &Paint::matt([26, 26, 28]));
    let shown = lamp.colour_at(t_s);
    let lamps = [
        (LightColour::Red, 0.33, [255, 40, 30]),
        (LightColour::Amber, 0.0, [255, 180, 30]),
        (LightColour::Green, -0.33, [60, 255, 130]),
    ];
    for (colour, dz, rgb) in lamps {
        let on = colour == shown;
        let paint = if on { Paint::shining(rgb, 2.2) } else { Paint::matt(rgb.map(|c| c / 6)) };
        disc(&mut pen, (0.23, z + dz), 0.13, &paint);
        if on {
            let strength = 0.35 + 0.9 * light.dark;
            pen.glow([0.26, 0.0, z + dz], [1.0, 0.0, 0.0], scale(lin(rgb), strength), 0.13);
        }
    }
}

/// Draws a street lamp; it shines by night.
pub(crate) fn lamp(canvas: &mut Canvas<'_>, light: &Light, lamp: &Lamp) {
    let (z, arm) = (lamp.height.clamp(1.0, 20.0) as f32, lamp.arm.clamp(0.0, 6.0) as f32);
    let Some(mut pen) = Pen::upright(canvas, light, (lamp.at, lamp.facing), z) else { return };
    pen.block([-0.07, -0.07, 0.0], [0.07, 0.07, z * 0.5], &POST);
    pen.block([-0.05, -0.05, z * 0.5], [0.05, 0.05, z], &POST);
    pen.limb(([0.0, 0.0, z], 0.04), ([arm, 0.0, z + 0.15], 0.035), &POST);
    let glass = if light.dark > 0.3 { Paint::shining([255, 214, 150], 2.0) } else { Paint::matt([150, 150, 150]) };
    pen.block([arm - 0.1, -0.12, z + 0.05], [arm + 0.5, 0.12, z + 0.16], &glass);
    if light.dark > 0.3 {
        pen.glow([arm + 0.2, 0.0, z], [0.0; 3], scale([1.0, 0.78, 0.46], 1.1 * light.dark), 0.22);
    }
}

/// Draws rails, walls, fences, kerbs and hedges.
pub(crate) fn rail(canvas: &mut Canvas<'_>, light_at: &impl Fn(Point2) -> Light, rail: &Rail) {
    let mut i = 0;
    let height = rail.height.clamp(0.05, 12.0) as f32;
    while let (Some(p), true) = (rail.points.get(i), i + 1 < rail.points.len()) {
        let a = canvas.view.ground(*p);
        let stride = if a[2].abs() > 120.0 {
            6
        } else if a[2].abs() > 50.0 {
            3
        } else {
            1
        };
        let j = (i + stride).min(rail.points.len() - 1);
        let Some(q) = rail.points.get(j) else { return };
        let b = canvas.view.ground(*q);
        let limit =
            |c: V3| c[2] < FAR_M && c[0].abs() < c[2].max(0.0) * (canvas.view.cx / canvas.view.focal) * 1.1 + 8.0;
        if (a[2] > 0.0 || b[2] > 0.0) && (limit(a) || limit(b)) {
            segment(canvas, &light_at(*p), rail.kind, (a, b), height, i);
        }
        i = j;
    }
}

fn segment(canvas: &mut Canvas<'_>, light: &Light, kind: RailKind, (a, b): (V3, V3), h: f32, i: usize) {
    let up = canvas.view.up;
    let at = |p: V3, z: f32| add(p, scale(up, z));
    let band = |low: f32, high: f32| [at(a, low), at(b, low), at(b, high), at(a, high)];
    let along = normal(sub(b, a));
    let aside = super::vec3::cross(up, along);
    let mut strip = |low: f32, high: f32, paint: &Paint| canvas.polygon(&band(low, high), paint, true, light);
    match kind {
        RailKind::GuardRail => {
            let steel = Paint::glossy([164, 168, 172], 0.25);
            strip(h * 0.58, h * 0.74, &steel);
            strip(h * 0.74, h * 0.82, &steel.times(0.6));
            strip(h * 0.82, h, &steel);
            if a[2] < 70.0 && i.is_multiple_of(2) {
                let (p, w) = (add(a, scale(aside, 0.0)), scale(along, 0.05));
                let quad = [sub(p, w), add(p, w), at(add(p, w), h), at(sub(p, w), h)];
                canvas.polygon(&quad, &Paint::matt([120, 122, 126]), true, light);
            }
        }
        RailKind::Wall => {
            let tone = 0.96 + 0.04 * ((i % 2) as f32);
            strip(0.0, h, &Paint::matt([166, 162, 154]).times(tone));
            let (w, top) = (scale(aside, 0.3), Paint::matt([182, 178, 170]));
            let quad = [sub(at(a, h), w), sub(at(b, h), w), add(at(b, h), w), add(at(a, h), w)];
            canvas.polygon(&quad, &top, true, light);
        }
        RailKind::Fence => {
            let wood = Paint::matt([128, 104, 80]);
            strip(h * 0.38, h * 0.5, &wood);
            strip(h * 0.80, h * 0.93, &wood);
            if a[2] < 80.0 {
                let w = scale(along, 0.06);
                canvas.polygon(
                    &[sub(a, w), add(a, w), at(add(a, w), h), at(sub(a, w), h)],
                    &wood.times(0.85),
                    true,
                    light,
                );
            }
        }
        RailKind::Kerb => {
            let stone = Paint::matt([168, 166, 160]);
            strip(0.0, h, &stone.times(0.8));
            let w = scale(aside, 0.09);
            let quad = [sub(at(a, h), w), sub(at(b, h), w), add(at(b, h), w), add(at(a, h), w)];
            canvas.polygon(&quad, &stone, true, light);
        }
        RailKind::Hedge => {
            let tone = 0.85 + 0.3 * super::noise::unit(super::noise::hash(i as u32));
            let green = Paint::matt([62, 88, 44]).times(tone);
            strip(0.0, h * 0.5, &green.times(0.7));
            strip(h * 0.5, h, &green);
            let w = scale(aside, 0.45);
            let quad = [sub(at(a, h), w), sub(at(b, h), w), add(at(b, h), w), add(at(a, h), w)];
            canvas.polygon(&quad, &green.times(1.2), true, light);
        }
    }
}

/// Draws a speed bump: a low ridge with yellow bars.
pub(crate) fn bump(canvas: &mut Canvas<'_>, light: &Light, bump: &Bump) {
    if bump.height <= 0.0 {
        return;
    }
    let (l, w, h) =
        (bump.length.clamp(0.1, 10.0) as f32, bump.width.clamp(0.1, 40.0) as f32, bump.height.min(0.5) as f32);
    let Some(mut pen) = Pen::upright(canvas, light, (bump.at, bump.heading), w) else { return };
    let bars = ((w / 0.6) as usize).clamp(2, 24);
    for k in 0..bars {
        let (y0, y1) = (w * (k as f32 / bars as f32 - 0.5), w * ((k + 1) as f32 / bars as f32 - 0.5));
        let paint = if k % 2 == 0 { Paint::matt([214, 176, 44]) } else { Paint::matt([44, 44, 46]) };
        for (x0, z0, x1, z1) in [(-0.5, 0.0, -0.2, 1.0), (-0.2, 1.0, 0.2, 1.0), (0.2, 1.0, 0.5, 0.0)] {
            let (a, b, za, zb) = (x0 * l, x1 * l, z0 * h, z1 * h);
            pen.face(&[[a, y0, za], [b, y0, zb], [b, y1, zb], [a, y1, za]], &paint);
        }
    }
}

/// Draws the barriers of a level crossing on both sides of the track; booms take three seconds to fall and rise.
pub(crate) fn crossing(canvas: &mut Canvas<'_>, light: &Light, c: &LevelCrossing, t_s: f64) {
    // The road crosses about square to the track; the layout is the same seen from both ends.
    let road_heading = c.heading + crate::maths::PI * 0.5;
    let (from, to) = c.closed;
    let down = if to > from {
        let (fall, rise) = ((t_s - from) / 3.0, (to - t_s) / 3.0);
        fall.min(rise).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let (s, co) = sin_cos(road_heading);
    let (s, co) = (f64::from(s), f64::from(co));
    for (ahead, left, facing) in [(-4.5, -4.6, 1.0), (4.5, 4.6, -1.0)] {
        let at: Point2 = [c.at[0] + co * ahead - s * left, c.at[1] + s * ahead + co * left];
        let Some(mut pen) = Pen::upright(canvas, light, (at, road_heading), 8.0) else { continue };
        pen.block([-0.15, -0.15, 0.0], [0.15, 0.15, 1.3], &Paint::matt([70, 72, 76]));
        let (sin, cos) = sin_cos((1.0 - down) * crate::maths::PI * 0.46);
        for k in 0..8 {
            let paint = if k % 2 == 0 { RED } else { WHITE };
            let p = |d: f32| [0.0, facing as f32 * d * cos, 1.1 + d * sin];
            pen.limb((p(k as f32 * 0.85), 0.06), (p((k + 1) as f32 * 0.85), 0.06), &paint);
        }
        pen.block([-0.05, -0.3, 2.1], [0.05, 0.3, 2.5], &BLACK);
        let flash = (t_s * 2.0).rem_euclid(2.0) < 1.0;
        if down > 0.0 {
            let y = if flash { 0.16 } else { -0.16 };
            let red = Paint::shining([255, 30, 24], 2.2);
            for end in [1.0, -1.0] {
                pen.front((end, 0.07), [y - 0.1, y + 0.1], [2.2, 2.4], &red);
            }
            pen.glow([0.0, y, 2.3], [0.0; 3], scale([1.0, 0.03, 0.02], 0.5 + 0.6 * light.dark), 0.14);
        }
    }
}
