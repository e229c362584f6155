//! The camera: one source of frames, whatever takes them, watched and taken up again when it fails.
//!
//! Terms: a *shot* is one frame as it came, encoded as it will be kept and, where the source can, small as it will be
//! looked at. A *stream* is an open camera; a *camera* opens one. The *keeper* runs the camera's thread: it opens the
//! stream, hands shots over, counts what is lost, notices stalls and opens anew. The *looker* runs a second thread, so
//! that what is looked at never holds up what is kept: it decodes where the source gave no small picture, and judges
//! whether the picture can be looked at.
//!
//! | module | does |
//! |---|---|
//! | [`keeper`] | the state of the camera; back-off; stalls; losses |
//! | [`looker`] | small pictures and their health |
//! | [`picture`] | black, covered, frozen, blurred |
//! | [`v4l2`] | cameras directly by the kernel's V4L2 |
//! | [`gst`], [`presets`], [`join`] | cameras by GStreamer |
//! | [`clock`], [`pixels`], [`encode`] | times on the monotonic clock; YUYV; H.264 by OpenH264 |
//! | [`make`], [`source`], [`probe`] | from the configuration to a camera; its threads in `run`; a look at it for people |
//!
//! No buffer of the size of a frame is made after the start: they go round between the threads. What finds no free buffer
//! is lost and counted. Nothing here decides about events.

pub(crate) mod clock;
pub(crate) mod encode;
#[cfg(feature = "gstreamer")]
pub(crate) mod gst;
#[cfg_attr(not(feature = "gstreamer"), allow(dead_code, reason = "only GStreamer's two branches are joined"))]
pub(crate) mod join;
pub(crate) mod keeper;
pub(crate) mod looker;
pub(crate) mod make;
pub(crate) mod picture;
pub(crate) mod pixels;
#[cfg_attr(not(feature = "gstreamer"), allow(dead_code, reason = "read by GStreamer alone"))]
pub(crate) mod presets;
pub(crate) mod probe;
pub(crate) mod source;
pub(crate) mod v4l2;

use std::time::Duration;

use agent_core::samples::VideoCodec;
use agent_core::time::MonoTime;

/// One frame as it came. The buffers are the caller's and go round.
#[derive(Debug)]
pub(crate) struct Shot {
    /// When it was captured, CLOCK_MONOTONIC.
    pub(crate) t: MonoTime,
    /// Frames that the source lost just before this one.
    pub(crate) lost: u32,
    /// Frames since the last shot that will not be looked at.
    pub(crate) unseen: u32,
    /// How `kept` is compressed.
    pub(crate) codec: VideoCodec,
    /// Decoding can begin here.
    pub(crate) key: bool,
    /// Width and height of the kept frame, pixels.
    pub(crate) size: [u16; 2],
    /// The frame as it will be kept.
    pub(crate) kept: Vec<u8>,
    /// Width and height of `small`; zeros when the source gave none.
    pub(crate) small_size: [u16; 2],
    /// RGB, rows from the top.
    pub(crate) small: Vec<u8>,
    /// The source says that `small` was never H.264 or H.265, which copy a standing scene from picture to picture.
    pub(crate) small_raw: bool,
}

impl Default for Shot {
    fn default() -> Self {
        Self {
            t: MonoTime::ZERO,
            lost: 0,
            unseen: 0,
            codec: VideoCodec::H264,
            key: false,
            size: [0; 2],
            kept: Vec::new(),
            small_size: [0; 2],
            small: Vec::new(),
            small_raw: false,
        }
    }
}

/// What waiting for a frame gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// The shot is filled.
    Frame,
    /// Nothing within the time given.
    Nothing,
    /// A frame that cannot be used: the source said so, or it was no frame.
    Damaged,
}

/// Why a camera cannot be used; each leads to opening it anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// There is no such device.
    #[error("{0} is not there")]
    Missing(String),
    /// It was there and is gone.
    #[error("{0} was unplugged")]
    Unplugged(String),
    /// It may not be opened.
    #[error("{0}")]
    Denied(String),
    /// Another program has it.
    #[error("{0}")]
    Busy(String),
    /// It does not do what is asked of it.
    #[error("{0}")]
    Refused(String),
    /// Something went wrong.
    #[error("{0}")]
    Failed(String),
}

/// An open camera.
pub(crate) trait Stream {
    /// Waits at most `wait` for a frame and fills `shot`. Heeds `wait`, or the keeper cannot notice a stall.
    fn next(&mut self, wait: Duration, shot: &mut Shot) -> Result<Got, Fault>;

    /// Frames a second as the source says them; 0 where it does not.
    fn fps(&self) -> f32;

    /// What was opened, in words.
    fn describe(&self) -> String;
}

/// A camera that can be opened, again and again.
pub(crate) trait Camera {
    /// Opens it.
    fn open(&mut self) -> Result<Box<dyn Stream>, Fault>;
}
