//! The vision trigger against simulated objects of known truth, against arbitrary input, and (by hand) against dumps
//! of real detectors.

mod clips;
