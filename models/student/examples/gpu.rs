//! Checks and measures the student on an NVIDIA GPU: needs the feature `cuda`, no checkpoint.
//!
//! `gpu check DIR` compares the GPU with the CPU's candle backend on small random models; `gpu time DIR SHAPE` times the
//! 2B or 7B shape with random weights at 16 frames x 112 tokens and six tasks; `gpu write DIR SHAPE` makes its model file
//! ahead, without a GPU. DIR takes the random model files. One JSON object a line on stdout; exit code 1 when a check
//! fails. `models/bench/gpu.sh` runs all beside the peer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{path::Path, time::Instant};

use agent_student::{
    convert::{Preset, shape_2b, shape_7b, shape_small, write_random},
    error::StudentError,
    file::ModelFile,
    frames::PatchFrame,
    llm::{Language, Piece, Room, Row, Seeing, candle::CandleLanguage, cuda::CudaLanguage},
    shape::ModelShape,
    vision::Vision,
};
use candle_core::{DType, Device, Tensor};

type Outcome = Result<bool, Box<dyn std::error::Error>>;

/// The budget of the edge: 16 frames of 16 x 28 patches, 112 tokens each.
const FRAMES: usize = 16;
const PATCHES: (usize, usize) = (16, 28);
const FRAME_TOKENS: usize = 112;
/// Text between the frames ("Time 0.0s:"), tokens; a question, tokens; the longest plain answer, steps.
const FRAME_TEXT: usize = 8;
const QUESTION: usize = 30;
const ANSWER: usize = 57;
const TASKS: usize = 6;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["check", dir] => check(Path::new(dir)),
        ["write", dir, "2b"] => write(Path::new(dir), "2b", &shape_2b()),
        ["write", dir, "7b"] => write(Path::new(dir), "7b", &shape_7b()),
        ["write", dir, "small"] => write(Path::new(dir), "small", &shape_small()),
        ["time", dir, "2b"] => time(Path::new(dir), "2b", &shape_2b()),
        ["time", dir, "7b"] => time(Path::new(dir), "7b", &shape_7b()),
        ["time", dir, "small"] => time(Path::new(dir), "small", &shape_small()),
        _ => Err("usage: gpu check DIR | gpu write DIR 2b|7b|small | gpu time DIR 2b|7b|small".into()),
    };
    match outcome {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("gpu: {fault}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Numbers that repeat on every machine, in -1 to 1 (an LCG; Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    fn token(&mut self, vocab: usize) -> u32 {
        (((self.next() + 1.0) * 0.5 * (vocab - 1) as f32) as u32).min(vocab as u32 - 1)
    }

    fn frame(&mut self, (rows, cols): (usize, usize), values: usize, merge: usize) -> PatchFrame {
        let pixels = (0..rows * cols * values).map(|_| self.next()).collect();
        PatchFrame { rows, cols, pixels, keep: vec![true; rows * cols / (merge * merge)] }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

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

fn check(dir: &Path) -> Outcome {
    let gpu = Device::new_cuda(0)?;
    let mut good = true;
    // Heads of 64 (the small student), of 128 with a group of six (2B), of 128 with seven (7B), two layers each.
    let mut shapes = vec![("small", shape_small())];
    for (name, mut shape) in [("2b, two layers", shape_2b()), ("7b, two layers", shape_7b())] {
        (shape.text.layers, shape.vision.layers, shape.text.vocab) = (2, 2, 4096);
        shapes.push((name, shape));
    }
    for (name, shape) in &shapes {
        for preset in [Preset::F16, Preset::Q8_0, Preset::Q4K] {
            let path = dir.join("check.gguf");
            write_random(shape, 11, preset, &path)?;
            let file = ModelFile::open(&path)?;
            let room = Room { prefix: 1024, branches: 8, branch: 64 };
            let mut numbers = Numbers(3);
            let frames: Vec<PatchFrame> =
                (0..2).map(|_| numbers.frame(PATCHES, shape.vision.patch_values(), shape.vision.merge)).collect();
            let seen = Vision::load(&file, &Device::Cpu)?.encode(&frames)?;
            let seen_gpu = Vision::load(&file, &gpu)?.encode(&frames)?;
            let want = script(&mut CandleLanguage::load(&file, room, &Device::Cpu)?, &seen)?;
            let plain = script(&mut CandleLanguage::load(&file, room, &gpu)?, &seen)?;
            let mut language = CudaLanguage::load(&file, room, &gpu)?;
            let ours = script(&mut language, &seen)?;
            let again = script(&mut language, &seen)?;
            let (vision, ours_cosine) = (cosine(&seen, &seen_gpu), cosine(&want, &ours));
            let kl = divergence(&want, &ours, shape.text.vocab);
            // Tolerances: f16 on the GPU 0.9995. Quantised products quantise the rows they multiply too, on both sides,
            // so 4-bit files are held to the mean KL.
            let pass =
                vision >= 0.9995 && ours == again && (ours_cosine >= 0.9995 || (preset == Preset::Q4K && kl <= 0.02));
            good &= pass;
            println!(
                "{{\"check\":\"{name}\",\"types\":\"{}\",\"vision_cosine\":{vision:.6},\"cosine\":{ours_cosine:.6},\
                 \"kl\":{kl:.6},\"candle_on_gpu_cosine\":{:.6},\"to_candle_on_gpu\":{:.6},\"same_twice\":{},\
                 \"pass\":{pass}}}",
                preset.name(),
                cosine(&want, &plain),
                cosine(&plain, &ours),
                ours == again,
            );
        }
    }
    Ok(good)
}

/// Median of some seconds, in milliseconds.
fn median_ms(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN) * 1e3
}

/// What the GPU can do at most: GB/s of a copy (read and written), TFLOP/s of an f16 product.
fn ceilings(gpu: &Device) -> candle_core::Result<(f64, f64)> {
    let median = |work: &dyn Fn() -> candle_core::Result<Tensor>| -> candle_core::Result<f64> {
        let mut spent = Vec::new();
        for round in 0..8 {
            let begun = Instant::now();
            drop(work()?);
            gpu.synchronize()?;
            if round >= 3 {
                spent.push(begun.elapsed().as_secs_f64());
            }
        }
        Ok(median_ms(spent) / 1e3)
    };
    let bytes = 2usize << 30;
    // Into memory that is there: the allocation of a copy takes seven times as long as the copy on a large card.
    let (large, room) = (Tensor::zeros(bytes / 2, DType::F16, gpu)?, Tensor::zeros(bytes / 2, DType::F16, gpu)?);
    let copy = median(&|| room.slice_set(&large, 0, 0).map(|()| room.clone()))?;
    let n = 8192usize;
    let a = Tensor::randn(0f32, 1.0, (n, n), gpu)?.to_dtype(DType::F16)?;
    let product = median(&|| a.matmul(&a))?;
    Ok((2.0 * bytes as f64 / copy / 1e9, 2.0 * (n as f64).powi(3) / product / 1e12))
}

struct Times {
    see: f64,
    prefix: f64,
    label: f64,
    report: f64,
    steps: Vec<f64>,
}

/// One event: frames seen and taken in, six questions at once, answers of [`ANSWER`] plain steps.
fn event(
    gpu: &Device,
    language: &mut dyn Language,
    vision: &mut Vision,
    frames: &[PatchFrame],
) -> Result<Times, StudentError> {
    let (vocab, hidden) = (language.shape().vocab, language.shape().hidden);
    let mut numbers = Numbers(5);
    let text: Vec<u32> = (0..FRAME_TEXT).map(|_| numbers.token(vocab)).collect();
    let begun = Instant::now();
    let since = |at: Instant| at.elapsed().as_secs_f64();
    language.reset();
    let seen = vision.encode(frames)?;
    let see = since(begun);
    let pieces: Vec<Piece<'_>> =
        seen.chunks(FRAME_TOKENS * hidden).flat_map(|frame| [Piece::Tokens(&text), Piece::Embeddings(frame)]).collect();
    language.extend_pieces(&pieces)?;
    // The GPU is asked for all of it: without that this is the time to give it the work.
    gpu.synchronize().ok();
    let prefix = since(begun) - see;
    language.open_branches(TASKS)?;
    let ask = |branch: usize| {
        (0..QUESTION).map(move |i| Row { branch: branch as u8, token: ((branch * 31 + i) % vocab) as u32 })
    };
    let rows: Vec<Row> = (0..TASKS).flat_map(ask).collect();
    let marks: Vec<bool> = (0..rows.len()).map(|i| i % QUESTION == QUESTION - 1).collect();
    let mut logits = Vec::new();
    language.step(&rows, &marks, &mut logits)?;
    let label = since(begun);
    let mut steps = Vec::new();
    for _ in 0..ANSWER {
        let at = Instant::now();
        let best = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        let rows: Vec<Row> =
            logits.chunks(vocab).enumerate().map(|(b, row)| Row { branch: b as u8, token: best(row) as u32 }).collect();
        logits.clear();
        language.step(&rows, &[true; TASKS], &mut logits)?;
        steps.push(since(at));
    }
    Ok(Times { see, prefix, label, report: since(begun), steps })
}

/// The random model file of a shape.
fn write(dir: &Path, name: &str, shape: &ModelShape) -> Outcome {
    let (path, part) = (dir.join(format!("{name}.gguf")), dir.join(format!("{name}.part")));
    write_random(shape, 11, Preset::Q4K, &part)?;
    std::fs::rename(part, path)?;
    Ok(true)
}

fn time(dir: &Path, name: &str, shape: &ModelShape) -> Outcome {
    let gpu = Device::new_cuda(0)?;
    let (copy, product) = ceilings(&gpu)?;
    let path = dir.join(format!("{name}.gguf"));
    if !path.exists() {
        write(dir, name, shape)?;
    }
    let file = ModelFile::open(&path)?;
    let room = Room { prefix: 2304, branches: TASKS, branch: 160 };
    let begun = Instant::now();
    let mut vision = Vision::load(&file, &gpu)?;
    let mut numbers = Numbers(3);
    let frames: Vec<PatchFrame> =
        (0..FRAMES).map(|_| numbers.frame(PATCHES, shape.vision.patch_values(), shape.vision.merge)).collect();
    let names = ["ours", "candle"];
    let mut medians = Vec::new();
    for backend in names {
        let mut language: Box<dyn Language> = if backend == "ours" {
            Box::new(CudaLanguage::load(&file, room, &gpu)?)
        } else {
            Box::new(CandleLanguage::load(&file, room, &gpu)?)
        };
        if backend == "ours" {
            println!("{{\"shape\":\"{name}\",\"load_s\":{:.2}}}", begun.elapsed().as_secs_f64());
        }
        let mut all = Vec::new();
        for round in 0..7 {
            let times = event(&gpu, language.as_mut(), &mut vision, &frames)?;
            if round >= 2 {
                all.push(times);
            }
        }
        let of = |f: &dyn Fn(&Times) -> f64| median_ms(all.iter().map(f).collect());
        let step = median_ms(all.iter().flat_map(|t| t.steps.iter().copied()).collect());
        // A plain step reads every weight of the language half once.
        let read = language_bytes(&file) as f64 / (step / 1e3) / 1e9;
        let text = &shape.text;
        let block = 2 * text.hidden * text.hidden + 2 * text.hidden * text.kv_dim() + 3 * text.hidden * text.ffn;
        let tokens = FRAMES * (FRAME_TOKENS + FRAME_TEXT);
        let flops = 2.0 * (text.layers * block * tokens) as f64;
        println!(
            "{{\"shape\":\"{name}\",\"backend\":\"{backend}\",\"vision_ms\":{:.2},\"prefix_ms\":{:.2},\"label_ms\":{:.2},\
             \"report_ms\":{:.2},\"step_ms\":{step:.3},\"tokens_per_s_each\":{:.0},\"tokens_per_s_six\":{:.0},\
             \"read_gb_per_s\":{read:.0},\"copy_gb_per_s\":{copy:.0},\"bandwidth_share\":{:.3},\
             \"prefix_tflops\":{:.1},\"product_tflops\":{product:.0}}}",
            of(&|t| t.see),
            of(&|t| t.prefix),
            of(&|t| t.label),
            of(&|t| t.report),
            1e3 / step,
            6e3 / step,
            read / copy,
            flops / (of(&|t| t.prefix) / 1e3) / 1e12,
        );
        medians.push(of(&|t| t.report));
    }
    println!("{{\"shape\":\"{name}\",\"report_ours_over_candle\":{:.2}}}", medians[1] / medians[0]);
    Ok(true)
}

/// Bytes of the tensors of the language half.
fn language_bytes(file: &ModelFile) -> u64 {
    let language = |name: &&str| !name.starts_with("v.") && !name.starts_with("mm.");
    file.names().filter(language).filter_map(|name| file.info(name)).map(|info| info.bytes).sum()
}
