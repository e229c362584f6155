//! Attention over tiles of keys, and the caches it reads.
//!
//! Terms: a *tile* holds 64 keys and values of one head, laid out as panels for the f32 kernel: keys `[panel of 16
//! keys][channel][key]`, values `[panel of 16 channels][key][channel]`. A query passes over the tiles once with a running
//! maximum and sum (the online softmax of Milakov and Gimelshein, the tiling of FlashAttention); scores exist for six
//! queries and one tile at a time. Queries of all heads that share a key head pass together, so keys are never
//! repeated and each tile is read once for all rows of all branches. A query's result depends only on the tiles and on
//! how many keys it sees, not on the queries beside it.

use std::ops::Range;

use super::kernels::{COLS, F32Tile, Isa, PANEL, Totals};
use super::limits::KEY_TILE;

/// Keys and values of one head: where a key's tile lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Channels of a head.
    pub dim: usize,
    /// The same in whole panels.
    pub padded: usize,
}

impl Heads {
    /// Heads of `dim` channels.
    #[must_use]
    pub const fn new(dim: usize) -> Self {
        Self { dim, padded: dim.next_multiple_of(PANEL) }
    }

    /// Floats of a tile.
    #[must_use]
    pub const fn tile(self) -> usize {
        KEY_TILE * (self.dim + self.padded)
    }

    /// Floats for `keys` keys: whole tiles.
    #[must_use]
    pub const fn room(self, keys: usize) -> usize {
        keys.div_ceil(KEY_TILE) * self.tile()
    }

    /// Writes one key and its value into `tiles`; nothing past their end.
    pub fn put(self, tiles: &mut [f32], index: usize, key: &[f32], value: &[f32]) {
        let (tile, slot) = (index / KEY_TILE, index % KEY_TILE);
        let Some(tile) = tiles.get_mut(tile * self.tile()..(tile + 1) * self.tile()) else { return };
        let (keys, values) = tile.split_at_mut(KEY_TILE * self.dim);
        let panel = &mut keys[slot / PANEL * PANEL * self.dim..][..PANEL * self.dim];
        for (column, key) in panel.chunks_exact_mut(PANEL).zip(key) {
            column[slot % PANEL] = *key;
        }
        for (panel, value) in values.chunks_exact_mut(KEY_TILE * PANEL).zip(value.chunks(PANEL)) {
            panel[slot * PANEL..][..value.len()].copy_from_slice(value);
        }
    }
}

/// The pass of some queries over tiles: their running maxima, sums and weighted values.
pub struct Pass {
    heads: Heads,
    rows: usize,
    queries: Vec<f32>,
    most: Vec<f32>,
    sum: Vec<f32>,
    out: Vec<f32>,
    scores: Vec<f32>,
}

impl Pass {
    /// Room for `rows` queries.
    #[must_use]
    pub fn new(heads: Heads, rows: usize) -> Self {
        Self {
            heads,
            rows: 0,
            queries: vec![0.0; rows * heads.dim],
            most: vec![0.0; rows],
            sum: vec![0.0; rows],
            out: vec![0.0; rows * heads.padded],
            scores: vec![0.0; COLS * KEY_TILE],
        }
    }

    /// Most queries.
    #[must_use]
    pub fn room(&self) -> usize {
        self.most.len()
    }

    /// Begins with `rows` queries, at most the room.
    pub fn begin(&mut self, rows: usize) {
        self.rows = rows.min(self.room());
        self.most[..self.rows].fill(f32::NEG_INFINITY);
        self.sum[..self.rows].fill(0.0);
        self.out[..self.rows * self.heads.padded].fill(0.0);
    }

    /// A query to be written, already scaled; empty past the room.
    pub fn query(&mut self, row: usize) -> &mut [f32] {
        let dim = self.heads.dim;
        self.queries.get_mut(row * dim..(row + 1) * dim).unwrap_or(&mut [])
    }

    /// Lets the queries of `rows` attend the first `seen(row)` keys of `tiles`. Each must see at least one over all
    /// calls.
    pub fn over(&mut self, isa: Isa, tiles: &[f32], rows: Range<usize>, seen: &dyn Fn(usize) -> usize) {
        let rows = rows.start..rows.end.min(self.rows);
        let most = rows.clone().map(seen).max().unwrap_or(0);
        for (index, tile) in tiles.chunks_exact(self.heads.tile()).enumerate().take(most.div_ceil(KEY_TILE)) {
            for first in rows.clone().step_by(COLS) {
                let count = COLS.min(rows.end - first);
                let mut visible = [0; COLS];
                for (i, visible) in visible.iter_mut().enumerate().take(count) {
                    *visible = seen(first + i).saturating_sub(index * KEY_TILE).min(KEY_TILE);
                }
                self.tile(isa, tile, first, &visible[..count]);
            }
        }
    }

