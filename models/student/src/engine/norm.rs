//! The norms and the rotation of heads: one row at a time, plain loops that the compiler vectorises.
//!
//! Sums run in eight lanes and are added up in one order, so that a row's result never depends on its neighbours.

/// Sum of `value` over the row.
fn sum(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<8>();
    let mut lanes = [0.0_f32; 8];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += value(*x);
        }
    }
    let tail: f32 = rest.iter().map(|x| value(*x)).sum();
    lanes.iter().sum::<f32>() + tail
}

/// Root-mean-square norm.
pub(super) fn rms(row: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mean = sum(row, |x| x * x) / row.len() as f32;
    let factor = 1.0 / (mean + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(row).zip(weight) {
        *out = x * factor * w;
    }
}

/// Layer norm with weight and bias.
pub(super) fn layer(row: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    let factor = 1.0 / (variance + eps).sqrt();
    for (((out, x), w), b) in out.iter_mut().zip(row).zip(weight).zip(bias) {
        *out = (x - mean) * factor * w + b;
    }
}

/// Rotates a head by half its width: channel i with channel i + width / 2. `out` may be shorter only by nothing.
pub(super) fn rotate(head: &[f32], cos: &[f32], sin: &[f32], scale: f32, out: &mut [f32]) {
    let half = head.len() / 2;
    let (first, second) = head.split_at(half);
    let (low, high) = out.split_at_mut(half.min(out.len()));
    let angles = cos.iter().zip(sin);
    for ((((low, high), a), b), (cos, sin)) in low.iter_mut().zip(high).zip(first).zip(second).zip(angles) {
        *low = (a * cos - b * sin) * scale;
        *high = (b * cos + a * sin) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_of_a_known_row() {
        let row: Vec<f32> = (0..19).map(|i| i as f32 - 3.0).collect();
        let (weight, bias) = (vec![2.0; 19], vec![0.5; 19]);
        let mut out = vec![0.0; 19];
        layer(&row, &weight, &bias, 0.0, &mut out);
        let (mean, deviation) = (6.0, 30.0_f32.sqrt()); // of 19 steps of one: (19^2 - 1) / 12 = 30
        for (x, y) in row.iter().zip(&out) {
            assert!(((x - mean) / deviation * 2.0 + 0.5 - y).abs() < 1e-5);
        }
        rms(&row, &weight, 0.0, &mut out);
        let root = (row.iter().map(|x| x * x).sum::<f32>() / 19.0).sqrt();
        for (x, y) in row.iter().zip(&out) {
            assert!((x / root * 2.0 - y).abs() < 1e-5);
        }
    }

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        let mut out = [0.0; 4];
        rotate(&[1.0, 2.0, 3.0, 4.0], &[0.0, 1.0], &[1.0, 0.0], 2.0, &mut out);
        assert_eq!(out, [-6.0, 4.0, 2.0, 8.0]);
    }
}
