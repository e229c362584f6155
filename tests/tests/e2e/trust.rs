//! What a unit vouches for and whom it obeys: signed evidence and signed commands, with the real program, broker and files.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::binary::{LIMIT, run};
use super::broker::{Ear, Mosquitto, free_port};
use super::daemon::{Unit, airbag_drive};
use super::samples::{demo, files, text};

/// `inspect --verify` of a file: its one line.
fn verified(file: &Path, key: Option<&str>, code: i32) -> Value {
    let mut args = vec!["inspect", "--verify", "--json", text(file)];
    args.extend(key.into_iter().flat_map(|key| ["--key", key]));
    run(&crate::tidy::root(), &args).with_code(code).json_lines().remove(0)
}

/// The configuration of a unit whose drive does not end before the test does, and that speaks of its health when asked alone.
pub(super) fn endless(folder: &Path) -> String {
    let config = fs::read_to_string(folder.join("unit.toml")).unwrap();
    let config = config.replace("[link]\n", "[link]\nhealth_interval_s = 86400\n");
    config.replace("realtime = true", "realtime = true\nloop = true")
}

pub(super) fn public(file: &Path) -> String {
    run(&crate::tidy::root(), &["keys", "show", text(file)]).with_code(0).stdout.trim().to_owned()
}

#[test]
fn evidence_of_a_run_is_signed_by_the_unit_and_what_is_done_to_it_shows() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, false);
    let ended = unit.start().end(LIMIT).with_code(0);
    let folder = unit.folder.path();
    let key = public(&folder.join("unit-key.pem"));
    assert!(ended.stderr.contains(&format!("its public half is {key}")), "{}", ended.stderr);
    let file = folder.join("evidence/demo-unit_00000001_000001.mcap");
    let shown = verified(&file, Some(&key), 0);
    assert_eq!((&shown["verdict"], &shown["of"]), (&"intact".into(), &"demo-unit_00000001_000001".into()));
    assert_eq!((&shown["key"], &shown["source"]), (&key.as_str().into(), &"simulated".into()));
    let parts = shown["parts"].as_u64().unwrap();
    assert!(parts >= 4, "{shown}");
    assert_eq!(shown["sha256_8"], super::samples::sha256_8(&file));
    assert_eq!(verified(&file, None, 0)["key_compared"], Value::Null);

    let bytes = fs::read(&file).unwrap();
    let changed = folder.join("changed.mcap");
    let with = |bytes: &[u8], code: i32| {
        fs::write(&changed, bytes).unwrap();
        verified(&changed, Some(&key), code)
    };
    // A byte of the video, in the middle of the file.
    let mut bad = bytes.clone();
    bad[bytes.len() / 2] ^= 1;
    let shown = with(&bad, 7);
    assert_eq!((&shown["verdict"], shown["faults"].as_array().unwrap().len()), (&"altered".into(), 1), "{shown}");
    let fault = &shown["faults"][0];
    assert!(fault["kind"] == "changed" && fault["part"].as_u64().is_some_and(|p| p > 1 && p < parts), "{fault}");
    assert!(fault["from_s"].as_f64() < fault["to_s"].as_f64(), "{fault}");
    // Cut in the middle.
    let shown = with(&bytes[..bytes.len() / 2], 5);
    assert!(shown["verdict"] == "cut" && shown["parts"].as_u64().is_some_and(|p| p > 0 && p < parts), "{shown}");
    assert!(shown["cut"]["bytes_without_a_word"].as_u64() > Some(0), "{shown}");

    // Another key, no key, no chain, no file.
    run(folder, &["keys", "make", "other.pem"]).with_code(0);
    let other = folder.join("other.pem");
    assert_eq!(verified(&file, Some(text(&other)), 7)["verdict"], "other_key");
    let replayed = demo().file("events/demo-unit_00000001_000001.mcap");
    let shown = verified(&replayed, None, 7);
    assert_eq!(
        (&shown["verdict"], &shown["key"], &shown["faults"]),
        (&"not_signed".into(), &Value::Null, &Value::Array(vec![]))
    );
    assert_eq!(verified(&demo().file("demo.mcap"), None, 7)["verdict"], "no_chain");
    run(folder, &["inspect", "--verify", "unit.toml"]).with_code(4);
    run(folder, &["inspect", "--verify", "--key", "nothing", text(&file)]).with_code(4);
    run(folder, &["inspect", "--key", &key, text(&file)]).with_code(2);
    run(folder, &["keys", "make", "other.pem"]).with_code(4);
    // What remembers the drive reads it as ever.
    let inspected = run(folder, &["inspect", "--json", text(&file)]).with_code(0).json_lines().remove(0);
    assert!(inspected["loss"].is_null() && inspected["metadata"].as_array().unwrap().len() == 1, "{inspected}");
}

