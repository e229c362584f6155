//! Health as version 3 of the envelope wrote it: read for as long as units with it may be on the road, never written. What version 4
//! added is absent: nothing is known of the sensors.

use serde::{Deserialize, Serialize};

use crate::ids::UnitId;
use crate::message::{Flags, Health, Losses, Storage};
use crate::sensors::Sensors;
use crate::units::WallQuality;

/// See [`Health`].
#[derive(Serialize, Deserialize)]
pub(crate) struct HealthV3 {
    unit: UnitId,
    boot: u32,
    uptime_s: u32,
    clock: WallQuality,
    alignment_pct: u8,
    ring_video_ms: u32,
    outbox_waiting: u32,
    outbox_expired: u32,
    events: u32,
    disturbances: u32,
    losses: Losses,
    flags: Flags,
    broker: u8,
    storage: Storage,
}

impl From<HealthV3> for Health {
    fn from(v3: HealthV3) -> Self {
        Self {
            unit: v3.unit,
            boot: v3.boot,
            uptime_s: v3.uptime_s,
            clock: v3.clock,
            alignment_pct: v3.alignment_pct,
            ring_video_ms: v3.ring_video_ms,
            outbox_waiting: v3.outbox_waiting,
            outbox_expired: v3.outbox_expired,
            events: v3.events,
            disturbances: v3.disturbances,
            losses: v3.losses,
            flags: v3.flags,
            broker: v3.broker,
            storage: v3.storage,
            sensors: Sensors::default(),
        }
    }
}
