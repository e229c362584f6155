//! Frames to patches: resize as PIL does, normalise, cut in merge order, and drop what did not change.
//!
//! Terms: a *token* here is a vision token, the square of merge x merge patches that the language half sees as one;
//! its *values* are the normalised pixels of all its patches. Touches pixels only; decodes no video.

mod prune;
mod resize;

use crate::{
    error::{Result, StudentError},
    limits::{MAX_FRAME_PATCHES, MAX_PICTURE_PIXELS, MAX_PICTURE_SIDE},
    shape::{ImageShape, VisionShape},
};

pub use prune::{Pruner, Pruning};
pub use resize::resize;

/// One frame, cut. Patches stand in merge order: block row, block column, then row and column within the block.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchFrame {
    /// Rows of patches, a multiple of the merge.
    pub rows: usize,
    /// Columns of patches, a multiple of the merge.
    pub cols: usize,
    /// rows x cols x (3 x patch^2) values, normalised; within a patch colour, row, column.
    pub pixels: Vec<f32>,
    /// One for each token (rows x cols / merge^2): goes to the language half.
    pub keep: Vec<bool>,
}

/// Splits off the first frames that are of one grid, as many as `room` has for so many patches, at least one.
pub(crate) fn of_one_grid(frames: &[PatchFrame], room: impl Fn(usize) -> usize) -> (&[PatchFrame], &[PatchFrame]) {
    let Some(first) = frames.first() else { return (frames, frames) };
    let same = frames.iter().take_while(|f| (f.rows, f.cols) == (first.rows, first.cols)).count();
    frames.split_at(same.min(room((first.rows * first.cols).max(1)).max(1)))
}

impl PatchFrame {
    /// Tokens that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }

    /// Whether a tower of this shape takes the frame.
    ///
    /// # Errors
    /// [`StudentError::Frame`], naming what does not fit.
    pub(crate) fn check(&self, shape: &VisionShape) -> Result<()> {
        let (merge, patch) = (shape.merge, shape.patch);
        let (width, height) = (self.cols.saturating_mul(patch), self.rows.saturating_mul(patch));
        let fault = |what: String| StudentError::Frame { width, height, what };
        let patches = self.rows.saturating_mul(self.cols);
        if !(1..=MAX_FRAME_PATCHES).contains(&patches) {
            return Err(fault(format!("{patches} patches; 1 to {MAX_FRAME_PATCHES} are taken")));
        }
        if !self.rows.is_multiple_of(merge) || !self.cols.is_multiple_of(merge) {
            return Err(fault(format!("{} by {} patches, merged by {merge}", self.rows, self.cols)));
        }
        if self.pixels.len() != patches * shape.patch_values() {
            return Err(fault(format!("{} values of {patches} patches", self.pixels.len())));
        }
        if self.keep.len() * merge * merge != patches {
            return Err(fault(format!("{} marks for {patches} patches", self.keep.len())));
        }
        Ok(())
    }
}

/// Height and width (pixels) that a picture is resized to, for a video of `frames` frames: whole tokens, about the
/// same aspect, at most `max_tokens` for all frames together and at least `min_tokens` for each.
///
/// The rule is upstream's (VideoLLaMA3, `simple_batched_resize`), with its rounding to even and its order: the least of
/// a frame is seen to last and from the picture's own size, so it wins over a budget that has no room for it.
///
/// # Errors
/// [`StudentError::Frame`] for an empty picture, one past the caps, an aspect above 200 (as upstream), or one whose
/// result would have more patches than the tower takes.
pub fn fit(
    (height, width): (usize, usize),
    frames: usize,
    image: &ImageShape,
    vision: &VisionShape,
) -> Result<(usize, usize)> {
    let fault = |what: String| StudentError::Frame { width, height, what };
    if height == 0 || width == 0 || height > MAX_PICTURE_SIDE || width > MAX_PICTURE_SIDE {
        return Err(fault(format!("sides of 1 to {MAX_PICTURE_SIDE} are taken")));
    }
    if height.max(width) > 200 * height.min(width) {
        return Err(fault("an aspect above 200".to_owned()));
    }
    let side = vision.token_side();
    let (h, w, factor) = (height as f64, width as f64, side as f64);
    let whole = |x: f64| (x / factor).round_ties_even() as usize * side;
    let most = image.max_tokens * side * side / frames.max(1);
    let least = image.min_tokens * side * side;
    let (mut rows, mut cols) = (whole(h), whole(w));
    if rows * cols > most {
        let shrink = (h * w / most as f64).sqrt();
        let cut = |x: f64| (x / shrink / factor).floor() as usize * side;
        (rows, cols) = (cut(h), cut(w));
    }
    if rows * cols < least {
        let grow = (least as f64 / (h * w)).sqrt();
        let raise = |x: f64| (x * grow / factor).ceil() as usize * side;
        (rows, cols) = (raise(h), raise(w));
    }
    if rows * cols > MAX_FRAME_PATCHES * vision.patch * vision.patch {
        return Err(fault(format!("would become {cols}x{rows}: more than {MAX_FRAME_PATCHES} patches")));
    }
    Ok((rows, cols))
}

