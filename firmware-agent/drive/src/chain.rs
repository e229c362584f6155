//! The chain of an evidence file: what is written is hashed as it goes out, so that a change shows later.
//!
//! Terms: a *part* is what was written since the link before, as a rule one chunk with its message index; a *link* is a metadata
//! record behind the part, with the part's SHA-256, the value of the chain up to it, and the unit's signature; the *head* is a
//! metadata record at the beginning that says whose chain it is. The last link says that it is the last.
//!
//! All of it are metadata records of the name [`RECORD`], which viewers pass over. A part covers every byte of its records, the
//! head among them; links are covered by what they state. The index behind the end of the data is made of what is before it
//! and is held against that ([`crate::verify`]). Where the file was cut, the chain holds up to the last link.
//!
//! - `chain 0 = SHA-256(HEAD, unit, about, public key)`, texts with their length before them;
//! - `chain n = SHA-256(LINK, chain n-1, n, last, records, bytes, digest)`, numbers little endian;
//! - `signature n = Ed25519(SIGNED, chain n, unit, about)`.
//!
//! Never here: files, and who is to be believed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_keys::{PublicKey, SIGNATURE_BYTES, SecretKey};
use sha2::{Digest as _, Sha256};

use crate::container::Fields;
use crate::limits::MAX_CHAIN_ENTRIES;

/// Name of the metadata records.
pub(crate) const RECORD: &str = "evidence_chain";
/// Version of this layout.
const VERSION: &str = "1";
const MAGIC_BYTES: usize = 8;
const HEAD_BYTES: usize = 9;

pub(crate) type Hash = [u8; 32];

/// Whose evidence a file is.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The unit that recorded it.
    pub unit: String,
    /// What it is of: an event's id, or a stretch of the journal.
    pub about: String,
    /// Where the samples came from: the unit's sensors, a replayed drive, a simulation.
    pub source: String,
    /// Signs each link; without a key the chain is there and not signed.
    pub key: Option<Arc<SecretKey>>,
}

/// What the head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) unit: String,
    pub(crate) about: String,
    pub(crate) source: String,
    pub(crate) key: Option<PublicKey>,
}

impl Head {
    fn to_map(&self) -> BTreeMap<String, String> {
        let key = self.key.map_or_else(|| "none".to_owned(), |key| key.to_string());
        let pairs = [
            ("about", self.about.as_str()),
            ("key", key.as_str()),
            ("record", "head"),
            ("source", self.source.as_str()),
            ("unit", self.unit.as_str()),
            ("version", VERSION),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// The value before the first part.
    pub(crate) fn start(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(b"firmware-agent evidence head 1\0");
        put_text(&mut hash, &self.unit);
        put_text(&mut hash, &self.about);
        hash.update(self.key.as_ref().map_or(&[0; 32], PublicKey::as_bytes));
        hash.finalize().into()
    }

    /// What is signed for a value of the chain.
    pub(crate) fn signed(&self, chain: &Hash) -> Vec<u8> {
        let mut out = b"firmware-agent evidence link 1\0".to_vec();
        out.extend_from_slice(chain);
        for text in [&self.unit, &self.about] {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }
}

fn put_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u32).to_le_bytes());
    hash.update(text.as_bytes());
}

/// What was written since the last link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) records: u32,
    pub(crate) bytes: u64,
    pub(crate) digest: Hash,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// From 1.
    pub(crate) part: u32,
    pub(crate) last: bool,
    pub(crate) run: Run,
    /// Chain before this part.
    pub(crate) before: Hash,
    pub(crate) signature: Option<[u8; SIGNATURE_BYTES]>,
}

impl Link {
    /// Chain up to this part.
    pub(crate) fn chain(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(b"firmware-agent evidence part 1\0");
        hash.update(self.before);
        hash.update(self.part.to_le_bytes());
        hash.update([u8::from(self.last)]);
        hash.update(self.run.records.to_le_bytes());
        hash.update(self.run.bytes.to_le_bytes());
        hash.update(self.run.digest);
        hash.finalize().into()
    }

