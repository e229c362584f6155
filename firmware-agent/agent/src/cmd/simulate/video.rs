//! Pictures to H.264 as a camera's encoder makes it: no B-frames, a key frame every two seconds, one thread, a fixed
//! quantiser, so that the same pictures give the same bytes.

use agent_core::samples::{FrameMeta, VideoCodec};
use agent_core::time::MonoTime;
use anyhow::Context as _;
use openh264::OpenH264API;
use openh264::encoder::{Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, RateControlMode, UsageType};
use openh264::formats::YUVSource;

/// A picture in YUV 4:2:0 by BT.601, limited range.
struct Yuv {
    size: [usize; 2],
    planes: [Vec<u8>; 3],
}

impl YUVSource for Yuv {
    fn dimensions(&self) -> (usize, usize) {
        (self.size[0], self.size[1])
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.size[0], self.size[0] / 2, self.size[0] / 2)
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

impl Yuv {
    fn new(size: [usize; 2]) -> Self {
        let n = size[0] * size[1];
        Self { size, planes: [vec![0; n], vec![0; n / 4], vec![0; n / 4]] }
    }

    /// Takes over a picture; whole numbers only, so that the bytes are the same everywhere.
    fn take(&mut self, rgb: &[u8]) {
        let width = self.size[0];
        let [y, u, v] = &mut self.planes;
        for (out, p) in y.iter_mut().zip(rgb.chunks_exact(3)) {
            let [r, g, b] = [p[0], p[1], p[2]].map(i32::from);
            *out = ((66 * r + 129 * g + 25 * b + 128) / 256 + 16) as u8;
        }
        let rows = rgb.chunks_exact(width * 6);
        for ((two, u), v) in rows.zip(u.chunks_exact_mut(width / 2)).zip(v.chunks_exact_mut(width / 2)) {
            let (upper, lower) = two.split_at(width * 3);
            let squares = upper.chunks_exact(6).zip(lower.chunks_exact(6));
            for (((a, b), u), v) in squares.zip(u).zip(v) {
                let sum = |i: usize| i32::from(a[i]) + i32::from(a[i + 3]) + i32::from(b[i]) + i32::from(b[i + 3]);
                let [r, g, b] = [sum(0), sum(1), sum(2)];
                // Sums of four: the divisor is 4 * 256, and the offset 128 keeps the numerator above 0.
                *u = ((-38 * r - 74 * g + 112 * b + 512 + 131_072) / 1024) as u8;
                *v = ((112 * r - 94 * g - 18 * b + 512 + 131_072) / 1024) as u8;
            }
        }
    }
}

/// Encodes the pictures of one drive.
pub(super) struct VideoEncoder {
    encoder: Encoder,
    yuv: Yuv,
    size: [u16; 2],
    left_out: u64,
}

impl VideoEncoder {
    pub(super) fn new(size: [u16; 2], fps: f64) -> anyhow::Result<Self> {
        let fps = fps.clamp(1.0, 120.0) as f32;
        let config = EncoderConfig::new()
            .max_frame_rate(FrameRate::from_hz(fps))
            .usage_type(UsageType::CameraVideoRealTime)
            .rate_control_mode(RateControlMode::Off)
            .skip_frames(false)
            .scene_change_detect(false)
            .background_detection(false)
            .num_threads(1)
            .intra_frame_period(IntraFramePeriod::from_num_frames((fps * 2.0).round() as u32));
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .context("the H.264 encoder could not be started")?;
        Ok(Self { encoder, yuv: Yuv::new(size.map(usize::from)), size, left_out: 0 })
    }

    /// Encodes a picture of the encoder's size; `None` if the encoder gives nothing, which is counted.
    pub(super) fn encode(&mut self, rgb: &[u8], t: MonoTime, seq: u64) -> anyhow::Result<Option<(FrameMeta, Vec<u8>)>> {
        self.yuv.take(rgb);
        let encoded = self.encoder.encode(&self.yuv).with_context(|| format!("encoding frame {seq}"))?;
        let key = matches!(encoded.frame_type(), FrameType::IDR);
        let data = encoded.to_vec();
        if data.is_empty() {
            self.left_out += 1;
            return Ok(None);
        }
        Ok(Some((FrameMeta { t, seq, codec: VideoCodec::H264, key, size: self.size }, data)))
    }

    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_what_bt_601_says() {
        let mut yuv = Yuv::new([2, 2]);
        for (rgb, expected) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [82, 90, 240]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            yuv.take(&rgb.repeat(4));
            let got = [yuv.planes[0][3], yuv.planes[1][0], yuv.planes[2][0]];
            assert!(got.iter().zip(expected).all(|(g, e)| g.abs_diff(e) <= 1), "{rgb:?}: {got:?}");
        }
    }
}
