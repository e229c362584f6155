//! `[trigger.vision] risk_head`: which risk head judges the tracks. Names only; nothing is loaded here.

use std::path::PathBuf;

use serde::Serialize;

use crate::builtin;

/// Which risk head judges the tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RiskHeadChoice {
    /// None: the rule of cues does.
    None,
    /// The one that ships in the program.
    Builtin,
    /// That of a manifest.
    File(PathBuf),
}

impl Serialize for RiskHeadChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Builtin => serializer.serialize_str(builtin::WORD),
            Self::File(path) => path.serialize(serializer),
        }
    }
}
