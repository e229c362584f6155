//! What is read from one row of logits.
//!
//! Terms: *lse* is the logarithm of the sum of the exponentials over the whole vocabulary. The exponential is a
//! polynomial of our own that the compiler can vectorise: a vocabulary has 152,000 entries and the library's is one
//! call each. Deterministic on every machine: no fused operations, fixed order.

use crate::error::{Result, StudentError};

const LANES: usize = 16;

/// One row, reduced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reduced {
    /// The largest logit's token; the first of several.
    pub(crate) best: u32,
    /// Its logit.
    pub(crate) max: f32,
    /// Logarithm of the sum of exponentials.
    pub(crate) lse: f32,
}

impl Reduced {
    /// Logarithm of the probability of a token with this logit.
    pub(crate) fn log_p(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.lse)
    }
}

/// Largest logit and lse of a row.
///
/// # Errors
/// [`StudentError::Call`] if a logit is not a number or infinite upwards: then the weights or the device are broken,
/// and an answer would be a guess.
pub(crate) fn reduce(row: &[f32]) -> Result<Reduced> {
    let max = maximum(row);
    let sum = sum_exp(row, max);
    if !max.is_finite() || !sum.is_finite() || sum <= 0.0 {
        return Err(broken());
    }
    let best = row.iter().position(|v| *v == max).ok_or_else(broken)?;
    Ok(Reduced { best: best as u32, max, lse: max + sum.ln() })
}

/// The error for them.
pub(crate) fn broken() -> StudentError {
    StudentError::Call { place: "decode", what: "the model gave logits that are not finite".to_owned() }
}

fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            // Not f32::max: the plain comparison is one instruction, and what is no number is caught by the sum.
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let fold = |best: f32, value: &f32| if *value > best { *value } else { best };
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, fold)
}

fn sum_exp(row: &[f32], max: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += exp(*value - max);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| exp(*value - max)).sum::<f32>()
}

/// e^x for x at most 0, to a relative error of 1e-7 near 0 and 8e-6 at the far end; below -87 it is that of -87
/// (1.6e-38). Of what is no number it gives what is no number.
fn exp(x: f32) -> f32 {
    let y = if x < -87.0 { -87.0 } else { x } * std::f32::consts::LOG2_E;
    // Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the mantissa.
    let shifted = y + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let f = (y - whole) * std::f32::consts::LN_2;
    let p = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f * (1.0 / 720.0))))));
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * scale
}

/// Softmax over some logits only: shares in their order. Empty for none.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = maximum(logits);
    let exps: Vec<f64> = logits.iter().map(|v| f64::from(v - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| (e / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_close_over_its_range() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 8e-6, "{x}: {ours} {exact}");
        }
        assert!(exp(f32::NAN).is_nan() && exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn reduction_equals_the_plain_one() {
        for n in [1_usize, 15, 16, 17, 100, 2_048] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 7_919 + 13) % 1_009) as f32 / 50.0 - 9.0).collect();
            let got = reduce(&row).unwrap();
            let exact: f64 = row.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
            assert!((f64::from(got.lse) - exact).abs() < 1e-5, "{n}");
            let best = (0..n).fold(0, |b, i| if row[i] > row[b] { i } else { b });
            assert_eq!((got.best as usize, got.max), (best, row[best]));
        }
        assert_eq!(reduce(&[1.0, 3.0, 3.0]).unwrap().best, 1);
    }

    #[test]
    fn broken_logits_are_an_error() {
        let mut row = vec![0.5_f32; 40];
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 20, 39] {
                let keep = std::mem::replace(&mut row[at], bad);
                assert!(reduce(&row).is_err());
                row[at] = keep;
            }
        }
        assert!(reduce(&[]).is_err() && reduce(&[f32::NEG_INFINITY]).is_err());
        assert!(reduce(&[f32::NEG_INFINITY, 1.0]).is_ok());
    }

    #[test]
    fn softmax_sums_to_one() {
        assert!(softmax(&[]).is_empty());
        assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
        let shares = softmax(&[0.3, -2.0, 1.7]);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
