//! The policy of the durable outbox: what is kept, what is sent next, what is given up, and when.
//!
//! Terms: an *entry* is one encoded message with a key that grows; a *crash* entry belongs to an event of severity
//! Severe or Critical; every other is *lesser*. *Admit* takes an entry in, *expire* gives lesser ones up by age,
//! *evict* gives them up because a cap is reached.
//!
//! The written policy:
//! 1. Sending order: alerts, then reports, then the rest; within each those of crashes first, and the oldest first. So a crash
//!    alert stands behind other crash alerts alone, whatever waited through an outage.
//! 2. A crash entry is never expired and never evicted. It leaves only by acknowledgement.
//! 3. At a cap, the lowest class of lesser entries goes first and the oldest of it first. A lesser entry never evicts
//!    one of a higher class: it is refused instead.
//! 4. A crash entry is refused only when the outbox is full of crash entries.
//! 5. Lesser entries also have a cap of their own, so that crashes always find places.
//!
//! It holds no payload, touches no disk and reads no clock: the caller stores what was admitted, deletes what was
//! given up or acknowledged, and says so ([`Outbox::on_deleted`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{MAX_OUTBOX_BYTES, MAX_OUTBOX_ENTRIES, MAX_OUTBOX_WINDOW};
use crate::time::{MonoTime, Span};

/// What an entry is, in sending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// First message of an event.
    Alert,
    /// Second message of an event.
    Report,
    /// Health and the like.
    Other,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// On disk, waits to be sent.
    Stored,
    /// Handed to the connection, not yet acknowledged.
    InFlight {
        /// When it was handed over.
        since: MonoTime,
    },
    /// The broker has it; waits to be deleted from disk.
    Acknowledged,
}

/// One entry, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Grows with each admitted entry.
    pub key: u64,
    /// What it is.
    pub class: Class,
    /// Whether it belongs to a crash (Severe or Critical).
    pub crash: bool,
    /// Size of the encoded message, bytes.
    pub bytes: usize,
}

/// Capacities and ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Most entries in flight at once.
    pub window: usize,
    /// Most entries of all kinds.
    pub entries: usize,
    /// Most bytes of all kinds.
    pub bytes: usize,
    /// Most lesser entries.
    pub lesser_entries: usize,
    /// Lesser alerts and reports older than this are given up.
    pub lesser_max_age: Span,
    /// Other entries (health) older than this are given up.
    pub other_max_age: Span,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            // At 100 ms of round trip 32 in flight are 320 messages a second.
            window: 32,
            entries: 4096,
            bytes: 4 << 20,
            lesser_entries: 1024,
            lesser_max_age: Span::from_s(14 * 86_400),
            other_max_age: Span::from_s(3600),
        }
    }
}

impl OutboxLimits {
    /// The same limits brought into the range that memory is sized for.
    #[must_use]
    pub fn clamped(self) -> Self {
        let entries = self.entries.clamp(1, MAX_OUTBOX_ENTRIES);
        Self {
            window: self.window.clamp(1, MAX_OUTBOX_WINDOW),
            entries,
            bytes: self.bytes.clamp(agent_wire::limits::MESSAGE_BYTES, MAX_OUTBOX_BYTES),
            lesser_entries: self.lesser_entries.clamp(1, entries),
            ..self
        }
    }
}

/// Why an entry was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Full, and nothing of the same or a lower class is left to give up.
    #[error("outbox full: nothing of lower or equal class left to give up for a {class:?} of {bytes} bytes")]
    Full {
        /// Class of the refused entry.
        class: Class,
        /// Its size, bytes.
        bytes: usize,
    },
    /// Full of crash entries alone.
    #[error("outbox full of {entries} crash messages")]
    FullOfCrashes {
        /// How many entries there are.
        entries: usize,
    },
}

/// What came of [`Outbox::admit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Key of the new entry.
    pub key: u64,
    /// Entries given up for it: delete them together with storing the new one.
    pub evicted: Vec<Entry>,
}

/// How many entries were given up since the start, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Lesser entries that grew too old.
    pub expired: u64,
    /// Lesser entries that made room.
    pub evicted: u64,
    /// Lesser entries that were never taken.
    pub refused: u64,
    /// Crash entries that were never taken, because the outbox was full of crash entries.
    pub crash_refused: u64,
}

