//! Messages: what the decoder accepts is written again byte for byte, within the limit of its kind, and survives JSON.
//!
//! The input is tried twice: as it is, and as a version, a kind and a payload under a right length and checksum, since a fuzzer does not
//! find a CRC by itself.

use std::path::Path;

use agent_wire::envelope::{MAGIC, VERSION};
use agent_wire::limits::MESSAGE_BYTES;
use agent_wire::{EventId, Message, MessageKind, UnitId, decode, encode};

pub fn judge(data: &[u8]) {
    one(data);
    let Some(([version, kind], payload)) = data.split_first_chunk::<2>() else { return };
    let kind = MessageKind::ALL[usize::from(*kind) % MessageKind::ALL.len()];
    if let Some(bytes) = framed(*version, kind, payload) {
        one(&bytes);
    }
}

fn one(bytes: &[u8]) {
    let Ok(message) = decode(bytes) else { return };
    let mut buffer = [0u8; MESSAGE_BYTES];
    // Messages of older versions are written as of today: their payload has grown.
    if bytes.get(2) == Some(&VERSION) {
        assert_eq!(encode(&message, &mut buffer), Ok(bytes));
        assert!(bytes.len() <= message.kind().max_bytes());
    }
    let json = serde_json::to_string(&message).expect("a message has a JSON form");
    assert_eq!(serde_json::from_str::<Message>(&json).expect("its JSON form is read"), message);
}

/// A payload under a right length and checksum.
pub(super) fn framed(version: u8, kind: MessageKind, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).ok()?;
    let mut bytes = [&MAGIC[..], &[version, kind as u8], &length.to_le_bytes(), payload].concat();
    bytes.extend(crc32(&bytes).to_le_bytes());
    Some(bytes)
}

/// CRC-32 (IEEE 802.3), bit by bit: not the crate's own, so that the two check each other.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

/// The golden messages of every version, as they are and in the form that the second try takes.
pub fn seeds() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-agent/wire/tests/golden");
    let mut texts = Vec::new();
    for version in ["v1", "v2", "v3"] {
        let files = std::fs::read_dir(golden.join(version)).expect("the golden messages are there");
        let paths = files.map(|file| file.expect("a readable folder").path());
        texts.extend(paths.filter(|p| p.extension().is_some_and(|e| e == "hex")).map(|p| {
            let text = std::fs::read_to_string(&p).expect("a readable file");
            (p, text)
        }));
    }
    texts.sort();
    let whole: Vec<Vec<u8>> = texts.iter().map(|(_, text)| from_hex(text)).collect();
    let bare: Vec<Vec<u8>> = whole.iter().filter_map(|m| Some([&m[2..4], m.get(6..m.len() - 4)?].concat())).collect();
    whole.into_iter().chain(bare).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit = |b: u8| char::from(b).to_digit(16).expect("hexadecimal") as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

pub(super) fn unit(name: &str) -> UnitId {
    UnitId::new(name).expect("a sound name")
}

pub(super) fn event() -> EventId {
    EventId { unit: unit("me"), boot: 1, seq: 2 }
}
