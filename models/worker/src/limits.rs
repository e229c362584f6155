//! Capacities of this crate.
