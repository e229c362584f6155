//! Evidence files of `run`: written by the core into the page cache, made safe by a thread of their own, kept by command.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use agent_disk::{Disk as _, RealDisk};
use agent_wire::{CommandAction, EventId, Health};
use agent_worker::pulse::Pulse;

use super::{Core, Inbox, watch};
use crate::config::Config;
use crate::show::say;
use crate::{evidence, room};

/// Makes evidence files safe: hash, sync, rename.
pub(super) fn seal(seals: &Receiver<(EventId, PathBuf, PathBuf)>, inbox: &SyncSender<Inbox>, pulse: &Pulse) {
    while let Ok((event, part, path)) = seals.recv() {
        pulse.busy(Instant::now(), watch::SEAL);
        let file = evidence::seal(&RealDisk, &part, &path, evidence::Durability::Synced)
            .inspect_err(|error| say!("evidence of {event} is not safe on disk: {error:#}"))
            .ok();
        pulse.idle();
        if inbox.send(Inbox::Sealed(event, file)).is_err() {
            return;
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

    /// Fills in what only this knows.
    pub(super) fn complete(&self, health: &mut Health) {
        health.storage.evidence_failing = self.failing;
        health.storage.evidence_lost = self.lost;
        health.storage.evidence_rotated = self.rotated;
    }
}

impl Core {
    /// Writes the evidence into the page cache; the seal thread makes it safe.
    pub(super) fn store(&mut self, event: &EventId) {
        let Some(view) = self.agent.evidence(event) else { return };
        let place = room::Place { folder: &self.folder, quota: self.quota, event_bytes: self.event_bytes };
        let written = place.write(&RealDisk, &view, &self.info, &self.signer);
        self.keeping.rotated = self.keeping.rotated.saturating_add(written.gone);
        if written.gone > 0 || !written.room {
            let alone = if written.room { "" } else { "; crashes alone pass the quota" };
            say!("evidence: {} lesser files deleted to make room{alone}", written.gone);
        }
        match written.parts {
            Ok((part, path)) => {
                if let Err(full) = self.to_seal.try_send((event.clone(), part, path)) {
                    let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = full;
                    say!("the disk is behind: evidence of {event} is renamed without a sync");
                    let file = evidence::seal(&RealDisk, &job.1, &job.2, evidence::Durability::Buffered).ok();
                    self.keeping.sealed(file.is_some());
                    self.agent.on_evidence(event, file);
                }
            }
            Err(error) => {
                say!("evidence of {event} could not be written: {error:#}");
                self.keeping.sealed(false);
                self.agent.on_evidence(event, None);
            }
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
        let place = room::Place { folder: &self.folder, quota: self.quota, event_bytes: self.event_bytes };
        let gone = place.relieve(&RealDisk);
        if gone > 0 {
            self.keeping.rotated = self.keeping.rotated.saturating_add(gone);
            say!("evidence: {gone} lesser files deleted to make room for the outbox");
        }
    }

    pub(super) fn commands(&mut self, config: &Config) {
        self.look_at_link();
        self.certificates.tick(config);
        while let Some(command) = self.link.command() {
            match command.action {
                CommandAction::SendHealth => self.agent.request_health(),
                CommandAction::KeepEvidence(event) => {
                    let name = format!("{event}.mcap");
                    let from = self.folder.join(evidence::LESSER).join(&name);
                    let moved = RealDisk.rename(&from, &self.folder.join(&name));
                    match moved.and_then(|()| RealDisk.sync_folder(&self.folder)) {
                        Ok(()) => say!("evidence of {event} is kept by command"),
                        Err(error) => say!("evidence of {event} cannot be kept: {error}"),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_wire::{Losses, Storage, UnitId, WallQuality};

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
