//! Every capacity of the link, in one place.

use std::time::Duration;

/// Messages between the caller and the link's thread: a raised alert and a report of 32 events at once, and health.
pub const QUEUE: usize = 128;
/// Places of [`QUEUE`] that only crash messages may take.
pub const QUEUE_RESERVED: usize = 32;
/// Brokers of one unit.
pub const MAX_BROKERS: usize = 8;
/// Messages stored in one transaction at most.
pub const BATCH: usize = 32;
/// Events between the connection's task and the link.
pub const EVENTS: usize = 256;
/// Packet ids that rumqttc may use. A publish collides when its id comes round while the old one still waits, so the
/// link never lets the span from the oldest unacknowledged publish to the newest reach this.
pub const PACKET_IDS: u16 = 1024;
/// Commands that wait for the agent.
pub const COMMANDS: usize = 16;
/// Keys of a fleet whose commands are taken.
pub const COMMAND_KEYS: usize = 8;
/// Commands that are taken at once, where the limit for a minute allows them.
pub const COMMAND_BURST: u32 = 8;
/// Signatures that are checked a minute, and at once: ten a second cost a slow core a hundredth of its time.
pub const CHECKS_PER_MINUTE: u32 = 600;
/// See [`CHECKS_PER_MINUTE`].
pub const CHECKS_BURST: u32 = 20;
/// Events whose report is still owed; of more, the oldest are forgotten.
pub const OWED: usize = 64;
/// Counters of commands that are kept: those of all keys and one for unsigned ones, and some of keys that are gone.
pub const COUNTERS: usize = 32;
/// Largest packet that a unit reads, bytes. A command is at most 331.
pub const UNIT_PACKET_BYTES: usize = 64 << 10;
/// Largest packet that a unit writes, bytes.
pub const OUTGOING_PACKET_BYTES: usize = 4 << 10;
/// Largest packet that the listener reads, bytes.
pub const LISTENER_PACKET_BYTES: usize = 1 << 20;
/// Received messages that wait for the listener's caller; beyond it the broker is held back.
pub const RECEIVED: usize = 256;
/// Messages that the listener remembers to know a duplicate.
pub const SEEN: usize = 16_384;
/// Longest client id, bytes (MQTT 3.1.1 asks a server to take 23; Mosquitto takes 65,535).
pub const CLIENT_ID_BYTES: usize = 128;
/// Longest PEM of certificates or a key, bytes: the root certificates of a system are about 220,000.
pub const PEM_BYTES: usize = 1 << 20;
/// Certificates in one PEM: a system trusts about 150 authorities.
pub const CHAIN: usize = 512;
/// Longest PKCS#11 URI, bytes.
pub const TOKEN_URI_BYTES: usize = 2048;
/// Longest value in one, bytes: a label or serial number has at most 32, the rest are paths.
pub const TOKEN_ATTRIBUTE_BYTES: usize = 512;
/// Longest PIN, bytes.
pub const PIN_BYTES: usize = 255;
/// PKCS#11 modules in one process.
pub const TOKEN_MODULES: usize = 4;
/// Slots of a module that are looked at.
pub const TOKEN_SLOTS: usize = 64;
/// The link waits no longer than this for a signature of a token, and during that does nothing else: a TPM takes half a second.
pub const SIGN_WITHIN: Duration = Duration::from_secs(3);
/// For the first answer of a token, with its module loaded, a login and trial signatures.
pub const TOKEN_CHECK_WITHIN: Duration = Duration::from_secs(10);
/// A token's thread that does not end within this is left behind.
pub const TOKEN_END_WITHIN: Duration = Duration::from_secs(1);
/// Characters of the reason of a session's end that are kept.
pub const END_CHARS: usize = 300;
/// Page cache of the store, bytes.
pub const STORE_CACHE_BYTES: usize = 2 << 20;
/// Unreadable stores that are kept aside; the last one is replaced after that.
pub const SET_ASIDE: u32 = 8;
/// How long commands are not subscribed to after a packet on a fresh subscription could not be read.
pub const COMMANDS_MUTED: Duration = Duration::from_secs(600);
/// The watchdog never waits longer than this.
pub const WATCHDOG_CAP: Duration = Duration::from_secs(120);
/// The link waits so long for the disk before it sends a message: an order of storing and sending is worth less than an alert.
pub const COMMIT_WITHIN: Duration = Duration::from_millis(300);
/// A store that has not answered for so long counts as failing: a worn card may stall for seconds.
pub const HANG_SAID: Duration = Duration::from_secs(5);
/// At the end it waits so long for what was accepted to be stored.
pub const LAST_COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// And so long for the store to be closed.
pub const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// A failed store is made anew this soon at first, then twice as late each time.
pub const REOPEN_FIRST: Duration = Duration::from_secs(1);
/// But never later: it may mean writing everything that waits.
pub const REOPEN_CAP: Duration = Duration::from_secs(16);
/// How often ages, the watchdog and pending deletions are looked at.
pub const TICK: Duration = Duration::from_millis(200);

const _: () = assert!(QUEUE_RESERVED < QUEUE);
const _: () = assert!(COMMAND_KEYS < COUNTERS && COMMAND_BURST as usize <= COMMANDS);
const _: () = assert!(crate::commands::MAX_PAYLOAD_BYTES + 256 < OUTGOING_PACKET_BYTES);
// Every publish in flight, one status and one subscription fit in the connection's request queue.
const _: () = assert!(agent_core::limits::MAX_OUTBOX_WINDOW + 2 < EVENTS);
const _: () = assert!(4 * agent_core::limits::MAX_OUTBOX_WINDOW < PACKET_IDS as usize);
const _: () = assert!(agent_wire::limits::MESSAGE_BYTES + 256 < OUTGOING_PACKET_BYTES);
