//! Calibration of the label: Platt scaling and the prior of the field.
//!
//! Terms: *z* is logit(Yes) - logit(No) at the first token of the recognition answer; the *trained prior* is the share
//! of collisions in the set that slope and offset were fitted on, the *field prior* the share among the events that a
//! unit really asks about. The two parameters are fitted per quantised file (J. Platt, "Probabilistic outputs for
//! support vector machines", 1999; Newton's method with backtracking after Lin, Lin and Weng, "A note on Platt's
//! probabilistic outputs", 2007); the prior is moved as M. Saerens et al., 2002: odds times the ratio of prior odds.
//! A file without parameters is uncalibrated: then the probability is the softmax of the two logits, and the answer
//! says so. Never guesses a parameter.

use thiserror::Error;

/// Most scored clips that a fit takes.
pub const MAX_FIT: usize = 1 << 20;
/// Newton steps of a fit at most; it converges in about ten.
const FIT_STEPS: usize = 100;

/// What can be wrong with calibration parameters or a fit.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CalibrationError {
    /// A parameter out of its range.
    #[error("calibration: {name} is {value}, but must be {rule}")]
    OutOfRange {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: f32,
        /// What it must be.
        rule: &'static str,
    },
    /// The scores cannot be fitted.
    #[error("calibration: {0}")]
    Unfit(&'static str),
}

/// Parameters of one model file, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    slope: f32,
    offset: f32,
    prior_shift: f32,
    ece: Option<f32>,
}

impl Calibration {
    /// Takes the parameters of a file: slope above zero, offset finite, both priors strictly between 0 and 1, the
    /// measured expected calibration error between 0 and 1 where it is known.
    ///
    /// # Errors
    /// Names the parameter out of its range.
    pub fn new(
        slope: f32,
        offset: f32,
        prior_trained: f32,
        prior_field: f32,
        ece: Option<f32>,
    ) -> Result<Self, CalibrationError> {
        let hold = |name, value: f32, good: bool, rule| {
            if good { Ok(value) } else { Err(CalibrationError::OutOfRange { name, value, rule }) }
        };
        let slope = hold("slope", slope, slope.is_finite() && slope > 0.0, "above 0")?;
        let offset = hold("offset", offset, offset.is_finite(), "finite")?;
        let inside = |p: f32| p > 0.0 && p < 1.0;
        let trained = hold("prior_trained", prior_trained, inside(prior_trained), "between 0 and 1")?;
        let field = hold("prior_field", prior_field, inside(prior_field), "between 0 and 1")?;
        if let Some(e) = ece {
            hold("ece", e, (0.0..=1.0).contains(&e), "from 0 to 1")?;
        }
        Ok(Self { slope, offset, prior_shift: logit(field) - logit(trained), ece })
    }

    /// Probability of Yes for this z, with the field's prior.
    pub fn probability(&self, z: f32) -> f32 {
        sigmoid(self.slope * z + self.offset + self.prior_shift)
    }

    /// Expected calibration error measured when the file was calibrated, if it was.
    pub fn ece(&self) -> Option<f32> {
        self.ece
    }
}

/// Probability of Yes: calibrated where there are parameters, else the softmax of the two logits. The flag says which.
pub fn label_probability(calibration: Option<&Calibration>, z: f32) -> (f32, bool) {
    match calibration {
        Some(c) => (c.probability(z), true),
        None => (sigmoid(z), false),
    }
}

fn sigmoid(x: f32) -> f32 {
    // The form for each sign that cannot overflow.
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

fn logit(p: f32) -> f32 {
    (p / (1.0 - p)).ln()
}

/// Fits slope and offset to scores `z` with their truths. Also returns the share of collisions, which is the trained
/// prior.
///
/// # Errors
/// If there are no scores, too many, one that is not finite, only one class, or the fit does not order Yes above No.
pub fn fit(scores: &[(f32, bool)]) -> Result<(f32, f32, f32), CalibrationError> {
    if scores.is_empty() || scores.len() > MAX_FIT {
        return Err(CalibrationError::Unfit("no scores, or more than the capacity"));
    }
    if scores.iter().any(|(z, _)| !z.is_finite()) {
        return Err(CalibrationError::Unfit("a score is not finite"));
    }
    let positive = scores.iter().filter(|(_, y)| *y).count() as f64;
    let negative = scores.len() as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return Err(CalibrationError::Unfit("only one class among the scores"));
    }
    // Platt's targets instead of 1 and 0 keep the slope finite when the classes are separated.
    let (high, low) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
    let target = |y: bool| if y { high } else { low };
    let loss = |a: f64, b: f64| -> f64 {
        let term =
            |f: f64, t: f64| if f >= 0.0 { (1.0 - t) * f + (-f).exp().ln_1p() } else { -t * f + f.exp().ln_1p() };
        scores.iter().map(|(z, y)| term(a * f64::from(*z) + b, target(*y))).sum()
    };
    let (mut a, mut b) = (0.0_f64, ((positive + 1.0) / (negative + 1.0)).ln());
    let mut value = loss(a, b);
    for _ in 0..FIT_STEPS {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-12, 0.0, 1e-12);
        for (z, y) in scores {
            let z = f64::from(*z);
            let f = a * z + b;
            let p = if f >= 0.0 { 1.0 / (1.0 + (-f).exp()) } else { f.exp() / (1.0 + f.exp()) };
            let (d, w) = (p - target(*y), p * (1.0 - p));
            (ga, gb) = (ga + d * z, gb + d);
            (haa, hab, hbb) = (haa + w * z * z, hab + w * z, hbb + w);
        }
        if ga.abs() < 1e-7 && gb.abs() < 1e-7 {
            break;
        }
        let det = haa * hbb - hab * hab;
        let (da, db) = (-(hbb * ga - hab * gb) / det, -(haa * gb - hab * ga) / det);
        let descent = ga * da + gb * db;
        let mut step = 1.0;
        loop {
            let next = loss(a + step * da, b + step * db);
            if next < value + 1e-4 * step * descent {
                (a, b, value) = (a + step * da, b + step * db, next);
                break;
            }
            step *= 0.5;
            if step < 1e-10 {
                break;
            }
        }
        if step < 1e-10 {
            break;
        }
    }
    if !(a.is_finite() && b.is_finite() && a > 0.0) {
        return Err(CalibrationError::Unfit("the scores do not rank collisions above the rest"));
    }
    Ok((a as f32, b as f32, (positive / scores.len() as f64) as f32))
}

