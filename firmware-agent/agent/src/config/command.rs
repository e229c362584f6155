//! `check-config FILE`: prints the effective configuration and its memory, or every problem.
//!
//! The configuration is printed as a file that can be loaded again; hash and memory stand in it as comments. Nothing is
//! written but to the writer that is given.

use std::io::{self, Write};
use std::path::Path;

use super::{Config, Purpose, load};

/// The configuration is good.
pub(crate) const EXIT_OK: u8 = 0;
/// The configuration is bad, or its file cannot be read.
pub(crate) const EXIT_BAD_CONFIGURATION: u8 = 3;

/// Checks the file at `path`, writes the outcome to `out` and gives the exit code of the program.
///
/// # Errors
/// `out` could not be written to.
pub(crate) fn check_config_command(path: &Path, out: &mut dyn Write) -> io::Result<u8> {
    match load(path, Purpose::Desk) {
        Ok(config) => {
            write_good(&config, path, out)?;
            Ok(EXIT_OK)
        }
        Err(errors) => {
            writeln!(out, "{errors}")?;
            let problems = errors.list.len() + errors.omitted;
            let s = if problems == 1 { "" } else { "s" };
            writeln!(out, "{}: {problems} problem{s}", path.display())?;
            Ok(EXIT_BAD_CONFIGURATION)
        }
    }
}

fn write_good(config: &Config, path: &Path, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# effective configuration of {}", path.display())?;
    writeln!(out, "# hash {}", config.hash8())?;
    for line in config.memory().to_string().lines() {
        writeln!(out, "# memory  {line}")?;
    }
    writeln!(out, "# commands: {}", config.commands.accepted())?;
    writeln!(out, "# updates: {}", config.updates.accepted())?;
    // Good for the desk, which may be all that is wanted; whoever means it for a unit should know before the unit does.
    if let Err(errors) = load(path, Purpose::Unit) {
        for error in &errors.list {
            writeln!(out, "# run refuses it: {error}")?;
        }
    }
    writeln!(out, "\n{}", config.effective_toml())
}
