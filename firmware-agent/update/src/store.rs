//! The updates of a unit: its folder of slots and the record. Everything durable goes through a [`Disk`].
//!
//! | file | what | who holds it |
//! |---|---|---|
//! | `record` | which slot is used | whoever changes it, for a moment, by `record.lock` |
//! | `install.lock` | | an installation, from its beginning to its end |
//! | `run.lock` | | the daemon, while it runs |
//! | `N/` | the slot of sequence N | the record, once it names it |

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_disk::{Disk, DiskFile, How};
use agent_keys::PublicKey;

use crate::UpdateError;
use crate::error::at;
use crate::file::{Head, stream};
use crate::limits::{LOCK_EVERY, LOCK_TRIES, MAX_FOLDERS, MAX_RECORD_BYTES, ROOM_LEFT_BYTES, SYNC_EVERY_BYTES};
use crate::manifest::{Entry, Manifest, Role, Who};
use crate::record::{Came, Record, Started};
use crate::slot::{self, HEAD, Slot};

/// What a unit takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the slots.
    pub dir: PathBuf,
    /// Whose updates are taken: the keys of the unit's own configuration.
    pub keys: Vec<PublicKey>,
    /// Who takes them.
    pub who: Who,
    /// Starts that a slot on trial has.
    pub trial_starts: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    settings: Settings,
}

/// What a start uses, and what is to be said of it.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The slot; without one the unit's own configuration.
    pub slot: Option<Slot>,
    /// In words.
    pub said: Vec<String>,
}

