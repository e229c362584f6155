//! Whether a video file is as long as its own container says: a cut file decodes up to the cut and then simply ends, and
//! GStreamer's demuxers say nothing of it.
//!
//! Known: Matroska and WebM (the size of the segment), AVI (the size of each RIFF chunk), MP4 and QuickTime (the sizes of
//! the top-level boxes), MPEG transport streams (whole packets of 188 bytes). What cannot be known: a Matroska file
//! that was written as a stream and states no size, and a transport stream cut between two packets.
//! Only headers are read; it never judges what is inside of them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::limits::MAX_TOP_LEVEL;

const EBML: [u8; 4] = [0x1A, 0x45, 0xDF, 0xA3];
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
const TS_PACKET: u64 = 188;

/// What is missing at the end, in words; `None` when the file is whole or nothing can be said.
pub(crate) fn what_is_missing(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    missing(&mut file, length)
}

fn missing<F: Read + Seek>(file: &mut F, length: u64) -> io::Result<Option<String>> {
    let mut head = [0; 12];
    if !filled(file, &mut head)? {
        return Ok(None);
    }
    let needed = match head {
        [a, b, c, d, ..] if [a, b, c, d] == EBML => segment_end(file)?,
        [b'R', b'I', b'F', b'F', ..] => chunks_end(file, length, riff)?,
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => chunks_end(file, length, mp4_box)?,
        [0x47, ..] if is_ts(file)? && !length.is_multiple_of(TS_PACKET) => {
            let rest = length % TS_PACKET;
            return Ok(Some(format!("the file is cut: its last packet has {rest} of {TS_PACKET} bytes")));
        }
        _ => None,
    };
    let cut = needed.filter(|needed| *needed > length);
    Ok(cut.map(|needed| format!("the file is cut: it should have {needed} bytes and has {length}")))
}

/// Fills the buffer; false when the file ends before.
fn filled<F: Read>(file: &mut F, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Where the segment of a Matroska file ends, as far as it is stated.
fn segment_end<F: Read + Seek>(file: &mut F) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(4))?;
    let Some(header) = ebml_size(file)? else { return Ok(None) };
    let at = file.stream_position()?;
    file.seek(SeekFrom::Start(at.saturating_add(header).min(i64::MAX as u64)))?;
    let mut id = [0; 4];
    if !filled(file, &mut id)? || id != SEGMENT {
        return Ok(None);
    }
    let Some(size) = ebml_size(file)? else { return Ok(None) };
    Ok(Some(file.stream_position()?.saturating_add(size)))
}

/// An EBML length; `None` for "unknown", for a malformed one and at the end of the file.
fn ebml_size<F: Read>(file: &mut F) -> io::Result<Option<u64>> {
    let mut bytes = [0; 8];
    let (first, rest) = bytes.split_at_mut(1);
    if !filled(file, first)? {
        return Ok(None);
    }
    let more = first[0].leading_zeros() as usize;
    let Some(rest) = rest.get_mut(..more) else { return Ok(None) };
    if !filled(file, rest)? {
        return Ok(None);
    }
    let bits = 7 * (more as u32 + 1);
    let value = bytes.iter().take(more + 1).fold(0u64, |v, b| v << 8 | u64::from(*b)) & ((1 << bits) - 1);
    Ok((value != (1 << bits) - 1).then_some(value))
}

