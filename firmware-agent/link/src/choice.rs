//! Which of several brokers the link speaks to, in the order in which they are preferred.
//!
//! Terms: a broker *works* when it acknowledges something; it *fails* when a session or an attempt ends without. After failing for
//! `fall_over` the next one takes its place, after the last the first again. While a lesser one is in use those before it are
//! *tried*, one after the other, every `return_after`: by a session beside the one in use, which changes over only when the tried
//! one answers. One that answers and then fails before it has worked sends the unit straight back.
//!
//! It opens nothing and reads no clock.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct Choice {
    count: usize,
    at: usize,
    fall_over: Duration,
    return_after: Duration,
    /// The first failure since the one in use worked or came into use.
    failing_since: Option<Instant>,
    /// Where to go back to when the one returned to does not work after all.
    back: Option<usize>,
    /// Which is tried next, and from when on.
    trial: (usize, Instant),
}

impl Choice {
    /// Begins with the most preferred of `count`, at least one.
    pub(crate) const fn new(count: usize, fall_over: Duration, return_after: Duration, now: Instant) -> Self {
        Self { count, at: 0, fall_over, return_after, failing_since: None, back: None, trial: (0, now) }
    }

    /// The one in use; 0 is the most preferred.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// It acknowledged something.
    pub(crate) const fn worked(&mut self) {
        self.failing_since = None;
        self.back = None;
    }

    /// A session with it, or an attempt, ended.
    pub(crate) fn failed(&mut self, now: Instant) {
        match self.back.take() {
            Some(back) => self.turn(back, now),
            None => drop(self.failing_since.get_or_insert(now)),
        }
    }

    /// The one to connect to now.
    pub(crate) fn next(&mut self, now: Instant) -> usize {
        let failing = self.failing_since.is_some_and(|since| now.saturating_duration_since(since) >= self.fall_over);
        if self.count > 1 && failing {
            self.turn((self.at + 1) % self.count, now);
        }
        self.at
    }

    /// A preferred one that is worth a try now.
    pub(crate) fn trial(&self, now: Instant) -> Option<usize> {
        let (which, from) = self.trial;
        (self.at > 0 && now >= from).then_some(which)
    }

    /// The try failed: the next one before the one in use at once, or the first after a while.
    pub(crate) fn trial_failed(&mut self, now: Instant) {
        let next = self.trial.0 + 1;
        self.trial = if next < self.at { (next, now) } else { (0, now + self.return_after) };
    }

    /// The one that was tried answered and is in use from now on.
    pub(crate) fn returned(&mut self, now: Instant) {
        let from = self.at;
        self.turn(self.trial.0, now);
        self.back = Some(from);
    }

    fn turn(&mut self, to: usize, now: Instant) {
        self.at = to;
        self.failing_since = None;
        self.trial = (0, now + self.return_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn it_falls_over_after_the_stated_time_and_comes_back_by_trial() {
        let t = Instant::now();
        let mut choice = Choice::new(3, 30 * S, 300 * S, t);
        choice.failed(t);
        choice.failed(t + 29 * S);
        assert_eq!(choice.next(t + 29 * S), 0);
        choice.worked();
        choice.failed(t + 40 * S);
        assert_eq!(choice.next(t + 69 * S), 0, "it had worked meanwhile");
        assert_eq!(choice.next(t + 70 * S), 1);
        choice.failed(t + 80 * S);
        assert_eq!(choice.next(t + 110 * S), 2);
        choice.worked();
        // Both before it are tried, the most preferred first; then there is a pause.
        assert_eq!(choice.trial(t + 409 * S), None);
        assert_eq!(choice.trial(t + 410 * S), Some(0));
        choice.trial_failed(t + 411 * S);
        assert_eq!(choice.trial(t + 411 * S), Some(1));
        choice.trial_failed(t + 412 * S);
        assert_eq!((choice.trial(t + 711 * S), choice.trial(t + 712 * S)), (None, Some(0)));
        choice.returned(t + 712 * S);
        assert_eq!((choice.at(), choice.trial(t + 9999 * S)), (0, None));
        choice.failed(t + 713 * S);
        assert_eq!(choice.at(), 2, "it answered but did not work");
        assert_eq!(choice.trial(t + 1012 * S), None, "and is left alone for a while");
    }

    #[test]
    fn after_the_last_comes_the_first_and_one_alone_stays() {
        let t = Instant::now();
        let mut two = Choice::new(2, 10 * S, 300 * S, t);
        let mut one = Choice::new(1, 10 * S, 300 * S, t);
        for n in 0..6u32 {
            let now = t + 11 * n * S;
            assert_eq!((two.next(now), one.next(now)), (usize::from(n % 2 == 1), 0));
            two.failed(now);
            one.failed(now);
        }
        assert_eq!(one.trial(t + 9999 * S), None);
    }
}
