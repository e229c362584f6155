//! `eval`: simulated drives with their truth in, figures out; what is missing or broken is named.

use std::path::Path;

use super::binary::{Ended, json, run};
use super::samples::text;

/// Seeds by `split_of`: test, test, train.
const TEST: [u64; 2] = [2, 18];
const TRAIN: u64 = 7;

fn simulate(folder: &Path, scenario: &str, seed: u64) {
    std::fs::create_dir_all(folder).unwrap();
    let (out, seed) = (folder.join(format!("{scenario}.mcap")), seed.to_string());
    let size = ["--width", "160", "--height", "96", "--fps", "2"];
    let args = [&["simulate", scenario, "--seed", &seed, "--out", text(&out)][..], &size[..]].concat();
    run(&crate::tidy::root(), &args).with_code(0);
}

fn eval(drives: &Path, out: &Path, more: &[&str]) -> Ended {
    let args = [&["eval", "--drives", text(drives), "--out", text(out)][..], more].concat();
    run(&crate::tidy::root(), &args)
}

#[test]
fn drives_are_replayed_matched_and_scored() {
    let temp = tempfile::tempdir().unwrap();
    let [drives, out, again] = ["drives", "out", "again"].map(|n| temp.path().join(n));
    simulate(&drives, "rear_end", TEST[0]);
    simulate(&drives, "town", TEST[1]);
    let table = eval(&drives, &out, &[]).with_code(0).stdout;
    assert!(table.contains("2 simulated drives") && table.contains("split test"), "{table}");
    assert!(!table.contains("MIXED"), "{table}");
    let report = json(&out.join("eval.json"));
    assert_eq!(report["format"], "firmware-agent evaluation 1");
    let figures = report["results"]["figures"].as_array().unwrap();
    let figure = |name: &str| figures.iter().find(|f| f["name"].as_str().unwrap().starts_with(name)).unwrap();
    // A telemetry trigger at 8 km/h notices a rear-end crash, and calls it one.
    assert_eq!(figure("recall, collisions of the ego vehicle")["value"], 1.0);
    assert_eq!(figure("the same, called a collision")["value"], 1.0);
    assert_eq!(figure("false events per 1,000 km")["value"], 0.0);
    assert!(figure("false events per 1,000 km")["interval"][1].as_f64().unwrap() > 0.0);
    assert_eq!(report["results"]["confusion_agent"], serde_json::json!([[1, 0, 0], [0, 0, 0], [0, 0, 1]]));
    let page = std::fs::read_to_string(out.join("eval.html")).unwrap();
    assert!(page.contains("2 simulated drives") && page.contains("<svg") && !page.contains("<script"));
    // From what the replays wrote come the same figures.
    let replays = out.join("replays");
    let ended = eval(&drives, &again, &["--results", text(&replays), "--json"]).with_code(0);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed, report);
    // A baseline has to know the same drives.
    let missing = eval(&drives, &again, &["--results", text(&replays), "--baseline", text(&drives)]).with_code(4);
    assert!(missing.stderr.contains("drives/rear_end/messages.jsonl: No such file"), "{}", missing.stderr);
    // One of its files is broken, then gone.
    let messages = replays.join("town").join("messages.jsonl");
    std::fs::write(&messages, "{\n").unwrap();
    let ended = eval(&drives, &again, &["--results", text(&replays)]).with_code(4);
    assert!(ended.stderr.contains("town/messages.jsonl: line 1"), "{}", ended.stderr);
    std::fs::remove_file(&messages).unwrap();
    let ended = eval(&drives, &again, &["--results", text(&replays)]).with_code(4);
    assert!(ended.stderr.contains("town/messages.jsonl: No such file"), "{}", ended.stderr);
    // A drive that was trained on is not unseen.
    simulate(&drives, "speed_bump", TRAIN);
    let ended = eval(&drives, &again, &[]).with_code(4);
    assert!(ended.stderr.contains("seed 7 belongs to train"), "{}", ended.stderr);
    let table = eval(&drives, &again, &["--split", "all"]).with_code(0).stdout;
    assert!(table.contains("SPLITS MIXED"), "{table}");
    assert_eq!(json(&again.join("eval.json"))["splits_mixed"], true);
}

#[test]
fn what_cannot_be_scored_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let [drives, out] = ["drives", "out"].map(|n| temp.path().join(n));
    let says = |what: &str, code: i32, more: &[&str]| {
        let ended = eval(&drives, &out, more).with_code(code);
        assert!(ended.stderr.contains(what), "{what}: {}", ended.stderr);
    };
    says("drives: No such file", 4, &[]);
    std::fs::create_dir(&drives).unwrap();
    says("drives: no drives", 4, &[]);
    std::fs::write(drives.join("a.mcap"), "").unwrap();
    says("a.mcap.truth.json is missing", 4, &[]);
    std::fs::write(drives.join("a.mcap.truth.json"), "{\"format\": 1").unwrap();
    says("a.mcap.truth.json: ", 4, &[]);
    says("--split", 2, &["--split", "some"]);
    says("cannot be used with", 2, &["--results", "r", "--student", "s.gguf"]);
    says("cannot be used with", 2, &["--results", "r", "--no-telemetry"]);
}
