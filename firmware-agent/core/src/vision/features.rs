//! What the risk head reads: a fixed-size description of the tracks and of the vehicle's own motion, ten times a second.
//!
//! *Slot*: the features of one track. Slots have no order that means anything (the head takes the maximum over them);
//! when there are more tracks than slots, those with the strongest cue stay, then the largest. *Global*: what belongs to
//! the whole moment. Every value is finite, scaled to about 1, within [`LIMIT`], and 0 where it is not known; a flag
//! beside it says whether it is. With no telemetry at all the globals of telemetry are 0, which the head has been
//! trained with. Pure: no clock, no pixels, no allocation.

use super::cues::{self, Seen};
use super::{Cues, ObjectClass};
use crate::limits::MAX_TRACKS;
use crate::samples::ImuSample;
use crate::time::{MonoTime, Span};

/// Version of the meaning of the features: a head trained on another one is refused.
pub const FEATURES_VERSION: u32 = 1;
/// Tracks that the head sees.
pub const RISK_SLOTS: usize = 8;
/// Values of one slot.
pub const SLOT_FEATURES: usize = 36;
/// Values that belong to the moment.
pub const GLOBAL_FEATURES: usize = 16;
/// No value is larger than this.
pub const LIMIT: f32 = 4.0;
/// The head is stepped at the first frame this long after its last step: 10 times a second at 10, 20 or 30 frames.
pub const RISK_STEP: Span = Span::from_ms(90);
/// After this long without a frame the head begins anew.
pub const RISK_GAP: Span = Span::from_ms(1500);
/// An impact of the vehicle is told for this long.
const IMPACT_TOLD: Span = Span::from_ms(2000);
/// Steps over which the change of speed is taken: about a second.
const SPEEDS: usize = 11;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskFeatures {
    /// Slots that are filled, at the front.
    pub count: usize,
    /// One row per track.
    pub slots: [[f32; SLOT_FEATURES]; RISK_SLOTS],
    /// The moment.
    pub global: [f32; GLOBAL_FEATURES],
    /// True when the head must forget what was before: the first step, or after a gap.
    pub anew: bool,
}

/// What the head says, calibrated probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RiskScores {
    /// Of a collision, of this vehicle or in view, within the next 2 s.
    pub ahead: f32,
    /// Of one having begun within the last second.
    pub now: f32,
}

impl RiskScores {
    /// Within 0 and 1; what is no number is 0.
    #[must_use]
    pub(super) fn bounded(self) -> Self {
        let fit = |v: f32| if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) };
        Self { ahead: fit(self.ahead), now: fit(self.now) }
    }
}

/// A risk head. The core steps it; what it computes with is its own matter.
pub trait RiskModel {
    /// The next step. `None`: it could not be computed, and the cues stand in for it.
    fn step(&mut self, features: &RiskFeatures) -> Option<RiskScores>;
}

/// The vehicle's own motion from the inertial unit alone, whatever its mounting: magnitudes, no axes.
#[derive(Clone, Debug, Default)]
pub(super) struct MotionSense {
    gravity: Option<[f32; 3]>,
    slow: [f32; 3],
    shock: f32,
    turn: f32,
    spin: f32,
    last: Option<MonoTime>,
    impact: Option<(MonoTime, f32)>,
    speeds: heapless::Deque<f32, SPEEDS>,
}

/// What is known of the vehicle besides the inertial unit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vehicle {
    /// Speed, m/s.
    pub speed_mps: Option<f32>,
    /// The brake pedal.
    pub brake: Option<bool>,
}

impl MotionSense {
    /// An inertial sample.
    pub(super) fn on_imu(&mut self, s: &ImuSample) {
        let accel = s.accel_mps2.map(|v| if v.is_finite() { v } else { 0.0 });
        let gyro = s.gyro_rps.map(|v| if s.gyro_valid && v.is_finite() { v } else { 0.0 });
        let dt = self.last.map_or(0.01, |l| s.t.since(l).as_s() as f32).clamp(1e-4, 0.1);
        self.last = Some(s.t);
        // Two seconds: what lasts is gravity (and a long bend, which is not of interest here).
        let gravity = self.gravity.get_or_insert(accel);
        let mut moved = [0.0f32; 3];
        for i in 0..3 {
            let (Some(g), Some(a), Some(m), Some(slow)) =
                (gravity.get_mut(i), accel.get(i), moved.get_mut(i), self.slow.get_mut(i))
            else {
                continue;
            };
            *g += (a - *g) * (dt / 2.0).min(1.0);
            *m = a - *g;
            *slow += (*m - *slow) * (dt / 0.15).min(1.0);
        }
        let fade = 1.0 - (dt / 0.5).min(1.0);
        self.shock = (self.shock * fade).max(norm(moved));
        self.turn += (norm(gyro) - self.turn) * (dt / 0.3).min(1.0);
        self.spin = (self.spin * fade).max(norm(gyro));
    }

    /// The telemetry trigger found an impact, or found it larger.
    pub(super) fn on_impact(&mut self, t: MonoTime, delta_v_mps: f32) {
        self.impact = Some((t, delta_v_mps));
    }

