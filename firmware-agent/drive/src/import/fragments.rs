//! Fragmented MP4: the samples lie in `moof` boxes along the file instead of in one table. One video track is read; files
//! whose fragments belong to several tracks are refused.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::mp4::{Sample, be32, child, most_samples, next_box};
use super::{ImportError, bad, io_error};
use crate::limits::MAX_RECORD_BYTES;

/// Sizes and durations that hold where a fragment says nothing.
#[derive(Clone, Copy)]
struct Defaults {
    track: u32,
    duration: u32,
    size: u32,
    /// Most samples of the file.
    most: usize,
}

/// All samples of the file, in decode order, and their composition times in units of the track. A file cut in a fragment
/// gives the fragments before.
pub(crate) fn samples(path: &Path, file: &mut File, mvex: &[u8]) -> Result<(Vec<Sample>, Vec<i64>), ImportError> {
    let trex = child(mvex, b"trex").ok_or_else(|| bad(path, "its index is malformed: no trex box"))?;
    let field = |at: usize| be32(trex, at).unwrap_or(0);
    let len = file.metadata().map_err(io_error(path))?.len();
    let defaults = Defaults { track: field(4), duration: field(12), size: field(16), most: most_samples(len) };
    let (mut samples, mut times) = (Vec::new(), Vec::new());
    let mut at = 0u64;
    // Bounded: every turn moves at least eight bytes on.
    while len - at >= 8 {
        let mut head = Vec::with_capacity(16);
        file.seek(SeekFrom::Start(at)).map_err(io_error(path))?;
        file.take(16).read_to_end(&mut head).map_err(io_error(path))?;
        let n = match be32(&head, 0) {
            Some(0) | None => len - at,
            Some(1) => head.get(8..16).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes),
            Some(n) => u64::from(n),
        };
        let Some(next) = at.checked_add(n).filter(|e| n >= 8 && *e <= len) else { break };
        if head.get(4..8) == Some(b"moof") {
            if n > MAX_RECORD_BYTES as u64 {
                return Err(bad(path, format!("the fragment at byte {at} has an index of {n} bytes")));
            }
            let mut moof = vec![0; n as usize];
            file.seek(SeekFrom::Start(at)).map_err(io_error(path))?;
            file.read_exact(&mut moof).map_err(io_error(path))?;
            fragment(&moof, at, defaults, &mut samples, &mut times)
                .map_err(|what| bad(path, format!("the fragment at byte {at}: {what}")))?;
        }
        at = next;
    }
    if samples.is_empty() {
        return Err(bad(path, "its video track is malformed: no fragment holds a frame"));
    }
    Ok((samples, times))
}

/// Adds the samples of one `moof` box that begins at byte `start`.
fn fragment(
    moof: &[u8],
    start: u64,
    defaults: Defaults,
    samples: &mut Vec<Sample>,
    times: &mut Vec<i64>,
) -> Result<(), String> {
    let mut rest = child(moof, b"moof").unwrap_or(&[]);
    while let Some((kind, traf)) = next_box(&mut rest) {
        if &kind != b"traf" {
            continue;
        }
        let tfhd = child(traf, b"tfhd").ok_or("no tfhd box")?;
        let flags = be32(tfhd, 0).ok_or("tfhd is cut")?;
        if be32(tfhd, 4) != Some(defaults.track) {
            return Err(
                "it belongs to a second track; remux the video alone: ffmpeg -i IN -an -c copy OUT.mp4".to_owned()
            );
        }
        let mut own = defaults;
        let mut at = 8;
        let mut base = start;
        if flags & 1 != 0 {
            base = u64::from(be32(tfhd, at).unwrap_or(0)) << 32 | u64::from(be32(tfhd, at + 4).unwrap_or(0));
            at += 8;
        }
        at += if flags & 2 != 0 { 4 } else { 0 };
        for (bit, value) in [(8, &mut own.duration), (16, &mut own.size)] {
            if flags & bit != 0 {
                *value = be32(tfhd, at).ok_or("tfhd is cut")?;
                at += 4;
            }
        }
        let tfdt = child(traf, b"tfdt").ok_or("no tfdt box")?;
        let wide = tfdt.first() == Some(&1);
        let low = i64::from(be32(tfdt, if wide { 8 } else { 4 }).ok_or("tfdt is cut")?);
        let high = if wide { i64::from(be32(tfdt, 4).unwrap_or(0) & 0x7FFF_FFFF) << 32 } else { 0 };
        let mut decode = high | low;
        let mut runs = traf;
        while let Some((kind, trun)) = next_box(&mut runs) {
            if &kind == b"trun" {
                run(trun, base, own, &mut decode, samples, times).ok_or("trun is cut, or too many frames")?;
            }
        }
    }
    Ok(())
}

/// Adds the samples of one `trun` box; `None` if it is cut.
fn run(
    trun: &[u8],
    base: u64,
    own: Defaults,
    decode: &mut i64,
    samples: &mut Vec<Sample>,
    times: &mut Vec<i64>,
) -> Option<()> {
    let (flags, count) = (be32(trun, 0)?, be32(trun, 4)?);
    let mut at = 8;
    let mut field = |bit: u32, other: u32| -> Option<u32> {
        if flags & bit == 0 {
            return Some(other);
        }
        at += 4;
        be32(trun, at - 4)
    };
    let mut offset = base.checked_add_signed(i64::from(field(1, 0)? as i32))?;
    field(4, 0)?;
    for _ in 0..count {
        let duration = field(0x100, own.duration)?;
        let size = field(0x200, own.size)?;
        field(0x400, 0)?;
        let shift = field(0x800, 0)? as i32;
        (samples.len() < own.most).then_some(())?;
        samples.push(Sample { offset, size, t_ns: 0, shown: true });
        times.push(decode.saturating_add(i64::from(shift)));
        *decode = decode.saturating_add(i64::from(duration));
        offset = offset.saturating_add(u64::from(size));
    }
    Some(())
}
