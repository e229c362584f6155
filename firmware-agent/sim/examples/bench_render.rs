//! How fast the camera renders, one thread: `cargo run --release -p agent-sim --example bench_render`.
//!
//! Prints frames a second at 420x252 for five kinds of scene, each the median of rounds of frames that move along
//! the road: by the wall clock, with boxes of every frame taken too, and by the processor time of this thread (Linux
//! only), which other programs on the machine disturb less. An argument names the one scene to measure.

#![allow(clippy::print_stdout, reason = "an example says what it measured")]
#![allow(missing_docs, reason = "scenes of an example")]

mod scenes;

use agent_sim::render::{Camera, CameraLook};
use std::time::Instant;

const SIZE: (usize, usize) = (420, 252);
const ROUNDS: usize = 11;
const FRAMES: usize = 20;

/// Processor time of this process so far, seconds; 0 where it is not told.
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns * 1e-9)
}

/// Median frames a second of rounds: by the wall clock and by processor time.
fn rounds(name: &str, with_boxes: bool) -> (f64, f64) {
    let Some(mut scene) = scenes::all().into_iter().find(|s| s.name == name) else { return (0.0, 0.0) };
    let mut camera = Camera::new(SIZE.0, SIZE.1, CameraLook::default());
    let mut rgb = vec![0; camera.bytes()];
    let mut boxes = Vec::new();
    camera.render(&scene.state(), &mut rgb);
    let (mut wall, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begin, before) = (Instant::now(), processor_s());
        for _ in 0..FRAMES {
            scene.t_s += 0.08;
            scene.s += 0.02;
            camera.render(&scene.state(), &mut rgb);
            if with_boxes {
                camera.boxes(&scene.state(), &mut boxes);
            }
        }
        wall.push(FRAMES as f64 / begin.elapsed().as_secs_f64());
        busy.push(FRAMES as f64 / (processor_s() - before).max(1e-9));
    }
    (median(wall), median(busy))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn main() {
    println!("{}x{}, detail {}, one thread, frames/s", SIZE.0, SIZE.1, CameraLook::default().detail);
    println!("{:<20} {:>10} {:>12} {:>12}", "scene", "wall", "with boxes", "processor");
    let only = std::env::args().nth(1);
    let names = ["town", "motorway", "country", "wet night", "heavy rain, wipers"];
    for name in names.into_iter().filter(|n| only.as_ref().is_none_or(|o| o == n)) {
        let ((wall, busy), (boxed, _)) = (rounds(name, false), rounds(name, true));
        println!("{name:<20} {wall:>10.1} {boxed:>12.1} {busy:>12.1}");
    }
}
