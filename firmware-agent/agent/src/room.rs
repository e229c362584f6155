//! Room for evidence: by the quota before a file is written, and by what goes first when the disk is full all the same.
//!
//! Terms: *lesser* evidence is that of no crash, in a folder of its own; it goes, the oldest first, for any new evidence and for the
//! outbox. Evidence of crashes never goes. A *part* is evidence that is being written.

use std::path::{Path, PathBuf};

use agent_core::evidence::EvidenceView;
use agent_disk::{Disk, How};
use agent_drive::DriveInfo;
use agent_wire::Severity;

use crate::evidence::{self, LESSER};
use crate::signer::Signer;

/// What a disk that is not full takes: more than is buffered before a write.
const PROBE_BYTES: usize = 256 << 10;

/// Where evidence stands, and how much of it may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Folder of crash evidence; that of lesser evidence is below it.
    pub(crate) folder: &'a Path,
    /// Most bytes of both.
    pub(crate) quota: u64,
    /// Most bytes of one event.
    pub(crate) event_bytes: u64,
}

/// What came of writing.
#[derive(Debug)]
pub(crate) struct Written {
    /// The part and the name that it will have.
    pub(crate) parts: anyhow::Result<(PathBuf, PathBuf)>,
    /// Lesser files that went for it.
    pub(crate) gone: u32,
    /// Whether there is room below the quota.
    pub(crate) room: bool,
}

impl Place<'_> {
    /// Writes the evidence of an event. On a full disk lesser evidence goes, as much as an event may need at a time, until it fits or
    /// none is left. What fits of a crash then stays as a part, which the next start finds; of a lesser event nothing stays.
    pub(crate) fn write(&self, disk: &dyn Disk, view: &EvidenceView<'_>, info: &DriveInfo, signer: &Signer) -> Written {
        let (mut gone, room) = evidence::make_room(disk, self.folder, self.quota, self.event_bytes);
        let crash = view.event().severity >= Severity::Severe;
        let to = if crash { self.folder.to_owned() } else { self.folder.join(LESSER) };
        loop {
            let error = match evidence::write_part(disk, &to, view, info, signer) {
                Ok(parts) => return Written { parts: Ok(parts), gone, room },
                Err(error) => error,
            };
            // Each time round at least one file goes, so this ends.
            let more = self.relieve(disk);
            gone += more;
            if more == 0 {
                if !crash {
                    // It is not there at all when the disk took nothing.
                    let _ = disk.remove(&to.join(format!(".{}.mcap.part", view.event().id)));
                }
                return Written { parts: Err(error), gone, room };
            }
        }
    }

    /// If the disk is full, deletes the oldest lesser evidence, as much as an event may need. How many files went.
    pub(crate) fn relieve(&self, disk: &dyn Disk) -> u32 {
        if !is_full(disk, self.folder) {
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
