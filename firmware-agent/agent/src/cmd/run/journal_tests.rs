//! The journal on a disk that loses its power.

use std::sync::mpsc::sync_channel;

use agent_core::agent::Output;
use agent_core::samples::{FrameMeta, ImuSample, SignalSample, VehicleSignal, VideoCodec};
use agent_core::vision::Detections;
use agent_disk::{Faults, SimDisk};
use agent_drive::{DriveReader, DriveRecord};
use agent_wire::Flags;

use super::*;

const FOLDER: &str = "/state/evidence";

/// What one file of a folder holds, and what a cut left of it.
#[derive(Debug, Default)]
struct Found {
    name: String,
    frames: Vec<u64>,
    imu: usize,
    last_ms: u64,
    marked: bool,
    verdict: agent_drive::Verdict,
}

fn read(disk: &SimDisk, path: &Path) -> Found {
    let bytes = disk.read(path, 64 << 20).unwrap();
    let len = bytes.len() as u64;
    let verdict = agent_drive::verify(bytes.as_slice(), len).unwrap_or_default();
    let mut found = Found { name: path.display().to_string(), verdict, ..Found::default() };
    let Ok(mut reader) = DriveReader::from_reader(std::io::Cursor::new(bytes), len) else { return found };
    while let Ok(Some(record)) = reader.next() {
        match &record {
            DriveRecord::Frame(meta, _) => {
                found.frames.push(meta.t.0 / 1_000_000);
                found.last_ms = found.last_ms.max(record.time().0 / 1_000_000);
            }
            DriveRecord::Imu(_) => found.imu += 1,
            DriveRecord::Json("/event", ..) => found.marked = true,
            _ => {}
        }
    }
    found
}

/// A unit's key: always the same one.
fn signer() -> Signer {
    Signer::of_key("unit", agent_keys::SecretKey::from_seed(&[7; 32]).unwrap())
}

/// A daemon in small: the core, the journal, and its thread's work done at once.
struct Bench {
    agent: Agent,
    journal: Journal,
    jobs: Receiver<Job>,
    ms: u64,
}

impl Bench {
    fn new(text: &str) -> Self {
        let text = format!("[rings]\nvideo_pre_roll_s = 4\nsample_pre_roll_s = 4\npost_roll_s = 2\n{text}");
        let mut config = crate::config::load_str("unit.toml", &text).unwrap();
        config.evidence.dir = FOLDER.into();
        config.folder = "/".into();
        let (journal, jobs, back) = of(&config, 1, &DriveInfo::new("simulated"), signer());
        // Buffers are made as they are needed here.
        drop(back);
        let agent = Agent::new(crate::convert::agent(&config, 1, Flags::default(), None));
        Self { agent, journal, jobs, ms: 1000 }
    }

    /// Lets time pass: frames at 10 Hz with a key frame a second, samples at 100 Hz. Stops when the power goes.
    fn run(&mut self, disk: &SimDisk, hands: &mut Hands<'_>, seconds: f64, at: &mut dyn FnMut(u64, &mut Agent)) {
        let until = self.ms + (seconds * 1000.0) as u64;
        while self.ms < until && !disk.is_off() {
            self.ms += 10;
            let t = MonoTime(self.ms * 1_000_000);
            let s = ImuSample { t, accel_mps2: [0.0, 0.0, 9.81], gyro_rps: [0.0; 3], gyro_valid: true };
            self.agent.on_imu(&s);
            if self.ms.is_multiple_of(100) {
                let key = self.ms.is_multiple_of(1000) || self.ms == 1100;
                let meta = FrameMeta { t, seq: self.ms / 100, codec: VideoCodec::H264, key, size: [64, 36] };
                self.agent.on_frame(&meta, &[self.ms as u8; 3000]);
            }
            at(self.ms, &mut self.agent);
            while let Some(output) = self.agent.poll() {
                if let Output::Alert(alert) = output {
                    self.journal.mark(&alert.event, t);
                }
            }
            self.journal.tick(&self.agent, t);
            while let Ok(job) = self.jobs.try_recv() {
                let _ = hands.perform(job);
            }
        }
    }
}

