//! `run`: the daemon against a real Mosquitto, without one, stopped, and killed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::binary::{LIMIT, Running, command, run};
use super::broker::{Ear, Mosquitto, free_port, messages};
use super::samples::{demo, files, sha256_8, text};

/// A unit on the demo's drive, in a folder of its own.
pub(crate) struct Unit {
    pub(crate) folder: tempfile::TempDir,
    port: u16,
}

impl Unit {
    pub(crate) fn new(port: u16, realtime: bool) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), port };
        fs::copy(demo().file("demo.dbc"), this.folder.path().join("demo.dbc")).unwrap();
        this.configure(&[&demo().file("demo.mcap")], realtime);
        this
    }

    /// Writes its configuration.
    pub(crate) fn configure(&self, drives: &[&Path], realtime: bool) {
        let base = fs::read_to_string(demo().file("demo.toml")).unwrap();
        let drives: Vec<String> = drives.iter().map(|d| format!("\"{}\"", text(d))).collect();
        let more = format!(
            "\n[link]\nbroker = \"mqtt://127.0.0.1:{}\"\n\n[sources]\ndrives = [{}]\nrealtime = {realtime}\n",
            self.port,
            drives.join(", ")
        );
        fs::write(self.folder.path().join("unit.toml"), base + &more).unwrap();
    }

    pub(crate) fn start(&self) -> Running {
        Running::start(self.folder.path(), &["run", "--config", "unit.toml"])
    }

    /// The file that a report names, in the folder of crash evidence.
    fn evidence(&self, report: &Value) -> PathBuf {
        self.folder.path().join("evidence").join(report["evidence_file"]["name"].as_str().unwrap())
    }

    /// Holds the evidence file against what the report says of it.
    fn check_evidence(&self, report: &Value) {
        let path = self.evidence(report);
        assert_eq!(report["evidence_file"]["bytes"], path.metadata().unwrap().len());
        assert_eq!(report["evidence_file"]["sha256_8"], sha256_8(&path));
        let shown = run(self.folder.path(), &["inspect", "--json", text(&path)]).with_code(0).json_lines();
        assert!(shown[0]["loss"].is_null(), "{}", shown[0]);
        for channel in ["imu", "can", "gnss", "frames"] {
            assert!(shown[0]["channels"][channel]["count"].as_u64() > Some(0), "{channel}: {}", shown[0]);
        }
    }
}

fn id(message: &Value) -> String {
    let event = &message["event"];
    format!("{}_{}_{}", event["unit"], event["boot"], event["seq"])
}

/// The alerts and reports that `ear`s gave: the inner objects.
fn inner(lines: &[Value], kind: &str) -> Vec<Value> {
    messages(lines).iter().map(|m| m[kind].clone()).inspect(|m| assert!(m.is_object(), "no {kind}: {m}")).collect()
}

#[test]
fn the_alert_and_the_report_of_a_crash_arrive_and_the_evidence_is_what_the_report_says() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, false);
    let (alerts, reports) =
        (Ear::start(&broker, "fleet/demo/+/alert", 1), Ear::start(&broker, "fleet/demo/+/report", 1));
    let ended = unit.start().end(LIMIT).with_code(0);
    assert!(ended.stderr.contains("start 1 of unit demo-unit"), "{}", ended.stderr);
    let (alert, report) = (inner(&alerts.end(), "alert").remove(0), inner(&reports.end(), "report").remove(0));
    assert_eq!((&alert["kind"], &alert["severity"]), (&"collision".into(), &"critical".into()));
    assert_eq!(id(&alert), id(&report));
    assert_eq!(alert["event"]["boot"], 1);
    assert_eq!(report["severity"], "critical");
    unit.check_evidence(&report);
    let parts = files(&unit.folder.path().join("evidence"));
    assert!(parts.iter().all(|(name, _)| name.extension().is_some_and(|e| e == "mcap")), "unfinished files are left");
}

