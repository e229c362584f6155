//! Checks and measures the student on an NVIDIA GPU: needs the feature `cuda`, no checkpoint.
//!
//! `gpu check DIR` compares the GPU with our engine on the CPU on small random models; `gpu time DIR SHAPE` times the
//! 2B or 7B shape with random weights at 16 frames x 112 tokens and six tasks; `gpu write DIR SHAPE` makes its model file
//! ahead, without a GPU; `gpu once DIR 2b` runs one event, for a profiler;
//! `gpu answers FILE` puts pictures to a whole student on both. DIR takes the random model files. One JSON object a line on stdout; exit code 1 when a check
//! fails. `models/bench/gpu.sh` runs all beside the peer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{path::Path, time::Instant};

use agent_student::{
    convert::{Preset, shape_2b, shape_7b, shape_small, write_random},
    cuda::{CudaLanguage, CudaVision, Gpu},
    engine::EngineLanguage,
    error::StudentError,
    file::ModelFile,
    frames::PatchFrame,
    llm::{Language, Piece, Room, Row, Seeing, candle::CandleLanguage},
    session::{Backend, Device as Place, Options, Student},
    shape::ModelShape,
    vision::Vision,
};
use agent_wire::{EventId, UnitId};
use agent_worker::job::{FrameInput, JobSpec, TelemetryRow, TextAnswer, TimeAnswer};
use candle_core::{DType, Device, Tensor};

const BOTH: [&str; 2] = ["ours", "candle"];

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
/// Of the processor, for the reference.
const THREADS: usize = 12;
const ROOM: Room = Room { prefix: 2304, branches: TASKS, branch: 160 };

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["check", dir] => check(Path::new(dir)),
        ["write", dir, "2b"] => write(Path::new(dir), "2b", &shape_2b()),
        ["write", dir, "7b"] => write(Path::new(dir), "7b", &shape_7b()),
        ["write", dir, "small"] => write(Path::new(dir), "small", &shape_small()),
        ["answers", file] => answers(Path::new(file)),
        ["once", dir, "2b"] => once(Path::new(dir), "2b", &shape_2b()),
        ["time", dir, "2b", "ours"] => time(Path::new(dir), "2b", &shape_2b(), &["ours"]),
        ["time", dir, "2b"] => time(Path::new(dir), "2b", &shape_2b(), &BOTH),
        ["time", dir, "7b"] => time(Path::new(dir), "7b", &shape_7b(), &BOTH),
        ["time", dir, "small"] => time(Path::new(dir), "small", &shape_small(), &BOTH),
        _ => Err("usage: gpu check DIR | gpu write DIR 2b|7b|small | gpu time DIR 2b|7b|small [ours]".into()),
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

