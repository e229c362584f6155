//! What lies between the lens and the road: the vehicle's bonnet, reflections in the windscreen, rain in the air and
//! on the glass, wipers, a car wash; and the word that says the picture is made up.
//!
//! Terms: drawn in the finished picture, eight-bit red, green, blue. *Ambient* is how bright a grey sheet in the open
//! would be now, 0 to 1. A picture's *hidden* pixels keep their tag with [`HIDDEN`] set.
//!
//! What it never does: allocate after [`Overlay::new`].

use std::sync::LazyLock;

use super::CameraLook;
use super::limits::{DROPS, STREAKS};
use super::noise::{Tile, hash, hash2, unit};
use super::vec3::{sin_cos, step};
use crate::caption::glyph;
use crate::maths::PI;
use crate::world::state::SceneState;

/// Set in the tag of a pixel that bonnet or wiper hide.
pub(crate) const HIDDEN: u16 = 0x8000;

/// Foam of the car wash, and grain of the dashboard: made once for all cameras.
static FOAM: LazyLock<Tile> = LazyLock::new(|| Tile::new(91, 8, 0.7));
static GRAIN: LazyLock<Tile> = LazyLock::new(|| Tile::new(77, 8, 0.6));

/// The finished picture and its tags.
pub(crate) struct Picture<'a> {
    pub(crate) rgb: &'a mut [u8],
    pub(crate) tags: &'a mut [u16],
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// See the module's terms.
    pub(crate) ambient: f32,
}

impl Picture<'_> {
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y.min(self.height - 1) * self.width + x.min(self.width - 1)) * 3;
        self.rgb.get(i..i + 3).and_then(|p| p.first_chunk::<3>()).copied().unwrap_or_default()
    }

    /// Lays a colour over a pixel.
    fn blend(&mut self, x: usize, y: usize, c: [f32; 3], share: f32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let i = (y * self.width + x) * 3;
        for (byte, value) in self.rgb.get_mut(i..i + 3).unwrap_or(&mut []).iter_mut().zip(c) {
            *byte = (f32::from(*byte) + (value - f32::from(*byte)) * share).clamp(0.0, 255.0) as u8;
        }
    }

    fn hide(&mut self, x: usize, y: usize) {
        if let Some(tag) = self.tags.get_mut(y * self.width + x)
            && x < self.width
        {
            *tag |= HIDDEN;
        }
    }

    /// Grey of a brightness as the eye sees it (0 to 255).
    fn grey(&self, albedo: f32) -> f32 {
        (albedo * self.ambient).max(0.0).sqrt().min(1.0) * 255.0
    }
}

/// What does not change from picture to picture.
pub(crate) struct Overlay {
    /// First row of the bonnet per column.
    bonnet: Vec<f32>,
    /// Strength of the windscreen's reflection per pixel.
    glare: Vec<u8>,
    foam: &'static Tile,
    look: CameraLook,
}

impl Overlay {
    pub(crate) fn new(width: usize, height: usize, look: CameraLook) -> Self {
        let bonnet = (0..width).map(|x| {
            let d = (x as f32 + 0.5) / width as f32 - 0.5;
            // Flat in the middle, falling off towards the wings.
            let drop = d * d * 0.55 + d * d * d * d * 3.0;
            height as f32 * (1.0 - look.bonnet_height.clamp(0.0, 0.4)) + height as f32 * 0.35 * drop
        });
        let glare = (0..width * height).map(|i| {
            let (x, y) = ((i % width) as f32 / width as f32, (i / width) as f32 / height as f32);
            // Edges of the dashboard and a sheet of paper on it, upside down in the glass.
            let edge = step(0.30, 0.34, y + 0.06 * (x - 0.5) * (x - 0.5)) * (1.0 - step(0.55, 1.0, y));
            let sheet = step(0.62, 0.65, x - 0.1 * y) * (1.0 - step(0.80, 0.83, x + 0.05 * y));
            let sheet = sheet * step(0.48, 0.52, y) * (1.0 - step(0.66, 0.72, y));
            let grain = GRAIN.smooth(x * 60.0, y * 40.0) / 255.0;
            ((0.35 * edge + 0.75 * sheet + 0.25 * (grain - 0.3).max(0.0)) * 255.0).clamp(0.0, 255.0) as u8
        });
        Self { bonnet: bonnet.collect(), glare: glare.collect(), foam: &FOAM, look }
    }

