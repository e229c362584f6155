//! What a configuration means, that the shipped files are good, and (in [`broken`]) what each broken one says.

mod broken;
mod broken_token;

use std::fs;
use std::path::{Path, PathBuf};

use agent_core::config::{TelemetryConfig, VisionConfig};
use agent_core::samples::VehicleSignal;
use agent_wire::Severity;

use super::command::EXIT_BAD_CONFIGURATION;
use super::types::BrokerUrl;
use super::*;

/// A file that sets something in every section, in both forms where there are two.
const FULL: &str = r#"
inherits = "bench-x86_64"
[unit]
name = "truck-0042"
fleet = "north.haul"
vehicle_class = "truck"
[classes.truck]
harsh_braking_mps2 = 3.0
[rings]
sample_pre_roll_s = 30
video_max_mbit_s = 12.5
memory_cap_mb = 200
[[trigger.signals]]
name = "retarder"
signal = "EBC1.XBR_State"
above = 2
severity = "moderate"
[[trigger.signals]]
name = "low-air"
signal = "AIR1.Pressure"
below = 450.5
severity = "severe"
[trigger.vision]
model = "models/fastestdet.toml"
risk_on = 0.65
[trigger.telemetry]
accel_range_g = 8
impact_delta_v_kmh = 7.1
[can]
dbc = "j1939.dbc"
buses = [0, 2]
[can.signals]
speed = { signal = "CCVS1.WheelBasedVehicleSpeed", scale = 0.2777778 }
brake = "EBC1.BrakePedal"
[fusion]
harsh_events = false
[student]
ask = "all"
telemetry = false
[link]
broker = "mqtt://[fd00::1]:18830"
brokers = ["mqtts://a.example", "mqtt://[fd00::1]"]
[link.outbox]
store = "/var/lib/firmware-agent/outbox.redb"
[commands]
keys = ["3D4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"]
max_per_minute = 5
[updates]
keys = ["3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"]
dir = "/var/lib/firmware-agent/updates"
trial_s = 300
[evidence]
dir = "/var/lib/firmware-agent/evidence"
key = "/var/lib/firmware-agent/key.pem"
[sources]
drives = ["a.mcap", "b.mcap"]
loop = true
[sources.can]
interfaces = ["can0", "vcan1"]
record_all = false
filters = ["7e8", "18FEF100:03FFFF00"]
"#;

fn good(text: &str) -> Config {
    load_str("unit.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_defaults_are_those_of_the_core() {
    let config = Config::default_embedded().expect("the shipped defaults load");
    assert_eq!(config.telemetry(), TelemetryConfig::default());
    assert_eq!(config.vision(), VisionConfig::default());
    assert_eq!((config.rings.sample_pre_roll_s, config.rings.video_pre_roll_s, config.rings.post_roll_s), (20, 10, 5));
}

#[test]
fn every_board_file_loads_and_is_shipped() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../board-configs");
    let mut boards = 0;
    for entry in fs::read_dir(folder).expect("board-configs is there") {
        let path = entry.expect("readable").path();
        let config = load(&path, Purpose::Desk).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.memory().total_bytes() <= config.memory().cap_bytes);
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let shipped = load_str("unit.toml", &format!("inherits = \"{stem}\"")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(shipped.hash8(), config.hash8(), "{stem} in the program is another one than on disk");
        boards += 1;
    }
    assert_eq!(boards, SHIPPED.len());
}

