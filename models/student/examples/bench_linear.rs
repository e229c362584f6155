//! Times single linear layers of random weights: multiply-accumulates a second by type, for many rows, six and one, by
//! the processor time of all threads (the clock says nothing on a busy machine).
//!
//! Usage: bench_linear [THREADS] [ROUNDS]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark")]

use agent_student::engine::linear::{Acts, Compute, Linear};
use agent_student::engine::pack::{Matrix, Packed, Values};

fn noise(len: usize, seed: &mut u64) -> Vec<u8> {
    let next = |seed: &mut u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    (0..len).map(|_| next(seed)).collect()
}

/// Seconds that the threads of this process have spent on a processor.
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let text = tasks.map(|task| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default());
    text.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// Makes the half-precision scales of random blocks small and finite.
fn tame(bytes: &mut [u8], block: usize, at: &[usize]) {
    for block in bytes.chunks_exact_mut(block) {
        for at in at {
            block[at + 1] = 0x10;
        }
    }
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (threads, rounds) = (args.first().copied().unwrap_or(2), args.get(1).copied().unwrap_or(9));
    let mut compute = Compute::new(threads);
    let mut seed = 1;
    println!("{} threads, {}", compute.pool.threads(), compute.isa.name());
    for (rows, cols) in [(3072, 768), (768, 3072), (8960, 1536)] {
        let mut q8 = noise(rows * cols / 32 * 34, &mut seed);
        tame(&mut q8, 34, &[0]);
        let mut q4 = noise(rows * cols / 256 * 144, &mut seed);
        tame(&mut q4, 144, &[0, 2]);
        let mut q6 = noise(rows * cols / 256 * 210, &mut seed);
        tame(&mut q6, 210, &[208]);
        let floats: Vec<f32> = noise(rows * cols, &mut seed).iter().map(|b| f32::from(*b) / 128.0 - 1.0).collect();
        let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
        for (name, values) in [
            ("Q8_0", Values::Q8(&q8)),
            ("Q4_K", Values::Q4K(&q4)),
            ("Q6_K", Values::Q6K(&q6)),
            ("i16", Values::Floats(&floats)),
            ("f32", Values::F32(&bytes)),
        ] {
            let packed = Packed::new(&Matrix { name, rows, cols, values }).expect("a matrix");
            let linear = Linear::new(vec![packed], Vec::new()).expect("a layer");
            print!("{rows}x{cols} {name:5}");
            for n in [512, 6, 1] {
                let mut acts = Acts::new(n, cols, linear.wants_ints());
                acts.fill(&mut compute, n, &|row, x| {
                    x.iter_mut().enumerate().for_each(|(i, x)| *x = ((row * 31 + i * 17) % 101) as f32 / 50.0 - 1.0);
                })
                .expect("rows");
                let mut out = vec![0.0; n * rows];
                let repeat = (1024 / n).min(256);
                let mut times: Vec<f64> = (0..rounds)
                    .map(|_| {
                        let start = cpu_s();
                        for _ in 0..repeat {
                            linear.forward(&mut compute, &acts, &mut out).expect("a product");
                        }
                        (cpu_s() - start) / (repeat * threads) as f64
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                let median = times[times.len() / 2];
                print!("  n={n}: {:6.1} GMAC/s", (n * rows * cols) as f64 / median / 1e9);
                if n == 1 {
                    print!(" {:5.1} GB/s", linear.bytes() as f64 / median / 1e9);
                }
            }
            println!();
        }
    }
}
