//! `[trigger.vision] model` and `risk_head`: which models see and judge. Names only; nothing is loaded here.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::builtin;

/// Which model does a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelChoice {
    /// None.
    None,
    /// The one that ships inside the program.
    Builtin,
    /// That of a manifest.
    File(PathBuf),
}

impl ModelChoice {
    /// From what a configuration says; nothing is "none".
    pub(crate) fn from_path(path: Option<PathBuf>) -> Self {
        match path {
            None => Self::None,
            Some(path) if path == Path::new(builtin::WORD) => Self::Builtin,
            Some(path) => Self::File(path),
        }
    }
}

impl Serialize for ModelChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Builtin => serializer.serialize_str(builtin::WORD),
            Self::File(path) => path.serialize(serializer),
        }
    }
}
