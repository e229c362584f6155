//! Fuzz target: `agent_tests::hostile::gguf`.
#![no_main]

agent_fuzz::target!(gguf);
