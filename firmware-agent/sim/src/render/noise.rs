//! Repeatable noise: integer hashes, tiles of fractal noise with coarser copies for distance, and a near-normal table
//! for the sensor. A *tile* repeats after its side; *level* 0 is the finest, each next one halves both sides.
//!
//! What it never does: keep state between calls; the same arguments give the same value.

use super::vec3::floor;

/// Binary logarithm of a tile's side.
const BITS: usize = 8;
/// Side of a tile's finest level.
const SIDE: usize = 1 << BITS;
/// Levels of a tile.
const LEVELS: usize = 7;

/// Mixes 32 bits (the finaliser of MurmurHash3).
pub(crate) const fn hash(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

/// Hash of two whole numbers and a salt.
pub(crate) const fn hash2(x: i32, y: i32, salt: u32) -> u32 {
    hash((x as u32).wrapping_mul(0x9e37_79b1) ^ hash((y as u32).wrapping_add(salt.wrapping_mul(0x27d4_eb2f))))
}

/// Hash as a number from 0 to 1, 1 left out.
pub(crate) fn unit(hash: u32) -> f32 {
    (hash >> 8) as f32 / 16_777_216.0
}

/// A square of noise that repeats, with its coarser levels.
pub(crate) struct Tile {
    texels: Vec<u8>,
    starts: [usize; LEVELS],
}

impl Tile {
    /// Fractal noise: each octave has `gain` times the weight of the one before; the coarsest has `cells` cells.
    pub(crate) fn new(salt: u32, cells: usize, gain: f32) -> Self {
        let cells = cells.clamp(1, SIDE);
        let (mut sum, mut weight, mut size, mut octave) = (vec![0.0f32; SIDE * SIDE], 1.0, cells, 0);
        while size <= SIDE {
            add_octave(&mut sum, size, salt.wrapping_add(octave), weight);
            weight *= gain;
            size *= 2;
            octave += 1;
        }
        let (low, high) = sum.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        let range = (high - low).max(1e-6);
        let finest = sum.iter().map(|v| ((v - low) / range * 255.0) as u8).collect();
        Self::with_levels(finest)
    }

    fn with_levels(mut texels: Vec<u8>) -> Self {
        let mut starts = [0; LEVELS];
        let (mut begin, mut side) = (0, SIDE);
        for slot in starts.iter_mut().skip(1) {
            let half = side / 2;
            for y in 0..half {
                for x in 0..half {
                    let at = |dx: usize, dy: usize| u32::from(texels[begin + (2 * y + dy) * side + 2 * x + dx]);
                    texels.push(((at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1) + 2) / 4) as u8);
                }
            }
            begin += side * side;
            side = half;
            *slot = begin;
        }
        Self { texels, starts }
    }

    /// The texel of a level that holds a point given in texels of the finest level.
    #[inline]
    pub(crate) fn at(&self, x: i32, y: i32, level: usize) -> u8 {
        let level = level.min(LEVELS - 1);
        let bits = BITS - level;
        let mask = (1usize << bits) - 1;
        let index = ((((y >> level) as usize) & mask) << bits) | (((x >> level) as usize) & mask);
        self.texels.get(self.starts[level] + index).copied().unwrap_or(0)
    }

    /// One level, for many texels of it.
    pub(crate) fn level(&self, level: usize) -> Level<'_> {
        let level = level.min(LEVELS - 1);
        let bits = (BITS - level) as u32;
        let texels = self.texels.get(self.starts[level]..).unwrap_or(&[]);
        Level { texels, shift: level as u32, bits, mask: (1 << bits) - 1 }
    }

    /// Between the four texels around a point, 0 to 255.
    #[inline]
    pub(crate) fn smooth(&self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (floor(x), floor(y));
        let (ix, iy, u, v) = (fx as i32, fy as i32, x - fx, y - fy);
        let at = |dx: i32, dy: i32| f32::from(self.at(ix.wrapping_add(dx), iy.wrapping_add(dy), 0));
        let (top, low) = (at(0, 0) + (at(1, 0) - at(0, 0)) * u, at(0, 1) + (at(1, 1) - at(0, 1)) * u);
        top + (low - top) * v
    }
}

/// One level of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Level<'a> {
    texels: &'a [u8],
    shift: u32,
    bits: u32,
    mask: usize,
}

impl Level<'_> {
    /// As [`Tile::at`].
    #[inline]
    pub(crate) fn at(&self, x: i32, y: i32) -> u8 {
        let (x, y) = ((x >> self.shift) as usize & self.mask, (y >> self.shift) as usize & self.mask);
        self.texels.get((y << self.bits) | x).copied().unwrap_or(0)
    }
}

fn add_octave(sum: &mut [f32], cells: usize, salt: u32, weight: f32) {
    let step = SIDE / cells;
    let corner = |x: usize, y: usize| unit(hash2((x % cells) as i32, (y % cells) as i32, salt));
    for (i, value) in sum.iter_mut().enumerate() {
        let (x, y) = (i % SIDE, i / SIDE);
        let (cx, cy) = (x / step, y / step);
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (ease((x % step) as f32 / step as f32), ease((y % step) as f32 / step as f32));
        let top = corner(cx, cy) + (corner(cx + 1, cy) - corner(cx, cy)) * u;
        let low = corner(cx, cy + 1) + (corner(cx + 1, cy + 1) - corner(cx, cy + 1)) * u;
        *value += weight * (top + (low - top) * v);
    }
}

/// Near-normal whole numbers of mean 0 and deviation 32, for the sensor.
pub(crate) fn normal_table(length: usize) -> Vec<i8> {
    (0..length as u32)
        .map(|i| {
            let sum: u32 = (0..3)
                .map(|k| {
                    let h = hash(i * 3 + k);
                    (h & 0xff) + (h >> 24)
                })
                .sum();
            ((sum as f32 - 765.0) * (32.0 / 181.0)) as i8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_repeats_and_its_levels_keep_the_mean() {
        let tile = Tile::new(7, 8, 0.5);
        assert_eq!(tile.at(3, 5, 0), tile.at(3 + 256, 5 - 512, 0));
        let mean = |level: usize| {
            let step = 1 << level;
            let all = (0..256).step_by(step).flat_map(|y| (0..256).step_by(step).map(move |x| (x, y)));
            let values: Vec<f64> = all.map(|(x, y)| f64::from(tile.at(x, y, level))).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        assert!((mean(0) - mean(4)).abs() < 2.0, "{} {}", mean(0), mean(4));
        assert!(mean(0) > 60.0 && mean(0) < 200.0);
    }

    #[test]
    fn the_sensor_table_has_its_moments() {
        let table = normal_table(1 << 14);
        let n = table.len() as f64;
        let mean = table.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let spread = (table.iter().map(|v| (f64::from(*v) - mean) * (f64::from(*v) - mean)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 1.0, "{mean}");
        assert!((spread - 32.0).abs() < 2.0, "{spread}");
    }
}
