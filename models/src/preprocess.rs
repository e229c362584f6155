//! From an RGB frame to the input of a model: bilinear resizing, padding, channel order, normalisation.
//!
//! Sampling is that of OpenCV's `INTER_LINEAR` (pixel centres at half integers, edges repeated), in floats without
//! rounding in between. The tables for a frame size are made when that size is first seen and kept; after that
//! a frame allocates nothing.

use crate::manifest::{ChannelOrder, InputSpec, Resize};

/// One output column or row: first source index, second, and the weight of the second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    first: usize,
    second: usize,
    weight: f32,
}

/// Resizes frames for one model.
#[derive(Clone, Debug)]
pub(crate) struct Preprocessor {
    spec: InputSpec,
    frame: (usize, usize),
    columns: Vec<Sample>,
    rows: Vec<Sample>,
    /// Fractions of the input that the frame fills, across and down.
    fill: (f32, f32),
    image: Vec<f32>,
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn table(out: &mut Vec<Sample>, from: usize, to: usize) {
    let scale = from as f32 / to as f32;
    out.clear();
    out.extend((0..to).map(|i| {
        let at = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f32);
        let first = at as usize;
        Sample { first, second: (first + 1).min(from - 1), weight: at - first as f32 }
    }));
}

impl Preprocessor {
    pub(crate) fn new(spec: InputSpec) -> Self {
        let (w, h) = (spec.width, spec.height);
        Self {
            frame: (0, 0),
            columns: Vec::with_capacity(w),
            rows: Vec::with_capacity(h),
            fill: (1.0, 1.0),
            image: vec![0.0; 3 * w * h],
            spec,
        }
    }

    /// Fractions of the input that the last frame filled.
    pub(crate) fn fill(&self) -> (f32, f32) {
        self.fill
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn prepare(&mut self, width: usize, height: usize) {
        let (w, h) = (self.spec.width, self.spec.height);
        let (used_w, used_h) = match self.spec.resize {
            Resize::Stretch => (w, h),
            Resize::Letterbox => {
                let ratio = (w as f32 / width as f32).min(h as f32 / height as f32);
                let side = |v: usize, cap: usize| ((v as f32 * ratio) as usize).clamp(1, cap);
                (side(width, w), side(height, h))
            }
        };
        table(&mut self.columns, width, used_w);
        table(&mut self.rows, height, used_h);
        self.fill = (used_w as f32 / w as f32, used_h as f32 / h as f32);
        for (c, plane) in self.image.chunks_exact_mut(w * h).enumerate() {
            let [gain, shift] = normal(&self.spec, c);
            plane.fill(self.spec.pad_value * gain + shift);
        }
        self.frame = (width, height);
    }

    /// The input `[3][rows][columns]` for the frame `rgb` of `width * height * 3` bytes (checked by the caller).
    pub(crate) fn run(&mut self, width: usize, height: usize, rgb: &[u8]) -> &[f32] {
        if self.frame != (width, height) {
            self.prepare(width, height);
        }
        let (w, plane) = (self.spec.width, self.spec.width * self.spec.height);
        let norms = [normal(&self.spec, 0), normal(&self.spec, 1), normal(&self.spec, 2)];
        let source = match self.spec.channels {
            ChannelOrder::Rgb => [0, 1, 2],
            ChannelOrder::Bgr => [2, 1, 0],
        };
        let (p0, rest) = self.image.split_at_mut(plane);
        let (p1, p2) = rest.split_at_mut(plane);
        for (y, row) in self.rows.iter().enumerate() {
            let a = &rgb[row.first * width * 3..(row.first + 1) * width * 3];
            let b = &rgb[row.second * width * 3..(row.second + 1) * width * 3];
            let out = y * w..y * w + self.columns.len();
            let outs = p0[out.clone()].iter_mut().zip(&mut p1[out.clone()]).zip(&mut p2[out]);
            for (s, ((o0, o1), o2)) in self.columns.iter().zip(outs) {
                let (i, j) = (s.first * 3, s.second * 3);
                let (ai, aj, bi, bj) = (&a[i..i + 3], &a[j..j + 3], &b[i..i + 3], &b[j..j + 3]);
                let mut v = [0.0; 3];
                for c in 0..3 {
                    let top = f32::from(ai[c]) + (f32::from(aj[c]) - f32::from(ai[c])) * s.weight;
                    let low = f32::from(bi[c]) + (f32::from(bj[c]) - f32::from(bi[c])) * s.weight;
                    v[c] = top + (low - top) * row.weight;
                }
                *o0 = v[source[0]] * norms[0][0] + norms[0][1];
                *o1 = v[source[1]] * norms[1][0] + norms[1][1];
                *o2 = v[source[2]] * norms[2][0] + norms[2][1];
            }
        }
        &self.image
    }
}

/// Factor and addend of channel `c`.
fn normal(spec: &InputSpec, c: usize) -> [f32; 2] {
    let (mean, std) = (spec.mean[c], spec.std[c]);
    [spec.scale / std, -mean / std]
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::manifest::Layout;

    fn spec(resize: Resize) -> InputSpec {
        let (mean, std) = ([0.5, 0.0, 0.0], [2.0, 1.0, 1.0]);
        let (layout, channels) = (Layout::Nchw, ChannelOrder::Bgr);
        InputSpec { width: 32, height: 32, layout, channels, resize, pad_value: 114.0, scale: 0.1, mean, std }
    }

    #[test]
    fn a_letterbox_fills_the_top_left_and_pads_the_rest() {
        let mut p = Preprocessor::new(spec(Resize::Letterbox));
        let image = p.run(64, 32, &[10, 20, 30].repeat(64 * 32)).to_vec();
        assert_eq!(p.fill(), (1.0, 0.5));
        let at = |c: usize, y: usize| image[c * 1024 + y * 32 + 31];
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} {b}");
        // Blue comes first: (30 * 0.1 - 0.5) / 2.
        close(at(0, 15), 1.25);
        close(at(1, 15), 2.0);
        close(at(2, 15), 1.0);
        close(at(0, 16), (11.4 - 0.5) / 2.0);
        close(at(2, 31), 11.4);
    }

    #[test]
    fn a_frame_of_the_same_size_is_taken_as_it_is_and_a_ramp_stays_a_ramp() {
        let mut p = Preprocessor::new(spec(Resize::Stretch));
        let ramp = |w: usize, h: usize| -> Vec<u8> { (0..w * h).flat_map(|i| [0, (i % w) as u8, 0]).collect() };
        let image = p.run(32, 32, &ramp(32, 32)).to_vec();
        for (x, v) in image[1024..1056].iter().enumerate() {
            assert!((v - x as f32 * 0.1).abs() < 1e-5);
        }
        // Pixel centres: output x lies at 2x + 0.5 of a frame twice as wide.
        let image = p.run(64, 16, &ramp(64, 16)).to_vec();
        for (x, v) in image[1024..1056].iter().enumerate() {
            assert!((v - (2.0 * x as f32 + 0.5) * 0.1).abs() < 1e-5, "{x} {v}");
        }
    }
}
