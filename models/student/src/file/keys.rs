//! Typed reads of the metadata, and the shape.

use candle_core::quantized::gguf_file::Value;

use super::ModelFile;
use crate::{
    error::{Result, StudentError},
    shape::{ImageShape, ModelShape, TextShape, VisionShape, WindowShape},
};

impl ModelFile {
    /// A whole number; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StudentError::Key`] for another type.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let other = || fault(key, "no whole number");
        self.meta().get(key).map(|value| value.to_u64().map_err(|_| other())).transpose()
    }

    /// A finite fraction; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StudentError::Key`] for another type, or one that is not finite.
    pub fn fraction(&self, key: &str) -> Result<Option<f32>> {
        match self.meta().get(key) {
            None => Ok(None),
            Some(Value::F32(value)) if value.is_finite() => Ok(Some(*value)),
            Some(_) => Err(fault(key, "no finite 32-bit fraction")),
        }
    }

    /// Yes or no; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StudentError::Key`] for another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.meta().get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(fault(key, "no truth value")),
        }
    }

    /// A text; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StudentError::Key`] for another type.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.meta().get(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(_) => Err(fault(key, "no text")),
        }
    }

    /// A list of texts; `None` if the key is absent.
    ///
    /// # Errors
    /// [`StudentError::Key`] for another type.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.meta().get(key) else { return Ok(None) };
        let Value::Array(entries) = value else { return Err(fault(key, "no list of texts")) };
        let mut texts = Vec::with_capacity(entries.len());
        for entry in entries {
            let Value::String(text) = entry else { return Err(fault(key, "no list of texts")) };
            texts.push(text.as_str());
        }
        Ok(Some(texts))
    }

    /// The shape of the language half alone: files without a vision half have this too.
    ///
    /// # Errors
    /// [`StudentError::Key`] or [`StudentError::Tensor`], naming what is missing or out of range.
    pub fn text_shape(&self) -> Result<TextShape> {
        let architecture = self.text("general.architecture")?.unwrap_or_default();
        if architecture != "qwen2" {
            return Err(fault("general.architecture", "not qwen2"));
        }
        let table = self.info("token_embd.weight");
        let vocab = table.and_then(|info| info.dims.first().copied()).unwrap_or(0);
        let shape = TextShape {
            hidden: self.size("qwen2.embedding_length")?,
            ffn: self.size("qwen2.feed_forward_length")?,
            layers: self.size("qwen2.block_count")?,
            heads: self.size("qwen2.attention.head_count")?,
            kv_heads: self.size("qwen2.attention.head_count_kv")?,
            vocab,
            context: self.size("qwen2.context_length")?,
            rope_theta: self.must("qwen2.rope.freq_base", self.fraction("qwen2.rope.freq_base")?)?,
            eps: {
                let key = "qwen2.attention.layer_norm_rms_epsilon";
                self.must(key, self.fraction(key)?)?
            },
            tied: self.info("output.weight").is_none(),
        };
        self.expect("token_embd.weight", &[vocab, shape.hidden])?;
        shape.check()?;
        Ok(shape)
    }

    /// The whole shape.
    ///
    /// # Errors
    /// [`StudentError::Key`] or [`StudentError::Tensor`], naming what is missing or out of range.
    pub fn shape(&self) -> Result<ModelShape> {
        if self.number("student.format")? != Some(1) {
            return Err(fault("student.format", "not 1: no model file of this program, or of a later one"));
        }
        let vision = VisionShape {
            hidden: self.size("student.vision.hidden")?,
            ffn: self.size("student.vision.ffn")?,
            layers: self.size("student.vision.layers")?,
            heads: self.size("student.vision.heads")?,
            patch: self.size("student.vision.patch")?,
            merge: self.size("student.vision.merge")?,
            eps: self.must("student.vision.eps", self.fraction("student.vision.eps")?)?,
            rope_theta: self.must("student.vision.rope_theta", self.fraction("student.vision.rope_theta")?)?,
        };
        let image = ImageShape {
            mean: self.colours("student.image.mean")?,
            std: self.colours("student.image.std")?,
            min_tokens: self.size("student.image.min_tokens")?,
            max_tokens: self.size("student.image.max_tokens")?,
            token_id: u32::try_from(self.size("student.image.token_id")?)
                .map_err(|_| fault("student.image.token_id", "above 32 bits"))?,
        };
        let shape = ModelShape { text: self.text_shape()?, vision, image, window: self.window()? };
        shape.check()?;
        Ok(shape)
    }

    fn window(&self) -> Result<WindowShape> {
        let default = WindowShape::default();
        let size = |key: &str, default: usize| -> Result<usize> {
            if self.meta().contains_key(key) { self.size(key) } else { Ok(default) }
        };
        Ok(WindowShape {
            frames: size("student.window.frames", default.frames)?,
            fps: self.fraction("student.window.fps")?.unwrap_or(default.fps),
            before_s: self.fraction("student.window.before_s")?.unwrap_or(default.before_s),
            after_s: self.fraction("student.window.after_s")?.unwrap_or(default.after_s),
            width: size("student.window.width", default.width)?,
            height: size("student.window.height", default.height)?,
        })
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.must(key, self.number(key)?)?;
        usize::try_from(value).map_err(|_| fault(key, "too large"))
    }

    fn must<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| fault(key, "missing"))
    }

    fn colours(&self, key: &str) -> Result<[f32; 3]> {
        match self.meta().get(key) {
            Some(Value::Array(values)) => match values.as_slice() {
                [Value::F32(r), Value::F32(g), Value::F32(b)] => Ok([*r, *g, *b]),
                _ => Err(fault(key, "no three 32-bit fractions")),
            },
            Some(_) => Err(fault(key, "no three 32-bit fractions")),
            None => Err(fault(key, "missing")),
        }
    }
}

fn fault(key: &str, what: &str) -> StudentError {
    StudentError::Key { key: key.to_owned(), what: what.to_owned() }
}
