//! Whether a worker of a service manager still gets on with its work, for the manager's watchdog.
//!
//! The worker says what it begins and how long that may take at most; a thread of its own asks [`Pulse::alive`] and
//! feeds the watchdog while the answer is yes. An engine that hangs (a kernel on the GPU that never ends) is then
//! killed and started again by the manager, without the daemon having to be able to. Reads no clock: callers do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nothing is being done.
const IDLE: u64 = u64::MAX;

/// Until when the piece of work in hand may take. Shared between threads.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun`, or [`IDLE`].
    until_ms: AtomicU64,
}

impl Pulse {
    /// Idle; times are kept relative to `begun`.
    #[must_use]
    pub const fn new(begun: Instant) -> Self {
        Self { begun, until_ms: AtomicU64::new(IDLE) }
    }

    /// A piece of work begins at `now` and takes at most `limit`.
    pub fn busy(&self, now: Instant, limit: Duration) {
        let until = now.saturating_duration_since(self.begun).saturating_add(limit);
        let ms = u64::try_from(until.as_millis()).unwrap_or(IDLE).min(IDLE - 1);
        self.until_ms.store(ms, Ordering::Relaxed);
    }

    /// It is done.
    pub fn idle(&self) {
        self.until_ms.store(IDLE, Ordering::Relaxed);
    }

    /// False when the piece of work in hand has taken longer than it may.
    #[must_use]
    pub fn alive(&self, now: Instant) -> bool {
        self.overdue(now).is_none()
    }

    /// By how much the piece of work in hand has taken longer than it may, if it has.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Option<Duration> {
        let until = self.until_ms.load(Ordering::Relaxed);
        let since = now.saturating_duration_since(self.begun);
        if until == IDLE { None } else { since.checked_sub(Duration::from_millis(until)).filter(|by| !by.is_zero()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dies_only_while_something_takes_too_long() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let pulse = Pulse::new(begun);
        assert!(pulse.alive(at(1_000_000)), "idle for ever is fine");
        pulse.busy(at(10), Duration::from_secs(5));
        assert!(pulse.alive(at(15)));
        assert!(!pulse.alive(at(16)));
        assert_eq!((pulse.overdue(at(15)), pulse.overdue(at(18))), (None, Some(Duration::from_secs(3))));
        pulse.busy(at(16), Duration::from_secs(5));
        assert!(pulse.alive(at(20)), "the next piece has its own limit");
        pulse.idle();
        assert!(pulse.alive(at(1_000_000)));
        pulse.busy(at(1), Duration::MAX);
        assert!(pulse.alive(at(1_000_000)), "a limit beyond counting does not wrap");
    }
}
