//! The unit of a simulated world: a life from each start to its end, on one virtual clock.
//!
//! Samples, events, evidence and the ends of a life; messages on their way are in [`super::link`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use agent_core::agent::{Agent, Lost, Output};
use agent_core::config::{AgentConfig, FusionConfig, RingConfig, RingRates};
use agent_core::outbox::{Class, Outbox, OutboxLimits};
use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, SignalSample, VehicleSignal, VideoCodec};
use agent_core::time::{MonoTime, Span, WallTime};
use agent_disk::{Disk as _, Faults, SimDisk};
use agent_drive::DriveInfo;
use agent_link::Store;
use agent_link::store::{Opened, Stored};
use agent_sim::rng::Rng;
use agent_wire::{EventId, EvidenceFile, Flags, Hash8, Message, Severity, StudentOutcome, StudentRefusal, WallQuality};

use super::fleet::Fleet;
use super::{Planted, Trace, What};
use crate::evidence::{self, Durability, LESSER};
use crate::power_tests;
use crate::room::Place;
use crate::scribe::{Job, Keeper, Scribe};
use crate::signer::Signer;

const STORE: &str = "/state/outbox.redb";
const EVIDENCE: &str = "/state/evidence";
const QUOTA: u64 = 3_000_000;
const EVENT_BYTES: u64 = 400_000;
/// One turn of the world, ms.
const TURN: u64 = 10;
/// An alert of a crash that a working unit felt must be out within this, ms; a report, after its event's longest life.
const ALERT_WITHIN: u64 = 2_000;
const REPORT_WITHIN: u64 = 40_000;
/// An event that closes while the disk fails or hangs is given up by then, ms: its deadline, and a turn or two.
const EXCUSED: u64 = 12_000;
/// After its start a unit needs so long until it can feel a crash, ms.
const WAKING: u64 = 5_000;
/// Wall clock of the world's begin, ms.
pub(super) const WALL: u64 = 1_700_000_000_000;

/// That of the power cuts, for drives: plain fusion, longer rings, a later deadline.
fn config(boot: u32) -> AgentConfig {
    let base = power_tests::config(boot);
    let fusion = FusionConfig { signals: base.fusion.signals.clone(), ..FusionConfig::default() };
    let rates = RingRates { video_mbit_s: 0.1, fps: 5, imu_hz: 100, can_hz: 10, gnss_hz: 1 };
    let rings = RingConfig::sized(Span::from_s(4), Span::from_s(4), Span::from_s(2), Span::from_s(1), &rates);
    AgentConfig { rings, fusion, report_deadline: Span::from_s(10), ..base }
}

fn limits() -> OutboxLimits {
    OutboxLimits { window: 4, entries: 64, lesser_entries: 24, ..OutboxLimits::default() }
}

/// When something that lasts ends, ms.
#[derive(Default)]
pub(super) struct Until {
    pub(super) camera: u64,
    pub(super) imu: u64,
    pub(super) can: u64,
    pub(super) gnss: u64,
    pub(super) network: u64,
    pub(super) acks: u64,
    pub(super) twice: u64,
    pub(super) silent: u64,
    pub(super) late: u64,
    pub(super) disk: u64,
    pub(super) hang: u64,
    /// Until then an event may have no evidence, because of one of these two.
    pub(super) excuse: u64,
    pub(super) ignition: u64,
    pub(super) power: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) disk: SimDisk,
    pub(super) until: Until,
    pub(super) wall_offset_ms: i64,
    pub(super) planted: Planted,
    pub(super) fleet: Fleet,
    pub(super) unit: Option<Unit>,
    /// When the power goes for good, and for how long.
    pub(super) cut: Option<(u64, u64)>,
    /// Evidence that was said to be safe.
    pub(super) safe: BTreeMap<PathBuf, Hash8>,
    pub(super) frame: u64,
    pub(super) trace: Trace,
}

