//! The MCAP container, read as a stream: one record after another, one chunk in memory at a time, every length checked
//! against the file and the caps.
//!
//! We read it ourselves rather than with the `mcap` crate because a damaged drive must give up everything that is
//! whole: a chunk whose checksum fails is left out and the next one read, and what is missing is said in bytes.
//! Layout: mcap.dev/spec. Seeks only for the index at the end; never trusts a length.

use std::io::{Read, Seek, SeekFrom};

use crate::error::DriveError;
use crate::limits::{MAX_CHUNK_BYTES, MAX_RECORD_BYTES};

pub(crate) const MAGIC: [u8; 8] = *b"\x89MCAP0\r\n";

pub(crate) const OP_SCHEMA: u8 = 0x03;
pub(crate) const OP_CHANNEL: u8 = 0x04;
pub(crate) const OP_MESSAGE: u8 = 0x05;
const OP_FOOTER: u8 = 0x02;
pub(crate) const OP_CHUNK: u8 = 0x06;
pub(crate) const OP_METADATA: u8 = 0x0C;
pub(crate) const OP_DATA_END: u8 = 0x0F;
/// Opcodes from here on are private: skipped. Others that the specification does not know are damage.
pub(crate) const OP_PRIVATE: u8 = 0x80;

/// What was lost of a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveLoss {
    /// Bytes of the file whose samples could not be read; 0 if only the index at the end is missing.
    pub bytes: u64,
    /// Why, at the first place.
    pub reason: String,
    /// Where the first place is: bytes from the start of the file.
    pub offset: u64,
    /// How many places there are.
    pub places: u32,
}

impl std::fmt::Display for DriveLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes lost in {} places, first at byte {}: {}", self.bytes, self.places, self.offset, self.reason)
    }
}

/// A little-endian cursor over one record.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// A map of strings; `None` if it has more than `cap` entries.
    pub(crate) fn map(&mut self, cap: usize) -> Option<std::collections::BTreeMap<String, String>> {
        let mut inner = Fields(self.bytes()?);
        let mut map = std::collections::BTreeMap::new();
        while !inner.0.is_empty() {
            let (k, v) = (inner.string()?, inner.string()?);
            map.insert(k, v);
            (map.len() <= cap).then_some(())?;
        }
        Some(map)
    }
}

/// What the container gives next.
pub(crate) enum Step {
    /// A whole, checked chunk: its records are in [`Container::chunk`].
    Chunk,
    /// A record outside chunks: its opcode; its contents are in [`Container::body`].
    Record(u8),
    /// Nothing more; [`Container::loss`] says whether all was there.
    End,
}

/// The file as a stream of records.
pub(crate) struct Container {
    input: Box<dyn Read + Send>,
    /// Size of the file.
    len: u64,
    at: u64,
    crc: crc32fast::Hasher,
    /// The checksum of everything before the record whose head was read last.
    data_crc: u32,
    ended: bool,
    loss: Option<DriveLoss>,
    /// The last record outside chunks, or the compressed chunk.
    pub(crate) body: Vec<u8>,
    /// The last chunk's records.
    pub(crate) chunk: Vec<u8>,
}

impl Container {
    /// Reads the magic.
    pub(crate) fn new(input: Box<dyn Read + Send>, len: u64) -> Result<Self, DriveError> {
        let mut this = Self {
            input,
            len,
            at: 0,
            crc: crc32fast::Hasher::new(),
            data_crc: 0,
            ended: false,
            loss: None,
            body: Vec::new(),
            chunk: Vec::new(),
        };
        let take = usize::try_from(len).unwrap_or(usize::MAX).min(MAGIC.len());
        if !this.fill(take)? || this.body != MAGIC {
            return Err(DriveError::NotMcap { first: this.body });
        }
        Ok(this)
    }

    pub(crate) fn loss(&self) -> Option<&DriveLoss> {
        self.loss.as_ref()
    }

    /// Notes a loss; the first one gives reason and place.
    pub(crate) fn lose(&mut self, offset: u64, bytes: u64, reason: &str) {
        let loss =
            self.loss.get_or_insert_with(|| DriveLoss { bytes: 0, reason: reason.to_owned(), offset, places: 0 });
        loss.bytes += bytes;
        loss.places = loss.places.saturating_add(1);
    }

