//! The telemetry trigger against a recorded drive, synthetic shocks, labelled trips and noise.

mod data;
mod drive;
mod harmless;
mod harsh;
mod property;
mod runner;
mod shocks;
mod synth;