/// One start, to its end.
pub(super) struct Unit {
    pub(super) agent: Agent,
    pub(super) store: Store,
    pub(super) outbox: Outbox,
    pub(super) scribe: Scribe,
    pub(super) jobs: Receiver<Job>,
    pub(super) keeper: Keeper,
    pub(super) payloads: BTreeMap<u64, Stored>,
    pub(super) unsaved: BTreeSet<u64>,
    pub(super) deletes: BTreeSet<u64>,
    pub(super) born: u64,
    pub(super) connected: bool,
    pub(super) next_reopen: u64,
    /// Acknowledgements on their way: when, and of what.
    pub(super) acks: Vec<(u64, u64)>,
    /// The student's words on their way.
    pub(super) words: Vec<(u64, EventId, StudentRefusal)>,
    /// Crashes that were felt, until an alert of one that severe is there.
    pub(super) felt: Vec<u64>,
    pub(super) last_severe: Option<u64>,
    /// Events without a report, with the time by which it must be there.
    pub(super) unreported: BTreeMap<String, u64>,
    /// The impact that is being felt: g, and its samples that are left.
    pub(super) pulse: (f32, u32),
    pub(super) signal: Option<VehicleSignal>,
    pub(super) fed: [u64; 3],
}

impl World {
    pub(super) fn new(seed: u64, planted: Planted) -> Self {
        let disk = SimDisk::new(seed);
        disk.make_folder(Path::new(EVIDENCE)).unwrap();
        Self {
            now: 0,
            rng: Rng::new(seed, 3),
            disk,
            until: Until::default(),
            wall_offset_ms: 0,
            planted,
            fleet: Fleet::default(),
            unit: None,
            cut: None,
            safe: BTreeMap::new(),
            frame: 0,
            trace: Trace::default(),
        }
    }

    pub(super) fn happen(&mut self, what: What) {
        let now = self.now;
        self.note(&[now, 17]);
        let until = |s: u64| now + s * 1000;
        let u = &mut self.until;
        match what {
            What::Drive(s) => u.ignition = u.ignition.max(until(s)),
            What::NoCamera(s) => u.camera = until(s),
            What::NoImu(s) => u.imu = until(s),
            What::NoCan(s) => u.can = until(s),
            What::NoGnss(s) => u.gnss = until(s),
            What::NoNetwork(s) => u.network = u.network.max(until(s)),
            What::NoAcks(s) => u.acks = until(s),
            What::AcksTwice(s) => u.twice = until(s),
            What::StudentSilent(s) => u.silent = until(s),
            What::StudentLate(s) => u.late = until(s),
            What::FramesLost(n) => self.frame += n,
            What::ClockStep(s) => self.wall_offset_ms += s * 1000,
            What::DiskFull(s) => self.disk_fault(until(s), |used| Faults { capacity: Some(used), ..Faults::default() }),
            What::DiskFails(s) => {
                self.disk_fault(until(s), |_| Faults { writes: true, syncs: true, ..Faults::default() });
            }
            What::DiskReadOnly(s) => self.disk_fault(until(s), |_| Faults { read_only: true, ..Faults::default() }),
            What::DiskHangs(s) => {
                u.hang = until(s);
                u.excuse = u.excuse.max(u.hang + EXCUSED);
            }
            What::PowerCut(operations, off) if self.unit.is_some() => {
                self.disk.cut_at(Some(self.disk.operations() + operations));
                self.cut = Some((now + 10_000, off * 1000));
            }
            What::PowerCut(..) => {}
            What::Impact(g) => {
                if let Some(unit) = &mut self.unit {
                    unit.pulse = (g, 10);
                    if now >= self.until.imu && now > unit.born + WAKING {
                        unit.felt.push(now);
                    }
                }
            }
            What::Airbag | What::Lesser => {
                let crash = what == What::Airbag;
                if let Some(unit) = self.unit.as_mut().filter(|_| now >= self.until.can) {
                    unit.signal = Some(if crash { VehicleSignal::AirbagDeployed } else { VehicleSignal::Custom(0) });
                    if crash && now > unit.born + WAKING {
                        unit.felt.push(now);
                    }
                }
            }
        }
    }

