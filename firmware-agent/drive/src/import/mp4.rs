//! MP4 video files (ISO/IEC 14496-12) with H.264, read without system libraries.
//!
//! Only the `moov` box is held in memory; pictures are read one at a time. Frame times are composition times, so that
//! frames come out in presentation order, the first at 0. What the edit list hides is left out. A stream with B-frames
//! cannot be cut at any frame and is not what live cameras give (nor what Foxglove's `CompressedVideo` allows): it is
//! decoded and encoded anew without them, which is said; so is one whose first shown frame is no key frame. We parse the boxes ourselves because the parser crates index unchecked on malformed files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use agent_core::samples::{FrameMeta, VideoCodec};
use agent_core::time::MonoTime;

use super::transcode::Transcoder;
use super::{ImportError, Item, Notes, Source, bad, edits, fragments, io_error};
use crate::h264::{AvcConfig, is_key};
use crate::info::CameraInfo;
use crate::limits::{MAX_MOOV_BYTES, MAX_PICTURE_SIDE, MAX_VIDEO_SAMPLES};
use agent_core::limits::MAX_FRAME_BYTES;

/// One sample of the video track, in decode order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    /// Presentation time, nanoseconds from the first picture that is shown (0 for earlier ones).
    pub(crate) t_ns: u64,
    /// Whether the file's edit list shows it.
    pub(crate) shown: bool,
}

/// The video track of a file.
pub(crate) struct Track {
    pub(crate) path: PathBuf,
    file: File,
    pub(crate) avc: AvcConfig,
    pub(crate) size: [u16; 2],
    pub(crate) samples: Vec<Sample>,
    pub(crate) fps: f32,
}

impl Track {
    /// Reads sample `i` into `buf`; false if the file ends before it.
    pub(crate) fn read(&mut self, i: usize, buf: &mut Vec<u8>) -> Result<bool, ImportError> {
        buf.clear();
        let Some(sample) = self.samples.get(i) else { return Ok(false) };
        if sample.size as usize > MAX_FRAME_BYTES {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(sample.offset)).map_err(io_error(&self.path))?;
        let n = (&mut self.file).take(u64::from(sample.size)).read_to_end(buf).map_err(io_error(&self.path))?;
        Ok(n == sample.size as usize)
    }
}

/// Opens a video file as a source of frames.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Source>, ImportError> {
    let (mut track, mut notes) = open_track(path)?;
    leave_out_hidden(&mut track, &mut notes)?;
    let why = if !track.samples.iter().all(|s| s.shown) {
        Some("the first frame that it shows is no key frame, or it has B-frames")
    } else if !track.samples.windows(2).all(|w| w[0].t_ns < w[1].t_ns) {
        Some("it has B-frames")
    } else {
        None
    };
    Ok(match why {
        Some(why) => Box::new(Transcoder::new(track, notes, why)?),
        None => Box::new(Video::new(track, notes)),
    })
}

/// Drops the samples that nothing shown needs: those before the key frame of the first shown one, and those behind the
/// last shown one, in decode order.
fn leave_out_hidden(track: &mut Track, notes: &mut Notes) -> Result<(), ImportError> {
    let hidden = track.samples.iter().filter(|s| !s.shown).count();
    let shown = |s: &Sample| s.shown;
    let (Some(mut first), Some(last)) = (track.samples.iter().position(shown), track.samples.iter().rposition(shown))
    else {
        return Ok(());
    };
    if hidden == 0 {
        return Ok(());
    }
    notes.say(format!("{hidden} frames outside of what its edit list shows were left out"));
    let (mut sample, mut unit) = (Vec::new(), Vec::new());
    while first > 0 {
        if track.read(first, &mut sample)? && track.avc.annex_b(&sample, &mut unit) && is_key(&unit) {
            break;
        }
        first -= 1;
    }
    track.samples.truncate(last + 1);
    track.samples.drain(..first);
    Ok(())
}

