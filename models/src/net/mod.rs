//! The lowered network: an ONNX graph turned, when it is loaded, into a list of steps over one arena.
//!
//! Why it exists. On one thread tract's plan takes 1.6 times onnxruntime's time on YOLOX-nano and 4 times on
//! FastestDet (x86-64 with AVX2): most of FastestDet's is a softmax over a strided axis, then come depthwise
//! convolutions, the stem, pooling, and activations, packing and copies as passes of their own. Here concat, channel
//! shuffle, slice, reshape and transpose become tables of plane addresses and cost nothing; activations and residual
//! additions happen where a convolution stores its result; and memory is one arena, laid out once by lifetime, so
//! that a frame allocates nothing. `bench/trigger.sh` measures it: about 1.0 and 1.15 times onnxruntime's time.
//!
//! What it never does: guess. A node outside what [`lower`] knows, or a result that differs from tract's on a probe,
//! and the detector runs tract's own plan instead, and says so in its description; without tract it is refused.

pub(crate) mod attributes;
pub(crate) mod kernels;
pub(crate) mod layout;
pub(crate) mod lower;
#[cfg(test)]
#[cfg(feature = "tract")]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(crate) mod tests;

use kernels::{Act, Combine, Filter, SLACK, Window};
use pulp::{Arch, Simd, WithSimd};

/// One step: what it computes, from which planes to which planes (addresses in the arena).
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) src: Vec<usize>,
    pub(crate) dst: Vec<usize>,
}

impl Step {
    /// The kind and size of the step, for measuring.
    pub(crate) fn name(&self) -> String {
        let (i, o) = (self.src.len(), self.dst.len());
        match &self.kind {
            Kind::Pointwise { pixels, .. } => format!("pointwise {i} to {o}, {pixels} pixels"),
            Kind::Dense { win, .. } => format!("dense {}x{} {i} to {o}, {}x{}", win.kh, win.kw, win.oh, win.ow),
            Kind::PerChannel { win, combine, .. } => {
                format!("{combine:?} {}x{}/{} of {i}, {}x{}", win.kh, win.kw, win.sx, win.oh, win.ow)
            }
            Kind::Enlarge { .. } => format!("enlarge {i}"),
            Kind::Softmax { .. } => format!("softmax {i}"),
            Kind::Add { .. } => format!("add {i}"),
        }
    }
}

/// The kinds of step.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// 1x1 convolution over so many pixels.
    Pointwise { filter: Filter, pixels: usize },
    /// Convolution of all channels with a window.
    Dense { filter: Filter, win: Window, taps: Vec<usize> },
    /// Depthwise convolution or pooling.
    PerChannel { win: Window, taps: Vec<usize>, weights: Vec<f32>, bias: Vec<f32>, act: Act, combine: Combine },
    /// Nearest-neighbour enlargement.
    Enlarge { factor: usize, h: usize, w: usize },
    /// Softmax over channels.
    Softmax { pixels: usize },
    /// Sum with another value's planes, then an activation.
    Add { other: Vec<usize>, pixels: usize, act: Act },
}

impl Kind {
    /// The filter of a step that has one.
    pub(crate) fn filter_mut(&mut self) -> Option<&mut Filter> {
        match self {
            Kind::Pointwise { filter, .. } | Kind::Dense { filter, .. } => Some(filter),
            _ => None,
        }
    }

    /// Floats of scratch that the step needs.
    fn scratch(&self, inputs: usize) -> usize {
        match self {
            Kind::Dense { win, .. } => win.plane() * inputs,
            Kind::PerChannel { win, .. } => win.plane(),
            Kind::Enlarge { factor, w, .. } => factor * w,
            _ => 0,
        }
    }
}

/// Planes of the output, and how they become the rows of the output tensor.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) planes: Vec<usize>,
    pub(crate) pixels: usize,
}

/// A lowered network with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) input_pixels: usize,
    pub(crate) parts: Vec<Part>,
    /// Whether the output is `[pixel][channel]` rather than `[channel][pixel]`.
    pub(crate) pixel_major: bool,
    pub(crate) arena: Vec<f32>,
    pub(crate) scratch: Vec<f32>,
    arch: Arch,
}

