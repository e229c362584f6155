//! Tests of the student.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "it/calibrate.rs"]
mod calibrate;
#[path = "it/convert.rs"]
mod convert;
#[path = "it/convert_bad.rs"]
mod convert_bad;
#[path = "it/convert_fixture.rs"]
mod convert_fixture;
#[path = "it/cuda_kernels.rs"]
mod cuda_kernels;
#[path = "it/decode_known.rs"]
mod decode_known;
#[path = "it/decode_prompt.rs"]
mod decode_prompt;
#[path = "it/decode_run.rs"]
mod decode_run;
#[path = "it/decode_session.rs"]
mod decode_session;
#[path = "it/decode_tokenizer.rs"]
mod decode_tokenizer;
#[path = "it/decode_toy.rs"]
mod decode_toy;
#[path = "it/decode_trained.rs"]
mod decode_trained;
#[path = "it/engine_language.rs"]
mod engine_language;
#[path = "it/engine_vision.rs"]
mod engine_vision;
#[path = "it/exact.rs"]
mod exact;
#[path = "it/exact_adapters.rs"]
mod exact_adapters;
#[path = "it/exact_llama.rs"]
mod exact_llama;
#[path = "it/exact_quantised.rs"]
mod exact_quantised;
#[path = "it/file.rs"]
mod file;
#[path = "it/gpu_ways.rs"]
mod gpu_ways;
#[path = "it/tiny.rs"]
mod tiny;
