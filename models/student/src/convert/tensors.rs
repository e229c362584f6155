//! What a model file of a shape holds: every tensor with name, dimensions and the type it is stored as.
//!
//! Terms: *role*, what a tensor is for, which decides its type; *preset*, the choice of types for a whole file. Names of
//! the language half are llama.cpp's. Touches no file.

use super::gguf::{Planned, Type};
use crate::shape::{ImageShape, ModelShape, TextShape, VisionShape, WindowShape};

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Norms and biases: always 32-bit.
    Small,
    /// Matrices that bear four bits: query, key, output, gate, up.
    Coarse,
    /// Matrices that want six: value, down, embedding, head.
    Fine,
    /// Matrices of the vision tower, patch embedding and projector.
    Vision,
}

/// The types of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Everything 32-bit: for exact comparisons.
    F32,
    /// Matrices 16-bit.
    F16,
    /// Language matrices Q8_0, vision and projector 16-bit.
    Q8_0,
    /// Language matrices Q4_K and Q6_K by role, vision and projector 16-bit.
    Q4K,
}

impl Preset {
    /// The preset of a name that `--quantize` takes.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::Q8_0, Self::Q4K].into_iter().find(|p| p.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
        }
    }

    /// The type of a tensor whose rows are `columns` long, and whether the preset's own type did not fit them: then
    /// Q8_0, or 16-bit where 32 does not divide them either.
    pub fn choose(self, role: Role, columns: usize) -> (Type, bool) {
        let wanted = match (self, role) {
            (_, Role::Small) | (Self::F32, _) => Type::F32,
            (Self::F16, _) | (_, Role::Vision) => Type::F16,
            (Self::Q8_0, _) => Type::Q8_0,
            (Self::Q4K, Role::Coarse) => Type::Q4K,
            (Self::Q4K, Role::Fine) => Type::Q6K,
        };
        let fits = |t: Type| columns.is_multiple_of(t.block().0);
        let chosen = [wanted, Type::Q8_0, Type::F16].into_iter().find(|t| fits(*t)).unwrap_or(Type::F16);
        (chosen, chosen != wanted)
    }
}

/// One tensor of a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions, row-major.
    pub dims: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// The 7B shape (VideoLLaMA3-7B, which CrashChat fine-tunes), with VideoLLaMA3's preprocessing.
pub fn shape_7b() -> ModelShape {
    ModelShape {
        text: TextShape {
            hidden: 3584,
            ffn: 18944,
            layers: 28,
            heads: 28,
            kv_heads: 4,
            vocab: 152_064,
            tied: false,
            context: 32_768,
            rope_theta: 1e6,
            eps: 1e-6,
        },
        vision: VisionShape {
            hidden: 1152,
            ffn: 4304,
            layers: 27,
            heads: 16,
            patch: 14,
            merge: 2,
            eps: 1e-6,
            rope_theta: 1e4,
        },
        image: ImageShape { mean: [0.5; 3], std: [0.5; 3], min_tokens: 16, max_tokens: 10_240, token_id: 151_665 },
        window: WindowShape::default(),
    }
}

/// The 2B shape (VideoLLaMA3-2B, on Qwen2.5-1.5B).
pub fn shape_2b() -> ModelShape {
    let mut shape = shape_7b();
    shape.text =
        TextShape { hidden: 1536, ffn: 8960, heads: 12, kv_heads: 2, vocab: 151_936, tied: true, ..shape.text };
    shape
}

/// A small student to train from nothing: about 11 M parameters.
pub fn shape_small() -> ModelShape {
    let mut shape = shape_2b();
    shape.text =
        TextShape { hidden: 256, ffn: 768, layers: 8, heads: 4, kv_heads: 2, vocab: 2048, context: 4096, ..shape.text };
    shape.vision = VisionShape { hidden: 256, ffn: 768, layers: 6, heads: 4, ..shape.vision };
    shape.image.token_id = 2045;
    shape
}

/// A shape for tests: two layers a tower, rows of the language half that are whole blocks of 256.
pub fn shape_tiny() -> ModelShape {
    let mut shape = shape_small();
    shape.text.layers = 2;
    shape.text.ffn = 512;
    shape.text.vocab = 512;
    shape.vision = VisionShape { hidden: 64, ffn: 96, layers: 2, heads: 2, ..shape.vision };
    shape.image.token_id = 509;
    shape
}

/// Weights in all, embedding and head counted once where tied.
pub fn parameters(shape: &ModelShape) -> u64 {
    tensors(shape).iter().map(|t| t.dims.iter().map(|&d| d as u64).product::<u64>()).sum()
}

/// Every tensor of a model file, in its order.
pub fn tensors(shape: &ModelShape) -> Vec<Wanted> {
    let mut all = text_tensors(&shape.text);
    vision_tensors(&mut all, &shape.vision);
    let (wide, narrow) = (shape.text.hidden, shape.vision.hidden);
    linear(&mut all, "mm.0", wide, narrow, Role::Vision, true);
    linear(&mut all, "mm.2", wide, wide, Role::Vision, true);
    all
}

