//! The pen that draws things of flat faces: boxes, limbs, wheels, boards.
//!
//! Terms: *local axes* are x forward, y left, z up from the middle of a thing's footprint, multiplied by the pen's
//! `size` (so that a model can be written in shares of length, width and height). A face's corners run anticlockwise
//! seen from outside. *Damage* pushes the ends of a body in and jolts its corners.
//!
//! What it never does: sort faces; depth per pixel decides.

use super::frame::Frame;
use super::light::{Light, Paint};
use super::limits::{CORNERS, FAR_M, GLOWS, POLYGONS};
use super::noise::{hash, unit};
use super::vec3::{V3, add, cross, dot, length, normal, scale, sin_cos, sub};
use super::view::View;
use crate::world::state::Body;

/// A lamp that shines into the lens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glow {
    /// Camera axes, metres.
    pub(crate) at: V3,
    pub(crate) colour: V3,
    /// Radius of the bright middle, metres.
    pub(crate) size: f32,
}

/// Everything that faces are drawn into.
pub(crate) struct Canvas<'a> {
    pub(crate) frame: &'a mut Frame,
    pub(crate) glows: &'a mut Vec<Glow>,
    pub(crate) view: &'a View,
    /// Time of the scene, seconds.
    pub(crate) t_s: f32,
    /// Only what is where counts: patterns are left out.
    pub(crate) plain: bool,
}

/// Draws one thing.
pub(crate) struct Pen<'c, 'a> {
    pub(crate) canvas: &'c mut Canvas<'a>,
    pub(crate) light: Light,
    pub(crate) size: V3,
    pub(crate) damage: f32,
    pub(crate) salt: u32,
    /// Pixels per metre at the thing's middle.
    pub(crate) detail: f32,
    axes: [V3; 3],
    origin: V3,
}

impl<'c, 'a> Pen<'c, 'a> {
    /// A pen at a body's place; `None`: out of sight. `reach`: radius of the thing, metres.
    pub(crate) fn at_body(canvas: &'c mut Canvas<'a>, light: &Light, body: &Body, reach: f32) -> Option<Self> {
        let fine = |x: f64| if x.is_finite() { x.clamp(-1e6, 1e6) } else { 0.0 };
        let m = crate::maths::rotation(fine(body.heading), fine(body.pitch), fine(body.roll));
        let axis = |j: usize| canvas.view.turn([m[0][j] as f32, m[1][j] as f32, m[2][j] as f32]);
        let axes = [axis(0), axis(1), axis(2)];
        let origin = canvas.view.place([fine(body.x), fine(body.y), fine(body.heave)]);
        Self::new(canvas, light, axes, origin, reach)
    }

    /// A pen for a thing that stands upright on the ground and looks along a heading.
    pub(crate) fn upright(
        canvas: &'c mut Canvas<'a>,
        light: &Light,
        (at, heading): ([f64; 2], f64),
        reach: f32,
    ) -> Option<Self> {
        let (s, c) = sin_cos(if heading.is_finite() { heading.clamp(-1e6, 1e6) } else { 0.0 });
        let view = canvas.view;
        let axes = [view.turn([c, s, 0.0]), view.turn([-s, c, 0.0]), view.up];
        let origin = view.ground(at);
        Self::new(canvas, light, axes, origin, reach)
    }

    fn new(canvas: &'c mut Canvas<'a>, light: &Light, axes: [V3; 3], origin: V3, reach: f32) -> Option<Self> {
        let view = canvas.view;
        let near = origin[2] + reach;
        let side = near.max(0.5) * (view.cx / view.focal) + reach * 1.5;
        let seen = near > 0.0 && origin[2] - reach < FAR_M && origin[0].abs() < side;
        let detail = view.focal / origin[2].max(1.0);
        let size = [1.0; 3];
        seen.then_some(Self { canvas, light: *light, size, damage: 0.0, salt: 0, detail, axes, origin })
    }

    /// A local place in camera axes.
    pub(crate) fn place(&self, p: V3) -> V3 {
        let mut q = [p[0] * self.size[0], p[1] * self.size[1], p[2] * self.size[2]];
        if self.damage > 0.0 {
            q = self.crush(p, q);
        }
        add(self.origin, self.turn(q))
    }

