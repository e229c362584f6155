//! Configuration files: any text gives a configuration or a list of problems, each with its place; a configuration is written out
//! as a file that gives the same again.

use std::path::Path;

use crate::config::{Config, load_str};

/// What the rings of a sound configuration take at most, bytes: the highest memory cap.
const MOST_BYTES: u64 = crate::config::limits::MAX_MEMORY_MB as u64 * 1_000_000;

pub fn judge(data: &[u8]) {
    // As the reader of files does before it looks at the text.
    let Ok(text) = std::str::from_utf8(data) else { return };
    match load_str("hostile.toml", text) {
        Ok(config) => sound(&config),
        Err(errors) => {
            assert!(!errors.list.is_empty());
            for error in &errors.list {
                assert!(!error.place.file.is_empty() && !error.to_string().is_empty());
            }
        }
    }
}

fn sound(config: &Config) {
    let written = config.effective_toml();
    let again = load_str("hostile.toml", &written).expect("the effective configuration is sound");
    assert_eq!(again.effective_toml(), written);
    assert_eq!(again.hash8(), config.hash8());
    let _ = (config.telemetry(), config.vision(), config.commands.accepted());
    assert!(config.memory().total_bytes() <= MOST_BYTES);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../board-configs");
    let files =
        std::fs::read_dir(boards).expect("the boards are there").map(|file| file.expect("a readable folder").path());
    let mut all: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).expect("a readable file")).collect();
    all.sort();
    let small = "inherits = \"bench-x86_64\"\n[unit]\nname = \"van-7\"\nvehicle_class = \"van\"\n[can]\npreset = \"j1939\"\n\
        [sources.can]\ninterfaces = [\"can0\"]\nrecord_all = true\n[[trigger.signals]]\nname = \"door\"\nmessage = \"M\"\n\
        signal = \"S\"\nabove = 0.5\nseverity = \"low\"\n[link]\nbroker = \"mqtts://user:word@host:8883\"\n";
    all.extend(
        [small, "", "inherits = \"nowhere\"\n", "[trigger.telemetry]\nimpact_delta_v_kmh = 1e999\n"].map(|t| t.into()),
    );
    all
}