    fn tile(&mut self, isa: Isa, tile: &[f32], first: usize, visible: &[usize]) {
        let Heads { dim, padded } = self.heads;
        let (count, used) = (visible.len(), visible.iter().copied().max().unwrap_or(0));
        if used == 0 {
            return;
        }
        let (keys, values) = tile.split_at(KEY_TILE * dim);
        let queries = &self.queries[first * dim..];
        for (p, weights) in keys.chunks_exact(PANEL * dim).enumerate().take(used.div_ceil(PANEL)) {
            let mut totals: Totals = [[0.0; PANEL]; COLS];
            isa.f32_tile(&F32Tile { weights, acts: queries, stride: dim, k: dim }, count, &mut totals);
            for (scores, totals) in self.scores.chunks_exact_mut(KEY_TILE).zip(&totals).take(count) {
                scores[p * PANEL..][..PANEL].copy_from_slice(totals);
            }
        }
        for (i, seen) in visible.iter().enumerate() {
            self.soften(isa, first + i, i, *seen);
        }
        for (p, weights) in values.chunks_exact(KEY_TILE * PANEL).enumerate() {
            let mut totals: Totals = [[0.0; PANEL]; COLS];
            for (i, total) in totals.iter_mut().enumerate().take(count) {
                total.copy_from_slice(&self.out[(first + i) * padded + p * PANEL..][..PANEL]);
            }
            // No key past `used`: what stands there was never written, or belongs to an earlier job.
            isa.f32_tile(&F32Tile { weights, acts: &self.scores, stride: KEY_TILE, k: used }, count, &mut totals);
            for (i, total) in totals.iter().enumerate().take(count) {
                self.out[(first + i) * padded + p * PANEL..][..PANEL].copy_from_slice(total);
            }
        }
    }

    /// Turns a row of scores into weights, and rescales what the row has gathered if its maximum rose.
    fn soften(&mut self, isa: Isa, row: usize, slot: usize, seen: usize) {
        let scores = &mut self.scores[slot * KEY_TILE..][..KEY_TILE];
        scores[seen..].fill(f32::NEG_INFINITY);
        if seen == 0 {
            scores.fill(0.0);
            return;
        }
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let before = self.most[row];
        if highest > before {
            let factor = (before - highest).exp(); // exp(-inf) = 0 at the first tile
            self.most[row] = highest;
            self.sum[row] *= factor;
            for value in &mut self.out[row * self.heads.padded..][..self.heads.padded] {
                *value *= factor;
            }
        }
        self.sum[row] += isa.exp_sum(scores, self.most[row]);
    }

    /// Writes a query's result: `dim` channels.
    pub fn finish(&self, row: usize, out: &mut [f32]) {
        let inverse = 1.0 / self.sum.get(row).copied().unwrap_or(f32::NAN);
        let values = self.out.get(row * self.heads.padded..).unwrap_or(&[]);
        for (out, value) in out.iter_mut().zip(values).take(self.heads.dim) {
            *out = value * inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: usize) -> f32 {
        let x = (seed as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
        ((x.wrapping_mul(2_246_822_519) >> 8) & 0xffff) as f32 / 16384.0 - 2.0
    }

    /// The plain formula in f64.
    fn plain(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f64> {
        let scores: Vec<f64> =
            keys.iter().map(|key| key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum()).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..values[0].len())
            .map(|c| weights.iter().zip(values).map(|(w, v)| w * f64::from(v[c])).sum::<f64>() / sum)
            .collect()
    }

    #[test]
    fn two_sources_equal_the_plain_formula_for_odd_sizes() {
        for (dim, prefix, suffix, rows) in [(8, 1, 3, 1), (20, 64, 1, 7), (72, 130, 70, 13), (64, 300, 5, 6)] {
            let heads = Heads::new(dim);
            let row = |salt: usize, i: usize| -> Vec<f32> {
                (0..dim).map(|c| noise(salt * 1_000_003 + i * 1009 + c)).collect()
            };
            let mut first = vec![f32::NAN; heads.room(prefix)];
            let mut second = vec![f32::NAN; heads.room(suffix)];
            // Stale values may be anything, but the padding of the channels is never written: it begins as zero.
            for i in 0..prefix {
                heads.put(&mut first, i, &row(1, i), &row(2, i));
            }
            for i in 0..suffix {
                heads.put(&mut second, i, &row(1, prefix + i), &row(2, prefix + i));
            }
            let mut pass = Pass::new(heads, rows);
            pass.begin(rows);
            for r in 0..rows {
                let query: Vec<f32> = row(3, r).iter().map(|q| q * 0.3).collect();
                pass.query(r).copy_from_slice(&query);
            }
            let seen = |r: usize| (r % suffix) + 1;
            pass.over(Isa::detect(), &first, 0..rows, &|_| prefix);
            pass.over(Isa::detect(), &second, 0..rows, &seen);
            for r in 0..rows {
                let query: Vec<f32> = row(3, r).iter().map(|q| q * 0.3).collect();
                let keys: Vec<_> = (0..prefix + seen(r)).map(|i| row(1, i)).collect();
                let values: Vec<_> = (0..prefix + seen(r)).map(|i| row(2, i)).collect();
                let mut out = vec![0.0; dim];
                pass.finish(r, &mut out);
                for (ours, theirs) in out.iter().zip(plain(&query, &keys, &values)) {
                    assert!((f64::from(*ours) - theirs).abs() < 2e-6, "{ours} {theirs}");
                }
            }
        }
    }
}