    fn write(&mut self, t: MonoTime, vehicle: Vehicle, out: &mut Row<'_>) {
        let speed = vehicle.speed_mps.filter(|v| v.is_finite());
        match speed {
            Some(v) => {
                if self.speeds.is_full() {
                    self.speeds.pop_front();
                }
                // Cannot fail: one place was made.
                let _ = self.speeds.push_back(v);
            }
            None => self.speeds.clear(),
        }
        let change = speed.zip(self.speeds.front().copied()).map_or(0.0, |(v, before)| v - before);
        out.flagged(speed, |v| v / 20.0);
        out.put(change / 5.0);
        out.flagged(vehicle.brake, |b| f32::from(u8::from(b)));
        let fresh = self.last.is_some_and(|l| t.since(l) < Span::from_ms(300));
        out.put(f32::from(u8::from(fresh)));
        for v in [norm(self.slow) / 5.0, self.shock / 20.0, self.turn / 0.5, self.spin / 2.0] {
            out.put(if fresh { v } else { 0.0 });
        }
        let told = self.impact.filter(|(at, _)| t.since(*at) <= IMPACT_TOLD);
        out.put(told.map_or(0.0, |(_, dv)| dv / 5.0));
    }
}

fn norm(v: [f32; 3]) -> f32 {
    v.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// Writes values one after the other, finite and bounded. What does not fit is left out: a test counts.
struct Row<'a> {
    to: core::slice::IterMut<'a, f32>,
}

impl<'a> Row<'a> {
    fn new(to: &'a mut [f32]) -> Self {
        Self { to: to.iter_mut() }
    }

    fn put(&mut self, value: f32) {
        if let Some(place) = self.to.next() {
            *place = if value.is_nan() { 0.0 } else { value.clamp(-LIMIT, LIMIT) };
        }
    }

    /// Whether it is known, and the value or 0.
    fn flagged<T: Copy>(&mut self, value: Option<T>, scaled: impl Fn(T) -> f32) {
        self.put(f32::from(u8::from(value.is_some())));
        self.put(value.map_or(0.0, scaled));
    }
}

/// Makes the features at the head's pace.
#[derive(Clone, Debug, Default)]
pub(super) struct Featurer {
    last: Option<MonoTime>,
}

