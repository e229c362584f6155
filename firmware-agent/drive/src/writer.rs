//! Writes drives and evidence files: MCAP with LZ4 chunks of about 1 MiB (256 KiB in evidence), checksums and a full index.
//!
//! Topics: `/imu`, `/gnss` with `/gnss/vel` and `/gnss/time`, `/can/N` and `/canfd/N`, `/camera/front`, and any topic for JSON. The log
//! time of every message is the sample's monotonic time. The writer keeps the order it is given; a caller that
//! merges sources does so by time. Writing never blocks on anything but the file; it reads no clock, so that the
//! same samples give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use agent_core::limits::MAX_FRAME_BYTES;
use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, VideoCodec};
use agent_core::time::{MonoTime, WallQuality};
use mcap::records::{MessageHeader, Metadata};
use mcap::write::NoSeek;
use mcap::{Compression, McapError, WriteOptions};

use crate::cdr::{CdrWriter, put_bytes};
use crate::chain::{self, Chain, Chained, Seal};
use crate::error::DriveError;
use crate::info::{self, DriveInfo};
use crate::limits::{CHUNK_BYTES, LINKED_CHUNK_BYTES, MAX_CHANNELS};
use crate::schema;

/// How many records of each kind a drive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DriveCounts {
    /// IMU samples.
    pub imu: u64,
    /// GNSS fixes.
    pub gnss: u64,
    /// CAN frames, all buses.
    pub can: u64,
    /// Camera frames.
    pub frames: u64,
    /// JSON messages.
    pub json: u64,
}

#[derive(Clone, Copy)]
struct Channel {
    id: u16,
    sequence: u32,
}

/// Writes one drive. [`DriveWriter::finish`] must be called: without it the file has no index (it is still read to
/// its last whole chunk).
pub struct DriveWriter<W: Write + Seek> {
    mcap: mcap::Writer<W>,
    channels: BTreeMap<String, Channel>,
    camera: Option<(VideoCodec, [u16; 2])>,
    counts: DriveCounts,
    buf: Vec<u8>,
    chain: Option<Chain>,
    /// Uncompressed bytes in the open chunk, about; counted for a chain, whose chunks end with a link.
    open_bytes: usize,
}

impl DriveWriter<BufWriter<File>> {
    /// Creates the file `path`, replacing what is there.
    ///
    /// # Errors
    /// [`DriveError::Open`] with the path, or [`DriveError::Write`].
    pub fn create(path: &Path, info: &DriveInfo) -> Result<Self, DriveError> {
        let file = File::create(path).map_err(|source| DriveError::Open { path: path.to_owned(), source })?;
        Self::new(BufWriter::with_capacity(64 << 10, file), info)
    }
}

impl<W: Write> DriveWriter<NoSeek<Chained<W>>> {
    /// Begins an evidence file on an output that is only ever added to: each chunk is held in memory until it is whole, and has a
    /// link of the chain behind it ([`crate::chain`]).
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn chained(out: W, info: &DriveInfo, seal: Seal) -> Result<Self, DriveError> {
        let (chain, out) = Chain::new(out, seal);
        let head = chain.head();
        let mut writer = Self::begin(NoSeek::new(out), info, Some(chain))?;
        writer.write_metadata(chain::RECORD, head)?;
        Ok(writer)
    }
}

impl<W: Write + Seek> DriveWriter<W> {
    /// Begins a drive on any seekable output.
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn new(out: W, info: &DriveInfo) -> Result<Self, DriveError> {
        Self::begin(out, info, None)
    }

    fn begin(out: W, info: &DriveInfo, chain: Option<Chain>) -> Result<Self, DriveError> {
        let mcap = WriteOptions::new()
            .disable_seeking(chain.is_some())
            .compression(Some(Compression::Lz4))
            // With a chain we end the chunks, each with its link.
            .chunk_size(chain.is_none().then_some(CHUNK_BYTES as u64))
            .profile("")
            .library(concat!("agent-drive ", env!("CARGO_PKG_VERSION")))
            .create(out)
            .map_err(write_error)?;
        let mut writer = Self {
            mcap,
            channels: BTreeMap::new(),
            camera: None,
            counts: DriveCounts::default(),
            buf: Vec::new(),
            chain,
            open_bytes: 0,
        };
        writer.write_metadata(info::RECORD, info.to_map())?;
        Ok(writer)
    }

