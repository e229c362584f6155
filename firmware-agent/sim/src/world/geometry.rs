//! Plane geometry of the world: lines to drive along, and rectangles that may touch.
//!
//! Terms: a *path* is a line with points at equal steps; a place on it is its way `s` and its offset to the left, metres.
//! Before its first and behind its last point a path goes on straight.

use super::state::{Body, Point2};
use crate::limits::PATH_POINTS;
use crate::maths::{PI, cos, sin};

/// A line to drive along.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Path {
    points: Vec<Point2>,
    headings: Vec<f64>,
    step: f64,
}

/// A place and a direction, metres and radians.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pose {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) heading: f64,
}

impl Pose {
    /// The place `ahead` and `left` of this one, same direction.
    pub(crate) fn offset(&self, ahead: f64, left: f64) -> Self {
        let (s, c) = (sin(self.heading), cos(self.heading));
        Self { x: self.x + c * ahead - s * left, y: self.y + s * ahead + c * left, heading: self.heading }
    }

    pub(crate) const fn point(&self) -> Point2 {
        [self.x, self.y]
    }
}

impl Path {
    /// A path that turns by `curvature(s)` per metre (left positive). Cut at the cap on points.
    pub(crate) fn from_curvature(start: Pose, length: f64, step: f64, curvature: impl Fn(f64) -> f64) -> Self {
        let count = ((length / step).ceil().max(1.0) as usize + 1).min(PATH_POINTS);
        let mut pose = start;
        let (mut points, mut headings) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for i in 0..count {
            points.push(pose.point());
            headings.push(pose.heading);
            let turn = curvature((i as f64 + 0.5) * step) * step;
            let middle = pose.heading + turn / 2.0;
            pose.x += cos(middle) * step;
            pose.y += sin(middle) * step;
            pose.heading += turn;
        }
        Self { points, headings, step }
    }

    /// A straight path.
    pub(crate) fn line(start: Pose, length: f64) -> Self {
        Self::from_curvature(start, length, length.max(1.0), |_| 0.0)
    }

    /// Way from the first to the last point.
    pub(crate) fn length(&self) -> f64 {
        self.step * self.points.len().saturating_sub(1) as f64
    }

    pub(crate) fn points(&self) -> &[Point2] {
        &self.points
    }

    /// The pose at a way and offset.
    pub(crate) fn at(&self, s: f64, left: f64) -> Pose {
        let Some(last) = self.points.len().checked_sub(2) else { return Pose::default() };
        let place = s / self.step;
        let i = (place.max(0.0) as usize).min(last);
        let f = place - i as f64;
        let (a, b) = (self.points[i], self.points[i + 1]);
        // Beyond the ends the line goes on, but its direction stays.
        let heading = self.headings[i] + (self.headings[i + 1] - self.headings[i]) * f.clamp(0.0, 1.0);
        let (x, y) = (a[0] + (b[0] - a[0]) * f, a[1] + (b[1] - a[1]) * f);
        if left == 0.0 {
            return Pose { x, y, heading };
        }
        Pose { x, y, heading }.offset(0.0, left)
    }

    /// Turn per metre at a way, left positive.
    pub(crate) fn curvature(&self, s: f64) -> f64 {
        let Some(last) = self.points.len().checked_sub(2) else { return 0.0 };
        let place = s / self.step;
        if place < 0.0 || place > last as f64 + 1.0 {
            return 0.0;
        }
        let i = (place as usize).min(last);
        (self.headings[i + 1] - self.headings[i]) / self.step
    }

    /// Way and offset of a point, looked for near `guess`.
    pub(crate) fn locate(&self, point: Point2, guess: f64) -> (f64, f64) {
        let (mut s, mut left) = (guess, 0.0);
        for _ in 0..3 {
            let pose = self.at(s, 0.0);
            let (dx, dy) = (point[0] - pose.x, point[1] - pose.y);
            let (sin_h, cos_h) = (sin(pose.heading), cos(pose.heading));
            let ahead = cos_h * dx + sin_h * dy;
            left = cos_h * dy - sin_h * dx;
            s += ahead;
            if ahead.abs() < 1e-3 {
                break;
            }
        }
        (s, left)
    }

    /// Points every `every` metres between two ways, at an offset.
    pub(crate) fn polyline(&self, from: f64, to: f64, left: f64, every: f64) -> Vec<Point2> {
        let count = (((to - from) / every).ceil().max(1.0) as usize).min(PATH_POINTS);
        let step = (to - from) / count as f64;
        (0..=count).map(|i| self.at(from + i as f64 * step, left).point()).collect()
    }
}

/// An angle brought to -pi to pi.
pub(crate) fn wrap(angle: f64) -> f64 {
    angle - (angle / (2.0 * PI)).round() * 2.0 * PI
}

/// A rectangle on the ground.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rect {
    pub(crate) at: Point2,
    pub(crate) forward: Point2,
    pub(crate) half: [f64; 2],
}

/// Where two rectangles touch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Touch {
    /// Unit vector from the first to the second.
    pub(crate) normal: Point2,
    pub(crate) point: Point2,
    pub(crate) depth: f64,
}

