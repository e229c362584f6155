//! The envelope around every message: `FA`, version, kind, payload length (u16, little endian), payload (postcard),
//! CRC-32 (IEEE, little endian) over everything before it.
//!
//! postcard has no field numbers: an added field breaks old readers, and its `from_bytes` ignores trailing bytes.
//! Hence the version here, and leftovers are refused. Any change to a message type raises [`VERSION`]; versions from
//! [`OLDEST_VERSION`] on are read, and only [`VERSION`] is written.
//!
//! One message has exactly one encoding. postcard also reads numbers padded with needless bytes (`80 00` for 0);
//! such bytes are refused, so that equal messages are equal bytes and no accepted message is longer than the worst
//! case that the tests prove. Nothing here allocates, and no input panics.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{ENVELOPE_OVERHEAD, MESSAGE_BYTES};
use crate::message::{Message, MessageKind};
use crate::v1::ReportV1;
use crate::v2::{HealthV2, StatusV2};
use crate::v3::HealthV3;

/// First two bytes of every message.
pub const MAGIC: [u8; 2] = *b"FA";
/// Version of the message types that this crate writes. 2: the report says why the student fell from a step of its
/// ladder, whether its label is calibrated and what it rests on; severity may be absent. 3: status and health say which broker is
/// in use, health says how the disk is. 4: health says how the sensors are.
pub const VERSION: u8 = 4;
/// Oldest version that is still read. What a later version added is absent in what it gives.
pub const OLDEST_VERSION: u8 = 1;
const HEADER: usize = 6;
const CRC: usize = 4;
const _: () = assert!(HEADER + CRC == ENVELOPE_OVERHEAD);

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than an envelope, or than its length field says.
    #[error("too short: {have} bytes, {need} needed")]
    Short {
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// More bytes than any message may have.
    #[error("too long: {0} bytes, the limit is {MESSAGE_BYTES}")]
    Long(usize),
    /// Does not begin with `FA`.
    #[error("not a message: begins with {0:02x?}")]
    Magic([u8; 2]),
    /// A version outside [`OLDEST_VERSION`] to [`VERSION`].
    #[error("unknown version {0}, this reader knows {OLDEST_VERSION} to {VERSION}")]
    Version(u8),
    /// No such kind.
    #[error("unknown message kind {0}")]
    Kind(u8),
    /// Bytes follow the envelope.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// The check sum does not match.
    #[error("wrong CRC: {found:08x} in the message, {computed:08x} computed")]
    Crc {
        /// In the message.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// The payload is not of the kind that the header names.
    #[error("payload of kind {0:?} does not parse")]
    Payload(MessageKind),
    /// The payload parses but leaves bytes over.
    #[error("payload of kind {kind:?} leaves {left} bytes over")]
    PayloadTrailing {
        /// Kind of the header.
        kind: MessageKind,
        /// Bytes left.
        left: usize,
    },
    /// The payload parses, but this is not the way in which the message is written (padded numbers).
    #[error("payload of kind {0:?} is not in its one canonical form")]
    NotCanonical(MessageKind),
}

/// Why a message could not be encoded: only when the buffer is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message does not fit in {0} bytes")]
pub struct EncodeError(pub usize);

/// Encodes `message` into `buffer` and returns the bytes used. [`MESSAGE_BYTES`] always suffice.
///
/// # Errors
/// The buffer is too small.
pub fn encode<'b>(message: &Message, buffer: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    let size = buffer.len();
    let error = EncodeError(size);
    if size < ENVELOPE_OVERHEAD {
        return Err(error);
    }
    let room = &mut buffer[HEADER..size - CRC];
    let payload = match message {
        Message::Alert(m) => postcard::to_slice(m, room),
        Message::Report(m) => postcard::to_slice(m, room),
        Message::Status(m) => postcard::to_slice(m, room),
        Message::Health(m) => postcard::to_slice(m, room),
        Message::Command(m) => postcard::to_slice(m, room),
    }
    .map_err(|_| error)?
    .len();
    let length = u16::try_from(payload).map_err(|_| error)?;
    buffer[..2].copy_from_slice(&MAGIC);
    buffer[2] = VERSION;
    buffer[3] = message.kind() as u8;
    buffer[4..6].copy_from_slice(&length.to_le_bytes());
    let end = HEADER + payload;
    let crc = crc32fast::hash(&buffer[..end]);
    buffer[end..end + CRC].copy_from_slice(&crc.to_le_bytes());
    Ok(&buffer[..end + CRC])
}

