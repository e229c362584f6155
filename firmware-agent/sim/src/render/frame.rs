//! The inner image: linear light, tags and inverse depth, and the rows that a convex polygon covers.
//!
//! Terms: a pixel holds linear red, green and blue ([`ONE`] is white in plain daylight, four times that the brightest
//! light) and its *tag*: sky, ground, a standing thing or an actor. A *stamp* remembers which actor was last drawn
//! over a pixel, seen or hidden, so that each actor's whole area is counted without a second pass.
//!
//! What it never does: allocate after [`Frame::new`], or write outside its buffers whatever the corners are.

use super::limits::{TAG_ACTOR, TAG_SKY};
use super::vec3::V3;
use super::view::{Linear, Outline};

/// White in plain daylight.
pub(crate) const ONE: f32 = 16_384.0;
/// Brightest light.
const TOP: f32 = 65_535.0;

/// Linear red, green, blue and the tag.
pub(crate) type Texel = [u16; 4];

/// Linear light as a pixel with a tag.
#[inline]
pub(crate) fn texel(c: V3, tag: u16) -> Texel {
    // Adding 2^23 leaves the nearest whole number in the low bits; a cast would cost a check of its range.
    let q = |v: f32| ((v * ONE).clamp(0.0, TOP) + 8_388_608.0).to_bits() as u16;
    [q(c[0]), q(c[1]), q(c[2]), tag]
}

/// The inner image.
pub(crate) struct Frame {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) colour: Vec<Texel>,
    /// 1/z, 0 for the sky.
    pub(crate) depth: Vec<f32>,
    stamp: Vec<u16>,
    rows: Vec<[f32; 2]>,
    /// Tag given to pixels that are drawn now.
    pub(crate) tag: u16,
    /// Pixels stamped since the tag was set.
    pub(crate) stamped: u32,
    /// Polygons drawn in this frame.
    pub(crate) polygons: usize,
}

/// A run of pixels of one row: first index, first column, columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) begin: usize,
    pub(crate) x: usize,
    pub(crate) length: usize,
}

impl Frame {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let n = width * height;
        Self {
            width,
            height,
            colour: vec![[0; 4]; n],
            depth: vec![0.0; n],
            stamp: vec![0; n],
            rows: vec![[0.0; 2]; height],
            tag: TAG_SKY,
            stamped: 0,
            polygons: 0,
        }
    }

    /// Forgets what was drawn (colours are overwritten by sky and ground, which come last and where nothing stands).
    pub(crate) fn begin(&mut self) {
        self.stamp.fill(0);
        self.depth.fill(0.0);
        self.polygons = 0;
        self.set_tag(TAG_SKY);
    }

    pub(crate) fn set_tag(&mut self, tag: u16) {
        self.tag = tag;
        self.stamped = 0;
    }

    /// Left and right ends of a convex polygon on every row it covers; the rows from and to which it does.
    pub(crate) fn scan(&mut self, points: &[[f32; 2]]) -> (usize, usize) {
        scan(&mut self.rows, points)
    }

    /// Ends of a row found by [`Frame::scan`], clamped to the image.
    pub(crate) fn ends(&self, y: usize) -> (f32, f32) {
        let [left, right] = self.rows.get(y).copied().unwrap_or_default();
        let w = self.width as f32;
        (left.clamp(0.0, w), right.clamp(0.0, w))
    }

    /// Pixels of a row whose centres lie in the polygon of the last scan.
    #[inline]
    pub(crate) fn span(&self, y: usize) -> Span {
        let (left, right) = self.ends(y);
        let x = (left + 0.499_99) as usize;
        let end = ((right + 0.499_99) as usize).min(self.width);
        Span { begin: y * self.width + x, x, length: end.saturating_sub(x) }
    }

    /// Fills an outline with one colour where it is nearer than what is there.
    pub(crate) fn fill(&mut self, outline: &Outline, plane: Linear, colour: V3) {
        let value = texel(colour, self.tag);
        let (first, last) = self.scan(outline.points());
        let stamped = self.tag >= TAG_ACTOR;
        for y in first..last {
            let span = self.span(y);
            let range = span.begin..span.begin + span.length;
            let (Some(colours), Some(depths)) = (self.colour.get_mut(range.clone()), self.depth.get_mut(range.clone()))
            else {
                continue;
            };
            let mut inverse = plane.at(span.x as f32, y as f32);
            for (pixel, depth) in colours.iter_mut().zip(depths) {
                let z = inverse.clamp(outline.far, outline.near);
                if z > *depth {
                    *depth = z;
                    *pixel = value;
                }
                inverse += plane.a;
            }
            if stamped {
                self.stamp_row(range);
            }
        }
    }

    fn stamp_row(&mut self, range: core::ops::Range<usize>) {
        let tag = self.tag;
        let mut fresh = 0;
        for stamp in self.stamp.get_mut(range).unwrap_or(&mut []) {
            fresh += u32::from(*stamp != tag);
            *stamp = tag;
        }
        self.stamped += fresh;
    }

    /// Fills an outline with what `shade` gives for each pixel's depth and position; `None` leaves the pixel.
    pub(crate) fn fill_with(
        &mut self,
        outline: &Outline,
        plane: Linear,
        mut shade: impl FnMut(f32, f32, f32) -> Option<V3>,
    ) {
        let (first, last) = self.scan(outline.points());
        let tag = self.tag;
        for y in first..last {
            let span = self.span(y);
            let range = span.begin..span.begin + span.length;
            let (Some(colours), Some(depths)) = (self.colour.get_mut(range.clone()), self.depth.get_mut(range.clone()))
            else {
                continue;
            };
            for (i, (pixel, depth)) in colours.iter_mut().zip(depths).enumerate() {
                let x = (span.x + i) as f32;
                let z = plane.at(x, y as f32).clamp(outline.far, outline.near);
                if z > *depth
                    && let Some(colour) = shade(x, y as f32, 1.0 / z)
                {
                    *depth = z;
                    *pixel = texel(colour, tag);
                }
            }
            if tag >= TAG_ACTOR {
                self.stamp_row(range);
            }
        }
    }
}

