//! Power cuts, simulated: the agent's life of events, messages and evidence on a disk that goes at any operation and keeps of the
//! unsynced what it likes ([`SimDisk`]).
//!
//! A *life* is a start of the agent until its power goes: it opens the store, counts its start, sends what waits, then has events
//! (alert, evidence file, report), acknowledgements and rotation of lesser evidence in an order drawn from the seed. Every
//! operation on the disk is a place for a cut; after it a second life may be cut while it recovers, and the third is whole.
//!
//! What installs, tries and takes back updates has a campaign of its own, in `power_update_tests`.
//!
//! `AGENT_POWER_CUTS=100000 cargo test --release -p firmware-agent power_ -- --nocapture` runs both whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::agent::{Agent, Output};
use agent_core::config::{
    AgentConfig, AskStudent, FusionConfig, RingConfig, RingRates, SignalRule, TelemetryConfig, VisionConfig,
};
use agent_core::outbox::Class;
use agent_core::samples::{CanFrame, FrameMeta, ImuSample, SignalSample, VehicleSignal, VideoCodec};
use agent_core::time::{MonoTime, Span};
use agent_disk::{Disk as _, SimDisk};
use agent_drive::DriveReader;
use agent_link::Store;
use agent_link::store::Stored;
use agent_sim::rng::Rng;
use agent_wire::{Flags, Hash8, Message, MessageKind, Severity, StudentOutcome, StudentRefusal, UnitId};

use crate::evidence::{self, Durability, LESSER};
use crate::room::Place;
use crate::scribe;
use crate::signer::Signer;

const STORE: &str = "/state/outbox.redb";
const EVIDENCE: &str = "/state/evidence";
/// Events of one life.
const EVENTS: u32 = 3;
/// Lesser evidence rotates after a few files.
const QUOTA: u64 = 60_000;

/// What must hold after a cut, and what may.
struct Truth {
    /// How evidence is sealed.
    durability: Durability,
    /// Messages whose storing returned, by key.
    committed: BTreeMap<u64, Vec<u8>>,
    /// Messages whose storing or deletion was on its way: they may be there.
    uncertain: BTreeMap<u64, Vec<u8>>,
    next_key: u64,
    /// Numbers of starts that were handed out.
    boots: BTreeSet<u32>,
    /// Ids of events that anybody may have seen.
    ids: BTreeSet<String>,
    /// Evidence that was said to be safe: file and hash. Lesser evidence may have been rotated away.
    safe: BTreeMap<PathBuf, Hash8>,
    /// Events that were alerted and not reported; and those of which one or the other was on its way.
    owed: BTreeSet<String>,
    owed_maybe: BTreeSet<String>,
}

impl Default for Truth {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            committed: BTreeMap::new(),
            uncertain: BTreeMap::new(),
            next_key: 0,
            boots: BTreeSet::new(),
            ids: BTreeSet::new(),
            safe: BTreeMap::new(),
            owed: BTreeSet::new(),
            owed_maybe: BTreeSet::new(),
        }
    }
}

pub(crate) fn config(boot: u32) -> AgentConfig {
    let mut fusion = FusionConfig { cool_down: Span(0), join_window: Span(0), ..FusionConfig::default() };
    fusion.signals.push(SignalRule { index: 0, threshold: 0.5, above: true, severity: Severity::Minor }).unwrap();
    let rates = RingRates { video_mbit_s: 0.5, fps: 10, imu_hz: 50, can_hz: 50, gnss_hz: 1 };
    AgentConfig {
        unit: UnitId::new("unit-1").unwrap(),
        boot,
        telemetry: TelemetryConfig::default(),
        vision: VisionConfig::default(),
        rings: RingConfig::sized(Span::from_s(1), Span::from_s(1), Span::from_ms(200), Span::from_s(1), &rates),
        fusion,
        ask: AskStudent::Collisions,
        report_deadline: Span::from_s(1),
        health_interval: Span(0),
        flags: Flags { simulated: true, ..Flags::default() },
        config: Hash8::default(),
        trigger_model: None,
    }
}

