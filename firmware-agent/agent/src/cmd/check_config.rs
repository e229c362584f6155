//! `check-config FILE`: the effective configuration and its memory, or every error with its place.

use crate::cli::CheckConfigArgs;
use crate::config;
use crate::exit::Outcome;

pub(crate) fn check_config(args: &CheckConfigArgs) -> anyhow::Result<Outcome> {
    let code = config::check_config_command(&args.file, &mut std::io::stdout().lock())?;
    Ok(if code == config::EXIT_OK { Outcome::Done } else { Outcome::BadConfig })
}