/// Left and right ends of a convex polygon at the middles of rows; gives the rows from and to which it reaches.
pub(crate) fn scan(rows: &mut [[f32; 2]], points: &[[f32; 2]]) -> (usize, usize) {
    let height = rows.len() as f32;
    let (mut low, mut high) = (f32::MAX, f32::MIN);
    for p in points {
        if !(p[0].is_finite() && p[1].is_finite()) {
            return (0, 0);
        }
        low = low.min(p[1]);
        high = high.max(p[1]);
    }
    let row = |y: f32| (y + 0.499_99).clamp(0.0, height) as usize;
    let (first, last) = (row(low), row(high));
    if points.len() < 3 || first >= last {
        return (0, 0);
    }
    for ends in rows.get_mut(first..last).unwrap_or(&mut []) {
        *ends = [f32::MAX, f32::MIN];
    }
    let Some(mut a) = points.last().copied() else { return (0, 0) };
    for b in points.iter().copied() {
        let (top, bottom) = if a[1] < b[1] { (a, b) } else { (b, a) };
        a = b;
        let (from, to) = (row(top[1]), row(bottom[1]));
        if from >= to {
            continue;
        }
        let slope = (bottom[0] - top[0]) / (bottom[1] - top[1]);
        let mut x = top[0] + (from as f32 + 0.5 - top[1]) * slope;
        for ends in rows.get_mut(from..to).unwrap_or(&mut []) {
            ends[0] = ends[0].min(x);
            ends[1] = ends[1].max(x);
            x += slope;
        }
    }
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(x: f32, y: f32, size: f32, inverse: f32) -> Outline {
        let mut o = Outline::default();
        for (dx, dy) in [(0.0, 0.0), (size, 0.0), (size, size), (0.0, size)] {
            o.push([x + dx, y + dy], inverse);
        }
        o
    }

    fn flat(inverse: f32) -> Linear {
        Linear { a: 0.0, b: 0.0, c: inverse }
    }

    #[test]
    fn nearer_wins_and_every_actor_counts_its_whole_area() {
        let mut frame = Frame::new(40, 30);
        frame.begin();
        frame.set_tag(TAG_ACTOR);
        frame.fill(&square(2.0, 2.0, 10.0, 0.5), flat(0.5), [1.0, 0.0, 0.0]);
        assert_eq!(frame.stamped, 100);
        frame.fill(&square(2.0, 2.0, 10.0, 0.4), flat(0.4), [1.0, 1.0, 0.0]);
        assert_eq!(frame.stamped, 100, "a second face over the same pixels adds none");
        frame.set_tag(TAG_ACTOR + 1);
        frame.fill(&square(7.0, 2.0, 10.0, 0.1), flat(0.1), [0.0, 1.0, 0.0]);
        assert_eq!(frame.stamped, 100);
        let seen = |tag: u16| frame.colour.iter().filter(|c| c[3] == tag).count();
        assert_eq!((seen(TAG_ACTOR), seen(TAG_ACTOR + 1)), (100, 50));
        assert_eq!(frame.colour[5 * 40 + 5], [16_384, 0, 0, TAG_ACTOR]);
    }

    #[test]
    fn neighbours_share_no_pixel_and_leave_no_gap() {
        let mut frame = Frame::new(64, 64);
        frame.begin();
        let (a, b, c, d) = ([3.2, 4.7], [50.1, 9.3], [47.9, 55.5], [7.4, 49.2]);
        let outline = |points: [[f32; 2]; 3]| {
            let mut o = Outline::default();
            points.iter().for_each(|p| o.push(*p, 0.5));
            o
        };
        frame.set_tag(TAG_ACTOR);
        frame.fill(&outline([a, b, c]), flat(0.5), [1.0; 3]);
        let first = frame.stamped;
        frame.set_tag(TAG_ACTOR + 1);
        frame.fill(&outline([a, c, d]), flat(0.5), [1.0; 3]);
        let second = frame.stamped;
        let mut whole = Outline::default();
        [a, b, c, d].iter().for_each(|p| whole.push(*p, 0.5));
        frame.set_tag(TAG_ACTOR + 2);
        frame.fill(&whole, flat(0.6), [1.0; 3]);
        assert!(frame.stamped.abs_diff(first + second) <= 1, "{first} {second} {}", frame.stamped);
    }

    #[test]
    fn odd_outlines_are_harmless() {
        let mut frame = Frame::new(20, 10);
        frame.begin();
        frame.fill(&square(f32::NAN, 0.0, 1.0, 1.0), flat(1.0), [1.0; 3]);
        frame.fill(&square(0.0, f32::INFINITY, 1.0, 1.0), flat(1.0), [1.0; 3]);
        assert!(frame.depth.iter().all(|d| *d == 0.0));
        frame.fill(&square(-1e9, -1e9, 2e9, 1.0), flat(1.0), [9.0; 3]);
        assert!(frame.colour.iter().all(|c| c[0] == 65_535));
    }
}
