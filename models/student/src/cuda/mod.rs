//! The student on an NVIDIA GPU with our own kernels: the language half and the vision tower.
//!
//! Terms as in `cuda/kernels.cu`, which also has the layouts: weights stay quantised, in *tiles* of 16 rows; a *pass* is
//! one walk of some rows through all blocks. Few rows (a step of decoding) read every weight once on the tensor cores and
//! run as one recorded graph; many rows (the prefix, a frame's patches) unpack one matrix at a time to f16 and leave the
//! product to cuBLAS. Streams are f32, factors f16, sums f32. All memory is taken at load.

mod gpu;
mod language;
mod matrix;
mod passes;
mod vision;

pub use gpu::Gpu;
pub use language::CudaLanguage;
pub use vision::CudaVision;

use crate::shape::{TextShape, VisionShape};

/// Why the kernels do not take these sizes; candle does then.
#[must_use]
pub fn refuses(text: &TextShape, vision: &VisionShape) -> Option<&'static str> {
    let head = |width: usize| width.is_multiple_of(8) && width <= 128;
    if !text.hidden.is_multiple_of(32) || !text.ffn.is_multiple_of(32) {
        return Some("widths of the language half are not multiples of 32");
    }
    if !text.head_dim().is_multiple_of(16) {
        return Some("heads of the language half are no multiple of 16 wide");
    }
    if !head(text.head_dim()) || !head(vision.head_dim()) {
        return Some("heads are no multiple of 8 wide, or wider than 128");
    }
    None
}

/// Name of the attention kernel for heads of a width: they are padded with zeros to the next one that there is.
fn attend_of(kernels: &gpu::Kernels, head_dim: usize) -> gpu::Function {
    match head_dim {
        0..=64 => kernels.attend_64,
        65..=80 => kernels.attend_80,
        _ => kernels.attend_128,
    }
}
