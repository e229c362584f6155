//! Cameras by GStreamer: one pipeline with two sinks. Feature `gstreamer`.
//!
//! `kept` gives encoded frames, `small` (if there is one) pictures in RGB; [`super::join`] puts together what was one frame.
//! A frame's time is its running time in the pipeline plus the pipeline's base time, on the system clock, whose distance to
//! CLOCK_MONOTONIC is measured again every second; it goes through the same mistrust as a driver's stamp.
//!
//! The pipeline ends by an error, its end, or the keeper's word that it has stalled, and is made anew. Files begin again.
//! What is dropped is counted: in leaky queues (each overrun is one buffer), and by the source where it says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent_core::limits::MAX_FRAME_BYTES;
use agent_core::samples::VideoCodec;
use agent_core::time::{MonoTime, Span};
use agent_drive::LiveStream;
use gstreamer::prelude::*;
use gstreamer::{
    Bus, Caps, ClockTime, ElementFactory, MessageType, MessageView, Pipeline, ResourceError, Sample, SeekFlags, State,
    SystemClock,
};
use gstreamer_app::AppSink;
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoFrameRef, VideoInfo};

use super::clock::{ClockMap, Stamp};
use super::join::Join;
use super::presets::{Frames as Sizes, Preset, TOO_LITTLE, preset};
use super::{Camera, Fault, Got, Shot, Stream};
use crate::config::camera::{CameraConfig, Encoder};

/// Buffers in the sinks: the thread that takes them is never far behind.
const KEPT_BUFFERS: u32 = 2;
const SMALL_BUFFERS: u32 = 1;
/// What the sinks take.
const KEPT_CAPS: &str = "video/x-h264,stream-format=byte-stream,alignment=au; \
                         video/x-h265,stream-format=byte-stream,alignment=au; image/jpeg";
const SMALL_CAPS: &str = "video/x-raw,format=RGB";
/// One wait for an encoded frame, so that a small picture does not wait long either.
const SLICE: Duration = Duration::from_millis(8);
/// Most messages of the bus that are looked at in one go.
const MESSAGES: usize = 32;
/// Longest text of an error that is passed on, characters.
const TEXT: usize = 300;
const MEASURE_CLOCK: Span = Span::from_s(1);

/// A camera by its pipeline.
pub(crate) struct GstCamera {
    pub(crate) name: String,
    /// What its pipeline is made of.
    pub(crate) camera: CameraConfig,
    pub(crate) frames: Sizes,
    /// User and password of an IP camera.
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) fps: f32,
    /// Widest small picture.
    pub(crate) small_width: u16,
    pub(crate) now: fn() -> MonoTime,
}

/// The first installed encoder, the one on the CPU if none is known.
fn installed_encoder() -> Encoder {
    [Encoder::Nvv4l2h264enc, Encoder::X264enc, Encoder::Openh264enc]
        .into_iter()
        .find(|e| e.element().is_some_and(|name| ElementFactory::find(name).is_some()))
        .unwrap_or(Encoder::X264enc)
}

impl Camera for GstCamera {
    fn open(&mut self) -> Result<Box<dyn Stream>, Fault> {
        let refused = |what: &str, e: &dyn std::fmt::Display| Fault::Refused(short(&format!("GStreamer: {what}: {e}")));
        gstreamer::init().map_err(|e| refused("it could not be started", &e))?;
        let preset = preset(&self.camera, &self.frames, installed_encoder())
            .ok_or_else(|| Fault::Refused(TOO_LITTLE.to_owned()))?;
        let element = gstreamer::parse::launch(&preset.text).map_err(|e| refused("the pipeline", &e))?;
        let pipeline = element
            .downcast::<Pipeline>()
            .map_err(|_| Fault::Refused("GStreamer: a pipeline of one element has no two sinks".to_owned()))?;
        // From here on dropping it stops the pipeline.
        let running = Running(pipeline);
        let pipeline = &running.0;
        self.set_properties(pipeline, &preset)?;
        let kept = sink(pipeline, "kept", KEPT_CAPS, KEPT_BUFFERS)?
            .ok_or_else(|| Fault::Refused("GStreamer: the pipeline has no appsink named kept".to_owned()))?;
        let small = sink(pipeline, "small", SMALL_CAPS, SMALL_BUFFERS)?;
        let lost = count_drops(pipeline);
        let small_raw = !decodes_video(pipeline);
        let clock = SystemClock::obtain();
        pipeline.use_clock(Some(&clock));
        let bus = pipeline.bus().ok_or_else(|| Fault::Failed("GStreamer: the pipeline has no bus".to_owned()))?;
        if let Err(error) = pipeline.set_state(State::Playing) {
            // The bus knows why.
            return Err(fault_on(&bus, &self.name).unwrap_or_else(|| Fault::Failed(format!("{}: {error}", self.name))));
        }
        Ok(Box::new(Frames {
            name: self.name.clone(),
            fps: self.fps,
            small_width: self.small_width,
            repeats: preset.repeats,
            now: self.now,
            bus,
            join: Join::new(small.is_some()),
            kept,
            small,
            small_raw,
            lost,
            clock,
            offset_ns: 0,
            measured: None,
            map: ClockMap::default(),
            live: None,
            last_ns: None,
            running,
        }))
    }
}

