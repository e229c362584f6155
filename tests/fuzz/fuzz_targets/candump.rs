//! Fuzz target: `agent_tests::hostile::candump`.
#![no_main]

agent_fuzz::target!(candump);