    pub(crate) fn draw(&self, picture: &mut Picture<'_>, state: &SceneState<'_>, seed: u32) {
        let t_s = if state.t_s.is_finite() { state.t_s.clamp(-1e6, 1e6) } else { 0.0 };
        let rain = if state.weather.rain.is_finite() { state.weather.rain.clamp(0.0, 1.0) } else { 0.0 };
        if self.look.reflection > 0.0 {
            self.reflect(picture);
        }
        if rain > 0.03 {
            streaks(picture, rain, t_s, seed);
        }
        if self.look.bonnet_height > 0.0 {
            self.draw_bonnet(picture);
        }
        if rain > 0.03 {
            drops(picture, rain, t_s, state.wipers, seed);
        }
        if state.weather.car_wash {
            self.wash(picture, t_s);
        }
        if state.wipers.is_finite() && state.wipers >= 0.0 {
            wipers(picture, state.wipers);
        }
        if self.look.caption {
            caption(picture);
        }
    }

    /// Marks what bonnet and wipers hide, as [`Overlay::draw`] does; `picture` needs no pixels.
    pub(crate) fn hide(&self, picture: &mut Picture<'_>, state: &SceneState<'_>) {
        if self.look.bonnet_height > 0.0 {
            self.draw_bonnet(picture);
        }
        if state.wipers.is_finite() && state.wipers >= 0.0 {
            wipers(picture, state.wipers);
        }
    }

    fn reflect(&self, picture: &mut Picture<'_>) {
        let strength = (picture.ambient.min(1.2) * self.look.reflection.clamp(0.0, 1.0) * 34.0) as u32;
        for (pixel, glare) in picture.rgb.chunks_exact_mut(3).zip(&self.glare) {
            let add = (u32::from(*glare) * strength) >> 8;
            for byte in pixel {
                // A reflection shows over dark things, not over the sky.
                *byte = (u32::from(*byte) + ((add * (300 - u32::from(*byte))) >> 8)).min(255) as u8;
            }
        }
    }

    fn draw_bonnet(&self, picture: &mut Picture<'_>) {
        let paint = self.look.bonnet.map(|c| f32::from(c) * f32::from(c) / 65_025.0);
        let first = self.bonnet.iter().copied().fold(f32::MAX, f32::min).max(1.0) as usize;
        for y in first..picture.height {
            for x in 0..picture.width {
                let top = self.bonnet.get(x).copied().unwrap_or(f32::MAX);
                let depth = y as f32 + 1.0 - top;
                if depth <= 0.0 {
                    continue;
                }
                let share = depth.min(1.0);
                // The paint mirrors what is above its edge, squeezed, and darkens towards the windscreen.
                let from = (top - depth * 2.6 - picture.height as f32 * 0.12).max(0.0) as usize;
                let mirrored = picture.at(x, from);
                let fall = 1.0 - 0.45 * (depth / (picture.height as f32 * 0.2)).min(1.0);
                let rim = 1.0 + 0.5 * (1.0 - ((depth - 1.0) / 2.5).clamp(0.0, 1.0));
                let c = core::array::from_fn(|i| {
                    picture.grey(paint[i] * 0.8 * fall * rim) * 0.8 + f32::from(mirrored[i]) * 0.22 * fall
                });
                picture.blend(x, y, c, share);
                picture.hide(x, y);
            }
        }
    }

