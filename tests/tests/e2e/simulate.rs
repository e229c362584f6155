//! `simulate`: a scenario and a seed fix every byte of a drive and of its truth, and those of a batch whatever the number
//! of jobs.

use std::path::Path;

use super::binary::{json, run};
use super::samples::{files, text};

/// Small pictures, few of them.
const SMALL: [&str; 6] = ["--width", "96", "--height", "64", "--fps", "2"];

fn rear_end(folder: &Path, seed: &str) {
    std::fs::create_dir(folder).unwrap();
    let args = [&["simulate", "rear_end", "--seed", seed, "--out", "a.mcap"][..], &SMALL[..]].concat();
    run(folder, &args).with_code(0);
}

fn batch(out: &Path, jobs: &str) {
    let args = ["simulate", "rear_end", "town", "--batch", "--seeds", "0..5", "--clip-s", "3", "--per-shard", "1"];
    let args = [&args[..], &["--out", text(out), "--jobs", jobs][..], &SMALL[..]].concat();
    run(&crate::tidy::root(), &args).with_code(0);
}

/// The same names and the same bytes.
fn same(a: &Path, b: &Path) -> usize {
    let (a, b) = (files(a), files(b));
    let names = |all: &[(std::path::PathBuf, Vec<u8>)]| all.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        assert!(!x.is_empty() && x == y, "{} differs", name.display());
    }
    a.len()
}

#[test]
fn a_seed_makes_the_same_drive_and_truth_twice() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, other] = ["a", "b", "other"].map(|n| temp.path().join(n));
    rear_end(&a, "5");
    rear_end(&b, "5");
    assert_eq!(same(&a, &b), 2, "a.mcap and a.mcap.truth.json");
    let truth = json(&a.join("a.mcap.truth.json"));
    assert_eq!((&truth["seed"], &truth["severity"]), (&5.into(), &"collision".into()));
    assert!(truth["frames"].as_array().unwrap().len() > 30, "two pictures a second");
    rear_end(&other, "6");
    for name in ["a.mcap", "a.mcap.truth.json"] {
        assert!(std::fs::read(a.join(name)).unwrap() != std::fs::read(other.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_batch_is_the_same_files_whatever_the_number_of_jobs() {
    let temp = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|n| temp.path().join(n));
    batch(&one, "1");
    batch(&two, "2");
    // Four files a shard, a clip each, and the manifest.
    assert_eq!(same(&one, &two), 21);
    assert_eq!(json(&one.join("manifest.json"))["clips"], 5);
}
