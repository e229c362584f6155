//! The arithmetic of the lowered network: convolutions, pooling and activations over planes of `f32`.
//!
//! Terms. A *plane* is one channel of one image, rows after each other without gaps, followed by at least
//! [`SLACK`] floats that may be overwritten with anything: kernels work in whole vectors and run over the end.
//! A *tap* is one (input channel, row, column) of a filter. The *scratch* holds input rows with their padding,
//! and for a stride of two with even and odd columns apart, so that every tap is a contiguous load.
//!
//! Vectors come from `pulp`, which picks AVX2 with FMA, NEON or plain code when the program starts. Every output
//! element is one chain of multiply-adds in tap order whatever the width, so results do not depend on the width.
//! Nothing here allocates.

// Rows of registers are walked by number, so that the loops unroll into registers.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;

/// Floats after each plane that kernels may overwrite; the widest vector supported.
pub(crate) const SLACK: usize = 16;
/// Output channels computed together.
pub(crate) const BLOCK: usize = 4;

/// What is applied to each output of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// x * sigmoid(x).
    Silu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
}

/// Weights of a convolution as `[block][tap][BLOCK]`, biases as `[block][BLOCK]`, padded with zeros.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) outputs: usize,
    pub(crate) taps: usize,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<[f32; BLOCK]>,
    pub(crate) act: Act,
    /// Planes added after `act`, then `after` is applied; empty when there is no such addition.
    pub(crate) residual: Vec<usize>,
    pub(crate) after: Act,
}

impl Filter {
    /// Weights `[output][tap]` in blocks of outputs.
    pub(crate) fn pack(outputs: usize, taps: usize, weights: &[f32], bias: &[f32]) -> Self {
        let blocks = outputs.div_ceil(BLOCK);
        let mut packed = vec![0.0; blocks * taps * BLOCK];
        let mut biases = vec![[0.0; BLOCK]; blocks];
        for (o, (row, b)) in weights.chunks_exact(taps).zip(bias).enumerate() {
            biases[o / BLOCK][o % BLOCK] = *b;
            for (t, v) in row.iter().enumerate() {
                packed[((o / BLOCK) * taps + t) * BLOCK + o % BLOCK] = *v;
            }
        }
        Self { outputs, taps, weights: packed, bias: biases, act: Act::None, residual: Vec::new(), after: Act::None }
    }
}

/// A sliding window over planes, and how its input rows lie in the scratch.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) sy: usize,
    pub(crate) sx: usize,
    pub(crate) pad_top: usize,
    pub(crate) pad_left: usize,
    /// Input rows and columns, and the steps between them in floats.
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
    /// Output rows and columns.
    pub(crate) oh: usize,
    pub(crate) ow: usize,
    /// Output rows computed for one filling of the scratch.
    pub(crate) band: usize,
}

impl Window {
    /// Floats between two rows of the scratch.
    pub(crate) fn pitch(&self) -> usize {
        (self.w + self.pad_left).div_ceil(self.sx).max(self.ow + (self.kw - 1) / self.sx)
    }

    /// Input rows that one band needs.
    pub(crate) fn band_rows(&self) -> usize {
        (self.band - 1) * self.sy + self.kh
    }

    /// Floats of one plane in the scratch: one phase for each column of the stride.
    pub(crate) fn plane(&self) -> usize {
        self.sx * self.band_rows() * self.pitch()
    }

    /// Where each tap of one channel lies in its scratch plane.
    pub(crate) fn taps(&self) -> Vec<usize> {
        let (pitch, phase) = (self.pitch(), self.band_rows() * self.pitch());
        let mut taps = Vec::with_capacity(self.kh * self.kw);
        for ky in 0..self.kh {
            for kx in 0..self.kw {
                taps.push((kx % self.sx) * phase + ky * pitch + kx / self.sx);
            }
        }
        taps
    }

