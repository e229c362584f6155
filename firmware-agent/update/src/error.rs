//! What can go wrong with an update.

use std::io;
use std::path::{Path, PathBuf};

use agent_keys::KeyId;

use crate::limits::{MAX_HEAD_BYTES, MAX_TOTAL_BYTES};

/// Why an update was refused, or could not be installed, tried or taken back.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Another kind of file.
    #[error("not an update")]
    NotAnUpdate,
    /// Of a version that this program does not know.
    #[error("an update of form {0}, which this program does not know")]
    Form(u8),
    /// The head is longer than any.
    #[error("a head of {0} bytes, above {MAX_HEAD_BYTES}")]
    HeadTooLong(usize),
    /// The file ends too early.
    #[error("cut: it ends in {0}")]
    Cut(String),
    /// The file goes on behind the last content.
    #[error("longer than it says by {0} bytes")]
    Longer(u64),
    /// No key is configured, so nothing is taken.
    #[error("no update is taken: updates.keys is empty")]
    NoKeys,
    /// Signed by a key that is not configured.
    #[error("signed by key {0}, which is not in updates.keys")]
    UnknownKey(KeyId),
    /// The signature is not that key's over this head.
    #[error("the signature does not fit: it was altered")]
    BadSignature,
    /// A signed head that says nothing sensible.
    #[error("the head: {0}")]
    Head(String),
    /// A file that may not be in an update.
    #[error("file \"{name}\": {why}")]
    File {
        /// Its name, shortened.
        name: String,
        /// Which rule it breaks.
        why: String,
    },
    /// More than an update may have.
    #[error("{0} bytes in its files, above {MAX_TOTAL_BYTES}")]
    TooLarge(u64),
    /// For another fleet.
    #[error("for fleet {0}")]
    OtherFleet(String),
    /// For other units.
    #[error("not for unit {0}")]
    OtherUnit(String),
    /// Needs a newer program.
    #[error("needs version {wanted} of the agent, this is {has}")]
    NeedsAgent {
        /// The oldest version that will do.
        wanted: String,
        /// This program's.
        has: String,
    },
    /// Its number is not above every one that was installed.
    #[error("sequence {sequence} is not above {highest}, the highest that was installed")]
    Old {
        /// Of the update.
        sequence: u64,
        /// The highest so far.
        highest: u64,
    },
    /// A content that is not what the head says.
    #[error("file \"{0}\" was altered: another SHA-256 than the head says")]
    Altered(String),
    /// A file of an installed update that is missing or has another size.
    #[error("file \"{0}\" is missing or has another size")]
    Missing(String),
    /// The configuration in it is refused; the text names the key.
    #[error("{0}")]
    Refused(String),
    /// The disk has no room for it.
    #[error(
        "needs {needed} bytes on the disk, of which {free} are free and {} are left for evidence",
        crate::limits::ROOM_LEFT_BYTES
    )]
    NoRoom {
        /// Bytes of its files.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Another program has what is needed.
    #[error("{} is in use by another firmware-agent", .0.display())]
    Busy(PathBuf),
    /// The record of the updates is damaged.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// There is nothing before the update in use.
    #[error("there is nothing to go back to")]
    NothingBefore,
    /// Reading the update failed.
    #[error("reading: {0}")]
    Read(io::Error),
    /// The disk's.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl UpdateError {
    /// Whether nobody who is trusted vouches for it: altered, cut, or signed by somebody else.
    #[must_use]
    pub const fn is_of_trust(&self) -> bool {
        matches!(self, Self::UnknownKey(_) | Self::BadSignature | Self::Altered(_) | Self::NoKeys)
    }
}

/// An error of the disk at a path.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> UpdateError + '_ {
    move |source| UpdateError::Disk { path: path.to_owned(), source }
}
