//! A tunnel around the route: walls, ceiling, lamps and portals, and who is inside it.
//!
//! Terms: the tunnel follows the route between two ways along it; its sides stand where the asphalt ends.
//!
//! What it never does: cut a hill; the portal is a wall across the road with earth on top.

use super::ground::{Ground, Stroke};
use super::light::{Light, Paint};
use super::limits::FAR_M;
use super::mesh::Canvas;
use super::noise::Tile;
use super::vec3::{V3, add, lin, normal, scale, sub};
use super::view::View;
use crate::world::state::{Material, Point2, Ribbon, RoadWorld};

const HEIGHT: f32 = 5.4;
/// Length of a piece, metres.
const PIECE: f64 = 4.0;
/// Pieces at most.
const PIECES: usize = 400;

/// A tunnel found on the route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    from: f64,
    to: f64,
    /// Left and right of the route, metres.
    sides: [f64; 2],
}

struct Walker<'a> {
    route: &'a [Point2],
}

impl Walker<'_> {
    /// Place and direction at each way of a rising sequence.
    fn visit(&self, from: f64, to: f64, mut each: impl FnMut(usize, Point2, [f64; 2])) {
        let (mut way, mut next, mut count) = (0.0, from, 0);
        for pair in self.route.windows(2) {
            let [p, q] = pair else { continue };
            let (dx, dy) = (q[0] - p[0], q[1] - p[1]);
            let long = (dx * dx + dy * dy).sqrt();
            if !(long > 1e-9 && long.is_finite()) {
                continue;
            }
            while next <= way + long {
                if next > to + PIECE || count >= PIECES {
                    return;
                }
                let t = (next - way) / long;
                each(count, [p[0] + dx * t, p[1] + dy * t], [dx / long, dy / long]);
                count += 1;
                next += PIECE;
            }
            way += long;
        }
    }
}

impl Tunnel {
    pub(crate) fn find(road: &RoadWorld) -> Option<Self> {
        let (from, to) = road.tunnel?;
        if !(to > from && from.is_finite() && to.is_finite()) {
            return None;
        }
        let mut sides = [4.0f64, -4.0];
        let middle = (from + to) * 0.5;
        Walker { route: &road.route }.visit(middle, middle, |count, at, d| {
            if count > 0 {
                return;
            }
            // The strip that carries the route first, then what joins on to it.
            let mut reach = [0.0f64, 0.0];
            for _ in 0..3 {
                for ribbon in &road.ribbons {
                    let Some([left, right]) = edges(ribbon, at, d) else { continue };
                    if left >= reach[1] - 0.6 && right <= reach[0] + 0.6 && left - right < 24.0 {
                        reach = [reach[0].max(left), reach[1].min(right)];
                    }
                }
            }
            sides = [sides[0].max(reach[0] + 0.3), sides[1].min(reach[1] - 0.3)];
        });
        Some(Self { from: from.max(0.0), to, sides })
    }

    /// The light on a thing at a place: that of the tunnel's lamps when it stands inside.
    pub(crate) fn relight(&self, road: &RoadWorld, at: Point2, light: &Light) -> Light {
        let mut local = *light;
        if self.holds(road, at) > 0.0 {
            local.indoor = 1.0;
            local.lamp = inside_lamp(light);
        }
        local
    }

    /// 1 inside, 0 outside, at a place near the route.
    pub(crate) fn holds(&self, road: &RoadWorld, at: Point2) -> f32 {
        let mut inside = 0.0;
        let reach = self.sides[0] - self.sides[1] + PIECE;
        Walker { route: &road.route }.visit(self.from, self.to, |_, p, d| {
            let (x, y) = (at[0] - p[0], at[1] - p[1]);
            let (ahead, left) = (x * d[0] + y * d[1], y * d[0] - x * d[1]);
            if ahead.abs() <= PIECE && left.abs() < reach {
                inside = 1.0;
            }
        });
        inside
    }

    fn corners(&self, view: &View, at: Point2, d: [f64; 2]) -> [V3; 2] {
        self.sides.map(|left| view.ground([at[0] - d[1] * left, at[1] + d[0] * left]))
    }

    /// Shade and lamplight on the road inside.
    pub(crate) fn shade(&self, ground: &mut Ground, view: &View, road: &RoadWorld) {
        let mut before: Option<[V3; 2]> = None;
        Walker { route: &road.route }.visit(self.from, self.to, |k, at, d| {
            let here = self.corners(view, at, d);
            if let Some(last) = before
                && (here[0][2] > 0.0 || here[1][2] > 0.0)
                && last[0][2] < FAR_M
            {
                let quad = [last[0], last[1], here[1], here[0]];
                ground.stroke(view, &quad, Stroke::Shade(0));
                ground.stroke(view, &quad, Stroke::Lamp(if k % 3 == 1 { 84 } else { 64 }));
            }
            before = Some(here);
        });
    }