    /// Three acts of six seconds: water, foam, brushes.
    fn wash(&self, picture: &mut Picture<'_>, t_s: f64) {
        let t = (t_s % 600.0) as f32;
        let act = t / 6.0 - (t / 6.0).floor();
        let foam = step(0.05, 0.3, act) * (1.0 - 0.7 * step(0.75, 0.95, act)) + 0.15;
        let brush = step(0.5, 0.6, act) * (1.0 - step(0.92, 1.0, act));
        let (w, h) = (picture.width as f32, picture.height as f32);
        for y in 0..picture.height {
            for x in 0..picture.width {
                let (u, v) = (x as f32 / w, y as f32 / h);
                let slide = t * 22.0 + 14.0 * (u * 9.0 - (u * 9.0).floor());
                let body = self.foam.smooth(u * 90.0, v * 60.0 - slide) / 255.0;
                let fine = self.foam.smooth(u * 260.0 + 40.0, v * 200.0 - slide * 2.0) / 255.0;
                let cover = step(0.62 - 0.45 * foam, 0.92 - 0.4 * foam, body * 0.75 + fine * 0.3);
                let white = picture.grey(0.75 + 0.35 * fine);
                picture.blend(x, y, [white, white, white * 1.02], cover * 0.9);
                if brush > 0.0 {
                    let middle = 0.5 + 0.42 * (act - 0.72) * 4.0;
                    let ragged = self.foam.smooth(v * 220.0, t * 90.0) / 255.0;
                    let near = 1.0 - step(0.12, 0.20, (u - middle).abs() - 0.08 * ragged);
                    let strand = self.foam.smooth(u * 300.0 + v * 40.0 + t * 160.0, v * 14.0 + t * 30.0) / 255.0;
                    let tuft = self.foam.smooth(u * 420.0 - t * 90.0, v * 60.0 + u * 40.0) / 255.0;
                    let tint = if tuft < 0.5 { [0.03, 0.08, 0.42] } else { [0.10, 0.20, 0.55] };
                    let c = tint.map(|k: f32| picture.grey(k * (0.3 + strand)));
                    picture.blend(x, y, c, brush * near * (0.55 + 0.45 * strand));
                }
            }
        }
    }
}

/// Streaks of falling rain, others in every picture.
fn streaks(picture: &mut Picture<'_>, rain: f32, t_s: f64, seed: u32) {
    let (w, h) = (picture.width as f32, picture.height as f32);
    let frame = hash(seed ^ ((t_s * 1000.0) as i64 as u32));
    let count = (rain * STREAKS as f32) as u32;
    let shine = picture.grey(0.55).max(24.0);
    for i in 0..count {
        let r = |k: u32| unit(hash(frame ^ (i * 8 + k)));
        let (x, y) = (r(0) * w, r(1) * h);
        let long = h * (0.02 + 0.07 * r(2));
        let lean = (x / w - 0.5) * 0.45 + 0.06;
        let share = 0.10 + 0.16 * r(3);
        for k in 0..(long as usize) {
            let f = k as f32;
            let (px, py) = (x + lean * f, y + f);
            if px >= 0.0 && py >= 0.0 {
                picture.blend(px as usize, py as usize, [shine; 3], share);
            }
        }
    }
}

/// Angle of a wiper, radians above its parked place, at a phase.
fn sweep(phase: f32) -> f32 {
    let (_, c) = sin_cos(f64::from(phase.clamp(0.0, 1.0)) * 2.0 * PI);
    0.5 * (1.0 - c) * 1.75
}

const PIVOTS: [f32; 2] = [0.22, 0.74];

