//! Fuzz target: `agent_tests::hostile::j1939`.
#![no_main]

agent_fuzz::target!(j1939);
