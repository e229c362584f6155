//! What lies flat: strips of asphalt and pavement, painted lines, zebras, railway tracks, shadows and pools of light,
//! as strokes on the plan of the ground.
//!
//! What it never does: look farther than the limits say, whatever the length of the road.

use super::ground::{Ground, SHADOW, Stroke, Stuff};
use super::light::Light;
use super::limits::{DASHES, FAR_M, PAINT_M};
use super::vec3::{V3, length, scale, sin_cos, sub};
use super::view::View;
use crate::world::state::{
    Actor, ActorKind, Building, Marking, Material, Point2, Ribbon, RoadWorld, Tree, TreeKind, Zebra,
};

/// Strokes of everything that belongs to the road.
pub(crate) fn lay(ground: &mut Ground, view: &View, road: &RoadWorld) {
    for ribbon in &road.ribbons {
        lay_ribbon(ground, view, ribbon);
    }
    if let Some(crossing) = &road.level_crossing {
        track(ground, view, crossing.at, crossing.heading);
    }
    for bump in road.bumps.iter().filter(|b| b.height < 0.0) {
        for (grow, stuff) in [(1.35, Stuff::Shoulder), (1.0, Stuff::Hole)] {
            let corners = oblong(view, bump.at, bump.heading, [bump.length * grow, bump.width * grow]);
            ground.stroke(view, &corners, Stroke::Lay(stuff));
        }
    }
    for zebra in &road.zebras {
        lay_zebra(ground, view, zebra);
    }
    for marking in &road.markings {
        lay_marking(ground, view, marking);
    }
}

fn near(view: &View, p: Point2, reach: f64) -> bool {
    let (dx, dy) = (p[0] - view.eye[0], p[1] - view.eye[1]);
    dx * dx + dy * dy < reach * reach
}

/// Whether a corner may be in sight: not far behind the camera and not beyond the end of sight.
fn ahead(p: V3) -> bool {
    p[2] > -3.0 && p[2] < FAR_M
}

fn lay_ribbon(ground: &mut Ground, view: &View, ribbon: &Ribbon) {
    let stuff = match ribbon.material {
        Material::Asphalt => Stuff::Asphalt,
        Material::Pavement => Stuff::Pavement,
        Material::Shoulder => Stuff::Shoulder,
        Material::Verge => Stuff::Verge,
    };
    let count = ribbon.left.len().min(ribbon.right.len());
    let mut i = 0;
    while i + 1 < count {
        let (Some(l0), Some(r0)) = (ribbon.left.get(i), ribbon.right.get(i)) else { return };
        let (a, b) = (view.ground(*l0), view.ground(*r0));
        let far = a[2].abs().min(b[2].abs());
        // Far strips are merged; strips behind the camera are passed over in longer steps.
        let stride = if far > 160.0 {
            8
        } else if far > 70.0 {
            3
        } else {
            1
        };
        let j = (i + stride).min(count - 1);
        let (Some(l1), Some(r1)) = (ribbon.left.get(j), ribbon.right.get(j)) else { return };
        let (c, d) = (view.ground(*r1), view.ground(*l1));
        if ahead(a) || ahead(b) || ahead(c) || ahead(d) {
            ground.stroke(view, &[a, b, c, d], Stroke::Lay(stuff));
        }
        i = j;
    }
}

fn lay_marking(ground: &mut Ground, view: &View, marking: &Marking) {
    let mut way = 0.0;
    for pair in marking.points.windows(2) {
        let [p, q] = pair else { continue };
        let (dx, dy) = (q[0] - p[0], q[1] - p[1]);
        let long = (dx * dx + dy * dy).sqrt();
        if !(long > 1e-6 && long.is_finite()) {
            continue;
        }
        let begin = way;
        way += long;
        let reach = f64::from(PAINT_M) + long;
        if !near(view, *p, reach) && !near(view, *q, reach) {
            continue;
        }
        let aside = [-dy / long * marking.width * 0.5, dx / long * marking.width * 0.5];
        let mut strip = |from: f64, to: f64| {
            let at = |t: f64, k: f64| {
                view.ground([p[0] + dx * t / long + aside[0] * k, p[1] + dy * t / long + aside[1] * k])
            };
            let corners = [at(from, 1.0), at(from, -1.0), at(to, -1.0), at(to, 1.0)];
            if corners.iter().any(|c| c[2] > 0.0 && c[2] < PAINT_M) {
                let worn = 0.92 * (1.0 - corners[0][2].max(0.0) / (PAINT_M * 1.4)).max(0.2);
                ground.stroke(view, &corners, Stroke::Paint { cover: worn, yellow: marking.yellow });
            }
        };
        let Some((dash, gap)) = marking.dash else {
            strip(0.0, long);
            continue;
        };
        let period = (dash + gap).max(0.2);
        let first = (begin / period).floor();
        for k in 0..DASHES {
            let start = (first + k as f64) * period - begin;
            if start >= long {
                break;
            }
            let (from, to) = (start.max(0.0), (start + dash).min(long));
            if to > from {
                strip(from, to);
            }
        }
    }
}

