//! Intervals and instants of time: overlap of crash intervals, CrashChat's pre-crash rule, time to accident.

/// Bounds at which the share of overlaps is reported.
pub const SHARES: [f64; 3] = [0.3, 0.5, 0.7];

/// How much too early the first visible sign may be named and still be right, seconds.
pub const EARLY_S: f64 = 0.5;

/// Differences of decimal seconds are not exact in binary: 8.3 - 0.5 must still count as half a second early.
const ROUNDING_S: f64 = 1e-9;

/// Intersection over union of two intervals `[start, end]`; 0 where an interval runs backwards or has no length in common.
pub fn iou(a: [f64; 2], b: [f64; 2]) -> f64 {
    if !(a[0] <= a[1] && b[0] <= b[1]) {
        return 0.0;
    }
    let common = (a[1].min(b[1]) - a[0].max(b[0])).max(0.0);
    let union = (a[1] - a[0]) + (b[1] - b[0]) - common;
    if union > 0.0 { common / union } else { 0.0 }
}

/// Share of overlaps that are at least `bound`.
pub fn share_at(ious: &[f64], bound: f64) -> Option<f64> {
    crate::share(ious.iter().filter(|i| **i >= bound).count(), ious.len())
}

/// One answer to "when does the first sign show".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreCrash {
    /// CrashChat's overlap.
    pub iou: f64,
    /// Time to accident of the answer: true start of the crash minus the answer, seconds; negative when too late.
    pub tta_s: f64,
    /// |time to accident of the answer - that of the truth|, seconds.
    pub tta_error_s: f64,
}

/// CrashChat's rule. With `TTA = t_acc - t`: at or after the accident 0; more than 0.5 s earlier than the truth 0; within
/// 0.5 s earlier 1; else the smaller TTA over the larger.
pub fn pre_crash(accident_s: f64, truth_s: f64, answer_s: f64) -> PreCrash {
    let (tta_s, true_tta_s) = (accident_s - answer_s, accident_s - truth_s);
    let iou = if answer_s >= accident_s || answer_s < truth_s - EARLY_S - ROUNDING_S {
        0.0
    } else if answer_s <= truth_s {
        1.0
    } else {
        (tta_s.min(true_tta_s) / tta_s.max(true_tta_s)).max(0.0)
    };
    PreCrash { iou, tta_s, tta_error_s: (tta_s - true_tta_s).abs() }
}

/// How long before an accident a score still counts as a warning of it, seconds.
pub const WARNING_S: f64 = 5.0;

/// Seconds from the first score of at least `threshold` in the last [`WARNING_S`] before the accident to it; `None` if there
/// is none. Scores are (seconds, score) in the order of time.
pub fn time_to_accident(scores: &[(f64, f64)], threshold: f64, accident_s: f64) -> Option<f64> {
    let within = |t: f64| t < accident_s && t >= accident_s - WARNING_S - ROUNDING_S;
    scores.iter().find(|(t, s)| within(*t) && *s >= threshold).map(|(t, _)| accident_s - t)
}
