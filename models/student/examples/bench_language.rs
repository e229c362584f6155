//! One side of the language benchmark: loads a GGUF file, then times a round for each line on stdin (so that the script
//! that drives it can alternate with its peer) and prints `prefill_s prefill_cpu_s decode_s decode_cpu_s`.
//!
//! Usage: bench_language FILE engine|candle PREFILL DECODE THREADS
#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::{io::BufRead, path::Path, time::Instant};

use agent_student::engine::EngineLanguage;
use agent_student::file::ModelFile;
use agent_student::llm::{Language, Room, Row, candle::CandleLanguage};

/// Seconds that the threads of this process have spent on a processor.
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let run = |path: &Path| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.map(|task| run(&task.path())).sum::<f64>() / 1e9
}

fn timed(work: impl FnOnce() -> Result<(), Box<dyn std::error::Error>>) -> Result<String, Box<dyn std::error::Error>> {
    let (start, cpu) = (Instant::now(), cpu_s());
    work()?;
    let wall = start.elapsed().as_secs_f64();
    Ok(format!("{wall:.6} {:.6}", cpu_s() - cpu))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, backend, prefill, decode, threads] = args.as_slice() else {
        return Err("usage: FILE engine|candle PREFILL DECODE THREADS".into());
    };
    let (prefill, decode): (usize, usize) = (prefill.parse()?, decode.parse()?);
    let file = ModelFile::open(Path::new(path))?;
    let room = Room { prefix: prefill, branches: 1, branch: decode };
    let mut model: Box<dyn Language> = match backend.as_str() {
        "engine" => Box::new(EngineLanguage::load(&file, room, threads.parse()?)?),
        "candle" => Box::new(CandleLanguage::load(&file, room, &candle_core::Device::Cpu)?),
        other => return Err(format!("no backend {other}").into()),
    };
    let vocab = u32::try_from(model.shape().vocab)?;
    println!("ready");
    let mut logits = Vec::new();
    for (round, line) in (0_u32..).zip(std::io::stdin().lock().lines()) {
        line?;
        let ids: Vec<u32> = (0..prefill as u32).map(|i| (i * 97 + round * 31 + i * i * 7) % vocab).collect();
        model.reset();
        // The peer computes the last token's logits with the prefill: so the step of the first branch token counts too.
        let first = timed(|| {
            model.extend_tokens(&ids[..prefill - 1])?;
            model.open_branches(1)?;
            logits.clear();
            Ok(model.step(&[Row { branch: 0, token: ids[prefill - 1] }], &[true], &mut logits)?)
        })?;
        let rest = timed(|| {
            for i in 1..decode as u32 {
                logits.clear();
                model.step(&[Row { branch: 0, token: i + 5 }], &[true], &mut logits)?;
            }
            Ok(())
        })?;
        println!("{first} {rest}");
    }
    Ok(())
}
