//! Which crate may use which: the table of the design, held against `cargo metadata`.
//!
//! Only what ships counts: dependencies of the build and of the program, optional ones included, not those of tests.

use std::process::Command;

use serde_json::Value;

/// What one crate may use.
struct Rule {
    name: &'static str,
    /// Our crates that it may use.
    ours: &'static [&'static str],
    /// Where given, the only other crates it may use.
    only: Option<&'static [&'static str]>,
    /// Beginnings of the names of crates it never uses.
    never: &'static [&'static str],
}

const MQTT: &str = "rumqtt";
const TRACT: &str = "tract";
const CANDLE: &str = "candle";
const CONTRACTS: &[&str] = &["agent-core", "agent-wire"];
const ALL: &[&str] = &[
    "agent-core",
    "agent-disk",
    "agent-drive",
    "agent-keys",
    "agent-link",
    "agent-models",
    "agent-score",
    "agent-sim",
    "agent-student",
    "agent-update",
    "agent-wire",
    "agent-worker",
];

/// One rule for every crate of the workspace; a new crate needs one.
const RULES: [Rule; 14] = [
    Rule {
        name: "agent-wire",
        ours: &[],
        only: Some(&["crc32fast", "heapless", "postcard", "serde", "thiserror"]),
        never: &[],
    },
    // Files and nothing else.
    Rule { name: "agent-disk", ours: &[], only: Some(&[]), never: &[] },
    // Keys and their files: the cryptography of TLS, nothing of ours.
    Rule { name: "agent-keys", ours: &[], only: Some(&["ring", "rustls-pki-types", "thiserror"]), never: &[] },
    // Signed files and folders: it knows neither models nor keys of the configuration.
    Rule {
        name: "agent-update",
        ours: &["agent-disk", "agent-keys", "agent-wire"],
        only: Some(&["serde", "serde_json", "sha2", "thiserror"]),
        never: &[],
    },
    // Figures only.
    Rule { name: "agent-score", ours: &[], only: Some(&[]), never: &[] },
    Rule { name: "agent-core", ours: &["agent-wire"], only: Some(&["heapless", "thiserror"]), never: &[] },
    Rule { name: "agent-models", ours: CONTRACTS, only: None, never: &[MQTT, "tokio", "redb", "mcap"] },
    // The model and its worker: files and one socket, no broker.
    Rule {
        name: "agent-student",
        ours: &["agent-core", "agent-wire", "agent-worker"],
        only: None,
        never: &[MQTT, TRACT, "tokio", "redb", "mcap"],
    },
    // The daemon's side of the worker: it knows no model.
    Rule { name: "agent-worker", ours: CONTRACTS, only: None, never: &[MQTT, TRACT, CANDLE, "tokio", "redb", "mcap"] },
    Rule { name: "agent-sim", ours: CONTRACTS, only: None, never: &[MQTT, TRACT, CANDLE, "tokio", "redb"] },
    // Files in, samples out.
    Rule {
        name: "agent-drive",
        ours: &["agent-core", "agent-keys", "agent-wire"],
        only: None,
        never: &[MQTT, TRACT, CANDLE, "tokio", "redb"],
    },
    // Messages out: no models and no pixels.
    Rule {
        name: "agent-link",
        ours: &["agent-core", "agent-disk", "agent-keys", "agent-wire"],
        only: None,
        never: &[TRACT, CANDLE, "zune", "jpeg", "openh264", "image", "mcap", "re_mp4", "can-dbc"],
    },
    Rule { name: "firmware-agent", ours: ALL, only: None, never: &[] },
    Rule { name: "agent-tests", ours: ALL, only: None, never: &[] },
];

/// What is known of one crate of the workspace.
pub(crate) struct Package {
    name: String,
    uses: Vec<String>,
    /// Integration test binaries: each one is linked anew, so there is at most one.
    test_binaries: usize,
}

/// The crates of this workspace, as cargo sees them.
pub(crate) fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(super::tree::root())
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: word(&package["name"]),
            uses: list(&package["dependencies"])
                .iter()
                .filter(|d| d["kind"] != "dev")
                .map(|d| word(&d["name"]))
                .collect(),
            test_binaries: list(&package["targets"])
                .iter()
                .filter(|t| list(&t["kind"]).contains(&"test".into()))
                .count(),
        })
        .collect()
}

/// Everything that breaks a rule.
pub(crate) fn findings(packages: &[Package]) -> Vec<String> {
    let names: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let mut found = Vec::new();
    for rule in RULES.iter().filter(|r| !names.contains(&r.name)) {
        found.push(format!("{}: has a rule, but is not in the workspace", rule.name));
    }
    for package in packages {
        let name = &package.name;
        let Some(rule) = RULES.iter().find(|r| r.name == name) else {
            found.push(format!("{name}: a new crate needs a rule"));
            continue;
        };
        for used in &package.uses {
            let ours = names.contains(&used.as_str());
            if ours && !rule.ours.contains(&used.as_str()) {
                found.push(format!("{name}: may not use our crate {used}"));
            }
            if !ours && rule.only.is_some_and(|only| !only.contains(&used.as_str())) {
                found.push(format!("{name}: may not use {used}, which is not on its short list"));
            }
            if rule.never.iter().any(|prefix| used.starts_with(prefix)) {
                found.push(format!("{name}: never uses {used}"));
            }
        }
        if package.test_binaries > 1 {
            found.push(format!("{name}: {} integration test binaries, one is enough", package.test_binaries));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(changed: &str, uses: &[&str]) -> Vec<Package> {
        let package = |name: &str| Package { name: name.into(), uses: vec![], test_binaries: 1 };
        let mut all: Vec<Package> = RULES.iter().map(|r| package(r.name)).collect();
        if !all.iter().any(|p| p.name == changed) {
            all.push(package(changed));
        }
        for package in all.iter_mut().filter(|p| p.name == changed) {
            package.uses = uses.iter().map(|u| (*u).to_owned()).collect();
        }
        all
    }

    #[test]
    fn each_rule_finds_its_fault() {
        for (name, used, expected) in [
            ("agent-wire", "agent-core", "agent-wire: may not use our crate agent-core"),
            ("agent-wire", "serde_json", "agent-wire: may not use serde_json, which is not on its short list"),
            ("agent-core", "tokio", "agent-core: may not use tokio, which is not on its short list"),
            ("agent-core", "agent-wire", ""),
            ("agent-models", "rumqttc", "agent-models: never uses rumqttc"),
            ("agent-models", "tract-onnx", ""),
            ("agent-sim", "agent-models", "agent-sim: may not use our crate agent-models"),
            ("agent-drive", "tract-onnx", "agent-drive: never uses tract-onnx"),
            ("agent-link", "openh264", "agent-link: never uses openh264"),
            ("agent-link", "agent-drive", "agent-link: may not use our crate agent-drive"),
            ("firmware-agent", "agent-tests", "firmware-agent: may not use our crate agent-tests"),
            ("agent-new", "serde", "agent-new: a new crate needs a rule"),
        ] {
            assert_eq!(findings(&workspace(name, &[used])).join("\n"), expected);
        }
        let mut packages = workspace("agent-wire", &["serde"]);
        packages[0].test_binaries = 2;
        assert_eq!(findings(&packages), ["agent-wire: 2 integration test binaries, one is enough"]);
        packages.remove(0);
        assert_eq!(findings(&packages), ["agent-wire: has a rule, but is not in the workspace"]);
    }
}
