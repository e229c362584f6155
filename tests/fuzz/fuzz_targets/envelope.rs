//! Fuzz target: `agent_tests::hostile::envelope`.
#![no_main]

agent_fuzz::target!(envelope);