/// Cuts a picture (RGB, 8 bits, row by row) into patches after resizing it to `size` (height, width); all tokens are
/// kept.
///
/// # Errors
/// [`StudentError::Frame`] if the bytes are not height x width x 3, or `size` is not whole tokens.
pub fn cut(
    rgb: &[u8],
    (height, width): (usize, usize),
    size: (usize, usize),
    image: &ImageShape,
    vision: &VisionShape,
) -> Result<PatchFrame> {
    let fault = |what: String| StudentError::Frame { width, height, what };
    let pixels = height.saturating_mul(width);
    if pixels == 0 || pixels > MAX_PICTURE_PIXELS || rgb.len() != 3 * pixels {
        return Err(fault(format!("{} bytes of RGB", rgb.len())));
    }
    let (rows, cols, side) = (size.0 / vision.patch, size.1 / vision.patch, vision.token_side());
    let whole = size.0.is_multiple_of(side) && size.1.is_multiple_of(side) && rows * cols > 0;
    if !whole || rows * cols > MAX_FRAME_PATCHES {
        return Err(fault(format!("cannot be cut as {}x{}", size.1, size.0)));
    }
    let resized = resize(rgb, (height, width), size);
    let scale = scales(image);
    let mut values = Vec::with_capacity(rows * cols * vision.patch_values());
    for (row, col) in merge_order(rows, cols, vision.merge) {
        for (colour, levels) in scale.iter().enumerate() {
            for y in row * vision.patch..(row + 1) * vision.patch {
                let line = &resized[3 * (y * size.1 + col * vision.patch)..][..3 * vision.patch];
                values.extend(line.iter().skip(colour).step_by(3).map(|level| levels[usize::from(*level)]));
            }
        }
    }
    let tokens = rows * cols / (vision.merge * vision.merge);
    Ok(PatchFrame { rows, cols, pixels: values, keep: vec![true; tokens] })
}

/// The normalised value of each grey level, for each colour.
fn scales(image: &ImageShape) -> [[f32; 256]; 3] {
    std::array::from_fn(|colour| {
        std::array::from_fn(|level| (level as f32 / 255.0 - image.mean[colour]) / image.std[colour])
    })
}

/// Rows and columns of all patches, patches of one token after another.
fn merge_order(rows: usize, cols: usize, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = cols / merge;
    (0..rows * cols).map(move |i| {
        let (block, inner) = (i / (merge * merge), i % (merge * merge));
        ((block / blocks) * merge + inner / merge, (block % blocks) * merge + inner % merge)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn shapes() -> (ImageShape, VisionShape) {
        let image = ImageShape { mean: [0.5; 3], std: [0.5; 3], min_tokens: 16, max_tokens: 10_240, token_id: 0 };
        let vision =
            VisionShape { hidden: 32, ffn: 32, layers: 1, heads: 2, patch: 14, merge: 2, eps: 1e-6, rope_theta: 1e4 };
        (image, vision)
    }

    #[test]
    fn a_picture_fits_as_upstream_fits_it() {
        let (mut image, vision) = shapes();
        // 240 / 28 = 8.57 rounds up to 9; 420 / 28 is 15.
        assert_eq!(fit((240, 420), 18, &image, &vision).unwrap(), (252, 420));
        // Halves go to even: 70 / 28 = 2.5, 98 / 28 = 3.5; 2 x 4 tokens are under 16, so both sides grow.
        image.min_tokens = 8;
        assert_eq!(fit((70, 98), 1, &image, &vision).unwrap(), (56, 112));
        image.min_tokens = 16;
        assert_eq!(fit((70, 98), 1, &image, &vision).unwrap(), (112, 140));
        // 720p in 96 frames of 10240 tokens: 106 tokens a frame.
        assert_eq!(fit((720, 1280), 96, &image, &vision).unwrap(), (196, 364));
        // 8 tokens a frame are under the least of 16, which is then taken from the picture's own size.
        assert_eq!(fit((720, 1280), 1280, &image, &vision).unwrap(), (84, 168));
        for (size, what) in [((0, 5), "sides"), ((5, 5000), "sides"), ((10, 2001), "aspect")] {
            assert!(fit(size, 1, &image, &vision).unwrap_err().to_string().contains(what), "{size:?}");
        }
    }

    #[test]
    fn any_size_fits_whole_tokens_within_the_caps_or_is_refused() {
        let (mut image, vision) = shapes();
        let mut taken = 0;
        for (i, budget) in [1, 96, 1792, 16_384].into_iter().enumerate() {
            image.max_tokens = budget;
            for side in (1..4200).step_by(97 + i) {
                for other in [1, 27, 28, 29, 240, 1081, 4096] {
                    let Ok((rows, cols)) = fit((side, other), 1 + side % 97, &image, &vision) else { continue };
                    taken += 1;
                    assert!(rows > 0 && cols > 0 && rows.is_multiple_of(28) && cols.is_multiple_of(28));
                    assert!(rows * cols / 196 <= MAX_FRAME_PATCHES, "{side}x{other}");
                }
            }
        }
        assert!(taken > 500, "{taken}");
    }

    #[test]
    fn patches_stand_in_merge_order() {
        let order: Vec<_> = merge_order(2, 4, 2).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
        let (image, vision) = shapes();
        let rgb: Vec<u8> = (0..28 * 56 * 3).map(|i| (i / 3 % 56) as u8).collect();
        let frame = cut(&rgb, (28, 56), (28, 56), &image, &vision).unwrap();
        // The sixth patch is the second of the second token: its pixels begin at column 42.
        let first = frame.pixels[5 * vision.patch_values()];
        assert!((first - (42.0 / 255.0 - 0.5) / 0.5).abs() < 1e-6, "{first}");
        assert_eq!((frame.rows, frame.cols, frame.kept()), (2, 4, 2));
    }

    #[test]
    fn wrong_bytes_are_refused() {
        let (image, vision) = shapes();
        assert!(cut(&[0; 5], (28, 28), (28, 28), &image, &vision).is_err());
        assert!(cut(&[0; 28 * 28 * 3], (28, 28), (28, 30), &image, &vision).is_err());
        assert!(cut(&[], (0, 28), (28, 28), &image, &vision).is_err());
    }
}
