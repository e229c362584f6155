//! Which commands a unit takes, and how a fleet makes one. Judges only; carries nothing out.
//!
//! A *signed command* is `FC`, version 1, the key's id (8 bytes), the signature (64 bytes), then the command's own envelope. The
//! signature covers fleet and unit as texts, so that a command for one unit is none for another of the same name elsewhere.
//! Each key has a counter of its own: who has one key cannot use up the numbers of another.
//!
//! Without a key configured a unit takes unsigned commands that change nothing (a request for health), and no others.

use std::time::Duration;

use agent_keys::{KeyId, PublicKey, SIGNATURE_BYTES, SecretKey};
use agent_wire::limits::{MESSAGE_BYTES, SMALL_MESSAGE_BYTES};
use agent_wire::{Command, CommandAction, DecodeError, EncodeError, Message, MessageKind, UnitId, decode, encode};

use crate::limits::{CHECKS_BURST, CHECKS_PER_MINUTE, COMMAND_BURST, COMMAND_KEYS};

/// Begins a signed command.
const MAGIC: [u8; 2] = *b"FC";
const VERSION: u8 = 1;
const HEAD: usize = MAGIC.len() + 1 + 8 + SIGNATURE_BYTES;
/// Longest payload that is looked at.
pub const MAX_PAYLOAD_BYTES: usize = HEAD + SMALL_MESSAGE_BYTES;
/// Name of the counter of unsigned commands.
const UNSIGNED: &str = "command";

/// Whose commands are taken, and how many.
#[derive(Clone, Debug, Default)]
pub struct CommandPolicy {
    /// Keys of the fleet, at most [`COMMAND_KEYS`]; the rest is not looked at.
    pub keys: Vec<PublicKey>,
    /// Most commands taken, a minute; 0 stands for 30.
    pub max_per_minute: u32,
}

/// Why a message on the command topic was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// Longer than any command.
    #[error("{0} bytes, more than a command has")]
    TooLong(usize),
    /// Not a message at all.
    #[error("not a message: {0}")]
    Malformed(#[from] DecodeError),
    /// A signed command that is cut, or of another version.
    #[error("a signed command of unknown form")]
    Form,
    /// A message of another kind.
    #[error("a {0:?} on the command topic")]
    NotACommand(MessageKind),
    /// For another unit.
    #[error("for another unit")]
    OtherUnit,
    /// Not signed, where it must be.
    #[error("not signed")]
    NotSigned,
    /// Signed, where no key is configured to hold it against.
    #[error("signed, but no key is configured")]
    NoKeys,
    /// Signed by a key that is not configured.
    #[error("signed by a key that is not configured")]
    UnknownKey,
    /// The signature is not the key's over this command for this unit and fleet.
    #[error("the signature does not fit")]
    BadSignature,
    /// Its counter is not above that of the last accepted command.
    #[error("counter {counter} is not above {last}")]
    Old {
        /// Of the command.
        counter: u64,
        /// Of the last accepted one.
        last: u64,
    },
    /// More than are taken in a minute, or signatures to check came too fast.
    #[error("too many in too short a time")]
    TooFast,
    /// The agent has not taken the earlier ones yet.
    #[error("too many commands wait")]
    Busy,
    /// Its counter could not be kept, so it might be taken twice.
    #[error("the counter could not be stored")]
    NotStored,
}

/// Lets so many through at once and so many a minute.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_minute: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    fn new(per_minute: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_minute: f64::from(per_minute), burst, level: burst, at: Duration::ZERO }
    }

    fn let_through(&mut self, now: Duration) -> bool {
        let minutes = now.saturating_sub(self.at).as_secs_f64() / 60.0;
        self.at = self.at.max(now);
        self.level = (self.level + minutes * self.per_minute).min(self.burst);
        let room = self.level >= 1.0;
        if room {
            self.level -= 1.0;
        }
        room
    }
}

/// A command that was judged good, but for its counter's keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The command.
    pub command: Command,
    /// Which counter is his.
    pub counter: String,
}

/// The unit's judge.
#[derive(Clone, Debug)]
pub struct Gate {
    fleet: UnitId,
    unit: UnitId,
    keys: Vec<(KeyId, PublicKey)>,
    taken: Bucket,
    checks: Bucket,
}

