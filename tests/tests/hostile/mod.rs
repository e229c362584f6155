//! A bounded run of every judge of hostile input: sound inputs, the corpus that the fuzzer left (`fuzz/corpus`), and seeded changes
//! to both. `AGENT_FUZZ_SEED` sets another seed than 1. The long runs are `tests/bench/fuzz.sh`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agent_sim::rng::Rng;
use agent_tests::hostile::mutate::{below, mutate};
use agent_tests::hostile::{TARGETS, Target, target};

/// Largest file of the corpus, bytes, and all of them together.
const MOST_FILE_BYTES: usize = 8 << 10;
/// See [`MOST_FILE_BYTES`].
const MOST_CORPUS_BYTES: usize = 200 << 10;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The corpus of a target, in the order of its names; none where nothing was worth keeping beside the seeds.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let Ok(files) = std::fs::read_dir(fuzz_folder().join("corpus").join(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Says what was judged when the judge falls.
struct Judging<'a>(&'a Target, String, &'a [u8]);

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: {}, the input is b\"{}\"", self.0.name, self.1, self.2.escape_ascii());
        }
    }
}

fn bounded(name: &str, mutations: usize) {
    let target = target(name).unwrap();
    let seed = std::env::var("AGENT_FUZZ_SEED").ok().map_or(1, |text| text.parse().unwrap());
    println!("{name}: seed {seed}");
    let all: Vec<Vec<u8>> = (target.seeds)().into_iter().chain(corpus(name)).collect();
    let judge = |what: String, bytes: &[u8]| {
        let _judging = Judging(target, what, bytes);
        (target.judge)(bytes);
    };
    for (i, bytes) in all.iter().enumerate() {
        judge(format!("input {i} as it is"), bytes);
    }
    let mut rng = Rng::new(seed, 0);
    for i in 0..mutations {
        let [first, second] = [0; 2].map(|_| &all[below(&mut rng, all.len())]);
        let bytes = mutate(&mut rng, first, second, target.most);
        judge(format!("mutation {i} of seed {seed}"), &bytes);
    }
}

macro_rules! bounded {
    ($($name:ident $mutations:literal),*) => {
        $(#[test]
        fn $name() {
            bounded(stringify!($name), $mutations);
        })*

        /// Targets that have a test here.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

// So many that each takes about half a second in a build for development.
bounded! {
    envelope 20_000, frames 5000, commands 2000, gnss 10_000, j1939 20_000, dbc 1000, configuration 200, drive 1000,
    candump 1000, imu_csv 1000, mp4 500, gguf 200, manifest 2000, onnx 50
}

#[test]
fn every_target_has_a_test_and_a_fuzzer_and_the_corpus_is_small() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), names);
    let list = |folder: &str| -> BTreeSet<String> {
        let files = std::fs::read_dir(fuzz_folder().join(folder)).unwrap();
        files.map(|f| f.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
    assert_eq!(list("fuzz_targets"), names);
    assert!(list("corpus").is_subset(&names));
    let mut sum = 0;
    for name in &names {
        for bytes in &corpus(name) {
            assert!(bytes.len() <= MOST_FILE_BYTES, "{name}: a file of {} bytes", bytes.len());
            sum += bytes.len();
        }
    }
    assert!(sum <= MOST_CORPUS_BYTES, "the corpus has {sum} bytes");
}

#[test]
fn the_same_seed_gives_the_same_changes_and_never_more_than_asked() {
    let made = |seed| -> Vec<Vec<u8>> {
        let mut rng = Rng::new(seed, 0);
        (0..500).map(|_| mutate(&mut rng, b"a sound input", b"another, longer one", 20)).collect()
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
    assert!(made(1).iter().all(|bytes| bytes.len() <= 20));
    let unchanged = made(1).iter().filter(|bytes| **bytes == b"a sound input").count();
    assert!(unchanged < 50, "{unchanged} of 500 are as they were");
}
