//! The outbox on disk: one redb file, on any [`Disk`]. What [`Store::commit`] returned from is durable.
//!
//! Layout: table `outbox` from key to record; table `meta` for counters; table `owed` from event to the alert of one that was not
//! reported yet. A record is version 1, class, crash flag,
//! message kind, creation as Unix milliseconds (little endian), then the encoded message as it goes out.
//!
//! A file that cannot be read is set aside under another name and a fresh one is begun; [`Opened`] says so. The boot
//! counter also stands in a small text file beside the store, because event ids must not come again when the store
//! is lost: the fleet would drop a new crash as a duplicate. So do the counters of commands, which must not be taken twice.
//!
//! It decides nothing about what is kept: see [`agent_core::outbox`].

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use agent_core::outbox::Class;
use agent_disk::{Disk, DiskFile, How, RealDisk, folder_of};
use agent_wire::limits::MESSAGE_BYTES;
use agent_wire::{Alert, MessageKind};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::limits::{COUNTERS, SET_ASIDE, STORE_CACHE_BYTES};
use crate::owed::{Change, Owed};

const OUTBOX: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("outbox");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const OWED: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("owed");
const BOOT: &str = "boot";
const COMMAND: &str = "command";
/// Largest file of counters, bytes: a line each.
const COUNTERS_BYTES: u64 = 4096;
const RECORD_VERSION: u8 = 1;
const HEADER: usize = 12;

/// One message as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Key given by the outbox.
    pub key: u64,
    /// What it is.
    pub class: Class,
    /// Whether it belongs to a crash.
    pub crash: bool,
    /// Kind of message: gives the topic.
    pub kind: MessageKind,
    /// Unix time of storing, milliseconds, by whatever clock the unit had.
    pub created_unix_ms: u64,
    /// The encoded message.
    pub payload: Vec<u8>,
}

/// What was found when the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Messages that wait, by key.
    pub waiting: Vec<Stored>,
    /// Where an unreadable store was moved, and why.
    pub set_aside: Option<(PathBuf, String)>,
    /// Records that are no messages: left on disk, never sent.
    pub unreadable: usize,
    /// The latest alert of each event that earlier starts told of and did not report, oldest first.
    pub owed: Vec<Alert>,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("store {}: another process has it open", .0.display())]
    InUse(PathBuf),
    /// The database failed.
    #[error("store {}: {source}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What redb says.
        source: Box<redb::Error>,
    },
    /// A file operation failed.
    #[error("store file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether it is the disk that fails, and not that something else stands in the store's place.
    #[must_use]
    pub fn disk_fails(&self) -> bool {
        match self {
            Self::InUse(_) => false,
            Self::File { source, .. } => is_of_disk(source),
            Self::Database { source, .. } => match &**source {
                redb::Error::Io(error) => is_of_disk(error),
                redb::Error::PreviousIo => true,
                _ => false,
            },
        }
    }
}

