//! The kernels in plain, safe Rust: the reference of the tests, and what runs where no better one is.

use half::f16;

use super::tile::{ActTile, Chunk, F32Tile, IntTile, Totals};
use super::{CHUNK, PANEL};

pub(super) fn int_tile(tile: &IntTile<'_>, acts: &ActTile<'_>, cols: usize, total: &mut Totals) {
    let k = tile.ints.len() / PANEL;
    for (c, total) in total.iter_mut().enumerate().take(cols) {
        let a = &acts.ints[c * acts.stride..][..k];
        let sums = &acts.sums[c * acts.sums_stride..];
        let mut part = [0.0_f32; PANEL];
        for (s, scales) in tile.scales.chunks_exact(PANEL).enumerate().take(k / tile.segment) {
            let mut sum = [0_i32; PANEL];
            let from = s * tile.segment;
            let pairs = tile.ints[from * PANEL..(from + tile.segment) * PANEL].chunks_exact(2 * PANEL);
            for (w, a) in pairs.zip(a[from..].chunks_exact(2)) {
                for (sum, w) in sum.iter_mut().zip(w.chunks_exact(2)) {
                    // Wrapping as the vector instructions do; the packer sees to it that nothing wraps.
                    let pair = i32::from(w[0]) * i32::from(a[0]) + i32::from(w[1]) * i32::from(a[1]);
                    *sum = sum.wrapping_add(pair);
                }
            }
            for ((part, sum), scale) in part.iter_mut().zip(sum).zip(scales) {
                *part = (sum as f32).mul_add(*scale, *part);
            }
        }
        for (mins, sum) in tile.mins.chunks_exact(PANEL).zip(sums).take(k / 32) {
            for (part, min) in part.iter_mut().zip(mins) {
                *part = (-min).mul_add(*sum, *part);
            }
        }
        let scale = acts.scales[c * acts.scales_stride];
        for (total, part) in total.iter_mut().zip(part) {
            *total = part.mul_add(scale, *total);
        }
    }
}

fn half_at(bytes: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32()
}

fn lane_at(bytes: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])
}

pub(super) fn unpack(kind: Chunk, k: usize, packed: &[u8], ints: &mut [i16], scales: &mut [f32], mins: &mut [f32]) {
    match kind {
        Chunk::Q8 => {
            let (heads, quants) = packed.split_at(k / 32 * 2 * PANEL);
            for (i, scale) in scales.iter_mut().enumerate().take(k / 32 * PANEL) {
                *scale = half_at(heads, i);
            }
            for (int, quant) in ints.iter_mut().zip(quants).take(k * PANEL) {
                *int = i16::from(quant.cast_signed());
            }
        }
        Chunk::Q4 => unpack_q4(packed, ints, scales, mins),
        Chunk::Q6 => unpack_q6(packed, ints, scales),
        Chunk::I16 => {
            let (heads, quants) = packed.split_at(k / 32 * 4 * PANEL);
            for (scale, bytes) in scales.iter_mut().zip(heads.as_chunks::<4>().0) {
                *scale = f32::from_le_bytes(*bytes);
            }
            for (i, int) in ints.iter_mut().enumerate().take(k * PANEL) {
                *int = lane_at(quants, i).cast_signed();
            }
        }
        Chunk::F32 => {}
    }
}

/// Index of a pair's integer: pair of columns, row, which of the two.
const fn at(pair: usize, lane: usize) -> usize {
    pair * 2 * PANEL + lane
}

