//! `ask`: a free question about an event's evidence file, answered by the student; JSON on stdout.
//!
//! The frames, their times and the telemetry beside them are chosen as in `run`: from the file's own time zero and the
//! mounting that was in force then ([`Recorded`]). The answer is a language model's words without a probability.

use std::time::Duration;

use agent_drive::{DriveReader, DriveRecord, VideoDecoder};
use agent_wire::{EventId, UnitId};
use agent_worker::job::{FrameInput, Window};
use agent_worker::picture;
use agent_worker::supervisor::{Begin, Reply, Supervisor};
use serde_json::{Value, json};

use crate::cli::AskArgs;
use crate::config::Config;
use crate::exit::{Outcome, bad_input};
use crate::show::{put, say};
use crate::student::{Grid, Recorded, ladder, telemetry_row};

/// Longer than a sound worker takes.
const WITHIN: Duration = Duration::from_secs(900);

fn never() -> bool {
    false
}

pub(crate) fn ask(args: &AskArgs) -> anyhow::Result<Outcome> {
    let mut config = super::replay::load_config(args.config.as_deref())?;
    if let Some(model) = &args.model {
        config.student.model = Some(std::path::absolute(model)?);
    }
    let recorded = Recorded::read(&args.event, None)?;
    let mut student = start(&config)?;
    let window = student.window();
    let (question, telemetry) = (Some((args.question.clone(), args.max_tokens)), config.student.telemetry);
    let frames = put_frames(&recorded, &window, &mut student, question, telemetry)?;
    if frames == 0 {
        return Err(bad_input(format!("{}: no frame of the event's window can be decoded", args.event.display())));
    }
    let outcome = student.finish(&never);
    let facts = outcome.facts;
    student.stop();
    for fall in &outcome.falls {
        say!("student: step {} gave no answer ({:?}): {}", fall.step, fall.reason, fall.detail);
    }
    let (Some(Reply::Text(answer)), Some(facts)) = (outcome.reply, facts) else {
        anyhow::bail!("the student gave no answer");
    };
    let answer = json!({
        "event": recorded.event,
        "question": args.question,
        "answer": answer,
        "model": {"name": facts.name, "hash": facts.model, "licence": facts.licence},
        "frames": frames,
        "telemetry": telemetry && facts.telemetry && recorded.axes_known(),
        "objects": false,
        "probability": Value::Null,
        "note": "a language model's words about the video, without a probability; they can be wrong",
    });
    put!("{}", serde_json::to_string_pretty(&answer)?)?;
    Ok(Outcome::Done)
}

/// The worker with its model loaded.
pub(super) fn start(config: &Config) -> anyhow::Result<Supervisor> {
    let Some(mut steps) = ladder(config, false)? else {
        return Err(crate::exit::usage("no student: name its model file with --model or in [student]"));
    };
    steps.load_within = WITHIN;
    let mut student = Supervisor::new(steps);
    let falls = student.prepare(&never);
    if student.facts().is_none() {
        let why = falls.last().map_or_else(String::new, |f| f.detail.clone());
        return Err(bad_input(format!("the student does not start: {why}")));
    }
    Ok(student)
}

/// Decodes the frames of the window and hands them over, for a free question or else the six tasks, with telemetry beside
/// them or without; how many.
pub(super) fn put_frames(
    recorded: &Recorded,
    window: &Window,
    student: &mut Supervisor,
    question: Option<(String, u16)>,
    telemetry: bool,
) -> anyhow::Result<u16> {
    let mut reader = DriveReader::open(&recorded.path).map_err(bad_input)?;
    let mut grid = Grid::new(window, recorded.t_zero);
    let (mut decoder, mut scaled, mut frames, mut first) = (None, Vec::new(), 0u16, None);
    let mut begin = Some(question);
    while let Some(record) = reader.next().map_err(bad_input)? {
        let DriveRecord::Frame(meta, bytes) = record else { continue };
        if grid.full() {
            break;
        }
        let decoder = match &mut decoder {
            Some(decoder) => decoder,
            None => decoder.insert(VideoDecoder::new(meta.codec, window.width.saturating_mul(2)).map_err(bad_input)?),
        };
        // Damaged frames are passed over; decoding goes on at the next key frame.
        let Ok(Some(small)) = decoder.decode(&meta, bytes) else { continue };
        let t = small.meta.t;
        if !grid.takes(t) {
            continue;
        }
        let (from, to) = ([small.width, small.height], [window.width, window.height]);
        if !picture::resize(small.rgb, from.map(usize::from), to.map(usize::from), &mut scaled) {
            continue;
        }
        if let Some(question) = begin.take() {
            let zero_s = (i128::from(recorded.t_zero.0) - i128::from(t.0)) as f64 * 1e-9;
            let event = EventId { unit: unit()?, boot: 0, seq: 0 };
            let begin = Begin { event, window: *window, zero_s: zero_s as f32, question, within: WITHIN };
            student.begin(begin, &never);
        }
        let since = t.since(*first.get_or_insert(t)).as_s() as f32;
        let row = recorded.beside(t, grid.interval()).filter(|_| telemetry);
        let input = FrameInput {
            t_s: since,
            width: to[0],
            height: to[1],
            rgb: &scaled,
            telemetry: row.map(telemetry_row),
            objects: &[],
        };
        student.push(&input, &never);
        frames += 1;
    }
    Ok(frames)
}

/// The event's name stands in the answer; to the worker it is only a number.
fn unit() -> anyhow::Result<UnitId> {
    UnitId::new("ask").map_err(|e| anyhow::anyhow!("{e:?}"))
}
