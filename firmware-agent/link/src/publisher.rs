//! The handle of the link: messages in, counts and commands out.
//!
//! A message is encoded on the caller's thread and stored on the link's: [`Link::enqueue`] never waits for the disk,
//! and a message accepted by it is durable one disk sync later, before it is published. Whoever must know that it is
//! durable (replay, tests) uses [`Link::enqueue_durable`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agent_core::outbox::{Class, GivenUp, OutboxLimits, Refusal};
use agent_wire::limits::{MESSAGE_BYTES, VERSION_BYTES};
use agent_wire::{Command, EncodeError, Hash8, Message, MessageKind, Severity, UnitId, encode};
use tokio::sync::{mpsc, oneshot};

use crate::backoff::BackoffConfig;
use crate::broker::{Broker, BrokerError};
use crate::commands::{CommandPolicy, CommandRefusal};
use crate::keeper::Keeper;
use crate::limits::{COMMANDS, MAX_BROKERS, QUEUE, QUEUE_RESERVED};
use crate::store::{Opened, Store};
use crate::tls::{Tls, TlsError};
use crate::worker::{Request, Worker};

/// Everything that a link must be told.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Where the preferred broker is.
    pub broker: Broker,
    /// Others, in the order in which they are preferred after it; at most [`MAX_BROKERS`] in all.
    pub others: Vec<Broker>,
    /// After failing for so long a broker gives way to the next.
    pub fall_over: Duration,
    /// While another than the preferred one is in use, those before it are tried so often.
    pub return_after: Duration,
    /// Certificates, for `mqtts`: the same for all brokers.
    pub tls: Option<Tls>,
    /// MQTT client id; two connections with the same id throw each other out.
    pub client_id: String,
    /// Second level of the topics.
    pub fleet: UnitId,
    /// Third level of the topics.
    pub unit: UnitId,
    /// From [`Store::next_boot`].
    pub boot: u32,
    /// Software version for the status; cut to 24 bytes.
    pub version: String,
    /// Hash of the configuration in force.
    pub config: Hash8,
    /// MQTT keep-alive.
    pub keep_alive: Duration,
    /// Longest time for connecting, whole seconds, at least 1.
    pub connect_timeout_s: u64,
    /// Connected, something in flight and no acknowledgement for this long: the connection is thrown away. Doubles
    /// while that does not help, to 120 s, so that a slow broker is not asked again and again.
    pub watchdog: Duration,
    /// Caps and ages of the outbox.
    pub limits: OutboxLimits,
    /// Whose commands are taken.
    pub commands: CommandPolicy,
    /// Waits between connections.
    pub backoff: BackoffConfig,
    /// Seed of their jitter: different for each unit.
    pub seed: u64,
}

impl LinkConfig {
    /// Defaults for a unit: client id `fleet-unit`, jitter seeded from the unit's name.
    #[must_use]
    pub fn new(broker: Broker, fleet: UnitId, unit: UnitId, boot: u32) -> Self {
        let name = unit.as_str().bytes();
        Self {
            broker,
            others: Vec::new(),
            fall_over: Duration::from_secs(30),
            return_after: Duration::from_secs(300),
            tls: None,
            client_id: format!("{fleet}-{unit}"),
            seed: name.fold(u64::from(boot), |seed, byte| seed.wrapping_mul(0x100_0000_01B3) ^ u64::from(byte)),
            fleet,
            unit,
            boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: Hash8::default(),
            keep_alive: Duration::from_secs(15),
            connect_timeout_s: 4,
            watchdog: Duration::from_secs(10),
            limits: OutboxLimits::default(),
            commands: CommandPolicy::default(),
            backoff: BackoffConfig::default(),
        }
    }
}

