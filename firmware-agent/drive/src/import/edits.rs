//! Edit lists of MP4 files (ISO/IEC 14496-12, 8.6.6): which part of a track a player shows.
//!
//! The common case is read: one edit, perhaps behind an empty one. Anything else is said, and the whole track is imported.
//! A picture is shown if its time lies in the edit, as in ffmpeg. An empty edit, which delays the
//! picture against the sound, is passed over: a video's clock begins at its first shown picture.

use super::mp4::{Sample, be32, child};

/// The shown part of a track, in units of the track: from the first to before the second.
pub(crate) type Shown = (i64, i64);

/// The shown part as the track's edit list has it. `None` without an edit list.
///
/// # Errors
/// What the edit list holds that is not read.
pub(crate) fn shown(trak: &[u8], movie_scale: u32, track_scale: u32) -> Result<Option<Shown>, String> {
    let Some(list) = child(trak, b"edts").and_then(|e| child(e, b"elst")) else { return Ok(None) };
    let wide = list.first() == Some(&1);
    let size = if wide { 20 } else { 12 };
    let cut = || "it is cut".to_owned();
    let count = be32(list, 4).ok_or_else(cut)? as usize;
    let body = list.get(8..).and_then(|b| b.get(..count.checked_mul(size)?)).ok_or_else(cut)?;
    let mut found = None;
    for row in body.chunks_exact(size) {
        let field = |at: usize| be32(row, at).unwrap_or(0);
        let (duration, start) = if wide {
            let long = |at: usize| u64::from(field(at)) << 32 | u64::from(field(at + 4));
            (long(0), long(8) as i64)
        } else {
            (u64::from(field(0)), i64::from(field(4) as i32))
        };
        if start < 0 {
            if found.is_some() {
                return Err("it has an empty edit behind another".to_owned());
            }
            continue;
        }
        if found.is_some() {
            return Err("it has more than one edit".to_owned());
        }
        if field(size - 4) != 0x1_0000 {
            return Err("it plays at another speed".to_owned());
        }
        // A duration of 0 is "to the end" in fragmented files, and of no use in others.
        let length = u128::from(duration) * u128::from(track_scale) / u128::from(movie_scale.max(1));
        let end =
            if duration == 0 { i64::MAX } else { start.saturating_add(i64::try_from(length).unwrap_or(i64::MAX)) };
        found = Some((start, end));
    }
    Ok(found)
}

/// Marks the samples outside of `range` as not shown; false, and nothing is changed, if that would be all of them.
pub(crate) fn mark(range: Shown, times: &[i64], samples: &mut [Sample]) -> bool {
    let inside = |t: &i64| (range.0..range.1).contains(t);
    if !times.iter().any(inside) {
        return false;
    }
    for (sample, t) in samples.iter_mut().zip(times) {
        sample.shown = inside(t);
    }
    true
}
