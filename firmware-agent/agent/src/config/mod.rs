//! The configuration: TOML files to a checked [`Config`], or every problem with its line, column and reason.
//!
//! Terms: the *user's file* is the one named on the command line; it states only what differs. `inherits = "NAME"`
//! names its *parent*, `NAME.toml` beside it or else a board file shipped in the program; without it the parent is
//! `base.toml`, which is always the shipped one and holds a value for every key that must have one. Files are merged by
//! table, the child over the parent. The *effective* configuration is the result as one file that inherits nothing but
//! `base.toml`.
//!
//! This module reads configuration files and nothing else: not the models, DBC files or drives that they name (`doctor`
//! and `run` do), no environment, no clock. What a configuration means for events is decided in the core.

mod broker;
#[cfg_attr(
    not(all(feature = "v4l2", feature = "gstreamer")),
    allow(dead_code, reason = "words that only some cameras are asked for")
)]
pub(crate) mod camera;
pub(crate) mod can;
mod command;
mod commands;
pub(crate) mod error;
mod evidence;
pub(crate) mod gnss;
pub(crate) mod gpio;
pub(crate) mod imu;
pub(crate) mod limits;
pub(crate) mod link;
mod memory;
mod model_choice;
mod reader;
mod sections;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod types;
pub(crate) mod updates;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use agent_core::config::{TelemetryConfig, VisionConfig};
use agent_wire::Hash8;
use sha2::{Digest, Sha256};

pub(crate) use command::{EXIT_OK, check_config_command};
pub(crate) use error::{ConfigErrors, Place, Problem};
pub(crate) use memory::MemoryPlan;
pub(crate) use model_choice::ModelChoice;
pub(crate) use types::{Ask, Config, SignalRef, Threshold, VEHICLE_SIGNALS, VehicleClass};

use limits::{MAX_CHAIN, MAX_FILE_BYTES, MAX_PARENT_BYTES};
use tree::{Files, Spot, Table, Value};

/// Standard gravity, m/s^2 (CGPM 1901).
const G_MPS2: f32 = 9.806_65;

/// Name of the file that every other one inherits from in the end.
const BASE: &str = "base";

/// The board files shipped in the program.
const SHIPPED: [(&str, &str); 6] = [
    (BASE, include_str!("../../../../board-configs/base.toml")),
    ("agx-orin-devkit", include_str!("../../../../board-configs/agx-orin-devkit.toml")),
    ("bench-x86_64", include_str!("../../../../board-configs/bench-x86_64.toml")),
    ("generic-aarch64", include_str!("../../../../board-configs/generic-aarch64.toml")),
    ("orin-nano-devkit", include_str!("../../../../board-configs/orin-nano-devkit.toml")),
    ("orin-nx", include_str!("../../../../board-configs/orin-nx.toml")),
];

/// What a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The desk: `replay`, `ask`, `check-config`. The defaults' name will do.
    Desk,
    /// A unit of a fleet, whose topics and event ids must be its own: `run`.
    Unit,
}

/// Reads a configuration file and those it inherits from.
///
/// # Errors
/// Every problem in them, the user's file first; for a unit also the placeholder as its name.
pub(crate) fn load(path: &Path, purpose: Purpose) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|problem| ConfigErrors::one(Place { file: name.clone(), at: None }, problem))?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    resolve(Chain::default(), name, text, folder.clone(), Some(&folder), purpose)
}

/// Layers of an update over the unit's own file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layers<'a> {
    /// What errors call them.
    pub(crate) name: &'a str,
    /// The configuration that the update brings, which may not say everything ([`updates`]).
    pub(crate) brought: Option<&'a str>,
    /// Where the files of the update are: made by this program.
    pub(crate) files: &'a str,
}

/// Reads a unit's configuration file with an update laid over it.
///
/// # Errors
/// Every problem in them, those of the update first.
pub(crate) fn load_updated(path: &Path, layers: Layers<'_>) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|problem| ConfigErrors::one(Place { file: name.clone(), at: None }, problem))?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut chain = Chain::default();
    let number = chain.files.add(format!("files of {}", layers.name), layers.files.to_owned());
    let table = chain.files.parse(number);
    chain.tables.push(table);
    if let Some(brought) = layers.brought {
        let number = chain.files.add(layers.name.to_owned(), brought.to_owned());
        let table = chain.files.parse(number);
        updates::forbidden(&mut chain.files, &table);
        chain.tables.push(table);
    }
    resolve(chain, name, text, folder.clone(), Some(&folder), Purpose::Unit)
}