/// Why a link does not start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The broker's address or the client id.
    #[error("broker: {0}")]
    Broker(#[from] BrokerError),
    /// The certificates for `mqtts://`.
    #[error("certificates: {0}")]
    Tls(#[from] TlsError),
    /// The system gave no thread or no event queue.
    #[error("cannot start the link's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// The link publishes status itself, and commands go the other way.
    #[error("a {0:?} is not sent by this way")]
    Kind(MessageKind),
    /// It does not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The link has not stored the earlier ones yet: try again. Places are kept free for crash messages.
    #[error("the queue to the link is full ({QUEUE} messages)")]
    QueueFull,
    /// The outbox's policy refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk failed; the message is held in memory and will be sent, but a power cut would lose it.
    #[error("message {key} is not on disk: the store failed")]
    NotDurable {
        /// Its key.
        key: u64,
    },
    /// No answer in the time given; the message may still be stored.
    #[error("not stored within {0:?}")]
    Timeout(Duration),
    /// The link has ended.
    #[error("the link has stopped")]
    Stopped,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkStats {
    /// Whether a session stands.
    pub connected: bool,
    /// Messages taken by [`Link::enqueue`].
    pub enqueued: u64,
    /// Of these, how many the link's thread has looked at.
    pub taken: u64,
    /// Messages found on disk at the start.
    pub restored: u64,
    /// Messages written durably.
    pub stored: u64,
    /// Transactions for that, and the time they took in all.
    pub commits: u64,
    /// Time in those transactions.
    pub commit_time: Duration,
    /// Failures of the store.
    pub store_errors: u64,
    /// How often the disk did not answer in the time that the link waits for it.
    pub store_hangs: u64,
    /// The store does not work now: what is new is held in memory alone.
    pub store_failing: bool,
    /// Messages that are only in memory because the store failed.
    pub not_durable: usize,
    /// Messages that the broker does not have yet.
    pub waiting: usize,
    /// Of these, in flight.
    pub in_flight: usize,
    /// Alerts acknowledged.
    pub acked_alerts: u64,
    /// Reports acknowledged.
    pub acked_reports: u64,
    /// Other messages acknowledged.
    pub acked_other: u64,
    /// Acknowledgements of nothing that waited.
    pub stray_acks: u64,
    /// Sessions in which the broker refused the subscription to commands.
    pub subscriptions_refused: u64,
    /// Given up by the written policy.
    pub given_up: GivenUp,
    /// Which broker is in use or tried: its place in the order of preference, from 0.
    pub broker: usize,
    /// How often another broker came into use.
    pub broker_changes: u64,
    /// Sessions that stood.
    pub connects: u64,
    /// Sessions or attempts that ended.
    pub disconnects: u64,
    /// Of these, refused by the broker.
    pub refused: u64,
    /// Of these, thrown away by the watchdog.
    pub watchdog: u64,
    /// Commands handed to the agent.
    pub commands_taken: u64,
    /// Commands refused.
    pub commands_refused: u64,
    /// Why the last one was.
    pub last_refusal: Option<CommandRefusal>,
    /// Why the last session or attempt ended, at most 300 characters.
    pub last_end: Option<String>,
    /// The last failure of the store.
    pub last_store_error: Option<String>,
}

/// What the handle and the thread share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    stats: Mutex<LinkStats>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, LinkStats> {
        // Counts stay usable after a panic elsewhere.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) {
        self.changed.notify_all();
    }
}

