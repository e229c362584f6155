//! `gpu answers`: a whole student on the GPU beside itself on the processor, and its answers after jobs that were
//! cancelled or abandoned.

use std::{cell::Cell, path::Path, time::Instant};

use agent_student::{
    error::StudentError,
    session::{Backend, Device as Place, Options, Student},
};
use agent_wire::{EventId, UnitId};
use agent_worker::job::{Answers, FrameInput, JobSpec, TelemetryRow, TextAnswer, TimeAnswer};
use serde_json::json;

use crate::{Outcome, THREADS, time::median_ms};

const CLIPS: usize = 12;

/// What was answered: the label's probability, texts, times.
type Said = (f32, [String; 3], [String; 2]);

fn said(answers: &Answers) -> Said {
    let text = |answer: &Option<TextAnswer>| answer.as_ref().map_or(String::new(), |a| a.text.clone());
    let time = |answer: Option<TimeAnswer>| answer.map_or(String::new(), |a| format!("{:.1} {:.1}", a.from_s, a.to_s));
    let texts = [&answers.description, &answers.cause, &answers.prevention].map(text);
    (answers.label.probability, texts, [time(answers.crash), time(answers.pre_crash)])
}

/// A job with the first `frames` of a clip's frames: a square that grows from frame to frame, its place and colour by
/// the clip; the rest a slope of grey.
fn show(student: &mut Student, clip: usize, frames: u16) -> Result<(), Box<dyn std::error::Error>> {
    let window = student.facts().window;
    let event = EventId { unit: UnitId::new("gpu")?, boot: 1, seq: 1 };
    let (width, height) = (usize::from(window.width), usize::from(window.height));
    let step_s = (window.before_s + window.after_s) / f32::from(window.frames.max(2) - 1);
    student.begin(&JobSpec::tasks(event, window))?;
    for i in 0..frames {
        let side = 8 + usize::from(i) * (2 + clip % 5);
        let (left, top) = ((31 * clip) % (width / 2), height / 3);
        let inside = |x: usize, y: usize| (left..left + side).contains(&x) && (top..top + side).contains(&y);
        let pixel = |n: usize| {
            let (x, y) = (n % width, n / width);
            let grey = (y * 200 / height) as u8;
            if inside(x, y) { [(20 * clip) as u8, 90, 200 - grey / 2] } else { [grey, grey, grey / 2 + 60] }
        };
        let rgb: Vec<u8> = (0..width * height).flat_map(pixel).collect();
        let row = TelemetryRow {
            acc_mps2: [-0.4 * (clip % 4) as f32 * f32::from(i) / 4.0, 0.1, 9.8],
            heading_change_deg: 0.2 * clip as f32,
            speed_mps: (!clip.is_multiple_of(3)).then_some(14.0 - f32::from(i) / 2.0),
        };
        let (t_s, telemetry) = (f32::from(i) * step_s, clip.is_multiple_of(2).then_some(row));
        let (width, height) = (window.width, window.height);
        student.push_frame(&FrameInput { t_s, width, height, rgb: &rgb, telemetry, objects: &[] })?;
    }
    Ok(())
}

fn answer(student: &mut Student) -> Result<Said, StudentError> {
    student.answer(&|| false, &mut |_| {}).map(|answers| said(&answers))
}

/// What they answer to pictures of moving squares, and how long it takes from the first frame.
pub(crate) fn answers(file: &Path) -> Outcome {
    let open = |device| {
        let options = Options { device, backend: Backend::Engine, threads: THREADS, ..Options::default() };
        Student::open(file, &options)
    };
    let mut both = [open(Place::Cpu)?, open(Place::Cuda(0))?];
    let (mut same, mut all, mut worst, mut spent) = (0, 0, 0.0f32, [Vec::new(), Vec::new()]);
    for clip in 0..CLIPS {
        let mut told = Vec::new();
        for (student, spent) in both.iter_mut().zip(&mut spent) {
            let begun = Instant::now();
            show(student, clip, student.facts().window.frames)?;
            told.push(answer(student)?);
            spent.push(begun.elapsed().as_secs_f64());
        }
        let [a, b] = &told[..] else { return Ok(false) };
        worst = worst.max((a.0 - b.0).abs());
        let pairs = a.1.iter().zip(&b.1).chain(a.2.iter().zip(&b.2));
        all += 5;
        same += pairs.filter(|(x, y)| x == y).count();
    }
    let pass = worst < 0.02 && same * 100 >= all * 95;
    let [cpu, gpu] = spent.map(median_ms);
    println!(
        "{}",
        json!({"answers": all, "same": same, "label_apart": worst, "cpu_ms": cpu, "gpu_ms": gpu, "pass": pass})
    );
    let [_, on_gpu] = &mut both;
    let clean = unmoved(on_gpu).unwrap_or_else(|fault| {
        println!("{}", json!({"answers": "after a cancelled job", "fault": fault.to_string(), "pass": false}));
        false
    });
    Ok(pass && clean)
}

/// Whether a student answers the same after a job that was cancelled and after one that was abandoned: to the bit.
fn unmoved(student: &mut Student) -> Outcome {
    let frames = student.facts().window.frames;
    show(student, 0, frames)?;
    let want = answer(student)?;
    let asks = Cell::new(0);
    let soon = || asks.replace(asks.get() + 1) >= 1;
    show(student, 0, frames)?;
    let cancelled = matches!(student.answer(&soon, &mut |_| {}), Err(StudentError::Cancelled));
    let after_cancelled = answer(student)? == want;
    show(student, 7, frames / 2)?;
    show(student, 0, frames)?;
    let after_abandoned = answer(student)? == want;
    let pass = cancelled && after_cancelled && after_abandoned;
    println!(
        "{}",
        json!({
            "answers": "after a cancelled job", "was_cancelled": cancelled, "same_after_cancelled": after_cancelled,
            "same_after_abandoned": after_abandoned, "pass": pass,
        })
    );
    Ok(pass)
}
