//! `[commands]`: whose commands the unit takes. Nothing here receives any.

use agent_keys::PublicKey;
use serde::{Serialize, Serializer};

use super::limits::{MAX_COMMAND_KEYS, MAX_COMMANDS_PER_MINUTE};
use super::reader::{At, Section, refuse, text};
use super::tree::Files;

/// `[commands]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CommandsConfig {
    /// The fleet's public keys; without one no command is taken that changes anything.
    #[serde(serialize_with = "key_list")]
    pub(crate) keys: Vec<PublicKey>,
    /// Most commands taken, a minute.
    pub(crate) max_per_minute: u32,
}

impl CommandsConfig {
    /// Which commands are taken, in words.
    pub(crate) fn accepted(&self) -> &'static str {
        if self.keys.is_empty() {
            "no command that changes anything: commands.keys is empty; a request for health is answered unsigned"
        } else {
            "commands that one of commands.keys signed for this unit, each once"
        }
    }
}

pub(super) fn commands(files: &mut Files, top: &mut Section<'_>) -> CommandsConfig {
    let mut s = top.section(files, "commands");
    let keys = public_keys(files, &mut s, MAX_COMMAND_KEYS);
    let max_per_minute = s.whole(files, "max_per_minute", 1, MAX_COMMANDS_PER_MINUTE).value;
    s.finish(files);
    CommandsConfig { keys, max_per_minute }
}

/// The list `keys` of a section.
pub(super) fn public_keys(files: &mut Files, s: &mut Section<'_>, most: usize) -> Vec<PublicKey> {
    let list = s.list(files, "keys", most);
    let mut keys: Vec<PublicKey> = Vec::with_capacity(list.value.len());
    for (i, node) in list.value.iter().enumerate() {
        let key = format!("{}[{i}]", s.key("keys"));
        let At { value, spot: Some(spot) } = text(files, &key, node, "a public key") else { continue };
        match PublicKey::parse(&value) {
            Ok(public) if keys.contains(&public) => refuse(files, spot, key, "named twice".to_owned()),
            Ok(public) => keys.push(public),
            Err(_) => {
                let reason = "not a public key of 64 hexadecimal digits (`firmware-agent keys show FILE` prints it)";
                refuse(files, spot, key, reason.to_owned());
            }
        }
    }
    keys
}

pub(super) fn key_list<S: Serializer>(keys: &[PublicKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(ToString::to_string))
}
