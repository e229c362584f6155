//! The link against a real Mosquitto and against brokers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code, also the functions outside #[test]"
)]

mod faults;
mod real;
mod support;
mod tls;
