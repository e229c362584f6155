//! The link against a real Mosquitto and against brokers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code, also the functions outside #[test]"
)]

mod brokers;
mod faults;
mod liars;
mod net;
mod owed;
mod real;
mod storms;
mod support;
mod tls;
mod token;
