//! Trees and bushes: pictures with ragged edges on boards that turn towards the camera.
//!
//! Terms: a *leaf* picture holds, per texel, 0 where nothing is and else the brightness; below the crown stands the
//! trunk, marked by its own value. Each picture comes in three sizes for distance.
//!
//! What it never does: turn with the camera's roll alone; a tree leans only with the picture.

use super::light::Light;
use super::limits::FAR_M;
use super::mesh::Canvas;
use super::noise::{Tile, hash, unit};
use super::vec3::{V3, add, lin, normal, scale, sub, times};
use super::view::{Linear, Outline};
use crate::world::state::{Tree, TreeKind};

const SIZES: [usize; 3] = [96, 32, 12];
const VARIANTS: usize = 2;
/// Texel of the trunk.
const TRUNK: u8 = 1;

/// The pictures.
pub(crate) struct Leaves {
    /// By kind, variant and size.
    pictures: Vec<Vec<u8>>,
}

impl Leaves {
    pub(crate) fn new() -> Self {
        let noise = Tile::new(41, 16, 0.8);
        let mut pictures = Vec::new();
        for kind in 0..3 {
            for variant in 0..VARIANTS {
                for size in SIZES {
                    pictures.push(picture(&noise, kind, variant, size));
                }
            }
        }
        Self { pictures }
    }

    fn get(&self, kind: TreeKind, variant: usize, level: usize) -> Option<(&[u8], usize)> {
        let kind = match kind {
            TreeKind::Broadleaf => 0,
            TreeKind::Conifer => 1,
            TreeKind::Bush => 2,
        };
        let size = *SIZES.get(level)?;
        Some((self.pictures.get((kind * VARIANTS + variant) * SIZES.len() + level)?, size))
    }
}

fn picture(noise: &Tile, kind: usize, variant: usize, size: usize) -> Vec<u8> {
    let shift = 61.0 * variant as f32 + 23.0 * kind as f32;
    let texel = |x: f32, y: f32| -> u8 {
        let (nx, ny) = (x * 70.0 + shift, y * 70.0);
        let rough = noise.smooth(nx, ny) / 255.0 - 0.5;
        let leaf = noise.smooth(nx * 2.3, ny * 2.3 + 90.0) / 255.0;
        let (dx, inside) = match kind {
            0 => {
                let (dx, dy) = ((x - 0.5) / 0.47, (y - 0.37) / 0.37);
                (dx, 1.0 - (dx * dx + dy * dy).sqrt() + rough * 0.75)
            }
            1 => {
                let half = 0.04 + 0.44 * (y / 0.92);
                let tier = (y * 7.0) - (y * 7.0).floor();
                let dx = (x - 0.5) / half;
                (dx, if y < 0.92 { 1.0 - dx.abs() * (1.25 - 0.35 * tier) + rough * 0.8 } else { -1.0 })
            }
            _ => {
                let (dx, dy) = ((x - 0.5) / 0.49, (y - 0.62) / 0.52);
                (dx, 1.0 - (dx * dx + dy * dy).sqrt() + rough * 0.6)
            }
        };
        // Gaps in the crown let the sky through.
        if inside > 0.0 && (leaf > 0.24 || inside > 0.55) {
            let light = 0.42 + 0.5 * (1.0 - y) + 0.55 * (leaf - 0.5) - 0.16 * dx;
            return (light.clamp(0.12, 1.0) * 250.0) as u8 + 2;
        }
        let trunk = kind != 2 && y > 0.5 && (x - 0.5).abs() < 0.022 + 0.02 * y;
        if trunk { TRUNK } else { 0 }
    };
    let at = |i: usize| (i as f32 + 0.5) / size as f32;
    (0..size * size).map(|i| texel(at(i % size), at(i / size))).collect()
}

