//! Fuzz target: `agent_tests::hostile::mp4`.
#![no_main]

agent_fuzz::target!(mp4);
