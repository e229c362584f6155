//! The worker: serves jobs over a Unix socket.
