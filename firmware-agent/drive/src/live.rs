//! Encoded frames as a live source gives them, made fit for a ring: which are key frames, and parameter sets before each.
//!
//! Cameras and encoders may send the parameter sets once at the start. A ring that forgets its oldest frames would forget
//! them, so they are kept here and put before every key frame that comes without. Never decodes pictures.

use agent_core::samples::VideoCodec;

use crate::h264::{is_key, is_key_h265, units};
use crate::limits::MAX_PARAMETER_SETS;

/// The parameter sets of one live stream.
#[derive(Debug)]
pub struct LiveStream {
    codec: VideoCodec,
    sets: Vec<u8>,
    joined: Vec<u8>,
}

impl LiveStream {
    /// A stream of which nothing came yet.
    #[must_use]
    pub fn new(codec: VideoCodec) -> Self {
        Self { codec, sets: Vec::new(), joined: Vec::new() }
    }

    /// Takes a frame (for H.264 and H.265 an access unit in Annex B), puts parameter sets before it where they are
    /// missing, and says whether decoding can begin at it. A key frame for which no sets are known is none.
    pub fn admit(&mut self, unit: &mut Vec<u8>) -> bool {
        let key = match self.codec {
            VideoCodec::Jpeg => return true,
            VideoCodec::H264 => is_key(unit),
            VideoCodec::H265 => is_key_h265(unit),
        };
        if self.note_sets(unit) || !key {
            return key;
        }
        if self.sets.is_empty() {
            return false;
        }
        self.joined.clear();
        self.joined.extend_from_slice(&self.sets);
        self.joined.extend_from_slice(unit);
        // Both buffers stay with those who have them, grown to the largest key frame.
        unit.clear();
        unit.extend_from_slice(&self.joined);
        true
    }

    /// Keeps the sets in front of the first slice; false if there are none.
    fn note_sets(&mut self, unit: &[u8]) -> bool {
        let codec = self.codec;
        let is_set = |head: u8| match codec {
            VideoCodec::H264 => matches!(head & 0x1F, 7 | 8),
            _ => matches!((head >> 1) & 0x3F, 32..=34),
        };
        let is_slice = |head: u8| match codec {
            VideoCodec::H264 => matches!(head & 0x1F, 1..=5),
            _ => (head >> 1) & 0x3F < 32,
        };
        let mut found = false;
        for unit in units(unit) {
            let Some(head) = unit.first().copied() else { continue };
            if is_slice(head) {
                break;
            }
            if !is_set(head) {
                continue;
            }
            if !std::mem::replace(&mut found, true) {
                self.sets.clear();
            }
            if self.sets.len() + unit.len() + 4 <= MAX_PARAMETER_SETS {
                self.sets.extend_from_slice(&[0, 0, 0, 1]);
                self.sets.extend_from_slice(unit);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: [u8; 6] = [0, 0, 0, 1, 0x67, 66];
    const PPS: [u8; 5] = [0, 0, 1, 0x68, 9];
    const IDR: [u8; 6] = [0, 0, 0, 1, 0x65, 1];
    const SLICE: [u8; 6] = [0, 0, 0, 1, 0x41, 1];

    #[test]
    fn sets_that_came_once_stand_before_every_key_frame() {
        let mut stream = LiveStream::new(VideoCodec::H264);
        let mut lone = IDR.to_vec();
        assert!(!stream.admit(&mut lone), "nothing can decode it");
        let mut first = [&SPS[..], &PPS, &IDR].concat();
        let whole = first.clone();
        assert!(stream.admit(&mut first));
        assert_eq!(first, whole, "it had its own");
        let mut other = SLICE.to_vec();
        assert!(!stream.admit(&mut other));
        assert_eq!(other, SLICE);
        let mut later = IDR.to_vec();
        assert!(stream.admit(&mut later));
        assert_eq!(later, [&SPS[..], &[0, 0, 0, 1, 0x68, 9], &IDR].concat());
    }

    #[test]
    fn new_sets_replace_the_old_and_h265_has_three() {
        let mut stream = LiveStream::new(VideoCodec::H265);
        let unit = |kind: u8, tag: u8| vec![0, 0, 0, 1, kind << 1, 1, tag];
        let mut first = [unit(32, 1), unit(33, 2), unit(34, 3), unit(19, 4)].concat();
        assert!(stream.admit(&mut first));
        let mut second = [unit(32, 5), unit(33, 6), unit(34, 7), unit(20, 8)].concat();
        assert!(stream.admit(&mut second));
        let mut third = unit(19, 9);
        assert!(stream.admit(&mut third));
        assert_eq!(third, [unit(32, 5), unit(33, 6), unit(34, 7), unit(19, 9)].concat());
        assert!(!stream.admit(&mut unit(1, 0)));
        assert!(!stream.admit(&mut Vec::new()));
    }

    #[test]
    fn every_jpeg_is_a_key_frame_and_stays_as_it_is() {
        let mut bytes = vec![0xFF, 0xD8, 0xFF];
        assert!(LiveStream::new(VideoCodec::Jpeg).admit(&mut bytes));
        assert_eq!(bytes, [0xFF, 0xD8, 0xFF]);
    }
}
