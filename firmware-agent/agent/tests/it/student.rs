//! The student in its real worker process, with a tiny model of random weights: it knows nothing, but everything
//! around it is what ships. What it says is not judged here, only that it arrives, whole and the same each time; and
//! that without it, or with it killed, hung or damaged, alert and report go out and say why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use agent_student::convert::{Preset, shape_tiny, write_random};
use agent_wire::{LadderFall, LadderReason, Message, StudentOutcome};
use agent_worker::client::Launch;
use agent_worker::ladder::Step;
use agent_worker::supervisor::{Supervisor, SupervisorConfig};
use serde_json::{Value, json};

use crate::program::{Ended, Running, demo, json_lines, run, text};

/// The model file, made once.
fn model() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = demo().join("tiny.gguf");
        write_random(&shape_tiny(), 5, Preset::F32, &path).unwrap();
        path
    })
}

/// A replay of the demo's drive with these further lines of configuration.
fn replay(out: &Path, more: &str, args: &[&str]) -> Ended {
    let config = out.with_extension("toml");
    fs::write(&config, fs::read_to_string(demo().join("demo.toml")).unwrap() + more).unwrap();
    fs::copy(demo().join("demo.dbc"), config.with_file_name("demo.dbc")).unwrap();
    let drive = demo().join("demo.mcap");
    let mut all = vec!["replay", text(&drive), "--config", text(&config), "--out", text(out)];
    all.extend(args);
    run(&all)
}

/// The lines of a replay that hold a message of this kind.
fn lines(out: &Path, kind: &str) -> Vec<Value> {
    let all = json_lines(&fs::read_to_string(out.join("messages.jsonl")).unwrap());
    all.into_iter().filter(|l| l["message"][kind].is_object()).collect()
}

fn report(out: &Path) -> Value {
    let reports = lines(out, "report");
    assert_eq!(reports.len(), 1);
    assert!(reports[0]["bytes"].as_u64().unwrap() <= 1024);
    // The risk head may have spoken of a near collision a moment before it is one.
    let kinds: Vec<Value> = lines(out, "alert").iter().map(|l| l["message"]["alert"]["kind"].clone()).collect();
    assert_eq!(kinds.last(), Some(&json!("collision")));
    assert!(kinds[..kinds.len() - 1].iter().all(|k| k == "near_collision"), "{kinds:?}");
    reports[0].clone()
}

#[test]
fn a_replay_with_a_student_holds_its_answers_in_words_and_is_the_same_twice() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|n| temp.path().join(n));
    for out in [&a, &b] {
        replay(out, "", &["--student", text(model())]).with_code(0);
    }
    for name in ["messages.jsonl", "summary.json", "codebook.json", "events/demo-unit_00000001_000001.html"] {
        assert_eq!(fs::read(a.join(name)).unwrap(), fs::read(b.join(name)).unwrap(), "{name} differs");
    }
    let line = report(&a);
    let report = &line["message"]["report"];
    let answers = &report["student"]["answered"];
    assert!(answers.is_object(), "{report}");
    assert_eq!((&answers["frames"], &answers["ladder_step"]), (&json!(18), &json!(0)));
    assert_eq!(
        (&answers["label_ms"], &answers["total_ms"], &answers["calibrated"]),
        (&json!(0), &json!(0), &json!(false))
    );
    assert_eq!(report["student_falls"], json!([]));
    assert!(line["student_words"].is_object(), "{line}");
    let checks: Vec<&Value> = report["grounding"].as_array().unwrap().iter().map(|g| &g["check"]).collect();
    assert!(
        checks.contains(&&json!("collision_versus_delta_v")) && checks.contains(&&json!("interval_versus_time_zero"))
    );
    let page = fs::read_to_string(a.join("events/demo-unit_00000001_000001.html")).unwrap();
    assert!(page.contains("not calibrated") && page.contains("18 frames"));
    let summary: Value = serde_json::from_str(&fs::read_to_string(a.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["student"]["model"], answers["model"]);
    // `eval` cuts the truth to it.
    assert_eq!(summary["student"]["window"], json!({"before_s": 4.0, "frames": 18, "fps": 3.0}));
}

