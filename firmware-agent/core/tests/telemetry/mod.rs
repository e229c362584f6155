//! The telemetry trigger against a recorded drive, synthetic shocks, labelled trips and noise.

mod data;
mod drive;
mod harsh;
mod property;
mod shocks;
mod synth;