/// The running link. Dropping it ends it at once: what was accepted is stored first, nothing more is published, and
/// the broker publishes the last will. [`Link::stop`] says goodbye.
#[derive(Debug)]
pub struct Link {
    requests: mpsc::Sender<Request>,
    stop: Option<oneshot::Sender<Duration>>,
    commands: Mutex<mpsc::Receiver<Command>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts the link's thread; connecting goes on in the background, for ever.
    ///
    /// # Errors
    /// The client id or the certificates are unusable, or the system gives no thread.
    pub fn start(config: LinkConfig, store: Store, opened: Opened) -> Result<Self, LinkError> {
        let mut brokers = Vec::with_capacity(1 + config.others.len());
        for broker in std::iter::once(&config.broker).chain(&config.others).take(MAX_BROKERS) {
            let secure = broker.secure(config.tls.as_ref())?;
            broker.options(&config.client_id, config.keep_alive, secure.as_ref())?;
            brokers.push((broker.clone(), secure));
        }
        let (requests, request_queue) = mpsc::channel(QUEUE);
        let (stop, stop_signal) = oneshot::channel();
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared::default());
        let store = Keeper::start(store)?;
        let worker = Worker::new(config, brokers, store, opened, Arc::clone(&shared), command_sender);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || runtime.block_on(worker.run(request_queue, stop_signal)))?;
        Ok(Self { requests, stop: Some(stop), commands: Mutex::new(commands), shared, thread: Some(thread) })
    }

    /// Takes a message for storing and sending. Never waits.
    ///
    /// # Errors
    /// Not taken: see [`EnqueueError`]. On `QueueFull` the caller keeps the message and tries again.
    pub fn enqueue(&self, message: &Message) -> Result<(), EnqueueError> {
        self.put(message, None)
    }

    /// Takes a message and waits until it is on disk; returns its key.
    ///
    /// # Errors
    /// See [`EnqueueError`].
    pub fn enqueue_durable(&self, message: &Message, within: Duration) -> Result<u64, EnqueueError> {
        let (done, answer) = std_mpsc::sync_channel(1);
        self.put(message, Some(done))?;
        answer.recv_timeout(within).map_err(|e| match e {
            std_mpsc::RecvTimeoutError::Timeout => EnqueueError::Timeout(within),
            std_mpsc::RecvTimeoutError::Disconnected => EnqueueError::Stopped,
        })?
    }

    fn put(
        &self,
        message: &Message,
        done: Option<std_mpsc::SyncSender<Result<u64, EnqueueError>>>,
    ) -> Result<(), EnqueueError> {
        let (class, crash) = class_of(message)?;
        if !crash && self.requests.capacity() <= QUEUE_RESERVED {
            return Err(EnqueueError::QueueFull);
        }
        let payload = encode(message, &mut [0; MESSAGE_BYTES])?.to_vec();
        let request = Request { class, crash, kind: message.kind(), payload, done };
        // Counted under the lock, so that `drain` cannot look between the queue and the outbox.
        let mut stats = self.shared.lock();
        self.requests.try_send(request).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => EnqueueError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => EnqueueError::Stopped,
        })?;
        stats.enqueued += 1;
        Ok(())
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        self.shared.lock().clone()
    }

    /// The next command from the fleet, if one waits. Each is handed out once.
    #[must_use]
    pub fn try_command(&self) -> Option<Command> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// How many commands were refused, and why the last one was.
    #[must_use]
    pub fn refusals(&self) -> (u64, Option<CommandRefusal>) {
        let stats = self.shared.lock();
        (stats.commands_refused, stats.last_refusal)
    }

    /// Waits until the broker has everything that was enqueued, or the time is over. True if it has.
    #[must_use]
    pub fn drain(&self, within: Duration) -> bool {
        self.wait_for(within, |s| s.waiting == 0 && s.taken == s.enqueued)
    }

    /// Waits until `done` holds of the counts, or the time is over. True if it held.
    #[must_use]
    pub fn wait_for(&self, within: Duration, mut done: impl FnMut(&LinkStats) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut stats = self.shared.lock();
        while !done(&stats) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return false;
            }
            // Looks again now and then, so that an ended thread is noticed.
            let wait = left.min(Duration::from_millis(200));
            stats = self.shared.changed.wait_timeout(stats, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Drains for at most `within`, publishes the status "stopped", disconnects and ends the thread. What was not
    /// acknowledged stays on disk.
    pub fn stop(mut self, within: Duration) -> LinkStats {
        if let Some(stop) = self.stop.take() {
            // Fails only when the thread has ended already.
            let _ = stop.send(within);
        }
        self.join();
        self.stats()
    }

    fn join(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook; the store is closed either way.
            let _ = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.join();
    }
}

/// Class and crash flag of a message.
fn class_of(message: &Message) -> Result<(Class, bool), EnqueueError> {
    match message {
        Message::Alert(alert) => Ok((Class::Alert, alert.severity >= Severity::Severe)),
        Message::Report(report) => Ok((Class::Report, report.severity >= Severity::Severe)),
        Message::Health(_) => Ok((Class::Other, false)),
        Message::Status(_) | Message::Command(_) => Err(EnqueueError::Kind(message.kind())),
    }
}

/// A status of this unit, encoded.
pub(crate) fn status_bytes(config: &LinkConfig, state: agent_wire::UnitState, broker: u8) -> Vec<u8> {
    let mut version = heapless::String::<VERSION_BYTES>::new();
    for c in config.version.chars() {
        if version.push(c).is_err() {
            break;
        }
    }
    let (unit, boot) = (config.unit.clone(), config.boot);
    let status = agent_wire::Status { unit, boot, state, version, config: config.config, broker };
    // A status always fits (see agent-wire's tests); an empty payload would be refused by the listener by name.
    encode(&Message::Status(status), &mut [0; MESSAGE_BYTES]).map(<[u8]>::to_vec).unwrap_or_default()
}