    /// Copies the input rows of the band that begins at output row `y0` into `scratch`; rows outside the image
    /// become `fill`. Columns outside are not touched: the caller fills the scratch once.
    #[inline(always)]
    fn stage(&self, scratch: &mut [f32], plane: &[f32], y0: usize, fill: f32) {
        let (pitch, rows) = (self.pitch(), self.band_rows());
        for j in 0..self.sx {
            let first = (j + self.pad_left) / self.sx + (j + self.pad_left) % self.sx * rows * pitch;
            let count = self.w.saturating_sub(j).div_ceil(self.sx);
            let step = self.sx * self.col_stride;
            for r in 0..rows {
                let y = y0 * self.sy + r;
                let out = &mut scratch[r * pitch + first..][..count];
                if y < self.pad_top || y - self.pad_top >= self.h {
                    out.fill(fill);
                    continue;
                }
                let row = &plane[(y - self.pad_top) * self.row_stride + j * self.col_stride..];
                match step {
                    1 => out.copy_from_slice(&row[..count]),
                    2 => {
                        // Reads one float past the last column at most: the slack of a plane.
                        let (pairs, _) = row[..2 * count].as_chunks::<2>();
                        for (o, pair) in out.iter_mut().zip(pairs) {
                            *o = pair[0];
                        }
                    }
                    _ => {
                        for (o, v) in out.iter_mut().zip(row.iter().step_by(step)) {
                            *o = *v;
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd>(_: S, a: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&a[at..at + S::F32_LANES]).0[0]
}

#[inline(always)]
fn store<S: Simd>(_: S, a: &mut [f32], at: usize, v: S::f32s) {
    S::as_mut_simd_f32s(&mut a[at..at + S::F32_LANES]).0[0] = v;
}

/// exp(x) within 1.1e-7 of its value for x in -87..=88: two to the rounded multiple of ln 2, times a polynomial
/// of degree 6 fitted to the rest (Chebyshev, on +-ln 2 / 2).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::f32s) -> S::f32s {
    let x = s.min_f32s(s.max_f32s(x, s.splat_f32s(-87.0)), s.splat_f32s(88.0));
    let magic = s.splat_f32s(12_582_912.0);
    let shifted = s.mul_add_e_f32s(x, s.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = s.sub_f32s(shifted, magic);
    let r = s.mul_add_e_f32s(n, s.splat_f32s(-0.693_359_4), x);
    let r = s.mul_add_e_f32s(n, s.splat_f32s(2.121_944_4e-4), r);
    let mut p = s.splat_f32s(1.394_460_9e-3);
    for c in [8.371_918e-3, 4.166_628e-2, 0.166_664_56, 0.5, 1.0, 1.0] {
        p = s.mul_add_e_f32s(p, r, s.splat_f32s(c));
    }
    let bits = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted), s.splat_u32s(23));
    s.transmute_f32s_u32s(s.add_u32s(bits, s.transmute_u32s_f32s(p)))
}

#[inline(always)]
fn apply<S: Simd>(s: S, act: Act, x: S::f32s) -> S::f32s {
    match act {
        Act::None => x,
        Act::Relu => s.max_f32s(x, s.splat_f32s(0.0)),
        Act::Silu => {
            let e = exp(s, s.neg_f32s(x));
            s.div_f32s(x, s.add_f32s(s.splat_f32s(1.0), e))
        }
        Act::Sigmoid => {
            let e = exp(s, s.neg_f32s(x));
            s.div_f32s(s.splat_f32s(1.0), s.add_f32s(s.splat_f32s(1.0), e))
        }
    }
}

/// `BLOCK` output channels by `NV` vectors of pixels.
#[inline(always)]
fn block<S: Simd, const NV: usize>(
    s: S,
    src: &[f32],
    taps: &[usize],
    base: usize,
    weights: &[f32],
    bias: &[f32; BLOCK],
) -> [[S::f32s; NV]; BLOCK] {
    let mut acc = [[s.splat_f32s(0.0); NV]; BLOCK];
    for (tap, w) in taps.iter().zip(weights.chunks_exact(BLOCK)) {
        let at = tap + base;
        let x = S::as_simd_f32s(&src[at..at + NV * S::F32_LANES]).0;
        for o in 0..BLOCK {
            let w = s.splat_f32s(w[o]);
            for v in 0..NV {
                acc[o][v] = s.mul_add_e_f32s(w, x[v], acc[o][v]);
            }
        }
    }
    // The bias last: added first, it made the sums round worse (7.5e-4 instead of 1.3e-3 from onnxruntime).
    for o in 0..BLOCK {
        for v in 0..NV {
            acc[o][v] = s.add_f32s(acc[o][v], s.splat_f32s(bias[o]));
        }
    }
    acc
}

/// Applies the activations to a block and stores it at `at` of its output planes.
#[inline(always)]
fn finish<S: Simd, const NV: usize>(
    s: S,
    f: &Filter,
    ob: usize,
    dst: &[usize],
    arena: &mut [f32],
    at: usize,
    acc: [[S::f32s; NV]; BLOCK],
) {
    let mut acc = acc;
    activate(s, f.act, &mut acc);
    let outputs = BLOCK.min(f.outputs - ob * BLOCK);
    if let Some(planes) = f.residual.get(ob * BLOCK..ob * BLOCK + outputs) {
        for (plane, row) in planes.iter().zip(&mut acc) {
            for v in 0..NV {
                row[v] = s.add_f32s(row[v], load(s, arena, plane + at + v * S::F32_LANES));
            }
        }
        activate(s, f.after, &mut acc);
    }
    for (plane, row) in dst[ob * BLOCK..ob * BLOCK + outputs].iter().zip(&acc) {
        let out = &mut arena[plane + at..plane + at + NV * S::F32_LANES];
        S::as_mut_simd_f32s(out).0.copy_from_slice(row);
    }
}

/// Applies `act` to a whole block: the choice is made once, not for each vector. No closures here: one that is not
/// inlined loses the vector instructions (measured: ten times as slow).
#[inline(always)]
fn activate<S: Simd, const NV: usize, const N: usize>(s: S, act: Act, acc: &mut [[S::f32s; NV]; N]) {
    match act {
        Act::None => {}
        Act::Relu => {
            for row in acc {
                for v in row {
                    *v = s.max_f32s(*v, s.splat_f32s(0.0));
                }
            }
        }
        Act::Silu => {
            for row in acc {
                for v in row {
                    *v = apply(s, Act::Silu, *v);
                }
            }
        }
        Act::Sigmoid => {
            for row in acc {
                for v in row {
                    *v = apply(s, Act::Sigmoid, *v);
                }
            }
        }
    }
}

/// A 1x1 convolution: `src` names one plane for each tap, wherever it lies, so that concatenation and channel
/// shuffles before it cost nothing.
#[inline(always)]
pub(crate) fn pointwise<S: Simd>(s: S, f: &Filter, src: &[usize], dst: &[usize], pixels: usize, arena: &mut [f32]) {
    let l = S::F32_LANES;
    let pixels = pixels.next_multiple_of(l);
    // The tile's inputs stay in the first-level cache while all output channels pass over them.
    let tile = 3 * l * (24_576 / (12 * l * f.taps)).clamp(1, 16);
    let mut begin = 0;
    while begin < pixels {
        let end = (begin + tile).min(pixels);
        for (ob, (w, b)) in f.weights.chunks_exact(f.taps * BLOCK).zip(&f.bias).enumerate() {
            let mut p = begin;
            while p + 3 * l <= end {
                let acc = block::<S, 3>(s, arena, src, p, w, b);
                finish(s, f, ob, dst, arena, p, acc);
                p += 3 * l;
            }
            if p + 2 * l <= end {
                let acc = block::<S, 2>(s, arena, src, p, w, b);
                finish(s, f, ob, dst, arena, p, acc);
                p += 2 * l;
            }
            if p + l <= end {
                let acc = block::<S, 1>(s, arena, src, p, w, b);
                finish(s, f, ob, dst, arena, p, acc);
            }
        }
        begin = end;
    }
}

/// A convolution of all channels with a window larger than one pixel, band by band of output rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn dense<S: Simd>(
    s: S,
    f: &Filter,
    win: &Window,
    taps: &[usize],
    src: &[usize],
    dst: &[usize],
    arena: &mut [f32],
    scratch: &mut [f32],
) {
    let l = S::F32_LANES;
    let plane = win.plane();
    scratch[..plane * src.len()].fill(0.0);
    for y0 in (0..win.oh).step_by(win.band) {
        for (c, at) in src.iter().enumerate() {
            win.stage(&mut scratch[c * plane..(c + 1) * plane], &arena[*at..], y0, 0.0);
        }
        for y in 0..win.band.min(win.oh - y0) {
            let base = y * win.sy * win.pitch();
            let out = (y0 + y) * win.ow;
            // All output channels pass over one piece of the row while its inputs are in the first-level cache.
            let mut x = 0;
            while x < win.ow {
                let blocks = f.weights.chunks_exact(f.taps * BLOCK).zip(&f.bias).enumerate();
                let left = win.ow - x;
                if left > 2 * l {
                    for (ob, (w, b)) in blocks {
                        let acc = block::<S, 3>(s, scratch, taps, base + x, w, b);
                        finish(s, f, ob, dst, arena, out + x, acc);
                    }
                    x += 3 * l;
                } else if left > l {
                    for (ob, (w, b)) in blocks {
                        let acc = block::<S, 2>(s, scratch, taps, base + x, w, b);
                        finish(s, f, ob, dst, arena, out + x, acc);
                    }
                    x += 2 * l;
                } else {
                    for (ob, (w, b)) in blocks {
                        let acc = block::<S, 1>(s, scratch, taps, base + x, w, b);
                        finish(s, f, ob, dst, arena, out + x, acc);
                    }
                    x += l;
                }
            }
        }
    }
}

/// How the taps of one channel are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    /// Weighted sum plus bias.
    Sum,
    /// Largest.
    Max,
}

/// `NV` vectors of `R` output rows of one channel; `next` is the step from the inputs of one row to the next.
#[inline(always)]
fn channel_block<S: Simd, const R: usize, const NV: usize, const MAX: bool>(
    s: S,
    src: &[f32],
    taps: &[usize],
    (base, next): (usize, usize),
    weights: &[f32],
    bias: f32,
) -> [[S::f32s; NV]; R] {
    let mut acc = [[s.splat_f32s(bias); NV]; R];
    for (tap, w) in taps.iter().zip(weights) {
        let w = s.splat_f32s(*w);
        for r in 0..R {
            let at = tap + base + r * next;
            let x = S::as_simd_f32s(&src[at..at + NV * S::F32_LANES]).0;
            for v in 0..NV {
                acc[r][v] = if MAX { s.max_f32s(acc[r][v], x[v]) } else { s.mul_add_e_f32s(w, x[v], acc[r][v]) };
            }
        }
    }
    acc
}

/// `R` output rows of one channel from row `y` on. A piece that would run over the end of a row begins earlier
/// instead, except in rows of a single piece, whose overrun the next row overwrites.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn channel_rows<S: Simd, const R: usize, const MAX: bool>(
    s: S,
    win: &Window,
    taps: &[usize],
    weights: &[f32],
    bias: f32,
    act: Act,
    y: usize,
    to: usize,
    arena: &mut [f32],
    scratch: &[f32],
) {
    let l = S::F32_LANES;
    let next = win.sy * win.pitch();
    let (base, out) = (y * next, to + y * win.ow);
    let mut x = 0;
    while x < win.ow {
        let left = win.ow - x;
        let vectors = left.div_ceil(l).min(4);
        if x > 0 && vectors * l > left {
            x = win.ow - vectors * l;
        }
        let at = (base + x, next);
        match vectors {
            4 => {
                put(s, act, win.ow, arena, out + x, channel_block::<S, R, 4, MAX>(s, scratch, taps, at, weights, bias))
            }
            3 => {
                put(s, act, win.ow, arena, out + x, channel_block::<S, R, 3, MAX>(s, scratch, taps, at, weights, bias))
            }
            2 => {
                put(s, act, win.ow, arena, out + x, channel_block::<S, R, 2, MAX>(s, scratch, taps, at, weights, bias))
            }
            _ => {
                put(s, act, win.ow, arena, out + x, channel_block::<S, R, 1, MAX>(s, scratch, taps, at, weights, bias))
            }
        }
        x += vectors * l;
    }
}

/// Depthwise convolution or pooling: each channel by itself, two output rows at a time.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn per_channel<S: Simd, const MAX: bool>(
    s: S,
    win: &Window,
    taps: &[usize],
    weights: &[f32],
    bias: &[f32],
    act: Act,
    src: &[usize],
    dst: &[usize],
    arena: &mut [f32],
    scratch: &mut [f32],
) {
    let fill = if MAX { f32::NEG_INFINITY } else { 0.0 };
    scratch[..win.plane()].fill(fill);
    let k = taps.len();
    for (c, (from, to)) in src.iter().zip(dst).enumerate() {
        win.stage(scratch, &arena[*from..], 0, fill);
        let (w, b) = (&weights[c * k..(c + 1) * k], bias[c]);
        let mut y = 0;
        while y + 2 <= win.oh {
            channel_rows::<S, 2, MAX>(s, win, taps, w, b, act, y, *to, arena, scratch);
            y += 2;
        }
        if y < win.oh {
            channel_rows::<S, 1, MAX>(s, win, taps, w, b, act, y, *to, arena, scratch);
        }
    }
}

