//! Importers: video files, candump logs, IMU tables and comma2k19 segments, merged by time into one drive.
//!
//! Every input is a [`Source`] that gives its samples in its own order; the merge takes the earliest of all heads, so that
//! only one sample of each input is in memory. What an input could not use is counted and the first cases named.

mod candump;
mod comma2k19;
mod edits;
mod fragments;
#[cfg(feature = "gstreamer")]
mod gst;
mod imu_csv;
mod mp4;
mod npy;
mod transcode;
#[cfg(feature = "gstreamer")]
mod whole;

use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample};
use agent_core::time::MonoTime;

pub use imu_csv::{AccelUnit, GyroUnit, ImuColumns, TimeUnit};

use crate::encode::EncodeError;
use crate::error::DriveError;
use crate::info::{CameraInfo, DriveInfo};
use crate::limits::{MAX_LINE_BYTES, MAX_NAMED_WARNINGS};
use crate::writer::{DriveCounts, DriveWriter};

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An input could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An input is not what it should be.
    #[error("{}: {reason}", path.display())]
    Bad {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The video is in a codec that is not imported.
    #[error(
        "{}: the video is {codec}; this build imports H.264 in MP4 only. Build it with the feature gstreamer, or convert the \
         video: ffmpeg -i IN -an -c:v libx264 -bf 0 OUT.mp4",
        path.display()
    )]
    Codec {
        /// Which file.
        path: PathBuf,
        /// The codec's name.
        codec: String,
    },
    /// Two inputs have pictures; a drive has one camera.
    #[error("{}: a drive has one camera, and another input has pictures already", .0.display())]
    TwoCameras(PathBuf),
    /// No input gave any sample.
    #[error("nothing to import: no input gave a sample ({})", .0.join("; "))]
    Empty(Vec<String>),
    /// The drive could not be written.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

/// What an input is.
#[derive(Clone, Debug, PartialEq)]
pub enum InputKind {
    /// An MP4 file with H.264; with the feature `gstreamer` any video that the system decodes.
    Video,
    /// A candump log (`candump -l`), plain or gzip (`.gz`).
    Candump,
    /// A table of IMU samples.
    ImuCsv(ImuColumns),
    /// A comma2k19 segment's folder. The text of a DBC file, if given, restores the lengths of CAN frames.
    Comma2k19(Option<String>),
}

/// Where an input lies on the drive's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offset {
    /// Its first sample lies at this many seconds.
    FirstAt(f64),
    /// Its own clock plus this many seconds; a video's own clock begins at 0.
    OwnClock(f64),
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// File or folder.
    pub path: PathBuf,
    /// What it is.
    pub kind: InputKind,
    /// Where it lies on the drive's clock.
    pub offset: Offset,
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportReport {
    /// What was written.
    pub counts: DriveCounts,
    /// Samples, lines and frames that could not be used.
    pub skipped: u64,
    /// What was skipped or changed: the first cases of each input, then counts.
    pub warnings: Vec<String>,
    /// The drive's own record as it was written.
    pub info: DriveInfo,
}

/// One sample of an input, on the input's own clock.
pub(crate) enum Item {
    Imu(ImuSample),
    Gnss(GnssFix),
    Can(CanFrame),
    Frame(FrameMeta, Vec<u8>),
}

impl Item {
    fn time(&mut self) -> &mut MonoTime {
        match self {
            Self::Imu(s) => &mut s.t,
            Self::Gnss(s) => &mut s.t,
            Self::Can(s) => &mut s.t,
            Self::Frame(m, _) => &mut m.t,
        }
    }
}

/// What a source could not use.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) named: Vec<String>,
    pub(crate) skipped: u64,
}

impl Notes {
    /// Counts something skipped, and names it if it is among the first.
    pub(crate) fn skip(&mut self, what: impl FnOnce() -> String) {
        self.skipped += 1;
        if self.named.len() < MAX_NAMED_WARNINGS {
            self.named.push(what());
        }
    }

    /// Says something about the input as a whole.
    pub(crate) fn say(&mut self, what: String) {
        self.named.push(what);
    }
}

/// An input being read.
pub(crate) trait Source {
    fn next(&mut self) -> Result<Option<Item>, ImportError>;
    fn notes(&mut self) -> &mut Notes;
    /// The camera, if the input has one, and whether its pictures are encoded anew.
    fn camera(&self) -> Option<(CameraInfo, bool)> {
        None
    }
}

struct Head {
    path: PathBuf,
    source: Box<dyn Source>,
    item: Option<Item>,
    shift_ns: i128,
}

impl Head {
    /// Takes the next sample that lies at or after time 0 of the drive.
    fn advance(&mut self) -> Result<(), ImportError> {
        loop {
            self.item = self.source.next()?;
            let Some(item) = &mut self.item else { return Ok(()) };
            let t = item.time();
            match u64::try_from(i128::from(t.0) + self.shift_ns) {
                Ok(shifted) => {
                    *t = MonoTime(shifted);
                    return Ok(());
                }
                Err(_) => self.source.notes().skip(|| "a sample lies before time 0 of the drive".to_owned()),
            }
        }
    }
}

