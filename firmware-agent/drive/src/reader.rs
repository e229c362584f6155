//! Reads drives record by record, with one chunk in memory at a time.
//!
//! Order: the records of a chunk come sorted by time (equal times in file order). Chunks are taken in file order: a
//! drive of our writer, fed in time order, comes out in time order; a foreign file whose chunks overlap does not
//! entirely, and [`DriveReader::stats`] counts the steps back. Any topic is read: the schema's name decides what a
//! message is, and the last number of its topic which CAN bus. Damage is never an error here: it is a
//! [`DriveLoss`], and everything whole is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::ops::Range;
use std::path::Path;

use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, VideoCodec};
use agent_core::time::{MonoTime, WallTime};

use crate::cdr::{CdrReader, ProtoField, next_field};
use crate::chain;
use crate::container::{self, Container, DriveLoss, Fields, OP_CHANNEL, OP_MESSAGE, OP_METADATA, OP_SCHEMA, Step};
use crate::error::DriveError;
use crate::h264;
use crate::info::{self, DriveInfo};
use crate::limits::{MAX_CHANNELS, MAX_CHUNK_MESSAGES, MAX_METADATA};
use crate::schema;
use crate::writer::quality_of;

/// One record of a drive; it borrows the reader's chunk.
#[derive(Clone, Debug, PartialEq)]
pub enum DriveRecord<'a> {
    /// An IMU sample.
    Imu(ImuSample),
    /// A GNSS fix.
    Gnss(GnssFix),
    /// A CAN frame.
    Can(CanFrame),
    /// An encoded camera frame.
    Frame(FrameMeta, &'a [u8]),
    /// A JSON message: its topic, time and text.
    Json(&'a str, MonoTime, &'a str),
}

impl DriveRecord<'_> {
    /// When it was taken.
    #[must_use]
    pub fn time(&self) -> MonoTime {
        match self {
            Self::Imu(s) => s.t,
            Self::Gnss(s) => s.t,
            Self::Can(s) => s.t,
            Self::Frame(m, _) => m.t,
            Self::Json(_, t, _) => *t,
        }
    }
}

/// What the reader met besides samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReadStats {
    /// Messages whose schema we do not know, passed over.
    pub unknown: u64,
    /// Messages of a known schema that could not be decoded.
    pub undecodable: u64,
    /// Records that came earlier in time than the one before.
    pub steps_back: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Imu,
    Fix,
    Velocity,
    TimeReference,
    Can,
    CanFd,
    Picture { video: bool },
    Json,
    Unknown,
}

struct Channel {
    topic: String,
    kind: Kind,
    bus: u8,
    size: [u16; 2],
}

#[derive(Clone)]
struct Entry {
    t: u64,
    channel: u16,
    sequence: u32,
    data: Range<usize>,
}

/// A decoded message, by place instead of by reference.
enum Parsed {
    Imu(ImuSample),
    Gnss(GnssFix),
    Can(CanFrame),
    Frame(FrameMeta, Range<usize>),
    Json(u16, MonoTime, Range<usize>),
}

/// Reads one drive.
pub struct DriveReader {
    container: Container,
    schemas: BTreeMap<u16, String>,
    channels: BTreeMap<u16, Channel>,
    metadata: Vec<(String, BTreeMap<String, String>)>,
    info: DriveInfo,
    entries: Vec<Entry>,
    next: usize,
    velocity: Option<(u64, f32, f32)>,
    wall: Option<(u64, WallTime)>,
    last: u64,
    stats: ReadStats,
}

impl DriveReader {
    /// Opens the drive `path` and reads what it says of itself.
    ///
    /// # Errors
    /// [`DriveError::Open`], or [`DriveError::In`] around [`DriveError::NotMcap`] or [`DriveError::Read`], never for damage
    /// behind the first 8 bytes.
    pub fn open(path: &Path) -> Result<Self, DriveError> {
        let fail = |source| DriveError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        Self::from_reader(BufReader::with_capacity(64 << 10, file), len)
            .map_err(|why| DriveError::In { path: path.to_owned(), why: Box::new(why) })
    }

    /// Reads a drive of `len` bytes from any input (bytes in memory, say).
    ///
    /// # Errors
    /// [`DriveError::NotMcap`] or [`DriveError::Read`].
    pub fn from_reader(mut input: impl Read + Seek + Send + 'static, len: u64) -> Result<Self, DriveError> {
        let summary = container::summary(&mut input, len).map_err(|source| DriveError::Read { offset: 0, source })?;
        let mut this = Self {
            container: Container::new(Box::new(input), len)?,
            schemas: BTreeMap::new(),
            channels: BTreeMap::new(),
            metadata: Vec::new(),
            info: DriveInfo::default(),
            entries: Vec::new(),
            next: 0,
            velocity: None,
            wall: None,
            last: 0,
            stats: ReadStats::default(),
        };
        this.read_summary(summary);
        // The drive's own record lies before its first chunk; foreign files are read to their first chunk too.
        this.advance()?;
        Ok(this)
    }

