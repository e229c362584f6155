//! Commands over MQTT. Without a key nothing that changes anything is taken; with keys only what one of them signed for this unit
//! and fleet, with a counter above the last; and never more at once than the limit.
//!
//! The payload is tried as it comes, and as the payload of a command that the fleet's own key signed: a fuzzer finds neither a
//! checksum nor a signature.

use std::sync::OnceLock;
use std::time::Duration;

use agent_keys::SecretKey;
use agent_link::commands::{Gate, Judged, MAX_PAYLOAD_BYTES};
use agent_link::limits::COMMAND_BURST;
use agent_link::{CommandPolicy, CommandRefusal, sign_command};
use agent_wire::envelope::VERSION;
use agent_wire::{Command, CommandAction, Message, MessageKind, UnitId, decode, encode};

use super::envelope::{event, framed, unit};

const NOW: Duration = Duration::from_secs(1000);
/// The highest counter so far.
const LAST: u64 = 4;

struct Keys {
    ours: SecretKey,
    other: SecretKey,
    /// With a key, and without one.
    gates: [Gate; 2],
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let [ours, other] = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]).expect("a seed"));
        let gate = |keys| Gate::new(unit("north"), unit("me"), &CommandPolicy { keys, max_per_minute: 0 });
        let gates = [gate(vec![ours.public()]), gate(vec![])];
        Keys { ours, other, gates }
    })
}

pub fn judge(data: &[u8]) {
    let [keyed, open] = &keys().gates;
    if let Ok(taken) = fresh(keyed).judge(data, NOW, |_| LAST) {
        assert!(data.starts_with(b"FC"));
        // Signatures of Ed25519 are one for a message: only this is what the key would have signed.
        assert_eq!(sign_command(&keys().ours, &unit("north"), &taken.command).as_deref(), Ok(data));
        sound(&taken, data);
    }
    let mut gate = fresh(open);
    let mut count = 0;
    for _ in 0..COMMAND_BURST + 5 {
        match gate.judge(data, NOW, |_| LAST) {
            Ok(taken) => {
                count += 1;
                assert_eq!(taken.command.action, CommandAction::SendHealth);
                sound(&taken, data);
            }
            Err(CommandRefusal::TooFast) => assert_eq!(count, COMMAND_BURST),
            Err(refusal) => {
                assert!(!refusal.to_string().is_empty());
                break;
            }
        }
    }
    signed(data);
}

/// What the fleet's own tool would have signed, if the bytes are a command's payload.
fn signed(payload: &[u8]) {
    let Some(envelope) = framed(VERSION, MessageKind::Command, payload) else { return };
    let Ok(Message::Command(command)) = decode(&envelope) else { return };
    let Keys { ours, other, gates: [keyed, _] } = keys();
    let sign = |key, fleet: &UnitId| sign_command(key, fleet, &command).expect("a command that was read can be signed");
    let good = sign(ours, &unit("north"));
    let judged = |bytes: &[u8]| fresh(keyed).judge(bytes, NOW, |_| LAST);
    match judged(&good) {
        Ok(taken) => sound(&taken, &good),
        Err(CommandRefusal::BadSignature) => assert_ne!(command.unit, unit("me")),
        Err(CommandRefusal::OtherUnit) => assert_ne!(command.unit, unit("me")),
        Err(CommandRefusal::Old { .. }) => assert!(command.counter <= LAST),
        Err(refusal) => panic!("{refusal} for {command:?}"),
    }
    // Dear, and always the same.
    if command.counter.is_multiple_of(64) {
        assert_eq!(judged(&sign(other, &unit("north"))), Err(CommandRefusal::UnknownKey));
        assert_eq!(judged(&sign(ours, &unit("south"))), Err(CommandRefusal::BadSignature));
    }
}

fn sound(taken: &Judged, payload: &[u8]) {
    assert_eq!(taken.command.unit, unit("me"));
    assert!(taken.command.counter > LAST && payload.len() <= MAX_PAYLOAD_BYTES);
}

/// A gate whose limits nobody used up.
fn fresh(gate: &Gate) -> Gate {
    gate.clone()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (name, counter, action) in [
        ("me", 5, CommandAction::SendHealth),
        ("me", 300, CommandAction::KeepEvidence(event())),
        ("you", 9, CommandAction::SendHealth),
        ("me", 1, CommandAction::SendHealth),
    ] {
        let command = Command { unit: unit(name), counter, action };
        all.push(sign_command(&keys().ours, &unit("north"), &command).expect("sound"));
        let plain = encode(&Message::Command(command), &mut [0; 512]).expect("sound").to_vec();
        all.extend([plain[6..plain.len() - 4].to_vec(), plain]);
    }
    all
}
