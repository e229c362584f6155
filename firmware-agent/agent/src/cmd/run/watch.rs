//! Whether every stage of the daemon gets on with its work, told to the service manager.
//!
//! A *stage* is a thread of [`super::run`] with a [`Pulse`]: it says what it begins and how long that may take. The thread
//! that waits for signals asks all of them here; while all are alive it feeds the manager's watchdog. A stage that hangs
//! ends the feeding, and the manager kills and starts the daemon again: what was open at that time is in the outbox, and
//! open events begin anew. Without a manager a hung stage is said in the log and nothing else.
//!
//! A sensor's stage that hangs is poked first ([`threads`]). Where it then waits in its driver and no signal reaches it, it is left
//! hanging, said, and everything else goes on: a process with such a thread cannot even be killed. Otherwise it may be helped by one
//! restart and not by ten: a sensor that hangs again within [`TRIED_FOR`] of the restart that it cost is left hanging, too. Which
//! sensors those are is kept in the unit's runtime directory, which lasts from start to start and not over a boot.
//!
//! Stages that do nothing but wait for the disk are given more time: a disk that hangs is no better after a restart (a process that
//! waits for it cannot even be killed), and recording and alerts go on without it. What takes longer than it may is said.
//!
//! Not watched: the link, whose outbox holds all messages and whose connection has a watchdog of its own, and the
//! student's thread, whose worker has deadlines.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_worker::pulse::Pulse;
use sd_notify::NotifyState;

use super::threads::{self, Threads};
use crate::show::say;

/// The core takes its messages one by one; each is a matter of milliseconds.
pub(super) const CORE: Duration = Duration::from_secs(5);
/// One frame through decoder, picture health and trigger model.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// One step of a camera; opening one (a pipeline, a stream over a network) is the longest.
pub(super) const CAMERA: Duration = Duration::from_secs(15);
/// One step of a receiver; opening one (a name to look up, a connection) is the longest.
pub(super) const GNSS: Duration = Duration::from_secs(15);
/// A few hundred frames, or opening an interface; neither waits for anything.
pub(super) const CAN: Duration = Duration::from_secs(5);
/// A few registers, a FIFO of 1 to 3.5 KB, or the 0.7 s of a self-test; a bus that hangs gives up after some seconds.
pub(super) const IMU: Duration = Duration::from_secs(15);
/// A few lines.
pub(super) const GPIO: Duration = Duration::from_secs(5);
/// One piece of evidence, or a file through hash and sync; a worn card may stall for many seconds without being lost.
pub(super) const DISK: Duration = Duration::from_secs(60);
/// So much longer a stage that waits for the disk may hang before it is taken for one that hangs by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// A poked thread has so long to get on.
const POKED_FOR: Duration = Duration::from_secs(1);
/// A sensor that hangs again within this time of the start that it caused is not worth another one.
const TRIED_FOR: Duration = Duration::from_secs(600);
/// Name of the file that says which sensors cost the last start, a line each.
const TRIED_FILE: &str = "hung-sensors";
/// Most bytes of it that are read: there are five kinds of sensors.
const TRIED_BYTES: usize = 256;

/// A stage of one run.
#[derive(Clone, Debug)]
struct Stage {
    name: &'static str,
    pulse: Arc<Pulse>,
    patience: Duration,
    /// One that waits for a sensor's driver; its thread has its name.
    sensor: bool,
}

impl Stage {
    fn hangs(&self, now: Instant) -> bool {
        self.pulse.overdue(now).is_some_and(|by| by >= self.patience)
    }
}

/// The stages of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    stages: Vec<Stage>,
}

impl Watch {
    /// Adds a stage; it is idle until it says otherwise.
    pub(super) fn stage(&mut self, name: &'static str) -> Arc<Pulse> {
        self.add(name, Duration::ZERO, false)
    }

    /// The same for one that waits for a sensor's driver, in the thread of that name.
    pub(super) fn sensor(&mut self, name: &'static str) -> Arc<Pulse> {
        self.add(name, Duration::ZERO, true)
    }

    /// The same for one that waits for the disk alone.
    pub(super) fn disk(&mut self, name: &'static str) -> Arc<Pulse> {
        self.add(name, PATIENCE, false)
    }

    fn add(&mut self, name: &'static str, patience: Duration, sensor: bool) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(Instant::now()));
        self.stages.push(Stage { name, pulse: Arc::clone(&pulse), patience, sensor });
        pulse
    }

