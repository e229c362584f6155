//! One MQTT session on rumqttc, used once and thrown away whole.
//!
//! rumqttc 0.25.1 keeps a publish that collided on its packet id across a lost session and then never reads another
//! request (rumqtt issues 1014 and 1056; `rumqttc_alone_wedges_after_a_collision` in the tests shows it). Two things
//! keep that away: the span of unacknowledged publishes stays below the number of packet ids, so that none
//! collides; and client, event loop and state are made anew for every session, so that nothing could be kept.
//!
//! The event loop runs in a task of its own because its `poll` must not be cancelled while it connects; a panic
//! inside rumqttc ends that task alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use rumqttc::{AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use rumqttc::{StateError, SubscribeReasonCode, mqttbytes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::limits::{END_CHARS, EVENTS, OUTGOING_PACKET_BYTES, PACKET_IDS, UNIT_PACKET_BYTES};
use crate::tls::why_refused;

/// What a publish was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// An outbox entry, by its key.
    Entry(u64),
    /// The unit's own status, which is not stored.
    Status,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) why: String,
    /// The broker answered and refused.
    pub(crate) refused: bool,
    /// What the broker sent could not be read.
    pub(crate) unreadable: bool,
}

/// What the worker is told of a session.
pub(crate) enum Signal {
    Up,
    Acked {
        what: Sent,
        gap: std::time::Duration,
    },
    /// An acknowledgement of nothing that waits: a second one, or an invented one.
    StrayAck,
    /// The broker does not let this unit hear commands.
    SubscriptionRefused,
    Command(Vec<u8>),
    Ended(End),
}

enum Raw {
    Event(Event),
    Ended(End),
}

/// A session from the start of connecting to its end.
pub(crate) struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Raw>,
    task: JoinHandle<()>,
    command_topic: String,
    /// Publishes handed to rumqttc that have no packet id yet, in order.
    handed: VecDeque<(u64, Sent)>,
    /// Packet id to publish.
    ids: BTreeMap<u16, (u64, Sent)>,
    /// Running numbers of the publishes that are not acknowledged.
    outstanding: BTreeSet<u64>,
    number: u64,
    pub(crate) up: bool,
    pub(crate) last_progress: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Starts to connect. Must be called inside the runtime.
    pub(crate) fn open(mut options: MqttOptions, connect_timeout_s: u64, command_topic: String) -> Self {
        options.set_clean_session(true).set_inflight(PACKET_IDS);
        options.set_max_packet_size(UNIT_PACKET_BYTES, OUTGOING_PACKET_BYTES);
        let (client, mut event_loop) = AsyncClient::new(options, EVENTS);
        event_loop.network_options.set_connection_timeout(connect_timeout_s.max(1)).set_tcp_nodelay(true);
        let (tell, events) = mpsc::channel(EVENTS);
        let task = tokio::spawn(pump(event_loop, tell));
        Self {
            client,
            events,
            task,
            command_topic,
            handed: VecDeque::new(),
            ids: BTreeMap::new(),
            outstanding: BTreeSet::new(),
            number: 0,
            up: false,
            last_progress: Instant::now(),
        }
    }

    /// The next thing that the worker must know. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            let signal = match self.events.recv().await {
                Some(Raw::Event(event)) => self.on_event(event),
                Some(Raw::Ended(end)) => Some(Signal::Ended(end)),
                None => {
                    let why = "the MQTT client stopped without a reason".to_owned();
                    Some(Signal::Ended(End { why, refused: false, unreadable: false }))
                }
            };
            if let Some(signal) = signal {
                return signal;
            }
        }
    }

    /// Whether one more publish keeps the span of packet ids short enough that none can collide.
    pub(crate) fn has_room(&self) -> bool {
        // One id for the subscription, and one to spare.
        let span = self.outstanding.first().map_or(0, |first| self.number - first);
        self.up && span + 2 < u64::from(PACKET_IDS)
    }

    /// Whether something waits for an acknowledgement.
    pub(crate) fn awaits_ack(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Hands one publish over; an error means that the session must be dropped.
    pub(crate) fn publish(&mut self, topic: &str, retain: bool, payload: &[u8], sent: Sent) -> Result<(), ClientError> {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload)?;
        if self.outstanding.is_empty() {
            self.last_progress = Instant::now();
        }
        self.handed.push_back((self.number, sent));
        self.outstanding.insert(self.number);
        self.number += 1;
        Ok(())
    }

    pub(crate) fn subscribe_to_commands(&self) -> Result<(), ClientError> {
        self.client.try_subscribe(&self.command_topic, QoS::AtLeastOnce)
    }

    pub(crate) fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect()
    }

    fn on_event(&mut self, event: Event) -> Option<Signal> {
        match event {
            // A second one breaks the protocol; rumqttc ends the session over it. Whether the broker claims to have a session of ours
            // does not matter: nothing of an old one is used.
            Event::Incoming(Packet::ConnAck(_)) if !self.up => {
                self.up = true;
                self.last_progress = Instant::now();
                Some(Signal::Up)
            }
            Event::Incoming(Packet::PubAck(ack)) => Some(self.on_puback(ack.pkid)),
            Event::Incoming(Packet::SubAck(ack)) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                Some(Signal::SubscriptionRefused)
            }
            Event::Incoming(Packet::Publish(publish)) if publish.topic == self.command_topic => {
                Some(Signal::Command(publish.payload.to_vec()))
            }
            // rumqttc gives out ids in the order in which it was handed the publishes.
            Event::Outgoing(Outgoing::Publish(pkid)) => {
                if let Some(publish) = self.handed.pop_front() {
                    self.ids.insert(pkid, publish);
                }
                None
            }
            _ => None,
        }
    }

    fn on_puback(&mut self, pkid: u16) -> Signal {
        let Some((number, what)) = self.ids.remove(&pkid) else { return Signal::StrayAck };
        self.outstanding.remove(&number);
        let gap = self.last_progress.elapsed();
        self.last_progress = Instant::now();
        Signal::Acked { what, gap }
    }
}

/// Polls the event loop until its first error, and passes on what it had already understood when that came.
async fn pump(mut event_loop: EventLoop, tell: mpsc::Sender<Raw>) {
    loop {
        match event_loop.poll().await {
            Ok(event) => {
                if tell.send(Raw::Event(event)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Acknowledgements read in the same gulp as the error: using them saves duplicates.
                for event in mem::take(&mut event_loop.state.events) {
                    if tell.send(Raw::Event(event)).await.is_err() {
                        return;
                    }
                }
                // Nobody is left to tell when this fails.
                let _ = tell.send(Raw::Ended(end_of(&error))).await;
                return;
            }
        }
    }
}

/// Judges an error of rumqttc. A refused certificate counts as a refusal: trying again soon would not help.
pub(crate) fn end_of(error: &ConnectionError) -> End {
    let unreadable = match error {
        ConnectionError::MqttState(StateError::Deserialization(e)) => !matches!(e, mqttbytes::Error::Io(_)),
        _ => false,
    };
    let (why, refused) = why_refused(error)
        .unwrap_or_else(|| (error.to_string(), matches!(error, ConnectionError::ConnectionRefused(_))));
    End { why: why.chars().take(END_CHARS).collect(), refused, unreadable }
}
