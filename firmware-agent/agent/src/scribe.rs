//! Evidence of `run`, written a piece at a time: the core makes the bytes out of its rings and a thread puts them on the disk. Neither
//! waits for the other, so that a disk that is slow, or hangs, costs no frame and no alert.
//!
//! Terms: a *piece* is what the rings hold of a quarter of a second; a *part* is the file of an event that is not whole yet. One event is
//! written at a time, in the order in which they closed; the rings keep what the others need. An event that is reported before it
//! was written (its deadline has come, the disk still hangs) is given up: of a crash what is there stays as a part, which the next
//! start finds; of a lesser event nothing stays.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use agent_core::agent::Agent;
use agent_core::limits::MAX_OPEN_EVENTS;
use agent_core::time::{MonoTime, Span};
use agent_disk::{Disk, DiskFile, How};
use agent_drive::{Chained, DriveInfo, DriveWriter, NoSeek};
use agent_wire::{EventId, EvidenceFile, Severity};
use anyhow::Context as _;

use crate::evidence::{self, Durability, LESSER};
use crate::room::Place;
use crate::show::say;
use crate::signer::Signer;

/// Length of a piece: at the highest rates that a configuration may have it is written in milliseconds, and up to four of them are
/// in memory.
const PIECE: Span = Span::from_ms(250);
/// Pieces that are looked at in one turn at most.
const PIECES: usize = 4;
/// Jobs that wait for the disk, each with what a piece adds at most.
const JOBS: usize = 2;
/// Other jobs that wait for a place among them: commands of the fleet, and room for the outbox.
const WAITING: usize = 16;

/// Events that wait to be written: several times what the core has open, because those whose report was due before the disk
/// answered are found out only then.
const CLOSED: usize = 8 * MAX_OPEN_EVENTS;

/// What the thread does.
#[derive(Debug)]
pub(crate) enum Job {
    /// Makes room and a part for an event; what follows is its.
    Begin { event: EventId, crash: bool },
    /// Adds to the part.
    Append(Vec<u8>),
    /// Makes it safe and gives it its name.
    Finish,
    /// It is not wanted any more.
    GiveUp,
    /// Makes room for the outbox, if the disk is full.
    Relieve,
    /// Keeps the evidence of an event for good.
    Keep(EventId),
}

/// What came of a job.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// The evidence of an event is safe, or could not be made so.
    pub(crate) sealed: Option<(EventId, Option<EvidenceFile>)>,
    /// Lesser files that were deleted to make room.
    pub(crate) gone: u32,
}

/// Bytes on their way from a writer to a thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    /// What was written, in exchange for an empty buffer.
    pub(crate) fn take(&self, spare: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), spare)
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file of an event in the making.
struct Sheet {
    event: EventId,
    writer: DriveWriter<NoSeek<Chained<Bytes>>>,
    bytes: Bytes,
    next: MonoTime,
    end: MonoTime,
}

/// The core's side.
pub(crate) struct Scribe {
    info: DriveInfo,
    signer: Signer,
    jobs: SyncSender<Job>,
    /// Buffers that come back.
    spare: Receiver<Vec<u8>>,
    /// Jobs that found no place.
    waiting: VecDeque<Job>,
    /// Events that closed, and when: nothing later is theirs.
    closed: VecDeque<(EventId, MonoTime)>,
    sheet: Option<Sheet>,
    /// What has been taken out of the rings, until it is asked for.
    taken: Option<(EventId, MonoTime)>,
}

impl Scribe {
    /// With the ends that the thread gets.
    pub(crate) fn new(info: DriveInfo, signer: Signer) -> (Self, Receiver<Job>, SyncSender<Vec<u8>>) {
        let ((jobs, taken), (back, spare)) = (sync_channel(JOBS), sync_channel(JOBS + 1));
        let (waiting, closed) = (VecDeque::with_capacity(WAITING), VecDeque::with_capacity(CLOSED));
        (Self { info, signer, jobs, spare, waiting, closed, sheet: None, taken: None }, taken, back)
    }

    /// An event closed at `now`: it is written from the next turns on. False if too many wait: then it is not.
    pub(crate) fn on_closed(&mut self, event: &EventId, now: MonoTime) -> bool {
        let fits = self.closed.len() < CLOSED;
        if fits {
            self.closed.push_back((event.clone(), now));
        }
        fits
    }

    /// Whether something is being written, or waits for it.
    pub(crate) fn busy(&self) -> bool {
        self.sheet.is_some() || !self.closed.is_empty() || !self.waiting.is_empty()
    }