/// Whether an error is that of a disk that is full, read-only or failing.
#[must_use]
pub fn is_of_disk(error: &io::Error) -> bool {
    /// Linux's number of an error of input or output.
    const EIO: i32 = 5;
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    ) || error.raw_os_error() == Some(EIO)
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` between a failure and [`Store::reopen`].
    db: Option<Database>,
    /// Boot counter that survived, or a floor for it.
    boot: u32,
    /// Highest counters of accepted commands, by name.
    commands: BTreeMap<String, u64>,
    /// Events without a report.
    owed: Owed,
    /// Whether what is on disk has been read: if not, it must not be replaced.
    known: bool,
    /// Records that are no messages were found: the file stays, under another name.
    foreign: bool,
}

impl Store {
    /// Opens or creates the store and reads what waits in it.
    ///
    /// # Errors
    /// In use by another process, or the disk fails. An unreadable file is no error: see [`Opened::set_aside`].
    pub fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        Self::open_on(Arc::new(RealDisk), path)
    }

    /// The same on another disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path) -> Result<(Self, Opened), StoreError> {
        let mut set_aside = None;
        make(&*disk, path)?;
        let (db, loaded) = match open_and_load(&*disk, path) {
            Ok(found) => found,
            Err(Failure::Unreadable(why)) => {
                let aside = aside_name(&*disk, path);
                disk.rename(path, &aside).map_err(|e| file_error(path, e))?;
                set_aside = Some((aside, why));
                make(&*disk, path)?;
                open_and_load(&*disk, path).map_err(|f| f.into_error(path))?
            }
            Err(failure) => return Err(failure.into_error(path)),
        };
        let mut boot = loaded.boot.max(read_boot_file(&*disk, path).unwrap_or(0));
        if boot == 0 && set_aside.is_some() {
            boot = boot_floor();
        }
        let foreign = loaded.unreadable > 0;
        let mut commands = read_counters(&*disk, path);
        for (name, counter) in loaded.commands {
            let known = commands.entry(name).or_default();
            *known = counter.max(*known);
        }
        let (owed, path) = (loaded.owed.alerts(), path.to_owned());
        let store = Self { disk, path, db: Some(db), boot, commands, owed: loaded.owed, known: true, foreign };
        Ok((store, Opened { waiting: loaded.waiting, set_aside, unreadable: loaded.unreadable, owed }))
    }

    /// A store whose disk does not work at the start: every commit fails until [`Store::reopen`] has found it working. The number of
    /// this start is drawn at random from a range that no counter reaches: event ids must not come again, and no clock can be trusted.
    #[must_use]
    pub fn without_disk(disk: Arc<dyn Disk>, path: &Path) -> Self {
        let drawn = RandomState::new().build_hasher().finish();
        let boot = (1 << 31) | (drawn as u32 >> 1);
        let (commands, owed) = (BTreeMap::new(), Owed::default());
        Self { disk, path: path.to_owned(), db: None, boot, commands, owed, known: false, foreign: false }
    }

    /// The number of this start, as [`Store::next_boot`] or [`Store::without_disk`] made it.
    #[must_use]
    pub const fn boot(&self) -> u32 {
        self.boot
    }

    /// Counts this start of the agent, durably, and returns the number, from 1.
    ///
    /// # Errors
    /// It could not be written: then event ids would not be unique.
    pub fn next_boot(&mut self) -> Result<u32, StoreError> {
        let boot = self.boot.saturating_add(1);
        // The text file first: it is the one that survives the loss of the store.
        let file = boot_file(&self.path);
        self.disk.replace(&file, format!("{boot}\n").as_bytes()).map_err(|e| file_error(&file, e))?;
        self.transact(&Batch { meta: &[(BOOT, u64::from(boot))], ..Batch::default() })?;
        self.boot = boot;
        Ok(boot)
    }

    /// Highest counter of accepted commands of that name, which begins with `command`; 0 if there was none.
    #[must_use]
    pub fn command_counter(&self, name: &str) -> u64 {
        self.commands.get(name).copied().unwrap_or(0)
    }

    /// All of them.
    pub(crate) const fn command_counters(&self) -> &BTreeMap<String, u64> {
        &self.commands
    }

    /// Keeps the counter of an accepted command, durably, in the store and beside it: a store that is lost brings no command back.
    ///
    /// # Errors
    /// It could not be written, or there are too many names. Then the command must not be carried out.
    pub fn set_command_counter(&mut self, name: &str, counter: u64) -> Result<(), StoreError> {
        let file = counters_file(&self.path);
        if !self.commands.contains_key(name) && self.commands.len() >= COUNTERS {
            return Err(file_error(&file, io::Error::other("holds as many counters as it may")));
        }
        let mut commands = self.commands.clone();
        commands.insert(name.to_owned(), counter);
        let text: String = commands.iter().map(|(name, counter)| format!("{name} {counter}\n")).collect();
        self.disk.replace(&file, text.as_bytes()).map_err(|e| file_error(&file, e))?;
        self.transact(&Batch { meta: &[(name, counter)], ..Batch::default() })?;
        self.commands = commands;
        Ok(())
    }

    /// Stores and deletes in one durable transaction: one sync of the disk, whatever the number of messages.
    ///
    /// # Errors
    /// The disk failed: nothing of it happened, and the store must be reopened.
    pub fn commit(&mut self, puts: &[&Stored], deletes: &[u64]) -> Result<(), StoreError> {
        // Noted even if it fails: the caller keeps the messages, and they come with the store that is made anew.
        let owed = self.owed.note(puts);
        self.transact(&Batch { puts, deletes, owed: &owed, ..Batch::default() })
    }

    /// Whether the last operation left the store usable.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.db.is_some()
    }

    /// Makes the store anew after a failure, from everything that waits: another file, synced, in place of the old one. The old one
    /// cannot be gone on with: after a failed sync the kernel takes pages for written that never reached the disk.
    ///
    /// A store that could not be read at the start is opened instead, and gives what waits in it.
    ///
    /// # Errors
    /// It still fails; the old file is as it was.
    pub fn reopen<'a>(&mut self, waiting: impl Iterator<Item = &'a Stored>) -> Result<Option<Opened>, StoreError> {
        self.db = None;
        if !self.known {
            self.disk.make_folder(folder_of(&self.path)).map_err(|e| file_error(&self.path, e))?;
            let (found, opened) = Self::open_on(Arc::clone(&self.disk), &self.path)?;
            // This start keeps the number that it has.
            let owed = std::mem::take(&mut self.owed);
            *self = Self { boot: self.boot, ..found };
            self.owed.join(owed);
            return Ok(Some(opened));
        }
        let new = beside(&self.path, ".new");
        let waiting: Vec<&Stored> = waiting.collect();
        match self.build(&new, &waiting) {
            Ok(db) => self.db = Some(db),
            Err(error) => {
                // Its room is given back; when that fails it is made over next time.
                let _ = self.disk.remove(&new);
                return Err(error);
            }
        }
        Ok(None)
    }

    /// A whole store under another name, then under its own.
    fn build(&self, new: &Path, waiting: &[&Stored]) -> Result<Database, StoreError> {
        let disk = &*self.disk;
        disk.open(new, How::Create).map(drop).map_err(|e| file_error(new, e))?;
        let (db, _) = open_and_load(disk, new).map_err(|f| f.into_error(new))?;
        let counters = self.commands.iter().map(|(name, counter)| (name.as_str(), *counter));
        let meta: Vec<(&str, u64)> = core::iter::once((BOOT, u64::from(self.counted()))).chain(counters).collect();
        let batch = Batch { puts: waiting, meta: &meta, owed: &self.owed.whole(), ..Batch::default() };
        write_guarded(&db, &batch).map_err(|e| database_error(new, e))?;
        if self.foreign {
            disk.rename(&self.path, &aside_name(disk, &self.path)).map_err(|e| file_error(&self.path, e))?;
        }
        disk.rename(new, &self.path).map_err(|e| file_error(&self.path, e))?;
        let folder = folder_of(&self.path);
        disk.sync_folder(folder).map_err(|e| file_error(folder, e))?;
        Ok(db)
    }

    /// The count of starts: a number that was drawn is none.
    fn counted(&self) -> u32 {
        if self.boot < 1 << 31 { self.boot } else { read_boot_file(&*self.disk, &self.path).unwrap_or(0) }
    }

    /// Closes the file as a failing disk would, for tests.
    #[cfg(test)]
    pub(crate) fn break_for_test(&mut self) {
        self.db = None;
    }

    fn transact(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let Some(db) = &self.db else {
            return Err(database_error(&self.path, StorageError::DatabaseClosed.into()));
        };
        let Err(error) = write_guarded(db, batch) else { return Ok(()) };
        self.db = None;
        Err(database_error(&self.path, error))
    }
}

/// What one transaction changes.
#[derive(Clone, Copy, Default)]
struct Batch<'a> {
    puts: &'a [&'a Stored],
    deletes: &'a [u64],
    meta: &'a [(&'a str, u64)],
    owed: &'a [Change],
}

/// redb asserts its invariants: a panic over a damaged file must not take the link down.
fn write_guarded(db: &Database, batch: &Batch<'_>) -> Result<(), redb::Error> {
    catch_unwind(AssertUnwindSafe(|| write(db, batch)))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("redb panicked while it wrote".to_owned())))
}

fn write(db: &Database, batch: &Batch<'_>) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    {
        let mut outbox = transaction.open_table(OUTBOX)?;
        for stored in batch.puts {
            outbox.insert(stored.key, encode_record(stored).as_slice())?;
        }
        for key in batch.deletes {
            outbox.remove(key)?;
        }
        let mut table = transaction.open_table(META)?;
        for (name, value) in batch.meta {
            table.insert(*name, *value)?;
        }
        let mut table = transaction.open_table(OWED)?;
        for (event, alert) in batch.owed {
            match alert {
                Some(payload) => table.insert(event.as_str(), payload.as_slice())?,
                None => table.remove(event.as_str())?,
            };
        }
    }
    // redb's default durability: synced when it returns.
    transaction.commit()?;
    Ok(())
}

/// A file of ours as redb wants it. The lock was taken when it was opened and goes with it.
#[derive(Debug)]
struct Backend(Box<dyn DiskFile>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

#[derive(Default)]
struct Loaded {
    waiting: Vec<Stored>,
    unreadable: usize,
    boot: u32,
    commands: BTreeMap<String, u64>,
    owed: Owed,
}

enum Failure {
    InUse,
    Unreadable(String),
    Failed(redb::Error),
}

impl Failure {
    fn into_error(self, path: &Path) -> StoreError {
        match self {
            Self::InUse => StoreError::InUse(path.to_owned()),
            Self::Unreadable(why) => database_error(path, redb::Error::Corrupted(why)),
            Self::Failed(error) => database_error(path, error),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(e) if !matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Self::Failed(redb::Error::Io(e))
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => Self::Failed(error),
            // Corrupted, an old format, a table of other types: reading it again will not help.
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// Makes an empty store where there is none, under another name first: a file with the store's name is always whole, even if
/// the power goes while it is made.
fn make(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    if disk.exists(path) {
        return Ok(());
    }
    let new = beside(path, ".new");
    let made = disk.open(&new, How::Create).map_err(|e| file_error(&new, e))?;
    drop(made);
    let (db, _) = open_and_load(disk, &new).map_err(|f| f.into_error(&new))?;
    drop(db);
    let folder = folder_of(path);
    disk.rename(&new, path).map_err(|e| file_error(path, e))?;
    disk.sync_folder(folder).map_err(|e| file_error(folder, e))
}

fn open_and_load(disk: &dyn Disk, path: &Path) -> Result<(Database, Loaded), Failure> {
    let file = disk.open(path, How::OpenOrCreate).map_err(|e| Failure::from(redb::Error::Io(e)))?;
    if !file.try_lock().map_err(|e| Failure::from(redb::Error::Io(e)))? {
        return Err(Failure::InUse);
    }
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = redb::Builder::new().set_cache_size(STORE_CACHE_BYTES).create_with_backend(Backend(file));
        let db = db.map_err(|e: DatabaseError| redb::Error::from(e))?;
        write(&db, &Batch::default())?; // makes the tables, and shows now whether the disk takes writes
        let loaded = load(&db)?;
        Ok::<_, redb::Error>((db, loaded))
    }));
    match opened {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::Unreadable("redb panicked while it read".to_owned())),
    }
}

fn load(db: &Database) -> Result<Loaded, redb::Error> {
    let transaction = db.begin_read()?;
    let mut loaded = Loaded::default();
    for row in transaction.open_table(OUTBOX)?.iter()? {
        let (key, record) = row?;
        match decode_record(key.value(), record.value()) {
            Some(stored) => loaded.waiting.push(stored),
            None => loaded.unreadable += 1,
        }
    }
    for row in transaction.open_table(OWED)?.iter()? {
        let (event, payload) = row?;
        loaded.owed.load(event.value(), payload.value());
    }
    let meta = transaction.open_table(META)?;
    let number = |name: &str| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |v| v.value()));
    loaded.boot = u32::try_from(number(BOOT)?).unwrap_or(u32::MAX);
    for row in meta.iter()? {
        let (name, counter) = row?;
        if name.value().starts_with(COMMAND) && loaded.commands.len() < COUNTERS {
            loaded.commands.insert(name.value().to_owned(), counter.value());
        }
    }
    Ok(loaded)
}

fn encode_record(stored: &Stored) -> Vec<u8> {
    let class = match stored.class {
        Class::Alert => 0,
        Class::Report => 1,
        Class::Other => 2,
    };
    let mut out = Vec::with_capacity(HEADER + stored.payload.len());
    out.extend([RECORD_VERSION, class, u8::from(stored.crash), stored.kind as u8]);
    out.extend(stored.created_unix_ms.to_le_bytes());
    out.extend(&stored.payload);
    out
}

fn decode_record(key: u64, record: &[u8]) -> Option<Stored> {
    let (header, payload) = record.split_first_chunk::<HEADER>()?;
    let [version, class, crash, kind, created @ ..] = *header;
    if version != RECORD_VERSION || crash > 1 || payload.is_empty() || payload.len() > MESSAGE_BYTES {
        return None;
    }
    let class = [Class::Alert, Class::Report, Class::Other].get(usize::from(class)).copied()?;
    let kind = MessageKind::ALL.into_iter().find(|k| *k as u8 == kind)?;
    let created_unix_ms = u64::from_le_bytes(created);
    Some(Stored { key, class, crash: crash == 1, kind, created_unix_ms, payload: payload.to_vec() })
}

fn database_error(path: &Path, source: redb::Error) -> StoreError {
    StoreError::Database { path: path.to_owned(), source: Box::new(source) }
}

fn file_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The first free name, or the last one.
fn aside_name(disk: &dyn Disk, path: &Path) -> PathBuf {
    let name = |n: u32| beside(path, &format!(".unreadable-{n}"));
    (1..SET_ASIDE).map(name).find(|p| !disk.exists(p)).unwrap_or_else(|| name(SET_ASIDE))
}

fn boot_file(path: &Path) -> PathBuf {
    beside(path, ".boot")
}

fn read_boot_file(disk: &dyn Disk, path: &Path) -> Option<u32> {
    std::str::from_utf8(&disk.read(&boot_file(path), 64).ok()?).ok()?.trim().parse().ok()
}

fn counters_file(path: &Path) -> PathBuf {
    beside(path, ".commands")
}

/// A line each: name and number. What is no such line is passed over.
fn read_counters(disk: &dyn Disk, path: &Path) -> BTreeMap<String, u64> {
    let bytes = disk.read(&counters_file(path), COUNTERS_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let counters = lines.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
    counters.filter(|(name, _)| name.starts_with(COMMAND)).take(COUNTERS).collect()
}

/// With both counters lost, minutes of Unix time: above any counter that starts ever reached, and growing.
fn boot_floor() -> u32 {
    u32::try_from(unix_ms() / 60_000).unwrap_or(u32::MAX - 1)
}

/// Unix time by the system's clock, milliseconds; 0 before 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
