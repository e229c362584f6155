//! Linear layers over packed weights.
//!
//! Terms: a *strip* is what one item computes: a few panels, all rows of the input. Few rows (decoding) take each
//! chunk of weights once, straight from its packed form to the products. Many rows (prefill, vision) unpack a block of
//! the strip into the thread's scratch and run all rows over it. Both add the same products in the same order, so a
//! row's result depends neither on the rows beside it nor on the number of threads.

use std::sync::{Mutex, PoisonError};

use super::kernels::{
    ActTile, Aligned, CHUNK, COLS, Chunk, F32Tile, IntTile, Isa, PANEL, Pool, RowsMut, StripMut, Strips, Totals,
};
use super::pack::{Packed, chunks};
use crate::error::{Result, StudentError};

/// Panels of a strip.
const STRIP: usize = 2;
/// Chunks that are unpacked at once: 1024 columns of a strip are 64 KiB, an eighth of the second cache.
const BLOCK: usize = 4;
/// Scales (or minima) of an unpacked chunk.
const HEADS: usize = CHUNK / 32 * PANEL;

/// Scratch of one thread.
struct Scratch {
    ints: Aligned<i16>,
    scales: Aligned<f32>,
    mins: Aligned<f32>,
}

/// Threads, instruction set and scratch: what every computation of the engine needs.
pub struct Compute {
    /// The threads.
    pub pool: Pool,
    /// The kernels.
    pub isa: Isa,
    scratch: Vec<Mutex<Scratch>>,
}

impl Compute {
    /// `threads` threads and the best kernels of this machine.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with(threads, Isa::detect())
    }

    /// The same with given kernels.
    #[must_use]
    pub fn with(threads: usize, isa: Isa) -> Self {
        let pool = Pool::new(threads);
        let fresh = || Scratch {
            ints: Aligned::zeroed(STRIP * BLOCK * CHUNK * PANEL),
            scales: Aligned::zeroed(STRIP * BLOCK * HEADS),
            mins: Aligned::zeroed(STRIP * BLOCK * HEADS),
        };
        let scratch = (0..pool.threads()).map(|_| Mutex::new(fresh())).collect();
        Self { pool, isa, scratch }
    }
}

/// What a region returned, as an error.
pub(super) fn done(fine: bool) -> Result<()> {
    let what = || "a thread of the engine panicked; the result is lost".to_owned();
    if fine { Ok(()) } else { Err(StudentError::Call { place: "engine", what: what() }) }
}

/// Input rows of linear layers: floats, and where a layer wants them integers of 13 bits with a scale for each chunk.
pub struct Acts {
    rows: usize,
    cols: usize,
    padded: usize,
    stride: usize,
    ints_wanted: bool,
    floats: Aligned<f32>,
    ints: Aligned<i16>,
    sums: Aligned<f32>,
    scales: Aligned<f32>,
}

impl Acts {
    /// Room for `rows` rows of `cols` columns; `ints` if a layer with integer weights will read them.
    #[must_use]
    pub fn new(rows: usize, cols: usize, ints: bool) -> Self {
        let padded = cols.next_multiple_of(32);
        // An odd number of cache lines: six rows at a power of two apart would share one set of the first cache.
        let stride = padded.next_multiple_of(64) + 32;
        let with = |len: usize| if ints { len } else { 0 };
        Self {
            rows: 0,
            cols,
            padded,
            stride,
            ints_wanted: ints,
            floats: Aligned::zeroed(rows * padded),
            ints: Aligned::zeroed(with(rows * stride)),
            sums: Aligned::zeroed(with(rows * padded / 32)),
            scales: Aligned::zeroed(with(rows * padded.div_ceil(CHUNK))),
        }
    }

    /// Most rows.
    #[must_use]
    pub fn room(&self) -> usize {
        self.floats.len() / self.padded
    }

