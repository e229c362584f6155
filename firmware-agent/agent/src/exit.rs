//! The one table of exit codes (README, "Exit codes"): scripts depend on these numbers.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// Did what was asked.
    Done = 0,
    /// Failed for a reason outside the inputs (disk, port, a fault of ours).
    Failed = 1,
    /// The command line was wrong (clap's own code, and ours where clap cannot tell).
    Usage = 2,
    /// The configuration was refused.
    BadConfig = 3,
    /// An input (drive, DBC, model, message) could not be read.
    BadInput = 4,
    /// Finished, but something of the input was lost: what and how much was said.
    Loss = 5,
    /// Finished, but messages still wait in the outbox because the broker did not acknowledge them in time.
    Undelivered = 6,
    /// Evidence or an update was looked at, and nobody vouches for it: it was altered, is not signed, or is signed by another key.
    NotVouched = 7,
    /// The daemon was not well with the update on trial and fell back from it: the next start uses what was there before.
    FellBack = 8,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome as u8)
    }
}

/// An error that carries its exit code through `anyhow`.
#[derive(Debug)]
pub(crate) struct Coded(pub(crate) Outcome, pub(crate) String);

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Coded {}

/// The command line was wrong where clap cannot tell.
pub(crate) fn usage(what: impl std::fmt::Display) -> anyhow::Error {
    Coded(Outcome::Usage, what.to_string()).into()
}

/// The configuration was refused: `what` names the place.
pub(crate) fn bad_config(what: impl std::fmt::Display) -> anyhow::Error {
    Coded(Outcome::BadConfig, what.to_string()).into()
}

/// An input could not be read: `what` names the place.
pub(crate) fn bad_input(what: impl std::fmt::Display) -> anyhow::Error {
    Coded(Outcome::BadInput, what.to_string()).into()
}

/// Code of an error: the one it carries, else [`Outcome::Failed`].
pub(crate) fn outcome_of(error: &anyhow::Error) -> Outcome {
    error.downcast_ref::<Coded>().map_or(Outcome::Failed, |c| c.0)
}

/// True when the error is that stdout was closed at the other end, as `head` does.
pub(crate) fn nobody_reads(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
