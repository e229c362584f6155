//! The end of a file: checksum, index and footer, held against what is in the data. No part of the chain covers them, because they
//! are written when the chain has ended; all that they say can be found again, so nothing can be hidden there.

use std::collections::BTreeMap;
use std::io::Read;

use super::input::{Head, Input};
use super::{ChunkSeen, Seen, definition};
use crate::chain::Hash;
use crate::container::{Fields, MAGIC, OP_CHANNEL, OP_METADATA, OP_SCHEMA};
use crate::error::DriveError;
use crate::limits::MAX_RECORD_BYTES;

const OP_FOOTER: u8 = 0x02;
const OP_CHUNK_INDEX: u8 = 0x08;
const OP_ATTACHMENT_INDEX: u8 = 0x0A;
const OP_STATISTICS: u8 = 0x0B;
const OP_METADATA_INDEX: u8 = 0x0D;
const OP_SUMMARY_OFFSET: u8 = 0x0E;

/// What is wrong with the end.
#[derive(Debug)]
pub(super) enum Tail {
    /// It is not all there: the file was cut in it.
    Missing(&'static str),
    /// It does not fit.
    Wrong(String),
    /// The checksum of the data does not fit, and everything else does.
    Data,
}

impl From<&str> for Tail {
    fn from(text: &str) -> Self {
        Self::Wrong(text.to_owned())
    }
}

const CUT: Tail = Tail::Missing("the index at the end is cut; every part is there");

/// What the index was found to say.
#[derive(Default)]
struct Said {
    chunks: Vec<ChunkSeen>,
    metadata: Vec<(u64, u64, Hash)>,
    attachments: Vec<(u64, u64)>,
    /// Where the records of each kind stand, from and to.
    groups: BTreeMap<u8, (u64, u64)>,
    offsets: Vec<(u8, u64, u64)>,
    statistics: u32,
}

/// Reads the file to its end, from the record at `start` that ends the data, whose contents are `n` bytes.
pub(super) fn check<R: Read>(
    input: &mut Input<R>,
    start: u64,
    n: u64,
    seen: &Seen,
) -> Result<Result<(), Tail>, DriveError> {
    let data_crc = input.crc_before();
    if n != 4 {
        return Ok(Err(format!("the end of the data at byte {start} is malformed").as_str().into()));
    }
    if !input.body(4)? {
        return Ok(Err(CUT));
    }
    let fits = Fields(input.bytes()).u32() == Some(data_crc);
    let (summary, mut said) = (input.at(), Said::default());
    input.restart_crc();
    loop {
        let at = input.at();
        let Some(Head { op, len }) = input.head()? else { return Ok(Err(CUT)) };
        if op == OP_FOOTER && len == 20 {
            break;
        }
        if len > input.left() {
            let closed = input.ends_like_a_whole_file()?;
            return Ok(Err(if closed { "a record of the index runs past the end of the file".into() } else { CUT }));
        }
        if len > MAX_RECORD_BYTES as u64 {
            return Ok(Err("a record of the index is larger than the limit".into()));
        }
        if !input.body(len)? {
            return Ok(Err(CUT));
        }
        if let Err(why) = said.take(op, at, input.bytes(), seen) {
            return Ok(Err(why.into()));
        }
    }
    let index = footer(input, summary, &said)?.and_then(|()| said.against(seen).map_err(Tail::from));
    Ok(index.and(if fits { Ok(()) } else { Err(Tail::Data) }))
}

/// The footer's contents and the end of the file.
fn footer<R: Read>(input: &mut Input<R>, summary: u64, said: &Said) -> Result<Result<(), Tail>, DriveError> {
    if !input.body(16)? {
        return Ok(Err(CUT));
    }
    let mut f = Fields(input.bytes());
    let (from, offsets) = (f.u64(), f.u64());
    let crc = input.crc();
    if !input.body(4)? {
        return Ok(Err(CUT));
    }
    if Fields(input.bytes()).u32() != Some(crc) {
        return Ok(Err("the checksum of the index does not fit".into()));
    }
    if !input.body(MAGIC.len() as u64)? {
        return Ok(Err(CUT));
    }
    if input.bytes() != MAGIC || input.left() > 0 {
        return Ok(Err("the file does not end where its index ends".into()));
    }
    let first = said.groups.get(&OP_SUMMARY_OFFSET).map(|(from, _)| *from).unwrap_or(0);
    Ok(if from == Some(summary) && offsets == Some(first) {
        Ok(())
    } else {
        Err("the footer points elsewhere than to the index".into())
    })
}

impl Said {
    /// One record of the index.
    fn take(&mut self, op: u8, at: u64, body: &[u8], seen: &Seen) -> Result<(), &'static str> {
        const SHORT: &str = "a record of the index is malformed";
        let end = at + 9 + body.len() as u64;
        match self.groups.get_mut(&op) {
            Some((_, to)) if *to == at => *to = end,
            Some(_) => return Err("the records of the index are not in their groups"),
            None => drop(self.groups.insert(op, (at, end))),
        }
        let mut f = Fields(body);
        match op {
            OP_SCHEMA | OP_CHANNEL if seen.unread > 0 || seen.definitions.contains(&definition(op, body)) => {}
            OP_SCHEMA | OP_CHANNEL => return Err("the index has a channel or a schema that the data has not"),
            OP_CHUNK_INDEX => self.chunks.push(chunk_index(&mut f).ok_or(SHORT)?),
            OP_METADATA_INDEX => {
                let (offset, length, name) = (f.u64().ok_or(SHORT)?, f.u64().ok_or(SHORT)?, f.bytes().ok_or(SHORT)?);
                self.metadata.push((offset, length, definition(OP_METADATA, name)));
            }
            OP_ATTACHMENT_INDEX => self.attachments.push((f.u64().ok_or(SHORT)?, f.u64().ok_or(SHORT)?)),
            OP_STATISTICS => {
                self.statistics += 1;
                let messages = f.u64().ok_or(SHORT)?;
                f.take(2 + 4 + 4 + 4).ok_or(SHORT)?;
                let counted = seen.unread > 0 || messages == seen.messages;
                if !counted || f.u32() != Some(seen.chunks.len() as u32) {
                    return Err("the statistics count other messages or chunks than there are");
                }
            }
            OP_SUMMARY_OFFSET => {
                let op = f.take(1).and_then(|b| b.first().copied()).ok_or(SHORT)?;
                self.offsets.push((op, f.u64().ok_or(SHORT)?, f.u64().ok_or(SHORT)?));
            }
            _ => return Err("the index has a record of another kind"),
        }
        Ok(())
    }

