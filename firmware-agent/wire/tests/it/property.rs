//! What is accepted is written again byte for byte, fits its limit and survives JSON; everything else is an error and
//! never a panic. Systematic damage first, then random damage (bounded; a failing case is printed and shrunk).

use agent_wire::limits::MESSAGE_BYTES;
use agent_wire::{Message, MessageKind, decode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::refuse::seal;
use crate::samples::{bytes_of, frozen, longest};

/// True when `bytes` were accepted; fails when they were accepted wrongly.
fn judge(bytes: &[u8]) -> bool {
    let Ok(message) = decode(bytes) else { return false };
    assert_eq!(bytes_of(&message), bytes, "accepted, but written otherwise");
    let kind = message.kind();
    let worst = longest().iter().find(|m| m.kind() == kind).map_or(0, |m| bytes_of(m).len());
    assert!(bytes.len() <= worst, "{kind:?}: {} bytes, above the worst case of {worst}", bytes.len());
    let json = serde_json::to_string(&message).unwrap();
    assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message, "{json}");
    true
}

fn corpus() -> Vec<(MessageKind, Vec<u8>)> {
    frozen().iter().chain(longest().map(|m| ("", m)).iter()).map(|(_, m)| (m.kind(), bytes_of(m))).collect()
}

fn payload_of(bytes: &[u8]) -> &[u8] {
    &bytes[6..bytes.len() - 4]
}

#[test]
fn every_message_of_the_corpus_is_accepted() {
    assert!(corpus().iter().all(|(_, bytes)| judge(bytes)));
}

#[test]
fn no_single_flipped_bit_gets_through() {
    for (kind, bytes) in corpus() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "{kind:?}: bit {bit} flipped unseen");
        }
    }
}

#[test]
fn no_shortened_or_lengthened_message_gets_through() {
    for (kind, bytes) in corpus() {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{kind:?}: accepted with {end} of {} bytes", bytes.len());
            // Cut inside the payload, with an honest length and check sum.
            if end < payload_of(&bytes).len() {
                let cut = seal(kind as u8, &payload_of(&bytes)[..end]);
                assert!(decode(&cut).is_err(), "{kind:?}: payload accepted with {end} bytes");
            }
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

/// Each payload byte replaced in turn under a right check sum: this is what reaches the parser from a faulty writer.
#[test]
fn every_payload_byte_replaced() {
    let (mut accepted, mut refused) = (0u32, 0u32);
    for (kind, bytes) in corpus() {
        let payload = payload_of(&bytes);
        for at in 0..payload.len() {
            let was = payload[at];
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff, was ^ 1, was ^ 0x80, was.wrapping_add(1)] {
                let mut damaged = payload.to_vec();
                damaged[at] = byte;
                if judge(&seal(kind as u8, &damaged)) { accepted += 1 } else { refused += 1 }
            }
        }
    }
    // Both outcomes must have been seen, or this test looked at nothing.
    assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused");
}

/// One change to a payload.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    /// Overwrites from the first place with what stands at the second, up to 8 bytes.
    Copy(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), any::<Index>()).prop_map(|(to, from)| Edit::Copy(to, from)),
    ]
}

fn apply(payload: &mut Vec<u8>, edit: &Edit) {
    let size = payload.len();
    match edit {
        Edit::Insert(at, byte) => payload.insert(at.index(size + 1), *byte),
        _ if size == 0 => {}
        Edit::Replace(at, byte) => payload[at.index(size)] = *byte,
        Edit::Remove(at) => drop(payload.remove(at.index(size))),
        Edit::Copy(to, from) => {
            let (to, from) = (to.index(size), from.index(size));
            let count = (size - to.max(from)).min(8);
            payload.copy_within(from..from + count, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..MESSAGE_BYTES + 64)) {
        judge(&bytes);
    }

    #[test]
    fn random_payloads(kind in 0u8..8, payload in vec(any::<u8>(), 0..MESSAGE_BYTES)) {
        judge(&seal(kind, &payload));
    }

    /// Small bytes are what tags, counts and options are made of: these get further into the parser.
    #[test]
    fn small_payload_bytes(kind in 1u8..6, payload in vec(0u8..8, 0..160)) {
        judge(&seal(kind, &payload));
    }

    #[test]
    fn edited_messages(which in any::<Index>(), edits in vec(edit(), 1..8)) {
        let corpus = corpus();
        let (kind, bytes) = &corpus[which.index(corpus.len())];
        let mut payload = payload_of(bytes).to_vec();
        edits.iter().for_each(|edit| apply(&mut payload, edit));
        judge(&seal(*kind as u8, &payload));
    }
}