/// Decodes exactly one message.
///
/// # Errors
/// Every way in which bytes can fail to be one whole message has its own variant of [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    if bytes.len() > MESSAGE_BYTES {
        return Err(DecodeError::Long(bytes.len()));
    }
    if bytes.len() < ENVELOPE_OVERHEAD {
        return Err(DecodeError::Short { have: bytes.len(), need: ENVELOPE_OVERHEAD });
    }
    if bytes[..2] != MAGIC {
        return Err(DecodeError::Magic([bytes[0], bytes[1]]));
    }
    if !(OLDEST_VERSION..=VERSION).contains(&bytes[2]) {
        return Err(DecodeError::Version(bytes[2]));
    }
    let kind = MessageKind::ALL.into_iter().find(|k| *k as u8 == bytes[3]).ok_or(DecodeError::Kind(bytes[3]))?;
    let end = HEADER + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
    let need = end + CRC;
    if bytes.len() < need {
        return Err(DecodeError::Short { have: bytes.len(), need });
    }
    if bytes.len() > need {
        return Err(DecodeError::Trailing(bytes.len() - need));
    }
    let found = u32::from_le_bytes([bytes[end], bytes[end + 1], bytes[end + 2], bytes[end + 3]]);
    let computed = crc32fast::hash(&bytes[..end]);
    if found != computed {
        return Err(DecodeError::Crc { found, computed });
    }
    let payload = &bytes[HEADER..end];
    match kind {
        MessageKind::Alert => parse(kind, payload).map(Message::Alert),
        MessageKind::Report if bytes[2] == 1 => parse::<ReportV1>(kind, payload).map(|r| Message::Report(r.into())),
        MessageKind::Report => parse(kind, payload).map(Message::Report),
        MessageKind::Status if bytes[2] < 3 => parse::<StatusV2>(kind, payload).map(|s| Message::Status(s.into())),
        MessageKind::Health if bytes[2] == 3 => parse::<HealthV3>(kind, payload).map(|h| Message::Health(h.into())),
        MessageKind::Health if bytes[2] < 3 => parse::<HealthV2>(kind, payload).map(|h| Message::Health(h.into())),
        MessageKind::Status => parse(kind, payload).map(Message::Status),
        MessageKind::Health => parse(kind, payload).map(Message::Health),
        MessageKind::Command => parse(kind, payload).map(Message::Command),
    }
}

fn parse<T: DeserializeOwned + Serialize>(kind: MessageKind, payload: &[u8]) -> Result<T, DecodeError> {
    let (value, left) = postcard::take_from_bytes::<T>(payload).map_err(|_| DecodeError::Payload(kind))?;
    if !left.is_empty() {
        return Err(DecodeError::PayloadTrailing { kind, left: left.len() });
    }
    match postcard::serialize_with_flavor(&value, Matching { rest: payload }) {
        Ok(true) => Ok(value),
        Ok(false) | Err(_) => Err(DecodeError::NotCanonical(kind)),
    }
}

/// A sink that stores nothing: it holds what is written against bytes that are already there, and says at the end
/// whether it was all of them. Cheaper than encoding into a second buffer of 1 KB on the stack.
struct Matching<'p> {
    rest: &'p [u8],
}

impl Flavor for Matching<'_> {
    type Output = bool;

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        match self.rest.split_first() {
            Some((&first, rest)) if first == data => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.rest.is_empty())
    }
}
