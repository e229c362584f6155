//! One or two rows of activations straight over packed weights, with AVX2: decoding reads each weight once, so what
//! counts is the work for a weight. No unpacked copy is written, and Q4_K's nibbles are mostly not even shifted: the
//! products of a nibble that stands `4t` bits up are summed apart and shifted back at the end, which is exact.
//!
//! The sums are the same integers, and enter the floats in the same order, as `unpack` and `int_tile` give.

#![allow(clippy::needless_range_loop, reason = "the columns index several arrays at once and must unroll")]

use std::arch::x86_64::*;

use super::avx2::{ahead, bytes_i, bytes_u, finish_half, halves, sixes};
use super::tile::{ActTile, Chunk, Totals};
use super::{CHUNK, PANEL};

/// Most rows of activations.
pub(super) const FUSED_COLS: usize = 2;

/// # Safety
/// AVX2, FMA, F16C; lengths as `Isa::fused_tile` asserts them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn fused_tile(
    kind: Chunk,
    k: usize,
    packed: &[u8],
    acts: &ActTile<'_>,
    cols: usize,
    total: &mut Totals,
) {
    let from = packed.as_ptr();
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match (kind, cols) {
            (Chunk::Q8, 1) => q8::<1>(from, k, acts, total),
            (Chunk::Q8, _) => q8::<2>(from, k, acts, total),
            (Chunk::Q4, 1) => q4::<1>(from, acts, total),
            (Chunk::Q4, _) => q4::<2>(from, acts, total),
            (Chunk::Q6, 1) => q6::<1>(from, acts, total),
            (Chunk::Q6, _) => q6::<2>(from, acts, total),
            (Chunk::I16 | Chunk::F32, _) => {}
        }
    }
}

/// Two neighbouring activations in all lanes.
///
/// # Safety
/// `column + 2` integers of row `c` are readable.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn pair(acts: &ActTile<'_>, c: usize, column: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_set1_epi32(acts.ints.as_ptr().add(c * acts.stride + column).cast::<i32>().read_unaligned()) }
}

/// # Safety
/// As [`fused_tile`], a Q8 chunk of `k` columns and `C` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q8<const C: usize>(from: *const u8, k: usize, acts: &ActTile<'_>, total: &mut Totals) {
    let (mut part, zero) = ([[_mm256_setzero_ps(); C]; 2], _mm256_setzero_si256());
    // SAFETY: `k / 32` rows of sixteen scales come first, then 32 bytes for each pair of columns.
    unsafe {
        let quants = from.add(k / 32 * 2 * PANEL);
        for s in 0..k / 32 {
            let (mut lows, mut highs) = ([zero; C], [zero; C]);
            for p in 16 * s..16 * s + 16 {
                let at = quants.add(p * 2 * PANEL);
                if p % 2 == 0 {
                    ahead(at);
                }
                let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()));
                let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(16).cast()));
                for (c, (lows, highs)) in lows.iter_mut().zip(&mut highs).enumerate() {
                    let a = pair(acts, c, 2 * p);
                    *lows = _mm256_add_epi32(*lows, _mm256_madd_epi16(low, a));
                    *highs = _mm256_add_epi32(*highs, _mm256_madd_epi16(high, a));
                }
            }
            for (h, (part, sums)) in part.iter_mut().zip([lows, highs]).enumerate() {
                let scale = halves(from.add(s * 2 * PANEL + 16 * h));
                for (part, sum) in part.iter_mut().zip(sums) {
                    *part = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, *part);
                }
            }
        }
        for (h, part) in part.iter().enumerate() {
            finish_half(acts, part, h, total);
        }
    }
}

