//! H.264 byte streams: units, key frames, B-frames, and the two ways of laying units out.
//!
//! Terms: a *unit* is a NAL unit; *Annex B* puts a start code before each, *AVCC* (MP4) its length; *parameter sets* are SPS
//! and PPS. Never decodes pictures.

/// The units of an Annex B stream, without start codes.
pub(crate) fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = next_start(data, 0);
    std::iter::from_fn(move || {
        let (_, begin) = at?;
        at = next_start(data, begin);
        let end = at.map_or(data.len(), |(start, _)| start);
        let unit = data.get(begin..end)?;
        // A four-byte start code leaves its first zero at the end of the unit before it.
        let trailing = unit.iter().rev().take_while(|b| **b == 0).count();
        unit.get(..unit.len() - trailing)
    })
    .filter(|u| !u.is_empty())
}

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
