//! What an update says of itself: for whom it is, its number, its files. JSON, and believed only once its signature was checked.

use core::fmt;

use agent_wire::UnitId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::UpdateError;
use crate::limits::{MAX_CONFIG_BYTES, MAX_FILES, MAX_NAME_BYTES, MAX_TOTAL_BYTES, MAX_UNITS};

/// What a file is for. One of each at most, but for [`Role::File`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A layer of configuration (TOML) over the unit's own.
    Config,
    /// The manifest of a trigger model; its network is a [`Role::File`] beside it.
    Trigger,
    /// The manifest of a risk head; its network is a [`Role::File`] beside it.
    RiskHead,
    /// The student's model file.
    Student,
    /// The small model of the student's last step.
    SmallStudent,
    /// The description of the vehicle's frames.
    Dbc,
    /// What another file names.
    File,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom("64 hexadecimal digits are wanted");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = core::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is for.
    pub role: Role,
    /// Its name in the update's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its content.
    pub sha256: Digest,
}

/// A version of the agent: three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl Version {
    /// Reads `MAJOR.MINOR.PATCH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten()
        });
        let version = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(Self(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a version MAJOR.MINOR.PATCH is wanted"))
    }
}

/// What an update says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which fleet it is for.
    pub fleet: UnitId,
    /// Which units of it; none named means all.
    pub units: Vec<UnitId>,
    /// Its number: an update is taken only above every one before it. 0 is none's.
    pub sequence: u64,
    /// When it was made, by the maker's clock: Unix time, milliseconds. Shown, never judged by.
    pub made_unix_ms: u64,
    /// The oldest agent that it may run under.
    pub min_agent: Version,
    /// Its files in the order of their contents. The layer of configuration comes first.
    pub files: Vec<Entry>,
}

/// Who takes updates here.
#[derive(Clone, Debug)]
pub struct Who {
    /// The unit's fleet.
    pub fleet: UnitId,
    /// Its name.
    pub unit: UnitId,
    /// This program's version.
    pub agent: Version,
}

impl Manifest {
    /// Reads and checks a head whose signature was checked.
    ///
    /// # Errors
    /// [`UpdateError::Head`], [`UpdateError::File`] and [`UpdateError::TooLarge`].
    pub fn parse(text: &[u8]) -> Result<Self, UpdateError> {
        let this: Self = serde_json::from_slice(text).map_err(|e| UpdateError::Head(e.to_string()))?;
        this.check()?;
        Ok(this)
    }

    /// The rules that hold for every update.
    ///
    /// # Errors
    /// [`UpdateError::Head`], [`UpdateError::File`] and [`UpdateError::TooLarge`].
    pub fn check(&self) -> Result<(), UpdateError> {
        let head = |why: String| Err(UpdateError::Head(why));
        if self.sequence == 0 {
            return head("sequence 0 is no update's".to_owned());
        }
        if self.units.len() > MAX_UNITS {
            return head(format!("{} units, above {MAX_UNITS}", self.units.len()));
        }
        if self.files.is_empty() || self.files.len() > MAX_FILES {
            return head(format!("{} files, not 1 to {MAX_FILES}", self.files.len()));
        }
        for (i, entry) in self.files.iter().enumerate() {
            let before = self.files.get(..i).unwrap_or_default();
            if let Err(why) = entry.check(i, before) {
                let name = entry.name.chars().take(MAX_NAME_BYTES).filter(|c| !c.is_control()).collect();
                return Err(UpdateError::File { name, why });
            }
        }
        match self.bytes() {
            n if n > MAX_TOTAL_BYTES => Err(UpdateError::TooLarge(n)),
            _ => Ok(()),
        }
    }

    /// Whether it is for this unit and this program.
    ///
    /// # Errors
    /// [`UpdateError::OtherFleet`], [`UpdateError::OtherUnit`] and [`UpdateError::NeedsAgent`].
    pub fn fits(&self, who: &Who) -> Result<(), UpdateError> {
        if self.fleet != who.fleet {
            return Err(UpdateError::OtherFleet(self.fleet.to_string()));
        }
        if !(self.units.is_empty() || self.units.contains(&who.unit)) {
            return Err(UpdateError::OtherUnit(who.unit.to_string()));
        }
        if self.min_agent > who.agent {
            return Err(UpdateError::NeedsAgent { wanted: self.min_agent.to_string(), has: who.agent.to_string() });
        }
        Ok(())
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, entry| sum.saturating_add(entry.bytes))
    }

    /// The file of a role.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.role == role)
    }
}

impl Entry {
    fn check(&self, at: usize, before: &[Self]) -> Result<(), String> {
        // A name and never a path: it becomes a file in a folder of ours.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            return Err(format!("a name of 1 to {MAX_NAME_BYTES} bytes is wanted"));
        }
        if !self.name.chars().all(plain) || self.name.starts_with(['.', '-']) || self.name == crate::slot::HEAD {
            return Err(
                "not a plain name of letters, digits, '.', '-' and '_', that begins with a letter or digit".to_owned()
            );
        }
        if before.iter().any(|b| b.name == self.name) {
            return Err("named twice".to_owned());
        }
        if self.role != Role::File && before.iter().any(|b| b.role == self.role) {
            return Err("a second one of its role".to_owned());
        }
        if self.role == Role::Config && at > 0 {
            return Err("the layer of configuration comes first".to_owned());
        }
        if self.role == Role::Config && self.bytes > MAX_CONFIG_BYTES {
            return Err(format!("{} bytes of configuration, above {MAX_CONFIG_BYTES}", self.bytes));
        }
        Ok(())
    }
}