fn unpack_q4(packed: &[u8], ints: &mut [i16], scales: &mut [f32], mins: &mut [f32]) {
    let (heads, rest) = packed.split_at(4 * PANEL);
    let (factors, nibbles) = rest.split_at(2 * 8 * PANEL);
    let (factors, minima) = factors.split_at(8 * PANEL);
    for r in 0..PANEL {
        scales[r] = half_at(heads, r);
        let step = half_at(heads, PANEL + r);
        for j in 0..8 {
            mins[j * PANEL + r] = step * f32::from(minima[j * PANEL + r]);
        }
    }
    for group in 0..CHUNK / 8 {
        for lane in 0..2 * PANEL {
            let four = lane_at(nibbles, group * 2 * PANEL + lane);
            let factor = i16::from(factors[group / 4 * PANEL + lane / 2]);
            for t in 0..4 {
                ints[at(group * 4 + t, lane)] = (four >> (4 * t) & 15).cast_signed() * factor;
            }
        }
    }
}

fn unpack_q6(packed: &[u8], ints: &mut [i16], scales: &mut [f32]) {
    let (heads, rest) = packed.split_at(2 * PANEL);
    let (factors, bits) = rest.split_at(16 * PANEL);
    let (nibbles, high) = bits.split_at(CHUNK * PANEL / 2);
    for segment in scales.chunks_exact_mut(PANEL).take(4) {
        for (r, scale) in segment.iter_mut().enumerate() {
            *scale = half_at(heads, r);
        }
    }
    for group in 0..CHUNK / 16 {
        for lane in 0..2 * PANEL {
            let low = [0, 1].map(|half| lane_at(nibbles, (2 * group + half) * 2 * PANEL + lane));
            let two = lane_at(high, group * 2 * PANEL + lane);
            let factor = i16::from(factors[group * PANEL + lane / 2].cast_signed());
            for t in 0..8 {
                let bits = (low[t / 4] >> (4 * (t % 4)) & 15) | (two >> (2 * t) & 3) << 4;
                ints[at(group * 8 + t, lane)] = (bits.cast_signed() - 32) * factor;
            }
        }
    }
}

pub(super) fn f32_tile(tile: &F32Tile<'_>, cols: usize, total: &mut Totals) {
    for (c, total) in total.iter_mut().enumerate().take(cols) {
        let acts = &tile.acts[c * tile.stride..][..tile.k];
        for (w, a) in tile.weights.chunks_exact(PANEL).zip(acts) {
            for (total, w) in total.iter_mut().zip(w) {
                *total = w.mul_add(*a, *total);
            }
        }
    }
}

pub(super) fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    let mut sum = 0.0;
    for value in values {
        *value = (*value - shift).exp();
        sum += *value;
    }
    sum
}

pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + (-*gate).exp()) * up;
    }
}

/// sqrt(2 / pi) and the cubic coefficient of the approximation.
pub(super) const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

pub(super) fn gelu_tanh(values: &mut [f32]) {
    for value in values {
        let x = *value;
        // (1 + tanh u) / 2 = 1 / (1 + exp(-2u)), without the cancellation of the left side.
        *value = x / (1.0 + (-2.0 * GELU.0 * (x + GELU.1 * x * x * x)).exp());
    }
}

/// Largest integer of quantised activations.
pub(super) const FULL: f32 = 8191.0;

/// Scale of a chunk and its inverse, from its largest magnitude and whether all of it is finite. Zero where the chunk
/// is zero (or too small to divide by); a chunk that is not finite makes the scale, and so the result, NaN.
pub(super) fn steps(most: f32, finite: bool) -> (f32, f32) {
    if !finite {
        return (f32::NAN, 0.0);
    }
    let inverse = FULL / most;
    if inverse.is_finite() { (most / FULL, inverse) } else { (0.0, 0.0) }
}

pub(super) fn quantise(values: &[f32], ints: &mut [i16], sums: &mut [f32]) -> f32 {
    let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let (scale, inverse) = steps(most, values.iter().all(|value| value.is_finite()));
    for ((block, ints), sum) in values.as_chunks::<32>().0.iter().zip(ints.as_chunks_mut::<32>().0).zip(sums) {
        let mut whole = 0_i32;
        for (value, int) in block.iter().zip(ints) {
            *int = (value * inverse).round_ties_even() as i16;
            whole += i32::from(*int);
        }
        *sum = whole as f32;
    }
    scale
}
