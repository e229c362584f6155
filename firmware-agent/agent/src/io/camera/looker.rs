//! The second thread of a camera: pictures to look at, and whether they can be looked at.
//!
//! A picture comes small from the source, or is decoded here from the encoded frame. Where nobody looks at pictures (no
//! trigger model), only as much is decoded as the health of the picture needs: JPEG a few times a second, of H.264 the key
//! frames. A frame that did not come here (the thread was behind) spoils those that refer to it: the decoder waits for the
//! next key frame, and what it does not show is counted.

use agent_core::samples::{FrameMeta, VideoCodec};
use agent_core::time::{MonoTime, Span};
use agent_drive::VideoDecoder;

use super::picture::{Judge, PictureFault};

/// Pictures that are decoded for their health alone.
const HEALTH_EVERY: Span = Span::from_ms(200);

/// What is looked at.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    /// An encoded frame.
    Encoded(&'a FrameMeta, &'a [u8]),
    /// A small picture: RGB, rows from the top; and whether it is raw ([`super::Shot::small_raw`]).
    Small(&'a FrameMeta, [u16; 2], &'a [u8], bool),
}

/// What looking gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen<'a> {
    /// A picture to be looked at further, with its width and height.
    Picture([u16; 2], &'a [u8]),
    /// Nothing for anyone: it was not wanted.
    NotWanted,
    /// It could not be shown.
    Unseen,
}

/// See the module.
pub(crate) struct Looker {
    judge: Option<Judge>,
    /// Somebody looks at the pictures.
    wanted: bool,
    max_width: u16,
    decoder: Option<(VideoCodec, VideoDecoder)>,
    next_seq: Option<u64>,
    waits_for_key: bool,
    next_health: MonoTime,
    fault: Option<PictureFault>,
}

impl Looker {
    /// `judge`: whether the health of the pictures is judged.
    pub(crate) fn new(judge: Option<Judge>, wanted: bool, max_width: u16) -> Self {
        Self {
            judge,
            wanted,
            max_width,
            decoder: None,
            next_seq: None,
            waits_for_key: false,
            next_health: MonoTime::ZERO,
            fault: None,
        }
    }

    /// What is wrong with the picture now.
    pub(crate) fn fault(&self) -> Option<PictureFault> {
        self.fault
    }

    /// Mean brightness of the picture that was measured last.
    pub(crate) fn brightness(&self) -> Option<f32> {
        self.judge.as_ref().and_then(|j| j.last()).map(|m| m.mean)
    }

    /// The camera was opened anew.
    pub(crate) fn reopened(&mut self) {
        if let Some(judge) = &mut self.judge {
            judge.reopened();
        }
        (self.decoder, self.next_seq, self.fault) = (None, None, None);
    }

    /// Looks at a frame.
    pub(crate) fn look<'s>(&'s mut self, look: &Look<'s>) -> Seen<'s> {
        match look {
            Look::Small(meta, size, rgb, raw) => {
                self.judge(meta.t, *size, rgb, *raw);
                if self.wanted { Seen::Picture(*size, rgb) } else { Seen::NotWanted }
            }
            Look::Encoded(meta, bytes) => self.decode(meta, bytes),
        }
    }

