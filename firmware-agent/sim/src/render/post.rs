//! From the inner image to the picture: lens distortion, motion blur, vignette, tone, sensor noise; and exposure.
//!
//! Terms: the *map* says for every pixel of the picture where it lies in the inner image, in sixteenths of a pixel;
//! it is made anew only when lens or focal length change. The *gain* is the exposure; it follows the mean light of
//! earlier pictures as an automatic exposure does, so a picture depends on those before it.
//!
//! What it never does: allocate after [`Post::new`].

use super::frame::{Frame, ONE, Texel};
use super::limits::BLUR_TAPS;
use super::noise::{hash, normal_table};
use super::vec3::V3;

/// Parts of a pixel in the map.
const PART: i32 = 16;
/// Entries of the tone table: the brightest light is four times white.
const TONES: usize = 16_384;
/// Entries of the table of sensor noise.
const NOISE: usize = 1 << 14;

/// Lens as the pose gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lens {
    /// Focal length over width.
    pub(crate) focal: f64,
    pub(crate) k1: f64,
}

impl Lens {
    pub(crate) fn new(focal: f64, k1: f64) -> Self {
        let focal = if focal.is_finite() && focal > 0.0 { focal.clamp(0.3, 4.0) } else { 0.8 };
        let k1 = if k1.is_finite() { k1.clamp(-0.35, 0.35) } else { 0.0 };
        Self { focal, k1 }
    }

    /// The undistorted radius of a distorted one, by fixed-point steps; radii over the focal length.
    fn undistort(&self, r: f64) -> f64 {
        let mut u = r;
        for _ in 0..24 {
            u = r / (1.0 + self.k1 * u * u).max(0.35);
        }
        u
    }
}

/// What one picture needs beside the inner image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exposure {
    /// Pixels of the inner image that pass during the exposure, right and down.
    pub(crate) smear: [f32; 2],
    /// Light added everywhere, 0 to 1.
    pub(crate) veil: f32,
    /// Deviation of the noise, in eight-bit steps.
    pub(crate) noise: f32,
    pub(crate) seed: u32,
}

/// Tables and buffers of the last step.
pub(crate) struct Post {
    width: usize,
    height: usize,
    inner: (usize, usize),
    map: Vec<[u16; 2]>,
    lens: Option<Lens>,
    /// Focal length of the inner image, pixels.
    pub(crate) focal: f32,
    tone: [u8; TONES],
    noise: Vec<i8>,
    fade: Vec<u16>,
    /// Tags of the picture's pixels.
    pub(crate) tags: Vec<u16>,
}

impl Post {
    pub(crate) fn new(width: usize, height: usize, inner: (usize, usize)) -> Self {
        let fade = (0..width * height).map(|i| {
            let (x, y) = ((i % width) as f32 / width as f32 - 0.5, (i / width) as f32 / width as f32);
            let y = y - 0.5 * height as f32 / width as f32;
            (256.0 * (1.0 - 0.55 * (x * x + y * y))) as u16
        });
        Self {
            width,
            height,
            inner,
            map: vec![[0; 2]; width * height],
            lens: None,
            focal: 1.0,
            tone: core::array::from_fn(tone),
            noise: normal_table(NOISE + 3 * width),
            fade: fade.collect(),
            tags: vec![0; width * height],
        }
    }

    /// Makes the map for a lens unless it is that of the last picture.
    pub(crate) fn set_lens(&mut self, lens: Lens) {
        if self.lens == Some(lens) {
            return;
        }
        self.lens = Some(lens);
        let (w, h) = (self.width as f64, self.height as f64);
        let focal = lens.focal * w;
        let ideal = |x: f64, y: f64| {
            let (dx, dy) = ((x - w / 2.0) / focal, (y - h / 2.0) / focal);
            let r = (dx * dx + dy * dy).sqrt();
            let k = if r > 1e-9 { lens.undistort(r) / r } else { 1.0 };
            (dx * k, dy * k)
        };
        let (mut reach_x, mut reach_y) = (1e-6f64, 1e-6f64);
        for (x, y) in [(0.0, 0.0), (w / 2.0, 0.0), (0.0, h / 2.0)] {
            let (u, v) = ideal(x, y);
            reach_x = reach_x.max(u.abs());
            reach_y = reach_y.max(v.abs());
        }
        let (iw, ih) = (self.inner.0 as f64, self.inner.1 as f64);
        let inner_focal = ((iw / 2.0 - 1.5) / reach_x).min((ih / 2.0 - 1.5) / reach_y);
        self.focal = inner_focal as f32;
        for (i, slot) in self.map.iter_mut().enumerate() {
            let (u, v) = ideal((i % self.width) as f64 + 0.5, (i / self.width) as f64 + 0.5);
            let place = |centre: f64, offset: f64, top: f64| {
                ((centre + offset * inner_focal - 0.5).clamp(0.0, top - 1.1) * f64::from(PART)) as u16
            };
            *slot = [place(iw / 2.0, u, iw), place(ih / 2.0, v, ih)];
        }
    }

