//! Drives: what a unit's sensors said, as one MCAP file that standard viewers open; the importers that make drives from
//! what people have; the decoding of pictures and of CAN signals.
//!
//! Nothing here decides about events, and nothing here is on the network. Everything is deterministic: the same inputs
//! give the same drive, byte by byte, and the same records.

mod cdr;
pub mod chain;
mod container;
pub mod dbc;
mod encode;
mod error;
mod h264;
pub mod import;
mod info;
pub mod limits;
mod live;
mod reader;
mod schema;
pub mod verify;
mod video;
mod writer;

pub use chain::{Chained, Seal};
pub use container::DriveLoss;
pub use dbc::{DbcError, DbcStats, IdFilter, SignalMap, SignalMapping};
pub use encode::{EncodeError, PictureEncoder};
pub use error::DriveError;
pub use info::{CameraInfo, DriveInfo};
pub use live::LiveStream;
pub use mcap::write::NoSeek;
pub use reader::{DriveReader, DriveRecord, ReadStats};
pub use verify::{Verdict, verify};
pub use video::{DecodeError, DecodeStats, SmallFrame, VideoDecoder};
pub use writer::{DriveCounts, DriveWriter};
