//! The kernels with AVX2, FMA and F16C. Every function wants those three and the lengths that `tile` asserts.

use std::arch::x86_64::*;

use super::portable::{GELU, steps};
use super::tile::{ActTile, COLS, Chunk, F32Tile, IntTile, Totals};
use super::{CHUNK, PANEL};

/// Calls the function with the number of rows as a constant, so that its accumulators are registers.
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
/// AVX2, FMA, F16C; lengths as `Isa::int_tile` asserts them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn int_tile(tile: &IntTile<'_>, acts: &ActTile<'_>, cols: usize, total: &mut Totals) {
    // SAFETY: the caller's promise is passed on.
    unsafe { by_cols!(cols, int_cols(tile, acts, total)) }
}

/// # Safety
/// As [`int_tile`], for `C` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn int_cols<const C: usize>(tile: &IntTile<'_>, acts: &ActTile<'_>, total: &mut Totals) {
    let pairs = tile.segment / 2;
    let segments = tile.ints.len() / PANEL / tile.segment;
    let mut part = [[_mm256_setzero_ps(); 2]; C];
    // SAFETY: all offsets stay below `segments * segment` columns of the panel and of C rows of activations, and
    // below as many scales; unaligned loads are used throughout.
    unsafe {
        let mut w = tile.ints.as_ptr();
        let mut a = acts.ints.as_ptr();
        for s in 0..segments {
            let mut sum = [[_mm256_setzero_si256(); 2]; C];
            for _ in 0..pairs {
                let (low, high) = (_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(16).cast()));
                for (c, sum) in sum.iter_mut().enumerate() {
                    let pair = _mm256_set1_epi32(a.add(c * acts.stride).cast::<i32>().read_unaligned());
                    sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(low, pair));
                    sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(high, pair));
                }
                w = w.add(2 * PANEL);
                a = a.add(2);
            }
            let scales = tile.scales.as_ptr().add(s * PANEL);
            let scales = [_mm256_loadu_ps(scales), _mm256_loadu_ps(scales.add(8))];
            for c in 0..C {
                for h in 0..2 {
                    part[c][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[c][h]), scales[h], part[c][h]);
                }
            }
        }
        if !tile.mins.is_empty() {
            minima::<C>(tile, acts, &mut part);
        }
        finish::<C>(acts, &part, total);
    }
}

/// Subtracts the minima times the sums of the activations.
///
/// # Safety
/// As [`int_tile`], and `tile.mins` is not empty.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn minima<const C: usize>(tile: &IntTile<'_>, acts: &ActTile<'_>, part: &mut [[__m256; 2]; C]) {
    for j in 0..tile.ints.len() / PANEL / 32 {
        // SAFETY: j counts blocks of 32 columns, of which minima and sums have one row and one number each.
        unsafe {
            let mins = tile.mins.as_ptr().add(j * PANEL);
            let mins = [_mm256_loadu_ps(mins), _mm256_loadu_ps(mins.add(8))];
            for (c, part) in part.iter_mut().enumerate() {
                let sum = _mm256_set1_ps(*acts.sums.as_ptr().add(c * acts.sums_stride + j));
                part[0] = _mm256_fnmadd_ps(mins[0], sum, part[0]);
                part[1] = _mm256_fnmadd_ps(mins[1], sum, part[1]);
            }
        }
    }
}

/// Adds the chunk, scaled by its activations, to the totals.
///
/// # Safety
/// As [`int_tile`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn finish<const C: usize>(acts: &ActTile<'_>, part: &[[__m256; 2]; C], total: &mut Totals) {
    for (c, part) in part.iter().enumerate() {
        // SAFETY: C is at most COLS, a row of totals is two vectors, and there is a scale for each row.
        unsafe {
            let scale = _mm256_set1_ps(*acts.scales.as_ptr().add(c * acts.scales_stride));
            let at = total[c].as_mut_ptr();
            _mm256_storeu_ps(at, _mm256_fmadd_ps(part[0], scale, _mm256_loadu_ps(at)));
            let at = at.add(8);
            _mm256_storeu_ps(at, _mm256_fmadd_ps(part[1], scale, _mm256_loadu_ps(at)));
        }
    }
}

/// The same for half `h` of the rows of the panel.
///
/// # Safety
/// As [`int_tile`]; `C` is at most `COLS`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) unsafe fn finish_half<const C: usize>(acts: &ActTile<'_>, part: &[__m256; C], h: usize, total: &mut Totals) {
    for (c, part) in part.iter().enumerate() {
        // SAFETY: as in `finish`; h is 0 or 1.
        unsafe {
            let scale = _mm256_set1_ps(*acts.scales.as_ptr().add(c * acts.scales_stride));
            let at = total[c].as_mut_ptr().add(8 * h);
            _mm256_storeu_ps(at, _mm256_fmadd_ps(*part, scale, _mm256_loadu_ps(at)));
        }
    }
}