/// Draws a tree or a bush.
pub(crate) fn draw(canvas: &mut Canvas<'_>, light: &Light, leaves: &Leaves, tree: &Tree) {
    let view = canvas.view;
    let foot = view.ground(tree.at);
    let (height, radius) = (tree.height.clamp(0.1, 60.0) as f32, tree.radius.clamp(0.1, 30.0) as f32);
    if foot[2] < 1.0 || foot[2] > FAR_M || foot[0].abs() - radius > foot[2] * (view.cx / view.focal) * 1.2 + 1.0 {
        return;
    }
    let right = normal(sub([1.0, 0.0, 0.0], scale(view.up, view.up[0])));
    let half = scale(right, radius);
    let top = add(foot, scale(view.up, height));
    let corners = [sub(foot, half), add(foot, half), add(top, half), sub(top, half)];
    let mut outline = Outline::default();
    for c in corners {
        if c[2] < 0.3 {
            return;
        }
        outline.push(view.pixel(c), 1.0 / foot[2]);
    }
    let (base, tip, edge) = (view.pixel(foot), view.pixel(top), view.pixel(add(foot, half)));
    let tall = base[1] - tip[1];
    let level = if tall > 60.0 {
        0
    } else if tall > 20.0 {
        1
    } else {
        2
    };
    let key = hash((tree.at[0] * 8.0) as i32 as u32 ^ ((tree.at[1] * 8.0) as i32 as u32).rotate_left(16));
    let Some((picture, size)) = leaves.get(tree.kind, key as usize % VARIANTS, level) else { return };
    let flip = if key & 8 == 0 { 0.5 } else { -0.5 };
    let (du, dv) = ([edge[0] - base[0], edge[1] - base[1]], [tip[0] - base[0], tip[1] - base[1]]);
    let (lu, lv) = (du[0] * du[0] + du[1] * du[1], dv[0] * dv[0] + dv[1] * dv[1]);
    if !(lu > 1e-4 && lv > 1e-4) {
        return;
    }
    let lines = |d: [f32; 2], l: f32, k: f32| {
        let (a, b) = (d[0] / l * k, d[1] / l * k);
        Linear { a, b, c: a * (0.5 - base[0]) + b * (0.5 - base[1]) }
    };
    let (across, upward) = (lines(du, lu, flip), lines(dv, lv, 1.0));
    let (crown, haze, trunk) = colours(light, tree, foot, key);
    let n = size as f32;
    canvas.frame.polygons += 1;
    let plane = Linear { a: 0.0, b: 0.0, c: 1.0 / foot[2] };
    canvas.frame.fill_with(&outline, plane, |x, y, _| {
        let (u, v) = ((across.at(x, y) + 0.5) * n, (1.0 - upward.at(x, y)) * n);
        let index = (v.clamp(0.0, n - 1.0) as usize) * size + u.clamp(0.0, n - 1.0) as usize;
        match picture.get(index).copied().unwrap_or(0) {
            0 => None,
            TRUNK => Some(trunk),
            value => {
                let k = f32::from(value) * (1.0 / 255.0);
                Some([haze[0] + crown[0] * k, haze[1] + crown[1] * k, haze[2] + crown[2] * k])
            }
        }
    });
}

/// The brightest crown as it reaches the camera, the haze before it, and the trunk with its haze.
fn colours(light: &Light, tree: &Tree, foot: V3, key: u32) -> (V3, V3, V3) {
    let clear = light.clear(foot[2]);
    let outdoor = 1.0 - light.indoor;
    let mut e = add(scale(light.sky, 1.05), scale(light.sun, 0.75 * outdoor));
    e = add(e, light.lamp);
    let beam = light.beam(foot) * 0.8;
    e = add(e, [beam, beam, beam * 0.9]);
    let tone = 0.8 + 0.4 * unit(key);
    let crown = scale(times(lin(tree.colour), e), tone * 1.15 * clear);
    let haze = scale(light.fog, 1.0 - clear);
    let bark = add(haze, scale(times(lin([86, 70, 56]), e), 0.8 * clear));
    (crown, haze, bark)
}
