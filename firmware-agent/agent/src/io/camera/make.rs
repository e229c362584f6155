//! From the configuration to a camera.

use std::io::Read as _;
use std::path::Path;

use super::Camera;
#[cfg(any(feature = "v4l2", feature = "gstreamer"))]
use super::clock::monotonic_now;
use super::presets::Frames;
use crate::config::Config;
use crate::config::camera::CameraKind;
#[cfg(feature = "gstreamer")]
use crate::config::camera::Encoder;

/// Largest file with user and password.
const MAX_CREDENTIALS: u64 = 1024;

/// The configured camera, not yet opened; `None` if there is to be none.
///
/// # Errors
/// Why this program cannot have it, in words.
pub(crate) fn camera(config: &Config) -> Result<Option<Box<dyn Camera + Send>>, String> {
    match config.sources.camera.kind {
        CameraKind::None => Ok(None),
        CameraKind::V4l2 => v4l2(config).map(Some),
        _ => gstreamer(config).map(Some),
    }
}

/// Small pictures and key frames as the rings want them.
#[cfg_attr(not(any(feature = "v4l2", feature = "gstreamer")), allow(dead_code, reason = "no camera is built in"))]
pub(crate) fn frames(config: &Config) -> Frames {
    let (camera, rings) = (&config.sources.camera, &config.rings);
    Frames {
        small: fit([camera.width, camera.height], [rings.small_frame_width, rings.small_frame_height]),
        key_every: camera.fps.saturating_mul(rings.key_frame_max_s).max(1),
    }
}

/// The largest even size of the same shape within `most`, not larger than the picture itself.
fn fit([width, height]: [u32; 2], most: [u32; 2]) -> [u32; 2] {
    let (width, height) = (width.max(1), height.max(1));
    let wide = u64::from(most[0].min(width)).min(u64::from(most[1]) * u64::from(width) / u64::from(height));
    let high = wide * u64::from(height) / u64::from(width);
    [wide, high].map(|side| (side as u32 & !1).max(16))
}

#[cfg(feature = "v4l2")]
fn v4l2(config: &Config) -> Result<Box<dyn Camera + Send>, String> {
    let camera = &config.sources.camera;
    let device = camera.device.as_deref().ok_or("sources.camera.device is none")?;
    let frames = frames(config);
    Ok(Box::new(super::v4l2::device::V4l2Camera {
        path: config.resolve(device),
        format: camera.format,
        size: [camera.width, camera.height],
        fps: camera.fps,
        making: super::v4l2::Making {
            bitrate_mbit_s: camera.bitrate_mbit_s,
            key_every: frames.key_every,
            small_width: config.rings.small_frame_width as usize,
        },
        now: monotonic_now,
    }))
}

#[cfg(not(feature = "v4l2"))]
fn v4l2(_: &Config) -> Result<Box<dyn Camera + Send>, String> {
    Err("sources.camera.kind is v4l2, and this program was built without V4L2 (feature v4l2)".to_owned())
}

#[cfg(feature = "gstreamer")]
fn gstreamer(config: &Config) -> Result<Box<dyn Camera + Send>, String> {
    // Paths are given to GStreamer as they are opened.
    let mut camera = config.sources.camera.clone();
    camera.device = camera.device.map(|path| config.resolve(&path));
    camera.file = camera.file.map(|path| config.resolve(&path));
    let credentials = match &camera.credentials {
        Some(path) => Some(credentials(&config.resolve(path))?),
        None => None,
    };
    // Which encoder `auto` means is asked when it is opened: a first look at all that is installed takes GStreamer seconds, for which no
    // other sensor waits.
    let frames = frames(config);
    super::presets::preset(&camera, &frames, Encoder::X264enc).ok_or(super::presets::TOO_LITTLE)?;
    let name = match (camera.kind, &camera.device, &camera.file, &camera.url) {
        (CameraKind::Usb, Some(path), ..) | (CameraKind::File, _, Some(path), _) => path.display().to_string(),
        (CameraKind::Rtsp, _, _, Some(url)) => url.clone(),
        (CameraKind::Csi, ..) => format!("CSI sensor {}", camera.sensor_id),
        _ => "camera".to_owned(),
    };
    let small_width = u16::try_from(config.rings.small_frame_width).unwrap_or(u16::MAX);
    let (fps, now) = (camera.fps as f32, monotonic_now as fn() -> _);
    Ok(Box::new(super::gst::GstCamera { name, camera, frames, credentials, fps, small_width, now }))
}

#[cfg(not(feature = "gstreamer"))]
fn gstreamer(config: &Config) -> Result<Box<dyn Camera + Send>, String> {
    // The file is looked at all the same, so that what is wrong with it is said by any build.
    if let Some(path) = &config.sources.camera.credentials {
        credentials(&config.resolve(path))?;
    }
    Err("sources.camera.kind is one of GStreamer's, and this program was built without it (feature gstreamer)"
        .to_owned())
}

/// One line, `user:password`. Never says what stands in it.
fn credentials(path: &Path) -> Result<(String, String), String> {
    let unreadable = |why: &dyn std::fmt::Display| format!("sources.camera.credentials: {}: {why}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| unreadable(&e))?;
    file.take(MAX_CREDENTIALS).read_to_string(&mut text).map_err(|e| unreadable(&e))?;
    let (user, password) = text.trim_end_matches(['\r', '\n']).split_once(':').unwrap_or(("", ""));
    if user.is_empty() || text.trim_end().contains('\n') {
        return Err(unreadable(&"not one line of the form user:password"));
    }
    Ok((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_have_the_shape_of_the_camera_and_fit_the_pool() {
        assert_eq!(fit([1280, 720], [640, 360]), [640, 360]);
        assert_eq!(fit([1920, 1080], [640, 360]), [640, 360]);
        assert_eq!(fit([640, 480], [640, 360]), [480, 360], "4:3 keeps its shape");
        assert_eq!(fit([320, 180], [640, 360]), [320, 180], "never made larger");
        assert_eq!(fit([4096, 64], [640, 360]), [640, 16]);
        assert_eq!(fit([0, 0], [0, 0]), [16, 16]);
    }

    #[test]
    fn credentials_are_one_line_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("camera.secret");
        std::fs::write(&path, "viewer:pass:word\n").unwrap();
        assert_eq!(credentials(&path), Ok(("viewer".to_owned(), "pass:word".to_owned())));
        for text in ["secretword", ":secretword", "a:secretword\nb:c", ""] {
            std::fs::write(&path, text).unwrap();
            let error = credentials(&path).unwrap_err();
            assert!(error.contains("user:password") && !error.contains("secretword"), "{error}");
        }
        assert!(credentials(&folder.path().join("none")).is_err());
    }
}
