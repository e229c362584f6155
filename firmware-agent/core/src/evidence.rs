//! Everything recorded around an event, read out of the rings while they are pinned.

use crate::agent::{Agent, CanHeader};
use crate::edr::{self, EdrTable};
use crate::event::Event;
use crate::history::Row;
use crate::samples::{CanFrame, FrameMeta, GnssFix, ImuSample};
use crate::student::{self, TelemetryAt};
use crate::telemetry::Alignment;
use crate::time::{MonoTime, Span, WallStep};
use crate::vision::TrackedObject;

fn can_frame((t, h, bytes): (MonoTime, CanHeader, &[u8])) -> CanFrame {
    let mut data = [0; 64];
    let len = bytes.len().min(data.len());
    data[..len].copy_from_slice(&bytes[..len]);
    CanFrame { t, bus: h.bus, id: h.id, extended: h.extended, fd: h.fd, remote: h.remote, len: len as u8, data }
}

/// What the rings hold of a stretch of time, whether or not there is an event.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    agent: &'a Agent,
    frames_from: MonoTime,
    samples_from: MonoTime,
    to: MonoTime,
}

impl<'a> Recorded<'a> {
    pub(crate) const fn new(agent: &'a Agent, from: MonoTime, to: MonoTime) -> Self {
        Self { agent, frames_from: from, samples_from: from, to }
    }

    /// IMU samples.
    pub fn imu(&self) -> impl Iterator<Item = &'a ImuSample> {
        self.agent.imu.range(self.samples_from, self.to)
    }

    /// GNSS fixes.
    pub fn gnss(&self) -> impl Iterator<Item = &'a GnssFix> {
        self.agent.gnss.range(self.samples_from, self.to)
    }

    /// CAN frames.
    pub fn can(&self) -> impl Iterator<Item = CanFrame> {
        self.agent.can.range(self.samples_from, self.to).map(can_frame)
    }

    /// Encoded frames.
    pub fn frames(&self) -> impl Iterator<Item = (FrameMeta, &'a [u8])> {
        let from = self.frames_from;
        self.agent.frames.range_from_key(from, self.to).filter(move |(meta, _)| meta.t >= from)
    }
}

impl Agent {
    /// What the rings hold from `from` to `to`, both included.
    #[must_use]
    pub const fn recorded(&self, from: MonoTime, to: MonoTime) -> Recorded<'_> {
        Recorded::new(self, from, to)
    }

    /// The key frame at or before `t` from which video can be decoded, or else the oldest.
    #[must_use]
    pub fn key_frame_before(&self, t: MonoTime) -> Option<MonoTime> {
        self.frames.range_from_key(t, self.now).next().map(|(meta, _)| meta.t)
    }
}

/// Everything recorded around an event.
#[derive(Debug)]
pub struct EvidenceView<'a> {
    agent: &'a Agent,
    event: &'a Event,
}

impl<'a> EvidenceView<'a> {
    pub(crate) const fn new(agent: &'a Agent, event: &'a Event) -> Self {
        Self { agent, event }
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &'a Event {
        self.event
    }

    /// The last steps of the wall clock before now: what times of earlier messages are worth.
    pub fn wall_steps(&self) -> impl Iterator<Item = &'a WallStep> {
        self.agent.history.wall_steps()
    }

    fn from(&self, pre_roll: Span) -> MonoTime {
        self.event.first_t.minus(pre_roll)
    }

    /// Where its video begins: at a key frame.
    fn video_from(&self) -> MonoTime {
        let from = self.from(self.agent.config.rings.video_pre_roll);
        self.agent.key_frame_before(from).unwrap_or(from)
    }

    /// Time before which it holds nothing.
    #[must_use]
    pub fn begins(&self) -> MonoTime {
        self.video_from().min(self.from(self.agent.config.rings.sample_pre_roll))
    }

    /// What of it lies from `from` to `to`, both included: for a caller that takes it a piece at a time. All pieces together hold
    /// what the whole holds.
    #[must_use]
    pub fn piece(&self, from: MonoTime, to: MonoTime) -> Recorded<'a> {
        Recorded {
            agent: self.agent,
            frames_from: from.max(self.video_from()),
            samples_from: from.max(self.from(self.agent.config.rings.sample_pre_roll)),
            to,
        }
    }

    /// Encoded frames from a key frame before the pre-roll to now.
    pub fn frames(&self) -> impl Iterator<Item = (FrameMeta, &'a [u8])> {
        self.agent.frames.range_from_key(self.from(self.agent.config.rings.video_pre_roll), self.agent.now)
    }

    /// Encoded frames from the key frame at or before `t` to now.
    pub fn frames_from(&self, t: MonoTime) -> impl Iterator<Item = (FrameMeta, &'a [u8])> {
        self.agent.frames.range_from_key(t, self.agent.now)
    }

    /// What the student reads beside the frame of time `t`, over `interval` before it; `None` while the vehicle's axes
    /// are not known or without a gyroscope.
    #[must_use]
    pub fn telemetry_at(&self, t: MonoTime, interval: Span) -> Option<TelemetryAt> {
        let imu = self.agent.imu.range(t.minus(interval), t);
        student::telemetry(imu, &self.alignment(), self.speed_at(t))
    }

    /// Speed at `t`, m/s: the bus's if it is fresh then, else that of GNSS, between two fixes by a straight line.
    #[must_use]
    pub fn speed_at(&self, t: MonoTime) -> Option<f32> {
        let row = self.agent.history.row_at(t).and_then(|r| r.speed_mps);
        match row {
            Some((speed, true)) => Some(speed),
            held => student::between_fixes(&self.agent.gnss, t).or(held.map(|(speed, _)| speed)),
        }
    }

    /// The nearest objects at `t`, if the trigger model looked shortly before.
    #[must_use]
    pub fn objects_at(&self, t: MonoTime) -> &'a [TrackedObject] {
        self.agent.objects.at(t)
    }

    /// IMU samples of the pre-roll, the event and the post-roll.
    pub fn imu(&self) -> impl Iterator<Item = &'a ImuSample> {
        self.agent.imu.range(self.from(self.agent.config.rings.sample_pre_roll), self.agent.now)
    }

    /// GNSS fixes.
    pub fn gnss(&self) -> impl Iterator<Item = &'a GnssFix> {
        self.agent.gnss.range(self.from(self.agent.config.rings.sample_pre_roll), self.agent.now)
    }

    /// CAN frames.
    pub fn can(&self) -> impl Iterator<Item = CanFrame> {
        let from = self.from(self.agent.config.rings.sample_pre_roll);
        self.agent.can.range(from, self.agent.now).map(can_frame)
    }

    /// Pre-crash rows around the event, for plots: from the sample pre-roll to now.
    pub fn rows(&self) -> impl Iterator<Item = &'a Row> {
        self.agent.history.rows(self.from(self.agent.config.rings.sample_pre_roll), self.agent.now)
    }

    /// The event data table.
    #[must_use]
    pub fn edr(&self) -> EdrTable {
        edr::table(self.event.t_zero, &self.agent.history, self.imu(), &self.agent.alignment())
    }

    /// The mounting estimate.
    #[must_use]
    pub fn alignment(&self) -> Alignment {
        self.agent.alignment()
    }
}
