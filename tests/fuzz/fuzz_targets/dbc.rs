//! Fuzz target: `agent_tests::hostile::dbc`.
#![no_main]

agent_fuzz::target!(dbc);
