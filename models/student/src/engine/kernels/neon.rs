//! The inner products with NEON, which every aarch64 processor has. Lengths are those that `tile` asserts.
//!
//! Sums are taken in the order of the portable twins, so the bits are the same. What is not here (unpacking, quantising,
//! activation functions) is the portable code, which the compiler vectorises for NEON as it can.

use std::arch::aarch64::*;

use super::PANEL;
use super::tile::{ActTile, COLS, F32Tile, IntTile, Totals};

/// Vectors of four lanes in a panel.
const QUADS: usize = PANEL / 4;

/// Calls the function with the number of rows as a constant, so that its accumulators are registers: four for each row,
/// 24 of the 32 for the most.
macro_rules! by_cols {
    ($cols:expr, $call:ident($($arg:expr),*)) => {
        match $cols {
            1 => $call::<1>($($arg),*),
            2 => $call::<2>($($arg),*),
            3 => $call::<3>($($arg),*),
            4 => $call::<4>($($arg),*),
            5 => $call::<5>($($arg),*),
            _ => $call::<COLS>($($arg),*),
        }
    };
}

/// # Safety
/// Lengths as `Isa::int_tile` asserts them.
pub(super) unsafe fn int_tile(tile: &IntTile<'_>, acts: &ActTile<'_>, cols: usize, total: &mut Totals) {
    // SAFETY: the caller's promise is passed on.
    unsafe { by_cols!(cols, int_cols(tile, acts, total)) }
}

/// # Safety
/// As [`int_tile`], for `C` rows of activations.
unsafe fn int_cols<const C: usize>(tile: &IntTile<'_>, acts: &ActTile<'_>, total: &mut Totals) {
    let pairs = tile.segment / 2;
    let segments = tile.ints.len() / PANEL / tile.segment;
    // SAFETY: all offsets stay below `segments * segment` columns of the panel and of C rows of activations, and below
    // as many scales; a block of 32 columns has one row of minima and one sum; C is at most COLS.
    unsafe {
        let mut part = [[vdupq_n_f32(0.0); QUADS]; C];
        let mut w = tile.ints.as_ptr();
        let mut a = acts.ints.as_ptr();
        for s in 0..segments {
            let mut sum = [[vdupq_n_s32(0); QUADS]; C];
            for _ in 0..pairs {
                // The two columns of a pair, each for eight rows.
                let (upper, lower) = (vld2q_s16(w), vld2q_s16(w.add(PANEL)));
                for (c, sum) in sum.iter_mut().enumerate() {
                    let pair = a.add(c * acts.stride);
                    for (column, value) in [(0, *pair), (1, *pair.add(1))] {
                        let (upper, lower) = match column {
                            0 => (upper.0, lower.0),
                            _ => (upper.1, lower.1),
                        };
                        sum[0] = vmlal_n_s16(sum[0], vget_low_s16(upper), value);
                        sum[1] = vmlal_high_n_s16(sum[1], upper, value);
                        sum[2] = vmlal_n_s16(sum[2], vget_low_s16(lower), value);
                        sum[3] = vmlal_high_n_s16(sum[3], lower, value);
                    }
                }
                w = w.add(2 * PANEL);
                a = a.add(2);
            }
            for q in 0..QUADS {
                let scales = vld1q_f32(tile.scales.as_ptr().add(s * PANEL + 4 * q));
                for (part, sum) in part.iter_mut().zip(&sum) {
                    part[q] = vfmaq_f32(part[q], vcvtq_f32_s32(sum[q]), scales);
                }
            }
        }
        if !tile.mins.is_empty() {
            for j in 0..tile.ints.len() / PANEL / 32 {
                for q in 0..QUADS {
                    let mins = vld1q_f32(tile.mins.as_ptr().add(j * PANEL + 4 * q));
                    for (c, part) in part.iter_mut().enumerate() {
                        part[q] = vfmsq_n_f32(part[q], mins, *acts.sums.as_ptr().add(c * acts.sums_stride + j));
                    }
                }
            }
        }
        for (c, part) in part.iter().enumerate() {
            let scale = *acts.scales.as_ptr().add(c * acts.scales_stride);
            for (q, part) in part.iter().enumerate() {
                let at = total[c].as_mut_ptr().add(4 * q);
                vst1q_f32(at, vfmaq_n_f32(vld1q_f32(at), *part, scale));
            }
        }
    }
}

/// # Safety
/// Lengths as `Isa::f32_tile` asserts them.
pub(super) unsafe fn f32_tile(tile: &F32Tile<'_>, cols: usize, total: &mut Totals) {
    // SAFETY: the caller's promise is passed on.
    unsafe { by_cols!(cols, f32_cols(tile, total)) }
}

/// # Safety
/// As [`f32_tile`], for `C` rows of activations.
unsafe fn f32_cols<const C: usize>(tile: &F32Tile<'_>, total: &mut Totals) {
    // SAFETY: offsets stay below `k` columns of the panel, of C rows of activations, and of C rows of totals.
    unsafe {
        let mut sum = [[vdupq_n_f32(0.0); QUADS]; C];
        for (sum, total) in sum.iter_mut().zip(total.iter()) {
            for (q, sum) in sum.iter_mut().enumerate() {
                *sum = vld1q_f32(total.as_ptr().add(4 * q));
            }
        }
        let mut w = tile.weights.as_ptr();
        let mut a = tile.acts.as_ptr();
        for _ in 0..tile.k {
            let weights = [vld1q_f32(w), vld1q_f32(w.add(4)), vld1q_f32(w.add(8)), vld1q_f32(w.add(12))];
            for (c, sum) in sum.iter_mut().enumerate() {
                let value = *a.add(c * tile.stride);
                for (sum, weights) in sum.iter_mut().zip(weights) {
                    *sum = vfmaq_n_f32(*sum, weights, value);
                }
            }
            w = w.add(PANEL);
            a = a.add(1);
        }
        for (sum, total) in sum.iter().zip(total.iter_mut()) {
            for (q, sum) in sum.iter().enumerate() {
                vst1q_f32(total.as_mut_ptr().add(4 * q), *sum);
            }
        }
    }
}
