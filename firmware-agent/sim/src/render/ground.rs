//! The ground: what lies where, painted as flat polygons into a plan of materials, paint, shade and lamplight, and
//! then lit and textured pixel by pixel along the rows.
//!
//! Terms: a *cell* is one pixel's ground facts: material, share of road paint, shade (255 lit, [`SHADOW`] in the
//! sun's shadow, 0 under a vehicle) and street light.
//!
//! What it never does: know heights. Kerbs, bumps and rails are things of their own.

use std::sync::LazyLock;

use super::frame::{Frame, scan, texel};
use super::light::Light;
use super::limits::TAG_GROUND;
use super::noise::Tile;
use super::vec3::{V3, add, lin, mix, scale, times};
use super::view::{Linear, View};

/// Shade of a cell that the sun does not reach.
pub(crate) const SHADOW: u8 = 90;
/// Set in a material whose paint is yellow.
const YELLOW: u8 = 0x80;

/// Grain of all ground, and patches in it: made once for all cameras.
static ROUGH: LazyLock<Tile> = LazyLock::new(|| Tile::new(3, 32, 0.9));
static TUFTS: LazyLock<Tile> = LazyLock::new(|| Tile::new(5, 8, 0.75));

/// What ground can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuff {
    Grass = 0,
    Asphalt = 1,
    Pavement = 2,
    Shoulder = 3,
    Verge = 4,
    Planks = 5,
    Hole = 6,
    Yard = 7,
    Gravel = 8,
}

const STUFFS: usize = 9;

struct Look {
    albedo: V3,
    fine: f32,
    coarse: f32,
}

const fn look(c: [u8; 3], fine: f32, coarse: f32) -> Look {
    Look { albedo: lin(c), fine, coarse }
}

const LOOKS: [Look; STUFFS] = [
    look([86, 108, 58], 0.75, 0.55),
    look([88, 89, 92], 0.34, 0.22),
    look([140, 136, 130], 0.22, 0.16),
    look([100, 99, 98], 0.38, 0.25),
    look([92, 116, 62], 0.6, 0.4),
    look([96, 76, 58], 0.5, 0.2),
    look([40, 38, 36], 0.5, 0.3),
    look([104, 112, 84], 0.5, 0.5),
    look([118, 110, 100], 0.8, 0.3),
];

/// What a flat polygon does to the cells it covers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stroke {
    Lay(Stuff),
    Paint { cover: f32, yellow: bool },
    Shade(u8),
    Lamp(u8),
}

type Cell = [u8; 4];

/// The plan of one frame and the textures of all.
pub(crate) struct Ground {
    width: usize,
    cells: Vec<Cell>,
    rows: Vec<[f32; 2]>,
    rough: &'static Tile,
    tufts: &'static Tile,
    /// Field or yard where nothing is laid.
    pub(crate) base: Stuff,
    /// 0 dry to 1 standing water.
    pub(crate) wet: f32,
}

