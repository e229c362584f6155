//! A model file of any shape with random weights: for benchmarks of a shape and for tests, without a checkpoint.
//!
//! Blocks are drawn, not quantised: their bytes are random and their scales chosen so that the weights have mean zero
//! and the spread of a lively initialisation (a reference that repeats one token shows nothing). The same shape, seed
//! and preset give the same bytes. Such a model knows nothing, and its name and licence say so.

use std::path::Path;

use half::f16;

use super::error::ConvertError;
use super::gguf::{Type, Writer, Written};
use super::metadata::{Facts, Questions, Sources, TokenTable, all};
use super::tensors::{Preset, Role, Wanted, plan, tensors};
use crate::shape::ModelShape;

/// Spread of a weight times the root of the row's length.
const GAIN: f32 = 1.5;
/// Bytes drawn at a time.
const CHUNK: usize = 1 << 20;

/// Writes a model file of `shape` with random weights.
///
/// # Errors
/// [`ConvertError::Asked`] for a shape that cannot be, [`ConvertError::Disk`] and [`ConvertError::Io`].
pub fn write_random(shape: &ModelShape, seed: u64, preset: Preset, out: &Path) -> Result<Written, ConvertError> {
    let facts = random_facts(shape.text.vocab, seed)?;
    let mut shape = shape.clone();
    shape.image.token_id = facts.tokens.id("<image>").unwrap_or(0);
    shape.check()?;
    let wanted = tensors(&shape);
    let (planned, _) = plan(&wanted, preset);
    let mut writer = Writer::create(out, &all(&shape, &facts), &planned)?;
    let mut draw = Draw(seed);
    for (want, plan) in wanted.iter().zip(&planned) {
        let columns = want.dims.last().copied().unwrap_or(1);
        let total = plan.kind.bytes(&want.dims).unwrap_or(0);
        let blocks_a_chunk = CHUNK / plan.kind.block().1;
        let mut left = total / plan.kind.block().1 as u64;
        let mut bytes = Vec::with_capacity(CHUNK);
        while left > 0 {
            let n = left.min(blocks_a_chunk as u64) as usize;
            bytes.clear();
            (0..n).for_each(|_| block(&mut bytes, &mut draw, plan.kind, level(want, columns)));
            writer.write(&want.name, &bytes)?;
            left -= n as u64;
        }
    }
    writer.finish()
}

/// Mean and spread of a tensor's values.
fn level(want: &Wanted, columns: usize) -> (f32, f32) {
    match want.role {
        Role::Small if want.name.ends_with("bias") => (0.0, 0.1),
        Role::Small => (1.0, 0.1),
        _ if want.name == "token_embd.weight" => (0.0, 0.5),
        _ => (0.0, GAIN / (columns as f32).sqrt()),
    }
}

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value of mean zero and spread one: the sum of four uniform ones.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4).map(|i| ((bits >> (16 * i)) & 0xffff) as f32 / 65_536.0).sum();
        (sum - 2.0) * 1.732_050_8
    }

    fn bytes(&mut self, out: &mut Vec<u8>, n: usize) {
        let end = out.len() + n;
        while out.len() < end {
            out.extend(self.next().to_le_bytes());
        }
        out.truncate(end);
    }
}

/// Appends one block. The spreads of uniform codes: Q8_0 73.9; Q6_K 73.9 x 18.5; Q4_K, scales and codes uniform and
/// the minimum 7.5 times the scale, 258.
fn block(out: &mut Vec<u8>, draw: &mut Draw, kind: Type, (mean, spread): (f32, f32)) {
    let scale = |v: f32| f16::from_f32(v).to_le_bytes();
    match kind {
        Type::F32 => out.extend((mean + spread * draw.normal()).to_le_bytes()),
        Type::F16 => out.extend(scale(mean + spread * draw.normal())),
        Type::Q8_0 => {
            out.extend(scale(spread / 73.9));
            draw.bytes(out, 32);
        }
        Type::Q4K => {
            let d = spread / 258.0;
            out.extend(scale(d));
            out.extend(scale(7.5 * d));
            draw.bytes(out, 12 + 128);
        }
        Type::Q6K => {
            draw.bytes(out, 128 + 64 + 16);
            out.extend(scale(spread / (73.9 * 18.5)));
        }
    }
}

/// Facts of a model that knows nothing: a byte tokenizer with pairs of letters, questions and answers of our own.
fn random_facts(vocab: usize, seed: u64) -> Result<Facts, ConvertError> {
    let tokens = byte_tokens(vocab)?;
    let questions = Questions {
        prompts: [
            "Does a collision happen? Answer Yes or No.",
            "Who hits whom?",
            "What is the cause?",
            "What would have prevented it?",
            "From when to when does the collision last?",
            "When does the danger first show?",
        ]
        .map(str::to_owned),
        severity: None,
        codebook_version: 1,
        codebook: [
            vec!["no collision.", "car hits car.", "ego-car hits car."],
            vec!["No accident, no cause.", "The gap was too small.", "The road was wet."],
            vec!["No accident, no prevention needed.", "Keep a larger gap.", "Drive slower on a wet road."],
        ]
        .map(|v| v.into_iter().map(str::to_owned).collect()),
    };
    Ok(Facts {
        name: format!("random weights, seed {seed}"),
        licence: "none: random weights".into(),
        tokens,
        questions,
        telemetry: false,
        objects: false,
        closed: false,
        trained_on: None,
        sources: Sources::default(),
        notes: vec!["random weights: answers mean nothing".into()],
    })
}

