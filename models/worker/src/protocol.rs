//! Frames on the socket between the daemon and the worker: versioned and bounded.
//!
//! `FS`, version, kind, payload length (u32, little endian), payload, CRC-32 (IEEE, little endian) over everything
//! before it. Kinds: 1 a [`ToWorker`], 2 a picture, 3 a [`FromWorker`]; control payloads are postcard, a picture is
//! the length of its header (u16), the header in postcard and the bytes of RGB as they are. A length above the cap is
//! refused before anything is reserved for it. There is no way to go on after a bad frame: the connection ends.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::job::{Answers, Facts, FrameInput, JobSpec, LabelAnswer, ObjectRow, TelemetryRow};
use crate::limits::{MAX_CONTROL_BYTES, MAX_DETAIL_BYTES, MAX_OBJECTS, MAX_PAYLOAD_BYTES};

/// First two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"FS";
/// Version of this protocol; both sides must have the same. Since 2 the facts say what the model was trained on.
pub const VERSION: u8 = 2;
const HEADER: usize = 8;
const CRC: usize = 4;

/// Why a worker or a job failed, as far as the worker itself can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// There is no model file.
    NotInstalled,
    /// The model file is damaged or of another form.
    Corrupt,
    /// Memory was not enough.
    OutOfMemory,
    /// The job was given up at its deadline.
    Deadline,
    /// The job was cancelled.
    Cancelled,
    /// What was sent does not fit the protocol or its caps.
    Protocol,
    /// Anything else.
    Failed,
}

/// The daemon speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// A new job; the one before it, if any, is dropped.
    Begin {
        /// Number of the job, which its answers repeat.
        job: u32,
        /// What is asked.
        spec: JobSpec,
    },
    /// All frames were sent: answer.
    Answer {
        /// The job.
        job: u32,
    },
    /// Give the job up; answered by `Refused` with [`Fault::Cancelled`] where it was in work.
    Cancel {
        /// The job.
        job: u32,
    },
    /// Are you there: answered at once, also while a job is computed.
    Ping {
        /// Repeated by the answer.
        nonce: u32,
    },
    /// End.
    Stop,
}

/// The worker speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "a handful in a job, never stored")]
pub enum FromWorker {
    /// The model is loaded.
    Ready(Facts),
    /// The label, as soon as it is known.
    Label {
        /// The job.
        job: u32,
        /// The label.
        label: LabelAnswer,
    },
    /// All six answers.
    Answers {
        /// The job.
        job: u32,
        /// The answers.
        answers: Answers,
    },
    /// The answer to a free question.
    Text {
        /// The job.
        job: u32,
        /// The text.
        text: String,
    },
    /// A job failed; the worker goes on.
    Refused {
        /// The job.
        job: u32,
        /// Why.
        fault: Fault,
        /// Why, in words.
        detail: String,
    },
    /// The model could not be loaded, or the connection is given up; the worker ends.
    Failed {
        /// Why.
        fault: Fault,
        /// Why, in words.
        detail: String,
    },
    /// The answer to a ping.
    Pong {
        /// The ping's.
        nonce: u32,
        /// Steps of work since the start: a worker whose count stands still while it has a job may hang.
        steps: u64,
    },
}

/// What stands before the bytes of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PictureHeader {
    job: u32,
    t_s: f32,
    width: u16,
    height: u16,
    telemetry: Option<TelemetryRow>,
    objects: Vec<ObjectRow>,
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The daemon's words.
    Control(ToWorker),
    /// A picture of a job.
    Picture(Picture),
    /// The worker's words.
    Report(FromWorker),
}

/// A picture that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The job.
    pub job: u32,
    /// Seconds from the window's first frame.
    pub t_s: f32,
    /// Width, pixels.
    pub width: u16,
    /// Height, pixels.
    pub height: u16,
    /// Telemetry beside it.
    pub telemetry: Option<TelemetryRow>,
    /// The nearest objects.
    pub objects: Vec<ObjectRow>,
    /// RGB24.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// As the engine takes it.
    #[must_use]
    pub fn input(&self) -> FrameInput<'_> {
        FrameInput {
            t_s: self.t_s,
            width: self.width,
            height: self.height,
            rgb: &self.rgb,
            telemetry: self.telemetry,
            objects: &self.objects,
        }
    }
}

