//! One object over time: an alpha-beta filter that foretells its next box, a class by vote, and a history of boxes
//! from which motion and looming are taken.
//!
//! *Looming* is the relative growth of an object's image, 1/s: the slope of the logarithm of its size. Its inverse is
//! the time to collision at constant closing speed. Nothing here knows of other objects.

use super::ObjectClass;
use super::geometry::CleanBox;
use super::slope::{Slope, robust_slope};
use crate::limits::TRACK_HISTORY;
use crate::time::{MonoTime, Span};

/// How far back motion and looming look.
const WINDOW: Span = Span::from_ms(800);
/// Histories are thinned to one box per this.
const THIN: Span = Span::from_ms(24);
/// Least believed noise of a box: a share of its size, and a part of the frame (half of a detector's finest stride
/// of 8 pixels at 416 is 1 %; boxes are regressed to about half of that).
const SIZE_NOISE: f32 = 0.01;
const GRID_NOISE: f32 = 0.004;
/// Alpha and beta for one frame of 1/25 s; both are bounded, so the filter is stable at any rate.
const ALPHA: f32 = 0.6;
const BETA: f32 = 0.25;

const CLASSES: [ObjectClass; 7] = [
    ObjectClass::Person,
    ObjectClass::Bicycle,
    ObjectClass::Motorcycle,
    ObjectClass::Car,
    ObjectClass::Bus,
    ObjectClass::Truck,
    ObjectClass::Other,
];

#[derive(Clone, Copy, Debug)]
struct Past {
    t: MonoTime,
    b: CleanBox,
}

/// What the last 0.8 s say of a track's motion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Motion {
    /// Motion of the centre, fractions of the frame a second.
    pub(super) vx: Slope,
    pub(super) vy: Slope,
    /// Motion of the left and the right side; `None` for a side that the frame cuts.
    pub(super) left: Option<Slope>,
    pub(super) right: Option<Slope>,
    /// Relative growth of height and width, 1/s; `None` for an axis that the frame cuts.
    pub(super) grow_h: Option<Slope>,
    pub(super) grow_w: Option<Slope>,
}

impl Motion {
    /// Looming from the axes that are whole, with its standard error.
    pub(super) fn looming(&self) -> Option<Slope> {
        match (self.grow_h, self.grow_w) {
            (Some(h), Some(w)) => Some(Slope {
                per_s: 0.5 * (h.per_s + w.per_s),
                se: 0.5 * (h.se * h.se + w.se * w.se).sqrt(),
                age_s: 0.5 * (h.age_s + w.age_s),
            }),
            (one, other) => one.or(other),
        }
    }

    /// Both axes, as far as they are whole, grow: what nears grows on both, what turns grows on one.
    pub(super) fn grows_as_a_whole(&self) -> bool {
        let least = self.looming().map_or(0.0, |l| 0.3 * l.per_s);
        [self.grow_h, self.grow_w].iter().flatten().all(|s| s.per_s > least)
    }
}

/// A track.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) id: u32,
    pub(super) last: CleanBox,
    pub(super) seen: MonoTime,
    pub(super) born: MonoTime,
    pub(super) hits: u32,
    votes: [f32; 7],
    /// Filtered centre and log size (x, y, ln w, ln h) and their rates a second.
    state: [f32; 4],
    rate: [f32; 4],
    history: heapless::Deque<Past, TRACK_HISTORY>,
}

impl Track {
    pub(super) fn new(id: u32, t: MonoTime, b: CleanBox, score: f32) -> Self {
        let mut track = Self {
            id,
            last: b,
            seen: t,
            born: t,
            hits: 0,
            votes: [0.0; 7],
            state: measured(&b),
            rate: [0.0; 4],
            history: heapless::Deque::new(),
        };
        track.note(t, b, score);
        track
    }

