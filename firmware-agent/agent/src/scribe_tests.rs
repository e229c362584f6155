//! Evidence written a piece at a time: the same records as at once, and nobody who waits for the disk.

use std::path::Path;
use std::thread;
use std::time::Duration;

use agent_core::agent::Output;
use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, SignalSample, VehicleSignal, VideoCodec};
use agent_disk::{Faults, SimDisk};
use agent_drive::DriveReader;
use agent_wire::{Flags, Report};

use super::*;

const FOLDER: &str = "/state/evidence";

/// A core with long rolls, and time in milliseconds.
struct Bench {
    agent: Agent,
    ms: u64,
    closed: Vec<EventId>,
    reports: Vec<Report>,
}

impl Bench {
    fn new() -> Self {
        let text = "[rings]\nvideo_pre_roll_s = 4\nsample_pre_roll_s = 3\npost_roll_s = 2\n";
        let config = crate::config::load_str("unit.toml", text).unwrap();
        let agent = Agent::new(crate::convert::agent(&config, 1, Flags::default(), None));
        Self { agent, ms: 1000, closed: Vec::new(), reports: Vec::new() }
    }

    /// Ten milliseconds: a motion sample and a frame of the bus, now and then a picture and a fix.
    fn step(&mut self, airbag: bool) {
        self.ms += 10;
        let t = MonoTime(self.ms * 1_000_000);
        self.agent.on_imu(&ImuSample { t, accel_mps2: [0.0, 0.0, 9.81], gyro_rps: [0.0; 3], gyro_valid: true });
        let can = CanFrame { t, bus: 0, id: 9, extended: false, fd: false, remote: false, len: 8, data: [7; 64] };
        self.agent.on_can(&can);
        if self.ms.is_multiple_of(100) {
            let key = self.ms.is_multiple_of(1000);
            let meta = FrameMeta { t, seq: self.ms / 100, codec: VideoCodec::H264, key, size: [64, 36] };
            let mut x = self.ms;
            let picture = std::iter::repeat_with(|| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (x >> 56) as u8
            });
            self.agent.on_frame(&meta, &picture.take(30_000).collect::<Vec<u8>>());
            self.agent.on_gnss(&GnssFix {
                t,
                lat_deg: 47.0,
                lon_deg: 8.5,
                alt_m: 400.0,
                speed_mps: 10.0,
                course_deg: 90.0,
                accuracy_m: Some(2.0),
                wall: None,
            });
        }
        let value = if airbag { 1.0 } else { 0.0 };
        self.agent.on_signal(&SignalSample { t, signal: VehicleSignal::AirbagDeployed, value });
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Closed { event, .. } => self.closed.push(event),
                Output::Report(report) => self.reports.push(report),
                Output::Alert(_) | Output::Health(_) => {}
            }
        }
    }

    /// Seconds with a crash after six of them; ends with the turn in which the event closes.
    fn crash(&mut self) -> EventId {
        let (at, had) = (self.ms + 6000, self.closed.len());
        while self.closed.len() == had {
            self.step(self.ms + 10 == at);
            assert!(self.ms < at + 10_000, "the event never closed");
        }
        self.closed.last().unwrap().clone()
    }
}

fn place() -> Place {
    Place { folder: FOLDER.into(), quota: u64::MAX, event_bytes: 1 << 20 }
}

fn signer() -> Signer {
    Signer::of_key("unit", agent_keys::SecretKey::from_seed(&[7; 32]).unwrap())
}

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.make_folder(Path::new(FOLDER)).unwrap();
    disk
}

/// Records of a file as they look.
fn records(bytes: &[u8]) -> Vec<String> {
    let mut reader = DriveReader::from_reader(std::io::Cursor::new(bytes.to_vec()), bytes.len() as u64).unwrap();
    let mut all = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        all.push(format!("{record:?}"));
    }
    assert_eq!(reader.loss(), None);
    all
}

#[test]
fn in_pieces_it_is_the_same_file_as_at_once() {
    let mut bench = Bench::new();
    let event = bench.crash();
    let disk = disk();
    let view = bench.agent.evidence(&event).unwrap();
    let info = DriveInfo::new("simulated");
    let whole = Path::new("/whole");
    let file = evidence::write(&disk, whole, &view, &info, &signer(), Durability::Synced).unwrap();
    let done = at_once((Arc::new(disk.clone()), place(), Durability::Synced), &bench.agent, &event, &signer());
    assert_eq!(done, Done { sealed: Some((event.clone(), Some(file))), gone: 0 }, "even the hash is the same");
    let bytes = disk.read(&evidence::names(Path::new(FOLDER), &event).1, 64 << 20).unwrap();
    assert!(bytes.len() > 1 << 20, "more than one chunk: {}", bytes.len());
    let verdict = agent_drive::verify(bytes.as_slice(), bytes.len() as u64).unwrap();
    assert!(verdict.intact() && verdict.signed && verdict.cut.is_none(), "{verdict:?}");
    let all = records(&bytes);
    let of = |kind: &str| all.iter().filter(|r| r.starts_with(kind)).count();
    assert_eq!(
        [of("Imu"), of("Can"), of("Gnss"), of("Frame")],
        [view.imu().count(), view.can().count(), view.gnss().count(), view.frames().count()]
    );
    assert!(view.begins() < view.imu().next().unwrap().t, "video reaches back further than samples");
}

