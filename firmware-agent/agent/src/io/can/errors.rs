//! Error frames to the kinds of errors that they name, and counts of them. What the bits mean is the socketcan crate's part.

use core::fmt;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use socketcan::errors::ControllerProblems;
use socketcan::{CanErrorFrame, ErrorCause};

/// What an error frame names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The controller left the bus.
    BusOff,
    /// It still hears, but may no longer say that it heard an error.
    Passive,
    /// It counts many errors.
    Warning,
    /// It is well again.
    Active,
    /// It was restarted after a bus-off.
    Restarted,
    /// Another sender had the older right.
    Arbitration,
    /// Nobody acknowledged a frame.
    NoAck,
    /// The controller had no room for a frame.
    Overflow,
    /// A frame broke the rules of the bus.
    Protocol,
    /// Anything else.
    Other,
}

/// Every kind and its word.
const KINDS: [(ErrorKind, &str); 10] = [
    (ErrorKind::BusOff, "bus-off"),
    (ErrorKind::Passive, "error-passive"),
    (ErrorKind::Warning, "error-warning"),
    (ErrorKind::Active, "error-active"),
    (ErrorKind::Restarted, "restarted"),
    (ErrorKind::Arbitration, "arbitration lost"),
    (ErrorKind::NoAck, "no acknowledgement"),
    (ErrorKind::Overflow, "overflow"),
    (ErrorKind::Protocol, "protocol violation"),
    (ErrorKind::Other, "other"),
];

impl ErrorKind {
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The kinds that one error frame names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorSet(u16);

impl ErrorSet {
    /// Those of a list.
    #[cfg(test)]
    pub(super) fn of(kinds: &[ErrorKind]) -> Self {
        Self(kinds.iter().fold(0, |bits, k| bits | k.bit()))
    }

    /// Whether it names `kind`.
    pub(crate) const fn has(self, kind: ErrorKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether it only says that the controller is well again.
    pub(crate) const fn is_good_news(self) -> bool {
        self.0 & !(ErrorKind::Active.bit() | ErrorKind::Restarted.bit()) == 0
    }

    /// What an error frame names.
    pub(super) fn decode(frame: CanErrorFrame) -> Self {
        let mut set = Self::default();
        let mut add = |kind: ErrorKind| set.0 |= kind.bit();
        for cause in frame.into_error() {
            match cause {
                ErrorCause::BusOff => add(ErrorKind::BusOff),
                ErrorCause::Restarted => add(ErrorKind::Restarted),
                ErrorCause::LostArbitration(_) => add(ErrorKind::Arbitration),
                ErrorCause::NoAck => add(ErrorKind::NoAck),
                ErrorCause::Protocol { .. } | ErrorCause::BusError => add(ErrorKind::Protocol),
                ErrorCause::Controller(problems) => {
                    use ControllerProblems as P;
                    for (bits, kind) in [
                        (P::RX_PASSIVE | P::TX_PASSIVE, ErrorKind::Passive),
                        (P::RX_WARNING | P::TX_WARNING, ErrorKind::Warning),
                        (P::RX_OVERFLOW | P::TX_OVERFLOW, ErrorKind::Overflow),
                        (P::ACTIVE, ErrorKind::Active),
                    ] {
                        if problems.intersects(bits) {
                            add(kind);
                        }
                    }
                    if problems.is_empty() {
                        add(ErrorKind::Other);
                    }
                }
                // Numbers beside what happened.
                ErrorCause::Counters { .. } => {}
                _ => add(ErrorKind::Other),
            }
        }
        set
    }
}

impl fmt::Display for ErrorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (_, word) in KINDS.iter().filter(|(kind, _)| self.has(*kind)) {
            write!(f, "{between}{word}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// How often each kind was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorCounts([u64; KINDS.len()]);

impl ErrorCounts {
    pub(super) fn add(&mut self, set: ErrorSet) {
        for (count, (kind, _)) in self.0.iter_mut().zip(KINDS) {
            *count += u64::from(set.has(kind));
        }
    }

    /// How often `kind` was named.
    #[cfg(test)]
    pub(super) fn of(&self, kind: ErrorKind) -> u64 {
        self.named().find(|(k, ..)| *k == kind).map_or(0, |(.., n)| n)
    }

    /// Whether anything was named.
    pub(crate) fn any(&self) -> bool {
        self.named().next().is_some()
    }

    fn named(&self) -> impl Iterator<Item = (ErrorKind, &'static str, u64)> {
        KINDS.iter().zip(self.0).filter(|(_, n)| *n > 0).map(|((kind, word), n)| (*kind, *word, n))
    }
}

impl fmt::Display for ErrorCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (_, word, count) in self.named() {
            write!(f, "{between}{count} {word}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// Those that there were, by their words.
impl Serialize for ErrorCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (_, word, count) in self.named() {
            map.serialize_entry(word, &count)?;
        }
        map.end()
    }
}
