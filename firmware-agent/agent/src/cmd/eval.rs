//! `eval`: drives with a known truth through `replay`, or what it wrote of them, and how good the agent was on them.
//!
//! It scores and never judges: no threshold is chosen, no drive is left out. Drives of another split than the one asked for
//! are refused, so that nothing trained on is reported as unseen by mistake.

mod choice;
mod judge;
mod load;
mod page;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::{EvalArgs, ReplayArgs};
use crate::cmd::replay;
use crate::exit::{Outcome, bad_input};
use crate::show::{put, say};
use judge::{Figure, Judged};
use load::Drive;

/// Version of `eval.json`.
const FORMAT: &str = "firmware-agent evaluation 1";
/// Signals of the simulator's bus.
const CONFIG: &str = include_str!("demo.toml");

pub(crate) fn eval(args: &EvalArgs) -> anyhow::Result<Outcome> {
    let mut drives = load::drives(&args.drives)?;
    let split = args.split.as_str();
    if split != "all"
        && let Some(other) = drives.iter().find(|d| d.truth.split != split)
    {
        return Err(bad_input(format!(
            "{}: seed {} belongs to {}, and {split} is to be scored; --split all takes every drive and marks the result",
            other.path.display(),
            other.truth.seed,
            other.truth.split
        )));
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let mut outcome = Outcome::Done;
    let config = match (&args.results, &args.config) {
        (None, None) => Some(default_config(&args.out)?),
        _ => args.config.clone(),
    };
    let mut summaries = Vec::new();
    for drive in &mut drives {
        let folder = match &args.results {
            Some(results) => results.join(&drive.name),
            None => {
                let folder = args.out.join("replays").join(&drive.name);
                if replay::replay(&replay_args(args, drive, folder.clone(), config.clone()))? == Outcome::Loss {
                    outcome = Outcome::Loss;
                }
                folder
            }
        };
        drive.read_results(&folder)?;
        if let Some(baseline) = &args.baseline {
            drive.read_baseline(&baseline.join(&drive.name))?;
        }
        summaries.push(models_of(&folder));
    }
    summaries.dedup();
    let judged = judge::judge(&drives);
    let report = report(args, &drives, &judged, &summaries);
    let title = title(args, &drives, &summaries);
    let text = serde_json::to_string_pretty(&report)?;
    write(&args.out.join("eval.json"), &(text.clone() + "\n"))?;
    write(&args.out.join("eval.html"), &page::render(&title, &judged))?;
    if args.json {
        put!("{text}")?;
    } else {
        put!("{title}")?;
        for line in table(&judged.figures) {
            put!("{line}")?;
        }
    }
    say!("evaluation: {} and eval.html beside it", args.out.join("eval.json").display());
    Ok(outcome)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// A configuration with the simulator's bus, so that telemetry works without being told how.
fn default_config(out: &Path) -> anyhow::Result<PathBuf> {
    let path = out.join("eval.toml");
    write(&path, CONFIG)?;
    write(&out.join("demo.dbc"), agent_sim::DEMO_DBC)?;
    Ok(path)
}

fn replay_args(args: &EvalArgs, drive: &Drive, out: PathBuf, config: Option<PathBuf>) -> ReplayArgs {
    ReplayArgs {
        drives: vec![drive.path.clone()],
        out,
        config,
        broker: None,
        realtime: false,
        trigger: args.trigger.clone(),
        onnx: args.onnx.clone(),
        dbc: args.dbc.clone(),
        signal: args.signal.clone(),
        student: args.student.clone(),
        no_telemetry: args.no_telemetry,
        risk_log: true,
        no_evidence: true,
    }
}

/// Configuration and models that a replay's summary names; nothing where it has none.
fn models_of(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("summary.json")).unwrap_or_default();
    let summary: Value = serde_json::from_str(&text).unwrap_or_default();
    json!({"config": summary["config"], "trigger_model": summary["trigger_model"], "risk_head": summary["risk_head"],
           "student": summary["student"]})
}

fn title(args: &EvalArgs, drives: &[Drive], summaries: &[Value]) -> String {
    let km = drives.iter().map(|d| d.truth.way_m / 1000.0).sum::<f64>();
    let mark = if args.split.as_str() == "all" { ", SPLITS MIXED: may hold drives that were trained on" } else { "" };
    let blind = blind(summaries);
    format!("{} simulated drives, {km:.1} km, split {}{mark}{blind}", drives.len(), args.split.as_str())
}

/// Said where a student was not given telemetry, by the summaries of the replays.
fn blind(summaries: &[Value]) -> &'static str {
    if summaries.iter().any(|s| s["student"]["telemetry_given"] == false) {
        ", the student is not given telemetry"
    } else {
        ""
    }
}

