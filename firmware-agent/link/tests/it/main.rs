//! The link against a real Mosquitto and against brokers that misbehave.

mod faults;
mod real;
mod support;
