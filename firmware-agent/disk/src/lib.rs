//! Everything durable goes through here: outbox and evidence. A test replaces the disk by one that loses, reorders and tears
//! what was not synced ([`SimDisk`]).
//!
//! Terms: a *folder* holds names of files; *synced* is what a power cut cannot take any more. A file's content is synced by
//! [`DiskFile::sync`], its name by [`Disk::sync_folder`]; neither does the other's work.

mod real;
mod sim;

use core::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub use real::RealDisk;
pub use sim::{Cut, Faults, SimDisk};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Made anew; what was there under the name is gone.
    Create,
    /// Made if it is not there, for reading and writing.
    OpenOrCreate,
    /// Must be there, for reading.
    Read,
}

/// A place for files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>>;
    /// Whether there is a file of this name.
    fn exists(&self, path: &Path) -> bool;
    /// Gives a file another name, in place of what had it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it, unless they are there.
    ///
    /// # Errors
    /// The system's.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are synced.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Files of a folder with their sizes, by name; none where there is no such folder.
    fn list(&self, folder: &Path) -> Vec<(PathBuf, u64)>;
    /// Folders of a folder, by name; none where there is no such folder.
    fn folders(&self, folder: &Path) -> Vec<PathBuf>;
    /// Takes away an empty folder. Until the folder above it is synced it may come back after a power cut, empty.
    ///
    /// # Errors
    /// The system's; that it is not empty.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// The whole content of a small file.
    ///
    /// # Errors
    /// The system's, or that it has more than `most` bytes.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, How::Read)?;
        let len = file.len()?;
        if len > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, more than {most}")));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Replaces a small file so that at any time, and after a power cut, it is either the old one or the new one.
    ///
    /// # Errors
    /// The system's; then it is the old one.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push("-new");
        let new = PathBuf::from(name);
        let file = self.open(&new, How::Create)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        drop(file);
        self.rename(&new, path)?;
        self.sync_folder(folder_of(path))
    }
}

/// The folder that holds the name of a file.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "a length in bytes, which may fail")]
pub trait DiskFile: Debug + Send + Sync {
    /// Length, bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;
    /// Fills `into` from `at` on.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` beyond the end.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` from `at` on.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file, or grows it with zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Waits until the content is synced.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;
    /// Takes the file for this opening alone, until it is dropped; false if another has it.
    ///
    /// # Errors
    /// The system's.
    fn try_lock(&self) -> io::Result<bool>;
}

/// Reads and writes a file from its beginning on, as the standard library's traits want it.
#[derive(Debug)]
pub struct Cursor {
    file: Box<dyn DiskFile>,
    at: u64,
}

impl Cursor {
    /// At the beginning.
    #[must_use]
    pub const fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, at: 0 }
    }
}

impl Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.file.len()?.saturating_sub(self.at);
        let n = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.read_at(self.at, &mut into[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.file.len()?, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let at = base.checked_add_signed(by);
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a seek before the beginning"))?;
        Ok(self.at)
    }
}
