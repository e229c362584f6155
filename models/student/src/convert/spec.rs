//! What a model file holds: its shape, and from it every tensor with name, dimensions and the type it is stored as.
//!
//! Terms: *role*, what a tensor is for, which decides its type; *preset*, the choice of types for a whole file. Names of
//! the language half are llama.cpp's. Touches no file.

use super::error::ConvertError;
use super::gguf::{Planned, Type};
use super::limits::{MAX_LAYERS, MAX_VOCABULARY, MAX_WIDTH};

/// The language half (Qwen2).
#[derive(Clone, Debug, PartialEq)]
pub struct TextSpec {
    /// Width.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads; `hidden / heads` is the width of one.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// True when the head is the embedding.
    pub tied: bool,
    /// Longest context it was trained for, tokens.
    pub context: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f32,
    /// Epsilon of the RMS norms.
    pub eps: f32,
}

/// The vision tower (SigLIP as VideoLLaMA3 has it).
#[derive(Clone, Debug, PartialEq)]
pub struct VisionSpec {
    /// Width.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Layers.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Side of a merged block, patches.
    pub merge: usize,
    /// Epsilon of the layer norms.
    pub eps: f32,
    /// Base of the two-dimensional rotary embedding.
    pub rope_theta: f32,
}

/// The shape of a student.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Language half.
    pub text: TextSpec,
    /// Vision tower.
    pub vision: VisionSpec,
}

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

impl Spec {
    /// The 7B shape (VideoLLaMA3-7B, which CrashChat fine-tunes).
    pub fn b7() -> Self {
        let text = TextSpec {
            hidden: 3584,
            ffn: 18944,
            layers: 28,
            heads: 28,
            kv_heads: 4,
            vocabulary: 152_064,
            tied: false,
            context: 32_768,
            rope_theta: 1e6,
            eps: 1e-6,
        };
        Self { text, vision: VisionSpec::so400m() }
    }

    /// The 2B shape (VideoLLaMA3-2B, on Qwen2.5-1.5B).
    pub fn b2() -> Self {
        let mut spec = Self::b7();
        spec.text =
            TextSpec { hidden: 1536, ffn: 8960, heads: 12, kv_heads: 2, vocabulary: 151_936, tied: true, ..spec.text };
        spec
    }

    /// A small student to train from nothing: about 11 M parameters.
    pub fn small() -> Self {
        let mut spec = Self::b2();
        spec.text = TextSpec {
            hidden: 256,
            ffn: 768,
            layers: 8,
            heads: 4,
            kv_heads: 2,
            vocabulary: 2048,
            context: 4096,
            ..spec.text
        };
        spec.vision = VisionSpec { hidden: 256, ffn: 768, layers: 6, heads: 4, ..spec.vision };
        spec
    }

    /// A shape for tests: two layers a tower, 0.5 M parameters, rows that are whole Q4_K blocks.
    pub fn tiny() -> Self {
        let mut spec = Self::small();
        spec.text.layers = 2;
        spec.text.ffn = 512;
        spec.text.vocabulary = 512;
        spec.vision = VisionSpec { hidden: 64, ffn: 96, layers: 2, heads: 2, ..spec.vision };
        spec
    }

    /// Checks that the parts fit each other and the caps.
    ///
    /// # Errors
    /// [`ConvertError::Asked`] naming what does not.
    pub fn check(&self) -> Result<(), ConvertError> {
        let (t, v) = (&self.text, &self.vision);
        let refuse = |what: String| Err(ConvertError::Asked(what));
        let widths = [
            ("hidden size", t.hidden),
            ("feed-forward size", t.ffn),
            ("vision hidden size", v.hidden),
            ("vision feed-forward size", v.ffn),
        ];
        for (what, n) in widths {
            if n == 0 || n > MAX_WIDTH {
                return refuse(format!("{what} {n}, must be 1 to {MAX_WIDTH}"));
            }
        }
        for (what, n) in [("layers", t.layers), ("vision layers", v.layers)] {
            if n == 0 || n > MAX_LAYERS {
                return refuse(format!("{n} {what}, must be 1 to {MAX_LAYERS}"));
            }
        }
        if t.vocabulary == 0 || t.vocabulary > MAX_VOCABULARY {
            return refuse(format!("a vocabulary of {}, must be 1 to {MAX_VOCABULARY}", t.vocabulary));
        }
        if t.heads == 0 || !t.hidden.is_multiple_of(2 * t.heads) {
            return refuse(format!("{} heads do not divide {} into even widths", t.heads, t.hidden));
        }
        if t.kv_heads == 0 || !t.heads.is_multiple_of(t.kv_heads) {
            return refuse(format!("{} key and value heads do not divide {} heads", t.kv_heads, t.heads));
        }
        if v.heads == 0 || !v.hidden.is_multiple_of(4 * v.heads) {
            return refuse(format!("{} vision heads do not divide {} into multiples of four", v.heads, v.hidden));
        }
        if v.patch == 0 || v.patch > 64 || v.merge == 0 || v.merge > 8 {
            return refuse(format!("patches of {} merged by {}", v.patch, v.merge));
        }
        Ok(())
    }

