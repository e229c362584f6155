//! The daemon's side of the socket: one worker process (or one worker that something else runs), started, spoken to,
//! ended.
//!
//! A child gets its end of a socket pair as its standard input: no path that others could reach. Nothing here waits
//! without a limit. A child is always reaped; one that does not end is killed.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::job::{Facts, FrameInput};
use crate::limits::{STOP_GRACE, WRITE_WITHIN};
use crate::protocol::{self, Fault, FrameReader, FromWorker, Incoming, ProtocolError, ToWorker};

/// How often a wait looks at its conditions.
const LOOK: Duration = Duration::from_millis(20);

/// How to come by a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// Start it: a program and its arguments. Its standard input is the socket, its standard error ours.
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
        /// Environment beyond ours.
        env: Vec<(OsString, OsString)>,
    },
    /// Connect to one that a service manager runs.
    Connect(PathBuf),
}

/// Why a worker could not be started or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The program does not start.
    #[error("{program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody listens.
    #[error("{path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The process is no more.
    #[error("the worker ended: {0}")]
    Died(String),
    /// What came is no frame of the protocol, or not one that a worker sends.
    #[error("the worker's socket: {0}")]
    Protocol(ProtocolError),
    /// The worker says that it cannot go on.
    #[error("the worker failed: {detail}")]
    Failed {
        /// Its reason.
        fault: Fault,
        /// In words.
        detail: String,
    },
    /// Nothing came in time.
    #[error("the worker said nothing for {0:.1} s")]
    Silent(f32),
    /// The caller wants no more.
    #[error("given up by the caller")]
    Stopped,
}

/// A worker that runs.
#[derive(Debug)]
pub struct Worker {
    child: Option<Child>,
    stream: UnixStream,
    reader: FrameReader,
}

impl Worker {
    /// Starts or reaches a worker; its model is not loaded yet.
    ///
    /// # Errors
    /// [`WorkerError::Start`] or [`WorkerError::Connect`].
    pub fn start(launch: &Launch) -> Result<Self, WorkerError> {
        let (child, stream) = match launch {
            Launch::Child { program, args, env } => {
                let failed = |source| WorkerError::Start { program: program.clone(), source };
                let (ours, theirs) = UnixStream::pair().map_err(failed)?;
                let child = Command::new(program)
                    .args(args)
                    .envs(env.iter().map(|(name, value)| (name, value)))
                    .stdin(Stdio::from(OwnedFd::from(theirs)))
                    .stdout(Stdio::null())
                    .spawn()
                    .map_err(failed)?;
                (Some(child), ours)
            }
            Launch::Connect(path) => {
                let stream =
                    UnixStream::connect(path).map_err(|source| WorkerError::Connect { path: path.clone(), source })?;
                (None, stream)
            }
        };
        let io = |e| WorkerError::Protocol(ProtocolError::Io(e));
        let worker = Self { child, stream, reader: FrameReader::default() };
        worker.stream.set_write_timeout(Some(WRITE_WITHIN)).map_err(io)?;
        worker.stream.set_read_timeout(Some(LOOK)).map_err(io)?;
        Ok(worker)
    }