/// The tensors of the language half, in the order of the file.
pub fn text_tensors(text: &TextShape) -> Vec<Wanted> {
    let mut all = Vec::new();
    let (h, kv) = (text.hidden, text.kv_dim());
    linear(&mut all, "token_embd", text.vocab, h, Role::Fine, false);
    for n in 0..text.layers {
        let at = |part: &str| format!("blk.{n}.{part}");
        small(&mut all, &at("attn_norm.weight"), h);
        linear(&mut all, &at("attn_q"), h, h, Role::Coarse, true);
        linear(&mut all, &at("attn_k"), kv, h, Role::Coarse, true);
        linear(&mut all, &at("attn_v"), kv, h, Role::Fine, true);
        linear(&mut all, &at("attn_output"), h, h, Role::Coarse, false);
        small(&mut all, &at("ffn_norm.weight"), h);
        linear(&mut all, &at("ffn_gate"), text.ffn, h, Role::Coarse, false);
        linear(&mut all, &at("ffn_up"), text.ffn, h, Role::Coarse, false);
        linear(&mut all, &at("ffn_down"), h, text.ffn, Role::Fine, false);
    }
    small(&mut all, "output_norm.weight", h);
    if !text.tied {
        linear(&mut all, "output", text.vocab, h, Role::Fine, false);
    }
    all
}

fn vision_tensors(all: &mut Vec<Wanted>, vision: &VisionShape) {
    let h = vision.hidden;
    linear(all, "v.patch_embd", h, vision.patch_values(), Role::Vision, true);
    for n in 0..vision.layers {
        let at = |part: &str| format!("v.blk.{n}.{part}");
        small(all, &at("ln1.weight"), h);
        small(all, &at("ln1.bias"), h);
        for part in ["attn_q", "attn_k", "attn_v", "attn_out"] {
            linear(all, &at(part), h, h, Role::Vision, true);
        }
        small(all, &at("ln2.weight"), h);
        small(all, &at("ln2.bias"), h);
        linear(all, &at("ffn_up"), vision.ffn, h, Role::Vision, true);
        linear(all, &at("ffn_down"), h, vision.ffn, Role::Vision, true);
    }
    small(all, "v.post_ln.weight", h);
    small(all, "v.post_ln.bias", h);
}

fn small(all: &mut Vec<Wanted>, name: &str, n: usize) {
    all.push(Wanted { name: name.into(), dims: vec![n], role: Role::Small });
}

fn linear(all: &mut Vec<Wanted>, name: &str, rows: usize, columns: usize, role: Role, bias: bool) {
    all.push(Wanted { name: format!("{name}.weight"), dims: vec![rows, columns], role });
    if bias {
        small(all, &format!("{name}.bias"), rows);
    }
}

/// The tensors with their types under a preset, and a note for each kind of row that its own type did not fit.
pub fn plan(wanted: &[Wanted], preset: Preset) -> (Vec<Planned>, Vec<String>) {
    let mut fell: Vec<(usize, Type, usize)> = Vec::new();
    let planned = wanted
        .iter()
        .map(|t| {
            let columns = t.dims.last().copied().unwrap_or(0);
            let (kind, fallback) = preset.choose(t.role, columns);
            if fallback {
                match fell.iter_mut().find(|f| f.0 == columns && f.1 == kind) {
                    Some(f) => f.2 += 1,
                    None => fell.push((columns, kind, 1)),
                }
            }
            Planned { name: t.name.clone(), dims: t.dims.clone(), kind }
        })
        .collect();
    let notes = fell
        .iter()
        .map(|(columns, kind, n)| {
            format!(
                "{n} tensors with rows of {columns} do not fit {}'s blocks: stored as {}",
                preset.name(),
                kind.name()
            )
        })
        .collect();
    (planned, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_shapes_have_their_published_sizes() {
        // Qwen2.5-7B 7.62 e9, Qwen2.5-1.5B 1.54 e9; tower 0.41 e9 and projector 17 and 4 M on top.
        let text =
            |s: &ModelShape| text_tensors(&s.text).iter().map(|t| t.dims.iter().product::<usize>()).sum::<usize>();
        assert_eq!(text(&shape_7b()), 7_615_616_512);
        assert_eq!(text(&shape_2b()), 1_543_714_304);
        assert_eq!(parameters(&shape_7b()) / 1_000_000, 8_044);
        assert_eq!(parameters(&shape_small()) / 1_000_000, 11);
        for shape in [shape_7b(), shape_2b(), shape_small(), shape_tiny()] {
            shape.check().unwrap();
        }
    }

    #[test]
    fn types_fall_back_by_row() {
        assert_eq!(Preset::Q4K.choose(Role::Coarse, 3584), (Type::Q4K, false));
        assert_eq!(Preset::Q4K.choose(Role::Fine, 18944), (Type::Q6K, false));
        assert_eq!(Preset::Q4K.choose(Role::Fine, 96), (Type::Q8_0, true));
        assert_eq!(Preset::Q8_0.choose(Role::Coarse, 100), (Type::F16, true));
        assert_eq!(Preset::Q4K.choose(Role::Small, 256), (Type::F32, false));
        let mut shape = shape_tiny();
        shape.text.ffn = 320;
        let (_, notes) = plan(&tensors(&shape), Preset::Q4K);
        assert_eq!(notes, ["2 tensors with rows of 320 do not fit q4_k's blocks: stored as q8_0"]);
    }
}