impl Program {
    /// A program whose addresses are final; `arena` is the floats they span.
    pub(crate) fn new(
        steps: Vec<Step>,
        inputs: Vec<usize>,
        input_pixels: usize,
        parts: Vec<Part>,
        pixel_major: bool,
        arena: usize,
    ) -> Self {
        let scratch = steps.iter().map(|s| s.kind.scratch(s.src.len())).max().unwrap_or(0);
        Self {
            steps,
            inputs,
            input_pixels,
            parts,
            pixel_major,
            // Four vectors may be read from the last tap of the last row on.
            arena: vec![0.0; arena + 4 * SLACK],
            scratch: vec![0.0; scratch + 4 * SLACK],
            arch: Arch::new(),
        }
    }

    /// Floats held for activations and scratch.
    pub(crate) fn floats(&self) -> usize {
        self.arena.len() + self.scratch.len()
    }

    /// Copies an image of `[channel][row][column]` into the input planes and computes all steps.
    pub(crate) fn run(&mut self, image: &[f32]) {
        for (plane, at) in image.chunks_exact(self.input_pixels).zip(&self.inputs) {
            self.arena[*at..*at + self.input_pixels].copy_from_slice(plane);
        }
        let Self { steps, arena, scratch, arch, .. } = self;
        arch.dispatch(All { steps, arena, scratch });
    }

    /// Computes the steps one by one and tells `seen` after each; for measuring.
    pub(crate) fn run_steps(&mut self, image: &[f32], mut seen: impl FnMut(usize, &Step)) {
        for (plane, at) in image.chunks_exact(self.input_pixels).zip(&self.inputs) {
            self.arena[*at..*at + self.input_pixels].copy_from_slice(plane);
        }
        let Self { steps, arena, scratch, arch, .. } = self;
        for (i, step) in steps.iter().enumerate() {
            arch.dispatch(All { steps: std::slice::from_ref(step), arena, scratch });
            seen(i, step);
        }
    }

    /// Writes the output in the order of the ONNX output tensor; `out` has its exact length.
    pub(crate) fn write_output(&self, out: &mut [f32]) {
        if self.pixel_major {
            let mut done = 0;
            for part in &self.parts {
                let c = part.planes.len();
                let rows = &mut out[done..done + c * part.pixels];
                // Sixteen pixels at a time, so that each cache line of the planes is read once.
                for (block, chunk) in rows.chunks_mut(16 * c).enumerate() {
                    let count = chunk.len() / c;
                    for (i, at) in part.planes.iter().enumerate() {
                        let plane = &self.arena[at + block * 16..][..count];
                        for (row, v) in chunk.chunks_exact_mut(c).zip(plane) {
                            row[i] = *v;
                        }
                    }
                }
                done += c * part.pixels;
            }
        } else {
            let width: usize = self.parts.iter().map(|p| p.pixels).sum();
            let mut column = 0;
            for part in &self.parts {
                for (i, at) in part.planes.iter().enumerate() {
                    let to = i * width + column;
                    out[to..to + part.pixels].copy_from_slice(&self.arena[*at..at + part.pixels]);
                }
                column += part.pixels;
            }
        }
    }

    /// Floats of the output.
    pub(crate) fn output_len(&self) -> usize {
        self.parts.iter().map(|p| p.planes.len() * p.pixels).sum()
    }
}

struct All<'a> {
    steps: &'a [Step],
    arena: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl WithSimd for All<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { steps, arena, scratch } = self;
        for Step { kind, src, dst } in steps {
            match kind {
                Kind::Pointwise { filter, pixels } => kernels::pointwise(s, filter, src, dst, *pixels, arena),
                Kind::Dense { filter, win, taps } => {
                    kernels::dense(s, filter, win, taps, src, dst, arena, scratch);
                }
                Kind::PerChannel { win, taps, weights, bias, act, combine: Combine::Sum } => {
                    kernels::per_channel::<S, false>(s, win, taps, weights, bias, *act, src, dst, arena, scratch);
                }
                Kind::PerChannel { win, taps, weights, bias, act, combine: Combine::Max } => {
                    kernels::per_channel::<S, true>(s, win, taps, weights, bias, *act, src, dst, arena, scratch);
                }
                Kind::Enlarge { factor, h, w } => kernels::enlarge(*factor, *h, *w, src, dst, arena, scratch),
                Kind::Softmax { pixels } => kernels::softmax(s, src, dst, *pixels, arena),
                Kind::Add { other, pixels, act } => kernels::add(s, *act, src, other, dst, *pixels, arena),
            }
        }
    }
}
