//! Status and health as versions 1 and 2 of the envelope wrote them: read for as long as units with those may be on the road, never
//! written. What version 3 added is absent: the preferred broker, and nothing known against the disk.

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::ids::{Hash8, UnitId};
use crate::limits::VERSION_BYTES;
use crate::message::{Flags, Health, Losses, Status, Storage, UnitState};
use crate::sensors::Sensors;
use crate::units::WallQuality;

/// See [`Status`].
#[derive(Serialize, Deserialize)]
pub(crate) struct StatusV2 {
    unit: UnitId,
    boot: u32,
    state: UnitState,
    version: String<VERSION_BYTES>,
    config: Hash8,
}

impl From<StatusV2> for Status {
    fn from(v2: StatusV2) -> Self {
        let StatusV2 { unit, boot, state, version, config } = v2;
        Self { unit, boot, state, version, config, broker: 0 }
    }
}

/// See [`Health`].
#[derive(Serialize, Deserialize)]
pub(crate) struct HealthV2 {
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
}

impl From<HealthV2> for Health {
    fn from(v2: HealthV2) -> Self {
        Self {
            unit: v2.unit,
            boot: v2.boot,
            uptime_s: v2.uptime_s,
            clock: v2.clock,
            alignment_pct: v2.alignment_pct,
            ring_video_ms: v2.ring_video_ms,
            outbox_waiting: v2.outbox_waiting,
            outbox_expired: v2.outbox_expired,
            events: v2.events,
            disturbances: v2.disturbances,
            losses: v2.losses,
            flags: v2.flags,
            broker: 0,
            storage: Storage::default(),
            sensors: Sensors::default(),
        }
    }
}
