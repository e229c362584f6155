//! The worker: serves jobs over one Unix socket with any engine.
//!
//! A reader thread takes frames off the socket all the time: it answers pings, notes cancels and hands the rest to the
//! engine's thread through one bounded channel, so that a long computation never looks like a dead worker. The two
//! sides share only flags. When the daemon is gone the worker ends, in the middle of a computation if need be. Knows
//! no model: see [`Engine`].

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::job::{Answers, Facts, FrameInput, JobSpec, LabelAnswer};
use crate::limits::{ANSWER_MOST, CANCEL_GRACE, FRAME_MOST, LOAD_MOST, MAX_ANSWER_BYTES, WORKER_INBOX, WRITE_WITHIN};
use crate::protocol::{self, Fault, FrameReader, FromWorker, Incoming, Picture, ProtocolError, ToWorker};
use crate::pulse::Pulse;

/// A worker whose daemon is gone may finish its step for this long.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// Why an engine could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct EngineError {
    /// What kind of fault.
    pub fault: Fault,
    /// Its place, in words.
    pub detail: String,
}

impl EngineError {
    /// From a kind and words.
    #[must_use]
    pub fn new(fault: Fault, detail: impl std::fmt::Display) -> Self {
        Self { fault, detail: protocol::detail(&detail.to_string()) }
    }
}

