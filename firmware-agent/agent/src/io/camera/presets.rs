//! Ready GStreamer pipelines, built from a few keys. Text only: nothing here runs one.
//!
//! Every pipeline ends in two sinks: `kept` (H.264 or JPEG) and `small` (RGB, at most as wide as the configuration says).
//! Frames are dropped in leaky queues and nowhere else, so that each drop is counted: raw frames before an encoder, since
//! a missing encoded one would spoil those that follow; sinks make the pipeline wait. A queue whose name begins with
//! `small` drops what would have been looked at, any other one what would have been kept.
//!
//! Values that people write (paths, addresses) are never put into the text but set as properties.

use crate::config::camera::{CameraConfig, CameraKind, Encoder, PixelFormat, Transport};

/// A pipeline and the properties to set on its element `camera`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Preset {
    pub(crate) text: String,
    pub(crate) set: Vec<(&'static str, String)>,
    /// Begin again at the end: files end, cameras do not.
    pub(crate) repeats: bool,
}

/// What the presets are built from besides the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    /// Size of the small pictures.
    pub(crate) small: [u32; 2],
    /// Frames from one key frame to the next.
    pub(crate) key_every: u32,
}

/// The two sinks. How many buffers they hold is set when the pipeline is made, for those that people write too.
const KEPT: &str = "appsink name=kept";
const SMALL: &str = "appsink name=small";
/// H.264 as the ring wants it: one access unit a buffer, parameter sets before each key frame.
const H264: &str = "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au";

/// A queue that drops its oldest when full.
fn leaky(name: &str, buffers: u32) -> String {
    format!("queue name={name} leaky=downstream max-size-buffers={buffers} max-size-bytes=0 max-size-time=0")
}

/// Small pictures out of raw ones in the computer's memory.
fn small(frames: &Frames) -> String {
    let [width, height] = frames.small;
    format!(
        "{} ! videoscale ! videoconvert ! video/x-raw,format=RGB,width={width},height={height},pixel-aspect-ratio=1/1 \
         ! {SMALL}",
        leaky("small-queue", 2)
    )
}

/// An encoder and what it wants before it.
pub(crate) fn encoder(kind: Encoder, bitrate_mbit_s: f32, key_every: u32) -> String {
    let bits = f64::from(bitrate_mbit_s) * 1e6;
    match kind {
        Encoder::Nvv4l2h264enc => format!(
            "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc bitrate={bits:.0} \
             iframeinterval={key_every} idrinterval={key_every} insert-sps-pps=true"
        ),
        // Without B-frames frames leave in the order of time; zerolatency holds none back.
        Encoder::X264enc | Encoder::Auto => format!(
            "videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast bframes=0 \
             bitrate={:.0} key-int-max={key_every}",
            bits / 1000.0
        ),
        Encoder::Openh264enc => format!(
            "videoconvert ! video/x-raw,format=I420 ! openh264enc usage-type=camera complexity=low \
             rate-control=bitrate enable-frame-skip=false bitrate={bits:.0} gop-size={key_every}"
        ),
    }
}

/// What there is to say where [`preset`] gives none.
#[cfg(feature = "gstreamer")]
pub(crate) const TOO_LITTLE: &str = "sources.camera says too little for a pipeline";

/// The pipeline of a camera; `None` for kinds that GStreamer does not run. `installed` is what `auto` means here.
pub(crate) fn preset(camera: &CameraConfig, frames: &Frames, installed: Encoder) -> Option<Preset> {
    let kind = if camera.encoder == Encoder::Auto { installed } else { camera.encoder };
    let encode = encoder(kind, camera.bitrate_mbit_s, frames.key_every);
    let kept_raw = format!("{} ! {encode} ! {H264} ! {KEPT}", leaky("kept-queue", 4));
    let size = format!("width={},height={},framerate={}/1", camera.width, camera.height, camera.fps);
    let small = small(frames);
    let raw = |source: &str| format!("{source} ! tee name=t t. ! {kept_raw} t. ! {small}");
    let path = |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.to_string_lossy().into_owned());
    let mut set = Vec::new();
    let text = match camera.kind {
        CameraKind::None | CameraKind::V4l2 => return None,
        CameraKind::Pipeline => camera.pipeline.clone()?,
        CameraKind::Test => raw(&format!("videotestsrc name=camera is-live=true ! video/x-raw,format=I420,{size}")),
        CameraKind::File => {
            set.push(("location", path(&camera.file)?));
            // At the file's own pace, as a camera would give it.
            raw("filesrc name=camera ! decodebin ! identity sync=true ! videoconvert ! videoscale add-borders=true")
        }
        CameraKind::Csi => csi(camera, frames, kind, &size),
        CameraKind::Usb => {
            set.push(("device", path(&camera.device)?));
            usb(camera.format, &size, &kept_raw, &small)
        }
        CameraKind::Rtsp => {
            set.push(("location", camera.url.clone()?));
            // The decoder needs every frame; what is decoded and not looked at is dropped behind it.
            format!(
                "rtspsrc name=camera latency={} protocols={} ! rtph264depay ! {H264} ! tee name=t \
                 t. ! queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! {KEPT} \
                 t. ! queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! decodebin ! {small}",
                camera.latency_ms,
                match camera.transport {
                    Transport::Tcp => "tcp",
                    Transport::Udp => "udp",
                }
            )
        }
    };
    Some(Preset { text, set, repeats: camera.kind == CameraKind::File })
}

/// A CSI sensor of a Jetson: the picture processor's frames stay in device memory; scaling and, where there is one, the
/// encoder are hardware.
fn csi(camera: &CameraConfig, frames: &Frames, kind: Encoder, size: &str) -> String {
    let [width, height] = frames.small;
    // An encoder on the CPU wants the frame in the computer's memory.
    let fetch = if kind == Encoder::Nvv4l2h264enc { "" } else { "nvvidconv ! video/x-raw,format=I420 ! " };
    let encode = encoder(kind, camera.bitrate_mbit_s, frames.key_every);
    format!(
        "nvarguscamerasrc name=camera sensor-id={} ! video/x-raw(memory:NVMM),format=NV12,{size} ! tee name=t \
         t. ! {} ! {fetch}{encode} ! {H264} ! {KEPT} \
         t. ! {} ! nvvidconv ! video/x-raw,format=RGBA,width={width},height={height} ! videoconvert \
         ! video/x-raw,format=RGB ! {SMALL}",
        camera.sensor_id,
        leaky("kept-queue", 4),
        leaky("small-queue", 2)
    )
}

fn usb(format: PixelFormat, size: &str, kept_raw: &str, small: &str) -> String {
    let source = "v4l2src name=camera";
    match format {
        PixelFormat::Yuyv => {
            format!("{source} ! video/x-raw,format=YUY2,{size} ! tee name=t t. ! {kept_raw} t. ! {small}")
        }
        PixelFormat::H264 => format!(
            "{source} ! video/x-h264,{size} ! {H264} ! tee name=t \
             t. ! queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! {KEPT} \
             t. ! queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! decodebin ! {small}"
        ),
        // Every JPEG stands for itself: any may be dropped before it is decoded.
        PixelFormat::Mjpeg | PixelFormat::Auto => format!(
            "{source} ! image/jpeg,{size} ! tee name=t t. ! {} ! {KEPT} t. ! {} ! jpegdec ! {small}",
            leaky("kept-queue", 4),
            leaky("small-jpeg", 2)
        ),
    }
}
