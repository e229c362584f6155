//! The fleet side: subscribes, decodes, marks duplicates.
//!
//! Whatever a payload holds, it comes out: as a message or as a named error with its topic. A publish is acknowledged
//! only after it was handed to the caller's queue, and with [`ListenConfig::persistent`] the broker keeps what comes
//! while the listener is away. Memory for duplicates is bounded ([`crate::limits::SEEN`]): an older duplicate than
//! that comes out unmarked.
//!
//! A raised alert may arrive after its earlier revision came again: readers keep the highest revision.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use agent_wire::{DecodeError, EventId, Message, MessageKind, UnitId, decode};
use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, Publish, QoS};
use tokio::sync::{mpsc, oneshot};

use crate::backoff::{Backoff, BackoffConfig};
use crate::broker::Broker;
use crate::connection::end_of;
use crate::limits::{EVENTS, LISTENER_PACKET_BYTES, OUTGOING_PACKET_BYTES, RECEIVED, SEEN};
use crate::publisher::LinkError;
use crate::tls::Tls;

/// What to listen to.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Where the broker is.
    pub broker: Broker,
    /// Certificates, for `mqtts`.
    pub tls: Option<Tls>,
    /// MQTT client id.
    pub client_id: String,
    /// Topic filter.
    pub filter: String,
    /// Whether the broker keeps messages for this client id while the listener is away.
    pub persistent: bool,
    /// MQTT keep-alive.
    pub keep_alive: Duration,
}

