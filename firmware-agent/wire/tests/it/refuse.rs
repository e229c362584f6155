//! Bad input by hand: every variant of `DecodeError` has at least one input here, and the variant is the right one.

use agent_wire::envelope::{MAGIC, VERSION};
use agent_wire::limits::{ENVELOPE_OVERHEAD, MESSAGE_BYTES};
use agent_wire::{DecodeError, Message, MessageKind, decode};

use crate::samples::{bytes_of, frozen, longest};

/// A whole envelope around any payload, by the documented layout and not by the crate's own encoder.
pub(crate) fn seal(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'F', b'A', VERSION, kind];
    bytes.extend(u16::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.extend(payload);
    let crc = crc32(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// CRC-32 (IEEE 802.3, reflected, polynomial 0xEDB88320), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn payload_of(bytes: &[u8]) -> &[u8] {
    &bytes[6..bytes.len() - 4]
}

/// `command_send_health`: van-017, counter 1000 (e8 07), action 0.
const COMMAND: &[u8] = b"\x07van-017\xe8\x07\x00";

#[test]
fn the_layout_is_the_documented_one() {
    assert_eq!((MAGIC, VERSION, ENVELOPE_OVERHEAD), (*b"FA", 4, 10));
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926, "the check value of CRC-32");
    let (_, command) = frozen().into_iter().find(|(stem, _)| *stem == "command_send_health").unwrap();
    assert_eq!(bytes_of(&command), seal(5, COMMAND));
    for message in longest() {
        let bytes = bytes_of(&message);
        assert_eq!(seal(message.kind() as u8, payload_of(&bytes)), bytes);
    }
}

#[test]
fn short() {
    assert_eq!(decode(b""), Err(DecodeError::Short { have: 0, need: 10 }));
    assert_eq!(decode(b"FA\x01\x05\x00\x00\x00\x00\x00"), Err(DecodeError::Short { have: 9, need: 10 }));
    // Too few bytes to trust any of them, whatever they say.
    assert_eq!(decode(b"XX\x09\x09\xff\xff\xff\xff\xff"), Err(DecodeError::Short { have: 9, need: 10 }));
    let whole = seal(5, COMMAND);
    for have in 10..whole.len() {
        assert_eq!(decode(&whole[..have]), Err(DecodeError::Short { have, need: whole.len() }));
    }
    // The length field alone says 65535.
    let mut lying = whole;
    lying[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(decode(&lying), Err(DecodeError::Short { have: lying.len(), need: 65_545 }));
}

#[test]
fn long() {
    let mut bytes = seal(5, COMMAND);
    bytes.resize(MESSAGE_BYTES + 1, 0);
    assert_eq!(decode(&bytes), Err(DecodeError::Long(MESSAGE_BYTES + 1)));
    assert_eq!(decode(&vec![0; 1 << 20]), Err(DecodeError::Long(1 << 20)));
}

#[test]
fn magic() {
    let mut bytes = seal(5, COMMAND);
    bytes[1] = b'B';
    assert_eq!(decode(&bytes), Err(DecodeError::Magic(*b"FB")));
    assert_eq!(decode(b"{\"alert\":{}}"), Err(DecodeError::Magic(*b"{\"")));
}

/// A message of a later version is told apart from damage: nothing behind the version byte is looked at.
#[test]
fn version() {
    for version in [0, 5, 255] {
        let mut bytes = seal(5, COMMAND);
        bytes[2] = version;
        bytes[3] = 99;
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(DecodeError::Version(version)));
    }
}

#[test]
fn kind() {
    for kind in (0..=255u8).filter(|k| !(1..=5).contains(k)) {
        assert_eq!(decode(&seal(kind, COMMAND)), Err(DecodeError::Kind(kind)));
    }
}

#[test]
fn trailing() {
    let mut bytes = seal(5, COMMAND);
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(DecodeError::Trailing(1)));
    let two = [seal(5, COMMAND), seal(5, COMMAND)].concat();
    assert_eq!(decode(&two), Err(DecodeError::Trailing(two.len() / 2)));
}

#[test]
fn crc() {
    let mut bytes = seal(5, COMMAND);
    let last = bytes.len() - 1;
    let computed = u32::from_le_bytes(bytes[last - 3..].try_into().unwrap());
    bytes[last] ^= 0x01;
    assert_eq!(decode(&bytes), Err(DecodeError::Crc { found: computed ^ 0x0100_0000, computed }));
}

