//! `update`: makes a signed update, shows one, installs one, says which are installed, takes one back.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent_update::limits::{MAX_CONFIG_BYTES, PIECE_BYTES};
use agent_update::{Digest, Entry, Head, Manifest, Role, UpdateError, Version, file};
use agent_wire::UnitId;
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::{UpdateArgs, UpdateCommand, UpdateMakeArgs};
use crate::config::{Config, Purpose};
use crate::exit::{Coded, Outcome, bad_config, bad_input, usage};
use crate::show::{put, say};
use crate::updates;

pub(crate) fn update(args: &UpdateArgs) -> anyhow::Result<Outcome> {
    match &args.command {
        UpdateCommand::Make(args) => make(args),
        UpdateCommand::Show { file, key } => show(file, key.as_deref()),
        UpdateCommand::Install { file, config } => install(file, config),
        UpdateCommand::Status { config } => status(config),
        UpdateCommand::Rollback { config } => roll_back(config),
    }
}

/// A file of an update that is being made.
struct Part {
    role: Role,
    path: PathBuf,
}

fn make(args: &UpdateMakeArgs) -> anyhow::Result<Outcome> {
    let name = |what: &str, text: &str| UnitId::new(text).map_err(|e| usage(format!("--{what} {text}: {e}")));
    let min_agent = match &args.min_agent {
        None => updates::version(),
        Some(text) => {
            Version::parse(text).ok_or_else(|| usage(format!("--min-agent {text}: not MAJOR.MINOR.PATCH")))?
        }
    };
    let found = agent_keys::load(&args.key).map_err(|e| bad_input(format!("{}: {e}", args.key.display())))?;
    if found.open_to_others {
        say!("{} can be read by others than its owner: `chmod 600` it", args.key.display());
    }
    let parts = parts(args)?;
    let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let manifest = Manifest {
        fleet: name("fleet", &args.fleet)?,
        units: args.unit.iter().map(|unit| name("unit", unit)).collect::<Result<_, _>>()?,
        sequence: args.sequence,
        made_unix_ms: u64::try_from(made.as_millis()).unwrap_or(u64::MAX),
        min_agent,
        files: parts.iter().map(entry).collect::<Result<_, _>>()?,
    };
    let head = Head::make(&found.key, &manifest).map_err(bad_input)?;
    let shown = args.out.display();
    let mut out = File::create_new(&args.out).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    let mut open = |i: usize| -> std::io::Result<Box<dyn std::io::Read>> {
        let part = parts.get(i).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(&part.path)?))
    };
    let written = file::write(&mut out, &head, &manifest, &mut open).map_err(anyhow::Error::from);
    if let Err(error) = written.and_then(|()| Ok(out.sync_all()?)) {
        // Half of one is nobody's use; if it cannot be removed, the error is said all the same.
        let _ = std::fs::remove_file(&args.out);
        return Err(error.context(format!("making {shown}")));
    }
    let bytes = head.size() + manifest.bytes();
    put!(
        "{}",
        json!({"file": shown.to_string(), "bytes": bytes, "key_id": head.key().id().to_string(), "update": manifest})
    )?;
    Ok(Outcome::Done)
}

/// The files of an update in the order that it has them. What can be judged here is: a broken one is better refused now.
fn parts(args: &UpdateMakeArgs) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut add = |role: Role, path: &Path| parts.push(Part { role, path: path.to_owned() });
    if let Some(path) = &args.config {
        let shown = path.display();
        let mut text = String::new();
        let file = File::open(path).map_err(|e| bad_input(format!("{shown}: {e}")))?;
        // One byte more is refused with the head's other rules.
        file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(|e| bad_input(format!("{shown}: {e}")))?;
        crate::config::check_layer(&shown.to_string(), &text).map_err(bad_input)?;
        add(Role::Config, path);
    }
    if let Some(path) = &args.trigger {
        agent_models::Detector::load(path).map_err(bad_input)?;
        add(Role::Trigger, path);
        add_network(&mut add, path)?;
    }
    if let Some(path) = &args.risk_head {
        agent_models::RiskHead::load(path).map_err(bad_input)?;
        add(Role::RiskHead, path);
        add_network(&mut add, path)?;
    }
    for (role, path) in
        [(Role::Student, &args.student), (Role::SmallStudent, &args.small_student), (Role::Dbc, &args.dbc)]
    {
        path.iter().for_each(|path| add(role, path));
    }
    args.file.iter().for_each(|path| add(Role::File, path));
    Ok(parts)
}

/// Adds the network that a manifest names, beside it, and its probe file.
fn add_network(add: &mut impl FnMut(Role, &Path), manifest: &Path) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Named {
        file: String,
    }
    let text = crate::convert::read_text(manifest)?;
    let named: Named = toml::from_str(&text).map_err(|e| bad_input(format!("{}: {e}", manifest.display())))?;
    let network = manifest.with_file_name(named.file);
    add(Role::File, &network);
    let probe = agent_models::probe_file_beside(&network);
    if probe.exists() {
        add(Role::File, &probe);
    } else {
        say!(
            "{}: there is no {}: units whose program is built without tract will refuse it; `firmware-agent models probe {}` makes it",
            network.display(),
            probe.display(),
            manifest.display()
        );
    }
    Ok(())
}

fn entry(part: &Part) -> anyhow::Result<Entry> {
    let shown = part.path.display();
    let unreadable = |e: &dyn std::fmt::Display| bad_input(format!("{shown}: {e}"));
    let name = part.path.file_name().and_then(|n| n.to_str()).ok_or_else(|| unreadable(&"not a name in UTF-8"))?;
    let mut from = File::open(&part.path).map_err(|e| unreadable(&e))?;
    let bytes = from.metadata().map_err(|e| unreadable(&e))?.len();
    let sha256: Digest = file::stream(&mut from, name, bytes, &mut |_| Ok(())).map_err(|e| unreadable(&e))?;
    Ok(Entry { role: part.role, name: name.to_owned(), bytes, sha256 })
}