impl Featurer {
    /// The features of the frame at `t`, if the head is to be stepped there.
    pub(super) fn at(
        &mut self,
        t: MonoTime,
        seen: &[Seen<'_>],
        cues: Cues,
        sense: &mut MotionSense,
        vehicle: Vehicle,
    ) -> Option<RiskFeatures> {
        let since = self.last.map(|l| t.since(l));
        if since.is_some_and(|s| s < RISK_STEP) {
            return None;
        }
        self.last = Some(t);
        let anew = since.is_none_or(|s| s > RISK_GAP);
        let mut features =
            RiskFeatures { count: 0, slots: [[0.0; SLOT_FEATURES]; RISK_SLOTS], global: [0.0; GLOBAL_FEATURES], anew };
        let order = strongest_first(seen);
        for (slot, i) in features.slots.iter_mut().zip(&order) {
            if let Some(s) = seen.get(*i) {
                write_slot(t, s, *i, seen, vehicle.speed_mps, &mut Row::new(slot));
                features.count += 1;
            }
        }
        let mut row = Row::new(&mut features.global);
        row.put(since.filter(|_| !anew).map_or(0.0, |s| s.as_s() as f32 * 10.0));
        row.put(seen.len() as f32 / 8.0);
        for cue in [cues.ego, cues.pair, cues.fall] {
            row.put(cue);
        }
        sense.write(t, vehicle, &mut row);
        Some(features)
    }
}

/// Indices of the tracks, those with the strongest cue first, then the largest.
fn strongest_first(seen: &[Seen<'_>]) -> heapless::Vec<usize, MAX_TRACKS> {
    let weight = |i: usize| -> f32 {
        let Some(s) = seen.get(i) else { return 0.0 };
        let ego = cues::ego(s, None, cues::CLOSE);
        let pair = others(i, seen).map(|o| cues::pair(s, o)).fold(0.0, f32::max);
        4.0 * ego.max(pair).max(cues::fall(s)) + s.track.last.h
    };
    let weights: heapless::Vec<f32, MAX_TRACKS> = (0..seen.len()).take(MAX_TRACKS).map(weight).collect();
    let mut order: heapless::Vec<usize, MAX_TRACKS> = (0..weights.len()).collect();
    let of = |i: &usize| weights.get(*i).copied().unwrap_or(0.0);
    order.sort_unstable_by(|a, b| of(b).total_cmp(&of(a)).then(a.cmp(b)));
    order
}

fn others<'s, 'a>(i: usize, seen: &'s [Seen<'a>]) -> impl Iterator<Item = &'s Seen<'a>> {
    seen.iter().enumerate().filter(move |(k, _)| *k != i).map(|(_, s)| s)
}

fn write_slot(t: MonoTime, s: &Seen<'_>, i: usize, seen: &[Seen<'_>], speed: Option<f32>, row: &mut Row<'_>) {
    let b = &s.track.last;
    let is = |classes: &[ObjectClass]| f32::from(u8::from(classes.contains(&s.class)));
    row.put(is(&[ObjectClass::Person]));
    row.put(is(&[ObjectClass::Bicycle, ObjectClass::Motorcycle]));
    row.put(is(&[ObjectClass::Car]));
    row.put(is(&[ObjectClass::Bus, ObjectClass::Truck]));
    for v in [2.0 * (b.cx - 0.5), 2.0 * (b.bottom() - 0.5), 2.0 * b.w, 2.0 * b.h, 0.5 * b.h.max(1e-3).ln() + 1.0] {
        row.put(v);
    }
    for cut in [b.cut_left, b.cut_right, b.cut_y, b.fragment] {
        row.put(f32::from(u8::from(cut)));
    }
    row.put((t.since(s.track.born).as_s() as f32).min(2.0) / 2.0);
    row.put(t.since(s.track.seen).as_s() as f32 / 0.25);
    row.flagged(s.motion, |m| m.vx.per_s);
    row.put(s.motion.map_or(0.0, |m| m.vy.per_s));
    let looming = s.motion.and_then(|m| m.looming());
    row.flagged(looming, |l| l.per_s);
    row.put(looming.map_or(0.0, |l| l.se));
    row.put(looming.map_or(0.0, |l| l.per_s - 2.0 * l.se));
    row.put(s.motion.map_or(0.0, |m| f32::from(u8::from(m.grows_as_a_whole()))));
    row.put(s.ttc_s().map_or(0.0, |ttc| 1.0 / ttc.max(0.25)));
    row.flagged(s.distance_m, |d| (d / 20.0).min(LIMIT));
    row.put(s.closing_mps().map_or(0.0, |c| c / 10.0));
    row.flagged(cues::clearance_m(s), |c| c / 3.0);
    row.put(cues::ego(s, speed, cues::CLOSE));
    row.put(cues::fall(s));
    // The other that it meets soonest, or else the nearest beside it.
    let nearest = others(i, seen)
        .filter_map(|o| cues::meeting(s, o).map(|m| (cues::pair(s, o), m)))
        .max_by(|(p, m), (q, n)| p.total_cmp(q).then(n.gap_m.abs().total_cmp(&m.gap_m.abs())));
    row.put(nearest.map_or(0.0, |(pair, _)| pair));
    row.flagged(nearest, |(_, m)| m.gap_m / 5.0);
    row.put(nearest.map_or(0.0, |(_, m)| m.closing_mps / 10.0));
    row.put(nearest.map_or(0.0, |(_, m)| m.depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_long_as_they_say() {
        // What was not written keeps the mark.
        let mut slot = [f32::INFINITY; SLOT_FEATURES + 4];
        let track = super::super::track::Track::new(
            1,
            MonoTime::from_s(1.0),
            super::super::geometry::CleanBox::from_detection(
                &super::super::Detection {
                    class: ObjectClass::Car,
                    score: 0.9,
                    bbox: super::super::BBox { x: 0.4, y: 0.4, w: 0.2, h: 0.2 },
                },
                1.8,
            )
            .unwrap(),
            0.9,
        );
        let seen = [Seen::new(&track, cues::Camera { focal: 0.7, aspect: 1.8 })];
        write_slot(MonoTime::from_s(1.0), &seen[0], 0, &seen, None, &mut Row::new(&mut slot));
        assert_eq!(slot.iter().filter(|v| v.is_finite()).count(), SLOT_FEATURES);
        let mut global = [f32::INFINITY; GLOBAL_FEATURES + 4];
        let mut row = Row::new(&mut global);
        (0..5).for_each(|_| row.put(0.0));
        MotionSense::default().write(MonoTime::from_s(1.0), Vehicle::default(), &mut row);
        assert_eq!(global.iter().filter(|v| v.is_finite()).count(), GLOBAL_FEATURES);
    }

    #[test]
    fn motion_is_felt_whatever_the_mounting_and_never_beyond_the_limit() {
        let mut sense = MotionSense::default();
        for k in 0..400u64 {
            let hit = if (300..310).contains(&k) { 60.0 } else { 0.0 };
            let s = ImuSample {
                t: MonoTime::from_s(k as f64 * 0.01),
                accel_mps2: [5.0, hit, 8.4],
                gyro_rps: [f32::NAN, f32::INFINITY, 0.0],
                gyro_valid: true,
            };
            sense.on_imu(&s);
            let mut row = [0.0; GLOBAL_FEATURES];
            sense.write(s.t, Vehicle::default(), &mut Row::new(&mut row));
            assert!(row.iter().all(|v| v.is_finite() && v.abs() <= LIMIT));
            // speed known, speed, change, brake known, brake, fresh, slow, shock
            if k == 299 {
                assert!(row[7] < 0.01, "{row:?}");
            }
            if k == 312 {
                assert!(row[7] > 2.0 && row[6] > 1.0, "{row:?}");
            }
        }
    }
}