/// Expected calibration error over `bins` equal bins (1 to 100) of the probability of Yes: the mean distance between
/// the mean probability and the share of collisions of each bin, weighted by its size. None without predictions.
pub fn expected_calibration_error(predictions: &[(f32, bool)], bins: usize) -> Option<f32> {
    if predictions.is_empty() {
        return None;
    }
    let bins = bins.clamp(1, 100);
    let mut sums = vec![(0.0_f64, 0.0_f64); bins];
    for (p, y) in predictions {
        let at = ((p * bins as f32) as usize).min(bins - 1);
        sums[at].0 += f64::from(*p);
        sums[at].1 += f64::from(u8::from(*y));
    }
    let gap: f64 = sums.iter().map(|(p, y)| (p - y).abs()).sum();
    Some((gap / predictions.len() as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores whose truth is drawn so that P(Yes | z) = sigmoid(2 z - 1), by equal shares instead of chance.
    fn known() -> Vec<(f32, bool)> {
        let mut scores = Vec::new();
        for i in -30_i32..=30 {
            let z = i as f32 / 10.0;
            let yes = (sigmoid(2.0 * z - 1.0) * 1000.0).round() as usize;
            scores.extend((0..1000).map(|k| (z, k < yes)));
        }
        scores
    }

    #[test]
    fn fit_finds_the_parameters_that_made_the_scores() {
        let scores = known();
        let (slope, offset, prior) = fit(&scores).unwrap();
        assert!((slope - 2.0).abs() < 0.01 && (offset + 1.0).abs() < 0.01, "{slope} {offset}");
        let calibration = Calibration::new(slope, offset, prior, prior, None).unwrap();
        let predictions: Vec<_> = scores.iter().map(|(z, y)| (calibration.probability(*z), *y)).collect();
        assert!(expected_calibration_error(&predictions, 15).unwrap() < 0.002);
        let raw: Vec<_> = scores.iter().map(|(z, y)| (sigmoid(*z), *y)).collect();
        assert!(expected_calibration_error(&raw, 15).unwrap() > 0.05);
    }

    #[test]
    fn separated_classes_keep_a_finite_slope_and_inverted_ones_are_refused() {
        let scores: Vec<_> = (-20..20).map(|i| (i as f32 + 0.5, i >= 0)).collect();
        let (slope, offset, _) = fit(&scores).unwrap();
        assert!(slope > 0.0 && slope < 10.0 && offset.abs() < 0.1, "{slope} {offset}");
        let inverted: Vec<_> = scores.iter().map(|(z, y)| (*z, !*y)).collect();
        assert!(fit(&inverted).is_err());
        assert!(fit(&[]).is_err() && fit(&[(1.0, true)]).is_err() && fit(&[(f32::NAN, true), (0.0, false)]).is_err());
    }

    #[test]
    fn the_prior_moves_the_odds_by_the_ratio_of_prior_odds() {
        let same = Calibration::new(1.5, 0.3, 0.63, 0.63, None).unwrap();
        let road = Calibration::new(1.5, 0.3, 0.63, 0.05, Some(0.02)).unwrap();
        for z in [-3.0, 0.0, 0.7, 4.0] {
            let odds = |p: f32| p / (1.0 - p);
            let ratio = odds(road.probability(z)) / odds(same.probability(z));
            let wanted = (0.05 / 0.95) / (0.63 / 0.37);
            assert!((ratio / wanted - 1.0).abs() < 1e-3, "{ratio} {wanted}");
        }
        assert_eq!(road.ece(), Some(0.02));
    }

    #[test]
    fn uncalibrated_is_the_softmax_and_says_so() {
        let (p, calibrated) = label_probability(None, 1.0);
        assert!((p - 1.0_f32.exp() / (1.0_f32.exp() + 1.0)).abs() < 1e-6 && !calibrated);
        assert_eq!(label_probability(None, 1e30).0, 1.0);
        assert_eq!(label_probability(None, -1e30).0, 0.0);
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        let name = |r: Result<Calibration, CalibrationError>| match r.unwrap_err() {
            CalibrationError::OutOfRange { name, .. } => name,
            other => panic!("{other}"),
        };
        assert_eq!(name(Calibration::new(-1.0, 0.0, 0.5, 0.5, None)), "slope");
        assert_eq!(name(Calibration::new(1.0, f32::NAN, 0.5, 0.5, None)), "offset");
        assert_eq!(name(Calibration::new(1.0, 0.0, 1.0, 0.5, None)), "prior_trained");
        assert_eq!(name(Calibration::new(1.0, 0.0, 0.5, 0.0, None)), "prior_field");
        assert_eq!(name(Calibration::new(1.0, 0.0, 0.5, 0.5, Some(2.0))), "ece");
    }
}
