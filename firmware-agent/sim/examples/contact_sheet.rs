//! Writes the contact sheet of simulated scenes as a PPM image:
//! `cargo run --release -p agent-sim --example contact_sheet -- sheet.ppm [width of a picture] [only this scene]`.
//! The sheet in the docs is that of width 320, brought to 256 colours.

#![allow(clippy::print_stdout, reason = "an example says what it wrote")]
#![allow(missing_docs, reason = "scenes of an example")]

mod scenes;

use agent_sim::render::{Camera, CameraLook};
use std::io::Write;

const COLUMNS: usize = 5;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "simulated-scenes.ppm".into());
    let width = arguments.next().and_then(|w| w.parse().ok()).unwrap_or(420usize).clamp(64, 1280);
    let only = arguments.next();
    let height = width * 3 / 5;
    let scenes: Vec<_> = scenes::all().into_iter().filter(|s| only.as_ref().is_none_or(|o| s.name == o)).collect();
    let columns = COLUMNS.min(scenes.len().max(1));
    let rows = scenes.len().div_ceil(columns);
    let mut sheet = vec![0u8; columns * width * rows * height * 3];
    for (i, scene) in scenes.iter().enumerate() {
        let mut camera = Camera::new(width, height, CameraLook::default());
        let mut rgb = vec![0; camera.bytes()];
        camera.render(&scene.state(), &mut rgb);
        let mut boxes = Vec::new();
        camera.boxes(&scene.state(), &mut boxes);
        println!("{i:2} {}: {} boxes", scene.name, boxes.len());
        for (y, row) in rgb.chunks_exact(width * 3).enumerate() {
            let at = (((i / columns) * height + y) * columns * width + (i % columns) * width) * 3;
            if let Some(place) = sheet.get_mut(at..at + width * 3) {
                place.copy_from_slice(row);
            }
        }
    }
    let mut file = std::fs::File::create(&path)?;
    writeln!(file, "P6 {} {} 255", columns * width, rows * height)?;
    file.write_all(&sheet)?;
    println!("{path}: {} scenes", scenes.len());
    Ok(())
}