/// The same model as one that was trained with telemetry: the file's word for it, turned over.
fn model_with_telemetry() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut bytes = fs::read(model()).unwrap();
        let key = b"student.input.telemetry";
        let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
        // Its type, a truth value, and then no.
        assert_eq!(bytes[at..at + 5], [7, 0, 0, 0, 0]);
        bytes[at + 4] = 1;
        let path = demo().join("tiny-telemetry.gguf");
        fs::write(&path, bytes).unwrap();
        path
    })
}

#[test]
fn a_student_that_is_not_given_telemetry_answers_from_the_video_alone() {
    let temp = tempfile::tempdir().unwrap();
    // The event is telemetry's own.
    let blind = "\n[trigger.vision]\nmodel = \"none\"\n";
    let off = format!("{blind}[student]\ntelemetry = false\n");
    let [with, by_file, by_flag] =
        [("with", blind, None), ("file", off.as_str(), None), ("flag", blind, Some("--no-telemetry"))].map(
            |(name, more, flag)| {
                let out = temp.path().join(name);
                let args: Vec<&str> = ["--student", text(model_with_telemetry())].into_iter().chain(flag).collect();
                replay(&out, more, &args).with_code(0);
                out
            },
        );
    for (out, given) in [(&with, true), (&by_file, false), (&by_flag, false)] {
        let report = report(out)["message"]["report"].clone();
        let answers = &report["student"]["answered"];
        assert_eq!((&answers["telemetry"], &answers["frames"]), (&json!(given), &json!(18)), "{report}");
        let summary: Value = serde_json::from_str(&fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
        let student = &summary["student"];
        assert_eq!((&student["telemetry"], &student["telemetry_given"]), (&json!(true), &json!(given)), "{summary}");
    }
    // One switch, two ways to it.
    let written = |out: &Path| fs::read(out.join("messages.jsonl")).unwrap();
    assert!(written(&by_file) == written(&by_flag), "the flag is not the configuration's key");
}

#[test]
fn an_evaluation_says_that_the_student_was_not_given_telemetry() {
    let temp = tempfile::tempdir().unwrap();
    let [drives, out] = ["drives", "out"].map(|n| temp.path().join(n));
    fs::create_dir(&drives).unwrap();
    let drive = drives.join("a.mcap");
    let small = ["--width", "160", "--height", "96", "--fps", "4"];
    run(&[&["simulate", "rear_end", "--seed", "2", "--out", text(&drive)][..], &small[..]].concat()).with_code(0);
    let args = ["eval", "--drives", text(&drives), "--out", text(&out), "--student", text(model_with_telemetry())];
    let ended = run(&[&args[..], &["--no-telemetry"][..]].concat()).with_code(0);
    assert!(ended.stdout.contains(", the student is not given telemetry\n"), "{}", ended.stdout);
    let report: Value = serde_json::from_str(&fs::read_to_string(out.join("eval.json")).unwrap()).unwrap();
    assert_eq!(report["configurations_and_models"][0]["student"]["telemetry_given"], false, "{report}");
    // The events are those of telemetry all the same, and the student is asked about them.
    let events = report["each"][0]["events"].as_array().unwrap();
    assert!(events.iter().any(|e| e["kind"] == "collision" && e["answered"] == true), "{events:?}");
}

#[test]
fn a_damaged_missing_or_too_large_model_is_named_in_the_report() {
    let temp = tempfile::tempdir().unwrap();
    let cut = temp.path().join("cut.gguf");
    let whole = fs::read(model()).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let noise = temp.path().join("noise.gguf");
    fs::write(&noise, whole.iter().map(|b| b ^ 0x5a).collect::<Vec<u8>>()).unwrap();
    let missing = temp.path().join("missing.gguf");
    for (file, more, refused, reason) in [
        (&cut, "", "failed", "corrupt_model"),
        (&noise, "", "failed", "corrupt_model"),
        (&missing, "", "not_installed", "not_installed"),
        // Of random weights in f32, some MB.
        (&model().to_path_buf(), "\n[student]\nmemory_mb = 1\n", "failed", "out_of_memory"),
    ] {
        let out = temp.path().join(format!("out-{reason}-{}", file.file_stem().unwrap().to_string_lossy()));
        replay(&out, more, &["--student", text(file)]).with_code(0);
        let report = report(&out)["message"]["report"].clone();
        assert_eq!(report["student"]["refused"], refused, "{report}");
        assert_eq!(report["student_falls"][0], json!({"step": 0, "reason": reason}), "{report}");
        assert!(report["evidence_file"]["bytes"].as_u64().unwrap() > 100_000);
    }
}

#[test]
fn a_small_model_answers_where_the_first_is_damaged() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let noise = temp.path().join("noise.gguf");
    fs::write(&noise, b"GGUF but nothing else").unwrap();
    let more = format!("\n[student]\nsmall_model = \"{}\"\n", text(model()));
    replay(&out, &more, &["--student", text(&noise)]).with_code(0);
    let report = report(&out)["message"]["report"].clone();
    assert_eq!(report["student"]["answered"]["ladder_step"], 2, "{report}");
    let falls = json!([{"step": 0, "reason": "corrupt_model"}, {"step": 1, "reason": "corrupt_model"}]);
    assert_eq!(report["student_falls"], falls);
}

