//! A slot: the folder of an installed update, with its signed head beside its files. It is judged again at every start.

use std::path::{Path, PathBuf};

use agent_disk::{Cursor, Disk, How};
use agent_keys::PublicKey;

use crate::UpdateError;
use crate::error::at;
use crate::file::{Head, PREFIX_BYTES, stream};
use crate::limits::{HASHED_AT_START_BYTES, MAX_HEAD_BYTES};
use crate::manifest::{Entry, Manifest, Role, Who};
use crate::record::Trial;

/// File of the signed head in a slot. No file of an update has this name.
pub(crate) const HEAD: &str = "update.head";

/// A slot that was judged.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its folder.
    pub folder: PathBuf,
    /// What its signed head says.
    pub manifest: Manifest,
    /// Which start of a trial this is, if it is on trial.
    pub trial: Option<Trial>,
}

/// Folder of a sequence.
pub(crate) fn folder(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(sequence.to_string())
}

/// The sequence that a folder is of.
pub(crate) fn sequence_of(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    name.parse().ok().filter(|n: &u64| n.to_string() == name && *n > 0)
}

/// The head in a slot's folder, if one of `keys` signed it and it is the head of this sequence.
pub(crate) fn head(disk: &dyn Disk, folder: &Path, sequence: u64, keys: &[PublicKey]) -> Result<Manifest, UpdateError> {
    let path = folder.join(HEAD);
    let bytes = disk.read(&path, (PREFIX_BYTES + MAX_HEAD_BYTES) as u64).map_err(at(&path))?;
    let head = Head::read(&mut bytes.as_slice())?;
    if head.size() != bytes.len() as u64 {
        return Err(UpdateError::Longer(bytes.len() as u64 - head.size()));
    }
    let manifest = head.judge(keys)?;
    if manifest.sequence != sequence {
        return Err(UpdateError::Head(format!("of sequence {}, in the folder of {sequence}", manifest.sequence)));
    }
    Ok(manifest)
}

impl Slot {
    /// Judges a slot: signature, for whom it is, sizes, and the hashes of all but large files.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        sequence: u64,
        keys: &[PublicKey],
        who: &Who,
    ) -> Result<Self, UpdateError> {
        let folder = folder(dir, sequence);
        let manifest = head(disk, &folder, sequence, keys)?;
        manifest.fits(who)?;
        let slot = Self { folder, manifest, trial: None };
        for entry in &slot.manifest.files {
            slot.verify(disk, entry, entry.bytes <= HASHED_AT_START_BYTES, &|| false)?;
        }
        Ok(slot)
    }

    /// Where the file of a role is.
    #[must_use]
    pub fn path_of(&self, role: Role) -> Option<PathBuf> {
        self.manifest.of(role).map(|entry| self.folder.join(&entry.name))
    }

    /// Hashes what was too large for the start. Ends early, without an error, when told to stop.
    ///
    /// # Errors
    /// A file is another than was installed, or cannot be read.
    pub fn verify_large(&self, disk: &dyn Disk, stop: &dyn Fn() -> bool) -> Result<(), UpdateError> {
        let large = self.manifest.files.iter().filter(|e| e.bytes > HASHED_AT_START_BYTES);
        large.take_while(|_| !stop()).try_for_each(|entry| self.verify(disk, entry, true, stop))
    }

    fn verify(&self, disk: &dyn Disk, entry: &Entry, hash: bool, stop: &dyn Fn() -> bool) -> Result<(), UpdateError> {
        let path = self.folder.join(&entry.name);
        let missing = |_| UpdateError::Missing(entry.name.clone());
        let file = disk.open(&path, How::Read).map_err(missing)?;
        if file.len().map_err(at(&path))? != entry.bytes {
            return Err(UpdateError::Missing(entry.name.clone()));
        }
        if !hash {
            return Ok(());
        }
        let mut stopped = false;
        let look = &mut |_: &[u8]| {
            stopped = stop();
            // Not an error of the file: the caller ends.
            if stopped { Err(UpdateError::Cut(entry.name.clone())) } else { Ok(()) }
        };
        match stream(&mut Cursor::new(file), &entry.name, entry.bytes, look) {
            _ if stopped => Ok(()),
            Ok(digest) if digest == entry.sha256 => Ok(()),
            Ok(_) => Err(UpdateError::Altered(entry.name.clone())),
            Err(error) => Err(error),
        }
    }
}
