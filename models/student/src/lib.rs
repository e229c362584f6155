//! The student: a VideoLLaMA3-shaped video language model that answers the six CrashChat tasks about an event.
//!
//! Terms: *prefix* is what all tasks share (frames, telemetry), *branch* one continuation of it (a task), *row* one
//! token of one branch in a step. Touches model files and, in [`serve`], one Unix socket. Never speaks to a broker,
//! never reads the configuration, never decides about events.

pub mod calibration;
pub mod convert;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod decode;
pub mod engine;
pub mod error;
pub mod file;
pub mod frames;
pub mod limits;
pub mod linear;
pub mod llm;
pub mod projector;
pub mod prompt;
pub mod serve;
pub mod session;
pub mod shape;
pub mod tasks;
pub mod tokenizer;
pub mod vision;