/// A stream without B-frames: its access units are kept as they are.
struct Video {
    track: Track,
    next: usize,
    seq: u64,
    last_key_ns: u64,
    longest_ns: u64,
    buf: Vec<u8>,
    notes: Notes,
}

impl Video {
    fn new(track: Track, notes: Notes) -> Self {
        Self { track, next: 0, seq: 0, last_key_ns: 0, longest_ns: 0, buf: Vec::new(), notes }
    }
}

impl Source for Video {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        loop {
            let i = self.next;
            let Some(sample) = self.track.samples.get(i).copied() else {
                if self.longest_ns > 5_000_000_000 {
                    self.notes.say(format!("key frames lie up to {:.1} s apart", self.longest_ns as f64 * 1e-9));
                    self.longest_ns = 0;
                }
                return Ok(None);
            };
            self.next += 1;
            let mut data = Vec::new();
            if !self.track.read(i, &mut self.buf)? {
                self.notes.skip(|| format!("frame {i} at byte {} is cut off or too large", sample.offset));
            } else if !self.track.avc.annex_b(&self.buf, &mut data) || data.is_empty() {
                self.notes.skip(|| format!("frame {i} at byte {}: its unit lengths do not fit", sample.offset));
            } else {
                let key = is_key(&data);
                if key {
                    self.last_key_ns = sample.t_ns;
                }
                self.longest_ns = self.longest_ns.max(sample.t_ns - self.last_key_ns.min(sample.t_ns));
                let (t, seq) = (MonoTime(sample.t_ns), self.seq);
                self.seq += 1;
                let meta = FrameMeta { t, seq, codec: VideoCodec::H264, key, size: self.track.size };
                return Ok(Some(Item::Frame(meta, data)));
            }
            // A skipped frame leaves a gap in the sequence, as a lost one does.
            self.seq += 1;
        }
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    fn camera(&self) -> Option<(CameraInfo, bool)> {
        let [width, height] = self.track.size;
        Some((CameraInfo { width, height, fps: self.track.fps, hfov_deg: None }, false))
    }
}

/// A box: its type and its contents.
pub(crate) fn next_box<'a>(rest: &mut &'a [u8]) -> Option<([u8; 4], &'a [u8])> {
    let (head, _) = rest.split_first_chunk::<8>()?;
    let short = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let kind = [head[4], head[5], head[6], head[7]];
    let (begin, n) = match short {
        0 => (8, rest.len()),
        1 => (16, usize::try_from(u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?)).ok()?),
        n => (8, n),
    };
    let contents = rest.get(begin..n)?;
    *rest = rest.get(n..)?;
    Some((kind, contents))
}

/// The first box of this type.
pub(crate) fn child<'a>(mut parent: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    while let Some((k, contents)) = next_box(&mut parent) {
        if &k == kind {
            return Some(contents);
        }
    }
    None
}

/// Reads the `moov` box, wherever it lies between the others.
fn read_moov(path: &Path, file: &mut File) -> Result<Vec<u8>, ImportError> {
    let len = file.metadata().map_err(io_error(path))?.len();
    let mut at = 0u64;
    let mut first = true;
    // Bounded: every turn moves at least eight bytes on.
    while len - at >= 8 {
        file.seek(SeekFrom::Start(at)).map_err(io_error(path))?;
        let mut head = [0u8; 16];
        let take = (len - at).min(16) as usize;
        file.read_exact(head.get_mut(..take).unwrap_or(&mut [])).map_err(io_error(path))?;
        let kind = [head[4], head[5], head[6], head[7]];
        if first && !matches!(&kind, b"ftyp" | b"moov" | b"free" | b"skip" | b"wide" | b"mdat") {
            return Err(match container(path, file)? {
                Some(name) => ImportError::Codec { path: path.to_owned(), codec: format!("in {name}") },
                None => bad(path, "not an MP4 file: it does not begin with a box that MP4 files begin with"),
            });
        }
        first = false;
        let n = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => len - at,
            1 => head.get(8..16).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes),
            n => u64::from(n),
        };
        if n < 8 {
            return Err(bad(path, format!("the box at byte {at} has a size of {n}")));
        }
        if &kind == b"moov" {
            if n > MAX_MOOV_BYTES as u64 {
                return Err(bad(path, format!("its index has {n} bytes, more than the limit of {MAX_MOOV_BYTES}")));
            }
            if n > len - at {
                return Err(bad(path, format!("cut: its index at byte {at} needs {n} bytes, {} are there", len - at)));
            }
            file.seek(SeekFrom::Start(at)).map_err(io_error(path))?;
            let mut moov = vec![0; n as usize];
            file.read_exact(&mut moov).map_err(io_error(path))?;
            return Ok(moov);
        }
        let Some(next) = at.checked_add(n).filter(|e| *e <= len) else { break };
        at = next;
    }
    Err(bad(
        path,
        if first { "the file is empty" } else { "cut: it has no index (moov box); the recording was not finished" },
    ))
}

