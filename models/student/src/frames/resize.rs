//! Bicubic resizing that gives PIL's bytes.
//!
//! Terms: the *support* is how far a kernel reaches, widened when shrinking (so that every source pixel counts); a
//! *span* is the source pixels of one target pixel with their weights. As in Pillow 8-bit resizing weights are whole
//! numbers of 1 / 2^22, each pass rounds to bytes, rows go first, and a pass that changes nothing is left out.
//!
//! Equal to Pillow up to version 12, byte for byte. Pillow 13 runs the vertical pass first where the height shrinks
//! more than the width; the models were trained on the older order and torchvision keeps it, so it stays.

/// Bits behind the point of a weight: 32 less 8 of a byte less 2 of headroom.
const BITS: u32 = 22;

/// Keys' cubic kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

struct Span {
    start: usize,
    weights: Vec<i32>,
}

fn spans(from: usize, to: usize) -> Vec<Span> {
    let scale = from as f64 / to as f64;
    let widen = scale.max(1.0);
    let support = 2.0 * widen;
    let span = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let start = ((centre - support + 0.5).max(0.0)) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> = (start..end).map(|x| cubic((x as f64 - centre + 0.5) / widen)).collect();
        let sum: f64 = raw.iter().sum();
        let fixed = |w: f64| {
            let w = if sum == 0.0 { w } else { w / sum } * f64::from(1u32 << BITS);
            (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
        };
        Span { start, weights: raw.into_iter().map(fixed).collect() }
    };
    (0..to).map(span).collect()
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes RGB bytes from (height, width) to (height, width). Both must be above zero and `rgb` height x width x 3
/// long: callers check.
#[must_use]
pub fn resize(rgb: &[u8], (height, width): (usize, usize), (to_height, to_width): (usize, usize)) -> Vec<u8> {
    debug_assert_eq!(rgb.len(), 3 * height * width);
    let wide = if width == to_width { rgb.to_vec() } else { across(rgb, width, to_width) };
    if height == to_height { wide } else { down(&wide, 3 * to_width, height, to_height) }
}

fn across(rgb: &[u8], width: usize, to_width: usize) -> Vec<u8> {
    let spans = spans(width, to_width);
    let mut out = Vec::with_capacity(rgb.len() / width * to_width);
    for row in rgb.chunks_exact(3 * width) {
        for span in &spans {
            let mut sums = [1i32 << (BITS - 1); 3];
            for (pixel, weight) in row[3 * span.start..].chunks_exact(3).zip(&span.weights) {
                for (sum, level) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(*level).wrapping_mul(*weight));
                }
            }
            out.extend(sums.map(byte));
        }
    }
    out
}

fn down(rgb: &[u8], line: usize, height: usize, to_height: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(line * to_height);
    let mut sums = vec![0i32; line];
    for span in spans(height, to_height) {
        sums.fill(1 << (BITS - 1));
        for (row, weight) in rgb[line * span.start..].chunks_exact(line).zip(&span.weights) {
            for (sum, level) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(*level).wrapping_mul(*weight));
            }
        }
        out.extend(sums.iter().map(|sum| byte(*sum)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_stays_flat_and_an_equal_size_is_untouched() {
        let flat = vec![77; 3 * 40 * 31];
        assert!(resize(&flat, (40, 31), (28, 56)).iter().all(|level| *level == 77));
        let own: Vec<u8> = (0..3 * 28 * 28).map(|i| (i * 7 % 251) as u8).collect();
        assert_eq!(resize(&own, (28, 28), (28, 28)), own);
    }

    #[test]
    fn overshoot_is_cut_to_bytes() {
        // An edge between black and white: bicubic rings past both.
        let edge: Vec<u8> = (0..28 * 28).flat_map(|i| [if i % 28 < 14 { 0 } else { 255 }; 3]).collect();
        let out = resize(&edge, (28, 28), (56, 84));
        assert_eq!((out.len(), out[0], out[3 * 83]), (3 * 56 * 84, 0, 255));
    }

    #[test]
    fn one_pixel_becomes_any_size() {
        assert_eq!(resize(&[1, 2, 3], (1, 1), (2, 3)), [1, 2, 3].repeat(6));
    }
}