/// Where the last top-level chunk ends. `size` reads the size of the one that begins here, headers included.
fn chunks_end<F: Read + Seek>(
    file: &mut F,
    length: u64,
    size: fn(&mut F) -> io::Result<Option<u64>>,
) -> io::Result<Option<u64>> {
    let mut at = 0u64;
    for _ in 0..MAX_TOP_LEVEL {
        file.seek(SeekFrom::Start(at))?;
        let Some(size) = size(file)? else { break };
        at = at.saturating_add(size);
        if at >= length {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Chunks are padded to even lengths. A size of 0 is that of a writer that was stopped: nothing is stated.
fn riff<F: Read>(file: &mut F) -> io::Result<Option<u64>> {
    let mut head = [0; 8];
    let whole = filled(file, &mut head)?;
    let [b'R', b'I', b'F', b'F', size @ ..] = head else { return Ok(None) };
    let size = u64::from(u32::from_le_bytes(size));
    Ok((whole && size > 0).then(|| (8 + size).next_multiple_of(2)))
}

fn mp4_box<F: Read>(file: &mut F) -> io::Result<Option<u64>> {
    let mut head = [0; 8];
    if !filled(file, &mut head)? {
        return Ok(None);
    }
    let [a, b, c, d, ..] = head;
    match u64::from(u32::from_be_bytes([a, b, c, d])) {
        1 => {
            let mut long = [0; 8];
            let size = filled(file, &mut long)?.then(|| u64::from_be_bytes(long));
            Ok(size.filter(|s| *s >= 16))
        }
        size => Ok((size >= 8).then_some(size)), // 0: to the end of the file, whatever that is
    }
}

/// Whether three packets in a row begin as packets of a transport stream do.
fn is_ts<F: Read + Seek>(file: &mut F) -> io::Result<bool> {
    for packet in 0..3 {
        let mut byte = [0];
        file.seek(SeekFrom::Start(packet * TS_PACKET))?;
        if !filled(file, &mut byte)? || byte != [0x47] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn said(bytes: &[u8]) -> Option<String> {
        missing(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    /// Whole, it is silent; cut at each place behind the headers, it is said.
    fn cut_is_said(whole: &[u8], headers: usize) {
        assert_eq!(said(whole), None);
        for end in headers..whole.len() {
            assert!(said(&whole[..end]).is_some_and(|s| s.contains("cut")), "at {end} of {}", whole.len());
        }
        for end in 0..headers {
            let _ = said(&whole[..end]); // too short to know: only no panic is asked for
        }
    }

    #[test]
    fn cut_containers_are_known() {
        let matroska = [&EBML[..], &[0x82, 1, 2], &SEGMENT, &[0x40, 20], &[7; 20]].concat();
        cut_is_said(&matroska, 13);
        let avi = [&b"RIFF"[..], &24u32.to_le_bytes(), b"AVI ", &[7; 20]].concat();
        let two = [&avi[..], b"RIFF", &4u32.to_le_bytes(), b"AVIX"].concat();
        cut_is_said(&avi, 12);
        assert_eq!(said(&two), None);
        assert!(said(&two[..two.len() - 2]).is_some());
        let mp4 = [&16u32.to_be_bytes()[..], b"ftypisom", &[0; 4], &40u32.to_be_bytes(), b"mdat", &[7; 32]].concat();
        cut_is_said(&mp4, 24);
        let mut long = [&16u32.to_be_bytes()[..], b"ftypisom", &[0; 4], &1u32.to_be_bytes(), b"mdat"].concat();
        long.extend([&40u64.to_be_bytes()[..], &[7; 24]].concat());
        cut_is_said(&long, 32);
        let ts: Vec<u8> = (0..5).flat_map(|_| [&[0x47][..], &[0; 187]].concat()).collect();
        assert_eq!(said(&ts), None);
        assert!(said(&ts[..700]).unwrap().contains("136 of 188"));
    }

    #[test]
    fn what_states_no_size_is_left_alone_and_hostile_sizes_do_no_harm() {
        let streamed = [&EBML[..], &[0x80], &SEGMENT, &[0x01], &[0xFF; 7], &[7; 20]].concat();
        assert_eq!(said(&streamed), None);
        let unfinished = [&b"RIFF"[..], &[0; 4], b"AVI ", &[7; 20]].concat();
        assert_eq!(said(&unfinished), None);
        let endless = [&8u32.to_be_bytes()[..], b"ftyp", &[0; 200]].concat();
        assert_eq!(said(&endless), None);
        let huge = [&EBML[..], &[0x01], &[0xFE; 7], &[7; 20]].concat();
        assert_eq!(said(&huge), None);
        let far = [&16u32.to_be_bytes()[..], b"ftypisom", &[0; 4], &1u32.to_be_bytes(), b"mdat", &[0xFF; 20]].concat();
        assert!(said(&far).is_some());
    }
}
