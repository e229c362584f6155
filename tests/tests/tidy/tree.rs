//! The repository's text files: those that git knows or would take, or, without git, all but hidden and built ones.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Endings of files that people write. Scripts without an ending are known by their first line.
const ENDINGS: [&str; 14] =
    ["rs", "toml", "md", "sh", "py", "yml", "yaml", "json", "hex", "service", "conf", "html", "txt", "csv"];
/// Folders that no tool of ours fills with text that people wrote.
const SKIPPED: [&str; 4] = ["target", "__pycache__", "corpus", "shared"];
/// More files than this is a walk gone astray.
const MOST_FILES: usize = 20_000;
/// Larger files are data.
const MOST_BYTES: u64 = 1 << 20;

/// One text file.
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All text files, sorted by path.
pub(crate) fn text_files() -> Vec<File> {
    let root = root();
    let mut paths = from_git(&root).unwrap_or_else(|| from_disk(&root));
    paths.sort();
    let files: Vec<File> = paths.into_iter().filter_map(|path| read(&root, path)).collect();
    assert!(files.iter().any(|f| f.path == "Cargo.toml"), "the walk has missed the root: {}", root.display());
    files
}

fn read(root: &Path, path: String) -> Option<File> {
    let full = root.join(&path);
    // A link to elsewhere is somebody else's file; a deleted one is still in git's list.
    if !full.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= MOST_BYTES) {
        return None;
    }
    let ending = full.extension().map(|e| e.to_string_lossy().into_owned());
    let known = ending.as_deref().is_some_and(|e| ENDINGS.contains(&e));
    let text = String::from_utf8(std::fs::read(&full).ok()?).ok()?;
    (known || (ending.is_none() && text.starts_with("#!"))).then_some(File { path, text })
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = list.split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    // An unpacked archive inside somebody else's repository lists nothing of ours.
    (output.status.success() && paths.iter().any(|p| p == "Cargo.toml")).then_some(paths)
}

fn from_disk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                if name == ".ci" || !(name.starts_with('.') || SKIPPED.contains(&name.as_str())) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"));
                assert!(found.len() <= MOST_FILES, "more than {MOST_FILES} files below {}", root.display());
            }
        }
    }
    found
}

#[test]
fn both_ways_find_the_sources() {
    let root = root();
    for paths in [from_disk(&root)].into_iter().chain(from_git(&root)) {
        for expected in ["Cargo.toml", "firmware-agent/wire/src/lib.rs", "tests/tests/tidy/tree.rs"] {
            assert!(paths.iter().any(|p| p == expected), "{expected} is missing");
        }
        assert!(!paths.iter().any(|p| p.starts_with("target/")));
    }
}
