//! Weights as they stand in the file, repacked for the kernels: sixteen rows to a panel.
//!
//! Q8_0, Q4_K and Q6_K keep their integers and scales exactly. F32 stays F32. Everything else becomes integers of 13
//! bits and a sign with one scale for 32 columns, which is finer than f16 for all but the smallest weights of a block.
//! Layouts: [`Chunk`]. Rows are padded with zeros to a whole panel, columns to a multiple of 32.

use half::{bf16, f16};

use super::kernels::{Aligned, CHUNK, Chunk, Isa, PANEL};
use crate::error::{Result, StudentError};

/// A matrix of the file: `rows` x `cols`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// Its name, for errors.
    pub name: &'a str,
    /// Rows (outputs).
    pub rows: usize,
    /// Columns (inputs).
    pub cols: usize,
    /// The values.
    pub values: Values<'a>,
}

/// Values of a matrix, row after row.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// ggml's Q8_0: blocks of 32.
    Q8(&'a [u8]),
    /// ggml's Q4_K: blocks of 256.
    Q4K(&'a [u8]),
    /// ggml's Q6_K: blocks of 256.
    Q6K(&'a [u8]),
    /// Half precision.
    F16(&'a [u8]),
    /// bfloat16.
    Bf16(&'a [u8]),
    /// Single precision, little end first; computed in f32.
    F32(&'a [u8]),
    /// Values dequantised by the caller; computed with 13-bit integers.
    Floats(&'a [f32]),
}

impl Values<'_> {
    /// Bytes of a row of `cols` columns; none if the type does not divide it.
    fn row_bytes(&self, cols: usize) -> Option<usize> {
        let (block, bytes) = match self {
            Self::Q8(_) => (32, 34),
            Self::Q4K(_) => (256, 144),
            Self::Q6K(_) => (256, 210),
            Self::F16(_) | Self::Bf16(_) => (1, 2),
            Self::F32(_) | Self::Floats(_) => (1, 4),
        };
        cols.is_multiple_of(block).then_some(cols / block * bytes)
    }

    const fn len(&self) -> usize {
        match self {
            Self::Q8(b) | Self::Q4K(b) | Self::Q6K(b) | Self::F16(b) | Self::Bf16(b) | Self::F32(b) => b.len(),
            Self::Floats(values) => 4 * values.len(),
        }
    }

    const fn kind(&self) -> Chunk {
        match self {
            Self::Q8(_) => Chunk::Q8,
            Self::Q4K(_) => Chunk::Q4,
            Self::Q6K(_) => Chunk::Q6,
            Self::F16(_) | Self::Bf16(_) | Self::Floats(_) => Chunk::I16,
            Self::F32(_) => Chunk::F32,
        }
    }
}

/// A packed matrix.
pub struct Packed {
    rows: usize,
    cols: usize,
    padded: usize,
    kind: Chunk,
    panel_bytes: usize,
    data: Aligned<u8>,
}

impl Packed {
    /// Packs a matrix.
    ///
    /// # Errors
    /// [`StudentError::Tensor`] if the values are not rows x cols of their type.
    pub fn new(matrix: &Matrix<'_>) -> Result<Self> {
        let Matrix { name, rows, cols, values } = *matrix;
        let bad = |what: String| StudentError::Tensor { name: name.to_owned(), what };
        let row_bytes = values.row_bytes(cols).filter(|bytes| *bytes > 0);
        let row_bytes = row_bytes.ok_or_else(|| bad(format!("{cols} columns do not fill its blocks")))?;
        if rows == 0 || row_bytes.checked_mul(rows) != Some(values.len()) {
            return Err(bad(format!("{} bytes for {rows} rows of {row_bytes}", values.len())));
        }
        let kind = values.kind();
        let padded = if kind == Chunk::F32 { cols } else { cols.next_multiple_of(32) };
        let panel_bytes = chunks(padded).map(|(_, k)| kind.bytes(k)).sum::<usize>().next_multiple_of(64);
        let mut data = Aligned::zeroed(panel_bytes * rows.div_ceil(PANEL));
        for (p, panel) in data.chunks_exact_mut(panel_bytes).enumerate() {
            let mut at = 0;
            for (from, k) in chunks(padded) {
                let to = &mut panel[at..at + kind.bytes(k)];
                for lane in 0..PANEL.min(rows - p * PANEL) {
                    put(&values, (p * PANEL + lane, cols, row_bytes), (from, k), lane, to);
                }
                at += kind.bytes(k);
            }
        }
        Ok(Self { rows, cols, padded, kind, panel_bytes, data })
    }

    /// Rows, without padding.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, without padding.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Columns with padding: what the kernels compute.
    #[must_use]
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// How it is stored.
    #[must_use]
    pub fn kind(&self) -> Chunk {
        self.kind
    }

    /// Bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// One chunk of one panel.
    #[must_use]
    pub fn chunk(&self, panel: usize, chunk: usize) -> &[u8] {
        let from = panel * self.panel_bytes + chunk * self.kind.bytes(CHUNK);
        let k = CHUNK.min(self.padded - chunk * CHUNK);
        &self.data[from..from + self.kind.bytes(k)]
    }

    /// A whole panel in f32, `[column][row]`; empty for other kinds.
    #[must_use]
    pub fn floats(&self, panel: usize) -> &[f32] {
        if self.kind != Chunk::F32 {
            return &[];
        }
        let from = panel * self.panel_bytes;
        self.data.floats(from..from + 4 * PANEL * self.padded)
    }

    /// Writes one row as f32 to `out`, as many columns as both have; nothing for a row beyond the last.
    pub fn row(&self, isa: Isa, row: usize, out: &mut [f32]) {
        if row >= self.rows {
            return;
        }
        let (panel, lane) = (row / PANEL, row % PANEL);
        if self.kind == Chunk::F32 {
            for (out, column) in out.iter_mut().zip(self.floats(panel).chunks_exact(PANEL)) {
                *out = column[lane];
            }
            return;
        }
        let mut ints = [0_i16; CHUNK * PANEL];
        let (mut scales, mut mins) = ([0.0_f32; CHUNK / 32 * PANEL], [0.0_f32; CHUNK / 32 * PANEL]);
        for ((index, (_, k)), out) in chunks(self.padded).enumerate().zip(out.chunks_mut(CHUNK)) {
            isa.unpack(self.kind, k, self.chunk(panel, index), &mut ints, &mut scales, &mut mins);
            for (column, out) in out.iter_mut().enumerate().take(k) {
                let int = ints[column / 2 * 2 * PANEL + lane * 2 + column % 2];
                let min = mins[column / 32 * PANEL + lane];
                *out = f32::from(int) * scales[column / self.kind.segment() * PANEL + lane] - min;
            }
        }
    }
}

/// First column and length of each chunk.
pub(super) fn chunks(padded: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..padded).step_by(CHUNK).map(move |from| (from, CHUNK.min(padded - from)))
}

/// Writes one row's part of a chunk. `row` is its index, its columns and its bytes in the file.
fn put(values: &Values<'_>, row: (usize, usize, usize), (from, k): (usize, usize), lane: usize, to: &mut [u8]) {
    let (index, cols, row_bytes) = row;
    let bytes = |all: &'_ [u8]| -> std::ops::Range<usize> {
        debug_assert!(all.len() >= (index + 1) * row_bytes);
        index * row_bytes..(index + 1) * row_bytes
    };
    match values {
        Values::Q8(all) => put_q8(&all[bytes(all)][from / 32 * 34..], k, lane, to),
        Values::Q4K(all) => put_q4(&all[bytes(all)][from / CHUNK * 144..], lane, to),
        Values::Q6K(all) => put_q6(&all[bytes(all)][from / CHUNK * 210..], lane, to),
        Values::F16(all) => {
            put_i16(&all[bytes(all)], &|b| f16::from_le_bytes([b[0], b[1]]).to_f32(), 2, from, k, lane, to)
        }
        Values::Bf16(all) => {
            put_i16(&all[bytes(all)], &|b| bf16::from_le_bytes([b[0], b[1]]).to_f32(), 2, from, k, lane, to);
        }
        Values::F32(all) => {
            for (column, value) in all[bytes(all)][4 * from..].chunks_exact(4).enumerate().take(k) {
                to[(column * PANEL + lane) * 4..][..4].copy_from_slice(value);
            }
        }
        Values::Floats(all) => {
            let row = &all[index * cols..(index + 1) * cols];
            put_floats(row.get(from..).unwrap_or(&[]).iter().copied(), k, lane, to);
        }
    }
}

/// Place of an integer in its chunk.
const fn place(column: usize, lane: usize) -> usize {
    column / 2 * 2 * PANEL + lane * 2 + column % 2
}

fn put_q8(blocks: &[u8], k: usize, lane: usize, to: &mut [u8]) {
    let (heads, ints) = to.split_at_mut(k / 32 * 2 * PANEL);
    for (j, block) in blocks.chunks_exact(34).enumerate().take(k / 32) {
        heads[(j * PANEL + lane) * 2..][..2].copy_from_slice(&block[..2]);
        for (i, quant) in block[2..].iter().enumerate() {
            ints[place(32 * j + i, lane)] = *quant;
        }
    }
}

/// Adds a number of four bits to the nibbles: four pairs of columns share a 16-bit lane.
fn put_nibble(nibbles: &mut [u8], column: usize, lane: usize, value: u8) {
    let at = (column / 8 * 2 * PANEL + lane * 2 + column % 2) * 2 + column % 8 / 4;
    nibbles[at] |= value << (column % 4 / 2 * 4);
}

fn put_q4(block: &[u8], lane: usize, to: &mut [u8]) {
    to[2 * lane..][..2].copy_from_slice(&block[..2]);
    to[2 * (PANEL + lane)..][..2].copy_from_slice(&block[2..4]);
    let (_, rest) = to.split_at_mut(4 * PANEL);
    let (factors, nibbles) = rest.split_at_mut(16 * PANEL);
    let six = &block[4..16];
    for j in 0..8 {
        let (scale, min) = if j < 4 {
            (six[j] & 63, six[j + 4] & 63)
        } else {
            (six[j + 4] & 15 | six[j - 4] >> 6 << 4, six[j + 4] >> 4 | six[j] >> 6 << 4)
        };
        factors[j * PANEL + lane] = scale;
        factors[(8 + j) * PANEL + lane] = min;
    }
    for (i, two) in block[16..144].iter().enumerate() {
        let column = i / 32 * 64 + i % 32;
        put_nibble(nibbles, column, lane, two & 15);
        put_nibble(nibbles, column + 32, lane, two >> 4);
    }
}

fn put_q6(block: &[u8], lane: usize, to: &mut [u8]) {
    to[2 * lane..][..2].copy_from_slice(&block[208..210]);
    let (_, rest) = to.split_at_mut(2 * PANEL);
    let (factors, bits) = rest.split_at_mut(16 * PANEL);
    let (nibbles, high) = bits.split_at_mut(CHUNK * PANEL / 2);
    for (j, scale) in block[192..208].iter().enumerate() {
        factors[j * PANEL + lane] = *scale;
    }
    for column in 0..CHUNK {
        let (half, quarter, l) = (column / 128, column % 128 / 32, column % 32);
        let low = block[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        let two = block[128 + half * 32 + l] >> (2 * quarter) & 3;
        put_nibble(nibbles, column, lane, low);
        let at = (column / 16 * 2 * PANEL + lane * 2 + column % 2) * 2 + column % 16 / 8;
        high[at] |= two << (column % 8 / 2 * 2);
    }
}

fn put_i16(row: &[u8], value: &dyn Fn(&[u8]) -> f32, size: usize, from: usize, k: usize, lane: usize, to: &mut [u8]) {
    put_floats(row.get(size * from..).unwrap_or(&[]).chunks_exact(size).map(value), k, lane, to);
}

/// Largest integer of a weight made here: 8191 * 8191 * 32 stays below 2^31.
const FULL: f32 = 8191.0;

fn put_floats(values: impl Iterator<Item = f32>, k: usize, lane: usize, to: &mut [u8]) {
    let mut all = [0.0_f32; CHUNK];
    for (slot, value) in all.iter_mut().zip(values) {
        *slot = value;
    }
    let (heads, ints) = to.split_at_mut(k / 32 * 4 * PANEL);
    for (j, block) in all.chunks_exact(32).enumerate().take(k / 32) {
        let most = block.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let inverse = FULL / most;
        let (scale, inverse) = if !block.iter().all(|value| value.is_finite()) {
            (f32::NAN, 0.0) // shows in every result
        } else if inverse.is_finite() {
            (most / FULL, inverse)
        } else {
            (0.0, 0.0)
        };
        heads[(j * PANEL + lane) * 4..][..4].copy_from_slice(&scale.to_le_bytes());
        for (i, value) in block.iter().enumerate() {
            let int = (value * inverse).round_ties_even() as i16;
            ints[2 * place(32 * j + i, lane)..][..2].copy_from_slice(&int.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(values: Values<'_>, rows: usize, cols: usize) -> Result<Packed> {
        Packed::new(&Matrix { name: "w", rows, cols, values })
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let value = |i: usize| ((i * 7919) % 2003) as f32 / 1000.0 - 1.0;
        for (rows, cols) in [(1, 1), (16, 32), (17, 33), (40, 588), (3, 300)] {
            let values: Vec<f32> = (0..rows * cols).map(value).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let exact = pack(Values::F32(&bytes), rows, cols).unwrap();
            let close = pack(Values::Floats(&values), rows, cols).unwrap();
            for row in 0..rows {
                let (mut one, mut two) = (vec![9.0; cols], vec![9.0; cols]);
                exact.row(Isa::detect(), row, &mut one);
                close.row(Isa::Portable, row, &mut two);
                assert_eq!(one, &values[row * cols..(row + 1) * cols]);
                assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() <= 0.5 / 8191.0 * 1.01));
            }
            let mut beyond = [9.0];
            exact.row(Isa::Portable, rows, &mut beyond);
            assert_eq!(beyond, [9.0]);
        }
    }

    #[test]
    fn values_of_another_size_are_refused() {
        assert!(pack(Values::Q8(&[0; 34]), 1, 32).is_ok());
        assert!(pack(Values::Q8(&[0; 33]), 1, 32).is_err());
        assert!(pack(Values::Q8(&[0; 34]), 1, 31).is_err());
        assert!(pack(Values::Q4K(&[0; 144]), 1, 128).is_err());
        assert!(pack(Values::Q6K(&[0; 420]), 2, 256).is_ok());
        assert!(pack(Values::F16(&[0; 8]), 4, 1).is_ok());
        assert!(pack(Values::F32(&[]), 0, 4).is_err());
        assert!(pack(Values::F32(&[]), 4, 0).is_err());
        assert!(pack(Values::F32(&[0; 16]), usize::MAX, 4).is_err());
    }

    #[test]
    fn a_weight_that_is_not_finite_shows() {
        let mut values = vec![1.0; 64];
        values[40] = f32::NAN;
        let mut out = vec![0.0; 64];
        pack(Values::Floats(&values), 1, 64).unwrap().row(Isa::Portable, 0, &mut out);
        assert!(out[..32].iter().all(|x| (*x - 1.0).abs() < 1e-6) && out[32..].iter().all(|x| x.is_nan()));
    }
}
