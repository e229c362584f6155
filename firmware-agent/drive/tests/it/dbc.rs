//! CAN signals by DBC: bit orders, signs, multiplexing, J1939, and the real car.

use agent_core::samples::{CanFrame, SignalSample, VehicleSignal};
use agent_core::time::MonoTime;
use agent_drive::dbc::check;
use agent_drive::import::{InputKind, Offset, import};
use agent_drive::{DbcError, DriveInfo, DriveReader, DriveRecord, IdFilter, SignalMap, SignalMapping};

use crate::importers::one;
use crate::util::data;

const HEAD: &str = "VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: A\n\n";

fn frame(id: u32, extended: bool, payload: &[u8]) -> CanFrame {
    let mut data = [0; 64];
    data[..payload.len()].copy_from_slice(payload);
    let (t, len) = (MonoTime(5), payload.len() as u8);
    CanFrame { t, bus: 1, id, extended, fd: false, remote: false, len, data }
}

fn map(body: &str, message: &str, name: &str) -> Result<SignalMap, DbcError> {
    let mapping = SignalMapping { signal: VehicleSignal::Speed, message, name, scale: 1.0, offset: 0.0, bus: None };
    SignalMap::from_dbc(&format!("{HEAD}{body}\n"), &[mapping])
}

fn value(map: &mut SignalMap, frame: &CanFrame) -> Option<f32> {
    let mut out: Vec<SignalSample> = Vec::new();
    map.decode(frame, &mut out);
    assert!(out.len() <= 1);
    out.first().map(|s| s.value)
}

#[test]
fn bit_orders_signs_and_scales() {
    // The bytes 12 34 56 78 by hand: Intel 12 bits from bit 4 are 0x341; Motorola 12 bits from bit 3 are 0x234.
    for (signal, want) in [
        ("S : 0|8@1+ (1,0)", 0x12 as f32),
        ("S : 4|12@1+ (1,0)", 0x341 as f32),
        ("S : 3|12@0+ (1,0)", 0x234 as f32),
        ("S : 7|16@0+ (0.5,-10)", 0x1234 as f32 * 0.5 - 10.0),
        ("S : 0|32@1+ (1,0)", 0x7856_3412 as f32),
        ("S : 23|4@0- (1,0)", 5.0),
        ("S : 20|4@1- (1,0)", 5.0),
        ("S : 27|4@0- (1,0)", -8.0),
        ("S : 24|4@1- (2,1)", -15.0),
    ] {
        let mut m = map(&format!("BO_ 291 M: 8 A\n SG_ {signal} [0|0] \"\" A"), "M", "S").unwrap();
        assert_eq!(value(&mut m, &frame(291, false, &[0x12, 0x34, 0x56, 0x78])), Some(want), "{signal}");
        assert_eq!(value(&mut m, &frame(291, true, &[0x12, 0x34, 0x56, 0x78])), None, "a 29-bit identifier is another");
    }
}

#[test]
fn filters_let_through_what_is_mapped_once_each() {
    let text = |f: &IdFilter| f.to_string();
    let of = |body: &str, messages: &[&str]| -> Vec<String> {
        let mapping = |message| SignalMapping {
            signal: VehicleSignal::Speed,
            message,
            name: "S",
            scale: 1.0,
            offset: 0.0,
            bus: None,
        };
        let mappings: Vec<_> = messages.iter().map(|m| mapping(*m)).collect();
        let map = SignalMap::from_dbc(&format!("{HEAD}{body}\n"), &mappings).unwrap();
        map.filters().iter().map(text).collect()
    };
    let signal = "SG_ S : 0|8@1+ (1,0) [0|0] \"\" A";
    let short = format!("BO_ 291 M: 8 A\n {signal}\n\nBO_ 2147484000 L: 8 A\n {signal}");
    assert_eq!(of(&short, &["M", "L", "M"]), ["123:7FF", "00000160:1FFFFFFF"]);
    // CCVS (PGN 65265) from any address at any priority; a message of PDU1 (PGN 0xEA00) to any address.
    let ccvs = 0x18FE_F100_u32 | 1 << 31;
    let request = 0x18EA_FF00_u32 | 1 << 31;
    let j1939 = format!(
        "BO_ {ccvs} C: 8 A\n {signal}\n\nBO_ {request} R: 3 A\n {signal}\n\nBA_DEF_ \"ProtocolType\" STRING ;\n\
         BA_DEF_DEF_ \"ProtocolType\" \"J1939\";"
    );
    assert_eq!(of(&j1939, &["C", "R"]), ["00FEF100:03FFFF00", "00EA0000:03FF0000"]);
}

#[test]
fn a_short_frame_gives_no_value_and_is_counted() {
    let mut m = map("BO_ 1 M: 8 A\n SG_ S : 8|16@1+ (1,0) [0|0] \"\" A", "1", "S").unwrap();
    assert_eq!(value(&mut m, &frame(1, false, &[0, 1])), None);
    assert_eq!(value(&mut m, &frame(1, false, &[])), None);
    assert_eq!(value(&mut m, &frame(1, false, &[0, 1, 1])), Some(257.0));
    assert_eq!((m.stats().absent, m.stats().decoded), (2, 1));
}

#[test]
fn a_multiplexed_signal_is_there_only_while_it_is_selected() {
    let body = "BO_ 2 M: 8 A\n SG_ X M : 0|4@1+ (1,0) [0|0] \"\" A\n SG_ S m3 : 8|8@1+ (1,0) [0|0] \"\" A";
    let mut m = map(body, "0x2", "S").unwrap();
    assert_eq!(value(&mut m, &frame(2, false, &[3, 77])), Some(77.0));
    assert_eq!(value(&mut m, &frame(2, false, &[4, 77])), None);
    assert_eq!(value(&mut m, &frame(2, false, &[0x13, 7])), Some(7.0));
}

