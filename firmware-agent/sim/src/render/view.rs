//! The pinhole camera: from world places to the camera's axes and to pixels of the inner image.
//!
//! Terms: *camera axes* are x right, y down, z along the optical axis, metres. The *inner image* is what the
//! rasteriser paints, a little larger than the picture and without lens distortion. *Inverse depth* is 1/z; on a
//! plane it is linear in pixel coordinates.

use super::limits::{CORNERS, CORNERS_CUT, NEAR_M};
use super::vec3::{V3, add, dot, scale};
use crate::maths::rotation;
use crate::world::state::CameraPose;

/// A value that is linear over the inner image: a x + b y + c.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linear {
    pub(crate) a: f32,
    pub(crate) b: f32,
    pub(crate) c: f32,
}

impl Linear {
    pub(crate) fn at(self, x: f32, y: f32) -> f32 {
        self.a * x + self.b * y + self.c
    }
}

/// The camera at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Where it is, world axes.
    pub(crate) eye: [f64; 3],
    /// Camera axes in world axes.
    pub(crate) right: V3,
    pub(crate) down: V3,
    pub(crate) ahead: V3,
    /// World axes in camera axes.
    pub(crate) east: V3,
    pub(crate) north: V3,
    pub(crate) up: V3,
    /// Focal length of the inner image, pixels, and its middle.
    pub(crate) focal: f32,
    pub(crate) cx: f32,
    pub(crate) cy: f32,
}

fn finite(x: f64, otherwise: f64) -> f64 {
    if x.is_finite() { x } else { otherwise }
}

impl View {
    pub(crate) fn new(pose: &CameraPose, focal: f32, width: usize, height: usize) -> Self {
        let angle = |x: f64| finite(x, 0.0).clamp(-1e6, 1e6);
        let m = rotation(angle(pose.yaw), angle(pose.pitch), angle(pose.roll));
        let column = |j: usize, sign: f64| -> V3 { core::array::from_fn(|i| (m[i][j] * sign) as f32) };
        let (ahead, right, down) = (column(0, 1.0), column(1, -1.0), column(2, -1.0));
        let eye = [pose.x, pose.y, pose.z].map(|x| finite(x, 0.0).clamp(-1e7, 1e7));
        Self {
            eye: [eye[0], eye[1], eye[2].max(0.2)],
            right,
            down,
            ahead,
            east: [right[0], down[0], ahead[0]],
            north: [right[1], down[1], ahead[1]],
            up: [right[2], down[2], ahead[2]],
            focal,
            cx: width as f32 / 2.0,
            cy: height as f32 / 2.0,
        }
    }

    /// A world direction in camera axes.
    pub(crate) fn turn(&self, d: V3) -> V3 {
        add(add(scale(self.east, d[0]), scale(self.north, d[1])), scale(self.up, d[2]))
    }

    /// A world place in camera axes.
    pub(crate) fn place(&self, p: [f64; 3]) -> V3 {
        self.turn([(p[0] - self.eye[0]) as f32, (p[1] - self.eye[1]) as f32, (p[2] - self.eye[2]) as f32])
    }

    /// A place on the ground in camera axes.
    pub(crate) fn ground(&self, p: [f64; 2]) -> V3 {
        self.place([p[0], p[1], 0.0])
    }

    /// Pixel of a place before the camera.
    pub(crate) fn pixel(&self, p: V3) -> [f32; 2] {
        let k = self.focal / p[2];
        [self.cx + p[0] * k, self.cy + p[1] * k]
    }

    /// Direction of a pixel's ray in camera axes, z = 1.
    pub(crate) fn ray(&self, x: f32, y: f32) -> V3 {
        [(x - self.cx) / self.focal, (y - self.cy) / self.focal, 1.0]
    }

    /// Inverse depth of the plane through `p` with normal `n`, at pixel centres; `None`: seen edge on.
    pub(crate) fn inverse_depth(&self, n: V3, p: V3) -> Option<Linear> {
        let d = dot(n, p);
        if d.abs() < 1e-9 {
            return None;
        }
        Some(self.along(n, 1.0 / d))
    }

