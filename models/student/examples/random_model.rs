//! Writes a model file with random weights, for benchmarks of a shape:
//! `cargo run --release -p agent-student --example random_model -- 7b|2b|small|tiny f32|f16|q8_0|q4_k SEED OUT.gguf`.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::path::Path;

use agent_student::convert::tensors::parameters;
use agent_student::convert::{Preset, shape_2b, shape_7b, shape_small, shape_tiny, write_random};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shape, preset, seed, out] = args.as_slice() else {
        return Err("usage: 7b|2b|small|tiny f32|f16|q8_0|q4_k SEED OUT.gguf".into());
    };
    let model = match shape.as_str() {
        "7b" => shape_7b(),
        "2b" => shape_2b(),
        "small" => shape_small(),
        "tiny" => shape_tiny(),
        other => return Err(format!("no shape {other}").into()),
    };
    let preset = Preset::from_name(preset).ok_or("types: f32, f16, q8_0 or q4_k")?;
    let written = write_random(&model, seed.parse()?, preset, Path::new(out))?;
    println!("{out}: {} parameters, {} bytes", parameters(&model), written.bytes);
    Ok(())
}
