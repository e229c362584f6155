//! Placeholder.
#[allow(dead_code, reason = "the commands that use it land beside it")]
pub mod config;

fn main() {}
