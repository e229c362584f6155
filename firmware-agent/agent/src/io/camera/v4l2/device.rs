//! The kernel's side of V4L2, by the v4l crate (0.14). Thin: what is made of the buffers stands beside it.
//!
//! How that crate must be used, from its source:
//! - `Stream::next` gives the buffer that it gave out last back to the driver and then takes the next. When taking fails,
//!   a second `next` would give the same buffer back twice, which the driver refuses. So we poll first and call `next` only
//!   when a buffer is ready. At the start all buffers but the first are given to the driver by hand, so that the first
//!   `next` finds one to give.
//! - Dropping a stream panics when the driver refuses to stop it, unless the device is gone (ENODEV), and unwrapping in
//!   its drop while it unwinds would abort. So we stop it ourselves, and when that fails in another way we leak it.
//! - Names and colour spaces that it does not know make it panic: opening runs under `catch_unwind`.

use std::io::{Error, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::time::MonoTime;
use v4l::buffer::{Flags, Type};
use v4l::format::FourCC;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::mmap::Stream as MmapStream;
use v4l::io::traits::{CaptureStream, Stream as _};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, Fraction};

use super::choose::{Offer, Sizes, choose, interval, printable};
use super::{Agreed, Frames, Grab, Making, Raw};
use crate::config::camera::PixelFormat;
use crate::io::camera::clock::Stamp;
use crate::io::camera::{Camera, Fault, Stream};

/// Buffers that the driver fills: a sixth of a second at 30 a second. One of them is always ours.
const BUFFERS: u32 = 5;
/// Drivers may give more than was asked for.
const MOST_BUFFERS: usize = 32;
/// Most formats, and most sizes or rates of one, that are looked at.
const MOST: usize = 256;
const POLLIN: i16 = 1;

/// A camera by its device file.
pub(crate) struct V4l2Camera {
    pub(crate) path: PathBuf,
    pub(crate) format: PixelFormat,
    pub(crate) size: [u32; 2],
    pub(crate) fps: u32,
    pub(crate) making: Making,
    pub(crate) now: fn() -> MonoTime,
}

impl Camera for V4l2Camera {
    fn open(&mut self) -> Result<Box<dyn Stream>, Fault> {
        let name = self.path.display().to_string();
        if !self.path.exists() {
            return Err(Fault::Missing(name));
        }
        let opened = catch_unwind(AssertUnwindSafe(|| start(&self.path, self.format, self.size, self.fps)));
        let (grabber, agreed) = opened.unwrap_or_else(|_| {
            Err(Fault::Failed(format!("{name}: its driver says what the V4L2 library cannot read")))
        })?;
        Ok(Box::new(Frames::new(grabber, name, agreed, self.making, self.now)?))
    }
}

/// What an error of the kernel means for a camera that `did` something.
fn fault(path: &Path, did: &str, error: &Error) -> Fault {
    let name = path.display();
    match error.raw_os_error() {
        // ENODEV, ENXIO
        Some(19 | 6) => Fault::Unplugged(name.to_string()),
        // ENOENT
        Some(2) => Fault::Missing(name.to_string()),
        // EACCES, EPERM
        Some(13 | 1) => Fault::Denied(format!("{name}: no permission; its group is mostly video")),
        // EBUSY
        Some(16) => Fault::Busy(format!("{name}: another program uses it")),
        _ => Fault::Failed(format!("{name}: {did}: {error}")),
    }
}

fn start(path: &Path, wanted: PixelFormat, size: [u32; 2], fps: u32) -> Result<(Grabber, Agreed), Fault> {
    let failed = |did: &'static str| move |error: Error| fault(path, did, &error);
    let device = Device::with_path(path).map_err(failed("opening"))?;
    let offers = offers(&device).map_err(failed("asking for its formats"))?;
    let choice = choose(&offers, wanted, size).map_err(|e| Fault::Refused(format!("{}: {e}", path.display())))?;
    let fourcc = FourCC::new(&choice.fourcc);
    let [width, height] = choice.size;
    let format = device.set_format(&Format::new(width, height, fourcc)).map_err(failed("setting its format"))?;
    if format.fourcc.repr != choice.fourcc {
        let got = printable(format.fourcc.repr);
        return Err(Fault::Refused(format!("{}: gave {got} for {}", path.display(), printable(choice.fourcc))));
    }
    let offered = intervals(&device, fourcc, format.width, format.height);
    let [numerator, denominator] = interval(&offered, fps);
    // Drivers that cannot set a rate keep their own; what they say then is what counts.
    let params = device
        .set_params(&Parameters::new(Fraction::new(numerator, denominator)))
        .or_else(|_| device.params())
        .map(|p| p.interval);
    let fps = params.map_or(fps as f32, |i| i.denominator as f32 / i.numerator.max(1) as f32);
    let side = |n: u32| u16::try_from(n).map_err(|_| Fault::Refused(format!("{}: a picture of {n}", path.display())));
    let agreed = Agreed {
        format: choice.format,
        size: [side(format.width)?, side(format.height)?],
        stride: (format.stride as usize).max(2 * format.width as usize),
        fps: if fps.is_finite() { fps.clamp(0.0, 1000.0) } else { 0.0 },
    };
    let stream = MmapStream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(failed("mapping buffers"))?;
    let mut grabber = Grabber { path: path.to_owned(), stream: Some(stream) };
    grabber.begin()?;
    Ok((grabber, agreed))
}

