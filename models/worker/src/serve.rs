//! The worker: serves jobs over one Unix socket with any engine.