    fn to_map(&self) -> BTreeMap<String, String> {
        let signature = self.signature.map_or_else(|| "none".to_owned(), |s| to_hex(&s));
        let pairs = [
            ("before", to_hex(&self.before)),
            ("bytes", self.run.bytes.to_string()),
            ("digest", to_hex(&self.run.digest)),
            ("last", self.last.to_string()),
            ("part", self.part.to_string()),
            ("record", "link".to_owned()),
            ("records", self.run.records.to_string()),
            ("signature", signature),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}

/// One record of the chain, read.
pub(crate) enum Entry {
    Head(Head),
    Link(Link),
}

impl Entry {
    /// Reads the body of a metadata record. `None` if it is of another name; an error if it is one of ours and not written as we
    /// write it, byte by byte.
    pub(crate) fn read(body: &[u8]) -> Option<Result<Self, ()>> {
        let mut f = Fields(body);
        (f.bytes()? == RECORD.as_bytes()).then(|| {
            let map = f.map(MAX_CHAIN_ENTRIES).filter(|_| f.0.is_empty()).ok_or(())?;
            let entry = Self::of(&map).ok_or(())?;
            let again = match &entry {
                Self::Head(head) => head.to_map(),
                Self::Link(link) => link.to_map(),
            };
            // One meaning, one form: nothing can be hidden in a link, which no part covers.
            if again == map && body == metadata_body(&map) { Ok(entry) } else { Err(()) }
        })
    }

    fn of(map: &BTreeMap<String, String>) -> Option<Self> {
        let text = |k: &str| map.get(k).map(String::as_str);
        match text("record")? {
            "head" if text("version")? == VERSION => {
                let key = match text("key")? {
                    "none" => None,
                    key => Some(PublicKey::parse(key).ok()?),
                };
                let own = |k: &str| text(k).map(str::to_owned);
                Some(Self::Head(Head { unit: own("unit")?, about: own("about")?, source: own("source")?, key }))
            }
            "link" => {
                let digest = from_hex::<32>(text("digest")?)?;
                let run = Run { records: text("records")?.parse().ok()?, bytes: text("bytes")?.parse().ok()?, digest };
                let signature = match text("signature")? {
                    "none" => None,
                    hex => Some(from_hex::<SIGNATURE_BYTES>(hex)?),
                };
                let (part, last) = (text("part")?.parse().ok()?, text("last")?.parse().ok()?);
                Some(Self::Link(Link { part, last, run, before: from_hex::<32>(text("before")?)?, signature }))
            }
            _ => None,
        }
    }
}

/// The body of a metadata record of ours, as the MCAP writer writes it.
fn metadata_body(map: &BTreeMap<String, String>) -> Vec<u8> {
    let mut inner = Vec::new();
    let put = |out: &mut Vec<u8>, text: &str| {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    for (key, value) in map {
        put(&mut inner, key);
        put(&mut inner, value);
    }
    let mut out = Vec::new();
    put(&mut out, RECORD);
    out.extend_from_slice(&(inner.len() as u32).to_le_bytes());
    out.extend(inner);
    out
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; N];
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Hashes records as their bytes go by.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Bytes of the file so far.
    at: u64,
    /// What of the current record's opcode and length has come.
    head: Vec<u8>,
    /// What of its contents is still to come.
    left: u64,
    hash: Sha256,
    records: u32,
    bytes: u64,
    /// A link goes by: it is in no part.
    paused: bool,
}

impl Tracker {
    /// For records alone, without the magic before them.
    pub(crate) fn behind_magic() -> Self {
        Self { at: MAGIC_BYTES as u64, ..Self::default() }
    }

    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        if let Some(magic) = (MAGIC_BYTES as u64).checked_sub(self.at) {
            let n = bytes.len().min(usize::try_from(magic).unwrap_or(MAGIC_BYTES));
            self.at += n as u64;
            bytes = bytes.get(n..).unwrap_or_default();
        }
        self.at += bytes.len() as u64;
        if self.paused {
            return;
        }
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        // Counts the records: nine bytes of head, then contents.
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= n as u64;
                bytes = bytes.get(n..).unwrap_or_default();
                continue;
            }
            let n = bytes.len().min(HEAD_BYTES - self.head.len());
            self.head.extend_from_slice(bytes.get(..n).unwrap_or_default());
            bytes = bytes.get(n..).unwrap_or_default();
            if self.head.len() == HEAD_BYTES {
                self.left = self.head.last_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n));
                self.records = self.records.saturating_add(1);
                self.head.clear();
            }
        }
    }

    /// What came since the last time.
    pub(crate) fn run(&mut self) -> Run {
        let digest = std::mem::take(&mut self.hash).finalize().into();
        Run { records: std::mem::take(&mut self.records), bytes: std::mem::take(&mut self.bytes), digest }
    }
}

/// An output whose bytes are hashed as they go out.
#[derive(Debug)]
pub struct Chained<W> {
    out: W,
    tracker: Arc<Mutex<Tracker>>,
}

impl<W> Chained<W> {
    /// The output itself.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Write for Chained<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        lock(&self.tracker).take(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn lock(tracker: &Mutex<Tracker>) -> MutexGuard<'_, Tracker> {
    tracker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer's side of a chain.
pub(crate) struct Chain {
    tracker: Arc<Mutex<Tracker>>,
    head: Head,
    key: Option<Arc<SecretKey>>,
    part: u32,
    value: Hash,
}

impl Chain {
    /// A chain, and the output that feeds it.
    pub(crate) fn new<W: Write>(out: W, seal: Seal) -> (Self, Chained<W>) {
        let tracker = Arc::new(Mutex::new(Tracker::default()));
        let key = seal.key.as_ref().map(|key| key.public());
        let head = Head { unit: seal.unit, about: seal.about, source: seal.source, key };
        let value = head.start();
        let chained = Chained { out, tracker: Arc::clone(&tracker) };
        (Self { tracker, head, key: seal.key, part: 0, value }, chained)
    }

    pub(crate) fn head(&self) -> BTreeMap<String, String> {
        self.head.to_map()
    }

    /// Bytes since the last link.
    pub(crate) fn unlinked(&self) -> u64 {
        lock(&self.tracker).bytes
    }

    /// The link behind what came since the last one. Everything must have been written out.
    pub(crate) fn link(&mut self, last: bool) -> BTreeMap<String, String> {
        let run = lock(&self.tracker).run();
        self.part = self.part.saturating_add(1);
        let mut link = Link { part: self.part, last, run, before: self.value, signature: None };
        self.value = link.chain();
        link.signature = self.key.as_ref().map(|key| key.sign(&self.head.signed(&self.value)));
        link.to_map()
    }

    /// Whether what goes out now is a link.
    pub(crate) fn pause(&self, paused: bool) {
        lock(&self.tracker).paused = paused;
    }
}
