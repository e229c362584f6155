//! Boxes as the tracker needs them: checked once, then centre and size.
//!
//! A *clean box* is finite, positive, and clipped to the frame; sides that were clipped, or lie on the border, are
//! *cut*: the object goes on outside the picture, so its size on that axis says nothing of its distance. Never
//! panics; a box that cannot be cleaned is dropped.

use super::{BBox, Detection, ObjectClass};

/// A side nearer to the border than this (fraction of the frame) counts as cut.
const BORDER: f32 = 0.012;
/// Smallest side that is looked at, fraction of the frame: 0.8 % of 720 lines is 6 pixels, below it there is only noise.
const MIN_SIDE: f32 = 0.008;

/// A flat box that ends below `LOW`, or is as wide as the frame, is this vehicle's own bonnet, a reflection, or the whole
/// scene: small detectors call it a car, and its size jumps. A vehicle as flat and as near has looked otherwise before.
const LOW: f32 = 0.9;
const LOW_FLAT: f32 = 2.5;
const FULL_WIDTH: f32 = 0.9;
const FULL_FLAT: f32 = 2.2;

/// Objects lower than this (a share of the frame's height: 12 lines of a detector's 300) are followed, but no cue is taken
/// from them: their boxes move by a tenth of their size from frame to frame.
pub(super) const CUE_HEIGHT: f32 = 0.04;

/// A box at the side shows enough of its object from this share of the proportions of its front on.
const WHOLE_ENOUGH: f32 = 0.8;

/// A checked box, in fractions of the frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CleanBox {
    pub(super) class: ObjectClass,
    pub(super) cx: f32,
    pub(super) cy: f32,
    pub(super) w: f32,
    pub(super) h: f32,
    pub(super) cut_left: bool,
    pub(super) cut_right: bool,
    /// Too little of a cut object is seen for even its height to mean anything: what drives into the picture from the
    /// side shows its low nose first, and grows without coming nearer.
    pub(super) fragment: bool,
    /// The top or the bottom is cut by the frame.
    pub(super) cut_y: bool,
}

impl CleanBox {
    /// Checks and clips; `None` when nothing usable is left. `aspect` is that of the frame.
    pub(super) fn from_detection(d: &Detection, aspect: f32) -> Option<Self> {
        let BBox { x, y, w, h } = d.bbox;
        let finite = x.is_finite() && y.is_finite() && w.is_finite() && h.is_finite();
        if !finite || w <= 0.0 || h <= 0.0 {
            return None;
        }
        let (x1, y1, x2, y2) = (x.max(0.0), y.max(0.0), (x + w).min(1.0), (y + h).min(1.0));
        let (w, h) = (x2 - x1, y2 - y1);
        if w < MIN_SIDE || h < MIN_SIDE {
            return None;
        }
        let flat = w * aspect / h;
        if (y2 > LOW && flat > LOW_FLAT) || (w > FULL_WIDTH && flat > FULL_FLAT) {
            return None;
        }
        let (cut_left, cut_right) = (x1 < BORDER, x2 > 1.0 - BORDER);
        let (tall, wide) = class_size_m(d.class);
        Some(Self {
            fragment: (cut_left || cut_right) && w * aspect * tall < WHOLE_ENOUGH * wide * h,
            class: d.class,
            cx: x1 + 0.5 * w,
            cy: y1 + 0.5 * h,
            w,
            h,
            cut_left,
            cut_right,
            cut_y: y1 < BORDER || y2 > 1.0 - BORDER,
        })
    }

    pub(super) fn bbox(&self) -> BBox {
        BBox { x: self.cx - 0.5 * self.w, y: self.cy - 0.5 * self.h, w: self.w, h: self.h }
    }

    /// The left or the right side is cut by the frame.
    pub(super) fn cut_x(&self) -> bool {
        self.cut_left || self.cut_right
    }

    pub(super) fn left(&self) -> f32 {
        self.cx - 0.5 * self.w
    }

    pub(super) fn right(&self) -> f32 {
        self.cx + 0.5 * self.w
    }

    pub(super) fn bottom(&self) -> f32 {
        self.cy + 0.5 * self.h
    }

