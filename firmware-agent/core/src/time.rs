//! Two kinds of time that never mix. [`MonoTime`] orders everything and is right within one boot of the unit.
//! [`WallTime`] is what people read; it may be absent, late to arrive and may step, so nothing is ordered by it.

use core::fmt;
use core::ops::{Add, Sub};

pub use agent_wire::WallQuality;

/// Nanoseconds of a monotonic clock since an arbitrary start (boot of the unit, or of the unit that made a drive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(pub u64);

/// A span of time, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Span {
    /// From milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// From seconds.
    #[must_use]
    pub const fn from_s(s: u64) -> Self {
        Self::from_ms(s.saturating_mul(1000))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Seconds.
    #[must_use]
    pub fn as_s(self) -> f64 {
        self.0 as f64 * 1e-9
    }
}

impl MonoTime {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// From seconds since the start; negative and non-finite values become zero.
    #[must_use]
    pub fn from_s(s: f64) -> Self {
        Self((s * 1e9).round().max(0.0) as u64)
    }

    /// Seconds since the start.
    #[must_use]
    pub fn as_s(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// Time since `earlier`, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Signed milliseconds from `zero` to this time, saturating at the range of `i32`.
    #[must_use]
    pub fn ms_from(self, zero: Self) -> i32 {
        let ms = (i128::from(self.0) - i128::from(zero.0)) / 1_000_000;
        i32::try_from(ms).unwrap_or(if ms < 0 { i32::MIN } else { i32::MAX })
    }

    /// This time minus a span, never before the start.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Add<Span> for MonoTime {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for MonoTime {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        self.since(earlier)
    }
}

impl fmt::Display for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.as_s())
    }
}

/// The wall clock became better known, or moved: times said before it were off by as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallStep {
    /// When.
    pub t: MonoTime,
    /// What was known before.
    pub from: WallQuality,
    /// What is known since.
    pub to: WallQuality,
    /// By how much the time moved, milliseconds, later positive; `None` if none was known before.
    pub moved_ms: Option<i64>,
}

impl fmt::Display for WallStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |quality| match quality {
            WallQuality::None => "nowhere",
            WallQuality::Rtc => "the RTC",
            WallQuality::Ntp => "the network",
            WallQuality::Gnss => "GNSS",
        };
        write!(f, "wall time: from {}, before from {}", name(self.to), name(self.from))?;
        match self.moved_ms {
            Some(ms) => write!(f, "; it moved by {:+.3} s", ms as f64 / 1000.0),
            None => Ok(()),
        }
    }
}

/// Unix time with how far it may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Unix time, milliseconds.
    pub unix_ms: u64,
    /// How far it may be trusted.
    pub quality: WallQuality,
}