    /// Where the next record begins.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// Reads on to the next chunk or record.
    pub(crate) fn step(&mut self) -> Result<Step, DriveError> {
        // Bounded: every turn consumes at least nine bytes of the file.
        while !self.ended {
            let start = self.at;
            let Some((op, n)) = self.head()? else { break };
            let known = (0x01..=OP_DATA_END).contains(&op) || op >= OP_PRIVATE;
            if !known {
                self.stop(start, "a record of unknown kind");
            } else if n > self.len - self.at {
                self.stop(start, "cut: a record runs past the end of the file");
            } else if op == OP_CHUNK {
                if self.read_chunk(start, n)? {
                    return Ok(Step::Chunk);
                }
            } else if op == OP_DATA_END {
                self.data_end(start, n)?;
            } else if matches!(op, OP_SCHEMA | OP_CHANNEL | OP_MESSAGE | OP_METADATA) {
                if n > MAX_RECORD_BYTES as u64 {
                    self.lose(start, n, "a record is larger than the limit");
                    self.skip(n)?;
                } else if self.fill(n as usize)? {
                    return Ok(Step::Record(op));
                }
            } else {
                // Header, indexes, attachments: nothing in them is a sample.
                self.skip(n)?;
            }
        }
        Ok(Step::End)
    }

    /// The opcode and length of the next record; `None` and a loss at the end of a cut file.
    fn head(&mut self) -> Result<Option<(u8, u64)>, DriveError> {
        let start = self.at;
        let left = self.len - self.at;
        if left < 9 {
            self.stop(start, "cut: the end of the data is missing");
            return Ok(None);
        }
        self.data_crc = self.crc.clone().finalize();
        if !self.fill(9)? {
            return Ok(None);
        }
        let mut f = Fields(&self.body);
        let op = f.take(1).and_then(|b| b.first().copied()).unwrap_or(0);
        Ok(Some((op, f.u64().unwrap_or(u64::MAX))))
    }

    /// Gives up the rest of the file.
    fn stop(&mut self, start: u64, reason: &str) {
        self.lose(start, self.len - start, reason);
        self.ended = true;
    }

    /// Reads `n` bytes into `body`; false and a loss if the file became shorter meanwhile.
    fn fill(&mut self, n: usize) -> Result<bool, DriveError> {
        let offset = self.at;
        self.body.clear();
        let got = (&mut self.input)
            .take(n as u64)
            .read_to_end(&mut self.body)
            .map_err(|source| DriveError::Read { offset, source })?;
        self.crc.update(&self.body);
        self.at += got as u64;
        if got < n {
            self.len = self.at;
            self.stop(offset, "cut: the file ends early");
        }
        Ok(got == n)
    }

    fn skip(&mut self, mut n: u64) -> Result<(), DriveError> {
        while n > 0 {
            let part = n.min(64 << 10);
            if !self.fill(part as usize)? {
                break;
            }
            n -= part;
        }
        Ok(())
    }

    /// Reads and checks one chunk; false and a loss if it is damaged.
    fn read_chunk(&mut self, start: u64, n: u64) -> Result<bool, DriveError> {
        if n > MAX_CHUNK_BYTES as u64 {
            self.lose(start, n, "a chunk is larger than the limit");
            self.skip(n)?;
            return Ok(false);
        }
        if !self.fill(n as usize)? {
            return Ok(false);
        }
        match unpack(&self.body, &mut self.chunk) {
            Ok(()) => Ok(true),
            Err(reason) => {
                self.chunk.clear();
                self.lose(start, n + 9, reason);
                Ok(false)
            }
        }
    }

    /// The end of the data: its checksum, which also covers what lies between the chunks, then the index behind it.
    fn data_end(&mut self, start: u64, n: u64) -> Result<(), DriveError> {
        self.ended = true;
        if n != 4 {
            self.lose(start, 0, "the end-of-data record is malformed");
            return Ok(());
        }
        if !self.fill(4)? {
            return Ok(());
        }
        let said = Fields(&self.body).u32().unwrap_or(0);
        if said != 0 && said != self.data_crc && self.loss.is_none() {
            self.lose(start, 0, "the checksum of the data does not fit: something between the chunks is damaged");
        }
        self.check_index()
    }

