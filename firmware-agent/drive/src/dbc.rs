//! CAN frames to vehicle signals, by a DBC file and a mapping from the configuration.
//!
//! Terms: *Intel* signals count bits from the least significant bit of byte 0 upwards; *Motorola* signals name their most
//! significant bit and run down, byte after byte; a *multiplexed* signal is there only while its multiplexor has its
//! value; a *PGN* is the part of a J1939 identifier that names the message, without priority and addresses.
//! A frame too short for a signal gives no value and is counted, and so is a J1939 value that says that it is none. Decoding allocates nothing.

use agent_core::samples::{CanFrame, SignalSample, VehicleSignal};
use can_dbc::{ByteOrder, Dbc, DbcError as ParseError, Message, MessageId, MultiplexIndicator, Signal, ValueType};

use crate::limits::{MAX_DBC_BYTES, MAX_MAPPINGS};

/// Why a signal map could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DbcError {
    /// The text is not a DBC file.
    #[error("DBC line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser expected.
        reason: String,
    },
    /// The text has the form of a DBC file, but a value in it makes no sense.
    #[error("DBC: {0}")]
    Meaning(String),
    /// The file is larger than the limit.
    #[error("the DBC file has {0} bytes, more than the limit of {MAX_DBC_BYTES}")]
    TooLarge(usize),
    /// More mappings than the limit.
    #[error("{0} signals are mapped, more than the limit of {MAX_MAPPINGS}")]
    TooMany(usize),
    /// A mapping names a message that the DBC does not have.
    #[error("the DBC has no message {message:?}, which {signal:?} is mapped to{}", near(near_by))]
    NoMessage {
        /// What the mapping says.
        message: String,
        /// For which signal.
        signal: VehicleSignal,
        /// The most alike name in the DBC, if any is alike.
        near_by: Option<String>,
    },
    /// A mapping names a signal that the message does not have.
    #[error("the DBC's message {message} has no signal {name:?}, which {signal:?} is mapped to; it has {}", has.join(", "))]
    NoSignal {
        /// The message.
        message: String,
        /// What the mapping says.
        name: String,
        /// For which signal.
        signal: VehicleSignal,
        /// Names of the signals that the message has, at most 16.
        has: Vec<String>,
    },
    /// A signal's place or scale makes no sense.
    #[error("the DBC's signal {message}.{name}: {reason}")]
    BadSignal {
        /// The message.
        message: String,
        /// The signal.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

fn near(name: &Option<String>) -> String {
    name.as_ref().map_or(String::new(), |n| format!(" (did you mean {n}?)"))
}

/// One signal that the configuration wants, and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalMapping<'a> {
    /// What it is to the vehicle.
    pub signal: VehicleSignal,
    /// The DBC's message: its name, or its identifier as `170` or `0xAA`.
    pub message: &'a str,
    /// The DBC's signal; several names with commas between give their mean (four wheel speeds, say).
    pub name: &'a str,
    /// From the DBC's unit to that of [`VehicleSignal`]: 1/3.6 for a speed in km/h.
    pub scale: f64,
    /// Added after scaling, in the unit of [`VehicleSignal`].
    pub offset: f64,
    /// On which bus; any if `None`.
    pub bus: Option<u8>,
}

/// Counts since the map was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DbcStats {
    /// Values decoded.
    pub decoded: u64,
    /// Signals not decoded because the frame was too short for them, or because it says itself that the value is not
    /// available or wrong (SAE J1939).
    pub absent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u16,
    size: u16,
    motorola: bool,
    signed: bool,
    factor: f64,
    offset: f64,
}

#[derive(Clone, Debug)]
struct Entry {
    id: u32,
    extended: bool,
    /// Compare by PGN instead of the whole identifier.
    pgn: Option<u32>,
    bus: Option<u8>,
    signal: VehicleSignal,
    scale: f64,
    offset: f64,
    /// The multiplexor and the value it must have.
    when: Option<(Place, u64)>,
    /// The highest values stand for "error" and "not available".
    reserves: bool,
    places: Vec<Place>,
}

/// Which frames hold which signals.
#[derive(Clone, Debug)]
pub struct SignalMap {
    entries: Vec<Entry>,
    stats: DbcStats,
}

/// Which frames a receiver lets through: those whose identifier is `id` where `mask` has ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdFilter {
    /// Identifier, 11 or 29 bits.
    pub id: u32,
    /// Bits that must be equal.
    pub mask: u32,
    /// Identifiers of 29 bits; otherwise those of 11.
    pub extended: bool,
}

impl IdFilter {
    /// Every bit of an identifier of 11 or 29 bits.
    #[must_use]
    pub const fn all_bits(extended: bool) -> u32 {
        if extended { 0x1FFF_FFFF } else { 0x7FF }
    }
}

/// As candump writes it: identifier and mask in hexadecimal, three digits for 11 bits, eight for 29.
impl core::fmt::Display for IdFilter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let digits = if self.extended { 8 } else { 3 };
        write!(f, "{:0digits$X}:{:0digits$X}", self.id, self.mask)
    }
}