impl GstCamera {
    fn set_properties(&self, pipeline: &Pipeline, preset: &Preset) -> Result<(), Fault> {
        let Some(camera) = pipeline.by_name("camera") else { return Ok(()) };
        let mut set: Vec<(&str, &str)> = preset.set.iter().map(|(k, v)| (*k, v.as_str())).collect();
        if let Some((user, password)) = &self.credentials {
            set.extend([("user-id", user.as_str()), ("user-pw", password.as_str())]);
        }
        for (key, value) in set {
            // Setting a property that is not there would panic.
            if camera.find_property(key).is_none() {
                return Err(Fault::Refused(format!("GStreamer: the element camera has no property {key}")));
            }
            camera.set_property_from_str(key, value);
        }
        Ok(())
    }
}

/// A pipeline that is stopped when it is dropped.
struct Running(Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        // What an element says against being stopped changes nothing.
        let _ = self.0.set_state(State::Null);
    }
}

/// The sink of a name, made bounded and never waiting for the clock.
fn sink(pipeline: &Pipeline, name: &str, caps: &str, buffers: u32) -> Result<Option<AppSink>, Fault> {
    let Some(element) = pipeline.by_name(name) else { return Ok(None) };
    let sink = element
        .downcast::<AppSink>()
        .map_err(|_| Fault::Refused(format!("GStreamer: the element named {name} is no appsink")))?;
    let caps: Caps = caps.parse().map_err(|_| Fault::Failed("GStreamer: caps".to_owned()))?;
    sink.set_caps(Some(&caps));
    sink.set_max_buffers(buffers);
    // Full, it makes the pipeline wait, and the leaky queues before it drop and count.
    sink.set_drop(false);
    sink.set_property("sync", false);
    Ok(Some(sink))
}

/// Counts what leaky queues drop, but for those of small pictures: what is missing there is noticed when joining.
fn count_drops(pipeline: &Pipeline) -> Arc<AtomicU32> {
    let lost = Arc::new(AtomicU32::new(0));
    let mut elements = pipeline.iterate_recurse();
    while let Ok(Some(element)) = elements.next() {
        let is_queue = element.factory().is_some_and(|f| f.name() == "queue");
        let leaky = is_queue && element.property_value("leaky").transform::<i32>().is_ok_and(|v| v.get() != Ok(0));
        if leaky && !element.name().starts_with("small") {
            let lost = Arc::clone(&lost);
            element.connect("overrun", false, move |_| {
                lost.fetch_add(1, Ordering::Relaxed);
                None
            });
        }
    }
    lost
}

/// Whether an element decodes video, as its class says (Codec/Decoder/Video), or chooses decoders itself
/// (Generic/Bin/Decoder). Those of single images (JPEG: Codec/Decoder/Image) show each picture for itself.
fn decodes_video(pipeline: &Pipeline) -> bool {
    let mut elements = pipeline.iterate_recurse();
    while let Ok(Some(element)) = elements.next() {
        let decodes = |class: &str| class.contains("Decoder") && !class.contains("Image");
        if element.factory().is_some_and(|factory| factory.metadata("klass").is_some_and(decodes)) {
            return true;
        }
    }
    false
}

fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect()
}

