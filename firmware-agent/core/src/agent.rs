//! The agent: every input goes in here, every message comes out here.
//!
//! Contract. Call one `on_*` method per input, in the order of time as far as the sources allow, then drain
//! [`Agent::poll`] until it returns `None`. Call [`Agent::on_tick`] at least every 100 ms of the same clock. After
//! [`Output::Closed`], read [`Agent::evidence`], store it, and answer with [`Agent::on_evidence`] and
//! [`Agent::on_student`]; what is not answered by the deadline is reported as missing.

use std::collections::VecDeque;

use agent_wire::limits::LADDER_FALLS;
use agent_wire::{
    Alert, EventId, EventKind, EventTime, EvidenceFile, Flags, Health, LadderFall, Losses, Position, Report, Storage,
    StudentOutcome, StudentRefusal, WallQuality,
};

use crate::config::AgentConfig;
use crate::edr;
use crate::event::{Absorbed, Event, EventState};
use crate::evidence::EvidenceView;
use crate::fusion::{Fusion, Trigger};
use crate::grounding;
use crate::history::History;
use crate::limits::{MAX_FRAME_BYTES, MAX_OPEN_EVENTS, MAX_OUTPUTS};
use crate::losses::LossMeter;
pub use crate::losses::Lost;
use crate::rings::{ByteRing, FrameRing, SampleRing};
use crate::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, SignalSample, VehicleSignal};
use crate::student::ObjectHistory;
use crate::telemetry::{Alignment, TelemetryEvent, TelemetryTrigger};
use crate::time::{MonoTime, Span, WallStep, WallTime};
use crate::vision::{Detection, RiskModel, TrackedObject, Vehicle, VisionAssessment, VisionTrigger};

/// What the core wants done.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "at most MAX_OUTPUTS of them exist, in a queue taken at the start")]
pub enum Output {
    /// Make it durable, then publish it.
    Alert(Alert),
    /// The same for the report.
    Report(Report),
    /// Publish when the link is up; the caller fills in the outbox's numbers.
    Health(Health),
    /// The post-roll of an event is over: store its evidence, ask the student if `ask`.
    Closed {
        /// Which event.
        event: EventId,
        /// Whether the student is to be asked.
        ask: bool,
    },
}

/// Header of a CAN frame in its ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CanHeader {
    pub(crate) bus: u8,
    pub(crate) id: u32,
    pub(crate) extended: bool,
    pub(crate) fd: bool,
    pub(crate) remote: bool,
}

/// What one CAN frame takes in the index of its ring, bytes.
pub const CAN_ENTRY_BYTES: usize = ByteRing::<CanHeader>::ENTRY_BYTES;

/// Counts for the summary of a replay and for health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames taken into the ring.
    pub frames: u64,
    /// IMU samples taken.
    pub imu: u64,
    /// CAN frames taken.
    pub can: u64,
    /// GNSS fixes taken.
    pub gnss: u64,
    /// Frames that the trigger model scored.
    pub scored: u64,
    /// Events opened.
    pub events: u32,
    /// Impacts that joined an event as a further one.
    pub joined: u32,
    /// Triggers that the cool-down swallowed.
    pub cooled: u32,
    /// Shocks that were no crash.
    pub disturbances: u32,
    /// Outputs that were lost because the caller did not drain: a fault of the caller.
    pub undrained: u32,
}

/// The core.
#[derive(Debug)]
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) frames: FrameRing,
    pub(crate) imu: SampleRing<ImuSample>,
    pub(crate) can: ByteRing<CanHeader>,
    pub(crate) gnss: SampleRing<GnssFix>,
    pub(crate) history: History,
    telemetry: TelemetryTrigger,
    vision: VisionTrigger,
    pub(crate) objects: ObjectHistory,
    last_seen: Option<(MonoTime, VisionAssessment)>,
    fusion: Fusion,
    events: VecDeque<Event>,
    next_seq: u32,
    quiet_until: MonoTime,
    outputs: VecDeque<Output>,
    losses: LossMeter,
    counts: Counts,
    started: Option<MonoTime>,
    next_health: Option<MonoTime>,
    pub(crate) now: MonoTime,
    last_frame_seq: Option<u64>,
}