/// # Safety
/// AVX2, FMA, F16C; lengths as `Isa::f32_tile` asserts them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn f32_tile(tile: &F32Tile<'_>, cols: usize, total: &mut Totals) {
    // SAFETY: the caller's promise is passed on.
    unsafe { by_cols!(cols, f32_cols(tile, total)) }
}

/// # Safety
/// As [`f32_tile`], for `C` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f32_cols<const C: usize>(tile: &F32Tile<'_>, total: &mut Totals) {
    // SAFETY: offsets stay below `k` columns of the panel, of C rows of activations, and of C rows of totals.
    unsafe {
        let mut sum = [[_mm256_setzero_ps(); 2]; C];
        for (c, sum) in sum.iter_mut().enumerate() {
            *sum = [_mm256_loadu_ps(total[c].as_ptr()), _mm256_loadu_ps(total[c].as_ptr().add(8))];
        }
        let mut w = tile.weights.as_ptr();
        let mut a = tile.acts.as_ptr();
        for _ in 0..tile.k {
            let (low, high) = (_mm256_loadu_ps(w), _mm256_loadu_ps(w.add(8)));
            for (c, sum) in sum.iter_mut().enumerate() {
                let value = _mm256_set1_ps(*a.add(c * tile.stride));
                sum[0] = _mm256_fmadd_ps(low, value, sum[0]);
                sum[1] = _mm256_fmadd_ps(high, value, sum[1]);
            }
            w = w.add(PANEL);
            a = a.add(1);
        }
        for (c, sum) in sum.iter().enumerate() {
            _mm256_storeu_ps(total[c].as_mut_ptr(), sum[0]);
            _mm256_storeu_ps(total[c].as_mut_ptr().add(8), sum[1]);
        }
    }
}

/// # Safety
/// AVX2, FMA, F16C; lengths as `Isa::unpack` asserts them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn unpack(
    kind: Chunk,
    k: usize,
    packed: &[u8],
    ints: &mut [i16],
    scales: &mut [f32],
    mins: &mut [f32],
) {
    let (from, to) = (packed.as_ptr(), ints.as_mut_ptr());
    // SAFETY: the offsets are those of the layouts in `Chunk`, whose sizes the caller has checked.
    unsafe {
        match kind {
            Chunk::Q8 => {
                let heads = k / 32 * PANEL;
                for i in (0..heads).step_by(8) {
                    _mm256_storeu_ps(scales.as_mut_ptr().add(i), halves(from.add(2 * i)));
                }
                let quants = from.add(2 * heads);
                for i in (0..k * PANEL).step_by(16) {
                    if i % 64 == 0 {
                        ahead(quants.add(i));
                    }
                    let wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(quants.add(i).cast()));
                    _mm256_storeu_si256(to.add(i).cast(), wide);
                }
            }
            Chunk::Q4 => {
                for h in 0..2 {
                    _mm256_storeu_ps(scales.as_mut_ptr().add(8 * h), halves(from.add(16 * h)));
                    let step = halves(from.add(2 * PANEL + 16 * h));
                    for j in 0..8 {
                        let at = j * PANEL + 8 * h;
                        let min = _mm256_cvtepi32_ps(bytes_u(from.add(12 * PANEL + at)));
                        _mm256_storeu_ps(mins.as_mut_ptr().add(at), _mm256_mul_ps(step, min));
                    }
                    unpack_nibbles(from, h, to);
                }
            }
            Chunk::Q6 => {
                for h in 0..2 {
                    let scale = halves(from.add(16 * h));
                    for segment in 0..4 {
                        _mm256_storeu_ps(scales.as_mut_ptr().add(segment * PANEL + 8 * h), scale);
                    }
                    unpack_sixes(from, h, to);
                }
            }
            Chunk::I16 => {
                let heads = k / 32 * PANEL;
                std::ptr::copy_nonoverlapping(from, scales.as_mut_ptr().cast(), 4 * heads);
                std::ptr::copy_nonoverlapping(from.add(4 * heads), to.cast(), 2 * k * PANEL);
            }
            Chunk::F32 => {}
        }
    }
}

/// Bytes between what is read and what is asked for: about the latency of main memory at its bandwidth.
const AHEAD: usize = 4096;

/// Asks for the cache line `AHEAD` of `at`; that it may lie past the weights does no harm.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn ahead(at: *const u8) {
    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
}

/// Eight f16 as f32.
///
/// # Safety
/// 16 bytes are readable.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) unsafe fn halves(from: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
}

/// Eight bytes as i32.
///
/// # Safety
/// 8 bytes are readable.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) unsafe fn bytes_u(from: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
}

/// Eight signed bytes as i32.
///
/// # Safety
/// 8 bytes are readable.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) unsafe fn bytes_i(from: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())) }
}