/// The alphabet of byte-level pairs: printable Latin-1 stands for itself, other bytes for characters from U+0100 on
/// (GPT-2's `bytes_to_unicode`).
pub fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|b| match b {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(b as u8),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or('\u{fffd}')
        }
    })
}

/// The added tokens of VideoLLaMA3 that a student needs; Qwen2's ids where the vocabulary is large enough.
const SPECIAL: [(&str, usize); 6] = [
    ("<|endoftext|>", 151_643),
    ("<|im_start|>", 151_644),
    ("<|im_end|>", 151_645),
    ("<image>", 151_665),
    ("<|stream_start|>", 151_666),
    ("<|stream_end|>", 151_667),
];

/// A tokenizer of exactly `n` tokens: bytes, pairs of small letters where there is room, unused ones, special ones.
pub fn byte_tokens(n: usize) -> Result<TokenTable, ConvertError> {
    if n < 256 + SPECIAL.len() {
        return Err(ConvertError::Asked(format!("a vocabulary of {n} has no room for bytes and special tokens")));
    }
    let mut table = TokenTable {
        tokens: byte_alphabet().iter().map(char::to_string).collect(),
        kinds: vec![1; 256],
        ..TokenTable::default()
    };
    'pairs: for a in 'a'..='z' {
        for b in 'a'..='z' {
            if table.tokens.len() + SPECIAL.len() >= n {
                break 'pairs;
            }
            table.tokens.push(format!("{a}{b}"));
            table.kinds.push(1);
            table.merges.push(format!("{a} {b}"));
        }
    }
    for id in table.tokens.len()..n {
        table.tokens.push(format!("[UNUSED{id}]"));
        table.kinds.push(5);
    }
    let large = n > SPECIAL[5].1;
    for (i, (text, id)) in SPECIAL.iter().enumerate() {
        let id = if large { *id } else { n - SPECIAL.len() + i };
        if let (Some(token), Some(kind)) = (table.tokens.get_mut(id), table.kinds.get_mut(id)) {
            (*token, *kind) = ((*text).to_owned(), 3);
        }
        match *text {
            "<|im_end|>" => table.eos = id as u32,
            "<|endoftext|>" => table.pad = id as u32,
            _ => {}
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::super::tensors::shape_tiny;
    use super::*;
    use candle_core::quantized::gguf_file::Content;
    use candle_core::{Device, IndexOp};

    #[test]
    fn drawn_blocks_have_the_stated_spread_and_the_same_seed_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let shape = shape_tiny();
        for preset in [Preset::F32, Preset::F16, Preset::Q8_0, Preset::Q4K] {
            let path = dir.path().join(preset.name());
            let first = write_random(&shape, 7, preset, &path).unwrap();
            let before = std::fs::read(&path).unwrap();
            assert_eq!(first.bytes, before.len() as u64);
            assert_eq!(write_random(&shape, 7, preset, &path).unwrap(), first);
            assert_eq!(std::fs::read(&path).unwrap(), before);
            assert_ne!(write_random(&shape, 8, preset, &path).unwrap().weights_sha256, first.weights_sha256);

            let mut file = std::fs::File::open(&path).unwrap();
            let content = Content::read(&mut file).unwrap();
            for want in tensors(&shape) {
                let t = content.tensor(&mut file, &want.name, &Device::Cpu).unwrap();
                assert_eq!(t.shape().dims(), want.dims, "{}", want.name);
                let values = t.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                if values.len() < 10_000 {
                    continue;
                }
                let n = values.len() as f32;
                let mean = values.iter().sum::<f32>() / n;
                let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
                let (wanted_mean, wanted) = level(&want, want.dims[1]);
                assert!((mean - wanted_mean).abs() < 0.1 * wanted, "{} {}: mean {mean}", preset.name(), want.name);
                assert!((spread / wanted - 1.0).abs() < 0.1, "{} {}: {spread}, {wanted}", preset.name(), want.name);
            }
            let norm = content.tensor(&mut file, "output_norm.weight", &Device::Cpu).unwrap();
            let first = norm.dequantize(&Device::Cpu).unwrap().i(0).unwrap().to_scalar::<f32>().unwrap();
            assert!((first - 1.0).abs() < 0.4);
        }
    }

    #[test]
    fn tokens_fill_the_vocabulary_and_are_distinct() {
        for n in [262, 512, 2048, 151_936] {
            let table = byte_tokens(n).unwrap();
            let distinct: std::collections::BTreeSet<_> = table.tokens.iter().collect();
            assert_eq!((table.tokens.len(), table.kinds.len(), distinct.len()), (n, n, n));
            assert_eq!(table.tokens[table.eos as usize], "<|im_end|>");
        }
        assert!(byte_tokens(261).is_err());
    }
}