impl Ground {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            cells: vec![[0; 4]; width * height],
            rows: vec![[0.0; 2]; height],
            rough: &ROUGH,
            tufts: &TUFTS,
            base: Stuff::Grass,
            wet: 0.0,
        }
    }

    pub(crate) fn begin(&mut self, base: Stuff, wet: f32) {
        self.base = base;
        self.wet = wet.clamp(0.0, 1.0);
        self.cells.fill([base as u8, 0, 255, 0]);
    }

    /// Applies a stroke to a convex polygon on the ground, corners in camera axes.
    pub(crate) fn stroke(&mut self, view: &View, corners: &[V3], stroke: Stroke) {
        let outline = view.project(corners);
        let (first, last) = scan(&mut self.rows, outline.points());
        let width = self.width as f32;
        for y in first..last {
            let [left, right] = self.rows.get(y).copied().unwrap_or_default();
            let (left, right) = (left.clamp(0.0, width), right.clamp(0.0, width));
            if right <= left {
                continue;
            }
            let begin = y * self.width;
            match stroke {
                Stroke::Paint { cover, yellow } => {
                    let range = begin + left as usize..begin + (right as usize + 1).min(self.width);
                    let Some(cells) = self.cells.get_mut(range) else { continue };
                    paint_row(cells, left, right, cover, yellow);
                }
                _ => {
                    let range = begin + (left + 0.5) as usize..begin + ((right + 0.5) as usize).min(self.width);
                    lay_row(self.cells.get_mut(range).unwrap_or(&mut []), stroke);
                }
            }
        }
    }

    /// Lights every cell whose inverse depth is above `cut` and before which nothing stands, and writes it.
    pub(crate) fn light(&self, frame: &mut Frame, view: &View, light: &Light, (plane, cut): (Linear, f32)) {
        let tables = Tables::new(self, light);
        for y in 0..frame.height {
            let ends = (plane.at(0.0, y as f32), plane.at((self.width - 1) as f32, y as f32));
            if ends.0.max(ends.1) > cut {
                self.light_row(frame, view, light, &tables, (plane, cut), y);
            }
        }
    }

    fn light_row(
        &self,
        frame: &mut Frame,
        view: &View,
        light: &Light,
        tables: &Tables,
        (plane, cut): (Linear, f32),
        y: usize,
    ) {
        let row = y * self.width..(y + 1) * self.width;
        let (Some(pixels), Some(depths), Some(cells)) =
            (frame.colour.get_mut(row.clone()), frame.depth.get_mut(row.clone()), self.cells.get(row))
        else {
            return;
        };
        let ray = view.ray(0.5, y as f32 + 0.5);
        let d = add(add(scale(view.right, ray[0]), scale(view.down, ray[1])), view.ahead);
        let turn = scale(view.right, 1.0 / view.focal);
        let eye = [(view.eye[0] % 256.0) as f32, (view.eye[1] % 256.0) as f32];
        let clear = |x: usize| light.clear(1.0 / plane.at(x as f32, y as f32).max(cut));
        let (mut air, last) = (clear(0), clear(self.width - 1));
        let thins = (last - air) / self.width as f32;
        let middle = 1.0 / plane.at(self.width as f32 * 0.5, y as f32).max(cut);
        let level = texture_level(middle);
        let (fine_of, coarse_of) = (self.rough.level(level), self.tufts.level(level.saturating_sub(4)));
        let rough = 1.0 / (1.0 + middle * middle * 0.000_15);
        let mut beam = Beam { light, along: ray, focal: view.focal, ends: [0.0; 2], block: usize::MAX };
        for (x, ((pixel, depth), cell)) in pixels.iter_mut().zip(depths).zip(cells).enumerate() {
            let inverse = plane.at(x as f32, y as f32);
            air += thins;
            if hidden(*depth, inverse, cut) {
                continue;
            }
            let z = 1.0 / inverse;
            let fx = x as f32;
            let (wx, wy) = (eye[0] + z * (d[0] + turn[0] * fx), eye[1] + z * (d[1] + turn[1] * fx));
            let (u, v) = (whole(wx * 16.0), whole(wy * 16.0));
            let fine = (f32::from(fine_of.at(u, v)) - 128.0) * rough;
            let coarse = f32::from(coarse_of.at(u >> 4, v >> 4)) - 128.0;
            let albedo = tables.albedo(*cell, fine);
            let mut c = tables.colour(*cell, albedo, coarse);
            if light.dark > 0.0 {
                let lit = beam.at(x, plane, y);
                c = add(c, times(albedo, [lit, lit * 0.97, lit * 0.86]));
            }
            *depth = inverse;
            *pixel = texel(mix(light.fog, c, air), TAG_GROUND);
        }
    }

    /// Whether water stands enough on a pixel's ground to mirror.
    pub(crate) fn mirrors(&self, index: usize) -> bool {
        let cell = self.cells.get(index).copied().unwrap_or_default();
        matches!(cell[0] & !YELLOW, 1..=3)
    }
}

/// Whether something stands before the ground at a pixel, or the ground ends before it.
#[inline]
fn hidden(depth: f32, inverse: f32, cut: f32) -> bool {
    inverse <= cut || depth >= inverse
}

/// Tags as ground all where nothing stands, or lies below the ground, and colours nothing; the sky counts as ground.
pub(crate) fn cover(frame: &mut Frame, (plane, cut): (Linear, f32)) {
    let rows = frame.colour.chunks_mut(frame.width).zip(frame.depth.chunks(frame.width));
    for (y, (pixels, depths)) in rows.enumerate() {
        for (x, (pixel, depth)) in pixels.iter_mut().zip(depths).enumerate() {
            if *depth <= 0.0 || !hidden(*depth, plane.at(x as f32, y as f32), cut) {
                pixel[3] = TAG_GROUND;
            }
        }
    }
}

/// The nearest whole number of |x| below 2^21, right in its low 22 bits only: enough for a texture that repeats, and
/// cheaper than a cast.
#[inline]
fn whole(x: f32) -> i32 {
    (x + 12_582_912.0).to_bits() as i32
}

/// Coarser texture farther away: the level whose texels are about as large as a pixel's footprint.
fn texture_level(z: f32) -> usize {
    match z {
        z if z < 7.0 => 0,
        z if z < 12.0 => 1,
        z if z < 20.0 => 2,
        z if z < 32.0 => 3,
        z if z < 55.0 => 4,
        z if z < 100.0 => 5,
        _ => 6,
    }
}