#[test]
fn with_the_preferred_broker_away_the_next_one_gets_everything_and_status_says_which() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, false);
    let path = unit.folder.path().join("unit.toml");
    let alone = format!("broker = \"mqtt://127.0.0.1:{}\"", broker.port);
    let both = format!("brokers = [\"mqtt://127.0.0.1:{}\", \"{}\"]\nfall_over_s = 5", free_port(), broker.url());
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(&alone, &both)).unwrap();
    let (alerts, reports) =
        (Ear::start(&broker, "fleet/demo/+/alert", 1), Ear::start(&broker, "fleet/demo/+/report", 1));
    let status = Ear::start(&broker, "fleet/demo/demo-unit/status", 2);
    let ended = unit.start().end(LIMIT).with_code(0);
    assert_eq!(id(&inner(&alerts.end(), "alert")[0]), id(&inner(&reports.end(), "report")[0]));
    assert!(inner(&status.end(), "status").iter().all(|s| s["broker"] == 1));
    let words = format!("the broker in use is {}; it was mqtt://127.0.0.1:", broker.url());
    assert!(ended.stderr.contains(&words), "{}", ended.stderr);
}

#[test]
fn sigterm_stops_a_paced_run_cleanly_and_says_goodbye() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, true);
    // Online, then stopped: the last will would say "lost".
    let status = Ear::start(&broker, "fleet/demo/demo-unit/status", 2);
    let running = unit.start();
    // In quotes: what is published. The listener's own subscription stands there without.
    broker.wait_log("'fleet/demo/demo-unit/status'");
    std::thread::sleep(std::time::Duration::from_secs(2));
    running.signal("TERM");
    running.end(LIMIT).with_code(0);
    let states: Vec<Value> = inner(&status.end(), "status").iter().map(|s| s["state"].clone()).collect();
    assert_eq!(states, ["online", "stopped"]);
}

#[test]
fn without_a_broker_the_messages_wait_and_the_next_run_delivers_them_under_the_same_id() {
    let port = free_port();
    let unit = Unit::new(port, false);
    let first = unit.start().end(LIMIT).with_code(0);
    assert!(first.stderr.contains("the rest waits in the outbox"), "{}", first.stderr);
    let named: Vec<String> = crash_files(&unit);
    assert_eq!(named, ["demo-unit_00000001_000001.mcap"]);
    let Some(broker) = Mosquitto::start(port) else { return };
    // The second run has a crash of its own, so two of each come.
    let ears = ["alert", "report"].map(|k| (k, Ear::start(&broker, &format!("fleet/demo/+/{k}"), 2)));
    let second = unit.start().end(LIMIT).with_code(0);
    assert!(second.stderr.contains("start 2 of unit demo-unit"), "{}", second.stderr);
    for (kind, ear) in ears {
        let lines = ear.end();
        assert!(lines.iter().all(|l| l["duplicate"] == false));
        let found = inner(&lines, kind);
        let ids: Vec<String> = found.iter().map(id).collect();
        assert_eq!(ids, ["\"demo-unit\"_1_1", "\"demo-unit\"_2_1"], "{kind}");
        if kind == "report" {
            found.iter().for_each(|r| unit.check_evidence(r));
        }
    }
    // Nothing is left: a third run without a drive's crash has nothing to say but its own.
    let third = unit.start().end(LIMIT).with_code(0);
    assert!(!third.stderr.contains("the rest waits"), "{}", third.stderr);
}

fn crash_files(unit: &Unit) -> Vec<String> {
    let folder = unit.folder.path().join("evidence");
    let all = if folder.exists() { files(&folder) } else { Vec::new() };
    all.into_iter().map(|(name, _)| text(&name).to_owned()).filter(|n| !n.starts_with('.')).collect()
}

/// A drive of ten seconds in which the airbag goes off after one.
pub(crate) fn airbag_drive(folder: &Path) -> PathBuf {
    let line =
        |i: u32| format!("({}.{:06}) can0 050#{:02X}00000000000000\n", i / 50, i % 50 * 20_000, u8::from(i >= 50));
    fs::write(folder.join("airbag.log"), (0..500).map(line).collect::<String>()).unwrap();
    run(folder, &["import", "--out", "airbag.mcap", "--candump", "airbag.log", "--simulated"]).with_code(0);
    folder.join("airbag.mcap")
}

