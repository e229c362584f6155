//! Errors of this crate: each names its place.