/// Why the socket gave no frame. Offsets count from the begin of the frame.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The other side closed the connection between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side closed it within a frame.
    #[error("the connection ended {at} bytes into a frame")]
    Cut {
        /// Where.
        at: usize,
    },
    /// Nothing came in the time that the socket waits; what came so far is kept.
    #[error("nothing came in time")]
    Quiet,
    /// The socket failed.
    #[error("the socket: {0}")]
    Io(io::Error),
    /// Does not begin with `FS`.
    #[error("offset 0: not a frame of this protocol: begins with {0:02x?}")]
    Magic([u8; 2]),
    /// Another version.
    #[error("offset 2: version {0} of the protocol, this side speaks {VERSION}")]
    Version(u8),
    /// No such kind.
    #[error("offset 3: unknown kind {0}")]
    Kind(u8),
    /// Longer than the cap of its kind.
    #[error("offset 4: {have} bytes announced for kind {kind}, the cap is {cap}")]
    Oversized {
        /// Its kind.
        kind: u8,
        /// What it announces.
        have: usize,
        /// The cap.
        cap: usize,
    },
    /// The check sum does not match.
    #[error("wrong CRC: {found:08x} in the frame, {computed:08x} computed")]
    Crc {
        /// In the frame.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// The payload is not of its kind.
    #[error("the payload of kind {kind} does not parse: {reason}")]
    Payload {
        /// Its kind.
        kind: u8,
        /// Why.
        reason: String,
    },
}

const KIND_CONTROL: u8 = 1;
const KIND_PICTURE: u8 = 2;
const KIND_REPORT: u8 = 3;

const fn cap_of(kind: u8) -> Option<usize> {
    match kind {
        KIND_CONTROL | KIND_REPORT => Some(MAX_CONTROL_BYTES),
        KIND_PICTURE => Some(MAX_PAYLOAD_BYTES),
        _ => None,
    }
}

fn framed(kind: u8, payload: &[&[u8]]) -> Result<Vec<u8>, ProtocolError> {
    let have = payload.iter().map(|p| p.len()).sum();
    let cap = cap_of(kind).unwrap_or(0);
    let length = u32::try_from(have).ok().filter(|_| have <= cap);
    let Some(length) = length else { return Err(ProtocolError::Oversized { kind, have, cap }) };
    let mut out = Vec::with_capacity(HEADER + have + CRC);
    out.extend_from_slice(&[MAGIC[0], MAGIC[1], VERSION, kind]);
    out.extend_from_slice(&length.to_le_bytes());
    payload.iter().for_each(|p| out.extend_from_slice(p));
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(out)
}

fn packed(kind: u8, value: &impl Serialize) -> Result<Vec<u8>, ProtocolError> {
    postcard::to_allocvec(value).map_err(|e| ProtocolError::Payload { kind, reason: e.to_string() })
}

/// The bytes of a frame with the daemon's words.
///
/// # Errors
/// [`ProtocolError::Oversized`].
pub fn control(words: &ToWorker) -> Result<Vec<u8>, ProtocolError> {
    framed(KIND_CONTROL, &[&packed(KIND_CONTROL, words)?])
}

/// The bytes of a frame with the worker's words.
///
/// # Errors
/// [`ProtocolError::Oversized`].
pub fn report(words: &FromWorker) -> Result<Vec<u8>, ProtocolError> {
    framed(KIND_REPORT, &[&packed(KIND_REPORT, words)?])
}

/// The bytes of a frame with a picture.
///
/// # Errors
/// [`ProtocolError::Payload`] when the picture breaks a cap.
pub fn picture(job: u32, frame: &FrameInput<'_>) -> Result<Vec<u8>, ProtocolError> {
    frame.check().map_err(|reason| ProtocolError::Payload { kind: KIND_PICTURE, reason })?;
    let header = PictureHeader {
        job,
        t_s: frame.t_s,
        width: frame.width,
        height: frame.height,
        telemetry: frame.telemetry,
        objects: frame.objects.to_vec(),
    };
    let header = packed(KIND_PICTURE, &header)?;
    let length = u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes();
    framed(KIND_PICTURE, &[&length, &header, frame.rgb])
}

