//! The worst case of each message, by a message whose every field is at its longest.

use agent_wire::limits::{ALERT_BYTES, ENVELOPE_OVERHEAD, REPORT_BYTES, SMALL_MESSAGE_BYTES};
use agent_wire::{EncodeError, MessageKind, encode};

use crate::samples::{bytes_of, longest};

#[test]
fn the_longest_message_of_each_kind_is_within_its_limit() {
    for message in longest() {
        let kind = message.kind();
        let size = bytes_of(&message).len();
        println!("{kind:?}: at most {size} of {} bytes", kind.max_bytes());
        assert!(size <= kind.max_bytes(), "{kind:?}: {size} bytes are above {}", kind.max_bytes());
    }
}

/// The sizes that the design promises, and the sizes reached: a change of either is a change of contract.
#[test]
fn the_limits_and_the_worst_sizes_are_the_promised_ones() {
    assert_eq!((ALERT_BYTES, REPORT_BYTES, SMALL_MESSAGE_BYTES), (256, 1024, 256));
    let sizes = longest().map(|m| (m.kind(), bytes_of(&m).len()));
    assert_eq!(
        sizes,
        [
            (MessageKind::Alert, 244),
            (MessageKind::Report, 950),
            (MessageKind::Status, 83),
            (MessageKind::Health, 132),
            (MessageKind::Command, 97),
        ]
    );
}

#[test]
fn the_longest_message_needs_exactly_its_size() {
    for message in longest() {
        let size = bytes_of(&message).len();
        let mut exact = vec![0; size];
        assert_eq!(encode(&message, &mut exact).map(<[u8]>::len), Ok(size));
        for short in [0, 1, ENVELOPE_OVERHEAD - 1, ENVELOPE_OVERHEAD, size / 2, size - 1] {
            assert_eq!(encode(&message, &mut vec![0; short]), Err(EncodeError(short)));
        }
    }
}
