//! The daemon's side of the socket.
