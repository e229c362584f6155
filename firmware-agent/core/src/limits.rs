//! Every capacity of the core, in one place, with the relations between them checked at compile time.

use crate::time::Span;

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
/// Most messages that an outbox may be configured to hold (about 1 KB each in memory).
pub const MAX_OUTBOX_ENTRIES: usize = 16_384;
/// Most bytes of messages that an outbox may be configured to hold.
pub const MAX_OUTBOX_BYTES: usize = 16 << 20;
/// Most messages in flight at once.
pub const MAX_OUTBOX_WINDOW: usize = 64;

/// An event that goes on (impact after impact, raise after raise) is closed after this time.
pub const MAX_EVENT: Span = Span::from_s(20);
/// Events that wait for their evidence or student at once; when one more closes, the oldest is reported as it is.
pub const MAX_OPEN_EVENTS: usize = 4;
/// Impacts remembered in one event; more are counted.
pub const MAX_IMPACTS: usize = 4;
/// Alerts of one event: the first and its raises (severity has four values, kind may change once more).
pub const MAX_REVISIONS: u8 = 6;
/// Outputs that may wait to be drained; the caller drains after each input, and one input makes at most this many.
pub const MAX_OUTPUTS: usize = 32;
/// Rows of the delta-V table: 0 to 300 ms at 100 Hz, both ends included.
pub const EDR_DELTA_V_ROWS: usize = 31;
/// Rows of the pre-crash table: 20 s at 10 Hz, both ends included.
pub const EDR_PRE_CRASH_ROWS: usize = 201;
/// Object tables remembered for the student: at most one every [`OBJECT_SPACING`].
pub const OBJECT_ROWS: usize = 512;
/// Least time between two of them.
pub const OBJECT_SPACING: Span = Span::from_ms(50);

const _: () = assert!(OBJECT_ROWS as u64 * OBJECT_SPACING.as_ms() >= MAX_EVENT.as_ms() + 5000);
const _: () = assert!(MAX_TRACKS <= MAX_DETECTIONS);
const _: () = assert!(OBJECT_TABLE <= MAX_TRACKS);
/// Steps of the wall clock that are remembered; of more, the oldest go.
pub const MAX_WALL_STEPS: usize = 8;
/// IMU samples that the telemetry trigger looks back on: half a second at the highest rate.
pub const IMU_HISTORY: usize = 1024;
const _: () = assert!(IMU_HISTORY >= MAX_IMU_HZ as usize / 2);
