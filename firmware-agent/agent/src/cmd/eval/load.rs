//! What an evaluation reads: truth files, and the messages and risks that replays wrote. Every error names file and place.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::exit::bad_input;

/// Most drives of one evaluation.
const DRIVES: usize = 20_000;
/// Largest truth, message or risk file, bytes.
const FILE_BYTES: u64 = 256 << 20;
/// Most events of one drive that are looked at.
const EVENTS: usize = 1_000;

/// Classes of severity, in the order of every matrix.
pub(crate) const CLASSES: [&str; 3] = ["collision", "near_collision", "normal"];

#[derive(Debug, Deserialize)]
pub(crate) struct Label {
    pub(crate) text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TrueEvent {
    pub(crate) contact_s: f64,
    pub(crate) crash_interval_s: Option<[f64; 2]>,
    pub(crate) first_sign_s: f64,
    pub(crate) sign_in_view: bool,
    pub(crate) ego_takes_part: bool,
}

/// What of a truth file is needed; its frames are passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) format: String,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) split: String,
    pub(crate) way_m: f64,
    pub(crate) length_s: Option<f64>,
    pub(crate) severity: String,
    pub(crate) description: Label,
    pub(crate) cause: Label,
    pub(crate) prevention: Label,
    pub(crate) event: Option<TrueEvent>,
    #[serde(skip)]
    pub(crate) class: usize,
}

/// What the student said of an event; times on the drive's clock.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The model, as its report names it.
    model: Value,
    /// The part of the drive that it was shown, where the replay's summary tells it.
    pub(crate) seen_s: Option<[f64; 2]>,
    pub(crate) recognition: f64,
    pub(crate) severity: Option<usize>,
    /// Description, cause, prevention.
    pub(crate) words: [String; 3],
    pub(crate) crash_s: Option<[f64; 2]>,
    pub(crate) sign_s: Option<f64>,
    pub(crate) telemetry: bool,
}

/// One event of the agent, as its last message has it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) zero_s: f64,
    pub(crate) answers: Option<Answers>,
}

#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) truth: Truth,
    pub(crate) events: Vec<Event>,
    /// Events of the baseline whose confusions make multiple choice hard; empty without one.
    pub(crate) baseline: Vec<Event>,
    /// Time and risk of every scored frame.
    pub(crate) risk: Vec<(f64, f64)>,
}