/// A file that is held until this is dropped.
#[derive(Debug)]
pub struct Claim(#[allow(dead_code, reason = "held")] Box<dyn DiskFile>);

/// What the caller says of the configuration and models of an update before it is written: the manifest, the folder that it will
/// have, and its layer of configuration.
pub type Judge<'a> = dyn FnMut(&Manifest, &Path, Option<&[u8]>) -> Result<(), String> + 'a;

impl Store {
    /// On a disk; nothing is touched yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, settings: Settings) -> Self {
        Self { disk, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.settings.dir.join(name)
    }

    pub(crate) fn claim(&self, name: &str, tries: u32) -> Result<Claim, UpdateError> {
        let path = self.path(name);
        let file = self.disk.open(&path, How::OpenOrCreate).map_err(at(&path))?;
        for attempt in 0..tries {
            if file.try_lock().map_err(at(&path))? {
                return Ok(Claim(file));
            }
            if attempt + 1 < tries {
                std::thread::sleep(LOCK_EVERY);
            }
        }
        Err(UpdateError::Busy(path))
    }

    /// Takes the slots for a daemon, until the claim is dropped.
    ///
    /// # Errors
    /// Another daemon has them; the disk's.
    pub fn claim_run(&self) -> Result<Claim, UpdateError> {
        self.disk.make_folder(&self.settings.dir).map_err(at(&self.settings.dir))?;
        // One that was killed may take a moment to be gone.
        self.claim("run.lock", LOCK_TRIES)
    }

    /// The record as it is.
    ///
    /// # Errors
    /// It is damaged; the disk's.
    pub fn record(&self) -> Result<Record, UpdateError> {
        let path = self.path("record");
        match self.disk.read(&path, MAX_RECORD_BYTES) {
            Ok(bytes) => Record::from_bytes(&bytes).ok_or(UpdateError::Damaged(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Err(UpdateError::Damaged(path)),
            Err(source) => Err(UpdateError::Disk { path, source }),
        }
    }

    /// Changes the record, alone. What is given back holds once this returns.
    fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Result<T, UpdateError> {
        let _alone = self.claim("record.lock", LOCK_TRIES)?;
        let before = self.record();
        let mut record = self.known(&before)?;
        let out = change(&mut record);
        // A damaged one is replaced in any case.
        if !before.is_ok_and(|before| before == record) {
            let path = self.path("record");
            self.disk.replace(&path, &record.to_bytes()).map_err(at(&path))?;
        }
        Ok(out)
    }

    /// A record that was read; in place of a damaged one what the slots that are there say: the newest is tried again.
    fn known(&self, read: &Result<Record, UpdateError>) -> Result<Record, UpdateError> {
        match read {
            Ok(record) => return Ok(record.clone()),
            Err(UpdateError::Damaged(_)) => {}
            Err(_) => return self.record(),
        }
        let signed = self.slots().into_iter().filter(|sequence| {
            let folder = slot::folder(&self.settings.dir, *sequence);
            slot::head(&*self.disk, &folder, *sequence, &self.settings.keys).is_ok()
        });
        let mut record = Record::default();
        if let Some(newest) = signed.max() {
            record.switch(newest);
        }
        Ok(record)
    }

    /// Sequences of the folders that are there, rising.
    #[must_use]
    pub fn slots(&self) -> Vec<u64> {
        let folders = self.disk.folders(&self.settings.dir);
        let mut out: Vec<u64> = folders.iter().filter_map(|path| slot::sequence_of(path)).take(MAX_FOLDERS).collect();
        out.sort_unstable();
        out
    }

    /// Judges the slot of a sequence.
    ///
    /// # Errors
    /// It is not whole, not for this unit, or not signed by a key that is configured.
    pub fn open(&self, sequence: u64) -> Result<Slot, UpdateError> {
        Slot::open(&*self.disk, &self.settings.dir, sequence, &self.settings.keys, &self.settings.who)
    }

    /// What a start uses. A start of a slot on trial is counted before this returns; one that is not whole, or has had its starts, is
    /// fallen back from. `without` are those that were tried in this very start.
    #[must_use]
    pub fn choose(&self, without: &[u64]) -> Chosen {
        let mut chosen = Chosen::default();
        match self.change(|record| record.start(self.settings.trial_starts)) {
            // Fallen back from, and the disk did not let it be noted.
            Ok(Started::Trial(trial)) if without.contains(&trial.sequence) => {}
            Ok(Started::Trial(trial)) => match self.open(trial.sequence) {
                Ok(slot) => {
                    chosen.slot = Some(Slot { trial: Some(trial), ..slot });
                    return chosen;
                }
                Err(why) => chosen.said.push(self.fall_back(trial.sequence, &why.to_string())),
            },
            Ok(Started::Confirmed) => {}
            Ok(Started::Fell(sequence, why)) => chosen.said.push(format!("fell back from update {sequence}: {why}")),
            // Without a count that lasts a slot that kills the agent would be tried for ever.
            Err(why) => chosen.said.push(format!("no update is tried in this start: {why}")),
        }
        let Ok(record) = self.record() else { return chosen };
        let before = record.before.filter(|_| record.confirmed > 0);
        for sequence in [Some(record.confirmed), before].into_iter().flatten() {
            if sequence == 0 {
                break;
            }
            if without.contains(&sequence) {
                continue;
            }
            match self.open(sequence) {
                Ok(slot) => {
                    chosen.slot = Some(slot);
                    break;
                }
                Err(why) => chosen.said.push(format!("update {sequence} is not used: {why}")),
            }
        }
        chosen
    }

    /// Falls back from a slot on trial, durably if the disk lets it. In words what came of it.
    #[must_use]
    pub fn fall_back(&self, sequence: u64, why: &str) -> String {
        match self.change(|record| record.fall(sequence, why)) {
            Ok(true) => format!("fell back from update {sequence}: {why}"),
            Ok(false) => format!("update {sequence} is not on trial any more: {why}"),
            Err(error) => format!("update {sequence} does not work ({why}), and that could not be noted: {error}"),
        }
    }

    /// A slot on trial works: from now on it is gone back to. What nothing names any more is taken away. False if it is not on trial
    /// any more.
    ///
    /// # Errors
    /// The disk's; then it is on trial as before.
    pub fn confirm(&self, sequence: u64, came: Came) -> Result<bool, UpdateError> {
        let confirmed = self.change(|record| {
            let confirmed = record.confirm(sequence);
            if confirmed {
                record.came = Some(came);
            }
            confirmed
        })?;
        self.clean();
        Ok(confirmed)
    }

    /// A start with a slot on trial ended in order before it was judged: it does not count.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_back(&self, sequence: u64) -> Result<(), UpdateError> {
        self.change(|record| record.give_back(sequence))
    }

    /// Keeps what came in a start that was well.
    ///
    /// # Errors
    /// The disk's.
    pub fn note(&self, came: Came) -> Result<(), UpdateError> {
        self.change(|record| record.came = Some(came))
    }

    /// Goes back by hand, from the next start on: from the slot on trial, else from the confirmed one to that before it. From which to
    /// which; 0 is the unit's own configuration.
    ///
    /// # Errors
    /// There is nothing to go back to, or that is not whole; the disk's.
    pub fn take_back(&self) -> Result<(u64, u64), UpdateError> {
        let record = self.record()?;
        let to = if record.trial.is_some() { Some(record.confirmed) } else { record.before };
        match to {
            None => return Err(UpdateError::NothingBefore),
            Some(0) => {}
            Some(sequence) => drop(self.open(sequence)?),
        }
        self.change(Record::take_back)?.ok_or(UpdateError::NothingBefore)
    }

    /// Installs an update of `len` bytes: it is used from the next start on. Nothing is written before all of its head and its
    /// configuration are judged. `free` is the room on the disk, bytes.
    ///
    /// # Errors
    /// It is refused, in whichever way; the disk's. Then everything is as before, but for files that the next installation removes.
    pub fn install(
        &self,
        from: &mut dyn Read,
        len: u64,
        free: Option<u64>,
        judge: &mut Judge<'_>,
    ) -> Result<Manifest, UpdateError> {
        let head = Head::read(from)?;
        let manifest = head.judge(&self.settings.keys)?;
        manifest.fits(&self.settings.who)?;
        let says = head.size().saturating_add(manifest.bytes());
        if len > says {
            return Err(UpdateError::Longer(len - says));
        }
        if len < says {
            return Err(UpdateError::Cut("its contents".to_owned()));
        }
        if let Some(free) = free.filter(|free| *free < manifest.bytes().saturating_add(ROOM_LEFT_BYTES)) {
            return Err(UpdateError::NoRoom { needed: manifest.bytes(), free });
        }
        self.above_all(&manifest)?;
        let folder = slot::folder(&self.settings.dir, manifest.sequence);
        let layer = match manifest.files.first().filter(|entry| entry.role == Role::Config) {
            Some(entry) => Some(layer(from, entry)?),
            None => None,
        };
        judge(&manifest, &folder, layer.as_deref()).map_err(UpdateError::Refused)?;
        self.disk.make_folder(&self.settings.dir).map_err(at(&self.settings.dir))?;
        let _alone = self.claim("install.lock", 1)?;
        // Once more, alone: the same number must not be written over a slot that is named by now.
        self.above_all(&manifest)?;
        // What an earlier installation left unfinished; what was used may still be.
        self.clean_unnamed(&|sequence, highest| sequence > highest);
        if let Err(error) = self.put(from, &head, &manifest, layer.as_deref()) {
            self.remove(manifest.sequence);
            return Err(error);
        }
        let unused = self.change(|record| record.switch(manifest.sequence))?;
        unused.into_iter().for_each(|sequence| self.remove(sequence));
        Ok(manifest)
    }

    fn above_all(&self, manifest: &Manifest) -> Result<(), UpdateError> {
        let highest = self.known(&self.record())?.highest;
        if manifest.sequence <= highest {
            return Err(UpdateError::Old { sequence: manifest.sequence, highest });
        }
        Ok(())
    }

    /// Writes a slot and waits until all of it is synced. The record does not name it yet.
    fn put(
        &self,
        from: &mut dyn Read,
        head: &Head,
        manifest: &Manifest,
        layer: Option<&[u8]>,
    ) -> Result<(), UpdateError> {
        let folder = slot::folder(&self.settings.dir, manifest.sequence);
        self.disk.make_folder(&folder).map_err(at(&folder))?;
        for entry in &manifest.files {
            match (entry.role, layer) {
                (Role::Config, Some(mut bytes)) => self.put_file(&folder, &mut bytes, entry)?,
                _ => self.put_file(&folder, from, entry)?,
            }
        }
        let path = folder.join(HEAD);
        let file = self.disk.open(&path, How::Create).map_err(at(&path))?;
        file.write_at(0, &head.to_bytes()).and_then(|()| file.sync()).map_err(at(&path))?;
        self.disk.sync_folder(&folder).map_err(at(&folder))?;
        // The folder's own name.
        self.disk.sync_folder(&self.settings.dir).map_err(at(&self.settings.dir))
    }

    fn put_file(&self, folder: &Path, from: &mut dyn Read, entry: &Entry) -> Result<(), UpdateError> {
        let path = folder.join(&entry.name);
        let file = self.disk.open(&path, How::Create).map_err(at(&path))?;
        let (mut written, mut synced) = (0_u64, 0_u64);
        let take = &mut |piece: &[u8]| -> Result<(), UpdateError> {
            file.write_at(written, piece).map_err(at(&path))?;
            written += piece.len() as u64;
            // In parts: evidence that is synced meanwhile must not wait for gigabytes of ours.
            if written - synced >= SYNC_EVERY_BYTES {
                file.sync().map_err(at(&path))?;
                synced = written;
            }
            Ok(())
        };
        if stream(from, &entry.name, entry.bytes, take)? != entry.sha256 {
            return Err(UpdateError::Altered(entry.name.clone()));
        }
        file.sync().map_err(at(&path))
    }

    /// Takes away the slots that the record does not name. For a start, when no slot is in use yet, and after one was confirmed.
    pub fn clean(&self) {
        // What is being installed is not named yet, and is above all that were.
        let installing = self.claim("install.lock", 1);
        self.clean_unnamed(&|sequence, highest| installing.is_ok() || sequence <= highest);
    }

    /// Takes away those slots that the record does not name and of which, with the highest sequence so far, `which` is true.
    fn clean_unnamed(&self, which: &dyn Fn(u64, u64) -> bool) {
        let Ok(record) = self.record() else { return };
        for sequence in self.slots() {
            if !record.names(sequence) && which(sequence, record.highest) {
                self.remove(sequence);
            }
        }
    }

    /// Takes a slot away. What cannot be taken away now is by the next start.
    fn remove(&self, sequence: u64) {
        let folder = slot::folder(&self.settings.dir, sequence);
        // The head first: what is left is no slot.
        let _ = self.disk.remove(&folder.join(HEAD));
        for (path, _) in self.disk.list(&folder) {
            let _ = self.disk.remove(&path);
        }
        let _ = self.disk.remove_folder(&folder);
    }
}

/// The layer of configuration, held against its hash. Its size is bounded by the rules of a manifest.
fn layer(from: &mut dyn Read, entry: &Entry) -> Result<Vec<u8>, UpdateError> {
    let mut out = Vec::with_capacity(usize::try_from(entry.bytes).unwrap_or(0));
    let digest = stream(from, &entry.name, entry.bytes, &mut |piece| {
        out.extend_from_slice(piece);
        Ok(())
    })?;
    if digest != entry.sha256 {
        return Err(UpdateError::Altered(entry.name.clone()));
    }
    Ok(out)
}
