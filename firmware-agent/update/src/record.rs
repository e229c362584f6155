//! Which slot is used: a small file that is replaced as a whole.
//!
//! One line of JSON and the beginning of its SHA-256, which tells a damaged record from a true one. All changes are functions of the
//! record alone, so that what may follow on what can be read here.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::limits::{MAX_WHY_CHARS, ORDERLY};

/// A slot that has yet to show that it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub sequence: u64,
    /// Starts with it so far, counted before it is used, but for those that ended in order.
    pub starts: u32,
    /// Starts with it that ended in order before it was judged.
    pub ended: u32,
}

/// A slot that is not used any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fall {
    /// Which.
    pub sequence: u64,
    /// Why.
    pub why: String,
}

/// What the agent was given in a start in which it was well: what a later update is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// Frames of the camera.
    pub frames: bool,
    /// Samples of the motion sensor.
    pub imu: bool,
    /// Frames of the buses.
    pub can: bool,
    /// Fixes of the receiver.
    pub gnss: bool,
    /// A word of the student's worker.
    pub student: bool,
}

/// What a start begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// What is confirmed.
    Confirmed,
    /// The slot on trial.
    Trial(Trial),
    /// What is confirmed, because this one has had its starts.
    Fell(u64, String),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The highest sequence that was ever installed; never goes back.
    pub highest: u64,
    /// The slot that is used, or is gone back to; 0 for none.
    pub confirmed: u64,
    /// The one confirmed before it, to which it can be taken back by hand; 0 for the unit's own configuration.
    pub before: Option<u64>,
    /// The one that is tried.
    pub trial: Option<Trial>,
    /// The last one that was fallen back from.
    pub fell: Option<Fall>,
    /// What came in the last start that was well.
    pub came: Option<Came>,
}

impl Record {
    /// A new slot stands whole on the disk: it is tried from the next start on. Gives the one whose place it takes, if that was on
    /// trial and never started.
    pub(crate) fn switch(&mut self, sequence: u64) -> Option<u64> {
        self.highest = self.highest.max(sequence);
        let unused = self.trial.filter(|t| t.starts + t.ended == 0 && t.sequence != sequence).map(|t| t.sequence);
        self.trial = Some(Trial { sequence, starts: 0, ended: 0 });
        unused
    }

    /// A start begins: it is counted for the slot on trial, which falls when it has had `most`, or [`ORDERLY`] times as many that
    /// ended in order.
    pub(crate) fn start(&mut self, most: u32) -> Started {
        let Some(trial) = &mut self.trial else { return Started::Confirmed };
        let why = if trial.starts >= most {
            format!("{most} starts without being confirmed")
        } else if trial.ended >= most.saturating_mul(ORDERLY) {
            format!("{} starts that ended before it was confirmed", trial.ended)
        } else {
            trial.starts += 1;
            return Started::Trial(*trial);
        };
        let sequence = trial.sequence;
        self.fall(sequence, &why);
        Started::Fell(sequence, why)
    }

    /// A slot on trial works. False if it is not on trial any more.
    pub(crate) fn confirm(&mut self, sequence: u64) -> bool {
        if self.trial.is_none_or(|t| t.sequence != sequence) {
            return false;
        }
        self.before = Some(self.confirmed);
        self.confirmed = sequence;
        self.trial = None;
        true
    }

    /// A slot on trial does not work. False if it is not on trial any more.
    pub(crate) fn fall(&mut self, sequence: u64, why: &str) -> bool {
        if self.trial.is_none_or(|t| t.sequence != sequence) {
            return false;
        }
        self.trial = None;
        self.note_fall(sequence, why);
        true
    }

    /// A start ended in order before the slot on trial was judged: it does not count.
    pub(crate) fn give_back(&mut self, sequence: u64) {
        if let Some(trial) = self.trial.as_mut().filter(|t| t.sequence == sequence) {
            trial.starts = trial.starts.saturating_sub(1);
            trial.ended = trial.ended.saturating_add(1);
        }
    }

    /// Goes back by hand: from the slot on trial, else from the confirmed one. From which one to which, if there is a way.
    pub(crate) fn take_back(&mut self) -> Option<(u64, u64)> {
        let from = match (self.trial.take(), self.before) {
            (Some(trial), _) => trial.sequence,
            (None, Some(before)) => {
                self.before = None;
                std::mem::replace(&mut self.confirmed, before)
            }
            (None, None) => return None,
        };
        self.note_fall(from, "taken back by hand");
        Some((from, self.confirmed))
    }

    fn note_fall(&mut self, sequence: u64, why: &str) {
        let why = why.chars().take(MAX_WHY_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.fell = Some(Fall { sequence, why });
    }

    /// Whether a slot is named.
    pub(crate) fn names(&self, sequence: u64) -> bool {
        sequence == self.confirmed
            || self.before == Some(sequence)
            || self.trial.is_some_and(|t| t.sequence == sequence)
    }

    /// As it stands in its file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // A record of plain numbers and texts always has a form; nothing would be refused by the next read.
        let mut out = serde_json::to_vec(self).unwrap_or_default();
        let sum = sum(&out);
        out.push(b'\n');
        out.extend_from_slice(sum.as_bytes());
        out.push(b'\n');
        out
    }

    /// From its file; `None` if it is damaged.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (text, rest) = bytes.split_at_checked(bytes.iter().position(|b| *b == b'\n')?)?;
        if rest.strip_prefix(b"\n")?.strip_suffix(b"\n")? != sum(text).as_bytes() {
            return None;
        }
        serde_json::from_slice(text).ok()
    }
}

/// The first eight bytes of the SHA-256, as digits.
fn sum(text: &[u8]) -> String {
    Sha256::digest(text).iter().take(8).map(|b| format!("{b:02x}")).collect()
}
