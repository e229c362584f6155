//! The bytes of a file, record by record, with the place and the checksum. Never trusts a length.

use std::io::Read;

use crate::container::{Fields, MAGIC};
use crate::error::DriveError;

/// Opcode and length of a record.
pub(super) struct Head {
    pub(super) op: u8,
    pub(super) len: u64,
}

pub(super) struct Input<R> {
    input: R,
    at: u64,
    len: u64,
    crc: crc32fast::Hasher,
    /// The checksum of everything before the record whose head was read last.
    crc_before: u32,
    head: [u8; 9],
    body: Vec<u8>,
    /// The last bytes that were read, as many as the magic has.
    tail: Vec<u8>,
}

impl<R: Read> Input<R> {
    pub(super) fn new(input: R, len: u64) -> Result<Self, DriveError> {
        let mut this = Self {
            input,
            at: 0,
            len,
            crc: crc32fast::Hasher::new(),
            crc_before: 0,
            head: [0; 9],
            body: Vec::new(),
            tail: Vec::new(),
        };
        let take = len.min(MAGIC.len() as u64);
        if !this.body(take)? || this.body != MAGIC {
            return Err(DriveError::NotMcap { first: this.body });
        }
        Ok(this)
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn left(&self) -> u64 {
        self.len.saturating_sub(self.at)
    }

    pub(super) fn last_head(&self) -> &[u8] {
        &self.head
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The checksum up to the record whose head was read last.
    pub(super) fn crc_before(&self) -> u32 {
        self.crc_before
    }

    /// Begins the checksum anew.
    pub(super) fn restart_crc(&mut self) {
        self.crc = crc32fast::Hasher::new();
    }

    /// The checksum since then.
    pub(super) fn crc(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// The head of the next record; `None` at the end of the file.
    pub(super) fn head(&mut self) -> Result<Option<Head>, DriveError> {
        self.crc_before = self.crc();
        if !self.body(9)? {
            return Ok(None);
        }
        self.head.copy_from_slice(&self.body);
        let mut f = Fields(&self.head);
        let op = f.take(1).and_then(|b| b.first().copied()).unwrap_or(0);
        Ok(Some(Head { op, len: f.u64().unwrap_or(u64::MAX) }))
    }

    /// Reads `n` bytes; false if the file ends before.
    pub(super) fn body(&mut self, n: u64) -> Result<bool, DriveError> {
        let offset = self.at;
        self.body.clear();
        let read = (&mut self.input).take(n).read_to_end(&mut self.body);
        let got = read.map_err(|source| DriveError::Read { offset, source })? as u64;
        self.crc.update(&self.body);
        self.at += got;
        let keep = self.body.len().saturating_sub(MAGIC.len());
        self.tail.extend_from_slice(self.body.get(keep..).unwrap_or_default());
        let old = self.tail.len().saturating_sub(MAGIC.len());
        self.tail.drain(..old);
        if got < n {
            self.len = self.at;
        }
        Ok(got == n)
    }

    /// Reads `n` bytes piece by piece; false if the file ends before.
    pub(super) fn pieces(&mut self, mut n: u64, mut take: impl FnMut(&[u8])) -> Result<bool, DriveError> {
        while n > 0 {
            let part = n.min(64 << 10);
            if !self.body(part)? {
                return Ok(false);
            }
            take(&self.body);
            n -= part;
        }
        Ok(true)
    }

    /// Reads the rest, and says whether the file ends as one that was closed.
    pub(super) fn ends_like_a_whole_file(&mut self) -> Result<bool, DriveError> {
        while self.left() > 0 && self.body(self.left().min(64 << 10))? {}
        Ok(self.tail == MAGIC)
    }
}
