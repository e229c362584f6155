//! Signed updates of models and configuration: made by the fleet, judged, installed side by side, tried, confirmed or taken back.
//!
//! Terms: an *update* is one file ([`file`]) with a signed head, the [`Manifest`]; its *sequence* is a number that only grows. A
//! *slot* is the folder of an installed update. The *record* ([`Record`]) says which slot is used; replacing it is the switch, and
//! the only one. A slot is *on trial* until the agent that runs with it has shown that it works, then *confirmed*. To *fall back* is
//! to use what was confirmed before; sequence 0 stands for the unit's own configuration with no slot at all.
//!
//! Order of an installation: the signature, then every rule, then the configuration in it, and only then is anything written; files
//! in a folder that nothing names yet, synced; then the record. A power cut leaves what was there or what is new. Nothing is taken
//! away that the record names.
//!
//! Never known here: what a model or a key of the configuration means, and whether the agent is well. The caller says both.

mod error;
pub mod file;
pub mod limits;
mod manifest;
mod record;
mod slot;
mod store;

pub use error::UpdateError;
pub use file::Head;
pub use manifest::{Digest, Entry, Manifest, Role, Version, Who};
pub use record::{Came, Fall, Record, Trial};
pub use slot::Slot;
pub use store::{Chosen, Claim, Judge, Settings, Store};

#[cfg(test)]
mod tests;
