//! Times of readings that come in batches from a chip with a clock of its own.
//!
//! When the FIFO is emptied, its last reading is between nothing and one period old. Single batches therefore say little;
//! over many, phase and period of the chip's clock (which is off by up to some percent) are followed by a slow loop, so
//! that times keep even distances whatever the thread's delays.

use agent_core::time::{MonoTime, Span};

/// Shares of an error that phase and period take over with each batch: at first, and when both are known.
const AT_FIRST: (f64, f64) = (0.3, 0.05);
const LATER: (f64, f64) = (0.05, 0.002);
/// Batches that count as first.
const FIRST: u32 = 100;
/// Further than this from where it should be, the loop begins anew: readings were lost unseen, or the thread slept.
const LOST: f64 = 50e6;
/// The chip's clock is this far from its data sheet at most.
const DRIFT: f64 = 0.1;

#[derive(Debug)]
pub(super) struct Cadence {
    nominal_ns: f64,
    period_ns: f64,
    last_ns: Option<f64>,
    batches: u32,
    handed: MonoTime,
}

impl Cadence {
    pub(super) fn new(hz: f64) -> Self {
        let period_ns = 1e9 / hz.max(1.0);
        Self { nominal_ns: period_ns, period_ns, last_ns: None, batches: 0, handed: MonoTime::ZERO }
    }

    /// Readings a second as they come.
    pub(super) fn hz(&self) -> f64 {
        1e9 / self.period_ns
    }

    /// Readings that should have come by `now` and are not among `n`.
    pub(super) fn missing(&self, n: usize, now: MonoTime) -> u32 {
        let Some(last) = self.last_ns else { return 0 };
        let due = (now.0 as f64 - last) / self.period_ns - n as f64;
        // The newest may be on its way.
        (due - 1.0).max(0.0) as u32
    }

    /// Readings that will never come lie between the last batch and the next.
    pub(super) fn skip(&mut self, n: u32) {
        if let Some(last) = &mut self.last_ns {
            *last += f64::from(n) * self.period_ns;
        }
    }

    /// A batch of `n` was read at `now`: the time of each reading is that of the first plus its place times the period.
    pub(super) fn batch(&mut self, n: usize, now: MonoTime) -> (f64, f64) {
        // Half a period old, in the mean.
        let should = now.0 as f64 - self.period_ns / 2.0;
        let span = n as f64 * self.period_ns;
        let last = match self.last_ns {
            Some(before) if (should - before - span).abs() < LOST => {
                let error = should - before - span;
                let (phase, period) = if self.batches < FIRST { AT_FIRST } else { LATER };
                let least = self.nominal_ns * (1.0 - DRIFT);
                let most = self.nominal_ns * (1.0 + DRIFT);
                self.period_ns = (self.period_ns + period * error / n.max(1) as f64).clamp(least, most);
                before + span + phase * error
            }
            _ => should,
        };
        self.last_ns = Some(last);
        self.batches = self.batches.saturating_add(1);
        // Between the reading before and now, however wrong the loop still is.
        let (n, before, now) = (n.max(1) as f64, self.handed.0 as f64, now.0 as f64);
        let last = last.min(now).max(before.midpoint(now));
        let period = self.period_ns.min((last - before) / n);
        (last - (n - 1.0) * period, period)
    }

    /// The time of place `i` of a batch, always after that of the reading before.
    pub(super) fn time(&mut self, (first, period): (f64, f64), i: usize) -> MonoTime {
        let t = MonoTime((first + i as f64 * period).max(0.0) as u64);
        self.handed = if t > self.handed { t } else { self.handed + Span(1) };
        self.handed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chip that runs 3 % fast, read every 10 ms and sometimes 45 ms late.
    #[test]
    fn times_follow_the_chip_and_not_the_thread() {
        let (hz, true_ns) = (800.0, 1e9 / (800.0 * 1.03));
        let mut cadence = Cadence::new(hz);
        let (mut read, mut worst, mut now) = (0_u64, 0.0_f64, 1_000_000_000_u64);
        let mut last = MonoTime::ZERO;
        for i in 0..3000_u64 {
            now += if i % 37 == 0 { 45_000_000 } else { 10_000_000 + (i * 7919) % 900_000 };
            let there = ((now - 1_000_000_000) as f64 / true_ns) as u64;
            let n = usize::try_from(there - read).unwrap();
            assert_eq!(cadence.missing(n, MonoTime(now)), 0);
            let batch = cadence.batch(n, MonoTime(now));
            for k in 0..n {
                let t = cadence.time(batch, k);
                assert!(t > last && t.0 <= now, "{t} after {last}");
                last = t;
                let really = 1e9 + (read + 1 + k as u64) as f64 * true_ns;
                if i > 1000 {
                    worst = worst.max((t.0 as f64 - really).abs());
                }
            }
            read = there;
        }
        assert!((cadence.hz() / 824.0 - 1.0).abs() < 2e-3, "{}", cadence.hz());
        assert!(worst < 1.5e6, "{worst} ns");
    }

    #[test]
    fn readings_that_the_chip_overwrote_are_missed_and_leave_a_gap() {
        let mut cadence = Cadence::new(1000.0);
        let at = |ms: u64| MonoTime(ms * 1_000_000);
        let batch = cadence.batch(10, at(1000));
        let before = (0..10).map(|i| cadence.time(batch, i)).last().unwrap();
        // 300 ms later the FIFO held 100 of 300.
        assert_eq!(cadence.missing(100, at(1300)), 199);
        cadence.skip(199);
        let batch = cadence.batch(100, at(1300));
        let after = cadence.time(batch, 0);
        assert!((195..=205).contains(&after.since(before).as_ms()), "{}", after.since(before).as_ms());
    }
}