/// The name of a container of videos that is not MP4, by the file's first bytes.
fn container(path: &Path, file: &mut File) -> Result<Option<&'static str>, ImportError> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(io_error(path))?;
    file.take(400).read_to_end(&mut head).map_err(io_error(path))?;
    let at = |i: usize, what: &[u8]| head.get(i..i + what.len()) == Some(what);
    let every = |from: usize, step: usize| (0..2).all(|n| at(from + n * step, b"G"));
    Ok(match () {
        () if at(0, &[0x1A, 0x45, 0xDF, 0xA3]) => Some("Matroska or WebM"),
        () if at(0, b"RIFF") && at(8, b"AVI ") => Some("AVI"),
        () if every(0, 188) || every(4, 192) => Some("an MPEG transport stream"),
        () if at(0, &[0, 0, 1, 0xBA]) => Some("an MPEG program stream"),
        () if at(0, b"FLV\x01") => Some("FLV"),
        () if at(0, b"OggS") => Some("Ogg"),
        () if at(0, &[0x30, 0x26, 0xB2, 0x75]) => Some("ASF (WMV)"),
        () if at(0, &[0, 0, 0, 1]) || at(0, &[0, 0, 1]) => Some("a bare stream without a container"),
        () => None,
    })
}

fn open_track(path: &Path) -> Result<(Track, Notes), ImportError> {
    let mut file = File::open(path).map_err(io_error(path))?;
    let moov_box = read_moov(path, &mut file)?;
    let moov = child(&moov_box, b"moov").ok_or_else(|| bad(path, "its index is malformed"))?;
    let mut rest = moov;
    while let Some((kind, trak)) = next_box(&mut rest) {
        let Some(mdia) = (&kind == b"trak").then(|| child(trak, b"mdia")).flatten() else { continue };
        if child(mdia, b"hdlr").and_then(|h| h.get(8..12)) != Some(b"vide") {
            continue;
        }
        let fail = |what: &str| bad(path, format!("its video track is malformed: {what}"));
        let mdhd = child(mdia, b"mdhd").ok_or_else(|| fail("no mdhd box"))?;
        let scale_at = if mdhd.first() == Some(&1) { 20 } else { 12 };
        let timescale = be32(mdhd, scale_at).filter(|s| *s > 0).ok_or_else(|| fail("no time scale"))?;
        let stbl = child(mdia, b"minf").and_then(|m| child(m, b"stbl")).ok_or_else(|| fail("no stbl box"))?;
        let (avc, size) = description(path, stbl)?;
        let len = file.metadata().map_err(io_error(path))?.len();
        let (mut samples, times) = match child(moov, b"mvex") {
            Some(mvex) => fragments::samples(path, &mut file, mvex)?,
            None => sample_table(stbl, len).map_err(|what| fail(&what))?,
        };
        let mut notes = Notes::default();
        let movie_scale = child(moov, b"mvhd").and_then(|m| be32(m, if m.first() == Some(&1) { 20 } else { 12 }));
        match edits::shown(trak, movie_scale.unwrap_or(0), timescale) {
            Ok(Some(range)) if !edits::mark(range, &times, &mut samples) => {
                notes.say("its edit list shows no frame; all frames were taken".to_owned());
            }
            Ok(_) => {}
            Err(what) => notes.say(format!("its edit list was left aside: {what}; all frames were taken")),
        }
        from_first_shown(&times, timescale, &mut samples);
        let shown = || samples.iter().filter(|s| s.shown);
        let span_s = shown().map(|s| s.t_ns).max().unwrap_or(0) as f64 * 1e-9;
        let fps = if span_s > 0.0 { ((shown().count() - 1) as f64 / span_s) as f32 } else { 0.0 };
        return Ok((Track { path: path.to_owned(), file, avc, size, samples, fps }, notes));
    }
    Err(bad(path, "it has no video track"))
}

