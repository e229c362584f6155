//! A canvas of RGB bytes and convex polygons filled with smooth edges. Coverage is counted on four lines within each
//! row and exactly along it; no allocation after the canvas is made.

use crate::limits::{FRAME_HEIGHT, FRAME_WIDTH};

/// Lines counted within a row.
const LINES: usize = 4;

/// A point in pixels, y downwards.
pub(crate) type Point = (f64, f64);

/// The image and the coverage of the row being filled.
pub(crate) struct Canvas {
    pub(crate) rgb: Vec<u8>,
    cover: Vec<f64>,
}

impl Canvas {
    pub(crate) fn new() -> Self {
        Self { rgb: vec![0; FRAME_WIDTH * FRAME_HEIGHT * 3], cover: vec![0.0; FRAME_WIDTH] }
    }

    /// Fills a row from `from` to `to` without blending.
    pub(crate) fn row(&mut self, y: usize, colour: [u8; 3]) {
        let start = y * FRAME_WIDTH * 3;
        if let Some(row) = self.rgb.get_mut(start..start + FRAME_WIDTH * 3) {
            row.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour));
        }
    }

    /// Fills a convex polygon; `alpha` 0 to 1.
    pub(crate) fn fill(&mut self, points: &[Point], colour: [u8; 3], alpha: f64) {
        let finite = points.iter().all(|p| p.0.is_finite() && p.1.is_finite());
        if points.len() < 3 || !finite {
            return;
        }
        let (low, high) = points.iter().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.1), h.max(p.1)));
        let first = low.floor().clamp(0.0, FRAME_HEIGHT as f64) as usize;
        let last = high.ceil().clamp(0.0, FRAME_HEIGHT as f64) as usize;
        for y in first..last {
            let mut touched = (FRAME_WIDTH, 0);
            for line in 0..LINES {
                let at = y as f64 + (line as f64 + 0.5) / LINES as f64;
                if let Some((left, right)) = span(points, at) {
                    let (a, b) = self.add(left, right);
                    touched = (touched.0.min(a), touched.1.max(b));
                }
            }
            self.blend(y, touched, colour, alpha);
        }
    }

    /// Adds one line's span to the coverage and returns the pixels touched.
    fn add(&mut self, left: f64, right: f64) -> (usize, usize) {
        const SHARE: f64 = 1.0 / LINES as f64;
        let (left, right) = (left.clamp(0.0, FRAME_WIDTH as f64), right.clamp(0.0, FRAME_WIDTH as f64));
        let (from, to) = (left.floor() as usize, right.ceil() as usize);
        let Some(cover) = self.cover.get_mut(from..to) else { return (FRAME_WIDTH, 0) };
        cover.iter_mut().for_each(|c| *c += SHARE);
        if let Some(first) = cover.first_mut() {
            *first -= (left - from as f64) * SHARE;
        }
        if let Some(last) = cover.last_mut() {
            *last -= (to as f64 - right) * SHARE;
        }
        (from, to)
    }

    fn blend(&mut self, y: usize, (from, to): (usize, usize), colour: [u8; 3], alpha: f64) {
        let start = y * FRAME_WIDTH * 3;
        let row = self.rgb.get_mut(start + from * 3..start + to * 3);
        let (Some(row), Some(cover)) = (row, self.cover.get_mut(from..to)) else { return };
        for (pixel, cover) in row.chunks_exact_mut(3).zip(cover) {
            let share = (*cover * alpha).clamp(0.0, 1.0);
            *cover = 0.0;
            if share > 0.999 {
                pixel.copy_from_slice(&colour);
                continue;
            }
            for (old, new) in pixel.iter_mut().zip(colour) {
                *old = (f64::from(*old) + (f64::from(new) - f64::from(*old)) * share + 0.5) as u8;
            }
        }
    }
}

/// Where a convex polygon begins and ends on the line `y`.
fn span(points: &[Point], y: f64) -> Option<(f64, f64)> {
    let (mut left, mut right) = (f64::MAX, f64::MIN);
    for (i, a) in points.iter().enumerate() {
        let b = points.get(i + 1).or(points.first())?;
        if (a.1 <= y) == (b.1 <= y) {
            continue;
        }
        let x = a.0 + (y - a.1) / (b.1 - a.1) * (b.0 - a.0);
        left = left.min(x);
        right = right.max(x);
    }
    (left < right).then_some((left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pixel_is_blended_by_half_and_nothing_outside_is_touched() {
        let mut canvas = Canvas::new();
        canvas.fill(&[(10.0, 5.0), (12.5, 5.0), (12.5, 7.0), (10.0, 7.0)], [200, 100, 50], 1.0);
        let pixel = |x: usize, y: usize| canvas.rgb[(y * FRAME_WIDTH + x) * 3];
        assert_eq!((pixel(10, 5), pixel(11, 6), pixel(12, 5)), (200, 200, 100));
        assert_eq!((pixel(9, 5), pixel(13, 5), pixel(10, 4), pixel(10, 7)), (0, 0, 0, 0));
    }

    #[test]
    fn odd_polygons_are_harmless() {
        let mut canvas = Canvas::new();
        canvas.fill(&[(f64::NAN, 0.0), (1.0, 1.0), (2.0, 0.0)], [255; 3], 1.0);
        canvas.fill(&[(1e300, -1e300), (-1e300, 1e300), (f64::INFINITY, 0.0)], [255; 3], 1.0);
        canvas.fill(&[(0.0, 0.0)], [255; 3], 1.0);
        assert!(canvas.rgb.iter().all(|b| *b == 0));
        canvas.fill(&[(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)], [7; 3], 1.0);
        assert!(canvas.rgb.iter().all(|b| *b == 7));
    }
}