/// What can be said of an update's layer without the unit that it is for: that it is TOML, and says nothing that it may not.
///
/// # Errors
/// Every such problem.
pub(crate) fn check_layer(name: &str, text: &str) -> Result<(), ConfigErrors> {
    let mut files = Files::default();
    let number = files.add(name.to_owned(), text.to_owned());
    let table = files.parse(number);
    updates::forbidden(&mut files, &table);
    if files.sound() { Ok(()) } else { Err(files.into_errors()) }
}

/// Reads a configuration from text, called `name` in errors. Its parents are those shipped in the program.
///
/// # Errors
/// Every problem in it.
pub(crate) fn load_str(name: &str, text: &str) -> Result<Config, ConfigErrors> {
    if text.len() > MAX_FILE_BYTES {
        let place = Place { file: name.to_owned(), at: None };
        return Err(ConfigErrors::one(place, Problem::TooLarge { limit: MAX_FILE_BYTES }));
    }
    resolve(Chain::default(), name.to_owned(), text.to_owned(), PathBuf::new(), None, Purpose::Desk)
}

impl Config {
    /// The shipped defaults: what `demo` uses, and `replay` without a file.
    ///
    /// # Errors
    /// Never, as a test shows; the type says so rather than a panic.
    pub(crate) fn default_embedded() -> Result<Self, ConfigErrors> {
        load_str("defaults", "")
    }

    /// The effective configuration as a file. Loading it gives the same configuration and the same hash.
    #[must_use]
    pub(crate) fn effective_toml(&self) -> String {
        // Every type in `Config` has a form in TOML (held by a test), so the error cannot be met; it would be seen in
        // the output and refused by the next load.
        toml::to_string(self).unwrap_or_else(|error| format!("not representable: {error}"))
    }

    /// First eight bytes of the SHA-256 of [`Self::effective_toml`]: what alerts, reports and status carry.
    /// Take it before the command line changes any value of a loaded configuration.
    #[must_use]
    pub(crate) fn hash8(&self) -> Hash8 {
        let digest = Sha256::digest(self.effective_toml().as_bytes());
        let mut hash = Hash8::default();
        hash.0.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        hash
    }

    /// Memory of the rings and the pool.
    #[must_use]
    pub(crate) fn memory(&self) -> MemoryPlan {
        MemoryPlan::of(&self.rings)
    }

    /// A path of the configuration as the program must open it: relative ones begin at the user's file.
    #[must_use]
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The same for one that may be missing; empty where it is.
    fn resolve_or_empty(&self, path: Option<&Path>) -> PathBuf {
        path.map(|p| self.resolve(p)).unwrap_or_default()
    }

    /// Thresholds of the telemetry trigger: those of the vehicle class, replaced by `[trigger.telemetry]`.
    #[must_use]
    pub(crate) fn telemetry(&self) -> TelemetryConfig {
        let class = match self.unit.vehicle_class {
            VehicleClass::Car => &self.classes.car,
            VehicleClass::Van => &self.classes.van,
            VehicleClass::Truck => &self.classes.truck,
            VehicleClass::Bus => &self.classes.bus,
        };
        let own = &self.trigger.telemetry;
        TelemetryConfig {
            impact_delta_v_kmh: own.impact_delta_v_kmh.unwrap_or(class.impact_delta_v_kmh),
            impact_window_ms: own.impact_window_ms.unwrap_or(class.impact_window_ms),
            critical_delta_v_kmh: own.critical_delta_v_kmh.unwrap_or(class.critical_delta_v_kmh),
            harsh_braking_mps2: own.harsh_braking_mps2.unwrap_or(class.harsh_braking_mps2),
            harsh_acceleration_mps2: own.harsh_acceleration_mps2.unwrap_or(class.harsh_acceleration_mps2),
            harsh_cornering_mps2: own.harsh_cornering_mps2.unwrap_or(class.harsh_cornering_mps2),
            harsh_duration_ms: own.harsh_duration_ms.unwrap_or(class.harsh_duration_ms),
            accel_range_mps2: own.accel_range_g * G_MPS2,
            // What tells handling and potholes from crashes is physics of the unit, not of the vehicle's class.
            ..TelemetryConfig::default()
        }
    }

