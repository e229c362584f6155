//! What can be seen of a collision, as three cues of 0 to 1, each from the geometry of tracks alone.
//!
//! - *Ego*: an object looms on a course that meets this vehicle, and hard braking would be needed.
//! - *Pair*: two objects at the same depth close in on each other across the picture. A camera that drives forward
//!   spreads the picture, so a closing gap is true motion of theirs.
//! - *Fall*: a rider or walker, near, sinks to the ground while the place where it touches the ground does not recede.
//!
//! No cue looks at which classes are in view, only at how they move; classes lend their usual size in metres. Distances
//! are rough (a class has one height). Never sees pixels; the figures below were chosen for their meaning and then
//! looked at on 15 clips, which is smoke evidence, not a calibration.

use super::geometry::{class_size_m, is_vulnerable, ramp};
use super::track::{Motion, Track};
use super::{ObjectClass, TrackedObject};

/// The camera, as far as a rough distance needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Camera {
    /// Focal length in widths of the frame.
    pub(super) focal: f32,
    /// Width over height of the frame.
    pub(super) aspect: f32,
}

/// A track of this frame with what is derived from it once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) track: &'a Track,
    pub(super) class: ObjectClass,
    pub(super) motion: Option<Motion>,
    /// Metres across that one width of the frame stands for at the object's depth.
    pub(super) metres_per_width: Option<f32>,
    /// Rough distance, m.
    pub(super) distance_m: Option<f32>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(track: &'a Track, cam: Camera) -> Self {
        let (class, b) = (track.class(), &track.last);
        let (tall, wide) = class_size_m(class);
        // A cut box shows part of the object: the other axis, or nothing.
        let metres_per_width = match (b.cut_y, b.cut_x()) {
            (false, _) => Some(tall * cam.aspect / b.h),
            (true, false) => Some(wide / b.w),
            (true, true) => None,
        };
        Self {
            track,
            class,
            motion: track.motion(),
            metres_per_width,
            distance_m: metres_per_width.map(|m| m * cam.focal),
        }
    }

    /// Time to collision, s, when the object looms beyond doubt: what it was in the middle of the window, less the time
    /// since (exact at constant closing speed).
    pub(super) fn ttc_s(&self) -> Option<f32> {
        let l = self.motion?.looming()?;
        (l.per_s > 2.0 * l.se && l.per_s > 0.05).then(|| (1.0 / l.per_s - l.age_s).max(0.0))
    }

    /// Closing speed, m/s, when distance and looming are known.
    pub(super) fn closing_mps(&self) -> Option<f32> {
        Some(self.distance_m? * self.motion?.looming()?.per_s)
    }
}

impl Seen<'_> {
    /// The row of the object table.
    pub(super) fn row(&self) -> TrackedObject {
        TrackedObject {
            track: self.track.id,
            class: self.class,
            bbox: self.track.last.bbox(),
            distance_m: self.distance_m,
            flow_per_s: self.motion.map(|m| [m.vx.per_s, m.vy.per_s]),
            closing_mps: self.closing_mps(),
            ttc_s: self.ttc_s(),
        }
    }
}

/// Half the width of this vehicle with a mirror's margin, m.
const EGO_HALF_WIDTH_M: f32 = 1.0;
/// Nothing on a road closes faster, m/s (two cars at 110 km/h); beyond it the track is wrong.
const MAX_CLOSING_MPS: f32 = 60.0;
/// Nothing comes towards this vehicle faster of its own, m/s (about 160 km/h).
const MAX_OTHER_MPS: f32 = 45.0;

/// How far beside this vehicle the object will pass, m; negative when the bodies meet. With x = X / Z for a side of the
/// object, X + X' ttc = x' Z ttc: where that side will be when the object is as near as it gets is the part of its
/// motion in the picture that is not expansion, wherever the point of expansion lies. A cut side is a class width away.
pub(super) fn clearance_m(s: &Seen<'_>) -> Option<f32> {
    let (m, mpw) = (s.motion?, s.metres_per_width?);
    let scale = mpw / m.looming()?.per_s.max(1e-3);
    let wide = class_size_m(s.class).1;
    let (left, right) = match (m.left, m.right) {
        (Some(l), Some(r)) => (scale * l.per_s, scale * r.per_s),
        (Some(l), None) => (scale * l.per_s, scale * l.per_s + wide),
        (None, Some(r)) => (scale * r.per_s - wide, scale * r.per_s),
        (None, None) => return Some(-EGO_HALF_WIDTH_M),
    };
    Some((left - EGO_HALF_WIDTH_M).max(-EGO_HALF_WIDTH_M - right))
}

/// Whether the object's course meets this vehicle.
pub(super) fn in_the_way(s: &Seen<'_>) -> bool {
    s.motion.is_some_and(|m| m.grows_as_a_whole()) && clearance_m(s).is_some_and(|c| c <= 0.0)
}

/// From which clearance on, m, an object may be on a course that meets this vehicle, and from which it is beyond doubt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course(f32, f32);