    /// The index and footer hold no samples; a cut or damaged one is said as a loss of 0 bytes.
    fn check_index(&mut self) -> Result<(), DriveError> {
        let start = self.at;
        self.crc = crc32fast::Hasher::new();
        while self.len - self.at >= 9 && self.fill(9)? {
            let mut f = Fields(&self.body);
            let op = f.take(1).and_then(|b| b.first().copied()).unwrap_or(0);
            let n = f.u64().unwrap_or(u64::MAX);
            if n > self.len - self.at {
                break;
            }
            if op != OP_FOOTER {
                self.skip(n)?;
                continue;
            }
            if n == 20 && self.len - self.at >= 28 && self.fill(16)? {
                let crc = self.crc.clone().finalize();
                if self.fill(4)? {
                    let said = Fields(&self.body).u32().unwrap_or(0);
                    let whole = self.fill(MAGIC.len())? && self.body == MAGIC;
                    if whole && (said == 0 || said == crc) {
                        return Ok(());
                    }
                }
            }
            break;
        }
        self.lose(start, 0, "the index at the end is cut or damaged; every sample was read");
        Ok(())
    }
}

/// Checks and decompresses a chunk record into `out`.
pub(crate) fn unpack(body: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    const SHORT: &str = "a chunk's head is malformed";
    let mut f = Fields(body);
    f.take(16).ok_or(SHORT)?;
    let size = f.u64().ok_or(SHORT)?;
    let crc = f.u32().ok_or(SHORT)?;
    let compression = f.bytes().ok_or(SHORT)?;
    let packed_len = usize::try_from(f.u64().ok_or(SHORT)?).map_err(|_| SHORT)?;
    let packed = f.take(packed_len).ok_or(SHORT)?;
    if size > MAX_CHUNK_BYTES as u64 {
        return Err("a chunk is larger than the limit");
    }
    out.clear();
    // One byte more than announced shows a chunk that holds more.
    let limit = size + 1;
    let read = match compression {
        b"" => packed.take(limit).read_to_end(out),
        b"lz4" => lz4::Decoder::new(packed).and_then(|d| d.take(limit).read_to_end(out)),
        b"zstd" => zstd::Decoder::new(packed).and_then(|d| d.take(limit).read_to_end(out)),
        _ => return Err("a chunk's compression is unknown"),
    };
    match read {
        Ok(n) if n as u64 == size => {}
        Ok(_) => return Err("a chunk's size does not fit"),
        Err(_) => return Err("a chunk cannot be decompressed"),
    }
    if crc != 0 && crc != crc32fast::hash(out) {
        return Err("a chunk's checksum does not fit");
    }
    Ok(())
}

/// The index at the end of a whole file, empty if there is none or it does not fit its checksum; leaves `input` at its start.
pub(crate) fn summary(input: &mut (impl Read + Seek), len: u64) -> std::io::Result<Vec<u8>> {
    const FOOTER: u64 = 9 + 20 + 8;
    let mut bytes = Vec::new();
    if let Some(at) = len.checked_sub(FOOTER) {
        input.seek(SeekFrom::Start(at))?;
        input.take(FOOTER).read_to_end(&mut bytes)?;
        let mut f = Fields(bytes.get(9..).unwrap_or(&[]));
        let (start, crc) = (f.u64().unwrap_or(0), f.u64().and_then(|_| f.u32()).unwrap_or(0));
        let whole = bytes.first() == Some(&OP_FOOTER) && bytes.ends_with(&MAGIC) && start > 0 && start < at;
        bytes.clear();
        if whole && at - start <= MAX_RECORD_BYTES as u64 {
            input.seek(SeekFrom::Start(start))?;
            // The checksum covers the index and the footer up to itself.
            input.take(at - start + 9 + 16).read_to_end(&mut bytes)?;
            if crc != 0 && crc != crc32fast::hash(&bytes) {
                bytes.clear();
            }
        }
    }
    input.seek(SeekFrom::Start(0))?;
    Ok(bytes)
}
