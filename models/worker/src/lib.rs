//! The student's worker as the daemon sees it.
//!
//! A worker is a process of its own, so that a fault on the GPU never stops recording. This crate has the protocol
//! both sides speak, the daemon's side and the worker's frame around any [`serve::Engine`]: it knows no model and no
//! pixels' meaning.

pub mod client;
pub mod job;
pub mod ladder;
pub mod limits;
pub mod picture;
pub mod protocol;
pub mod pulse;
pub mod serve;
pub mod supervisor;
