//! Fuzz target: `agent_tests::hostile::commands`.
#![no_main]

agent_fuzz::target!(commands);
