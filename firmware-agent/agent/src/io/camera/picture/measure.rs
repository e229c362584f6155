//! Numbers of one small picture from which its health is judged.
//!
//! Terms: the *middle* is the picture without its upper and lower tenth, where cameras burn in text that stays sharp on a
//! covered lens; *cells* are boxes of pixels averaged to a picture about 160 wide; *tiles* are 10 by 10 cells.
//! *Edge strength* is the value that one Laplacian in fifty passes; *sharpness* is that of the pixels over that of the
//! cells. A sharp edge is about as strong in both, one that a lens blurs is weak in the pixels, and neither light nor
//! contrast change the ratio. Noise raises it, so that noise hides blur and never makes it.
//!
//! Allocates when the size of the pictures changes and at no other time. Never decides anything.

/// Width of the picture of cells, about.
const CELLS_WIDE: usize = 160;
/// Cells along each side of a tile.
const TILE: usize = 10;
/// A tile whose deviation is below this (steps of 255) shows nothing.
const FLAT: f32 = 3.0;
/// Share of the picture's height that is left out at the top and at the bottom.
const MARGIN: usize = 10;
/// One pixel of so many is compared with the picture before; prime, so that no column is missed.
const SAMPLED: usize = 61;
/// Strengths (four times the step of 255) that rounding alone makes in the pixels, and below which cells have no edge.
const ROUNDING: f32 = 3.0;
const NO_EDGE: f32 = 16.0;
/// Largest sum of a Laplacian with four neighbours, and one.
const STRENGTHS: usize = 1021;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measures {
    /// Mean luma, 0 to 255.
    pub(crate) mean: f32,
    /// Luma that one cell in a hundred passes.
    pub(crate) bright: f32,
    /// Share of the tiles that show nothing.
    pub(crate) flat: f32,
    /// See the module; near 0 where there is no edge at all.
    pub(crate) sharpness: f32,
}

/// Measures the pictures of one camera.
#[derive(Default)]
pub(crate) struct Meter {
    size: (usize, usize),
    luma: Vec<u8>,
    cells: Vec<u8>,
    sampled: Vec<u8>,
    /// The sampled pixels are of a picture of this size.
    compared: bool,
}

impl Meter {
    /// Whether the picture shows the same as the one before it in every sampled pixel; `None` for the first of its size.
    /// Cheap: for every picture.
    pub(crate) fn same(&mut self, size: (usize, usize), rgb: &[u8]) -> Option<bool> {
        self.fit(size);
        let now = rgb.chunks_exact(3).step_by(SAMPLED);
        let mut same = true;
        let mut old = self.sampled.chunks_exact_mut(3);
        for (pixel, old) in now.zip(&mut old) {
            same &= pixel == &*old;
            old.copy_from_slice(pixel);
        }
        std::mem::replace(&mut self.compared, true).then_some(same)
    }

    /// Measures a picture. Costs about a pass over its pixels: for a few pictures a second.
    pub(crate) fn measure(&mut self, size: (usize, usize), rgb: &[u8]) -> Measures {
        self.fit(size);
        for (luma, p) in self.luma.iter_mut().zip(rgb.chunks_exact(3)) {
            *luma = ((77 * u32::from(p[0]) + 150 * u32::from(p[1]) + 29 * u32::from(p[2])) >> 8) as u8;
        }
        let (width, height) = size;
        let side = cell_side(width);
        let (wide, high) = (width / side, height / side);
        shrink(&self.luma, width, side, (wide, high), &mut self.cells);
        let cells = middle(&self.cells, wide, high);
        let mut counts = [0_u32; 256];
        cells.iter().for_each(|c| counts[usize::from(*c)] += 1);
        let total: u32 = cells.iter().map(|c| u32::from(*c)).sum();
        let fine = (edge_strength(middle(&self.luma, width, height), width) - ROUNDING).max(0.0);
        let coarse = edge_strength(cells, wide).max(NO_EDGE);
        Measures {
            mean: total as f32 / cells.len().max(1) as f32,
            bright: passed_by(&counts, 100),
            flat: flat_share(cells, wide),
            sharpness: fine / coarse,
        }
    }

    fn fit(&mut self, size: (usize, usize)) {
        if self.size == size {
            return;
        }
        let (width, height) = size;
        let side = cell_side(width);
        self.size = size;
        self.luma.resize(width * height, 0);
        self.cells.resize((width / side) * (height / side), 0);
        self.sampled.resize(3 * (width * height).div_ceil(SAMPLED), 0);
        self.compared = false;
    }
}

fn cell_side(width: usize) -> usize {
    (width / CELLS_WIDE).max(1)
}

/// The rows without the margins.
fn middle(plane: &[u8], width: usize, height: usize) -> &[u8] {
    let margin = height / MARGIN;
    plane.get(margin * width..(height - margin) * width).unwrap_or(plane)
}

fn shrink(luma: &[u8], width: usize, side: usize, (wide, high): (usize, usize), cells: &mut [u8]) {
    let area = (side * side) as u32;
    for (y, row) in cells.chunks_exact_mut(wide.max(1)).take(high).enumerate() {
        for (x, cell) in row.iter_mut().enumerate() {
            let lines = luma.chunks_exact(width.max(1)).skip(y * side).take(side);
            let sum: u32 = lines.map(|l| l.iter().skip(x * side).take(side).map(|b| u32::from(*b)).sum::<u32>()).sum();
            *cell = ((sum + area / 2) / area) as u8;
        }
    }
}

/// The strength that one Laplacian (four neighbours) in fifty passes.
fn edge_strength(plane: &[u8], width: usize) -> f32 {
    let mut counts = [0_u32; STRENGTHS];
    let rows = plane.chunks_exact(width.max(1));
    for ((above, row), below) in rows.clone().zip(rows.clone().skip(1)).zip(rows.skip(2)) {
        let sides = row.windows(3).zip(above.iter().skip(1).zip(below.iter().skip(1)));
        for (three, (up, down)) in sides {
            let around = i32::from(three[0]) + i32::from(three[2]) + i32::from(*up) + i32::from(*down);
            let edge = (4 * i32::from(three[1]) - around).unsigned_abs() as usize;
            counts[edge.min(STRENGTHS - 1)] += 1;
        }
    }
    passed_by(&counts, 50)
}

/// The value that one in `one_in` passes, with a fraction within its step, so that it does not jump.
fn passed_by(counts: &[u32], one_in: u32) -> f32 {
    let total: u32 = counts.iter().sum();
    let mut left = total as f32 / one_in as f32;
    for (value, n) in counts.iter().enumerate().rev() {
        let n = *n as f32;
        if n >= left && n > 0.0 {
            return value as f32 + 1.0 - left / n;
        }
        left -= n;
    }
    0.0
}

fn flat_share(cells: &[u8], wide: usize) -> f32 {
    let (mut flat, mut tiles) = (0_u32, 0_u32);
    for band in cells.chunks_exact((wide * TILE).max(1)) {
        for x in (0..wide.saturating_sub(TILE - 1)).step_by(TILE) {
            let (mut sum, mut squares) = (0_u32, 0_u32);
            for row in band.chunks_exact(wide) {
                for cell in row.iter().skip(x).take(TILE) {
                    sum += u32::from(*cell);
                    squares += u32::from(*cell) * u32::from(*cell);
                }
            }
            let n = (TILE * TILE) as f32;
            let mean = sum as f32 / n;
            let variance = (squares as f32 / n - mean * mean).max(0.0);
            tiles += 1;
            flat += u32::from(variance < FLAT * FLAT);
        }
    }
    flat as f32 / tiles.max(1) as f32
}
