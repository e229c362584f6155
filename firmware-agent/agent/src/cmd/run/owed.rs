//! Reports that earlier starts owe: of events whose alert was made durable when the power went, or the process was killed, before the
//! report. Their evidence is what the disk still has, and the student is asked about it once its model runs.
//!
//! What such a report does not say: the event data (they stand in the evidence file as far as they were written; the alert has delta-V
//! so far), the checks of claims against them, and losses after the alert. A file that was cut off is named `EVENT.cut...`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{Builder, Scope};

use agent_core::config::AskStudent;
use agent_disk::{Disk as _, RealDisk};
use agent_wire::{Alert, EventId, EvidenceFile, LadderReason, Losses, Report, StudentRefusal};

use super::Inbox;
use crate::config::Config;
use crate::show::say;
use crate::student::{Desk, DeskThread, Done, Recorded};
use crate::{convert, evidence};

/// The student is asked about so many, the latest: a live event waits meanwhile.
const ASKED: usize = 4;
/// Files that are looked through for an event, at most: those that a journal leaves.
const LOOKED_THROUGH: usize = 16;

/// See the module.
pub(super) struct Owed {
    alerts: Vec<Alert>,
    folder: PathBuf,
    ask: AskStudent,
}

impl Owed {
    pub(super) fn new(alerts: Vec<Alert>, config: &Config) -> Self {
        if !alerts.is_empty() {
            say!("{} events of earlier starts were alerted and not reported: they are reported now", alerts.len());
        }
        Self { alerts, folder: config.resolve(&config.evidence.dir), ask: convert::ask(config) }
    }

    /// Makes the reports, oldest first. `tell` says `false` when nobody listens any more. What is left at a stop is owed still.
    fn settle(self, mut desk: Option<&mut Desk>, stop: &dyn Fn() -> bool, tell: &dyn Fn(Report) -> bool) {
        let asked = self.alerts.iter().filter(|a| self.ask.includes(a.kind, a.severity)).count();
        let mut to_pass = asked.saturating_sub(ASKED);
        for alert in self.alerts {
            if stop() {
                return;
            }
            let refused = |why, fall| Done::refused(alert.event.clone(), why, fall);
            let found = find(&self.folder, &alert.event);
            let done = if !self.ask.includes(alert.kind, alert.severity) {
                refused(StudentRefusal::NotAsked, None)
            } else if to_pass > 0 {
                to_pass -= 1;
                refused(StudentRefusal::Failed, Some(LadderReason::Overload))
            } else {
                match &mut desk {
                    None => refused(StudentRefusal::NotInstalled, None),
                    Some(desk) => match found.as_ref().and_then(|f| read(&f.0, &alert.event)) {
                        Some(recorded) => desk.recorded(&alert.event, &recorded, stop),
                        None => refused(StudentRefusal::NoVideo, None),
                    },
                }
            };
            if stop() {
                // The student was told to hurry: its word of this event is not its last.
                return;
            }
            if !tell(report(alert, found.map(|f| f.1), done)) {
                return;
            }
        }
    }
}

/// Starts the student's thread, which settles first what is owed; without a student a thread that does only that.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    desk: Option<DeskThread>,
    owed: Owed,
    inbox: &SyncSender<Inbox>,
    stop: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (news, reports, stop) = (inbox.clone(), inbox.clone(), Arc::clone(stop));
    let stopped = {
        let stop = Arc::clone(&stop);
        move || stop.load(Ordering::Relaxed)
    };
    let report = move |report| reports.send(Inbox::Owed(Box::new(report))).is_ok();
    if let Some(desk) = desk {
        let tell = move |n| news.send(Inbox::Student(n)).is_ok();
        let settle = move |desk: &mut Desk| owed.settle(Some(desk), &stopped, &report);
        Builder::new().name("student".to_owned()).spawn_scoped(scope, move || desk.run(&stop, &tell, settle))?;
    } else if !owed.alerts.is_empty() {
        Builder::new().name("owed".to_owned()).spawn_scoped(scope, move || owed.settle(None, &stopped, &report))?;
    }
    Ok(())
}

fn report(alert: Alert, evidence_file: Option<EvidenceFile>, done: Done) -> Report {
    Report {
        event: alert.event,
        kind: alert.kind,
        severity: alert.severity,
        time: alert.time,
        student: done.outcome,
        student_falls: done.falls,
        edr: None,
        grounding: heapless::Vec::new(),
        evidence_file,
        flags: alert.flags,
        losses: Losses::default(),
        config: alert.config,
        trigger_model: alert.trigger_model,
    }
}

/// The evidence of an event: whole, or what was recovered of it.
fn find(folder: &Path, event: &EventId) -> Option<(PathBuf, EvidenceFile)> {
    let lesser = folder.join(evidence::LESSER);
    let whole = format!("{event}.mcap");
    let cut = format!("{event}.cut.mcap");
    let by_name = [folder.join(&whole), lesser.join(&whole), folder.join(&cut), lesser.join(&cut)];
    let path = by_name.into_iter().find(|path| RealDisk.exists(path)).or_else(|| of_journal(folder, event))?;
    let name = path.file_name()?.to_str()?.try_into().ok()?;
    let (bytes, sha256_8) = evidence::hash(&RealDisk, &path)
        .inspect_err(|error| say!("evidence of {event} cannot be read: {error}"))
        .ok()?;
    Some((path, EvidenceFile { name, bytes, sha256_8 }))
}

/// What a file has of an event.
fn read(path: &Path, event: &EventId) -> Option<Recorded> {
    Recorded::read(path, Some(&event.to_string())).ok()
}

/// Of the files that a journal left, the one in which the event is: they bear the name of the start's last event.
fn of_journal(folder: &Path, event: &EventId) -> Option<PathBuf> {
    let start = format!("{}_{:08}_", event.unit, event.boot);
    let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned).unwrap_or_default();
    let left = RealDisk.list(folder).into_iter().map(|(path, _)| path);
    let left = left.filter(|path| name(path).starts_with(&start) && name(path).contains(".cut-"));
    left.take(LOOKED_THROUGH).find(|path| read(path, event).is_some())
}

#[cfg(test)]
#[path = "owed_tests.rs"]
mod tests;
