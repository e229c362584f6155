//! Quantised weights against f32, on the model whose rows are whole blocks of 256.
//!
//! Kept apart: what storing weights in fewer bits does to a random model (a matter of the type), and what the products of
//! stored weights add over the same weights in f32 (a matter of the code). Run with `--nocapture` for the figures.

use std::collections::BTreeMap;

use agent_student::{
    engine::EngineLanguage,
    file::ModelFile,
    llm::{Language, candle::CandleLanguage},
};
use candle_core::{
    Device,
    quantized::{GgmlDType, QTensor},
};

use crate::{
    exact::{room, rows, step},
    tiny::{CALM, Tiny, WIDE, hashes},
};

/// The types that the converter gives a Q4_K file: values and down in Q6_K, embedding and head too.
fn four_bits(name: &str) -> GgmlDType {
    let six = ["attn_v", "ffn_down", "token_embd", "output.weight"]
        .iter()
        .any(|part| name.starts_with(part) || name.contains(&format!(".{part}")));
    if name.starts_with("v.") || name.starts_with("mm.") {
        GgmlDType::F16
    } else if six {
        GgmlDType::Q6K
    } else {
        GgmlDType::Q4K
    }
}

fn eight_bits(name: &str) -> GgmlDType {
    if name.starts_with("v.") || name.starts_with("mm.") { GgmlDType::F16 } else { GgmlDType::Q8_0 }
}

/// Logits of 6 questions of 12 tokens over a prefix of 64.
fn logits(mut language: impl Language) -> Vec<f32> {
    let tokens: Vec<u32> = hashes("quantised", 64 + 72).map(|x| (x % 384) as u32).collect();
    language.extend_tokens(&tokens[..64]).unwrap();
    language.open_branches(6).unwrap();
    let all: Vec<_> = (0u8..).zip(tokens[64..].chunks(12)).flat_map(|(branch, ids)| rows(branch, ids)).collect();
    step(&mut language, &all)
}

fn candle(file: &ModelFile) -> Vec<f32> {
    logits(CandleLanguage::load(file, room(), &Device::Cpu).unwrap())
}

fn engine(file: &ModelFile) -> Vec<f32> {
    logits(EngineLanguage::load(file, room(), 1).unwrap())
}

/// The same weights in f32: what the quantised ones stand for.
fn widen(model: &Tiny, from: &ModelFile, folder: &std::path::Path) -> ModelFile {
    let mut tensors = BTreeMap::new();
    for (name, dims) in model.tensors() {
        let wide = from.tensor(&name, &dims, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        tensors.insert(name, QTensor::quantize(&wide, GgmlDType::F32).unwrap());
    }
    let path = folder.join("widened.gguf");
    model.write_tensors(&path, &tensors);
    ModelFile::open(&path).unwrap()
}

/// Least and mean cosine between rows of logits.
pub(crate) fn cosines(ours: &[f32], reference: &[f32], vocab: usize) -> (f64, f64) {
    let cosine = |(a, b): (&[f32], &[f32])| {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let all: Vec<f64> = ours.chunks(vocab).zip(reference.chunks(vocab)).map(cosine).collect();
    // `f64::min` would pass over what is not a number.
    let least = |least: f64, x: &f64| if *x >= least { least } else { *x };
    (all.iter().fold(1.0, least), all.iter().sum::<f64>() / all.len() as f64)
}

/// Mean of sum p ln(p / q), p the reference's distribution over the vocabulary.
pub(crate) fn mean_divergence(ours: &[f32], reference: &[f32], vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| {
        let most = row.iter().fold(f32::MIN, |m, x| m.max(*x));
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        row.iter().map(|x| f64::from(x - most) - sum.ln()).collect::<Vec<f64>>()
    };
    let of = |(a, b): (&[f32], &[f32])| {
        let (q, p) = (log_softmax(a), log_softmax(b));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    };
    ours.chunks(vocab).zip(reference.chunks(vocab)).map(of).sum::<f64>() / (ours.len() / vocab) as f64
}

#[derive(Debug)]
struct Apart {
    least_cosine: f64,
    mean_cosine: f64,
    mean_kl: f64,
}

/// What each step from the model's own weights in f32 to our engine on quantised ones does to the logits.
#[derive(Debug)]
struct Split {
    /// Storing the weights in fewer bits: the same weights in f32 again, against the model's own.
    weights: Apart,
    /// The engine's order of sums: its f32 products against candle's, on the stored weights in f32.
    order: Apart,
    /// The engine's products of stored weights, which take activations as integers of 13 bits: against f32 products.
    engine: Apart,
    /// Candle's products of the same, which take activations as integers of 8 bits.
    candle: Apart,
    /// All of it: the engine on stored weights against the model's own in f32.
    whole: Apart,
}

fn measure(model: &Tiny, name: &str, kind: impl Fn(&str) -> GgmlDType) -> Split {
    let folder = tempfile::tempdir().unwrap();
    let exact = candle(&model.open(folder.path(), |_| GgmlDType::F32));
    let file = model.open(folder.path(), kind);
    let wide = widen(model, &file, folder.path());
    let (stored, ours) = (candle(&wide), engine(&file));
    let apart = |ours: &[f32], reference: &[f32]| {
        let (least_cosine, mean_cosine) = cosines(ours, reference, 384);
        Apart { least_cosine, mean_cosine, mean_kl: mean_divergence(ours, reference, 384) }
    };
    let split = Split {
        weights: apart(&stored, &exact),
        order: apart(&engine(&wide), &stored),
        engine: apart(&ours, &stored),
        candle: apart(&candle(&file), &stored),
        whole: apart(&ours, &exact),
    };
    println!("{} {name} {split:#?}", model.key);
    split
}

#[test]
fn eight_bit_weights_keep_the_direction_of_the_logits() {
    let calm = measure(&CALM, "Q8_0", eight_bits);
    assert!(calm.whole.least_cosine >= 0.9999 && calm.candle.least_cosine >= 0.9999, "{calm:?}");
    assert!(calm.whole.mean_cosine >= 0.9999, "{calm:?}");
    // The lively model multiplies every rounding: only what the code adds can be held tight. What candle's 8 bits add
    // there depends on the order of sums, so on the machine (0.9985 to 0.9990 seen).
    let lively = measure(&WIDE, "Q8_0", eight_bits);
    assert!(lively.order.least_cosine >= 0.999_999, "{lively:?}");
    assert!(lively.engine.least_cosine >= 0.9999, "{lively:?}");
    assert!(lively.candle.least_cosine >= 0.997, "{lively:?}");
    assert!(lively.whole.mean_kl <= 1.5 * lively.weights.mean_kl, "{lively:?}");
}

#[test]
fn four_bit_weights_keep_the_distribution() {
    let calm = measure(&CALM, "Q4_K", four_bits);
    assert!(calm.whole.mean_kl <= 0.02 && calm.candle.mean_kl <= 0.002, "{calm:?}");
    let lively = measure(&WIDE, "Q4_K", four_bits);
    assert!(lively.engine.mean_kl <= 0.001, "{lively:?}");
    assert!(lively.candle.mean_kl <= 0.02, "{lively:?}");
    assert!(lively.whole.mean_kl <= 1.2 * lively.weights.mean_kl, "{lively:?}");
}
