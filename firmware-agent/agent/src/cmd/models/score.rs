//! `models score`: a model's scores of events whose outcome is known, for `models calibrate`.
//!
//! Each event's evidence file is put to the student as `ask` does it, with the six tasks in place of a question, in the
//! worker that ships. The score is the logit of its uncalibrated probability. An event that cannot be asked about is
//! passed over, said, and counted.

use std::fmt::Write as _;
use std::path::Path;

use agent_worker::supervisor::{Reply, Supervisor};
use serde::Deserialize;
use serde_json::json;

use crate::cli::ModelsScoreArgs;
use crate::cmd::{ask, replay};
use crate::exit::{Outcome, bad_input, usage};
use crate::show::{put, say};
use crate::student::Recorded;

/// Largest list that is read, bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// Largest score: an f32 near 1 says no more.
const MAX_Z: f32 = 16.0;

/// One line of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    event: String,
    collision: bool,
}

pub(super) fn score(args: &ModelsScoreArgs) -> anyhow::Result<Outcome> {
    let known: Vec<Known> = super::json_lines(&args.events, MAX_LIST_BYTES, "events")?;
    let mut config = replay::load_config(args.config.as_deref())?;
    config.student.model = Some(std::path::absolute(&args.file)?);
    // Nothing may answer in its place.
    config.student.small_model = None;
    let mut student = ask::start(&config)?;
    if student.facts().is_some_and(|f| f.calibrated) {
        return Err(usage(format!("{}: is calibrated; score the file that it was made of", args.file.display())));
    }
    let folder = args.events.parent().unwrap_or_else(|| Path::new(""));
    let (mut lines, mut scores, mut passed_over) = (String::new(), 0usize, 0usize);
    for Known { event, collision } in &known {
        match z(&folder.join(event), &mut student, config.student.telemetry) {
            Ok(z) => {
                scores += 1;
                writeln!(lines, "{}", json!({"z": z, "collision": collision, "event": event}))?;
            }
            Err(why) => {
                passed_over += 1;
                say!("{event}: {why:#}");
            }
        }
    }
    student.stop();
    if scores == 0 {
        return Err(bad_input(format!("{}: none of {} events could be scored", args.events.display(), known.len())));
    }
    std::fs::write(&args.out, lines).map_err(|e| anyhow::anyhow!("{}: {e}", args.out.display()))?;
    put!("{}", json!({"scores": scores, "passed_over": passed_over, "out": args.out}))?;
    Ok(if passed_over > 0 { Outcome::Loss } else { Outcome::Done })
}

/// The model's score of an event.
fn z(event: &Path, student: &mut Supervisor, telemetry: bool) -> anyhow::Result<f32> {
    let recorded = Recorded::read(event, None)?;
    let window = student.window();
    if ask::put_frames(&recorded, &window, student, None, telemetry)? == 0 {
        anyhow::bail!("no frame of the event's window can be decoded");
    }
    let outcome = student.finish(&|| false);
    match outcome.reply {
        Some(Reply::Answers(answers)) => {
            let p = answers.label.probability;
            Ok((p.ln() - (1.0 - p).ln()).clamp(-MAX_Z, MAX_Z))
        }
        _ => anyhow::bail!("no answer: {}", outcome.falls.last().map_or("", |f| f.detail.as_str())),
    }
}
