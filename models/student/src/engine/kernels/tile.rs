//! The tiles as the rest of the engine sees them: lengths checked here once, then the kernel for this machine.
//!
//! An integer tile multiplies one chunk of a panel with up to [`COLS`] rows of activations:
//! `total[c][r] += scale[c] * (sum over segments of scales[s][r] * (w . a)  -  sum over j of mins[j][r] * sums[c][j])`
//! where `w . a` is exact in 32-bit integers. The caller of the packer guarantees that it fits (see `pack`).

use super::{CHUNK, PANEL, portable};

/// Most rows of activations that one tile takes: twelve accumulators of eight lanes fill the sixteen registers of AVX2.
pub const COLS: usize = 6;

/// Instruction set of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, whatever the compiler makes of it.
    Portable,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Detected),
    /// NEON, which every aarch64 processor has, for the inner products; the rest is portable.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Proof that the processor was asked.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected(());

impl Isa {
    /// The best instruction set of this machine.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                return Self::Avx2(Detected(()));
            }
        }
        #[cfg(target_arch = "aarch64")]
        return Self::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable
    }

    /// Its name, for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
        }
    }
}

/// How the weights of a panel are stored, chunk by chunk; `k` is the chunk's number of columns, a multiple of 32.
///
/// Integers of a pair of columns lie beside each other: `[pair][row][2]`. *Nibbles* put four pairs into one 16-bit lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// f16 scales `[k/32][16]`, then i8.
    Q8,
    /// f16 `d[16]`, `dmin[16]`, then u8 scales `[8][16]`, u8 minima `[8][16]`, then nibbles; `k` is 256.
    Q4,
    /// f16 `d[16]`, then i8 scales `[16][16]`, then nibbles, then two high bits, eight pairs a lane; `k` is 256.
    Q6,
    /// f32 scales `[k/32][16]`, then i16 of at most 13 bits and a sign.
    I16,
    /// f32 `[column][row]`: no integers, for [`F32Tile`].
    F32,
}

impl Chunk {
    /// Bytes of a chunk of `k` columns.
    #[must_use]
    pub const fn bytes(self, k: usize) -> usize {
        match self {
            Self::Q8 => k / 32 * 2 * PANEL + k * PANEL,
            Self::Q4 => 2 * 2 * PANEL + 2 * 8 * PANEL + CHUNK * PANEL / 2,
            Self::Q6 => 2 * PANEL + 16 * PANEL + CHUNK * PANEL * 3 / 4,
            Self::I16 => k / 32 * 4 * PANEL + 2 * k * PANEL,
            Self::F32 => 4 * k * PANEL,
        }
    }

    /// Columns of a segment. With activations of 13 bits and a sign its products stay below 2^31.
    #[must_use]
    pub const fn segment(self) -> usize {
        match self {
            Self::Q8 | Self::I16 => 32,
            Self::Q4 => CHUNK,
            Self::Q6 => 64,
            Self::F32 => 1,
        }
    }

    /// True if the chunk has minima beside its scales.
    #[must_use]
    pub const fn has_mins(self) -> bool {
        matches!(self, Self::Q4)
    }
}

/// One chunk of a panel, unpacked.
#[derive(Clone, Copy)]
pub struct IntTile<'a> {
    /// `[pair of columns][row][2]`.
    pub ints: &'a [i16],
    /// `[segment][row]`.
    pub scales: &'a [f32],
    /// `[block of 32 columns][row]`, or empty.
    pub mins: &'a [f32],
    /// Columns of a segment.
    pub segment: usize,
}

/// Quantised activations of some rows, at one chunk.
#[derive(Clone, Copy)]
pub struct ActTile<'a> {
    /// Integers from the first row's chunk on; rows `stride` apart.
    pub ints: &'a [i16],
    /// Distance of two rows in `ints`.
    pub stride: usize,
    /// Sums of 32 integers each, from the first row's chunk on; rows `sums_stride` apart.
    pub sums: &'a [f32],
    /// Distance of two rows in `sums`.
    pub sums_stride: usize,
    /// The chunk's scale in the first row; rows `scales_stride` apart.
    pub scales: &'a [f32],
    /// Distance of two rows in `scales`.
    pub scales_stride: usize,
}

