//! Light that spills around lamps and the sun in the lens, and water's mirror on the road.
//!
//! What it never does: shine through things: a lamp behind something nearer is left out.

use super::frame::{Frame, ONE};
use super::ground::Ground;
use super::light::Light;
use super::limits::{TAG_GROUND, TAG_SKY};
use super::mesh::Glow;
use super::vec3::{V3, scale};
use super::view::View;

/// Adds light to a pixel.
#[inline]
fn add_to(pixel: &mut [u16; 4], c: V3, share: f32) {
    for (value, light) in pixel.iter_mut().zip(c) {
        *value = value.saturating_add((light * share * ONE).clamp(0.0, 65_535.0) as u16);
    }
}

/// Adds a soft disc: bright within `core` pixels, fading to nothing at `reach`.
fn disc(frame: &mut Frame, (x, y): (f32, f32), (core, reach): (f32, f32), c: V3) {
    if !(x.is_finite() && y.is_finite() && reach > 0.2) {
        return;
    }
    let reach = reach.min(400.0);
    let clamp = |v: f32, top: usize| v.clamp(0.0, top as f32) as usize;
    let (x0, x1) = (clamp(x - reach, frame.width), clamp(x + reach + 1.0, frame.width));
    let (y0, y1) = (clamp(y - reach, frame.height), clamp(y + reach + 1.0, frame.height));
    let (r2, c2) = (reach * reach, core * core);
    for row in y0..y1 {
        let dy = row as f32 + 0.5 - y;
        let Some(pixels) = frame.colour.get_mut(row * frame.width + x0..row * frame.width + x1.max(x0)) else {
            continue;
        };
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let dx = (x0 + i) as f32 + 0.5 - x;
            let d2 = dx * dx + dy * dy;
            if d2 < r2 {
                let edge = 1.0 - d2 / r2;
                add_to(pixel, c, edge * edge * c2 / (c2 + 3.0 * d2));
            }
        }
    }
}

/// Draws the lamps that were met while things were drawn.
pub(crate) fn lamps(frame: &mut Frame, view: &View, light: &Light, glows: &[Glow]) {
    for glow in glows {
        let p = view.pixel(glow.at);
        if !(p[0] > -60.0 && p[1] > -60.0 && p[0] < frame.width as f32 + 60.0 && p[1] < frame.height as f32 + 60.0) {
            continue;
        }
        let (column, row) = (p[0].max(0.0) as usize, p[1].max(0.0) as usize);
        let inside = p[0] >= 0.0 && p[1] >= 0.0 && column < frame.width && row < frame.height;
        if inside {
            let there = frame.depth.get(row * frame.width + column).copied().unwrap_or(0.0);
            // Half a metre of slack: the lamp's own housing is there.
            if there > 1.0 / (glow.at[2] - 0.5).max(0.2) {
                continue;
            }
        }
        let distance = glow.at[2];
        let px = view.focal / distance;
        let core = (glow.size * px).clamp(0.55, 12.0);
        let haze = 1.0 + 3.0 * light.density * 40.0 / (1.0 + light.density * 40.0);
        let reach = (core * (2.5 + 3.5 * light.dark) * haze + 1.5 * light.dark).min(90.0);
        let c = scale(glow.colour, light.gain * light.clear(distance * 0.8));
        disc(frame, (p[0], p[1]), (core, reach), c);
    }
}

/// Draws the sun's disc and its veil over the lens when it is in sight; gives the share of veil, 0 to 1.
pub(crate) fn sun(frame: &mut Frame, view: &View, light: &Light, cloud: f32) -> f32 {
    let power = light.sun[0] * (1.0 - 0.8 * cloud);
    if power < 0.05 || light.sun_at[2] < 0.1 || light.sun_world[2] < -0.02 {
        return 0.0;
    }
    let p = view.pixel(light.sun_at);
    let (w, h) = (frame.width as f32, frame.height as f32);
    if !(p[0] > -0.3 * w && p[0] < 1.3 * w && p[1] > -0.4 * h && p[1] < h) {
        return 0.0;
    }
    let (mut open, mut seen) = (0u32, 0u32);
    for (dx, dy) in [(0.0, 0.0), (6.0, 0.0), (-6.0, 0.0), (0.0, 6.0), (0.0, -6.0)] {
        let (x, y) = (p[0] + dx, p[1] + dy);
        seen += 1;
        let inside = x >= 0.0 && y >= 0.0 && x < w && y < h;
        let index = y.max(0.0) as usize * frame.width + x.max(0.0) as usize;
        let sky = frame.colour.get(index).is_none_or(|c| c[3] == TAG_SKY);
        open += u32::from(!inside || sky);
    }
    let share = open as f32 / seen as f32;
    if share <= 0.0 {
        return 0.0;
    }
    let colour = scale(light.sun, share);
    disc(frame, (p[0], p[1]), (h * 0.030, h * 0.09), scale(colour, 3.5));
    disc(frame, (p[0], p[1]), (h * 0.10, h * 0.75), scale(colour, 0.55));
    // Ghosts of the lens on the line through the middle.
    for (k, size) in [(0.45, 0.020), (-0.25, 0.035), (-0.6, 0.025)] {
        let (x, y) = (view.cx + (p[0] - view.cx) * k, view.cy + (p[1] - view.cy) * k);
        disc(frame, (x, y), (h * size, h * size * 1.4), scale([0.5, 0.7, 0.6], 0.06 * power * share));
    }
    let (dx, dy) = ((p[0] - view.cx) / w, (p[1] - view.cy) / w);
    (share * power * 0.16 / (1.0 + 4.0 * (dx * dx + dy * dy))).clamp(0.0, 0.3)
}

/// Mirrors what stands on a wet road in it, column by column: below the foot of a thing lies its picture upside down.
/// `foot`: scratch of one row per column.
pub(crate) fn mirror(frame: &mut Frame, ground: &Ground, foot: &mut [u16], seed: u32) {
    let wet = ground.wet;
    if wet < 0.15 {
        return;
    }
    let (width, height) = (frame.width, frame.height);
    foot.fill(0);
    for y in 1..height {
        let row = y * width;
        for (x, foot) in foot.iter_mut().enumerate().take(width) {
            let index = row + x;
            let tag = frame.colour.get(index).map_or(TAG_SKY, |c| c[3]);
            if tag != TAG_GROUND {
                *foot = y as u16;
                continue;
            }
            if !ground.mirrors(index) {
                continue;
            }
            let base = usize::from(*foot);
            // Ripples tear the mirror image more the farther it is from the foot.
            let torn = super::noise::hash(
                (x as u32 / 2).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x27d4_eb2f) ^ seed,
            );
            let reach = 1 + (y - base) / 10;
            let (up, aside) = (torn as usize % (2 * reach + 1), (torn >> 16) as usize % (reach + 1));
            let Some(from) = (2 * base + 1 + up).checked_sub(y) else { continue };
            let column = (x + aside).saturating_sub(reach / 2).min(width - 1);
            let Some(image) = frame.colour.get(from.min(base) * width + column).copied() else { continue };
            // Water mirrors more the flatter one looks: near the horizon most.
            let graze = 1.0 - (y - base) as f32 / (height as f32 * 0.9);
            let share = (wet * (0.10 + 0.50 * graze * graze) * 256.0) as u32;
            if let Some(pixel) = frame.colour.get_mut(index) {
                for (value, seen) in pixel.iter_mut().zip(image).take(3) {
                    let mixed = u32::from(*value) * (256 - share / 2) + u32::from(seen) * share;
                    *value = (mixed >> 8).min(65_535) as u16;
                }
            }
        }
    }
}
