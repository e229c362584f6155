//! The shape of a model: every size and constant that its file states.
//!
//! Terms: *text* is the language half (Qwen2), *vision* the tower that sees one frame at a time (SigLIP with 2-D
//! rotary positions), a *patch* a square of `patch` x `patch` pixels, a *vision token* the mean of `merge` x `merge`
//! patches. Plain data and its checks; reads no file.

use agent_worker::limits::MAX_PICTURE_BYTES;

use crate::{
    error::{Result, StudentError},
    limits::{
        MAX_CONTEXT, MAX_FFN, MAX_FRAMES, MAX_HEADS, MAX_HIDDEN, MAX_IMAGE_TOKENS, MAX_LAYERS, MAX_PICTURE_SIDE,
        MAX_VOCAB,
    },
};

/// The language half.
#[derive(Clone, Debug, PartialEq)]
pub struct TextShape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Tokens of the vocabulary (rows of the embedding).
    pub vocab: usize,
    /// Most positions that the model was made for.
    pub context: usize,
    /// Base of the rotary positions.
    pub rope_theta: f32,
    /// Added to the mean square in the norms.
    pub eps: f32,
    /// The output head is the embedding.
    pub tied: bool,
}

impl TextShape {
    /// Width of one head.
    #[must_use]
    pub const fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Width of all key (or value) heads of one position.
    #[must_use]
    pub const fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim()
    }

    /// Query heads that share one key head.
    #[must_use]
    pub const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Holds the caps and the divisions.
    ///
    /// # Errors
    /// [`StudentError::Key`] naming the first key that is out of range.
    pub fn check(&self) -> Result<()> {
        range("qwen2.embedding_length", self.hidden, MAX_HIDDEN)?;
        range("qwen2.feed_forward_length", self.ffn, MAX_FFN)?;
        range("qwen2.block_count", self.layers, MAX_LAYERS)?;
        range("qwen2.attention.head_count", self.heads, MAX_HEADS)?;
        range("qwen2.attention.head_count_kv", self.kv_heads, self.heads)?;
        range("tokenizer.ggml.tokens", self.vocab, MAX_VOCAB)?;
        range("qwen2.context_length", self.context, MAX_CONTEXT)?;
        divides("qwen2.attention.head_count", self.hidden, 2 * self.heads)?;
        divides("qwen2.attention.head_count_kv", self.heads, self.kv_heads)?;
        positive("qwen2.rope.freq_base", self.rope_theta)?;
        positive("qwen2.attention.layer_norm_rms_epsilon", self.eps)
    }
}

/// The vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionShape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads; their width is a multiple of four (a row and a column half, each of pairs).
    pub heads: usize,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Patches along a side of a vision token.
    pub merge: usize,
    /// Added to the variance in the norms.
    pub eps: f32,
    /// Base of the rotary positions.
    pub rope_theta: f32,
}

impl VisionShape {
    /// Width of one head.
    #[must_use]
    pub const fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Values of one patch: three colours.
    #[must_use]
    pub const fn patch_values(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Side of a vision token, pixels.
    #[must_use]
    pub const fn token_side(&self) -> usize {
        self.patch * self.merge
    }

    /// Holds the caps and the divisions.
    ///
    /// # Errors
    /// [`StudentError::Key`] naming the first key that is out of range.
    pub fn check(&self) -> Result<()> {
        range("student.vision.hidden", self.hidden, MAX_HIDDEN)?;
        range("student.vision.ffn", self.ffn, MAX_FFN)?;
        range("student.vision.layers", self.layers, MAX_LAYERS)?;
        range("student.vision.heads", self.heads, MAX_HEADS)?;
        range("student.vision.patch", self.patch, 64)?;
        range("student.vision.merge", self.merge, 8)?;
        divides("student.vision.heads", self.hidden, 4 * self.heads)?;
        positive("student.vision.eps", self.eps)?;
        positive("student.vision.rope_theta", self.rope_theta)
    }
}

/// How frames become patches.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageShape {
    /// Taken from each colour after scaling to 0..1.
    pub mean: [f32; 3],
    /// Then divided by.
    pub std: [f32; 3],
    /// Fewest vision tokens of one frame.
    pub min_tokens: usize,
    /// Most vision tokens of all frames together.
    pub max_tokens: usize,
    /// Token that stands for one vision token in the prompt.
    pub token_id: u32,
}

impl ImageShape {
    /// Holds the caps.
    ///
    /// # Errors
    /// [`StudentError::Key`] naming the first key that is out of range.
    pub fn check(&self, vocab: usize) -> Result<()> {
        for (mean, std) in self.mean.iter().zip(&self.std) {
            if !(-10.0..=10.0).contains(mean) {
                return Err(key("student.image.mean", format!("{mean}; -10 to 10 are taken")));
            }
            positive("student.image.std", *std)?;
        }
        range("student.image.min_tokens", self.min_tokens, MAX_IMAGE_TOKENS)?;
        range("student.image.max_tokens", self.max_tokens, MAX_IMAGE_TOKENS)?;
        if self.token_id as usize >= vocab {
            let what = format!("{} in a vocabulary of {vocab}", self.token_id);
            return Err(key("student.image.token_id", what));
        }
        Ok(())
    }
}

