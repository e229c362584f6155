//! Fuzz target: `agent_tests::hostile::configuration`.
#![no_main]

agent_fuzz::target!(configuration);
