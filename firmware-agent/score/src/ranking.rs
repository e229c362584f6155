//! Probabilities against what happened: precision and recall over thresholds, areas, Brier, calibration.
//!
//! A case is `(probability, happened)`. Cases of which a probability is no number are the caller's to leave out.

use crate::mean;

/// Bins of the calibration error.
pub const BINS: usize = 15;

/// One threshold of a precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Cases of at least this probability count as yes.
    pub threshold: f64,
    /// Precision at it.
    pub precision: f64,
    /// Recall at it.
    pub recall: f64,
}

/// Precision and recall at each distinct probability, the highest first; none without a positive case.
pub fn curve(cases: &[(f64, bool)]) -> Vec<Point> {
    let mut sorted = cases.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|c| c.1).count();
    let (mut points, mut right) = (Vec::new(), 0usize);
    if positives == 0 {
        return points;
    }
    for (i, (p, happened)) in sorted.iter().enumerate() {
        right += usize::from(*happened);
        // Equal probabilities share one threshold.
        if sorted.get(i + 1).is_none_or(|next| next.0 != *p) {
            let (precision, recall) = (right as f64 / (i + 1) as f64, right as f64 / positives as f64);
            points.push(Point { threshold: *p, precision, recall });
        }
    }
    points
}

/// Average precision: the sum of precision times the growth of recall, not interpolated.
pub fn average_precision(cases: &[(f64, bool)]) -> Option<f64> {
    let points = curve(cases);
    if points.is_empty() {
        return None;
    }
    let step = |(sum, before): (f64, f64), p: &Point| (sum + (p.recall - before) * p.precision, p.recall);
    Some(points.iter().fold((0.0, 0.0), step).0)
}

/// The point of the highest recall whose precision is at least the given one; none where no threshold is that precise.
pub fn point_at_precision(cases: &[(f64, bool)], precision: f64) -> Option<Point> {
    curve(cases).into_iter().filter(|p| p.precision >= precision).max_by(|a, b| a.recall.total_cmp(&b.recall))
}

/// The highest recall at which the precision is at least the given one: 0 where no threshold is that precise, for then
/// nothing may be recalled; `None` only without a positive case.
pub fn recall_at_precision(cases: &[(f64, bool)], precision: f64) -> Option<f64> {
    let any = cases.iter().any(|c| c.1);
    any.then(|| point_at_precision(cases, precision).map_or(0.0, |p| p.recall))
}

/// Area under the receiver's curve: how often a positive case ranks above a negative one, ties half.
pub fn roc_auc(cases: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = cases.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut sum, mut i) = (0usize, 0.0, 0);
    while i < sorted.len() {
        let same = sorted[i..].iter().take_while(|c| c.0 == sorted[i].0).count().max(1);
        let yes = sorted[i..i + same].iter().filter(|c| c.1).count();
        sum += yes as f64 * (below as f64 + (same - yes) as f64 / 2.0);
        below += same - yes;
        i += same;
    }
    let positives = sorted.len() - below;
    (positives > 0 && below > 0).then(|| sum / (positives as f64 * below as f64))
}

fn happened(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// Mean squared distance to what happened.
pub fn brier(cases: &[(f64, bool)]) -> Option<f64> {
    mean(cases.iter().map(|(p, y)| (p - happened(*y)).powi(2)))
}

/// Mean distance to what happened.
pub fn mean_absolute_error(cases: &[(f64, bool)]) -> Option<f64> {
    mean(cases.iter().map(|(p, y)| (p - happened(*y)).abs()))
}

/// One bin of a reliability table; bin k holds probabilities above k/15, up to (k+1)/15.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Cases in it.
    pub n: usize,
    /// Their mean probability; 0 if it is empty.
    pub mean_probability: f64,
    /// The share that happened; 0 if it is empty.
    pub share_happened: f64,
}

/// The reliability table.
pub fn reliability(cases: &[(f64, bool)]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for (p, y) in cases {
        let at = (1..BINS).filter(|k| (*k as f64 / BINS as f64) < *p).count();
        bins[at].n += 1;
        bins[at].mean_probability += p;
        bins[at].share_happened += happened(*y);
    }
    for bin in bins.iter_mut().filter(|b| b.n > 0) {
        bin.mean_probability /= bin.n as f64;
        bin.share_happened /= bin.n as f64;
    }
    bins
}

/// Expected calibration error: mean distance of the bins' two figures, weighted by their cases.
pub fn calibration_error(cases: &[(f64, bool)]) -> Option<f64> {
    let weigh = |b: &Bin| (b.mean_probability - b.share_happened).abs() * b.n as f64;
    (!cases.is_empty()).then(|| reliability(cases).iter().map(weigh).sum::<f64>() / cases.len() as f64)
}
