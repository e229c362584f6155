//! What was lost, counted where it is noticed and told once in the next message that carries losses.

use agent_wire::Losses;

/// What a source could not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Camera frames.
    Frames,
    /// IMU samples.
    Imu,
    /// CAN frames.
    Can,
    /// GNSS fixes.
    Gnss,
    /// Frames that the trigger model did not see.
    UnseenFrames,
}

/// Losses since the start and since the last message that carried them.
#[derive(Debug, Default)]
pub(crate) struct LossMeter {
    total: Losses,
    told: Losses,
    ring_drops: [u64; 4],
}

impl LossMeter {
    pub(crate) const fn total(&self) -> Losses {
        self.total
    }

    pub(crate) fn add(&mut self, what: Lost, count: u32) {
        let field = match what {
            Lost::Frames => &mut self.total.frames,
            Lost::Imu => &mut self.total.imu,
            Lost::Can => &mut self.total.can,
            Lost::Gnss => &mut self.total.gnss,
            Lost::UnseenFrames => &mut self.total.unseen_frames,
        };
        *field = field.saturating_add(count);
    }

    /// Records that left the rings before their time since this was last asked: what an event's evidence lacks.
    pub(crate) fn add_ring_drops(&mut self, now: [(Lost, u64); 4]) {
        let before = std::mem::replace(&mut self.ring_drops, now.map(|(_, total)| total));
        for ((what, total), seen) in now.into_iter().zip(before) {
            self.add(what, u32::try_from(total.saturating_sub(seen)).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn take(&mut self) -> Losses {
        let (a, b) = (self.total, self.told);
        self.told = a;
        Losses {
            frames: a.frames - b.frames,
            imu: a.imu - b.imu,
            can: a.can - b.can,
            gnss: a.gnss - b.gnss,
            unseen_frames: a.unseen_frames - b.unseen_frames,
        }
    }
}
