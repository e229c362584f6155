//! The link against a real Mosquitto and against brokers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "all of it is test code, helpers outside #[test] too"
)]

mod faults;
mod real;
mod support;