    /// Name of a stage that has taken longer than it may, and than it is given besides.
    pub(super) fn hung_stage(&self, now: Instant) -> Option<&'static str> {
        self.hung(now, &Tried::default()).map(|s| s.name)
    }

    /// Such a stage; those that were `tried` come last.
    fn hung(&self, now: Instant, tried: &Tried) -> Option<&Stage> {
        let hanging = || self.stages.iter().filter(|s| s.hangs(now));
        hanging().find(|s| !tried.has(s)).or_else(|| hanging().next())
    }

    /// Whether a stage waits for the disk for longer than it may.
    fn disk_hangs(&self, now: Instant) -> bool {
        self.stages.iter().any(|s| !s.patience.is_zero() && s.pulse.overdue(now).is_some())
    }
}

/// Sensors for which the daemon was started anew before.
#[derive(Debug, Default)]
struct Tried {
    file: Option<PathBuf>,
    names: Vec<String>,
    /// When they were read: the begin of this run.
    since: Option<Instant>,
}

impl Tried {
    /// What the run before left in the unit's runtime directory (systemd.exec(5)), if there is one.
    fn read(since: Instant) -> Self {
        let folders = std::env::var_os("RUNTIME_DIRECTORY");
        let file = folders.and_then(|f| std::env::split_paths(&f).next()).map(|f| f.join(TRIED_FILE));
        Self::of(file, since)
    }

    fn of(file: Option<PathBuf>, since: Instant) -> Self {
        let text = file.as_ref().and_then(|f| std::fs::read(f).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(..text.len().min(TRIED_BYTES)).unwrap_or_default()).into_owned();
        Self { file, names: text.lines().map(str::to_owned).collect(), since: Some(since) }
    }

    fn has(&self, stage: &Stage) -> bool {
        stage.sensor && self.names.iter().any(|n| n == stage.name)
    }

    /// Keeps the name for the next start. A file that cannot be written costs another restart and nothing else.
    fn keep(&self, name: &str) {
        let Some(file) = &self.file else { return };
        let mut text: String = self.names.iter().filter(|n| *n != name).map(|n| format!("{n}\n")).collect();
        text.push_str(name);
        text.push('\n');
        if let Err(error) = std::fs::write(file, text) {
            say!("{}: {error}", file.display());
        }
    }

    /// After a run that went well for long enough, what was before is no more to be held against anyone.
    fn forget(&mut self, now: Instant) {
        let long = self.since.is_some_and(|since| now.saturating_duration_since(since) >= TRIED_FOR);
        if long && !self.names.is_empty() {
            self.names.clear();
            // Gone already, or a later run reads it once more.
            let _ = self.file.as_ref().map(std::fs::remove_file);
        }
    }
}

/// What is to be done about a stage that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was poked: a moment.
    Poked,
    /// It waits in its driver, where no signal reaches it.
    InDriver,
    /// A start was tried for it, and did not help.
    Tried,
    /// The service manager starts the agent anew.
    Restart,
}

