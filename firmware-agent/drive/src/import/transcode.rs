//! H.264 that cannot be kept as it is, decoded and encoded anew: with B-frames, or whose first shown frame is no key frame.
//!
//! Each access unit gives its own picture at once (see `for_openh264`), so a picture is known by its sample, whatever the
//! decoder thinks of its display order. Pictures wait in a small pool until their time is the next of all; those
//! that the file's edit list hides are decoded for the sake of the others, and dropped.

use agent_core::time::MonoTime;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use super::mp4::Track;
use super::{ImportError, Item, Notes, Source, bad, encoded};
use crate::encode::{Picture, PictureEncoder};
use crate::h264::for_openh264;
use crate::info::CameraInfo;
use crate::limits::MAX_REORDER;

#[derive(Default)]
struct Waiting {
    sample: usize,
    picture: Picture,
}

pub(crate) struct Transcoder {
    track: Track,
    decoder: Decoder,
    encoder: PictureEncoder,
    /// Samples that are shown, in presentation order, and the next of them to come out.
    order: Vec<usize>,
    next_out: usize,
    next_in: usize,
    waiting: Vec<Waiting>,
    pool: Vec<Waiting>,
    avcc: Vec<u8>,
    unit: Vec<u8>,
    fed: Vec<u8>,
    notes: Notes,
}

impl Transcoder {
    pub(crate) fn new(track: Track, mut notes: Notes, why: &str) -> Result<Self, ImportError> {
        let encoder = PictureEncoder::new(track.size, track.fps).map_err(|e| bad(&track.path, e.to_string()))?;
        let decoder = Decoder::new().map_err(|e| bad(&track.path, format!("openh264 could not be started: {e}")))?;
        let shown = |i: &usize| track.samples.get(*i).is_some_and(|s| s.shown);
        let mut order: Vec<usize> = (0..track.samples.len()).filter(shown).collect();
        order.sort_by_key(|i| track.samples.get(*i).map(|s| s.t_ns));
        notes.say(format!("{why}: its pictures were decoded and encoded anew"));
        Ok(Self {
            track,
            decoder,
            encoder,
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

    /// Decodes the next sample; a picture that is shown joins those that wait.
    fn decode_next(&mut self) -> Result<(), ImportError> {
        let i = self.next_in;
        self.next_in += 1;
        let Some(sample) = self.track.samples.get(i).copied() else { return Ok(()) };
        if !self.track.read(i, &mut self.avcc)? || !self.track.avc.annex_b(&self.avcc, &mut self.unit) {
            self.notes.skip(|| format!("frame {i} at byte {} is cut off or malformed", sample.offset));
            return Ok(());
        }
        let mut new = self.pool.pop().unwrap_or_default();
        new.sample = i;
        for_openh264(&self.unit, &mut self.fed);
        match self.decoder.decode(&self.fed) {
            Ok(_) if !sample.shown => self.pool.push(new),
            Ok(Some(yuv)) => {
                let (y, u, v) = yuv.strides();
                let taken = new.picture.copy_from(yuv.dimensions(), [yuv.y(), yuv.u(), yuv.v()], [y, u, v]);
                if taken.is_some() && new.picture.fits(self.encoder.size()) {
                    self.waiting.push(new);
                } else {
                    self.notes.skip(|| format!("frame {i}: no picture of the track's size"));
                }
            }
            Ok(None) => self.notes.skip(|| format!("frame {i}: no picture")),
            Err(e) => self.notes.skip(|| format!("frame {i}: {e}")),
        }
        Ok(())
    }
}

impl Source for Transcoder {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        while let Some(wanted) = self.order.get(self.next_out).copied() {
            if let Some(at) = self.waiting.iter().position(|w| w.sample == wanted) {
                let found = self.waiting.swap_remove(at);
                let seq = self.next_out as u64;
                self.next_out += 1;
                let t_ns = self.track.samples.get(wanted).map_or(0, |s| s.t_ns);
                let frame = self.encoder.encode(&found.picture, MonoTime(t_ns), seq);
                let item = encoded(frame, &self.track.path, seq, &mut self.notes)?;
                self.pool.push(found);
                if item.is_some() {
                    return Ok(item);
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
        let [width, height] = self.encoder.size();
        Some((CameraInfo { width, height, fps: self.track.fps, hfov_deg: None }, true))
    }
}
