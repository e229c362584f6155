//! Decoded pictures to H.264 without B-frames, one frame in for one frame out.
//!
//! The encoder runs on one thread, with its fixed quantiser (rate control would need frame skipping, which must not be)
//! and a fixed key-frame distance of two seconds, so that the same pictures give the same drive.

use std::path::{Path, PathBuf};

use agent_core::samples::{FrameMeta, VideoCodec};
use agent_core::time::MonoTime;
use openh264::OpenH264API;
use openh264::encoder::{Encoder, EncoderConfig, FrameRate, IntraFramePeriod, RateControlMode, UsageType, VuiConfig};
use openh264::formats::YUVSource;

use super::{ImportError, Item, Notes, bad};
use crate::h264::is_key;

/// A picture of even sides, YUV 4:2:0 without padding.
#[derive(Default)]
pub(crate) struct Picture {
    width: usize,
    height: usize,
    planes: [Vec<u8>; 3],
}

impl Picture {
    /// Takes over a picture, less the last column or row of odd sides; `None` if a plane is too short for it.
    pub(crate) fn copy_from(
        &mut self,
        (width, height): (usize, usize),
        planes: [&[u8]; 3],
        strides: [usize; 3],
    ) -> Option<()> {
        (self.width, self.height) = (width & !1, height & !1);
        let (w, h) = (self.width, self.height);
        let sizes = [(w, h), (w / 2, h / 2), (w / 2, h / 2)];
        for (((plane, from), stride), (w, h)) in self.planes.iter_mut().zip(planes).zip(strides).zip(sizes) {
            plane.clear();
            for row in 0..h {
                plane.extend_from_slice(from.get(row * stride..row * stride + w)?);
            }
        }
        Some(())
    }

    /// Whether it has this size.
    pub(crate) fn fits(&self, size: [u16; 2]) -> bool {
        (self.width, self.height) == (usize::from(size[0]), usize::from(size[1]))
    }
}

impl YUVSource for Picture {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.planes[0]
    }

    fn u(&self) -> &[u8] {
        &self.planes[1]
    }

    fn v(&self) -> &[u8] {
        &self.planes[2]
    }
}

/// Encodes the pictures of one video.
pub(crate) struct PictureEncoder {
    path: PathBuf,
    encoder: Encoder,
    size: [u16; 2],
}

impl PictureEncoder {
    /// An encoder for pictures of `size`; `fps` sets the distance of key frames. `vui` says what its colours are: left
    /// out where the source's colours are handed on as they are.
    pub(crate) fn new(path: &Path, size: [u16; 2], fps: f32, vui: Option<VuiConfig>) -> Result<Self, ImportError> {
        let fps = fps.clamp(1.0, 120.0);
        let config = EncoderConfig::new()
            .max_frame_rate(FrameRate::from_hz(fps))
            .usage_type(UsageType::CameraVideoRealTime)
            .rate_control_mode(RateControlMode::Off)
            .skip_frames(false)
            .scene_change_detect(false)
            .background_detection(false)
            .num_threads(1)
            .intra_frame_period(IntraFramePeriod::from_num_frames((fps * 2.0).round() as u32));
        let config = if let Some(vui) = vui { config.vui(vui) } else { config };
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|e| bad(path, format!("openh264 could not be started: {e}")))?;
        Ok(Self { path: path.to_owned(), encoder, size: size.map(|s| s & !1) })
    }

    /// The size of its frames.
    pub(crate) fn size(&self) -> [u16; 2] {
        self.size
    }

    /// Encodes one picture of its size; `None`, and a note, if the encoder gives nothing.
    pub(crate) fn encode(
        &mut self,
        picture: &Picture,
        t_ns: u64,
        seq: u64,
        notes: &mut Notes,
    ) -> Result<Option<Item>, ImportError> {
        let encoded = self.encoder.encode(picture);
        let data = encoded.map_err(|e| bad(&self.path, format!("frame {seq}: encoding: {e}")))?.to_vec();
        if data.is_empty() {
            notes.skip(|| format!("frame {seq}: the encoder left it out"));
            return Ok(None);
        }
        let meta = FrameMeta { t: MonoTime(t_ns), seq, codec: VideoCodec::H264, key: is_key(&data), size: self.size };
        Ok(Some(Item::Frame(meta, data)))
    }
}