    /// The box expected at `t`.
    pub(super) fn predicted(&self, t: MonoTime) -> CleanBox {
        let dt = (t.since(self.seen).as_s() as f32).min(1.0);
        let at = |i: usize| -> f32 {
            let (s, r) = (self.state.get(i).copied().unwrap_or(0.0), self.rate.get(i).copied().unwrap_or(0.0));
            s + r * dt
        };
        CleanBox { cx: at(0), cy: at(1), w: at(2).clamp(-6.0, 0.5).exp(), h: at(3).clamp(-6.0, 0.5).exp(), ..self.last }
    }

    /// Takes the box that belongs to this track at `t`.
    pub(super) fn update(&mut self, t: MonoTime, b: CleanBox, score: f32) {
        let dt = t.since(self.seen).as_s() as f32;
        if dt > 0.0 {
            // Longer gaps trust the measurement more: the same time constant at 5 and at 60 frames a second.
            let alpha = 1.0 - (1.0 - ALPHA).powf((dt * 25.0).min(4.0));
            let beta = 1.0 - (1.0 - BETA).powf((dt * 25.0).min(4.0));
            for ((s, r), z) in self.state.iter_mut().zip(&mut self.rate).zip(measured(&b)) {
                let foretold = *s + *r * dt;
                let miss = z - foretold;
                *s = foretold + alpha * miss;
                *r = (*r + beta * miss / dt).clamp(-5.0, 5.0);
            }
        }
        self.note(t, b, score);
    }

    fn note(&mut self, t: MonoTime, b: CleanBox, score: f32) {
        (self.last, self.seen) = (b, t);
        self.hits = self.hits.saturating_add(1);
        for (v, c) in self.votes.iter_mut().zip(CLASSES) {
            *v = *v * 0.95 + if c == b.class { score } else { 0.0 };
        }
        while self.history.front().is_some_and(|p| t.since(p.t) > WINDOW) {
            self.history.pop_front();
        }
        if self.history.back().is_some_and(|p| t.since(p.t) < THIN) {
            return;
        }
        if self.history.is_full() {
            self.history.pop_front();
        }
        // Cannot fail: one place was made.
        let _ = self.history.push_back(Past { t, b });
    }

    /// The class most voted for; the first of `ObjectClass` on a tie.
    pub(super) fn class(&self) -> ObjectClass {
        let mut best = (ObjectClass::Other, 0.0f32);
        for (&v, c) in self.votes.iter().zip(CLASSES) {
            if v > best.1 {
                best = (c, v);
            }
        }
        best.0
    }

    /// Motion over the window that ends at the last box, `None` while the track is too short.
    pub(super) fn motion(&self) -> Option<Motion> {
        let b = &self.last;
        let side = SIZE_NOISE * b.w + GRID_NOISE;
        Some(Motion {
            left: if b.cut_left { None } else { self.slope(CleanBox::left, side) },
            right: if b.cut_right { None } else { self.slope(CleanBox::right, side) },
            vx: self.slope(|p| p.cx, side)?,
            vy: self.slope(|p| p.cy, SIZE_NOISE * b.h + GRID_NOISE)?,
            grow_h: self.growth(|p| (!p.cut_y && !p.fragment).then(|| p.h.ln()), b.h),
            grow_w: self.growth(|p| (!p.cut_x()).then(|| p.w.ln()), b.w),
        })
    }

    /// Slope of a log size over the boxes that show the whole of it; `None` when the last one does not.
    fn growth(&self, of: impl Fn(&CleanBox) -> Option<f32>, size: f32) -> Option<Slope> {
        of(&self.last)?;
        let at = |p: &Past| of(&p.b).map(|y| (p.t.since(self.born).as_s() as f32, y));
        robust_slope(self.history.iter().filter_map(at), SIZE_NOISE + GRID_NOISE / size)
    }

    /// Slope of a quantity of the box over the window.
    pub(super) fn slope(&self, of: impl Fn(&CleanBox) -> f32, noise: f32) -> Option<Slope> {
        robust_slope(self.history.iter().map(|p| (p.t.since(self.born).as_s() as f32, of(&p.b))), noise)
    }
}

fn measured(b: &CleanBox) -> [f32; 4] {
    [b.cx, b.cy, b.w.ln(), b.h.ln()]
}
