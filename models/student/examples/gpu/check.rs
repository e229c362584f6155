//! `gpu check`: whether the GPU computes what the processor does, and the same in every way of asking.

use std::{path::Path, sync::Arc};

use agent_student::{
    convert::{Preset, shape_2b, shape_7b, shape_small, write_random},
    cuda::{CudaLanguage, CudaVision, Gpu},
    engine::EngineLanguage,
    error::StudentError,
    file::ModelFile,
    frames::PatchFrame,
    llm::{Language, Room, Row, Seeing, candle::CandleLanguage},
    shape::ModelShape,
    vision::Vision,
};
use candle_core::Device;
use serde_json::json;

use crate::{
    Outcome, THREADS,
    ways::{self, BRANCH, COSINE, Numbers, Scene, cosine},
};

const TASKS: usize = 6;
/// Patches of a frame, and the frames of a scene: what the product takes.
const PATCHES: (usize, usize) = (16, 28);
const FRAMES: usize = 16;
const ROOM: Room = Room { prefix: 2304, branches: 8, branch: BRANCH };

/// Mean KL divergence of the distributions behind rows of logits, nats.
fn divergence(a: &[f32], b: &[f32], vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        row.iter().map(|x| f64::from(x - most) - sum.ln()).collect()
    };
    let rows = a.chunks(vocab).zip(b.chunks(vocab));
    let sum: f64 =
        rows.map(|(a, b)| log_softmax(a).iter().zip(log_softmax(b)).map(|(a, b)| a.exp() * (a - b)).sum::<f64>()).sum();
    sum / (a.len() / vocab).max(1) as f64
}

/// A prefix of text and vision, ragged branches, a rollback and a fork; all logits.
fn script(language: &mut dyn Language, vision: &[f32]) -> Result<Vec<f32>, StudentError> {
    let (vocab, hidden) = (language.shape().vocab, language.shape().hidden);
    let mut numbers = Numbers(7);
    let mut out = Vec::new();
    language.reset();
    let text: Vec<u32> = (0..37).map(|_| numbers.token(vocab)).collect();
    language.extend_tokens(&text)?;
    language.extend_embeddings(vision, vision.len() / hidden)?;
    language.extend_tokens(&text[..5])?;
    language.open_branches(TASKS)?;
    for (step, counts) in
        [[3, 9, 1, 20, 5, 2], [1, 1, 1, 1, 1, 1], [4, 0, 2, 0, 0, 7], [1, 1, 1, 1, 1, 1]].iter().enumerate()
    {
        let mut rows = Vec::new();
        for (branch, count) in counts.iter().enumerate() {
            rows.extend((0..*count).map(|_| Row { branch: branch as u8, token: numbers.token(vocab) }));
        }
        language.step(&rows, &vec![true; rows.len()], &mut out)?;
        if step == 1 {
            language.truncate(3, 11);
            language.copy_branch(1, 4)?;
        }
    }
    Ok(out)
}

/// Whether what is read of a step's logits on the device is what its logits say, for few rows and for many.
fn read_agrees(language: &mut dyn Language, vision: &[f32]) -> Result<bool, StudentError> {
    let (vocab, hidden) = (language.shape().vocab, language.shape().hidden);
    let mut good = true;
    for counts in [[1usize, 1, 1, 1, 1, 1], [4, 3, 5, 1, 1, 2], [20, 10, 9, 1, 1, 1]] {
        let mut numbers = Numbers(9);
        language.reset();
        language.extend_embeddings(vision, vision.len() / hidden)?;
        language.open_branches(TASKS)?;
        let mut rows = Vec::new();
        for (branch, count) in (0u8..).zip(counts) {
            rows.extend((0..count).map(|_| Row { branch, token: numbers.token(vocab) }));
        }
        let marks = vec![true; rows.len()];
        let mut logits = Vec::new();
        language.step(&rows, &marks, &mut logits)?;
        for (branch, _) in (0u8..).zip(counts) {
            language.truncate(branch, 0);
        }
        let tokens = [3u32, 0, vocab as u32 - 1];
        let read = language.step_read(&rows, &marks, &vec![&tokens[..]; rows.len()], &mut Vec::new())?;
        good &= read.len() == rows.len();
        for (row, read) in logits.chunks(vocab).zip(&read) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let best = row.iter().position(|v| *v == max).unwrap_or(0);
            let lse = f64::from(max) + row.iter().map(|v| f64::from(v - max).exp()).sum::<f64>().ln();
            good &= read.best as usize == best && read.max == max && (f64::from(read.lse) - lse).abs() < 1e-3;
            good &= read.picked.iter().zip(tokens).all(|(got, t)| *got == row[t as usize]) && read.picked.len() == 3;
        }
    }
    Ok(good)
}