impl SignalMap {
    /// Makes a map from the text of a DBC file. Files that name J1939 are matched by PGN where a 29-bit identifier
    /// differs only in priority or addresses.
    ///
    /// # Errors
    /// [`DbcError`], naming the line, or the missing message or signal.
    pub fn from_dbc(text: &str, mappings: &[SignalMapping<'_>]) -> Result<Self, DbcError> {
        if mappings.len() > MAX_MAPPINGS {
            return Err(DbcError::TooMany(mappings.len()));
        }
        let dbc = parse(text)?;
        let j1939 = text.contains("J1939");
        let entries = mappings.iter().map(|m| entry(&dbc, m, j1939)).collect::<Result<_, _>>()?;
        Ok(Self { entries, stats: DbcStats::default() })
    }

    /// Counts since the map was made.
    #[must_use]
    pub fn stats(&self) -> DbcStats {
        self.stats
    }

    /// What lets through the frames that hold mapped signals: each filter once, in the order of the mappings.
    #[must_use]
    pub fn filters(&self) -> Vec<IdFilter> {
        let mut filters = Vec::new();
        for filter in self.entries.iter().map(Entry::filter) {
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        filters
    }

    /// Adds the values that `frame` holds to `out`, in the order of the mappings; `out` is not cleared.
    pub fn decode(&mut self, frame: &CanFrame, out: &mut Vec<SignalSample>) {
        if frame.remote {
            return;
        }
        let payload = frame.payload();
        for entry in self.entries.iter().filter(|e| e.matches(frame)) {
            if let Some((place, value)) = &entry.when
                && place.raw(payload) != Some(*value)
            {
                continue;
            }
            let mut sum = Some(0.0);
            for place in &entry.places {
                let value = place.value(payload).filter(|_| !(entry.reserves && place.reserved(payload)));
                sum = sum.zip(value).map(|(s, v)| s + v);
            }
            let Some(sum) = sum else {
                self.stats.absent += 1;
                continue;
            };
            let value = (sum / entry.places.len().max(1) as f64 * entry.scale + entry.offset) as f32;
            self.stats.decoded += 1;
            out.push(SignalSample { t: frame.t, signal: entry.signal, value });
        }
    }
}

impl Entry {
    fn filter(&self) -> IdFilter {
        let mask = match self.pgn {
            // Of a PDU format below 240 the low byte of the PGN is an address.
            Some(pgn) if pgn >> 8 & 0xFF < 240 => 0x03FF_0000,
            Some(_) => 0x03FF_FF00,
            None => IdFilter::all_bits(self.extended),
        };
        IdFilter { id: self.id & mask, mask, extended: self.extended }
    }

    fn matches(&self, frame: &CanFrame) -> bool {
        let same = match self.pgn {
            Some(pgn) => pgn_of(frame.id) == pgn,
            None => self.id == frame.id,
        };
        same && self.extended == frame.extended && self.bus.is_none_or(|b| b == frame.bus)
    }
}

/// The PGN of a J1939 identifier (SAE J1939-21): below PDU format 240 the low byte is an address, not part of it.
fn pgn_of(id: u32) -> u32 {
    let pgn = id >> 8 & 0x3_FFFF;
    if pgn >> 8 & 0xFF < 240 { pgn & 0x3_FF00 } else { pgn }
}

impl Place {
    /// The bits of the signal; `None` if the payload does not hold all of them.
    fn raw(&self, payload: &[u8]) -> Option<u64> {
        let mut raw = 0u64;
        let mut bit = usize::from(self.start);
        for i in 0..self.size {
            let byte = payload.get(bit / 8)?;
            let value = u64::from(byte >> (bit % 8) & 1);
            if self.motorola {
                raw = raw << 1 | value;
                // Down within the byte, then to the top of the next one.
                bit = if bit.is_multiple_of(8) { bit + 15 } else { bit - 1 };
            } else {
                raw |= value << i;
                bit += 1;
            }
        }
        Some(raw)
    }

    /// Whether the value is one of those that SAE J1939-71 (table 1) reserves: of a byte and more those from 0xFE.. on, of two
    /// bits 2 and 3. Other sizes have none.
    fn reserved(&self, payload: &[u8]) -> bool {
        let from = match self.size {
            2 => 2,
            8 => 0xfe,
            16 => 0xfe00,
            32 => 0xfe00_0000,
            _ => return false,
        };
        self.raw(payload).is_some_and(|raw| raw >= from)
    }

    fn value(&self, payload: &[u8]) -> Option<f64> {
        let raw = self.raw(payload)?;
        let unused = 64 - u32::from(self.size);
        let number = if self.signed { ((raw << unused) as i64 >> unused) as f64 } else { raw as f64 };
        Some(number * self.factor + self.offset)
    }
}

/// Checks a DBC file without mapping anything; how many messages it has.
///
/// # Errors
/// [`DbcError`], naming the line.
pub fn check(text: &str) -> Result<usize, DbcError> {
    parse(text).map(|d| d.messages.len())
}

/// The length in bytes that the DBC gives each message: its identifier, whether it is extended, its length.
///
/// # Errors
/// [`DbcError`], naming the line.
pub fn message_lengths(text: &str) -> Result<Vec<(u32, bool, u8)>, DbcError> {
    let length = |m: &Message| u8::try_from(m.size).ok().filter(|n| *n <= 64);
    let (id, wide) = (|m: &Message| m.id.raw() & 0x1FFF_FFFF, |m: &Message| matches!(m.id, MessageId::Extended(_)));
    Ok(parse(text)?.messages.iter().filter_map(|m| Some((id(m), wide(m), length(m)?))).collect())
}

fn parse(text: &str) -> Result<Dbc, DbcError> {
    if text.len() > MAX_DBC_BYTES {
        return Err(DbcError::TooLarge(text.len()));
    }
    Dbc::try_from(text).map_err(|e| match e {
        ParseError::Pest(e) => {
            // The parser's location type cannot be named from here; its text begins " --> LINE:COLUMN".
            let text = e.to_string();
            let mut numbers = text.split("--> ").nth(1).unwrap_or("").split(|c: char| !c.is_ascii_digit());
            let mut number = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let (line, column) = (number(), number());
            DbcError::Syntax { line, column, reason: e.variant.message().into_owned() }
        }
        other => DbcError::Meaning(other.to_string()),
    })
}

fn entry(dbc: &Dbc, mapping: &SignalMapping<'_>, j1939: bool) -> Result<Entry, DbcError> {
    let message = find_message(dbc, mapping)?;
    let mut places = Vec::new();
    let mut when = None;
    for name in mapping.name.split(',').map(str::trim) {
        let signal = message.signals.iter().find(|s| s.name == name).ok_or_else(|| DbcError::NoSignal {
            message: message.name.clone(),
            name: name.to_owned(),
            signal: mapping.signal,
            has: message.signals.iter().take(16).map(|s| s.name.clone()).collect(),
        })?;
        places.push(place(message, signal)?);
        if let MultiplexIndicator::MultiplexedSignal(v) | MultiplexIndicator::MultiplexorAndMultiplexedSignal(v) =
            signal.multiplexer_indicator
        {
            let selector = message.signals.iter().find(|s| s.multiplexer_indicator == MultiplexIndicator::Multiplexor);
            let selector = selector.ok_or_else(|| bad(message, signal, "it is multiplexed, but nothing selects it"))?;
            when = Some((place(message, selector)?, v));
        }
    }
    let (id, extended) = match message.id {
        MessageId::Standard(id) => (u32::from(id), false),
        MessageId::Extended(id) => (id, true),
    };
    let pgn = (extended && j1939).then(|| pgn_of(id));
    let (bus, signal, scale, offset) = (mapping.bus, mapping.signal, mapping.scale, mapping.offset);
    Ok(Entry { id, extended, pgn, bus, signal, scale, offset, when, reserves: pgn.is_some(), places })
}

fn find_message<'a>(dbc: &'a Dbc, mapping: &SignalMapping<'_>) -> Result<&'a Message, DbcError> {
    let text = mapping.message;
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let found = dbc.messages.iter().find(|m| match number {
        Some(id) => m.id.raw() == id || m.id.raw() == id | 1 << 31,
        None => m.name == text,
    });
    found.ok_or_else(|| {
        let alike = |m: &&Message| m.name.eq_ignore_ascii_case(text) || m.name.starts_with(text);
        let near_by = dbc.messages.iter().find(alike).map(|m| m.name.clone()).filter(|_| !text.is_empty());
        DbcError::NoMessage { message: text.to_owned(), signal: mapping.signal, near_by }
    })
}

fn place(message: &Message, signal: &Signal) -> Result<Place, DbcError> {
    if !(1..=64).contains(&signal.size) {
        return Err(bad(message, signal, &format!("{} bits, not 1 to 64", signal.size)));
    }
    // 64 bytes of CAN FD.
    if signal.start_bit.saturating_add(signal.size) > 512 + 64 {
        return Err(bad(message, signal, &format!("start bit {} is outside a frame", signal.start_bit)));
    }
    if !signal.factor.is_finite() || !signal.offset.is_finite() || signal.factor == 0.0 {
        return Err(bad(message, signal, &format!("factor {} and offset {}", signal.factor, signal.offset)));
    }
    Ok(Place {
        start: signal.start_bit as u16,
        size: signal.size as u16,
        motorola: signal.byte_order == ByteOrder::BigEndian,
        signed: signal.value_type == ValueType::Signed,
        factor: signal.factor,
        offset: signal.offset,
    })
}

fn bad(message: &Message, signal: &Signal, reason: &str) -> DbcError {
    DbcError::BadSignal { message: message.name.clone(), name: signal.name.clone(), reason: reason.to_owned() }
}