/// An update under way: its reader and its length.
fn open(path: &Path) -> anyhow::Result<(BufReader<File>, u64)> {
    let unreadable = |e: std::io::Error| bad_input(format!("{}: {e}", path.display()));
    let from = File::open(path).map_err(unreadable)?;
    let len = from.metadata().map_err(unreadable)?.len();
    Ok((BufReader::with_capacity(PIECE_BYTES, from), len))
}

/// An error with the update's name, and the code that it stands for.
fn refused(path: &Path, error: &UpdateError) -> anyhow::Error {
    let outcome = match error {
        error if error.is_of_trust() => Outcome::NotVouched,
        UpdateError::Disk { .. } | UpdateError::NoRoom { .. } | UpdateError::Busy(_) | UpdateError::Damaged(_) => {
            Outcome::Failed
        }
        _ => Outcome::BadInput,
    };
    Coded(outcome, format!("{}: {error}", path.display())).into()
}

fn show(path: &Path, key: Option<&str>) -> anyhow::Result<Outcome> {
    let wanted = key.map(agent_keys::read_public).transpose();
    let wanted = wanted.map_err(|e| bad_input(format!("--key {}: {e}", key.unwrap_or_default())))?;
    let (mut from, _) = open(path)?;
    let head = Head::read(&mut from).map_err(|e| refused(path, &e))?;
    // Without a key to hold it against, by the one that it names itself: anybody can make such a file.
    let manifest = head.judge(&[wanted.unwrap_or(head.key())]).map_err(|e| refused(path, &e))?;
    file::verify(&mut from, &manifest).map_err(|e| refused(path, &e))?;
    let value = json!({
        "file": path.display().to_string(), "intact": true, "key": head.key().to_string(),
        "key_id": head.key().id().to_string(), "key_compared": wanted.map(|key| key.to_string()), "update": manifest,
    });
    put!("{value}")?;
    Ok(Outcome::Done)
}

fn load(config: &Path) -> anyhow::Result<Config> {
    crate::config::load(config, Purpose::Unit).map_err(bad_config)
}

fn install(path: &Path, own: &Path) -> anyhow::Result<Outcome> {
    let config = load(own)?;
    let store = updates::store(&config)?;
    let dir = updates::folder(&config)?;
    belongs_to_us(&dir)?;
    let there = above(&dir);
    let free = rustix::fs::statvfs(there).ok().map(|v| v.f_bavail.saturating_mul(v.f_frsize));
    let (mut from, len) = open(path)?;
    let judge = &mut |manifest: &Manifest, folder: &Path, layer: Option<&[u8]>| {
        updates::config_with(own, manifest, folder, layer).map(drop)
    };
    let manifest = store.install(&mut from, len, free, judge).map_err(|e| refused(path, &e))?;
    put!("{}", json!({"installed": manifest.sequence, "bytes": manifest.bytes(), "on_trial_from": "the next start"}))?;
    Ok(Outcome::Done)
}

/// The folder, or what of the way to it is there.
fn above(dir: &Path) -> &Path {
    dir.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"))
}

/// What is written here the daemon must be able to change: only who owns the folder may write to it.
fn belongs_to_us(dir: &Path) -> anyhow::Result<()> {
    let (Ok(folder), Ok(process)) = (std::fs::metadata(above(dir)), std::fs::metadata("/proc/self")) else {
        return Ok(());
    };
    if folder.uid() == process.uid() {
        return Ok(());
    }
    Err(usage(format!(
        "{} belongs to user {}: run this as that user (`sudo -u firmware-agent firmware-agent update ...`)",
        dir.display(),
        folder.uid()
    )))
}

fn status(own: &Path) -> anyhow::Result<Outcome> {
    put!("{}", state(&load(own)?)?)?;
    Ok(Outcome::Done)
}

/// What is installed and used.
pub(crate) fn state(config: &Config) -> anyhow::Result<Value> {
    let (store, dir) = (updates::store(config)?, updates::folder(config)?);
    let record = store.record().with_context(|| dir.display().to_string())?;
    let slots: Vec<Value> = store
        .slots()
        .into_iter()
        .map(|sequence| match store.open(sequence) {
            Ok(slot) => json!({"sequence": sequence, "whole": true, "update": slot.manifest}),
            Err(why) => json!({"sequence": sequence, "whole": false, "why": why.to_string()}),
        })
        .collect();
    Ok(json!({
        "dir": dir.display().to_string(),
        "keys": config.updates.keys.iter().map(|key| key.id().to_string()).collect::<Vec<_>>(),
        "highest": record.highest,
        "confirmed": record.confirmed,
        "before": record.before,
        "trial": record.trial,
        "fell_back": record.fell,
        "came": record.came,
        "slots": slots,
    }))
}

fn roll_back(own: &Path) -> anyhow::Result<Outcome> {
    let config = load(own)?;
    let dir = updates::folder(&config)?;
    belongs_to_us(&dir)?;
    let (from, to) = updates::store(&config)?.take_back().map_err(|e| refused(&dir, &e))?;
    let used = if to == 0 { "the unit's own configuration alone".to_owned() } else { format!("update {to}") };
    say!("{used} is used from the next start of the agent on");
    put!("{}", json!({"from": from, "to": to}))?;
    Ok(Outcome::Done)
}
