//! The last half second and more of velocity and orientation, to take differences over any window.
//!
//! A ring of fixed size: velocity is the running integral of the acceleration in the local frame since the last
//! gap, so that a difference of two entries is the delta-V between them. Never allocates after it is made.

use super::vec3::{IDENTITY, Quat, V3, lerp};
use crate::limits::IMU_HISTORY;
use crate::time::MonoTime;

/// One moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) t: MonoTime,
    /// Integral of the acceleration, local frame, m/s.
    pub(super) v: V3,
    /// Local frame from sensor axes.
    pub(super) q: Quat,
    /// The same by the gyroscope alone, from an arbitrary start: differences of it are turns that were measured.
    pub(super) gyro_q: Quat,
}

/// Samples closer than this to the one before replace it, ns: the ring then spans its time at any rate.
const MIN_SPACING_NS: u64 = 450_000;

#[derive(Clone, Debug)]
pub(super) struct History {
    ring: Vec<Entry>,
    head: usize,
    len: usize,
}

impl History {
    pub(super) fn new() -> Self {
        let empty = Entry { t: MonoTime::ZERO, v: [0.0; 3], q: IDENTITY, gyro_q: IDENTITY };
        Self { ring: vec![empty; IMU_HISTORY], head: 0, len: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn push(&mut self, e: Entry) {
        if self.len >= 2 && e.t.since(self.back(1).t).0 < MIN_SPACING_NS {
            let at = (self.head + IMU_HISTORY - 1) % IMU_HISTORY;
            self.ring[at] = e;
            return;
        }
        self.ring[self.head] = e;
        self.head = (self.head + 1) % IMU_HISTORY;
        self.len = (self.len + 1).min(IMU_HISTORY);
    }

    /// The entry `n` places before the newest, the oldest if there are fewer. Only called when not empty.
    fn back(&self, n: usize) -> Entry {
        let n = n.min(self.len.saturating_sub(1));
        self.ring[(self.head + 2 * IMU_HISTORY - 1 - n) % IMU_HISTORY]
    }

    /// The moment `t`, interpolated; the nearest end if it lies outside. `None` while empty.
    pub(super) fn at(&self, t: MonoTime) -> Option<Entry> {
        if self.len == 0 {
            return None;
        }
        // Smallest n whose entry is not after t: entries get older as n grows.
        let (mut lo, mut hi) = (0, self.len);
        while lo < hi {
            let mid = usize::midpoint(lo, hi);
            if self.back(mid).t > t { lo = mid + 1 } else { hi = mid }
        }
        let before = self.back(lo);
        if lo == 0 || lo >= self.len {
            return Some(before);
        }
        let after = self.back(lo - 1);
        let span = after.t.since(before.t).as_s();
        let k = if span > 0.0 { t.since(before.t).as_s() / span } else { 0.0 };
        let nearest = if k < 0.5 { before } else { after };
        Some(Entry { t, v: lerp(before.v, after.v, k), ..nearest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_inside_and_holds_its_ends() {
        let mut h = History::new();
        assert!(h.at(MonoTime(5)).is_none());
        for i in 0..3000u64 {
            h.push(Entry { t: MonoTime(i * 1_000_000), v: [i as f64, 0.0, 0.0], q: IDENTITY, gyro_q: IDENTITY });
        }
        let at = |ms: f64| h.at(MonoTime((ms * 1e6) as u64)).map(|e| e.v[0]).unwrap_or(-1.0);
        assert!((at(2900.25) - 2900.25).abs() < 1e-6);
        assert!((at(9000.0) - 2999.0).abs() < 1e-6);
        assert!((at(1.0) - (3000 - IMU_HISTORY) as f64).abs() < 1e-6);
    }

    #[test]
    fn a_rate_far_above_the_highest_keeps_half_a_second() {
        let mut h = History::new();
        for i in 0..100_000u64 {
            h.push(Entry { t: MonoTime(i * 20_000), v: [i as f64, 0.0, 0.0], q: IDENTITY, gyro_q: IDENTITY });
        }
        let oldest = h.at(MonoTime(0)).map(|e| e.t).unwrap_or_default();
        assert!(MonoTime(99_999 * 20_000).since(oldest).as_ms() >= 400);
    }
}
