//! Prints what loading a trigger model and running it does to this process's resident memory.
//!
//! usage: `memory_trigger MANIFEST ONNX`. Linux only: it reads `/proc/self/status`.
#![allow(clippy::print_stdout, reason = "a program for measuring")]

use std::error::Error;
use std::path::Path;

use agent_models::Detector;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, manifest, onnx] = arguments.as_slice() else { return Err("usage: memory_trigger MANIFEST ONNX".into()) };
    show("at the start")?;
    let mut detector = Detector::load_with(Path::new(manifest), Path::new(onnx))?;
    show("loaded")?;
    let frame = vec![128; 640 * 360 * 3];
    for _ in 0..20 {
        detector.detect(640, 360, &frame)?;
    }
    show("after 20 frames of 640x360")?;
    println!("{}", detector.describe());
    Ok(())
}

fn show(when: &str) -> Result<(), Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).and_then(|v| v.parse().ok()).unwrap_or(0.0);
        kib * 1.024e-3
    };
    let [peak, anon, file] = [of("VmHWM"), of("RssAnon"), of("RssFile")];
    println!("{when}: peak {peak:.1} MB; now heap and stacks {anon:.1} MB, pages of files {file:.1} MB");
    Ok(())
}
