//! Every capacity of every message, in one place, with the relations between them checked at compile time.

/// Longest unit name, bytes of UTF-8.
pub const UNIT_ID_BYTES: usize = 32;
/// Longest software version text, bytes.
pub const VERSION_BYTES: usize = 24;
/// Longest evidence file name, bytes: unit, boot (8 digits), sequence (6 digits), separators and suffix.
pub const FILE_NAME_BYTES: usize = UNIT_ID_BYTES + 1 + 10 + 1 + 10 + 5;
/// Most trigger evidence items one alert carries; the strongest are kept.
pub const EVIDENCE_ITEMS: usize = 5;
/// Most grounding verdicts in a report.
pub const GROUNDING_ITEMS: usize = 6;
/// Most steps of the student's ladder that one report tells the fall from.
pub const LADDER_FALLS: usize = 3;
/// Longest free-text answer for description, bytes of UTF-8.
pub const DESCRIPTION_BYTES: usize = 120;
/// Longest free-text answer for cause, bytes.
pub const CAUSE_BYTES: usize = 160;
/// Longest free-text answer for prevention, bytes.
pub const PREVENTION_BYTES: usize = 320;

/// Bytes that the envelope adds to a payload: magic 2, version 1, kind 1, length 2, CRC 4.
pub const ENVELOPE_OVERHEAD: usize = 10;
/// An alert on the wire is never larger than this.
pub const ALERT_BYTES: usize = 256;
/// A report on the wire is never larger than this.
pub const REPORT_BYTES: usize = 1024;
/// Status, health and command are never larger than this.
pub const SMALL_MESSAGE_BYTES: usize = 256;
/// The largest envelope that is ever made or accepted.
pub const MESSAGE_BYTES: usize = REPORT_BYTES;

const _: () = assert!(ALERT_BYTES <= MESSAGE_BYTES && SMALL_MESSAGE_BYTES <= MESSAGE_BYTES);
const _: () = assert!(MESSAGE_BYTES - ENVELOPE_OVERHEAD <= u16::MAX as usize);
const _: () = assert!(DESCRIPTION_BYTES + CAUSE_BYTES + PREVENTION_BYTES + 2 * UNIT_ID_BYTES < REPORT_BYTES - 256);
