//! Writes the calibration of a model file's label into a copy of it. Parameters hold for one quantised file: they are
//! fitted to the scores that this very file gave, and the weights' bytes stay what they were.
//!
//! Never runs a model: the scores are made elsewhere (`examples/score_clips.rs`), on clips that it was not trained on.

use std::path::Path;

use serde::Serialize;

use super::error::ConvertError;
use super::export::copy;
use super::gguf::{Header, Planned, Value};
use super::verify::describe;
use crate::calibration::{Calibration, expected_calibration_error, fit};

/// Bins of the calibration error: usual, and enough clips in each from some hundreds on.
const BINS: usize = 15;
/// Fewest scores that a calibration is made of.
pub const MIN_SCORES: usize = 50;
const PREFIX: &str = "student.calibration.";

/// What was fitted and written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibrated {
    /// Scores that were fitted.
    pub scores: usize,
    /// Slope of Platt's sigmoid.
    pub slope: f32,
    /// Its offset.
    pub offset: f32,
    /// Share of collisions among the scores.
    pub prior_trained: f32,
    /// Share of collisions where the file will be used.
    pub prior_field: f32,
    /// Expected calibration error, each half of the scores by the fit of the other.
    pub ece: f32,
    /// The same of the model's own probabilities.
    pub ece_before: f32,
    /// SHA-256 of the weights, which did not change.
    pub weights_sha256: String,
}

/// Fits `scores` (logit(Yes) - logit(No), and whether it was a collision) and writes `out`. `prior_field` is the share of
/// collisions among the events that will be asked about; without it that of the scores.
///
/// # Errors
/// [`ConvertError`]: a file that is no model file, scores that cannot be fitted, a prior out of range, the disk.
pub fn calibrate(
    path: &Path,
    out: &Path,
    scores: &[(f32, bool)],
    prior_field: Option<f32>,
) -> Result<Calibrated, ConvertError> {
    describe(path)?;
    if scores.len() < MIN_SCORES {
        let what = format!("{} scores; a calibration is made of at least {MIN_SCORES}", scores.len());
        return Err(ConvertError::Asked(what));
    }
    let asked = |error: crate::calibration::CalibrationError| ConvertError::Asked(error.to_string());
    let (slope, offset, prior_trained) = fit(scores).map_err(asked)?;
    let prior_field = prior_field.unwrap_or(prior_trained);
    let ece = cross_fitted(scores)?;
    // Held to the ranges that the reader asks for.
    Calibration::new(slope, offset, prior_trained, prior_field, Some(ece)).map_err(asked)?;
    let header = Header::read(path)?;
    let mut metadata: Vec<_> = header.metadata.iter().filter(|(key, _)| !key.starts_with(PREFIX)).cloned().collect();
    for (name, value) in [
        ("slope", slope),
        ("offset", offset),
        ("prior_trained", prior_trained),
        ("prior_field", prior_field),
        ("ece", ece),
    ] {
        metadata.push((format!("{PREFIX}{name}"), Value::F32(value)));
    }
    let tensors: Vec<_> = header
        .tensors
        .iter()
        .map(|t| (Planned { name: t.name.clone(), dims: t.dims.clone(), kind: t.kind }, t.offset))
        .collect();
    let written = copy(path, out, &metadata, &tensors)?;
    let own: Vec<_> = scores.iter().map(|(z, y)| (1.0 / (1.0 + (-z).exp()), *y)).collect();
    let ece_before = expected_calibration_error(&own, BINS).unwrap_or(0.0);
    let weights_sha256 = written.weights_sha256;
    Ok(Calibrated { scores: scores.len(), slope, offset, prior_trained, prior_field, ece, ece_before, weights_sha256 })
}

/// The calibration error that is owned up to: a fit is judged by scores that it did not see.
fn cross_fitted(scores: &[(f32, bool)]) -> Result<f32, ConvertError> {
    let half = |odd: bool| -> Vec<(f32, bool)> {
        scores.iter().enumerate().filter(|(i, _)| (i % 2 == 1) == odd).map(|(_, s)| *s).collect()
    };
    let mut judged = Vec::with_capacity(scores.len());
    for odd in [false, true] {
        let asked = |error: crate::calibration::CalibrationError| ConvertError::Asked(error.to_string());
        let (slope, offset, prior) = fit(&half(odd)).map_err(asked)?;
        let made = Calibration::new(slope, offset, prior, prior, None).map_err(asked)?;
        judged.extend(half(!odd).into_iter().map(|(z, y)| (made.probability(z), y)));
    }
    Ok(expected_calibration_error(&judged, BINS).unwrap_or(0.0))
}
