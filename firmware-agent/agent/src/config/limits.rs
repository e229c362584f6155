//! Every capacity of the configuration reader, in one place, with the relations between them checked at compile time.

use agent_core::limits::{MAX_CUSTOM_SIGNALS, MAX_FRAME_BYTES};

/// Largest configuration file, bytes.
pub(crate) const MAX_FILE_BYTES: usize = 256 * 1024;
/// Deepest nesting of tables and arrays in a file; the deepest value that has a meaning stands at 4.
pub(crate) const MAX_DEPTH: usize = 8;
/// Most files in one chain of `inherits`, the user's file and `base.toml` included.
pub(crate) const MAX_CHAIN: usize = 8;
/// Longest name in `inherits`, bytes.
pub(crate) const MAX_PARENT_BYTES: usize = 64;
/// Most problems listed for one configuration; the rest are counted.
pub(crate) const MAX_PROBLEMS: usize = 64;
/// Longest value that an error quotes, characters.
pub(crate) const MAX_QUOTED_CHARS: usize = 60;
/// Longest text value, bytes (a path on Linux has at most 4096).
pub(crate) const MAX_TEXT_BYTES: usize = 4096;
/// Longest name of a signal that triggers, bytes.
pub(crate) const MAX_SIGNAL_NAME_BYTES: usize = 64;
/// Most `[[trigger.signals]]`: the core's own limit.
pub(crate) const MAX_TRIGGER_SIGNALS: usize = MAX_CUSTOM_SIGNALS;
/// Most CAN buses of one unit.
pub(crate) const MAX_BUSES: usize = 16;
/// Most CAN interfaces that `run` listens to.
pub(crate) const MAX_CAN_INTERFACES: usize = 4;
/// Longest name of a network interface, bytes (the kernel's IFNAMSIZ without its end).
pub(crate) const MAX_INTERFACE_BYTES: usize = 15;
/// Most `filters` of `[sources.can]`; with those of the mapped signals they are fewer than the kernel's 512.
pub(crate) const MAX_CAN_FILTERS: usize = 64;
/// Most drives in `[sources]`.
pub(crate) const MAX_DRIVES: usize = 256;
/// Largest side of the small frames that the trigger model looks at, pixels.
pub(crate) const MAX_SMALL_FRAME_PX: u32 = 1920;
/// Most small frames in the pool.
pub(crate) const MAX_SMALL_FRAMES: u32 = 64;
/// Highest GNSS rate, fixes a second (fast receivers give 25).
pub(crate) const MAX_GNSS_HZ: u32 = 100;
/// Highest video rate that the ring is sized for, Mbit/s.
pub(crate) const MAX_VIDEO_MBIT_S: f32 = 200.0;
/// Highest memory cap, MB of 10^6 bytes: more than any unit has.
pub(crate) const MAX_MEMORY_MB: u32 = 65_536;

const _: () = assert!(MAX_DEPTH >= 5);
const _: () = assert!(MAX_CAN_INTERFACES <= MAX_BUSES);
const _: () = assert!(MAX_CAN_FILTERS + agent_drive::limits::MAX_MAPPINGS <= 512);
const _: () = assert!(MAX_TRIGGER_SIGNALS <= u8::MAX as usize, "the core counts custom signals in a byte");
const _: () = assert!(MAX_FRAME_BYTES <= MAX_MEMORY_MB as usize * 1_000_000);

/// Most brokers of one unit: what the link takes.
pub(crate) const MAX_BROKERS: usize = agent_link::limits::MAX_BROKERS;

/// Most messages in flight: what the core's outbox is sized for.
pub(crate) const MAX_IN_FLIGHT: u32 = agent_core::limits::MAX_OUTBOX_WINDOW as u32;

/// Most messages that wait for the broker: what the core's outbox is sized for.
pub(crate) const MAX_OUTBOX_MESSAGES: u32 = agent_core::limits::MAX_OUTBOX_ENTRIES as u32;

/// Most MB of them.
pub(crate) const MAX_OUTBOX_MB: u32 = (agent_core::limits::MAX_OUTBOX_BYTES / 1_000_000) as u32;

/// Most tokens of one event that a worker may be given room for.
pub(crate) const MAX_PREFIX_TOKENS: u32 = 24_576;

/// Widest and highest picture of a camera: what the decoder takes.
pub(crate) const MAX_CAMERA_PX: u32 = agent_drive::limits::MAX_PICTURE_SIDE as u32;

/// Most frames a second of a camera.
pub(crate) const MAX_CAMERA_FPS: u32 = 120;

/// Most public keys of a fleet.
pub(crate) const MAX_COMMAND_KEYS: usize = agent_link::limits::COMMAND_KEYS;

/// Most public keys of those whose updates are taken.
pub(crate) const MAX_UPDATE_KEYS: usize = 8;

/// Most commands a minute that may be allowed.
pub(crate) const MAX_COMMANDS_PER_MINUTE: u32 = 600;

/// Longest text of a GStreamer pipeline, bytes.
pub(crate) const MAX_PIPELINE_BYTES: usize = 2048;

const _: () = assert!(MAX_PIPELINE_BYTES <= MAX_TEXT_BYTES);
const _: () = assert!(MAX_FILE_BYTES as u64 == agent_update::limits::MAX_CONFIG_BYTES);
