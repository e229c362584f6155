//! The journal: frames and samples on disk while something may be about to happen, so that a power cut at the impact itself still
//! leaves video and samples to within a second of it.
//!
//! Armed: while the risk is high, while an event is open, and for [`LINGER`] after either; or always, if configured. The core
//! writes what is new in its rings every [`EVERY`] as whole chunks of a drive, each with its signed link, and hands the bytes to a thread, which adds them to a
//! file and syncs it. A *segment* is one such file; it begins at a key frame, the first one a pre-roll ago. Segments go when they
//! are no longer wanted: the evidence file of an event is made from the rings as ever, and a clean end leaves none. What a
//! power cut leaves is found at the next start ([`evidence::recover`]).
//!
//! The core never waits: with the thread behind, the segment ends, and another begins when there is room again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use agent_core::agent::Agent;
use agent_core::time::{MonoTime, Span};
use agent_disk::{Disk, DiskFile, How, folder_of};
use agent_drive::{Chained, DriveInfo, DriveWriter, NoSeek};
use agent_wire::EventId;
use agent_worker::pulse::Pulse;
use serde_json::json;

use super::watch;
use crate::config::Config;
use crate::config::types::Persist;
use crate::evidence;
use crate::scribe::Bytes;
use crate::show::say;
use crate::signer::Signer;

/// Between two additions.
const EVERY: Span = Span::from_ms(250);
/// What is written at once, and how many of them in one turn: no turn makes the core late, no piece takes much memory, and a pre-roll is
/// caught up with in a second or two, because until then a cut leaves less than was promised.
const PIECE: Span = Span::from_ms(500);
const PIECES: usize = 4;
/// A record waits so long for older ones of slower sensors.
const LAG: Span = Span::from_ms(300);
/// Armed for this long after the last reason.
const LINGER: Span = Span::from_s(10);
/// Length of a segment; longer only while an event is open.
const SEGMENT: Span = Span::from_s(10);
const LONGEST: Span = Span::from_s(60);
/// Whole segments that are kept besides the one being written, while no event is open.
const KEPT: usize = 2;
/// Most of them at any time.
const MOST_KEPT: usize = 8;
/// Buffers up to this size are used again, bytes: a piece of high-definition video fits.
const SPARE_BYTES: usize = 512 << 10;
/// Jobs that wait for the disk.
pub(super) const JOBS: usize = 16;
/// A word of the trigger model older than this says nothing about now.
const SEEN_FRESH: Span = Span::from_s(1);

/// What the thread does.
#[derive(Debug)]
pub(super) enum Job {
    /// Makes a file; what follows goes into it.
    Begin(PathBuf),
    /// Adds to the file and syncs it.
    Append(Vec<u8>),
    /// Gives a file another name, for good.
    Name(PathBuf, PathBuf),
    /// Deletes a file.
    Remove(PathBuf),
}

struct Segment {
    writer: DriveWriter<NoSeek<Chained<Bytes>>>,
    bytes: Bytes,
    path: PathBuf,
    begun: MonoTime,
    /// Everything up to here was written.
    cursor: MonoTime,
}

/// See the module.
pub(super) struct Journal {
    mode: Persist,
    risk_on: f32,
    folder: PathBuf,
    /// Begins the names of this start's segments.
    start: String,
    pre_roll: Span,
    info: DriveInfo,
    signer: Signer,
    jobs: SyncSender<Job>,
    /// Buffers that come back.
    spare: Receiver<Vec<u8>>,
    segment: Option<Segment>,
    /// Whole ones, oldest first.
    kept: VecDeque<PathBuf>,
    /// Cursor of the segment that ended last: the next one goes on there.
    after: Option<MonoTime>,
    number: u32,
    next: MonoTime,
    armed_until: MonoTime,
    marks: Vec<(EventId, MonoTime)>,
    behind_said: bool,
}

impl Journal {
    pub(super) fn new(
        (mode, risk_on): (Persist, f32),
        folder: &Path,
        start: String,
        pre_roll: Span,
        (info, signer): (DriveInfo, Signer),
        (jobs, spare): (SyncSender<Job>, Receiver<Vec<u8>>),
    ) -> Self {
        Self {
            mode,
            risk_on,
            folder: folder.join(evidence::JOURNAL),
            start,
            pre_roll,
            info,
            signer,
            jobs,
            spare,
            segment: None,
            kept: VecDeque::with_capacity(MOST_KEPT + 1),
            after: None,
            number: 0,
            next: MonoTime::ZERO,
            armed_until: MonoTime::ZERO,
            marks: Vec::new(),
            behind_said: false,
        }
    }

    /// An alert went out: the segment is for this event from now on.
    pub(super) fn mark(&mut self, event: &EventId, t: MonoTime) {
        if self.mode != Persist::Never && self.marks.len() < agent_core::limits::MAX_OPEN_EVENTS {
            self.marks.push((event.clone(), t));
        }
    }

