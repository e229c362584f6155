//! Names and hashes, from text and from JSON.

use agent_wire::ids::UnitIdError;
use agent_wire::{EventId, Hash8, UnitId};

#[test]
fn names_are_checked() {
    for good in ["u", "van-017", "_x", "A.b-c_9", "0", &"w".repeat(32)] {
        assert_eq!(UnitId::new(good).map(|u| u.to_string()), Ok(good.to_owned()));
    }
    for (bad, why) in [
        ("", UnitIdError::Empty),
        (".", UnitIdError::Start('.')),
        ("..", UnitIdError::Start('.')),
        ("-rf", UnitIdError::Start('-')),
        ("a/b", UnitIdError::Character('/')),
        ("a\\b", UnitIdError::Character('\\')),
        ("+", UnitIdError::Character('+')),
        ("#", UnitIdError::Character('#')),
        ("a b", UnitIdError::Character(' ')),
        ("a\n", UnitIdError::Character('\n')),
        ("\u{430}", UnitIdError::Character('\u{430}')),
        (&"w".repeat(33), UnitIdError::TooLong),
    ] {
        assert_eq!(UnitId::new(bad), Err(why), "{bad:?}");
        let json = serde_json::to_string(bad).unwrap();
        assert!(serde_json::from_str::<UnitId>(&json).is_err(), "{bad:?} was taken from JSON");
    }
}

/// The text of an id is the stem of a file name: two different ids never share it.
#[test]
fn event_ids_read_as_file_names() {
    let id = |unit: &str, boot, seq| EventId { unit: UnitId::new(unit).unwrap(), boot, seq }.to_string();
    assert_eq!(id("van-017", 42, 3), "van-017_00000042_000003");
    assert_eq!(id("w", u32::MAX, u32::MAX), "w_4294967295_4294967295");
    assert_ne!(id("a_00000001", 1, 1), id("a", 1, 1));
    let longest = id(&"w".repeat(32), u32::MAX, u32::MAX).len() + ".mcap".len();
    assert_eq!(longest, agent_wire::limits::FILE_NAME_BYTES);
}

#[test]
fn hashes_are_sixteen_digits_in_json() {
    let hash = Hash8([0xde, 0xad, 0xbe, 0xef, 0x01, 0x23, 0x45, 0x67]);
    assert_eq!(serde_json::to_string(&hash).unwrap(), "\"deadbeef01234567\"");
    assert_eq!(serde_json::from_str::<Hash8>("\"DEADBEEF01234567\"").unwrap(), hash);
    for bad in
        ["", "deadbeef0123456", "deadbeef012345678", "deadbeef0123456g", "+e+d+e+f+1+3+5+7", "d\u{e9}adbeef012345"]
    {
        let json = serde_json::to_string(bad).unwrap();
        assert!(serde_json::from_str::<Hash8>(&json).is_err(), "{bad:?} was taken as a hash");
    }
}
