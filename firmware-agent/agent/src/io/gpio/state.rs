//! What readings of a line mean. Pure: time is an argument.

use std::time::{Duration, Instant};

/// So many equal readings are believed.
pub(super) const SURE: u32 = 3;

/// The ignition: off when it was off for long enough, told once.
#[derive(Debug)]
pub(super) struct Ignition {
    after: Duration,
    off_since: Option<Instant>,
    told: bool,
}

impl Ignition {
    pub(super) const fn new(after: Duration) -> Self {
        Self { after, off_since: None, told: false }
    }

    /// Whether it counts as off from this reading on.
    pub(super) fn went_off(&mut self, on: bool, now: Instant) -> bool {
        if on {
            (self.off_since, self.told) = (None, false);
            return false;
        }
        let since = *self.off_since.get_or_insert(now);
        let off = now.saturating_duration_since(since) >= self.after && !self.told;
        self.told |= off;
        off
    }
}

/// A button that bounces.
#[derive(Debug, Default)]
pub(super) struct Button {
    down: bool,
    others: u32,
}

impl Button {
    /// The new state, when it surely changed.
    pub(super) fn changed(&mut self, down: bool) -> Option<bool> {
        self.others = if down == self.down { 0 } else { self.others + 1 };
        if self.others < SURE {
            return None;
        }
        (self.down, self.others) = (down, 0);
        Some(down)
    }
}

/// What the lamp shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lamp {
    /// Recording: lit.
    On = 1,
    /// Something is wrong: twice a second.
    Fault = 2,
    /// Waiting for the ignition: a flash every four seconds.
    Parked = 3,
}

impl From<u8> for Lamp {
    fn from(n: u8) -> Self {
        match n {
            2 => Self::Fault,
            3 => Self::Parked,
            _ => Self::On,
        }
    }
}

impl Lamp {
    /// Whether it is lit, this long after the start.
    pub(super) const fn lit(self, since: Duration) -> bool {
        match self {
            Self::On => true,
            Self::Fault => since.as_millis() % 500 < 250,
            Self::Parked => since.as_millis() % 4000 < 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignition_is_off_once_after_its_time_and_again_after_it_was_on() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut ignition = Ignition::new(Duration::from_secs(2));
        let off: Vec<u64> = (0..200)
            .map(|i| i * 50)
            // On for 1 s, a dip of 1 s, off from 3 s to 6 s, on, off.
            .filter(|ms| {
                let on = matches!(ms, 0..1000 | 2000..3000 | 6000..7000);
                ignition.went_off(on, at(*ms))
            })
            .collect();
        assert_eq!(off, [5000, 9000]);
    }

    #[test]
    fn the_lamp_tells_three_states_apart() {
        let lit = |lamp: Lamp| (0..400).filter(|i| lamp.lit(Duration::from_millis(i * 10))).count();
        assert_eq!((lit(Lamp::On), lit(Lamp::Fault), lit(Lamp::Parked)), (400, 200, 10));
        assert_eq!([1, 2, 3].map(Lamp::from), [Lamp::On, Lamp::Fault, Lamp::Parked]);
    }
}
