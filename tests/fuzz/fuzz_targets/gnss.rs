//! Fuzz target: `agent_tests::hostile::gnss`.
#![no_main]

agent_fuzz::target!(gnss);
