//! Whether an update works: what the daemon sees of itself, held against what came before the update.
//!
//! *Well* is: no stage hangs; what came in the last start that was well comes (where nothing is known: what is configured of camera
//! and motion sensor); the trigger model has run on some frames; the student's worker has spoken; the outbox can be written; where
//! the update names other brokers than before, one of them has answered. An update on trial that is well for `well_s` without a break is confirmed. One that is not after `trial_s` is fallen back from, and the
//! daemon ends so that its service manager starts it with what was before. Buses, receivers and brokers hang on the
//! surroundings (a sleeping vehicle, a roof, no network): for them alone it waits ten times as long. An end in order before that decides nothing.
//!
//! In a start without a trial the same thread keeps what came, once, for the next update to be held against.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_disk::RealDisk;
use agent_drive::DriveRecord;
use agent_update::{Came, Role, Slot, Store};

use super::watch::Watch;
use crate::config::Config;
use crate::config::camera::CameraKind;
use crate::config::gnss::GnssKind;
use crate::config::imu::ImuKind;
use crate::config::types::SourceKind;
use crate::exit::Outcome;
use crate::link::LinkState;
use crate::show::say;

/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What has not come for so long does not come.
const STALL: Duration = Duration::from_secs(5);
/// Frames that the trigger model must have run on.
const SEEN: u64 = 10;
/// How many times `trial_s` buses, receivers and brokers may take.
const SURROUNDINGS: u32 = 10;
/// How long the daemon may take to end once it fell back; what hangs is ended then.
const END: Duration = Duration::from_secs(20);

/// What the core sees, for the thread of the trial.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    frames: AtomicU64,
    imu: AtomicU64,
    can: AtomicU64,
    gnss: AtomicU64,
    seen: AtomicU64,
    student: AtomicBool,
    outbox_failing: AtomicBool,
    session: AtomicBool,
}

fn count(of: &AtomicU64) {
    of.fetch_add(1, Ordering::Relaxed);
}

impl Vitals {
    /// A frame came.
    pub(super) fn frame(&self) {
        count(&self.frames);
    }

    /// A sample came.
    pub(super) fn sample(&self, record: &DriveRecord<'_>) {
        match record {
            DriveRecord::Imu(_) => count(&self.imu),
            DriveRecord::Can(_) => count(&self.can),
            DriveRecord::Gnss(_) => count(&self.gnss),
            DriveRecord::Frame(..) | DriveRecord::Json(..) => {}
        }
    }

    /// The trigger model ran on a frame.
    pub(super) fn seen(&self) {
        count(&self.seen);
    }

    /// The student's worker spoke.
    pub(super) fn student(&self) {
        self.student.store(true, Ordering::Relaxed);
    }

    /// How the link is. A session that stood once will do.
    pub(super) fn link(&self, state: LinkState) {
        self.outbox_failing.store(state.store_failing, Ordering::Relaxed);
        self.session.fetch_or(state.connected, Ordering::Relaxed);
    }

    fn look(&self, hung: Option<&'static str>) -> Sight {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Sight {
            counts: [get(&self.frames), get(&self.imu), get(&self.can), get(&self.gnss)],
            seen: get(&self.seen),
            student: self.student.load(Ordering::Relaxed),
            outbox_failing: self.outbox_failing.load(Ordering::Relaxed),
            session: self.session.load(Ordering::Relaxed),
            hung,
        }
    }
}

/// Everything at one time.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    /// Frames, and samples of motion sensor, buses and receiver, since the start.
    counts: [u64; 4],
    seen: u64,
    student: bool,
    outbox_failing: bool,
    session: bool,
    hung: Option<&'static str>,
}

/// Names of the counts.
const KINDS: [&str; 4] = ["frames", "samples of the motion sensor", "CAN frames", "GNSS fixes"];
/// Those that hang on the surroundings come last.
const INNER: usize = 2;

impl Sight {
    fn came(&self) -> Came {
        let [frames, imu, can, gnss] = self.counts.map(|n| n > 0);
        Came { frames, imu, can, gnss, student: self.student }
    }
}

/// What must be there for the agent to be well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    kinds: [bool; 4],
    seen: bool,
    student: bool,
    /// A session with a broker, where the update names others than before.
    session: bool,
    /// Of a drive of which nothing is known, anything.
    anything: bool,
}

impl Needs {
    /// Of a configuration; `came` is what came before.
    fn of(config: &Config, came: Option<Came>, slot: &Slot, has: Has) -> Self {
        let sources = &config.sources;
        let live = sources.kind == SourceKind::Device;
        let configured = [
            sources.camera.kind != CameraKind::None,
            sources.imu.kind != ImuKind::None,
            !sources.can.interfaces.is_empty(),
            sources.gnss.kind != GnssKind::None,
        ];
        let kinds = match came {
            Some(c) => {
                let came = [c.frames, c.imu, c.can, c.gnss];
                core::array::from_fn(|i| came[i] && (!live || configured[i]))
            }
            None => core::array::from_fn(|i| live && configured[i] && i < INNER),
        };
        let brought = slot.manifest.of(Role::Student).is_some();
        Self {
            kinds,
            seen: has.detector && kinds[0],
            session: has.other_brokers,
            student: has.student && (brought || came.is_none_or(|c| c.student)),
            anything: !live && came.is_none(),
        }
    }
}

/// What is to be thought of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Undecided,
    Works,
    Fails(String),
}

/// Judges by what it is shown; knows no clock.
#[derive(Debug)]
struct Judge {
    needs: Needs,
    trial: Duration,
    well: Duration,
    begun: Instant,
    last: Sight,
    grew: [Option<Instant>; 4],
    well_since: Option<Instant>,
}

