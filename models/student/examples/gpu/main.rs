//! Checks and measures the student on an NVIDIA GPU: needs the feature `cuda`, no checkpoint.
//!
//! - `gpu check DIR`: small random models on the GPU beside our engine on the processor, and ways of asking that must
//!   answer alike on the GPU itself (`ways.rs`).
//! - `gpu answers FILE`: pictures put to a whole student on both, and to one whose jobs are cancelled.
//! - `gpu time DIR SHAPE BACKEND`: times of one backend and the memory it takes, at 16 frames x 112 tokens and six tasks,
//!   with random weights. One backend a process, so that the memory is its own.
//! - `gpu write DIR SHAPE`: the model file of `time` ahead, without a GPU.
//! - `gpu once DIR 2b`: one event, for a profiler.
//!
//! DIR takes the random model files. One JSON object a line on stdout; exit code 1 when a check fails.
//! `models/bench/gpu.sh` runs all beside the peer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod answers;
mod check;
mod time;
mod ways;

use std::path::Path;

use agent_student::{
    convert::{shape_2b, shape_7b, shape_small},
    shape::ModelShape,
};

type Outcome = Result<bool, Box<dyn std::error::Error>>;

/// Of the processor, for the reference.
const THREADS: usize = 12;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["check", dir] => check::check(Path::new(dir)),
        ["answers", file] => answers::answers(Path::new(file)),
        ["write", dir, name] => shape(name).and_then(|shape| time::write(Path::new(dir), name, &shape)),
        ["once", dir, name] => shape(name).and_then(|shape| time::once(Path::new(dir), name, &shape)),
        ["time", dir, name, backend] => shape(name).and_then(|shape| time::time(Path::new(dir), name, &shape, backend)),
        _ => Err("usage: gpu check DIR | answers FILE | write DIR SHAPE | once DIR SHAPE | \
                  time DIR SHAPE ours|candle; shapes: 2b, 7b, small"
            .into()),
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

fn shape(name: &str) -> Result<ModelShape, Box<dyn std::error::Error>> {
    match name {
        "2b" => Ok(shape_2b()),
        "7b" => Ok(shape_7b()),
        "small" => Ok(shape_small()),
        other => Err(format!("no shape {other}: 2b, 7b or small").into()),
    }
}