/// Drops on the glass; a blade that has just passed leaves few.
fn drops(picture: &mut Picture<'_>, rain: f32, t_s: f64, wiper: f32, seed: u32) {
    let (w, h) = (picture.width as f32, picture.height as f32);
    let count = (rain.sqrt() * DROPS as f32) as u32;
    for i in 0..count {
        let start = unit(hash2(i as i32, 1, seed));
        let life = t_s * 0.6 + f64::from(start);
        let cycle = life.floor() as i64 as i32;
        let age = (life - life.floor()) as f32;
        let r = |k: i32| unit(hash2(i as i32 * 16 + k, cycle, seed));
        let (x, mut y) = (r(0) * w, r(1) * h);
        if wiper >= 0.0 {
            let pivot = w * if x / w < 0.5 { PIVOTS[0] } else { PIVOTS[1] };
            let (dx, dy) = (pivot - x, 1.1 * h - y);
            let (s, c) = sin_cos(f64::from(sweep(wiper)));
            let passed = (dx * s - dy * c) * if wiper < 0.5 { -1.0 } else { 1.0 } > 0.0;
            if passed && r(5) < 0.75 {
                continue;
            }
        }
        let radius = h * (0.005 + 0.013 * r(2) * r(2)) * (0.5 + age).min(1.0);
        if r(4) > 0.8 {
            y += age * age * h * 0.25;
        }
        drop_at(picture, x, y, radius.max(1.0));
    }
}

/// A drop shows what is behind it upside down, dark above and bright below.
fn drop_at(picture: &mut Picture<'_>, x: f32, y: f32, radius: f32) {
    let reach = radius.ceil() as i32;
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let (fx, fy) = (dx as f32, dy as f32);
            let d2 = (fx * fx + fy * fy * 0.8) / (radius * radius);
            let (px, py) = (x + fx, y + fy);
            if d2 > 1.0 || px < 0.0 || py < 0.0 {
                continue;
            }
            let from = |p: f32, d: f32, top: usize| (p - d * 4.0).clamp(0.0, top as f32 - 1.0) as usize;
            let seen = picture.at(from(px, fx, picture.width), from(py, fy, picture.height));
            let light = 1.0 + 0.22 * fy / radius - 0.18 * d2;
            let c = seen.map(|v| f32::from(v) * light);
            picture.blend(px as usize, py as usize, c, 0.75 * (1.0 - d2 * d2));
        }
    }
}

fn wipers(picture: &mut Picture<'_>, phase: f32) {
    let (w, h) = (picture.width as f32, picture.height as f32);
    let (s, c) = sin_cos(f64::from(sweep(phase)) + 0.04);
    let dark = picture.grey(0.02).min(40.0);
    let half = w * 0.011;
    for pivot in PIVOTS {
        let (px, py) = (pivot * w, 1.10 * h);
        let reach = w * 0.62;
        let (tx, ty) = (px - c * reach, py - s * reach);
        let clamp = |v: f32, top: usize| v.clamp(0.0, top as f32) as usize;
        let rows = clamp(ty.min(py) - half, picture.height)..clamp(ty.max(py) + half, picture.height);
        let columns = clamp(tx.min(px) - half, picture.width)..clamp(tx.max(px) + half, picture.width);
        for y in rows {
            for x in columns.clone() {
                let (dx, dy) = (x as f32 - px, y as f32 - py);
                let along = -(dx * c + dy * s);
                let off = (dx * s - dy * c).abs();
                if along > 0.0 && along < reach && off < half {
                    let share = 0.85 * (1.0 - step(0.45, 1.0, off / half));
                    picture.blend(x, y, [dark; 3], share);
                    if share > 0.5 {
                        picture.hide(x, y);
                    }
                }
            }
        }
    }
}

/// `SYNTHETIC` in the corner, so that no copy of the picture passes for a real one.
fn caption(picture: &mut Picture<'_>) {
    let dot = (picture.width / 420).max(1);
    for (i, letter) in b"SYNTHETIC".iter().enumerate() {
        for (row, bits) in glyph(*letter).iter().enumerate() {
            for column in (0..5).filter(|c| bits >> (4 - c) & 1 == 1) {
                for k in 0..dot * dot {
                    let (x, y) = ((4 + (i * 6 + column)) * dot + k % dot, (4 + row) * dot + k / dot);
                    picture.blend(x, y, [236.0; 3], 0.85);
                    picture.blend(x + 1, y + 1, [10.0; 3], 0.35);
                }
            }
        }
    }
}
