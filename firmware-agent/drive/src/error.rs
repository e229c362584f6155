//! The errors of drives. Each names its place: the path, the offset in the file, the record.

use std::path::PathBuf;

/// Why a drive could not be opened, read on or written.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The file could not be opened or created.
    #[error("{}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Reading failed in the middle of the file: a fault of the disk, not of the contents.
    #[error("reading the drive failed at byte {offset}: {source}")]
    Read {
        /// Where in the file.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not begin as an MCAP file does.
    #[error("not a drive: the first bytes are not those of an MCAP file{}", hint(first))]
    NotMcap {
        /// The first bytes, up to 8.
        first: Vec<u8>,
    },
    /// The file of that name cannot be read as a drive.
    #[error("{}: {why}", path.display())]
    In {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it. Not called `source`: it stands in the message already.
        why: Box<DriveError>,
    },
    /// Writing failed.
    #[error("writing the drive failed: {0}")]
    Write(String),
    /// A frame is larger than the rings take.
    #[error("frame {seq} has {bytes} bytes, more than the limit of {limit}")]
    FrameTooLarge {
        /// Its sequence number.
        seq: u64,
        /// Its size, bytes.
        bytes: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// A drive holds one camera with one codec and size.
    #[error("frame {seq} is {new}, but the drive's camera is {old}")]
    CameraChanged {
        /// Its sequence number.
        seq: u64,
        /// What it was.
        old: String,
        /// What the frame is.
        new: String,
    },
}

fn hint(first: &[u8]) -> &'static str {
    match first {
        [] => " (the file is empty)",
        [0x1F, 0x8B, ..] => " (it is gzip: uncompress it first)",
        [_, _, _, _, b'f', b't', b'y', b'p'] => " (it is an MP4 video: import it first)",
        [b'(', ..] => " (it looks like a candump log: import it first)",
        _ => "",
    }
}
