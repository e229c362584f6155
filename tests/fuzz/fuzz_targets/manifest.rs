//! Fuzz target: `agent_tests::hostile::manifest`.
#![no_main]

agent_fuzz::target!(manifest);