    /// `scale` times the product of a pixel's ray with `n`, as a linear value at the centres of pixels.
    pub(crate) fn along(&self, n: V3, scale: f32) -> Linear {
        let (a, b) = (n[0] / self.focal * scale, n[1] / self.focal * scale);
        Linear { a, b, c: n[2] * scale + a * (0.5 - self.cx) + b * (0.5 - self.cy) }
    }

    /// Cuts a polygon in camera axes at the near plane and projects it.
    pub(crate) fn project(&self, points: &[V3]) -> Outline {
        let mut out = Outline::default();
        let Some(mut before) = points.last().copied() else { return out };
        for p in points.iter().take(CORNERS).copied() {
            if (p[2] >= NEAR_M) != (before[2] >= NEAR_M) {
                let t = (NEAR_M - before[2]) / (p[2] - before[2]);
                let cut = |i: usize| before[i] + (p[i] - before[i]) * t;
                out.push(self.pixel([cut(0), cut(1), NEAR_M]), 1.0 / NEAR_M);
            }
            if p[2] >= NEAR_M {
                out.push(self.pixel(p), 1.0 / p[2]);
            }
            before = p;
        }
        out
    }
}

/// Corners of a polygon in pixels, with the range of their inverse depth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline {
    points: [[f32; 2]; CORNERS_CUT],
    count: usize,
    pub(crate) near: f32,
    pub(crate) far: f32,
}

impl Default for Outline {
    fn default() -> Self {
        Self { points: [[0.0; 2]; CORNERS_CUT], count: 0, near: 0.0, far: f32::MAX }
    }
}

impl Outline {
    pub(crate) fn push(&mut self, point: [f32; 2], inverse: f32) {
        if let Some(slot) = self.points.get_mut(self.count) {
            *slot = point;
            self.count += 1;
            self.near = self.near.max(inverse);
            self.far = self.far.min(inverse);
        }
    }

    pub(crate) fn points(&self) -> &[[f32; 2]] {
        self.points.get(..self.count).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let pose = CameraPose { x: 10.0, y: 5.0, z: 1.4, yaw: 0.3, pitch: 0.05, ..CameraPose::default() };
        View::new(&pose, 400.0, 600, 400)
    }

    #[test]
    fn a_place_on_the_optical_axis_is_in_the_middle_and_left_is_left() {
        let v = view();
        let r = rotation(0.3, 0.05, 0.0);
        let ahead: [f64; 3] = core::array::from_fn(|i| v.eye[i] + 20.0 * r[i][0]);
        let pixel = v.pixel(v.place(ahead));
        assert!((pixel[0] - 300.0).abs() < 1e-2 && (pixel[1] - 200.0).abs() < 1e-2, "{pixel:?}");
        let left: [f64; 3] = core::array::from_fn(|i| ahead[i] + r[i][1]);
        assert!(v.pixel(v.place(left))[0] < 290.0);
        let higher = [ahead[0], ahead[1], ahead[2] + 1.0];
        assert!(v.pixel(v.place(higher))[1] < 190.0);
    }

    #[test]
    fn inverse_depth_is_that_of_the_plane() {
        let v = view();
        let up = v.up;
        let p = v.ground([30.0, 12.0]);
        let plane = v.inverse_depth(up, p).unwrap();
        let q = v.ground([25.0, 9.0]);
        let pixel = v.pixel(q);
        assert!((plane.at(pixel[0] - 0.5, pixel[1] - 0.5) - 1.0 / q[2]).abs() < 1e-5);
    }

    #[test]
    fn a_polygon_that_passes_the_eye_is_cut_before_it() {
        let v = view();
        let outline = v.project(&[[-1.0, 1.0, -5.0], [1.0, 1.0, -5.0], [1.0, 1.0, 9.0], [-1.0, 1.0, 9.0]]);
        assert_eq!(outline.points().len(), 4);
        assert!(outline.near <= 1.0 / NEAR_M && outline.points().iter().all(|p| p[1] > 200.0));
        assert!(v.project(&[[0.0, 0.0, -1.0]; 4]).points().is_empty());
    }
}