fn paint_row(cells: &mut [Cell], left: f32, right: f32, cover: f32, yellow: bool) {
    let full = cover.clamp(0.0, 1.0) * 255.0;
    let begin = left.floor();
    for (i, cell) in cells.iter_mut().enumerate() {
        let x = begin + i as f32;
        let share = ((right - x).min(1.0) - (left - x).max(0.0)).clamp(0.0, 1.0);
        let value = f32::from(cell[1]) + share * full;
        cell[1] = value.min(full.max(f32::from(cell[1]))) as u8;
        if yellow && share > 0.0 {
            cell[0] |= YELLOW;
        }
    }
}

fn lay_row(cells: &mut [Cell], stroke: Stroke) {
    match stroke {
        Stroke::Lay(stuff) => cells.iter_mut().for_each(|c| c[0] = stuff as u8),
        Stroke::Shade(value) => cells.iter_mut().for_each(|c| c[2] = c[2].min(value)),
        Stroke::Lamp(value) => cells.iter_mut().for_each(|c| c[3] = c[3].saturating_add(value)),
        Stroke::Paint { .. } => {}
    }
}

/// Pixels between computed values of the headlights' light.
const BEAM_STRIDE: usize = 8;

/// The headlights' light along a row, computed at every eighth pixel.
struct Beam<'a> {
    light: &'a Light,
    along: V3,
    focal: f32,
    ends: [f32; 2],
    block: usize,
}

impl Beam<'_> {
    fn at(&mut self, x: usize, plane: Linear, y: usize) -> f32 {
        let block = x / BEAM_STRIDE;
        if block != self.block {
            let end = |k: usize| {
                let fx = (k * BEAM_STRIDE) as f32;
                let z = 1.0 / plane.at(fx, y as f32).max(1e-4);
                self.light.beam_on_ground([z * (self.along[0] + fx / self.focal), z * self.along[1], z])
            };
            self.ends = [if block == self.block.wrapping_add(1) { self.ends[1] } else { end(block) }, end(block + 1)];
            self.block = block;
        }
        let t = (x % BEAM_STRIDE) as f32 / BEAM_STRIDE as f32;
        self.ends[0] + (self.ends[1] - self.ends[0]) * t
    }
}

/// Light by shade, and materials under it.
struct Tables {
    by_shade: [V3; 256],
    looks: [Look; STUFFS],
    lamp: V3,
    paint: [V3; 2],
}

impl Tables {
    fn new(ground: &Ground, light: &Light) -> Self {
        let rise = light.sun_world[2].max(0.0);
        let by_shade = core::array::from_fn(|s| {
            let s = s as f32;
            let edge = f32::from(SHADOW);
            let (sun, sky) = if s >= edge { ((s - edge) / (255.0 - edge), 1.0) } else { (0.0, 0.12 + 0.88 * s / edge) };
            add(scale(light.sun, rise * sun), scale(light.sky, sky))
        });
        let soak = 1.0 - 0.55 * ground.wet;
        let looks =
            LOOKS.map(|l| Look { albedo: scale(l.albedo, soak), fine: l.fine / 128.0, coarse: l.coarse / 128.0 });
        let lamp = scale([1.0, 0.74, 0.42], 0.0032 * light.gain);
        Self {
            by_shade,
            looks,
            lamp,
            paint: [scale(lin([222, 222, 216]), 1.0 - 0.3 * ground.wet), lin([222, 176, 52])],
        }
    }

    #[inline]
    fn albedo(&self, cell: Cell, fine: f32) -> V3 {
        let Some(look) = self.looks.get(usize::from(cell[0] & !YELLOW)) else { return [0.0; 3] };
        let base = scale(look.albedo, 1.0 + look.fine * fine);
        if cell[1] == 0 {
            return base;
        }
        let paint = self.paint[usize::from(cell[0] & YELLOW != 0)];
        mix(base, scale(paint, 1.0 + 0.001_5 * fine), f32::from(cell[1]) * (0.92 / 255.0))
    }

    #[inline]
    fn colour(&self, cell: Cell, albedo: V3, coarse: f32) -> V3 {
        let Some(look) = self.looks.get(usize::from(cell[0] & !YELLOW)) else { return [0.0; 3] };
        let albedo = scale(albedo, 1.0 + look.coarse * coarse);
        let lit = self.by_shade.get(usize::from(cell[2])).copied().unwrap_or_default();
        times(albedo, add(lit, scale(self.lamp, f32::from(cell[3]))))
    }
}
