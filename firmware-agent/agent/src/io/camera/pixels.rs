//! Pictures as cameras give them (YUYV) to what the encoder takes and to what is looked at.
//!
//! BT.601, limited range, as everywhere else in the agent. Every buffer is kept and grows only when the size changes.

use openh264::formats::YUVSource;

/// A picture of even sides in YUV 4:2:0 without padding.
#[derive(Default)]
pub(crate) struct Yuv {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
}

impl YUVSource for Yuv {
    fn dimensions(&self) -> (usize, usize) {
        self.size
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.size.0, self.size.0 / 2, self.size.0 / 2)
    }

    fn y(&self) -> &[u8] {
        &self.planes[0]
    }

    fn u(&self) -> &[u8] {
        &self.planes[1]
    }

    fn v(&self) -> &[u8] {
        &self.planes[2]
    }
}

/// A picture in YUYV (4:2:2, two pixels in four bytes) as the driver filled it.
#[derive(Clone, Copy)]
pub(crate) struct Yuyv<'a> {
    pub(crate) size: (usize, usize),
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Yuyv<'a> {
    /// `None` if the bytes are too few for the size.
    pub(crate) fn new(size: (usize, usize), stride: usize, bytes: &'a [u8]) -> Option<Self> {
        let (width, height) = size;
        let needed = stride.checked_mul(height.checked_sub(1)?)?.checked_add(2 * width)?;
        (stride >= 2 * width && bytes.len() >= needed && width >= 2).then_some(Self { size, stride, bytes })
    }

    fn row(&self, y: usize) -> &'a [u8] {
        self.bytes.get(y * self.stride..y * self.stride + 2 * self.size.0).unwrap_or(&[])
    }
}

impl Yuv {
    /// Takes over a picture, less the last column or row of odd sides; chroma of two rows becomes their mean.
    pub(crate) fn take(&mut self, from: &Yuyv<'_>) {
        let (width, height) = (from.size.0 & !1, from.size.1 & !1);
        if self.size != (width, height) {
            self.size = (width, height);
            let n = width * height;
            self.planes.iter_mut().zip([n, n / 4, n / 4]).for_each(|(plane, n)| plane.resize(n, 0));
        }
        let [luma, u, v] = &mut self.planes;
        for (y, out) in luma.chunks_exact_mut(width.max(1)).enumerate() {
            out.iter_mut().zip(from.row(y).iter().step_by(2)).for_each(|(out, luma)| *out = *luma);
        }
        let half = (width / 2).max(1);
        for (y, (u, v)) in u.chunks_exact_mut(half).zip(v.chunks_exact_mut(half)).enumerate() {
            let pairs = from.row(2 * y).chunks_exact(4).zip(from.row(2 * y + 1).chunks_exact(4));
            for ((a, b), (u, v)) in pairs.zip(u.iter_mut().zip(v)) {
                *u = u8::midpoint(a[1], b[1]);
                *v = u8::midpoint(a[3], b[3]);
            }
        }
    }
}

/// Whole factor by which a picture is made at most `max` wide.
pub(crate) fn factor(width: usize, max: usize) -> usize {
    width.div_ceil(max.max(1)).max(1)
}

/// A picture made small: boxes of `factor` by `factor` pixels, averaged, as RGB in `rgb`; gives its size.
pub(crate) fn shrink(from: &Yuyv<'_>, factor: usize, rgb: &mut Vec<u8>) -> (usize, usize) {
    // Boxes of an odd factor would split the pairs that share their chroma; a pair more does no harm.
    let (wide, high) = (from.size.0 / factor, from.size.1 / factor);
    rgb.resize(3 * wide * high, 0);
    for (y, out) in rgb.chunks_exact_mut((3 * wide).max(1)).enumerate() {
        for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (first, last) = (x * factor / 2, ((x + 1) * factor - 1) / 2);
            let [mut luma, mut u, mut v, mut pairs] = [0_u32; 4];
            for row in (y * factor..(y + 1) * factor).map(|y| from.row(y)) {
                luma += row.iter().step_by(2).skip(x * factor).take(factor).map(|b| u32::from(*b)).sum::<u32>();
                for pair in row.chunks_exact(4).skip(first).take(last + 1 - first) {
                    u += u32::from(pair[1]);
                    v += u32::from(pair[3]);
                    pairs += 1;
                }
            }
            let mean = |sum: u32, n: u32| ((sum + n / 2) / n.max(1)) as i32;
            let [luma, u, v] = [mean(luma, (factor * factor) as u32), mean(u, pairs), mean(v, pairs)];
            pixel.copy_from_slice(&bt601(luma, u, v));
        }
    }
    (wide, high)
}