/// The first error that waits on the bus.
fn fault_on(bus: &Bus, name: &str) -> Option<Fault> {
    let message = bus.pop_filtered(&[MessageType::Error])?;
    let MessageView::Error(error) = message.view() else { return None };
    let source = error.src().map_or_else(String::new, |s| format!("{}: ", s.name()));
    let text = short(&format!("{name}: {source}{}", error.error()));
    Some(match error.error().kind::<ResourceError>() {
        Some(ResourceError::NotFound) => Fault::Missing(text),
        Some(ResourceError::Busy) => Fault::Busy(text),
        Some(ResourceError::NotAuthorized) => Fault::Denied(text),
        _ => Fault::Failed(text),
    })
}

/// The frames of a running pipeline.
struct Frames {
    name: String,
    fps: f32,
    small_width: u16,
    repeats: bool,
    now: fn() -> MonoTime,
    bus: Bus,
    kept: AppSink,
    small: Option<AppSink>,
    small_raw: bool,
    join: Join<Sample, Sample>,
    lost: Arc<AtomicU32>,
    clock: gstreamer::Clock,
    /// CLOCK_MONOTONIC less the pipeline's clock.
    offset_ns: i128,
    measured: Option<MonoTime>,
    map: ClockMap,
    live: Option<(VideoCodec, LiveStream)>,
    last_ns: Option<u64>,
    running: Running,
}

impl Stream for Frames {
    fn next(&mut self, wait: Duration, shot: &mut Shot) -> Result<Got, Fault> {
        let until = Instant::now() + wait;
        loop {
            self.messages(shot)?;
            self.pictures();
            if let Some((ns, kept, small)) = self.join.next() {
                return self.fill(ns, &kept, small.as_ref(), shot);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Got::Nothing);
            }
            let slice = ClockTime::from_nseconds(left.min(SLICE).as_nanos() as u64);
            if let Some(sample) = self.kept.try_pull_sample(slice) {
                match running_ns(&sample) {
                    Some(ns) => self.join.frame(ns, sample),
                    // A frame without a time has no place among the others.
                    None => return Ok(Got::Damaged),
                }
            } else if self.kept.is_eos() {
                self.begin_again()?;
            }
        }
    }

    fn fps(&self) -> f32 {
        self.fps
    }

    fn describe(&self) -> String {
        format!("{} by GStreamer", self.name)
    }
}

