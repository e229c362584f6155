//! Videos that are not H.264 in MP4, decoded by the system's GStreamer and encoded anew as H.264. Feature `gstreamer`.
//!
//! Debian packages to build: `libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev`; to run: `gstreamer1.0-plugins-base
//! gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav`.
//!
//! `filesrc ! decodebin ! videoconvert ! appsink`: software decoders (the same file gives the same drive), the first
//! video stream alone, and a sink that holds few pictures and makes the pipeline wait. Times are the
//! buffers' running times, so that edit lists are heeded, the first picture at 0. Colours become BT.601 of limited range,
//! whatever they were, and the frames say so: that is what the small frames are decoded with. There is no network source
//! element, and text files are refused, since playlists make GStreamer fetch what they name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use agent_core::time::MonoTime;
use gstreamer::prelude::*;
use gstreamer::{ClockTime, MessageType, MessageView, Pipeline, State};
use gstreamer_app::AppSink;
use gstreamer_video::prelude::*;
use gstreamer_video::{VideoFrameRef, VideoInfo};
use openh264::encoder::VuiConfig;

use super::whole::what_is_missing;
use super::{ImportError, Item, Notes, Source, bad, encoded, io_error};
use crate::encode::{Picture, PictureEncoder};
use crate::info::CameraInfo;
use crate::limits::{GST_PICTURES, GST_POLL_MS, GST_STALL_POLLS, MAX_PICTURE_SIDE, MAX_VIDEO_SAMPLES};

/// Frames a second where the file says none.
const FALLBACK_FPS: f32 = 30.0;

/// A running pipeline and the encoder behind it.
pub(crate) struct Decoded {
    path: PathBuf,
    pipeline: Pipeline,
    sink: AppSink,
    encoder: PictureEncoder,
    fps: f32,
    /// The first picture, which was decoded to learn the size.
    ahead: Option<gstreamer::Sample>,
    picture: Picture,
    first: Option<ClockTime>,
    last_ns: Option<u64>,
    seq: u64,
    done: bool,
    notes: Notes,
}

/// Stops the pipeline however its opening ends.
struct Stop(Option<Pipeline>);

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(pipeline) = &self.0 {
            let _ = pipeline.set_state(State::Null);
        }
    }
}

/// What waiting for a picture gave.
enum Pulled {
    Picture(gstreamer::Sample),
    End,
    Failed(String),
}

/// Opens any video file that GStreamer decodes.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Source>, ImportError> {
    refuse_text(path)?;
    let fail = |what: &str, e: &dyn std::fmt::Display| bad(path, format!("GStreamer: {what}: {e}"));
    gstreamer::init().map_err(|e| fail("could not be started", &e))?;
    let name = std::path::absolute(path).map_err(io_error(path))?;
    let name = name.to_str().ok_or_else(|| bad(path, "GStreamer: its name is not UTF-8"))?.to_owned();
    let text = format!(
        "filesrc name=in ! decodebin name=decode ! videoconvert \
         ! video/x-raw,format=I420,colorimetry=bt601 ! appsink name=out sync=false max-buffers={GST_PICTURES} drop=false"
    );
    let pipeline = gstreamer::parse::launch(&text).map_err(|e| fail("its plug-ins are not all installed", &e))?;
    let pipeline = pipeline.downcast::<Pipeline>().map_err(|_| bad(path, "GStreamer: no pipeline was made"))?;
    let mut stop = Stop(Some(pipeline.clone()));
    if let Some(source) = pipeline.by_name("in") {
        source.set_property("location", name);
    }
    if let Some(decode) = pipeline.by_name("decode").filter(|d| d.find_property("force-sw-decoders").is_some()) {
        decode.set_property("force-sw-decoders", true);
    }
    let sink = pipeline.by_name("out").and_then(|s| s.downcast::<AppSink>().ok());
    let sink = sink.ok_or_else(|| bad(path, "GStreamer: no sink was made"))?;
    let mut notes = Notes::default();
    let started = pipeline.set_state(State::Playing);
    let first = match pull(&pipeline, &sink, &mut notes) {
        Pulled::Picture(first) if started.is_ok() => first,
        Pulled::Failed(why) => return Err(bad(path, format!("GStreamer: {why}"))),
        _ => return Err(bad(path, "GStreamer: it gave no picture")),
    };
    let info = video_info(&first).ok_or_else(|| bad(path, "GStreamer: a picture without a size"))?;
    let fits = |n: u32| (16..=MAX_PICTURE_SIDE as u32).contains(&n);
    if !fits(info.width()) || !fits(info.height()) {
        return Err(bad(path, format!("a picture of {}x{} is not imported", info.width(), info.height())));
    }
    let size = [info.width() as u16 & !1, info.height() as u16 & !1];
    let rate = info.fps();
    let fps = if rate.denom() > 0 { rate.numer() as f32 / rate.denom() as f32 } else { 0.0 };
    let spaced = if fps > 0.0 { fps } else { FALLBACK_FPS };
    let encoder = PictureEncoder::with_colours(size, spaced, Some(VuiConfig::bt601()));
    let encoder = encoder.map_err(|e| bad(path, e.to_string()))?;
    notes.say("its pictures were decoded by GStreamer and encoded anew".to_owned());
    if let Some(what) = what_is_missing(path).map_err(io_error(path))? {
        notes.skip(|| what);
    }
    stop.0 = None;
    Ok(Box::new(Decoded {
        path: path.to_owned(),
        pipeline,
        sink,
        encoder,
        fps,
        ahead: Some(first),
        picture: Picture::default(),
        first: None,
        last_ns: None,
        seq: 0,
        done: false,
        notes,
    }))
}

