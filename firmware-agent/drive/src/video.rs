//! Decodes the frames of a drive to small RGB pictures, for the trigger model.
//!
//! H.264 by openh264 (a drive has no B-frames, so that each access unit gives its picture at once), JPEG by zune-jpeg. Scaling
//! is a box filter by a whole factor, straight from YUV 4:2:0 into one buffer that is kept; colours by BT.601, limited
//! range, which is what ffmpeg and OpenCV take for untagged streams. A damaged access unit is an error, counted, and
//! decoding resumes at the next key frame. H.265 needs a hardware decoder and is refused here by name.

use agent_core::samples::{FrameMeta, VideoCodec};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::h264::for_openh264;
use crate::limits::{MAX_PICTURE_SIDE, MAX_SMALL_WIDTH};

/// Why a frame gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No decoder for this codec is built in.
    #[error("no decoder for {0} is built in: only H.264 and JPEG are decoded in software")]
    Unsupported(&'static str),
    /// The decoder could not be made.
    #[error("the H.264 decoder could not be started: {0}")]
    Start(String),
    /// A frame of another codec than the decoder's.
    #[error("frame {seq} is {is}, the decoder is for {want}")]
    OtherCodec {
        /// Its sequence number.
        seq: u64,
        /// What it is.
        is: &'static str,
        /// What the decoder takes.
        want: &'static str,
    },
    /// The frame is damaged; decoding resumes at the next key frame.
    #[error("frame {seq} at {t}: damaged: {reason}")]
    Damaged {
        /// Its sequence number.
        seq: u64,
        /// Its time.
        t: agent_core::time::MonoTime,
        /// What the decoder said.
        reason: String,
    },
    /// The picture is larger than the limit, or has no pixels.
    #[error("frame {seq}: a picture of {width}x{height} is outside 2x2 to {MAX_PICTURE_SIDE}x{MAX_PICTURE_SIDE}")]
    Size {
        /// Its sequence number.
        seq: u64,
        /// Width, pixels.
        width: usize,
        /// Height, pixels.
        height: usize,
    },
}

/// Counts of a decoder since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DecodeStats {
    /// Pictures given out.
    pub decoded: u64,
    /// Damaged access units.
    pub damaged: u64,
    /// Frames passed over while waiting for a key frame.
    pub waited: u64,
}

/// A small picture: RGB24, interleaved, rows from the top, no padding. It borrows the decoder's buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmallFrame<'a> {
    /// The frame that it was decoded from.
    pub meta: FrameMeta,
    /// Width, pixels.
    pub width: u16,
    /// Height, pixels.
    pub height: u16,
    /// `3 * width * height` bytes.
    pub rgb: &'a [u8],
}

/// Decodes the frames of one camera, in order.
pub struct VideoDecoder {
    codec: VideoCodec,
    max_width: usize,
    h264: Option<Decoder>,
    wait_key: bool,
    /// Full-size RGB of a JPEG.
    full: Vec<u8>,
    rgb: Vec<u8>,
    unit: Vec<u8>,
    stats: DecodeStats,
}

impl VideoDecoder {
    /// A decoder whose pictures are at most `max_width` pixels wide (held to 16..=1920; the default use is 640): the
    /// full size divided by the smallest whole number that fits.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] for H.265, [`DecodeError::Start`].
    pub fn new(codec: VideoCodec, max_width: u16) -> Result<Self, DecodeError> {
        let h264 = match codec {
            VideoCodec::H264 => Some(start_h264()?),
            VideoCodec::Jpeg => None,
            VideoCodec::H265 => return Err(DecodeError::Unsupported("H.265")),
        };
        let max_width = usize::from(max_width.clamp(16, MAX_SMALL_WIDTH));
        let stats = DecodeStats::default();
        Ok(Self { codec, max_width, h264, wait_key: true, full: Vec::new(), rgb: Vec::new(), unit: Vec::new(), stats })
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> DecodeStats {
        self.stats
    }

    /// Decodes one frame. `None` for a frame that cannot be decoded without the key frame before it.
    ///
    /// # Errors
    /// [`DecodeError::Damaged`], [`DecodeError::Size`] or [`DecodeError::OtherCodec`]; all can be gone on from.
    pub fn decode(&mut self, meta: &FrameMeta, data: &[u8]) -> Result<Option<SmallFrame<'_>>, DecodeError> {
        if meta.codec != self.codec {
            let (is, want) = (crate::writer::codec_name(meta.codec), crate::writer::codec_name(self.codec));
            return Err(DecodeError::OtherCodec { seq: meta.seq, is, want });
        }
        let size = match self.codec {
            VideoCodec::Jpeg => self.decode_jpeg(meta, data).map(Some),
            _ => self.decode_h264(meta, data),
        };
        match size {
            Ok(Some((width, height))) => {
                self.stats.decoded += 1;
                let rgb = self.rgb.get(..3 * width * height).unwrap_or(&[]);
                Ok(Some(SmallFrame { meta: *meta, width: width as u16, height: height as u16, rgb }))
            }
            Ok(None) => {
                self.stats.waited += 1;
                Ok(None)
            }
            Err(e) => {
                self.stats.damaged += 1;
                self.wait_key = true;
                Err(e)
            }
        }
    }

