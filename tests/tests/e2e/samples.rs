//! Inputs of the tests: the demo's drive, made once, and the shared data folder where it is there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::binary::{Ended, run};

/// What the demo made and said.
pub(crate) struct Demo {
    pub(crate) folder: PathBuf,
    pub(crate) ended: Ended,
}

impl Demo {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `demo`, run once for all tests, in a folder below the target folder.
pub(crate) fn demo() -> &'static Demo {
    static MADE: OnceLock<Demo> = OnceLock::new();
    MADE.get_or_init(|| {
        // Two test runs may share the target folder.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{}", std::process::id()));
        remove_old(&folder);
        let ended = run(&crate::tidy::root(), &["demo", "--out", text(&folder)]).with_code(0);
        Demo { folder, ended }
    })
}

/// Demos of test runs that are over.
fn remove_old(new: &Path) {
    let Ok(list) = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")) else { return };
    for path in list.flatten().map(|e| e.path()).filter(|p| p != new) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(id) = name.strip_prefix("demo-")
            && !Path::new("/proc").join(id).exists()
        {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// A drive of a minute of CAN frames, three chunks of a megabyte and a part: unlike the demo's it is the same bytes
/// on every machine and after every change of the simulator.
pub(crate) fn can_drive() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let temp = tempfile::tempdir().unwrap();
        let (mut log, mut noise) = (String::new(), 1u64);
        for i in 0..60_000u32 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let _ = writeln!(log, "({}.{:03}000) can0 100#{noise:016X}", i / 1000, i % 1000);
        }
        std::fs::write(temp.path().join("a.log"), log).unwrap();
        run(temp.path(), &["import", "--out", "d.mcap", "--candump", "a.log"]).with_code(0);
        std::fs::read(temp.path().join("d.mcap")).unwrap()
    })
}

/// The shared data folder.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let folder = crate::tidy::root().join("../shared/data");
    std::fs::canonicalize(folder).ok().filter(|f| f.is_dir())
}

/// A file or folder of the shared data; `None`, said in one line, where it is not there.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let found = data_folder().map(|f| f.join(name)).filter(|f| f.exists());
    if found.is_none() {
        println!("SKIPPED: no shared/data/{name}");
    }
    found
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file below `folder`, by its path from there, with its bytes.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// First eight bytes of the SHA-256 of a file, in hexadecimal, as reports say it.
pub(crate) fn sha256_8(path: &Path) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(std::fs::read(path).unwrap());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}