    /// Columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows of the last [`Acts::fill`].
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One row as it was filled; empty beyond the last.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        if row < self.rows { &self.floats[row * self.padded..][..self.cols] } else { &[] }
    }

    /// Fills `rows` rows (at most the room): `work(row, values)` writes each, then it is quantised.
    ///
    /// # Errors
    /// [`StudentError::Call`] if a thread panicked.
    pub fn fill(
        &mut self,
        compute: &mut Compute,
        rows: usize,
        work: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<()> {
        let rows = rows.min(self.room());
        self.rows = rows;
        let (cols, padded, stride, isa) = (self.cols, self.padded, self.stride, compute.isa);
        let floats = RowsMut::new(&mut self.floats[..rows * padded], padded);
        // A few items for each thread: a row costs little, a region a microsecond.
        let step = rows.div_ceil(4 * compute.pool.threads());
        if !self.ints_wanted {
            return done(compute.pool.for_rows(floats, step, &|_, first, part| {
                for (i, row) in part.chunks_exact_mut(padded).enumerate() {
                    work(first + i, &mut row[..cols]);
                }
            }));
        }
        let (of_sums, of_scales) = (padded / 32, padded.div_ceil(CHUNK));
        let ints = RowsMut::new(&mut self.ints[..rows * stride], stride);
        let sums = RowsMut::new(&mut self.sums[..rows * of_sums], of_sums);
        let scales = RowsMut::new(&mut self.scales[..rows * of_scales], of_scales);
        done(compute.pool.for_rows(
            ((floats, ints), (sums, scales)),
            step,
            &|_, first, ((floats, ints), (sums, scales))| {
                let parts = floats.chunks_exact_mut(padded).zip(ints.chunks_exact_mut(stride));
                let heads = sums.chunks_exact_mut(of_sums).zip(scales.chunks_exact_mut(of_scales));
                for (i, ((row, ints), (sums, scales))) in parts.zip(heads).enumerate() {
                    work(first + i, &mut row[..cols]);
                    let parts = row.chunks(CHUNK).zip(ints.chunks_mut(CHUNK)).zip(sums.chunks_mut(CHUNK / 32));
                    for (((row, ints), sums), scale) in parts.zip(scales) {
                        *scale = isa.quantise(row, ints, sums);
                    }
                }
            },
        ))
    }

    fn tile(&self, row: usize, chunk: usize) -> ActTile<'_> {
        let (of_sums, of_scales) = (self.padded / 32, self.padded.div_ceil(CHUNK));
        ActTile {
            ints: &self.ints[row * self.stride + chunk * CHUNK..],
            stride: self.stride,
            sums: &self.sums[row * of_sums + chunk * CHUNK / 32..],
            sums_stride: of_sums,
            scales: &self.scales[row * of_scales + chunk..],
            scales_stride: of_scales,
        }
    }
}

/// A linear layer, or several with one input side by side (query, key and value; gate and up).
pub struct Linear {
    parts: Vec<Packed>,
    bias: Vec<f32>,
    strips: Strips,
    /// For each strip: its part, its first panel, its panels, its first column in the output.
    items: Vec<(usize, usize, usize, usize)>,
    rows: usize,
    cols: usize,
}