fn hands(disk: &SimDisk) -> Hands<'_> {
    Hands { disk, open: None, unsynced: 0, back: sync_channel(1).0 }
}

fn airbag(at: u64) -> impl FnMut(u64, &mut Agent) {
    move |ms, agent| {
        if ms == at {
            let t = MonoTime(ms * 1_000_000);
            agent.on_signal(&SignalSample { t, signal: VehicleSignal::AirbagDeployed, value: 1.0 });
        }
    }
}

fn all(disk: &SimDisk, folder: &str) -> Vec<Found> {
    disk.list(Path::new(folder)).iter().map(|(path, _)| read(disk, path)).collect()
}

/// Everything from the pre-roll to at most a second before the cut, wherever in the event the power goes.
#[test]
fn a_cut_during_an_event_leaves_video_and_samples_to_within_a_second_of_it() {
    let mut checked = 0;
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let mut bench = Bench::new("");
        let mut open = hands(&disk);
        bench.run(&disk, &mut open, 9.0, &mut airbag(8000));
        // The power goes at some operation of the following second and a half.
        disk.cut_at(Some(disk.operations() + seed % 12));
        bench.run(&disk, &mut open, 3.0, &mut |_, _| {});
        assert!(disk.is_off(), "seed {seed}");
        let (cut_ms, after) = (bench.ms, disk.after_cut());
        evidence::recover(&after, Path::new(FOLDER)).unwrap();
        let found = all(&after, FOLDER);
        let mut frames: Vec<u64> = found.iter().flat_map(|f| f.frames.clone()).collect();
        frames.sort_unstable();
        frames.dedup();
        let what = format!("seed {seed}, cut at {cut_ms} ms: {found:?}");
        assert!(found.iter().all(|f| f.name.starts_with("/state/evidence/unit_00000001_000001.cut-")), "{what}");
        assert!(found.iter().any(|f| f.marked), "{what}");
        // What is left is signed part by part, and said to be cut.
        for Found { verdict, .. } in found.iter().filter(|f| !f.frames.is_empty()) {
            assert!(
                verdict.intact() && verdict.signed && verdict.cut.is_some() && verdict.parts > 0,
                "{verdict:?}: {what}"
            );
            assert!(verdict.about.starts_with("unit_00000001 journal 0000"), "{verdict:?}");
        }
        let (first, last) = (frames[0], *frames.last().unwrap());
        assert!(first <= 4300 && last + 1000 >= cut_ms, "{what}");
        assert!(frames.windows(2).all(|w| w[1] - w[0] == 100), "a hole: {what}");
        assert!(found.iter().map(|f| f.imu).sum::<usize>() >= ((last - first) / 10) as usize, "{what}");
        checked += 1;
    }
    assert_eq!(checked, 60);
}

/// The impact itself cuts the power: no event was ever made, but the risk was high.
#[test]
fn a_cut_while_the_risk_is_high_leaves_lesser_evidence_and_none_without_risk() {
    let disk = SimDisk::new(3);
    let mut bench = Bench::new("[trigger.vision]\nrisk_on = 1.0\n[evidence]\npersist_risk = 0.01\n");
    let mut open = hands(&disk);
    bench.run(&disk, &mut open, 6.0, &mut |_, _| {});
    assert_eq!(disk.operations(), 0, "nothing is written without a reason");
    // A box that grows fast, straight ahead.
    let mut risky = |ms: u64, agent: &mut Agent| {
        if ms.is_multiple_of(100) {
            // Contact at 9.3 s.
            let side = 0.05 * 2.3 / (9.3 - ms as f32 / 1000.0).max(0.15);
            let bbox = agent_core::vision::BBox { x: 0.5 - side / 2.0, y: 0.5 - side / 2.0, w: side, h: side };
            let seen = agent_core::vision::Detection { bbox, class: agent_core::vision::ObjectClass::Car, score: 0.9 };
            let mut list = Detections::default();
            let _ = list.push(seen);
            agent.on_detections(MonoTime(ms * 1_000_000), &list, 1.8, None);
        }
    };
    bench.run(&disk, &mut open, 2.0, &mut risky);
    assert!(bench.agent.last_seen().is_some_and(|(_, s)| s.strongest() > 0.01), "{:?}", bench.agent.last_seen());
    disk.cut_at(Some(disk.operations() + 8));
    bench.run(&disk, &mut open, 2.0, &mut risky);
    let after = disk.after_cut();
    assert!(evidence::recover(&after, Path::new(FOLDER)).unwrap() > 0);
    let found = all(&after, "/state/evidence/lesser");
    assert!(found[0].name.contains("unit_00000001_power.cut-") && found[0].frames.len() > 30, "{found:?}");
}