    fn decode<'s>(&'s mut self, meta: &FrameMeta, bytes: &[u8]) -> Seen<'s> {
        let whole = meta.codec == VideoCodec::Jpeg;
        if !self.wanted && (self.judge.is_none() || !meta.key || meta.t < self.next_health) {
            return Seen::NotWanted;
        }
        self.next_health = meta.t + HEALTH_EVERY;
        // For its health alone every picture is a key frame: nothing before it matters.
        let missed = self.wanted && self.next_seq.is_some_and(|next| next != meta.seq);
        self.next_seq = Some(meta.seq + 1);
        self.waits_for_key = !meta.key && (self.waits_for_key || missed);
        if self.waits_for_key {
            return Seen::Unseen;
        }
        if self.decoder.as_ref().is_none_or(|(codec, _)| *codec != meta.codec) {
            match VideoDecoder::new(meta.codec, self.max_width) {
                Ok(decoder) => self.decoder = Some((meta.codec, decoder)),
                Err(_) => return Seen::Unseen,
            }
        }
        let Self { judge, decoder: Some((_, decoder)), fault, wanted, .. } = self else { return Seen::Unseen };
        match decoder.decode(meta, bytes) {
            Ok(Some(small)) => {
                if let Some(judge) = judge {
                    let size = (usize::from(small.width), usize::from(small.height));
                    *fault = judge.look(meta.t, size, small.rgb, whole);
                }
                if *wanted { Seen::Picture([small.width, small.height], small.rgb) } else { Seen::NotWanted }
            }
            Ok(None) | Err(_) => Seen::Unseen,
        }
    }

    fn judge(&mut self, t: MonoTime, size: [u16; 2], rgb: &[u8], raw: bool) {
        if let Some(judge) = &mut self.judge {
            self.fault = judge.look(t, (usize::from(size[0]), usize::from(size[1])), rgb, raw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::LiveEncoder;
    use super::super::picture::Limits;
    use super::super::pixels::{Yuv, Yuyv};
    use super::*;

    fn stream(frames: u64) -> Vec<(FrameMeta, Vec<u8>)> {
        let mut encoder = LiveEncoder::new(30.0, 1.0, 10).unwrap();
        let mut yuv = Yuv::default();
        let mut out = Vec::new();
        for seq in 0..frames {
            let bytes: Vec<u8> = (0..320 * 180_u64).flat_map(|p| [(p * 3 + seq * 5) as u8, 128]).collect();
            yuv.take(&Yuyv::new((320, 180), 640, &bytes).unwrap());
            let mut kept = Vec::new();
            let key = encoder.encode(&yuv, &mut kept).unwrap().unwrap();
            let t = MonoTime(seq * 33_000_000);
            out.push((FrameMeta { t, seq, codec: VideoCodec::H264, key, size: [320, 180] }, kept));
        }
        out
    }

    #[test]
    fn a_frame_that_did_not_come_leaves_the_rest_unseen_until_the_next_key_frame() {
        let mut looker = Looker::new(None, true, 640);
        let mut unseen = Vec::new();
        for (meta, bytes) in stream(20).iter().filter(|(m, _)| m.seq != 4) {
            match looker.look(&Look::Encoded(meta, bytes)) {
                Seen::Picture(size, rgb) => assert_eq!((size, rgb.len()), ([320, 180], 3 * 320 * 180)),
                _ => unseen.push(meta.seq),
            }
        }
        assert_eq!(unseen, [5, 6, 7, 8, 9]);
    }

    #[test]
    fn where_nobody_looks_only_key_frames_are_decoded_and_judged() {
        let judge = Judge::new(Limits::default());
        let mut looker = Looker::new(Some(judge), false, 640);
        for (meta, bytes) in &stream(25) {
            assert_eq!(looker.look(&Look::Encoded(meta, bytes)), Seen::NotWanted);
        }
        assert_eq!(looker.decoder.as_ref().unwrap().1.stats().decoded, 3);
        assert!(looker.judge.as_ref().unwrap().last().is_some());
        let mut idle = Looker::new(None, false, 640);
        let all = stream(3);
        assert_eq!(idle.look(&Look::Encoded(&all[0].0, &all[0].1)), Seen::NotWanted);
        assert!(idle.decoder.is_none(), "without anyone to ask nothing is decoded");
    }

    fn meta(seq: u64) -> FrameMeta {
        FrameMeta { t: MonoTime(seq * 33_000_000), seq, codec: VideoCodec::H265, key: false, size: [640, 360] }
    }

    #[test]
    fn small_pictures_of_the_source_are_judged_and_handed_on() {
        let mut looker = Looker::new(Some(Judge::new(Limits::default())), true, 640);
        let rgb = vec![2; 3 * 64 * 36];
        for i in 0..200 {
            assert_eq!(looker.look(&Look::Small(&meta(i), [64, 36], &rgb, true)), Seen::Picture([64, 36], &rgb));
        }
        assert_eq!(looker.fault(), Some(PictureFault::Black));
        looker.reopened();
        assert_eq!(looker.fault(), None);
    }

    #[test]
    fn a_standing_scene_is_frozen_only_where_the_source_says_that_its_pictures_are_raw() {
        let rgb: Vec<u8> = (0..3 * 64 * 36_u32).map(|i| (i * 37 % 251) as u8).collect();
        for (raw, fault) in [(true, Some(PictureFault::Frozen)), (false, None)] {
            let mut looker = Looker::new(Some(Judge::new(Limits::default())), false, 640);
            for i in 0..200 {
                assert_eq!(looker.look(&Look::Small(&meta(i), [64, 36], &rgb, raw)), Seen::NotWanted);
            }
            assert_eq!(looker.fault(), fault, "raw: {raw}");
        }
    }
}
