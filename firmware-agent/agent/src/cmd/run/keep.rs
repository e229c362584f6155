//! Evidence files of `run`: written by the core into the page cache, made safe by a thread of their own, kept by command.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Instant;

use agent_disk::{Disk as _, RealDisk};
use agent_wire::{CommandAction, EventId, Severity};
use agent_worker::pulse::Pulse;

use super::{Core, Inbox, watch};
use crate::config::Config;
use crate::evidence;
use crate::show::say;

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

impl Core {
    /// Writes the evidence into the page cache; the seal thread makes it safe.
    pub(super) fn store(&mut self, event: &EventId) {
        let Some(view) = self.agent.evidence(event) else { return };
        let (gone, room) = evidence::make_room(&RealDisk, &self.folder, self.quota, self.event_bytes);
        if gone > 0 || !room {
            say!("evidence quota: {gone} lesser files deleted{}", if room { "" } else { "; crashes alone pass it" });
        }
        // Evidence of crashes stands apart from lesser evidence, which may be rotated away.
        let crash = view.event().severity >= Severity::Severe;
        let folder = if crash { self.folder.clone() } else { self.folder.join(evidence::LESSER) };
        match evidence::write_part(&RealDisk, &folder, &view, &self.info, &self.signer) {
            Ok((part, path)) => {
                if let Err(full) = self.to_seal.try_send((event.clone(), part, path)) {
                    let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = full;
                    say!("the disk is behind: evidence of {event} is renamed without a sync");
                    let file = evidence::seal(&RealDisk, &job.1, &job.2, evidence::Durability::Buffered).ok();
                    self.agent.on_evidence(event, file);
                }
            }
            Err(error) => {
                say!("evidence of {event} could not be written: {error:#}");
                self.agent.on_evidence(event, None);
            }
        }
    }

    pub(super) fn commands(&mut self, config: &Config) {
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