#[test]
fn a_free_question_is_answered_about_an_evidence_file() {
    let events = demo().join("events");
    let event =
        fs::read_dir(events).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "mcap"));
    let event = event.unwrap();
    let args = ["ask", text(&event), "Who braked first?", "--model", text(model()), "--max-tokens", "8"];
    let ended = run(&args).with_code(0);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&answer["question"], &answer["frames"]), (&json!("Who braked first?"), &json!(18)));
    assert!(answer["answer"].is_string() && answer["probability"].is_null(), "{answer}");
    // A drive is no event.
    let drive = demo().join("demo.mcap");
    run(&["ask", text(&drive), "x", "--model", text(model())]).with_code(4);
    run(&["ask", text(&event), "x"]).with_code(2);
}

#[test]
fn events_whose_outcome_is_known_are_scored_for_a_calibration() {
    let temp = tempfile::tempdir().unwrap();
    let events = demo().join("events");
    let event =
        fs::read_dir(events).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "mcap"));
    let (event, list, out) = (event.unwrap(), temp.path().join("events.jsonl"), temp.path().join("scores.jsonl"));
    fs::copy(&event, temp.path().join("a.mcap")).unwrap();
    let line = |event: &str, collision: bool| format!("{}\n", json!({"event": event, "collision": collision}));
    let args = ["models", "score", text(model()), "--events", text(&list), "--out", text(&out)];
    fs::write(&list, line("a.mcap", true) + &line("gone.mcap", false) + &line(text(&event), false)).unwrap();
    let ended = run(&args).with_code(5);
    assert!(ended.stderr.contains("gone.mcap"), "{}", ended.stderr);
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&said["scores"], &said["passed_over"]), (&json!(2), &json!(1)));
    let scores = json_lines(&fs::read_to_string(&out).unwrap());
    assert_eq!((&scores[0]["collision"], &scores[1]["collision"]), (&json!(true), &json!(false)));
    // The same frames twice; and what a replay says of them.
    assert_eq!(scores[0]["z"], scores[1]["z"]);
    let replayed = temp.path().join("replayed");
    replay(&replayed, "", &["--student", text(model())]).with_code(0);
    let e4 = report(&replayed)["message"]["report"]["student"]["answered"]["recognition_e4"].as_f64().unwrap();
    let p = 1.0 / (1.0 + (-scores[0]["z"].as_f64().unwrap()).exp());
    assert!((p - e4 / 1e4).abs() < 2e-4, "{p} {e4}");
    // They are the form that `calibrate` reads: too few, and it says so.
    let calibrated = temp.path().join("calibrated.gguf");
    let more = ["models", "calibrate", text(model()), "--scores", text(&out), "--out", text(&calibrated)];
    assert!(run(&more).with_code(4).stderr.contains("at least 50"));
    fs::write(&list, line("gone.mcap", true)).unwrap();
    run(&args).with_code(4);
    fs::write(&list, "{\"event\": 1}\n").unwrap();
    assert!(run(&args).with_code(4).stderr.contains("line 1"));
}