#[test]
fn killed_in_the_middle_of_an_event_it_starts_again_with_new_ids() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    // Paced, so that the kill falls between the alert and the report, which comes 5 s later.
    let unit = Unit::new(broker.port, true);
    let drive = airbag_drive(unit.folder.path());
    unit.configure(&[&drive], true);
    let ear = Ear::open(&broker, "fleet/demo/demo-unit/+");
    let running = unit.start();
    let has =
        |lines: &[Value], kind: &str, boot: u32| lines.iter().any(|l| l["message"][kind]["event"]["boot"] == boot);
    ear.until("the first alert", |lines| has(lines, "alert", 1));
    running.signal("KILL");
    let killed = running.end(LIMIT);
    assert_eq!(killed.code, None, "{}", killed.stderr);
    assert_eq!(crash_files(&unit), Vec::<String>::new(), "the event was over before the kill");

    unit.configure(&[&drive], false);
    let again = unit.start().end(LIMIT).with_code(0);
    assert!(again.stderr.contains("start 2 of unit demo-unit"), "{}", again.stderr);
    assert!(!again.stderr.contains("set aside"), "the outbox did not live through the kill: {}", again.stderr);
    let lines = ear.until("the second report and the goodbye", |lines| {
        has(lines, "report", 2) && lines.iter().any(|l| l["message"]["status"]["state"] == "stopped")
    });
    let of = |kind: &str| -> Vec<Value> {
        lines.iter().map(|l| l["message"][kind].clone()).filter(Value::is_object).collect()
    };
    let states: Vec<Value> = of("status").iter().map(|s| s["state"].clone()).collect();
    assert_eq!(states, ["online", "lost", "online", "stopped"], "the broker told of the kill by the last will");
    // An alert may come twice, after the kill once more: then it is the same in every byte.
    let mut alerts = of("alert");
    alerts.dedup();
    assert_eq!(alerts.iter().map(id).collect::<Vec<_>>(), ["\"demo-unit\"_1_1", "\"demo-unit\"_2_1"]);
    let reports = of("report");
    // The first start could not report its event: the second one does.
    assert_eq!(reports.iter().map(id).collect::<Vec<_>>(), ["\"demo-unit\"_1_1", "\"demo-unit\"_2_1"]);
    let path = unit.evidence(&reports[1]);
    assert_eq!(reports[1]["evidence_file"]["sha256_8"], sha256_8(&path));
}

#[test]
fn a_service_manager_hears_ready_then_the_watchdog_then_stopping() {
    let unit = Unit::new(free_port(), true);
    let path = unit.folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut daemon = command(unit.folder.path(), &["run", "--config", "unit.toml"]);
    daemon.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let running = Running::start_command(&mut daemon);
    let hear = || {
        let mut text = [0; 512];
        let n = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..n]).into_owned()
    };
    let first = hear();
    assert!(first.starts_with("READY=1") && first.contains("STATUS=recording"), "{first}");
    for _ in 0..5 {
        assert_eq!(hear().trim(), "WATCHDOG=1", "fed again and again while it plays");
    }
    running.signal("TERM");
    let last = std::iter::repeat_with(hear).find(|text| text.trim() != "WATCHDOG=1").unwrap();
    assert!(last.starts_with("STOPPING=1"), "{last}");
    let ended = running.end(LIMIT);
    assert!(!ended.hung && ended.stderr.contains("first frame in the ring "), "{}", ended.stderr);
}

/// The bus itself needs a kernel with CAN; what is not there needs none.
#[test]
fn a_unit_with_nothing_but_a_bus_that_is_not_there_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "[unit]\nname = \"bus-unit\"\n[link]\nbroker = \"mqtt://127.0.0.1:{port}\"\n[sources]\nkind = \"device\"\n\
         [sources.can]\ninterfaces = [\"nocan9\"]\n"
    );
    fs::write(folder.path().join("unit.toml"), config).unwrap();
    let path = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut daemon = command(folder.path(), &["run", "--config", "unit.toml"]);
    daemon.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let running = Running::start_command(&mut daemon);
    // Ready, and fed three times: the thread of the buses has looked for it and goes on.
    for _ in 0..4 {
        manager.recv(&mut [0; 512]).unwrap();
    }
    running.signal("TERM");
    let ended = running.end(LIMIT).with_code(0);
    assert_eq!(ended.stderr.matches("CAN nocan9: is not there").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("CAN nocan9: 0 frames"), "{}", ended.stderr);
    let doctor = run(folder.path(), &["doctor", "--config", "unit.toml", "--seconds", "0.1"]);
    let lines = doctor.with_code(1).json_lines();
    let bus = lines.iter().find(|l| l["check"] == "can").unwrap();
    assert!(bus["works"] == false && bus["buses"][0]["interface"] == "nocan9", "{bus}");
}
