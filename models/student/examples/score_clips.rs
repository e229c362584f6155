//! Puts prepared windows to a model file as the worker does and prints what it answers, one JSON line a window: the
//! figures of a shipped student come from here, from the quantised file itself.
//!
//! usage: `score_clips MODEL.gguf FOLDER`
//!
//! `FOLDER/windows.jsonl` has a line for each window: `{"rows": [[ax, ay, az, heading, speed or null], ...] or null,
//! "times": [0.0, 0.5, ...]}`; `FOLDER/frames.bin` the pictures of all of them, of the window's size, RGB, one after another.
//! `models/train/student/score.py` makes both and reads the answers.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use agent_student::session::{Backend, Options, Student};
use agent_wire::{EventId, UnitId};
use agent_worker::job::{FrameInput, JobSpec, TelemetryRow, TextAnswer, TimeAnswer};
use serde::Deserialize;
use serde_json::json;

/// Acceleration forward, left and up, heading change, speed.
type RowLine = (f32, f32, f32, f32, Option<f32>);

#[derive(Deserialize)]
struct WindowLine {
    rows: Option<Vec<RowLine>>,
    times: Vec<f32>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(folder)) = (args.next(), args.next()) else {
        return Err("usage: score_clips MODEL.gguf FOLDER".into());
    };
    let folder = Path::new(&folder);
    let mut student = Student::open(Path::new(&model), &Options { backend: Backend::Engine, ..Options::default() })?;
    let window = student.facts().window;
    let event = EventId { unit: UnitId::new("score")?, boot: 1, seq: 1 };
    let mut pictures = BufReader::new(File::open(folder.join("frames.bin"))?);
    let mut rgb = vec![0; window.picture_bytes()];
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(File::open(folder.join("windows.jsonl"))?).lines() {
        let asked: WindowLine = serde_json::from_str(&line?)?;
        let begun = Instant::now();
        student.begin(&JobSpec::tasks(event.clone(), window))?;
        for (k, t_s) in asked.times.iter().enumerate() {
            pictures.read_exact(&mut rgb)?;
            let row = asked.rows.as_ref().and_then(|rows| rows.get(k));
            let telemetry = row.map(|(x, y, z, heading_change_deg, speed_mps)| TelemetryRow {
                acc_mps2: [*x, *y, *z],
                heading_change_deg: *heading_change_deg,
                speed_mps: *speed_mps,
            });
            let (width, height) = (window.width, window.height);
            student.push_frame(&FrameInput { t_s: *t_s, width, height, rgb: &rgb, telemetry, objects: &[] })?;
        }
        let asked_at = Instant::now();
        let answers = student.answer(&|| false, &mut |_| {})?;
        let text = |answer: Option<&TextAnswer>| answer.map(|a| a.text.clone());
        let time = |answer: Option<TimeAnswer>| answer.map(|a| [a.from_s, a.to_s]);
        let said = json!({
            "z": student.label_logit(), "probability": answers.label.probability,
            "severity": answers.severity.map(|s| [s.collision, s.near_collision, s.normal]),
            "description": text(answers.description.as_ref()), "cause": text(answers.cause.as_ref()),
            "prevention": text(answers.prevention.as_ref()), "crash": time(answers.crash),
            "pre_crash": time(answers.pre_crash),
            "answer_ms": asked_at.elapsed().as_secs_f64() * 1e3, "all_ms": begun.elapsed().as_secs_f64() * 1e3,
        });
        writeln!(out, "{said}")?;
    }
    Ok(())
}