/// State and parent of a process: what stands after its name in parentheses.
fn state(id: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Children of a process that run the worker.
fn workers_of(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let worker = |id: &u32| {
        let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        state(*id).is_some_and(|(_, of)| of == parent) && command.contains("\0student\0")
    };
    all.filter(worker).collect()
}

/// A run of the daemon on the demo's drive without a broker; each worker that appears is sent the signal, if there is one.
fn run_with(signal: Option<&str>, model: &Path, student: &str) -> (tempfile::TempDir, Ended) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(demo().join("demo.dbc"), folder.path().join("demo.dbc")).unwrap();
    let config = format!(
        "{}\n[link]\nbroker = \"mqtt://127.0.0.1:{}\"\n\n[sources]\ndrives = [\"{}\"]\nrealtime = false\n\n[student]\nmodel = \"{}\"\n{student}",
        fs::read_to_string(demo().join("demo.toml")).unwrap(),
        // Nobody listens there: the messages wait in the outbox.
        1,
        text(&demo().join("demo.mcap")),
        text(model),
    );
    fs::write(folder.path().join("unit.toml"), config).unwrap();
    let config = folder.path().join("unit.toml");
    let ended = Running::start(&["run", "--config", text(&config)]).end(|id| {
        let Some(signal) = signal else { return };
        for worker in workers_of(id) {
            // It may be gone already.
            let _ = Command::new("kill").args([&format!("-{signal}"), &worker.to_string()]).status();
        }
    });
    (folder, ended)
}

/// The one report that waits in the outbox of such a run, decoded as a receiver would.
fn waiting_report(folder: &Path) -> agent_wire::Report {
    let (_, opened) = agent_link::Store::open(&folder.join("outbox.redb")).unwrap();
    assert_eq!((opened.unreadable, &opened.set_aside), (0, &None));
    let all = opened.waiting.iter().map(|stored| agent_wire::decode(&stored.payload).unwrap());
    let mut reports = all.filter_map(|message| if let Message::Report(report) = message { Some(report) } else { None });
    let report = reports.next().expect("no report waits");
    assert!(reports.next().is_none(), "one event has two reports");
    report
}

#[test]
fn a_daemon_whose_workers_are_killed_or_hang_keeps_its_evidence_and_reports_why() {
    for (signal, why) in [("KILL", LadderReason::WorkerDied), ("STOP", LadderReason::Deadline)] {
        let (folder, ended) = run_with(Some(signal), model(), "load_s = 1.0\ndeadline_s = 3.0\n");
        let ended = ended.with_code(0);
        assert!(ended.stderr.contains(&format!("step 0 gave no answer ({why:?})")), "{signal}: {}", ended.stderr);
        let report = waiting_report(folder.path());
        assert!(matches!(report.student, StudentOutcome::Refused(_)), "{signal}: {report:?}");
        let falls = &report.student_falls;
        assert_eq!(falls.first(), Some(&LadderFall { step: 0, reason: why }), "{signal}: {falls:?}");
        // The job is tried once more, on a step further down, whose worker meets the same end.
        assert!(falls.windows(2).all(|w| w[0].step < w[1].step), "{signal}: {falls:?}");
        assert!(falls.iter().all(|fall| fall.reason == why), "{signal}: {falls:?}");
        assert_evidence(folder.path(), &report);
    }
}