impl Gate {
    /// A gate for commands to `unit` of `fleet`.
    #[must_use]
    pub fn new(fleet: UnitId, unit: UnitId, policy: &CommandPolicy) -> Self {
        let keys = policy.keys.iter().take(COMMAND_KEYS).map(|key| (key.id(), *key)).collect();
        let per_minute = if policy.max_per_minute == 0 { 30 } else { policy.max_per_minute };
        Self {
            fleet,
            unit,
            keys,
            taken: Bucket::new(per_minute, per_minute.min(COMMAND_BURST)),
            checks: Bucket::new(CHECKS_PER_MINUTE, CHECKS_BURST),
        }
    }

    /// Checks one payload from the command topic at a time since the start. `last` gives a counter's highest number so far.
    ///
    /// # Errors
    /// [`CommandRefusal`]; nothing of the payload may be acted on then.
    pub fn judge(
        &mut self,
        payload: &[u8],
        now: Duration,
        last: impl FnOnce(&str) -> u64,
    ) -> Result<Judged, CommandRefusal> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(CommandRefusal::TooLong(payload.len()));
        }
        let (envelope, counter) = match payload.strip_prefix(&MAGIC) {
            Some(rest) => self.signed(rest, now)?,
            None if self.keys.is_empty() => (payload, UNSIGNED.to_owned()),
            // What it would have been is said, so that whoever set the unit up sees the difference.
            None => return Err(decode(payload).map_or_else(Into::into, |_| CommandRefusal::NotSigned)),
        };
        let command = match decode(envelope)? {
            Message::Command(command) => command,
            other => return Err(CommandRefusal::NotACommand(other.kind())),
        };
        if command.unit != self.unit {
            return Err(CommandRefusal::OtherUnit);
        }
        if counter == UNSIGNED && !matches!(command.action, CommandAction::SendHealth) {
            return Err(CommandRefusal::NotSigned);
        }
        let last = last(&counter);
        if command.counter <= last {
            return Err(CommandRefusal::Old { counter: command.counter, last });
        }
        if !self.taken.let_through(now) {
            return Err(CommandRefusal::TooFast);
        }
        Ok(Judged { command, counter })
    }

    /// The envelope of a signed command, without its magic, and its key's counter.
    fn signed<'p>(&mut self, rest: &'p [u8], now: Duration) -> Result<(&'p [u8], String), CommandRefusal> {
        if self.keys.is_empty() {
            return Err(CommandRefusal::NoKeys);
        }
        let (version, rest) = rest.split_first().ok_or(CommandRefusal::Form)?;
        let (id, rest) = rest.split_first_chunk::<8>().ok_or(CommandRefusal::Form)?;
        let (signature, envelope) = rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(CommandRefusal::Form)?;
        if *version != VERSION {
            return Err(CommandRefusal::Form);
        }
        let id = KeyId(*id);
        let known = self.keys.iter().find(|(known, _)| *known == id).map(|(_, key)| *key);
        let key = known.ok_or(CommandRefusal::UnknownKey)?;
        // The one dear step is bounded: whoever floods the topic takes no more of the processor than this.
        if !self.checks.let_through(now) {
            return Err(CommandRefusal::TooFast);
        }
        if !key.verifies(&signed_text(&self.fleet, &self.unit, envelope), signature) {
            return Err(CommandRefusal::BadSignature);
        }
        Ok((envelope, format!("{UNSIGNED}:{id}")))
    }
}

/// What is signed.
fn signed_text(fleet: &UnitId, unit: &UnitId, envelope: &[u8]) -> Vec<u8> {
    let mut out = b"firmware-agent command 1\0".to_vec();
    for name in [fleet.as_str(), unit.as_str()] {
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(envelope);
    out
}

/// The fleet's side: a command as it is published on [`command_topic`].
///
/// # Errors
/// Never for a command that was checked; the type says so rather than a panic.
pub fn sign_command(key: &SecretKey, fleet: &UnitId, command: &Command) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = [0; MESSAGE_BYTES];
    let envelope = encode(&Message::Command(command.clone()), &mut buffer)?;
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    out.extend_from_slice(&key.public().id().0);
    out.extend_from_slice(&key.sign(&signed_text(fleet, &command.unit, envelope)));
    out.extend_from_slice(envelope);
    Ok(out)
}

/// Where a unit listens for commands.
#[must_use]
pub fn command_topic(fleet: &UnitId, unit: &UnitId) -> String {
    format!("fleet/{fleet}/{unit}/{}", MessageKind::Command.topic_level())
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