impl Linear {
    /// Joins matrices of one input; `bias` is empty or has one number for each output of all of them.
    ///
    /// # Errors
    /// [`StudentError::Call`] if they do not fit together.
    pub fn new(parts: Vec<Packed>, bias: Vec<f32>) -> Result<Self> {
        let cols = parts.first().map_or(0, Packed::cols);
        let rows = parts.iter().map(Packed::rows).sum();
        if parts.iter().any(|part| part.cols() != cols) || !(bias.is_empty() || bias.len() == rows) {
            let what = format!("layers that do not fit together: {} biases for {rows} outputs", bias.len());
            return Err(StudentError::Call { place: "engine", what });
        }
        let mut items = Vec::new();
        let mut ranges = Vec::new();
        let mut before = 0;
        for (index, part) in parts.iter().enumerate() {
            for panel in (0..part.rows().div_ceil(PANEL)).step_by(STRIP) {
                let panels = STRIP.min(part.rows().div_ceil(PANEL) - panel);
                let end = before + part.rows().min((panel + panels) * PANEL);
                items.push((index, panel, panels, before + panel * PANEL));
                ranges.push(before + panel * PANEL..end);
            }
            before += part.rows();
        }
        Ok(Self { parts, bias, strips: Strips::new(rows, ranges), items, rows, cols })
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of the weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Packed::bytes).sum()
    }

    /// True if a part has integer weights.
    #[must_use]
    pub fn wants_ints(&self) -> bool {
        self.parts.iter().any(|part| part.kind() != Chunk::F32)
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Packed] {
        &self.parts
    }

    /// `out` (rows of `acts` x outputs) = `acts` times the weights, plus the bias.
    ///
    /// # Errors
    /// [`StudentError::Call`] for buffers of another shape, or if a thread panicked.
    pub fn forward(&self, compute: &mut Compute, acts: &Acts, out: &mut [f32]) -> Result<()> {
        self.apply(compute, acts, out, false)
    }

    /// The same, added to what `out` holds (a residual stream).
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_add(&self, compute: &mut Compute, acts: &Acts, out: &mut [f32]) -> Result<()> {
        self.apply(compute, acts, out, true)
    }

    fn apply(&self, compute: &mut Compute, acts: &Acts, out: &mut [f32], add: bool) -> Result<()> {
        if acts.cols != self.cols || out.len() != acts.rows * self.rows || (self.wants_ints() && !acts.ints_wanted) {
            let what = format!("{} values for {} rows of {}; {} inputs", out.len(), acts.rows, self.rows, acts.cols);
            return Err(StudentError::Call { place: "engine", what });
        }
        let Compute { pool, isa, scratch } = compute;
        let isa = *isa;
        done(pool.for_strips(out, &self.strips, &|worker, item, mut strip| {
            let (part, panel, panels, _) = self.items[item];
            let (part, bias) = (&self.parts[part], self.bias.get(strip.columns()).unwrap_or(&[]));
            let mut scratch = scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let job = Job { isa, part, panels: panel..panel + panels, bias, acts, add };
            if part.kind() == Chunk::F32 {
                job.floats(&mut strip);
            } else if acts.rows <= COLS {
                job.few(&mut scratch, &mut strip);
            } else {
                job.many(&mut scratch, &mut strip);
            }
        }))
    }
}

/// One strip to compute.
struct Job<'a> {
    isa: Isa,
    part: &'a Packed,
    panels: std::ops::Range<usize>,
    bias: &'a [f32],
    acts: &'a Acts,
    add: bool,
}

/// Sixteen columns of a strip, fewer at its end.
fn lanes(row: &mut [f32], panel: usize) -> &mut [f32] {
    let from = (panel * PANEL).min(row.len());
    let to = (from + PANEL).min(row.len());
    &mut row[from..to]
}