    /// What the drive says of itself; defaults for files that other programs wrote.
    #[must_use]
    pub fn info(&self) -> &DriveInfo {
        &self.info
    }

    /// What was lost, as far as was read: complete once [`DriveReader::next`] has given `None`.
    #[must_use]
    pub fn loss(&self) -> Option<&DriveLoss> {
        self.container.loss()
    }

    /// What was met besides samples, so far.
    #[must_use]
    pub fn stats(&self) -> ReadStats {
        self.stats
    }

    /// The metadata records met so far, by name, in file order (at most 256).
    #[must_use]
    pub fn metadata(&self) -> &[(String, BTreeMap<String, String>)] {
        &self.metadata
    }

    /// The next record, or `None` at the end of the drive.
    ///
    /// # Errors
    /// [`DriveError::Read`] when the disk fails; damage is a loss instead.
    #[allow(clippy::should_implement_trait)] // A lending iterator: the record borrows the reader.
    pub fn next(&mut self) -> Result<Option<DriveRecord<'_>>, DriveError> {
        let parsed = loop {
            let Some(entry) = self.entries.get(self.next).cloned() else {
                if !self.advance()? {
                    return Ok(None);
                }
                continue;
            };
            self.next += 1;
            if let Some(parsed) = self.decode(&entry) {
                self.stats.steps_back += u64::from(entry.t < self.last);
                self.last = self.last.max(entry.t);
                break parsed;
            }
        };
        let bytes = |r: Range<usize>| self.container.chunk.get(r).unwrap_or(&[]);
        Ok(Some(match parsed {
            Parsed::Imu(s) => DriveRecord::Imu(s),
            Parsed::Gnss(s) => DriveRecord::Gnss(s),
            Parsed::Can(s) => DriveRecord::Can(s),
            Parsed::Frame(meta, range) => DriveRecord::Frame(meta, bytes(range)),
            Parsed::Json(channel, t, range) => {
                let topic = self.channels.get(&channel).map_or("", |c| c.topic.as_str());
                DriveRecord::Json(topic, t, std::str::from_utf8(bytes(range)).unwrap_or(""))
            }
        }))
    }

    /// Reads on to the next chunk that holds messages; false at the end.
    fn advance(&mut self) -> Result<bool, DriveError> {
        self.entries.clear();
        self.next = 0;
        loop {
            let start = self.container.offset();
            match self.container.step()? {
                Step::End => return Ok(false),
                Step::Chunk => self.index_chunk(start),
                Step::Record(OP_MESSAGE) => {
                    // Unchunked files: the message becomes a chunk of one.
                    std::mem::swap(&mut self.container.body, &mut self.container.chunk);
                    let n = self.container.chunk.len();
                    self.add_message(0..n);
                }
                Step::Record(op) => {
                    let body = std::mem::take(&mut self.container.body);
                    self.define(op, &body);
                    self.container.body = body;
                }
            }
            if !self.entries.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Takes the channels from the index at the end, so that a damaged first chunk, where they are defined, costs no
    /// more than its own messages.
    fn read_summary(&mut self, summary: Vec<u8>) {
        let mut f = Fields(&summary);
        while let (Some(op), Some(n)) = (f.take(1), f.u64()) {
            let Some(body) = usize::try_from(n).ok().and_then(|n| f.take(n)) else { break };
            if matches!(op, [OP_SCHEMA | OP_CHANNEL]) {
                self.define(op[0], body);
            }
        }
    }

    /// Lists the messages of the chunk by time.
    fn index_chunk(&mut self, start: u64) {
        let chunk = std::mem::take(&mut self.container.chunk);
        let mut at = 0;
        while let Some(head) = chunk.get(at..at + 9) {
            let mut f = Fields(head);
            let op = f.take(1).and_then(|b| b.first().copied()).unwrap_or(0);
            let n = f.u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            let begin = at + 9;
            let Some(end) = begin.checked_add(n).filter(|e| *e <= chunk.len()) else { break };
            if op == OP_MESSAGE {
                if self.entries.len() >= MAX_CHUNK_MESSAGES {
                    break;
                }
                if let Some(entry) = message_entry(&chunk, begin..end) {
                    self.entries.push(entry);
                }
            } else {
                self.define(op, chunk.get(begin..end).unwrap_or(&[]));
            }
            at = end;
        }
        if at < chunk.len() {
            self.container.lose(start, (chunk.len() - at) as u64, "a chunk's records are malformed or too many");
        }
        self.container.chunk = chunk;
        // Stable: equal times keep the order of the file, which a fix and its velocity rely on.
        self.entries.sort_by_key(|e| e.t);
    }

    fn add_message(&mut self, body: Range<usize>) {
        match message_entry(&self.container.chunk, body) {
            Some(entry) => self.entries.push(entry),
            None => self.stats.undecodable += 1,
        }
    }

    /// Takes a schema, channel or metadata record; a malformed one makes its messages unknown, which is counted.
    fn define(&mut self, op: u8, body: &[u8]) {
        let mut f = Fields(body);
        match op {
            OP_SCHEMA if self.schemas.len() < MAX_CHANNELS => {
                if let (Some(id), Some(name)) = (f.u16(), f.string()) {
                    self.schemas.insert(id, name);
                }
            }
            OP_CHANNEL if self.channels.len() < MAX_CHANNELS => {
                let _ = self.define_channel(&mut f);
            }
            OP_METADATA if self.metadata.len() < MAX_METADATA => {
                if let (Some(name), Some(map)) = (f.string(), f.map(MAX_METADATA)) {
                    if name == info::RECORD {
                        self.info = DriveInfo::from_map(&map);
                    }
                    // One behind each chunk: they are for `verify`.
                    if name != chain::RECORD {
                        self.metadata.push((name, map));
                    }
                }
            }
            _ => {}
        }
    }

    fn define_channel(&mut self, f: &mut Fields<'_>) -> Option<()> {
        let (id, schema) = (f.u16()?, f.u16()?);
        let (topic, encoding) = (f.string()?, f.string()?);
        let extra = f.map(MAX_METADATA).unwrap_or_default();
        let name = self.schemas.get(&schema).map_or("", String::as_str);
        let kind = match (name, encoding.as_str()) {
            (schema::IMU, "cdr") => Kind::Imu,
            (schema::FIX, "cdr") => Kind::Fix,
            (schema::TWIST, "cdr") => Kind::Velocity,
            (schema::TIME_REF, "cdr") => Kind::TimeReference,
            (schema::CAN, "cdr") => Kind::Can,
            (schema::CAN_FD, "cdr") => Kind::CanFd,
            (schema::VIDEO, "protobuf") => Kind::Picture { video: true },
            (schema::IMAGE, "protobuf") => Kind::Picture { video: false },
            (_, "json") => Kind::Json,
            _ => Kind::Unknown,
        };
        let digits = topic.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let bus = topic.get(digits..).and_then(|d| d.parse().ok()).unwrap_or(0);
        let side = |k: &str| extra.get(k).and_then(|v| v.parse().ok()).unwrap_or(0);
        let camera = self.info.camera.as_ref().map_or([0, 0], |c| [c.width, c.height]);
        let size = if extra.contains_key("width") { [side("width"), side("height")] } else { camera };
        self.channels.insert(id, Channel { topic, kind, bus, size });
        Some(())
    }

    /// Decodes one message; `None` for those that give no record of their own.
    fn decode(&mut self, entry: &Entry) -> Option<Parsed> {
        let Some(channel) = self.channels.get(&entry.channel) else {
            self.stats.unknown += 1;
            return None;
        };
        let data = self.container.chunk.get(entry.data.clone()).unwrap_or(&[]);
        let t = MonoTime(entry.t);
        let (kind, bus, size) = (channel.kind, channel.bus, channel.size);
        let parsed = match kind {
            Kind::Imu => imu(data, t).map(Parsed::Imu),
            Kind::Fix => fix(data, t).map(|mut s| {
                if let Some((at, speed, course)) = self.velocity
                    && at == entry.t
                {
                    (s.speed_mps, s.course_deg) = (speed, course);
                }
                s.wall = self.wall.filter(|(at, _)| *at == entry.t).map(|(_, w)| w);
                Parsed::Gnss(s)
            }),
            Kind::Velocity => {
                let v = velocity(data);
                self.velocity = v.map(|(speed, course)| (entry.t, speed, course));
                self.stats.undecodable += u64::from(v.is_none());
                return None;
            }
            Kind::TimeReference => {
                let w = time_reference(data);
                self.wall = w.map(|w| (entry.t, w));
                self.stats.undecodable += u64::from(w.is_none());
                return None;
            }
            Kind::Can => can(data, t, bus).map(Parsed::Can),
            Kind::CanFd => can_fd(data, t, bus).map(Parsed::Can),
            Kind::Picture { video } => picture(data, video).and_then(|(codec, range)| {
                let bytes = data.get(range.clone())?;
                let key = match codec {
                    VideoCodec::H264 => h264::is_key(bytes),
                    VideoCodec::H265 => h264::is_key_h265(bytes),
                    VideoCodec::Jpeg => true,
                };
                let meta = FrameMeta { t, seq: u64::from(entry.sequence), codec, key, size };
                let start = entry.data.start;
                Some(Parsed::Frame(meta, start + range.start..start + range.end))
            }),
            Kind::Json => Some(Parsed::Json(entry.channel, t, entry.data.clone())),
            Kind::Unknown => {
                self.stats.unknown += 1;
                return None;
            }
        };
        self.stats.undecodable += u64::from(parsed.is_none());
        parsed
    }
}

fn message_entry(chunk: &[u8], body: Range<usize>) -> Option<Entry> {
    let mut f = Fields(chunk.get(body.clone())?);
    let (channel, sequence, t) = (f.u16()?, f.u32()?, f.u64()?);
    f.u64()?;
    Some(Entry { t, channel, sequence, data: body.end - f.0.len()..body.end })
}

fn imu(data: &[u8], t: MonoTime) -> Option<ImuSample> {
    let mut r = CdrReader::new(data)?;
    r.header()?;
    r.f64s::<13>()?;
    let gyro = r.f64s::<3>()?;
    let gyro_covariance = r.f64s::<9>()?;
    let accel = r.f64s::<3>()?;
    let gyro_valid = gyro_covariance[0] != -1.0;
    let gyro_rps = if gyro_valid { gyro.map(|v| v as f32) } else { [0.0; 3] };
    Some(ImuSample { t, accel_mps2: accel.map(|v| v as f32), gyro_rps, gyro_valid })
}

fn fix(data: &[u8], t: MonoTime) -> Option<GnssFix> {
    let mut r = CdrReader::new(data)?;
    r.header()?;
    // NavSatStatus: -1 is "no fix".
    let status = r.u8()?;
    r.u16()?;
    (status != 0xFF).then_some(())?;
    let [lat_deg, lon_deg, alt] = r.f64s::<3>()?;
    let covariance = r.f64s::<9>()?;
    let known = r.u8()? != 0;
    let accuracy_m = known.then(|| covariance[0].max(0.0).sqrt() as f32);
    Some(GnssFix { t, lat_deg, lon_deg, alt_m: alt as f32, speed_mps: 0.0, course_deg: 0.0, accuracy_m, wall: None })
}

/// Speed, m/s, and course, degrees from north, of a velocity east and north.
fn velocity(data: &[u8]) -> Option<(f32, f32)> {
    let mut r = CdrReader::new(data)?;
    r.header()?;
    let [east, north, _] = r.f64s::<3>()?;
    let course = east.atan2(north).to_degrees() as f32;
    Some((east.hypot(north) as f32, if course < 0.0 { course + 360.0 } else { course }))
}

fn time_reference(data: &[u8]) -> Option<WallTime> {
    let mut r = CdrReader::new(data)?;
    r.header()?;
    let unix_ms = r.time()? / 1_000_000;
    Some(WallTime { unix_ms, quality: quality_of(r.string()?) })
}

fn can(data: &[u8], t: MonoTime, bus: u8) -> Option<CanFrame> {
    let mut r = CdrReader::new(data)?;
    r.header()?;
    let id = r.u32()?;
    let (remote, extended, error) = (r.bool()?, r.bool()?, r.bool()?);
    let len = r.u8()?.min(8);
    let mut payload = [0u8; 64];
    payload[..8].copy_from_slice(r.take(8)?);
    (!error).then_some(CanFrame { t, bus, id, extended, fd: false, remote, len, data: payload })
}

fn can_fd(data: &[u8], t: MonoTime, bus: u8) -> Option<CanFrame> {
    let mut r = CdrReader::new(data)?;
    r.header()?;
    let id = r.u32()?;
    let (extended, error) = (r.bool()?, r.bool()?);
    r.u8()?;
    let n = r.u32()? as usize;
    let mut payload = [0u8; 64];
    payload.get_mut(..n)?.copy_from_slice(r.take(n)?);
    (!error).then_some(CanFrame { t, bus, id, extended, fd: true, remote: false, len: n as u8, data: payload })
}

/// The codec of a picture message and where its bytes lie.
fn picture(data: &[u8], video: bool) -> Option<(VideoCodec, Range<usize>)> {
    let [_, bytes_field, format_field] = schema::picture_fields(video);
    let (mut at, mut bytes, mut format) = (0, None, None);
    while at < data.len() {
        if let ProtoField::Bytes(number, range) = next_field(data, &mut at)? {
            if number == bytes_field {
                bytes = Some(range);
            } else if number == format_field {
                format = data.get(range);
            }
        }
    }
    let codec = match format? {
        b"h264" => VideoCodec::H264,
        b"h265" => VideoCodec::H265,
        b"jpeg" | b"jpg" => VideoCodec::Jpeg,
        _ => return None,
    };
    Some((codec, bytes?))
}
