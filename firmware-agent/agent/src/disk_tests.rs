//! Evidence on a disk that is full, read-only or failing: an agent that goes on as before, on a simulated disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::agent::{Agent, Output};
use agent_core::samples::{FrameMeta, ImuSample, SignalSample, VehicleSignal, VideoCodec};
use agent_core::time::MonoTime;
use agent_disk::{Faults, SimDisk};
use agent_wire::{Alert, EventId, Report, StudentOutcome, StudentRefusal};

use super::*;
use crate::evidence::Durability;
use crate::power_tests::config;
use crate::scribe;
use crate::signer::Signer;

const FOLDER: &str = "/state/evidence";
/// What one event takes at most, as these tests make them.
const EVENT_BYTES: u64 = 60_000;

/// An agent and its disk.
struct Unit {
    disk: SimDisk,
    agent: Agent,
    ms: u64,
    quota: u64,
    alerts: Vec<Alert>,
    reports: Vec<Report>,
    gone: u32,
}

impl Unit {
    fn new(quota: u64) -> Self {
        let disk = SimDisk::new(1);
        disk.make_folder(Path::new(FOLDER)).unwrap();
        let agent = Agent::new(config(1));
        Self { disk, agent, ms: 1000, quota, alerts: Vec::new(), reports: Vec::new(), gone: 0 }
    }

    /// An event of 0.8 s: a crash that an airbag tells, or a lesser one that a signal makes. Gives its id.
    fn event(&mut self, crash: bool) -> EventId {
        let signal = if crash { VehicleSignal::AirbagDeployed } else { VehicleSignal::Custom(0) };
        for step in 0..60_u64 {
            self.ms += 20;
            let t = MonoTime(self.ms * 1_000_000);
            self.agent.on_imu(&ImuSample { t, accel_mps2: [0.0, 0.0, 9.8], gyro_rps: [0.0; 3], gyro_valid: true });
            if step % 5 == 0 {
                let meta = FrameMeta { t, seq: self.ms / 100, codec: VideoCodec::Jpeg, key: true, size: [64, 36] };
                // What does not compress.
                let mut x = self.ms;
                let mut noise = || {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (x >> 56) as u8
                };
                self.agent.on_frame(&meta, &(0..1500).map(|_| noise()).collect::<Vec<u8>>());
            }
            self.agent.on_signal(&SignalSample { t, signal, value: if step == 20 { 1.0 } else { 0.0 } });
            self.drain();
        }
        self.alerts.last().unwrap().event.clone()
    }

    fn drain(&mut self) {
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Alert(alert) => self.alerts.push(alert),
                Output::Report(report) => self.reports.push(report),
                Output::Health(_) => {}
                Output::Closed { event, .. } => {
                    let place = Place { folder: FOLDER.into(), quota: self.quota, event_bytes: EVENT_BYTES };
                    let signer = Signer::unsigned("unit-1", agent_wire::Flags::default());
                    let to = (Arc::new(self.disk.clone()) as Arc<dyn Disk>, place, Durability::Synced);
                    let done = scribe::at_once(to, &self.agent, &event, &signer);
                    self.gone += done.gone;
                    let (of, file) = done.sealed.unwrap();
                    assert_eq!(of, event);
                    self.agent.on_evidence(&event, file);
                    let refused = StudentOutcome::Refused(StudentRefusal::NotInstalled);
                    self.agent.on_student(&event, refused, &[]);
                }
            }
        }
    }

    /// Names of whole evidence in a folder.
    fn names(&self, folder: &str) -> Vec<String> {
        let name = |(path, _): (PathBuf, u64)| path.file_name().unwrap().to_string_lossy().into_owned();
        let folder = Path::new(FOLDER).join(folder);
        self.disk.list(&folder).into_iter().map(name).filter(|n| !n.starts_with('.')).collect()
    }
}

fn file(event: &EventId) -> String {
    format!("{event}.mcap")
}