fn offers(device: &Device) -> Result<Vec<Offer>, Error> {
    let formats = device.enum_formats()?;
    let mut offers = Vec::new();
    for format in formats.into_iter().take(MOST) {
        let (mut each, mut steps) = (Vec::new(), None);
        for size in device.enum_framesizes(format.fourcc).unwrap_or_default().into_iter().take(MOST) {
            match size.size {
                FrameSizeEnum::Discrete(d) => each.push([d.width, d.height]),
                FrameSizeEnum::Stepwise(s) => {
                    steps =
                        Some([[s.min_width, s.max_width, s.step_width], [s.min_height, s.max_height, s.step_height]]);
                }
            }
        }
        let sizes = match steps {
            Some(steps) if each.is_empty() => Sizes::Steps(steps),
            // A driver that lists no size takes any and says what it makes of it.
            None if each.is_empty() => Sizes::Steps([[16, 16_384, 2], [16, 16_384, 2]]),
            _ => Sizes::Each(each),
        };
        offers.push(Offer { fourcc: format.fourcc.repr, sizes });
    }
    Ok(offers)
}

fn intervals(device: &Device, fourcc: FourCC, width: u32, height: u32) -> Vec<[u32; 2]> {
    let intervals = device.enum_frameintervals(fourcc, width, height).unwrap_or_default();
    let discrete = intervals.into_iter().take(MOST).filter_map(|i| match i.interval {
        FrameIntervalEnum::Discrete(f) => Some([f.numerator, f.denominator]),
        FrameIntervalEnum::Stepwise(_) => None,
    });
    discrete.collect()
}

/// The mapped buffers of an open device. `None` only while it is dropped.
struct Grabber {
    path: PathBuf,
    stream: Option<MmapStream<'static>>,
}

impl Grabber {
    /// See the module: the first buffer stays ours.
    fn begin(&mut self) -> Result<(), Fault> {
        let Self { path, stream: Some(stream) } = self else { return Ok(()) };
        let mut given = 0;
        for index in 1..MOST_BUFFERS {
            match CaptureStream::queue(stream, index) {
                Ok(()) => given += 1,
                // There are no more.
                Err(error) if error.kind() == ErrorKind::InvalidInput && given > 0 => break,
                Err(error) => return Err(fault(path, "giving it buffers", &error)),
            }
        }
        stream.set_timeout(Duration::from_secs(1));
        stream.start().map_err(|error| fault(path, "starting", &error))
    }
}

impl Grab for Grabber {
    fn grab(&mut self, wait: Duration, take: &mut dyn FnMut(&Raw<'_>)) -> Result<bool, Fault> {
        let Self { path, stream: Some(stream) } = self else { return Ok(false) };
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        match stream.handle().poll(POLLIN, wait_ms) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(fault(path, "waiting for a frame", &error)),
        }
        let (buffer, meta) = CaptureStream::next(stream).map_err(|error| fault(path, "taking a frame", &error))?;
        let ns = |sec: u64, usec: u64| sec.saturating_mul(1_000_000_000).saturating_add(usec.saturating_mul(1000));
        take(&Raw {
            bytes: buffer.get(..meta.bytesused as usize).unwrap_or(&[]),
            sequence: meta.sequence,
            stamp: Stamp {
                ns: ns(u64::try_from(meta.timestamp.sec).unwrap_or(0), u64::try_from(meta.timestamp.usec).unwrap_or(0)),
                monotonic: meta.flags & Flags::TIMESTAMP_MASK == Flags::TIMESTAMP_MONOTONIC,
            },
            damaged: meta.flags.contains(Flags::ERROR),
        });
        Ok(true)
    }
}

impl Drop for Grabber {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        match stream.stop() {
            Ok(()) => drop(stream),
            Err(error) if error.raw_os_error() == Some(19) => drop(stream),
            // See the module. The device then stays busy until this process ends.
            Err(_) => std::mem::forget(stream),
        }
    }
}
