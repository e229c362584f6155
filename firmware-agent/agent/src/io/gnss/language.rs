//! What the bytes of a receiver mean, whatever language it speaks.

use agent_core::samples::GnssFix;
use agent_core::time::MonoTime;

use super::lines::{Line, Lines};

/// What one line of a receiver meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    Fix(GnssFix),
    /// Sound, without a position in it.
    NoFix,
    /// Not to be read, and it may have held a fix.
    Damaged,
    /// Of no interest.
    Other,
}

/// Turns lines to fixes.
pub(super) trait Language {
    fn line(&mut self, text: &str, now: MonoTime) -> Meaning;
}

/// Takes one byte; what the line meant that it ends, if it ends one.
pub(super) fn hear(
    lines: &mut Lines,
    byte: u8,
    language: &mut dyn Language,
    now: impl FnOnce() -> MonoTime,
) -> Option<Meaning> {
    Some(match lines.push(byte)? {
        Line::TooLong => Meaning::Damaged,
        Line::Whole(text) => language.line(text, now()),
    })
}