/// The low half of each 32-bit lane in both of its halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn twice(x: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32::<16>(x))
}

/// Four pairs of nibbles, one pair a lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn nibbles(four: __m256i) -> [__m256i; 4] {
    let mask = _mm256_set1_epi16(15);
    [
        _mm256_and_si256(four, mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(four), mask),
        _mm256_and_si256(_mm256_srli_epi16::<8>(four), mask),
        _mm256_srli_epi16::<12>(four),
    ]
}

/// Half `h` of the rows of a [`Chunk::Q4`], times its factors.
///
/// # Safety
/// `from` is a whole chunk, `to` has room for its integers.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_nibbles(from: *const u8, h: usize, to: *mut i16) {
    for j in 0..8 {
        // SAFETY: 64 bytes of scales, then 8 rows of 16 factors, then as many minima, then 8 x 4 groups of 64 bytes.
        unsafe {
            let factor = twice(bytes_u(from.add(4 * PANEL + j * PANEL + 8 * h)));
            for group in 4 * j..4 * j + 4 {
                let at = from.add(20 * PANEL + group * 64 + 32 * h);
                if h == 0 {
                    ahead(at);
                }
                let four = _mm256_loadu_si256(at.cast());
                for (t, pair) in nibbles(four).into_iter().enumerate() {
                    let at = to.add((group * 4 + t) * 2 * PANEL + 16 * h);
                    _mm256_storeu_si256(at.cast(), _mm256_mullo_epi16(pair, factor));
                }
            }
        }
    }
}

/// Eight pairs of a [`Chunk::Q6`], minus 32.
///
/// # Safety
/// `from` is a whole chunk and `group` below 16.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) unsafe fn sixes(from: *const u8, group: usize, h: usize) -> [__m256i; 8] {
    // SAFETY: 32 bytes of scales and 256 of factors come before 32 groups of 64 bytes of nibbles and 16 of high bits.
    let (low, more, high) = unsafe {
        let low = from.add(18 * PANEL + group * 128 + 32 * h);
        let high = from.add(18 * PANEL + CHUNK * PANEL / 2 + group * 64 + 32 * h);
        (_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(low.add(64).cast()), _mm256_loadu_si256(high.cast()))
    };
    let (low, more) = (nibbles(low), nibbles(more));
    let mask = _mm256_set1_epi16(0x30);
    let offset = _mm256_set1_epi16(32);
    let two = [
        _mm256_and_si256(_mm256_slli_epi16::<4>(high), mask),
        _mm256_and_si256(_mm256_slli_epi16::<2>(high), mask),
        _mm256_and_si256(high, mask),
        _mm256_and_si256(_mm256_srli_epi16::<2>(high), mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(high), mask),
        _mm256_and_si256(_mm256_srli_epi16::<6>(high), mask),
        _mm256_and_si256(_mm256_srli_epi16::<8>(high), mask),
        _mm256_and_si256(_mm256_srli_epi16::<10>(high), mask),
    ];
    let mut all = [_mm256_setzero_si256(); 8];
    for t in 0..4 {
        all[t] = _mm256_sub_epi16(_mm256_or_si256(low[t], two[t]), offset);
        all[t + 4] = _mm256_sub_epi16(_mm256_or_si256(more[t], two[t + 4]), offset);
    }
    all
}

/// Half `h` of the rows of a [`Chunk::Q6`], times its factors.
///
/// # Safety
/// `from` is a whole chunk, `to` has room for its integers.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_sixes(from: *const u8, h: usize, to: *mut i16) {
    for group in 0..16 {
        // SAFETY: 32 bytes of scales, then 16 rows of 16 factors; 8 pairs of integers for each group.
        unsafe {
            if h == 0 {
                (0..3).for_each(|line| ahead(from.add(18 * PANEL + group * 192 + 64 * line)));
            }
            let factor = twice(bytes_i(from.add(2 * PANEL + group * PANEL + 8 * h)));
            for (t, pair) in sixes(from, group, h).into_iter().enumerate() {
                let at = to.add((group * 8 + t) * 2 * PANEL + 16 * h);
                _mm256_storeu_si256(at.cast(), _mm256_mullo_epi16(pair, factor));
            }
        }
    }
}

/// e to the power of each lane; zero below -87, where f32 leaves its normal numbers. Relative error about 2e-7 (the
/// polynomial of the Cephes library).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn exp(x: __m256) -> __m256 {
    let low = _mm256_set1_ps(-87.0);
    let small = _mm256_cmp_ps::<_CMP_LT_OQ>(x, low);
    let x = _mm256_min_ps(_mm256_set1_ps(88.0), _mm256_max_ps(low, x)); // the operand order keeps NaN
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        x,
        _mm256_set1_ps(std::f32::consts::LOG2_E),
    ));
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
    let mut y = _mm256_set1_ps(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(c));
    }
    y = _mm256_fmadd_ps(_mm256_mul_ps(y, r), r, _mm256_add_ps(r, _mm256_set1_ps(1.0)));
    let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
    _mm256_andnot_ps(small, _mm256_mul_ps(y, _mm256_castsi256_ps(power)))
}