    /// Walls, ceiling, lamps and both portals.
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, light: &Light, plaster: &Tile, road: &RoadWorld) {
        let mut inside = *light;
        inside.indoor = 1.0;
        inside.lamp = inside_lamp(light);
        let up = canvas.view.up;
        let mut before: Option<[V3; 2]> = None;
        let mut last_place: Option<(Point2, [f64; 2])> = None;
        Walker { route: &road.route }.visit(self.from, self.to, |k, at, d| {
            let here = self.corners(canvas.view, at, d);
            if k == 0 {
                self.portal(canvas, light, here, [d[0], d[1]], -1.0);
            }
            if let Some(last) = before
                && here[0][2] > -1.0
                && last[0][2] < FAR_M
            {
                piece(canvas, &inside, plaster, (last, here), up, k);
            }
            before = Some(here);
            last_place = Some((at, d));
        });
        if let Some((at, d)) = last_place {
            let here = self.corners(canvas.view, at, d);
            self.portal(canvas, light, here, d, 1.0);
        }
    }

    fn portal(&self, canvas: &mut Canvas<'_>, light: &Light, feet: [V3; 2], d: [f64; 2], end: f32) {
        let view = canvas.view;
        let up = view.up;
        let left = normal(view.turn([-d[1] as f32, d[0] as f32, 0.0]));
        let out = scale(view.turn([d[0] as f32, d[1] as f32, 0.0]), end * 0.05);
        let at = |foot: V3, aside: f32, z: f32| add(add(add(foot, scale(left, aside)), scale(up, z)), out);
        let stone = Paint::matt([142, 136, 126]);
        let earth = Paint::matt([72, 96, 50]);
        let (l, r) = (feet[0], feet[1]);
        let mut wall = |quad: [V3; 4], paint: &Paint| canvas.polygon(&quad, paint, true, light);
        wall([at(l, 0.0, 0.0), at(l, 6.0, 0.0), at(l, 6.0, HEIGHT + 1.6), at(l, 0.0, HEIGHT + 1.6)], &stone);
        wall(
            [at(r, -6.0, 0.0), at(r, 0.0, 0.0), at(r, 0.0, HEIGHT + 1.6), at(r, -6.0, HEIGHT + 1.6)],
            &stone.times(0.97),
        );
        wall(
            [at(r, 0.0, HEIGHT - 0.3), at(l, 0.0, HEIGHT - 0.3), at(l, 0.0, HEIGHT + 1.6), at(r, 0.0, HEIGHT + 1.6)],
            &stone,
        );
        wall(
            [at(r, -6.0, HEIGHT + 1.6), at(l, 6.0, HEIGHT + 1.6), at(l, 3.0, HEIGHT + 5.0), at(r, -3.0, HEIGHT + 5.0)],
            &earth,
        );
        wall([at(l, 6.0, 0.0), at(l, 34.0, 0.0), at(l, 26.0, HEIGHT), at(l, 6.0, HEIGHT + 1.6)], &earth.times(0.92));
        wall(
            [at(r, -34.0, 0.0), at(r, -6.0, 0.0), at(r, -6.0, HEIGHT + 1.6), at(r, -26.0, HEIGHT)],
            &earth.times(0.92),
        );
    }
}

/// Left and right edge of a paved strip beside a place of the route, metres to the left.
fn edges(ribbon: &Ribbon, at: Point2, d: [f64; 2]) -> Option<[f64; 2]> {
    if ribbon.material == Material::Verge {
        return None;
    }
    let beside = |line: &[Point2]| {
        let local = line.iter().map(|p| {
            let (x, y) = (p[0] - at[0], p[1] - at[1]);
            ((x * d[0] + y * d[1]).abs(), y * d[0] - x * d[1])
        });
        let near = local.filter(|(ahead, left)| *ahead < 12.0 && left.abs() < 30.0);
        near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, left)| left)
    };
    Some([beside(&ribbon.left)?, beside(&ribbon.right)?])
}

/// Light that tunnel lamps throw on things inside.
pub(crate) fn inside_lamp(light: &Light) -> V3 {
    scale([1.0, 0.82, 0.56], 0.24 * light.gain)
}

fn piece(canvas: &mut Canvas<'_>, light: &Light, plaster: &Tile, (a, b): ([V3; 2], [V3; 2]), up: V3, k: usize) {
    let at = |p: V3, z: f32| add(p, scale(up, z));
    let stain = f32::from(plaster.at(k as i32 * 3, 7, 0)) * (0.10 / 255.0) + 0.92;
    let tiles = Paint::matt([168, 164, 152]).times(stain);
    let upper = Paint::matt([108, 104, 98]).times(stain);
    for (p, q) in [(a[0], b[0]), (a[1], b[1])] {
        canvas.polygon(&[p, q, at(q, 3.0), at(p, 3.0)], &tiles, true, light);
        canvas.polygon(&[at(p, 3.0), at(q, 3.0), at(q, HEIGHT), at(p, HEIGHT)], &upper, true, light);
        let stripe = Paint::matt([190, 150, 40]);
        canvas.polygon(&[at(p, 1.0), at(q, 1.0), at(q, 1.12), at(p, 1.12)], &stripe, true, light);
    }
    let dark = Paint::matt([76, 74, 70]).times(stain);
    canvas.polygon(&[at(a[0], HEIGHT), at(b[0], HEIGHT), at(b[1], HEIGHT), at(a[1], HEIGHT)], &dark, true, light);
    if k.is_multiple_of(2) {
        let across = normal(sub(a[1], a[0]));
        for (side, sign) in [(0usize, 1.0), (1, -1.0)] {
            let foot = |p: &[V3; 2], w: f32| at(add(p[side], scale(across, sign * w)), HEIGHT - 0.12);
            let tube = Paint { albedo: lin([255, 232, 190]), emit: 2.6, gloss: 0.0 };
            canvas.polygon(&[foot(&a, 1.0), foot(&b, 1.0), foot(&b, 1.45), foot(&a, 1.45)], &tube, true, light);
        }
    }
}
