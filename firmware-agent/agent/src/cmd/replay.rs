//! `replay`: logged drives through the pipeline. The same drives, configuration and models give the same bytes in
//! `messages.jsonl`, `summary.json` and `events/`; wall-clock figures stand apart in `timings.json`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_core::agent::Agent;
use agent_core::evidence::EvidenceView;
use agent_core::time::MonoTime;
use agent_disk::RealDisk;
use agent_drive::{DriveInfo, DriveReader};
use agent_models::{Detector, RiskHead};
use agent_wire::{EvidenceFile, Flags, Hash8, Message, StudentOutcome};
use agent_worker::job::Facts;
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::builtin;
use crate::cli::ReplayArgs;
use crate::config::{Config, Purpose};
use crate::evidence::Durability;
use crate::exit::{Outcome, bad_input};
use crate::link::NoStore;
use crate::pipeline::{Pipeline, Samples, Sink};
use crate::show::say;
use crate::signer::Signer;
use crate::store_page::PageStore;
use crate::student::{Books, Inline, words_json};
use crate::{convert, evidence};

/// How long to wait for the broker at the end when `--broker` is given.
const DRAIN: Duration = Duration::from_secs(30);

pub(crate) fn replay(args: &ReplayArgs) -> anyhow::Result<Outcome> {
    replay_to(args).map(|done| done.outcome)
}

/// How a replay ended, and the event pages that it wrote.
pub(crate) struct Replayed {
    pub(crate) outcome: Outcome,
    pub(crate) pages: Vec<PathBuf>,
    /// What the codes in the reports mean.
    pub(crate) books: Books,
}

/// Most event pages that are listed.
const PAGES_LISTED: usize = 16;

pub(crate) fn replay_to(args: &ReplayArgs) -> anyhow::Result<Replayed> {
    let mut config = load_config(args.config.as_deref())?;
    override_config(&mut config, args)?;
    let mut detector = match (&args.trigger, &args.onnx) {
        (Some(manifest), Some(onnx)) => Some(Detector::load_with(manifest, onnx).map_err(bad_input)?),
        (Some(manifest), None) => Some(Detector::load(manifest).map_err(bad_input)?),
        (None, ..) => convert::detector(&config)?,
    };
    let mut head = convert::risk_head(&config, detector.is_some())?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let link = args
        .broker
        .as_deref()
        .map(|url| crate::link::start(&config, &[url.to_owned()], &args.out.join("outbox.redb"), NoStore::Refuse))
        .transpose()?;
    let mut sink = ReplaySink::new(args, &config, link)?;
    let mut student = Inline::start(&config)?;
    let model = student.as_ref().and_then(|s| s.facts.as_ref()).map(|f| student_json(f, config.student.telemetry));
    let (mut drives, mut timings, mut lost) = (Vec::new(), Vec::new(), false);
    for (index, path) in args.drives.iter().enumerate() {
        let boot = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let one = replay_one(path, boot, args, &config, (detector.take(), head.take(), student.take()), &mut sink)?;
        (detector, head, student) = one.models;
        lost |= one.lost;
        drives.push(one.summary);
        timings.push(one.timing);
    }
    if let Some(student) = student {
        student.end();
    }
    sink.messages.flush()?;
    if !sink.books.is_empty() {
        write_json(&args.out.join("codebook.json"), &sink.books.json())?;
    }
    let summary = json!({
        "config": config.hash8(),
        "risk_head": head.as_ref().map(|h| Hash8(h.hash8())),
        "trigger_model": detector.as_ref().map(|d| Hash8(d.hash8())),
        "student": model,
        "drives": drives,
        "messages": sink.written,
        "message_bytes_max": sink.largest,
    });
    write_json(&args.out.join("summary.json"), &summary)?;
    write_json(
        &args.out.join("timings.json"),
        &json!({"note": "wall clock: differs from run to run", "drives": timings}),
    )?;
    say!("{} messages in {}", sink.written, args.out.join("messages.jsonl").display());
    let mut outcome = if lost { Outcome::Loss } else { Outcome::Done };
    if let Some(link) = sink.link.take()
        && !link.finish(DRAIN)
    {
        say!("the broker did not acknowledge everything: the rest waits in {}", args.out.display());
        outcome = Outcome::Undelivered;
    }
    Ok(Replayed { outcome, pages: sink.pages_written, books: sink.books })
}

/// The configuration of a file for work at the desk, or the embedded defaults.
pub(crate) fn load_config(path: Option<&Path>) -> anyhow::Result<Config> {
    match path {
        Some(path) => crate::config::load(path, Purpose::Desk),
        None => Config::default_embedded(),
    }
    .map_err(crate::exit::bad_config)
}

