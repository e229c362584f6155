//! Updates with the real program: made, installed, tried, confirmed; broken, sick and killed ones fallen back from; taken back.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::binary::{Ended, LIMIT, Running, eventually, run};
use super::broker::{Mosquitto, free_port};
use super::daemon::Unit;
use super::samples::text;
use super::trust::{endless, public};

/// What the unit says of its updates.
fn status(folder: &Path) -> Value {
    run(folder, &["update", "status", "--config", "unit.toml"]).with_code(0).json_lines().remove(0)
}

/// Makes the update of a sequence of a layer of configuration and more arguments.
fn make(folder: &Path, sequence: u64, layer: &str, more: &[&str]) -> Ended {
    fs::write(folder.join("layer.toml"), layer).unwrap();
    let (number, out) = (sequence.to_string(), format!("{sequence}.update"));
    let mut args = vec!["update", "make", "--key", "maker.pem", "--fleet", "demo", "--sequence", &number];
    args.extend(["--config", "layer.toml", "--out", &out]);
    args.extend(more);
    run(folder, &args)
}

fn install(folder: &Path, sequence: u64) -> Ended {
    run(folder, &["update", "install", &format!("{sequence}.update"), "--config", "unit.toml"])
}

/// Ends a run in order.
fn end(running: Running) -> String {
    running.signal("TERM");
    running.end(LIMIT).with_code(0).stderr
}

/// A unit that takes updates, with so long for a trial, well for a second.
fn configure(folder: &Path, own: &str, trial_s: u32) {
    let key = public(&folder.join("maker.pem"));
    let more = format!("\n[updates]\nkeys = [\"{key}\"]\ntrial_s = {trial_s}\nwell_s = 1\n");
    fs::write(folder.join("unit.toml"), own.to_owned() + &more).unwrap();
}

#[test]
fn an_update_that_works_is_confirmed_and_those_that_do_not_are_fallen_back_from() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, true);
    let folder = unit.folder.path();
    run(folder, &["keys", "make", "maker.pem"]).with_code(0);
    let own = endless(folder);
    configure(folder, &own, 60);

    // One that works.
    let made = make(folder, 1, "[fusion]\ncool_down_s = 31\n", &["--unit", "demo-unit"]).with_code(0);
    assert_eq!(made.json_lines()[0]["update"]["units"], json!(["demo-unit"]));
    let shown = run(folder, &["update", "show", "1.update", "--key", "maker.pem"]).with_code(0);
    assert_eq!(shown.json_lines()[0]["key_compared"], public(&folder.join("maker.pem")));
    install(folder, 1).with_code(0);
    assert_eq!(status(folder)["trial"], json!({"sequence": 1, "starts": 0, "ended": 0}));
    let again = install(folder, 1).with_code(4);
    assert!(again.stderr.contains("sequence 1 is not above 1"), "{}", again.stderr);
    let running = unit.start();
    eventually("update 1 is confirmed", || running.said().contains("update 1 works and is confirmed"));
    let said = end(running);
    assert!(said.contains("update 1 is used on trial, start 1 of 3"), "{said}");
    let state = status(folder);
    assert_eq!((&state["confirmed"], &state["before"], &state["trial"]), (&json!(1), &json!(0), &Value::Null));
    assert_eq!(state["came"]["frames"], true, "{state}");

    a_model_that_does_not_load_costs_no_start(&unit);
    sick_ones_end_the_daemon_which_starts_with_what_was_before(&unit, &own);
    killed_ones_are_given_up_after_their_starts(&unit, &own);

    // Back by hand, once.
    let back = run(folder, &["update", "rollback", "--config", "unit.toml"]).with_code(0);
    assert_eq!(back.json_lines()[0], json!({"from": 1, "to": 0}));
    let none = run(folder, &["update", "rollback", "--config", "unit.toml"]).with_code(4);
    assert!(none.stderr.contains("there is nothing to go back to"), "{}", none.stderr);
}

