//! What a file's text must and must not hold.

use super::tree::File;

/// A Rust file longer than this needs a reason in [`LONG_FILES`].
const MOST_LINES: usize = 600;

/// Longer Rust files and why they are: `("path", "reason")`.
const LONG_FILES: &[(&str, &str)] = &[];

/// Marks of unfinished work. Written in two halves so that this file does not find itself.
const MARKERS: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// What a merge leaves behind, at the start of a line.
const CONFLICTS: [&str; 2] = [concat!("<<<<", "<<< "), concat!(">>>>", ">>> ")];

/// Folders of one machine. A path in this repository is relative, or one of the installed system.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tm", "p/")];

/// Machine paths that are meant: `("path", "folder", "reason")`.
const MEANT_PATHS: &[(&str, &str, &str)] = &[];

/// All findings of one file.
pub(crate) fn findings(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    // Not `lines()`: it hides a carriage return.
    for (number, line) in file.text.split_terminator('\n').enumerate() {
        let mut say = |what: &str| found.push(format!("{}:{}: {what}", file.path, number + 1));
        if line.ends_with([' ', '\t', '\r']) {
            say("white space at the end of the line");
        }
        if CONFLICTS.iter().any(|c| line.starts_with(c)) {
            say("a merge is not finished");
        }
        for marker in MARKERS.iter().filter(|m| has_word(line, m)) {
            say(&format!("leftover marker {marker}"));
        }
        for path in MACHINE_PATHS.iter().filter(|p| has_path(line, p)) {
            if !MEANT_PATHS.iter().any(|(file_, path_, _)| *file_ == file.path && path_ == path) {
                say(&format!("path of one machine: {path}"));
            }
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        found.push(format!("{}: no line end at the end", file.path));
    }
    if file.path.ends_with(".rs") {
        found.extend(rust_findings(file));
    }
    found
}

fn rust_findings(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > MOST_LINES && !LONG_FILES.iter().any(|(path, _)| *path == file.path) {
        found.push(format!("{}: {lines} lines, above {MOST_LINES}: split it, or list it with a reason", file.path));
    }
    // Attributes of the crate may stand above.
    let first = file.text.lines().find(|l| !l.is_empty() && !l.starts_with("#!")).unwrap_or("");
    if !first.strip_prefix("//! ").is_some_and(|words| words.contains(' ')) {
        found.push(format!("{}: does not begin with `//!` and a sentence on what it does", file.path));
    }
    found
}

/// Entries of the two lists above that nothing needs any more.
pub(crate) fn stale_exceptions(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|f| f.path == path).map_or("", |f| f.text.as_str());
    let long = LONG_FILES
        .iter()
        .filter(|(path, _)| text(path).lines().count() <= MOST_LINES)
        .map(|(path, _)| format!("{path}: listed as long, but is not"));
    let meant = MEANT_PATHS
        .iter()
        .filter(|(path, folder, _)| !text(path).contains(folder))
        .map(|(path, folder, _)| format!("{path}: {folder} is listed as meant, but is not there"));
    long.chain(meant).collect()
}

/// Rust files that no `mod` names: the compiler never sees them, and nobody notices that they rot.
pub(crate) fn dead_modules(files: &[File]) -> Vec<String> {
    let rust: Vec<&File> = files.iter().filter(|f| f.path.ends_with(".rs")).collect();
    let dead = |file: &&&File| {
        let mut parts: Vec<&str> = file.path.trim_end_matches(".rs").split('/').collect();
        let mut stem = parts.pop().unwrap_or_default();
        // What cargo finds by itself: roots of crates, and each file right below these folders.
        let of_roots = |folder: Option<&&str>| {
            folder.is_some_and(|f| ["bin", "tests", "examples", "benches", "fuzz_targets"].contains(f))
        };
        if ["lib", "main", "build"].contains(&stem) || of_roots(parts.last()) {
            return false;
        }
        if stem == "mod" {
            stem = parts.pop().unwrap_or_default();
        }
        // The files whose modules stand in this folder.
        let folder = parts.join("/");
        let beside = of_roots(parts.last());
        let parent = |path: &str| match path.strip_prefix(&folder) {
            Some(".rs" | "/mod.rs" | "/lib.rs" | "/main.rs") => true,
            Some(rest) => beside && rest.starts_with('/') && !rest[1..].contains('/'),
            None => false,
        };
        let named = format!("mod {stem};");
        // Or by `#[path]`, from a file of the same folder.
        let by_path = format!("#[path = \"{}\"]", file.path.rsplit('/').next().unwrap_or_default());
        let same_folder =
            |path: &str| path.rsplit_once('/').map(|(f, _)| f) == file.path.rsplit_once('/').map(|(f, _)| f);
        !rust.iter().any(|f| {
            (parent(&f.path) && f.text.contains(&named)) || (same_folder(&f.path) && f.text.contains(&by_path))
        })
    };
    rust.iter().filter(dead).map(|f| format!("{}: no `mod` names it", f.path)).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word))
}