/// Cuts a reason in words to its cap, at a character.
#[must_use]
pub fn detail(text: &str) -> String {
    let mut end = text.len().min(MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Writes whole frames.
///
/// # Errors
/// [`ProtocolError::Io`]; a write that times out is one.
pub fn send(to: &mut impl Write, frame: &[u8]) -> Result<(), ProtocolError> {
    to.write_all(frame).and_then(|()| to.flush()).map_err(ProtocolError::Io)
}

/// Reads frames; what came of one before a read timed out is kept for the next call.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    filled: usize,
}

impl FrameReader {
    /// The next frame.
    ///
    /// # Errors
    /// [`ProtocolError::Quiet`] can be gone on from; everything else ends the connection.
    pub fn next(&mut self, from: &mut impl Read) -> Result<Incoming, ProtocolError> {
        self.fill(from, HEADER)?;
        let (kind, length) = self.header()?;
        self.fill(from, HEADER + length + CRC)?;
        let bytes = self.buffer.get(..self.filled).unwrap_or_default();
        let incoming = whole(kind, bytes);
        self.filled = 0;
        incoming
    }

    fn header(&self) -> Result<(u8, usize), ProtocolError> {
        let Some([m0, m1, version, kind, l0, l1, l2, l3]) = self.buffer.first_chunk::<HEADER>().copied() else {
            return Err(ProtocolError::Cut { at: self.filled });
        };
        if [m0, m1] != MAGIC {
            return Err(ProtocolError::Magic([m0, m1]));
        }
        if version != VERSION {
            return Err(ProtocolError::Version(version));
        }
        let cap = cap_of(kind).ok_or(ProtocolError::Kind(kind))?;
        let have = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if have > cap {
            return Err(ProtocolError::Oversized { kind, have, cap });
        }
        Ok((kind, have))
    }

    /// Reads until `need` bytes of the frame are there.
    fn fill(&mut self, from: &mut impl Read, need: usize) -> Result<(), ProtocolError> {
        if self.buffer.len() < need {
            self.buffer.resize(need, 0);
        }
        while self.filled < need {
            let room = self.buffer.get_mut(self.filled..need).unwrap_or_default();
            match from.read(room) {
                Ok(0) if self.filled == 0 => return Err(ProtocolError::Closed),
                Ok(0) => return Err(ProtocolError::Cut { at: self.filled }),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(ProtocolError::Quiet);
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(ProtocolError::Closed),
                Err(e) => return Err(ProtocolError::Io(e)),
            }
        }
        Ok(())
    }
}

/// A whole frame, header and CRC included.
fn whole(kind: u8, bytes: &[u8]) -> Result<Incoming, ProtocolError> {
    let (body, crc) = bytes.split_last_chunk::<CRC>().ok_or(ProtocolError::Cut { at: bytes.len() })?;
    let (found, computed) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
    if found != computed {
        return Err(ProtocolError::Crc { found, computed });
    }
    let payload = body.get(HEADER..).unwrap_or_default();
    match kind {
        KIND_CONTROL => parse(kind, payload).map(Incoming::Control),
        KIND_REPORT => parse(kind, payload).map(Incoming::Report),
        _ => parse_picture(payload).map(Incoming::Picture),
    }
}

fn parse<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, ProtocolError> {
    let bad = |reason: String| ProtocolError::Payload { kind, reason };
    let (value, left) = postcard::take_from_bytes::<T>(payload).map_err(|e| bad(e.to_string()))?;
    if left.is_empty() { Ok(value) } else { Err(bad(format!("{} bytes are left over", left.len()))) }
}

fn parse_picture(payload: &[u8]) -> Result<Picture, ProtocolError> {
    let bad = |reason: String| ProtocolError::Payload { kind: KIND_PICTURE, reason };
    let cut = || bad("shorter than its header".to_owned());
    let (length, rest) = payload.split_first_chunk::<2>().ok_or_else(cut)?;
    let (header, rgb) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(cut)?;
    let header: PictureHeader = parse(KIND_PICTURE, header)?;
    if header.objects.len() > MAX_OBJECTS {
        return Err(bad(format!("{} objects", header.objects.len())));
    }
    let picture = Picture {
        job: header.job,
        t_s: header.t_s,
        width: header.width,
        height: header.height,
        telemetry: header.telemetry,
        objects: header.objects,
        rgb: rgb.to_vec(),
    };
    picture.input().check().map_err(bad)?;
    Ok(picture)
}