/// Stores rows `width` apart, upper rows first.
#[inline(always)]
fn put<S: Simd, const R: usize, const NV: usize>(
    s: S,
    act: Act,
    width: usize,
    arena: &mut [f32],
    at: usize,
    acc: [[S::f32s; NV]; R],
) {
    let mut acc = acc;
    activate(s, act, &mut acc);
    for (r, row) in acc.iter().enumerate() {
        let at = at + r * width;
        S::as_mut_simd_f32s(&mut arena[at..at + NV * S::F32_LANES]).0.copy_from_slice(row);
    }
}

/// Nearest-neighbour enlargement by a whole factor.
#[inline(always)]
pub(crate) fn enlarge(
    factor: usize,
    h: usize,
    w: usize,
    src: &[usize],
    dst: &[usize],
    arena: &mut [f32],
    scratch: &mut [f32],
) {
    let wide = w * factor;
    for (from, to) in src.iter().zip(dst) {
        for y in 0..h {
            let row = &arena[from + y * w..from + (y + 1) * w];
            for (o, v) in scratch[..wide].chunks_exact_mut(factor).zip(row) {
                o.fill(*v);
            }
            for i in 0..factor {
                let at = to + (y * factor + i) * wide;
                arena[at..at + wide].copy_from_slice(&scratch[..wide]);
            }
        }
    }
}