/// True where `path` begins a path and is not the middle of a longer one.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~*})>]$".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        findings(&File { path: path.into(), text: text.into() })
    }

    #[test]
    fn each_check_finds_its_fault() {
        let [todo, ..] = MARKERS;
        let [work, .., temporary] = MACHINE_PATHS;
        for (text, expected) in [
            ("a \n".to_owned(), "a.md:1: white space at the end of the line"),
            ("\na\t\n".to_owned(), "a.md:2: white space at the end of the line"),
            ("a\r\n".to_owned(), "a.md:1: white space at the end of the line"),
            ("a".to_owned(), "a.md: no line end at the end"),
            (format!("{}HEAD\n", CONFLICTS[0]), "a.md:1: a merge is not finished"),
            (format!("({todo}: later)\n"), &format!("a.md:1: leftover marker {todo}")),
            (format!("cd {work}x\n"), &format!("a.md:1: path of one machine: {work}")),
            (format!("`{temporary}x`\n"), &format!("a.md:1: path of one machine: {temporary}")),
            (format!("my{work}x {todo}S mktemp {}{}\n", MARKERS[2], MARKERS[2]), ""),
        ] {
            assert_eq!(found("a.md", &text).join("\n"), expected, "{text:?}");
        }
    }

    #[test]
    fn a_module_that_nobody_names_is_found() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let files = [
            file("a/src/lib.rs", "pub mod b;\nmod c;\nmod d;\n"),
            file("a/src/b.rs", "mod inner;\n"),
            file("a/src/b/inner.rs", ""),
            file("a/src/c/mod.rs", "mod deep;\n"),
            file("a/src/c/deep.rs", ""),
            file("a/src/c/dead.rs", ""),
            file("a/src/d.rs", "#[path = \"d_tests.rs\"]\nmod tests;\n"),
            file("a/src/d_tests.rs", ""),
            file("a/src/e.rs", "mod e;\n"),
            file("a/src/inner.rs", ""),
            file("a/src/bin/tool.rs", ""),
            file("a/tests/it.rs", "mod f;\n"),
            file("a/tests/f/mod.rs", ""),
            file("a/tests/g/mod.rs", ""),
            file("a/tests/h/main.rs", ""),
        ];
        let dead: Vec<String> = dead_modules(&files);
        let expected = ["a/src/c/dead.rs", "a/src/e.rs", "a/src/inner.rs", "a/tests/g/mod.rs"];
        assert_eq!(dead, expected.map(|path| format!("{path}: no `mod` names it")));
    }

    #[test]
    fn rust_files_have_a_header_and_an_end() {
        let header = "#![no_std]\n\n//! What it does.\n";
        assert_eq!(found("a.rs", header), [""; 0]);
        for bad in ["use std;\n", "// What it does.\n", "//! Placeholder.\n", "\n"] {
            let expected = "a.rs: does not begin with `//!` and a sentence on what it does";
            assert_eq!(found("a.rs", bad), [expected], "{bad:?}");
        }
        let long = format!("{header}{}", "//\n".repeat(MOST_LINES - 3));
        assert_eq!(found("a.rs", &long), [""; 0]);
        let longer = long + "//\n";
        assert_eq!(found("a.rs", &longer), ["a.rs: 601 lines, above 600: split it, or list it with a reason"]);
        assert_eq!(found("a.md", &longer), [""; 0]);
    }
}