    /// A local direction in camera axes.
    pub(crate) fn turn(&self, q: V3) -> V3 {
        add(add(scale(self.axes[0], q[0]), scale(self.axes[1], q[1])), scale(self.axes[2], q[2]))
    }

    fn crush(&self, p: V3, q: V3) -> V3 {
        let end = (p[0].abs() - 0.2).max(0.0);
        let key = |v: f32| (v * 64.0) as i32 as u32;
        let seed = hash(key(p[0]) ^ hash(key(p[1]) ^ hash(key(p[2]) ^ self.salt)));
        let jolt = |k: u32| (unit(hash(seed ^ k)) - 0.5) * self.damage * (0.06 + 0.7 * end);
        let shorter = 1.0 - 0.34 * self.damage * end;
        [q[0] * shorter + jolt(1), q[1] * (1.0 - 0.1 * self.damage * end) + 0.7 * jolt(2), q[2] + 0.5 * jolt(3)]
    }

    /// A flat convex face, seen from outside only.
    pub(crate) fn face(&mut self, corners: &[V3], paint: &Paint) {
        self.polygon(corners, paint, false);
    }

    /// A flat convex face, seen from both sides.
    pub(crate) fn board(&mut self, corners: &[V3], paint: &Paint) {
        self.polygon(corners, paint, true);
    }

    fn polygon(&mut self, corners: &[V3], paint: &Paint, both: bool) {
        let mut points = [[0.0; 3]; CORNERS];
        let count = corners.len().min(CORNERS);
        for (slot, corner) in points.iter_mut().zip(corners) {
            *slot = self.place(*corner);
        }
        let Some(points) = points.get(..count) else { return };
        self.canvas.polygon(points, paint, both, &self.light);
    }

    /// A box between two corners.
    pub(crate) fn block(&mut self, low: V3, high: V3, paint: &Paint) {
        let at = |x: bool, y: bool, z: bool| {
            let pick = |i: usize, h: bool| if h { high[i] } else { low[i] };
            [pick(0, x), pick(1, y), pick(2, z)]
        };
        let ring = |z: bool| [at(false, false, z), at(true, false, z), at(true, true, z), at(false, true, z)];
        self.hexa(&ring(false), &ring(true), paint);
    }

    /// A body of six faces between two rings of four corners, each anticlockwise seen from the second one's side.
    pub(crate) fn hexa(&mut self, low: &[V3; 4], high: &[V3; 4], paint: &Paint) {
        for i in 0..4 {
            let j = (i + 1) % 4;
            self.face(&[low[i], low[j], high[j], high[i]], paint);
        }
        self.face(high, paint);
        self.face(&[low[3], low[2], low[1], low[0]], paint);
    }