    /// Process id of a child.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until the model is loaded.
    ///
    /// # Errors
    /// Any [`WorkerError`].
    pub fn ready(&mut self, within: Duration, stop: &dyn Fn() -> bool) -> Result<Facts, WorkerError> {
        match self.receive(within, stop)? {
            FromWorker::Ready(facts) => {
                facts.check().map_err(|detail| WorkerError::Failed { fault: Fault::Corrupt, detail })?;
                Ok(facts)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Says something.
    ///
    /// # Errors
    /// [`WorkerError::Died`] or [`WorkerError::Protocol`].
    pub fn send(&mut self, words: &ToWorker) -> Result<(), WorkerError> {
        let frame = protocol::control(words).map_err(WorkerError::Protocol)?;
        self.write(&frame)
    }

    /// Sends a frame of a job.
    ///
    /// # Errors
    /// The same.
    pub fn send_picture(&mut self, job: u32, frame: &FrameInput<'_>) -> Result<(), WorkerError> {
        let frame = protocol::picture(job, frame).map_err(WorkerError::Protocol)?;
        self.write(&frame)
    }

    fn write(&mut self, frame: &[u8]) -> Result<(), WorkerError> {
        protocol::send(&mut self.stream, frame).map_err(|error| match &error {
            ProtocolError::Io(e)
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                WorkerError::Silent(WRITE_WITHIN.as_secs_f32())
            }
            ProtocolError::Io(e) => {
                // What it said before it closed tells more than the broken pipe does.
                self.last_words().unwrap_or_else(|| WorkerError::Died(self.how_it_ended(&e.to_string())))
            }
            _ => WorkerError::Protocol(error),
        })
    }

    /// A worker that ended may have said why, among what was not read yet.
    fn last_words(&mut self) -> Option<WorkerError> {
        for _ in 0..8 {
            match self.reader.next(&mut self.stream) {
                Ok(Incoming::Report(FromWorker::Failed { fault, detail })) => {
                    return Some(WorkerError::Failed { fault, detail });
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// The next thing that the worker says, pongs included.
    ///
    /// # Errors
    /// Any [`WorkerError`]; after [`WorkerError::Silent`] and [`WorkerError::Stopped`] one may go on.
    pub fn receive(&mut self, within: Duration, stop: &dyn Fn() -> bool) -> Result<FromWorker, WorkerError> {
        let begun = Instant::now();
        loop {
            match self.reader.next(&mut self.stream) {
                Ok(Incoming::Report(FromWorker::Failed { fault, detail })) => {
                    return Err(WorkerError::Failed { fault, detail });
                }
                Ok(Incoming::Report(words)) => return Ok(words),
                Ok(_) => {
                    let reason = "it speaks as a daemon".to_owned();
                    return Err(WorkerError::Protocol(ProtocolError::Payload { kind: 0, reason }));
                }
                Err(ProtocolError::Quiet) => {}
                Err(error @ (ProtocolError::Closed | ProtocolError::Cut { .. })) => {
                    return Err(WorkerError::Died(self.how_it_ended(&error.to_string())));
                }
                Err(error) => return Err(WorkerError::Protocol(error)),
            }
            if stop() {
                return Err(WorkerError::Stopped);
            }
            if begun.elapsed() >= within {
                return Err(WorkerError::Silent(within.as_secs_f32()));
            }
        }
    }

    /// How a child ended, waited for briefly; else `otherwise`.
    fn how_it_ended(&mut self, otherwise: &str) -> String {
        let begun = Instant::now();
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if begun.elapsed() < STOP_GRACE => std::thread::sleep(LOOK),
                Ok(None) | Err(_) => break,
            }
        }
        otherwise.to_owned()
    }

    /// Ends it: asks, waits a moment, kills.
    pub fn end(mut self) {
        if self.child.is_some() && self.send(&ToWorker::Stop).is_ok() {
            let begun = Instant::now();
            while begun.elapsed() < STOP_GRACE && matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None))) {
                std::thread::sleep(LOOK);
            }
        }
        // Dropping kills what is left.
    }
}

impl Drop for Worker {
    /// Nothing outlives its handle: killed, and reaped so that no zombie stays.
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn unexpected(words: &FromWorker) -> WorkerError {
    let name = match words {
        FromWorker::Ready(_) => "ready",
        FromWorker::Label { .. } => "a label",
        FromWorker::Answers { .. } => "answers",
        FromWorker::Text { .. } => "a text",
        FromWorker::Refused { .. } => "a refusal",
        FromWorker::Failed { .. } => "a failure",
        FromWorker::Pong { .. } => "a pong",
    };
    WorkerError::Protocol(ProtocolError::Payload { kind: 3, reason: format!("{name} where it was not expected") })
}
