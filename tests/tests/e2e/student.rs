//! The student that ships: its file is the one that its manifest names, and a simulated crash is described by it, in
//! words, the same way each time, with the note that it knows simulated roads only.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::binary::{json, json_lines, run};
use super::samples::{demo, text};

/// Largest file that may ship.
const MOST_BYTES: u64 = 16 << 20;

fn artifact(name: &str) -> PathBuf {
    crate::tidy::root().join("models/artifacts").join(name)
}

/// The one value of a key of the manifest, without its quotes.
fn stated(key: &str) -> String {
    let manifest = std::fs::read_to_string(artifact("student.toml")).unwrap();
    let lines: Vec<&str> = manifest.lines().filter(|l| l.split(" = ").next() == Some(key)).collect();
    assert_eq!(lines.len(), 1, "{key} in {manifest}");
    lines[0].split_once(" = ").unwrap().1.trim_matches('"').to_owned()
}

#[test]
fn the_file_is_the_one_of_its_manifest_and_of_its_figures() {
    let bytes = std::fs::metadata(artifact("student.gguf")).unwrap().len();
    assert!(bytes <= MOST_BYTES, "{bytes}");
    assert_eq!(bytes.to_string(), stated("size"));
    // `pull` takes a path in place of a URL and puts a file in place only if size and hash are the manifest's.
    let folder = tempfile::tempdir().unwrap();
    let manifest = std::fs::read_to_string(artifact("student.toml")).unwrap();
    let with_place = format!("url = \"{}\"\n", text(&artifact("student.gguf")));
    let ours = |line: &&str| !line.starts_with("weights_sha256") && !line.starts_with("trained_on");
    let manifest: Vec<&str> = manifest.lines().filter(ours).collect();
    std::fs::write(folder.path().join("m.toml"), with_place + &manifest.join("\n")).unwrap();
    run(folder.path(), &["models", "pull", "m.toml", "--accept-licence", "--out", "pulled.gguf"]).with_code(0);

    let said = run(folder.path(), &["models", "verify", "pulled.gguf"]).with_code(0).stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["weights_sha256"], stated("weights_sha256").as_str());
    assert_eq!((&said["trained_on"], &said["calibrated"]), (&"simulated".into(), &true.into()));
    assert_eq!(said["licence"], "Apache-2.0");
    let figures = json(&artifact("student.metrics.json"));
    assert_eq!(figures["sha256"], stated("sha256").as_str(), "the figures are of another file");
}

/// A replay's messages, as bytes.
fn replayed(folder: &Path, out: &str) -> Vec<u8> {
    let args = ["replay", "d.mcap", "--out", out, "--student", "builtin", "--dbc", "demo.dbc"];
    let signal = ["--signal", "speed=VEHICLE_SPEED.SPEED*0.2777778"];
    run(folder, &[&args[..], &signal[..]].concat()).with_code(0);
    std::fs::read(folder.join(out).join("messages.jsonl")).unwrap()
}

#[test]
fn a_simulated_crash_is_described_the_same_way_twice() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["simulate", "rear_end", "--seed", "2", "--out", "d.mcap"]).with_code(0);
    std::fs::copy(demo().file("demo.dbc"), at.join("demo.dbc")).unwrap();
    let first = replayed(at, "a");
    assert_eq!(first, replayed(at, "b"), "the same drive, another answer");

    let messages = json_lines(&String::from_utf8(first).unwrap());
    let reports: Vec<&Value> = messages.iter().filter(|m| m["message"]["report"].is_object()).collect();
    assert!(!reports.is_empty(), "no report of a rear-end collision");
    let books = json(&at.join("a/codebook.json"));
    assert_eq!(books[0]["trained_on"], "simulated");
    for line in reports {
        let answers = &line["message"]["report"]["student"]["answered"];
        assert!(answers.is_object(), "{line}");
        assert_eq!((&answers["frames"], &answers["calibrated"]), (&16.into(), &true.into()), "{answers}");
        assert_eq!(line["student_words"]["trained_on"], "simulated");
        for task in ["description", "cause", "prevention"] {
            let (answer, words) = (&answers[task], line["student_words"][task].as_str());
            // A known answer as its code, any other in full; either way there are words for people.
            let code = answer["known"]["code"].as_u64();
            let said = code.map_or(&answer["text"]["text"], |code| &books[0][task][code as usize]);
            assert!(words.is_some_and(|w| !w.is_empty()) && words == said.as_str(), "{task}: {line}");
        }
        let page = format!("a/events/{}.html", line["event"].as_str().unwrap());
        let page = std::fs::read_to_string(at.join(page)).unwrap();
        assert!(page.contains("simulated roads only"), "the page does not say what the student knows");
    }
}
