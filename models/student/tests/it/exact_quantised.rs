//! Quantised weights against f32, on the model whose rows are whole blocks of 256.
//!
//! Two questions, kept apart: what the products of quantised weights add over the same weights in f32 (a matter of the
//! code), and what storing weights in fewer bits does to this random model (a matter of the type).

use std::collections::BTreeMap;

use agent_student::{
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
fn logits(file: &ModelFile) -> Vec<f32> {
    let mut language = CandleLanguage::load(file, room(), &Device::Cpu).unwrap();
    let tokens: Vec<u32> = hashes("quantised", 64 + 72).map(|x| (x % 384) as u32).collect();
    language.extend_tokens(&tokens[..64]).unwrap();
    language.open_branches(6).unwrap();
    let all: Vec<_> = (0u8..).zip(tokens[64..].chunks(12)).flat_map(|(branch, ids)| rows(branch, ids)).collect();
    step(&mut language, &all)
}

/// The same weights in f32: what the quantised ones stand for.
fn widen(model: &Tiny, from: &ModelFile, folder: &std::path::Path) -> ModelFile {
    let mut tensors = BTreeMap::new();
    for (name, dims) in model.tensors() {
        let wide = from.tensor(&name, &dims, &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        tensors.insert(name, QTensor::quantize(&wide, GgmlDType::F32).unwrap());
    }
    let path = folder.join("wide.gguf");
    model.write_tensors(&path, &tensors);
    ModelFile::open(&path).unwrap()
}

/// Least and mean cosine between rows of logits.
fn cosines(ours: &[f32], reference: &[f32], vocab: usize) -> (f64, f64) {
    let cosine = |(a, b): (&[f32], &[f32])| {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let all: Vec<f64> = ours.chunks(vocab).zip(reference.chunks(vocab)).map(cosine).collect();
    (all.iter().copied().fold(1.0, f64::min), all.iter().sum::<f64>() / all.len() as f64)
}

/// Mean of sum p ln(p / q), p the reference's distribution over the vocabulary.
fn mean_divergence(ours: &[f32], reference: &[f32], vocab: usize) -> f64 {
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

/// A type's logits against those of the same weights in f32, and against those of the model's own f32 weights.
fn measure(model: &Tiny, name: &str, kind: impl Fn(&str) -> GgmlDType) -> [Apart; 2] {
    let folder = tempfile::tempdir().unwrap();
    let exact = logits(&model.open(folder.path(), |_| GgmlDType::F32));
    let file = model.open(folder.path(), kind);
    let ours = logits(&file);
    let same = logits(&widen(model, &file, folder.path()));
    [("products", same), ("storing", exact)].map(|(what, reference)| {
        let (least_cosine, mean_cosine) = cosines(&ours, &reference, 384);
        let apart = Apart { least_cosine, mean_cosine, mean_kl: mean_divergence(&ours, &reference, 384) };
        println!("{} {name} {what}: {apart:?}", model.key);
        apart
    })
}

#[test]
fn eight_bit_weights_keep_the_direction_of_the_logits() {
    let [products, storing] = measure(&CALM, "Q8_0", eight_bits);
    assert!(products.least_cosine >= 0.9999, "{products:?}");
    assert!(storing.least_cosine >= 0.9999, "{storing:?}");
    let [products, _] = measure(&WIDE, "Q8_0", eight_bits);
    assert!(products.least_cosine >= 0.998 && products.mean_cosine >= 0.9995, "{products:?}");
}

#[test]
fn four_bit_weights_keep_the_distribution() {
    let [products, storing] = measure(&CALM, "Q4_K", four_bits);
    assert!(products.mean_kl <= 0.002, "{products:?}");
    assert!(storing.mean_kl <= 0.02, "{storing:?}");
    let [products, _] = measure(&WIDE, "Q4_K", four_bits);
    assert!(products.mean_kl <= 0.02, "{products:?}");
}
