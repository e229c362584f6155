//! DBC files: any text gives a map of signals or an error with its place; what a map decodes is a number.

use agent_core::samples::{CanFrame, VehicleSignal};
use agent_core::time::MonoTime;
use agent_drive::dbc::message_lengths;
use agent_drive::{DbcError, SignalMap, SignalMapping};

const DATA: [u8; 64] = [0xA5; 64];

pub fn judge(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lengths = match message_lengths(text) {
        Ok(lengths) => lengths,
        Err(error) => return said(&error),
    };
    let (message, name, bus) = [("M", "S", None), ("0x64", "A, B", Some(1)), ("M", "T", None)][data.len() % 3];
    let mapping = SignalMapping { signal: VehicleSignal::Speed, message, name, scale: 0.5, offset: -1.0, bus };
    match SignalMap::from_dbc(text, &[mapping]) {
        Ok(map) => decode(map, &lengths),
        Err(error) => said(&error),
    }
}

fn decode(mut map: SignalMap, lengths: &[(u32, bool, u8)]) {
    let mut out = Vec::new();
    for (id, extended, len) in lengths.iter().copied().chain([(100, false, 8), (100, true, 64)]) {
        let frame = CanFrame { t: MonoTime(1), bus: 1, id, extended, fd: len > 8, remote: false, len, data: DATA };
        out.clear();
        map.decode(&frame, &mut out);
        assert!(out.len() <= 1 && out.iter().all(|s| !s.value.is_nan()), "{out:?}");
    }
    assert_eq!(map.filters().len(), 1);
}

/// An error of syntax names its place.
fn said(error: &DbcError) {
    assert!(!error.to_string().is_empty());
    if let DbcError::Syntax { line, column, .. } = error {
        assert!(*line > 0 && *column > 0, "{error}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let plain = "VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: V\n\nBO_ 100 M: 8 V\n SG_ S : 7|16@0- (0.1,-2) [0|9] \"m/s\" V\n \
        SG_ A : 0|8@1+ (1,0) [0|0] \"\" V\n SG_ B : 8|64@1- (1e3,0) [0|0] \"\" V\n";
    let multiplexed = "VERSION \"J1939\"\nBU_: V\nBO_ 2566844926 M: 64 V\n SG_ K M : 0|8@1+ (1,0) [0|0] \"\" V\n \
        SG_ S m1 : 8|2@1+ (1,0) [0|0] \"\" V\n SG_ T m2M : 500|12@0+ (1,0) [0|0] \"\" V\n\
        CM_ SG_ 2566844926 S \"x\";\nVAL_ 2566844926 S 0 \"off\" 1 \"on\" ;\nBA_DEF_ BO_ \"Cycle\" INT 0 10;\n\
        BA_DEF_DEF_ \"Cycle\" 1;\nBA_ \"Cycle\" BO_ 2566844926 5;\nSIG_VALTYPE_ 100 S : 1;\n";
    let presets = [crate::config::types::CanPreset::J1939, crate::config::types::CanPreset::Obd2];
    let own = presets.into_iter().filter_map(|which| Some(crate::preset::preset(which)?.0));
    [plain, multiplexed].into_iter().chain(own).map(|text| text.as_bytes().to_vec()).collect()
}
