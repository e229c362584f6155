//! A disk in memory that can lose its power at any operation.
//!
//! What a power cut leaves, drawn from a seed: of each file everything that was synced, and of what was written since then any
//! sectors, in any order, each whole or not at all; a length set since then, or not. Of the names changed since their
//! folder was synced a beginning, in order, as the journals of file systems keep it; that a file's own sync brings its name
//! along is not assumed. A file whose name was lost is lost.
//!
//! It can also be a bad disk ([`Faults`]): full, read-only, slow, hanging, or failing when it is read, written or synced. A failed sync is as
//! treacherous as with the kernel: what it should have made safe is still read as written, no later sync speaks of it, and the next
//! power cut takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Disk, DiskFile, How, folder_of};

/// What a disk writes as a whole, bytes.
const SECTOR: usize = 512;

/// When the power goes: at this operation, from 0. Writes, lengths, syncs, and changes of names count; reads do not.
pub type Cut = Option<u64>;

/// What a disk does wrong, until it is told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Most bytes in all files: a change that would pass them fails as on a full disk (ENOSPC).
    pub capacity: Option<u64>,
    /// Reading the content of files fails (EIO).
    pub reads: bool,
    /// Changes of files and names fail (EIO).
    pub writes: bool,
    /// Syncs of files fail (EIO).
    pub syncs: bool,
    /// Changes of files and names fail as on a disk that the kernel has made read-only (EROFS).
    pub read_only: bool,
    /// Each change and sync takes so long.
    pub slow: Duration,
    /// Changes and syncs do not come back before this is taken away.
    pub hangs: bool,
}

/// Linux's numbers of errors.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// Since the last sync.
    changes: Vec<Change>,
    locked: bool,
}

#[derive(Clone, Debug)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Naming {
    fn folder(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(_, path) => folder_of(path),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    namings: Vec<Naming>,
    folders: BTreeSet<PathBuf>,
    operations: u64,
    cut: Cut,
    off: bool,
    faults: Faults,
    seed: u64,
}

impl State {
    fn used(&self) -> u64 {
        let size = |inode: &usize| self.inodes.get(*inode).map_or(0, |i| i.now.len() as u64);
        self.names.values().map(size).sum()
    }

    fn writable(&self) -> io::Result<()> {
        match self.faults {
            Faults { read_only: true, .. } => Err(io::Error::from_raw_os_error(EROFS)),
            Faults { writes: true, .. } => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        }
    }

    /// Whether the disk takes a change of this file.
    fn takes(&self, inode: usize, change: &Change) -> io::Result<()> {
        self.writable()?;
        let Some(capacity) = self.faults.capacity else { return Ok(()) };
        let len = self.inodes.get(inode).map_or(0, |i| i.now.len() as u64);
        let wanted = match change {
            Change::Write(at, data) => at.saturating_add(data.len() as u64),
            Change::Len(len) => *len,
        };
        // What has its place keeps it.
        let more = wanted.saturating_sub(len);
        if more > 0 && self.used().saturating_add(more) > capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }
}