fn refuse_text(path: &Path) -> Result<(), ImportError> {
    let mut head = Vec::new();
    File::open(path).map_err(io_error(path))?.take(512).read_to_end(&mut head).map_err(io_error(path))?;
    if head.is_empty() {
        return Err(bad(path, "the file is empty"));
    }
    let wide = head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]);
    if wide || head.iter().all(|b| *b >= 0x20 || matches!(b, b'\t' | b'\r' | b'\n')) {
        return Err(bad(path, "it is text, not a video (a playlist is not followed)"));
    }
    Ok(())
}

/// Waits for the next picture, the end, an error, or too long.
fn pull(pipeline: &Pipeline, sink: &AppSink, notes: &mut Notes) -> Pulled {
    for _ in 0..GST_STALL_POLLS {
        if let Some(sample) = sink.try_pull_sample(ClockTime::from_mseconds(GST_POLL_MS)) {
            return Pulled::Picture(sample);
        }
        if let Some(why) = messages(pipeline, notes) {
            return Pulled::Failed(why);
        }
        if sink.is_eos() {
            return Pulled::End;
        }
    }
    Pulled::Failed(format!("no picture for {} s", GST_POLL_MS * GST_STALL_POLLS / 1000))
}

/// Takes what the pipeline said: warnings become notes, the first error is given back.
fn messages(pipeline: &Pipeline, notes: &mut Notes) -> Option<String> {
    let bus = pipeline.bus()?;
    let mut missing = String::new();
    while let Some(message) = bus.pop_filtered(&[MessageType::Error, MessageType::Warning, MessageType::Element]) {
        match message.view() {
            MessageView::Error(e) => return Some(format!("{}{missing}", e.error())),
            MessageView::Warning(w) => notes.skip(|| format!("GStreamer: {}", w.error())),
            MessageView::Element(e) => {
                if let Some(s) = e.structure().filter(|s| s.name() == "missing-plugin")
                    && let Ok(name) = s.get::<String>("name")
                {
                    missing = format!(" (missing: {name})");
                }
            }
            _ => {}
        }
    }
    None
}

fn video_info(sample: &gstreamer::Sample) -> Option<VideoInfo> {
    VideoInfo::from_caps(sample.caps()?).ok()
}

impl Decoded {
    /// The next sample of the pipeline; `None` at the end, which an error after the first picture is too.
    fn sample(&mut self) -> Result<Option<gstreamer::Sample>, ImportError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        if self.done {
            return Ok(None);
        }
        match pull(&self.pipeline, &self.sink, &mut self.notes) {
            Pulled::Picture(sample) => return Ok(Some(sample)),
            Pulled::End => {
                // Warnings that came with the last pictures; an error there means a cut file.
                if let Some(why) = messages(&self.pipeline, &mut self.notes) {
                    self.stopped(&why);
                }
            }
            Pulled::Failed(why) => self.stopped(&why),
        }
        self.done = true;
        Ok(None)
    }

    fn stopped(&mut self, why: &str) {
        let n = self.seq;
        self.notes.skip(|| format!("decoding stopped behind frame {n}: GStreamer: {why}"));
    }

    /// The picture's time from the first picture; `None`, and a note, if it has none that follows the one before.
    fn time_ns(&mut self, sample: &gstreamer::Sample) -> Option<u64> {
        let pts = sample.buffer().and_then(|b| b.pts());
        let time = match (pts, sample.segment().and_then(|s| s.downcast_ref::<ClockTime>())) {
            (Some(pts), Some(segment)) => segment.to_running_time(pts),
            (pts, _) => pts,
        };
        let seq = self.seq;
        let Some(time) = time else {
            self.notes.skip(|| format!("frame {seq}: it has no time, or one outside of what the file shows"));
            return None;
        };
        let first = *self.first.get_or_insert(time);
        let ns = time.nseconds().checked_sub(first.nseconds());
        if ns.is_none() || ns <= self.last_ns {
            self.notes.skip(|| format!("frame {seq}: its time is not behind that of the frame before"));
            return None;
        }
        self.last_ns = ns;
        ns
    }

    fn take(&mut self, sample: &gstreamer::Sample) -> Option<()> {
        let info = video_info(sample)?;
        let frame = VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
        let planes = [frame.plane_data(0).ok()?, frame.plane_data(1).ok()?, frame.plane_data(2).ok()?];
        let stride = |i: usize| frame.plane_stride().get(i).and_then(|s| usize::try_from(*s).ok());
        let size = (info.width() as usize, info.height() as usize);
        self.picture.copy_from(size, planes, [stride(0)?, stride(1)?, stride(2)?])?;
        self.picture.fits(self.encoder.size()).then_some(())
    }
}

impl Source for Decoded {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        while let Some(sample) = self.sample()? {
            if self.seq >= MAX_VIDEO_SAMPLES as u64 {
                return Err(bad(&self.path, format!("more than {MAX_VIDEO_SAMPLES} frames")));
            }
            let Some(t_ns) = self.time_ns(&sample) else { continue };
            let seq = self.seq;
            self.seq += 1;
            if self.take(&sample).is_none() {
                self.notes.skip(|| format!("frame {seq}: no picture of the first one's size"));
                continue;
            }
            let frame = self.encoder.encode(&self.picture, MonoTime(t_ns), seq);
            if let Some(item) = encoded(frame, &self.path, seq, &mut self.notes)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    fn camera(&self) -> Option<(CameraInfo, bool)> {
        let [width, height] = self.encoder.size();
        Some((CameraInfo { width, height, fps: self.fps, hfov_deg: None }, true))
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(State::Null);
    }
}