impl Truth {
    /// Every event that was alerted and not reported is known to be, and no other.
    fn check_owed(&mut self, owed: &[agent_wire::Alert], what: &str) {
        let owed: BTreeSet<String> = owed.iter().map(|alert| alert.event.to_string()).collect();
        for id in &self.owed {
            assert!(owed.contains(id) || self.owed_maybe.contains(id), "{what}: the report of {id} is forgotten");
        }
        for id in &owed {
            let known = self.owed.contains(id) || self.owed_maybe.contains(id);
            assert!(known, "{what}: {id} would be reported again, or for the first time without an alert");
        }
        (self.owed, self.owed_maybe) = (owed, BTreeSet::new());
    }
}

/// One start of the agent, to its end or until the power goes (`Err`).
struct Life<'a> {
    disk: &'a SimDisk,
    store: Store,
    truth: &'a mut Truth,
    rng: &'a mut Rng,
    agent: Agent,
    ms: u64,
    what: &'a str,
}

type Cut = Result<(), ()>;

/// Opens the store, holds what it has against the truth, and lives.
fn live(disk: &SimDisk, truth: &mut Truth, rng: &mut Rng, events: u32, what: &str) -> Cut {
    disk.make_folder(Path::new(EVIDENCE)).map_err(drop)?;
    let opened = Store::open_on(Arc::new(disk.clone()), Path::new(STORE));
    let (mut store, opened) = match opened {
        Ok(opened) => opened,
        Err(_) if disk.is_off() => return Err(()),
        Err(error) => panic!("{what}: the start was refused: {error}"),
    };
    assert!(opened.set_aside.is_none() || disk.is_off(), "{what}: set aside: {:?}", opened.set_aside);
    assert_eq!(opened.unreadable, 0, "{what}");
    let found: BTreeMap<u64, Vec<u8>> = opened.waiting.into_iter().map(|s| (s.key, s.payload)).collect();
    for (key, payload) in &truth.committed {
        assert_eq!(found.get(key), Some(payload), "{what}: message {key} was committed and is lost");
    }
    for (key, payload) in &found {
        let known = truth.committed.get(key).or_else(|| truth.uncertain.get(key));
        assert_eq!(known, Some(payload), "{what}: message {key} comes from nowhere, or again");
    }
    truth.check_owed(&opened.owed, what);
    // What was uncertain has been decided.
    (truth.committed, truth.uncertain) = (found, BTreeMap::new());
    check_evidence(disk, truth, what);
    let boot = match store.next_boot() {
        Ok(boot) => boot,
        Err(_) if disk.is_off() => return Err(()),
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(truth.boots.insert(boot), "{what}: start {boot} was handed out twice: event ids would come again");
    evidence::recover(disk, Path::new(EVIDENCE)).map_err(drop)?;
    let agent = Agent::new(config(boot));
    let mut life = Life { disk, store, truth, rng, agent, ms: 1000, what };
    for _ in 0..events {
        life.event()?;
        life.acknowledge()?;
    }
    Ok(())
}

/// Evidence that was said to be safe is there and whole, and no file that has its final name is less than whole.
fn check_evidence(disk: &SimDisk, truth: &mut Truth, what: &str) {
    let mut there = disk.list(Path::new(EVIDENCE));
    there.extend(disk.list(&Path::new(EVIDENCE).join(LESSER)));
    for (path, hash) in &truth.safe {
        let found = evidence::hash(disk, path).map(|(_, hash)| hash);
        assert!(found.is_ok_and(|found| found == *hash), "{what}: {} was safe and is not", path.display());
    }
    for (path, len) in there {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = disk.read(&path, 1 << 20).unwrap();
        let read = DriveReader::from_reader(std::io::Cursor::new(bytes), len).and_then(|mut reader| {
            while reader.next()?.is_some() {}
            Ok(reader.loss().is_none())
        });
        if name.ends_with(".mcap") && !name.contains(".cut.") {
            assert!(matches!(read, Ok(true)), "{what}: {name} has its final name and is not whole: {read:?}");
        }
    }
}

impl Life<'_> {
    /// One event: a crash that an airbag tells, or a lesser one that a signal makes.
    fn event(&mut self) -> Cut {
        let crash = self.rng.next_u64().is_multiple_of(2);
        let signal = if crash { VehicleSignal::AirbagDeployed } else { VehicleSignal::Custom(0) };
        for step in 0..40_u64 {
            self.ms += 20;
            let t = MonoTime(self.ms * 1_000_000);
            let wiggle = (self.rng.next_u64() % 100) as f32 / 1000.0;
            self.agent.on_imu(&ImuSample { t, accel_mps2: [wiggle, 0.0, 9.8], gyro_rps: [0.0; 3], gyro_valid: true });
            let data = core::array::from_fn(|_| self.rng.next_u64() as u8);
            self.agent.on_can(&CanFrame { t, bus: 0, id: 9, extended: false, fd: false, remote: false, len: 8, data });
            if step % 5 == 0 {
                let meta = FrameMeta { t, seq: self.ms / 100, codec: VideoCodec::Jpeg, key: true, size: [64, 36] };
                let picture: Vec<u8> = (0..900).map(|_| self.rng.next_u64() as u8).collect();
                self.agent.on_frame(&meta, &picture);
            }
            let value = if step == 20 { 1.0 } else { 0.0 };
            self.agent.on_signal(&SignalSample { t, signal, value });
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Cut {
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Alert(alert) => {
                    let first = alert.revision == 0;
                    let id = alert.event.to_string();
                    assert!(self.truth.ids.insert(id.clone()) == first, "{}: event {id} is another's", self.what);
                    let crash = alert.severity >= Severity::Severe;
                    self.put(Class::Alert, crash, &Message::Alert(alert))?;
                }
                Output::Report(report) => {
                    let crash = report.severity >= Severity::Severe;
                    self.put(Class::Report, crash, &Message::Report(report))?;
                }
                Output::Closed { event, .. } => {
                    let file = self.evidence(&event)?;
                    let refused = StudentOutcome::Refused(StudentRefusal::NotInstalled);
                    self.agent.on_evidence(&event, Some(file));
                    self.agent.on_student(&event, refused, &[]);
                }
                Output::Health(_) => {}
            }
        }
        Ok(())
    }

    fn evidence(&mut self, event: &agent_wire::EventId) -> Result<agent_wire::EvidenceFile, ()> {
        let folder = Path::new(EVIDENCE);
        let crash = self.agent.evidence(event).unwrap().event().severity >= Severity::Severe;
        let lesser: Vec<PathBuf> = self.disk.list(&folder.join(LESSER)).into_iter().map(|(p, _)| p).collect();
        let place = Place { folder: folder.to_owned(), quota: QUOTA, event_bytes: 10_000 };
        let signer = Signer::unsigned("unit-1", Flags::default());
        let disk = Arc::new(self.disk.clone());
        let sealed = scribe::at_once((disk, place, self.truth.durability), &self.agent, event, &signer).sealed;
        // Rotation takes lesser evidence; whether its going is synced does not matter.
        let gone = lesser.into_iter().filter(|p| !self.disk.exists(p));
        gone.for_each(|p| {
            self.truth.safe.remove(&p);
        });
        let file = self.alive(sealed.unwrap().1.ok_or("the disk took nothing"))?;
        let to = if crash { folder.to_owned() } else { folder.join(LESSER) };
        self.truth.safe.insert(evidence::names(&to, event).1, file.sha256_8);
        Ok(file)
    }

    fn put(&mut self, class: Class, crash: bool, message: &Message) -> Cut {
        let mut buffer = [0; agent_wire::limits::MESSAGE_BYTES];
        let payload = agent_wire::encode(message, &mut buffer).unwrap().to_vec();
        let kind = if class == Class::Alert { MessageKind::Alert } else { MessageKind::Report };
        self.truth.next_key += 1;
        let key = self.truth.next_key;
        let stored = Stored { key, class, crash, kind, created_unix_ms: 1, payload: payload.clone() };
        self.truth.uncertain.insert(key, payload.clone());
        let event = match message {
            Message::Alert(alert) => alert.event.to_string(),
            Message::Report(report) => report.event.to_string(),
            _ => String::new(),
        };
        self.truth.owed_maybe.insert(event.clone());
        let committed = self.store.commit(&[&stored], &[]);
        self.alive(committed)?;
        self.truth.owed_maybe.remove(&event);
        if class == Class::Alert {
            self.truth.owed.insert(event);
        } else {
            self.truth.owed.remove(&event);
        }
        self.truth.uncertain.remove(&key);
        self.truth.committed.insert(key, payload);
        Ok(())
    }

    /// The broker acknowledges some of what waits.
    fn acknowledge(&mut self) -> Cut {
        let some: Vec<u64> =
            self.truth.committed.keys().copied().filter(|k| !(k * 7 + self.ms / 20).is_multiple_of(3)).collect();
        for key in &some {
            let payload = self.truth.committed.remove(key).unwrap();
            self.truth.uncertain.insert(*key, payload);
        }
        let deleted = self.store.commit(&[], &some);
        self.alive(deleted)?;
        some.iter().for_each(|key| drop(self.truth.uncertain.remove(key)));
        Ok(())
    }

    /// An error is the power's.
    fn alive<T, E: core::fmt::Display>(&self, done: Result<T, E>) -> Result<T, ()> {
        done.map_err(|error| assert!(self.disk.is_off(), "{}: {error}", self.what))
    }
}

