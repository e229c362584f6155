//! `[evidence]`: where files of events go, and what goes to disk before there is one. Nothing here opens anything.

use std::path::PathBuf;

use serde::Serialize;

use super::types::path_text;

/// `[evidence]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EvidenceConfig {
    /// Folder of the event files.
    #[serde(serialize_with = "path_text")]
    pub(crate) dir: PathBuf,
    /// Most bytes in it, MB; holds at least one event.
    pub(crate) quota_mb: u32,
    /// When frames and samples go to disk at once.
    pub(crate) persist: Persist,
    /// Risk from which on they do, with [`Persist::Risk`].
    pub(crate) persist_risk: f32,
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
