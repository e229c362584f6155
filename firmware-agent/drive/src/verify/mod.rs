//! Holds an evidence file against its chain ([`crate::chain`]): what was changed, taken out, moved or added, and who signed it.
//!
//! Every byte is looked at: records of the data by the chain, the index behind them by what they are (`index`). A file without
//! its end was *cut*: it holds up to its last whole part, and what is behind that is vouched for by nobody. Whether a power cut
//! or a person cut it cannot be told.
//!
//! Reads the file once, a chunk at a time. It decides nothing about whom to believe: that the key is the unit's, the caller must
//! know.

mod index;
mod input;
mod judge;

use std::collections::BTreeSet;
use std::io::Read;

use agent_core::time::MonoTime;
use agent_keys::PublicKey;
use sha2::{Digest as _, Sha256};

use crate::chain::{Entry, Hash, Tracker};
use crate::container::{
    self, Fields, OP_CHANNEL, OP_CHUNK, OP_DATA_END, OP_MESSAGE, OP_METADATA, OP_PRIVATE, OP_SCHEMA,
};
use crate::error::DriveError;
use crate::limits::{MAX_CHUNK_BYTES, MAX_PARTS, MAX_RECORD_BYTES};
use input::{Head, Input};
use judge::Judge;

const OP_HEADER: u8 = 0x01;
const OP_FOOTER: u8 = 0x02;
const OP_MESSAGE_INDEX: u8 = 0x07;
const OP_ATTACHMENT: u8 = 0x09;

/// What is wrong with one place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A part is not what was written.
    Changed,
    /// A part is not there.
    Removed,
    /// A part is not at its place.
    Moved,
    /// A part is there twice.
    Doubled,
    /// Something is there that was not written.
    Added,
    /// A link was not signed by the key of the file.
    Signature,
    /// A link or the head is not as the agent writes it.
    Chain,
    /// The index at the end does not fit what is in the file.
    Index,
    /// The records cannot be told apart from here on.
    Unreadable,
}

impl FaultKind {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Doubled => "doubled",
            Self::Added => "added",
            Self::Signature => "signature",
            Self::Chain => "chain",
            Self::Index => "index",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// Number of the part, from 1; 0 where it is of none.
    pub part: u32,
    /// Where in the file.
    pub offset: u64,
    /// First and last time of what stands there, if it is a chunk.
    pub span: Option<(MonoTime, MonoTime)>,
    /// In words.
    pub says: String,
}

/// Where a file ends before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// Up to here the chain holds, bytes from the beginning.
    pub offset: u64,
    /// Bytes behind that, which nobody vouches for.
    pub bytes: u64,
    /// In words.
    pub says: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Whether the file has a chain at all.
    pub chained: bool,
    /// Whose it is, by its head.
    pub unit: String,
    /// What it is of.
    pub about: String,
    /// Where its samples came from.
    pub source: String,
    /// The key that the file names.
    pub key: Option<PublicKey>,
    /// Whether every part that holds is signed by that key, and there is one.
    pub signed: bool,
    /// Parts that hold.
    pub parts: u32,
    /// Times of the first and the last sample in them.
    pub span: Option<(MonoTime, MonoTime)>,
    /// Set when the file has no proper end.
    pub cut: Option<CutOff>,
    /// Everything that does not hold, at most [`crate::limits::MAX_FAULTS`].
    pub faults: Vec<Fault>,
    /// Faults that are not listed.
    pub more_faults: u32,
}

impl Verdict {
    /// Whether all that has a link is what was written. A file that was cut is intact as far as it goes.
    #[must_use]
    pub fn intact(&self) -> bool {
        self.chained && self.faults.is_empty()
    }
}

/// Reads a file of `len` bytes and holds it against its chain.
///
/// # Errors
/// [`DriveError::NotMcap`], or [`DriveError::Read`] when the disk fails.
pub fn verify(input: impl Read, len: u64) -> Result<Verdict, DriveError> {
    let mut input = Input::new(input, len)?;
    let mut seen = Seen::default();
    let mut judge = Judge::default();
    let mut tracker = Tracker::behind_magic();
    let mut run_from = input.at();
    let end = loop {
        let start = input.at();
        let Some(Head { op, len }) = input.head()? else { break End::Cut };
        if !((OP_HEADER..=OP_DATA_END).contains(&op) || op >= OP_PRIVATE) || op == OP_FOOTER {
            break End::Unreadable(start, "a record of unknown kind");
        }
        if len > input.left() {
            break End::Unreadable(start, "a record runs past the end of the file");
        }
        if op == OP_DATA_END {
            break End::Data(start, len);
        }
        if !seen.room() {
            break End::Unreadable(start, "more records than an evidence file has");
        }
        let whole = match op {
            OP_CHUNK => MAX_CHUNK_BYTES,
            OP_METADATA | OP_SCHEMA | OP_CHANNEL | OP_MESSAGE | OP_MESSAGE_INDEX | OP_ATTACHMENT => MAX_RECORD_BYTES,
            _ => 0,
        };
        if len > whole as u64 {
            // Nothing that we look into; the chain covers it all the same.
            tracker.take(input.last_head());
            if !input.pieces(len, |piece| tracker.take(piece))? {
                break End::Cut;
            }
            continue;
        }
        if !input.body(len)? {
            break End::Cut;
        }
        let entry = (op == OP_METADATA).then(|| Entry::read(input.bytes())).flatten();
        seen.note(op, start, input.bytes());
        match entry {
            Some(Ok(Entry::Link(link))) => {
                let place = judge::Place { from: run_from, span: seen.take_span() };
                judge.link(&link, tracker.run(), place);
                run_from = input.at();
                continue;
            }
            Some(Ok(Entry::Head(head))) => judge.head(head, start),
            Some(Err(())) => {
                // It may have been a link: what is before it then has none.
                judge.broken_link(start, run_from);
                tracker.run();
                run_from = input.at();
                continue;
            }
            None => {}
        }
        tracker.take(input.last_head());
        tracker.take(input.bytes());
    };
    let run = tracker.run();
    let loose = judge::Place { from: run_from, span: seen.take_span() };
    match end {
        End::Data(start, n) => {
            judge.end_of_data(run, loose, input.len());
            if let Err(says) = index::check(&mut input, start, n, &seen)? {
                judge.tail(start, says, input.len());
            }
        }
        End::Cut => judge.cut(run_from, input.len(), "the file ends early"),
        End::Unreadable(at, why) => {
            let closed = input.ends_like_a_whole_file()?;
            judge.unreadable(at, run_from, input.len(), why, closed);
        }
    }
    Ok(judge.verdict())
}

