//! Quantities in messages: scaled integers, so that size and range are bounded and the JSON says the unit.
//!
//! The name of a field ends in its unit: `dkmh` 0.1 km/h, `cmps2` cm/s^2, `dms` 0.1 ms, `e4` and `e7` powers of ten.
//! A value beyond the range of its type is written as the type's end: writers saturate and never wrap. Nothing here
//! converts.

use serde::{Deserialize, Serialize};

/// How far a wall-clock time may be trusted, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WallQuality {
    /// No wall time is known; only the monotonic time means anything.
    None,
    /// From a battery-backed clock, unchecked since boot.
    Rtc,
    /// Synchronised over the network since boot.
    Ntp,
    /// From GNSS since boot.
    Gnss,
}

/// When an event happened: monotonic time since boot (always right within one boot) and wall time with its quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// Nanoseconds of the unit's monotonic clock at time zero of the event.
    pub mono_ns: u64,
    /// Unix time in milliseconds; 0 when `quality` is [`WallQuality::None`].
    pub unix_ms: u64,
    /// How far `unix_ms` may be trusted.
    pub quality: WallQuality,
}

/// Where the vehicle was: the last fix before the event and how old it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Latitude, WGS 84, 1e-7 degrees.
    pub lat_e7: i32,
    /// Longitude, WGS 84, 1e-7 degrees.
    pub lon_e7: i32,
    /// Age of the fix at the event, milliseconds.
    pub age_ms: u32,
    /// Horizontal accuracy, decimetres; `u16::MAX` when the receiver gave none.
    pub accuracy_dm: u16,
}

/// How a value came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Read from a sensor or bus.
    Measured,
    /// Computed from other measurements.
    Derived,
    /// The sensor's range was exceeded: the true magnitude is at least this.
    Clipped,
    /// Not known; the value means nothing.
    Absent,
}

/// Change of velocity in the vehicle's axes since time zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaV {
    /// Along the vehicle, forward positive (a frontal impact is negative), 0.1 km/h. When the vehicle's axes are not
    /// known ([`DeltaV::axes_known`] false) this holds the horizontal magnitude and `lateral_dkmh` is 0.
    pub longitudinal_dkmh: i16,
    /// Across the vehicle, left positive, 0.1 km/h.
    pub lateral_dkmh: i16,
    /// Time over which it was integrated so far, milliseconds from time zero.
    pub window_ms: u16,
    /// Whether the two axes are the vehicle's or only the horizontal magnitude is known.
    pub axes_known: bool,
    /// Measured, derived, clipped or absent.
    pub quality: Quality,
}

/// Largest specific force minus gravity during the event so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakAcceleration {
    /// Magnitude, cm/s^2.
    pub magnitude_cmps2: u16,
    /// When, milliseconds from time zero.
    pub at_ms: i16,
    /// Whether the sensor's range was exceeded.
    pub clipped: bool,
}