impl GivenUp {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.expired + self.evicted + self.refused + self.crash_refused
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    entry: Entry,
    state: State,
    expires: MonoTime,
}

/// The policy state machine. See the module's text.
#[derive(Clone, Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    slots: BTreeMap<u64, Slot>,
    /// Stored entries in sending order: class, whether lesser, key.
    ready: BTreeSet<(Class, bool, u64)>,
    /// Lesser entries that are not acknowledged, in sending order: the last class is given up first.
    lesser: BTreeSet<(Class, u64)>,
    /// The same, by the time at which they grow too old.
    ages: BTreeSet<(MonoTime, u64)>,
    in_flight: BTreeSet<u64>,
    next_key: u64,
    waiting: usize,
    waiting_bytes: usize,
    given_up: GivenUp,
}

impl Outbox {
    /// An empty outbox. Limits outside the sized range are clamped.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits: limits.clamped(),
            slots: BTreeMap::new(),
            ready: BTreeSet::new(),
            lesser: BTreeSet::new(),
            ages: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            next_key: 1,
            waiting: 0,
            waiting_bytes: 0,
            given_up: GivenUp::default(),
        }
    }

    /// Gives new entries keys from `key` on, where none was given yet.
    pub fn begin_at(&mut self, key: u64) {
        self.next_key = self.next_key.max(key);
    }

    /// Takes back an entry that was found on disk at the start, `age` old. Caps are not applied here, so that a
    /// lowered limit never loses a crash; call [`Outbox::expire`] afterwards, which trims the lesser ones.
    pub fn restore(&mut self, entry: Entry, age: Span, now: MonoTime) {
        if self.slots.contains_key(&entry.key) {
            return;
        }
        self.next_key = self.next_key.max(entry.key.saturating_add(1));
        let left = Span(self.max_age(entry.class).0.saturating_sub(age.0));
        self.insert(entry, now + left);
    }

    /// Takes in a new entry or refuses it. On success the caller stores it and deletes the evicted ones in one
    /// transaction, and only then asks for the next to send.
    ///
    /// # Errors
    /// Rules 3 and 4 of the policy: nothing is left that may be given up for it.
    pub fn admit(&mut self, class: Class, crash: bool, bytes: usize, now: MonoTime) -> Result<Admitted, Refusal> {
        let Some(victims) = self.victims(class, crash, bytes) else {
            if crash {
                self.given_up.crash_refused += 1;
                return Err(Refusal::FullOfCrashes { entries: self.waiting });
            }
            self.given_up.refused += 1;
            return Err(Refusal::Full { class, bytes });
        };
        let evicted: Vec<Entry> = victims.into_iter().filter_map(|key| self.remove(key)).collect();
        self.given_up.evicted += evicted.len() as u64;
        let key = self.next_key;
        self.next_key = self.next_key.saturating_add(1);
        let expires = now + self.max_age(class);
        self.insert(Entry { key, class, crash, bytes }, expires);
        Ok(Admitted { key, evicted })
    }

    /// The next entry to send, marked in flight; `None` when nothing waits or the window is full.
    pub fn next_to_send(&mut self, now: MonoTime) -> Option<Entry> {
        if self.in_flight.len() >= self.limits.window {
            return None;
        }
        let (.., key) = self.ready.pop_first()?;
        let slot = self.slots.get_mut(&key)?;
        slot.state = State::InFlight { since: now };
        self.in_flight.insert(key);
        Some(slot.entry)
    }

    /// The broker acknowledged `key`. True if it waited for that; a second acknowledgement, or one of an entry that
    /// was given up meanwhile, is false and changes nothing. Delete it from disk, then call [`Outbox::on_deleted`].
    pub fn on_acked(&mut self, key: u64) -> bool {
        let Some(slot) = self.slots.get_mut(&key) else { return false };
        match slot.state {
            State::Acknowledged => false,
            // An acknowledgement that outlived its connection still says that the broker has the message.
            State::Stored | State::InFlight { .. } => {
                slot.state = State::Acknowledged;
                let slot = *slot;
                self.unlink(&slot);
                true
            }
        }
    }

    /// The acknowledged `key` is gone from disk. Any other state is left as it is.
    pub fn on_deleted(&mut self, key: u64) {
        if self.state(key) == Some(State::Acknowledged) {
            self.slots.remove(&key);
        }
    }

    /// The connection was lost: everything in flight waits again, at its old place in the order.
    pub fn on_disconnected(&mut self) {
        for key in std::mem::take(&mut self.in_flight) {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.state = State::Stored;
                self.ready.insert((slot.entry.class, !slot.entry.crash, key));
            }
        }
    }

    /// Gives up lesser entries that are too old or, after a restore, too many. The caller deletes them from disk.
    pub fn expire(&mut self, now: MonoTime) -> Vec<Entry> {
        let mut out = Vec::new();
        while let Some(&(expires, key)) = self.ages.first() {
            if expires > now {
                break;
            }
            // `remove` takes the key out of `ages`, so the loop ends.
            out.extend(self.remove(key));
            self.given_up.expired += 1;
        }
        while self.over(0, 0, self.lesser.len()) {
            let Some(key) = self.lowest_lesser().next() else { break };
            out.extend(self.remove(key));
            self.given_up.evicted += 1;
        }
        out
    }

    /// Where an entry stands; `None` when it was given up, deleted or never there.
    #[must_use]
    pub fn state(&self, key: u64) -> Option<State> {
        self.slots.get(&key).map(|s| s.state)
    }

    /// Entries that the broker does not have yet.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Their bytes.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Entries in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What was given up since the start.
    #[must_use]
    pub const fn given_up(&self) -> GivenUp {
        self.given_up
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &OutboxLimits {
        &self.limits
    }

    const fn max_age(&self, class: Class) -> Span {
        match class {
            Class::Alert | Class::Report => self.limits.lesser_max_age,
            Class::Other => self.limits.other_max_age,
        }
    }

    /// Whether the caps are exceeded with `more` entries of `bytes` in all added and `lesser` lesser ones.
    const fn over(&self, more: usize, bytes: usize, lesser: usize) -> bool {
        self.waiting + more > self.limits.entries
            || self.waiting_bytes + bytes > self.limits.bytes
            || lesser > self.limits.lesser_entries
    }

    /// Lesser entries in the order in which they are given up: lowest class first, oldest first.
    fn lowest_lesser(&self) -> impl Iterator<Item = u64> {
        [Class::Other, Class::Report, Class::Alert]
            .into_iter()
            .flat_map(|class| self.lesser.range((class, 0)..=(class, u64::MAX)).map(|&(_, key)| key))
    }

    /// Which entries must go for a new one; `None` when even giving up all that may go is not enough.
    fn victims(&self, class: Class, crash: bool, bytes: usize) -> Option<Vec<u64>> {
        let mut out = Vec::new();
        let (mut count, mut sum) = (self.waiting + 1, self.waiting_bytes + bytes);
        let mut lesser = self.lesser.len() + usize::from(!crash);
        let mut candidates = self.lowest_lesser();
        let fits = |count: usize, sum: usize, lesser: usize| {
            count <= self.limits.entries && sum <= self.limits.bytes && (crash || lesser <= self.limits.lesser_entries)
        };
        while !fits(count, sum, lesser) {
            let key = candidates.next()?;
            let victim = self.slots.get(&key)?.entry;
            if !crash && victim.class < class {
                return None;
            }
            count -= 1;
            sum -= victim.bytes;
            lesser -= 1;
            out.push(key);
        }
        Some(out)
    }

    fn insert(&mut self, entry: Entry, expires: MonoTime) {
        self.waiting += 1;
        self.waiting_bytes += entry.bytes;
        self.ready.insert((entry.class, !entry.crash, entry.key));
        if !entry.crash {
            self.lesser.insert((entry.class, entry.key));
            self.ages.insert((expires, entry.key));
        }
        self.slots.insert(entry.key, Slot { entry, state: State::Stored, expires });
    }

    /// Takes an entry that still waits out of every list.
    fn unlink(&mut self, slot: &Slot) {
        let Entry { key, class, crash, bytes } = slot.entry;
        self.ready.remove(&(class, !crash, key));
        self.lesser.remove(&(class, key));
        self.ages.remove(&(slot.expires, key));
        self.in_flight.remove(&key);
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
    }

    fn remove(&mut self, key: u64) -> Option<Entry> {
        let slot = self.slots.remove(&key)?;
        if slot.state != State::Acknowledged {
            self.unlink(&slot);
        }
        Some(slot.entry)
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
