//! Fuzz target: `agent_tests::hostile::onnx`.
#![no_main]

agent_fuzz::target!(onnx, caught);
