//! Raw pictures of a live camera to H.264 by OpenH264: one frame in for one frame out, at a rate that is held.
//!
//! Two threads, which suffice for 1280x720 at 30 a second on the boards that have no hardware encoder; no B-frames; a key
//! frame as often as the ring wants one.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, QpRange, RateControlMode,
    UsageType, VuiConfig,
};

use super::Fault;
use super::pixels::Yuv;

const THREADS: u16 = 2;

/// See the module.
pub(crate) struct LiveEncoder {
    encoder: Encoder,
}

impl LiveEncoder {
    /// An encoder for `fps` frames a second.
    pub(crate) fn new(fps: f32, bitrate_mbit_s: f32, key_every: u32) -> Result<Self, Fault> {
        let config = EncoderConfig::new()
            .max_frame_rate(FrameRate::from_hz(fps.clamp(1.0, 120.0)))
            .bitrate(BitRate::from_bps((f64::from(bitrate_mbit_s) * 1e6) as u32))
            .rate_control_mode(RateControlMode::Bitrate)
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            // The encoder's own upper end leaves noise at seven times the rate asked for.
            .qp(QpRange::new(10, 51))
            // A frame that is left out would be a frame lost.
            .skip_frames(false)
            // A key frame where the scene changes would only bring more of them than the ring wants.
            .scene_change_detect(false)
            .num_threads(THREADS)
            .vui(VuiConfig::bt601())
            .intra_frame_period(IntraFramePeriod::from_num_frames(key_every.max(1)));
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|e| Fault::Failed(format!("the H.264 encoder could not be started: {e}")))?;
        Ok(Self { encoder })
    }

    /// Encodes a picture into `out`; whether it is a key frame, or `None` if the encoder gave nothing.
    pub(crate) fn encode(&mut self, picture: &Yuv, out: &mut Vec<u8>) -> Result<Option<bool>, Fault> {
        out.clear();
        let encoded = self.encoder.encode(picture).map_err(|e| Fault::Failed(format!("encoding a frame: {e}")))?;
        let key = matches!(encoded.frame_type(), FrameType::IDR);
        encoded.write_vec(out);
        Ok((!out.is_empty()).then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pixels::Yuyv;
    use super::*;

    /// Pictures that cannot be foreseen, at a rate that would not hold them otherwise.
    #[test]
    fn the_rate_is_held_without_leaving_frames_out() {
        let mut encoder = LiveEncoder::new(30.0, 1.0, 30).unwrap();
        let (mut yuv, mut out, mut bytes) = (Yuv::default(), Vec::new(), 0);
        for frame in 0..90_u32 {
            let noise = (0..640 * 360_u32).flat_map(|p| {
                let n = (p ^ frame.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x85EB_CA6B) >> 24;
                [(64 + n / 2) as u8, 128]
            });
            let picture: Vec<u8> = noise.collect();
            yuv.take(&Yuyv::new((640, 360), 1280, &picture).unwrap());
            let key = encoder.encode(&yuv, &mut out).unwrap();
            assert_eq!(key, Some(frame % 30 == 0), "frame {frame}");
            bytes += if frame >= 30 { out.len() } else { 0 };
        }
        let mbit_s = bytes as f64 * 8.0 / 2.0 / 1e6;
        println!("{mbit_s:.2} Mbit/s for 1.0");
        assert!(mbit_s < 2.0, "{mbit_s}");
    }
}