#[test]
fn on_a_full_disk_the_oldest_lesser_evidence_goes_and_that_of_crashes_never() {
    let mut unit = Unit::new(u64::MAX);
    let first_crash = unit.event(true);
    let lesser: Vec<EventId> = (0..4).map(|_| unit.event(false)).collect();
    assert_eq!((unit.names("").len(), unit.names(LESSER).len(), unit.gone), (1, 4, 0));
    let of_one = unit.disk.used() / 5;
    // Full to the last byte: something else has the rest.
    unit.disk.set_faults(Faults { capacity: Some(unit.disk.used()), ..Faults::default() });
    let second_crash = unit.event(true);
    assert_eq!(unit.names(""), [file(&first_crash), file(&second_crash)]);
    let left = unit.names(LESSER);
    assert!(!left.contains(&file(&lesser[0])), "the oldest went first: {left:?}, {of_one} bytes each");
    assert_eq!(left, lesser.iter().map(file).collect::<Vec<_>>()[4 - left.len()..], "and the newest stay");
    // With nothing lesser left a crash's evidence is refused and reported as missing; what is there stays.
    while !unit.names(LESSER).is_empty() || unit.reports.last().is_some_and(|r| r.evidence_file.is_some()) {
        unit.event(true);
        assert!(unit.alerts.len() < 40, "it never fills");
    }
    let crashes = unit.names("");
    assert!(crashes.contains(&file(&first_crash)) && crashes.contains(&file(&second_crash)));
    let alerts = unit.alerts.len();
    unit.event(false);
    assert_eq!((unit.alerts.len(), unit.names("")), (alerts + 1, crashes), "alerts go on");
    let parts = unit.disk.list(&Path::new(FOLDER).join(LESSER));
    assert!(parts.is_empty(), "of a lesser event nothing half made stays: {parts:?}");
    // Room again: it goes on as before.
    unit.disk.set_faults(Faults::default());
    let event = unit.event(true);
    assert!(unit.names("").contains(&file(&event)));
}

#[test]
fn whatever_the_disk_refuses_alerts_and_reports_go_on_and_say_that_there_is_no_file() {
    let faults = [
        ("EIO on write", Faults { writes: true, ..Faults::default() }),
        ("EIO on sync", Faults { syncs: true, ..Faults::default() }),
        ("EIO on read", Faults { reads: true, ..Faults::default() }),
        ("read-only", Faults { read_only: true, ..Faults::default() }),
        ("full from the start", Faults { capacity: Some(0), ..Faults::default() }),
    ];
    for (name, faults) in faults {
        let mut unit = Unit::new(1_000_000);
        unit.event(true);
        let before = unit.names("");
        unit.disk.set_faults(faults);
        let event = unit.event(true);
        unit.event(false);
        assert_eq!(unit.alerts.iter().filter(|a| a.revision == 0).count(), 3, "{name}");
        assert_eq!(unit.reports.len(), 3, "{name}");
        assert_eq!(unit.reports[1].event, event);
        assert!(unit.reports[0].evidence_file.is_some(), "{name}");
        assert!(unit.reports[1..].iter().all(|r| r.evidence_file.is_none()), "{name}: {:?}", unit.reports);
        // Recording went on in memory without a gap, and nothing that was there is gone.
        assert_eq!(unit.agent.losses(), agent_wire::Losses::default(), "{name}");
        unit.disk.set_faults(Faults::default());
        assert!(before.iter().all(|n| unit.names("").contains(n)), "{name}");
        let event = unit.event(true);
        assert!(unit.names("").contains(&file(&event)), "{name}: it goes on when the disk works");
        assert_eq!(unit.reports.last().unwrap().evidence_file.as_ref().map(|f| f.name.to_string()), Some(file(&event)));
    }
}

#[test]
fn room_is_made_for_the_outbox_only_when_the_disk_is_full() {
    let mut unit = Unit::new(u64::MAX);
    let crash = unit.event(true);
    let lesser: Vec<String> = (0..3).map(|_| unit.event(false)).map(|e| file(&e)).collect();
    let place = Place { folder: FOLDER.into(), quota: u64::MAX, event_bytes: 1 };
    assert_eq!(place.relieve(&unit.disk), 0);
    unit.disk.set_faults(Faults { writes: true, ..Faults::default() });
    assert_eq!(place.relieve(&unit.disk), 0, "a failing disk is not a full one");
    unit.disk.set_faults(Faults { capacity: Some(unit.disk.used()), ..Faults::default() });
    assert_eq!(place.relieve(&unit.disk), 1);
    assert_eq!((unit.names(""), unit.names(LESSER)), (vec![file(&crash)], lesser[1..].to_vec()));
}