    fn decode_h264(&mut self, meta: &FrameMeta, data: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
        let damaged = |reason: String| DecodeError::Damaged { seq: meta.seq, t: meta.t, reason };
        if self.wait_key {
            if !meta.key {
                return Ok(None);
            }
            // A fresh decoder: what a damaged unit left behind in the old one is not known.
            if self.stats.damaged > 0 {
                self.h264 = Some(start_h264()?);
            }
            self.wait_key = false;
        }
        let Some(decoder) = &mut self.h264 else { return Ok(None) };
        for_openh264(data, &mut self.unit);
        let picture = decoder.decode(&self.unit).map_err(|e| damaged(e.to_string()))?;
        let picture = picture.ok_or_else(|| damaged("the access unit holds no whole picture".to_owned()))?;
        let (width, height) = check_size(meta.seq, picture.dimensions())?;
        let k = width.div_ceil(self.max_width);
        let planes = Planes { y: picture.y(), u: picture.u(), v: picture.v(), strides: picture.strides() };
        shrink_yuv(&planes, width, height, k, &mut self.rgb).ok_or_else(|| damaged("short planes".to_owned()))?;
        Ok(Some((width / k, height / k)))
    }

    fn decode_jpeg(&mut self, meta: &FrameMeta, data: &[u8]) -> Result<(usize, usize), DecodeError> {
        let damaged = |e: zune_jpeg::errors::DecodeErrors| DecodeError::Damaged {
            seq: meta.seq,
            t: meta.t,
            reason: e.to_string(),
        };
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .set_max_width(MAX_PICTURE_SIDE)
            .set_max_height(MAX_PICTURE_SIDE);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
        decoder.decode_headers().map_err(damaged)?;
        let dimensions = decoder.info().map_or((0, 0), |i| (usize::from(i.width), usize::from(i.height)));
        let (width, height) = check_size(meta.seq, dimensions)?;
        self.full.resize(3 * width * height, 0);
        decoder.decode_into(&mut self.full).map_err(damaged)?;
        let k = width.div_ceil(self.max_width);
        shrink_rgb(&self.full, width, height, k, &mut self.rgb);
        Ok((width / k, height / k))
    }
}

fn start_h264() -> Result<Decoder, DecodeError> {
    Decoder::new().map_err(|e| DecodeError::Start(e.to_string()))
}

fn check_size(seq: u64, (width, height): (usize, usize)) -> Result<(usize, usize), DecodeError> {
    let fits = |n: usize| (2..=MAX_PICTURE_SIDE).contains(&n);
    if fits(width) && fits(height) { Ok((width, height)) } else { Err(DecodeError::Size { seq, width, height }) }
}

/// The planes of a YUV 4:2:0 picture.
struct Planes<'a> {
    y: &'a [u8],
    u: &'a [u8],
    v: &'a [u8],
    strides: (usize, usize, usize),
}

