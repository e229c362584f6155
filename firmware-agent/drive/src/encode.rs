//! Pictures to H.264 as a camera's encoder makes it: no B-frames, one frame in for one frame out.
//!
//! The encoder runs on one thread, with its fixed quantiser (rate control would need frame skipping, which must not be)
//! and a fixed key-frame distance of two seconds, so that the same pictures give the same bytes.

use agent_core::samples::{FrameMeta, VideoCodec};
use agent_core::time::MonoTime;
use openh264::OpenH264API;
use openh264::encoder::{Encoder, EncoderConfig, FrameRate, IntraFramePeriod, RateControlMode, UsageType, VuiConfig};
use openh264::formats::YUVSource;

use crate::h264::is_key;

/// A picture was not encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The encoder could not be started.
    #[error("openh264 could not be started: {0}")]
    Start(String),
    /// The encoder refused a picture.
    #[error("frame {seq}: encoding: {why}")]
    Frame {
        /// The frame's number.
        seq: u64,
        /// What the encoder says.
        why: String,
    },
    /// The picture's bytes are not those of its size, or the size is not the encoder's.
    #[error("frame {seq}: not a picture of {}x{}", size[0], size[1])]
    Size {
        /// The frame's number.
        seq: u64,
        /// The size it should have.
        size: [u16; 2],
    },
}

/// A picture of even sides, YUV 4:2:0 without padding.
#[derive(Debug, Default)]
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

    /// Takes over an RGB picture of even sides, by BT.601 in limited range; `None` if the bytes are not of that size.
    /// Whole numbers only, so that the bytes are the same everywhere.
    pub(crate) fn copy_from_rgb(&mut self, size: [u16; 2], rgb: &[u8]) -> Option<()> {
        let [w, h] = size.map(usize::from);
        if w % 2 + h % 2 > 0 || w * h == 0 || rgb.len() != w * h * 3 {
            return None;
        }
        (self.width, self.height) = (w, h);
        let [y, u, v] = &mut self.planes;
        y.resize(w * h, 0);
        u.resize(w * h / 4, 0);
        v.resize(w * h / 4, 0);
        for (out, p) in y.iter_mut().zip(rgb.as_chunks::<3>().0) {
            let [r, g, b] = p.map(i32::from);
            *out = ((66 * r + 129 * g + 25 * b + 128) / 256 + 16) as u8;
        }
        let rows = rgb.chunks_exact(w * 6);
        for ((two, u), v) in rows.zip(u.chunks_exact_mut(w / 2)).zip(v.chunks_exact_mut(w / 2)) {
            let (upper, lower) = two.split_at(w * 3);
            let squares = upper.chunks_exact(6).zip(lower.chunks_exact(6));
            for (((a, b), u), v) in squares.zip(u).zip(v) {
                let sum = |i: usize| i32::from(a[i]) + i32::from(a[i + 3]) + i32::from(b[i]) + i32::from(b[i + 3]);
                let [r, g, b] = [sum(0), sum(1), sum(2)];
                // Sums of four: the divisor is 4 * 256, and the offset 128 keeps the numerator above 0.
                *u = ((-38 * r - 74 * g + 112 * b + 512 + 131_072) / 1024) as u8;
                *v = ((112 * r - 94 * g - 18 * b + 512 + 131_072) / 1024) as u8;
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
pub struct PictureEncoder {
    encoder: Encoder,
    size: [u16; 2],
    /// The picture of [`PictureEncoder::encode_rgb`], whose planes are allocated once.
    picture: Picture,
}

impl std::fmt::Debug for PictureEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PictureEncoder").field("size", &self.size).finish_non_exhaustive()
    }
}

impl PictureEncoder {
    /// An encoder for pictures of `size`, less the last column or row of odd sides; `fps` sets the distance of key frames.
    /// The video does not say what its colours are.
    ///
    /// # Errors
    /// [`EncodeError::Start`].
    pub fn new(size: [u16; 2], fps: f32) -> Result<Self, EncodeError> {
        Self::with_colours(size, fps, None)
    }

    /// The same; `vui` says what the colours are: left out where the source's colours are handed on as they are.
    pub(crate) fn with_colours(size: [u16; 2], fps: f32, vui: Option<VuiConfig>) -> Result<Self, EncodeError> {
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
            .map_err(|e| EncodeError::Start(e.to_string()))?;
        Ok(Self { encoder, size: size.map(|s| s & !1), picture: Picture::default() })
    }

    /// The size of its frames.
    #[must_use]
    pub fn size(&self) -> [u16; 2] {
        self.size
    }

    /// Encodes an RGB picture of its size, row after row, three bytes a pixel; `None` if the encoder gives nothing.
    ///
    /// # Errors
    /// [`EncodeError::Size`] for a picture of another size, [`EncodeError::Frame`].
    pub fn encode_rgb(
        &mut self,
        rgb: &[u8],
        t: MonoTime,
        seq: u64,
    ) -> Result<Option<(FrameMeta, Vec<u8>)>, EncodeError> {
        let mut picture = std::mem::take(&mut self.picture);
        let taken = picture.copy_from_rgb(self.size, rgb).ok_or(EncodeError::Size { seq, size: self.size });
        let encoded = taken.and_then(|()| self.encode(&picture, t, seq));
        self.picture = picture;
        encoded
    }

    /// Encodes one picture of its size; `None` if the encoder gives nothing.
    pub(crate) fn encode(
        &mut self,
        picture: &Picture,
        t: MonoTime,
        seq: u64,
    ) -> Result<Option<(FrameMeta, Vec<u8>)>, EncodeError> {
        let encoded = self.encoder.encode(picture);
        let data = encoded.map_err(|e| EncodeError::Frame { seq, why: e.to_string() })?.to_vec();
        if data.is_empty() {
            return Ok(None);
        }
        let meta = FrameMeta { t, seq, codec: VideoCodec::H264, key: is_key(&data), size: self.size };
        Ok(Some((meta, data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_what_bt_601_says() {
        let mut picture = Picture::default();
        for (rgb, expected) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [82, 90, 240]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            picture.copy_from_rgb([2, 2], &rgb.repeat(4)).unwrap();
            let got = [picture.planes[0][3], picture.planes[1][0], picture.planes[2][0]];
            assert!(got.iter().zip(expected).all(|(g, e)| g.abs_diff(e) <= 1), "{rgb:?}: {got:?}");
        }
    }

    #[test]
    fn frames_are_keys_every_two_seconds_and_of_the_encoders_size_alone() {
        let mut encoder = PictureEncoder::new([33, 16], 2.0).unwrap();
        assert_eq!(encoder.size(), [32, 16]);
        for bytes in [0, 32 * 16 * 3 - 1, 33 * 16 * 3] {
            let refused = encoder.encode_rgb(&vec![0; bytes], MonoTime(0), 7).unwrap_err();
            assert_eq!(refused.to_string(), "frame 7: not a picture of 32x16");
        }
        let picture = |seq: u64| (0..32 * 16 * 3).map(|i| (i * 5 + seq * 3) as u8).collect::<Vec<u8>>();
        let mut keys = Vec::new();
        for seq in 0..9 {
            let (meta, data) = encoder.encode_rgb(&picture(seq), MonoTime(seq * 500_000_000), seq).unwrap().unwrap();
            assert_eq!((meta.seq, meta.size, meta.t), (seq, [32, 16], MonoTime(seq * 500_000_000)));
            assert!(!data.is_empty());
            keys.extend(meta.key.then_some(seq));
        }
        assert_eq!(keys, [0, 4, 8]);
    }
}
