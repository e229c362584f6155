//! `keys`: makes secret keys and shows public ones. A secret is never printed.

use std::path::Path;

use agent_keys::{KeyError, PublicKey};

use crate::cli::{KeysArgs, KeysCommand};
use crate::exit::{Outcome, bad_input};
use crate::show::{put, say};

pub(crate) fn keys(args: &KeysArgs) -> anyhow::Result<Outcome> {
    match &args.command {
        KeysCommand::Make { file } => {
            let key = agent_keys::make(file).map_err(|error| match error {
                KeyError::Exists => bad_input(format!("{}: {error}", file.display())),
                error => anyhow::anyhow!("{}: {error}", file.display()),
            })?;
            say!("made {}: keep it secret, and a copy of it where it cannot be lost", file.display());
            print(&key.public())?;
        }
        KeysCommand::Show { file } => print(&public(file)?)?,
    }
    Ok(Outcome::Done)
}

fn print(key: &PublicKey) -> anyhow::Result<()> {
    say!("key id {}", key.id());
    Ok(put!("{key}")?)
}

/// The public half of the key in a file.
fn public(file: &Path) -> anyhow::Result<PublicKey> {
    let text = file.to_str().ok_or_else(|| bad_input(format!("{}: not a name in UTF-8", file.display())))?;
    agent_keys::read_public(text).map_err(|error| bad_input(format!("{}: {error}", file.display())))
}