impl Rect {
    pub(crate) fn new(body: &Body, length: f64, width: f64) -> Self {
        let forward = [cos(body.heading), sin(body.heading)];
        Self { at: [body.x, body.y], forward, half: [length / 2.0, width / 2.0] }
    }

    const fn left(&self) -> Point2 {
        [-self.forward[1], self.forward[0]]
    }

    pub(crate) fn corners(&self) -> [Point2; 4] {
        let (f, l) = (self.forward, self.left());
        [(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0)].map(|(a, b)| {
            let (x, y) = (a * self.half[0], b * self.half[1]);
            [self.at[0] + f[0] * x + l[0] * y, self.at[1] + f[1] * x + l[1] * y]
        })
    }

    /// Half of its extent along a unit vector.
    fn reach(&self, axis: Point2) -> f64 {
        self.half[0] * dot(axis, self.forward).abs() + self.half[1] * dot(axis, self.left()).abs()
    }

    fn holds(&self, p: Point2) -> bool {
        let d = [p[0] - self.at[0], p[1] - self.at[1]];
        dot(d, self.forward).abs() <= self.half[0] + 1e-9 && dot(d, self.left()).abs() <= self.half[1] + 1e-9
    }

    /// How two rectangles overlap: the separating-axis test, the normal being the axis of the least overlap.
    pub(crate) fn touch(&self, other: &Self) -> Option<Touch> {
        let d = [other.at[0] - self.at[0], other.at[1] - self.at[1]];
        let mut best: Option<(f64, Point2)> = None;
        for axis in [self.forward, self.left(), other.forward, other.left()] {
            let way = dot(d, axis);
            let depth = self.reach(axis) + other.reach(axis) - way.abs();
            if depth < 0.0 {
                return None;
            }
            let normal = if way < 0.0 { [-axis[0], -axis[1]] } else { axis };
            if best.is_none_or(|(least, _)| depth < least) {
                best = Some((depth, normal));
            }
        }
        let (depth, normal) = best?;
        let inside = self.corners().into_iter().filter(|p| other.holds(*p));
        let (mut sum, mut count) = ([0.0; 2], 0.0);
        for p in inside.chain(other.corners().into_iter().filter(|p| self.holds(*p))) {
            sum = [sum[0] + p[0], sum[1] + p[1]];
            count += 1.0;
        }
        let point = if count > 0.0 {
            [sum[0] / count, sum[1] / count]
        } else {
            [(self.at[0] + other.at[0]) / 2.0, (self.at[1] + other.at[1]) / 2.0]
        };
        Some(Touch { normal, point, depth })
    }

    /// Least distance along the four axes: exact for rectangles face to face, a lower bound at corners; 0 if they touch.
    pub(crate) fn gap(&self, other: &Self) -> f64 {
        let d = [other.at[0] - self.at[0], other.at[1] - self.at[1]];
        [self.forward, self.left(), other.forward, other.left()]
            .into_iter()
            .map(|axis| dot(d, axis).abs() - self.reach(axis) - other.reach(axis))
            .fold(0.0, f64::max)
    }
}

pub(crate) fn dot(a: Point2, b: Point2) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// The upward part of the product of two vectors of the plane.
pub(crate) fn cross(a: Point2, b: Point2) -> f64 {
    a[0] * b[1] - a[1] * b[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_closes_and_its_places_are_found_again() {
        let circle = Path::from_curvature(Pose::default(), 2.0 * PI * 50.0, 1.0, |_| 1.0 / 50.0);
        let end = circle.at(2.0 * PI * 50.0, 0.0);
        assert!(end.x.abs() < 0.1 && end.y.abs() < 0.1, "{end:?}");
        assert!((circle.curvature(100.0) - 0.02).abs() < 1e-9);
        let place = circle.at(80.0, 3.0);
        let (s, left) = circle.locate(place.point(), 78.0);
        assert!((s - 80.0).abs() < 0.05 && (left - 3.0).abs() < 0.02, "{s} {left}");
    }

    #[test]
    fn rectangles_touch_where_they_meet() {
        let rect = |x: f64, y: f64, heading: f64| Rect::new(&Body { x, y, heading, ..Body::default() }, 4.0, 2.0);
        assert!(rect(0.0, 0.0, 0.0).touch(&rect(4.1, 0.0, 0.0)).is_none());
        assert!((rect(0.0, 0.0, 0.0).gap(&rect(4.1, 0.0, 0.0)) - 0.1).abs() < 1e-9);
        let touch = rect(0.0, 0.0, 0.0).touch(&rect(3.9, 0.5, 0.0)).unwrap();
        assert!((touch.normal[0] - 1.0).abs() < 1e-9 && (touch.depth - 0.1).abs() < 1e-9, "{touch:?}");
        assert!((touch.point[0] - 1.95).abs() < 1e-9 && (touch.point[1] - 0.25).abs() < 1e-9, "{touch:?}");
        // A car that stands across: its side is met by the front.
        let touch = rect(0.0, 0.0, 0.0).touch(&rect(2.9, 0.0, PI / 2.0)).unwrap();
        assert!((touch.normal[0] - 1.0).abs() < 1e-9 && (touch.depth - 0.1).abs() < 1e-6, "{touch:?}");
    }
}
