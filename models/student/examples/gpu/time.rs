//! `gpu time`: how long a backend takes for one event, and how much memory of the card.
//!
//! Two ways: *whole*, all frames at hand, seen at once and taken in at once; and *streamed*, as the product does it, each
//! frame seen as it comes and put into the prefix with the text before it in one call. Of that what counts is what is
//! left when the last frame is in. Shares: of what a copy moves a second, and of what a large f16 product does.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use agent_student::{
    convert::{Preset, write_random},
    cuda::{CudaLanguage, CudaVision, Gpu},
    error::StudentError,
    file::ModelFile,
    frames::PatchFrame,
    llm::{Language, Piece, Room, Row, Seeing, candle::CandleLanguage},
    shape::ModelShape,
    vision::Vision,
};
use candle_core::{DType, Device, Tensor, cuda_backend::cudarc::driver::CudaContext};
use serde_json::json;

use crate::{Outcome, ways::Numbers};

/// The budget of the edge: 16 frames of 16 x 28 patches, 112 tokens each.
const FRAMES: usize = 16;
const PATCHES: (usize, usize) = (16, 28);
const FRAME_TOKENS: usize = 112;
/// Text between the frames ("Time 0.0s:"), tokens; a question, tokens; the longest plain answer, steps.
const FRAME_TEXT: usize = 8;
const QUESTION: usize = 30;
const ANSWER: usize = 57;
const TASKS: usize = 6;
const ROOM: Room = Room { prefix: 2304, branches: TASKS, branch: 160 };
/// Events before those that are timed; timed ones.
const WARM: usize = 2;
const TIMED: usize = 5;

