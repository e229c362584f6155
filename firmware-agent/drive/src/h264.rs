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

/// The units without their start codes. Zeros before a start code belong to it.
pub(crate) fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = next_start(data, 0);
    std::iter::from_fn(move || {
        let (_, begin) = start?;
        start = next_start(data, begin);
        let unit = data.get(begin..start.map_or(data.len(), |(at, _)| at))?;
        let end = unit.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        unit.get(..end)
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

/// Copies an access unit to `out` so that openh264 gives each picture at once, in decode order.
///
/// For every profile but 66 and 83 openh264 (2.6) holds pictures back to sort them by the low bits of their order count,
/// which wraps, and flushing it after each picture leaks its buffers until it says "out of memory" (measured: after 4
/// pictures). Profile 83 (scalable baseline) has the same syntax as High and is not sorted; everything else about
/// decoding is the same. So a High parameter set gets the number 83, and a Main one the fields of High besides.
pub(crate) fn for_openh264(data: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut from = 0;
    let mut start = next_start(data, 0);
    // Parameter sets come before the first slice: the slices, most of the bytes, are not looked through.
    while let Some((_, begin)) = start {
        let kind = data.get(begin).map_or(0, |b| b & 0x1F);
        if matches!(kind, 1..=5) {
            break;
        }
        start = next_start(data, begin);
        if kind == 7 {
            let end = start.map_or(data.len(), |(at, _)| at);
            let unit = data.get(begin..end).unwrap_or(&[]);
            if let Some(changed) = unsorted_sps(unit) {
                out.extend_from_slice(data.get(from..begin).unwrap_or(&[]));
                out.extend_from_slice(&changed);
                from = end;
            }
        }
    }
    out.extend_from_slice(data.get(from..).unwrap_or(&[]));
}

/// A sequence parameter set with profile 83, or `None` to leave it alone.
fn unsorted_sps(unit: &[u8]) -> Option<Vec<u8>> {
    const HIGH: u8 = 100;
    const MAIN: u8 = 77;
    match *unit.get(1)? {
        HIGH => {
            let mut changed = unit.to_vec();
            *changed.get_mut(1)? = 83;
            Some(changed)
        }
        MAIN => {
            let bits = bits_of(unit.get(4..)?);
            // seq_parameter_set_id as ue(v), then the fields of High at what Main fixes: 4:2:0, 8 bits, no scaling lists.
            let zeros = bits.iter().take_while(|b| !**b).count();
            let (id, rest) = bits.split_at_checked(2 * zeros + 1)?;
            let high = [false, true, false, true, true, false, false];
            let mut all: Vec<bool> = id.iter().chain(&high).chain(rest).copied().collect();
            // The stop bit moved along; what is behind it in the last byte is zeros.
            while all.last() == Some(&false) {
                all.pop();
            }
            let mut changed = vec![unit[0], 83, *unit.get(2)?, *unit.get(3)?];
            let mut zeros = changed.iter().rev().take_while(|b| **b == 0).count();
            for byte in all.chunks(8) {
                let byte = byte.iter().enumerate().fold(0u8, |v, (i, b)| v | u8::from(*b) << (7 - i));
                if zeros >= 2 && byte <= 3 {
                    changed.push(3);
                    zeros = 0;
                }
                zeros = if byte == 0 { zeros + 1 } else { 0 };
                changed.push(byte);
            }
            Some(changed)
        }
        _ => None,
    }
}

/// The bits of a unit's payload without emulation prevention (a 3 behind two zeros).
fn bits_of(bytes: &[u8]) -> Vec<bool> {
    let mut zeros = 0;
    let mut bits = Vec::with_capacity(8 * bytes.len().min(1 << 10));
    for byte in bytes.iter().take(1 << 10) {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        bits.extend((0..8).rev().map(|i| byte >> i & 1 == 1));
    }
    bits
}
