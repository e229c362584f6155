//! The pinhole camera behind the windscreen: from places on the road to pixels.

use crate::limits::{FRAME_HEIGHT, FRAME_WIDTH, POLYGON_CORNERS};
use crate::maths::{Mat3, mul, rotation, transpose};
use crate::motion::Step;
use crate::raster::{Canvas, Point};
use crate::road::{Pose, Road};

/// Focal length, pixels: 70 degrees across 640 pixels (320 / tan 35 degrees).
pub(crate) const FOCAL_PX: f64 = 457.0;
/// Height of the camera over the road, metres.
pub(crate) const CAMERA_HEIGHT_M: f64 = 1.35;
/// Nothing nearer than this is drawn, metres.
const NEAR_M: f64 = 0.4;
/// The camera looks down a little, radians.
const TILT: f64 = 0.035;

/// A point in the axes of the plane, z up, metres.
pub(crate) type Place = [f64; 3];

/// The camera at one instant.
pub(crate) struct View {
    eye: Place,
    to_camera: Mat3,
}

impl View {
    pub(crate) fn new(road: &Road, step: &Step, shake: [f64; 3]) -> Self {
        let pose = road.pose(step.s, step.left);
        let heading = pose.heading + step.yaw_off + shake[0];
        let turn = rotation(heading, TILT + step.pitch + shake[1], step.roll + shake[2]);
        Self { eye: [pose.x, pose.y, CAMERA_HEIGHT_M], to_camera: transpose(&turn) }
    }

    /// Into the camera's axes: forward, left, up.
    fn seen(&self, place: Place) -> Place {
        mul(&self.to_camera, [place[0] - self.eye[0], place[1] - self.eye[1], place[2] - self.eye[2]])
    }

    fn project(seen: Place) -> Point {
        let scale = FOCAL_PX / seen[0];
        (FRAME_WIDTH as f64 / 2.0 - seen[1] * scale, FRAME_HEIGHT as f64 / 2.0 - seen[2] * scale)
    }

    /// How far ahead of the camera a place is, metres; negative behind it.
    pub(crate) fn depth(&self, place: Place) -> f64 {
        self.seen(place)[0]
    }

    /// Fills a convex polygon of places, cut at the near plane, paler with distance.
    pub(crate) fn fill(&self, canvas: &mut Canvas, places: &[Place], colour: [u8; 3], alpha: f64) {
        let mut points = [(0.0, 0.0); POLYGON_CORNERS];
        let mut count = 0;
        let mut far = 0.0f64;
        for (i, place) in places.iter().enumerate() {
            let Some(next) = places.get(i + 1).or(places.first()) else { return };
            let (a, b) = (self.seen(*place), self.seen(*next));
            let mut push = |seen: Place| {
                if let Some(slot) = points.get_mut(count) {
                    *slot = Self::project(seen);
                    count += 1;
                    far = far.max(seen[0]);
                }
            };
            if a[0] >= NEAR_M {
                push(a);
            }
            if (a[0] >= NEAR_M) != (b[0] >= NEAR_M) {
                let f = (NEAR_M - a[0]) / (b[0] - a[0]);
                push(core::array::from_fn(|k| a[k] + (b[k] - a[k]) * f));
            }
        }
        canvas.fill(points.get(..count).unwrap_or(&[]), hazy(colour, far), alpha);
    }
}

/// Distance takes colours towards the sky's.
fn hazy(colour: [u8; 3], distance: f64) -> [u8; 3] {
    const HAZE: [u8; 3] = [196, 208, 218];
    let share = (distance / 260.0).clamp(0.0, 0.65);
    core::array::from_fn(|i| (f64::from(colour[i]) + (f64::from(HAZE[i]) - f64::from(colour[i])) * share) as u8)
}

/// A place given in a pose's own axes: ahead, left, up.
pub(crate) fn beside(pose: &Pose, ahead: f64, left: f64, up: f64) -> Place {
    let (s, c) = (crate::maths::sin(pose.heading), crate::maths::cos(pose.heading));
    [pose.x + c * ahead - s * left, pose.y + s * ahead + c * left, up]
}
