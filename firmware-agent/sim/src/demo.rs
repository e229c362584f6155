//! The demo drive: about 40 s of standing, town driving, a pothole, a late braking and a frontal impact, as records
//! in the order of time.

use agent_core::samples::{CanFrame, GnssFix, ImuSample};
use agent_core::time::MonoTime;

use crate::bus::{AIRBAG_DELAY_MS, Bus, BusMessage, BusState};
use crate::gnss::Gnss;
use crate::imu::Imu;
use crate::limits::{DEMO_MS, FRAME_HEIGHT, FRAME_PERIOD_MS, FRAME_WIDTH, GNSS_PERIOD_MS, IMU_PERIOD_MS};
use crate::motion::Motion;
use crate::road::Road;
use crate::scene::Painter;
use crate::truth::Truth;

/// One record of a simulated drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SimRecord<'a> {
    /// Inertial sample, sensor axes, 100 Hz.
    Imu(ImuSample),
    /// Fix, 5 Hz.
    Gnss(GnssFix),
    /// Frame of the vehicle bus: about 230 a second.
    Can(CanFrame),
    /// Camera image, 12.5 a second.
    Frame {
        /// When it was exposed.
        t: MonoTime,
        /// Counts from 0.
        seq: u64,
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Red, green, blue, 8 bits each, rows from the top, `width * height * 3` bytes.
        rgb: &'a [u8],
    },
}

impl SimRecord<'_> {
    /// When it was taken.
    #[must_use]
    pub const fn t(&self) -> MonoTime {
        match self {
            Self::Imu(sample) => sample.t,
            Self::Gnss(fix) => fix.t,
            Self::Can(frame) => frame.t,
            Self::Frame { t, .. } => *t,
        }
    }
}

/// Sources within one millisecond, in the order in which they are handed out, 100 microseconds apart.
const SLOTS: usize = BusMessage::ALL.len() + 3;

/// The demo drive. Call [`DemoDrive::next_record`] until it ends; the frames borrow the drive's one image buffer,
/// which is why this is no `Iterator`.
pub struct DemoDrive {
    motion: Motion,
    road: Road,
    imu: Imu,
    gnss: Gnss,
    bus: Bus,
    painter: Painter,
    truth: Truth,
    ms: usize,
    slot: usize,
    frames: u64,
    images: bool,
}

impl DemoDrive {
    /// Length of the drive, milliseconds.
    pub const LENGTH_MS: u64 = DEMO_MS as u64;

    /// Lays out the drive of a seed. All memory is taken here: about 8 MB.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (motion, imu) = (Motion::new(seed), Imu::new(seed));
        let truth = motion.truth(seed, imu.mount, [imu.accel_bias, imu.gyro_bias]);
        Self {
            motion,
            road: Road::new(seed),
            imu,
            gnss: Gnss::new(seed),
            bus: Bus::new(seed),
            painter: Painter::new(seed),
            truth,
            ms: 0,
            slot: 0,
            frames: 0,
            images: true,
        }
    }

    /// The same drive without its [`SimRecord::Frame`] records: every other record is equal, at a fraction of the time.
    #[must_use]
    pub fn without_images(seed: u64) -> Self {
        Self { images: false, ..Self::new(seed) }
    }

    /// What really happens.
    #[must_use]
    pub const fn truth(&self) -> &Truth {
        &self.truth
    }

    /// True speed and acceleration (forward, left, up; gravity left out) at a time: m/s and m/s^2.
    #[must_use]
    pub fn true_motion(&self, t: MonoTime) -> (f64, [f64; 3]) {
        let step = self.motion.at(usize::try_from(t.0 / 1_000_000).unwrap_or(usize::MAX));
        (step.v, step.accel)
    }

    /// The next record in the order of time, `None` at the end.
    pub fn next_record(&mut self) -> Option<SimRecord<'_>> {
        while self.ms < DEMO_MS {
            let (ms, slot) = (self.ms, self.slot);
            self.slot += 1;
            if self.slot == SLOTS {
                (self.slot, self.ms) = (0, ms + 1);
            }
            let t = MonoTime(ms as u64 * 1_000_000 + slot as u64 * 100_000);
            match slot {
                0 if ms.is_multiple_of(IMU_PERIOD_MS) => {
                    return Some(SimRecord::Imu(self.imu.sample(&self.motion, ms, t)));
                }
                1 if ms.is_multiple_of(GNSS_PERIOD_MS) => {
                    return Some(SimRecord::Gnss(self.gnss.fix(&self.motion, &self.road, ms, t)));
                }
                2 if self.images && ms.is_multiple_of(FRAME_PERIOD_MS) => {
                    let seq = self.frames;
                    self.frames += 1;
                    let rgb = self.painter.paint(&self.road, &self.motion, ms);
                    return Some(SimRecord::Frame { t, seq, width: FRAME_WIDTH, height: FRAME_HEIGHT, rgb });
                }
                3.. => {
                    let deployed = (self.motion.contact > 0).then_some(self.motion.contact + AIRBAG_DELAY_MS);
                    if let Some(message) = BusMessage::ALL.get(slot - 3).filter(|m| m.is_due(ms, deployed)) {
                        let now = BusState::of_demo(&self.motion, ms);
                        return Some(SimRecord::Can(self.bus.frame(*message, &now, t)));
                    }
                }
                _ => {}
            }
        }
        None
    }
}