fn assert_evidence(folder: &Path, report: &agent_wire::Report) {
    let name = &report.evidence_file.as_ref().expect("no evidence named").name;
    assert_eq!(name.as_str(), "demo-unit_00000001_000001.mcap");
    assert!(folder.join("evidence").join(name.as_str()).exists(), "{report:?}");
}

#[test]
fn a_daemon_with_a_student_reports_its_answers() {
    let (folder, ended) = run_with(None, model(), "load_s = 60.0\ndeadline_s = 120.0\n");
    ended.with_code(0);
    let report = waiting_report(folder.path());
    let StudentOutcome::Answered(answers) = &report.student else { panic!("{report:?}") };
    assert_eq!((answers.frames, answers.ladder_step, report.student_falls.len()), (18, 0, 0), "{report:?}");
    assert!(answers.total_ms >= answers.label_ms && answers.total_ms > 0, "{report:?}");
    assert_evidence(folder.path(), &report);
}

#[test]
fn a_daemon_whose_model_is_damaged_or_too_large_reports_why() {
    let temp = tempfile::tempdir().unwrap();
    let noise = temp.path().join("noise.gguf");
    fs::write(&noise, fs::read(model()).unwrap().iter().map(|b| b ^ 0x5a).collect::<Vec<u8>>()).unwrap();
    for (file, more, why) in
        [(noise.as_path(), "", LadderReason::CorruptModel), (model(), "memory_mb = 1\n", LadderReason::OutOfMemory)]
    {
        let (folder, ended) = run_with(None, file, more);
        let ended = ended.with_code(0);
        let report = waiting_report(folder.path());
        assert!(matches!(report.student, StudentOutcome::Refused(_)), "{report:?}");
        assert_eq!(report.student_falls.first(), Some(&LadderFall { step: 0, reason: why }), "{}", ended.stderr);
        assert_evidence(folder.path(), &report);
    }
}

#[test]
fn the_rule_of_the_noise_floor_is_chosen_in_the_configuration() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    replay(&out, "\n[student]\npruning = \"noise_floor\"\n", &["--student", text(model())]).with_code(0);
    let report = report(&out)["message"]["report"].clone();
    assert_eq!(report["student"]["answered"]["frames"], 18, "{report}");
    let wrong = temp.path().join("wrong");
    let ended = replay(&wrong, "\n[student]\npruning = \"noise\"\n", &["--student", text(model())]).with_code(3);
    assert!(ended.stderr.contains("pruning"), "{}", ended.stderr);
}

/// Waits until something holds; a hang fails the test.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < crate::program::LIMIT, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_worker_that_listens_is_for_its_user_alone_and_takes_over_what_a_dead_one_left() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/student.sock");
    let args = ["student", "--model", text(model()), "--listen", text(&path)];
    let first = Running::start(&args);
    wait_until("no socket", || UnixStream::connect(&path).is_ok());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // One in use is not taken over.
    let second = run(&args);
    assert_ne!(second.code, Some(0));
    assert!(second.stderr.contains("student.sock"), "{}", second.stderr);
    // Killed: the socket stays and nobody answers.
    drop(first);
    assert!(path.exists() && UnixStream::connect(&path).is_err());
    let third = Running::start(&args);
    wait_until("no new socket", || UnixStream::connect(&path).is_ok());
    let steps = vec![Step { number: 0, launch: Launch::Connect(path), max_frames: None, token_budget: None }];
    let (load_within, ping_every) = (std::time::Duration::from_secs(60), agent_worker::limits::PING_EVERY);
    let mut student = Supervisor::new(SupervisorConfig { steps, load_within, thermal: None, ping_every });
    assert_eq!(student.prepare(&|| false), []);
    assert_eq!(student.facts().map(|f| f.window.frames), Some(18));
    drop(third);
}