    /// Another job for the thread; it comes back if too many wait.
    pub(crate) fn ask(&mut self, job: Job) -> Result<(), Job> {
        if self.waiting.len() >= WAITING {
            return Err(job);
        }
        self.waiting.push_back(job);
        Ok(())
    }

    /// To be called many times a second. Takes the rings' next pieces, unless the disk is behind. Returns an event that will have no
    /// evidence.
    pub(crate) fn turn(&mut self, agent: &Agent) -> Option<EventId> {
        if !self.hand_over() {
            return None;
        }
        let without = self.write(agent);
        self.hand_over();
        without
    }

    /// The next pieces, until one of them gives something for the disk.
    fn write(&mut self, agent: &Agent) -> Option<EventId> {
        if self.sheet.is_none() {
            // Buffers are there while an event is written, and not between.
            while self.spare.try_recv().is_ok() {}
            let (event, end) = self.closed.pop_front()?;
            match self.begin(agent, &event, end) {
                Ok(sheet) => self.sheet = Some(sheet),
                Err(why) => return failed(event, &why),
            }
        }
        for _ in 0..PIECES {
            let sheet = self.sheet.take()?;
            let event = sheet.event.clone();
            match self.piece(agent, sheet) {
                Ok(open) => self.sheet = open,
                Err(why) => {
                    self.waiting.push_back(Job::GiveUp);
                    return failed(event, &why);
                }
            }
            if !self.waiting.is_empty() {
                break;
            }
        }
        None
    }

    /// Up to which time an event was taken out of the rings, if further than when this was asked last: they need not keep that.
    pub(crate) fn taken(&mut self) -> Option<(EventId, MonoTime)> {
        self.taken.take()
    }

    fn begin(&mut self, agent: &Agent, event: &EventId, end: MonoTime) -> Result<Sheet, String> {
        let view = agent.evidence(event).ok_or(LATE)?;
        let crash = view.event().severity >= Severity::Severe;
        let bytes = Bytes::default();
        let writer =
            evidence::begin(bytes.clone(), &view, &self.info, &self.signer).map_err(|error| error.to_string())?;
        self.waiting.push_back(Job::Begin { event: event.clone(), crash });
        Ok(Sheet { event: event.clone(), writer, bytes, next: view.begins(), end })
    }

    /// The next piece of a sheet, which comes back unless it was the last.
    fn piece(&mut self, agent: &Agent, mut sheet: Sheet) -> Result<Option<Sheet>, String> {
        let view = agent.evidence(&sheet.event).ok_or(LATE)?;
        let to = (sheet.next + PIECE).min(sheet.end);
        let piece = view.piece(sheet.next, to);
        evidence::write_recorded(&mut sheet.writer, &piece).map_err(|error| error.to_string())?;
        sheet.next = to + Span(1);
        self.taken = Some((sheet.event.clone(), to));
        let (bytes, ends) = (sheet.bytes.clone(), to >= sheet.end);
        let left = if ends {
            sheet.writer.finish().map_err(|error| error.to_string())?;
            None
        } else {
            Some(sheet)
        };
        if !bytes.is_empty() {
            let spare = if ends { Vec::new() } else { self.spare.try_recv().unwrap_or_default() };
            self.waiting.push_back(Job::Append(bytes.take(spare)));
        }
        if ends {
            self.waiting.push_back(Job::Finish);
        }
        Ok(left)
    }

    /// Hands jobs to the thread; whether all went.
    fn hand_over(&mut self) -> bool {
        while let Some(job) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job) {
                self.waiting.push_front(job);
                return false;
            }
        }
        true
    }
}

/// Why an event is given up.
const LATE: &str = "the disk did not take it before its report was due";

fn failed(event: EventId, why: &str) -> Option<EventId> {
    say!("evidence of {event} could not be written: {why}");
    Some(event)
}

/// The part that is open.
#[derive(Debug)]
struct Part {
    event: EventId,
    crash: bool,
    part: PathBuf,
    path: PathBuf,
    at: u64,
    /// Or why it cannot be written.
    file: Result<Box<dyn DiskFile>, anyhow::Error>,
}

/// The thread's side: jobs, one after the other, on a disk.
#[derive(Debug)]
pub(crate) struct Keeper {
    disk: Arc<dyn Disk>,
    place: Place,
    durability: Durability,
    /// Takes emptied buffers.
    back: SyncSender<Vec<u8>>,
    open: Option<Part>,
}

