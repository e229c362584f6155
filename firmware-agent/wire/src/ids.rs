//! Names and hashes: checked when they are made and again when they are read, from bytes as from JSON.
//!
//! A *name* ends up in topics and file names, so it can be neither a wildcard nor a path. Nothing here allocates.

use core::fmt;

use heapless::String;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::limits::UNIT_ID_BYTES;

/// A unit's or fleet's name: 1 to 32 bytes of `[A-Za-z0-9._-]`, the first a letter, a digit or `_`, so that it is
/// safe in topics and file names (`..` and `-rf` are not names).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnitId(String<UNIT_ID_BYTES>);

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitIdError {
    /// No characters.
    #[error("the name is empty")]
    Empty,
    /// More than 32 bytes.
    #[error("the name is longer than {UNIT_ID_BYTES} bytes")]
    TooLong,
    /// A character that is not a letter, digit, dot, dash or underscore.
    #[error("character {0:?} is not a letter, digit, '.', '-' or '_'")]
    Character(char),
    /// Begins with a dot or a dash: a hidden file, a parent folder or an option where a name is meant.
    #[error("the name begins with {0:?}, not with a letter, digit or '_'")]
    Start(char),
}

impl UnitId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// Empty, too long, with a character outside `[A-Za-z0-9._-]`, or beginning with `.` or `-`.
    pub fn new(name: &str) -> Result<Self, UnitIdError> {
        match name.chars().next() {
            None => return Err(UnitIdError::Empty),
            Some(c @ ('.' | '-')) => return Err(UnitIdError::Start(c)),
            Some(_) => {}
        }
        if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
            return Err(UnitIdError::Character(c));
        }
        String::try_from(name).map(Self).map_err(|_| UnitIdError::TooLong)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::<UNIT_ID_BYTES>::deserialize(deserializer)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

/// Identity of an event: the same in its alert, every raise of it, its report and its evidence file, so that a
/// receiver can drop duplicates. `boot` grows by one at each start of the agent and is kept on disk, twice; `seq` begins
/// at 1 again with each start. Only the three together name an event: never store one by `seq` alone. A unit whose disk
/// was replaced counts its starts from 1 again: give it a new name, or its old `.boot` file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId {
    /// The unit that saw it.
    pub unit: UnitId,
    /// Which start of the agent on that unit.
    pub boot: u32,
    /// Which event of that start, from 1 at each start.
    pub seq: u32,
}

impl fmt::Display for EventId {
    /// `unit_00000001_000002`: also the stem of the evidence file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:08}_{:06}", self.unit, self.boot, self.seq)
    }
}

/// The first eight bytes of a SHA-256: enough to tell which configuration or model was in force. Hex text in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Hash8(pub [u8; 8]);

impl fmt::Display for Hash8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Hash8 {
    fn from_hex(text: &str) -> Option<Self> {
        let mut out = [0u8; 8];
        // `from_str_radix` takes a sign: "+f" would be read as 0f.
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self(out))
    }
}

impl Serialize for Hash8 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Hash8 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::<16>::deserialize(deserializer)?;
            Self::from_hex(&text).ok_or_else(|| D::Error::custom("a hash is 16 hexadecimal digits"))
        } else {
            <[u8; 8]>::deserialize(deserializer).map(Self)
        }
    }
}
