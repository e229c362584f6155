//! Room for evidence: by the quota before a file is written, and by what goes first when the disk is full all the same.
//!
//! Terms: *lesser* evidence is that of no crash, in a folder of its own; it goes, the oldest first, for any new evidence and for the
//! outbox. Evidence of crashes never goes.

use std::path::{Path, PathBuf};

use agent_disk::{Disk, How};
use agent_wire::EventId;

use crate::config::Config;
use crate::evidence::{self, LESSER};

/// What a disk that is not full takes: more than is buffered before a write.
const PROBE_BYTES: usize = 256 << 10;

/// Where evidence stands, and how much of it may.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Folder of crash evidence; that of lesser evidence is below it.
    pub(crate) folder: PathBuf,
    /// Most bytes of both.
    pub(crate) quota: u64,
    /// Most bytes of one event.
    pub(crate) event_bytes: u64,
}

impl Place {
    /// Where a configuration wants it.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            folder: config.resolve(&config.evidence.dir),
            quota: u64::from(config.evidence.quota_mb) * 1_000_000,
            event_bytes: config.memory().event_bytes(),
        }
    }

    /// Room for an event below the quota: how many lesser files went for it, and whether there is room now.
    pub(crate) fn make_room(&self, disk: &dyn Disk) -> (u32, bool) {
        evidence::make_room(disk, &self.folder, self.quota, self.event_bytes)
    }

    /// Keeps lesser evidence like that of a crash.
    pub(crate) fn keep(&self, disk: &dyn Disk, event: &EventId) -> std::io::Result<()> {
        let name = format!("{event}.mcap");
        disk.rename(&self.folder.join(LESSER).join(&name), &self.folder.join(&name))?;
        disk.sync_folder(&self.folder)
    }

    /// If the disk is full, deletes the oldest lesser evidence, as much as an event may need. How many files went.
    pub(crate) fn relieve(&self, disk: &dyn Disk) -> u32 {
        if !is_full(disk, &self.folder) {
            return 0;
        }
        let (mut freed, mut gone) = (0, 0);
        for (path, bytes) in disk.list(&self.folder.join(LESSER)) {
            if freed >= self.event_bytes {
                break;
            }
            if path.extension().is_some_and(|e| e == "mcap") && disk.remove(&path).is_ok() {
                freed += bytes;
                gone += 1;
            }
        }
        gone
    }
}

/// Whether a small file finds no room. By a try: what the system says is free need not be free for us.
fn is_full(disk: &dyn Disk, folder: &Path) -> bool {
    let path = folder.join(".room");
    let tried = disk.open(&path, How::Create).and_then(|file| file.write_at(0, &vec![0; PROBE_BYTES]));
    // A name without content does no harm.
    let _ = disk.remove(&path);
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    tried.is_err_and(|e| matches!(e.kind(), StorageFull | QuotaExceeded))
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
