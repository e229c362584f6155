//! Tests of the student.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "it/decode_prompt.rs"]
mod decode_prompt;
#[path = "it/decode_run.rs"]
mod decode_run;
#[path = "it/decode_tokenizer.rs"]
mod decode_tokenizer;
#[path = "it/decode_toy.rs"]
mod decode_toy;
#[path = "it/engine_language.rs"]
mod engine_language;
#[path = "it/engine_vision.rs"]
mod engine_vision;
