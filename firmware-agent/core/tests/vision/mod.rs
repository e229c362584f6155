//! The vision trigger against simulated objects of known truth, against arbitrary input, and (by hand) against dumps
//! of real detectors.

// Helpers of tests may unwrap and print like the tests they serve.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod clips;
mod truth;