#[test]
fn a_file_states_only_what_differs() {
    let config = good(FULL);
    assert_eq!(config.unit.name.as_str(), "truck-0042");
    assert_eq!(config.rings.sample_pre_roll_s, 30);
    assert_eq!(config.rings.post_roll_s, 5, "from base.toml");
    let telemetry = config.telemetry();
    assert_eq!(telemetry.impact_delta_v_kmh, 7.1, "[trigger.telemetry] replaces the class");
    assert_eq!(telemetry.harsh_braking_mps2, 3.0, "the class of the file");
    assert_eq!(telemetry.harsh_duration_ms, 700, "the class of base.toml");
    assert_eq!(telemetry.accel_range_mps2, 8.0 * 9.806_65);
    assert_eq!(config.vision().risk_on, 0.65);
    assert_eq!(config.can.signals.len(), 2);
    assert_eq!(config.can.signals[0].0, VehicleSignal::Speed);
    assert_eq!(config.can.signals[0].1.message, "CCVS1");
    assert_eq!(config.can.signals[1].1.scale, 1.0);
    assert_eq!(config.trigger.signals[0].threshold, Threshold::Above(2.0));
    assert_eq!(config.trigger.signals[1].threshold, Threshold::Below(450.5));
    assert_eq!(config.trigger.signals[1].severity, Severity::Severe);
    let broker = |host: &str, port, secure| BrokerUrl { host: host.to_owned(), port, secure };
    assert_eq!(config.link.broker, broker("fd00::1", 18830, false));
    assert_eq!(config.link.all_brokers(), [broker("a.example", 8883, true), broker("fd00::1", 1883, false)]);
    assert_eq!(
        good("").link.all_brokers(),
        [broker("127.0.0.1", 1883, false)],
        "the one alone, where there is no list"
    );
    assert_eq!(config.student.ask, Ask::All);
    assert!(!config.student.telemetry && good("").student.telemetry);
    assert_eq!(config.commands.keys[0].to_string(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    assert_eq!(config.commands.max_per_minute, 5);
    assert_eq!(config.evidence.key, types::KeyFile::At("/var/lib/firmware-agent/key.pem".into()));
    assert_eq!(good("").evidence.key, types::KeyFile::Auto);
    assert_eq!((config.updates.keys.len(), config.updates.trial_s, config.updates.well_s), (1, 300, 30));
    assert_eq!(config.updates.dir, updates::UpdatesFolder::At("/var/lib/firmware-agent/updates".into()));
    assert!(good("").updates.keys.is_empty(), "nobody's updates are taken unless somebody is named");
    assert!(good("").commands.keys.is_empty(), "nobody's commands are taken unless somebody is named");
    let secure = good("[link]\nbroker = \"mqtts://broker.example\"\n").link.broker;
    assert_eq!(
        (secure.secure, secure.port, secure.to_string()),
        (true, 8883, "mqtts://broker.example:8883".to_owned())
    );
    assert!(config.sources.repeat && config.sources.realtime);
    let can = &config.sources.can;
    assert_eq!(can.interfaces, ["can0", "vcan1"]);
    assert_eq!(can.filters.iter().map(ToString::to_string).collect::<Vec<_>>(), ["7E8:7FF", "18FEF100:03FFFF00"]);
}

#[test]
fn the_effective_configuration_loads_to_itself() {
    for text in ["", FULL, "inherits = \"bench-x86_64\""] {
        let config = good(text);
        let effective = config.effective_toml();
        let again = load_str("effective.toml", &effective).unwrap_or_else(|errors| panic!("{errors}\n{effective}"));
        assert_eq!(again, config);
        assert_eq!(again.hash8(), config.hash8());
        assert_eq!(again.effective_toml(), effective);
    }
}

#[test]
fn base_toml_and_the_effective_defaults_hold_the_same_keys_and_values() {
    let base: toml::Table = toml::from_str(SHIPPED[0].1).expect("TOML");
    let effective: toml::Table = toml::from_str(&good("").effective_toml()).expect("TOML");
    assert_eq!(effective, base, "a key is read and not printed, or printed and not in base.toml");
}

#[test]
fn the_hash_changes_with_any_value_and_with_nothing_else() {
    let hash = good("").hash8();
    assert_eq!(good("# a comment\n[fusion]\ncool_down_s = 30").hash8(), hash, "the same value in another form");
    assert_ne!(good("[fusion]\ncool_down_s = 30.5").hash8(), hash);
    assert_ne!(good("[trigger.telemetry]\nharsh_duration_ms = 300").hash8(), hash, "an override was stated");
    let mut config = good("");
    config.folder = PathBuf::from("/elsewhere");
    assert_eq!(config.hash8(), hash, "the folder is no part of it");
}

#[test]
fn an_inherited_signal_can_be_taken_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("fleet.toml", "[can]\ndbc = \"car.dbc\"\n[can.signals]\nspeed = \"A.B\"\nbrake = \"A.C\"");
    write("unit.toml", "inherits = \"fleet\"\n[can.signals]\nspeed = \"none\"\nbrake = { signal = \"D.E\" }");
    let config = load(&folder.path().join("unit.toml"), Purpose::Desk).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = config.can.signals.iter().map(|(s, at)| (*s, at.message.as_str())).collect();
    assert_eq!(names, [(VehicleSignal::Brake, "D")]);
    assert_eq!(config.resolve(config.can.dbc.as_deref().expect("a dbc")), folder.path().join("car.dbc"));
    assert_eq!(config.resolve(Path::new("/abs/car.dbc")), Path::new("/abs/car.dbc"));
}

#[test]
fn a_signal_goes_by_its_short_name_or_its_vss_path_and_the_nearer_file_says() {
    for (short, vss, signal) in VEHICLE_SIGNALS {
        let named = |key: &str| good(&format!("[can]\ndbc = \"a.dbc\"\n[can.signals]\n{key} = \"A.B\"\n"));
        let (short, vss) = (named(short), named(&format!("\"{vss}\"")));
        assert_eq!(vss.can.signals.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [signal]);
        assert_eq!((vss.hash8(), vss.effective_toml()), (short.hash8(), short.effective_toml()));
    }
    let text = "[can]\ndbc = \"a.dbc\"\n[can.signals]\n\"Vehicle.Speed\" = { signal = \"SPEED\" }\n";
    let said = load_str("unit.toml", text).expect_err("refused").to_string();
    assert_eq!(
        said,
        "unit.toml:4:30: can.signals.\"Vehicle.Speed\".signal is \"SPEED\", not of the form MESSAGE.SIGNAL"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let signals = || {
        let config = load(&folder.path().join("unit.toml"), Purpose::Desk).unwrap_or_else(|errors| panic!("{errors}"));
        let signals = config.can.signals.iter().map(|(s, at)| (*s, at.message.clone()));
        signals.collect::<Vec<_>>()
    };
    let (short, vss) = (
        "[can.signals]\nspeed = \"A.B\"\nbrake = \"A.C\"\n",
        "[can.signals]\n\"Vehicle.Speed\" = \"D.E\"\n\"Vehicle.Chassis.Brake.PedalPosition\" = \"none\"\n",
    );
    write("fleet.toml", &format!("[can]\ndbc = \"car.dbc\"\n{short}"));
    write("unit.toml", &format!("inherits = \"fleet\"\n{vss}"));
    assert_eq!(signals(), [(VehicleSignal::Speed, "D".to_owned())]);
    write("fleet.toml", &format!("[can]\ndbc = \"car.dbc\"\n{vss}"));
    write("unit.toml", &format!("inherits = \"fleet\"\n{short}"));
    assert_eq!(signals(), [(VehicleSignal::Speed, "A".to_owned()), (VehicleSignal::Brake, "A".to_owned())]);
}

#[test]
fn the_placeholder_is_a_name_for_the_desk_and_none_for_a_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.toml");
    let said = |text: &str| {
        fs::write(&path, text).expect("written");
        assert!(load(&path, Purpose::Desk).is_ok(), "{text}");
        let mut out = Vec::new();
        assert_eq!(check_config_command(&path, &mut out).expect("written"), EXIT_OK);
        let shown = String::from_utf8(out).expect("text");
        let refused = load(&path, Purpose::Unit).err().map(|e| e.to_string());
        let noted = refused.as_ref().is_some_and(|e| shown.contains(&format!("\n# run refuses it: {e}\n")));
        assert_eq!(noted, shown.contains("refuses"), "{shown}");
        good(&shown);
        refused.map(|e| e.replace(&format!("{}/", folder.path().display()), ""))
    };
    let why = "a placeholder: all units that keep it share topics and event ids; give this one a name of its own under [unit]";
    let line =
        |text: &str, name: &str| text.lines().position(|l| l == format!("name = \"{name}\"")).expect("there") + 1;
    let base = line(include_str!("../../../../../board-configs/base.toml"), "unit");
    let board = line(include_str!("../../../../../board-configs/bench-x86_64.toml"), "bench-x86_64");
    assert_eq!(said(""), Some(format!("base.toml:{base}:8: unit.name is \"unit\", {why}")));
    let of_board = format!("bench-x86_64.toml:{board}:8: unit.name is \"bench-x86_64\", {why}");
    assert_eq!(said("inherits = \"bench-x86_64\"\n"), Some(of_board));
    assert_eq!(said("[unit]\nname = \"unit\"\n"), Some(format!("own.toml:2:8: unit.name is \"unit\", {why}")));
    assert_eq!(said("inherits = \"bench-x86_64\"\n[unit]\nname = \"unit-2\"\n"), None);
    assert_eq!(said("[unit]\nname = \"unit-1\"\n"), None);
}

#[test]
fn the_memory_is_the_sum_of_its_parts() {
    let plan = good("[rings]\nmemory_cap_mb = 300").memory();
    assert_eq!(plan.video_bytes, 17_000_000, "8 Mbit/s for 10 + 5 + 2 s");
    assert_eq!((plan.imu_samples, plan.can_frames, plan.gnss_fixes), (27_541, 540_001, 676));
    assert_eq!(plan.can_bytes, 540_001 * 40, "8 bytes of payload and 32 of index");
    assert_eq!(plan.pool_bytes, 640 * 360 * 3 * 8);
    assert_eq!(
        plan.total_bytes(),
        plan.video_bytes + plan.imu_bytes + plan.can_bytes + plan.gnss_bytes + plan.pool_bytes
    );
    let table = plan.to_string();
    assert!(table.starts_with("video              17.0 MB  17 s\n"), "{table}");
    assert!(table.ends_with("cap               300.0 MB\n"), "{table}");
}

#[test]
fn check_config_prints_what_can_be_loaded_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("unit.toml");
    fs::write(&path, FULL).expect("written");
    let mut out = Vec::new();
    assert_eq!(check_config_command(&path, &mut out).expect("written"), EXIT_OK);
    let text = String::from_utf8(out).expect("text");
    let config = good(FULL);
    assert!(text.contains(&format!("# hash {}\n", config.hash8())), "{text}");
    assert!(text.contains("# memory  sum "), "{text}");
    assert_eq!(good(&text).hash8(), config.hash8());
}

