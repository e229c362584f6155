//! Scores: the figures by which answers, intervals and probabilities are judged.
//!
//! Pure functions over slices: no files, no clocks, no randomness but a seed that is given, no dependencies. A figure that
//! its inputs do not define (a recall without positives) is `None`, never a made-up 0. What each one is, with formulas and
//! sources, stands in `docs/evaluation.md`; `tests/it.rs` holds them to sacrebleu, rouge-score, scikit-learn and scipy.

pub mod bounds;
pub mod classes;
pub mod distractors;
pub mod intervals;
pub mod ranking;
pub mod text;

/// Mean of values; `None` of none.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// `part / whole`; `None` when the whole is nothing.
pub(crate) fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