/// Tells the service manager of one run.
#[derive(Debug)]
pub(super) struct Teller {
    watch: Watch,
    tried: Tried,
    /// How often the watchdog is fed, if the manager has one for this program.
    every: Option<Duration>,
    fed: Option<Instant>,
    hung: Option<(&'static str, Verdict)>,
    /// Which stage was poked, and when.
    poked: Option<(&'static str, Instant)>,
    threads: Threads,
    disk_hangs: bool,
}

impl Teller {
    /// Says that the daemon is ready: its rings take samples from now on, whether or not each sensor is there yet.
    pub(super) fn ready(watch: Watch, status: &str) -> Self {
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
        // A third of the time: one notice that comes late must not cost a restart.
        let every = sd_notify::watchdog_enabled().filter(|w| !w.is_zero()).map(|w| w / 3);
        let (tried, threads) = (Tried::read(Instant::now()), threads::REAL);
        Self { watch, tried, every, fed: None, hung: None, poked: None, threads, disk_hangs: false }
    }

    fn judge(&mut self, stage: &Stage, now: Instant) -> Verdict {
        if !stage.sensor {
            return Verdict::Restart;
        }
        if self.tried.has(stage) {
            return Verdict::Tried;
        }
        match self.poked {
            Some((name, at)) if name == stage.name => {
                if now.saturating_duration_since(at) < POKED_FOR {
                    Verdict::Poked
                } else if (self.threads.waits)(stage.name) {
                    Verdict::InDriver
                } else if self.hung == Some((name, Verdict::InDriver)) {
                    // Out of its driver: a moment to say so.
                    self.poked = Some((name, now));
                    Verdict::Poked
                } else {
                    Verdict::Restart
                }
            }
            _ => {
                (self.threads.poke)(stage.name);
                self.poked = Some((stage.name, now));
                Verdict::Poked
            }
        }
    }

    /// To be called many times a second. Feeds the watchdog when it is time and all stages are alive.
    pub(super) fn look(&mut self, now: Instant) {
        let stage = self.watch.hung(now, &self.tried).cloned();
        let hung = stage.as_ref().map(|stage| (stage.name, self.judge(stage, now)));
        let sensor = stage.is_some_and(|s| s.sensor);
        let disk_hangs = self.watch.disk_hangs(now);
        if disk_hangs != self.disk_hangs {
            self.disk_hangs = disk_hangs;
            if disk_hangs {
                say!("the disk does not answer; recording and alerts go on in memory");
                let _ = sd_notify::notify(&[NotifyState::Status("recording; the disk does not answer")]);
            } else {
                say!("the disk answers again");
                let _ = sd_notify::notify(&[NotifyState::Status("recording")]);
            }
        }
        if hung != self.hung {
            match (hung, self.hung) {
                (Some((_, Verdict::Poked)), _) => {}
                (Some((stage, verdict @ (Verdict::Tried | Verdict::InDriver))), _) => {
                    let why = match verdict {
                        Verdict::Tried => "hangs again after a start for its sake",
                        _ => "hangs in its driver, and no start would help",
                    };
                    say!("the {stage} stage {why}; recording goes on without it");
                    let _ =
                        sd_notify::notify(&[NotifyState::Status(&format!("recording without {stage}, which hangs"))]);
                }
                (Some((stage, Verdict::Restart)), _) => {
                    let then =
                        if self.every.is_some() { "; the service manager will start the agent again" } else { "" };
                    if sensor && self.every.is_some() {
                        self.tried.keep(stage);
                    }
                    say!("the {stage} stage hangs{then}");
                    let _ = sd_notify::notify(&[NotifyState::Status(&format!("the {stage} stage hangs"))]);
                }
                // Of which nothing was said yet.
                (None, Some((stage, Verdict::Poked))) => say!("the {stage} stage gets on again: it had stood still"),
                (None, Some((stage, _))) => say!("the {stage} stage gets on again"),
                (None, None) => {}
            }
            self.hung = hung;
        }
        if hung.is_none() {
            self.poked = None;
            self.tried.forget(now);
        }
        let Some(every) = self.every else { return };
        let ends = matches!(hung, Some((_, Verdict::Restart)));
        if !ends && self.fed.is_none_or(|fed| now.saturating_duration_since(fed) >= every) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.fed = Some(now);
        }
    }

    /// Whether a stage hangs, or the disk.
    pub(super) const fn hangs(&self) -> bool {
        self.hung.is_some() || self.disk_hangs
    }

    /// Says that the daemon ends by itself or was told to.
    pub(super) fn stopping() {
        let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("finishing open events")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_stage_that_hangs_and_only_that() {
        let mut watch = Watch::default();
        let (core, look) = (watch.stage("core"), watch.stage("look"));
        let begun = Instant::now();
        let later = |s| begun + Duration::from_secs(s);
        core.busy(begun, CORE);
        let hung = |s| watch.hung_stage(later(s));
        assert_eq!((hung(4), hung(6)), (None, Some("core")));
        core.busy(later(6), CORE);
        look.busy(later(6), LOOK);
        look.idle();
        assert_eq!((hung(10), hung(60)), (None, Some("core")));
    }

    #[test]
    fn a_hung_stage_is_said_once_and_forgotten_when_it_gets_on() {
        let mut watch = Watch::default();
        let look = watch.stage("look");
        let begun = Instant::now();
        let mut teller = teller(watch);
        look.busy(begun, Duration::from_secs(1));
        teller.look(begun);
        assert_eq!((teller.fed, teller.hung), (Some(begun), None));
        let late = begun + Duration::from_secs(9);
        teller.look(late);
        let restart = |name| Some((name, Verdict::Restart));
        assert_eq!((teller.fed, teller.hung), (Some(begun), restart("look")), "a hung stage is not fed for");
        look.idle();
        teller.look(late);
        assert_eq!((teller.fed, teller.hung), (Some(late), None));
    }

    fn teller(watch: Watch) -> Teller {
        let every = Some(Duration::from_secs(3));
        let threads = Threads { poke: |_| {}, waits: |_| false };
        Teller { watch, tried: Tried::default(), every, fed: None, hung: None, poked: None, threads, disk_hangs: false }
    }

    #[test]
    fn a_sensor_that_hangs_costs_one_start_and_then_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(TRIED_FILE);
        let begun = Instant::now();
        let later = |s| begun + Duration::from_secs(s);
        // The core too, while the sensor hangs: that is worth a start each time.
        let run = |core_hangs: bool| {
            let mut watch = Watch::default();
            let (core, imu, can) = (watch.stage("core"), watch.sensor("imu"), watch.sensor("can"));
            let mut teller = Teller { tried: Tried::of(Some(file.clone()), begun), ..teller(watch) };
            imu.busy(begun, IMU);
            if core_hangs {
                core.busy(begun, CORE);
            }
            [14, 17, 20].into_iter().for_each(|s| teller.look(later(s)));
            (teller, imu, can)
        };
        let restart = |name| Some((name, Verdict::Restart));
        let fed = |teller: &Teller| teller.fed == Some(later(20));
        let (teller, ..) = run(false);
        assert!(!fed(&teller) && teller.hangs());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "imu\n");
        let (teller, ..) = run(true);
        assert_eq!((fed(&teller), teller.hung), (false, restart("core")));
        let (mut teller, imu, can) = run(false);
        assert!(fed(&teller), "it is not started again for the same sensor");
        // Another sensor has its own start.
        can.busy(later(20), CAN);
        [30, 32].into_iter().for_each(|s| teller.look(later(s)));
        assert_eq!((teller.hung, teller.fed), (restart("can"), Some(later(30))), "poked first, and fed for meanwhile");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "imu\ncan\n");
        // Both got on, and for long: the next hang is a new one.
        imu.idle();
        can.idle();
        teller.look(later(601));
        assert!(!file.exists());
        imu.busy(later(700), IMU);
        [714, 717, 719].into_iter().for_each(|s| teller.look(later(s)));
        assert_eq!((teller.hung, teller.fed), (restart("imu"), Some(later(717))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "imu\n");
    }