fn lay_zebra(ground: &mut Ground, view: &View, zebra: &Zebra) {
    if !near(view, zebra.at, 90.0) {
        return;
    }
    let bars = ((zebra.width / 1.0) as usize).clamp(1, 24);
    let (s, c) = sin_cos(zebra.heading);
    let (s, c) = (f64::from(s), f64::from(c));
    for k in 0..bars {
        let aside = (k as f64 + 0.5) * zebra.width / bars as f64 - zebra.width * 0.5;
        let at = [zebra.at[0] - s * aside, zebra.at[1] + c * aside];
        let corners = oblong(view, at, zebra.heading, [zebra.length, zebra.width / bars as f64 * 0.5]);
        ground.stroke(view, &corners, Stroke::Paint { cover: 0.9, yellow: false });
    }
}

fn track(ground: &mut Ground, view: &View, at: Point2, heading: f64) {
    if !near(view, at, 200.0) {
        return;
    }
    let strip = |long: f64, wide: f64, aside: f64| {
        let (s, c) = sin_cos(heading);
        let middle = [at[0] - f64::from(s) * aside, at[1] + f64::from(c) * aside];
        oblong(view, middle, heading, [long, wide])
    };
    ground.stroke(view, &strip(160.0, 4.0, 0.0), Stroke::Lay(Stuff::Gravel));
    ground.stroke(view, &strip(13.0, 3.4, 0.0), Stroke::Lay(Stuff::Planks));
    for aside in [-0.72, 0.72] {
        ground.stroke(view, &strip(160.0, 0.22, aside), Stroke::Lay(Stuff::Hole));
        ground.stroke(view, &strip(160.0, 0.08, aside), Stroke::Paint { cover: 0.75, yellow: false });
    }
}

/// A rectangle on the ground, corners in camera axes.
fn oblong(view: &View, at: Point2, heading: f64, size: [f64; 2]) -> [V3; 4] {
    let (s, c) = sin_cos(if heading.is_finite() { heading.clamp(-1e6, 1e6) } else { 0.0 });
    let (s, c) = (f64::from(s), f64::from(c));
    [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]].map(|k: [f64; 2]| {
        let (x, y) = (k[0] * size[0], k[1] * size[1]);
        view.ground([at[0] + c * x - s * y, at[1] + s * x + c * y])
    })
}

/// Shadows of the sun: of boxes, of crowns and of houses.
pub(crate) struct Sun {
    /// World metres of shadow per metre of height.
    throw: [f64; 2],
    depth: u8,
}

impl Sun {
    /// `None`: no shadows worth drawing.
    pub(crate) fn new(light: &Light) -> Option<Self> {
        let strength = light.sun[0] / light.gain.max(1e-6);
        let [x, y, z] = light.sun_world;
        if strength < 0.05 || z < 0.03 {
            return None;
        }
        // A low sun would throw shadows beyond the end of sight.
        let k = f64::from(-1.0 / z.max(0.16));
        let soft = 1.0 - (strength / 1.2).clamp(0.0, 1.0);
        let depth = f32::from(SHADOW) + (255.0 - f32::from(SHADOW)) * soft * 0.7;
        Some(Self { throw: [f64::from(x) * k, f64::from(y) * k], depth: depth as u8 })
    }

    pub(crate) fn actor(&self, ground: &mut Ground, view: &View, actor: &Actor) {
        let (length, width, mut height) = (actor.length, actor.width, actor.height);
        if actor.lying > 0.5 {
            height = width.min(height);
        }
        let slim = match actor.kind {
            ActorKind::Car | ActorKind::Suv => 0.82,
            ActorKind::Cyclist | ActorKind::Motorbike => 0.6,
            _ => 1.0,
        };
        self.solid(
            ground,
            view,
            (actor.body.x, actor.body.y, actor.body.heading),
            [length, width * slim],
            height * 0.95,
        );
    }

