//! Installed updates as the commands see them: where they are, whose are taken, and the configuration that one makes.
//!
//! An update lies over the unit's own file in two layers: the configuration that it brings, and over that the places of its models.
//! What it may not change is refused with the configuration's own errors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_disk::{Disk as _, RealDisk};
use agent_update::limits::MAX_CONFIG_BYTES;
use agent_update::{Manifest, Role, Settings, Slot, Store, Version, Who};

use crate::config::updates::UpdatesFolder;
use crate::config::{Config, Layers, load_updated};

/// Name of the folder where the configuration names none.
const FOLDER: &str = "updates";

/// Where updates are installed.
pub(crate) fn folder(config: &Config) -> std::io::Result<PathBuf> {
    std::path::absolute(match &config.updates.dir {
        UpdatesFolder::Auto => config.resolve(&config.link.outbox.store).with_file_name(FOLDER),
        UpdatesFolder::At(path) => config.resolve(path),
    })
}

/// This program's version.
pub(crate) fn version() -> Version {
    Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or(Version([0; 3]))
}

/// The updates of a unit by its own configuration.
pub(crate) fn store(config: &Config) -> std::io::Result<Store> {
    let who = Who { fleet: config.unit.fleet.clone(), unit: config.unit.name.clone(), agent: version() };
    let (keys, trial_starts) = (config.updates.keys.clone(), config.updates.trial_starts);
    Ok(Store::new(Arc::new(RealDisk), Settings { dir: folder(config)?, keys, who, trial_starts }))
}

/// The configuration with an installed update. `own` is the unit's own file.
pub(crate) fn config_of(own: &Path, slot: &Slot) -> anyhow::Result<Config> {
    let layer = slot.path_of(Role::Config).map(|path| RealDisk.read(&path, MAX_CONFIG_BYTES)).transpose()?;
    config_with(own, &slot.manifest, &slot.folder, layer.as_deref()).map_err(anyhow::Error::msg)
}

/// The configuration with an update whose files are, or will be, in `folder`.
pub(crate) fn config_with(
    own: &Path,
    manifest: &Manifest,
    folder: &Path,
    layer: Option<&[u8]>,
) -> Result<Config, String> {
    let name = format!("update {}", manifest.sequence);
    let not_text = |e: std::str::Utf8Error| format!("{name}: is not UTF-8 text from byte {} on", e.valid_up_to());
    let brought = layer.map(std::str::from_utf8).transpose().map_err(not_text)?;
    let files = places(manifest, folder)?;
    let layers = Layers { name: &name, brought, files: &files };
    let config = load_updated(own, layers).map_err(|errors| errors.to_string())?;
    if manifest.of(Role::Student).is_some() && config.student.connect.is_some() {
        return Err(format!(
            "{name}: brings a student, but student.connect names a worker that has a model of its own"
        ));
    }
    Ok(config)
}

/// Where the files of an update are, as a layer of configuration.
fn places(manifest: &Manifest, folder: &Path) -> Result<String, String> {
    let keys = [
        (Role::Trigger, "trigger.vision.model"),
        (Role::RiskHead, "trigger.vision.risk_head"),
        (Role::Student, "student.model"),
        (Role::SmallStudent, "student.small_model"),
        (Role::Dbc, "can.dbc"),
    ];
    let mut out = String::new();
    for (role, key) in keys {
        let Some(entry) = manifest.of(role) else { continue };
        let path = folder.join(&entry.name);
        let path = path.to_str().ok_or_else(|| format!("{}: not a name in UTF-8", path.display()))?;
        out.push_str(&format!("{key} = {}\n", toml::Value::from(path)));
    }
    Ok(out)
}

#[cfg(test)]
#[path = "updates_tests.rs"]
mod tests;
