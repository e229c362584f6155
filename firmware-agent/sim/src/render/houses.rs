//! Houses: walls with a grid of windows, doors and shop fronts, and their roofs.
//!
//! Terms: *u* runs along a wall and *v* up it, metres. A *bay* is one window with the wall around it.
//!
//! What it never does: model a window as geometry; windows are a pattern on the wall.

use super::frame::Frame;
use super::light::{Light, Paint};
use super::limits::FAR_M;
use super::mesh::Canvas;
use super::noise::{Tile, hash, hash2, unit};
use super::vec3::{V3, add, cross, dot, floor, lin, mix, normal, scale, sin_cos, sub, times};
use crate::world::state::Building;

/// Where a pattern lies: origin and unit axes, camera axes.
pub(crate) struct Sheet {
    pub(crate) origin: V3,
    pub(crate) u: V3,
    pub(crate) v: V3,
}

/// Draws a flat face with a pattern: `pattern` gives albedo and own light at (u, v).
pub(crate) fn patterned(
    canvas: &mut Canvas<'_>,
    light: &Light,
    points: &[V3],
    sheet: &Sheet,
    pattern: impl Fn(f32, f32) -> (V3, V3),
) {
    let &[a, b, c, ..] = points else { return };
    let n = cross(sub(b, a), sub(c, b));
    let facing = dot(n, a);
    if facing.is_nan() || facing >= 0.0 {
        return;
    }
    let view = canvas.view;
    let (outline, Some(plane)) = (view.project(points), view.inverse_depth(n, a)) else { return };
    canvas.frame.polygons += 1;
    if canvas.plain {
        return canvas.frame.fill_with(&outline, plane, |_, _, _| Some([0.0; 3]));
    }
    let n = normal(n);
    let sum = points.iter().fold([0.0; 3], |s, p| add(s, *p));
    let mut still = *light;
    still.density = 0.0;
    // The headlights' share changes along a wall: it is taken per pixel, the rest once.
    let beamless = still.without_beam();
    let e = beamless.face(n, scale(sum, 1.0 / points.len() as f32), &Paint { albedo: [1.0; 3], emit: 0.0, gloss: 0.0 });
    let (along, up) = (view.along(sheet.u, 1.0), view.along(sheet.v, 1.0));
    let (u0, v0) = (dot(sheet.origin, sheet.u), dot(sheet.origin, sheet.v));
    let lit = light.dark > 0.0;
    let frame: &mut Frame = canvas.frame;
    // The beam is soft: one value serves four pixels of a row.
    let mut known = (f32::MAX, f32::MAX, 0.0);
    frame.fill_with(&outline, plane, |x, y, z| {
        let (albedo, own) = pattern(along.at(x, y) * z - u0, up.at(x, y) * z - v0);
        let mut e = e;
        if lit {
            if known.1 != y || (x - known.0).abs() >= 4.0 {
                known = (x, y, light.beam(scale(view.ray(x + 0.5, y + 0.5), z)) * 0.7);
            }
            let beam = known.2;
            e = add(e, [beam, beam * 0.97, beam * 0.86]);
        }
        let clear = 1.0 - (z * light.density * (1.0 / 16.0)).min(1.0);
        let clear = clear * clear;
        let clear = clear * clear;
        let clear = clear * clear;
        Some(mix(light.fog, add(times(albedo, e), own), clear * clear))
    });
}

/// Draws a house.
pub(crate) fn draw(canvas: &mut Canvas<'_>, light: &Light, plaster: &Tile, b: &Building, salt: u32) {
    let (s, c) = sin_cos(if b.heading.is_finite() { b.heading.clamp(-1e6, 1e6) } else { 0.0 });
    let reach = ((b.length + b.width) * 0.5 + b.height) as f32;
    let middle = canvas.view.ground(b.at);
    let side = (middle[2] + reach) * (canvas.view.cx / canvas.view.focal) + reach;
    if middle[2] < -reach || middle[2] - reach > FAR_M || middle[0].abs() > side {
        return;
    }
    let size = [b.length as f32, b.width as f32, b.height as f32, b.roof as f32].map(|x| x.clamp(0.0, 200.0));
    let (u, v) = (canvas.view.turn([c, s, 0.0]), canvas.view.turn([-s, c, 0.0]));
    let up = canvas.view.up;
    let at = |x: f32, y: f32, z: f32| add(middle, add(add(scale(u, x), scale(v, y)), scale(up, z)));
    let (hx, hy, h) = (size[0] * 0.5, size[1] * 0.5, size[2]);
    let corners = [[-hx, -hy], [hx, -hy], [hx, hy], [-hx, hy]];
    let key = hash(salt ^ (b.at[0] as i32 as u32).wrapping_mul(31) ^ (b.at[1] as i32 as u32));
    let style = Style::new(b, key, light);
    for k in 0..4 {
        let ([x0, y0], [x1, y1]) = (corners[k], corners[(k + 1) % 4]);
        let wall = [at(x0, y0, 0.0), at(x1, y1, 0.0), at(x1, y1, h), at(x0, y0, h)];
        let long = if k % 2 == 0 { size[0] } else { size[1] };
        let sheet = Sheet { origin: wall[0], u: normal(sub(wall[1], wall[0])), v: up };
        let bays = (long / 2.6).floor().max(1.0);
        let grid = Grid { bay: long / bays, floor: h / f32::from(b.floors.clamp(1, 60)), side: k as i32 };
        patterned(canvas, light, &wall, &sheet, |u, v| style.wall(plaster, &grid, u, v));
    }
    roof(canvas, light, &at, (hx, hy, h, size[3]), key);
}

