//! Nothing but tests: the end-to-end tests of the agent and the tidiness of this repository stand in `tests/`.
//! No other crate depends on this one.