impl Frames {
    /// Errors end the stream; a source may say that it lost frames.
    fn messages(&mut self, shot: &mut Shot) -> Result<(), Fault> {
        shot.lost = 0;
        if let Some(fault) = fault_on(&self.bus, &self.name) {
            return Err(fault);
        }
        for _ in 0..MESSAGES {
            let Some(message) = self.bus.pop() else { break };
            match message.view() {
                MessageView::Error(error) => {
                    return Err(Fault::Failed(short(&format!("{}: {}", self.name, error.error()))));
                }
                MessageView::Qos(qos) if message.src().is_some_and(|s| s.name() == "camera") => {
                    let (_, _, _, _, duration) = qos.get();
                    let interval = 1e9 / f64::from(self.fps.max(1.0));
                    let frames = duration.map_or(1.0, |d| d.nseconds() as f64 / interval).round().clamp(1.0, 1e6);
                    self.lost.fetch_add(frames as u32, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Small pictures that are there, for those that join.
    fn pictures(&mut self) {
        let Some(small) = &self.small else { return };
        while let Some(sample) = small.try_pull_sample(ClockTime::ZERO) {
            if let Some(ns) = running_ns(&sample) {
                self.join.picture(ns, sample);
            }
        }
    }

    fn begin_again(&mut self) -> Result<(), Fault> {
        // An element that fails ends the stream too; its reason came first.
        if let Some(fault) = fault_on(&self.bus, &self.name) {
            return Err(fault);
        }
        let pipeline = &self.running.0;
        if !self.repeats {
            return Err(Fault::Failed(format!("{}: the pipeline came to its end", self.name)));
        }
        self.join = Join::new(self.small.is_some());
        self.last_ns = None;
        pipeline
            .seek_simple(SeekFlags::FLUSH | SeekFlags::KEY_UNIT, ClockTime::ZERO)
            .map_err(|_| Fault::Failed(format!("{}: it cannot be played again", self.name)))
    }

    fn fill(&mut self, ns: u64, kept: &Sample, small: Option<&Sample>, shot: &mut Shot) -> Result<Got, Fault> {
        shot.unseen += self.join.take_unseen();
        shot.lost = self.lost.swap(0, Ordering::Relaxed);
        if self.last_ns.is_some_and(|last| ns <= last) {
            let why = "frames leave the encoder in another order than they were taken (it makes B-frames)";
            return Err(Fault::Refused(format!("{}: {why}", self.name)));
        }
        self.last_ns = Some(ns);
        let arrival = (self.now)();
        self.measure_clock(arrival);
        let base = self.running.0.base_time().map_or(0, ClockTime::nseconds);
        let ns = i128::from(base) + i128::from(ns) + self.offset_ns;
        let stamp = Stamp { ns: u64::try_from(ns.max(0)).unwrap_or(u64::MAX), monotonic: true };
        shot.t = self.map.time(stamp, arrival);
        if self.take_kept(kept, shot).is_none() {
            return Ok(Got::Damaged);
        }
        shot.small_size = [0; 2];
        if let Some(small) = small {
            match take_small(small, self.small_width, shot) {
                Ok(true) => shot.small_raw = self.small_raw,
                Ok(false) => shot.unseen += 1,
                Err(why) => return Err(Fault::Refused(format!("{}: {why}", self.name))),
            }
        }
        Ok(Got::Frame)
    }

    fn measure_clock(&mut self, arrival: MonoTime) {
        if self.measured.is_some_and(|m| arrival.since(m) < MEASURE_CLOCK) {
            return;
        }
        self.measured = Some(arrival);
        let before = (self.now)();
        let clock = self.clock.time().nseconds();
        let after = (self.now)();
        self.offset_ns = (i128::from(before.0) + i128::from(after.0)) / 2 - i128::from(clock);
    }

    /// Copies the encoded frame into the shot; `None` if it is no usable one.
    fn take_kept(&mut self, sample: &Sample, shot: &mut Shot) -> Option<()> {
        let caps = sample.caps()?.structure(0)?;
        let side = |name| caps.get::<i32>(name).ok().and_then(|n| u16::try_from(n).ok());
        shot.size = [side("width")?, side("height")?];
        shot.codec = match caps.name().as_str() {
            "video/x-h264" => VideoCodec::H264,
            "video/x-h265" => VideoCodec::H265,
            _ => VideoCodec::Jpeg,
        };
        let map = sample.buffer()?.map_readable().ok()?;
        (!map.is_empty() && map.len() <= MAX_FRAME_BYTES).then_some(())?;
        shot.kept.clear();
        shot.kept.extend_from_slice(&map);
        if self.live.as_ref().is_none_or(|(codec, _)| *codec != shot.codec) {
            self.live = Some((shot.codec, LiveStream::new(shot.codec)));
        }
        shot.key = self.live.as_mut().is_some_and(|(_, live)| live.admit(&mut shot.kept));
        (shot.kept.len() <= MAX_FRAME_BYTES).then_some(())
    }
}

/// Copies a small picture into the shot, without the padding of its rows; false if it has none.
fn take_small(sample: &Sample, most: u16, shot: &mut Shot) -> Result<bool, String> {
    let Some(info) = sample.caps().and_then(|caps| VideoInfo::from_caps(caps).ok()) else { return Ok(false) };
    let (width, height) = (info.width(), info.height());
    if width > u32::from(most) || width < 16 || !(16..=u32::from(most) * 4).contains(&height) {
        return Err(format!(
            "small pictures of {width}x{height}; they are 16 to {most} wide (rings.small_frame_width)"
        ));
    }
    let Some(frame) = sample.buffer().and_then(|b| VideoFrameRef::from_buffer_ref_readable(b, &info).ok()) else {
        return Ok(false);
    };
    let stride = frame.plane_stride().first().and_then(|s| usize::try_from(*s).ok()).unwrap_or(0);
    let row = 3 * width as usize;
    let Ok(data) = frame.plane_data(0) else { return Ok(false) };
    shot.small.clear();
    for y in 0..height as usize {
        let Some(line) = data.get(y * stride..y * stride + row) else { return Ok(false) };
        shot.small.extend_from_slice(line);
    }
    shot.small_size = [width as u16, height as u16];
    Ok(true)
}

/// When the frame was captured, on the pipeline's running time.
fn running_ns(sample: &Sample) -> Option<u64> {
    let pts = sample.buffer()?.pts()?;
    let segment = sample.segment()?.downcast_ref::<ClockTime>()?;
    segment.to_running_time(pts).map(ClockTime::nseconds)
}

#[cfg(test)]
#[path = "gst_tests.rs"]
mod tests;
