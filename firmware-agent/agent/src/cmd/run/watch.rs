//! Whether every stage of the daemon gets on with its work, told to the service manager.
//!
//! A *stage* is a thread of [`super::run`] with a [`Pulse`]: it says what it begins and how long that may take. The thread
//! that waits for signals asks all of them here; while all are alive it feeds the manager's watchdog. A stage that hangs
//! ends the feeding, and the manager kills and starts the daemon again: what was open at that time is in the outbox, and
//! open events begin anew. Without a manager a hung stage is said in the log and nothing else.
//!
//! Stages that do nothing but wait for the disk are given more time: a disk that hangs is no better after a restart (a process that
//! waits for it cannot even be killed), and recording and alerts go on without it. What takes longer than it may is said.
//!
//! Not watched: the link, whose outbox holds all messages and whose connection has a watchdog of its own, and the
//! student's thread, whose worker has deadlines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_worker::pulse::Pulse;
use sd_notify::NotifyState;

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

/// A stage of one run.
#[derive(Clone, Debug)]
struct Stage {
    name: &'static str,
    pulse: Arc<Pulse>,
    patience: Duration,
}

/// The stages of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    stages: Vec<Stage>,
}

impl Watch {
    /// Adds a stage; it is idle until it says otherwise.
    pub(super) fn stage(&mut self, name: &'static str) -> Arc<Pulse> {
        self.add(name, Duration::ZERO)
    }

    /// The same for one that waits for the disk alone.
    pub(super) fn disk(&mut self, name: &'static str) -> Arc<Pulse> {
        self.add(name, PATIENCE)
    }

    fn add(&mut self, name: &'static str, patience: Duration) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(Instant::now()));
        self.stages.push(Stage { name, pulse: Arc::clone(&pulse), patience });
        pulse
    }

    /// A stage that has taken longer than it may, and than it is given besides.
    pub(super) fn hung(&self, now: Instant) -> Option<&'static str> {
        self.stages.iter().find(|s| s.pulse.overdue(now).is_some_and(|by| by >= s.patience)).map(|s| s.name)
    }

    /// Whether a stage waits for the disk for longer than it may.
    fn disk_hangs(&self, now: Instant) -> bool {
        self.stages.iter().any(|s| !s.patience.is_zero() && s.pulse.overdue(now).is_some())
    }
}

/// Tells the service manager of one run.
#[derive(Debug)]
pub(super) struct Teller {
    watch: Watch,
    /// How often the watchdog is fed, if the manager has one for this program.
    every: Option<Duration>,
    fed: Option<Instant>,
    hung: Option<&'static str>,
    disk_hangs: bool,
}

impl Teller {
    /// Says that the daemon is ready: its rings take samples from now on, whether or not each sensor is there yet.
    pub(super) fn ready(watch: Watch, status: &str) -> Self {
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
        // A third of the time: one notice that comes late must not cost a restart.
        let every = sd_notify::watchdog_enabled().filter(|w| !w.is_zero()).map(|w| w / 3);
        Self { watch, every, fed: None, hung: None, disk_hangs: false }
    }

    /// To be called many times a second. Feeds the watchdog when it is time and all stages are alive.
    pub(super) fn look(&mut self, now: Instant) {
        let (hung, disk_hangs) = (self.watch.hung(now), self.watch.disk_hangs(now));
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
                (Some(stage), _) => {
                    let then =
                        if self.every.is_some() { "; the service manager will start the agent again" } else { "" };
                    say!("the {stage} stage hangs{then}");
                    let _ = sd_notify::notify(&[NotifyState::Status(&format!("the {stage} stage hangs"))]);
                }
                (None, Some(stage)) => say!("the {stage} stage gets on again"),
                (None, None) => {}
            }
            self.hung = hung;
        }
        let Some(every) = self.every else { return };
        if hung.is_none() && self.fed.is_none_or(|fed| now.saturating_duration_since(fed) >= every) {
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
        assert_eq!(watch.hung(later(4)), None);
        assert_eq!(watch.hung(later(6)), Some("core"));
        core.busy(later(6), CORE);
        look.busy(later(6), LOOK);
        look.idle();
        assert_eq!(watch.hung(later(10)), None);
        assert_eq!(watch.hung(later(60)), Some("core"));
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
        assert_eq!((teller.fed, teller.hung), (Some(begun), Some("look")), "a hung stage is not fed for");
        look.idle();
        teller.look(late);
        assert_eq!((teller.fed, teller.hung), (Some(late), None));
    }

    fn teller(watch: Watch) -> Teller {
        Teller { watch, every: Some(Duration::from_secs(3)), fed: None, hung: None, disk_hangs: false }
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
        assert_eq!((teller.hung, teller.fed), (Some("evidence"), Some(later(600))), "until it may be our own fault");
        evidence.idle();
        teller.look(later(662));
        assert!(!teller.hangs());
    }
}