    /// To be called many times a second, with the core's time.
    pub(super) fn tick(&mut self, agent: &Agent, now: MonoTime) {
        if self.mode == Persist::Never || now < self.next {
            return;
        }
        self.next = now + EVERY;
        if self.armed(agent, now) {
            self.armed_until = now + LINGER;
        }
        if now >= self.armed_until {
            self.clear();
            return;
        }
        if let Err(why) = self.add(agent, now) {
            say!("journal: {why}");
            self.abandon();
        }
    }

    /// The end of the daemon: everything is in evidence files, so nothing stays. Waits a moment for the thread.
    pub(super) fn end(&mut self) {
        for _ in 0..50 {
            self.clear();
            if self.kept.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Nothing is wanted any more.
    fn clear(&mut self) {
        self.abandon();
        while let Some(path) = self.kept.front() {
            if !self.send(Job::Remove(path.clone())) {
                return;
            }
            self.kept.pop_front();
        }
        self.after = None;
    }

    fn armed(&self, agent: &Agent, now: MonoTime) -> bool {
        let risky = |(t, seen): &(MonoTime, agent_core::vision::VisionAssessment)| {
            now.since(*t) <= SEEN_FRESH && seen.strongest() >= self.risk_on
        };
        self.mode == Persist::Always || agent.awaiting() || agent.last_seen().is_some_and(risky)
    }

    fn add(&mut self, agent: &Agent, now: MonoTime) -> Result<(), String> {
        if self.segment.is_none() && !self.begin(agent, now)? {
            return Ok(());
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let failed = |e: agent_drive::DriveError| e.to_string();
        for (event, t) in self.marks.drain(..) {
            // As far as it is known now: the power may go before there is more.
            let mut text = agent
                .evidence(&event)
                .map_or_else(|| json!({"event": event.to_string()}), |view| evidence::describe(&view));
            if let Some(fields) = text.as_object_mut() {
                fields.insert("journal".to_owned(), true.into());
            }
            segment.writer.write_json("/event", t, &text.to_string()).map_err(failed)?;
            let name = segment.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let part = name.split('.').next().unwrap_or_default();
            let named = segment.path.with_file_name(format!("{part}.{event}.mcap"));
            if self.jobs.try_send(Job::Name(segment.path.clone(), named.clone())).is_ok() {
                segment.path = named;
            }
        }
        // What is older has left the rings, or was never in them: the core's clock stands at zero until the first record, and that of
        // the kernel has run since the unit was switched on. Caught up with in steps, it would never be reached.
        let oldest = now.minus(self.pre_roll).minus(self.pre_roll);
        if segment.cursor < oldest {
            (segment.cursor, segment.begun) = (oldest, oldest);
        }
        let mut long = Span(0);
        for _ in 0..PIECES {
            let Some(segment) = &mut self.segment else { return Ok(()) };
            let to = now.minus(LAG).min(segment.cursor + PIECE);
            if to > segment.cursor {
                let recorded = agent.recorded(segment.cursor + Span(1), to);
                evidence::write_recorded(&mut segment.writer, &recorded).map_err(failed)?;
                segment.cursor = to;
            }
            segment.writer.flush().map_err(failed)?;
            long = to.since(segment.begun);
            let bytes = segment.bytes.take(self.spare.try_recv().unwrap_or_default());
            if !self.send(Job::Append(bytes)) {
                // A gap of bytes would spoil what follows: it goes into another file.
                self.abandon();
                return Ok(());
            }
            if to >= now.minus(LAG) {
                break;
            }
        }
        if long >= LONGEST || long >= SEGMENT && !agent.awaiting() {
            self.abandon();
            let most = if agent.awaiting() { MOST_KEPT } else { KEPT };
            while self.kept.len() > most {
                if let Some(path) = self.kept.pop_front() {
                    self.send(Job::Remove(path));
                }
            }
        }
        Ok(())
    }

    /// Begins a segment, if the disk takes one.
    fn begin(&mut self, agent: &Agent, now: MonoTime) -> Result<bool, String> {
        let wanted = self.after.take().unwrap_or_else(|| now.minus(self.pre_roll));
        // From a key frame on; a little is then in two segments.
        let from =
            agent.key_frame_before(wanted).map_or(wanted, |key| key.min(wanted).max(wanted.minus(self.pre_roll)));
        self.number = self.number.wrapping_add(1);
        let path = self.folder.join(format!("{}_{:06}.mcap", self.start, self.number));
        if !self.send(Job::Begin(path.clone())) {
            return Ok(false);
        }
        let bytes = Bytes::default();
        let seal = self.signer.seal(format!("{} journal {:06}", self.start, self.number));
        let writer = DriveWriter::chained(bytes.clone(), &self.info, seal).map_err(|e| e.to_string())?;
        self.segment = Some(Segment { writer, bytes, path, begun: from, cursor: from.minus(Span(1)) });
        Ok(true)
    }

    /// Ends the segment as it is: it is read to its last whole chunk, which is all of it.
    fn abandon(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.after = Some(segment.cursor);
            self.kept.push_back(segment.path);
        }
    }

    fn send(&mut self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                if !std::mem::replace(&mut self.behind_said, true) {
                    say!("journal: the disk is behind; a power cut now would lose more than a second");
                }
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// What `run` starts: the core's side, and the ends for [`write`].
pub(super) fn of(
    config: &Config,
    boot: u32,
    info: &DriveInfo,
    signer: Signer,
) -> (Journal, Receiver<Job>, SyncSender<Vec<u8>>) {
    let ((to, jobs), (back, spare)) = (sync_channel(JOBS), sync_channel(JOBS));
    let start = format!("{}_{boot:08}", config.unit.name);
    let pre_roll = Span::from_s(u64::from(config.rings.video_pre_roll_s));
    let info = DriveInfo { source: "journal of the unit's sensors".to_owned(), ..info.clone() };
    let (mode, folder) =
        ((config.evidence.persist, config.evidence.persist_risk), config.resolve(&config.evidence.dir));
    (Journal::new(mode, &folder, start, pre_roll, (info, signer), (to, spare)), jobs, back)
}

/// Does jobs on a disk; the file that was begun last is open.
#[derive(Debug)]
pub(super) struct Hands<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) open: Option<(Box<dyn DiskFile>, u64)>,
    /// Pieces that were added and not synced.
    pub(super) unsynced: usize,
    /// Takes emptied buffers.
    pub(super) back: SyncSender<Vec<u8>>,
}

impl Hands<'_> {
    /// Does one, durably.
    #[cfg(test)]
    pub(super) fn perform(&mut self, job: Job) -> std::io::Result<()> {
        self.begin(job).and_then(|()| self.settle())
    }

    /// Does one; what it adds is not synced yet.
    fn begin(&mut self, job: Job) -> std::io::Result<()> {
        match job {
            Job::Begin(path) => {
                (self.open, self.unsynced) = (None, 0);
                self.disk.make_folder(folder_of(&path))?;
                self.open = Some((self.disk.open(&path, How::Create)?, 0));
                self.disk.sync_folder(folder_of(&path))
            }
            Job::Append(mut bytes) => {
                let done = match &mut self.open {
                    None => Ok(()),
                    Some((file, at)) => file.write_at(*at, &bytes).map(|()| {
                        *at += bytes.len() as u64;
                        self.unsynced += 1;
                    }),
                };
                if bytes.capacity() <= SPARE_BYTES {
                    bytes.clear();
                    // With enough of them in use already, one goes.
                    let _ = self.back.try_send(bytes);
                }
                done
            }
            Job::Name(from, to) => {
                self.disk.rename(&from, &to)?;
                self.disk.sync_folder(folder_of(&to))
            }
            Job::Remove(path) => self.disk.remove(&path),
        }
    }

    /// Syncs what was added.
    fn settle(&mut self) -> std::io::Result<()> {
        match &self.open {
            Some((file, _)) if std::mem::take(&mut self.unsynced) > 0 => file.sync(),
            _ => Ok(()),
        }
    }
}

/// The thread.
pub(super) fn write(disk: &dyn Disk, jobs: &Receiver<Job>, back: SyncSender<Vec<u8>>, pulse: &Pulse) {
    let mut hands = Hands { disk, open: None, unsynced: 0, back };
    let (mut failing, mut next) = (false, None);
    while let Some(job) = next.take().or_else(|| jobs.recv().ok()) {
        let of_file = matches!(job, Job::Begin(_) | Job::Append(_));
        // With no file open an addition goes nowhere, and says nothing of the disk.
        let adds = matches!(job, Job::Append(_)) && hands.open.is_some();
        pulse.busy(Instant::now(), watch::DISK);
        let mut done = hands.begin(job);
        next = jobs.try_recv().ok();
        // A pre-roll that is caught up with comes in several pieces: one sync for those that wait already.
        if done.is_ok() && !(matches!(next, Some(Job::Append(_))) && hands.unsynced < PIECES) {
            done = hands.settle();
        }
        pulse.idle();
        match done {
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    say!("journal: {error}; recording goes on in memory");
                }
                if of_file {
                    // What follows in this file would not be read.
                    hands.open = None;
                }
            }
            Ok(()) if adds && failing && hands.unsynced == 0 => {
                failing = false;
                say!("journal: the disk takes it again");
            }
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
