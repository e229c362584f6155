//! The integration tests of agent-core, one binary. Unlike the core they may read files, print and panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests, and the lints are about what ships"
)]

mod telemetry;
mod vision;