/// Averages `k` by `k` boxes of a `width` by `height` picture into RGB; `None` if the planes are too short for it.
fn shrink_yuv(p: &Planes<'_>, width: usize, height: usize, k: usize, rgb: &mut Vec<u8>) -> Option<()> {
    let (out_w, out_h) = (width / k, height / k);
    rgb.resize(3 * out_w * out_h, 0);
    let (sy, su, sv) = p.strides;
    for (y, out) in rgb.chunks_exact_mut(3 * out_w).enumerate() {
        let chroma_rows = (y * k / 2)..((y + 1) * k).div_ceil(2).max(y * k / 2 + 1);
        for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
            let columns = x * k..(x + 1) * k;
            let chroma_columns = (columns.start / 2)..columns.end.div_ceil(2);
            let luma = mean(p.y, sy, y * k..(y + 1) * k, columns)?;
            let u = mean(p.u, su, chroma_rows.clone(), chroma_columns.clone())?;
            let v = mean(p.v, sv, chroma_rows.clone(), chroma_columns)?;
            pixel.copy_from_slice(&bt601(luma, u, v));
        }
    }
    Some(())
}

/// The rounded mean of a box of a plane. Odd sizes: the last chroma sample may lie outside the plane; it is left out.
#[inline]
fn mean(plane: &[u8], stride: usize, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Option<i32> {
    let (mut sum, mut n) = (0u32, 0u32);
    for row in rows {
        let at = row * stride;
        let Some(line) = plane.get(at + columns.start..at + columns.end) else { continue };
        sum += line.iter().map(|b| u32::from(*b)).sum::<u32>();
        n += line.len() as u32;
    }
    (sum + n / 2).checked_div(n).map(|v| v as i32)
}

/// BT.601 limited range to RGB, in 1/256 (ITU-R BT.601, as in every integer implementation of it).
#[inline]
fn bt601(y: i32, u: i32, v: i32) -> [u8; 3] {
    let (c, d, e) = (298 * (y - 16) + 128, u - 128, v - 128);
    [c + 409 * e, c - 100 * d - 208 * e, c + 516 * d].map(|s| (s >> 8).clamp(0, 255) as u8)
}

fn shrink_rgb(full: &[u8], width: usize, height: usize, k: usize, rgb: &mut Vec<u8>) {
    let (out_w, out_h) = (width / k, height / k);
    rgb.resize(3 * out_w * out_h, 0);
    let area = (k * k) as u32;
    for (y, out) in rgb.chunks_exact_mut(3 * out_w).enumerate() {
        for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
            let mut sum = [area / 2; 3];
            for line in full.chunks_exact(3 * width).skip(y * k).take(k) {
                for source in line.chunks_exact(3).skip(x * k).take(k) {
                    for (s, b) in sum.iter_mut().zip(source) {
                        *s += u32::from(*b);
                    }
                }
            }
            for (p, s) in pixel.iter_mut().zip(sum) {
                *p = (s / area) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_and_primary_colours_come_out_as_bt601_says() {
        assert_eq!(bt601(16, 128, 128), [0, 0, 0]);
        assert_eq!(bt601(235, 128, 128), [255, 255, 255]);
        // Pure red is Y 81, Cb 90, Cr 240.
        assert_eq!(bt601(81, 90, 240), [255, 0, 0]);
    }

    #[test]
    fn boxes_of_any_factor_average_their_own_pixels() {
        // Columns 0 to 5 have luma 16 * (column + 1), rows alike; chroma is grey.
        let y: Vec<u8> = (0..6 * 6).map(|i| 16 * (i % 6 + 1) as u8).collect();
        let grey = [128u8; 9];
        let planes = Planes { y: &y, u: &grey, v: &grey, strides: (6, 3, 3) };
        for k in 1..=6 {
            let mut rgb = Vec::new();
            shrink_yuv(&planes, 6, 6, k, &mut rgb).unwrap();
            assert_eq!(rgb.len(), 3 * (6 / k) * (6 / k));
            for (x, pixel) in rgb.chunks_exact(3).take(6 / k).enumerate() {
                let mean = (x * k..(x + 1) * k).map(|c| 16 * (c + 1)).sum::<usize>() as f64 / k as f64;
                let want = ((mean - 16.0) * 255.0 / 219.0).clamp(0.0, 255.0);
                assert!((f64::from(pixel[0]) - want).abs() <= 2.0, "k {k} x {x}: {} for {want}", pixel[0]);
            }
        }
    }
}
