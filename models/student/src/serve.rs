//! The worker: serves jobs over a Unix socket with a [`Student`].
//!
//! A child of the daemon has the socket as its standard input; a worker of a service manager listens on the socket that
//! the manager gave it as standard input, or on a path that nobody else may open, says when it is ready and feeds the
//! manager's watchdog as long as its work gets on. What the socket carries and how it is bounded stands in [`agent_worker::serve`]. A model that
//! would not fit into the memory that is left is refused before it is loaded: the kernel kills without asking.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_worker::job::{Answers, Facts, FrameInput, JobSpec, LabelAnswer};
use agent_worker::protocol::Fault;
use agent_worker::pulse::Pulse;
use agent_worker::serve::{Engine, EngineError, serve, stdin_listener, stdin_socket};

use crate::error::StudentError;
use crate::file::ModelFile;
use crate::frames::Pruning;
use crate::session::{Backend, Device, Options, Student, texts};

/// Options of a worker, for the command line of both programs that have one.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// Model file (GGUF)
    #[arg(long)]
    pub model: PathBuf,
    /// Listen on this Unix socket; without it standard input is the daemon's socket, or the listening one of a
    /// service manager
    #[arg(long)]
    pub listen: Option<PathBuf>,
    /// What it runs on
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub device: DeviceArg,
    /// Which code computes on the CPU
    #[arg(long, value_enum, default_value_t = BackendArg::Candle)]
    pub backend: BackendArg,
    /// Threads on the CPU; 0 means all. For candle the environment's RAYON_NUM_THREADS says it
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Room for the tokens of one event; 0 means what the file's window needs
    #[arg(long, default_value_t = 0)]
    pub max_prefix_tokens: usize,
    /// How tokens of unchanged picture are dropped
    #[arg(long, value_enum, default_value_t = PruningArg::Upstream)]
    pub pruning: PruningArg,
    /// Refuse a model file of more than this, MB; 0 means what the system has left (CPU only)
    #[arg(long, default_value_t = 0)]
    pub memory_mb: u64,
}

/// See [`Device`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceArg {
    /// The CPU
    Cpu,
    /// The first NVIDIA GPU
    Cuda,
}

/// See [`Backend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendArg {
    /// The candle library
    Candle,
    /// Our own kernels
    Engine,
}

/// See [`Pruning`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PruningArg {
    /// VideoLLaMA3's rule, exactly
    Upstream,
    /// Its threshold scaled with the noise measured in the frames
    NoiseFloor,
}

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Standard input is not a socket, and no path was given.
    #[error("standard input is no socket: the daemon starts a worker with one, a service manager with --listen ({0})")]
    Stdin(std::io::Error),
    /// The socket's path cannot be used.
    #[error("{path}: {source}")]
    Listen {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke the protocol.
    #[error("the daemon's socket: {0}")]
    Protocol(#[from] agent_worker::protocol::ProtocolError),
}

/// Serves until the daemon is gone, or for ever with `listen`.
///
/// # Errors
/// See [`ServeError`]; a model that cannot be loaded is told to the daemon and is no error here.
pub fn worker(args: &WorkerArgs) -> Result<(), ServeError> {
    let mut load = || load(args);
    let pulse = Arc::new(Pulse::new(Instant::now()));
    let (listener, path) = match &args.listen {
        Some(path) => (bind(path).map_err(|source| ServeError::Listen { path: path.clone(), source })?, path.clone()),
        None => match stdin_listener().map_err(ServeError::Stdin)? {
            Some(listener) => (listener, PathBuf::from("standard input")),
            None => {
                let stream = stdin_socket().map_err(ServeError::Stdin)?;
                return Ok(serve(stream, &mut None, &mut load, &pulse)?);
            }
        },
    };
    tell_manager(&pulse);
    let mut engine = None;
    loop {
        let (stream, _) = listener.accept().map_err(|source| ServeError::Listen { path: path.clone(), source })?;
        // What one connection did wrong was told to it; the next one begins anew.
        let _ = serve(stream, &mut engine, &mut load, &pulse);
    }
}

/// Says that the worker is ready, and starts the thread that feeds the watchdog. Without a service manager that listens
/// neither does anything; a worker that cannot tell goes on working.
fn tell_manager(pulse: &Arc<Pulse>) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let Some(within) = sd_notify::watchdog_enabled().filter(|w| !w.is_zero()) else { return };
    let pulse = Arc::clone(pulse);
    // Half of the time, as sd_watchdog_enabled(3) advises.
    let every = (within / 2).max(Duration::from_millis(10));
    let feed = move || {
        while pulse.alive(Instant::now()) {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            std::thread::sleep(every);
        }
    };
    // Without the thread the manager restarts the worker, which is said in its log.
    let _ = std::thread::Builder::new().name("watchdog".to_owned()).spawn(feed);
}