impl Agent {
    /// Takes all memory that it will ever use.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        let r = &config.rings;
        Self {
            frames: FrameRing::new(r.video_bytes, r.video_frames, r.video_keep()),
            imu: SampleRing::new(r.imu_samples, r.sample_keep()),
            // One frame's bytes more: an arena is never full to its last byte.
            can: ByteRing::new((r.can_frames + 1) * crate::config::CAN_PAYLOAD_BYTES, r.can_frames, r.sample_keep()),
            gnss: SampleRing::new(r.gnss_fixes, r.sample_keep()),
            history: History::default(),
            telemetry: TelemetryTrigger::new(config.telemetry.clone()),
            vision: VisionTrigger::new(config.vision.clone()),
            objects: ObjectHistory::default(),
            last_seen: None,
            fusion: Fusion::new(config.telemetry.clone(), config.vision.clone(), config.fusion.clone()),
            events: VecDeque::with_capacity(MAX_OPEN_EVENTS + 1),
            next_seq: 1,
            quiet_until: MonoTime::ZERO,
            outputs: VecDeque::with_capacity(MAX_OUTPUTS),
            losses: LossMeter::default(),
            counts: Counts::default(),
            started: None,
            next_health: None,
            now: MonoTime::ZERO,
            last_frame_seq: None,
            config,
        }
    }

    /// Memory of the rings, bytes.
    #[must_use]
    pub fn ring_memory(&self) -> usize {
        self.frames.memory() + self.imu.memory() + self.can.memory() + self.gnss.memory()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Losses since the start.
    pub fn losses(&mut self) -> Losses {
        self.count_ring_drops();
        self.losses.total()
    }

    /// The latest time that any input carried.
    #[must_use]
    pub const fn now(&self) -> MonoTime {
        self.now
    }

    /// The mounting estimate.
    #[must_use]
    pub fn alignment(&self) -> Alignment {
        self.telemetry.alignment()
    }

    /// What the vision trigger said last, and when.
    #[must_use]
    pub const fn last_seen(&self) -> Option<&(MonoTime, VisionAssessment)> {
        self.last_seen.as_ref()
    }

    /// Speed now, m/s, and whether it comes from the bus.
    #[must_use]
    pub fn speed(&self) -> Option<(f32, bool)> {
        self.history.speed(self.now)
    }

    /// An IMU sample.
    pub fn on_imu(&mut self, s: &ImuSample) {
        if !self.imu.push(*s, self.pin(self.config.rings.sample_pre_roll)) {
            self.losses.add(Lost::Imu, 1);
            return;
        }
        self.counts.imu += 1;
        self.on_tick(s.t);
        self.vision.on_imu(s);
        for event in self.telemetry.on_imu(s) {
            if let TelemetryEvent::ImpactBegan(impact) | TelemetryEvent::ImpactUpdated(impact) = &event {
                self.vision.on_impact(s.t, impact.max_delta_v_mps);
            }
            if matches!(event, TelemetryEvent::Disturbance { .. }) {
                self.counts.disturbances = self.counts.disturbances.saturating_add(1);
            }
            if let Some(trigger) = self.fusion.on_telemetry(&event) {
                self.on_trigger(s.t, &trigger);
            }
        }
    }

    /// A CAN frame, for the ring; its signals come by [`Self::on_signal`].
    pub fn on_can(&mut self, f: &CanFrame) {
        let header = CanHeader { bus: f.bus, id: f.id, extended: f.extended, fd: f.fd, remote: f.remote };
        if self.can.push(f.t, header, f.payload(), self.pin(self.config.rings.sample_pre_roll)) {
            self.counts.can += 1;
            self.on_tick(f.t);
        } else {
            self.losses.add(Lost::Can, 1);
        }
    }

    /// A decoded vehicle signal.
    pub fn on_signal(&mut self, s: &SignalSample) {
        self.history.on_signal(s);
        if s.signal == VehicleSignal::Speed && s.value.is_finite() {
            self.telemetry.on_speed(s.t, s.value);
        }
        self.on_tick(s.t);
        if let Some(trigger) = self.fusion.on_signal(s) {
            self.on_trigger(s.t, &trigger);
        }
    }

    /// A GNSS fix.
    pub fn on_gnss(&mut self, f: &GnssFix) {
        if !self.gnss.push(*f, self.pin(self.config.rings.sample_pre_roll)) {
            self.losses.add(Lost::Gnss, 1);
            return;
        }
        self.counts.gnss += 1;
        self.history.on_gnss(f);
        self.on_tick(f.t);
        // GNSS speed stands in for the bus where there is none.
        if f.speed_mps.is_finite() && !self.history.speed(f.t).is_some_and(|(_, bus)| bus) {
            self.telemetry.on_speed(f.t, f.speed_mps);
        }
    }

    /// A reading of the wall clock. Returns the step in milliseconds when it moved.
    pub fn on_wall(&mut self, t: MonoTime, wall: WallTime) -> Option<i64> {
        self.history.on_wall(t, wall)
    }

    /// The next step of the wall clock that was not asked for yet.
    pub fn next_wall_step(&mut self) -> Option<WallStep> {
        self.history.next_wall_step()
    }

    /// An encoded frame, for the ring. A gap in the sequence is counted as loss.
    pub fn on_frame(&mut self, meta: &FrameMeta, bytes: &[u8]) {
        if let Some(last) = self.last_frame_seq
            && meta.seq > last + 1
        {
            self.losses.add(Lost::Frames, u32::try_from(meta.seq - last - 1).unwrap_or(u32::MAX));
        }
        self.last_frame_seq = Some(self.last_frame_seq.map_or(meta.seq, |l| l.max(meta.seq)));
        let pin = self.pin(self.config.rings.video_pre_roll);
        if bytes.len() <= MAX_FRAME_BYTES && self.frames.push(meta, bytes, pin) {
            self.counts.frames += 1;
        } else {
            self.losses.add(Lost::Frames, 1);
        }
        self.on_tick(meta.t);
    }

    /// Detections of the frame captured at `t`; `aspect` is its width over its height.
    ///
    /// With a risk head its probabilities stand in place of the cues' risk.
    pub fn on_detections(
        &mut self,
        t: MonoTime,
        detections: &[Detection],
        aspect: f32,
        head: Option<&mut dyn RiskModel>,
    ) {
        self.on_tick(t);
        self.counts.scored += 1;
        let vehicle = Vehicle { speed_mps: self.history.speed(t).map(|(v, _)| v), brake: self.history.brake(t) };
        let seen = self.vision.assess(t, detections, aspect, vehicle, head);
        if let Some(event) = self.events.iter_mut().find(|e| e.gathering()) {
            let risk = seen.strongest();
            event.max_risk = Some(event.max_risk.map_or(risk, |r| r.max(risk)));
        }
        let trigger = self.fusion.on_vision(t, &seen);
        self.objects.push(t, &seen.objects);
        self.last_seen = Some((t, seen));
        if let Some(trigger) = trigger {
            self.on_trigger(t, &trigger);
        }
    }

    /// True while an event gathers or waits for its evidence or student.
    #[must_use]
    pub fn awaiting(&self) -> bool {
        !self.events.is_empty()
    }

    /// Health now, outside its interval.
    pub fn request_health(&mut self) {
        let health = self.health();
        self.emit(Output::Health(health));
    }

    /// A source lost something.
    pub fn on_loss(&mut self, what: Lost, count: u32) {
        self.losses.add(what, count);
    }

    /// Time passes; also called by every input.
    pub fn on_tick(&mut self, now: MonoTime) {
        self.now = self.now.max(now);
        let now = self.now;
        let started = *self.started.get_or_insert(now);
        self.history.tick(now);
        if self.events.iter().any(|e| matches!(e.state, EventState::Gathering { until } if now >= until)) {
            self.close(true);
        }
        while let Some(i) = self
            .events
            .iter()
            .position(|e| matches!(e.state, EventState::Awaiting { deadline } if e.answered() || now >= deadline))
        {
            self.report(i);
        }
        let due = *self.next_health.get_or_insert(started + self.config.health_interval);
        if now >= due && self.config.health_interval > Span(0) {
            self.next_health = Some(now + self.config.health_interval);
            self.count_ring_drops();
            let health = self.health();
            self.emit(Output::Health(health));
        }
    }

    /// The end of the input: whatever gathers is closed as incomplete.
    pub fn finish(&mut self) {
        if self.events.iter().any(Event::gathering) {
            self.close(false);
        }
    }

    /// The caller ends and waits for nothing more: closed events are reported with what is there.
    pub fn give_up(&mut self) {
        while let Some(i) = self.events.iter().position(|e| !e.gathering()) {
            self.report(i);
        }
    }

    /// The evidence of a closed event was taken out of the rings up to `t`: they need not keep what is older for it.
    pub fn on_taken(&mut self, event: &EventId, t: MonoTime) {
        if let Some(e) = self.events.iter_mut().find(|e| e.id == *event && !e.gathering()) {
            e.taken = e.taken.max(t);
        }
    }

    /// The evidence of an event was stored, or could not be.
    pub fn on_evidence(&mut self, event: &EventId, file: Option<EvidenceFile>) {
        if let Some(e) = self.events.iter_mut().find(|e| e.id == *event && !e.gathering()) {
            e.evidence = Some(file);
        }
        self.on_tick(self.now);
    }

    /// The student answered, or did not; `falls` are the steps of its ladder that gave no answer.
    pub fn on_student(&mut self, event: &EventId, outcome: StudentOutcome, falls: &[LadderFall]) {
        if let Some(e) = self.events.iter_mut().find(|e| e.id == *event && !e.gathering()) {
            e.student = Some(outcome);
            e.student_falls = falls.iter().take(LADDER_FALLS).copied().collect();
        }
        self.on_tick(self.now);
    }

    /// Whether the student would be asked about an event if it closed as it is now: what it sees may be sent ahead.
    #[must_use]
    pub fn asks_student(&self, event: &EventId) -> bool {
        self.events.iter().find(|e| e.id == *event).is_some_and(|e| self.config.ask.includes(e.kind, e.severity))
    }

    /// What was recorded around an event that is not yet reported; of one that still gathers, what is there so far.
    #[must_use]
    pub fn evidence(&self, event: &EventId) -> Option<EvidenceView<'_>> {
        self.events.iter().find(|e| e.id == *event).map(|event| EvidenceView::new(self, event))
    }

    fn emit(&mut self, output: Output) {
        if self.outputs.len() < MAX_OUTPUTS {
            self.outputs.push_back(output);
        } else {
            self.counts.undrained += 1;
        }
    }

    /// The oldest time that events still need of a ring with this pre-roll.
    fn pin(&self, pre_roll: Span) -> Option<MonoTime> {
        let needed = self.events.iter().filter(|e| e.evidence.is_none());
        needed.map(|e| e.first_t.minus(pre_roll).max(e.taken)).min()
    }

    fn gather_span(&self) -> Span {
        self.config.rings.post_roll.max(self.config.fusion.join_window)
    }

    fn on_trigger(&mut self, t: MonoTime, trigger: &Trigger) {
        let gather = self.gather_span();
        let objects = self.nearest_objects(t);
        if let Some(i) = self.events.iter().position(Event::gathering) {
            let event = &mut self.events[i];
            let before = event.impact_count;
            let absorbed = event.absorb(trigger, t, gather);
            if before > 0 && event.impact_count > before {
                self.counts.joined += 1;
            }
            if absorbed == Absorbed::Raised {
                event.objects = objects;
                self.alert(i);
            }
            return;
        }
        if !trigger.opens {
            return;
        }
        if trigger.kind != EventKind::Collision && t < self.quiet_until {
            self.counts.cooled = self.counts.cooled.saturating_add(1);
            return;
        }
        let id = EventId { unit: self.config.unit.clone(), boot: self.config.boot, seq: self.next_seq };
        self.next_seq = self.next_seq.saturating_add(1);
        self.counts.events += 1;
        let mut event = Event::open(id, trigger, t, gather);
        event.objects = objects;
        event.max_risk = self.recent_risk(t);
        self.events.push_back(event);
        self.alert(self.events.len() - 1);
    }

    fn nearest_objects(&self, t: MonoTime) -> heapless::Vec<TrackedObject, { crate::limits::OBJECT_TABLE }> {
        self.last_seen
            .as_ref()
            .filter(|(at, _)| t.since(*at) <= Span::from_s(1))
            .map(|(_, seen)| seen.objects.clone())
            .unwrap_or_default()
    }

    fn recent_risk(&self, t: MonoTime) -> Option<f32> {
        self.last_seen.as_ref().filter(|(at, _)| t.since(*at) <= Span::from_s(1)).map(|(_, seen)| seen.strongest())
    }

    fn event_time(&self, t: MonoTime) -> EventTime {
        match self.history.wall_at(t) {
            Some(wall) => EventTime { mono_ns: t.0, unix_ms: wall.unix_ms, quality: wall.quality },
            None => EventTime { mono_ns: t.0, unix_ms: 0, quality: WallQuality::None },
        }
    }

    fn flags(&self, event: Option<&Event>) -> Flags {
        let mut flags = self.config.flags;
        flags.no_vision |= self.config.trigger_model.is_none();
        flags.no_telemetry |= self.counts.imu == 0;
        flags.multi_event |= event.is_some_and(|e| e.impact_count > 1);
        flags
    }

    fn position(&self, t: MonoTime) -> Option<Position> {
        let fix = self.history.position()?;
        let e7 = |deg: f64| (deg * 1e7).round() as i32;
        Some(Position {
            lat_e7: e7(fix.lat_deg),
            lon_e7: e7(fix.lon_deg),
            age_ms: u32::try_from(t.since(fix.t).as_ms()).unwrap_or(u32::MAX),
            accuracy_dm: fix.accuracy_m.map_or(u16::MAX, |m| (m * 10.0).round() as u16),
        })
    }

    /// Losses since the last message that carried them.
    fn take_losses(&mut self) -> Losses {
        self.count_ring_drops();
        self.losses.take()
    }

    fn count_ring_drops(&mut self) {
        self.losses.add_ring_drops([
            (Lost::Frames, self.frames.drops().early),
            (Lost::Imu, self.imu.drops().early),
            (Lost::Can, self.can.drops().early),
            (Lost::Gnss, self.gnss.drops().early),
        ]);
    }

    fn alert(&mut self, index: usize) {
        let losses = self.take_losses();
        let Some(event) = self.events.get(index) else { return };
        let zero = event.t_zero;
        let impact = event.strongest();
        let alert = Alert {
            event: event.id.clone(),
            revision: event.revision,
            kind: event.kind,
            severity: event.severity,
            time: self.event_time(zero),
            position: self.position(zero),
            peak: impact.map(|i| edr::peak(i, zero)),
            delta_v: impact.map(edr::delta_v),
            speed_dkmh: self.history.row_at(zero).and_then(|r| r.speed_mps).map(|(v, _)| edr::dkmh(v)),
            evidence: event.evidence_items(),
            alignment_pct: percent(self.telemetry.alignment().confidence),
            flags: self.flags(Some(event)),
            losses,
            config: self.config.config,
            trigger_model: self.config.trigger_model,
        };
        self.emit(Output::Alert(alert));
    }

    fn close(&mut self, complete: bool) {
        let now = self.now;
        let deadline = now + self.config.report_deadline;
        let Some(event) = self.events.iter_mut().find(|e| e.gathering()) else { return };
        event.state = EventState::Awaiting { deadline };
        event.complete = complete;
        let ask = self.config.ask.includes(event.kind, event.severity);
        if !ask {
            event.student = Some(StudentOutcome::Refused(StudentRefusal::NotAsked));
        }
        let id = event.id.clone();
        self.quiet_until = now + self.config.fusion.cool_down;
        self.emit(Output::Closed { event: id, ask });
        // Bounded: the oldest is reported with what is there.
        if self.events.len() > MAX_OPEN_EVENTS {
            self.report(0);
        }
    }

    fn report(&mut self, index: usize) {
        let Some(event) = self.events.remove(index) else { return };
        let losses = self.take_losses();
        let late = StudentOutcome::Refused(StudentRefusal::Late);
        let report = Report {
            event: event.id.clone(),
            kind: event.kind,
            severity: event.severity,
            time: self.event_time(event.t_zero),
            student: event.student.clone().unwrap_or(late),
            student_falls: event.student_falls.clone(),
            edr: edr::summary(&event.impacts, event.impact_count, &self.history, event.complete),
            grounding: grounding::of(&event, &self.history),
            evidence_file: event.evidence.clone().flatten(),
            flags: self.flags(Some(&event)),
            losses,
            config: self.config.config,
            trigger_model: self.config.trigger_model,
        };
        self.emit(Output::Report(report));
    }

    fn health(&self) -> Health {
        let clock = self.history.wall_at(self.now).map_or(WallQuality::None, |w| w.quality);
        let uptime = self.started.map_or(Span(0), |s| self.now.since(s));
        Health {
            unit: self.config.unit.clone(),
            boot: self.config.boot,
            uptime_s: u32::try_from(uptime.as_ms() / 1000).unwrap_or(u32::MAX),
            clock,
            alignment_pct: percent(self.telemetry.alignment().confidence),
            ring_video_ms: u32::try_from(self.frames.span().as_ms()).unwrap_or(u32::MAX),
            outbox_waiting: 0,
            outbox_expired: 0,
            events: self.counts.events,
            disturbances: self.counts.disturbances,
            losses: self.losses.total(),
            flags: self.flags(None),
            broker: 0,
            storage: Storage::default(),
            sensors: self.sensors(),
        }
    }
}

fn percent(fraction: f32) -> u8 {
    (fraction * 100.0).round().clamp(0.0, 100.0) as u8
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