    /// Fills the tags alone, as [`Post::develop`] does.
    pub(crate) fn trace(&mut self, frame: &Frame) {
        for (tag, at) in self.tags.iter_mut().zip(&self.map) {
            *tag = corners(frame, *at).map_or(0, |texels| nearest(texels, *at));
        }
    }

    /// Fills the picture.
    pub(crate) fn develop(&mut self, frame: &Frame, exposure: &Exposure, rgb: &mut [u8]) {
        let length = exposure.smear[0].abs().max(exposure.smear[1].abs());
        let veil = (exposure.veil * ONE) as u32;
        let strength = (exposure.noise * 8.0).clamp(0.0, 255.0) as i32;
        let taps = if length > 0.8 { ((length as usize) | 1).clamp(3, BLUR_TAPS) } else { 1 };
        for y in 0..self.height {
            let row = y * self.width..(y + 1) * self.width;
            let noise_at = hash(exposure.seed ^ (y as u32).wrapping_mul(0x9e37_79b1)) as usize % NOISE;
            let grains = self.noise.get(noise_at..).unwrap_or(&[]).as_chunks::<3>().0;
            let (Some(map), Some(fade), Some(out), Some(tags)) = (
                self.map.get(row.clone()),
                self.fade.get(row.clone()),
                rgb.get_mut(row.start * 3..row.end * 3),
                self.tags.get_mut(row),
            ) else {
                return;
            };
            let tables = fade.iter().zip(grains);
            for (((pixel, at), tag), (fade, grain)) in
                out.as_chunks_mut::<3>().0.iter_mut().zip(map).zip(tags).zip(tables)
            {
                let (c, seen) = if taps == 1 { sample(frame, *at) } else { smeared(frame, *at, exposure.smear, taps) };
                *tag = seen;
                let fade = u32::from(*fade);
                for i in 0..3 {
                    let light = (((c[i] + veil) * fade) >> 10) as usize;
                    let value = i32::from(self.tone[light.min(TONES - 1)]);
                    pixel[i] = (value + ((i32::from(grain[i]) * strength) >> 8)).clamp(0, 255) as u8;
                }
            }
        }
    }
}

/// Linear light (four times white at the end) as a byte: gamma 2 with a soft shoulder.
fn tone(index: usize) -> u8 {
    let x = index as f32 / (TONES as f32 / 4.0);
    // A toe keeps shadows down, the shoulder bends the lights over.
    let y = x * (1.0 + x * 0.08) / (1.0 + x * 0.42);
    let y = (y * 1.28).min(1.0).sqrt();
    (y * 255.0 + 0.5).min(255.0) as u8
}

/// Between the four pixels around a place of the map; the tag of the nearest, thin actors favoured.
#[inline]
fn sample(frame: &Frame, at: [u16; 2]) -> ([u32; 3], u16) {
    let Some(texels) = corners(frame, at) else { return ([0; 3], 0) };
    let (fx, fy) = (u32::from(at[0]) % PART as u32, u32::from(at[1]) % PART as u32);
    // Two colours at a time in the halves of a 64-bit number: 16 bits times weights that sum to 256 fit in 32.
    let part = PART as u64;
    let (fx, fy) = (u64::from(fx), u64::from(fy));
    let weights = [(part - fx) * (part - fy), fx * (part - fy), (part - fx) * fy, fx * fy];
    let (mut outer, mut middle) = (0u64, 0u64);
    for (t, w) in texels.into_iter().zip(weights) {
        let t = u64::from(t[0]) | u64::from(t[1]) << 16 | u64::from(t[2]) << 32 | u64::from(t[3]) << 48;
        outer += (t & 0x0000_ffff_0000_ffff) * w;
        middle += ((t >> 16) & 0x0000_ffff_0000_ffff) * w;
    }
    ([(outer as u32) >> 8, (middle as u32) >> 8, (outer >> 40) as u32], nearest(texels, at))
}