/// The H.264 configuration and picture size from the sample description.
fn description(path: &Path, stbl: &[u8]) -> Result<(AvcConfig, [u16; 2]), ImportError> {
    let fail = |what: &str| bad(path, format!("its sample description is malformed: {what}"));
    let mut rest = child(stbl, b"stsd").and_then(|b| b.get(8..)).ok_or_else(|| fail("no stsd box"))?;
    let (kind, entry) = next_box(&mut rest).ok_or_else(|| fail("no entry"))?;
    let codec = match &kind {
        b"avc1" | b"avc3" => None,
        b"hvc1" | b"hev1" => Some("H.265"),
        b"mp4v" => Some("MPEG-4 part 2"),
        b"av01" => Some("AV1"),
        b"vp09" => Some("VP9"),
        b"jpeg" | b"mjpa" => Some("Motion JPEG"),
        _ => Some("unknown"),
    };
    if let Some(name) = codec {
        let codec = format!("{name} ({})", String::from_utf8_lossy(&kind).escape_default());
        return Err(ImportError::Codec { path: path.to_owned(), codec });
    }
    let side = |at: usize| entry.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let size = side(24).zip(side(26)).ok_or_else(|| fail("no picture size"))?;
    let fits = |n: u16| (2..=MAX_PICTURE_SIDE).contains(&usize::from(n));
    if !fits(size.0) || !fits(size.1) {
        return Err(fail(&format!("a picture of {}x{}", size.0, size.1)));
    }
    let avcc = entry.get(78..).and_then(|b| child(b, b"avcC")).ok_or_else(|| fail("no avcC box"))?;
    let avc = AvcConfig::parse(avcc).ok_or_else(|| fail("its avcC box"))?;
    Ok((avc, [size.0, size.1]))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
}

/// A table box of rows of `N` 32-bit numbers behind a count: a named error if it is shorter than it says.
fn rows<'a, const N: usize>(
    stbl: &'a [u8],
    kind: &[u8; 4],
) -> Result<impl Iterator<Item = [u32; N]> + use<'a, N>, String> {
    let name = String::from_utf8_lossy(kind).into_owned();
    let table = child(stbl, kind).ok_or(format!("no {name} box"))?;
    let count = be32(table, 4).ok_or(format!("{name} is cut"))? as usize;
    let body = table.get(8..).and_then(|b| b.get(..count.checked_mul(4 * N)?)).ok_or(format!("{name} is cut"))?;
    Ok(body.chunks_exact(4 * N).map(|row| {
        let mut out = [0; N];
        for (o, b) in out.iter_mut().zip(row.chunks_exact(4)) {
            *o = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        }
        out
    }))
}

/// How many frames a file of `len` bytes may say that it has: a table of one size for all takes no room of its own, and a frame
/// takes a byte at least.
pub(crate) fn most_samples(len: u64) -> usize {
    MAX_VIDEO_SAMPLES.min(usize::try_from(len).unwrap_or(usize::MAX))
}

