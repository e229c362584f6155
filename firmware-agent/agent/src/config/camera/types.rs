//! `[sources.camera]`, checked: what the camera is and how its frames are kept. Nothing here reads files.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::super::types::path_or_none;

/// `[sources.camera]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CameraConfig {
    /// Which kind of camera.
    pub(crate) kind: CameraKind,
    /// Device file of `v4l2` and `usb`, best the stable name in `/dev/v4l/by-id`.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) device: Option<PathBuf>,
    /// Which sensor of `csi`.
    pub(crate) sensor_id: u32,
    /// Address of `rtsp`, without user and password.
    #[serde(serialize_with = "text_or_none")]
    pub(crate) url: Option<String>,
    /// File with one line `user:password` for `rtsp`.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) credentials: Option<PathBuf>,
    /// How `rtsp` is carried.
    pub(crate) transport: Transport,
    /// How long `rtsp` waits for late packets, ms.
    pub(crate) latency_ms: u32,
    /// Video of `file`.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) file: Option<PathBuf>,
    /// Pipeline of `pipeline`, as gst-launch-1.0 writes it.
    #[serde(serialize_with = "text_or_none")]
    pub(crate) pipeline: Option<String>,
    /// What `v4l2` and `usb` ask the camera for.
    pub(crate) format: PixelFormat,
    /// Wanted width, pixels.
    pub(crate) width: u32,
    /// Wanted height, pixels.
    pub(crate) height: u32,
    /// Wanted frames a second.
    pub(crate) fps: u32,
    /// Rate of what is encoded here, Mbit/s.
    pub(crate) bitrate_mbit_s: f32,
    /// What encodes in GStreamer.
    pub(crate) encoder: Encoder,
    /// No frame for so many intervals: the camera has stalled and is opened anew.
    pub(crate) stall_frames: u32,
    /// Whether black, covered, frozen and blurred pictures are looked for.
    pub(crate) picture_health: bool,
}

/// Which kind of camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CameraKind {
    /// None: telemetry alone.
    None,
    /// Directly by V4L2.
    V4l2,
    /// GStreamer: a CSI sensor of a Jetson.
    Csi,
    /// GStreamer: a USB camera.
    Usb,
    /// GStreamer: an IP camera.
    Rtsp,
    /// GStreamer: a video file played as if it were a camera, for tests.
    File,
    /// GStreamer: a drawn test picture.
    Test,
    /// GStreamer: what `pipeline` says.
    Pipeline,
}

/// What a camera is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PixelFormat {
    /// The first that it has of H.264, MJPEG and YUYV.
    Auto,
    /// JPEG pictures, kept as they come.
    Mjpeg,
    /// Raw pictures, encoded here.
    Yuyv,
    /// H.264, kept as it comes.
    H264,
}

impl PixelFormat {
    /// Its word in the configuration.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mjpeg => "mjpeg",
            Self::Yuyv => "yuyv",
            Self::H264 => "h264",
        }
    }
}

/// How RTSP is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    /// Within the RTSP connection.
    Tcp,
    /// In datagrams.
    Udp,
}

/// What encodes in GStreamer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoder {
    /// The first installed of the others.
    Auto,
    /// Hardware of Jetson boards (not of Orin Nano).
    Nvv4l2h264enc,
    /// x264, on the CPU.
    X264enc,
    /// OpenH264, on the CPU.
    Openh264enc,
}

impl Encoder {
    /// Name of the GStreamer element; `None` for `auto`.
    pub(crate) const fn element(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Nvv4l2h264enc => Some("nvv4l2h264enc"),
            Self::X264enc => Some("x264enc"),
            Self::Openh264enc => Some("openh264enc"),
        }
    }
}

fn text_or_none<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_deref().unwrap_or("none"))
}
