//! Reads `[sources.camera]`: what each key may hold and what each kind of camera needs.

mod types;

pub(crate) use types::{CameraConfig, CameraKind, Encoder, PixelFormat, Transport};

use super::limits::{MAX_CAMERA_FPS, MAX_CAMERA_PX, MAX_PIPELINE_BYTES, MAX_VIDEO_MBIT_S};
use super::reader::{At, Section, refuse};
use super::tree::Files;

const KINDS: [(&str, CameraKind); 8] = [
    ("none", CameraKind::None),
    ("v4l2", CameraKind::V4l2),
    ("csi", CameraKind::Csi),
    ("usb", CameraKind::Usb),
    ("rtsp", CameraKind::Rtsp),
    ("file", CameraKind::File),
    ("test", CameraKind::Test),
    ("pipeline", CameraKind::Pipeline),
];
const FORMATS: [(&str, PixelFormat); 4] = [
    ("auto", PixelFormat::Auto),
    ("mjpeg", PixelFormat::Mjpeg),
    ("yuyv", PixelFormat::Yuyv),
    ("h264", PixelFormat::H264),
];
const ENCODERS: [(&str, Encoder); 4] = [
    ("auto", Encoder::Auto),
    ("nvv4l2h264enc", Encoder::Nvv4l2h264enc),
    ("x264enc", Encoder::X264enc),
    ("openh264enc", Encoder::Openh264enc),
];

/// The section inside `[sources]`. `video_max_mbit_s` is what the ring is sized for, if it is known.
pub(super) fn camera(files: &mut Files, sources: &mut Section<'_>, ring_mbit_s: Option<f32>) -> Option<CameraConfig> {
    let mut s = sources.section(files, "camera");
    let kind = s.word(files, "kind", &KINDS);
    let device = s.path_or_none(files, "device");
    let sensor_id = s.whole(files, "sensor_id", 0, 15).value;
    let url = s.checked(files, "url", "a URL such as \"rtsp://camera.local/stream\", or \"none\"", rtsp_url);
    let credentials = s.path_or_none(files, "credentials").value;
    let transport = s.word(files, "transport", &[("tcp", Transport::Tcp), ("udp", Transport::Udp)]);
    let latency_ms = s.whole(files, "latency_ms", 0, 10_000).value;
    let file = s.path_or_none(files, "file");
    let pipeline = s.checked(files, "pipeline", "a pipeline as gst-launch-1.0 writes it, or \"none\"", pipeline_text);
    let format = s.word(files, "format", &FORMATS);
    let width = s.whole(files, "width", 64, MAX_CAMERA_PX);
    let height = s.whole(files, "height", 64, MAX_CAMERA_PX);
    for (side, key) in [(&width, "width"), (&height, "height")] {
        if let Some(spot) = side.spot.filter(|_| side.value % 2 == 1) {
            refuse(files, spot, s.key(key), "odd; encoders want even sides".to_owned());
        }
    }
    let fps = s.whole(files, "fps", 1, MAX_CAMERA_FPS).value;
    let bitrate = s.real(files, "bitrate_mbit_s", 0.1, MAX_VIDEO_MBIT_S);
    // Without a camera the figure says nothing: drives bring their own video.
    let there = kind.as_ref().is_none_or(|k| k.value != CameraKind::None);
    if let (Some(spot), Some(ring)) = (bitrate.spot, ring_mbit_s)
        && there
        && bitrate.value > ring
    {
        let reason = format!("above rings.video_max_mbit_s ({ring}): the pre-roll would not fit the ring");
        refuse(files, spot, s.key("bitrate_mbit_s"), reason);
    }
    let encoder = s.word(files, "encoder", &ENCODERS);
    let stall_frames = s.whole(files, "stall_frames", 3, 1000).value;
    let picture_health = s.flag(files, "picture_health").value;
    if let Some(At { value: kind, spot: Some(spot) }) = kind {
        // A faulty value counts as given: it has been noted.
        let given = |absent: bool, spot: bool| !(absent && spot);
        let missing = match kind {
            CameraKind::V4l2 | CameraKind::Usb if !given(device.value.is_none(), device.spot.is_some()) => "device",
            CameraKind::File if !given(file.value.is_none(), file.spot.is_some()) => "file",
            CameraKind::Rtsp if url.as_ref().is_some_and(|u| u.value.is_none()) => "url",
            CameraKind::Pipeline if pipeline.as_ref().is_some_and(|p| p.value.is_none()) => "pipeline",
            _ => "",
        };
        if !missing.is_empty() {
            refuse(files, spot, s.key("kind"), format!("but {} is none", s.key(missing)));
        }
    }
    s.finish(files);
    Some(CameraConfig {
        kind: kind?.value,
        device: device.value,
        sensor_id,
        url: url?.value,
        credentials,
        transport: transport?.value,
        latency_ms,
        file: file.value,
        pipeline: pipeline?.value,
        format: format?.value,
        width: width.value,
        height: height.value,
        fps,
        bitrate_mbit_s: bitrate.value,
        encoder: encoder?.value,
        stall_frames,
        picture_health,
    })
}

fn rtsp_url(text: &str) -> Result<Option<String>, String> {
    if text == "none" {
        return Ok(None);
    }
    let Some((_, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "rtsp" | "rtsps")) else {
        return Err("not of the form rtsp://host/path".to_owned());
    };
    let host = rest.split('/').next().unwrap_or("");
    if host.contains('@') {
        return Err("with a user: that belongs in the file that credentials names, which is not printed".to_owned());
    }
    if host.is_empty() || text.chars().any(char::is_whitespace) {
        return Err("without a host, or with a space".to_owned());
    }
    Ok(Some(text.to_owned()))
}

/// The sink `kept` must be there; the rest GStreamer says when it reads it.
fn pipeline_text(text: &str) -> Result<Option<String>, String> {
    if text == "none" {
        return Ok(None);
    }
    if text.len() > MAX_PIPELINE_BYTES {
        return Err(format!("longer than {MAX_PIPELINE_BYTES} bytes"));
    }
    let sink = |name: &str| {
        text.split_whitespace().any(|w| w.strip_prefix("name=").is_some_and(|n| n.trim_matches(['"', '\'']) == name))
    };
    if !text.contains("appsink") || !sink("kept") {
        return Err("without \"appsink name=kept\", which takes the encoded frames".to_owned());
    }
    Ok(Some(text.to_owned()))
}