/// The real process, killed in the middle of an event: what its journal left verifies as far as it goes, and is said to be cut.
#[test]
fn what_a_kill_leaves_is_signed_as_far_as_it_goes() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, true);
    let folder = unit.folder.path();
    let drive = airbag_drive(folder);
    unit.configure(&[&drive], true);
    let ear = Ear::open(&broker, "fleet/demo/demo-unit/alert");
    let running = unit.start();
    ear.until("the alert", |lines| !lines.is_empty());
    let journal = folder.join("evidence/.journal");
    // Files come and go there.
    let grown = || {
        fs::read_dir(&journal).is_ok_and(|list| {
            list.flatten().any(|file| {
                let named = text(&file.path()).contains(".demo-unit_00000001_000001");
                named && file.metadata().is_ok_and(|m| m.len() > 6000)
            })
        })
    };
    super::binary::eventually("the journal is for the event", grown);
    running.signal("KILL");
    assert_eq!(running.end(LIMIT).code, None);
    unit.configure(&[&drive], false);
    let reports = Ear::open(&broker, "fleet/demo/demo-unit/report");
    let ended = unit.start().end(LIMIT).with_code(0);
    let file = folder.join("evidence/demo-unit_00000001_000001.cut-000001.mcap");
    // The next start reports what the killed one could not, once, with the evidence that there is.
    assert!(ended.stderr.contains("1 events of earlier starts were alerted and not reported"), "{}", ended.stderr);
    let of_first = |lines: &[Value]| -> Vec<Value> {
        let reports = lines.iter().map(|line| &line["message"]["report"]);
        reports.filter(|r| r["event"]["boot"] == 1).cloned().collect()
    };
    let told = of_first(&reports.until("both reports", |lines| lines.len() >= 2));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["evidence_file"]["name"], "demo-unit_00000001_000001.cut-000001.mcap");
    assert_eq!(told[0]["evidence_file"]["bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!((&told[0]["student"]["refused"], &told[0]["edr"]), (&"not_installed".into(), &Value::Null));
    let again = unit.start().end(LIMIT).with_code(0);
    assert!(!again.stderr.contains("not reported"), "{}", again.stderr);
    let shown = verified(&file, Some(text(&folder.join("unit-key.pem"))), 5);
    assert_eq!((&shown["verdict"], &shown["of"]), (&"cut".into(), &"demo-unit_00000001 journal 000001".into()));
    assert!(shown["parts"].as_u64() > Some(2) && shown["faults"].as_array().unwrap().is_empty(), "{shown}");
    // The event of the second start has its whole file, by the same key.
    let file = folder.join("evidence/demo-unit_00000002_000001.mcap");
    assert_eq!(verified(&file, Some(text(&folder.join("unit-key.pem"))), 0)["verdict"], "intact");
}

/// A certificate signed by an authority, and its key, PEM; it ends in so many days.
fn certificate(authority: &Issuer<'_, KeyPair>, days: u64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_secs(days * 86_400 + 3600)).into();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_unit_reaches_its_broker_by_tls_and_says_in_time_that_its_certificate_ends() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "fleet authority");
    let ca = params.self_signed(&key).unwrap().pem();
    let authority = Issuer::new(params, key);
    let ((broker_pem, broker_key), (unit_pem, unit_key)) = (certificate(&authority, 400), certificate(&authority, 9));
    let port = free_port();
    let lines =
        "certfile FOLDER/broker.pem\nkeyfile FOLDER/broker.key\ncafile FOLDER/ca.pem\nrequire_certificate true\n";
    let files = [("broker.pem", broker_pem), ("broker.key", broker_key), ("ca.pem", ca.clone())];
    let Some(broker) = Mosquitto::start_with(port, &files, lines) else { return };
    let unit = Unit::new(port, false);
    let folder = unit.folder.path();
    for (name, text) in [("ca.pem", ca), ("unit.pem", unit_pem), ("unit.key", unit_key)] {
        fs::write(folder.join(name), text).unwrap();
    }
    let tls = "[link.tls]\nca = \"ca.pem\"\ncertificate = \"unit.pem\"\nkey = \"unit.key\"\n";
    let config = fs::read_to_string(folder.join("unit.toml")).unwrap().replace("mqtt://", "mqtts://");
    fs::write(folder.join("unit.toml"), config + tls).unwrap();
    let ended = unit.start().end(LIMIT).with_code(0);
    broker.wait_log("fleet/demo/demo-unit/report");
    assert!(!ended.stderr.contains("the rest waits"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("unit.pem) expires in 9 days").count(), 1, "{}", ended.stderr);
    let doctor = run(folder, &["doctor", "--config", "unit.toml", "--seconds", "0.1"]);
    let lines = doctor.json_lines();
    let line = lines.iter().find(|l| l["check"] == "certificates").unwrap();
    assert!(line["works"] == true && line["advice"].as_array().unwrap().len() == 1, "{line}");
    let key = lines.iter().find(|l| l["check"] == "key").unwrap();
    assert_eq!(key["public"], public(&folder.join("unit-key.pem")), "{key}");
}

/// Keys are those that everybody has: OpenSSL reads ours and makes some for us.
#[test]
fn keys_go_to_and_fro_with_openssl() {
    let openssl = Path::new("/usr/bin/openssl");
    if !openssl.exists() {
        println!("SKIPPED: no openssl on this machine");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let ssl = |args: &[&str]| {
        let done = std::process::Command::new(openssl).current_dir(folder).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let made = run(folder, &["keys", "make", "ours.pem"]).with_code(0).stdout;
    ssl(&["pkey", "-in", "ours.pem", "-pubout", "-out", "ours.pub"]);
    assert_eq!(public(&folder.join("ours.pub")), made.trim());
    ssl(&["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"]);
    ssl(&["pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub"]);
    assert_eq!(public(&folder.join("theirs.pem")), public(&folder.join("theirs.pub")));
    ssl(&["genpkey", "-algorithm", "x25519", "-out", "other.pem"]);
    let refused = run(folder, &["keys", "show", "other.pem"]).with_code(4);
    assert!(refused.stderr.contains("not a public key"), "{}", refused.stderr);
}

#[test]
fn a_unit_obeys_its_fleets_key_alone_and_each_command_once_also_after_a_kill() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, true);
    let folder = unit.folder.path();
    run(folder, &["keys", "make", "fleet.pem"]).with_code(0);
    run(folder, &["keys", "make", "thief.pem"]).with_code(0);
    let config = endless(folder);
    let keys = format!("\n[commands]\nkeys = [\"{}\"]\n", public(&folder.join("fleet.pem")));
    fs::write(folder.join("unit.toml"), config + &keys).unwrap();
    let shown = run(folder, &["check-config", "unit.toml"]).with_code(0);
    assert!(shown.stdout.contains("# commands: commands that one of commands.keys signed"), "{}", shown.stdout);
    let lesser = "demo-unit_00000009_000001";
    fs::create_dir_all(folder.join("evidence/lesser")).unwrap();
    let (from, to) = (format!("evidence/lesser/{lesser}.mcap"), format!("evidence/{lesser}.mcap"));
    fs::write(folder.join(&from), b"evidence").unwrap();

    let url = broker.url();
    let send = |key: &str, counter: &str, more: &[&str]| {
        let mut args = vec!["command", "--key", key, "--fleet", "demo", "--unit", "demo-unit", "--broker", &url];
        args.extend(["--counter", counter]);
        args.extend(more);
        run(folder, &args).with_code(0).json_lines().remove(0)
    };
    let healths = |lines: &[Value]| lines.iter().filter(|l| l["message"]["health"].is_object()).count();
    let ear = Ear::open(&broker, "fleet/demo/demo-unit/health");
    let running = unit.start();
    broker.wait_log("fleet/demo/demo-unit/command (QoS 1)");
    let sent = send("fleet.pem", "100", &["--send-health"]);
    assert_eq!(sent["topic"], "fleet/demo/demo-unit/command");
    ear.until("health as commanded", |lines| healths(lines) == 1);
    // The thief's, one of before, and the same again: none of them does anything.
    send("thief.pem", "200", &["--keep-evidence", lesser]);
    send("fleet.pem", "99", &["--keep-evidence", lesser]);
    send("fleet.pem", "100", &["--keep-evidence", lesser]);
    send("fleet.pem", "101", &["--send-health"]);
    ear.until("health once more", |lines| healths(lines) == 2);
    assert!(folder.join(&from).exists() && !folder.join(&to).exists(), "a refused command was carried out");
    send("fleet.pem", "102", &["--keep-evidence", lesser]);
    // It is moved first and said then.
    let kept = || folder.join(&to).exists() && !folder.join(&from).exists();
    let said = format!("evidence of {lesser} is kept by command");
    super::binary::eventually("the evidence is kept", || kept() && running.said().contains(&said));
    running.signal("KILL");
    let killed = running.end(LIMIT);
    assert!(killed.stderr.contains("commands refused, the last one: "), "{}", killed.stderr);

    // After the kill the old ones are old, and a new one is taken.
    let running = unit.start();
    super::binary::eventually("it records", || running.said().contains("first frame in the ring"));
    broker.wait_log_times("fleet/demo/demo-unit/command (QoS 1)", 2);
    send("fleet.pem", "102", &["--send-health"]);
    send("fleet.pem", "103", &["--send-health"]);
    ear.until("health after the kill", |lines| healths(lines) == 3);
    running.signal("TERM");
    let ended = running.end(LIMIT).with_code(0);
    let said = "1 commands refused, the last one: counter 102 is not above 102 (1 since the start)";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    let left: Vec<_> = files(folder).into_iter().map(|(name, _)| name).collect();
    assert!(left.iter().any(|name| name == Path::new("outbox.redb.commands")), "{left:?}");
}

#[test]
fn without_keys_a_unit_says_that_nobody_commands_it() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let unit = Unit::new(broker.port, true);
    let folder = unit.folder.path();
    run(folder, &["keys", "make", "fleet.pem"]).with_code(0);
    let shown = run(folder, &["check-config", "unit.toml"]).with_code(0);
    assert!(shown.stdout.contains("# commands: no command that changes anything"), "{}", shown.stdout);
    fs::write(folder.join("unit.toml"), endless(folder)).unwrap();
    let running = unit.start();
    super::binary::eventually("it records", || running.said().contains("first frame in the ring"));
    broker.wait_log("fleet/demo/demo-unit/command (QoS 1)");
    let command = ["command", "--key", "fleet.pem", "--fleet", "demo", "--unit", "demo-unit", "--send-health"];
    let url = broker.url();
    run(folder, &[&command[..], &["--broker", &url, "--out", "command.bin"]].concat()).with_code(0);
    assert_eq!(&fs::read(folder.join("command.bin")).unwrap()[..2], b"FC");
    // The refusal is said within a moment, or at the end.
    broker.wait_log("Received PUBACK from demo-demo-unit");
    running.signal("TERM");
    let ended = running.end(LIMIT).with_code(0);
    assert!(
        ended.stderr.contains("1 commands refused, the last one: signed, but no key is configured"),
        "{}",
        ended.stderr
    );
    // Without a broker it is said, with its own code.
    drop(broker);
    let ended = run(folder, &[&command[..], &["--broker", &url]].concat());
    ended.with_code(6);
}
