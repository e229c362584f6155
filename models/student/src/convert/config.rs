//! The shape of a checkpoint from its `config.json` and its preprocessor's configuration.
//!
//! Read are VideoLLaMA3's own form (the language half flat, `vision_encoder_config`) and that of its port in
//! transformers (`text_config`, `vision_config`). What a file does not state is taken from the tensors, or from what
//! the published models have, and noted. What would change the arithmetic and is not supported is refused by name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::ConvertError;
use super::source::read_json;
use crate::limits::MAX_IMAGE_TOKENS;
use crate::shape::{ImageShape, ModelShape, TextShape, VisionShape, WindowShape};

/// CLIP's normalisation, which VideoLLaMA3's own code uses where a preprocessor's configuration names none.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Most vision tokens of one clip in CrashChat's training.
const MAX_TOKENS: usize = 10_240;
/// Fewest vision tokens of a picture, VideoLLaMA3.
const MIN_TOKENS: usize = 16;

/// What tensors say of the vision tower where the configuration is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Width of the tower.
    pub hidden: usize,
    /// Width of its feed-forward layers.
    pub ffn: usize,
    /// Its layers.
    pub layers: usize,
}

/// A JSON object with the file that it came from.
struct Object<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Object<'_> {
    fn size(&self, key: &str) -> Result<Option<usize>, ConvertError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(ConvertError::input(self.path, format!("{key}: {v} is no size"))),
            },
        }
    }

    fn need(&self, key: &str) -> Result<usize, ConvertError> {
        self.size(key)?.ok_or_else(|| ConvertError::input(self.path, format!("{key} is missing")))
    }

    fn number(&self, key: &str) -> Result<Option<f32>, ConvertError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_f64() {
                Some(n) => Ok(Some(n as f32)),
                None => Err(ConvertError::input(self.path, format!("{key}: {v} is no number"))),
            },
        }
    }

    fn triple(&self, key: &str) -> Result<Option<[f32; 3]>, ConvertError> {
        let Some(value) = self.map.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
        let numbers: Vec<f32> =
            value.as_array().into_iter().flatten().filter_map(|v| v.as_f64().map(|n| n as f32)).collect();
        match <[f32; 3]>::try_from(numbers) {
            Ok(three) => Ok(Some(three)),
            Err(_) => Err(ConvertError::input(self.path, format!("{key}: {value} is not three numbers"))),
        }
    }

    /// Refuses a key whose value is neither absent nor one of those that are supported.
    fn only(&self, key: &str, supported: &[Value]) -> Result<(), ConvertError> {
        match self.map.get(key) {
            Some(v) if !v.is_null() && !supported.contains(v) => {
                Err(ConvertError::input(self.path, format!("{key}: {v} is not supported")))
            }
            _ => Ok(()),
        }
    }

    fn child(&self, key: &str) -> Option<Object<'_>> {
        self.map.get(key).and_then(Value::as_object).map(|map| Object { path: self.path, map })
    }

    /// Base of the rotary positions: its own key, or that within `rope_parameters` of newer files.
    fn rope_theta(&self) -> Result<Option<f32>, ConvertError> {
        self.only("rope_scaling", &[])?;
        if let Some(rope) = self.child("rope_parameters") {
            rope.only("rope_type", &["default".into(), "axial".into()])?;
            if let Some(theta) = rope.number("rope_theta")? {
                return Ok(Some(theta));
            }
        }
        self.number("rope_theta")
    }
}

/// The shape that a checkpoint folder states; notes say what it does not.
///
/// # Errors
/// [`ConvertError::Input`] naming the key, [`ConvertError::Shape`] for sizes that do not fit.
pub fn read_shape(
    folder: &Path,
    measured: Measured,
    window: WindowShape,
    notes: &mut Vec<String>,
) -> Result<ModelShape, ConvertError> {
    let path = folder.join("config.json");
    let json = read_json(&path)?;
    let map = json.as_object().ok_or_else(|| ConvertError::input(&path, "not an object"))?;
    let root = Object { path: &path, map };
    let ported = root.child("text_config");
    let text = read_text_shape(ported.as_ref().unwrap_or(&root), &root)?;
    let vision = read_vision_shape(&root, measured, notes)?;
    let image = read_image(folder, &root, ported.is_some(), notes)?;
    let shape = ModelShape { text, vision, image, window };
    shape.check()?;
    Ok(shape)
}

