//! How much memory a configuration needs: the declared rings and the pool of small frames, nothing else.
//!
//! Every figure is an upper bound from configured rates and times, so that it can be held against the cap before the
//! agent starts. MB are 10^6 bytes. The agent's own 50 MB, the models and the student are not counted here.

use core::fmt;
use core::mem::size_of;

use agent_core::config::{CAN_RECORD_BYTES, room, room_of_own_clock};
use agent_core::samples::{GnssFix, ImuSample};

use super::types::RingsConfig;

/// Memory of the rings and the pool, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Encoded video: rate times pre-roll, post-roll and the longest time between key frames.
    pub(crate) video_bytes: u64,
    /// Seconds of that.
    pub(crate) video_s: u32,
    /// IMU samples held: rate times sample pre-roll, post-roll and two seconds more.
    pub(crate) imu_samples: u64,
    /// Their bytes.
    pub(crate) imu_bytes: u64,
    /// CAN frames held.
    pub(crate) can_frames: u64,
    /// Their bytes.
    pub(crate) can_bytes: u64,
    /// GNSS fixes held.
    pub(crate) gnss_fixes: u64,
    /// Their bytes.
    pub(crate) gnss_bytes: u64,
    /// Small frames, RGB, 3 bytes a pixel.
    pub(crate) pool_bytes: u64,
    /// The cap, bytes.
    pub(crate) cap_bytes: u64,
}

impl MemoryPlan {
    /// Of a `[rings]` section.
    #[must_use]
    pub(crate) fn of(rings: &RingsConfig) -> Self {
        // Every factor is capped by the reader, so the products stay far below 2^64; saturating all the same, because
        // the fields are public.
        let video_s = rings.video_pre_roll_s.saturating_add(rings.post_roll_s).saturating_add(rings.key_frame_max_s);
        let sample_s = u64::from(rings.sample_pre_roll_s.saturating_add(rings.post_roll_s));
        let bytes = |count: u64, size: usize| count.saturating_mul(size as u64);
        let imu = room_of_own_clock(rings.imu_max_hz, sample_s);
        let (can, gnss) = (room(rings.can_max_hz, sample_s), room(rings.gnss_max_hz, sample_s));
        let small = u64::from(rings.small_frame_width)
            .saturating_mul(u64::from(rings.small_frame_height))
            .saturating_mul(u64::from(rings.small_frame_count));
        Self {
            video_bytes: (f64::from(rings.video_max_mbit_s) * 1e6 / 8.0 * f64::from(video_s)).ceil() as u64,
            video_s,
            imu_samples: imu,
            imu_bytes: bytes(imu, size_of::<ImuSample>()),
            can_frames: can,
            can_bytes: bytes(can, CAN_RECORD_BYTES),
            gnss_fixes: gnss,
            gnss_bytes: bytes(gnss, size_of::<GnssFix>()),
            pool_bytes: small.saturating_mul(3),
            cap_bytes: u64::from(rings.memory_cap_mb).saturating_mul(1_000_000),
        }
    }

    /// All of it.
    #[must_use]
    pub(crate) fn total_bytes(&self) -> u64 {
        self.event_bytes().saturating_add(self.pool_bytes)
    }

    /// What one event may take on disk: everything but the pool.
    #[must_use]
    pub(crate) fn event_bytes(&self) -> u64 {
        self.video_bytes.saturating_add(self.imu_bytes).saturating_add(self.can_bytes).saturating_add(self.gnss_bytes)
    }

    /// The sum in words, for the error of a cap that is too low.
    #[must_use]
    pub(crate) fn sum(&self) -> String {
        format!(
            "{} MB (video {}, CAN {}, IMU {}, GNSS {}, small frames {})",
            mb(self.total_bytes()),
            mb(self.video_bytes),
            mb(self.can_bytes),
            mb(self.imu_bytes),
            mb(self.gnss_bytes),
            mb(self.pool_bytes)
        )
    }
}

/// MB with one decimal, rounded up, so that a sum that is shown never looks smaller than it is.
pub(super) fn mb(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{}", tenths / 10, tenths % 10)
}

impl fmt::Display for MemoryPlan {
    /// A table, one line for each part, with a newline after each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("video", self.video_bytes, format!("{} s", self.video_s)),
            ("CAN", self.can_bytes, format!("{} frames", self.can_frames)),
            ("IMU", self.imu_bytes, format!("{} samples", self.imu_samples)),
            ("GNSS", self.gnss_bytes, format!("{} fixes", self.gnss_fixes)),
            ("small frames", self.pool_bytes, "RGB".to_owned()),
        ];
        for (name, bytes, what) in rows {
            writeln!(f, "{name:<14}{:>9} MB  {what}", mb(bytes))?;
        }
        writeln!(f, "{:<14}{:>9} MB", "sum", mb(self.total_bytes()))?;
        writeln!(f, "{:<14}{:>9} MB", "cap", mb(self.cap_bytes))
    }
}