    fn disk_fault(&mut self, until: u64, faults: impl Fn(u64) -> Faults) {
        self.until.disk = until;
        self.until.excuse = self.until.excuse.max(until + EXCUSED);
        self.disk.set_faults(faults(self.disk.used()));
    }

    /// Every fault ends.
    pub(super) fn calm(&mut self) {
        self.until = Until { power: self.until.power, ..Until::default() };
        self.disk.set_faults(Faults::default());
    }

    /// Lives on to a second.
    pub(super) fn until(&mut self, second: u64) -> Result<(), String> {
        while self.now < second * 1000 {
            let on = self.now < self.until.ignition && self.now >= self.until.power;
            if self.unit.is_none() && !on {
                // Nothing happens before the next thing does.
                let wakes = if self.now < self.until.ignition { self.until.power } else { u64::MAX };
                self.now = wakes.min(second * 1000).max(self.now + TURN);
                continue;
            }
            if self.until.disk != 0 && self.now >= self.until.disk {
                self.until.disk = 0;
                self.disk.set_faults(Faults::default());
            }
            let turned = if self.unit.is_none() { self.start() } else { self.turn(on) };
            match turned {
                Ok(()) => {}
                Err(End::Power) => self.power_goes(),
                Err(End::Broken(what)) => return Err(format!("at {} ms: {what}", self.now)),
            }
            self.now += TURN;
        }
        Ok(())
    }

    /// All that was owed has arrived, and what is on disk is what was promised.
    pub(super) fn end(mut self) -> Result<Trace, String> {
        if self.unit.is_some() {
            return Err("the unit runs on after its ignition".to_owned());
        }
        if let Some(name) = self.fleet.missing() {
            return Err(format!("{name} was stored and never arrived"));
        }
        self.check_evidence()?;
        (self.trace.delivered, self.trace.doubled) = self.fleet.delivered();
        (self.trace.events, self.trace.crashes) = (self.fleet.events(), self.fleet.crashes);
        Ok(self.trace)
    }

    fn check_evidence(&self) -> Result<(), String> {
        for (path, hash) in &self.safe {
            let found = evidence::hash(&self.disk, path).map(|(_, hash)| hash);
            if !found.as_ref().is_ok_and(|found| found == hash) {
                return Err(format!("{} was safe and is not: {found:?}", path.display()));
            }
        }
        Ok(())
    }

