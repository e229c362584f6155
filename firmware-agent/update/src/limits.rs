//! Every capacity of updates, in one place.

use std::time::Duration;

/// Largest head of an update, bytes: [`MAX_UNITS`] names and [`MAX_FILES`] files with their hashes take a third of it.
pub const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most files of one update: one of each role, a network beside each manifest, and some others.
pub const MAX_FILES: usize = 16;
/// Longest name of a file, bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Most units that one update names; an update for more is for the fleet.
pub const MAX_UNITS: usize = 256;
/// Largest layer of configuration, bytes: what the configuration's reader takes.
pub const MAX_CONFIG_BYTES: u64 = 256 << 10;
/// Largest update, bytes of its files together: a student of 7 B parameters in Q4_K takes 4.4 GB.
pub const MAX_TOTAL_BYTES: u64 = 8 << 30;
/// Files up to this size are hashed at every start, bytes: a tenth of a second on a slow core. Larger ones are hashed while they are
/// written and once more during the trial.
pub const HASHED_AT_START_BYTES: u64 = 16 << 20;
/// Room that an installation leaves on the disk for evidence and the outbox, bytes.
pub const ROOM_LEFT_BYTES: u64 = 256 << 20;
/// What is read, hashed and written at a time, bytes.
pub const PIECE_BYTES: usize = 256 << 10;
/// What of a file is written between two syncs, bytes.
pub const SYNC_EVERY_BYTES: u64 = 8 << 20;
/// Largest record, bytes.
pub const MAX_RECORD_BYTES: u64 = 4 << 10;
/// Longest reason of a fall that is kept, characters.
pub const MAX_WHY_CHARS: usize = 200;
/// Most folders below that of the updates that are looked at; there are five at most.
pub const MAX_FOLDERS: usize = 64;
/// How many times as many starts may end in order as may end otherwise before an update on trial falls: short trips condemn nothing,
/// and an update that makes the agent end by itself does not last for ever.
pub const ORDERLY: u32 = 10;
/// Tries to have the record for oneself, and the time between them; whoever has it writes a few hundred bytes.
pub const LOCK_TRIES: u32 = 40;
/// See [`LOCK_TRIES`].
pub const LOCK_EVERY: Duration = Duration::from_millis(50);

const _: () = assert!(MAX_UNITS * (agent_wire::limits::UNIT_ID_BYTES + 3) + MAX_FILES * 256 + 1024 <= MAX_HEAD_BYTES);
const _: () = assert!(MAX_WHY_CHARS * 6 + 512 <= MAX_RECORD_BYTES as usize, "each character may be escaped");
const _: () = assert!(MAX_CONFIG_BYTES <= HASHED_AT_START_BYTES && HASHED_AT_START_BYTES <= MAX_TOTAL_BYTES);
