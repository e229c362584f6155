//! Broken messages, made of the alert whose bytes are frozen in agent-wire's golden files.

use super::{Case, case};

const MESSAGES: &str = "Messages";

/// The golden alert.
fn alert() -> Vec<u8> {
    let path = crate::tidy::root().join("firmware-agent/wire/tests/golden/v1/alert.hex");
    let text = std::fs::read_to_string(path).unwrap();
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn message(what: &'static str, says: &'static str, change: impl Fn(&mut Vec<u8>)) -> Case {
    let mut bytes = alert();
    change(&mut bytes);
    case(MESSAGES, what, "inspect m.bin", 4, &["m.bin: ", says]).file("m.bin", bytes)
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        message("a flipped bit", "wrong CRC: ", |b| b[20] ^= 1),
        message("cut in its head", "too short: 5 bytes, 10 needed", |b| b.truncate(5)),
        message("cut in the middle", "too short: 60 bytes, ", |b| b.truncate(60)),
        message("one byte too many", "1 bytes follow the message", |b| b.push(0)),
        message("longer than any message", "too long: ", |b| b.resize(4096, 0)),
        message("a version of the future", "unknown version 9, this reader knows 1", |b| b[2] = 9),
        message("a kind that does not exist", "unknown message kind 77", |b| b[3] = 77),
        message("only the magic", "too short: 2 bytes, 10 needed", |b| b.truncate(2)),
    ]
}

#[test]
fn the_message_that_is_broken_was_good() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("m.bin"), alert()).unwrap();
    let shown = crate::e2e::binary::run(temp.path(), &["inspect", "--json", "m.bin"]).with_code(0).json_lines();
    assert!(shown[0]["message"]["alert"].is_object(), "{}", shown[0]);
}
