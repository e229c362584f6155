//! What a start of the daemon needs before it starts anything: the configuration, with an update where one is installed, and all
//! that can be refused because of it.
//!
//! An update whose configuration or models do not load is fallen back from here, in the same start: the unit records with what was
//! confirmed before, or with its own configuration.

use std::path::PathBuf;

use agent_drive::{DriveInfo, DriveReader, IdFilter, SignalMap};
use agent_models::{Detector, RiskHead};
use agent_update::{Claim, Slot, Store};

use super::live;
use crate::cli::RunArgs;
use crate::config::types::SourceKind;
use crate::config::{Config, Purpose};
use crate::convert;
use crate::exit::{bad_config, bad_input};
use crate::io::camera::Camera;
use crate::io::power_mode;
use crate::show::say;
use crate::student::{DeskThread, StudentLink};
use crate::updates;

/// See the module.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) detector: Option<Detector>,
    pub(super) head: Option<RiskHead>,
    pub(super) student: Option<(StudentLink, DeskThread)>,
    pub(super) camera: Option<Box<dyn Camera + Send>>,
    pub(super) drives: Vec<(PathBuf, DriveInfo)>,
    pub(super) signals: Option<SignalMap>,
    pub(super) filters: Option<Vec<IdFilter>>,
    /// Where the unit takes updates.
    pub(super) updates: Option<Updates>,
}

/// The updates of this start.
pub(super) struct Updates {
    pub(super) store: Store,
    /// What this start uses.
    pub(super) slot: Option<Slot>,
    /// Whether it names other brokers than what was confirmed.
    pub(super) other_brokers: bool,
    /// No other daemon uses them.
    _claim: Claim,
}

/// Everything that a start needs; `None` when it was told to stop while it waited for the ignition.
pub(super) fn prepare(args: &RunArgs) -> anyhow::Result<Option<Prepared>> {
    let own = crate::config::load(&args.config, Purpose::Unit).map_err(bad_config)?;
    let claimed = claim(&own);
    // The wait goes by what worked before, and a start counts from the ignition on.
    let before = claimed.as_ref().and_then(|(store, _)| confirmed(args, store)).unwrap_or_else(|| own.clone());
    if !live::ignition(&before, args.stop_after_s) {
        return Ok(None);
    }
    let Some((store, claim)) = claimed else { return open(args, own).map(Some) };
    let (slot, mut prepared) = with_update(args, &store, own)?;
    let other_brokers = prepared.config.link.all_brokers() != before.link.all_brokers();
    prepared.updates = Some(Updates { store, slot, other_brokers, _claim: claim });
    Ok(Some(prepared))
}

/// The updates of a unit that takes some. What is wrong with their folder keeps nothing from recording.
fn claim(own: &Config) -> Option<(Store, Claim)> {
    if own.updates.keys.is_empty() {
        return None;
    }
    let claimed = updates::store(own).map_err(anyhow::Error::from).and_then(|store| {
        let claim = store.claim_run()?;
        Ok((store, claim))
    });
    let (store, claim) = claimed.inspect_err(|error| say!("no update is used: {error:#}")).ok()?;
    // Nothing is in use yet.
    store.clean();
    Some((store, claim))
}

/// The configuration with the confirmed update.
fn confirmed(args: &RunArgs, store: &Store) -> Option<Config> {
    let sequence = store.record().ok()?.confirmed;
    let slot = (sequence > 0).then(|| store.open(sequence).ok()).flatten()?;
    updates::config_of(&args.config, &slot).ok()
}

/// With the update on trial, else the confirmed one, else that before it, else the unit's own configuration: the first that loads.
fn with_update(args: &RunArgs, store: &Store, own: Config) -> anyhow::Result<(Option<Slot>, Prepared)> {
    let mut failed = Vec::new();
    loop {
        let chosen = store.choose(&failed);
        chosen.said.iter().for_each(|words| say!("{words}"));
        let Some(slot) = chosen.slot else { return Ok((None, open(args, own)?)) };
        let sequence = slot.manifest.sequence;
        match updates::config_of(&args.config, &slot).and_then(|config| open(args, config)) {
            Ok(prepared) => {
                let trial =
                    slot.trial.map(|t| format!(" on trial, start {} of {}", t.starts, own.updates.trial_starts));
                say!("update {sequence} is used{}", trial.unwrap_or_default());
                return Ok((Some(slot), prepared));
            }
            Err(error) if slot.trial.is_some() => say!("{}", store.fall_back(sequence, &format!("{error:#}"))),
            Err(error) => say!("update {sequence} is not used: {error:#}"),
        }
        // At most three: on trial, confirmed, before.
        failed.push(sequence);
    }
}

/// What a configuration makes.
fn open(args: &RunArgs, mut config: Config) -> anyhow::Result<Prepared> {
    if let Some(model) = &args.student {
        config.student.model = Some(std::path::absolute(model)?);
    }
    let detector = convert::detector(&config)?;
    let live = config.sources.kind == SourceKind::Device;
    if let Some(words) =
        config.unit.power_mode.as_ref().filter(|_| live).and_then(|mode| power_mode::remark(mode.as_str()))
    {
        say!("{words}; `doctor` says what to do");
    }
    let camera = if live { live::open_camera(&config)? } else { None };
    let drives = if live { Vec::new() } else { open_drives(&config)? };
    // Refused here, a DBC costs no start and tells the fleet nothing.
    let signals = convert::signal_map(&config)?;
    let filters = if live { live::can_filters(&config, signals.as_ref())? } else { None };
    let head = convert::risk_head(&config, detector.is_some())?;
    let student = crate::student::pair(&config)?;
    Ok(Prepared { config, detector, head, student, camera, drives, signals, filters, updates: None })
}

/// Every configured drive can be opened, before anything starts.
fn open_drives(config: &Config) -> anyhow::Result<Vec<(PathBuf, DriveInfo)>> {
    let paths = config.sources.drives.iter().map(|p| config.resolve(p));
    let drives: Vec<_> = paths
        .map(|path| DriveReader::open(&path).map(|r| (path, r.info().clone())))
        .collect::<Result<_, _>>()
        .map_err(bad_input)?;
    if drives.is_empty() {
        return Err(bad_config("sources.drives names no drive"));
    }
    Ok(drives)
}
