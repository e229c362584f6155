//! Cameras directly by V4L2: MJPEG and H.264 kept as they come, YUYV encoded here.
//!
//! The part that speaks to the kernel ([`device`], feature `v4l2`) is thin: it fills [`Raw`] buffers behind the trait
//! [`Grab`]. What is made of a buffer, and what is lost, is decided here and tested without a device.
//!
//! The driver counts frames and stamps them. A jump of the count is frames that it dropped (nobody gave it a buffer in
//! time, or the bus was full). A buffer with its error flag set, or an empty one, is a damaged frame.

mod choose;
#[cfg(feature = "v4l2")]
pub(crate) mod device;
mod jpeg;
pub(crate) mod list;
#[cfg(test)]
mod tests;

use std::time::Duration;

use agent_core::limits::MAX_FRAME_BYTES;
use agent_core::samples::VideoCodec;
use agent_core::time::MonoTime;
use agent_drive::LiveStream;

use super::clock::{ClockMap, Stamp};
use super::encode::LiveEncoder;
use super::pixels::{Yuv, Yuyv, factor, shrink};
use super::{Fault, Got, Shot, Stream};
use crate::config::camera::PixelFormat;

/// More than this is no gap but a count that began again.
const LARGEST_GAP: u32 = 10_000;

/// A buffer as the driver filled it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) bytes: &'a [u8],
    /// The driver's count of frames.
    pub(crate) sequence: u32,
    pub(crate) stamp: Stamp,
    /// The driver says that its content is spoilt.
    pub(crate) damaged: bool,
}

/// A device that fills buffers.
pub(crate) trait Grab {
    /// Waits at most `wait` for a filled buffer, shows it to `take` and gives it back; false when there was none.
    fn grab(&mut self, wait: Duration, take: &mut dyn FnMut(&Raw<'_>)) -> Result<bool, Fault>;
}

/// What the driver made of the wish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Agreed {
    pub(crate) format: PixelFormat,
    pub(crate) size: [u16; 2],
    /// Bytes from one row to the next, of raw pictures.
    pub(crate) stride: usize,
    pub(crate) fps: f32,
}

/// What is made here of raw pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) bitrate_mbit_s: f32,
    pub(crate) key_every: u32,
    /// Widest small picture.
    pub(crate) small_width: usize,
}

/// The frames of one open device.
pub(crate) struct Frames<G> {
    grab: G,
    name: String,
    agreed: Agreed,
    making: Making,
    now: fn() -> MonoTime,
    clock: ClockMap,
    sequence: Option<u32>,
    live: LiveStream,
    /// Only for raw pictures.
    encoder: Option<LiveEncoder>,
    yuv: Yuv,
}

impl<G: Grab> Frames<G> {
    pub(crate) fn new(
        grab: G,
        name: String,
        agreed: Agreed,
        making: Making,
        now: fn() -> MonoTime,
    ) -> Result<Self, Fault> {
        let encoder = match agreed.format {
            PixelFormat::Yuyv => Some(LiveEncoder::new(agreed.fps.max(1.0), making.bitrate_mbit_s, making.key_every)?),
            _ => None,
        };
        let codec = codec_of(agreed.format);
        Ok(Self {
            grab,
            name,
            agreed,
            making,
            now,
            clock: ClockMap::default(),
            sequence: None,
            live: LiveStream::new(codec),
            encoder,
            yuv: Yuv::default(),
        })
    }
}

const fn codec_of(format: PixelFormat) -> VideoCodec {
    match format {
        PixelFormat::Mjpeg => VideoCodec::Jpeg,
        PixelFormat::Yuyv | PixelFormat::H264 | PixelFormat::Auto => VideoCodec::H264,
    }
}

impl<G: Grab> Stream for Frames<G> {
    fn next(&mut self, wait: Duration, shot: &mut Shot) -> Result<Got, Fault> {
        let Self { grab, agreed, making, now, clock, sequence, live, encoder, yuv, .. } = self;
        let mut made = Ok(false);
        let filled = grab.grab(wait, &mut |raw| {
            shot.lost = gap(sequence.replace(raw.sequence), raw.sequence);
            shot.t = clock.time(raw.stamp, now());
            shot.small_size = [0; 2];
            if !raw.damaged && !raw.bytes.is_empty() && raw.bytes.len() <= MAX_FRAME_BYTES.max(raw_bytes(agreed)) {
                made = make(agreed, making, raw.bytes, live, encoder, yuv, shot);
            }
        })?;
        if !filled {
            return Ok(Got::Nothing);
        }
        Ok(if made? { Got::Frame } else { Got::Damaged })
    }

    fn fps(&self) -> f32 {
        self.agreed.fps
    }

    fn describe(&self) -> String {
        let Agreed { format, size: [width, height], fps, .. } = self.agreed;
        format!("{}: {} {width}x{height} at {fps:.0} a second", self.name, format.name())
    }
}

fn raw_bytes(agreed: &Agreed) -> usize {
    if agreed.format == PixelFormat::Yuyv { agreed.stride * usize::from(agreed.size[1]) } else { 0 }
}

/// Frames between two counts of the driver.
fn gap(before: Option<u32>, now: u32) -> u32 {
    match before.map(|b| now.wrapping_sub(b)) {
        Some(step @ 2..=LARGEST_GAP) => step - 1,
        _ => 0,
    }
}

/// Fills the shot from a buffer; false if it is no usable frame.
fn make(
    agreed: &Agreed,
    making: &Making,
    bytes: &[u8],
    live: &mut LiveStream,
    encoder: &mut Option<LiveEncoder>,
    yuv: &mut Yuv,
    shot: &mut Shot,
) -> Result<bool, Fault> {
    (shot.codec, shot.size) = (codec_of(agreed.format), agreed.size);
    match agreed.format {
        PixelFormat::Mjpeg => {
            let Some(size) = jpeg::whole(bytes, &mut shot.kept) else { return Ok(false) };
            (shot.key, shot.size) = (true, size);
        }
        PixelFormat::H264 | PixelFormat::Auto => {
            shot.kept.clear();
            shot.kept.extend_from_slice(bytes);
            shot.key = live.admit(&mut shot.kept);
        }
        PixelFormat::Yuyv => {
            let size = (usize::from(agreed.size[0]), usize::from(agreed.size[1]));
            let Some(picture) = Yuyv::new(size, agreed.stride, bytes) else { return Ok(false) };
            yuv.take(&picture);
            shot.size = agreed.size.map(|side| side & !1);
            let Some(encoder) = encoder else { return Ok(false) };
            let Some(key) = encoder.encode(yuv, &mut shot.kept)? else { return Ok(false) };
            shot.key = key;
            let small = shrink(&picture, factor(size.0, making.small_width), &mut shot.small);
            shot.small_size = [small.0 as u16, small.1 as u16];
            shot.small_raw = true;
        }
    }
    Ok(shot.kept.len() <= MAX_FRAME_BYTES)
}
