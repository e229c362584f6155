//! The system's files.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::{Disk, DiskFile, How};

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true);
        match how {
            How::Create => options.write(true).create(true).truncate(true),
            How::OpenOrCreate => options.write(true).create(true).truncate(false),
            How::Read => &mut options,
        };
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        let mut out = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(data) = entry.metadata()
                && data.is_file()
            {
                out.push((entry.path(), data.len()));
            }
        }
        out.sort_unstable();
        out
    }

    fn folders(&self, folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut out: Vec<PathBuf> =
            entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect();
        out.sort_unstable();
        out
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    use super::*;
    use crate::{Cursor, SimDisk};

    /// The same calls have the same results on both.
    #[test]
    fn the_simulated_disk_does_what_the_real_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = |disk: &dyn Disk| {
            let (a, b) = (folder.path().join("x/a"), folder.path().join("x/b"));
            let mut log = Vec::new();
            let mut note = |what: String| log.push(what);
            note(format!("{:?}", disk.open(&a, How::Read).map(drop).map_err(|e| e.kind())));
            note(format!("{:?}", disk.open(&a, How::Create).map(drop).map_err(|e| e.kind())));
            disk.make_folder(&folder.path().join("x")).unwrap();
            let file = disk.open(&a, How::Create).unwrap();
            file.write_at(3, b"abc").unwrap();
            file.set_len(10).unwrap();
            note(format!("{:?} {:?}", file.len().unwrap(), file.read_at(8, &mut [0; 4]).map_err(|e| e.kind())));
            note(format!(
                "{:?} {:?}",
                file.try_lock().unwrap(),
                disk.open(&a, How::OpenOrCreate).unwrap().try_lock().unwrap()
            ));
            drop(file);
            note(format!("{:?}", disk.open(&a, How::OpenOrCreate).unwrap().try_lock().unwrap()));
            note(format!("{:?}", disk.read(&a, 100).unwrap()));
            note(format!("{:?}", disk.read(&a, 9).map_err(|e| e.kind())));
            disk.replace(&b, b"one").unwrap();
            disk.replace(&b, b"two").unwrap();
            disk.rename(&a, &b).unwrap();
            note(format!("{:?} {:?}", disk.exists(&a), disk.read(&b, 100).unwrap()));
            note(format!("{:?}", disk.rename(&a, &b).map_err(|e| e.kind())));
            let mut cursor = Cursor::new(disk.open(&b, How::OpenOrCreate).unwrap());
            cursor.write_all(b"hello").unwrap();
            cursor.seek(SeekFrom::Current(-2)).unwrap();
            let mut rest = Vec::new();
            cursor.read_to_end(&mut rest).unwrap();
            note(format!("{rest:?} {:?}", cursor.seek(SeekFrom::End(-1)).unwrap()));
            let names: Vec<_> = disk.list(&folder.path().join("x"));
            note(format!("{names:?} {:?}", disk.list(&folder.path().join("y"))));
            disk.make_folder(&folder.path().join("x/z/y")).unwrap();
            note(format!("{:?} {:?}", disk.folders(&folder.path().join("x")), disk.folders(&b)));
            note(format!("{:?}", disk.remove_folder(&folder.path().join("x/z")).map_err(|e| e.kind())));
            note(format!("{:?}", disk.remove_folder(&folder.path().join("x")).map_err(|e| e.kind())));
            disk.remove_folder(&folder.path().join("x/z/y")).unwrap();
            disk.remove_folder(&folder.path().join("x/z")).unwrap();
            note(format!("{:?}", disk.remove_folder(&folder.path().join("x/z")).map_err(|e| e.kind())));
            note(format!("{:?}", disk.folders(&folder.path().join("x"))));
            disk.remove(&b).unwrap();
            note(format!("{:?} {:?}", disk.remove(&b).map_err(|e| e.kind()), disk.exists(&b)));
            log
        };
        let sim = SimDisk::new(1);
        sim.make_folder(folder.path()).unwrap();
        assert_eq!(outcome(&sim), outcome(&RealDisk));
    }
}
