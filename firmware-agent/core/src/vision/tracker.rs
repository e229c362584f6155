//! Boxes to tracks, frame by frame.
//!
//! Each track, longest seen first, takes the box that fits its foretold place best: overlap first, nearness of centres
//! where a fast object does not overlap itself. Boxes left over begin tracks; a track unseen for `MAX_UNSEEN`
//! ends. A track is *confirmed* after `CONFIRM_HITS` boxes. O(tracks x detections), at most
//! [`MAX_TRACKS`](crate::limits::MAX_TRACKS); when full, new boxes are left out until a track ends (counted).

use super::Detection;
use super::geometry::{CleanBox, is_vulnerable};
use super::track::Track;
use crate::limits::{MAX_DETECTIONS, MAX_TRACKS};
use crate::time::{MonoTime, Span};

/// A track ends when unseen for this long: a short occlusion, or 2 missed frames of a camera at 5 frames a second.
const MAX_UNSEEN: Span = Span::from_ms(500);
/// Boxes that make a track believable.
pub(super) const CONFIRM_HITS: u32 = 4;
/// A gap in time that ends every track: the picture may have changed altogether.
const MAX_GAP: Span = Span::from_ms(1500);
/// Of two boxes of one kind, one that lies in the other by more than this is the same object named twice (a car as a
/// lorry, half a car, a rider as a person): tracks would jump between them, which looks like looming.
const SAME_OBJECT: f32 = 0.8;
/// Least fit that joins a box to a track.
const MIN_FIT: f32 = 0.2;

/// All tracks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    tracks: heapless::Vec<Track, MAX_TRACKS>,
    next_id: u32,
    left_out: u64,
}

impl Tracker {
    /// Takes the boxes of the frame at `t`. Boxes below `min_score`, or with a score that is no number, are skipped.
    pub(super) fn update(&mut self, t: MonoTime, detections: &[Detection], aspect: f32, min_score: f32) {
        if self.tracks.iter().any(|k| t.since(k.seen) > MAX_GAP || t < k.seen) {
            self.tracks.clear();
        }
        let mut boxes = clean(detections, aspect, min_score);
        for track in &mut self.tracks {
            let place = track.predicted(t);
            let mut best: Option<(usize, f32)> = None;
            for (i, slot) in boxes.iter().enumerate() {
                let Some((b, _)) = slot else { continue };
                let f = fit(&place, b, t.since(track.seen).as_s() as f32);
                if f > best.map_or(MIN_FIT, |(_, g)| g) {
                    best = Some((i, f));
                }
            }
            if let Some((b, score)) = best.and_then(|(i, _)| boxes.get_mut(i)).and_then(Option::take) {
                track.update(t, b, score);
            }
        }
        self.tracks.retain(|k| t.since(k.seen) <= MAX_UNSEEN);
        for (b, score) in boxes.into_iter().flatten() {
            if self.tracks.push(Track::new(self.next_id, t, b, score)).is_ok() {
                self.next_id = self.next_id.wrapping_add(1);
            } else {
                self.left_out = self.left_out.saturating_add(1);
            }
        }
    }

    /// Confirmed tracks seen in the frame at `t`, oldest first.
    pub(super) fn confirmed(&self, t: MonoTime) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(move |k| k.seen == t && k.hits >= CONFIRM_HITS)
    }

    /// Confirmed tracks seen within `within` before `t`, oldest first: a detector misses a box now and then.
    pub(super) fn recent(&self, t: MonoTime, within: Span) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(move |k| t.since(k.seen) <= within && k.hits >= CONFIRM_HITS)
    }

    /// Boxes that found no place since the start.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }
}

type Boxes = heapless::Vec<Option<(CleanBox, f32)>, MAX_DETECTIONS>;

fn clean(detections: &[Detection], aspect: f32, min_score: f32) -> Boxes {
    let mut boxes = Boxes::new();
    for d in detections.iter().take(MAX_DETECTIONS) {
        if d.score.is_nan() || d.score < min_score {
            continue;
        }
        let Some(b) = CleanBox::from_detection(d, aspect) else { continue };
        let twice = boxes
            .iter()
            .flatten()
            .any(|(o, _)| is_vulnerable(o.class) == is_vulnerable(b.class) && o.inside(&b) > SAME_OBJECT);
        if !twice {
            // Cannot fail: as many places as boxes looked at.
            let _ = boxes.push(Some((b, d.score.min(1.0))));
        }
    }
    boxes
}

/// How well a box fits a foretold place: 0 none, 1 perfect.
fn fit(place: &CleanBox, b: &CleanBox, dt_s: f32) -> f32 {
    // Areas may differ by a detector's error (65 %) and by looming of 2 /s on both axes beyond what was foretold.
    let ratio = ((place.w * place.h) / (b.w * b.h)).ln().abs();
    if ratio > 0.5 + 4.0 * dt_s.min(0.5) {
        return 0.0;
    }
    let reach_x = 0.5 * (place.w + b.w);
    let reach_y = 0.5 * (place.h + b.h);
    let d = (((place.cx - b.cx) / reach_x).powi(2) + ((place.cy - b.cy) / reach_y).powi(2)).sqrt();
    let near = (1.0 - d).max(0.0);
    let kind = if is_vulnerable(place.class) == is_vulnerable(b.class) { 1.0 } else { 0.5 };
    kind * (0.6 * place.iou(b) + 0.4 * near)
}