/// The four pixels around a place of the map.
#[inline]
fn corners(frame: &Frame, at: [u16; 2]) -> Option<[Texel; 4]> {
    let (x, y) = (usize::from(at[0]) / PART as usize, usize::from(at[1]) / PART as usize);
    let index = y * frame.width + x;
    let &[a, b] = frame.colour.get(index..index + 2)?.first_chunk::<2>()?;
    let &[c, d] = frame.colour.get(index + frame.width..index + frame.width + 2)?.first_chunk::<2>()?;
    Some([a, b, c, d])
}

/// Tag of the nearest of four, but where two are about as near an actor goes before ground: thin things would fall between samples.
#[inline]
fn nearest([a, b, c, d]: [Texel; 4], at: [u16; 2]) -> u16 {
    let choose = |f: u16, near: u16, far: u16| if f < 6 || (f <= 10 && near > far) { near } else { far };
    let (fx, fy) = (at[0] % PART as u16, at[1] % PART as u16);
    choose(fy, choose(fx, a[3], b[3]), choose(fx, c[3], d[3]))
}

fn smeared(frame: &Frame, at: [u16; 2], smear: [f32; 2], taps: usize) -> ([u32; 3], u16) {
    let mut sum = [0u32; 3];
    let middle = (taps / 2) as i32;
    let mut tag = 0;
    let (top_x, top_y) = ((frame.width as i32 - 2) * PART, (frame.height as i32 - 2) * PART);
    for k in -middle..=middle {
        let share = k as f32 / taps as f32 * PART as f32;
        let shift = |at: u16, d: f32, top: i32| (i32::from(at) + (d * share) as i32).clamp(0, top) as u16;
        let (c, seen) = sample(frame, [shift(at[0], smear[0], top_x), shift(at[1], smear[1], top_y)]);
        if k == 0 {
            tag = seen;
        }
        for (total, value) in sum.iter_mut().zip(c) {
            *total += value;
        }
    }
    (sum.map(|v| v / taps as u32), tag)
}

/// Mean linear light of the inner image by every seventh pixel of every fifth row, the lower fifth (bonnet) left out.
pub(crate) fn mean_light(frame: &Frame) -> f32 {
    let mut sum: V3 = [0.0; 3];
    let mut count = 0.0f32;
    for y in (frame.height / 8..frame.height * 4 / 5).step_by(5) {
        let row = frame.colour.get(y * frame.width..(y + 1) * frame.width).unwrap_or(&[]);
        for c in row.iter().step_by(7) {
            for (total, value) in sum.iter_mut().zip(c) {
                // What is over-exposed counts as white only.
                *total += f32::from(*value).min(1.4 * ONE);
            }
            count += 1.0;
        }
    }
    let weighted = 0.3 * sum[0] + 0.6 * sum[1] + 0.1 * sum[2];
    weighted / (count.max(1.0) * ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undistorting_inverts_the_lens() {
        for k1 in [-0.25, -0.1, 0.0, 0.1] {
            let lens = Lens::new(0.7, k1);
            for r in [0.0, 0.2, 0.5, 0.7] {
                let u = lens.undistort(r);
                assert!((u * (1.0 + k1 * u * u) - r).abs() < 1e-3, "{k1} {r} {u}");
            }
        }
    }

    #[test]
    fn tone_rises_and_ends_white() {
        assert!((1..TONES).all(|i| tone(i) >= tone(i - 1)));
        assert_eq!((tone(0), tone(TONES - 1)), (0, 255));
    }

    #[test]
    fn a_straight_lens_maps_the_middle_to_the_middle_and_the_corner_inside() {
        for k1 in [0.0, -0.2, 0.1] {
            let mut post = Post::new(64, 48, (96, 72));
            post.set_lens(Lens::new(0.8, k1));
            let middle = post.map[24 * 64 + 32];
            assert!(
                (i32::from(middle[0]) - 48 * PART).abs() <= PART && (i32::from(middle[1]) - 36 * PART).abs() <= PART
            );
            assert!(post.map.iter().all(|m| m[0] < 95 * PART as u16 && m[1] < 71 * PART as u16));
        }
    }
}
