//! `inspect --verify`: an evidence file held against its chain, and against the key that must have signed it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use agent_disk::RealDisk;
use agent_drive::verify::Fault;
use agent_drive::{DriveError, Verdict};
use agent_keys::PublicKey;
use serde_json::{Value, json};

use crate::evidence;
use crate::exit::{Outcome, bad_input};

/// What came of it, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Intact,
    Cut,
    NoChain,
    Altered,
    NotSigned,
    OtherKey,
}

impl Word {
    fn of(verdict: &Verdict, wanted: Option<PublicKey>) -> Self {
        if !verdict.chained {
            Self::NoChain
        } else if !verdict.intact() {
            Self::Altered
        } else if verdict.key.is_none() {
            Self::NotSigned
        } else if wanted.is_some_and(|key| verdict.key != Some(key)) {
            Self::OtherKey
        } else if !verdict.signed {
            // A key, and no part that it signed: nothing is left of the file.
            Self::NotSigned
        } else if verdict.cut.is_some() {
            Self::Cut
        } else {
            Self::Intact
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Cut => "cut",
            Self::NoChain => "no_chain",
            Self::Altered => "altered",
            Self::NotSigned => "not_signed",
            Self::OtherKey => "other_key",
        }
    }

    const fn outcome(self) -> Outcome {
        match self {
            Self::Intact => Outcome::Done,
            Self::Cut => Outcome::Loss,
            Self::NoChain | Self::Altered | Self::NotSigned | Self::OtherKey => Outcome::NotVouched,
        }
    }

    fn says(self, verdict: &Verdict, wanted: Option<PublicKey>) -> String {
        let key = verdict.key.map(|key| key.id().to_string()).unwrap_or_default();
        let compared = match wanted {
            Some(_) => "the key that was asked for",
            None => "which was not held against any: give the unit's with --key",
        };
        match self {
            Self::Intact => format!("intact: every part is what the unit wrote, signed by key {key}, {compared}"),
            Self::Cut => format!(
                "cut: {} parts are what the unit wrote, signed by key {key}, {compared}; what comes behind them nobody vouches \
                 for, and whether a power cut or a person cut it cannot be told",
                verdict.parts
            ),
            Self::NoChain => "no chain: nobody vouches for anything in this file".to_owned(),
            Self::Altered => "altered: this is not what the unit wrote".to_owned(),
            Self::NotSigned => {
                "not signed: its parts fit each other, but anybody could have made them so; accidents show, intent does not"
                    .to_owned()
            }
            Self::OtherKey => format!("signed by another key ({key}) than the one that was asked for"),
        }
    }
}

/// Verifies the file and gives what is shown of it.
pub(crate) fn verify(path: &Path, key: Option<&str>) -> anyhow::Result<(Value, Outcome)> {
    let shown = path.display();
    let wanted = key.map(agent_keys::read_public).transpose();
    let wanted = wanted.map_err(|e| bad_input(format!("--key {}: {e}", key.unwrap_or_default())))?;
    let unreadable = |e: std::io::Error| bad_input(format!("{shown}: {e}"));
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let verdict = agent_drive::verify(BufReader::with_capacity(64 << 10, file), len);
    let verdict = verdict.map_err(|e: DriveError| bad_input(format!("{shown}: {e}")))?;
    // The report carries the same two figures: with them the whole file is held against what the fleet was told at the time.
    let (bytes, sha256_8) = evidence::hash(&RealDisk, path).map_err(unreadable)?;
    let word = Word::of(&verdict, wanted);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let value = json!({
        "file": name,
        "verdict": word.name(),
        "says": word.says(&verdict, wanted),
        "of": verdict.about,
        "unit": verdict.unit,
        "source": verdict.source,
        "key": verdict.key.map(|key| key.to_string()),
        "key_id": verdict.key.map(|key| key.id().to_string()),
        "key_compared": wanted.map(|key| key.to_string()),
        "parts": verdict.parts,
        "from_s": verdict.span.map(|(from, _)| from.as_s()),
        "to_s": verdict.span.map(|(_, to)| to.as_s()),
        "cut": verdict.cut.as_ref().map(|cut| json!({
            "at_byte": cut.offset, "bytes_without_a_word": cut.bytes, "says": cut.says,
        })),
        "faults": verdict.faults.iter().map(fault).collect::<Vec<_>>(),
        "more_faults": verdict.more_faults,
        "bytes": bytes,
        "sha256_8": sha256_8,
    });
    Ok((value, word.outcome()))
}

fn fault(fault: &Fault) -> Value {
    json!({
        "kind": fault.kind.name(),
        "part": (fault.part > 0).then_some(fault.part),
        "at_byte": fault.offset,
        "from_s": fault.span.map(|(from, _)| from.as_s()),
        "to_s": fault.span.map(|(_, to)| to.as_s()),
        "says": fault.says,
    })
}
