//! Style as a test. What cannot be said to rustfmt or clippy is said here: how long a file may be, what may not be
//! left behind in it, which crate may use which, and that links lead somewhere.
//!
//! A *finding* is one line `path:line: what is wrong`. Every check is a function from text to findings, so that each is
//! also shown to find something. Nothing here changes a file or needs the network.

mod crates;
mod links;
mod text;
mod tree;
mod units;

pub(crate) use tree::root;

/// Fails with all findings at once.
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn files_are_tidy() {
    let files = tree::text_files();
    none(&files.iter().flat_map(text::findings).collect::<Vec<_>>());
}

#[test]
fn listed_exceptions_are_still_needed() {
    none(&text::stale_exceptions(&tree::text_files()));
}

#[test]
fn every_module_is_compiled() {
    none(&text::dead_modules(&tree::text_files()));
}

#[test]
fn links_lead_somewhere() {
    let root = tree::root();
    let files = tree::text_files();
    none(
        &files
            .iter()
            .filter(|f| f.path.ends_with(".md"))
            .flat_map(|f| links::findings(f, &|target| root.join(target).exists()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn crates_keep_to_their_rules() {
    none(&crates::findings(&crates::packages()));
}

/// The walls that clippy and the compiler hold are still switched on.
#[test]
fn the_walls_stand() {
    let files = tree::text_files();
    let text = |path: &str| files.iter().find(|f| f.path == path).map_or("", |f| f.text.as_str());
    assert!(text("firmware-agent/wire/src/lib.rs").contains("#![no_std]"), "agent-wire is no_std");
    let core = text("firmware-agent/core/clippy.toml");
    for banned in ["std::time::Instant", "std::time::SystemTime", "std::fs::File", "std::collections::HashMap"] {
        assert!(core.contains(&format!("\"{banned}\"")), "agent-core's clippy.toml bans {banned}");
    }
    let root = text("Cargo.toml");
    for lint in ["unsafe_code", "unwrap_used", "expect_used", "panic"] {
        assert!(root.contains(&format!("{lint} = \"deny\"")), "the workspace denies {lint}");
    }
    for file in files.iter().filter(|f| f.path.ends_with("/Cargo.toml") && !f.path.contains("/fuzz/")) {
        assert!(file.text.contains("[lints]\nworkspace = true"), "{} takes the workspace's lints", file.path);
    }
}
