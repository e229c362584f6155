//! Times of frames on the monotonic clock, whatever clock stamped them.
//!
//! A driver says with each buffer whether its stamp is of CLOCK_MONOTONIC. Such a stamp is taken as it is, if it can be
//! true. Any other is *mapped*: a frame arrives after it was captured, so the smallest of (arrival - stamp) is the best
//! guess of the offset between the clocks; it is let rise slowly, so that it follows a clock that drifts.

use agent_core::time::{MonoTime, Span};

/// CLOCK_MONOTONIC now: the clock of every source of the unit's own.
pub(crate) fn monotonic_now() -> MonoTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (s, ns) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    MonoTime(s.saturating_mul(1_000_000_000).saturating_add(ns))
}

/// What a frame was stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds of some clock.
    pub(crate) ns: u64,
    /// That clock is CLOCK_MONOTONIC.
    pub(crate) monotonic: bool,
}

/// A monotonic stamp further from the arrival than this is not believed.
const BELIEVED: Span = Span::from_s(2);
/// How fast a mapped offset rises: 100 ppm, above the drift of any oscillator, in nanoseconds per millisecond.
const RISE_NS_PER_MS: i128 = 100;

/// Maps the stamps of one stream.
#[derive(Debug, Default)]
pub(crate) struct ClockMap {
    offset_ns: Option<i128>,
    last_arrival: MonoTime,
    last: Option<MonoTime>,
    mapped: bool,
}

impl ClockMap {
    /// When the frame was captured. Strictly later than the frame before.
    pub(crate) fn time(&mut self, stamp: Stamp, arrival: MonoTime) -> MonoTime {
        let t = self.at(stamp, arrival);
        let t = match self.last {
            // A clock that stands or steps back must not turn the order of the frames.
            Some(last) if t <= last => last + Span(1_000),
            _ => t,
        };
        self.last = Some(t);
        self.last_arrival = arrival;
        t
    }

    /// Whether the last stamp was mapped.
    #[cfg(test)]
    pub(crate) const fn mapped(&self) -> bool {
        self.mapped
    }

    fn at(&mut self, stamp: Stamp, arrival: MonoTime) -> MonoTime {
        let believed = stamp.ns <= arrival.0 && arrival.0 - stamp.ns <= BELIEVED.0;
        self.mapped = !(stamp.monotonic && believed);
        if !self.mapped {
            return MonoTime(stamp.ns);
        }
        let now = i128::from(arrival.0) - i128::from(stamp.ns);
        let offset = match self.offset_ns {
            // A step of the foreign clock (wall clocks do that) begins anew.
            Some(known) if (now - known).unsigned_abs() < u128::from(BELIEVED.0) => {
                let passed_ms = i128::from(arrival.since(self.last_arrival).as_ms());
                now.min(known + passed_ms * RISE_NS_PER_MS)
            }
            _ => now,
        };
        self.offset_ns = Some(offset);
        let ns = (i128::from(stamp.ns) + offset).clamp(0, i128::from(arrival.0));
        MonoTime(u64::try_from(ns).unwrap_or(arrival.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_monotonic_stamp_is_taken_as_it_is() {
        let mut map = ClockMap::default();
        let t = map.time(Stamp { ns: 900 * MS, monotonic: true }, MonoTime(915 * MS));
        assert_eq!((t, map.mapped()), (MonoTime(900 * MS), false));
    }

    #[test]
    fn a_stamp_that_cannot_be_true_is_mapped() {
        for ns in [5_000 * MS, 1, 0] {
            let mut map = ClockMap::default();
            let t = map.time(Stamp { ns, monotonic: true }, MonoTime(4_000 * MS));
            assert_eq!((t, map.mapped()), (MonoTime(4_000 * MS), true), "stamp {ns}");
        }
    }

    /// Frames of a foreign clock that arrive late by 1 to 21 ms: after a while the error is that of the luckiest frame.
    #[test]
    fn a_foreign_clock_is_mapped_to_within_the_least_delay_and_followed_when_it_drifts() {
        let mut map = ClockMap::default();
        let mut worst = 0;
        for i in 0..3000_u64 {
            let captured = 10_000 * MS + i * 33 * MS;
            // 50 ppm too slow, and far away.
            let stamp = 1_700_000_000_000 * MS + i * 33 * MS - i * 33 * 50;
            let delay = (1 + (i * 7919) % 21) * MS;
            let t = map.time(Stamp { ns: stamp, monotonic: false }, MonoTime(captured + delay));
            assert!(map.mapped());
            if i > 100 {
                worst = worst.max(t.0.abs_diff(captured));
            }
        }
        assert!(worst < 3 * MS, "{worst}");
    }

    #[test]
    fn a_step_of_the_foreign_clock_is_followed_at_once_and_order_is_kept() {
        let mut map = ClockMap::default();
        let mut last = MonoTime::ZERO;
        for i in 1..100_u64 {
            let step = if i < 50 { 0 } else { 3_600_000 * MS };
            let stamp = Stamp { ns: 8_000_000 * MS - step + i * 33 * MS, monotonic: false };
            let arrival = MonoTime(5_000 * MS + i * 33 * MS);
            let t = map.time(stamp, arrival);
            assert!(t > last && t <= arrival + Span(1_000), "{i}: {t:?}");
            last = t;
        }
        let standing = Stamp { ns: 1, monotonic: false };
        let a = map.time(standing, MonoTime(9_000 * MS));
        assert!(map.time(standing, MonoTime(9_000 * MS)) > a);
    }
}
