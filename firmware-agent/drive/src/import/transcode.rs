//! H.264 with B-frames, decoded and encoded anew without them, one frame in for one frame out.
//!
//! Each access unit gives its own picture at once (see `for_openh264`), so a picture is known by its sample, whatever the decoder thinks of its display order. Pictures wait in a
//! small pool until their time is the next of all. The encoder runs on one thread, with its fixed quantiser (rate
//! control would need frame skipping, which must not be) and a fixed key-frame distance of two seconds, so
//! that the same clip gives the same drive.

use agent_core::samples::{FrameMeta, VideoCodec};
use agent_core::time::MonoTime;
use openh264::OpenH264API;
use openh264::decoder::Decoder;
use openh264::encoder::{Encoder, EncoderConfig, FrameRate, IntraFramePeriod, RateControlMode, UsageType};
use openh264::formats::YUVSource;

use super::mp4::Track;
use super::{ImportError, Item, Notes, Source, bad};
use crate::h264::{for_openh264, is_key};
use crate::info::CameraInfo;
use crate::limits::MAX_REORDER;

/// A picture of even sides, YUV 4:2:0 without padding.
#[derive(Default)]
struct Picture {
    sample: usize,
    t_ns: u64,
    width: usize,
    height: usize,
    planes: [Vec<u8>; 3],
}

impl Picture {
    fn copy_from(&mut self, source: &impl YUVSource) -> Option<()> {
        let (width, height) = source.dimensions();
        (self.width, self.height) = (width & !1, height & !1);
        let (sy, su, sv) = source.strides();
        let (w, h) = (self.width, self.height);
        let jobs = [(source.y(), sy, w, h), (source.u(), su, w / 2, h / 2), (source.v(), sv, w / 2, h / 2)];
        for (plane, (from, stride, w, h)) in self.planes.iter_mut().zip(jobs) {
            plane.clear();
            for row in 0..h {
                plane.extend_from_slice(from.get(row * stride..row * stride + w)?);
            }
        }
        Some(())
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

pub(crate) struct Transcoder {
    track: Track,
    decoder: Decoder,
    encoder: Encoder,
    size: [u16; 2],
    /// Samples in presentation order, and the next of them to come out.
    order: Vec<usize>,
    next_out: usize,
    next_in: usize,
    waiting: Vec<Picture>,
    pool: Vec<Picture>,
    avcc: Vec<u8>,
    unit: Vec<u8>,
    fed: Vec<u8>,
    notes: Notes,
}

impl Transcoder {
    pub(crate) fn new(track: Track) -> Result<Self, ImportError> {
        let fail = |e: openh264::Error| bad(&track.path, format!("openh264 could not be started: {e}"));
        let size = track.size.map(|s| s & !1);
        let fps = track.fps.clamp(1.0, 120.0);
        let config = EncoderConfig::new()
            .max_frame_rate(FrameRate::from_hz(fps))
            .usage_type(UsageType::CameraVideoRealTime)
            .rate_control_mode(RateControlMode::Off)
            .skip_frames(false)
            .scene_change_detect(false)
            .background_detection(false)
            .num_threads(1)
            .intra_frame_period(IntraFramePeriod::from_num_frames((fps * 2.0).round() as u32));
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(fail)?;
        let decoder = Decoder::new().map_err(fail)?;
        let mut order: Vec<usize> = (0..track.samples.len()).collect();
        order.sort_by_key(|i| track.samples.get(*i).map(|s| s.t_ns));
        let mut notes = Notes::default();
        notes.say("it has B-frames: its pictures were decoded and encoded anew without them".to_owned());
        Ok(Self {
            track,
            decoder,
            encoder,
            size,
            order,
            next_out: 0,
            next_in: 0,
            waiting: Vec::with_capacity(MAX_REORDER + 1),
            pool: Vec::new(),
            avcc: Vec::new(),
            unit: Vec::new(),
            fed: Vec::new(),
            notes,
        })
    }

    /// Decodes the next sample; a picture joins those that wait.
    fn decode_next(&mut self) -> Result<(), ImportError> {
        let i = self.next_in;
        self.next_in += 1;
        let Some(sample) = self.track.samples.get(i).copied() else { return Ok(()) };
        if !self.track.read(i, &mut self.avcc)? || !self.track.avc.annex_b(&self.avcc, &mut self.unit) {
            self.notes.skip(|| format!("frame {i} at byte {} is cut off or malformed", sample.offset));
            return Ok(());
        }
        let mut picture = self.pool.pop().unwrap_or_default();
        (picture.sample, picture.t_ns) = (i, sample.t_ns);
        for_openh264(&self.unit, &mut self.fed);
        match self.decoder.decode(&self.fed) {
            Ok(Some(yuv)) if picture.copy_from(&yuv).is_some() && fits(&picture, self.size) => {
                self.waiting.push(picture)
            }
            Ok(_) => self.notes.skip(|| format!("frame {i}: no picture of the track's size")),
            Err(e) => self.notes.skip(|| format!("frame {i}: {e}")),
        }
        Ok(())
    }

    fn encode(&mut self, picture: Picture, seq: u64) -> Result<Option<Item>, ImportError> {
        let encoded = self.encoder.encode(&picture);
        let encoded = encoded.map_err(|e| bad(&self.track.path, format!("frame {}: encoding: {e}", picture.sample)))?;
        let data = encoded.to_vec();
        let t = MonoTime(picture.t_ns);
        self.pool.push(picture);
        if data.is_empty() {
            self.notes.skip(|| format!("frame {seq}: the encoder left it out"));
            return Ok(None);
        }
        let meta = FrameMeta { t, seq, codec: VideoCodec::H264, key: is_key(&data), size: self.size };
        Ok(Some(Item::Frame(meta, data)))
    }
}

fn fits(picture: &Picture, size: [u16; 2]) -> bool {
    picture.dimensions() == (usize::from(size[0]), usize::from(size[1]))
}

impl Source for Transcoder {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        while let Some(wanted) = self.order.get(self.next_out).copied() {
            if let Some(at) = self.waiting.iter().position(|p| p.sample == wanted) {
                let picture = self.waiting.swap_remove(at);
                let seq = self.next_out as u64;
                self.next_out += 1;
                if let Some(item) = self.encode(picture, seq)? {
                    return Ok(Some(item));
                }
            } else if self.next_in > wanted {
                // It was decoded in vain, and counted then.
                self.next_out += 1;
            } else if self.waiting.len() > MAX_REORDER {
                let at = self.next_in;
                return Err(bad(&self.track.path, format!("frame {at}: more than {MAX_REORDER} frames out of order")));
            } else {
                self.decode_next()?;
            }
        }
        Ok(None)
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    fn camera(&self) -> Option<(CameraInfo, bool)> {
        let [width, height] = self.size;
        Some((CameraInfo { width, height, fps: self.track.fps, hfov_deg: None }, true))
    }
}