    /// Weights in all, embedding and head counted once where tied.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|t| t.dims.iter().map(|&d| d as u64).product::<u64>()).sum()
    }

    /// Every tensor of the file, in its order.
    pub fn tensors(&self) -> Vec<Wanted> {
        let mut all = self.text.tensors();
        all.extend(self.vision.tensors());
        let (wide, narrow) = (self.text.hidden, self.vision.hidden);
        linear(&mut all, "mm.0", wide, narrow, Role::Vision, true);
        linear(&mut all, "mm.2", wide, wide, Role::Vision, true);
        all
    }
}

impl TextSpec {
    /// The tensors of the language half, in the order of the file.
    pub fn tensors(&self) -> Vec<Wanted> {
        let mut all = Vec::new();
        let kv = self.hidden / self.heads.max(1) * self.kv_heads;
        let h = self.hidden;
        linear(&mut all, "token_embd", self.vocabulary, h, Role::Fine, false);
        for n in 0..self.layers {
            let at = |part: &str| format!("blk.{n}.{part}");
            small(&mut all, &at("attn_norm.weight"), h);
            linear(&mut all, &at("attn_q"), h, h, Role::Coarse, true);
            linear(&mut all, &at("attn_k"), kv, h, Role::Coarse, true);
            linear(&mut all, &at("attn_v"), kv, h, Role::Fine, true);
            linear(&mut all, &at("attn_output"), h, h, Role::Coarse, false);
            small(&mut all, &at("ffn_norm.weight"), h);
            linear(&mut all, &at("ffn_gate"), self.ffn, h, Role::Coarse, false);
            linear(&mut all, &at("ffn_up"), self.ffn, h, Role::Coarse, false);
            linear(&mut all, &at("ffn_down"), h, self.ffn, Role::Fine, false);
        }
        small(&mut all, "output_norm.weight", h);
        if !self.tied {
            linear(&mut all, "output", self.vocabulary, h, Role::Fine, false);
        }
        all
    }
}

impl VisionSpec {
    /// The sizes of SigLIP so400m with patches of 14, merged two by two.
    pub fn so400m() -> Self {
        Self { hidden: 1152, ffn: 4304, layers: 27, heads: 16, patch: 14, merge: 2, eps: 1e-6, rope_theta: 1e4 }
    }

    fn tensors(&self) -> Vec<Wanted> {
        let mut all = Vec::new();
        let h = self.hidden;
        linear(&mut all, "v.patch_embd", h, 3 * self.patch * self.patch, Role::Vision, true);
        for n in 0..self.layers {
            let at = |part: &str| format!("v.blk.{n}.{part}");
            small(&mut all, &at("ln1.weight"), h);
            small(&mut all, &at("ln1.bias"), h);
            for part in ["attn_q", "attn_k", "attn_v", "attn_out"] {
                linear(&mut all, &at(part), h, h, Role::Vision, true);
            }
            small(&mut all, &at("ln2.weight"), h);
            small(&mut all, &at("ln2.bias"), h);
            linear(&mut all, &at("ffn_up"), self.ffn, h, Role::Vision, true);
            linear(&mut all, &at("ffn_down"), h, self.ffn, Role::Vision, true);
        }
        small(&mut all, "v.post_ln.weight", h);
        small(&mut all, "v.post_ln.bias", h);
        all
    }
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
        let text = |s: &Spec| s.text.tensors().iter().map(|t| t.dims.iter().product::<usize>()).sum::<usize>();
        assert_eq!(text(&Spec::b7()), 7_615_616_512);
        assert_eq!(text(&Spec::b2()), 1_543_714_304);
        assert_eq!(Spec::b7().parameters() / 1_000_000, 8_044);
        assert_eq!(Spec::small().parameters() / 1_000_000, 11);
        for spec in [Spec::b7(), Spec::b2(), Spec::small(), Spec::tiny()] {
            spec.check().unwrap();
        }
    }

    #[test]
    fn types_fall_back_by_row() {
        assert_eq!(Preset::Q4K.choose(Role::Coarse, 3584), (Type::Q4K, false));
        assert_eq!(Preset::Q4K.choose(Role::Fine, 18944), (Type::Q6K, false));
        assert_eq!(Preset::Q4K.choose(Role::Fine, 96), (Type::Q8_0, true));
        assert_eq!(Preset::Q8_0.choose(Role::Coarse, 100), (Type::F16, true));
        assert_eq!(Preset::Q4K.choose(Role::Small, 256), (Type::F32, false));
        let mut spec = Spec::tiny();
        spec.text.ffn = 320;
        let (_, notes) = plan(&spec.tensors(), Preset::Q4K);
        assert_eq!(notes, ["2 tensors with rows of 320 do not fit q4_k's blocks: stored as q8_0"]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let mut spec = Spec::tiny();
        spec.text.kv_heads = 3;
        assert!(spec.check().unwrap_err().to_string().contains("3 key and value heads"));
        let mut spec = Spec::tiny();
        spec.vision.ffn = 0;
        assert!(spec.check().unwrap_err().to_string().contains("vision feed-forward size 0"));
    }
}