/// The sum of the eight lanes, always in the same order.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn lanes_sum(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// # Safety
/// AVX2, FMA, F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    let (blocks, rest) = values.as_chunks_mut::<8>();
    let mut sum = _mm256_setzero_ps();
    for block in blocks {
        // SAFETY: the block is eight floats.
        unsafe {
            let power = exp(_mm256_sub_ps(_mm256_loadu_ps(block.as_ptr()), _mm256_set1_ps(shift)));
            _mm256_storeu_ps(block.as_mut_ptr(), power);
            sum = _mm256_add_ps(sum, power);
        }
    }
    lanes_sum(sum) + super::portable::exp_sum(rest, shift)
}

/// # Safety
/// AVX2, FMA, F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn swiglu(gate: &mut [f32], up: &[f32]) {
    let one = _mm256_set1_ps(1.0);
    let ((gates, gate), (ups, up)) = (gate.as_chunks_mut::<8>(), up.as_chunks::<8>());
    for (gate, up) in gates.iter_mut().zip(ups) {
        // SAFETY: both blocks are eight floats.
        unsafe {
            let x = _mm256_loadu_ps(gate.as_ptr());
            let below = _mm256_add_ps(one, exp(_mm256_sub_ps(_mm256_setzero_ps(), x)));
            let y = _mm256_mul_ps(_mm256_div_ps(x, below), _mm256_loadu_ps(up.as_ptr()));
            _mm256_storeu_ps(gate.as_mut_ptr(), y);
        }
    }
    super::portable::swiglu(gate, up);
}

/// # Safety
/// AVX2, FMA, F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gelu_tanh(values: &mut [f32]) {
    let one = _mm256_set1_ps(1.0);
    let (blocks, rest) = values.as_chunks_mut::<8>();
    for block in blocks {
        // SAFETY: the block is eight floats. (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
        unsafe {
            let x = _mm256_loadu_ps(block.as_ptr());
            let square = _mm256_mul_ps(x, x);
            let inner = _mm256_fmadd_ps(square, _mm256_set1_ps(GELU.0 * GELU.1), _mm256_set1_ps(GELU.0));
            let power = exp(_mm256_mul_ps(_mm256_set1_ps(-2.0), _mm256_mul_ps(x, inner)));
            _mm256_storeu_ps(block.as_mut_ptr(), _mm256_div_ps(x, _mm256_add_ps(one, power)));
        }
    }
    super::portable::gelu_tanh(rest);
}

/// # Safety
/// AVX2, FMA, F16C; lengths as `Isa::quantise` asserts them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quantise(values: &[f32], ints: &mut [i16], sums: &mut [f32]) -> f32 {
    let sign = _mm256_set1_ps(-0.0);
    let mut most = _mm256_setzero_ps();
    let mut bad = _mm256_setzero_ps();
    for block in values.as_chunks::<8>().0 {
        // SAFETY: the block is eight floats.
        let x = unsafe { _mm256_andnot_ps(sign, _mm256_loadu_ps(block.as_ptr())) };
        most = _mm256_max_ps(x, most);
        bad = _mm256_or_ps(bad, _mm256_cmp_ps::<_CMP_NLT_UQ>(x, _mm256_set1_ps(f32::INFINITY)));
    }
    let mut lanes = [0.0_f32; 8];
    // SAFETY: `lanes` is eight floats.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), most) };
    let (scale, inverse) =
        steps(lanes.iter().fold(0.0_f32, |most, lane| most.max(*lane)), _mm256_movemask_ps(bad) == 0);
    let (step, ones) = (_mm256_set1_ps(inverse), _mm256_set1_epi16(1));
    for (i, block) in values.as_chunks::<32>().0.iter().enumerate() {
        // SAFETY: the block is 32 floats; `ints` holds as many and `sums` one for each block.
        unsafe {
            let at = |j: usize| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(block.as_ptr().add(8 * j)), step));
            let first = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(at(0), at(1)));
            let second = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(at(2), at(3)));
            let to = ints.as_mut_ptr().add(32 * i);
            _mm256_storeu_si256(to.cast(), first);
            _mm256_storeu_si256(to.add(16).cast(), second);
            let sum = _mm256_add_epi32(_mm256_madd_epi16(first, ones), _mm256_madd_epi16(second, ones));
            let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
            let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two));
            *sums.as_mut_ptr().add(i) = _mm_cvtsi128_si32(one) as f32;
        }
    }
    scale
}