fn check(dir: &Path) -> Outcome {
    let (gpu, device) = (Device::new_cuda(0)?, Gpu::open(0)?);
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
            let seen_gpu = CudaVision::load(&file, &device)?.encode(&frames)?;
            let want = script(&mut EngineLanguage::load(&file, room, THREADS)?, &seen)?;
            let plain = script(&mut CandleLanguage::load(&file, room, &gpu)?, &seen)?;
            let mut language = CudaLanguage::load(&file, room, &device)?;
            let ours = script(&mut language, &seen)?;
            let again = script(&mut language, &seen)?;
            let read = read_agrees(&mut language, &seen)?;
            let (vision, ours_cosine) = (cosine(&seen, &seen_gpu), cosine(&want, &ours));
            let kl = divergence(&want, &ours, shape.text.vocab);
            // On the same quantised weights: the reference, our engine on the processor, has them and its rows in f32.
            let pass = vision >= 0.9995 && ours == again && read && ours_cosine >= 0.9995;
            good &= pass;
            println!(
                "{{\"check\":\"{name}\",\"types\":\"{}\",\"vision_cosine\":{vision:.6},\"cosine\":{ours_cosine:.6},\
                 \"kl\":{kl:.6},\"candle_on_gpu_cosine\":{:.6},\"to_candle_on_gpu\":{:.6},\"same_twice\":{},\
                 \"read_back\":{read},\"pass\":{pass}}}",
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

/// What the GPU can multiply at most: TFLOP/s of an f16 product.
fn ceiling(gpu: &Device) -> candle_core::Result<f64> {
    let n = 8192usize;
    let a = Tensor::randn(0f32, 1.0, (n, n), gpu)?.to_dtype(DType::F16)?;
    let mut spent = Vec::new();
    for round in 0..8 {
        let begun = Instant::now();
        drop(a.matmul(&a)?);
        gpu.synchronize()?;
        if round >= 3 {
            spent.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(2.0 * (n as f64).powi(3) / (median_ms(spent) / 1e3) / 1e12)
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
    vision: &mut dyn Seeing,
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
    let (mut logits, wanted) = (Vec::new(), [&[1u32, 2][..]; TASKS]);
    let mut read = language.step_read(&rows, &marks, &wanted, &mut logits)?;
    let label = since(begun);
    let mut steps = Vec::new();
    for _ in 0..ANSWER {
        let at = Instant::now();
        let rows: Vec<Row> = (0u8..).zip(&read).map(|(branch, row)| Row { branch, token: row.best }).collect();
        read = language.step_read(&rows, &[true; TASKS], &wanted, &mut logits)?;
        steps.push(since(at));
    }
    Ok(Times { see, prefix, label, report: since(begun), steps })
}

/// A whole student on the GPU beside itself on the processor, over pictures of moving squares: what they answer, and how
/// long it takes from the first frame.
fn answers(file: &Path) -> Outcome {
    const CLIPS: usize = 12;
    let open = |device| {
        let options = Options { device, backend: Backend::Engine, threads: THREADS, ..Options::default() };
        Student::open(file, &options)
    };
    let mut both = [open(Place::Cpu)?, open(Place::Cuda(0))?];
    let window = both[0].facts().window;
    let event = EventId { unit: UnitId::new("gpu")?, boot: 1, seq: 1 };
    let (width, height) = (usize::from(window.width), usize::from(window.height));
    let step_s = (window.before_s + window.after_s) / f32::from(window.frames.max(2) - 1);
    let (mut same, mut all, mut worst, mut spent) = (0, 0, 0.0f32, [Vec::new(), Vec::new()]);
    for clip in 0..CLIPS {
        let mut said = Vec::new();
        for (student, spent) in both.iter_mut().zip(&mut spent) {
            let begun = Instant::now();
            student.begin(&JobSpec::tasks(event.clone(), window))?;
            for i in 0..window.frames {
                // A square that grows from frame to frame, its place and colour by the clip; the rest a slope of grey.
                let side = 8 + usize::from(i) * (2 + clip % 5);
                let (left, top) = ((31 * clip) % (width / 2), height / 3);
                let inside = |x: usize, y: usize| (left..left + side).contains(&x) && (top..top + side).contains(&y);
                let pixel = |n: usize| {
                    let (x, y) = (n % width, n / width);
                    let grey = (y * 200 / height) as u8;
                    if inside(x, y) { [(20 * clip) as u8, 90, 200 - grey / 2] } else { [grey, grey, grey / 2 + 60] }
                };
                let rgb: Vec<u8> = (0..width * height).flat_map(pixel).collect();
                let row = TelemetryRow {
                    acc_mps2: [-0.4 * (clip % 4) as f32 * f32::from(i) / 4.0, 0.1, 9.8],
                    heading_change_deg: 0.2 * clip as f32,
                    speed_mps: (clip % 3 > 0).then_some(14.0 - f32::from(i) / 2.0),
                };
                let (t_s, telemetry) = (f32::from(i) * step_s, (clip % 2 == 0).then_some(row));
                let (width, height) = (window.width, window.height);
                student.push_frame(&FrameInput { t_s, width, height, rgb: &rgb, telemetry, objects: &[] })?;
            }
            let answers = student.answer(&|| false, &mut |_| {})?;
            spent.push(begun.elapsed().as_secs_f64());
            let text = |answer: &Option<TextAnswer>| answer.as_ref().map_or(String::new(), |a| a.text.clone());
            let time =
                |answer: Option<TimeAnswer>| answer.map_or(String::new(), |a| format!("{:.1} {:.1}", a.from_s, a.to_s));
            let texts = [&answers.description, &answers.cause, &answers.prevention].map(text);
            said.push((answers.label.probability, texts, [time(answers.crash), time(answers.pre_crash)]));
        }
        let [a, b] = &said[..] else { return Ok(false) };
        worst = worst.max((a.0 - b.0).abs());
        let pairs = a.1.iter().zip(&b.1).chain(a.2.iter().zip(&b.2));
        all += 5;
        same += pairs.filter(|(x, y)| x == y).count();
    }
    let pass = worst < 0.02 && same * 100 >= all * 95;
    let [cpu, gpu] = spent.map(median_ms);
    println!(
        "{{\"answers\":{all},\"same\":{same},\"label_apart\":{worst:.4},\"cpu_ms\":{cpu:.1},\"gpu_ms\":{gpu:.1},\"pass\":{pass}}}"
    );
    Ok(pass)
}

/// One event of ours and nothing else: what a profiler is to look at.
fn once(dir: &Path, name: &str, shape: &ModelShape) -> Outcome {
    let (gpu, device) = (Device::new_cuda(0)?, Gpu::open(0)?);
    let file = ModelFile::open(&dir.join(format!("{name}.gguf")))?;
    let mut numbers = Numbers(3);
    let frames: Vec<PatchFrame> =
        (0..FRAMES).map(|_| numbers.frame(PATCHES, shape.vision.patch_values(), shape.vision.merge)).collect();
    let mut language = CudaLanguage::load(&file, ROOM, &device)?;
    let mut vision = CudaVision::load(&file, &device)?;
    event(&gpu, &mut language, &mut vision, &frames)?;
    Ok(true)
}

/// The random model file of a shape.
fn write(dir: &Path, name: &str, shape: &ModelShape) -> Outcome {
    let (path, part) = (dir.join(format!("{name}.gguf")), dir.join(format!("{name}.part")));
    write_random(shape, 11, Preset::Q4K, &part)?;
    std::fs::rename(part, path)?;
    Ok(true)
}

fn time(dir: &Path, name: &str, shape: &ModelShape, backends: &[&str]) -> Outcome {
    let gpu = Device::new_cuda(0)?;
    let (copy, product) = (Gpu::open(0)?.copy_rate(2 << 30)?, ceiling(&gpu)?);
    let path = dir.join(format!("{name}.gguf"));
    if !path.exists() {
        write(dir, name, shape)?;
    }
    let file = ModelFile::open(&path)?;
    let room = ROOM;
    let begun = Instant::now();
    let mut numbers = Numbers(3);
    let frames: Vec<PatchFrame> =
        (0..FRAMES).map(|_| numbers.frame(PATCHES, shape.vision.patch_values(), shape.vision.merge)).collect();
    let mut medians = Vec::new();
    for &backend in backends {
        let (mut language, mut vision): (Box<dyn Language>, Box<dyn Seeing>) = if backend == "ours" {
            let device = Gpu::open(0)?;
            (Box::new(CudaLanguage::load(&file, room, &device)?), Box::new(CudaVision::load(&file, &device)?))
        } else {
            (Box::new(CandleLanguage::load(&file, room, &gpu)?), Box::new(Vision::load(&file, &gpu)?))
        };
        if backend == "ours" {
            println!("{{\"shape\":\"{name}\",\"load_s\":{:.2}}}", begun.elapsed().as_secs_f64());
        }
        let mut all = Vec::new();
        for round in 0..7 {
            let times = event(&gpu, language.as_mut(), vision.as_mut(), &frames)?;
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
    if let [ours, candle] = medians[..] {
        println!("{{\"shape\":\"{name}\",\"report_ours_over_candle\":{:.2}}}", candle / ours);
    }
    Ok(true)
}

/// Bytes of the tensors of the language half.
fn language_bytes(file: &ModelFile) -> u64 {
    let language = |name: &&str| !name.starts_with("v.") && !name.starts_with("mm.");
    file.names().filter(language).filter_map(|name| file.info(name)).map(|info| info.bytes).sum()
}
