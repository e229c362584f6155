//! The language half of the 2B or 7B shape on random blocks, no checkpoint needed: one layer and two are timed in turns,
//! and all are extrapolated from their difference (`whole` instead times the whole model, where memory allows).
//!
//! A round is a prefill of 512 tokens, 8 decoding steps of one branch and 8 of six branches over it. Times by the
//! processor time of all threads divided by their number (by the clock); medians.
//!
//! Usage: bench_shapes 2b|7b q4_k|q8_0 [THREADS] [ROUNDS] [whole]
#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use agent_student::convert::{Preset, shape_2b, shape_7b, write_random};
use agent_student::engine::EngineLanguage;
use agent_student::file::ModelFile;
use agent_student::llm::{Language, Room, Row};

type Fault = Box<dyn std::error::Error>;

const PREFILL: usize = 512;
const STEPS: u32 = 8;
const TASKS: u8 = 6;

/// Seconds that the threads of this process have spent on a processor.
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let text = tasks.map(|task| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default());
    text.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// A model of so many layers, and the times of its rounds: prefill, one step of one branch, one of six.
struct Side {
    layers: usize,
    model: EngineLanguage,
    threads: usize,
    times: [Vec<(f64, f64)>; 3],
}

impl Side {
    fn load(shape: &str, preset: Preset, layers: usize, threads: usize) -> Result<Self, Fault> {
        let mut shape = match shape {
            "2b" => shape_2b(),
            "7b" => shape_7b(),
            other => return Err(format!("no shape {other}").into()),
        };
        shape.text.layers = layers;
        shape.vision.layers = 1;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("random.gguf");
        write_random(&shape, 1, preset, &path)?;
        let room = Room { prefix: PREFILL, branches: TASKS.into(), branch: 2 * STEPS as usize };
        let model = EngineLanguage::load(&ModelFile::open(&path)?, room, threads)?;
        Ok(Self { layers, model, threads, times: Default::default() })
    }

    fn timed(
        &mut self,
        slot: usize,
        part: f64,
        work: &mut dyn FnMut(&mut EngineLanguage) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (start, cpu) = (Instant::now(), cpu_s());
        work(&mut self.model)?;
        let (wall, cpu) = (start.elapsed().as_secs_f64(), (cpu_s() - cpu) / self.threads as f64);
        self.times[slot].push((wall / part, cpu / part));
        Ok(())
    }

    fn round(&mut self) -> Result<(), Fault> {
        let ids: Vec<u32> = (0..PREFILL as u32).map(|i| (i * 97 + i * i * 7) % 150_000).collect();
        self.model.reset();
        self.timed(0, 1.0, &mut |model| Ok(model.extend_tokens(&ids)?))?;
        for (slot, branches) in [(1, 1), (2, TASKS)] {
            self.model.open_branches(branches.into())?;
            self.timed(slot, STEPS.into(), &mut |model| {
                for i in 0..STEPS {
                    let rows: Vec<Row> = (0..branches).map(|branch| Row { branch, token: i * 11 + 3 }).collect();
                    model.step(&rows, &vec![true; rows.len()], &mut Vec::new())?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn median(&self, slot: usize) -> (f64, f64) {
        let one = |pick: fn(&(f64, f64)) -> f64| {
            let mut sorted: Vec<f64> = self.times[slot].iter().skip(1).map(pick).collect();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
        };
        (one(|t| t.0), one(|t| t.1))
    }
}

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shape, types, rest @ ..] = args.as_slice() else { return Err("usage: 2b|7b q4_k|q8_0".into()) };
    let preset = Preset::from_name(types).ok_or("types: q4_k or q8_0")?;
    let number = |i: usize, or: usize| rest.get(i).and_then(|arg| arg.parse().ok()).unwrap_or(or);
    let (threads, rounds, all) = (number(0, 2), number(1, 3), 28);
    let whole = rest.get(2).is_some_and(|arg| arg == "whole");
    let layers = if whole { vec![all] } else { vec![1, 2] };
    let mut sides = Vec::new();
    for layers in layers {
        sides.push(Side::load(shape, preset, layers, threads)?);
    }
    for _ in 0..=rounds {
        for side in &mut sides {
            side.round()?;
        }
    }
    let how = if whole { "measured whole" } else { "extrapolated from one and two layers" };
    println!("{shape} {types}, {threads} threads, {rounds} rounds, {how}; by processor time (by the clock)");
    let names = ["prefill of 512", "step of one branch", "step of six branches"];
    for (slot, (name, tokens)) in names.into_iter().zip([PREFILL as f64, 1.0, f64::from(TASKS)]).enumerate() {
        let times: Vec<(f64, f64)> = sides.iter().map(|side| side.median(slot)).collect();
        let (wall, cpu) = match times.as_slice() {
            [one, two] => {
                let more = (all - sides[0].layers) as f64;
                (one.0 + more * (two.0 - one.0), one.1 + more * (two.1 - one.1))
            }
            [whole] => *whole,
            _ => (f64::NAN, f64::NAN),
        };
        println!(
            "  {name:22} {:9.1} ({:9.1}) ms  {:7.1} ({:7.1}) tokens a second",
            cpu * 1e3,
            wall * 1e3,
            tokens / cpu,
            tokens / wall
        );
    }
    let gib = sides.iter().map(|side| side.model.weight_bytes() as f64).fold(0.0, f64::max) / f64::from(1 << 30);
    println!("  packed weights of the larger model timed: {gib:.2} GiB");
    Ok(())
}
