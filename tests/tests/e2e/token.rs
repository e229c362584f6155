//! The TLS key in a PKCS#11 token as a user meets it: `check-config`, `doctor` and a command that is sent, with SoftHSM.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::binary::{Ended, LIMIT, Running, command, run};
use super::broker::{Mosquitto, free_port};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "right-1234";

/// A key pair's certificate by this authority.
fn certificate(authority: &Issuer<'_, KeyPair>, key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "unit");
    params.signed_by(key, authority).unwrap().pem()
}

/// Makes a token in `folder` and puts the key into it, which then stands in no file any more.
fn put_into_token(folder: &Path, key: &KeyPair) {
    fs::create_dir(folder.join("tokens")).unwrap();
    let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", folder.join("tokens").display());
    fs::write(folder.join("softhsm2.conf"), conf).unwrap();
    let file = folder.join("key.pem");
    fs::write(&file, key.serialize_pem()).unwrap();
    let util = |args: &[&str]| {
        let mut util = Command::new("/usr/bin/softhsm2-util");
        let done =
            util.env("SOFTHSM2_CONF", folder.join("softhsm2.conf")).current_dir(folder).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    util(&["--init-token", "--free", "--label", "unit", "--so-pin", "officer-1", "--pin", PIN]);
    util(&["--import", "key.pem", "--token", "unit", "--label", "mqtt", "--id", "01", "--pin", PIN]);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_key_in_a_token_is_checked_by_doctor_and_connects() {
    if !Path::new(MODULE).exists() || !Path::new("/usr/bin/softhsm2-util").exists() {
        println!("SKIPPED: no SoftHSM on this machine");
        return;
    }
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "fleet authority");
    let own = KeyPair::generate().unwrap();
    let ca = params.self_signed(&own).unwrap().pem();
    let authority = Issuer::new(params, own);
    let [broker_key, unit_key] = [0, 1].map(|_| KeyPair::generate().unwrap());
    let port = free_port();
    let lines =
        "certfile FOLDER/broker.pem\nkeyfile FOLDER/broker.key\ncafile FOLDER/ca.pem\nrequire_certificate true\n";
    let pem = certificate(&authority, &broker_key);
    let files = [("broker.pem", pem), ("broker.key", broker_key.serialize_pem()), ("ca.pem", ca.clone())];
    let Some(broker) = Mosquitto::start_with(port, &files, lines) else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    put_into_token(folder, &unit_key);
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("ca.pem", &ca);
    write("unit.pem", &certificate(&authority, &unit_key));
    write("pin", "wrong-1234\n");
    let pin = folder.join("pin");
    let uri =
        format!("pkcs11:token=unit;object=mqtt;type=private?module-path={MODULE}&pin-source=file:{}", pin.display());
    let tls = format!("[link.tls]\nca = \"ca.pem\"\ncertificate = \"unit.pem\"\nkey = \"{uri}\"\n");
    write("unit.toml", &format!("[link]\nbroker = \"mqtts://127.0.0.1:{port}\"\n{tls}"));

    let with = |args: &[&str]| -> Ended {
        let mut command = command(folder, args);
        Running::start_command(command.env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))).end(LIMIT)
    };
    let shown = run(folder, &["check-config", "unit.toml"]).with_code(0).stdout;
    assert!(shown.contains(&uri) && !shown.contains("wrong-1234"), "{shown}");
    let doctor = || -> Value {
        let ended = with(&["doctor", "--config", "unit.toml", "--seconds", "0.1"]);
        assert!(!ended.stdout.contains("wrong-1234") && !ended.stderr.contains("wrong-1234"), "{}", ended.stdout);
        ended.json_lines().into_iter().find(|line| line["check"] == "token").unwrap()
    };
    let line = doctor();
    assert!(line["works"] == false && line["why"].as_str().unwrap().contains("refuses the PIN"), "{line}");
    assert!(line["advice"].as_str().unwrap().contains("right PIN"), "{line}");
    write("pin", &format!("{PIN}\n"));
    assert_eq!(doctor()["works"], true);
    with(&["keys", "make", "fleet.pem"]).with_code(0);
    let url = format!("mqtts://127.0.0.1:{port}");
    let send = ["command", "--key", "fleet.pem", "--fleet", "demo", "--unit", "demo-unit", "--send-health"];
    let by = ["--broker", &url, "--ca", "ca.pem", "--certificate", "unit.pem", "--tls-key", &uri];
    with(&[&send[..], &by[..]].concat()).with_code(0);
    broker.wait_log("fleet/demo/demo-unit/command");
    let gone = uri.replace("object=mqtt", "object=gone");
    let by = ["--broker", &url, "--ca", "ca.pem", "--certificate", "unit.pem", "--tls-key", &gone];
    let ended = with(&[&send[..], &by[..]].concat()).with_code(6);
    assert!(ended.stderr.contains("no private key that fits object=\"gone\""), "{}", ended.stderr);
}
