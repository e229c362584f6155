//! The part of the engine that needs `unsafe`: vector instructions, and memory shared between threads.
//!
//! Terms: a *panel* is sixteen rows of a weight matrix, interleaved by pairs of columns (by single columns in f32); a
//! *chunk* is up to 256 columns of a panel; a *segment* is the run of columns whose integer products are summed before
//! they become a float. Everything exported here is safe: lengths are asserted before a pointer is formed, and the
//! instruction set is the one that was detected. Each kernel has a portable twin that computes the same sums in the
//! same order; the integer kernels agree with it to the bit. Never allocates while computing.
#![allow(
    unsafe_code,
    reason = "vector intrinsics and disjoint writes from several threads; each block says why it is sound"
)]

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod fused;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pool;
mod portable;
mod share;
#[cfg(test)]
mod tests;
mod tile;

pub use aligned::Aligned;
pub use pool::Pool;
pub use share::{Cut, RowsMut, StripMut, Strips};
pub use tile::{ActTile, COLS, Chunk, F32Tile, IntTile, Isa, Totals};

/// Rows of one panel.
pub const PANEL: usize = 16;
/// Columns of one chunk: activations and the K-quants have one scale for as many.
pub const CHUNK: usize = 256;
