//! What a drive promises: it gives back what went in, it gives up what is whole when it is damaged, and importers
//! say what they could not use.

// The lint's own exception for tests covers test functions, not the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod broken;
mod chain;
mod damage;
mod dbc;
#[cfg(feature = "gstreamer")]
mod gst;
mod hostile;
mod importers;
mod roundtrip;
mod util;
