//! Messages between a unit and its fleet: bounded types, postcard, one versioned envelope.
//!
//! Terms: a *unit* is one device in one vehicle; an *event* is one incident it noticed; the *alert* says at once
//! that something happened; the *report* says later what it was. Every field has a capacity, so the worst case of
//! each message is a number that a test proves ([`limits`]).
//!
//! This crate never allocates, does no I/O and reads no clock. The same types serialise to JSON (`serde_json`) for
//! files and the fleet side; identifiers and hashes are text there and bytes on the wire. `mono_ns`, `unix_ms`,
//! `counter` and `bytes` are whole numbers of up to 64 bits there: a reader whose numbers are doubles is exact only to
//! 2^53.
//!
//! What is decoded has the right form: known variants, capacities kept, names checked, one encoding. Whether a value
//! is plausible (a latitude, a probability of at most 1e4) is for the reader to judge.
#![no_std]

pub mod envelope;
pub mod ids;
pub mod limits;
pub mod message;
pub mod report;
pub mod sensors;
pub mod units;
mod v1;
mod v2;
mod v3;

pub use envelope::{DecodeError, EncodeError, decode, encode};
pub use ids::{EventId, Hash8, UnitId};
pub use message::{
    Alert, Command, CommandAction, EventKind, Evidence, EvidenceSource, Flags, Health, Losses, Message, MessageKind,
    Severity, Status, Storage, UnitState,
};
pub use report::{
    Answer, EdrSummary, EvidenceFile, Grounding, GroundingCheck, Interval, LadderFall, LadderReason, Report,
    SeverityEstimate, StudentAnswers, StudentOutcome, StudentRefusal, Verdict,
};
pub use sensors::{CameraState, SensorState, Sensors};
pub use units::{DeltaV, EventTime, PeakAcceleration, Position, Quality, WallQuality};