/// BT.601 limited range to RGB, in 1/256.
fn bt601(y: i32, u: i32, v: i32) -> [u8; 3] {
    let (c, d, e) = (298 * (y - 16) + 128, u - 128, v - 128);
    [c + 409 * e, c - 100 * d - 208 * e, c + 516 * d].map(|s| (s >> 8).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Luma counts up along the row, chroma is that of red.
    fn picture(size: (usize, usize), stride: usize) -> Vec<u8> {
        let mut bytes = vec![7; stride * size.1];
        for row in bytes.chunks_exact_mut(stride) {
            for (x, pixel) in row.chunks_exact_mut(2).take(size.0).enumerate() {
                pixel.copy_from_slice(&[(16 + x) as u8, if x % 2 == 0 { 90 } else { 240 }]);
            }
        }
        bytes
    }

    #[test]
    fn rows_with_padding_become_planes_without() {
        let bytes = picture((6, 4), 16);
        let mut yuv = Yuv::default();
        yuv.take(&Yuyv::new((6, 4), 16, &bytes).unwrap());
        assert_eq!(yuv.dimensions(), (6, 4));
        assert_eq!(yuv.y(), [16, 17, 18, 19, 20, 21].repeat(4));
        assert_eq!((yuv.u(), yuv.v()), (&[90; 6][..], &[240; 6][..]));
    }

    #[test]
    fn a_picture_made_small_keeps_its_colours_with_any_factor() {
        let mut bytes = vec![0; 12 * 12 * 2];
        bytes.chunks_exact_mut(4).for_each(|p| p.copy_from_slice(&[81, 90, 81, 240]));
        let from = Yuyv::new((12, 12), 24, &bytes).unwrap();
        for k in 1..=5 {
            let mut rgb = Vec::new();
            assert_eq!(shrink(&from, k, &mut rgb), (12 / k, 12 / k));
            assert!(rgb.chunks_exact(3).all(|p| p[0] > 250 && p[1] < 4 && p[2] < 4), "factor {k}: {:?}", &rgb[..3]);
        }
        assert_eq!((factor(1280, 640), factor(1281, 640), factor(320, 640)), (2, 3, 1));
    }

    #[test]
    fn boxes_average_the_luma_of_their_own_pixels() {
        let bytes = picture((8, 4), 16);
        let mut grey = bytes.clone();
        grey.iter_mut().skip(1).step_by(2).for_each(|b| *b = 128);
        let mut rgb = Vec::new();
        shrink(&Yuyv::new((8, 4), 16, &grey).unwrap(), 2, &mut rgb);
        // Luma 16.5, 18.5, 20.5, 22.5, rounded up, times 255/219.
        let expected: Vec<u8> =
            [17, 19, 21, 23].iter().map(|y| ((y - 16) as f64 * 255.0 / 219.0).round() as u8).collect();
        let got: Vec<u8> = rgb.chunks_exact(3).take(4).map(|p| p[0]).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn short_buffers_are_no_pictures() {
        let bytes = vec![0; 100];
        assert!(Yuyv::new((8, 4), 16, &bytes).is_some());
        assert!(Yuyv::new((8, 7), 16, &bytes).is_none());
        assert!(Yuyv::new((8, 4), 15, &bytes).is_none(), "rows that overlap");
        assert!(Yuyv::new((0, 4), 16, &bytes).is_none());
        assert!(Yuyv::new((8, 0), 16, &bytes).is_none());
        assert!(Yuyv::new((usize::MAX, usize::MAX), usize::MAX, &bytes).is_none());
    }
}