/// A simulated disk; its clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    holds: Mutex<bool>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn put(bytes: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let end = at.saturating_add(data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(data);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, naming: &Naming) {
    match naming {
        Naming::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Naming::Unlink(path) => {
            names.remove(path);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl SimDisk {
    /// An empty disk; what a cut leaves is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { seed, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the power goes.
    pub fn cut_at(&self, cut: Cut) {
        self.state().cut = cut;
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// What is wrong with the disk from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// The disk after the power went and came back: what was synced, and some of the rest. Open files are gone.
    #[must_use]
    pub fn after_cut(&self) -> Self {
        let state = self.state();
        let mut seed = state.seed ^ state.operations.wrapping_mul(0xa076_1d64_78bd_642f);
        let mut names = state.synced_names.clone();
        let lasting = (next(&mut seed) % (state.namings.len() as u64 + 1)) as usize;
        state.namings.iter().take(lasting).for_each(|naming| apply(&mut names, naming));
        let mut inodes = Vec::with_capacity(state.inodes.len());
        for inode in &state.inodes {
            let bytes = left_of(inode, &mut seed);
            inodes.push(Inode { synced: bytes.clone(), now: bytes, ..Inode::default() });
        }
        // A file that is there again has its folder again.
        let of_names = names.keys().filter_map(|path| path.parent());
        let folders = state.folders.iter().map(PathBuf::as_path).chain(of_names).map(Path::to_owned).collect();
        let seed = next(&mut seed);
        Self(Arc::new(Mutex::new(State {
            inodes,
            synced_names: names.clone(),
            names,
            folders,
            seed,
            ..State::default()
        })))
    }

    /// Counts an operation. Done is whether it happened before the power went; what was on its way counts as begun.
    fn step(state: &mut State) -> io::Result<()> {
        if state.off || state.cut.is_some_and(|cut| state.operations >= cut) {
            state.off = true;
            return Err(io::Error::other("the power is gone"));
        }
        state.operations += 1;
        Ok(())
    }

    /// A slow or hanging disk makes its caller wait, and nobody else.
    fn wait(&self) {
        let slow = self.state().faults.slow;
        if !slow.is_zero() {
            std::thread::sleep(slow);
        }
        while self.state().faults.hangs {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A change of a file: it may have reached the disk even if the power went with it.
    fn change(&self, inode: usize, change: Change) -> io::Result<()> {
        self.wait();
        let mut state = self.state();
        let was_off = state.off;
        let done = Self::step(&mut state).and_then(|()| state.takes(inode, &change));
        let begun = done.is_ok() || (state.off && !was_off);
        if let (true, Some(inode)) = (begun, state.inodes.get_mut(inode)) {
            match &change {
                Change::Write(at, data) => put(&mut inode.now, *at, data),
                Change::Len(len) => inode.now.resize(usize::try_from(*len).unwrap_or(0), 0),
            }
            inode.changes.push(change);
        }
        done
    }

    fn naming(&self, naming: Naming) -> io::Result<()> {
        self.wait();
        let mut state = self.state();
        let was_off = state.off;
        let done = Self::step(&mut state).and_then(|()| state.writable());
        if done.is_ok() || (state.off && !was_off) {
            apply(&mut state.names, &naming);
            state.namings.push(naming);
        }
        done
    }
}

/// What a cut leaves of a file's content.
fn left_of(inode: &Inode, seed: &mut u64) -> Vec<u8> {
    let mut bytes = inode.synced.clone();
    // How much of the rest lasts: nothing, a little, half, nearly all, all; or all up to some change.
    let (of_256, until) = match next(seed) % 6 {
        0 => (0, usize::MAX),
        1 => (26, usize::MAX),
        2 => (128, usize::MAX),
        3 => (230, usize::MAX),
        4 => (256, usize::MAX),
        _ => (256, (next(seed) % (inode.changes.len() as u64 + 1)) as usize),
    };
    let lasts = |seed: &mut u64| next(seed) % 256 < of_256;
    for change in inode.changes.iter().take(until) {
        match change {
            Change::Len(len) => {
                if lasts(seed) {
                    bytes.resize(usize::try_from(*len).unwrap_or(0), 0);
                }
            }
            Change::Write(at, data) => {
                let mut at = *at;
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    let in_sector = SECTOR - (at % SECTOR as u64) as usize;
                    let (sector, after) = rest.split_at(in_sector.min(rest.len()));
                    if lasts(seed) {
                        put(&mut bytes, at, sector);
                    }
                    at += sector.len() as u64;
                    rest = after;
                }
            }
        }
    }
    bytes
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let found = {
            let state = self.state();
            if state.off {
                return Err(io::Error::other("the power is gone"));
            }
            if how != How::Read && !state.folders.contains(folder_of(path)) {
                return Err(missing(path));
            }
            state.names.get(path).copied()
        };
        let inode = match (found, how) {
            (Some(inode), How::Create) => {
                self.change(inode, Change::Len(0))?;
                inode
            }
            (Some(inode), _) => inode,
            (None, How::Read) => return Err(missing(path)),
            (None, _) => {
                let inode = {
                    let mut state = self.state();
                    state.inodes.push(Inode::default());
                    state.inodes.len() - 1
                };
                self.naming(Naming::Link(path.to_owned(), inode))?;
                inode
            }
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode, holds: Mutex::new(false) }))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().names.contains_key(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.exists(from) {
            return Err(missing(from));
        }
        self.naming(Naming::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path) {
            return Err(missing(path));
        }
        self.naming(Naming::Unlink(path.to_owned()))
    }

    /// Folders are there at once and for good: those that are not made by the installation are found empty at worst, because
    /// the journal keeps the order of names.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.off {
            return Err(io::Error::other("the power is gone"));
        }
        state.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.wait();
        let mut state = self.state();
        Self::step(&mut state)?;
        // The journal is one for all folders: with these names go all that were changed before them.
        let Some(last) = state.namings.iter().rposition(|n| n.folder() == path) else { return Ok(()) };
        for naming in state.namings.drain(..=last).collect::<Vec<_>>() {
            apply(&mut state.synced_names, &naming);
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let size = |inode: usize| state.inodes.get(inode).map_or(0, |i| i.now.len() as u64);
        state.names.iter().filter(|(p, _)| folder_of(p) == folder).map(|(p, i)| (p.clone(), size(*i))).collect()
    }

    fn folders(&self, folder: &Path) -> Vec<PathBuf> {
        self.state().folders.iter().filter(|p| p.parent() == Some(folder)).cloned().collect()
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.folders.contains(path) {
            return Err(missing(path));
        }
        let below = |p: &PathBuf| p.parent() == Some(path);
        if state.names.keys().any(below) || state.folders.iter().any(below) {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        Self::step(&mut state)?;
        state.writable()?;
        state.folders.remove(path);
        Ok(())
    }
}

impl SimFile {
    fn with<T>(&self, ask: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.off {
            return Err(io::Error::other("the power is gone"));
        }
        let gone = || io::Error::other("no such file any more");
        ask(state.inodes.get_mut(self.inode).ok_or_else(gone)?)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inode| Ok(inode.now.len() as u64))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if self.disk.state().faults.reads {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.with(|inode| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let from = inode.now.get(at..at.saturating_add(into.len()));
            into.copy_from_slice(from.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(self.inode, Change::Write(at, bytes.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(self.inode, Change::Len(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.wait();
        let mut state = self.disk.state();
        SimDisk::step(&mut state)?;
        let failing = state.faults.syncs;
        if let Some(inode) = state.inodes.get_mut(self.inode) {
            for change in std::mem::take(&mut inode.changes) {
                match change {
                    // The kernel takes them for clean from now on.
                    _ if failing => {}
                    Change::Write(at, data) => put(&mut inode.synced, at, &data),
                    Change::Len(len) => inode.synced.resize(usize::try_from(len).unwrap_or(0), 0),
                }
            }
        }
        if failing { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if *holds {
            return Ok(true);
        }
        *holds = self.with(|inode| Ok(!std::mem::replace(&mut inode.locked, true)))?;
        Ok(*holds)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.holds.get_mut().unwrap_or_else(PoisonError::into_inner)
            && let Some(inode) = self.disk.state().inodes.get_mut(self.inode)
        {
            inode.locked = false;
        }
    }
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;