/// What the risk head reads: what passes close counts, and the head tells it from what meets.
pub(super) const CLOSE: Course = Course(1.0, 0.0);
/// What the rule goes by: bodies that overlap by most of this vehicle's width. By [`CLOSE`] whatever is passed in a narrow street
/// raises it: on boxes without errors it reached 0.6 in 122 of 167 ordinary simulated drives (validation seeds), and in 151 of 195
/// collisions; so it does in 15 and 85.
pub(super) const MEETS: Course = Course(-0.8, -1.3);

/// The ego cue. `ego_speed_mps` bounds what closing speed is believed.
pub(super) fn ego(s: &Seen<'_>, ego_speed_mps: Option<f32>, course: Course) -> f32 {
    let Some((m, l)) = s.motion.and_then(|m| m.looming().map(|l| (m, l))) else { return 0.0 };
    // The lower edge of what looming may be: a noisy box has to loom more.
    let sure = l.per_s - l.se;
    if sure <= 0.1 || !m.grows_as_a_whole() {
        return 0.0;
    }
    let (Some(clearance), Some(closing)) = (clearance_m(s), s.closing_mps()) else { return 0.0 };
    let believed = ego_speed_mps.filter(|v| v.is_finite()).map_or(MAX_CLOSING_MPS, |v| v.max(0.0) + MAX_OTHER_MPS);
    if closing > believed {
        return 0.0;
    }
    let course = ramp(clearance, course.0, course.1);
    let soon = ramp(1.0 / sure, 2.2, 1.0);
    // Braking that would avoid it, m/s^2: v^2 / 2d. Creeping up in a queue needs little, whatever its looming.
    let braking = 0.5 * closing * sure;
    course * soon * ramp(braking, 1.0, 4.0)
}

/// Relative depth at which two objects may still touch: class heights are no better than this.
const DEPTH_RATIO: f32 = 1.5;

/// How two objects stand to each other across the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting {
    /// From 0 to 1: whether they are at one depth.
    pub(super) depth: f32,
    /// Gap between their sides, m at their depth; negative when they overlap.
    pub(super) gap_m: f32,
    /// How fast it closes, less its noise twice over, m/s.
    pub(super) closing_mps: f32,
    /// Metres that one width of the frame stands for there.
    mpw: f32,
}

/// How two tracks stand to each other, the same in either order; `None` while motion or depth of one is not known.
pub(super) fn meeting(a: &Seen<'_>, b: &Seen<'_>) -> Option<Meeting> {
    let (ma, mb) = (a.motion?, b.motion?);
    let (pa, pb) = (a.metres_per_width?, b.metres_per_width?);
    let ratio = if pa > pb { pa / pb } else { pb / pa };
    let depth = ramp(ratio, DEPTH_RATIO + 0.4, DEPTH_RATIO);
    let (ba, bb) = (&a.track.last, &b.track.last);
    let mpw = 0.5 * (pa + pb);
    let apart = bb.cx - ba.cx;
    let gap_m = (apart.abs() - 0.5 * (ba.w + bb.w)) * mpw;
    let rel = (mb.vx.per_s - ma.vx.per_s) * apart.signum();
    let rel_se = (ma.vx.se * ma.vx.se + mb.vx.se * mb.vx.se).sqrt();
    Some(Meeting { depth, gap_m, closing_mps: (-rel - 2.0 * rel_se) * mpw, mpw })
}

/// The pair cue of two tracks, the same in either order.
pub(super) fn pair(a: &Seen<'_>, b: &Seen<'_>) -> f32 {
    let Some(Meeting { depth, gap_m, closing_mps: closing, mpw }) = meeting(a, b) else { return 0.0 };
    if depth <= 0.0 || closing <= 0.0 {
        return 0.0;
    }
    let (ba, bb) = (&a.track.last, &b.track.last);
    // Both stand on the road: at one depth, their feet are on one line. The nearer line is lower in the picture.
    let feet = (ba.bottom() - bb.bottom()).abs() / ba.h.min(bb.h);
    let level = if ba.cut_y || bb.cut_y { 1.0 } else { ramp(feet, 0.5, 0.25) };
    // Bodies do not pass through each other: deep overlap is one in front of the other.
    let deepest = 0.5 * ba.w.min(bb.w) * mpw;
    let touch = ramp(-gap_m, deepest + 0.5, deepest);
    let soon = ramp(gap_m.max(0.0) / closing, 1.2, 0.4);
    depth * level * touch * soon * ramp(closing, 1.5, 3.5)
}

/// The fall cue.
pub(super) fn fall(s: &Seen<'_>) -> f32 {
    let b = &s.track.last;
    if !is_vulnerable(s.class) || b.h < 0.08 || b.top() < 0.02 {
        return 0.0;
    }
    let t = s.track;
    let (Some(top), Some(bottom)) =
        (t.slope(|p| p.top(), 0.01 * b.h + 0.004), t.slope(|p| p.bottom(), 0.01 * b.h + 0.004))
    else {
        return 0.0;
    };
    // In heights of the box a second: a rider of 1.7 m on the ground (0.7 m) within 0.6 s is 1.6 m/s, about 1 height.
    let sinking = (top.per_s - 2.0 * top.se) / b.h;
    // What drives away rises at its foot as it sinks at its head.
    let receding = -bottom.per_s / b.h;
    ramp(sinking, 0.4, 1.0) * ramp(receding, 0.15, 0.0)
}