/// Median of some seconds, in milliseconds.
pub(crate) fn median_ms(mut seconds: Vec<f64>) -> f64 {
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

/// Bytes of the card that are taken, by anyone.
fn taken(context: &CudaContext) -> Result<usize, Box<dyn std::error::Error>> {
    let (free, total) = context.mem_get_info()?;
    Ok(total.saturating_sub(free))
}

/// Looks every millisecond how much of the card is taken.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Watch {
    fn begin(context: &Arc<CudaContext>) -> Self {
        let (context, over) = (Arc::clone(context), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !ends.load(Ordering::Relaxed) {
                most = most.max(taken(&context).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        });
        Self { over, thread }
    }

    /// Most that was taken.
    fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// A backend, and how to wait for what it was asked.
struct Halves {
    language: Box<dyn Language>,
    vision: Box<dyn Seeing>,
    candle: Option<Device>,
}

impl Halves {
    fn load(backend: &str, file: &ModelFile) -> Result<Self, Box<dyn std::error::Error>> {
        if backend == "ours" {
            let gpu = Gpu::open(0)?;
            let language = Box::new(CudaLanguage::load(file, ROOM, &gpu)?);
            return Ok(Self { language, vision: Box::new(CudaVision::load(file, &gpu)?), candle: None });
        }
        if backend != "candle" {
            return Err(format!("no backend {backend}: ours or candle").into());
        }
        let gpu = Device::new_cuda(0)?;
        let language = Box::new(CandleLanguage::load(file, ROOM, &gpu)?);
        Ok(Self { language, vision: Box::new(Vision::load(file, &gpu)?), candle: Some(gpu) })
    }

    /// Ours waits in the call; of candle's, without this, the time would be that of giving out the work.
    fn wait(&self) {
        if let Some(gpu) = &self.candle {
            gpu.synchronize().ok();
        }
    }
}

#[derive(Default)]
struct Times {
    see: f64,
    prefix: f64,
    label: f64,
    report: f64,
    steps: Vec<f64>,
    /// Streamed: each frame, seen and taken in.
    frames: Vec<f64>,
}

fn frames_of(shape: &ModelShape) -> Vec<PatchFrame> {
    let mut numbers = Numbers(3);
    (0..FRAMES).map(|_| numbers.frame(PATCHES, shape.vision.patch_values(), shape.vision.merge)).collect()
}

fn text_of(vocab: usize) -> Vec<u32> {
    let mut numbers = Numbers(5);
    (0..FRAME_TEXT).map(|_| numbers.token(vocab)).collect()
}

/// One event, whole: frames seen and taken in, then questions and answers.
fn event(halves: &mut Halves, frames: &[PatchFrame]) -> Result<Times, StudentError> {
    let text = text_of(halves.language.shape().vocab);
    let hidden = halves.language.shape().hidden;
    let begun = Instant::now();
    halves.language.reset();
    let seen = halves.vision.encode(frames)?;
    let see = begun.elapsed().as_secs_f64();
    let pieces: Vec<Piece<'_>> =
        seen.chunks(FRAME_TOKENS * hidden).flat_map(|frame| [Piece::Tokens(&text), Piece::Embeddings(frame)]).collect();
    halves.language.extend_pieces(&pieces)?;
    halves.wait();
    let mut times = Times { see, prefix: begun.elapsed().as_secs_f64() - see, ..Times::default() };
    ask(halves, begun, &mut times)?;
    Ok(times)
}

/// One event, streamed: label and report count from when the last frame came.
fn streamed(halves: &mut Halves, frames: &[PatchFrame]) -> Result<Times, StudentError> {
    let text = text_of(halves.language.shape().vocab);
    let mut times = Times::default();
    let mut last = Instant::now();
    halves.language.reset();
    for frame in frames {
        last = Instant::now();
        let seen = halves.vision.encode(std::slice::from_ref(frame))?;
        halves.language.extend_pieces(&[Piece::Tokens(&text), Piece::Embeddings(&seen)])?;
        halves.wait();
        times.frames.push(last.elapsed().as_secs_f64());
    }
    ask(halves, last, &mut times)?;
    Ok(times)
}

/// Six questions at once, answers of [`ANSWER`] plain steps.
fn ask(halves: &mut Halves, begun: Instant, times: &mut Times) -> Result<(), StudentError> {
    let language = halves.language.as_mut();
    let vocab = language.shape().vocab;
    language.open_branches(TASKS)?;
    let question = |branch: usize| {
        (0..QUESTION).map(move |i| Row { branch: branch as u8, token: ((branch * 31 + i) % vocab) as u32 })
    };
    let rows: Vec<Row> = (0..TASKS).flat_map(question).collect();
    let marks: Vec<bool> = (0..rows.len()).map(|i| i % QUESTION == QUESTION - 1).collect();
    let (mut logits, wanted) = (Vec::new(), [&[1u32, 2][..]; TASKS]);
    let mut read = language.step_read(&rows, &marks, &wanted, &mut logits)?;
    times.label = begun.elapsed().as_secs_f64();
    for _ in 0..ANSWER {
        let at = Instant::now();
        let rows: Vec<Row> = (0u8..).zip(&read).map(|(branch, row)| Row { branch, token: row.best }).collect();
        read = language.step_read(&rows, &[true; TASKS], &wanted, &mut logits)?;
        times.steps.push(at.elapsed().as_secs_f64());
    }
    times.report = begun.elapsed().as_secs_f64();
    Ok(())
}

/// One event of ours and nothing else: what a profiler is to look at.
pub(crate) fn once(dir: &Path, name: &str, shape: &ModelShape) -> Outcome {
    let file = ModelFile::open(&dir.join(format!("{name}.gguf")))?;
    event(&mut Halves::load("ours", &file)?, &frames_of(shape))?;
    Ok(true)
}

/// The random model file of a shape.
pub(crate) fn write(dir: &Path, name: &str, shape: &ModelShape) -> Outcome {
    let (path, part) = (dir.join(format!("{name}.gguf")), dir.join(format!("{name}.part")));
    write_random(shape, 11, Preset::Q4K, &part)?;
    std::fs::rename(part, path)?;
    Ok(true)
}

pub(crate) fn time(dir: &Path, name: &str, shape: &ModelShape, backend: &str) -> Outcome {
    let path = dir.join(format!("{name}.gguf"));
    if !path.exists() {
        write(dir, name, shape)?;
    }
    let file = ModelFile::open(&path)?;
    let frames = frames_of(shape);
    // Memory: from a bare context on, in load and in the first events of both ways; then times, without a look.
    let context = CudaContext::new(0)?;
    let before = taken(&context)?;
    let watch = Watch::begin(&context);
    let begun = Instant::now();
    let loaded = Halves::load(backend, &file);
    let (load_s, held) = (begun.elapsed().as_secs_f64(), taken(&context)?);
    let warm = loaded.and_then(|mut halves| {
        for _ in 0..WARM {
            event(&mut halves, &frames)?;
            streamed(&mut halves, &frames)?;
        }
        Ok(halves)
    });
    let most = watch.end();
    let mut halves = warm?;
    let (mut whole, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..TIMED {
        whole.push(event(&mut halves, &frames)?);
        apart.push(streamed(&mut halves, &frames)?);
    }
    drop(halves);
    let (copy, product) = (Gpu::open(0)?.copy_rate(2 << 30)?, ceiling(&Device::new_cuda(0)?)?);
    let of = |times: &[Times], f: &dyn Fn(&Times) -> f64| median_ms(times.iter().map(f).collect());
    let step = median_ms(whole.iter().flat_map(|t| t.steps.iter().copied()).collect());
    // A plain step reads every weight of the language half once.
    let read = language_bytes(&file) as f64 / (step / 1e3) / 1e9;
    let (see, prefix) = (of(&whole, &|t| t.see), of(&whole, &|t| t.prefix));
    let [vision_tflops, prefix_tflops] =
        [(vision_flops(shape), see), (prefix_flops(shape), prefix)].map(|(flops, ms)| flops / (ms / 1e3) / 1e12);
    let mb = |bytes: usize| (bytes as f64 / 1e6).round();
    println!(
        "{}",
        json!({
            "shape": name, "backend": backend, "load_s": load_s, "vision_ms": see, "prefix_ms": prefix,
            "label_ms": of(&whole, &|t| t.label), "report_ms": of(&whole, &|t| t.report),
            "streamed_frame_ms": median_ms(apart.iter().flat_map(|t| t.frames.iter().copied()).collect()),
            "streamed_label_ms": of(&apart, &|t| t.label), "streamed_report_ms": of(&apart, &|t| t.report),
            "step_ms": step, "tokens_per_s_each": 1e3 / step, "tokens_per_s_six": TASKS as f64 * 1e3 / step,
            "read_gb_per_s": read, "copy_gb_per_s": copy, "bandwidth_share": read / copy,
            "vision_tflops": vision_tflops, "prefix_tflops": prefix_tflops, "product_tflops": product,
            "vision_share": vision_tflops / product, "prefix_share": prefix_tflops / product,
            "memory_before_mb": mb(before), "memory_held_mb": mb(held.saturating_sub(before)),
            "memory_peak_mb": mb(most.max(held).saturating_sub(before)),
        })
    );
    Ok(true)
}

/// Products of the prefix with weights; attention, which is little here, is not counted.
fn prefix_flops(shape: &ModelShape) -> f64 {
    let text = &shape.text;
    let block = 2 * text.hidden * text.hidden + 2 * text.hidden * text.kv_dim() + 3 * text.hidden * text.ffn;
    2.0 * (text.layers * block * FRAMES * (FRAME_TOKENS + FRAME_TEXT)) as f64
}

/// Products of all frames' patches and tokens with weights of the tower and the projector; attention not counted either.
fn vision_flops(shape: &ModelShape) -> f64 {
    let (vision, hidden) = (&shape.vision, shape.text.hidden);
    let width = vision.hidden;
    let patch = vision.layers * (4 * width * width + 2 * width * vision.ffn) + vision.patch_values() * width;
    let token = width * hidden + hidden * hidden;
    2.0 * (FRAMES * (PATCHES.0 * PATCHES.1 * patch + FRAME_TOKENS * token)) as f64
}

/// Bytes of the tensors of the language half.
fn language_bytes(file: &ModelFile) -> u64 {
    let language = |name: &&str| !name.starts_with("v.") && !name.starts_with("mm.");
    file.names().filter(language).filter_map(|name| file.info(name)).map(|info| info.bytes).sum()
}
