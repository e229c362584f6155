//! The vision tower against the machine's limit for f32 products, in one run.
//!
//! First the limit: the best rate that the engine's f32 kernel reaches on the tower's own shapes, and the library's
//! (`gemm`, through candle) beside it. Then the tower of the SigLIP shape on frames of 448 patches (16x28: 392x224
//! pixels), with few layers: its time times 27 / layers, patch embedding and projector left as they are. The goal is
//! the time of the same products at the limit, times 1.5 at most. Rates are by processor time of all threads, and by
//! the clock; rounds of limit and tower take turns, medians count.
//!
//! Usage: bench_vision [LAYERS] [FRAMES] [THREADS] [ROUNDS]
#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use agent_student::convert::{Preset, shape_2b, write_random};
use agent_student::engine::EngineVision;
use agent_student::engine::linear::{Acts, Compute, Linear};
use agent_student::engine::pack::{Matrix, Packed, Values};
use agent_student::file::ModelFile;
use agent_student::frames::PatchFrame;
use agent_student::llm::Seeing;
use agent_student::shape::VisionShape;
use candle_core::{Device, Tensor};

type Fault = Box<dyn std::error::Error>;

/// Seconds that the threads of this process have spent on a processor.
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let text = tasks.map(|task| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default());
    text.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// Seconds by the clock and on processors (divided by the threads) of one call.
fn timed(threads: usize, work: &mut dyn FnMut() -> Result<(), Fault>) -> Result<(f64, f64), Fault> {
    let (start, cpu) = (Instant::now(), cpu_s());
    work()?;
    Ok((start.elapsed().as_secs_f64(), (cpu_s() - cpu) / threads as f64))
}

fn median(times: &[(f64, f64)]) -> (f64, f64) {
    let one = |pick: fn(&(f64, f64)) -> f64| {
        let mut sorted: Vec<f64> = times.iter().map(pick).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    };
    (one(|t| t.0), one(|t| t.1))
}

/// Multiply-accumulates of one frame: layers, and what comes before and after them.
fn products(shape: &VisionShape, patches: usize, text: usize) -> (f64, f64) {
    let (hidden, ffn, patches) = (shape.hidden as f64, shape.ffn as f64, patches as f64);
    let layer = patches * (4.0 * hidden * hidden + 2.0 * hidden * ffn) + 2.0 * patches * patches * hidden;
    let ends = patches * hidden * shape.patch_values() as f64;
    let tokens = patches / (shape.merge * shape.merge) as f64;
    (layer, ends + tokens * (hidden + text as f64) * text as f64)
}

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, or: usize| args.get(i).and_then(|arg| arg.parse().ok()).unwrap_or(or);
    let (layers, frames, threads, rounds) = (number(0, 2), number(1, 4), number(2, 2), number(3, 5));
    let (rows, cols) = (16, 28);
    let mut shape = shape_2b();
    shape.vision.layers = layers;
    shape.text.layers = 1;
    shape.text.vocab = 2048;
    shape.text.ffn = 512;
    shape.image.token_id = 2045;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("random.gguf");
    write_random(&shape, 1, Preset::F16, &path)?;
    let mut tower = EngineVision::load(&ModelFile::open(&path)?, threads)?;
    let values = shape.vision.patch_values();
    let frames: Vec<PatchFrame> = (0..frames)
        .map(|f| PatchFrame {
            rows,
            cols,
            pixels: (0..rows * cols * values).map(|i| ((i * 7919 + f * 31) % 2003) as f32 / 1000.0 - 1.0).collect(),
            keep: vec![true; rows * cols / 4],
        })
        .collect();

    let (n, k, m) = (shape.vision.ffn, shape.vision.hidden, rows * cols);
    let mut compute = Compute::new(threads);
    let weights: Vec<u8> = (0..n * k).flat_map(|i| (((i * 31) % 997) as f32 / 500.0 - 1.0).to_le_bytes()).collect();
    let packed = Packed::new(&Matrix { name: "limit", rows: n, cols: k, values: Values::F32(&weights) })?;
    let linear = Linear::new(vec![packed], Vec::new())?;
    let mut acts = Acts::new(m, k, false);
    acts.fill(&mut compute, m, &|row, x| {
        x.iter_mut().enumerate().for_each(|(i, x)| *x = ((row + i * 7) % 13) as f32 - 6.0);
    })?;
    let mut out = vec![0.0; m * n];
    let a = Tensor::zeros((m, k), candle_core::DType::F32, &Device::Cpu)?.affine(1.0, 0.5)?;
    let b = Tensor::zeros((k, n), candle_core::DType::F32, &Device::Cpu)?.affine(1.0, 0.25)?;

    let mut times = [const { Vec::new() }; 3];
    for round in 0..=rounds {
        let all = [
            timed(threads, &mut || Ok(linear.forward(&mut compute, &acts, &mut out)?))?,
            timed(threads, &mut || a.matmul(&b).map(drop).map_err(Into::into))?,
            timed(threads, &mut || tower.encode(&frames).map(drop).map_err(Into::into))?,
        ];
        for (times, time) in times.iter_mut().zip(all) {
            if round > 0 {
                times.push(time);
            }
        }
    }
    let [ours, library, tower] = times.map(|times| median(&times));
    let macs = (m * n * k) as f64 / 1e9;
    let rate = |time: (f64, f64)| (macs / time.0, macs / time.1);
    let (limit, other) = (rate(ours), rate(library));
    println!("{threads} threads, {}; figures by the clock (by processor time)", compute.isa.name());
    println!(
        "f32 product {m}x{k}x{n}: our kernel {:.1} ({:.1}) GMAC/s, gemm {:.1} ({:.1})",
        limit.0, limit.1, other.0, other.1
    );
    let best = (limit.0.max(other.0), limit.1.max(other.1));
    let (layer, ends) = products(&shape.vision, rows * cols, shape.text.hidden);
    let work = (layer * layers as f64 + ends) * frames.len() as f64 / 1e9;
    println!(
        "tower, {layers} layers, {} frames of {} patches: {:.1} ({:.1}) ms = {:.1} ({:.1}) GMAC/s",
        frames.len(),
        rows * cols,
        tower.0 * 1e3,
        tower.1 * 1e3,
        work / tower.0,
        work / tower.1
    );
    let ratio = (tower.0 / (work / best.0), tower.1 / (work / best.1));
    println!("time / time of its products at the f32 limit: {:.2} ({:.2}); the goal is 1.5 at most", ratio.0, ratio.1);
    let whole = (layer * 27.0 + ends) * 16.0 / 1e9;
    println!(
        "27 layers, 16 frames, extrapolated by products: {:.1} ({:.1}) s",
        tower.0 * whole / work,
        tower.1 * whole / work
    );
    Ok(())
}
