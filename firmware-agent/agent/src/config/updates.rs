//! `[updates]`: whose updates the unit takes and how they are tried, and what an update may not say. Nothing here takes any.

use std::path::PathBuf;

use agent_keys::PublicKey;
use serde::{Serialize, Serializer};

use super::commands::{key_list, public_keys};
use super::limits::MAX_UPDATE_KEYS;
use super::reader::{Section, refuse};
use super::tree::{Files, Node, Table, Value};
use super::types::path_text;

/// `[updates]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct UpdatesConfig {
    /// Public keys of those whose updates are taken; without one none is.
    #[serde(serialize_with = "key_list")]
    pub(crate) keys: Vec<PublicKey>,
    /// Folder of the slots.
    pub(crate) dir: UpdatesFolder,
    /// Starts that an update on trial has.
    pub(crate) trial_starts: u32,
    /// Within this time of a start it must have been well, s.
    pub(crate) trial_s: u32,
    /// For this long without a break, s; at most `trial_s`.
    pub(crate) well_s: u32,
}

impl UpdatesConfig {
    /// Whose updates are taken, in words.
    pub(crate) fn accepted(&self) -> &'static str {
        if self.keys.is_empty() {
            "none is taken: updates.keys is empty"
        } else {
            "those that one of updates.keys signed for this unit or its fleet, each number once and only upwards"
        }
    }
}

/// Where updates are installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpdatesFolder {
    /// Beside the outbox.
    Auto,
    /// In this folder.
    At(PathBuf),
}

impl Serialize for UpdatesFolder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::At(path) => path_text(path, serializer),
        }
    }
}

pub(super) fn updates(files: &mut Files, top: &mut Section<'_>) -> UpdatesConfig {
    let mut s = top.section(files, "updates");
    let keys = public_keys(files, &mut s, MAX_UPDATE_KEYS);
    let dir = s.checked(files, "dir", "a path or \"auto\"", |text| match text {
        "" => Err("empty".to_owned()),
        "auto" => Ok(UpdatesFolder::Auto),
        path => Ok(UpdatesFolder::At(PathBuf::from(path))),
    });
    let trial_starts = s.whole(files, "trial_starts", 1, 100).value;
    let trial = s.whole(files, "trial_s", 1, 86_400);
    let well = s.whole(files, "well_s", 1, 86_400);
    if let (Some(_), Some(at)) = (trial.spot, well.spot)
        && well.value > trial.value
    {
        refuse(files, at, s.key("well_s"), format!("above {}, which is {}", s.key("trial_s"), trial.value));
    }
    s.finish(files);
    let dir = dir.map_or(UpdatesFolder::Auto, |at| at.value);
    UpdatesConfig { keys, dir, trial_starts, trial_s: trial.value, well_s: well.value }
}

/// What an update may not change, and why.
const FORBIDDEN: [(&[&str], &str); 10] = [
    (&["inherits"], "its place is between the unit's own file and nothing else"),
    (&["unit", "name"], "who a unit is stands in its own file"),
    (&["unit", "fleet"], "who a unit is stands in its own file"),
    (&["updates"], "whose updates are taken stands in the unit's own file"),
    (&["commands", "keys"], "whose commands are taken stands in the unit's own file"),
    (&["evidence", "key"], "the unit's key stays where it is"),
    // The unit's key and the counters of commands stand beside it.
    (&["link", "outbox", "store"], "the unit's key and what was taken stand beside it"),
    (&["link", "tls"], "authorities and certificates are the unit's own"),
    (&["sources", "camera", "credentials"], "passwords are the unit's own"),
    (&["student", "worker"], "an update brings no programs"),
];

/// Notes each value of an update's layer that it may not have.
pub(super) fn forbidden(files: &mut Files, layer: &Table) {
    for (path, why) in FORBIDDEN {
        if let Some((key, node)) = met(layer, path) {
            refuse(files, node.spot, key, format!("but an update may not change it: {why}"));
        }
    }
}

/// The value at a path, or the one that stands in the place of a table on the way to it.
fn met<'t>(layer: &'t Table, path: &[&str]) -> Option<(String, &'t Node)> {
    (1..=path.len()).find_map(|n| {
        let (prefix, whole) = (path.get(..n)?, n == path.len());
        let node = layer.find(prefix)?;
        (whole || !matches!(node.value, Value::Table(_))).then(|| (prefix.join("."), node))
    })
}