    pub(crate) fn building(&self, ground: &mut Ground, view: &View, b: &Building) {
        let height = (b.height + b.roof * 0.6).min(24.0);
        self.solid(ground, view, (b.at[0], b.at[1], b.heading), [b.length, b.width], height);
    }

    pub(crate) fn tree(&self, ground: &mut Ground, view: &View, tree: &Tree) {
        let (height, radius) = (tree.height.min(20.0), tree.radius.min(8.0));
        let (low, high) = if tree.kind == TreeKind::Bush { (0.1, 0.7) } else { (0.35, 0.85) };
        let mut points = [[0.0; 2]; 16];
        for (k, slot) in points.iter_mut().enumerate() {
            let (c, s) = super::mesh::ring().get(k % 8 * 10 / 8).copied().unwrap_or((1.0, 0.0));
            let h = height * if k < 8 { low } else { high };
            let r = radius * 0.85;
            *slot =
                [tree.at[0] + f64::from(c) * r + self.throw[0] * h, tree.at[1] + f64::from(s) * r + self.throw[1] * h];
        }
        self.hull(ground, view, &points);
        let trunk = [0.12, 0.0];
        let foot = [tree.at[0], tree.at[1]];
        let tip = [foot[0] + self.throw[0] * height * 0.4, foot[1] + self.throw[1] * height * 0.4];
        let quad = [foot, [foot[0] + trunk[0], foot[1]], [tip[0] + trunk[0], tip[1]], tip];
        ground.stroke(view, &quad.map(|p| view.ground(p)), Stroke::Shade(self.depth));
    }

    fn solid(&self, ground: &mut Ground, view: &View, (x, y, heading): (f64, f64, f64), size: [f64; 2], height: f64) {
        let (s, c) = sin_cos(if heading.is_finite() { heading.clamp(-1e6, 1e6) } else { 0.0 });
        let (s, c) = (f64::from(s), f64::from(c));
        let mut points = [[0.0; 2]; 8];
        for (k, slot) in points.iter_mut().enumerate() {
            let (px, py) = ([-0.5, 0.5, 0.5, -0.5][k % 4] * size[0], [-0.5, -0.5, 0.5, 0.5][k % 4] * size[1]);
            let h = if k < 4 { 0.0 } else { height };
            *slot = [x + c * px - s * py + self.throw[0] * h, y + s * px + c * py + self.throw[1] * h];
        }
        self.hull(ground, view, &points);
    }

    fn hull(&self, ground: &mut Ground, view: &View, points: &[Point2]) {
        let mut outline = [[0.0; 3]; 12];
        let count = convex_hull(points, view, &mut outline);
        if let Some(corners) = outline.get(..count) {
            ground.stroke(view, corners, Stroke::Shade(self.depth));
        }
    }
}

/// Convex hull by gift wrapping, as camera places; gives the number of corners.
fn convex_hull(points: &[Point2], view: &View, out: &mut [V3; 12]) -> usize {
    if points.iter().any(|p| !(p[0].is_finite() && p[1].is_finite())) {
        return 0;
    }
    let Some(start) = points.iter().copied().reduce(|a, b| if (b[0], b[1]) < (a[0], a[1]) { b } else { a }) else {
        return 0;
    };
    let mut at = start;
    for (count, slot) in out.iter_mut().enumerate() {
        *slot = view.ground(at);
        let mut best: Option<Point2> = None;
        for p in points.iter().copied().filter(|p| *p != at) {
            let better = best.is_none_or(|b| {
                let turn = (b[0] - at[0]) * (p[1] - at[1]) - (b[1] - at[1]) * (p[0] - at[0]);
                let far = |q: Point2| (q[0] - at[0]) * (q[0] - at[0]) + (q[1] - at[1]) * (q[1] - at[1]);
                turn < 0.0 || (turn == 0.0 && far(p) > far(b))
            });
            if better {
                best = Some(p);
            }
        }
        match best {
            Some(next) if next != start => at = next,
            _ => return count + 1,
        }
    }
    out.len()
}