#[test]
fn j1939_messages_match_by_pgn() {
    let Some(path) = data("dbc/CSS-J1939-DEMO.dbc") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let (signal, message, name) = (VehicleSignal::EngineSpeed, "EEC1", "EngineSpeed");
    let mut m =
        SignalMap::from_dbc(&text, &[SignalMapping { signal, message, name, scale: 1.0, offset: 0.0, bus: None }])
            .unwrap();
    // The truck of the real log idles at 650 rpm; its EEC1 has another priority than the DBC's.
    assert_eq!(value(&mut m, &frame(0x0CF0_0400, true, &[0x60, 0x7D, 0x84, 0x48, 0x14, 0, 0xF0, 0x84])), Some(649.0));
    assert_eq!(value(&mut m, &frame(0x18F0_0417, true, &[0, 0, 0, 0x48, 0x14, 0, 0, 0])), Some(649.0));
    assert_eq!(value(&mut m, &frame(0x0CF0_0300, true, &[0, 0, 0, 0x48, 0x14, 0, 0, 0])), None);
}

#[test]
fn missing_names_are_said_with_what_there_is() {
    let body = "BO_ 1 WHEELS: 8 A\n SG_ FL : 0|8@1+ (1,0) [0|0] \"\" A\n SG_ FR : 8|8@1+ (1,0) [0|0] \"\" A";
    for (message, name, want) in [
        ("wheels", "FL", "the DBC has no message \"wheels\", which Speed is mapped to (did you mean WHEELS?)"),
        ("0x7", "FL", "the DBC has no message \"0x7\", which Speed is mapped to"),
        ("WHEELS", "RL", "the DBC's message WHEELS has no signal \"RL\", which Speed is mapped to; it has FL, FR"),
    ] {
        assert_eq!(map(body, message, name).unwrap_err().to_string(), want);
    }
    let e = map("BO_ 1 M: 8 A\n SG_ S : 0|0@1+ (1,0) [0|0] \"\" A", "M", "S").unwrap_err();
    assert_eq!(e.to_string(), "the DBC's signal M.S: 0 bits, not 1 to 64");
}

#[test]
fn every_real_dbc_parses_or_names_its_line() {
    for name in [
        "CSS-J1939-DEMO",
        "canmod-gps",
        "honda_civic_touring_2016_can_generated",
        "toyota_adas",
        "toyota_new_mc_pt_generated",
        "toyota_nodsu_pt_generated",
        "toyota_tnga_k_pt_generated",
    ] {
        let Some(path) = data(&format!("dbc/{name}.dbc")) else { return };
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        assert!(check(&text).unwrap_or_else(|e| panic!("{name}: {e}")) > 0);
    }
    let Some(path) = data("dbc/toyota_2017_ref_pt.dbc") else { return };
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    // The file that other parsers reject: can-dbc 10 reads its 143 messages. Cut anywhere, it names a line.
    assert_eq!(check(&text).unwrap(), 143);
    let cut = text.len() / 2;
    let e = check(text.get(..cut - text[..cut].bytes().rev().position(|b| b == b'|').unwrap()).unwrap()).unwrap_err();
    assert!(matches!(e, DbcError::Syntax { line, .. } if line > 100), "{e}");
}

/// Little-endian doubles behind a numpy header of version 1.
fn doubles(path: &std::path::Path) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[start..].chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn the_real_cars_wheel_speed_agrees_with_the_processed_speed() {
    let (Some(log), Some(dbc), Some(speed)) = (
        data("can/comma2k19_rav4_candump.log.gz"),
        data("dbc/toyota_new_mc_pt_generated.dbc"),
        data("comma2k19/processed_log/CAN/speed"),
    ) else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("d.mcap");
    import(&one(&log, InputKind::Candump, Offset::OwnClock(0.0)), &out, DriveInfo::new("rav4"), true).unwrap();
    let name = "WHEEL_SPEED_FL,WHEEL_SPEED_FR,WHEEL_SPEED_RL,WHEEL_SPEED_RR";
    let mapping = SignalMapping {
        signal: VehicleSignal::Speed,
        message: "0xAA",
        name,
        scale: 1.0 / 3.6,
        offset: 0.0,
        bus: Some(0),
    };
    let mut map = SignalMap::from_dbc(&std::fs::read_to_string(dbc).unwrap(), &[mapping]).unwrap();
    let (mut reader, mut decoded) = (DriveReader::open(&out).unwrap(), Vec::new());
    while let Some(record) = reader.next().unwrap() {
        if let DriveRecord::Can(frame) = record {
            map.decode(&frame, &mut decoded);
        }
    }
    let (t, v) = (doubles(&speed.join("t")), doubles(&speed.join("value")));
    let mut errors: Vec<f64> = decoded
        .iter()
        .map(|s| {
            let at = t.partition_point(|x| *x < s.t.as_s());
            let near = [at.saturating_sub(1), at.min(t.len() - 1)];
            let best = near.iter().min_by(|a, b| (t[**a] - s.t.as_s()).abs().total_cmp(&(t[**b] - s.t.as_s()).abs()));
            let want = v[*best.unwrap()];
            (f64::from(s.value) - want).abs() / want
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    let (median, worst) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("speed by 0xAA against processed: {} values, median {median:.5}, worst {worst:.5}", errors.len());
    assert!(errors.len() > 4000 && median < 0.01, "{} values, median {median}", errors.len());
    assert!(worst < 0.01, "worst {worst}");
}