impl Job<'_> {
    /// What the sums begin with: zero, or what the strip holds.
    fn begin(&self, strip: &mut StripMut<'_>, panel: usize, first: usize, rows: usize, held: bool) -> Totals {
        let mut totals: Totals = [[0.0; PANEL]; COLS];
        if held {
            for (i, total) in totals.iter_mut().enumerate().take(rows) {
                let row = lanes(strip.row(first + i), panel);
                total[..row.len()].copy_from_slice(row);
            }
        }
        totals
    }

    /// Stores sums; with the bias if they are complete.
    fn store(&self, strip: &mut StripMut<'_>, panel: usize, first: usize, totals: &[[f32; PANEL]], complete: bool) {
        let bias = self.bias.get(panel * PANEL..).unwrap_or(&[]);
        for (i, total) in totals.iter().enumerate() {
            let row = lanes(strip.row(first + i), panel);
            let count = row.len();
            row.copy_from_slice(&total[..count]);
            if complete {
                for (value, bias) in row.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        }
    }

    fn floats(&self, strip: &mut StripMut<'_>) {
        for first in (0..self.acts.rows).step_by(COLS) {
            let count = COLS.min(self.acts.rows - first);
            let (stride, k) = (self.acts.padded, self.part.cols());
            for (local, panel) in self.panels.clone().enumerate() {
                let mut totals = self.begin(strip, local, first, count, self.add);
                let acts = &self.acts.floats[first * stride..];
                self.isa.f32_tile(&F32Tile { weights: self.part.floats(panel), acts, stride, k }, count, &mut totals);
                self.store(strip, local, first, &totals[..count], true);
            }
        }
    }

    fn few(&self, scratch: &mut Scratch, strip: &mut StripMut<'_>) {
        for (local, panel) in self.panels.clone().enumerate() {
            let mut totals = self.begin(strip, local, 0, self.acts.rows, self.add);
            let (kind, rows) = (self.part.kind(), self.acts.rows);
            for (index, (_, k)) in chunks(self.part.padded()).enumerate() {
                if self.isa.fuses(kind, rows) {
                    let packed = self.part.chunk(panel, index);
                    self.isa.fused_tile(kind, k, packed, &self.acts.tile(0, index), rows, &mut totals);
                    continue;
                }
                self.unpack(scratch, 0, panel, index, k);
                let tile = self.unpacked(scratch, 0, k);
                self.isa.int_tile(&tile, &self.acts.tile(0, index), self.acts.rows, &mut totals);
            }
            self.store(strip, local, 0, &totals[..self.acts.rows], true);
        }
    }

    fn many(&self, scratch: &mut Scratch, strip: &mut StripMut<'_>) {
        let count = self.part.padded().div_ceil(CHUNK);
        for block in (0..count).step_by(BLOCK) {
            let inside = BLOCK.min(count - block);
            let k_of = |chunk: usize| CHUNK.min(self.part.padded() - chunk * CHUNK);
            for (local, panel) in self.panels.clone().enumerate() {
                for i in 0..inside {
                    self.unpack(scratch, local * BLOCK + i, panel, block + i, k_of(block + i));
                }
            }
            for first in (0..self.acts.rows).step_by(COLS) {
                let rows = COLS.min(self.acts.rows - first);
                for local in 0..self.panels.len() {
                    let mut totals = self.begin(strip, local, first, rows, self.add || block > 0);
                    for i in 0..inside {
                        let tile = self.unpacked(scratch, local * BLOCK + i, k_of(block + i));
                        self.isa.int_tile(&tile, &self.acts.tile(first, block + i), rows, &mut totals);
                    }
                    self.store(strip, local, first, &totals[..rows], block + inside == count);
                }
            }
        }
    }

    fn unpack(&self, scratch: &mut Scratch, slot: usize, panel: usize, chunk: usize, k: usize) {
        let ints = &mut scratch.ints[slot * CHUNK * PANEL..][..CHUNK * PANEL];
        let scales = &mut scratch.scales[slot * HEADS..][..HEADS];
        let mins = &mut scratch.mins[slot * HEADS..][..HEADS];
        self.isa.unpack(self.part.kind(), k, self.part.chunk(panel, chunk), ints, scales, mins);
    }

    fn unpacked<'s>(&self, scratch: &'s Scratch, slot: usize, k: usize) -> IntTile<'s> {
        let mins = if self.part.kind().has_mins() { &scratch.mins[slot * HEADS..][..HEADS] } else { &[][..] };
        IntTile {
            ints: &scratch.ints[slot * CHUNK * PANEL..][..k * PANEL],
            scales: &scratch.scales[slot * HEADS..][..HEADS],
            mins,
            segment: self.part.kind().segment(),
        }
    }
}
