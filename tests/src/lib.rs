//! What the tests share: the judges of hostile input ([`hostile`]), which the fuzz targets (`fuzz/`) and the bounded run in
//! `tests/hostile` put their bytes through. The end-to-end tests and the tidiness of this repository stand in `tests/`.
//!
//! The agent is a program without a library: those of its modules that read what comes from outside are compiled in here
//! from their own files.

// Words of cameras ask for features that only the agent has.
#![allow(unexpected_cfgs)]

#[path = "../../firmware-agent/agent/src/builtin.rs"]
#[allow(dead_code, reason = "the agent's own module; only its name in the configuration counts here")]
mod builtin;
#[path = "../../firmware-agent/agent/src/config/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the agent's own module; only loading is judged")]
mod config;
#[path = "../../firmware-agent/agent/src/preset.rs"]
mod preset;

pub mod hostile;
