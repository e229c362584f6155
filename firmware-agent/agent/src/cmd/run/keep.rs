//! Evidence of `run`: the thread that puts it on the disk, and what the core hears of that.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use agent_models::footprint;
use agent_wire::{CommandAction, EventId, Health};
use agent_worker::pulse::Pulse;

use super::{Core, Inbox, watch};
use crate::certificates::DailyLook;
use crate::config::Config;
use crate::scribe::{Done, Job, Keeper};
use crate::show::say;

/// How often it is asked whether the certificates are due to be looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Times that more messages wait than the core takes at once, until it makes a piece of evidence all the same: a piece takes milliseconds,
/// in which a full bus fills the inbox, and the rings keep what it is made of.
const PIECE_EVERY: u32 = 4;
/// How far the thread stands back (nice) where a processor is wanted by more than one: evidence that comes a little later is the same
/// evidence, and a frame that found no room is lost.
const STANDS_BACK: i32 = 5;

/// The thread. It also reads the certificates' dates now and then: a disk that hangs must not hold the core for that.
pub(super) fn keep(
    mut keeper: Keeper,
    config: &Config,
    jobs: &Receiver<Job>,
    inbox: &SyncSender<Inbox>,
    pulse: &Pulse,
) {
    // Linux has a nice value for each thread, and takes no name for the calling one. Where it is refused, it is as urgent as the others.
    let _ = rustix::process::setpriority_process(None, STANDS_BACK);
    let mut certificates = DailyLook::default();
    loop {
        pulse.busy(Instant::now(), watch::DISK);
        certificates.tick(config);
        pulse.idle();
        let job = match jobs.recv_timeout(LOOK) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        pulse.busy(Instant::now(), watch::DISK);
        let done = keeper.perform(job);
        pulse.idle();
        let sealed = done.sealed.is_some();
        if done != Done::default() && inbox.send(Inbox::Kept(done)).is_err() {
            return;
        }
        if sealed {
            footprint::give_back_heap();
        }
    }
}

/// How often the oldest evidence is looked at when the outbox has no room.
const RELIEF: Duration = Duration::from_secs(5);

/// How the disk takes evidence, since the start.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    failing: bool,
    lost: u32,
    rotated: u32,
    relief: Option<Instant>,
}

impl Keeping {
    /// Evidence of an event is safe, or is not.
    pub(super) fn sealed(&mut self, safe: bool) {
        self.failing = !safe;
        self.lost = self.lost.saturating_add(u32::from(!safe));
    }

    /// Lesser evidence went for other.
    pub(super) fn rotated(&mut self, files: u32) {
        self.rotated = self.rotated.saturating_add(files);
    }

    /// Fills in what only this knows.
    pub(super) fn complete(&self, health: &mut Health) {
        health.storage.evidence_failing = self.failing;
        health.storage.evidence_lost = self.lost;
        health.storage.evidence_rotated = self.rotated;
    }
}

impl Core {
    /// An event closed: its evidence is written from now on.
    pub(super) fn store(&mut self, event: &EventId) {
        if !self.scribe.on_closed(event, self.agent.now()) {
            say!("evidence of {event} is not written: too many wait for the disk");
            self.kept(Done { sealed: Some((event.clone(), None)), gone: 0 });
        }
    }

    /// [`Core::write`], but while messages were left behind so many times in a row only now and then.
    pub(super) fn write_between(&mut self, behind: u32) {
        if behind.is_multiple_of(PIECE_EVERY) {
            self.write();
        }
    }

    /// Goes on writing evidence.
    pub(super) fn write(&mut self) {
        if let Some(event) = self.scribe.turn(&self.agent) {
            self.kept(Done { sealed: Some((event, None)), gone: 0 });
        }
        if let Some((event, t)) = self.scribe.taken() {
            self.agent.on_taken(&event, t);
        }
    }

    /// The thread did something.
    pub(super) fn kept(&mut self, done: Done) {
        self.keeping.rotated(done.gone);
        if let Some((event, file)) = done.sealed {
            self.keeping.sealed(file.is_some());
            self.agent.on_evidence(&event, file);
        }
    }

    /// Says what has changed of the link. An outbox that has no room gets that of the oldest lesser evidence.
    pub(super) fn look_at_link(&mut self) {
        let state = self.link.look();
        self.vitals.link(state);
        if !state.store_failing {
            self.keeping.relief = None;
            return;
        }
        let now = Instant::now();
        // Not at once: what is full for a moment only costs nothing.
        let due = *self.keeping.relief.get_or_insert(now + RELIEF);
        if now < due {
            return;
        }
        self.keeping.relief = Some(now + RELIEF);
        // With so much waiting already it is asked for again.
        let _ = self.scribe.ask(Job::Relieve);
    }

    pub(super) fn commands(&mut self) {
        self.look_at_link();
        while let Some(command) = self.link.command() {
            match command.action {
                CommandAction::SendHealth => self.agent.request_health(),
                CommandAction::KeepEvidence(event) => {
                    if let Err(Job::Keep(event)) = self.scribe.ask(Job::Keep(event)) {
                        say!("evidence of {event} cannot be kept: too many jobs wait for the disk");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_wire::{Losses, Sensors, Storage, UnitId, WallQuality};

    use super::*;

    #[test]
    fn health_says_how_the_disk_takes_evidence() {
        let mut health = Health {
            unit: UnitId::new("u").unwrap(),
            boot: 1,
            uptime_s: 0,
            clock: WallQuality::None,
            alignment_pct: 0,
            ring_video_ms: 0,
            outbox_waiting: 0,
            outbox_expired: 0,
            events: 0,
            disturbances: 0,
            losses: Losses::default(),
            flags: agent_wire::Flags::default(),
            broker: 0,
            storage: Storage::default(),
            sensors: Sensors::default(),
        };
        let mut keeping = Keeping::default();
        let mut says = |keeping: &Keeping| {
            keeping.complete(&mut health);
            (health.storage.evidence_failing, health.storage.evidence_lost)
        };
        keeping.sealed(true);
        assert_eq!(says(&keeping), (false, 0));
        keeping.sealed(false);
        keeping.sealed(false);
        assert_eq!(says(&keeping), (true, 2));
        keeping.sealed(true);
        assert_eq!(says(&keeping), (false, 2), "what was lost stays lost");
    }
}
