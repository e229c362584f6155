//! `models`: makes, fetches and checks model files of the student, and probe files of the trigger's networks. The work on the files is
//! agent-student's and agent-models'; here are the command line, what people are told, and the network.

mod manifest;
mod probe;
mod pull;
mod score;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use agent_student::calibration::MAX_FIT;
use agent_student::convert::{ConvertError, ImportOptions, Preset, calibrate, export_language, import, verify};
use agent_student::shape::WindowShape;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cli::{ModelsArgs, ModelsCalibrateArgs, ModelsCommand, ModelsImportArgs};
use crate::exit::{Coded, Outcome, bad_input, usage};
use crate::show::{peak_resident_bytes, put, say};

pub(crate) fn models(args: &ModelsArgs) -> anyhow::Result<Outcome> {
    match &args.command {
        ModelsCommand::Import(args) => import_model(args),
        ModelsCommand::Verify { file } => verify_model(file),
        ModelsCommand::Score(args) => score::score(args),
        ModelsCommand::Calibrate(args) => calibrate_model(args),
        ModelsCommand::Pull(args) => pull::pull(args),
        ModelsCommand::Probe { manifest } => probe::probe(manifest),
        ModelsCommand::ExportLanguage { file, out } => {
            let written = export_language(file, out).map_err(coded)?;
            put!("{}", json!({"file": out, "bytes": written.bytes}))?;
            Ok(Outcome::Done)
        }
    }
}

/// Exit code of a converter's error: an input's fault is the input's, anything else ours or the machine's.
pub(crate) fn coded(error: ConvertError) -> anyhow::Error {
    let outcome = if error.is_input() { Outcome::BadInput } else { Outcome::Failed };
    Coded(outcome, error.to_string()).into()
}

fn verify_model(file: &Path) -> anyhow::Result<Outcome> {
    let verified = verify(file).map_err(coded)?;
    put!("{}", serde_json::to_string_pretty(&verified)?)?;
    Ok(Outcome::Done)
}

/// One line of a file of scores; what else stands in it is not looked at.
#[derive(Deserialize)]
struct ScoreLine {
    z: f32,
    collision: bool,
}

/// Largest file of scores that is read, bytes: what [`MAX_FIT`] lines of this form take.
const MAX_SCORES_BYTES: u64 = 128 * MAX_FIT as u64;

/// A file of one JSON value a line, at most [`MAX_FIT`] of them; `what` they are stands in the error. An error names the line.
fn json_lines<T: DeserializeOwned>(path: &Path, most_bytes: u64, what: &str) -> anyhow::Result<Vec<T>> {
    let place = path.display();
    let file = std::fs::File::open(path).map_err(|e| bad_input(format!("{place}: {e}")))?;
    let mut values = Vec::new();
    for (n, line) in BufReader::new(file.take(most_bytes)).lines().enumerate() {
        let line = line.map_err(|e| bad_input(format!("{place}: {e}")))?;
        if values.len() == MAX_FIT {
            return Err(bad_input(format!("{place}: more than {MAX_FIT} {what}")));
        }
        values.push(serde_json::from_str(&line).map_err(|e| bad_input(format!("{place}: line {}: {e}", n + 1)))?);
    }
    Ok(values)
}

fn calibrate_model(args: &ModelsCalibrateArgs) -> anyhow::Result<Outcome> {
    let place = args.scores.display();
    let lines: Vec<ScoreLine> = json_lines(&args.scores, MAX_SCORES_BYTES, "scores")?;
    let scores: Vec<(f32, bool)> = lines.into_iter().map(|score| (score.z, score.collision)).collect();
    let made = calibrate(&args.file, &args.out, &scores, args.prior_field).map_err(|error| match error {
        // What cannot be fitted is the fault of the scores.
        ConvertError::Asked(what) => bad_input(format!("{place}: {what}")),
        other => coded(other),
    })?;
    put!("{}", serde_json::to_string_pretty(&json!({"model": args.out, "calibration": made}))?)?;
    Ok(Outcome::Done)
}

fn import_model(args: &ModelsImportArgs) -> anyhow::Result<Outcome> {
    let options = options(args)?;
    let mut said = 0;
    let made = import(&options, &args.out, &mut |tensor, done, total| {
        // A line for each twentieth: enough to see that it goes on.
        let twentieth = done.saturating_mul(20) / total.max(1);
        if twentieth > said {
            said = twentieth;
            say!("{} %, {:.1} of {:.1} GB, {tensor}", 5 * twentieth, done as f64 / 1e9, total as f64 / 1e9);
        }
    })
    .map_err(coded)?;
    for note in &made.notes {
        say!("note: {note}");
    }
    let s = &made.sources;
    put!(
        "{}",
        json!({"model": args.out, "bytes": made.written.bytes, "parameters": made.parameters,
               "weights_sha256": made.written.weights_sha256, "types": made.types, "merged": made.merged,
               "licence": made.licence, "notes": made.notes,
               "sources": {"base": s.base, "adapter": s.adapter, "non_lora": s.non_lora},
               "peak_resident_bytes": peak_resident_bytes()})
    )?;
    Ok(Outcome::Done)
}

fn options(args: &ModelsImportArgs) -> anyhow::Result<ImportOptions> {
    let preset = Preset::from_name(&args.quantize);
    let preset = preset.ok_or_else(|| usage(format!("--quantize {}: f32, f16, q8_0 or q4_k", args.quantize)))?;
    let mut window = WindowShape::default();
    window.frames = args.frames.unwrap_or(window.frames);
    window.fps = args.fps.unwrap_or(window.fps);
    window.before_s = args.before_s.unwrap_or(window.before_s);
    window.after_s = args.after_s.unwrap_or(window.after_s);
    if let Some(size) = &args.frame_size {
        let sides = size.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        (window.width, window.height) = sides.ok_or_else(|| usage(format!("--frame-size {size}: WIDTHxHEIGHT")))?;
    }
    window.check().map_err(usage)?;
    Ok(ImportOptions {
        adapter: args.adapter.clone(),
        non_lora: args.non_lora.clone(),
        name: args.name.clone(),
        licence: args.licence.clone(),
        window,
        telemetry: args.telemetry,
        objects: args.objects,
        closed: args.closed_answers,
        trained_on: args.trained_on.clone(),
        max_tokens: args.max_tokens,
        ..ImportOptions::new(&args.base, &args.prompts, preset)
    })
}
