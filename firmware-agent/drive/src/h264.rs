//! H.264 byte streams: units, key frames, B-frames, and the two ways of laying units out.
//!
//! Terms: a *unit* is a NAL unit; *Annex B* puts a start code before each, *AVCC* (MP4) its length; *parameter sets* are SPS
//! and PPS. Never decodes pictures.

use crate::limits::MAX_PARAMETER_SETS;

/// The next start code from `from`: where it begins and where the unit behind it begins.
fn next_start(data: &[u8], from: usize) -> Option<(usize, usize)> {
    let tail = data.get(from..)?;
    let at = tail.windows(3).position(|w| w == [0, 0, 1])? + from;
    Some((at, at + 3))
}

/// The first byte of each unit, found without looking for the units' ends.
fn heads(data: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (_, begin) = next_start(data, at)?;
        at = begin;
        data.get(begin).copied()
    })
}

/// Whether decoding can begin here: the first slice is of an IDR picture. Looks no further than that.
pub(crate) fn is_key(data: &[u8]) -> bool {
    heads(data).map(|b| b & 0x1F).find(|k| matches!(k, 1..=5)) == Some(5)
}

/// The same for H.265: an IRAP picture (types 16 to 23).
pub(crate) fn is_key_h265(data: &[u8]) -> bool {
    heads(data).map(|b| (b >> 1) & 0x3F).find(|k| *k < 32).is_some_and(|k| (16..24).contains(&k))
}

/// What an MP4 file says of its H.264: how long unit lengths are, and the parameter sets in Annex B.
#[derive(Debug)]
pub(crate) struct AvcConfig {
    length_bytes: usize,
    parameter_sets: Vec<u8>,
}

impl AvcConfig {
    /// Parses an `avcC` box (ISO/IEC 14496-15, 5.3.3.1); `None` if it is malformed.
    pub(crate) fn parse(avcc: &[u8]) -> Option<Self> {
        let (head, mut rest) = avcc.split_at_checked(5)?;
        (head[0] == 1 && avcc.len() <= MAX_PARAMETER_SETS).then_some(())?;
        let length_bytes = usize::from(head[4] & 3) + 1;
        let mut parameter_sets = Vec::new();
        for mask in [0x1F, 0xFF] {
            let (count, tail) = rest.split_first()?;
            rest = tail;
            for _ in 0..count & mask {
                let (n, tail) = rest.split_first_chunk::<2>()?;
                let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*n)))?;
                parameter_sets.extend_from_slice(&[0, 0, 0, 1]);
                parameter_sets.extend_from_slice(unit);
                rest = tail;
            }
        }
        Some(Self { length_bytes, parameter_sets })
    }

    /// Turns a sample into an Annex B access unit in `out`, with parameter sets before an IDR picture that has none of
    /// its own. False if the unit lengths do not fit the sample; what was whole is in `out`.
    pub(crate) fn annex_b(&self, sample: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let (mut rest, mut has_sets) = (sample, false);
        while !rest.is_empty() {
            let Some((length, tail)) = rest.split_at_checked(self.length_bytes) else { return false };
            let n = length.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
            let Some((unit, tail)) = tail.split_at_checked(n) else { return false };
            rest = tail;
            let kind = unit.first().map_or(0, |b| b & 0x1F);
            has_sets |= kind == 7;
            if kind == 5 && !has_sets {
                out.extend_from_slice(&self.parameter_sets);
                has_sets = true;
            }
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(unit);
        }
        true
    }
}