/// The window of video that the model was trained for. Default: Trinci et al., t_e - 4 s to + 2 s at 3 fps.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowShape {
    /// Frames.
    pub frames: usize,
    /// Frames a second.
    pub fps: f32,
    /// Begin before the event, s.
    pub before_s: f32,
    /// End after the event, s.
    pub after_s: f32,
    /// Width of a frame, pixels.
    pub width: usize,
    /// Height of a frame, pixels.
    pub height: usize,
}

impl Default for WindowShape {
    fn default() -> Self {
        Self { frames: 18, fps: 3.0, before_s: 4.0, after_s: 2.0, width: 420, height: 252 }
    }
}

impl WindowShape {
    /// Holds the caps.
    ///
    /// # Errors
    /// [`StudentError::Key`] naming the first key that is out of range.
    pub fn check(&self) -> Result<()> {
        range("student.window.frames", self.frames, MAX_FRAMES)?;
        range("student.window.width", self.width, MAX_PICTURE_SIDE)?;
        range("student.window.height", self.height, MAX_PICTURE_SIDE)?;
        for (name, value, low) in [
            ("student.window.fps", self.fps, 0.1),
            ("student.window.before_s", self.before_s, 0.0),
            ("student.window.after_s", self.after_s, 0.0),
        ] {
            if !(low..=60.0).contains(&value) {
                return Err(key(name, format!("{value}; {low} to 60 are taken")));
            }
        }
        let bytes = 3 * self.width * self.height;
        if bytes > MAX_PICTURE_BYTES {
            let what = format!(
                "{}x{}, {bytes} bytes of RGB; at most {MAX_PICTURE_BYTES} go to the worker",
                self.width, self.height
            );
            return Err(key("student.window.width", what));
        }
        Ok(())
    }
}

/// Everything together.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelShape {
    /// The language half.
    pub text: TextShape,
    /// The vision tower.
    pub vision: VisionShape,
    /// Frames to patches.
    pub image: ImageShape,
    /// The window trained for.
    pub window: WindowShape,
}

impl ModelShape {
    /// Holds all caps.
    ///
    /// # Errors
    /// [`StudentError::Key`] naming the first key that is out of range.
    pub fn check(&self) -> Result<()> {
        self.text.check()?;
        self.vision.check()?;
        self.image.check(self.text.vocab)?;
        self.window.check()
    }
}

fn key(key: &str, what: String) -> StudentError {
    StudentError::Key { key: key.to_owned(), what }
}

fn range(name: &str, value: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(key(name, format!("{value}; 1 to {max} are taken"))) }
}

fn divides(name: &str, whole: usize, part: usize) -> Result<()> {
    if whole.is_multiple_of(part) { Ok(()) } else { Err(key(name, format!("{whole} is no multiple of {part}"))) }
}

fn positive(name: &str, value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(key(name, format!("{value} is not above zero"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VideoLLaMA3 in its two sizes.
    fn published(hidden: usize, ffn: usize, heads: usize, kv_heads: usize, vocab: usize) -> ModelShape {
        let text = TextShape {
            hidden,
            ffn,
            layers: 28,
            heads,
            kv_heads,
            vocab,
            context: 32_768,
            rope_theta: 1e6,
            eps: 1e-6,
            tied: hidden < 2000,
        };
        let vision = VisionShape {
            hidden: 1152,
            ffn: 4304,
            layers: 27,
            heads: 16,
            patch: 14,
            merge: 2,
            eps: 1e-6,
            rope_theta: 1e4,
        };
        let image = ImageShape { mean: [0.5; 3], std: [0.5; 3], min_tokens: 16, max_tokens: 10_240, token_id: 151_665 };
        ModelShape { text, vision, image, window: WindowShape::default() }
    }

    #[test]
    fn the_published_shapes_are_taken() {
        let (two, seven) = (published(1536, 8960, 12, 2, 151_936), published(3584, 18_944, 28, 4, 152_064));
        two.check().unwrap();
        seven.check().unwrap();
        assert_eq!((two.text.head_dim(), two.text.group(), two.text.kv_dim()), (128, 6, 256));
        assert_eq!((seven.text.head_dim(), seven.text.group(), seven.vision.head_dim()), (128, 7, 72));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let change = |f: fn(&mut ModelShape)| {
            let mut shape = published(1536, 8960, 12, 2, 151_936);
            f(&mut shape);
            shape.check().unwrap_err().to_string()
        };
        for (fault, key) in [
            (change(|s| s.text.heads = 0), "qwen2.attention.head_count"),
            (change(|s| s.text.kv_heads = 5), "qwen2.attention.head_count_kv"),
            (change(|s| s.text.eps = f32::NAN), "layer_norm_rms_epsilon"),
            (change(|s| s.vision.heads = 15), "student.vision.heads"),
            (change(|s| s.vision.merge = 0), "student.vision.merge"),
            (change(|s| s.image.std[2] = 0.0), "student.image.std"),
            (change(|s| s.image.mean[0] = f32::INFINITY), "student.image.mean"),
            (change(|s| s.image.token_id = 151_936), "student.image.token_id"),
            (change(|s| s.window.fps = 0.0), "student.window.fps"),
            (change(|s| s.window.frames = 97), "student.window.frames"),
        ] {
            assert!(fault.contains(key), "{key}: {fault}");
        }
    }
}
