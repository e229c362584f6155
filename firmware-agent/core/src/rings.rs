//! Rings: the last seconds of everything, in memory that is taken once at the start.
//!
//! [`ByteRing`] holds records of varying size (encoded frames, CAN frames) in one arena; [`SampleRing`] holds
//! samples of one size. Both are bounded in count and in time, drop the oldest first, and count what they dropped
//! before its time was up. A *pin* is the time from which an open event still needs the content: nothing younger than
//! the pin leaves by age, only by lack of room, and that is counted apart. Neither ring ever allocates after `new`.

use std::collections::VecDeque;

use crate::samples::FrameMeta;
use crate::time::{MonoTime, Span};

/// What a ring had to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingDrops {
    /// Records that were too large, older than the newest one, or refused while waiting for a key frame.
    pub refused: u64,
    /// Records that left for lack of room while they were still within the time that the ring should hold.
    pub early: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<M> {
    t: MonoTime,
    offset: usize,
    len: usize,
    meta: M,
}

/// A ring of byte records, each contiguous in one arena.
#[derive(Debug)]
pub struct ByteRing<M> {
    arena: Box<[u8]>,
    index: VecDeque<Entry<M>>,
    entries: usize,
    head: usize,
    keep: Span,
    drops: RingDrops,
}

impl<M: Copy> ByteRing<M> {
    /// What one record takes besides its payload, bytes.
    pub const ENTRY_BYTES: usize = size_of::<Entry<M>>();

    /// A ring of `bytes` of payload and at most `entries` records, kept for `keep`.
    #[must_use]
    pub fn new(bytes: usize, entries: usize, keep: Span) -> Self {
        Self {
            arena: vec![0; bytes].into_boxed_slice(),
            index: VecDeque::with_capacity(entries),
            entries,
            head: 0,
            keep,
            drops: RingDrops::default(),
        }
    }

    /// Appends a record. Returns false, and counts it, when it is larger than the arena or older than the newest.
    /// Cost: amortised constant; each record enters and leaves once.
    pub fn push(&mut self, t: MonoTime, meta: M, bytes: &[u8], pin: Option<MonoTime>) -> bool {
        let backwards = self.index.back().is_some_and(|last| t < last.t);
        if backwards || bytes.len() >= self.arena.len() || self.entries == 0 {
            self.drops.refused += 1;
            return false;
        }
        self.expire(t, pin);
        while self.index.len() >= self.entries {
            self.drop_oldest_early();
        }
        let offset = loop {
            match self.place(bytes.len()) {
                Some(offset) => break offset,
                None => self.drop_oldest_early(),
            }
        };
        self.arena[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.head = offset + bytes.len();
        self.index.push_back(Entry { t, offset, len: bytes.len(), meta });
        true
    }

    /// Where a record of `len` bytes can stand without overwriting the oldest, if anywhere.
    fn place(&self, len: usize) -> Option<usize> {
        let Some(tail) = self.index.front().map(|e| e.offset) else { return Some(0) };
        let wrapped = self.index.back().is_some_and(|last| last.offset < tail);
        if wrapped {
            return (tail - self.head > len).then_some(self.head);
        }
        if self.arena.len() - self.head >= len {
            return Some(self.head);
        }
        (tail > len).then_some(0)
    }

    fn expire(&mut self, now: MonoTime, pin: Option<MonoTime>) {
        let oldest = now.minus(self.keep);
        let oldest = pin.map_or(oldest, |p| p.min(oldest));
        while self.index.front().is_some_and(|e| e.t < oldest) {
            self.index.pop_front();
        }
    }

    fn drop_oldest_early(&mut self) {
        if self.index.pop_front().is_some() {
            self.drops.early += 1;
        }
    }

    /// Records from `from` to `to` (both included), oldest first.
    pub fn range(&self, from: MonoTime, to: MonoTime) -> impl Iterator<Item = (MonoTime, M, &[u8])> {
        let start = self.index.partition_point(|e| e.t < from);
        self.index
            .range(start..)
            .take_while(move |e| e.t <= to)
            .map(|e| (e.t, e.meta, self.arena.get(e.offset..e.offset + e.len).unwrap_or_default()))
    }

    /// Records held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Time of the newest record.
    #[must_use]
    pub fn newest(&self) -> Option<MonoTime> {
        self.index.back().map(|e| e.t)
    }

    /// Time from the oldest to the newest record.
    #[must_use]
    pub fn span(&self) -> Span {
        match (self.index.front(), self.index.back()) {
            (Some(a), Some(b)) => b.t.since(a.t),
            _ => Span(0),
        }
    }

    /// What was dropped since the start.
    #[must_use]
    pub const fn drops(&self) -> RingDrops {
        self.drops
    }

    /// Memory taken, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.arena.len() + self.entries * Self::ENTRY_BYTES
    }
}

