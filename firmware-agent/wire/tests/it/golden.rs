//! Frozen files, one folder per version: `.hex` is the message on the wire, `.json` the same message in files and on
//! the fleet side. Units in the field write and read these bytes and will for years.
//!
//! IF A TEST HERE FAILS, REVERT YOUR CHANGE, NOT THE FILE. A message type that must change gets a new version of the
//! envelope and a new folder. `AGENT_WIRE_FREEZE=1` writes files that do not exist yet; it never touches one that does.

use std::fs;
use std::path::PathBuf;

use agent_wire::envelope::{OLDEST_VERSION, VERSION};
use agent_wire::{Message, decode};

use crate::samples::{bytes_of, frozen, frozen_v1, frozen_v2, frozen_v3};

fn folder_of(version: u8) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

fn folder() -> PathBuf {
    folder_of(VERSION)
}

/// The file's text; made from `fresh` first if it does not exist and the environment asks for it.
fn frozen_text(name: &str, fresh: &str) -> String {
    let path = folder().join(name);
    if !path.exists() && std::env::var_os("AGENT_WIRE_FREEZE").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, fresh).unwrap();
    }
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Lines of 32 bytes.
fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn frozen_bytes_decode_to_the_same_message_and_back() {
    for (stem, message) in frozen() {
        let frozen = from_hex(&frozen_text(&format!("{stem}.hex"), &to_hex(&bytes_of(&message))));
        assert_eq!(decode(&frozen).as_ref(), Ok(&message), "{stem}: read otherwise than when it was frozen");
        assert_eq!(to_hex(&bytes_of(&message)), to_hex(&frozen), "{stem}: written otherwise than when it was frozen");
    }
}

#[test]
fn frozen_json_reads_to_the_same_message_and_back() {
    for (stem, message) in frozen() {
        let fresh = serde_json::to_string_pretty(&message).unwrap() + "\n";
        let frozen = frozen_text(&format!("{stem}.json"), &fresh);
        assert_eq!(serde_json::from_str::<Message>(&frozen).unwrap(), message, "{stem}: read otherwise");
        assert_eq!(fresh, frozen, "{stem}: written otherwise");
    }
}

/// Units with an older version stay on the road: what they write is read for ever, and what was added since is absent.
#[test]
fn frozen_bytes_and_json_of_older_versions_are_still_read() {
    assert_eq!((OLDEST_VERSION, VERSION), (1, 4));
    for (version, messages) in [(1, frozen_v1()), (2, frozen_v2()), (3, frozen_v3())] {
        for (stem, message) in messages {
            let read = |suffix| fs::read_to_string(folder_of(version).join(format!("{stem}.{suffix}"))).unwrap();
            let bytes = from_hex(&read("hex"));
            assert_eq!(bytes[2], version, "{stem}: not of version {version}");
            assert_eq!(decode(&bytes).as_ref(), Ok(&message), "{stem}: read otherwise than when it was frozen");
            assert_eq!(serde_json::from_str::<Message>(&read("json")).unwrap(), message, "{stem}: JSON read otherwise");
        }
    }
}

/// A file that nobody compares protects nothing.
#[test]
fn every_frozen_file_belongs_to_a_message() {
    belongs(&folder(), &frozen());
    belongs(&folder_of(1), &frozen_v1());
    belongs(&folder_of(2), &frozen_v2());
    belongs(&folder_of(3), &frozen_v3());
}

fn belongs(folder: &std::path::Path, frozen: &[(&'static str, Message)]) {
    let mut expected: Vec<String> =
        frozen.iter().flat_map(|(stem, _)| [format!("{stem}.hex"), format!("{stem}.json")]).collect();
    let mut found: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}