#[test]
fn segments_go_when_nobody_wants_them_and_a_clean_end_leaves_none() {
    let disk = SimDisk::new(1);
    let mut bench = Bench::new("[evidence]\npersist = \"always\"\n");
    let mut open = hands(&disk);
    bench.run(&disk, &mut open, 120.0, &mut |_, _| {});
    let left = all(&disk, "/state/evidence/.journal");
    assert!((1..=KEPT + 1).contains(&left.len()), "{left:?}");
    let frames: Vec<u64> = left.iter().flat_map(|f| f.frames.clone()).collect();
    assert!(frames.windows(2).all(|w| w[1] < w[0] || w[1] - w[0] <= 100), "segments join: {frames:?}");
    assert!(frames.last().unwrap() + 600 >= bench.ms && frames.len() > 150);
    bench.journal.clear();
    while let Ok(job) = bench.jobs.try_recv() {
        open.perform(job).unwrap();
    }
    assert_eq!(disk.list(Path::new("/state/evidence/.journal")), []);

    let disk = SimDisk::new(2);
    let mut bench = Bench::new("");
    let mut open = hands(&disk);
    bench.run(&disk, &mut open, 5.0, &mut airbag(4000));
    assert!(!all(&disk, "/state/evidence/.journal").is_empty());
    // The event is reported by its deadline, and ten seconds later nothing wants the journal.
    bench.run(&disk, &mut open, 40.0, &mut |_, _| {});
    assert_eq!(disk.list(Path::new("/state/evidence/.journal")), []);
    assert_eq!(bench.agent.counts().events, 1);
    assert!(bench.agent.losses() == agent_wire::Losses::default());
}

#[test]
fn a_full_disk_ends_the_journal_and_nothing_else_and_it_goes_on_when_there_is_room() {
    let disk = SimDisk::new(1);
    let mut bench = Bench::new("[evidence]\npersist = \"always\"\n");
    let mut open = hands(&disk);
    bench.run(&disk, &mut open, 12.0, &mut |_, _| {});
    disk.set_faults(Faults { capacity: Some(0), ..Faults::default() });
    let mut alerts = 0;
    bench.run(&disk, &mut open, 15.0, &mut |ms, agent| airbag(20_000)(ms, agent));
    alerts += bench.agent.counts().events;
    disk.set_faults(Faults::default());
    bench.run(&disk, &mut open, 15.0, &mut |_, _| {});
    let last = all(&disk, "/state/evidence/.journal").iter().map(|f| f.last_ms).max().unwrap();
    assert_eq!(alerts, 1, "an event while the disk is full is an event");
    assert!(last + 1000 >= bench.ms, "{last} of {}", bench.ms);
    let counts = bench.agent.counts();
    assert_eq!(counts.frames, (bench.ms - 1000) / 100, "{counts:?} {:?}", bench.agent.losses());
}

/// The core's clock stands at zero until the first record comes, on a unit that was switched on hours ago.
#[test]
fn a_clock_that_begins_late_is_caught_up_with_at_once() {
    let disk = SimDisk::new(5);
    let mut bench = Bench::new("[evidence]\npersist = \"always\"\n");
    let mut open = hands(&disk);
    bench.journal.tick(&bench.agent, MonoTime::ZERO);
    bench.ms = 7_200_000;
    bench.run(&disk, &mut open, 6.0, &mut |_, _| {});
    let found = all(&disk, "/state/evidence/.journal");
    let frames: Vec<u64> = found.iter().flat_map(|f| f.frames.clone()).collect();
    assert!(frames.len() > 40 && frames.last().unwrap() + 1000 >= bench.ms, "{found:?}");
    assert!(frames.windows(2).all(|w| w[1] < w[0] || w[1] - w[0] <= 100), "{frames:?}");
}