/// A socket that only this user may open. One that a worker left behind is taken over, one that is in use is not.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty() && !f.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    if path.exists() && UnixStream::connect(path).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What a model is, what the codes of its reports mean among it, from its file alone; `device` is empty.
///
/// # Errors
/// What is wrong with the file.
pub fn facts(path: &Path) -> Result<Facts, StudentError> {
    Ok(texts(&ModelFile::open(path)?)?.facts)
}

fn load(args: &WorkerArgs) -> Result<Box<dyn Engine>, EngineError> {
    if args.device == DeviceArg::Cpu {
        admit(&args.model, args.memory_mb)?;
    }
    let options = Options {
        device: match args.device {
            DeviceArg::Cpu => Device::Cpu,
            DeviceArg::Cuda => Device::Cuda(0),
        },
        threads: args.threads,
        max_prefix_tokens: (args.max_prefix_tokens > 0).then_some(args.max_prefix_tokens),
        pruning: match args.pruning {
            PruningArg::Upstream => Pruning::Upstream,
            PruningArg::NoiseFloor => Pruning::NoiseFloor,
        },
        backend: match args.backend {
            BackendArg::Candle => Backend::Candle,
            BackendArg::Engine => Backend::Engine,
        },
        ..Options::default()
    };
    Ok(Box::new(Served(Student::open(&args.model, &options).map_err(|e| fault(&e))?)))
}

/// Refuses a file whose weights alone are more than the memory that may be taken.
fn admit(model: &Path, memory_mb: u64) -> Result<(), EngineError> {
    let Ok(bytes) = std::fs::metadata(model).map(|m| m.len()) else { return Ok(()) };
    let (room, whose) = match memory_mb {
        0 => (available_bytes(), "the system has left"),
        mb => (Some(mb.saturating_mul(1_000_000)), "it may take"),
    };
    match room {
        Some(room) if bytes > room => {
            let [need, room] = [bytes, room].map(|b| b as f64 / 1e6);
            let detail = format!("the model file takes {need:.0} MB, {whose} {room:.0} MB");
            Err(EngineError::new(Fault::OutOfMemory, detail))
        }
        _ => Ok(()),
    }
}

/// `MemAvailable` of the kernel; `None` where there is no such file.
fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

/// What kind of fault an error is to the daemon.
fn fault(error: &StudentError) -> EngineError {
    let text = error.to_string();
    let lower = text.to_lowercase();
    let memory = ["out of memory", "out_of_memory", "cannot allocate", "outofmemory"].iter().any(|w| lower.contains(w));
    let kind = match error {
        StudentError::Cancelled => Fault::Cancelled,
        _ if memory => Fault::OutOfMemory,
        StudentError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Fault::NotInstalled,
        StudentError::File { .. } | StudentError::Key { .. } | StudentError::Tensor { .. } => Fault::Corrupt,
        StudentError::Tokenizer { .. } => Fault::Corrupt,
        _ => Fault::Failed,
    };
    EngineError::new(kind, text)
}

/// A student behind the socket.
struct Served(Student);

impl Engine for Served {
    fn facts(&self) -> &Facts {
        self.0.facts()
    }

    fn begin(&mut self, spec: &JobSpec) -> Result<(), EngineError> {
        self.0.begin(spec).map_err(|e| fault(&e))
    }

    fn push_frame(&mut self, frame: &FrameInput<'_>) -> Result<(), EngineError> {
        self.0.push_frame(frame).map_err(|e| fault(&e))
    }

    fn answer(
        &mut self,
        cancel: &dyn Fn() -> bool,
        on_label: &mut dyn FnMut(&LabelAnswer),
    ) -> Result<Answers, EngineError> {
        self.0.answer(cancel, on_label).map_err(|e| fault(&e))
    }

    fn ask(&mut self, question: &str, max_tokens: u16, cancel: &dyn Fn() -> bool) -> Result<String, EngineError> {
        self.0.ask(question, max_tokens, cancel).map_err(|e| fault(&e))
    }
}