/// A loaded model.
pub trait Engine {
    /// What it is.
    fn facts(&self) -> &Facts;
    /// Forgets the job before and begins a new one.
    ///
    /// # Errors
    /// The job does not fit the model.
    fn begin(&mut self, spec: &JobSpec) -> Result<(), EngineError>;
    /// Takes the next frame, and does at once what can be done with it.
    ///
    /// # Errors
    /// The frame does not fit, or memory does not.
    fn push_frame(&mut self, frame: &FrameInput<'_>) -> Result<(), EngineError>;
    /// Answers the six tasks. `cancel` is asked at every step of the work; `on_label` hears the label first.
    ///
    /// # Errors
    /// [`Fault::Cancelled`] when `cancel` said so.
    fn answer(
        &mut self,
        cancel: &dyn Fn() -> bool,
        on_label: &mut dyn FnMut(&LabelAnswer),
    ) -> Result<Answers, EngineError>;
    /// Answers a free question about the frames.
    ///
    /// # Errors
    /// [`Fault::Cancelled`] when `cancel` said so.
    fn ask(&mut self, question: &str, max_tokens: u16, cancel: &dyn Fn() -> bool) -> Result<String, EngineError>;
}

/// What both threads see.
#[derive(Default)]
struct Shared {
    /// Number of the job that was cancelled last.
    cancelled: AtomicU32,
    /// The daemon is gone, or breaks the protocol.
    gone: AtomicBool,
    /// The engine's thread has ended.
    done: AtomicBool,
    /// Steps of work, for pongs.
    steps: AtomicU64,
}

type Writer = Arc<Mutex<UnixStream>>;

fn tell(writer: &Writer, words: &FromWorker) -> Result<(), ProtocolError> {
    let frame = protocol::report(words)?;
    // A poisoned lock means that a write panicked, which writes do not; the stream is as good as before.
    let mut stream = writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    protocol::send(&mut *stream, &frame)
}

/// The socket that a daemon gave a child as its standard input.
///
/// # Errors
/// Standard input is something else: nobody starts a worker by hand this way.
pub fn stdin_socket() -> std::io::Result<UnixStream> {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    stream.peer_addr()?;
    Ok(stream)
}

/// The listening socket that a service manager gave as standard input; `None` where it is anything else.
///
/// # Errors
/// Standard input cannot be asked.
pub fn stdin_listener() -> std::io::Result<Option<UnixListener>> {
    let stdin = std::io::stdin();
    // Not even a socket: the answer is the same.
    if !rustix::net::sockopt::socket_acceptconn(&stdin).unwrap_or(false) {
        return Ok(None);
    }
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    Ok(Some(listener))
}

/// Serves one connection until the daemon closes it or says stop. `engine` is loaded by `load` when it is not there
/// yet, and stays for the next connection. The process ends when the daemon is gone and the engine does not come back.
/// `pulse` hears of every piece of work.
///
/// # Errors
/// What ended the connection, if it was not its regular end.
pub fn serve(
    stream: UnixStream,
    engine: &mut Option<Box<dyn Engine>>,
    load: &mut dyn FnMut() -> Result<Box<dyn Engine>, EngineError>,
    pulse: &Pulse,
) -> Result<(), ProtocolError> {
    let io = ProtocolError::Io;
    stream.set_write_timeout(Some(WRITE_WITHIN)).map_err(io)?;
    stream.set_read_timeout(None).map_err(io)?;
    let from = stream.try_clone().map_err(io)?;
    let shutdown = stream.try_clone().map_err(io)?;
    let writer: Writer = Arc::new(Mutex::new(stream));
    let shared = Arc::new(Shared::default());
    let (to_engine, inbox) = sync_channel(WORKER_INBOX);
    let (reader_writer, reader_shared) = (Arc::clone(&writer), Arc::clone(&shared));
    let reader = std::thread::Builder::new()
        .name("socket".to_owned())
        .spawn(move || read_all(from, &to_engine, &reader_writer, &reader_shared))
        .map_err(io)?;
    let ended = work(&inbox, &writer, &shared, engine, load, pulse);
    pulse.idle();
    shared.done.store(true, Ordering::Relaxed);
    // Wakes the reader, which then ends; the other side may have closed already.
    let _ = shutdown.shutdown(std::net::Shutdown::Both);
    let read = reader.join().unwrap_or(Ok(()));
    ended.and(read)
}

/// The reader thread. A broken frame is told and ends the connection.
fn read_all(
    mut from: UnixStream,
    to_engine: &SyncSender<Incoming>,
    writer: &Writer,
    shared: &Shared,
) -> Result<(), ProtocolError> {
    let mut frames = FrameReader::default();
    let ended = loop {
        let incoming = match frames.next(&mut from) {
            Ok(incoming) => incoming,
            Err(ProtocolError::Quiet) => continue,
            Err(ProtocolError::Closed) => break Ok(()),
            Err(_) if shared.done.load(Ordering::Relaxed) => break Ok(()),
            Err(error) => {
                let words = FromWorker::Failed { fault: Fault::Protocol, detail: protocol::detail(&error.to_string()) };
                // The other side may not read any more.
                let _ = tell(writer, &words);
                break Err(error);
            }
        };
        match incoming {
            Incoming::Control(ToWorker::Ping { nonce }) => {
                let steps = shared.steps.load(Ordering::Relaxed);
                if tell(writer, &FromWorker::Pong { nonce, steps }).is_err() {
                    break Ok(());
                }
            }
            Incoming::Control(ToWorker::Cancel { job }) => shared.cancelled.store(job, Ordering::Relaxed),
            other => {
                // A daemon that keeps to the caps never fills it.
                if let Err(TrySendError::Full(_)) = to_engine.try_send(other) {
                    let detail = "more frames than a job may have".to_owned();
                    let _ = tell(writer, &FromWorker::Failed { fault: Fault::Protocol, detail });
                    break Ok(());
                }
            }
        }
    };
    shared.gone.store(true, Ordering::Relaxed);
    let until = Instant::now() + ORPHAN_GRACE;
    while !shared.done.load(Ordering::Relaxed) {
        if Instant::now() >= until {
            let _ = writeln!(std::io::stderr(), "student worker: the daemon is gone and the engine does not come back");
            std::process::exit(1);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ended
}

/// The engine's thread.
fn work(
    inbox: &Receiver<Incoming>,
    writer: &Writer,
    shared: &Shared,
    engine: &mut Option<Box<dyn Engine>>,
    load: &mut dyn FnMut() -> Result<Box<dyn Engine>, EngineError>,
    pulse: &Pulse,
) -> Result<(), ProtocolError> {
    pulse.busy(Instant::now(), LOAD_MOST);
    let engine = match engine {
        Some(engine) => engine,
        None => match load().and_then(|e| match e.facts().check() {
            Ok(()) => Ok(e),
            Err(why) => Err(EngineError::new(Fault::Corrupt, why)),
        }) {
            Ok(loaded) => engine.insert(loaded),
            Err(error) => return tell(writer, &FromWorker::Failed { fault: error.fault, detail: error.detail }),
        },
    };
    tell(writer, &FromWorker::Ready(engine.facts().clone()))?;
    let mut session = Session { job: None, frames: 0 };
    loop {
        pulse.idle();
        let Ok(incoming) = inbox.recv() else { break };
        if shared.gone.load(Ordering::Relaxed) {
            break;
        }
        pulse.busy(Instant::now(), session.at_most(&incoming));
        let answer = match incoming {
            Incoming::Control(ToWorker::Stop) => break,
            Incoming::Control(ToWorker::Begin { job, spec }) => session.begin(engine.as_mut(), job, spec),
            Incoming::Control(ToWorker::Answer { job }) => session.answer(engine.as_mut(), job, writer, shared),
            Incoming::Picture(picture) => session.picture(engine.as_mut(), &picture, shared),
            // Pings and cancels never come here; a daemon does not speak as a worker.
            Incoming::Control(_) | Incoming::Report(_) => None,
        };
        shared.steps.fetch_add(1, Ordering::Relaxed);
        if let Some(words) = answer {
            tell(writer, &words)?;
        }
    }
    Ok(())
}

/// The job in work.
struct Session {
    job: Option<(u32, JobSpec)>,
    frames: usize,
}

impl Session {
    /// How long a message may keep the engine, for the watchdog: well beyond what the daemon itself waits.
    fn at_most(&self, incoming: &Incoming) -> Duration {
        let Incoming::Control(ToWorker::Answer { .. }) = incoming else { return FRAME_MOST };
        match &self.job {
            Some((_, spec)) if spec.deadline_ms > 0 => {
                Duration::from_millis(u64::from(spec.deadline_ms)) + 4 * CANCEL_GRACE
            }
            _ => ANSWER_MOST,
        }
    }

    fn refuse(&mut self, job: u32, error: EngineError) -> Option<FromWorker> {
        self.job = None;
        Some(FromWorker::Refused { job, fault: error.fault, detail: error.detail })
    }

    fn begin(&mut self, engine: &mut dyn Engine, job: u32, spec: JobSpec) -> Option<FromWorker> {
        self.frames = 0;
        if let Err(why) = spec.check() {
            return self.refuse(job, EngineError::new(Fault::Protocol, why));
        }
        if let Err(error) = engine.begin(&spec) {
            return self.refuse(job, error);
        }
        self.job = Some((job, spec));
        None
    }

    /// Pictures of a job that is not in work (refused, cancelled, replaced) are passed over.
    fn picture(&mut self, engine: &mut dyn Engine, picture: &Picture, shared: &Shared) -> Option<FromWorker> {
        let (job, most) = self.job.as_ref().map(|(job, spec)| (*job, usize::from(spec.frames)))?;
        if picture.job != job {
            return None;
        }
        if shared.cancelled.load(Ordering::Relaxed) == job {
            return self.refuse(job, EngineError::new(Fault::Cancelled, "cancelled while frames came"));
        }
        self.frames += 1;
        if self.frames > most {
            return self.refuse(job, EngineError::new(Fault::Protocol, format!("more than the {most} frames said")));
        }
        match engine.push_frame(&picture.input()) {
            Ok(()) => None,
            Err(error) => self.refuse(job, error),
        }
    }

    fn answer(&mut self, engine: &mut dyn Engine, job: u32, writer: &Writer, shared: &Shared) -> Option<FromWorker> {
        // Refused before: that was said.
        let (_, spec) = self.job.take().filter(|(number, _)| *number == job)?;
        let begun = Instant::now();
        let deadline = (spec.deadline_ms > 0).then(|| Duration::from_millis(u64::from(spec.deadline_ms)));
        let late = || deadline.is_some_and(|d| begun.elapsed() >= d);
        let cancel = || {
            shared.steps.fetch_add(1, Ordering::Relaxed);
            shared.gone.load(Ordering::Relaxed) || shared.cancelled.load(Ordering::Relaxed) == job || late()
        };
        let done = match &spec.question {
            Some(question) => engine
                .ask(question, spec.max_tokens, &cancel)
                .map(|text| FromWorker::Text { job, text: cut(text, MAX_ANSWER_BYTES) }),
            None => {
                let mut label_ms = None;
                let mut on_label = |label: &LabelAnswer| {
                    label_ms.get_or_insert_with(|| ms(begun));
                    // A daemon that does not read any more is noticed at the answers.
                    let _ = tell(writer, &FromWorker::Label { job, label: *label });
                };
                let answers = engine.answer(&cancel, &mut on_label);
                answers.and_then(|mut answers| {
                    let total_ms = ms(begun);
                    answers.timings = crate::job::Timings { label_ms: label_ms.unwrap_or(total_ms), total_ms };
                    answers.check().map_err(|why| EngineError::new(Fault::Failed, why))?;
                    Ok(FromWorker::Answers { job, answers })
                })
            }
        };
        match done {
            Ok(words) => Some(words),
            Err(error) if error.fault == Fault::Cancelled && late() => {
                self.refuse(job, EngineError::new(Fault::Deadline, "the job's deadline passed"))
            }
            Err(error) => self.refuse(job, error),
        }
    }
}

fn ms(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}

fn cut(mut text: String, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