impl ListenConfig {
    /// All units of all fleets, nothing kept while away.
    #[must_use]
    pub fn new(broker: Broker, client_id: &str) -> Self {
        Self {
            broker,
            tls: None,
            client_id: client_id.to_owned(),
            filter: "fleet/+/+/#".to_owned(),
            persistent: false,
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// Why a payload is not a message of its topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// Not a message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The topic is not `fleet/<fleet>/<unit>/<kind>`.
    #[error("the topic is not fleet/<fleet>/<unit>/<kind>")]
    Topic,
    /// The message is of another kind than the topic says.
    #[error("a {0:?} on this topic")]
    Kind(MessageKind),
    /// The message names another unit than the topic.
    #[error("the message is from unit {0}")]
    Unit(UnitId),
}

/// One payload that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it was published.
    pub topic: String,
    /// What it says, or why it says nothing.
    pub message: Result<Message, ReceiveError>,
    /// The same event, kind and revision came before.
    pub duplicate: bool,
    /// Whether the broker kept it for new subscribers.
    pub retained: bool,
    /// Size of the payload, bytes.
    pub bytes: usize,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenStats {
    /// Whether the subscription stands.
    pub subscribed: bool,
    /// Sessions whose subscription was confirmed.
    pub sessions: u64,
    /// Sessions or attempts that ended.
    pub ended: u64,
    /// Payloads that were no message.
    pub refused: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Why the last session ended.
    pub last_end: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<ListenStats>,
    changed: Condvar,
}

/// The running listener; dropping it ends it.
#[derive(Debug)]
pub struct Listener {
    received: std_mpsc::Receiver<Received>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts to listen; connecting goes on in the background, for ever.
    ///
    /// # Errors
    /// The client id or the certificates are unusable, or the system gives no thread.
    pub fn start(config: ListenConfig) -> Result<Self, LinkError> {
        let secure = config.broker.secure(config.tls.as_ref())?;
        config.broker.options(&config.client_id, config.keep_alive, secure.as_ref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, mut told) = mpsc::channel::<Received>(RECEIVED);
        let (hand_over, received) = std_mpsc::sync_channel(RECEIVED);
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        // Waits for the caller without holding up the keep-alive; ends when either side is gone.
        thread::Builder::new().name("listen-out".to_owned()).spawn(move || {
            while let Some(one) = told.blocking_recv() {
                if hand_over.send(one).is_err() {
                    return;
                }
            }
        })?;
        let thread = thread::Builder::new().name("listen".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = listen(config, secure, for_thread, tell) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { received, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The next payload, or `None` when none comes in that time.
    #[must_use]
    pub fn recv(&self, within: Duration) -> Option<Received> {
        self.received.recv_timeout(within).ok()
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> ListenStats {
        self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the subscription stands. False when it does not in that time.
    #[must_use]
    pub fn wait_subscribed(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut stats = self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
        while !stats.subscribed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            stats = self.shared.changed.wait_timeout(stats, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Sessions one after the other. Each has an event loop of its own, for the reason in [`crate::connection`].
async fn listen(
    config: ListenConfig,
    secure: Option<Arc<ClientConfig>>,
    shared: Arc<Shared>,
    tell: mpsc::Sender<Received>,
) {
    let seed = u64::from(std::process::id());
    let mut backoff = Backoff::new(BackoffConfig::default(), seed);
    let mut seen = Seen::default();
    let mut clean = !config.persistent;
    loop {
        let options = config.broker.options(&config.client_id, config.keep_alive, secure.as_ref());
        let Ok(mut options) = options else { return };
        options.set_clean_session(clean).set_manual_acks(true);
        options.set_max_packet_size(LISTENER_PACKET_BYTES, OUTGOING_PACKET_BYTES);
        clean = !config.persistent;
        let (client, event_loop) = AsyncClient::new(options, EVENTS);
        let Err(end) = session(&client, event_loop, &config, &shared, &tell, &mut seen, &mut backoff).await else {
            return;
        };
        if end.unreadable {
            // The broker would send the same packet again for ever: its queue for this client is given up.
            clean = true;
        }
        let wait = backoff.next_wait(end.refused);
        update(&shared, |stats| {
            stats.subscribed = false;
            stats.ended += 1;
            stats.last_end = Some(end.why);
        });
        tokio::time::sleep(wait).await;
    }
}

/// One session. Ends with an error when it is lost, and without one when the caller is gone.
async fn session(
    client: &AsyncClient,
    mut event_loop: EventLoop,
    config: &ListenConfig,
    shared: &Shared,
    tell: &mpsc::Sender<Received>,
    seen: &mut Seen,
    backoff: &mut Backoff,
) -> Result<(), crate::connection::End> {
    let broken = |why: String| crate::connection::End { why, refused: false, unreadable: false };
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let asked = client.try_subscribe(&config.filter, QoS::AtLeastOnce);
                asked.map_err(|e| broken(e.to_string()))?;
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                backoff.reset();
                update(shared, |stats| {
                    stats.subscribed = true;
                    stats.sessions += 1;
                });
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let received = receive(&publish, seen);
                update(shared, |stats| {
                    stats.refused += u64::from(received.message.is_err());
                    stats.duplicates += u64::from(received.duplicate);
                });
                if tell.send(received).await.is_err() {
                    return Ok(());
                }
                client.try_ack(&publish).map_err(|e| broken(e.to_string()))?;
            }
            Ok(_) => {}
            Err(error) => return Err(end_of(&error)),
        }
    }
}

fn update(shared: &Shared, change: impl FnOnce(&mut ListenStats)) {
    change(&mut shared.stats.lock().unwrap_or_else(PoisonError::into_inner));
    shared.changed.notify_all();
}

fn receive(publish: &Publish, seen: &mut Seen) -> Received {
    let message = check(&publish.topic, &publish.payload);
    let duplicate = message.as_ref().is_ok_and(|m| seen.again(m));
    Received {
        topic: publish.topic.clone(),
        message,
        duplicate,
        retained: publish.retain,
        bytes: publish.payload.len(),
    }
}

/// Decodes a payload and holds it against its topic.
fn check(topic: &str, payload: &[u8]) -> Result<Message, ReceiveError> {
    let message = decode(payload)?;
    let mut levels = topic.split('/');
    let levels = [levels.next(), levels.next(), levels.next(), levels.next(), levels.next()];
    let [Some("fleet"), Some(_), Some(unit), Some(kind), None] = levels else { return Err(ReceiveError::Topic) };
    if kind != message.kind().topic_level() {
        return Err(ReceiveError::Kind(message.kind()));
    }
    let from = match &message {
        Message::Alert(m) => &m.event.unit,
        Message::Report(m) => &m.event.unit,
        Message::Status(m) => &m.unit,
        Message::Health(m) => &m.unit,
        Message::Command(m) => &m.unit,
    };
    if from.as_str() == unit { Ok(message) } else { Err(ReceiveError::Unit(from.clone())) }
}

/// The messages that came lately, oldest forgotten first.
#[derive(Debug, Default)]
struct Seen {
    known: BTreeSet<(EventId, MessageKind, u8)>,
    order: VecDeque<(EventId, MessageKind, u8)>,
}

impl Seen {
    /// Whether this event, kind and revision came before. Messages without an event are never duplicates.
    fn again(&mut self, message: &Message) -> bool {
        let Some(event) = message.event() else { return false };
        let revision = match message {
            Message::Alert(alert) => alert.revision,
            _ => 0,
        };
        let id = (event.clone(), message.kind(), revision);
        if !self.known.insert(id.clone()) {
            return true;
        }
        self.order.push_back(id);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}