    /// Adds an IMU sample to `/imu` (`sensor_msgs/msg/Imu`, frame `imu`: axes of the sensor).
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn write_imu(&mut self, s: &ImuSample) -> Result<(), DriveError> {
        let mut w = CdrWriter::new(&mut self.buf);
        w.header(s.t.0, "imu");
        // Minus one in the first place of a covariance says "not measured" (sensor_msgs/Imu).
        const ABSENT: [f64; 9] = [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        w.f64s(&[0.0, 0.0, 0.0, 1.0]);
        w.f64s(&ABSENT);
        w.f64s(&s.gyro_rps.map(f64::from));
        w.f64s(if s.gyro_valid { &[0.0; 9] } else { &ABSENT });
        w.f64s(&s.accel_mps2.map(f64::from));
        w.f64s(&[0.0; 9]);
        self.counts.imu += 1;
        self.put_ros("/imu", schema::IMU, s.t)
    }

    /// Adds a GNSS fix as up to three messages of the same time: velocity east, north (`/gnss/vel`), wall time
    /// (`/gnss/time`) and position (`/gnss`, last, completing the fix). The course of a fix at speed 0 is not kept.
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn write_gnss(&mut self, s: &GnssFix) -> Result<(), DriveError> {
        let course = f64::from(s.course_deg).to_radians();
        let speed = f64::from(s.speed_mps);
        let mut w = CdrWriter::new(&mut self.buf);
        w.header(s.t.0, "enu");
        w.f64s(&[speed * course.sin(), speed * course.cos(), 0.0, 0.0, 0.0, 0.0]);
        self.put_ros("/gnss/vel", schema::TWIST, s.t)?;
        if let Some(wall) = s.wall {
            let mut w = CdrWriter::new(&mut self.buf);
            w.header(s.t.0, "gnss");
            w.time(wall.unix_ms.saturating_mul(1_000_000));
            w.string(quality_name(wall.quality));
            self.put_ros("/gnss/time", schema::TIME_REF, s.t)?;
        }
        let variance = s.accuracy_m.map(|a| f64::from(a) * f64::from(a));
        let v = variance.unwrap_or(0.0);
        let mut w = CdrWriter::new(&mut self.buf);
        w.header(s.t.0, "gnss");
        w.u8(0);
        w.u16(1);
        w.f64s(&[s.lat_deg, s.lon_deg, f64::from(s.alt_m)]);
        // The height is given no accuracy of its own by our sources; 4 times the horizontal variance is a placeholder.
        w.f64s(&[v, 0.0, 0.0, 0.0, v, 0.0, 0.0, 0.0, 4.0 * v]);
        w.u8(if variance.is_some() { 1 } else { 0 });
        self.counts.gnss += 1;
        self.put_ros("/gnss", schema::FIX, s.t)
    }

    /// Adds a CAN frame to `/can/BUS` (`can_msgs/msg/Frame`), or a CAN FD frame to `/canfd/BUS`
    /// (`ros2_socketcan_msgs/msg/FdFrame`).
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn write_can(&mut self, s: &CanFrame) -> Result<(), DriveError> {
        let mut w = CdrWriter::new(&mut self.buf);
        w.header(s.t.0, "");
        w.u32(s.id);
        let (prefix, name) = if s.fd {
            w.bool(s.extended);
            w.bool(false);
            w.u8(s.payload().len() as u8);
            w.u32(s.payload().len() as u32);
            w.bytes(s.payload());
            ("canfd", schema::CAN_FD)
        } else {
            w.bool(s.remote);
            w.bool(s.extended);
            w.bool(false);
            w.u8(s.len.min(8));
            w.bytes(s.data.first_chunk::<8>().unwrap_or(&[0; 8]));
            ("can", schema::CAN)
        };
        let topic = Topic::new(prefix, s.bus);
        self.counts.can += 1;
        self.put_ros(topic.as_str(), name, s.t)
    }

    /// Adds a camera frame to `/camera/front`: `foxglove.CompressedVideo` for H.264 and H.265 (Annex B, one access unit,
    /// no B-frames, parameter sets before each key frame), `foxglove.CompressedImage` for JPEG.
    ///
    /// # Errors
    /// [`DriveError::FrameTooLarge`], [`DriveError::CameraChanged`] or [`DriveError::Write`]; the drive goes on without
    /// the frame after the first two.
    pub fn write_frame(&mut self, meta: &FrameMeta, data: &[u8]) -> Result<(), DriveError> {
        if data.len() > MAX_FRAME_BYTES {
            return Err(DriveError::FrameTooLarge { seq: meta.seq, bytes: data.len(), limit: MAX_FRAME_BYTES });
        }
        let camera = (meta.codec, meta.size);
        match self.camera {
            Some(old) if old != camera => {
                let name = |(c, [w, h]): (VideoCodec, [u16; 2])| format!("{} {w}x{h}", codec_name(c));
                return Err(DriveError::CameraChanged { seq: meta.seq, old: name(old), new: name(camera) });
            }
            Some(_) => {}
            None => self.camera = Some(camera),
        }
        let video = meta.codec != VideoCodec::Jpeg;
        let [frame_id, bytes, format] = schema::picture_fields(video);
        self.buf.clear();
        put_time(&mut self.buf, meta.t);
        put_bytes(&mut self.buf, frame_id, b"camera");
        put_bytes(&mut self.buf, bytes, data);
        put_bytes(&mut self.buf, format, codec_name(meta.codec).as_bytes());
        let topic = "/camera/front";
        if !self.channels.contains_key(topic) {
            let name = if video { schema::VIDEO } else { schema::IMAGE };
            let extra = BTreeMap::from([
                ("width".to_owned(), meta.size[0].to_string()),
                ("height".to_owned(), meta.size[1].to_string()),
            ]);
            self.add_channel(topic, name, "protobuf", &schema::picture_descriptor(video), "protobuf", &extra)?;
        }
        self.counts.frames += 1;
        self.put(topic, meta.t, Some(meta.seq as u32))
    }

    /// Adds a JSON message to any topic, with a schema that says only "an object" (`jsonschema`).
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn write_json(&mut self, topic: &str, t: MonoTime, json: &str) -> Result<(), DriveError> {
        if !self.channels.contains_key(topic) {
            let name = topic.trim_start_matches('/').replace('/', ".");
            self.add_channel(topic, &name, "jsonschema", br#"{"type":"object"}"#, "json", &BTreeMap::new())?;
        }
        self.buf.clear();
        self.buf.extend_from_slice(json.as_bytes());
        self.counts.json += 1;
        self.put(topic, t, None)
    }

    /// Adds a named metadata record. Each closes the open chunk: write few of them.
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn write_metadata(&mut self, name: &str, map: BTreeMap<String, String>) -> Result<(), DriveError> {
        self.mcap.write_metadata(&Metadata { name: name.to_owned(), metadata: map }).map_err(write_error)
    }

    /// Adds a file as an attachment (a JSON report, a picture), stamped `t`.
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn write_attachment(&mut self, name: &str, media: &str, t: MonoTime, data: &[u8]) -> Result<(), DriveError> {
        let attachment = mcap::Attachment {
            log_time: t.0,
            create_time: t.0,
            name: name.to_owned(),
            media_type: media.to_owned(),
            data: data.into(),
        };
        self.mcap.attach(&attachment).map_err(write_error)
    }

    /// Closes the open chunk and flushes, so that a power cut after this loses nothing written so far.
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn flush(&mut self) -> Result<(), DriveError> {
        self.mcap.flush().map_err(write_error)?;
        self.link(false)
    }

    /// Puts a link behind what was written since the last one, if there is a chain and anything was. The open chunk has ended.
    fn link(&mut self, last: bool) -> Result<(), DriveError> {
        self.open_bytes = 0;
        let Some(chain) = self.chain.as_mut().filter(|c| last || c.unlinked() > 0) else { return Ok(()) };
        let link = chain.link(last);
        chain.pause(true);
        let written = self.mcap.write_metadata(&Metadata { name: chain::RECORD.to_owned(), metadata: link });
        chain.pause(false);
        written.and_then(|()| self.mcap.flush()).map_err(write_error)
    }

    /// What was written so far.
    #[must_use]
    pub fn counts(&self) -> DriveCounts {
        self.counts
    }

    /// Writes the index and the end of the file, and gives the output back (to sync it, say).
    ///
    /// # Errors
    /// [`DriveError::Write`].
    pub fn finish(mut self) -> Result<(W, DriveCounts), DriveError> {
        if self.chain.is_some() {
            self.mcap.flush().map_err(write_error)?;
            self.link(true)?;
        }
        self.mcap.finish().map_err(write_error)?;
        let counts = self.counts;
        let mut out = self.mcap.into_inner();
        out.flush().map_err(|e| DriveError::Write(e.to_string()))?;
        Ok((out, counts))
    }

    fn put_ros(&mut self, topic: &str, name: &str, t: MonoTime) -> Result<(), DriveError> {
        if !self.channels.contains_key(topic) {
            self.add_channel(topic, name, "ros2msg", schema::ros2msg(name).as_bytes(), "cdr", &BTreeMap::new())?;
        }
        self.put(topic, t, None)
    }

    fn add_channel(
        &mut self,
        topic: &str,
        schema: &str,
        schema_encoding: &str,
        schema_data: &[u8],
        encoding: &str,
        extra: &BTreeMap<String, String>,
    ) -> Result<(), DriveError> {
        if self.channels.len() >= MAX_CHANNELS {
            return Err(DriveError::Write(format!("topic {topic} would be one more than {MAX_CHANNELS}")));
        }
        let schema = self.mcap.add_schema(schema, schema_encoding, schema_data).map_err(write_error)?;
        let id = self.mcap.add_channel(schema, topic, encoding, extra).map_err(write_error)?;
        self.channels.insert(topic.to_owned(), Channel { id, sequence: 0 });
        Ok(())
    }

    fn put(&mut self, topic: &str, t: MonoTime, sequence: Option<u32>) -> Result<(), DriveError> {
        let channel = self.channels.get_mut(topic).ok_or_else(|| DriveError::Write(format!("no topic {topic}")))?;
        let sequence = sequence.unwrap_or(channel.sequence);
        channel.sequence = channel.sequence.wrapping_add(1);
        let header = MessageHeader { channel_id: channel.id, sequence, log_time: t.0, publish_time: t.0 };
        self.mcap.write_to_known_channel(&header, &self.buf).map_err(write_error)?;
        self.open_bytes += self.buf.len() + MESSAGE_OVERHEAD;
        if self.chain.is_some() && self.open_bytes >= LINKED_CHUNK_BYTES { self.flush() } else { Ok(()) }
    }
}

/// What a message takes in a chunk besides its contents: opcode, length, channel, sequence and two times.
const MESSAGE_OVERHEAD: usize = 31;

fn write_error(e: McapError) -> DriveError {
    DriveError::Write(e.to_string())
}

/// A CAN topic without an allocation per frame.
struct Topic {
    text: [u8; 12],
    len: usize,
}

impl Topic {
    fn new(prefix: &str, bus: u8) -> Self {
        let mut text = [0u8; 12];
        let mut rest = &mut text[..];
        // The longest, "/canfd/255", fits.
        let _ = write!(rest, "/{prefix}/{bus}");
        let len = 12 - rest.len();
        Self { text, len }
    }

    fn as_str(&self) -> &str {
        self.text.get(..self.len).and_then(|t| std::str::from_utf8(t).ok()).unwrap_or("/can/0")
    }
}

/// Field 1, a `google.protobuf.Timestamp`: written with fixed-width varints so that its length is known beforehand.
fn put_time(out: &mut Vec<u8>, t: MonoTime) {
    let mut body = [0u8; 12];
    let mut at = 0;
    for (tag, value) in [(0x08, t.0 / 1_000_000_000), (0x10, t.0 % 1_000_000_000)] {
        body[at] = tag;
        for i in 0..5 {
            body[at + 1 + i] = (value >> (7 * i)) as u8 & 0x7F | if i < 4 { 0x80 } else { 0 };
        }
        at += 6;
    }
    put_bytes(out, 1, &body);
}

pub(crate) const fn codec_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "h264",
        VideoCodec::H265 => "h265",
        VideoCodec::Jpeg => "jpeg",
    }
}

const QUALITIES: [(WallQuality, &str); 4] =
    [(WallQuality::None, "none"), (WallQuality::Rtc, "rtc"), (WallQuality::Ntp, "ntp"), (WallQuality::Gnss, "gnss")];

fn quality_name(q: WallQuality) -> &'static str {
    QUALITIES.iter().find(|(k, _)| *k == q).map_or("none", |(_, n)| n)
}

pub(crate) fn quality_of(name: &str) -> WallQuality {
    QUALITIES.iter().find(|(_, n)| *n == name).map_or(WallQuality::None, |(k, _)| *k)
}