/// The ring of encoded frames: always begins at a key frame, so that what it holds can be decoded.
#[derive(Debug)]
pub struct FrameRing {
    ring: ByteRing<FrameMeta>,
}

impl FrameRing {
    /// A ring of `bytes` and at most `frames` frames, kept for `keep`.
    #[must_use]
    pub fn new(bytes: usize, frames: usize, keep: Span) -> Self {
        Self { ring: ByteRing::new(bytes, frames, keep) }
    }

    /// Appends an encoded frame. A frame that comes before any key frame is refused and counted.
    pub fn push(&mut self, meta: &FrameMeta, bytes: &[u8], pin: Option<MonoTime>) -> bool {
        if self.ring.is_empty() && !meta.key {
            self.ring.drops.refused += 1;
            return false;
        }
        // Leaving by age takes whole groups of pictures and is looked at only when a new group begins, so that the
        // cost of a frame does not depend on how much is held (a scan of one group, once a group).
        let keep_from = if meta.key { self.keep_from(meta.t, pin) } else { MonoTime::ZERO };
        let taken = self.ring.push(meta.t, *meta, bytes, Some(keep_from));
        while self.ring.index.front().is_some_and(|e| !e.meta.key) {
            self.ring.drop_oldest_early();
        }
        taken && !self.ring.is_empty()
    }

    /// The time of the newest key frame that is at or before the oldest time wanted; the oldest frame if none is.
    fn keep_from(&self, now: MonoTime, pin: Option<MonoTime>) -> MonoTime {
        let wanted = now.minus(self.ring.keep);
        let wanted = pin.map_or(wanted, |p| p.min(wanted));
        let Some(front) = self.ring.index.front() else { return wanted };
        let mut from = front.t;
        for e in &self.ring.index {
            if e.t > wanted {
                break;
            }
            if e.meta.key {
                from = e.t;
            }
        }
        from
    }

    /// Frames from the last key frame at or before `from`, to `to`.
    pub fn range_from_key(&self, from: MonoTime, to: MonoTime) -> impl Iterator<Item = (FrameMeta, &[u8])> {
        let start = self.ring.index.iter().rev().find(|e| e.meta.key && e.t <= from).map_or(from, |e| e.t);
        let first_key = self.ring.index.iter().find(|e| e.meta.key && e.t >= start).map_or(to, |e| e.t);
        self.ring.range(first_key, to).map(|(_, meta, bytes)| (meta, bytes))
    }

    /// Time of the newest frame.
    #[must_use]
    pub fn newest(&self) -> Option<MonoTime> {
        self.ring.newest()
    }

    /// Time from the oldest to the newest frame.
    #[must_use]
    pub fn span(&self) -> Span {
        self.ring.span()
    }

    /// Frames held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// What was dropped since the start.
    #[must_use]
    pub const fn drops(&self) -> RingDrops {
        self.ring.drops
    }

    /// Memory taken, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.ring.memory()
    }
}

/// A sample with its time.
pub trait Stamped {
    /// When it was taken.
    fn t(&self) -> MonoTime;
}

/// A ring of samples of one size.
#[derive(Debug)]
pub struct SampleRing<T> {
    samples: VecDeque<T>,
    capacity: usize,
    keep: Span,
    drops: RingDrops,
}

impl<T: Stamped> SampleRing<T> {
    /// A ring of at most `capacity` samples, kept for `keep`.
    #[must_use]
    pub fn new(capacity: usize, keep: Span) -> Self {
        Self { samples: VecDeque::with_capacity(capacity), capacity, keep, drops: RingDrops::default() }
    }

