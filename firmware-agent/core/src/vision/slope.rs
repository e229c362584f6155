//! Slope of a short, noisy series with a few outliers: a straight line by weighted least squares, re-weighted twice
//! (Huber), with the standard error of its slope. Bounded by the caller's history; allocates nothing.

use crate::limits::TRACK_HISTORY;

/// A line through samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slope {
    /// Units of y a second.
    pub(super) per_s: f32,
    /// Standard error of `per_s`.
    pub(super) se: f32,
    /// How long before the last sample the slope holds: the middle of the samples, s.
    pub(super) age_s: f32,
}

/// Fewest samples, and shortest span, that a slope is taken from.
const MIN_SAMPLES: usize = 4;
const MIN_SPAN_S: f32 = 0.4;
/// A detector errs alike on frames that look alike: frames nearer than this count as one observation, so that a
/// faster camera does not make a surer slope. Without it, young tracks at 25 frames a second loomed out of nothing.
const ALIKE_S: f32 = 0.12;
/// Residuals beyond this many scales weigh less (Huber's usual 1.345).
const HUBER: f32 = 1.345;

/// Slope of (t, y) samples, t in seconds; `floor` is the least noise of y believed in, so that a short smooth run does
/// not claim to be certain. `None` when there is too little to say.
pub(super) fn robust_slope(points: impl Iterator<Item = (f32, f32)>, floor: f32) -> Option<Slope> {
    let mut p: heapless::Vec<(f32, f32, f32), TRACK_HISTORY> = heapless::Vec::new();
    for (t, y) in points {
        if t.is_finite() && y.is_finite() && p.push((t, y, 1.0)).is_err() {
            break;
        }
    }
    let (first, last) = (p.first()?.0, p.last()?.0);
    if p.len() < MIN_SAMPLES || (last - first).abs() < MIN_SPAN_S {
        return None;
    }
    let mut fit = line(&p)?;
    for _ in 0..2 {
        // Mean absolute residual to a scale as of a normal distribution.
        let n = p.len() as f32;
        let mean_abs: f32 = p.iter().map(|&(t, y, _)| (y - fit.at(t)).abs()).sum::<f32>() / n;
        let scale = (1.2533 * mean_abs).max(1e-6);
        for q in &mut p {
            let r = (q.1 - fit.at(q.0)).abs() / scale;
            q.2 = if r <= HUBER { 1.0 } else { HUBER / r };
        }
        fit = line(&p)?;
    }
    let rss: f32 = p.iter().map(|&(t, y, w)| w * (y - fit.at(t)).powi(2)).sum();
    let var = (rss / (p.len() as f32 - 2.0)).max(floor * floor);
    let independent = (last - first).abs() / ALIKE_S + 1.0;
    let alike = (p.len() as f32 / independent).max(1.0);
    Some(Slope { per_s: fit.slope, se: (var * alike / fit.stt).sqrt(), age_s: (last - fit.t0).max(0.0) })
}

struct Line {
    t0: f32,
    y0: f32,
    slope: f32,
    stt: f32,
}

impl Line {
    fn at(&self, t: f32) -> f32 {
        self.y0 + self.slope * (t - self.t0)
    }
}

fn line(p: &[(f32, f32, f32)]) -> Option<Line> {
    let (mut sw, mut st, mut sy) = (0.0f32, 0.0f32, 0.0f32);
    for &(t, y, w) in p {
        sw += w;
        st += w * t;
        sy += w * y;
    }
    let (t0, y0) = (st / sw, sy / sw);
    let (mut stt, mut sty) = (0.0f32, 0.0f32);
    for &(t, y, w) in p {
        stt += w * (t - t0) * (t - t0);
        sty += w * (t - t0) * (y - y0);
    }
    let slope = sty / stt;
    (slope.is_finite() && stt > 0.0).then_some(Line { t0, y0, slope, stt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_hardly_moves_the_slope() {
        let y = |i: usize| 0.4 * i as f32 * 0.05 + if i == 9 { 0.5 } else { 0.0 };
        let s = robust_slope((0..16).map(|i| (i as f32 * 0.05, y(i))), 0.005).unwrap();
        assert!((s.per_s - 0.4).abs() < 0.06, "{s:?}");
    }

    #[test]
    fn too_little_is_none() {
        assert_eq!(robust_slope((0..3).map(|i| (i as f32, 1.0)), 0.0), None);
        assert_eq!(robust_slope((0..10).map(|i| (i as f32 * 0.001, 1.0)), 0.0), None);
        assert_eq!(robust_slope((0..10).map(|_| (f32::NAN, 1.0)), 0.0), None);
    }
}
