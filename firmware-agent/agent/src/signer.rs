//! The unit's own key, and what evidence is signed with.
//!
//! `run` makes the key at its first start. Nothing that has to do with it keeps the agent from recording: where there is none,
//! evidence has its chain without signatures, and that is said. What a replay writes is never signed: it is not what a unit saw.

use std::path::PathBuf;
use std::sync::Arc;

use agent_drive::Seal;
use agent_keys::{KeyError, SecretKey};
use agent_wire::Flags;

use crate::config::Config;
use crate::config::types::KeyFile;
use crate::show::say;

/// Name of the key's file where the configuration names none.
const FILE: &str = "unit-key.pem";

/// Whose evidence it is, and what signs it.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    unit: String,
    source: &'static str,
    key: Option<Arc<SecretKey>>,
}

impl Signer {
    /// For evidence that is not signed.
    pub(crate) fn unsigned(unit: &str, flags: Flags) -> Self {
        let source = match (flags.simulated, flags.replayed) {
            (true, _) => "simulated",
            (false, true) => "replayed",
            (false, false) => "sensors",
        };
        Self { unit: unit.to_owned(), source, key: None }
    }

    /// For the daemon: with the unit's key, made if it is not there yet.
    pub(crate) fn of_unit(config: &Config, flags: Flags) -> Self {
        let mut this = Self::unsigned(config.unit.name.as_str(), flags);
        let Some(path) = path(config) else {
            say!("evidence is not signed: evidence.key is none");
            return this;
        };
        let key = match agent_keys::load(&path) {
            Ok(found) => {
                if found.open_to_others {
                    say!("the unit's key {} can be read by others than its owner: `chmod 600` it", path.display());
                }
                Ok(found.key)
            }
            Err(KeyError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => agent_keys::make(&path)
                .inspect(|key| {
                    say!("this unit's key was made: {}, its public half is {}", path.display(), key.public())
                }),
            Err(error) => Err(error),
        };
        match key {
            Ok(key) => this.key = Some(Arc::new(key)),
            Err(error) => say!("evidence is not signed: the unit's key {}: {error}", path.display()),
        }
        this
    }

    /// With a key that a test has.
    #[cfg(test)]
    pub(crate) fn of_key(unit: &str, key: SecretKey) -> Self {
        Self { unit: unit.to_owned(), source: "sensors", key: Some(Arc::new(key)) }
    }

    /// For one file.
    pub(crate) fn seal(&self, about: String) -> Seal {
        Seal { unit: self.unit.clone(), about, source: self.source.to_owned(), key: self.key.clone() }
    }
}

/// Where the unit's key is; `None` if the unit is to have none.
pub(crate) fn path(config: &Config) -> Option<PathBuf> {
    match &config.evidence.key {
        KeyFile::None => None,
        KeyFile::At(path) => Some(config.resolve(path)),
        KeyFile::Auto => Some(config.resolve(&config.link.outbox.store).with_file_name(FILE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_makes_its_key_once_and_records_without_one_where_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default_embedded().unwrap();
        config.folder = folder.path().to_owned();
        let public = |config: &Config| Signer::of_unit(config, Flags::default()).key.map(|k| k.public());
        let first = public(&config).unwrap();
        assert_eq!(public(&config), Some(first), "made once");
        assert_eq!(agent_keys::load(&folder.path().join(FILE)).unwrap().key.public(), first);
        std::fs::write(folder.path().join(FILE), "damaged").unwrap();
        assert_eq!(public(&config), None);
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), b"damaged", "a key is never replaced");
        config.evidence.key = KeyFile::None;
        assert_eq!(public(&config), None);
        config.evidence.key = KeyFile::At("sub/other.pem".into());
        assert!(public(&config).is_some_and(|other| other != first));
    }

    #[test]
    fn evidence_says_where_its_samples_came_from() {
        let of = |replayed, simulated| Signer::unsigned("u", Flags { replayed, simulated, ..Flags::default() }).source;
        assert_eq!([of(false, false), of(true, false), of(true, true)], ["sensors", "replayed", "simulated"]);
    }
}
