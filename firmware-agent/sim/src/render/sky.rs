//! The sky: gradient, clouds, glow around the sun and a skyline of hills or roofs.
//!
//! Colours are computed at every eighth pixel of a row and run straight between; the skyline is cut per pixel.
//!
//! What it never does: draw the sun's disc; that is a glow (`glow.rs`) so that things can stand before it.

use std::sync::LazyLock;

use super::frame::{Frame, texel};
use super::light::Light;
use super::limits::TAG_SKY;
use super::noise::Tile;
use super::vec3::{V3, add, decay, dot, mix, scale, step, sub};
use super::view::{Linear, View};
use crate::world::state::{RoadKind, Weather};

/// Pixels between computed colours.
const STRIDE: usize = 8;

/// Made once for all cameras.
static CLOUDS: LazyLock<Tile> = LazyLock::new(|| Tile::new(11, 4, 0.55));
static RIDGE: LazyLock<Tile> = LazyLock::new(|| Tile::new(23, 16, 0.6));

/// What the sky needs from frame to frame.
pub(crate) struct Sky {
    clouds: &'static Tile,
    ridge: &'static Tile,
    /// Tangent of the skyline's elevation, per column.
    skyline: Vec<f32>,
}

struct Hues<'a> {
    light: &'a Light,
    cloud: f32,
    drift: f32,
    far_hill: V3,
}

impl Sky {
    pub(crate) fn new(width: usize) -> Self {
        Self { clouds: &CLOUDS, ridge: &RIDGE, skyline: vec![0.0; width] }
    }

    /// Paints every pixel where nothing stands on rows that reach above `cut`, the inverse depth at which the ground
    /// ends; the ground is painted after it.
    pub(crate) fn paint(
        &mut self,
        frame: &mut Frame,
        (view, light): (&View, &Light),
        (weather, kind): (&Weather, RoadKind),
        (ground, cut): (Linear, f32),
        t_s: f64,
    ) {
        self.trace_skyline(view, kind);
        let drift = if t_s.is_finite() { (t_s % 4096.0) as f32 } else { 0.0 };
        let hill = match kind {
            RoadKind::Town => [0.16, 0.15, 0.15],
            RoadKind::Motorway | RoadKind::Country => [0.06, 0.10, 0.07],
        };
        let lit: V3 = core::array::from_fn(|i| hill[i] * (light.sky[i] + 0.4 * light.sun[i]));
        let hues = Hues {
            light,
            cloud: weather.cloud.clamp(0.0, 1.0),
            drift,
            far_hill: mix(light.fog, lit, decay(700.0 * light.density)),
        };
        let (width, height) = (frame.width, frame.height);
        for y in 0..height {
            let ends = (ground.at(0.0, y as f32), ground.at((width - 1) as f32, y as f32));
            if ends.0 > cut && ends.1 > cut {
                continue;
            }
            let row = y * width..(y + 1) * width;
            if let (Some(pixels), Some(depths)) = (frame.colour.get_mut(row.clone()), frame.depth.get(row)) {
                self.paint_row(view, &hues, y, (pixels, depths));
            }
        }
    }

    fn paint_row(&self, view: &View, hues: &Hues<'_>, y: usize, (pixels, depths): (&mut [[u16; 4]], &[f32])) {
        let world = |x: f32| {
            let ray = view.ray(x + 0.5, y as f32 + 0.5);
            add(add(scale(view.right, ray[0]), scale(view.down, ray[1])), view.ahead)
        };
        let hill = texel(hues.far_hill, TAG_SKY);
        // Colour at the right end of the last block, when that block was painted.
        let mut known: Option<(V3, V3)> = None;
        for (block, (chunk, depths)) in pixels.chunks_mut(STRIDE).zip(depths.chunks(STRIDE)).enumerate() {
            if depths.iter().all(|d| *d > 0.0) {
                known = None;
                continue;
            }
            let begin = (block * STRIDE) as f32;
            let (left, d0) = known.unwrap_or_else(|| (self.colour(world(begin), hues), world(begin)));
            let d1 = world(begin + STRIDE as f32);
            let right = self.colour(d1, hues);
            let share = 1.0 / STRIDE as f32;
            let (change, turn) = (scale(sub(right, left), share), scale(sub(d1, d0), share));
            let (mut c, mut d) = (left, d0);
            let base = self.skyline.get(block * STRIDE..).unwrap_or(&[]);
            for ((pixel, depth), ridge) in chunk.iter_mut().zip(depths).zip(base) {
                if *depth <= 0.0 {
                    let flat = d[0] * d[0] + d[1] * d[1];
                    let below = d[2] <= 0.0 || d[2] * d[2] < ridge * ridge * flat;
                    *pixel = if below { hill } else { texel(c, TAG_SKY) };
                }
                c = add(c, change);
                d = add(d, turn);
            }
            known = Some((right, d1));
        }
    }

    fn colour(&self, d: V3, hues: &Hues<'_>) -> V3 {
        let light = hues.light;
        let length = dot(d, d).sqrt().max(1e-6);
        let rise = (d[2] / length).max(0.0);
        let t = 1.0 - rise;
        let low = t * t * t;
        let mut c = mix(light.zenith, light.horizon, low * (0.55 + 0.45 * low));
        let toward = (dot(d, light.sun_world) / length).max(0.0);
        let near = toward * toward * toward * toward;
        let halo = near * near * near * near;
        let core = halo * halo * halo * halo;
        c = add(c, scale(light.sun, 0.10 * near * near + 0.30 * halo + 0.9 * core * core));
        if rise > 0.01 && hues.cloud > 0.02 {
            let k = 38.0 / d[2].max(length * 0.03);
            let u = d[0] * k + hues.drift * 0.35;
            let v = d[1] * k + hues.drift * 0.11;
            let body = self.clouds.smooth(u, v) * (1.0 / 255.0);
            let cover = step(0.78 - 0.62 * hues.cloud, 1.02 - 0.5 * hues.cloud, body) * step(0.01, 0.12, rise);
            let white = mix(light.horizon, scale(add(light.sky, scale(light.sun, 0.45)), 0.95), 0.75);
            let shaded = scale(white, 0.62 + 0.38 * (1.0 - body) + 0.3 * core);
            c = mix(c, shaded, cover * 0.9);
        }
        c
    }

    fn trace_skyline(&mut self, view: &View, kind: RoadKind) {
        let (base, range, blocky) = match kind {
            RoadKind::Town => (0.03, 0.09, true),
            RoadKind::Motorway => (0.012, 0.05, false),
            RoadKind::Country => (0.01, 0.085, false),
        };
        for (x, slot) in self.skyline.iter_mut().enumerate() {
            let ray = (x as f32 + 0.5 - view.cx) / view.focal;
            let d = add(scale(view.right, ray), view.ahead);
            // A stand-in for the bearing that needs no arc tangent: it runs 0 to 4 around the horizon.
            let share = d[1] / (d[0].abs() + d[1].abs()).max(1e-6);
            let bearing = if d[0] >= 0.0 { 1.0 + share } else { 3.0 - share };
            let at = bearing * 512.0;
            let noise = if blocky {
                f32::from(self.ridge.at(at as i32 / 6, at as i32 / 24, 0))
            } else {
                self.ridge.smooth(at * 0.5, 17.0)
            };
            *slot = base + range * noise * (1.0 / 255.0);
        }
    }
}