/// Its network is no ONNX file, and its hash fits: the same start goes on with update 1.
fn a_model_that_does_not_load_costs_no_start(unit: &Unit) {
    let folder = unit.folder.path();
    let shipped = fs::read_to_string(crate::tidy::root().join("models/artifacts/trigger.toml")).unwrap();
    let (network, line) = (b"no network".as_slice(), shipped.lines().find(|l| l.starts_with("sha256")).unwrap());
    let hash: String = Sha256::digest(network).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(folder.join("trigger.onnx"), network).unwrap();
    fs::write(folder.join("t.toml"), shipped.replace(line, &format!("sha256 = \"{hash}\""))).unwrap();
    // The maker is told; past that by a name in the layer.
    let refused = make(folder, 2, "", &["--trigger", "t.toml"]).with_code(4);
    assert!(refused.stderr.contains("trigger.onnx"), "{}", refused.stderr);
    let place = folder.canonicalize().unwrap().join("updates/2/t.toml");
    let layer = format!("[trigger.vision]\nmodel = \"{}\"\n", text(&place));
    make(folder, 2, &layer, &["--file", "t.toml", "--file", "trigger.onnx"]).with_code(0);
    install(folder, 2).with_code(0);
    let running = unit.start();
    eventually("it records", || running.said().contains("first frame in the ring"));
    let said = end(running);
    assert!(said.contains("fell back from update 2: ") && said.contains("update 1 is used\n"), "{said}");
    let state = status(folder);
    assert_eq!((&state["confirmed"], &state["trial"], &state["highest"]), (&json!(1), &Value::Null, &json!(2)));
}

/// Its drive has no frames, where frames came before.
fn sick_ones_end_the_daemon_which_starts_with_what_was_before(unit: &Unit, own: &str) {
    let folder = unit.folder.path();
    configure(folder, own, 1);
    super::daemon::airbag_drive(folder);
    make(folder, 3, "[sources]\ndrives = [\"airbag.mcap\"]\n", &[]).with_code(0);
    install(folder, 3).with_code(0);
    let ended = unit.start().end(LIMIT).with_code(8);
    let said = "fell back from update 3: not well within 1 s: no frames; ending, to be started again";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    let state = status(folder);
    assert_eq!(
        (&state["confirmed"], &state["trial"], &state["fell_back"]["sequence"]),
        (&json!(1), &Value::Null, &json!(3))
    );
}

/// Each start is killed before anything is known of it.
fn killed_ones_are_given_up_after_their_starts(unit: &Unit, own: &str) {
    let folder = unit.folder.path();
    configure(folder, own, 60);
    // Ten frames are seen late: the kill comes before.
    make(folder, 4, "[trigger.vision]\nevery_nth_frame = 60\n", &[]).with_code(0);
    install(folder, 4).with_code(0);
    for start in 1..=3 {
        let running = unit.start();
        let on_trial = format!("update 4 is used on trial, start {start} of 3");
        eventually("it is on trial", || running.said().contains(&on_trial));
        running.signal("KILL");
        assert_eq!(running.end(LIMIT).code, None);
    }
    let running = unit.start();
    eventually("it records", || running.said().contains("first frame in the ring"));
    let said = end(running);
    let fell = "fell back from update 4: 3 starts without being confirmed";
    assert!(said.contains(fell) && said.contains("update 1 is used\n"), "{said}");
    let left: Vec<u64> =
        status(folder)["slots"].as_array().unwrap().iter().map(|s| s["sequence"].as_u64().unwrap()).collect();
    assert!(left.contains(&1) && !left.contains(&2) && !left.contains(&3), "{left:?}");
}

