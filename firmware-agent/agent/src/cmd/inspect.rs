//! `inspect FILE`: what a file is and what is in it: a drive or evidence file, a message, a trigger manifest, a model file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use agent_core::time::MonoTime;
use agent_drive::{DriveReader, DriveRecord};
use serde_json::{Value, json};

use crate::cli::InspectArgs;
use crate::exit::{Outcome, bad_input};
use crate::show::put;

/// First bytes of an MCAP file.
const MCAP: &[u8] = b"\x89MCAP0\r\n";

pub(crate) fn inspect(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let shown = args.file.display();
    let mut head = [0; 8];
    let mut file = std::fs::File::open(&args.file).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    let n = file.read(&mut head).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    let head = head.get(..n).unwrap_or_default();
    let (value, outcome) = if args.verify && !head.starts_with(MCAP) {
        return Err(bad_input(format!("{shown}: not an evidence file (MCAP)")));
    } else if args.verify {
        super::verify::verify(&args.file, args.key.as_deref())?
    } else if head.starts_with(MCAP) {
        inspect_drive(&args.file)?
    } else if head.starts_with(&agent_wire::envelope::MAGIC) {
        (inspect_message(&args.file)?, Outcome::Done)
    } else if head.starts_with(&agent_student::convert::gguf::MAGIC) {
        (inspect_student(&args.file)?, Outcome::Done)
    } else if args.file.extension().is_some_and(|e| e == "toml") {
        (inspect_model(&args.file)?, Outcome::Done)
    } else {
        return Err(bad_input(format!(
            "{shown}: neither a drive (MCAP), a message nor a manifest (.toml), nor a model file (GGUF)"
        )));
    };
    if args.json {
        put!("{value}")?;
    } else {
        put!("{}", serde_json::to_string_pretty(&value)?)?;
    }
    Ok(outcome)
}

/// Most JSON records that are shown.
const MAX_SAID: usize = 16;

/// First and last time and count of one kind of record.
#[derive(Default)]
struct Seen {
    count: u64,
    first: Option<MonoTime>,
    last: MonoTime,
    bytes: u64,
}

fn inspect_drive(path: &Path) -> anyhow::Result<(Value, Outcome)> {
    let mut reader = DriveReader::open(path).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut keys = 0u64;
    let mut said = Vec::new();
    while let Some(record) = reader.next().map_err(|e| bad_input(format!("{}: {e}", path.display())))? {
        let (name, bytes) = match &record {
            DriveRecord::Imu(_) => ("imu", 0),
            DriveRecord::Gnss(_) => ("gnss", 0),
            DriveRecord::Can(_) => ("can", 0),
            DriveRecord::Json(topic, _, text) => {
                if said.len() < MAX_SAID {
                    said.push(json!({"topic": topic, "says": serde_json::from_str::<Value>(text).unwrap_or_default()}));
                }
                ("json", text.len() as u64)
            }
            DriveRecord::Frame(meta, bytes) => {
                keys += u64::from(meta.key);
                ("frames", bytes.len() as u64)
            }
        };
        let t = record.time();
        let one = seen.entry(name).or_default();
        one.count += 1;
        one.first.get_or_insert(t);
        one.last = one.last.max(t);
        one.bytes += bytes;
    }
    let channels: serde_json::Map<String, Value> = seen
        .iter()
        .map(|(name, s)| {
            let first = s.first.unwrap_or_default();
            let seconds = s.last.since(first).as_s();
            let rate = if seconds > 0.0 { (s.count.saturating_sub(1)) as f64 / seconds } else { 0.0 };
            let mut value = json!({"count": s.count, "from_s": first.as_s(), "to_s": s.last.as_s(), "rate_hz": rate});
            if *name == "frames" {
                value["mbit_s"] = json!(s.bytes as f64 * 8e-6 / seconds.max(1e-9));
                value["key_frames"] = json!(keys);
            }
            ((*name).to_owned(), value)
        })
        .collect();
    let (loss, info) = (reader.loss().map(ToString::to_string), reader.info());
    let value = json!({
        "drive": {
            "source": info.source, "unit": info.unit, "importer": info.importer,
            "simulated": info.simulated, "synthetic": info.synthetic, "composite": info.composite,
            "camera": info.camera.as_ref().map(|c| json!({"width": c.width, "height": c.height, "fps": c.fps})),
        },
        "channels": channels,
        "metadata": reader.metadata().iter().map(|(n, m)| json!({"name": n, "values": m})).collect::<Vec<_>>(),
        "said": said,
        "loss": loss,
    });
    Ok((value, if loss.is_some() { Outcome::Loss } else { Outcome::Done }))
}

fn inspect_message(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let mut bytes = Vec::new();
    // One byte more than any message shows that it is too long.
    let limit = agent_wire::limits::MESSAGE_BYTES as u64 + 1;
    let file = std::fs::File::open(path).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    let message = agent_wire::decode(&bytes).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    Ok(json!({"bytes": bytes.len(), "message": message}))
}

fn inspect_model(path: &Path) -> anyhow::Result<Value> {
    let detector = agent_models::Detector::load(path).map_err(bad_input)?;
    Ok(json!({"trigger_model": detector.describe(), "hash": agent_wire::Hash8(detector.hash8())}))
}

/// Everything but the hash of the weights, which `models verify` takes its time for.
fn inspect_student(path: &Path) -> anyhow::Result<Value> {
    let described = agent_student::convert::describe(path).map_err(crate::cmd::models::coded)?;
    Ok(json!({"model_file": described}))
}