/// The dark under vehicles and feet, which any sky leaves.
pub(crate) fn contact(ground: &mut Ground, view: &View, actor: &Actor) {
    let heading = actor.body.heading;
    let at = [actor.body.x, actor.body.y];
    if !near(view, at, 120.0) {
        return;
    }
    let lift = actor.body.heave.max(0.0) * 40.0;
    let steps: [(f64, u8); 2] = match actor.kind {
        ActorKind::Pedestrian | ActorKind::Child | ActorKind::Animal => [(0.9, 70), (0.5, 50)],
        ActorKind::Cyclist | ActorKind::Motorbike => [(0.8, 74), (0.5, 50)],
        _ => [(1.03, 66), (0.92, 14)],
    };
    for (grow, shade) in steps {
        let soft = (f64::from(shade) + lift).min(255.0) as u8;
        let whole = 1.0 - 0.22 * actor.damage.clamp(0.0, 1.0);
        let size = [actor.length * grow * whole, actor.width * if actor.lying > 0.5 { 1.6 } else { grow }];
        ground.stroke(view, &oblong(view, at, heading, size), Stroke::Shade(soft));
    }
}

/// Light before a vehicle in layers, so that no edge of it is seen: begin, end and half width, metres.
const HEADLIGHTS: [(f64, f64, f64); 8] = [
    (0.5, 5.0, 1.0),
    (0.6, 7.5, 1.3),
    (0.8, 10.0, 1.6),
    (1.0, 12.5, 2.0),
    (1.2, 15.0, 2.4),
    (1.5, 18.0, 2.8),
    (1.8, 21.0, 3.2),
    (2.2, 25.0, 3.7),
];

/// Pools of light under street lamps and before vehicles with their headlights on.
pub(crate) fn pools(ground: &mut Ground, view: &View, road: &RoadWorld, actors: &[Actor], strength: f32) {
    let step = (strength * 26.0) as u8;
    if step == 0 {
        return;
    }
    for lamp in road.lamps.iter().filter(|l| near(view, l.at, 130.0)) {
        let (s, c) = sin_cos(lamp.facing);
        let middle = [lamp.at[0] + f64::from(c) * lamp.arm, lamp.at[1] + f64::from(s) * lamp.arm];
        for radius in [1.5, 3.0, 4.6, 6.4, 8.6, 11.0] {
            let round = super::mesh::ring()
                .map(|(c, s)| view.ground([middle[0] + f64::from(c) * radius, middle[1] + f64::from(s) * radius]));
            ground.stroke(view, &round, Stroke::Lamp(step));
        }
    }
    for actor in actors.iter().filter(|a| a.headlights && near(view, [a.body.x, a.body.y], 110.0)) {
        if matches!(actor.kind, ActorKind::Cyclist) {
            continue;
        }
        let (s, c) = sin_cos(actor.body.heading);
        let (s, c) = (f64::from(s), f64::from(c));
        let nose = actor.length * 0.5;
        let at = |x: f64, y: f64| view.ground([actor.body.x + c * x - s * y, actor.body.y + s * x + c * y]);
        for (from, to, half) in HEADLIGHTS {
            let corners = [
                at(nose + from, -0.8),
                at(nose + to, -half),
                at(nose + to + 1.5, 0.0),
                at(nose + to, half),
                at(nose + from, 0.8),
            ];
            ground.stroke(view, &corners, Stroke::Lamp(step / 2 + step / 4));
        }
    }
}

/// Light of the street lamps at a place, for things that stand there.
pub(crate) fn lamplight(road: &RoadWorld, at: Point2, strength: f32) -> V3 {
    if strength <= 0.0 {
        return [0.0; 3];
    }
    let mut sum = 0.0f32;
    for lamp in &road.lamps {
        let (dx, dy) = (lamp.at[0] - at[0], lamp.at[1] - at[1]);
        let d2 = (dx * dx + dy * dy) as f32;
        if d2 < 900.0 {
            sum += 1.0 / (1.0 + d2 * (1.0 / 45.0));
        }
    }
    scale([1.0, 0.74, 0.42], (0.30 * strength * sum).min(0.5 * strength))
}

/// Distance between a place and the camera's foot, metres.
pub(crate) fn distance(view: &View, at: Point2) -> f32 {
    length(sub(view.ground(at), scale(view.up, -view.eye[2] as f32)))
}