    pub(super) fn top(&self) -> f32 {
        self.cy - 0.5 * self.h
    }

    fn inter(&self, o: &Self) -> f32 {
        overlap(self.cx, self.w, o.cx, o.w) * overlap(self.cy, self.h, o.cy, o.h)
    }

    /// How much of the smaller box lies in the other, 0 to 1.
    pub(super) fn inside(&self, o: &Self) -> f32 {
        self.inter(o) / (self.w * self.h).min(o.w * o.h).max(1e-9)
    }

    /// Intersection over union, 0 to 1.
    pub(super) fn iou(&self, o: &Self) -> f32 {
        let inter = self.inter(o);
        inter / (self.w * self.h + o.w * o.h - inter).max(1e-9)
    }
}

fn overlap(c1: f32, l1: f32, c2: f32, l2: f32) -> f32 {
    ((c1 + 0.5 * l1).min(c2 + 0.5 * l2) - (c1 - 0.5 * l1).max(c2 - 0.5 * l2)).max(0.0)
}

/// 0 at `from`, 1 at `to` (which may lie below `from`), straight between, clamped; 0 for NaN.
pub(super) fn ramp(x: f32, from: f32, to: f32) -> f32 {
    let r = (x - from) / (to - from);
    if r.is_nan() { 0.0 } else { r.clamp(0.0, 1.0) }
}

/// Height and width of a class seen from front or rear, m: rounded from type-approval dimensions of common vehicles and
/// adult stature with a helmet; a two-wheeler's box takes in its rider about as often as not, so its height is between.
pub(super) fn class_size_m(class: ObjectClass) -> (f32, f32) {
    match class {
        ObjectClass::Person => (1.7, 0.6),
        ObjectClass::Bicycle => (1.4, 0.6),
        ObjectClass::Motorcycle => (1.4, 0.8),
        ObjectClass::Car => (1.5, 1.8),
        ObjectClass::Bus => (3.1, 2.5),
        ObjectClass::Truck => (2.8, 2.4),
        ObjectClass::Other => (1.5, 1.5),
    }
}

/// Classes that a detector confuses with one another, or that come as one (rider and machine).
pub(super) fn is_vulnerable(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::Person | ObjectClass::Bicycle | ObjectClass::Motorcycle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn det(x: f32, y: f32, w: f32, h: f32) -> Detection {
        Detection { class: ObjectClass::Car, score: 0.9, bbox: BBox { x, y, w, h } }
    }

    #[test]
    fn cleaning_clips_marks_and_drops() {
        let b = CleanBox::from_detection(&det(-0.1, 0.4, 0.3, 0.2), 1.8).unwrap();
        assert!((b.w - 0.2).abs() < 1e-6 && b.cut_left && !b.cut_right && !b.cut_y);
        for bad in [det(f32::NAN, 0.0, 0.1, 0.1), det(0.0, 0.0, -0.1, 0.1), det(1.5, 0.0, 0.2, 0.2)] {
            assert_eq!(CleanBox::from_detection(&bad, 1.8), None);
        }
        assert_eq!(CleanBox::from_detection(&det(0.0, 0.0, f32::INFINITY, 0.1), 1.8), None);
    }

    #[test]
    fn the_own_bonnet_is_no_car() {
        assert_eq!(CleanBox::from_detection(&det(0.02, 0.75, 0.96, 0.25), 1.8), None);
        assert!(CleanBox::from_detection(&det(0.02, 0.15, 0.96, 0.85), 1.8).is_some());
    }

    #[test]
    fn iou_of_halves() {
        let a = CleanBox::from_detection(&det(0.2, 0.2, 0.2, 0.2), 1.8).unwrap();
        let b = CleanBox::from_detection(&det(0.3, 0.2, 0.2, 0.2), 1.8).unwrap();
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-4);
        assert!((a.iou(&a) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn ramp_both_ways_and_nan() {
        assert_eq!(ramp(2.0, 1.0, 3.0), 0.5);
        assert_eq!(ramp(2.0, 3.0, 1.0), 0.5);
        assert_eq!(ramp(f32::NAN, 3.0, 1.0), 0.0);
    }
}
