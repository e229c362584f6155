//! Why a token does not sign, each cause by its name.

use std::path::PathBuf;
use std::time::Duration;

/// Why there is no signature of a token. Never holds a PIN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The library cannot be loaded or does not start.
    #[error("the PKCS#11 module {} cannot be used: {why}", module.display())]
    Module {
        /// Its file.
        module: PathBuf,
        /// What the loader or the module says.
        why: String,
    },
    /// None that fits the URI.
    #[error("no token fits {wanted}; there are: {there}")]
    NoToken {
        /// What was asked for.
        wanted: String,
        /// Labels of those that are there.
        there: String,
    },
    /// More than one that fits.
    #[error("{count} tokens fit {wanted}: add serial= to the URI")]
    SeveralTokens {
        /// What was asked for.
        wanted: String,
        /// How many.
        count: usize,
    },
    /// The file with the PIN.
    #[error("the PIN in {} cannot be used: {why}", file.display())]
    PinFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The token does not take the PIN. It is not tried again while the file holds the same one.
    #[error("the token refuses the PIN in {} ({refused} refused so far); it is not tried again until that file changes or the agent is restarted, because a token locks itself", file.display())]
    PinRefused {
        /// The file.
        file: PathBuf,
        /// PINs that the token refused since the start.
        refused: u32,
    },
    /// One wrong PIN would lock it: that one is left to people.
    #[error("the token would lock itself at one more wrong PIN: nothing is tried until a right one was given by hand")]
    LastTry,
    /// Too many wrong PINs, by whomever.
    #[error("the token is locked by wrong PINs")]
    Locked,
    /// The token was never given a user's PIN.
    #[error("the token has no user PIN yet")]
    NoPin,
    /// No private key that fits the URI.
    #[error("the token holds no private key that fits {wanted}{}", if *login { "" } else { "; without pin-source= nobody is logged in, and keys may be hidden" })]
    NoKey {
        /// What was asked for.
        wanted: String,
        /// Whether somebody was logged in.
        login: bool,
    },
    /// More than one that fits.
    #[error("{count} private keys in the token fit {wanted}: add id= to the URI")]
    SeveralKeys {
        /// What was asked for.
        wanted: String,
        /// How many, of which no more than a few are counted.
        count: usize,
    },
    /// It signs, but not for this certificate.
    #[error("the key {wanted} in the token is not the certificate's: its signature does not verify")]
    OtherKey {
        /// Which key.
        wanted: String,
    },
    /// A call that failed.
    #[error("the token fails: {0}")]
    Call(String),
    /// A call that does not come back.
    #[error("the token does not answer: a call to its module has lasted for more than {} s", .0.as_secs())]
    Hangs(Duration),
    /// Its thread is gone.
    #[error("the token's thread has ended")]
    Ended,
}