/// How the records ended.
enum End {
    /// With the end of the data: where it is, and its length.
    Data(u64, u64),
    Cut,
    Unreadable(u64, &'static str),
}

/// A chunk as the index must describe it.
#[derive(Debug, PartialEq, Eq)]
struct ChunkSeen {
    offset: u64,
    length: u64,
    first: u64,
    last: u64,
    /// Channels with the places of their message indexes.
    indexes: Vec<(u16, u64)>,
}

/// What is in the data, as far as the index speaks of it.
#[derive(Debug, Default)]
struct Seen {
    chunks: Vec<ChunkSeen>,
    /// Place, length and hash of the name of metadata records.
    metadata: Vec<(u64, u64, Hash)>,
    /// Place and length of attachments.
    attachments: Vec<(u64, u64)>,
    /// Hashes of all schemas and channels.
    definitions: BTreeSet<Hash>,
    messages: u64,
    /// Chunks that could not be looked into: what the index says of their contents cannot be held against them.
    unread: u32,
    span: Option<(MonoTime, MonoTime)>,
    unpacked: Vec<u8>,
}

impl Seen {
    fn room(&self) -> bool {
        let most = MAX_PARTS as usize * 2;
        self.chunks.len() < most && self.metadata.len() < most && self.attachments.len() < most
    }

    fn take_span(&mut self) -> Option<(MonoTime, MonoTime)> {
        self.span.take()
    }

    fn note(&mut self, op: u8, offset: u64, body: &[u8]) {
        let length = body.len() as u64 + 9;
        let mut f = Fields(body);
        match op {
            OP_CHUNK => {
                let (first, last) = (f.u64().unwrap_or(0), f.u64().unwrap_or(0));
                let (low, high) = self.span.unwrap_or((MonoTime(first), MonoTime(last)));
                self.span = Some((low.min(MonoTime(first)), high.max(MonoTime(last))));
                self.chunks.push(ChunkSeen { offset, length, first, last, indexes: Vec::new() });
                self.look_into(body);
            }
            OP_MESSAGE_INDEX => {
                if let (Some(channel), Some(chunk)) = (f.u16(), self.chunks.last_mut())
                    && chunk.indexes.len() < crate::limits::MAX_CHANNELS
                {
                    chunk.indexes.push((channel, offset));
                }
            }
            OP_METADATA => self.metadata.push((offset, length, definition(op, f.bytes().unwrap_or_default()))),
            OP_ATTACHMENT => self.attachments.push((offset, length)),
            OP_SCHEMA | OP_CHANNEL => self.define(op, body),
            OP_MESSAGE => self.messages += 1,
            _ => {}
        }
    }

    fn define(&mut self, op: u8, body: &[u8]) {
        if self.definitions.len() < 2 * crate::limits::MAX_CHANNELS {
            self.definitions.insert(definition(op, body));
        }
    }

    /// Counts messages and notes definitions inside a chunk. One that does not unpack has none; the chain has its say.
    fn look_into(&mut self, body: &[u8]) {
        let mut unpacked = std::mem::take(&mut self.unpacked);
        if container::unpack(body, &mut unpacked).is_ok() {
            let mut f = Fields(&unpacked);
            while let (Some([op]), Some(n)) = (f.take(1), f.u64()) {
                let Some(body) = usize::try_from(n).ok().and_then(|n| f.take(n)) else { break };
                match *op {
                    OP_MESSAGE => self.messages += 1,
                    OP_SCHEMA | OP_CHANNEL => self.define(*op, body),
                    _ => {}
                }
            }
        } else {
            self.unread += 1;
        }
        self.unpacked = unpacked;
    }
}

/// Names a schema or a channel with all that it says.
fn definition(op: u8, body: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([op]);
    hash.update(body);
    hash.finalize().into()
}