/// Sums of one tile: a row of the panel's sixteen for each row of activations.
pub type Totals = [[f32; PANEL]; COLS];

impl Isa {
    /// Adds the products of `tile` with the first `cols` rows of `acts` to `total`.
    ///
    /// # Panics
    /// If a slice is shorter than its shape says.
    pub fn int_tile(self, tile: &IntTile<'_>, acts: &ActTile<'_>, cols: usize, total: &mut Totals) {
        let k = tile.ints.len() / PANEL;
        assert!(k.is_multiple_of(32) && k <= CHUNK && (1..=COLS).contains(&cols));
        assert!(tile.segment.is_multiple_of(32) && k.is_multiple_of(tile.segment));
        assert!(tile.scales.len() >= k / tile.segment * PANEL);
        assert!(tile.mins.is_empty() || tile.mins.len() >= k / 32 * PANEL);
        assert!(acts.ints.len() >= (cols - 1) * acts.stride + k);
        assert!(acts.sums.len() >= (cols - 1) * acts.sums_stride + k / 32);
        assert!(acts.scales.len() > (cols - 1) * acts.scales_stride);
        match self {
            Self::Portable => portable::int_tile(tile, acts, cols, total),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected, and the lengths hold by the assertions above.
            Self::Avx2(_) => unsafe { super::avx2::int_tile(tile, acts, cols, total) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: NEON is part of the target, and the lengths hold by the assertions above.
            Self::Neon => unsafe { super::neon::int_tile(tile, acts, cols, total) },
        }
    }

    /// True if [`Isa::fused_tile`] takes this kind and number of rows.
    #[must_use]
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only AVX2 has fused kernels"))]
    pub fn fuses(self, kind: Chunk, cols: usize) -> bool {
        match self {
            Self::Portable => false,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => false,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => cols <= super::fused::FUSED_COLS && matches!(kind, Chunk::Q8 | Chunk::Q4 | Chunk::Q6),
        }
    }

    /// [`Isa::unpack`] and [`Isa::int_tile`] in one, without a copy of the weights; the same result to the bit. Does
    /// nothing where [`Isa::fuses`] is false.
    ///
    /// # Panics
    /// If a slice is shorter than its shape says.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only AVX2 has fused kernels"))]
    pub fn fused_tile(self, kind: Chunk, k: usize, packed: &[u8], acts: &ActTile<'_>, cols: usize, total: &mut Totals) {
        if !self.fuses(kind, cols) || cols == 0 {
            return;
        }
        assert!(k.is_multiple_of(32) && k <= CHUNK && (k == CHUNK || kind == Chunk::Q8));
        assert!(packed.len() >= kind.bytes(k));
        assert!(acts.ints.len() >= (cols - 1) * acts.stride + k);
        assert!(acts.sums.len() >= (cols - 1) * acts.sums_stride + k / 32);
        assert!(acts.scales.len() > (cols - 1) * acts.scales_stride);
        match self {
            Self::Portable => {}
            #[cfg(target_arch = "aarch64")]
            Self::Neon => {}
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected, and the lengths hold by the assertions above.
            Self::Avx2(_) => unsafe { super::fused::fused_tile(kind, k, packed, acts, cols, total) },
        }
    }

    /// Unpacks a chunk of `k` columns: integers, scales (and minima where the kind has them), as [`IntTile`] wants them.
    ///
    /// # Panics
    /// If a slice is shorter than its shape says, or the kind has no integers.
    pub fn unpack(self, kind: Chunk, k: usize, packed: &[u8], ints: &mut [i16], scales: &mut [f32], mins: &mut [f32]) {
        assert!(k.is_multiple_of(32) && k <= CHUNK && kind != Chunk::F32);
        assert!(k == CHUNK || matches!(kind, Chunk::Q8 | Chunk::I16));
        assert!(packed.len() >= kind.bytes(k) && ints.len() >= k * PANEL);
        assert!(scales.len() >= k / kind.segment() * PANEL && (!kind.has_mins() || mins.len() >= k / 32 * PANEL));
        match self {
            Self::Portable => portable::unpack(kind, k, packed, ints, scales, mins),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => portable::unpack(kind, k, packed, ints, scales, mins),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected, and the lengths hold by the assertions above.
            Self::Avx2(_) => unsafe { super::avx2::unpack(kind, k, packed, ints, scales, mins) },
        }
    }
}

/// A tile in f32: `k` columns of a panel and some rows of activations.
#[derive(Clone, Copy)]
pub struct F32Tile<'a> {
    /// `[column][row]`; columns `step` apart, 16 when they are dense.
    pub weights: &'a [f32],
    /// Activations; rows `stride` apart.
    pub acts: &'a [f32],
    /// Distance of two rows in `acts`.
    pub stride: usize,
    /// Columns.
    pub k: usize,
}

