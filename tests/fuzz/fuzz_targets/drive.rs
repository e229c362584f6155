//! Fuzz target: `agent_tests::hostile::drive`.
#![no_main]

agent_fuzz::target!(drive);
