//! Small models whose weights come from an integer hash: reference/make_fixtures.py computes the same.

use std::{collections::BTreeMap, path::Path};

use agent_student::file::ModelFile;
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};

pub(crate) const IMAGE_TOKEN: u32 = 300;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Sizes of one of the reference's models.
#[derive(Clone, Copy)]
pub(crate) struct Tiny {
    pub(crate) key: &'static str,
    pub(crate) vision: [usize; 4],
    pub(crate) text: [usize; 6],
    pub(crate) tied: bool,
}

/// Tied head, two query heads a key head.
pub(crate) const TINY: Tiny = Tiny { key: "tiny", vision: [96, 256, 3, 4], text: [128, 352, 3, 4, 2, 512], tied: true };
/// Own head, four query heads a key head, blocks of 256.
pub(crate) const WIDE: Tiny =
    Tiny { key: "wide", vision: [64, 128, 2, 2], text: [256, 512, 2, 4, 1, 384], tied: false };

/// As [`WIDE`] with embeddings of unit size and matrices of a third the size in the blocks: as in trained models, the
/// stream carries most of itself on. Lively blocks multiply each rounding error several times.
pub(crate) const CALM: Tiny = Tiny { key: "calm", ..WIDE };
/// As calm as [`CALM`], with a vocabulary that has room for a tokenizer. Of the first 400 numbers this one leaves the
/// most between the two best tokens of each greedy step, so that no rounding of another backend tips one.
pub(crate) const HALF: Tiny =
    Tiny { key: "half297", vision: [64, 128, 2, 2], text: [256, 512, 2, 4, 2, 512], tied: false };

/// The generator's numbers of a name.
pub(crate) fn hashes(name: &str, n: usize) -> impl Iterator<Item = u64> + use<> {
    let fnv = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    (1..=n as u64).map(move |i| {
        let x = seed.wrapping_add(i.wrapping_mul(GOLDEN));
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    })
}

/// RGB bytes of a name.
pub(crate) fn picture(name: &str, height: usize, width: usize) -> Vec<u8> {
    hashes(name, 3 * height * width).map(|x| (x >> 56) as u8).collect()
}

/// Numbers in [-1, 1), multiples of 2^-23.
pub(crate) fn even(name: &str, n: usize) -> impl Iterator<Item = f64> + use<> {
    hashes(name, n).map(|x| ((x >> 40) as f64 - f64::from(1 << 23)) / f64::from(1 << 23))
}

pub(crate) fn generate(model: &str, name: &str, dims: &[usize]) -> Vec<f32> {
    let even = even(&format!("{model}/{name}"), dims.iter().product());
    let calm = [CALM.key, HALF.key].contains(&model);
    let (scale, offset) = if name == "token_embd.weight" {
        (3f64.sqrt() * if calm { 1.0 } else { 0.25 }, 0.0)
    } else if calm && name.starts_with("blk.") && dims.len() == 2 {
        (3f64.sqrt() * 0.5 / (dims[1] as f64).sqrt(), 0.0)
    } else if dims.len() == 2 {
        (3f64.sqrt() * 1.5 / (dims[1] as f64).sqrt(), 0.0)
    } else if name.ends_with("weight") {
        (0.2, 1.0)
    } else {
        (0.2, 0.0)
    };
    even.map(|x| (offset + x * scale) as f32).collect()
}