impl Judge {
    fn new(needs: Needs, config: &Config, begun: Instant) -> Self {
        let s = |n: u32| Duration::from_secs(u64::from(n));
        let (trial, well) = (s(config.updates.trial_s), s(config.updates.well_s));
        Self { needs, trial, well, begun, last: Sight::default(), grew: [None; 4], well_since: None }
    }

    fn look(&mut self, now: Instant, sight: Sight) -> Verdict {
        for ((grew, before), count) in self.grew.iter_mut().zip(self.last.counts).zip(sight.counts) {
            if count > before {
                *grew = Some(now);
            }
        }
        self.last = sight;
        let missing = self.missing(now, &sight);
        let Some((why, inner)) = missing else {
            let since = *self.well_since.get_or_insert(now);
            let works = now.saturating_duration_since(since) >= self.well;
            return if works { Verdict::Works } else { Verdict::Undecided };
        };
        self.well_since = None;
        let within = if inner { self.trial } else { self.trial * SURROUNDINGS };
        if now.saturating_duration_since(self.begun) < within {
            return Verdict::Undecided;
        }
        Verdict::Fails(format!("not well within {} s: {why}", within.as_secs()))
    }

    /// What is missing, and whether that is the unit's own affair.
    fn missing(&self, now: Instant, sight: &Sight) -> Option<(String, bool)> {
        let inner = |why: &str| Some((why.to_owned(), true));
        if let Some(stage) = sight.hung {
            return inner(&format!("the {stage} stage hangs"));
        }
        if sight.outbox_failing {
            return inner("the outbox cannot be written");
        }
        let comes = |at: &Option<Instant>| at.is_some_and(|t| now.saturating_duration_since(t) < STALL);
        let absent = |i: &usize| self.needs.kinds[*i] && !comes(&self.grew[*i]);
        if let Some(kind) = (0..INNER).find(absent) {
            return inner(&format!("no {}", KINDS[kind]));
        }
        if self.needs.anything && !self.grew.iter().any(comes) {
            return inner("nothing comes from the drives");
        }
        if self.needs.seen && sight.seen < SEEN {
            return inner(&format!("the trigger model ran on {} frames, not yet on {SEEN}", sight.seen));
        }
        if self.needs.student && !sight.student {
            return inner("no word of the student's worker");
        }
        if let Some(kind) = (INNER..KINDS.len()).find(absent) {
            return Some((format!("no {}", KINDS[kind]), false));
        }
        let reached = !self.needs.session || sight.session;
        (!reached).then(|| ("none of its brokers answers".to_owned(), false))
    }
}

/// What a start has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has {
    /// A trigger model.
    pub(super) detector: bool,
    /// A student.
    pub(super) student: bool,
    /// Other brokers than without its update.
    pub(super) other_brokers: bool,
}

/// What the thread of the trial is given.
pub(super) struct Trial<'a> {
    pub(super) store: &'a Store,
    pub(super) slot: Option<&'a Slot>,
    pub(super) config: &'a Config,
    pub(super) vitals: &'a Vitals,
    pub(super) watch: Watch,
    pub(super) has: Has,
    pub(super) stop: &'a AtomicBool,
    /// Set when it was fallen back from.
    pub(super) fell: &'a AtomicBool,
}

impl Trial<'_> {
    /// The thread: until the update is judged, or what came is kept, or the end.
    pub(super) fn run(&self) {
        match self.slot.filter(|slot| slot.trial.is_some()) {
            Some(slot) => self.judge(slot),
            None => self.keep_what_came(),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn keep_what_came(&self) {
        let (begun, well) = (Instant::now(), Duration::from_secs(u64::from(self.config.updates.well_s)));
        while begun.elapsed() < well {
            if self.stopped() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        if let Err(error) = self.store.note(self.vitals.look(None).came()) {
            say!("what came could not be kept for the next update: {error}");
        }
    }

    fn judge(&self, slot: &Slot) {
        let sequence = slot.manifest.sequence;
        let came = self.store.record().ok().and_then(|record| record.came);
        let needs = Needs::of(self.config, came, slot, self.has);
        let mut judge = Judge::new(needs, self.config, Instant::now());
        if let Err(why) = slot.verify_large(&RealDisk, &|| self.stopped()) {
            return self.fail(sequence, &why.to_string());
        }
        let mut said = false;
        while !self.stopped() {
            let now = Instant::now();
            match judge.look(now, self.vitals.look(self.watch.hung_stage(now))) {
                Verdict::Undecided => {}
                Verdict::Fails(why) => return self.fail(sequence, &why),
                Verdict::Works => match self.store.confirm(sequence, judge.last.came()) {
                    Ok(true) => return say!("update {sequence} works and is confirmed"),
                    Ok(false) => {
                        return say!("update {sequence} is not on trial any more: it was taken back or replaced");
                    }
                    // The disk may work again; a start that ends meanwhile is counted.
                    Err(error) if !std::mem::replace(&mut said, true) => {
                        say!("update {sequence} works, which could not be noted yet: {error}");
                    }
                    Err(_) => {}
                },
            }
            std::thread::sleep(LOOK);
        }
        if let Err(error) = self.store.give_back(sequence) {
            say!("this start counts for the trial of update {sequence} although it ended in order: {error}");
        }
    }

    fn fail(&self, sequence: u64, why: &str) {
        say!("{}; ending, to be started again", self.store.fall_back(sequence, why));
        self.fell.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        // A stage that hangs would keep the daemon from ending: nothing is owed to it. Detached, so that nobody waits for this.
        std::thread::spawn(|| {
            std::thread::sleep(END);
            std::process::exit(i32::from(Outcome::FellBack as u8));
        });
    }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