    /// The process could not even be killed.
    #[test]
    fn a_sensor_whose_driver_hangs_costs_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(TRIED_FILE);
        let begun = Instant::now();
        let later = |s| begun + Duration::from_secs(s);
        let mut watch = Watch::default();
        let (imu, can) = (watch.sensor("imu"), watch.sensor("can"));
        let threads = Threads { poke: |_| {}, waits: |thread| thread == "imu" };
        let mut teller = Teller { tried: Tried::of(Some(file.clone()), begun), threads, ..teller(watch) };
        imu.busy(begun, IMU);
        [16, 20].into_iter().for_each(|s| teller.look(later(s)));
        assert_eq!((teller.hung, teller.fed), (Some(("imu", Verdict::InDriver)), Some(later(20))));
        assert!(!file.exists() && teller.hangs());
        // Its driver let go of it: it has a moment to say so.
        teller.threads.waits = |_| false;
        teller.look(later(24));
        assert_eq!((teller.hung, teller.fed), (Some(("imu", Verdict::Poked)), Some(later(24))));
        // It gets on; the next to hang is not in its driver.
        imu.idle();
        teller.look(later(30));
        assert_eq!((teller.hung, teller.fed), (None, Some(later(30))));
        assert!(!file.exists());
        can.busy(later(30), CAN);
        [36, 38].into_iter().for_each(|s| teller.look(later(s)));
        assert_eq!((teller.hung, teller.fed), (Some(("can", Verdict::Restart)), Some(later(36))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "can\n");
    }

    /// A restart would not make the disk any better, and would cost what is in memory.
    #[test]
    fn a_hung_disk_is_said_and_the_agent_goes_on_for_long() {
        let mut watch = Watch::default();
        let evidence = watch.disk("evidence");
        let begun = Instant::now();
        let later = |s| begun + Duration::from_secs(s);
        let mut teller = teller(watch);
        evidence.busy(begun, DISK);
        teller.look(later(59));
        assert!(!teller.hangs());
        teller.look(later(70));
        assert_eq!((teller.hangs(), teller.hung, teller.fed), (true, None, Some(later(70))));
        teller.look(later(600));
        assert_eq!(teller.fed, Some(later(600)), "it is fed for on and on");
        teller.look(later(661));
        let restart = Some(("evidence", Verdict::Restart));
        assert_eq!((teller.hung, teller.fed), (restart, Some(later(600))), "until it may be our own fault");
        evidence.idle();
        teller.look(later(662));
        assert!(!teller.hangs());
    }
}