#[test]
fn check_config_lists_every_problem_and_counts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("unit.toml");
    fs::write(&path, "[fusion]\ncool_down_s = -1\nharsh_events = 1\n").expect("written");
    let mut out = Vec::new();
    assert_eq!(check_config_command(&path, &mut out).expect("written"), EXIT_BAD_CONFIGURATION);
    let name = path.display();
    let expected = format!(
        "{name}:2:15: fusion.cool_down_s is -1, below 0\n\
         {name}:3:16: fusion.harsh_events is 1; true or false is wanted\n\
         {name}: 2 problems\n"
    );
    assert_eq!(String::from_utf8(out).expect("text"), expected);
}

#[test]
fn no_prefix_and_no_changed_byte_of_a_file_makes_a_panic() {
    // Each prefix either loads or names a problem in a place; so does each file with one byte replaced.
    let check = |text: &str| {
        if let Err(errors) = load_str("unit.toml", text) {
            assert!(!errors.list.is_empty());
            assert!(errors.list.iter().all(|error| error.place.at.is_some()), "{errors}");
        }
    };
    for (end, _) in FULL.char_indices().step_by(7) {
        check(&FULL[..end]);
    }
    for at in (0..FULL.len()).step_by(11) {
        for byte in ["\"", "[", "=", "\u{e9}", "\n", "9"] {
            check(&format!("{}{byte}{}", &FULL[..at], &FULL[at + 1..]));
        }
    }
}