    pub(super) fn note(&mut self, words: &[u64]) {
        for word in words {
            self.trace.hash = (self.trace.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }

    fn start(&mut self) -> Turn {
        if self.now < self.until.hang {
            // It waits for the disk.
            return Ok(());
        }
        self.disk.set_faults(if self.until.disk == 0 { Faults::default() } else { self.faults() });
        self.trace.starts += 1;
        let disk: Arc<SimDisk> = Arc::new(self.disk.clone());
        let opened = Store::open_on(disk.clone(), Path::new(STORE)).and_then(|(mut store, opened)| {
            store.next_boot()?;
            Ok((store, opened))
        });
        let (store, opened) = match opened {
            Ok(both) => both,
            Err(_) if self.disk.is_off() => return Err(End::Power),
            Err(_) if self.until.disk != 0 => (Store::without_disk(disk, Path::new(STORE)), Opened::default()),
            Err(error) => return broken(format!("a start was refused: {error}")),
        };
        if let Some((_, why)) = &opened.set_aside {
            return broken(format!("the store was set aside: {why}"));
        }
        // Files that the last life left half done; a disk that fails keeps them as they are.
        let _ = evidence::recover(&self.disk, Path::new(EVIDENCE));
        if self.until.disk == 0 && !self.disk.is_off() {
            self.check_evidence().map_err(End::Broken)?;
        }
        let mut outbox = Outbox::new(limits());
        if !store.is_open() {
            outbox.begin_at(1 << 62);
        }
        let signer = Signer::unsigned("unit-1", Flags::default());
        let (scribe, jobs, back) = Scribe::new(DriveInfo::new("simulated"), signer);
        let durability = if self.planted == Planted::NoSync { Durability::Buffered } else { Durability::Synced };
        let place = Place { folder: EVIDENCE.into(), quota: QUOTA, event_bytes: EVENT_BYTES };
        let keeper = Keeper::new(Arc::new(self.disk.clone()), place, durability, back);
        let mut unit = Unit {
            agent: Agent::new(config(if self.planted == Planted::SameStart { 1 } else { store.boot() })),
            store,
            outbox,
            scribe,
            jobs,
            keeper,
            payloads: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            deletes: BTreeSet::new(),
            born: self.now,
            connected: false,
            next_reopen: 0,
            acks: Vec::new(),
            words: Vec::new(),
            felt: Vec::new(),
            last_severe: None,
            unreported: BTreeMap::new(),
            pulse: (0.0, 0),
            signal: None,
            fed: [0; 3],
        };
        unit.restore(opened, self.now);
        self.unit = Some(unit);
        self.note(&[self.now, 1]);
        Ok(())
    }

    fn faults(&self) -> Faults {
        Faults { writes: true, syncs: true, ..Faults::default() }
    }

    /// The power is gone: what the unit had in memory goes with it.
    fn power_goes(&mut self) {
        let off = self.cut.take().map_or(1000, |(_, off)| off);
        self.unit = None;
        self.disk = self.disk.after_cut();
        self.disk.cut_at(None);
        if self.until.disk != 0 {
            self.disk.set_faults(self.faults());
        }
        self.until.power = self.now + off;
        self.trace.cuts += 1;
        self.note(&[self.now, 2]);
    }

    /// Ten milliseconds of a life.
    fn turn(&mut self, on: bool) -> Turn {
        if self.disk.is_off() || self.cut.is_some_and(|(at, _)| self.now >= at) {
            return Err(End::Power);
        }
        let Some(mut unit) = self.unit.take() else { return Ok(()) };
        if !on {
            // The ignition is off: what is open is finished, what waits is stored.
            unit.agent.finish();
            self.drain(&mut unit)?;
            while self.now >= self.until.hang && self.write(&mut unit)? {}
            self.drain(&mut unit)?;
            unit.agent.give_up();
            self.drain(&mut unit)?;
            unit.persist(self)?;
            unit.ends(self)?;
            return Ok(());
        }
        self.sample(&mut unit);
        self.write(&mut unit)?;
        self.drain(&mut unit)?;
        if self.now.is_multiple_of(100) {
            self.link(&mut unit)?;
            unit.promises(self.now)?;
        }
        self.unit = Some(unit);
        Ok(())
    }

    fn sample(&mut self, unit: &mut Unit) {
        let (now, t) = (self.now, unit.time(self.now));
        let wiggle = (self.rng.next_u64() % 100) as f32 / 1000.0;
        if now >= self.until.imu {
            let (g, left) = unit.pulse;
            // Half a sine of 100 ms, backwards: a frontal impact.
            let phase = (10 - left.min(10)) as f32 / 10.0;
            let ahead = if left > 0 { -g * 9.81 * (core::f32::consts::PI * (phase + 0.05)).sin() } else { 0.0 };
            unit.pulse.1 = left.saturating_sub(1);
            unit.agent.on_imu(&ImuSample {
                t,
                accel_mps2: [ahead + wiggle, 0.0, 9.81],
                gyro_rps: [0.0; 3],
                gyro_valid: true,
            });
            unit.fed[0] += 1;
        }
        if now.is_multiple_of(100) && now >= self.until.can {
            let data = core::array::from_fn(|_| self.rng.next_u64() as u8);
            unit.agent.on_can(&CanFrame { t, bus: 0, id: 9, extended: false, fd: false, remote: false, len: 8, data });
            unit.fed[1] += 1;
            unit.agent.on_signal(&SignalSample { t, signal: VehicleSignal::Speed, value: 14.0 });
            for signal in [VehicleSignal::AirbagDeployed, VehicleSignal::Custom(0)] {
                let value = if unit.signal == Some(signal) { 1.0 } else { 0.0 };
                unit.agent.on_signal(&SignalSample { t, signal, value });
            }
            unit.signal = None;
        }
        if now.is_multiple_of(200) {
            self.frame += 1;
            if now >= self.until.camera {
                let meta = FrameMeta { t, seq: self.frame, codec: VideoCodec::Jpeg, key: true, size: [64, 36] };
                let picture: Vec<u8> = (0..300).map(|_| self.rng.next_u64() as u8).collect();
                unit.agent.on_frame(&meta, &picture);
                unit.agent.on_detections(t, &[], 1.77, None);
                unit.fed[2] += 1;
            } else if now.is_multiple_of(1000) {
                // The camera's keeper says it once a second.
                unit.agent.on_loss(Lost::Frames, 1);
            }
        }
        if now.is_multiple_of(1000) {
            let unix_ms = (WALL + now).saturating_add_signed(self.wall_offset_ms);
            let wall = WallTime { unix_ms, quality: WallQuality::Ntp };
            unit.agent.on_wall(t, wall);
            if now >= self.until.gnss {
                unit.agent.on_gnss(&GnssFix {
                    t,
                    lat_deg: 48.0,
                    lon_deg: 11.0,
                    alt_m: 500.0,
                    speed_mps: 14.0,
                    course_deg: 90.0,
                    accuracy_m: Some(3.0),
                    wall: None,
                });
            }
        }
        unit.agent.on_tick(t);
        let due = |word: &(u64, EventId, StudentRefusal)| word.0 <= now;
        for (_, event, refusal) in unit.words.extract_if(.., |word| due(word)).collect::<Vec<_>>() {
            unit.agent.on_student(&event, StudentOutcome::Refused(refusal), &[]);
        }
        self.trace.samples += 1;
    }

    fn drain(&mut self, unit: &mut Unit) -> Turn {
        while let Some(output) = unit.agent.poll() {
            match output {
                Output::Alert(alert) => {
                    if alert.severity >= Severity::Severe {
                        unit.last_severe = Some(self.now);
                    }
                    let (id, crash) = (alert.event.to_string(), alert.severity >= Severity::Severe);
                    if alert.revision == 0 {
                        unit.unreported.insert(id, self.now + REPORT_WITHIN);
                    }
                    self.note(&[self.now, 3, u64::from(alert.revision), alert.severity as u64]);
                    self.put(unit, Class::Alert, crash, &Message::Alert(alert))?;
                }
                Output::Report(report) => {
                    if unit.unreported.remove(&report.event.to_string()).is_none() {
                        return broken(format!("a report of {} that nobody waits for", report.event));
                    }
                    self.note(&[self.now, 4, report.severity as u64, u64::from(report.evidence_file.is_some())]);
                    let crash = report.severity >= Severity::Severe;
                    self.put(unit, Class::Report, crash, &Message::Report(report))?;
                }
                Output::Closed { event, ask } => {
                    if !unit.scribe.on_closed(&event, unit.agent.now()) {
                        return broken(format!("{event} finds no place to be written from"));
                    }
                    if ask && self.now >= self.until.silent {
                        let wait = if self.now < self.until.late { 20_000 } else { 1_500 };
                        unit.words.push((self.now + wait, event, StudentRefusal::Failed));
                    }
                }
                Output::Health(_) => {}
            }
        }
        Ok(())
    }

    /// Goes on with evidence: some pieces, and a job of the disk. Whether there was something to do.
    fn write(&mut self, unit: &mut Unit) -> Result<bool, End> {
        let mut busy = unit.scribe.busy();
        if let Some(event) = unit.scribe.turn(&unit.agent) {
            self.sealed(unit, &event, None)?;
        }
        if let Some((event, t)) = unit.scribe.taken() {
            unit.agent.on_taken(&event, t);
        }
        if self.now < self.until.hang {
            return Ok(busy);
        }
        if let Ok(job) = unit.jobs.try_recv() {
            busy = true;
            let done = unit.keeper.perform(job);
            if self.disk.is_off() {
                return Err(End::Power);
            }
            // What made room was lesser evidence: of crashes nothing goes.
            let (disk, lesser) = (self.disk.clone(), Path::new(EVIDENCE).join(LESSER));
            self.safe.retain(|path, _| !path.starts_with(&lesser) || disk.exists(path));
            if let Some((event, file)) = done.sealed {
                self.sealed(unit, &event, file)?;
            }
        }
        Ok(busy)
    }

    /// Evidence of an event is safe, or is not; only a disk that did not take it may be the reason.
    fn sealed(&mut self, unit: &mut Unit, event: &EventId, file: Option<EvidenceFile>) -> Turn {
        match &file {
            Some(file) => {
                let folder = Path::new(EVIDENCE);
                let (crash, lesser) =
                    (evidence::names(folder, event).1, evidence::names(&folder.join(LESSER), event).1);
                self.safe.insert(if self.disk.exists(&crash) { crash } else { lesser }, file.sha256_8);
            }
            None if self.now < self.until.excuse => {}
            None => return broken(format!("{event} has no evidence")),
        }
        unit.agent.on_evidence(event, file);
        Ok(())
    }
}

pub(super) enum End {
    /// The power went.
    Power,
    /// A promise was.
    Broken(String),
}

pub(super) type Turn = Result<(), End>;

pub(super) fn broken<T>(what: String) -> Result<T, End> {
    Err(End::Broken(what))
}

impl Unit {
    pub(super) fn time(&self, now: u64) -> MonoTime {
        MonoTime((now - self.born + 1000) * 1_000_000)
    }

    /// What must hold while it lives.
    fn promises(&mut self, now: u64) -> Turn {
        let heard = |felt: u64, last: Option<u64>| last.is_some_and(|last| last + 25_000 >= felt);
        let last = self.last_severe;
        if let Some(felt) = self.felt.iter().find(|felt| now > **felt + ALERT_WITHIN && !heard(**felt, last)) {
            return broken(format!("a crash at {felt} ms was felt, and no alert went out"));
        }
        self.felt.retain(|felt| now <= felt + ALERT_WITHIN);
        if let Some((event, _)) = self.unreported.iter().find(|(_, by)| now > **by) {
            return broken(format!("{event} has no report"));
        }
        let most = limits();
        if self.payloads.len() > most.entries {
            return broken(format!("{} messages wait, at most {}", self.payloads.len(), most.entries));
        }
        Ok(())
    }

    /// What must hold at its end: every event is reported, every sample is accounted for.
    fn ends(mut self, world: &mut World) -> Turn {
        if let Some((event, _)) = self.unreported.first_key_value() {
            return broken(format!("{event} was left without a report at the end"));
        }
        let (counts, losses) = (self.agent.counts(), self.agent.losses());
        if counts.undrained > 0 {
            return broken(format!("{} outputs were lost", counts.undrained));
        }
        let taken = [(counts.imu, losses.imu), (counts.can, losses.can), (counts.frames, losses.frames)];
        for (fed, (kept, lost)) in self.fed.iter().zip(taken) {
            if kept > *fed || kept + u64::from(lost) < *fed {
                return broken(format!("of {fed} samples {kept} were taken and {lost} lost"));
            }
        }
        world.note(&[world.now, 6, counts.imu, u64::from(counts.events)]);
        Ok(())
    }
}