    /// Thresholds of the vision trigger.
    #[must_use]
    pub(crate) fn vision(&self) -> VisionConfig {
        let vision = &self.trigger.vision;
        VisionConfig {
            risk_on: vision.risk_on,
            rule_beside: vision.rule == types::VisionRule::Beside,
            ahead_on: vision.ahead_on,
            contact_on: vision.contact_on,
            risk_off: vision.risk_off,
            min_score: vision.min_score,
            hfov_deg: vision.hfov_deg,
        }
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`] as UTF-8.
fn read_file(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string());
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than the limit tells a file at the limit from one above it, however large that is.
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Problem::TooLarge { limit: MAX_FILE_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| Problem::NotText(error.utf8_error().valid_up_to()))
}

/// Files that were read, and their tables: each over those after it.
#[derive(Debug, Default)]
struct Chain {
    files: Files,
    tables: Vec<Table>,
}

/// Follows the chain from the user's file to `base.toml`, merges it and reads the result. `over` is what lies over the user's file.
fn resolve(
    over: Chain,
    name: String,
    text: String,
    folder: PathBuf,
    beside: Option<&Path>,
    purpose: Purpose,
) -> Result<Config, ConfigErrors> {
    let Chain { mut files, tables: mut chain } = over;
    let most = chain.len() + MAX_CHAIN;
    // A file that names itself as its parent would find itself again. The shipped `base.toml` is never found beside a
    // file, so a file of that name may stand anywhere.
    let own = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != BASE);
    let mut names: Vec<String> = own.filter(|_| beside.is_some()).map(str::to_owned).into_iter().collect();
    let (mut name, mut text) = (name, text);
    let mut first_shipped = usize::MAX;
    loop {
        let number = files.add(name, text);
        let table = files.parse(number);
        let parent = parent_of(&mut files, &table);
        chain.push(table);
        // `base.toml` itself, as a shipped file, ends the chain.
        if names.last().is_some_and(|n| n == BASE) {
            break;
        }
        let (parent, spot) = parent.unwrap_or((BASE.to_owned(), Spot { file: number, from: 0, to: 0 }));
        if names.contains(&parent) || chain.len() >= most {
            let reason = if names.contains(&parent) {
                "leads back to itself".to_owned()
            } else {
                format!("makes a chain of more than {MAX_CHAIN} files")
            };
            files.problem(spot, Problem::Inherits { parent, reason });
            break;
        }
        match find(&parent, beside) {
            // Shipped files are sound, as a test shows: below broken syntax they have nothing to add.
            Ok((_, _, true)) if !files.sound() => break,
            Ok((next_name, next_text, shipped)) => {
                (name, text) = (next_name, next_text);
                if shipped {
                    first_shipped = first_shipped.min(chain.len());
                }
            }
            Err(reason) => {
                files.problem(spot, Problem::Inherits { parent, reason });
                break;
            }
        }
        names.push(parent);
    }
    // Without the whole chain or with broken syntax, what the sections would say is noise.
    if !files.sound() {
        return Err(files.into_errors());
    }
    let base = chain.last().and_then(|base| base.find(&["unit", "name"])).cloned();
    let mut tree = Table::default();
    for table in chain.into_iter().rev() {
        tree.merge(table);
    }
    if purpose == Purpose::Unit {
        sections::name_of_its_own(&mut files, &tree, first_shipped, base.as_ref());
    }
    match sections::config(&mut files, &tree, folder) {
        Some(config) if files.sound() => Ok(config),
        _ => Err(files.into_errors()),
    }
}

/// What a file inherits from, if it says so.
fn parent_of(files: &mut Files, table: &Table) -> Option<(String, Spot)> {
    let (_, node) = table.0.get("inherits")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match &node.value {
        Value::Text(name) if (1..=MAX_PARENT_BYTES).contains(&name.len()) && name.chars().all(fits) => {
            Some((name.clone(), node.spot))
        }
        _ => {
            let (key, value) = ("inherits".to_owned(), files.quote(node.spot));
            let wanted = "a name without folder or suffix, such as \"bench-x86_64\",".to_owned();
            files.problem(node.spot, Problem::Wanted { key, value, wanted });
            None
        }
    }
}

/// Finds the parent called `name`: beside the user's file, else among those shipped (then with true). `base` is always the
/// shipped one, so that a default is what its documentation says.
fn find(name: &str, beside: Option<&Path>) -> Result<(String, String, bool), String> {
    if name != BASE
        && let Some(path) = beside.map(|folder| folder.join(format!("{name}.toml")))
        && path.is_file()
    {
        let text = read_file(&path).map_err(|problem| format!("names {}, which {problem}", path.display()))?;
        return Ok((path.display().to_string(), text, false));
    }
    match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        Some((_, text)) => Ok((format!("{name}.toml"), (*text).to_owned(), true)),
        None => {
            let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            Err(format!("names neither a file beside this one nor a shipped board ({})", shipped.join(", ")))
        }
    }
}