/// A disk that takes a chunk now and then, while the rings go on and let go of what was taken: still the same file.
#[test]
fn slowly_it_is_the_same_file_too() {
    let mut bench = Bench::new();
    // Until the rings are full.
    for _ in 0..3000 {
        bench.step(false);
    }
    let event = bench.crash();
    let disk = disk();
    let view = bench.agent.evidence(&event).unwrap();
    let info = DriveInfo::new("simulated");
    let file = evidence::write(&disk, Path::new("/whole"), &view, &info, &signer(), Durability::Synced).unwrap();
    let (mut scribe, jobs, back) = Scribe::new(info, signer());
    let mut keeper = Keeper::new(Arc::new(disk), place(), Durability::Synced, back);
    assert!(scribe.on_closed(&event, bench.agent.now()));
    let mut sealed = None;
    let begun = bench.ms;
    while sealed.is_none() {
        assert_eq!(scribe.turn(&bench.agent), None);
        if let Some((event, t)) = scribe.taken() {
            bench.agent.on_taken(&event, t);
        }
        if bench.ms.is_multiple_of(700)
            && let Ok(job) = jobs.try_recv()
        {
            sealed = keeper.perform(job).sealed;
        }
        bench.step(false);
    }
    assert_eq!(sealed, Some((event, Some(file))));
    assert!(bench.ms > begun + 5000, "it took {} ms", bench.ms - begun);
}

/// The core goes on as if nothing were; the report leaves when it is due, without a file, and the next event has its own again.
#[test]
fn a_hanging_disk_holds_up_nobody_and_is_taken_up_again() {
    let disk = disk();
    let mut bench = Bench::new();
    let (mut scribe, jobs, back) = Scribe::new(DriveInfo::new("simulated"), signer());
    let (done, heard) = std::sync::mpsc::channel();
    let on = Arc::new(disk.clone());
    let thread = thread::spawn(move || {
        let mut keeper = Keeper::new(on, place(), Durability::Synced, back);
        while let Ok(job) = jobs.recv() {
            done.send(keeper.perform(job)).unwrap();
        }
    });
    disk.set_faults(Faults { hangs: true, ..Faults::default() });
    let lost = bench.crash();
    assert!(scribe.on_closed(&lost, bench.agent.now()));
    let mut given_up = None;
    // As long as its report may take: 70 s of its clock, with everything coming in.
    while bench.reports.is_empty() {
        given_up = given_up.or(scribe.turn(&bench.agent));
        assert!(heard.try_recv().is_err(), "the disk answers nothing");
        bench.step(false);
    }
    assert_eq!((bench.reports[0].event.clone(), &bench.reports[0].evidence_file), (lost.clone(), &None));
    disk.set_faults(Faults::default());
    while given_up.is_none() {
        given_up = scribe.turn(&bench.agent);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(given_up, Some(lost.clone()));
    let event = bench.crash();
    assert!(scribe.on_closed(&event, bench.agent.now()));
    let sealed = loop {
        assert_eq!(scribe.turn(&bench.agent), None);
        if let Some(sealed) = heard.try_recv().ok().and_then(|done| done.sealed) {
            break sealed;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(sealed.0 == event && sealed.1.is_some(), "{sealed:?}");
    drop(scribe);
    thread.join().unwrap();
    // What the disk had of the first stays for the next start to find.
    let names: Vec<_> = disk.list(Path::new(FOLDER)).into_iter().map(|(path, _)| path).collect();
    let [part, whole] = [evidence::names(Path::new(FOLDER), &lost).0, evidence::names(Path::new(FOLDER), &event).1];
    assert_eq!(names, [part, whole]);
}

/// More jobs than places: what was asked is refused by name, and what is being written is not disturbed.
#[test]
fn jobs_beside_it_are_bounded() {
    let (mut scribe, jobs, _back) = Scribe::new(DriveInfo::new("simulated"), signer());
    let mut bench = Bench::new();
    let event = bench.crash();
    for _ in 0..WAITING {
        assert!(scribe.ask(Job::Relieve).is_ok());
    }
    assert!(matches!(scribe.ask(Job::Keep(event.clone())), Err(Job::Keep(of)) if of == event));
    assert!(scribe.on_closed(&event, bench.agent.now()));
    let mut taken = 0;
    for _ in 0..1000 {
        assert_eq!(scribe.turn(&bench.agent), None);
        taken += jobs.try_iter().count();
    }
    assert!(!scribe.busy() && taken > WAITING + 3, "{taken}");
}