    /// A tapering limb of four sides from `a` to `b` with half thicknesses there.
    pub(crate) fn limb(&mut self, (a, ra): (V3, f32), (b, rb): (V3, f32), paint: &Paint) {
        let along = normal(sub(b, a));
        let other = if along[1].abs() < 0.8 { [0.0, 1.0, 0.0] } else { [1.0, 0.0, 0.0] };
        let u = normal(cross(other, along));
        let v = cross(along, u);
        let ring = |p: V3, r: f32| {
            [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
                .map(|k: [f32; 2]| add(p, add(scale(u, k[0] * r), scale(v, k[1] * r))))
        };
        self.hexa(&ring(a, ra), &ring(b, rb), paint);
    }

    /// A wheel that turns about the local y axis: tread and the two sides, radius and half width in local units.
    pub(crate) fn wheel(&mut self, middle: V3, radius: f32, half: f32, hub: &Paint) {
        let tyre = Paint::matt([26, 26, 28]);
        let rim = |k: usize, r: f32, y: f32| {
            let (c, s) = RING[k % RING.len()];
            [middle[0] + r * c, y, middle[2] + r * s]
        };
        let (left, right) = (middle[1] + half, middle[1] - half);
        for k in 0..RING.len() {
            let (a, b) = (rim(k, radius, right), rim(k, radius, left));
            self.face(&[a, b, rim(k + 1, radius, left), rim(k + 1, radius, right)], &tyre);
        }
        let disc = |r: f32, y: f32, flip: bool| -> [V3; 10] {
            core::array::from_fn(|k| rim(if flip { k } else { RING.len() - k }, r, y))
        };
        self.face(&disc(radius, left, false), &tyre);
        self.face(&disc(radius, right, true), &tyre);
        if self.detail > 8.0 {
            self.face(&disc(radius * 0.62, left + 0.012, false), hub);
            self.face(&disc(radius * 0.62, right - 0.012, true), hub);
        }
    }

    /// A rectangle that looks to the left (`side` 1) or to the right (-1).
    pub(crate) fn flank(&mut self, (side, y): (f32, f32), x: [f32; 2], z: [f32; 2], paint: &Paint) {
        let y = y * side;
        let c = [[x[0], y, z[0]], [x[1], y, z[0]], [x[1], y, z[1]], [x[0], y, z[1]]];
        if side > 0.0 { self.face(&[c[1], c[0], c[3], c[2]], paint) } else { self.face(&c, paint) }
    }

    /// A rectangle that looks ahead (`end` 1) or back (-1).
    pub(crate) fn front(&mut self, (end, x): (f32, f32), y: [f32; 2], z: [f32; 2], paint: &Paint) {
        let x = x * end;
        let c = [[x, y[0], z[0]], [x, y[1], z[0]], [x, y[1], z[1]], [x, y[0], z[1]]];
        if end > 0.0 { self.face(&c, paint) } else { self.face(&[c[1], c[0], c[3], c[2]], paint) }
    }

    /// A thin hoop in the plane y = middle, seen from both sides.
    pub(crate) fn hoop(&mut self, middle: V3, outer: f32, inner: f32, paint: &Paint) {
        let rim = |k: usize, r: f32| {
            let (c, s) = RING[k % RING.len()];
            [middle[0] + r * c, middle[1], middle[2] + r * s]
        };
        for k in 0..RING.len() {
            self.board(&[rim(k, outer), rim(k + 1, outer), rim(k + 1, inner), rim(k, inner)], paint);
        }
    }

    /// Remembers a lamp that shines towards local `facing` (null: all around).
    pub(crate) fn glow(&mut self, at: V3, facing: V3, colour: V3, size: f32) {
        let p = self.place(at);
        let mut share = 1.0;
        if facing != [0.0; 3] {
            let towards = -dot(self.turn(facing), p) / length(p).max(1e-3);
            share = towards.max(0.0);
        }
        if p[2] > 0.3 && share > 0.05 && self.canvas.glows.len() < GLOWS {
            self.canvas.glows.push(Glow { at: p, colour: scale(colour, share), size });
        }
    }
}

/// Ten points of a circle: cosine and sine.
const RING: [(f32, f32); 10] = [
    (1.0, 0.0),
    (0.809_017, 0.587_785),
    (0.309_017, 0.951_057),
    (-0.309_017, 0.951_057),
    (-0.809_017, 0.587_785),
    (-1.0, 0.0),
    (-0.809_017, -0.587_785),
    (-0.309_017, -0.951_057),
    (0.309_017, -0.951_057),
    (0.809_017, -0.587_785),
];

/// Ten points of a circle of radius 1, anticlockwise.
pub(crate) fn ring() -> &'static [(f32, f32); 10] {
    &RING
}

impl Canvas<'_> {
    /// Draws a flat convex face given in camera axes.
    pub(crate) fn polygon(&mut self, points: &[V3], paint: &Paint, both: bool, light: &Light) {
        let &[a, b, c, ..] = points else { return };
        let mut n = cross(sub(b, a), sub(c, b));
        if dot(n, n) < 1e-16
            && let Some(d) = points.get(3)
        {
            n = cross(sub(c, a), sub(*d, a));
        }
        let facing = dot(n, a);
        if !(facing.is_finite()) || (facing >= 0.0 && !both) || self.frame.polygons >= POLYGONS {
            return;
        }
        let outline = self.view.project(points);
        if outline.points().is_empty() {
            return;
        }
        self.frame.polygons += 1;
        let Some(plane) = self.view.inverse_depth(n, a) else { return };
        let n = normal(if facing >= 0.0 { scale(n, -1.0) } else { n });
        let sum = points.iter().fold([0.0; 3], |s, p| add(s, *p));
        let middle = scale(sum, 1.0 / points.len() as f32);
        self.frame.fill(&outline, plane, light.face(n, middle, paint));
    }
}
