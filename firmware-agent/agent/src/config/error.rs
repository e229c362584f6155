//! What can be wrong with a configuration, each with its place.
//!
//! Terms: a *place* is file, line and column (both from 1, columns in characters); a *key* is the dotted path from the
//! top of the file. A value is quoted as the user wrote it. Nothing here reads a file or decides what is wrong.

use core::fmt;

use super::limits::MAX_PROBLEMS;

/// Where something stands in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of the file as it was given.
    pub(crate) file: String,
    /// Line and column, both from 1; absent when the whole file is meant.
    pub(crate) at: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The file could not be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The file is larger than any configuration.
    #[error("is larger than {limit} bytes, the limit of a configuration")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// The file is not UTF-8.
    #[error("is not UTF-8 text from byte {0} on")]
    NotText(usize),
    /// The file is not TOML.
    #[error("is not TOML: {0}")]
    Syntax(String),
    /// Tables or arrays are nested too deeply.
    #[error("nests deeper than {0} levels")]
    TooDeep(usize),
    /// `inherits` names a file that leads back to itself, or the chain is too long.
    #[error("inherits = \"{parent}\" {reason}")]
    Inherits {
        /// The name as written.
        parent: String,
        /// Why it was refused.
        reason: String,
    },
    /// A key that has no meaning.
    #[error("{key} is not a known key; {hint}")]
    UnknownKey {
        /// Dotted key.
        key: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// A key that must be there is not.
    #[error("{key} is missing; {wanted} is wanted")]
    Missing {
        /// Dotted key.
        key: String,
        /// What is wanted.
        wanted: String,
    },
    /// A value of the wrong type, or one that is none of the known words.
    #[error("{key} is {value}; {wanted} is wanted")]
    Wanted {
        /// Dotted key.
        key: String,
        /// The value as written.
        value: String,
        /// What is wanted.
        wanted: String,
    },
    /// A value that breaks a rule.
    #[error("{key} is {value}, {reason}")]
    Refused {
        /// Dotted key.
        key: String,
        /// The value as written.
        value: String,
        /// Which rule, as the end of the sentence.
        reason: String,
    },
}

/// One problem and its place: `unit.toml:12:16: trigger.vision.risk_on is 1.5, above 1`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct ConfigError {
    /// Where.
    pub(crate) place: Place,
    /// What.
    pub(crate) problem: Problem,
}

/// Every problem of a configuration, the user's own file first, each file from top to bottom.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ConfigErrors {
    /// The problems, at least one, at most [`MAX_PROBLEMS`].
    pub(crate) list: Vec<ConfigError>,
    /// Problems beyond that, counted only.
    pub(crate) omitted: usize,
}

impl ConfigErrors {
    /// Of one problem.
    pub(super) fn one(place: Place, problem: Problem) -> Self {
        Self { list: vec![ConfigError { place, problem }], omitted: 0 }
    }
}

impl fmt::Display for ConfigErrors {
    /// One line for each problem, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.list.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        if self.omitted > 0 {
            write!(f, "\n... and {} more (the first {MAX_PROBLEMS} are listed)", self.omitted)?;
        }
        Ok(())
    }
}