    /// Appends a sample; one older than the newest is refused and counted.
    pub fn push(&mut self, sample: T, pin: Option<MonoTime>) -> bool {
        if self.capacity == 0 || self.samples.back().is_some_and(|last| sample.t() < last.t()) {
            self.drops.refused += 1;
            return false;
        }
        let oldest = sample.t().minus(self.keep);
        let oldest = pin.map_or(oldest, |p| p.min(oldest));
        while self.samples.front().is_some_and(|s| s.t() < oldest) {
            self.samples.pop_front();
        }
        if self.samples.len() >= self.capacity {
            self.samples.pop_front();
            self.drops.early += 1;
        }
        self.samples.push_back(sample);
        true
    }

    /// Samples from `from` to `to` (both included), oldest first.
    pub fn range(&self, from: MonoTime, to: MonoTime) -> impl DoubleEndedIterator<Item = &T> {
        let start = self.samples.partition_point(|s| s.t() < from);
        let end = self.samples.partition_point(|s| s.t() <= to);
        self.samples.range(start..end.max(start))
    }

    /// Time of the newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<MonoTime> {
        self.samples.back().map(Stamped::t)
    }

    /// The newest sample at or before `t`.
    #[must_use]
    pub fn at(&self, t: MonoTime) -> Option<&T> {
        let end = self.samples.partition_point(|s| s.t() <= t);
        end.checked_sub(1).and_then(|i| self.samples.get(i))
    }

    /// Samples held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// What was dropped since the start.
    #[must_use]
    pub const fn drops(&self) -> RingDrops {
        self.drops
    }

    /// Memory taken, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.capacity * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::VideoCodec;
    use proptest::prelude::*;

    fn meta(ms: u64, key: bool) -> FrameMeta {
        FrameMeta { t: MonoTime(ms * 1_000_000), seq: ms, codec: VideoCodec::H264, key, size: [640, 360] }
    }

    #[test]
    fn begins_at_a_key_frame_and_keeps_the_time_asked_for() {
        let mut ring = FrameRing::new(1 << 20, 1000, Span::from_ms(1000));
        for i in 0..100u64 {
            ring.push(&meta(i * 40, i % 25 == 0), &[i as u8; 100], None);
            assert!(ring.ring.index.front().unwrap().meta.key);
        }
        // 1 s asked for and a key frame each second: between 1 and 2 s are held.
        assert!(ring.span() >= Span::from_ms(1000) && ring.span() <= Span::from_ms(2000), "{:?}", ring.span());
        assert_eq!(ring.drops(), RingDrops::default());
    }

    #[test]
    fn a_pin_keeps_older_frames_and_lack_of_room_is_counted() {
        let mut ring = FrameRing::new(1000, 1000, Span::from_ms(100));
        let pin = Some(MonoTime(0));
        for i in 0..9u64 {
            assert!(ring.push(&meta(i * 40, true), &[1; 100], pin));
        }
        assert_eq!(ring.len(), 9);
        for i in 9..20u64 {
            assert!(ring.push(&meta(i * 40, true), &[1; 100], pin));
        }
        assert!(ring.drops().early >= 10 && ring.len() <= 10);
    }

    #[test]
    fn a_frame_larger_than_the_ring_is_refused() {
        let mut ring = FrameRing::new(1000, 10, Span::from_s(1));
        assert!(!ring.push(&meta(0, true), &[0; 1000], None));
        assert!(ring.push(&meta(1, true), &[0; 999], None));
        assert_eq!(ring.drops().refused, 1);
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_went_in(
            sizes in proptest::collection::vec((0usize..400, any::<bool>()), 1..200), cap in 300usize..2000,
        ) {
            let mut ring = FrameRing::new(cap, 50, Span::from_s(10));
            for (i, (size, key)) in sizes.iter().enumerate() {
                let m = meta(i as u64, *key || i == 0);
                ring.push(&m, &vec![i as u8; *size], None);
                for (m, bytes) in ring.range_from_key(MonoTime(0), MonoTime(u64::MAX)) {
                    prop_assert!(bytes.iter().all(|b| *b == m.seq as u8));
                    prop_assert_eq!(bytes.len(), sizes[m.seq as usize].0);
                }
                let held: usize = ring.ring.index.iter().map(|e| e.len).sum();
                prop_assert!(held <= cap && ring.len() <= 50);
                prop_assert!(ring.ring.index.front().is_none_or(|e| e.meta.key));
            }
        }
    }
}
