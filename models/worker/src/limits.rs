//! Capacities of this crate.

use core::time::Duration;

/// Most frames of one job (upstream looks at 96 at most; the default window has 18).
pub const MAX_JOB_FRAMES: usize = 96;
/// Largest picture of one frame, bytes of RGB: the default window is 420 x 252 x 3 = 317,520.
pub const MAX_PICTURE_BYTES: usize = 1 << 20;
/// Largest side of a picture, pixels.
pub const MAX_PICTURE_SIDE: u16 = 2048;
/// Pictures of one job that the daemon holds for a second attempt, bytes.
pub const MAX_JOB_BYTES: usize = 48 << 20;
/// Largest message that is no picture, bytes: facts with a codebook of [`MAX_CODES`] answers are the longest.
pub const MAX_CONTROL_BYTES: usize = 1 << 19;
/// Largest payload of any frame on the socket, bytes.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PICTURE_BYTES + 1024;
/// Longest text of one answer, bytes.
pub const MAX_ANSWER_BYTES: usize = 2048;
/// Longest free question, bytes.
pub const MAX_QUESTION_BYTES: usize = 1024;
/// Most tokens of a free answer.
pub const MAX_ASK_TOKENS: u16 = 512;
/// Longest reason in words, bytes; longer ones are cut.
pub const MAX_DETAIL_BYTES: usize = 400;
/// Most known answers of one list of the codebook (CrashChat's longest has 93).
pub const MAX_CODES: usize = 1024;
/// Objects beside one frame: the three nearest (AutoVideoTrack).
pub const MAX_OBJECTS: usize = 3;
/// Steps of the ladder: full, smaller budget, small model.
pub const MAX_STEPS: usize = 3;
/// Attempts at one job: the first, and one on a lower step.
pub const MAX_ATTEMPTS: usize = 2;
/// Messages that wait inside the worker: every picture of a job, its begin and its end.
pub const WORKER_INBOX: usize = MAX_JOB_FRAMES + 8;

/// How often an idle worker is asked whether it lives.
pub const PING_EVERY: Duration = Duration::from_secs(10);
/// The worker says that it lives when asked; without an answer for this long it counts as hung while idle.
pub const PONG_WITHIN: Duration = Duration::from_secs(5);
/// A cancelled job is given back within this time, or the worker is killed.
pub const CANCEL_GRACE: Duration = Duration::from_millis(500);
/// A write to the socket that takes longer than this is a hang.
pub const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// A worker that was asked to stop has this long before it is killed.
pub const STOP_GRACE: Duration = Duration::from_millis(500);
/// Longest loading of a model that a service manager's watchdog believes in.
pub const LOAD_MOST: Duration = Duration::from_secs(300);
/// Longest encoding of one frame, likewise: a large model on a small CPU takes seconds.
pub const FRAME_MOST: Duration = Duration::from_secs(60);
/// Longest answer to a job without a deadline, likewise.
pub const ANSWER_MOST: Duration = Duration::from_secs(900);
/// First wait before a worker that failed is started again; it doubles with each failure.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest such wait.
pub const BACKOFF_MOST: Duration = Duration::from_secs(300);

const _: () = assert!(MAX_PICTURE_BYTES <= MAX_PAYLOAD_BYTES && MAX_CONTROL_BYTES <= MAX_PAYLOAD_BYTES);
const _: () = assert!(420 * 252 * 3 <= MAX_PICTURE_BYTES);
const _: () = assert!(MAX_ATTEMPTS <= MAX_STEPS);
