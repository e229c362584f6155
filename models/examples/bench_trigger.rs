//! Times the trigger detectors, one thread: `bench_trigger MANIFEST ONNX INPUT_F32 OUTPUT_F32 [--tract] [--steps]`.
//!
//! INPUT_F32 holds ready inputs one after another (raw little-endian floats); the raw output of each goes to
//! OUTPUT_F32. For each line on stdin it runs one input and prints the milliseconds, so that a peer can alternate
//! with it. With `--rgb W H FILE OUT`, it makes INPUT_F32 from RGB frames instead and stops. `bench_trigger --head` times the risk head that
//! ships, on a full road.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use agent_core::vision::{GLOBAL_FEATURES, RISK_SLOTS, RiskFeatures, RiskModel as _, SLOT_FEATURES};
use agent_models::{Detector, Engine, Manifest, RiskHead};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |f: &str| args.iter().any(|a| a == f);
    if flag("--head") {
        return head();
    }
    let [manifest, onnx, input, output, ..] = args.as_slice() else { return Err("see the head of this file".into()) };
    let manifest = Manifest::read(Path::new(manifest))?;
    let engine = if flag("--tract") { Engine::Tract } else { Engine::Auto };
    let mut detector = Detector::from_manifest(manifest, Path::new(onnx), engine)?;
    println!("{}", detector.describe());
    if let Some(at) = args.iter().position(|a| a == "--rgb") {
        let [w, h] = [args.get(at + 1), args.get(at + 2)].map(|a| a.and_then(|a| a.parse::<usize>().ok()).unwrap_or(0));
        let rgb = std::fs::read(input)?;
        let mut out = Vec::new();
        for frame in rgb.chunks_exact((w * h * 3).max(1)) {
            out.extend(detector.preprocess(w, h, frame)?.iter().flat_map(|v| v.to_le_bytes()));
            println!("{:?}", detector.detect(w, h, frame)?);
        }
        std::fs::write(output, out)?;
        let mut times = Vec::new();
        for frame in rgb.chunks_exact((w * h * 3).max(1)).cycle().take(60) {
            let begin = Instant::now();
            detector.preprocess(w, h, frame)?;
            let ready = begin.elapsed();
            detector.detect(w, h, frame)?;
            times.push((ready, begin.elapsed() - ready));
        }
        times.sort();
        if let Some((resize, detect)) = times.get(times.len() / 2) {
            println!("{w}x{h}: resizing {resize:.2?}, whole detection {detect:.2?}");
        }
        return Ok(());
    }
    let spec = &detector.manifest().input;
    let floats = 3 * spec.width * spec.height;
    let bytes = std::fs::read(input)?;
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let images: Vec<&[f32]> = values.chunks_exact(floats).collect();
    let mut raw = Vec::new();
    for image in &images {
        raw.extend(detector.run_raw(image)?.iter().flat_map(|v| v.to_le_bytes()));
    }
    std::fs::write(output, raw)?;
    if flag("--steps") {
        return steps(&mut detector, images.first().ok_or("no input")?);
    }
    println!("ready");
    std::io::stdout().flush()?;
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        line?;
        let image = images.get(i % images.len().max(1)).ok_or("no input")?;
        let begin = Instant::now();
        detector.run_raw(image)?;
        println!("{:.4}", begin.elapsed().as_secs_f64() * 1e3);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Prints the median time of a step of the risk head, of which the agent takes ten a second.
fn head() -> Result<(), Failure> {
    let mut head = RiskHead::builtin()?;
    let slots = [[0.3; SLOT_FEATURES]; RISK_SLOTS];
    let road = RiskFeatures { count: RISK_SLOTS, slots, global: [0.3; GLOBAL_FEATURES], anew: false };
    let mut times = Vec::new();
    for _ in 0..2000 {
        let begin = Instant::now();
        std::hint::black_box(head.step(&road));
        times.push(begin.elapsed());
    }
    times.sort();
    println!("{}: {:.1?} a step (least {:.1?})", head.describe(), times[times.len() / 2], times[0]);
    Ok(())
}

/// Prints the median time of each step, longest first.
fn steps(detector: &mut Detector, image: &[f32]) -> Result<(), Failure> {
    let mut times: Vec<(Vec<Duration>, String)> = Vec::new();
    for _ in 0..30 {
        let mut last = Instant::now();
        detector.trace(image, |i, name| {
            if times.len() <= i {
                times.push((Vec::new(), name.to_owned()));
            }
            times[i].0.push(last.elapsed());
            last = Instant::now();
        });
    }
    let mut rows: Vec<(Duration, String)> = times
        .into_iter()
        .map(|(mut t, name)| {
            t.sort();
            (t[t.len() / 2], name)
        })
        .collect();
    let total: Duration = rows.iter().map(|r| r.0).sum();
    println!("{total:?} in {} steps", rows.len());
    rows.sort_by_key(|r| std::cmp::Reverse(r.0));
    for (t, name) in rows {
        println!("{t:>10.1?} {name}");
    }
    Ok(())
}
