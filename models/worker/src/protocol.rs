//! Frames on the socket between the daemon and the worker: versioned and bounded.
