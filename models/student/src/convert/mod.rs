//! Makes and checks model files: one GGUF with weights, tokenizer, preprocessing, prompts, codebook and licence.
//!
//! Terms: *checkpoint*, the folder others publish; *adapter*, a PEFT LoRA or DoRA; *preset*, the types of a file.
//! Streams: no tensor is ever in memory whole. Never runs a model, never fetches anything.

pub mod adapter;
pub mod calibrate;
pub mod config;
pub mod error;
pub mod export;
pub mod gguf;
pub mod import;
pub mod limits;
pub mod metadata;
pub mod names;
pub mod quant;
pub mod questions;
pub mod random;
pub mod source;
pub mod tensors;
pub mod tokens;
pub mod verify;

pub use calibrate::{Calibrated, calibrate};
pub use error::ConvertError;
pub use export::export_language;
pub use import::{ImportOptions, Imported, import};
pub use random::write_random;
pub use tensors::{Preset, shape_2b, shape_7b, shape_small, shape_tiny};
pub use verify::{Verified, describe, verify};