fn report(args: &EvalArgs, drives: &[Drive], judged: &Judged, summaries: &[Value]) -> Value {
    let each = |d: &Drive| {
        let events: Vec<Value> = d
            .events
            .iter()
            .map(|e| {
                json!({"kind": e.kind, "time_zero_s": e.zero_s, "of_the_true_event": judge::is_of(d, e),
                       "answered": e.answers.is_some()})
            })
            .collect();
        json!({"drive": d.name, "scenario": d.truth.scenario, "seed": d.truth.seed, "split": d.truth.split,
               "severity": d.truth.severity, "contact_s": d.truth.event.as_ref().map(|e| e.contact_s),
               "events": events, "frames_scored": d.risk.len()})
    };
    let mut not_scored = Vec::new();
    let choice = judged.figures.iter().any(|f| f.name.ends_with(": multiple choice"));
    match (&args.baseline, choice) {
        (_, true) => {}
        (None, _) => not_scored.push("multiple choice with hard distractors: no --baseline to draw them from"),
        (Some(_), _) => not_scored
            .push("multiple choice with hard distractors: the baseline confused nothing, or no student answered"),
    }
    if drives.iter().all(|d| d.events.iter().all(|e| e.answers.is_none())) {
        not_scored.push("six tasks: no student answered");
    }
    if drives.iter().all(|d| d.risk.is_empty()) {
        not_scored.push("risk: no scored frames (risk.csv)");
    }
    let whole = |e: &load::Event| e.answers.as_ref().is_some_and(|a| a.seen_s.is_none());
    let mut notes = Vec::new();
    if drives.iter().flat_map(|d| &d.events).any(whole) {
        notes.push("some answers' windows are not known (summary.json): their true crash intervals are not cut");
    }
    json!({
        "format": FORMAT,
        "simulated": true,
        "split": args.split.as_str(),
        "splits_mixed": args.split.as_str() == "all",
        "drives": drives.len(),
        "way_km": drives.iter().map(|d| d.truth.way_m / 1000.0).sum::<f64>(),
        "configurations_and_models": summaries,
        "not_scored": not_scored,
        "notes": notes,
        "results": judged,
        "each": drives.iter().map(each).collect::<Vec<_>>(),
    })
}

/// A figure's value and interval as they are shown, and its one-sided bound in words (empty without one).
fn shown(figure: &Figure) -> [String; 3] {
    let number = |v: f64| if v.abs() >= 100.0 { format!("{v:.1}") } else { format!("{v:.3}") };
    [
        figure.value.map_or_else(|| "not defined".to_owned(), number),
        figure.interval.map_or_else(String::new, |[a, b]| format!("{} to {}", number(a), number(b))),
        figure.at_most.map_or_else(String::new, |most| format!("at most {} (95 %, one-sided)", number(most))),
    ]
}

/// The figures as lines.
fn table(figures: &[Figure]) -> Vec<String> {
    let (mut lines, mut group) = (Vec::new(), "");
    for figure in figures {
        if figure.group != group {
            group = figure.group;
            lines.push(format!("\n{:64} {:>11}  {:20} {:>6}", group, "value", "95 % interval", "n"));
        }
        let [value, interval, at_most] = shown(figure);
        lines.push(format!("  {:62} {value:>11}  {interval:20} {:>6}", figure.name, figure.n));
        if !at_most.is_empty() {
            lines.push(format!("    {at_most}"));
        }
    }
    lines
}
