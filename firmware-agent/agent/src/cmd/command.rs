//! `command`: the fleet's side of commands: makes one, signs it, sends it or writes it to a file.

use std::time::{Duration, SystemTime};

use agent_link::{Broker, SendError, command_topic, send, sign_command};
use agent_wire::{Command, CommandAction, EventId, UnitId};
use anyhow::Context as _;
use serde_json::json;

use crate::cli::CommandArgs;
use crate::exit::{Coded, Outcome, bad_input, usage};
use crate::show::{put, say};

/// How long the broker may take.
const WITHIN: Duration = Duration::from_secs(15);

pub(crate) fn command(args: &CommandArgs) -> anyhow::Result<Outcome> {
    let name = |what: &str, text: &str| UnitId::new(text).map_err(|e| usage(format!("--{what} {text}: {e}")));
    let (fleet, unit) = (name("fleet", &args.fleet)?, name("unit", &args.unit)?);
    let action = match &args.keep_evidence {
        Some(text) => CommandAction::KeepEvidence(event(text, &unit)?),
        None => CommandAction::SendHealth,
    };
    let found = agent_keys::load(&args.key).map_err(|e| bad_input(format!("{}: {e}", args.key.display())))?;
    if found.open_to_others {
        say!("{} can be read by others than its owner: `chmod 600` it", args.key.display());
    }
    let counter = args.counter.unwrap_or_else(unix_ms);
    let command = Command { unit: unit.clone(), counter, action };
    let payload = sign_command(&found.key, &fleet, &command)?;
    let topic = command_topic(&fleet, &unit);
    if let Some(out) = &args.out {
        std::fs::write(out, &payload).with_context(|| format!("writing {}", out.display()))?;
    }
    if let Some(url) = &args.broker {
        let broker = Broker::parse(url).map_err(usage)?;
        let tls = crate::link::certificates(args.ca.as_deref(), args.certificate.as_deref(), args.tls_key.as_ref())?;
        send(&broker, tls.as_ref(), &topic, &payload, args.retain, WITHIN).map_err(|error| match error {
            SendError::Start(why) => usage(why),
            SendError::Ended(_) | SendError::Timeout(_) => Coded(Outcome::Undelivered, error.to_string()).into(),
        })?;
    }
    let key = found.key.public();
    put!("{}", json!({"topic": topic, "bytes": payload.len(), "key_id": key.id().to_string(), "command": command}))?;
    Ok(Outcome::Done)
}

/// `UNIT_BOOT_SEQ`, as files and reports have it.
fn event(text: &str, unit: &UnitId) -> anyhow::Result<EventId> {
    let parse = || -> Option<EventId> {
        let (rest, seq) = text.rsplit_once('_')?;
        let (name, boot) = rest.rsplit_once('_')?;
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok()).flatten();
        Some(EventId { unit: UnitId::new(name).ok()?, boot: digits(boot)?, seq: digits(seq)? })
    };
    let event = parse().ok_or_else(|| usage(format!("--keep-evidence {text}: not of the form UNIT_BOOT_SEQ")))?;
    if event.unit != *unit {
        return Err(usage(format!("--keep-evidence {text}: an event of another unit than {unit}")));
    }
    Ok(event)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_id_is_read_as_it_is_written() {
        let unit = UnitId::new("truck_7").unwrap();
        let id = EventId { unit: unit.clone(), boot: 12, seq: 3 };
        assert_eq!(event(&id.to_string(), &unit).unwrap(), id);
        for bad in ["", "truck_7", "truck_7_1", "truck_7_+1_2", "other_1_2", "truck_7_99999999999_1"] {
            assert!(event(bad, &unit).is_err(), "{bad}");
        }
    }
}
