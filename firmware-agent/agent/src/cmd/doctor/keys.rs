//! What the unit signs with, whose commands it takes, and how long its certificates will do.

use agent_keys::KeyError;
use agent_link::Tls;
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::link::TlsKey;
use crate::{certificates, link, signer, token};

/// Looks at the unit's key; makes none.
pub(super) fn unit_key(config: &Config, _seconds: f64) -> Value {
    let Some(path) = signer::path(config) else {
        let why = "evidence.key is none: evidence is not signed";
        return json!({"check": "key", "works": null, "why": why});
    };
    let shown = path.display().to_string();
    match agent_keys::load(&path) {
        Ok(found) => {
            let key = found.key.public();
            let advice = if found.open_to_others {
                "others than its owner can read it, and so could sign as this unit: `chmod 600` it"
            } else {
                "write the public key down away from the unit: without it nobody can tell whose evidence is whose"
            };
            json!({
                "check": "key", "works": !found.open_to_others, "file": shown, "public": key.to_string(),
                "key_id": key.id().to_string(), "advice": advice,
            })
        }
        Err(KeyError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "not made yet: the daemon makes it at its first start";
            json!({"check": "key", "works": null, "file": shown, "why": why})
        }
        Err(error) => json!({
            "check": "key", "works": false, "file": shown, "why": error.to_string(),
            "advice": "evidence is not signed; a key that is damaged is never replaced: move it away and a new one is made",
        }),
    }
}

/// How long the certificates of the link will do.
pub(super) fn certificates(config: &Config, _seconds: f64) -> Value {
    let Some(now) = certificates::now() else {
        return json!({"check": "certificates", "works": null, "why": "the clock is not set"});
    };
    let found = certificates::look(config, now);
    if found.is_empty() {
        return json!({"check": "certificates", "works": null, "why": "none is configured"});
    }
    let works = found.iter().all(|one| one.days.as_ref().is_ok_and(|days| *days >= 0));
    let advice: Vec<String> = found.iter().filter_map(certificates::Expiry::complaint).collect();
    let files: Vec<Value> = found
        .iter()
        .map(|one| json!({"key": one.key, "file": one.file.display().to_string(), "days": one.days.as_ref().ok()}))
        .collect();
    json!({"check": "certificates", "works": works, "files": files, "advice": advice})
}

/// Logs in at the token with the key of the link's certificate, once, and has it sign.
pub(super) fn token(config: &Config, _seconds: f64) -> Value {
    let Some(TlsKey::Token(uri)) = &config.link.tls.key else {
        return json!({"check": "token", "works": null, "why": "link.tls.key is in no token"});
    };
    let key = uri.to_string();
    let tls = match link::configured(config) {
        Ok(tls) => tls,
        Err(error) => return json!({"check": "token", "works": false, "key": key, "why": error.to_string()}),
    };
    match tls.as_ref().and_then(Tls::token).map(|token| token.check()) {
        Some(Err(error)) => json!({
            "check": "token", "works": false, "key": key, "why": error.to_string(), "advice": token::advice(&error),
        }),
        _ => json!({"check": "token", "works": true, "key": key, "tried": "a signature for link.tls.certificate"}),
    }
}

/// Whose commands are taken.
pub(super) fn commands(config: &Config, _seconds: f64) -> Value {
    let keys: Vec<String> = config.commands.keys.iter().map(|key| key.id().to_string()).collect();
    let accepts = config.commands.accepted();
    json!({
        "check": "commands", "works": if keys.is_empty() { Value::Null } else { json!(true) }, "key_ids": keys,
        "accepts": accepts,
    })
}

/// Whose updates are taken, and what is installed.
pub(super) fn updates(config: &Config, _seconds: f64) -> Value {
    if config.updates.keys.is_empty() {
        return json!({"check": "updates", "works": null, "why": config.updates.accepted()});
    }
    match crate::cmd::update::state(config) {
        Ok(state) => {
            let fell = state["fell_back"].is_object() && state["trial"].is_null();
            let advice = if fell { "an update was fallen back from: fell_back says why" } else { "" };
            json!({"check": "updates", "works": true, "state": state, "advice": advice})
        }
        Err(error) => json!({"check": "updates", "works": false, "why": format!("{error:#}")}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::KeyFile;

    #[test]
    fn the_key_and_the_commands_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default_embedded().unwrap();
        config.folder = folder.path().to_owned();
        assert!(unit_key(&config, 0.0)["why"].as_str().unwrap().contains("first start"));
        assert!(commands(&config, 0.0)["accepts"].as_str().unwrap().starts_with("no command that changes anything"));
        let key = agent_keys::make(&signer::path(&config).unwrap()).unwrap();
        let line = unit_key(&config, 0.0);
        assert_eq!((&line["works"], &line["public"]), (&json!(true), &json!(key.public().to_string())));
        assert_eq!(updates(&config, 0.0)["why"], "none is taken: updates.keys is empty");
        config.updates.keys.push(key.public());
        let line = updates(&config, 0.0);
        assert_eq!((&line["works"], &line["state"]["highest"]), (&json!(true), &json!(0)), "{line}");
        std::fs::create_dir(folder.path().join("updates")).unwrap();
        std::fs::write(folder.path().join("updates/record"), "x").unwrap();
        assert_eq!(updates(&config, 0.0)["works"], json!(false));
        config.commands.keys.push(key.public());
        let line = commands(&config, 0.0);
        assert_eq!((&line["works"], &line["key_ids"][0]), (&json!(true), &json!(key.public().id().to_string())));
        std::fs::write(signer::path(&config).unwrap(), "x").unwrap();
        assert_eq!(unit_key(&config, 0.0)["works"], json!(false));
        config.evidence.key = KeyFile::None;
        assert_eq!(unit_key(&config, 0.0)["works"], Value::Null);
    }
}