#[test]
fn what_a_unit_does_not_take_leaves_nothing_behind() {
    let unit = Unit::new(free_port(), false);
    let folder = unit.folder.path();
    let own = endless(folder);
    run(folder, &["keys", "make", "maker.pem"]).with_code(0);
    make(folder, 1, "[fusion]\ncool_down_s = 31\n", &[]).with_code(0);
    let refused = install(folder, 1).with_code(7);
    assert!(refused.stderr.contains("no update is taken: updates.keys is empty"), "{}", refused.stderr);
    configure(folder, &own, 60);
    fs::rename(folder.join("maker.pem"), folder.join("own.pem")).unwrap();
    run(folder, &["keys", "make", "maker.pem"]).with_code(0);
    make(folder, 2, "", &["--dbc", "demo.dbc"]).with_code(0);
    let refused = install(folder, 2).with_code(7);
    assert!(refused.stderr.contains("which is not in updates.keys"), "{}", refused.stderr);
    fs::rename(folder.join("own.pem"), folder.join("maker.pem")).unwrap();
    make(folder, 3, "[fusion]\n", &["--unit", "other"]).with_code(0);
    assert!(install(folder, 3).with_code(4).stderr.contains("not for unit demo-unit"));
    make(folder, 4, "[fusion]\n", &["--min-agent", "99.0.0"]).with_code(0);
    assert!(install(folder, 4).with_code(4).stderr.contains("needs version 99.0.0 of the agent"));
    make(folder, 5, "[rings]\npost_roll_s = 0\n", &[]).with_code(0);
    assert!(install(folder, 5).with_code(4).stderr.contains("update 5:2:15: rings.post_roll_s is 0, below 1"));
    let mut bytes = fs::read(folder.join("1.update")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(folder.join("6.update"), &bytes).unwrap();
    assert!(install(folder, 6).with_code(7).stderr.contains("\"layer.toml\" was altered"));
    run(folder, &["update", "show", "6.update"]).with_code(7);
    assert!(!folder.join("updates").exists(), "something was written");
    // The very first one is good.
    install(folder, 1).with_code(0);
    let doctor = run(folder, &["doctor", "--config", "unit.toml", "--seconds", "0.1"]).json_lines();
    let line = doctor.iter().find(|l| l["check"] == "updates").unwrap();
    assert_eq!(line["state"]["trial"]["sequence"], 1, "{line}");
}

/// What `models probe` writes goes with an update of networks; a maker who did not ask is told.
#[test]
fn probe_files_are_made_and_go_with_updates() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, artifacts) = (folder.path(), crate::tidy::root().join("models/artifacts"));
    run(folder, &["keys", "make", "maker.pem"]).with_code(0);
    for name in ["trigger.toml", "trigger.onnx", "risk.toml", "risk.onnx"] {
        fs::copy(artifacts.join(name), folder.join(name)).unwrap();
    }
    let networks = ["--trigger", "trigger.toml", "--risk-head", "risk.toml"];
    let names = |made: &Ended| -> Vec<String> {
        let files = made.json_lines()[0]["update"]["files"].as_array().unwrap().clone();
        files.iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    };
    let without = make(folder, 1, "", &networks).with_code(0);
    assert_eq!(names(&without), ["layer.toml", "trigger.toml", "trigger.onnx", "risk.toml", "risk.onnx"]);
    assert!(without.stderr.contains("there is no trigger.probe.txt: units"), "{}", without.stderr);
    for (manifest, file) in [("trigger.toml", "trigger.probe.txt"), ("risk.toml", "risk.probe.txt")] {
        let made = run(folder, &["models", "probe", manifest]).with_code(0).json_lines().remove(0);
        assert_eq!(made["file"], file);
        let (ours, shipped) = (folder.join(file), artifacts.join(file));
        let lines = [ours, shipped].map(|path| fs::read_to_string(path).unwrap().lines().count());
        assert_eq!(lines[0], lines[1], "{file}");
    }
    let with = make(folder, 2, "", &networks).with_code(0);
    assert!(names(&with).contains(&"trigger.probe.txt".to_owned()), "{:?}", names(&with));
    assert!(names(&with).contains(&"risk.probe.txt".to_owned()), "{:?}", names(&with));
    assert_eq!(with.stderr, "");
    fs::write(folder.join("empty.toml"), "family = 1\n").unwrap();
    assert!(run(folder, &["models", "probe", "empty.toml"]).with_code(4).stderr.contains("empty.toml"));
    assert!(run(folder, &["models", "probe", "none.toml"]).with_code(4).stderr.contains("none.toml"));
}
