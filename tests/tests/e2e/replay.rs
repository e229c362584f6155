//! `replay`: the same inputs give the same bytes, with a broker and without, and the broker gets what is written.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::binary::{json, json_lines, run};
use super::broker::{Ear, Mosquitto, free_port, messages};
use super::samples::{demo, files, sha256_8, text};

fn replay(out: &Path, more: &[&str]) {
    let (drive, config) = (demo().file("demo.mcap"), demo().file("demo.toml"));
    let mut args = vec!["replay", text(&drive), "--config", text(&config), "--out", text(out)];
    args.extend(more);
    run(&crate::tidy::root(), &args).with_code(0);
}

/// What must be the same: everything but the wall-clock timings and the outbox.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = files(out);
    let kept =
        all.into_iter().filter(|(name, _)| !name.starts_with("timings.json") && !text(name).starts_with("outbox"));
    kept.collect()
}

fn same(a: &Path, b: &Path) {
    let (a, b) = (results(a), results(b));
    let names = |r: &[(PathBuf, Vec<u8>)]| r.iter().map(|(n, _)| text(n).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    let must = ["messages.jsonl", "summary.json", "events/demo-unit_00000001_000001.mcap"];
    assert!(must.iter().all(|m| names(&a).iter().any(|n| n == m)), "{:?}", names(&a));
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        assert!(!x.is_empty() && x == y, "{} differs", name.display());
    }
}

#[test]
fn the_same_drive_gives_the_same_bytes_twice_and_also_with_a_broker() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|n| temp.path().join(n));
    replay(&a, &[]);
    replay(&b, &[]);
    same(&a, &b);
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let written = json_lines(&std::fs::read_to_string(a.join("messages.jsonl")).unwrap());
    let ears = ["alert", "report"].map(|level| {
        let count = written.iter().filter(|l| l["topic"].as_str().unwrap().ends_with(level)).count();
        assert!(count > 0, "no {level} to wait for");
        (level, Ear::start(&broker, &format!("fleet/+/+/{level}"), count))
    });
    replay(&c, &["--broker", &broker.url()]);
    same(&a, &c);
    for (level, ear) in ears {
        let received = ear.end();
        let of_level = |l: &&Value| l["topic"].as_str().unwrap().ends_with(level);
        let wanted: Vec<&Value> = written.iter().filter(of_level).collect();
        assert_eq!(messages(&received), wanted.iter().map(|l| l["message"].clone()).collect::<Vec<_>>(), "{level}");
        for (got, want) in received.iter().zip(wanted) {
            assert_eq!((&got["topic"], &got["bytes"]), (&want["topic"], &want["bytes"]));
            assert_eq!(got["duplicate"], false);
        }
    }
}

#[test]
fn a_replay_says_what_was_in_the_drive_and_names_its_evidence() {
    let temp = tempfile::tempdir().unwrap();
    replay(temp.path(), &[]);
    let summary = json(&temp.path().join("summary.json"));
    let drive = &summary["drives"][0];
    // 40 s at 12.5 frames a second.
    assert_eq!((&drive["events"], &drive["frames"]), (&1.into(), &500.into()), "{drive}");
    assert_eq!((&drive["synthetic"], &drive["simulated"]), (&true.into(), &true.into()));
    assert!(drive["losses"].as_object().unwrap().values().all(|n| *n == 0), "{drive}");
    let lines = json_lines(&std::fs::read_to_string(temp.path().join("messages.jsonl")).unwrap());
    assert_eq!(summary["messages"], lines.len());
    assert_eq!(summary["message_bytes_max"], lines.iter().map(|l| l["bytes"].as_u64().unwrap()).max().unwrap());
    let times: Vec<u64> = lines.iter().map(|l| l["t_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let file = &lines.last().unwrap()["message"]["report"]["evidence_file"];
    let path = temp.path().join("events").join(file["name"].as_str().unwrap());
    assert_eq!(file["bytes"], path.metadata().unwrap().len());
    assert_eq!(file["sha256_8"], sha256_8(&path));
    let shown = run(temp.path(), &["inspect", "--json", text(&path)]).with_code(0).json_lines();
    assert_eq!(shown[0]["loss"], Value::Null);
    // The frames of 10 s before and 5 s after, from a key frame on.
    assert!(shown[0]["channels"]["frames"]["count"].as_u64().unwrap() >= 187, "{}", shown[0]);
}

#[test]
fn without_evidence_there_is_none_and_the_report_says_so() {
    let temp = tempfile::tempdir().unwrap();
    replay(temp.path(), &["--no-evidence"]);
    assert!(!temp.path().join("events").exists());
    let lines = json_lines(&std::fs::read_to_string(temp.path().join("messages.jsonl")).unwrap());
    assert_eq!(lines.last().unwrap()["message"]["report"]["evidence_file"], Value::Null);
}

#[test]
fn two_drives_are_two_starts_in_the_order_given() {
    let temp = tempfile::tempdir().unwrap();
    let drive = demo().file("demo.mcap");
    replay(temp.path(), &[text(&drive), "--no-evidence"]);
    let lines = json_lines(&std::fs::read_to_string(temp.path().join("messages.jsonl")).unwrap());
    let reports: Vec<&str> =
        lines.iter().filter(|l| l["message"]["report"].is_object()).map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(reports, ["demo-unit_00000001_000001", "demo-unit_00000002_000001"]);
}

#[test]
fn the_shipped_detector_sees_the_vehicle_ahead_without_a_download_and_only_when_it_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let drive = demo().file("demo.mcap");
    let mut summaries = Vec::new();
    for model in ["builtin", "none"] {
        let unit = temp.path().join(format!("{model}.toml"));
        std::fs::write(&unit, format!("[trigger.vision]\nmodel = \"{model}\"\n")).unwrap();
        let args = ["replay", text(&drive), "--config", text(&unit), "--out", model, "--risk-log", "--no-evidence"];
        run(temp.path(), &args).with_code(0);
        summaries.push(json(&temp.path().join(model).join("summary.json")));
    }
    assert!(summaries[0]["trigger_model"].as_str().is_some_and(|hash| hash.len() == 16), "{}", summaries[0]);
    assert!(summaries[1]["trigger_model"].is_null() && summaries[1]["risk_head"].is_null(), "{}", summaries[1]);
    let rows = std::fs::read_to_string(temp.path().join("builtin/risk.csv")).unwrap();
    let objects = |row: &str| row.split(',').nth(4).unwrap().parse::<u32>().unwrap();
    let (seen, all) = rows.lines().skip(1).fold((0, 0), |(s, n), row| (s + u32::from(objects(row) > 0), n + 1));
    assert!(all > 100 && seen > 20, "{seen} of {all} frames show an object");
}