fn read_text_shape(text: &Object<'_>, root: &Object<'_>) -> Result<TextShape, ConvertError> {
    text.only("hidden_act", &["silu".into()])?;
    text.only("use_sliding_window", &[false.into()])?;
    let heads = text.need("num_attention_heads")?;
    let hidden = text.need("hidden_size")?;
    text.only("head_dim", &[hidden.checked_div(heads).unwrap_or(0).into()])?;
    let tied = |o: &Object<'_>| o.map.get("tie_word_embeddings").and_then(Value::as_bool);
    Ok(TextShape {
        hidden,
        ffn: text.need("intermediate_size")?,
        layers: text.need("num_hidden_layers")?,
        heads,
        kv_heads: text.size("num_key_value_heads")?.unwrap_or(heads),
        vocab: text.need("vocab_size")?,
        context: text.size("max_position_embeddings")?.unwrap_or(32_768),
        rope_theta: text.rope_theta()?.unwrap_or(1e6),
        eps: text.number("rms_norm_eps")?.unwrap_or(1e-6),
        // Qwen2's own default is untied.
        tied: tied(text).or_else(|| tied(root)).unwrap_or(false),
    })
}

fn read_vision_shape(root: &Object<'_>, m: Measured, notes: &mut Vec<String>) -> Result<VisionShape, ConvertError> {
    let stated = root.child("vision_config").or_else(|| root.child("vision_encoder_config"));
    let empty = Map::new();
    let vision = stated.unwrap_or(Object { path: root.path, map: &empty });
    vision.only("hidden_act", &["gelu_pytorch_tanh".into()])?;
    vision.only("num_channels", &[3.into()])?;
    let heads = match vision.size("num_attention_heads")? {
        Some(heads) => heads,
        None if m.hidden == 1152 => {
            notes.push("the checkpoint does not state the vision heads: 16, as SigLIP so400m has".into());
            16
        }
        None => return Err(ConvertError::input(root.path, "num_attention_heads of the vision tower is missing")),
    };
    Ok(VisionShape {
        hidden: vision.size("hidden_size")?.unwrap_or(m.hidden),
        ffn: vision.size("intermediate_size")?.unwrap_or(m.ffn),
        layers: vision.size("num_hidden_layers")?.unwrap_or(m.layers),
        heads,
        patch: vision.size("patch_size")?.unwrap_or(14),
        // VideoLLaMA3 merges two by two for video, and states it nowhere in the checkpoint.
        merge: 2,
        eps: vision.number("layer_norm_eps")?.unwrap_or(1e-6),
        rope_theta: vision.rope_theta()?.unwrap_or(1e4),
    })
}

fn read_image(
    folder: &Path,
    root: &Object<'_>,
    ported: bool,
    notes: &mut Vec<String>,
) -> Result<ImageShape, ConvertError> {
    let token = match root.size("image_token_index")? {
        Some(id) => id,
        None => root.need("image_token_id")?,
    };
    let token_id = u32::try_from(token).unwrap_or(u32::MAX);
    let mut image =
        ImageShape { mean: [0.5; 3], std: [0.5; 3], min_tokens: MIN_TOKENS, max_tokens: MAX_TOKENS, token_id };
    let candidates = ["video_preprocessor_config.json", "preprocessor_config.json"];
    let found: Option<PathBuf> = candidates.iter().map(|name| folder.join(name)).find(|p| p.exists());
    let Some(path) = found else {
        notes.push("no preprocessor configuration: mean and deviation 0.5 as the published models have".into());
        return Ok(image);
    };
    let json = read_json(&path)?;
    let map = json.as_object().ok_or_else(|| ConvertError::input(&path, "not an object"))?;
    let object = Object { path: &path, map };
    match (object.triple("image_mean")?, object.triple("image_std")?) {
        (Some(mean), Some(std)) => (image.mean, image.std) = (mean, std),
        // The port's default is 0.5 for both.
        (None, None) if ported => {}
        (None, None) => {
            notes.push("the preprocessor's configuration names no mean: CLIP's, as upstream's code does then".into());
            (image.mean, image.std) = (CLIP_MEAN, CLIP_STD);
        }
        _ => return Err(ConvertError::input(&path, "only one of image_mean and image_std is stated")),
    }
    if let Some(n) = object.size("min_tokens")? {
        image.min_tokens = n;
    }
    if let Some(n) = object.size("max_tokens")? {
        image.max_tokens = n.min(MAX_IMAGE_TOKENS);
    }
    Ok(image)
}