#[test]
fn payload() {
    let command = DecodeError::Payload(MessageKind::Command);
    for (why, bytes) in [
        ("nothing", b"".as_slice()),
        ("cut in the number", b"\x07van-017\xe8"),
        ("an action that does not exist", b"\x07van-017\xe8\x07\x02"),
        ("a number of more than 64 bits", b"\x07van-017\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00"),
        ("an empty name", b"\x00\xe8\x07\x00"),
        ("a name that is a topic wildcard", b"\x07van-01+\xe8\x07\x00"),
        ("a name that is another topic", b"\x07van/017\xe8\x07\x00"),
        ("a name that is the parent folder", b"\x02..\xe8\x07\x00"),
        ("a name that is not UTF-8", b"\x07van-01\xff\xe8\x07\x00"),
        ("a name with NUL", b"\x07van-01\x00\xe8\x07\x00"),
        ("a name of 33 bytes", b"\x21wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\xe8\x07\x00"),
        ("a name longer than memory", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01van\xe8\x07\x00"),
    ] {
        assert_eq!(decode(&seal(5, bytes)), Err(command), "{why}");
    }
    // An alert with six reasons, each otherwise right: one more than there is room for.
    let (_, shortest) = frozen().into_iter().find(|(stem, _)| *stem == "alert_shortest").unwrap();
    let bytes = bytes_of(&shortest);
    let (at, reason) = (payload_of(&bytes).len() - 8 - 1 - 5 - 5 - 1 - 1, [0, 2, 2, 2]);
    for (count, fits) in [(1, true), (5, true), (6, false)] {
        let mut payload = payload_of(&bytes).to_vec();
        assert_eq!(payload[at], 0, "the count of reasons");
        payload[at] = count;
        payload.splice(at + 1..=at, reason.repeat(usize::from(count)));
        let result = decode(&seal(1, &payload));
        if fits {
            assert!(matches!(result, Ok(Message::Alert(a)) if a.evidence.len() == usize::from(count)));
        } else {
            assert_eq!(result, Err(DecodeError::Payload(MessageKind::Alert)));
        }
    }
    // Flags are 0 or 1: the five bytes after the alignment.
    let mut payload = payload_of(&bytes).to_vec();
    payload[at + 2] = 2;
    assert_eq!(decode(&seal(1, &payload)), Err(DecodeError::Payload(MessageKind::Alert)));
}

/// A payload under another kind's number is refused, not read as nonsense.
#[test]
fn payload_of_another_kind() {
    for (stem, message) in frozen() {
        let bytes = bytes_of(&message);
        for kind in MessageKind::ALL.into_iter().filter(|k| *k != message.kind()) {
            let result = decode(&seal(kind as u8, payload_of(&bytes)));
            assert!(result.is_err(), "{stem} was read as {kind:?}: {result:?}");
        }
    }
}

#[test]
fn payload_trailing() {
    let mut payload = COMMAND.to_vec();
    for left in 1..=3 {
        payload.push(0);
        assert_eq!(decode(&seal(5, &payload)), Err(DecodeError::PayloadTrailing { kind: MessageKind::Command, left }));
    }
}

/// The same command with padded numbers: postcard reads them, but they are not how it is written.
#[test]
fn not_canonical() {
    for (why, payload) in [
        ("counter", b"\x07van-017\xe8\x87\x00\x00".as_slice()),
        ("length of the name", b"\x87\x00van-017\xe8\x07\x00"),
        ("number of the action", b"\x07van-017\xe8\x07\x80\x00"),
    ] {
        assert_eq!(decode(&seal(5, payload)), Err(DecodeError::NotCanonical(MessageKind::Command)), "{why}");
    }
}

#[test]
fn an_error_says_what_and_where() {
    let said = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    assert_eq!(said(b"FA"), "too short: 2 bytes, 10 needed");
    assert_eq!(said(&[0; 2000]), "too long: 2000 bytes, the limit is 1024");
    assert_eq!(said(&[0x7b; 10]), "not a message: begins with [7b, 7b]");
    assert_eq!(said(&seal(9, b"")), "unknown message kind 9");
    assert_eq!(said(&seal(5, b"")), "payload of kind Command does not parse");
}