fn read(path: &Path) -> anyhow::Result<String> {
    let fail = |e: std::io::Error| bad_input(format!("{}: {e}", path.display()));
    let (file, mut text) = (std::fs::File::open(path).map_err(fail)?, String::new());
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(bad_input(format!("{}: larger than {} MB", path.display(), FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// The drives of a folder with their truth, by name.
pub(crate) fn drives(folder: &Path) -> anyhow::Result<Vec<Drive>> {
    let fail = |e: std::io::Error| bad_input(format!("{}: {e}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "mcap") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(bad_input(format!("{}: no drives (X.mcap with X.mcap.truth.json)", folder.display())));
    }
    if paths.len() > DRIVES {
        return Err(bad_input(format!("{}: more than {DRIVES} drives", folder.display())));
    }
    paths.into_iter().map(drive).collect()
}

fn drive(path: PathBuf) -> anyhow::Result<Drive> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".truth.json");
    let beside = PathBuf::from(beside);
    if !beside.exists() {
        return Err(bad_input(format!("{}: its truth {} is missing", path.display(), beside.display())));
    }
    let truth = truth(&read(&beside)?).map_err(|why| bad_input(format!("{}: {why}", beside.display())))?;
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Drive { name, path, truth, events: Vec::new(), baseline: Vec::new(), risk: Vec::new() })
}

/// Reads a truth file and holds it against itself.
pub(crate) fn truth(text: &str) -> Result<Truth, String> {
    let mut truth: Truth = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if truth.format != agent_sim::world::truth::FORMAT {
        return Err(format!("format \"{}\" instead of \"{}\"", truth.format, agent_sim::world::truth::FORMAT));
    }
    let class = CLASSES.iter().position(|c| *c == truth.severity);
    truth.class = class.ok_or_else(|| format!("severity \"{}\" is none of {CLASSES:?}", truth.severity))?;
    let rule = serde_json::to_value(agent_sim::world::truth::split_of(truth.seed)).unwrap_or_default();
    if rule != truth.split.as_str() {
        return Err(format!("seed {} belongs to {rule}, the file says \"{}\"", truth.seed, truth.split));
    }
    if truth.class != 2 && truth.event.is_none() {
        return Err(format!("severity {} without an event", truth.severity));
    }
    Ok(truth)
}

impl Drive {
    /// Reads what a replay of the drive with the baseline wrote.
    pub(crate) fn read_baseline(&mut self, folder: &Path) -> anyhow::Result<()> {
        let messages = folder.join("messages.jsonl");
        self.baseline = events(&read(&messages)?).map_err(|why| bad_input(format!("{}: {why}", messages.display())))?;
        Ok(())
    }

    /// Reads what a replay of the drive wrote.
    pub(crate) fn read_results(&mut self, folder: &Path) -> anyhow::Result<()> {
        let messages = folder.join("messages.jsonl");
        self.events = events(&read(&messages)?).map_err(|why| bad_input(format!("{}: {why}", messages.display())))?;
        let risk = folder.join("risk.csv");
        let summary = folder.join("summary.json");
        if summary.exists() {
            let summary: Value = serde_json::from_str(&read(&summary)?)
                .map_err(|why| bad_input(format!("{}: {why}", summary.display())))?;
            self.show(&summary["student"]);
        }
        if risk.exists() {
            self.risk = risks(&read(&risk)?).map_err(|why| bad_input(format!("{}: {why}", risk.display())))?;
        }
        Ok(())
    }
}

impl Drive {
    /// Notes what of the drive each answer rests on: the window of the summary's student around the event's time zero, as
    /// far as the drive goes. Answers of another model (a lower step of the ladder) stay without.
    pub(crate) fn show(&mut self, student: &Value) {
        let window = &student["window"];
        let field = |name: &str| window[name].as_f64().filter(|v| v.is_finite() && *v >= 0.0);
        let (Some(before_s), Some(frames), Some(fps)) = (field("before_s"), field("frames"), field("fps")) else {
            return;
        };
        let (length_s, last_s) = (frames / fps.max(0.1), self.truth.length_s.unwrap_or(f64::INFINITY));
        for event in &mut self.events {
            let from = event.zero_s - before_s;
            if let Some(answers) = event.answers.as_mut().filter(|a| a.model == student["model"]) {
                answers.seen_s = Some([from.max(0.0), (from + length_s).min(last_s)]);
            }
        }
    }
}

/// The events of `messages.jsonl`, in the order in which they were opened.
pub(crate) fn events(text: &str) -> Result<Vec<Event>, String> {
    let (mut order, mut events): (Vec<String>, BTreeMap<String, Event>) = (Vec::new(), BTreeMap::new());
    for (index, line) in text.lines().enumerate() {
        let at = |why: String| format!("line {}: {why}", index + 1);
        let line: Value = serde_json::from_str(line).map_err(|e| at(e.to_string()))?;
        let (alert, report) = (&line["message"]["alert"], &line["message"]["report"]);
        let body = if report.is_null() { alert } else { report };
        if body.is_null() {
            continue;
        }
        let id = line["event"].as_str().ok_or_else(|| at("no event id".to_owned()))?.to_owned();
        let kind = body["kind"].as_str().ok_or_else(|| at("no kind".to_owned()))?.to_owned();
        let zero_s = body["time"]["mono_ns"].as_f64().ok_or_else(|| at("no time zero".to_owned()))? * 1e-9;
        let answers = answers(&line, &report["student"]["answered"], zero_s).map_err(at)?;
        if !events.contains_key(&id) {
            if order.len() == EVENTS {
                return Err(at(format!("more than {EVENTS} events")));
            }
            order.push(id.clone());
        }
        events.insert(id, Event { kind, zero_s, answers });
    }
    Ok(order.iter().filter_map(|id| events.remove(id)).collect())
}

fn answers(line: &Value, said: &Value, zero_s: f64) -> Result<Option<Answers>, String> {
    if said.is_null() {
        return Ok(None);
    }
    let recognition = said["recognition_e4"].as_f64().ok_or("an answer without recognition_e4")? * 1e-4;
    let estimate = &said["severity"];
    let severity = ["collision_e4", "near_collision_e4", "normal_e4"].map(|c| estimate[c].as_f64());
    // The first of equals: the worse one.
    let best = (0..3).rev().max_by(|a, b| severity[*a].unwrap_or(0.0).total_cmp(&severity[*b].unwrap_or(0.0)));
    let word = |name: &str| line["student_words"][name].as_str().unwrap_or_default().to_owned();
    let second = |value: &Value| value.as_f64().map(|ms| zero_s + ms / 1000.0);
    let crash = &said["crash"];
    Ok(Some(Answers {
        model: said["model"].clone(),
        seen_s: None,
        recognition,
        severity: best.filter(|_| !estimate.is_null()),
        words: ["description", "cause", "prevention"].map(word),
        crash_s: second(&crash["from_ms"]).zip(second(&crash["to_ms"])).map(|(a, b)| [a, b]),
        sign_s: second(&said["pre_crash"]["from_ms"]),
        telemetry: said["telemetry"].as_bool().unwrap_or(false),
    }))
}

/// Time and risk of `risk.csv`; columns are found by their names, further ones are passed over.
pub(crate) fn risks(text: &str) -> Result<Vec<(f64, f64)>, String> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| head.iter().position(|c| *c == name).ok_or_else(|| format!("no column {name}"));
    let (t, risk) = (column("t_s")?, column("risk")?);
    let row = |(index, line): (usize, &str)| {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |at: usize| cells.get(at).and_then(|c| c.parse::<f64>().ok()).filter(|v| v.is_finite());
        cell(t).zip(cell(risk)).ok_or_else(|| format!("line {}: no time or risk", index + 2))
    };
    lines.enumerate().map(row).collect()
}