/// Sizes and places of all samples of a file of `len` bytes, in decode order, and their composition times in units of the track.
fn sample_table(stbl: &[u8], len: u64) -> Result<(Vec<Sample>, Vec<i64>), String> {
    let stsz = child(stbl, b"stsz").ok_or("no stsz box")?;
    let (fixed, count) = be32(stsz, 4).zip(be32(stsz, 8)).ok_or("stsz is cut")?;
    let count = count as usize;
    let most = most_samples(len);
    if count == 0 || count > most {
        return Err(format!("{count} frames, not 1 to {most}"));
    }
    let size = |i: usize| if fixed > 0 { Some(fixed) } else { be32(stsz, 12 + 4 * i) };
    let chunks: Vec<u64> = match rows::<1>(stbl, b"stco") {
        Ok(rows) => rows.map(|[o]| u64::from(o)).collect(),
        Err(_) => rows::<2>(stbl, b"co64")?.map(|[h, l]| u64::from(h) << 32 | u64::from(l)).collect(),
    };
    let mut samples = Vec::with_capacity(count);
    let runs: Vec<[u32; 3]> = rows::<3>(stbl, b"stsc")?.collect();
    // Each chunk belongs to one run; otherwise a table of a few megabytes would be gone through for minutes.
    if !runs.windows(2).all(|w| w[0][0] < w[1][0]) {
        return Err("stsc is out of order".to_owned());
    }
    for (n, run) in runs.iter().enumerate() {
        let last = runs.get(n + 1).map_or(chunks.len(), |next| next[0].saturating_sub(1) as usize);
        for chunk in chunks.iter().take(last).skip(run[0].max(1) as usize - 1) {
            let mut offset = *chunk;
            for _ in 0..run[1] {
                if samples.len() == count {
                    break;
                }
                let size = size(samples.len()).ok_or("stsz is cut")?;
                samples.push(Sample { offset, size, t_ns: 0, shown: true });
                offset = offset.saturating_add(u64::from(size));
            }
        }
    }
    if samples.len() < count {
        return Err(format!("places for {} of {count} frames", samples.len()));
    }
    let times = times(stbl, samples.len())?;
    Ok((samples, times))
}

/// The composition times of `count` samples.
fn times(stbl: &[u8], count: usize) -> Result<Vec<i64>, String> {
    let spread = |rows: Vec<[u32; 2]>| rows.into_iter().flat_map(|[n, v]| std::iter::repeat_n(v, n as usize));
    let mut deltas = spread(rows::<2>(stbl, b"stts")?.collect());
    let mut shifts = match child(stbl, b"ctts") {
        Some(_) => spread(rows::<2>(stbl, b"ctts")?.collect()),
        None => spread(Vec::new()),
    };
    let mut decode = 0i64;
    let mut times = Vec::with_capacity(count);
    let mut last_delta = 0;
    for _ in 0..count {
        // Version 0 of ctts is unsigned by the letter, but offsets above 2^31 are negative ones everywhere.
        times.push(decode.saturating_add(i64::from(shifts.next().unwrap_or(0) as i32)));
        // A short stts: the last duration goes on.
        last_delta = deltas.next().unwrap_or(last_delta);
        decode = decode.saturating_add(i64::from(last_delta));
    }
    Ok(times)
}

/// Composition times, in units of the track, to nanoseconds from the earliest that is shown.
fn from_first_shown(times: &[i64], timescale: u32, samples: &mut [Sample]) {
    let first = samples.iter().zip(times).filter(|(s, _)| s.shown).map(|(_, t)| *t).min().unwrap_or(0);
    for (sample, t) in samples.iter_mut().zip(times) {
        let ns = (i128::from(*t) - i128::from(first)) * 1_000_000_000 / i128::from(timescale.max(1));
        sample.t_ns = u64::try_from(ns).unwrap_or(0);
    }
}