/// # Safety
/// As [`fused_tile`], a Q4 chunk and `C` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q4<const C: usize>(from: *const u8, acts: &ActTile<'_>, total: &mut Totals) {
    let zero = _mm256_setzero_si256();
    for h in 0..2 {
        let mut whole = [zero; C];
        // SAFETY: 64 bytes of scales, then 8 rows of 16 factors, then as many minima, then 8 x 4 groups of 64 bytes.
        unsafe {
            for j in 0..8 {
                let mut sums = [[zero; 3]; C];
                for group in 4 * j..4 * j + 4 {
                    let at = from.add(20 * PANEL + group * 64 + 32 * h);
                    if h == 0 {
                        ahead(at);
                    }
                    let four = _mm256_loadu_si256(at.cast());
                    let first = _mm256_and_si256(four, _mm256_set1_epi16(0x00f));
                    let second = _mm256_and_si256(four, _mm256_set1_epi16(0x0f0));
                    let third = _mm256_and_si256(four, _mm256_set1_epi16(0xf00));
                    let fourth = _mm256_srli_epi16::<12>(four);
                    for (c, sums) in sums.iter_mut().enumerate() {
                        let at = |t: usize| pair(acts, c, group * 8 + 2 * t);
                        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(first, at(0)));
                        sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(second, at(1)));
                        sums[2] = _mm256_add_epi32(sums[2], _mm256_madd_epi16(third, at(2)));
                        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(fourth, at(3)));
                    }
                }
                let factor = bytes_u(from.add(4 * PANEL + j * PANEL + 8 * h));
                for (whole, sums) in whole.iter_mut().zip(&sums) {
                    let shifted = _mm256_add_epi32(_mm256_srai_epi32::<4>(sums[1]), _mm256_srai_epi32::<8>(sums[2]));
                    let sum = _mm256_add_epi32(sums[0], shifted);
                    *whole = _mm256_add_epi32(*whole, _mm256_mullo_epi32(sum, factor));
                }
            }
            let (scale, step) = (halves(from.add(16 * h)), halves(from.add(2 * PANEL + 16 * h)));
            let mut part = [_mm256_setzero_ps(); C];
            for (part, whole) in part.iter_mut().zip(whole) {
                *part = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), scale, *part);
            }
            for j in 0..8 {
                let min = _mm256_cvtepi32_ps(bytes_u(from.add(12 * PANEL + j * PANEL + 8 * h)));
                let min = _mm256_mul_ps(step, min);
                for (c, part) in part.iter_mut().enumerate() {
                    let sum = _mm256_set1_ps(*acts.sums.as_ptr().add(c * acts.sums_stride + j));
                    *part = _mm256_fnmadd_ps(min, sum, *part);
                }
            }
            finish_half(acts, &part, h, total);
        }
    }
}

/// # Safety
/// As [`fused_tile`], a Q6 chunk and `C` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q6<const C: usize>(from: *const u8, acts: &ActTile<'_>, total: &mut Totals) {
    for h in 0..2 {
        let mut part = [_mm256_setzero_ps(); C];
        // SAFETY: 32 bytes of scales, then 16 rows of 16 factors, then the bits of 16 groups of 16 columns.
        unsafe {
            let scale = halves(from.add(16 * h));
            for segment in 0..CHUNK / 64 {
                let mut whole = [_mm256_setzero_si256(); C];
                for group in 4 * segment..4 * segment + 4 {
                    let mut sum = [_mm256_setzero_si256(); C];
                    if h == 0 {
                        (0..3).for_each(|line| ahead(from.add(18 * PANEL + group * 192 + 64 * line)));
                    }
                    for (t, w) in sixes(from, group, h).into_iter().enumerate() {
                        for (c, sum) in sum.iter_mut().enumerate() {
                            let a = pair(acts, c, group * 16 + 2 * t);
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(w, a));
                        }
                    }
                    let factor = bytes_i(from.add(2 * PANEL + group * PANEL + 8 * h));
                    for (whole, sum) in whole.iter_mut().zip(sum) {
                        *whole = _mm256_add_epi32(*whole, _mm256_mullo_epi32(sum, factor));
                    }
                }
                for (part, whole) in part.iter_mut().zip(whole) {
                    *part = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), scale, *part);
                }
            }
            finish_half(acts, &part, h, total);
        }
    }
}