fn roof(
    canvas: &mut Canvas<'_>,
    light: &Light,
    at: &impl Fn(f32, f32, f32) -> V3,
    (hx, hy, h, rise): (f32, f32, f32, f32),
    key: u32,
) {
    let tiles = [[136, 66, 48], [90, 60, 52], [84, 84, 90], [112, 74, 56]][(key >> 5) as usize % 4];
    let paint = Paint::matt(tiles);
    if rise <= 0.05 {
        let flat = [at(-hx, -hy, h), at(hx, -hy, h), at(hx, hy, h), at(-hx, hy, h)];
        canvas.polygon(&flat, &Paint::matt([120, 118, 116]), false, light);
        return;
    }
    let (over, eave) = (0.4, h - 0.15);
    let (x, y) = (hx + over, hy + over);
    let ridge = [at(-x, 0.0, h + rise), at(x, 0.0, h + rise)];
    canvas.polygon(&[at(-x, -y, eave), at(x, -y, eave), ridge[1], ridge[0]], &paint, true, light);
    canvas.polygon(&[at(x, y, eave), at(-x, y, eave), ridge[0], ridge[1]], &paint, true, light);
    let gable = Paint::matt([176, 164, 148]);
    canvas.polygon(&[at(hx, -hy, h), at(hx, hy, h), at(hx, 0.0, h + rise)], &gable, false, light);
    canvas.polygon(&[at(-hx, hy, h), at(-hx, -hy, h), at(-hx, 0.0, h + rise)], &gable, false, light);
}

struct Grid {
    bay: f32,
    floor: f32,
    side: i32,
}

struct Style {
    wall: V3,
    trim: V3,
    glass: V3,
    mirror: V3,
    lit: f32,
    key: u32,
    shop: bool,
    wide: f32,
}

impl Style {
    fn new(b: &Building, key: u32, light: &Light) -> Self {
        let wall = lin(b.colour);
        let pale = mix(wall, [0.8, 0.8, 0.78], 0.6);
        Self {
            wall,
            trim: pale,
            glass: [0.012, 0.015, 0.02],
            mirror: scale(light.horizon, 0.22),
            lit: light.gain * light.dark,
            key,
            shop: key.is_multiple_of(3) && b.floors > 1,
            wide: 0.2 + 0.1 * unit(key),
        }
    }

    fn wall(&self, plaster: &Tile, grid: &Grid, u: f32, v: f32) -> (V3, V3) {
        let (bu, bv) = (u / grid.bay, v / grid.floor);
        let (iu, iv) = (floor(bu), floor(bv));
        let (fu, fv) = ((bu - iu - 0.5).abs(), bv - iv);
        let (column, row) = (iu as i32, iv as i32);
        let ground_floor = row <= 0;
        let (half, low, high) = if ground_floor && self.shop { (0.44, 0.14, 0.74) } else { (self.wide, 0.30, 0.80) };
        let door = ground_floor && !self.shop && hash2(column, grid.side, self.key).is_multiple_of(4);
        let low = if door { 0.0 } else { low };
        if fu < half && fv > low && fv < high {
            let room = hash2(column, row * 8 + grid.side, self.key ^ 0x55);
            if door {
                return (mix(lin([90, 62, 44]), self.wall, 0.2), [0.0; 3]);
            }
            let bar = fu < 0.018 || (fv - (low + high) * 0.5).abs() < 0.012;
            if bar && !self.shop {
                return (self.trim, [0.0; 3]);
            }
            let glow = if room % 100 < 38 { self.lit * (0.10 + 0.35 * unit(room)) } else { 0.0 };
            let own = add(self.mirror, scale([1.0, 0.74, 0.40], glow));
            let curtain = if room.is_multiple_of(5) { [0.25, 0.24, 0.22] } else { self.glass };
            return (curtain, own);
        }
        if fu < half + 0.035 && fv > low - 0.03 && fv < high + 0.03 {
            return (self.trim, [0.0; 3]);
        }
        if ground_floor && self.shop && fv > 0.78 && fv < 0.92 {
            let sign = hash(self.key);
            let board = [40 + (sign & 127) as u8, 40 + (sign >> 8 & 127) as u8, 40 + (sign >> 16 & 127) as u8];
            return (lin(board), scale(lin(board), self.lit * 0.6));
        }
        let grain = f32::from(plaster.at((u * 12.0) as i32, (v * 12.0) as i32, 1)) * (0.24 / 255.0) + 0.86;
        let base = if v < 0.5 { 0.7 } else { 1.0 };
        (scale(self.wall, grain * base), [0.0; 3])
    }
}
