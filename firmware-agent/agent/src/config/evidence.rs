//! `[evidence]`: where files of events go, what signs them, and what goes to disk before there is one. Nothing here opens
//! anything.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::memory::{MemoryPlan, mb};
use super::reader::{Section, refuse};
use super::tree::Files;
use super::types::{RingsConfig, path_text};

/// `[evidence]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EvidenceConfig {
    /// Folder of the event files.
    #[serde(serialize_with = "path_text")]
    pub(crate) dir: PathBuf,
    /// Most bytes in it, MB; holds at least one event.
    pub(crate) quota_mb: u32,
    /// The unit's secret key.
    pub(crate) key: KeyFile,
    /// When frames and samples go to disk at once.
    pub(crate) persist: Persist,
    /// Risk from which on they do, with [`Persist::Risk`].
    pub(crate) persist_risk: f32,
}

/// Where the unit's secret key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyFile {
    /// Evidence is not signed.
    None,
    /// Beside the outbox.
    Auto,
    /// In this file.
    At(PathBuf),
}

impl Serialize for KeyFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Auto => serializer.serialize_str("auto"),
            Self::At(path) => path_text(path, serializer),
        }
    }
}

/// When frames and samples go to disk at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Persist {
    /// With the evidence of an event alone.
    Never,
    /// While risk is high or an event is open.
    Risk,
    /// All the time.
    Always,
}

pub(super) fn evidence(files: &mut Files, top: &mut Section<'_>, rings: Option<&RingsConfig>) -> EvidenceConfig {
    let mut s = top.section(files, "evidence");
    let dir = s.path(files, "dir");
    let quota = s.whole(files, "quota_mb", 1, 10_000_000);
    if let (Some(spot), Some(rings)) = (quota.spot, rings) {
        let event = MemoryPlan::of(rings).event_bytes();
        if u64::from(quota.value).saturating_mul(1_000_000) < event {
            let reason = format!("below the {} MB that one event may take", mb(event));
            refuse(files, spot, s.key("quota_mb"), reason);
        }
    }
    let key = s.checked(files, "key", "a path, \"auto\" or \"none\"", |text| match text {
        "" => Err("empty".to_owned()),
        "none" => Ok(KeyFile::None),
        "auto" => Ok(KeyFile::Auto),
        path => Ok(KeyFile::At(PathBuf::from(path))),
    });
    let modes = [("never", Persist::Never), ("risk", Persist::Risk), ("always", Persist::Always)];
    let persist = s.word(files, "persist", &modes).map_or(Persist::Risk, |at| at.value);
    let persist_risk = s.real(files, "persist_risk", 0.01, 1.0).value;
    s.finish(files);
    let key = key.map_or(KeyFile::None, |at| at.value);
    EvidenceConfig { dir, quota_mb: quota.value, key, persist, persist_risk }
}
