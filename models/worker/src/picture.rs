//! Pictures to the size that a model's window asks for: a box filter over the exact area, in whole numbers, so that it
//! gives the same bytes on every machine. It neither crops nor keeps the aspect: the models are trained so (Trinci et
//! al. resize 16:9 to 420 x 240).

/// The share of source pixels in one target pixel along one side: first source pixel, and the weights of it and those
/// that follow, in units of the target's side. They sum to `from`.
fn spans(from: usize, to: usize) -> Vec<(usize, Vec<u64>)> {
    (0..to)
        .map(|x| {
            let (begin, end) = (x * from, (x + 1) * from);
            let (first, last) = (begin / to, end.div_ceil(to).min(from));
            let weight = |i: usize| ((i + 1) * to).min(end).saturating_sub((i * to).max(begin)) as u64;
            (first, (first..last).map(weight).collect())
        })
        .collect()
}

/// Resizes RGB24 from `from` to `to` (width, height) into `out`. Gives `false` and leaves `out` empty when the bytes
/// are not those of a picture of that size or a side is 0.
#[must_use]
pub fn resize(rgb: &[u8], from: [usize; 2], to: [usize; 2], out: &mut Vec<u8>) -> bool {
    out.clear();
    let ([w, h], [tw, th]) = (from, to);
    if w * h * tw * th == 0 || rgb.len() != 3 * w * h {
        return false;
    }
    if from == to {
        out.extend_from_slice(rgb);
        return true;
    }
    let columns = spans(w, tw);
    // Rows first, each as sums of w parts; then columns of those.
    let narrow: Vec<u64> = rgb.chunks_exact(3 * w).flat_map(|row| row_sums(row, &columns)).collect();
    let area = (w * h) as u64;
    out.reserve(3 * tw * th);
    for (first, weights) in spans(h, th) {
        for i in 0..3 * tw {
            let sum: u64 = weights
                .iter()
                .enumerate()
                .map(|(j, weight)| weight * narrow.get((first + j) * 3 * tw + i).copied().unwrap_or(0))
                .sum();
            out.push(((sum + area / 2) / area).min(255) as u8);
        }
    }
    true
}

fn row_sums(row: &[u8], columns: &[(usize, Vec<u64>)]) -> Vec<u64> {
    let mut sums = Vec::with_capacity(3 * columns.len());
    for (first, weights) in columns {
        for c in 0..3 {
            let at = |j: usize| u64::from(row.get(3 * (first + j) + c).copied().unwrap_or(0));
            sums.push(weights.iter().enumerate().map(|(j, weight)| weight * at(j)).sum());
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_means_and_one_colour_stays_in_any_size() {
        let mut out = Vec::new();
        assert!(resize(&[0, 0, 0, 100, 100, 101, 50, 0, 0, 50, 0, 0], [2, 2], [1, 1], &mut out));
        assert_eq!(out, [50, 25, 25]);
        for to in [[7, 3], [31, 17], [5, 40]] {
            assert!(resize(&[9u8; 3 * 20 * 10], [20, 10], to, &mut out));
            assert_eq!(out, vec![9u8; 3 * to[0] * to[1]]);
        }
    }

    #[test]
    fn a_ramp_keeps_its_mean_and_its_order() {
        let ramp: Vec<u8> = (0..30u8).flat_map(|x| [8 * x, 255 - 8 * x, x]).collect();
        let mut out = Vec::new();
        assert!(resize(&ramp, [30, 1], [7, 1], &mut out));
        let red: Vec<u8> = out.iter().step_by(3).copied().collect();
        assert!(red.windows(2).all(|p| p[0] < p[1]), "{red:?}");
        let mean = red.iter().map(|v| f64::from(*v)).sum::<f64>() / 7.0;
        assert!((mean - 116.0).abs() <= 0.5, "{mean}");
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let mut out = vec![1];
        assert!(!resize(&[0; 11], [2, 2], [1, 1], &mut out) && out.is_empty());
        assert!(!resize(&[], [0, 2], [1, 1], &mut out));
        assert!(!resize(&[0; 12], [2, 2], [0, 1], &mut out));
    }
}
