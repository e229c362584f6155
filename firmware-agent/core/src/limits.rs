//! Every capacity of the core, in one place, with the relations between them checked at compile time.

/// Longest pre-roll of samples that a configuration may ask for, seconds.
pub const MAX_SAMPLE_PRE_ROLL_S: u32 = 120;
/// Longest pre-roll of video, seconds.
pub const MAX_VIDEO_PRE_ROLL_S: u32 = 60;
/// Longest post-roll, seconds.
pub const MAX_POST_ROLL_S: u32 = 60;
/// Highest IMU rate that the rings are sized for, samples a second.
pub const MAX_IMU_HZ: u32 = 2000;
/// Highest CAN load that the rings are sized for, frames a second (20,000 is the goal; a full 1 Mbit/s bus has 8,800).
pub const MAX_CAN_HZ: u32 = 20_000;
/// Largest encoded frame that the ring takes, bytes; a larger one is counted as lost.
pub const MAX_FRAME_BYTES: usize = 4 << 20;
/// Most detections of one camera frame that the tracker looks at, strongest first.
pub const MAX_DETECTIONS: usize = 64;
/// Most tracks held at once.
pub const MAX_TRACKS: usize = 32;
/// Past boxes that a track keeps: 0.8 s at one every 25 ms; a faster camera is thinned to that.
pub const TRACK_HISTORY: usize = 33;
/// Objects in the object table: the three nearest (AutoVideoTrack).
pub const OBJECT_TABLE: usize = 3;
/// Most signals that a configuration may name to trigger on.
pub const MAX_CUSTOM_SIGNALS: usize = 16;

const _: () = assert!(MAX_TRACKS <= MAX_DETECTIONS);
const _: () = assert!(OBJECT_TABLE <= MAX_TRACKS);
