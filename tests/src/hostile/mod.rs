//! Judges of hostile input: what each parser of bytes from outside promises about any bytes, as one function that falls where
//! a promise is broken.
//!
//! Terms: a *target* is one such parser; a *judge* puts bytes through the function that the product itself calls and checks
//! what comes of it; *seeds* are sound inputs, made by our own code, from which a fuzzer or [`mutate`] sets out.
//! Nothing here touches the network or leaves files: where the product wants a path, it gets that of a file in memory.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a judge falls where a promise is broken")]
#![allow(missing_docs, reason = "each module has one judge and its seeds, and says at its head what they are")]

pub mod candump;
pub mod commands;
pub mod configuration;
pub mod dbc;
pub mod drive;
pub mod envelope;
pub mod frames;
pub mod gguf;
pub mod gnss;
pub mod imu_csv;
pub mod j1939;
pub mod manifest;
mod memory_file;
pub mod mp4;
pub mod mutate;
pub mod onnx;
mod samples;

/// One parser of bytes from outside.
pub struct Target {
    /// Its name, also that of its folder of the corpus.
    pub name: &'static str,
    /// Puts bytes through it; falls where a promise is broken.
    pub judge: fn(&[u8]),
    /// Sound inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input that is tried, bytes.
    pub most: usize,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "envelope", judge: envelope::judge, seeds: envelope::seeds, most: 1100 },
    Target { name: "frames", judge: frames::judge, seeds: frames::seeds, most: 2048 },
    Target { name: "commands", judge: commands::judge, seeds: commands::seeds, most: 400 },
    Target { name: "gnss", judge: gnss::judge, seeds: gnss::seeds, most: 1024 },
    Target { name: "j1939", judge: j1939::judge, seeds: j1939::seeds, most: 256 },
    Target { name: "dbc", judge: dbc::judge, seeds: dbc::seeds, most: 1024 },
    Target { name: "configuration", judge: configuration::judge, seeds: configuration::seeds, most: 2048 },
    Target { name: "drive", judge: drive::judge, seeds: drive::seeds, most: 4096 },
    Target { name: "candump", judge: candump::judge, seeds: candump::seeds, most: 512 },
    Target { name: "imu_csv", judge: imu_csv::judge, seeds: imu_csv::seeds, most: 512 },
    Target { name: "mp4", judge: mp4::judge, seeds: mp4::seeds, most: 4096 },
    Target { name: "gguf", judge: gguf::judge, seeds: gguf::seeds, most: 8192 },
    Target { name: "manifest", judge: manifest::judge, seeds: manifest::seeds, most: 1024 },
    Target { name: "onnx", judge: onnx::judge, seeds: onnx::seeds, most: 2048 },
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
