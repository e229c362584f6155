//! Fuzz target: `agent_tests::hostile::frames`.
#![no_main]

agent_fuzz::target!(frames);