impl Isa {
    /// Adds the products of `tile` with its first `cols` rows of activations to `total`.
    ///
    /// # Panics
    /// If a slice is shorter than its shape says.
    pub fn f32_tile(self, tile: &F32Tile<'_>, cols: usize, total: &mut Totals) {
        assert!((1..=COLS).contains(&cols) && tile.weights.len() >= tile.k * PANEL);
        assert!(tile.acts.len() >= (cols - 1) * tile.stride + tile.k);
        match self {
            Self::Portable => portable::f32_tile(tile, cols, total),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected, and the lengths hold by the assertions above.
            Self::Avx2(_) => unsafe { super::avx2::f32_tile(tile, cols, total) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: NEON is part of the target, and the lengths hold by the assertions above.
            Self::Neon => unsafe { super::neon::f32_tile(tile, cols, total) },
        }
    }

    /// Replaces each value by `e` to its power minus `shift`, and returns their sum. Values far below give zero.
    pub fn exp_sum(self, values: &mut [f32], shift: f32) -> f32 {
        match self {
            Self::Portable => portable::exp_sum(values, shift),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => portable::exp_sum(values, shift),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected.
            Self::Avx2(_) => unsafe { super::avx2::exp_sum(values, shift) },
        }
    }

    /// `gate[i] = silu(gate[i]) * up[i]` over the shorter length.
    pub fn swiglu(self, gate: &mut [f32], up: &[f32]) {
        match self {
            Self::Portable => portable::swiglu(gate, up),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => portable::swiglu(gate, up),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected.
            Self::Avx2(_) => unsafe { super::avx2::swiglu(gate, up) },
        }
    }

    /// GELU by its tanh approximation, in place.
    pub fn gelu_tanh(self, values: &mut [f32]) {
        match self {
            Self::Portable => portable::gelu_tanh(values),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => portable::gelu_tanh(values),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected.
            Self::Avx2(_) => unsafe { super::avx2::gelu_tanh(values) },
        }
    }

    /// Quantises one chunk of activations to 13 bits and a sign, with sums of 32; returns the scale. The length is a
    /// multiple of 32, at most a chunk.
    ///
    /// # Panics
    /// If the outputs are shorter than their shape says.
    pub fn quantise(self, values: &[f32], ints: &mut [i16], sums: &mut [f32]) -> f32 {
        assert!(values.len().is_multiple_of(32) && ints.len() >= values.len() && sums.len() >= values.len() / 32);
        match self {
            Self::Portable => portable::quantise(values, ints, sums),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => portable::quantise(values, ints, sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was detected, and the lengths hold by the assertion above.
            Self::Avx2(_) => unsafe { super::avx2::quantise(values, ints, sums) },
        }
    }
}