    /// Whether the index lists what is there: all of it, and nothing else.
    fn against(mut self, seen: &Seen) -> Result<(), &'static str> {
        for chunk in &mut self.chunks {
            chunk.indexes.sort_unstable();
        }
        let sorted = |chunk: &ChunkSeen| {
            let mut indexes = chunk.indexes.clone();
            indexes.sort_unstable();
            ChunkSeen { indexes, ..*chunk }
        };
        if self.chunks.len() != seen.chunks.len() || self.chunks.iter().zip(&seen.chunks).any(|(a, b)| *a != sorted(b))
        {
            return Err("the index lists other chunks than there are");
        }
        if self.metadata != seen.metadata || self.attachments != seen.attachments {
            return Err("the index lists other metadata or attachments than there are");
        }
        let groups = self.groups.len() - usize::from(self.groups.contains_key(&OP_SUMMARY_OFFSET));
        if !self.offsets.is_empty() && self.offsets.len() != groups {
            return Err("the table of the index leaves something out, or has it twice");
        }
        for (op, at, length) in self.offsets {
            let there = self.groups.get(&op).map(|(from, to)| (*from, to - from));
            if there != Some((at, length)) {
                return Err("the table of the index points elsewhere");
            }
        }
        if self.statistics > 1 { Err("the index has its statistics twice") } else { Ok(()) }
    }
}

fn chunk_index(f: &mut Fields<'_>) -> Option<ChunkSeen> {
    let (first, last, offset, length) = (f.u64()?, f.u64()?, f.u64()?, f.u64()?);
    let mut places = Fields(f.bytes()?);
    let mut indexes = Vec::new();
    while !places.0.is_empty() {
        indexes.push((places.u16()?, places.u64()?));
    }
    Some(ChunkSeen { offset, length, first, last, indexes })
}
