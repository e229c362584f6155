//! What an update may and may not change, and the configuration that one makes.

use agent_update::{Digest, Entry};
use agent_wire::UnitId;

use super::*;
use crate::config::ModelChoice;

/// A unit's own file that says something wherever an update may not.
const OWN: &str = "[unit]\nname = \"truck-17\"\nfleet = \"north\"\n[rings]\npost_roll_s = 7\n[link.outbox]\nstore = \"state/o.redb\"\n";

fn manifest(roles: &[(Role, &str)]) -> Manifest {
    let files = roles.iter().map(|(role, name)| Entry {
        role: *role,
        name: (*name).to_owned(),
        bytes: 1,
        sha256: Digest([0; 32]),
    });
    Manifest {
        fleet: UnitId::new("north").unwrap(),
        units: vec![],
        sequence: 7,
        made_unix_ms: 0,
        min_agent: version(),
        files: files.collect(),
    }
}

/// The configuration with a layer, or what is wrong with it.
fn with(layer: &str, roles: &[(Role, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("unit.toml");
    std::fs::write(&own, OWN).unwrap();
    config_with(&own, &manifest(roles), Path::new("/var/updates/7"), Some(layer.as_bytes()))
}

#[test]
fn an_update_lies_over_the_units_own_file_and_its_models_over_both() {
    let roles =
        [(Role::Trigger, "t.toml"), (Role::RiskHead, "r.toml"), (Role::Student, "s \"x\".gguf"), (Role::Dbc, "c.dbc")];
    let layer = "[rings]\npost_roll_s = 9\n[trigger.vision]\nmodel = \"none\"\n[unit]\nvehicle_class = \"truck\"\n";
    let config = with(layer, &roles).unwrap();
    assert_eq!((config.rings.post_roll_s, config.unit.name.as_str()), (9, "truck-17"));
    assert_eq!(config.trigger.vision.model, ModelChoice::File("/var/updates/7/t.toml".into()));
    assert_eq!(config.trigger.vision.risk_head, ModelChoice::File("/var/updates/7/r.toml".into()));
    assert_eq!(config.student.model, Some("/var/updates/7/s \"x\".gguf".into()));
    assert_eq!(config.can.dbc, Some("/var/updates/7/c.dbc".into()));
    let plain = with("", &[]).unwrap();
    assert_eq!((plain.rings.post_roll_s, &plain.trigger.vision.model), (7, &ModelChoice::Builtin));
    assert!(folder(&plain).unwrap().ends_with("state/updates"));
}

#[test]
fn what_an_update_may_not_change_is_refused_by_its_key_and_line() {
    for (layer, key) in [
        ("inherits = \"orin-nx\"", "update 7:1:12: inherits is"),
        ("[unit]\nname = \"other\"", "update 7:2:8: unit.name is"),
        ("unit.fleet = \"south\"", "update 7:1:14: unit.fleet is"),
        ("unit = 3", "update 7:1:8: unit is"),
        ("[updates]\nkeys = []", "updates is"),
        ("updates.trial_s = 1", "updates is"),
        ("[commands]\nkeys = []", "update 7:2:8: commands.keys is"),
        ("commands = { keys = [] }", "commands.keys is"),
        ("[evidence]\nkey = \"none\"", "evidence.key is"),
        ("[link.outbox]\nstore = \"elsewhere\"", "link.outbox.store is"),
        ("link.outbox = \"elsewhere\"", "link.outbox is"),
        ("[link.tls]\nca = \"mine.pem\"", "link.tls is"),
        ("[link]\ntls = { key = \"mine.pem\" }", "link.tls is"),
        ("[sources.camera]\ncredentials = \"p\"", "sources.camera.credentials is"),
        ("[student]\nworker = \"/bin/sh\"", "student.worker is"),
    ] {
        let said = with(layer, &[]).expect_err(layer);
        assert!(said.contains(key) && said.contains("but an update may not change it: "), "{layer}: {said}");
        let alone = crate::config::check_layer("l", layer).expect_err(layer).to_string();
        assert!(alone.contains("but an update may not change it: "), "{layer}: {alone}");
    }
    // Beside them everything may be said.
    let may = "[unit]\nvehicle_class = \"bus\"\n[commands]\nmax_per_minute = 5\n[link]\nbroker = \"mqtts://b\"\n[link.outbox]\nmax_mb = 8\n";
    assert!(crate::config::check_layer("l", may).is_ok());
    let config = with(may, &[]).unwrap();
    assert_eq!((config.commands.max_per_minute, config.link.outbox.max_mb), (5, 8));
}

#[test]
fn a_layer_that_makes_no_configuration_is_refused_with_its_place() {
    for (layer, says) in [
        ("[rings]\npost_roll_s = 0", "update 7:2:15: rings.post_roll_s is 0, below 1"),
        ("[ring]", "update 7:1:2: ring is not a known key; did you mean rings?"),
        ("x = ", "update 7:1:5: is not TOML"),
    ] {
        let said = with(layer, &[]).expect_err(layer);
        assert!(said.starts_with(says), "{said}");
    }
    let bytes = config_with(Path::new("none.toml"), &manifest(&[]), Path::new("/u"), Some(b"ab\xff"));
    assert_eq!(bytes.unwrap_err(), "update 7: is not UTF-8 text from byte 2 on");
    let connected = with("[student]\nconnect = \"w.sock\"", &[(Role::Student, "s.gguf")]).unwrap_err();
    assert!(connected.contains("brings a student, but student.connect"), "{connected}");
}