impl Tiny {
    /// Names and dims of all tensors.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let [vision, vision_ffn, vision_layers, _] = self.vision;
        let [hidden, ffn, layers, heads, kv, vocab] = self.text;
        let mut all = Vec::new();
        let mut add = |name: String, dims: &[usize]| all.push((name, dims.to_vec()));
        let mut both = |name: String, n: usize, k: usize| {
            add(format!("{name}.weight"), &[n, k][..if k == 0 { 1 } else { 2 }]);
            add(format!("{name}.bias"), &[n]);
        };
        both("v.patch_embd".into(), vision, 588);
        both("v.post_ln".into(), vision, 0);
        both("mm.0".into(), hidden, vision);
        both("mm.2".into(), hidden, hidden);
        for i in 0..vision_layers {
            let sizes = [("attn_q", vision, vision), ("attn_k", vision, vision), ("attn_v", vision, vision)];
            let more = [("attn_out", vision, vision), ("ffn_up", vision_ffn, vision), ("ffn_down", vision, vision_ffn)];
            for (name, n, k) in sizes.into_iter().chain(more).chain([("ln1", vision, 0), ("ln2", vision, 0)]) {
                both(format!("v.blk.{i}.{name}"), n, k);
            }
        }
        let kv_dim = hidden / heads * kv;
        for i in 0..layers {
            for (name, n) in [("attn_q", hidden), ("attn_k", kv_dim), ("attn_v", kv_dim)] {
                both(format!("blk.{i}.{name}"), n, hidden);
            }
        }
        for i in 0..layers {
            add(format!("blk.{i}.attn_output.weight"), &[hidden, hidden]);
            add(format!("blk.{i}.ffn_gate.weight"), &[ffn, hidden]);
            add(format!("blk.{i}.ffn_up.weight"), &[ffn, hidden]);
            add(format!("blk.{i}.ffn_down.weight"), &[hidden, ffn]);
            add(format!("blk.{i}.attn_norm.weight"), &[hidden]);
            add(format!("blk.{i}.ffn_norm.weight"), &[hidden]);
        }
        add("output_norm.weight".into(), &[hidden]);
        add("token_embd.weight".into(), &[vocab, hidden]);
        if !self.tied {
            add("output.weight".into(), &[vocab, hidden]);
        }
        all
    }

    /// The metadata of the model file.
    pub(crate) fn meta(&self) -> Vec<(String, gguf_file::Value)> {
        use gguf_file::Value::{Array, F32, String as Text, U32};
        let [vision, vision_ffn, vision_layers, vision_heads] = self.vision.map(|n| n as u32);
        let [hidden, ffn, layers, heads, kv, _] = self.text.map(|n| n as u32);
        let half = || Array(vec![F32(0.5), F32(0.5), F32(0.5)]);
        [
            ("general.architecture", Text("qwen2".into())),
            ("qwen2.block_count", U32(layers)),
            ("qwen2.context_length", U32(4096)),
            ("qwen2.embedding_length", U32(hidden)),
            ("qwen2.feed_forward_length", U32(ffn)),
            ("qwen2.attention.head_count", U32(heads)),
            ("qwen2.attention.head_count_kv", U32(kv)),
            ("qwen2.rope.freq_base", F32(1e6)),
            ("qwen2.attention.layer_norm_rms_epsilon", F32(1e-6)),
            ("student.format", U32(1)),
            ("student.vision.hidden", U32(vision)),
            ("student.vision.ffn", U32(vision_ffn)),
            ("student.vision.layers", U32(vision_layers)),
            ("student.vision.heads", U32(vision_heads)),
            ("student.vision.patch", U32(14)),
            ("student.vision.merge", U32(2)),
            ("student.vision.eps", F32(1e-6)),
            ("student.vision.rope_theta", F32(1e4)),
            ("student.image.mean", half()),
            ("student.image.std", half()),
            ("student.image.min_tokens", U32(4)),
            ("student.image.max_tokens", U32(4096)),
            ("student.image.token_id", U32(IMAGE_TOKEN)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Writes the model with `kind` deciding how each matrix is stored (vectors are f32), through candle's own writer,
    /// which shares no code with ours.
    pub(crate) fn write(&self, path: &Path, kind: impl Fn(&str) -> GgmlDType) {
        let mut tensors = BTreeMap::new();
        for (name, dims) in self.tensors() {
            let values = Tensor::from_vec(generate(self.key, &name, &dims), dims.as_slice(), &Device::Cpu).unwrap();
            let kind = if dims.len() == 1 { GgmlDType::F32 } else { kind(&name) };
            tensors.insert(name, QTensor::quantize(&values, kind).unwrap());
        }
        self.write_tensors(path, &tensors);
    }

    /// Writes the model with these tensors.
    pub(crate) fn write_tensors(&self, path: &Path, tensors: &BTreeMap<String, QTensor>) {
        let meta = self.meta();
        let meta: Vec<_> = meta.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut std::fs::File::create(path).unwrap(), &meta, &tensors).unwrap();
    }

    /// Writes a file and opens it; the folder must live as long as the file is read.
    pub(crate) fn open(&self, folder: &Path, kind: impl Fn(&str) -> GgmlDType) -> ModelFile {
        let path = folder.join(format!("{}.gguf", self.key));
        self.write(&path, kind);
        ModelFile::open(&path).unwrap()
    }
}

/// The reference's six frames of 84 x 168: each meets another branch of the pruning rule.
pub(crate) fn drive() -> Vec<Vec<u8>> {
    let first = picture("frame0", 84, 168);
    let mut second = first.clone();
    nudge(&mut second, (0, 5), 117);
    nudge(&mut second, (1, 0), 118);
    let third = picture("frame2", 84, 168);
    let fifth = patched(&third, &picture("frame4", 84, 168), (0, 84));
    let sixth = patched(&fifth, &picture("frame5", 84, 168), (56, 140));
    vec![first, second, third.clone(), third, fifth, sixth]
}

/// Moves the first `count` values of a token's square by one grey level, row by row.
fn nudge(frame: &mut [u8], (row, col): (usize, usize), count: usize) {
    for i in 0..count {
        let level = &mut frame[3 * ((28 * row + i / 84) * 168 + 28 * col) + i % 84];
        *level = if *level < 255 { *level + 1 } else { *level - 1 };
    }
}

/// One picture with what lies below and right of a pixel taken from another.
fn patched(one: &[u8], other: &[u8], (row, col): (usize, usize)) -> Vec<u8> {
    let taken = |i: usize| i / (3 * 168) >= row && i / 3 % 168 >= col;
    (0..one.len()).map(|i| if taken(i) { other[i] } else { one[i] }).collect()
}