/// Softmax over the channels of each pixel.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(s: S, src: &[usize], dst: &[usize], pixels: usize, arena: &mut [f32]) {
    for p in (0..pixels).step_by(S::F32_LANES) {
        let mut top = s.splat_f32s(f32::NEG_INFINITY);
        for at in src {
            top = s.max_f32s(top, load(s, arena, at + p));
        }
        let mut sum = s.splat_f32s(0.0);
        for (at, to) in src.iter().zip(dst) {
            let e = exp(s, s.sub_f32s(load(s, arena, at + p), top));
            sum = s.add_f32s(sum, e);
            store(s, arena, to + p, e);
        }
        let scale = s.div_f32s(s.splat_f32s(1.0), sum);
        for to in dst {
            let v = s.mul_f32s(load(s, arena, to + p), scale);
            store(s, arena, to + p, v);
        }
    }
}

/// Sum of two values, plane by plane.
#[inline(always)]
pub(crate) fn add<S: Simd>(s: S, act: Act, a: &[usize], b: &[usize], dst: &[usize], pixels: usize, arena: &mut [f32]) {
    for ((x, y), to) in a.iter().zip(b).zip(dst) {
        for p in (0..pixels).step_by(S::F32_LANES) {
            let v = s.add_f32s(load(s, arena, x + p), load(s, arena, y + p));
            store(s, arena, to + p, apply(s, act, v));
        }
    }
}
