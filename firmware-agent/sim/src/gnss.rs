//! The satellite receiver: position with a slow walk, speed and course with noise, wall time.

use agent_core::samples::GnssFix;
use agent_core::time::{MonoTime, WallQuality, WallTime};

use crate::motion::Motion;
use crate::rng::Rng;
use crate::road::{Road, course_deg};

/// Where the drive is laid: the middle of the North Atlantic, so that no one takes it for a real place.
pub(crate) const ORIGIN_DEG: [f64; 2] = [45.0, -30.0];
/// Metres per degree of latitude and longitude there (WGS 84).
pub(crate) const METRES_PER_DEG: [f64; 2] = [111_131.7, 78_846.8];
/// Wall time of the drive's start: 2026-01-01T12:00:00Z.
pub(crate) const START_UNIX_MS: u64 = 1_767_268_800_000;

pub(crate) struct Gnss {
    rng: Rng,
    walk_m: [f64; 2],
    course: f64,
}

impl Gnss {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed, 3), walk_m: [0.0; 2], course: 90.0 }
    }

    pub(crate) fn fix(&mut self, motion: &Motion, road: &Road, ms: usize, t: MonoTime) -> GnssFix {
        let step = motion.at(ms);
        let pose = road.pose(step.s, step.left);
        for walk in &mut self.walk_m {
            *walk = *walk * 0.98 + 0.12 * self.rng.normal();
        }
        let speed = (step.v + 0.04 * self.rng.normal()).max(0.0);
        // Below walking pace a receiver holds its course: the velocity's direction is noise there.
        if step.v > 1.0 {
            let noise = 3.0 / step.v * self.rng.normal() * 0.5;
            self.course = course_deg(pose.heading) + noise;
            self.course -= (self.course / 360.0).floor() * 360.0;
        }
        GnssFix {
            t,
            lat_deg: ORIGIN_DEG[0] + (pose.y + self.walk_m[0]) / METRES_PER_DEG[0],
            lon_deg: ORIGIN_DEG[1] + (pose.x + self.walk_m[1]) / METRES_PER_DEG[1],
            alt_m: (12.0 + 0.5 * self.rng.normal()) as f32,
            speed_mps: speed as f32,
            course_deg: self.course as f32,
            accuracy_m: Some(1.8),
            wall: Some(WallTime { unix_ms: START_UNIX_MS + ms as u64, quality: WallQuality::Gnss }),
        }
    }
}
