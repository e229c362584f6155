//! Fuzz target: no bytes make the decoder panic, and what it accepts is written again byte for byte, within the limit
//! of its kind, and survives JSON.
//!
//! The input is tried twice: as it is, and as a kind and a payload under a right length and check sum, since a fuzzer
//! does not find a CRC by itself.
#![no_main]

use agent_wire::envelope::{MAGIC, VERSION};
use agent_wire::limits::MESSAGE_BYTES;
use agent_wire::{Message, MessageKind, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    judge(data);
    let Some((first, payload)) = data.split_first() else { return };
    if let Ok(length) = u16::try_from(payload.len()) {
        let kind = MessageKind::ALL[usize::from(*first) % MessageKind::ALL.len()];
        let mut bytes = [&MAGIC[..], &[VERSION, kind as u8], &length.to_le_bytes(), payload].concat();
        bytes.extend(crc32(&bytes).to_le_bytes());
        judge(&bytes);
    }
});

fn judge(bytes: &[u8]) {
    let Ok(message) = decode(bytes) else { return };
    let mut buffer = [0u8; MESSAGE_BYTES];
    assert_eq!(encode(&message, &mut buffer), Ok(bytes));
    assert!(bytes.len() <= message.kind().max_bytes());
    let json = serde_json::to_string(&message).expect("a message has a JSON form");
    assert_eq!(serde_json::from_str::<Message>(&json).expect("its JSON form is read"), message);
}

/// CRC-32 (IEEE 802.3), bit by bit: not the crate's own, so that the two check each other.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    })
}