/// Command-line values replace the configuration's, before its hash is taken: the hash names what was in force.
fn override_config(config: &mut Config, args: &ReplayArgs) -> anyhow::Result<()> {
    if let Some(dbc) = &args.dbc {
        config.can.dbc = Some(std::path::absolute(dbc)?);
        config.can.signals.clear();
    }
    if let Some(model) = &args.student {
        config.student.model = match model.to_str() {
            Some("none") => None,
            // As the word, so that the configuration's hash is the same wherever the file lies.
            Some(builtin::WORD) => Some(model.clone()),
            _ => Some(std::path::absolute(model)?),
        };
    }
    config.student.telemetry &= !args.no_telemetry;
    for text in &args.signal {
        let parsed =
            convert::parse_signal(text).map_err(|why| crate::exit::usage(format!("--signal {text}: {why}")))?;
        config.can.signals.push(parsed);
    }
    Ok(())
}

struct One {
    summary: Value,
    timing: Value,
    lost: bool,
    models: Models,
}

/// What is loaded once and goes from drive to drive.
type Models = (Option<Detector>, Option<RiskHead>, Option<Inline>);

/// The student of a summary: what it was trained with, and whether it is `given` telemetry.
fn student_json(facts: &Facts, given: bool) -> Value {
    json!({"name": facts.name, "model": facts.model, "calibrated": facts.calibrated, "telemetry": facts.telemetry,
           "telemetry_given": given, "objects": facts.objects, "codebook": facts.codebook.version,
           "trained_on": facts.trained_on,
           "window": {"before_s": facts.window.before_s, "frames": facts.window.frames, "fps": facts.window.fps}})
}

fn replay_one(
    path: &Path,
    boot: u32,
    args: &ReplayArgs,
    config: &Config,
    (detector, head, student): Models,
    sink: &mut ReplaySink,
) -> anyhow::Result<One> {
    let begun = Instant::now();
    let mut reader = DriveReader::open(path).map_err(bad_input)?;
    let info = reader.info().clone();
    let flags = Flags { replayed: true, simulated: info.simulated || info.synthetic, ..Flags::default() };
    let model = detector.as_ref().map(|d| Hash8(d.hash8()));
    let agent = Agent::new(convert::agent(config, boot, flags, model));
    let nth = u64::from(config.trigger.vision.every_nth_frame);
    let samples = Samples::new(convert::signal_map(config)?, config.can.buses.clone());
    let mut pipeline = Pipeline::new(agent, detector, samples, nth);
    pipeline.head = head;
    pipeline.student = student;
    sink.begin(boot, &info);
    let (mut first, mut last) = (None, MonoTime::ZERO);
    let pace = Instant::now();
    while let Some(record) = reader.next().map_err(bad_input)? {
        let t = record.time();
        let start = *first.get_or_insert(t);
        last = last.max(t);
        if args.realtime {
            let due = Duration::from_nanos(t.since(start).0);
            if let Some(wait) = due.checked_sub(pace.elapsed()) {
                std::thread::sleep(wait);
            }
        }
        pipeline.feed(&record, sink)?;
    }
    pipeline.finish(last, sink)?;
    let wall_s = begun.elapsed().as_secs_f64();
    let drive_s = first.map_or(0.0, |f| last.since(f).as_s());
    let loss = reader.loss();
    let (counts, losses) = (pipeline.agent.counts(), pipeline.agent.losses());
    let (decode_errors, first_error) = pipeline.decode_errors();
    if let Some(loss) = &loss {
        say!("{}: {loss}", path.display());
    }
    if let Some(error) = first_error {
        say!("{}: {decode_errors} frames not decoded, the first: {error}", path.display());
    }
    let alignment = pipeline.agent.alignment();
    let summary = json!({
        "drive": path.file_name().map(|n| n.to_string_lossy()),
        "boot": boot,
        "source": info.source,
        "simulated": info.simulated,
        "synthetic": info.synthetic,
        "composite": info.composite,
        "duration_s": drive_s,
        "frames": counts.frames,
        "frames_scored": counts.scored,
        "imu_samples": counts.imu,
        "can_frames": counts.can,
        "gnss_fixes": counts.gnss,
        "events": counts.events,
        "impacts_joined": counts.joined,
        "triggers_in_cool_down": counts.cooled,
        "disturbances": counts.disturbances,
        "alignment": {
            "up_known": alignment.up_known,
            "forward_known": alignment.forward_known,
            "confidence": alignment.confidence,
        },
        "losses": losses,
        "frames_not_decoded": decode_errors,
        "drive_loss": loss.as_ref().map(ToString::to_string),
    });
    let spent = pipeline.spent;
    let timing = json!({
        "drive": path.file_name().map(|n| n.to_string_lossy()),
        "wall_s": wall_s,
        "times_real_time": drive_s / wall_s.max(1e-9),
        "decode_s": spent.decode_s,
        "detect_s": spent.detect_s,
        "ring_bytes": pipeline.agent.ring_memory(),
        "peak_resident_bytes": crate::show::peak_resident_bytes(),
    });
    say!(
        "{}: {drive_s:.1} s in {wall_s:.1} s ({:.0} times real time), {} events",
        path.display(),
        drive_s / wall_s.max(1e-9),
        counts.events
    );
    let lost = loss.is_some() || !losses.is_zero() || decode_errors > 0;
    Ok(One { summary, timing, lost, models: (pipeline.detector.take(), pipeline.head.take(), pipeline.student.take()) })
}

fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

/// Files of a replay.
pub(crate) struct ReplaySink {
    events: Option<PathBuf>,
    messages: BufWriter<File>,
    risk: Option<BufWriter<File>>,
    prefix: String,
    info: DriveInfo,
    signer: Signer,
    unit: String,
    boot: u32,
    pages: PageStore,
    books: Books,
    pub(crate) link: Option<crate::link::RunningLink>,
    written: u64,
    largest: usize,
    pages_written: Vec<PathBuf>,
}

impl ReplaySink {
    pub(crate) fn new(
        args: &ReplayArgs,
        config: &Config,
        link: Option<crate::link::RunningLink>,
    ) -> anyhow::Result<Self> {
        let create = |name: &str| {
            let path = args.out.join(name);
            File::create(&path).map(BufWriter::new).with_context(|| format!("making {}", path.display()))
        };
        let mut risk = args.risk_log.then(|| create("risk.csv")).transpose()?;
        if let Some(file) = &mut risk {
            writeln!(file, "boot,t_s,risk,ttc_s,objects,contact,rule")?;
        }
        Ok(Self {
            events: (!args.no_evidence).then(|| args.out.join("events")),
            messages: create("messages.jsonl")?,
            risk,
            prefix: format!("fleet/{}/{}", config.unit.fleet, config.unit.name),
            info: DriveInfo::default(),
            signer: Signer::unsigned("", Flags::default()),
            unit: config.unit.name.to_string(),
            boot: 0,
            pages: PageStore::default(),
            books: Books::default(),
            link,
            written: 0,
            largest: 0,
            pages_written: Vec::new(),
        })
    }

    fn begin(&mut self, boot: u32, drive: &DriveInfo) {
        self.boot = boot;
        let flags = Flags { replayed: true, simulated: drive.simulated || drive.synthetic, ..Flags::default() };
        self.signer = Signer::unsigned(&self.unit, flags);
        self.info = DriveInfo { unit: self.unit.clone(), importer: String::new(), ..drive.clone() };
    }
}

impl Sink for ReplaySink {
    fn message(&mut self, now: MonoTime, message: Message) -> anyhow::Result<()> {
        let mut buffer = [0; agent_wire::limits::MESSAGE_BYTES];
        let bytes = agent_wire::encode(&message, &mut buffer)?.len();
        let mut line = json!({
            "t_ns": now.0,
            "topic": format!("{}/{}", self.prefix, message.kind().topic_level()),
            "bytes": bytes,
            "event": message.event().map(ToString::to_string),
            "message": message,
        });
        if let Message::Report(report) = &message
            && let StudentOutcome::Answered(answers) = &report.student
            && let Some(line) = line.as_object_mut()
        {
            // The report holds codes; whoever reads the file need not have the codebook.
            line.insert("student_words".to_owned(), words_json(&self.books, answers));
        }
        serde_json::to_writer(&mut self.messages, &line)?;
        self.messages.write_all(b"\n")?;
        self.written += 1;
        self.largest = self.largest.max(bytes);
        if let Some(link) = &mut self.link {
            link.send_durable(&message)?;
        }
        if let Some(events) = &self.events
            && let Some(path) = self.pages.on_message(&message, bytes, events, &self.books)?
            && self.pages_written.len() < PAGES_LISTED
        {
            self.pages_written.push(path);
        }
        Ok(())
    }

    fn evidence(&mut self, view: &EvidenceView<'_>) -> Option<EvidenceFile> {
        let folder = self.events.as_ref()?;
        match evidence::write(&RealDisk, folder, view, &self.info, &self.signer, Durability::Buffered) {
            Ok(file) => {
                self.pages.on_evidence(view, &self.info);
                Some(file)
            }
            Err(error) => {
                say!("evidence of {} could not be written: {error:#}", view.event().id);
                None
            }
        }
    }

    fn student(&mut self, facts: &Facts) {
        self.books.add(facts);
    }

    fn scored(&mut self, agent: &Agent) {
        let (Some(file), Some((t, seen))) = (&mut self.risk, agent.last_seen()) else { return };
        let ttc = seen.ttc_s.map_or(String::new(), |v| format!("{v:.3}"));
        // A full disk shows itself at the flush of the messages.
        let [contact, rule] = [seen.contact, seen.rule].map(|v| v.map_or(String::new(), |v| format!("{v:.4}")));
        let (t, risk, objects) = (t.as_s(), seen.risk, seen.objects.len());
        let _ = writeln!(file, "{},{t:.4},{risk:.4},{ttc},{objects},{contact},{rule}", self.boot);
    }
}