impl Keeper {
    pub(crate) fn new(disk: Arc<dyn Disk>, place: Place, durability: Durability, back: SyncSender<Vec<u8>>) -> Self {
        Self { disk, place, durability, back, open: None }
    }

    /// Does one. It says what fails.
    pub(crate) fn perform(&mut self, job: Job) -> Done {
        match job {
            Job::Begin { event, crash } => self.begin(event, crash),
            Job::Append(bytes) => self.append(bytes),
            Job::Finish => self.finish(),
            Job::GiveUp => {
                self.give_up();
                Done::default()
            }
            Job::Relieve => {
                let gone = self.place.relieve(&*self.disk);
                if gone > 0 {
                    say!("evidence: {gone} lesser files deleted to make room for the outbox");
                }
                Done { gone, ..Done::default() }
            }
            Job::Keep(event) => {
                match self.place.keep(&*self.disk, &event) {
                    Ok(()) => say!("evidence of {event} is kept by command"),
                    Err(error) => say!("evidence of {event} cannot be kept: {error}"),
                }
                Done::default()
            }
        }
    }

    fn begin(&mut self, event: EventId, crash: bool) -> Done {
        self.give_up();
        let (gone, room) = self.place.make_room(&*self.disk);
        if gone > 0 || !room {
            let alone = if room { "" } else { "; crashes alone pass the quota" };
            say!("evidence: {gone} lesser files deleted to make room{alone}");
        }
        let to = if crash { self.place.folder.clone() } else { self.place.folder.join(LESSER) };
        let (part, path) = evidence::names(&to, &event);
        let file = self.disk.make_folder(&to).and_then(|()| self.disk.open(&part, How::Create));
        let file = file.with_context(|| part.display().to_string());
        self.open = Some(Part { event, crash, part, path, at: 0, file });
        Done { gone, ..Done::default() }
    }

    /// On a full disk lesser evidence goes, as much as an event may need at a time, until it fits or none is left.
    fn append(&mut self, mut bytes: Vec<u8>) -> Done {
        let mut gone = 0;
        if let Some(open) = &mut self.open
            && let Ok(file) = &open.file
        {
            // Each time round at least one file goes, so this ends.
            while let Err(error) = file.write_at(open.at, &bytes) {
                let more = self.place.relieve(&*self.disk);
                gone += more;
                if more == 0 {
                    open.file = Err(anyhow::Error::from(error).context(open.part.display().to_string()));
                    break;
                }
            }
            open.at += bytes.len() as u64;
        }
        bytes.clear();
        // With enough of them in use already, one goes.
        let _ = self.back.try_send(bytes);
        Done { gone, ..Done::default() }
    }

    fn finish(&mut self) -> Done {
        let Some(open) = self.open.take() else { return Done::default() };
        let sealed = match &open.file {
            Ok(_) => evidence::seal(&*self.disk, &open.part, &open.path, self.durability)
                .inspect_err(|error| say!("evidence of {} is not safe on disk: {error:#}", open.event))
                .ok(),
            Err(error) => {
                say!("evidence of {} could not be written: {error:#}", open.event);
                self.leave(&open);
                None
            }
        };
        Done { sealed: Some((open.event, sealed)), gone: 0 }
    }

    fn give_up(&mut self) {
        if let Some(open) = self.open.take() {
            self.leave(&open);
        }
    }

    /// What is there of a crash stays, and is found by the next start.
    fn leave(&self, open: &Part) {
        if !open.crash {
            // It is not there at all when the disk took nothing.
            let _ = self.disk.remove(&open.part);
        }
    }
}

/// Both sides in one thread: the evidence of an event that closed, on a disk of a test.
#[cfg(test)]
pub(crate) fn at_once(
    (disk, place, durability): (Arc<dyn Disk>, Place, Durability),
    agent: &Agent,
    event: &EventId,
    signer: &Signer,
) -> Done {
    let (mut scribe, jobs, back) = Scribe::new(DriveInfo::new("simulated"), signer.clone());
    let mut keeper = Keeper::new(disk, place, durability, back);
    let mut all = Done::default();
    assert!(scribe.on_closed(event, agent.now()));
    while scribe.busy() {
        assert_eq!(scribe.turn(agent), None, "memory takes all of it");
        while let Ok(job) = jobs.try_recv() {
            let done = keeper.perform(job);
            all.gone += done.gone;
            all.sealed = done.sealed.or(all.sealed);
        }
    }
    all
}

#[cfg(test)]
#[path = "scribe_tests.rs"]
mod tests;