/// A first life without a cut, to count its operations; then one for each operation at which it may be cut.
fn campaign(cuts: u64, first_seed: u64, durability: Durability) -> (u64, u64, u64) {
    let (mut done, mut events, mut seed) = (0, 0, first_seed);
    let mut recovering = 0;
    while done < cuts {
        let whole = SimDisk::new(seed);
        live(&whole, &mut Truth { durability, ..Truth::default() }, &mut Rng::new(seed, 1), EVENTS, "whole")
            .expect("nobody cut it");
        let operations = whole.operations();
        for cut in 0..operations {
            let mut truth = Truth { durability, ..Truth::default() };
            let mut rng = Rng::new(seed, 1);
            let disk = SimDisk::new(seed.wrapping_mul(1_000_003) + cut);
            disk.cut_at(Some(cut));
            let what = format!("seed {seed}, cut at {cut} of {operations}");
            // The last operations are those of closing the store, which tells nobody.
            let _ = live(&disk, &mut truth, &mut rng, EVENTS, &what);
            assert!(disk.is_off(), "{what}");
            let mut after = disk.after_cut();
            done += 1;
            // Every third recovery is cut too, somewhere in its first operations.
            if rng.next_u64().is_multiple_of(3) {
                after.cut_at(Some(rng.next_u64() % 60));
                let what = format!("{what}, and again");
                if live(&after, &mut truth, &mut rng, EVENTS, &what).is_err() {
                    (done, recovering) = (done + 1, recovering + 1);
                    after = after.after_cut();
                }
                after.cut_at(None);
            }
            let what = format!("{what}, recovered");
            live(&after, &mut truth, &mut rng, 1, &what).expect("nobody cut it");
            events += truth.ids.len() as u64;
            if done >= cuts {
                break;
            }
        }
        seed += 1;
    }
    (done, events, recovering)
}

#[test]
fn no_power_cut_loses_what_was_committed_doubles_an_event_or_stops_a_start() {
    let cuts = std::env::var("AGENT_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1500);
    let seed = std::env::var("AGENT_POWER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (done, events, recovering) = campaign(cuts, seed, Durability::Synced);
    crate::show::say!("{done} power cuts from seed {seed}, {recovering} of them during recovery; {events} events");
    assert!(done >= cuts && recovering > cuts / 50 && events > cuts / 2);
}

/// The campaign finds what it is there to find: without the syncs of the seal, evidence that was said to be safe is lost.
#[test]
#[should_panic(expected = "and is not")]
fn a_seal_without_its_syncs_is_found_out() {
    campaign(1500, 1, Durability::Buffered);
}
