//! How long to wait before the next connection: fast at first, doubling to a cap, with jitter from a seed so that a
//! fleet does not come back in step. It reads no clock.

use std::time::Duration;

/// First wait, doubling, cap. A broker that answers and refuses (wrong password) has a cap of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// First wait.
    pub first: Duration,
    /// Longest wait when the broker cannot be reached: below 5 s, so that the outbox drains soon after the link is up.
    pub cap: Duration,
    /// Longest wait when the broker refuses the connection.
    pub refused_cap: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(3), refused_cap: Duration::from_secs(30) }
    }
}

/// The state of it.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    random: u64,
    failures: u32,
}

impl Backoff {
    /// Starts with no failures. Units should be given different seeds.
    #[must_use]
    pub const fn new(config: BackoffConfig, seed: u64) -> Self {
        Self { config, random: seed, failures: 0 }
    }

    /// A connection did its work: the next wait is the first one again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: half to all of `first * 2^failures`, at most the cap.
    pub fn next_wait(&mut self, refused: bool) -> Duration {
        let cap = if refused { self.config.refused_cap } else { self.config.cap };
        let full = self.config.first.saturating_mul(1u32 << self.failures.min(20)).min(cap);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        // Thousandths of the upper half.
        half + half.saturating_mul(self.next_random_below_1001()) / 1000
    }

    /// SplitMix64: spread enough for jitter, and repeatable.
    fn next_random_below_1001(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % 1001) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_without_a_broker_is_fast_at_first_and_bounded() {
        let config = BackoffConfig::default();
        let mut backoff = Backoff::new(config, 7);
        let (mut passed, mut tries) = (Duration::ZERO, 0u32);
        assert!(backoff.next_wait(false) <= config.first);
        while passed < Duration::from_secs(3600) {
            let wait = backoff.next_wait(false);
            assert!(wait <= config.cap && wait >= config.first / 2);
            passed += wait;
            tries += 1;
        }
        assert!((1200..=2500).contains(&tries), "{tries} tries in an hour");
        backoff.reset();
        assert!(backoff.next_wait(false) <= config.first);
    }

    #[test]
    fn a_refusal_waits_longer_and_seeds_differ() {
        let config = BackoffConfig::default();
        let longest = |seed, refused| {
            let mut backoff = Backoff::new(config, seed);
            (0..40).map(|_| backoff.next_wait(refused)).collect::<Vec<_>>()
        };
        assert!(longest(1, true).iter().max() > Some(&config.cap));
        assert!(longest(1, true).iter().max() <= Some(&config.refused_cap));
        assert_ne!(longest(1, false), longest(2, false));
        assert_eq!(longest(3, false), longest(3, false));
    }
}