/// Makes the drive `out` from `inputs`. `info` is completed: camera, transcoding, and `composite` if there are several
/// inputs that `same_recording` does not vouch for.
///
/// # Errors
/// [`ImportError`], naming the file; what is left of `out` then is not a whole drive.
pub fn import(
    inputs: &[Input],
    out: &Path,
    mut info: DriveInfo,
    same_recording: bool,
) -> Result<ImportReport, ImportError> {
    let mut heads = Vec::new();
    for input in inputs {
        let source = open(input)?;
        if let Some((camera, transcoded)) = source.camera() {
            if info.camera.as_ref().is_some_and(|c| c.width > 0) {
                return Err(ImportError::TwoCameras(input.path.clone()));
            }
            let hfov_deg = info.camera.as_ref().and_then(|c| c.hfov_deg);
            info.camera = Some(CameraInfo { hfov_deg, ..camera });
            info.transcoded |= transcoded;
        }
        let mut head = Head { path: input.path.clone(), source, item: None, shift_ns: 0 };
        head.item = head.source.next()?;
        if let Some(item) = &mut head.item {
            let (t, ns) = (item.time(), |s: f64| (s * 1e9).round() as i128);
            head.shift_ns = match input.offset {
                Offset::FirstAt(s) => ns(s) - i128::from(t.0),
                Offset::OwnClock(s) => ns(s),
            };
            match u64::try_from(i128::from(t.0) + head.shift_ns) {
                Ok(shifted) => *t = MonoTime(shifted),
                Err(_) => {
                    head.source.notes().skip(|| "a sample lies before time 0 of the drive".to_owned());
                    head.advance()?;
                }
            }
        }
        heads.push(head);
    }
    if heads.iter().all(|h| h.item.is_none()) {
        let why = |h: &mut Head| {
            let first = h.source.notes().named.first().cloned();
            format!("{}: {}", h.path.display(), first.unwrap_or_else(|| "there is none in it".to_owned()))
        };
        return Err(ImportError::Empty(heads.iter_mut().map(why).collect()));
    }
    info.composite |= inputs.len() > 1 && !same_recording;
    let mut writer = DriveWriter::create(out, &info)?;
    let mut report = ImportReport { info, ..ImportReport::default() };
    while let Some(head) = earliest(&mut heads) {
        if let Some(item) = head.item.take()
            && let Err(e) = write(&mut writer, &item)
        {
            match e {
                DriveError::FrameTooLarge { .. } => head.source.notes().skip(|| e.to_string()),
                other => return Err(other.into()),
            }
        }
        head.advance()?;
    }
    for head in &mut heads {
        let (name, notes) = (head.path.display().to_string(), head.source.notes());
        report.skipped += notes.skipped;
        report.warnings.extend(notes.named.iter().map(|w| format!("{name}: {w}")));
        if notes.skipped > MAX_NAMED_WARNINGS as u64 {
            report.warnings.push(format!("{name}: {} skipped in all", notes.skipped));
        }
    }
    report.counts = writer.finish()?.1;
    Ok(report)
}

fn earliest(heads: &mut [Head]) -> Option<&mut Head> {
    let key = |h: &mut Head| h.item.as_mut().map(|i| *i.time());
    heads.iter_mut().filter_map(|h| key(h).map(|t| (t, h))).min_by_key(|(t, _)| *t).map(|(_, h)| h)
}

fn write<W: std::io::Write + std::io::Seek>(w: &mut DriveWriter<W>, item: &Item) -> Result<(), DriveError> {
    match item {
        Item::Imu(s) => w.write_imu(s),
        Item::Gnss(s) => w.write_gnss(s),
        Item::Can(s) => w.write_can(s),
        Item::Frame(meta, data) => w.write_frame(meta, data),
    }
}

fn open(input: &Input) -> Result<Box<dyn Source>, ImportError> {
    let path = input.path.as_path();
    Ok(match &input.kind {
        InputKind::Video => open_video(path)?,
        InputKind::Candump => Box::new(candump::Candump::open(path)?),
        InputKind::ImuCsv(columns) => Box::new(imu_csv::ImuCsv::open(path, columns)?),
        InputKind::Comma2k19(dbc) => Box::new(comma2k19::Segment::open(path, dbc.as_deref())?),
    })
}

/// H.264 in MP4 is read as it is; what else there is goes to GStreamer where it is built in.
fn open_video(path: &Path) -> Result<Box<dyn Source>, ImportError> {
    match mp4::open(path) {
        #[cfg(feature = "gstreamer")]
        Err(ImportError::Codec { .. }) => gst::open(path),
        result => result,
    }
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::Io { path, source }
}

pub(crate) fn bad(path: &Path, reason: impl Into<String>) -> ImportError {
    ImportError::Bad { path: path.to_owned(), reason: reason.into() }
}

/// A frame that was encoded anew, as an import has it; a note if the encoder left it out.
pub(crate) fn encoded(
    frame: Result<Option<(FrameMeta, Vec<u8>)>, EncodeError>,
    path: &Path,
    seq: u64,
    notes: &mut Notes,
) -> Result<Option<Item>, ImportError> {
    let frame = frame.map_err(|e| bad(path, e.to_string()))?;
    if frame.is_none() {
        notes.skip(|| format!("frame {seq}: the encoder left it out"));
    }
    Ok(frame.map(|(meta, data)| Item::Frame(meta, data)))
}

/// Opens a text file, unpacking it if it begins as gzip does.
pub(crate) fn open_text(path: &Path) -> Result<Box<dyn BufRead>, ImportError> {
    let mut file = std::io::BufReader::new(File::open(path).map_err(io_error(path))?);
    let gzip = file.fill_buf().map_err(io_error(path))?.starts_with(&[0x1F, 0x8B]);
    Ok(if gzip {
        Box::new(std::io::BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

/// Reads the next line into `line` without its end; its true length if it is longer than the limit, which is cut off.
pub(crate) fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    line.clear();
    let mut length = 0;
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            return Ok((length > 0).then_some(length));
        }
        let end = part.iter().position(|b| *b == b'\n');
        let take = end.unwrap_or(part.len());
        let keep = take.min(MAX_LINE_BYTES.saturating_sub(line.len()));
        line.extend_from_slice(part.get(..keep).unwrap_or(&[]));
        length += take + usize::from(end.is_some());
        input.consume(take + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}
