//! The durable way out over MQTT, and the fleet side's receiver.
//!
//! Terms: the *store* is the outbox on disk ([`store::Store`]); the *link* is the thread that stores, publishes and
//! deletes ([`publisher::Link`]); a *connection* is one MQTT session, thrown away whole when it ends; the *listener*
//! is the other end ([`listener`]).
//!
//! What it never does: decide what is kept or given up (that is [`agent_core::outbox`]); delete a message before the
//! broker acknowledged it; carry MQTT session state from one connection into the next.

pub mod backoff;
pub mod broker;
mod choice;
pub mod commands;
mod connection;
mod der;
pub mod expiry;
mod keeper;
pub mod limits;
pub mod listener;
mod owed;
pub mod publisher;
pub mod send;
pub mod store;
pub mod tls;
pub mod token;
mod worker;

pub use backoff::Backoff;
pub use broker::{Broker, BrokerError};
pub use commands::{CommandPolicy, CommandRefusal, command_topic, sign_command};
pub use listener::{ListenConfig, ListenStats, Listener, ReceiveError, Received};

pub use publisher::{EnqueueError, Link, LinkConfig, LinkError, LinkStats};
pub use send::{SendError, send};
pub use store::{Opened, Store, StoreError};
pub use tls::{ClientKey, Tls, TlsError};
pub use token::{Token, TokenError, TokenState, TokenUri};
