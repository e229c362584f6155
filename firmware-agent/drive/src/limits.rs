//! Every capacity of this crate, in one place, with the relations between them checked at compile time.

use agent_core::limits::MAX_FRAME_BYTES;

/// Uncompressed bytes after which the writer closes a chunk. A cut drive loses at most what is in the open chunk:
/// about two seconds of 720p video with its telemetry.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The same for a file with a chain, whose chunks are made in memory, each with its link behind it.
pub const LINKED_CHUNK_BYTES: usize = 256 << 10;
/// Largest chunk, compressed or not, that the reader takes; other writers' defaults are 0.75 to 4 MiB.
pub const MAX_CHUNK_BYTES: usize = 64 << 20;
/// Most messages of one chunk that the reader sorts. A 64 MiB chunk of the smallest CAN messages stays below it.
pub const MAX_CHUNK_MESSAGES: usize = 1 << 20;
/// Largest record outside chunks that is read into memory (schemas, channels, metadata, loose messages).
pub const MAX_RECORD_BYTES: usize = 16 << 20;
/// Most channels, and most schemas, of one drive.
pub const MAX_CHANNELS: usize = 1024;
/// Most metadata records kept, and most entries of one of them.
pub const MAX_METADATA: usize = 256;
/// Most entries of a record of an evidence chain.
pub const MAX_CHAIN_ENTRIES: usize = 16;
/// Most parts of an evidence file that are held against each other: at a quarter of a megabyte each, 16 GB.
pub const MAX_PARTS: u32 = 1 << 16;
/// Most faults of an evidence file that are named; the rest is counted.
pub const MAX_FAULTS: usize = 64;
/// Widest and highest picture that is decoded, pixels.
pub const MAX_PICTURE_SIDE: usize = 4096;
/// Widest small frame that may be asked for, pixels.
pub const MAX_SMALL_WIDTH: u16 = 1920;
/// Largest parameter sets kept from one MP4 sample description, bytes.
pub const MAX_PARAMETER_SETS: usize = 64 << 10;
/// Largest `moov` box of an MP4 file, bytes (an hour at 60 fps needs about 5 MiB).
pub const MAX_MOOV_BYTES: usize = 64 << 20;
/// Most samples of one video track: six hours at 60 fps.
pub const MAX_VIDEO_SAMPLES: usize = 6 * 3600 * 60;
/// Most pictures held for reordering: the H.264 standard allows 16.
pub const MAX_REORDER: usize = 16;
/// Decoded pictures that wait between GStreamer and the encoder; the pipeline waits when they are full.
#[cfg(feature = "gstreamer")]
pub const GST_PICTURES: u32 = 4;
/// Top-level boxes or chunks of a video file that are looked at to know whether it is cut: six hours of fragments of half
/// a second, two boxes each.
#[cfg(feature = "gstreamer")]
pub const MAX_TOP_LEVEL: usize = 6 * 3600 * 2 * 2;
/// How long one look for the next picture waits, milliseconds, and after how many without one the import gives up (30 s).
#[cfg(feature = "gstreamer")]
pub const GST_POLL_MS: u64 = 50;
/// See [`GST_POLL_MS`].
#[cfg(feature = "gstreamer")]
pub const GST_STALL_POLLS: u64 = 600;
/// Longest line of a text input, bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Bad lines, or warnings of another kind, that are named one by one; the rest is counted.
pub const MAX_NAMED_WARNINGS: usize = 8;
/// Largest numpy array file that is read, bytes: a day of IMU at 1 kHz.
pub const MAX_ARRAY_BYTES: usize = 2 << 30;
/// Largest DBC file, bytes.
pub const MAX_DBC_BYTES: usize = 16 << 20;
/// Most signals that a signal map decodes.
pub const MAX_MAPPINGS: usize = 256;

const _: () = assert!(CHUNK_BYTES + MAX_FRAME_BYTES < MAX_CHUNK_BYTES);
const _: () = assert!(MAX_FRAME_BYTES < MAX_RECORD_BYTES);
const _: () = assert!(MAX_SMALL_WIDTH as usize <= MAX_PICTURE_SIDE);