pub(crate) fn check(dir: &Path) -> Outcome {
    let (plain, gpu) = (Device::new_cuda(0)?, Gpu::open(0)?);
    let mut good = true;
    // Heads of 64 (the small student), of 128 with a group of six (2B), of 128 with seven (7B), two layers each.
    let mut shapes = vec![("small", shape_small())];
    for (name, mut shape) in [("2b, two layers", shape_2b()), ("7b, two layers", shape_7b())] {
        (shape.text.layers, shape.vision.layers, shape.text.vocab) = (2, 2, 4096);
        shapes.push((name, shape));
    }
    for (name, shape) in &shapes {
        for preset in [Preset::F16, Preset::Q8_0, Preset::Q4K] {
            // One that cannot be checked leaves the others.
            good &= one(dir, name, shape, preset, (&plain, &gpu)).unwrap_or_else(|fault| {
                println!(
                    "{}",
                    json!({"check": name, "types": preset.name(), "fault": fault.to_string(), "pass": false})
                );
                false
            });
        }
    }
    Ok(good)
}

/// One shape with weights of one type.
fn one(dir: &Path, name: &str, shape: &ModelShape, preset: Preset, (plain, gpu): (&Device, &Arc<Gpu>)) -> Outcome {
    let path = dir.join("check.gguf");
    write_random(shape, 11, preset, &path)?;
    let file = ModelFile::open(&path)?;
    let mut numbers = Numbers(3);
    let frames: Vec<PatchFrame> =
        (0..2).map(|_| numbers.frame(PATCHES, shape.vision.patch_values(), shape.vision.merge)).collect();
    let (mut language, mut seeing) = (CudaLanguage::load(&file, ROOM, gpu)?, CudaVision::load(&file, gpu)?);
    let seen = Vision::load(&file, &Device::Cpu)?.encode(&frames)?;
    let vision = cosine(&seen, &seeing.encode(&frames)?);
    let want = script(&mut EngineLanguage::load(&file, ROOM, THREADS)?, &seen)?;
    let candle = script(&mut CandleLanguage::load(&file, ROOM, plain)?, &seen)?;
    let ours = script(&mut language, &seen)?;
    let twice = script(&mut language, &seen)? == ours;
    let read = read_agrees(&mut language, &seen)?;
    let to_processor = cosine(&want, &ours);
    // On the same quantised weights: the reference, our engine on the processor, has them and its rows in f32.
    let mut pass = vision >= COSINE && twice && read && to_processor >= COSINE;
    println!(
        "{}",
        json!({
            "check": name, "types": preset.name(), "vision_cosine": vision, "cosine": to_processor,
            "kl": divergence(&want, &ours, shape.text.vocab), "candle_on_gpu_cosine": cosine(&want, &candle),
            "to_candle_on_gpu": cosine(&candle, &ours), "same_twice": twice, "read_back": read, "pass": pass,
        })
    );
    let [scene, other] = [21, 22].map(|seed| Scene::new(seed, shape, FRAMES, PATCHES));
    for found in ways::all(&mut language, &mut seeing, &scene, &other) {
        pass &= found.pass();
        println!(
            "{}",
            json!({
                "check": name, "types": preset.name(), "way": found.way, "cosine": found.cosine, "asked": found.asked,
                "equal": found.equal, "near_ties": found.ties, "wrong": found.wrong, "fault": found.fault,
                "pass": found.pass(),
            })
        );
    }
    Ok(pass)
}
