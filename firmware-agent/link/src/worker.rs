//! The link's thread: stores, then publishes, then deletes what was acknowledged.
//!
//! Order of things for a new message: policy ([`Outbox::admit`]), one durable transaction for all that came at once,
//! then publishing. Deletions ride with the next transaction or with the tick, so that an acknowledgement costs no
//! disk sync of its own; a power cut before that sends the message twice, with the same event id.
//!
//! When the disk fails the message is published all the same, from memory: an alert that reaches the fleet is worth
//! more than the order of storing and sending. It is counted ([`LinkStats::not_durable`]) and stored once the disk
//! works again.
//!
//! [`LinkStats::not_durable`]: crate::publisher::LinkStats::not_durable

use std::collections::{BTreeMap, BTreeSet};
use std::future;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use agent_core::outbox::{Class, Entry, Outbox};
use agent_core::time::{MonoTime, Span};
use agent_wire::{Command, MessageKind, UnitState};
use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{LastWill, QoS};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};

use crate::backoff::Backoff;
use crate::commands::{CommandRefusal, Gate};
use crate::connection::{Connection, End, Sent, Signal};
use crate::limits::{BATCH, COMMANDS_MUTED, TICK, WATCHDOG_CAP};
use crate::publisher::{EnqueueError, LinkConfig, Shared, status_bytes};
use crate::store::{Opened, Store, StoreError, Stored, unix_ms};

/// How long the goodbye may take, besides draining.
const GOODBYE: Duration = Duration::from_secs(1);
/// Pending deletions that are worth a transaction of their own before the tick.
const DELETE_BATCH: usize = 64;
/// How often a failed store is opened again.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// One message on its way from the caller to the link's thread.
pub(crate) struct Request {
    pub(crate) class: Class,
    pub(crate) crash: bool,
    pub(crate) kind: MessageKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) done: Option<std_mpsc::SyncSender<Result<u64, EnqueueError>>>,
}

/// How the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Until everything is sent or this time has come.
    Draining(Instant),
    /// Status "stopped" was published; until it is acknowledged or this time has come.
    Goodbye(Instant),
    Done,
}

pub(crate) struct Worker {
    config: LinkConfig,
    /// Made once: certificates are not parsed again for each connection.
    secure: Option<Arc<ClientConfig>>,
    store: Store,
    outbox: Outbox,
    /// Payloads of all entries that wait. As large as the outbox's caps allow.
    payloads: BTreeMap<u64, Stored>,
    /// Keys that are not on disk yet.
    unsaved: BTreeSet<u64>,
    /// Keys that are still on disk and must not be.
    deletes: BTreeSet<u64>,
    connection: Option<Connection>,
    next_try: Instant,
    next_reopen: Instant,
    backoff: Backoff,
    watchdog: Duration,
    commands: mpsc::Sender<Command>,
    gate: Gate,
    commands_muted_until: Option<Instant>,
    shared: Arc<Shared>,
    start: Instant,
    phase: Phase,
}

impl Worker {
    pub(crate) fn new(
        config: LinkConfig,
        secure: Option<Arc<ClientConfig>>,
        store: Store,
        opened: Opened,
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let start = Instant::now();
        let mut worker = Self {
            outbox: Outbox::new(config.limits),
            payloads: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            deletes: BTreeSet::new(),
            connection: None,
            next_try: start,
            next_reopen: start,
            backoff: Backoff::new(config.backoff, config.seed),
            watchdog: config.watchdog,
            commands,
            gate: Gate::new(config.fleet.clone(), config.unit.clone(), &config.commands),
            commands_muted_until: None,
            shared,
            start,
            phase: Phase::Running,
            store,
            config,
            secure,
        };
        worker.restore(opened);
        worker
    }

    fn restore(&mut self, opened: Opened) {
        let (now, unix_ms) = (self.now(), unix_ms());
        self.shared.lock().restored = opened.waiting.len() as u64;
        for stored in opened.waiting {
            let entry =
                Entry { key: stored.key, class: stored.class, crash: stored.crash, bytes: stored.payload.len() };
            // A clock that went back makes the age 0: kept longer, never shorter.
            let age = Span::from_ms(unix_ms.saturating_sub(stored.created_unix_ms));
            self.outbox.restore(entry, age, now);
            self.payloads.insert(stored.key, stored);
        }
        self.expire();
        self.show();
    }

    /// Runs until it is told to stop, or the handle is gone.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut stop: oneshot::Receiver<Duration>) {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        while self.phase != Phase::Done {
            self.send_waiting();
            self.show();
            let retry = self.next_try;
            tokio::select! {
                Some(first) = requests.recv() => self.take(first, &mut requests),
                signal = next_signal(&mut self.connection) => self.on_signal(signal),
                () = time::sleep_until(retry), if self.connection.is_none() => self.connect(),
                _ = tick.tick() => self.on_tick(requests.is_empty()),
                told = &mut stop, if self.phase == Phase::Running => match told {
                    Ok(within) => self.phase = Phase::Draining(Instant::now() + within),
                    Err(_) => self.phase = Phase::Done,
                },
            }
        }
        // What was accepted is stored, even when there is no time to send it.
        requests.close();
        while let Ok(first) = requests.try_recv() {
            self.take(first, &mut requests);
        }
        self.persist();
        self.connection = None;
        self.shared.lock().connected = false;
        self.show();
    }

    fn now(&self) -> MonoTime {
        MonoTime(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Takes a request and those that came with it into the outbox, with one disk sync for all.
    fn take(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) {
        let mut answers = Vec::new();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(request) = next {
            taken += 1;
            let (admitted, done) = self.admit(request);
            answers.extend(done.map(|done| (admitted, done)));
            next = if taken < BATCH { requests.try_recv().ok() } else { None };
        }
        self.persist();
        // Before anyone is answered and before `taken` grows, so that `drain` never sees a message nowhere.
        self.show();
        for (admitted, done) in answers {
            let answer = match admitted {
                Ok(key) if self.unsaved.contains(&key) => Err(EnqueueError::NotDurable { key }),
                other => other,
            };
            // The caller may have stopped waiting.
            let _ = done.try_send(answer);
        }
        self.shared.lock().taken += taken as u64;
        self.shared.changed();
    }

    #[allow(clippy::type_complexity, reason = "the answer and whom to give it")]
    fn admit(
        &mut self,
        request: Request,
    ) -> (Result<u64, EnqueueError>, Option<std_mpsc::SyncSender<Result<u64, EnqueueError>>>) {
        let Request { class, crash, kind, payload, done } = request;
        let admitted = match self.outbox.admit(class, crash, payload.len(), self.now()) {
            Ok(admitted) => admitted,
            Err(refusal) => return (Err(refusal.into()), done),
        };
        self.forget(&admitted.evicted);
        let key = admitted.key;
        self.payloads.insert(key, Stored { key, class, crash, kind, created_unix_ms: unix_ms(), payload });
        self.unsaved.insert(key);
        (Ok(key), done)
    }

    /// Entries that the policy gave up: off the disk with the next transaction.
    fn forget(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.payloads.remove(&entry.key);
            if !self.unsaved.remove(&entry.key) {
                self.deletes.insert(entry.key);
            }
        }
    }

    fn expire(&mut self) {
        let gone = self.outbox.expire(self.now());
        self.forget(&gone);
    }

    /// Brings the disk to what the outbox says.
    fn persist(&mut self) {
        if self.unsaved.is_empty() && self.deletes.is_empty() {
            return;
        }
        if !self.store.is_open() {
            if Instant::now() < self.next_reopen {
                return;
            }
            self.next_reopen = Instant::now() + REOPEN_EVERY;
            if let Err(error) = self.store.reopen() {
                self.on_store_error(&error);
                return;
            }
        }
        let began = Instant::now();
        let puts: Vec<&Stored> = self.unsaved.iter().filter_map(|key| self.payloads.get(key)).collect();
        let deletes: Vec<u64> = self.deletes.iter().copied().collect();
        let stored = puts.len() as u64;
        if let Err(error) = self.store.commit(&puts, &deletes) {
            self.on_store_error(&error);
            return;
        }
        self.unsaved.clear();
        self.deletes.clear();
        for key in deletes {
            self.outbox.on_deleted(key);
        }
        let mut stats = self.shared.lock();
        stats.stored += stored;
        stats.commits += 1;
        stats.commit_time += began.elapsed();
    }

    fn on_store_error(&mut self, error: &StoreError) {
        self.next_reopen = Instant::now() + REOPEN_EVERY;
        let mut stats = self.shared.lock();
        stats.store_errors += 1;
        stats.last_store_error = Some(error.to_string().chars().take(200).collect());
    }

    fn connect(&mut self) {
        let topic = self.topic(MessageKind::Status);
        let config = &self.config;
        // Checked when the link was started; a failure here counts as a lost connection.
        let options = config.broker.options(&config.client_id, config.keep_alive, self.secure.as_ref());
        match options {
            Ok(mut options) => {
                let will = status_bytes(config, UnitState::Lost);
                options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true));
                let commands = self.topic(MessageKind::Command);
                self.connection = Some(Connection::open(options, config.connect_timeout_s, commands));
            }
            Err(error) => {
                self.on_end(End { why: error.to_string(), refused: false, unreadable: false });
            }
        }
    }

    fn topic(&self, kind: MessageKind) -> String {
        format!("fleet/{}/{}/{}", self.config.fleet, self.config.unit, kind.topic_level())
    }

    /// Hands over what waits, as far as the window goes.
    fn send_waiting(&mut self) {
        while self.connection.as_ref().is_some_and(Connection::has_room) {
            let now = self.now();
            let Some(entry) = self.outbox.next_to_send(now) else { return };
            let Some(stored) = self.payloads.get(&entry.key) else { continue };
            let topic = self.topic(stored.kind);
            let Some(connection) = &mut self.connection else { return };
            if let Err(error) = connection.publish(&topic, false, &stored.payload, Sent::Entry(entry.key)) {
                self.drop_connection(&format!("the MQTT client takes no more: {error}"));
            }
        }
    }

    fn drop_connection(&mut self, why: &str) {
        self.on_end(End { why: why.to_owned(), refused: false, unreadable: false });
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Up => self.on_up(),
            Signal::Acked { what, gap } => self.on_acked(what, gap),
            Signal::StrayAck => self.shared.lock().stray_acks += 1,
            Signal::Command(payload) => self.on_command(&payload),
            Signal::Ended(end) => self.on_end(end),
        }
    }

    fn on_up(&mut self) {
        {
            let mut stats = self.shared.lock();
            stats.connected = true;
            stats.connects += 1;
        }
        // Alerts go before the status.
        self.send_waiting();
        let status = status_bytes(&self.config, UnitState::Online);
        let topic = self.topic(MessageKind::Status);
        let muted = self.commands_muted_until.is_some_and(|until| Instant::now() < until);
        let Some(connection) = &mut self.connection else { return };
        let mut done = connection.publish(&topic, true, &status, Sent::Status);
        if !muted {
            self.commands_muted_until = None;
            done = done.and_then(|()| connection.subscribe_to_commands());
        }
        if let Err(error) = done {
            self.drop_connection(&format!("the MQTT client takes no more: {error}"));
        }
    }

    fn on_acked(&mut self, what: Sent, gap: Duration) {
        self.backoff.reset();
        if gap <= self.config.watchdog / 2 {
            self.watchdog = self.config.watchdog;
        }
        let Sent::Entry(key) = what else {
            if matches!(self.phase, Phase::Goodbye(_)) {
                self.phase = Phase::Goodbye(Instant::now());
            }
            return;
        };
        if !self.outbox.on_acked(key) {
            return; // given up meanwhile
        }
        let stored = self.payloads.remove(&key);
        if self.unsaved.remove(&key) {
            self.outbox.on_deleted(key); // never was on disk
        } else {
            self.deletes.insert(key);
        }
        {
            let mut stats = self.shared.lock();
            match stored.map(|s| s.class) {
                Some(Class::Alert) => stats.acked_alerts += 1,
                Some(Class::Report) => stats.acked_reports += 1,
                Some(Class::Other) | None => stats.acked_other += 1,
            }
        }
        if self.deletes.len() >= DELETE_BATCH {
            self.persist();
        }
    }

    fn on_command(&mut self, payload: &[u8]) {
        let store = &mut self.store;
        let judged = self.gate.judge(payload, self.start.elapsed(), |name| store.command_counter(name));
        let judged = judged.and_then(|judged| {
            let place = self.commands.try_reserve().map_err(|_| CommandRefusal::Busy)?;
            // Kept before it is handed out: at most once, also over a restart and a power cut.
            let kept = store.set_command_counter(&judged.counter, judged.command.counter);
            kept.map_err(|_| CommandRefusal::NotStored)?;
            place.send(judged.command);
            Ok(())
        });
        let mut stats = self.shared.lock();
        match judged {
            Ok(()) => stats.commands_taken += 1,
            Err(refusal) => {
                stats.commands_refused += 1;
                stats.last_refusal = Some(refusal);
            }
        }
    }

    fn on_end(&mut self, end: End) {
        self.connection = None;
        self.outbox.on_disconnected();
        self.next_try = Instant::now() + self.backoff.next_wait(end.refused);
        if end.unreadable {
            // Someone may have put a retained monster on the command topic: alerts go before commands.
            self.commands_muted_until = Some(Instant::now() + COMMANDS_MUTED);
        }
        if matches!(self.phase, Phase::Goodbye(_)) {
            self.phase = Phase::Done;
        }
        let mut stats = self.shared.lock();
        stats.connected = false;
        stats.disconnects += 1;
        stats.refused += u64::from(end.refused);
        stats.last_end = Some(end.why);
    }

    fn on_tick(&mut self, queue_empty: bool) {
        self.expire();
        self.persist();
        self.watch();
        match self.phase {
            Phase::Running | Phase::Done => {}
            Phase::Draining(until) => {
                let sent = queue_empty && self.outbox.waiting() == 0;
                if sent || Instant::now() >= until {
                    self.say_goodbye();
                }
            }
            Phase::Goodbye(until) => {
                if Instant::now() >= until {
                    if let Some(connection) = &self.connection {
                        // When it is not taken the broker publishes the last will instead.
                        let _ = connection.disconnect();
                    }
                    // The event loop's task gets one more tick to write it out; its end is the end.
                    if Instant::now() >= until + GOODBYE || self.connection.is_none() {
                        self.phase = Phase::Done;
                    }
                }
            }
        }
    }

    fn say_goodbye(&mut self) {
        let topic = self.topic(MessageKind::Status);
        let status = status_bytes(&self.config, UnitState::Stopped);
        self.phase = Phase::Done;
        if let Some(connection) = self.connection.as_mut().filter(|c| c.up)
            && connection.publish(&topic, true, &status, Sent::Status).is_ok()
        {
            self.phase = Phase::Goodbye(Instant::now() + GOODBYE);
        }
    }

    /// Throws a connection away that stands but does nothing.
    fn watch(&mut self) {
        let Some(connection) = &self.connection else { return };
        let quiet = connection.last_progress.elapsed();
        let stuck_connecting = !connection.up && quiet > Duration::from_secs(self.config.connect_timeout_s + 5);
        let stuck = connection.up && connection.awaits_ack() && quiet > self.watchdog;
        if stuck || stuck_connecting {
            self.watchdog = (self.watchdog * 2).min(WATCHDOG_CAP.max(self.config.watchdog));
            self.shared.lock().watchdog += 1;
            self.drop_connection(&format!("no acknowledgement for {} ms", quiet.as_millis()));
        }
    }

    /// Shows the counts to the handle.
    fn show(&self) {
        let mut stats = self.shared.lock();
        stats.waiting = self.outbox.waiting();
        stats.in_flight = self.outbox.in_flight();
        stats.given_up = self.outbox.given_up();
        stats.not_durable = self.unsaved.len();
        drop(stats);
        self.shared.changed();
    }
}

async fn next_signal(connection: &mut Option<Connection>) -> Signal {
    match connection {
        Some(connection) => connection.next().await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Broker;
    use agent_wire::UnitId;

    fn worker(folder: &std::path::Path) -> Worker {
        let (store, opened) = Store::open(&folder.join("outbox.redb")).unwrap();
        let name = UnitId::new("u").unwrap();
        let config = LinkConfig::new(Broker::parse("mqtt://127.0.0.1:1").unwrap(), name.clone(), name, 1);
        Worker::new(config, None, store, opened, Arc::new(Shared::default()), mpsc::channel(1).0)
    }

    fn request() -> (Request, std_mpsc::Receiver<Result<u64, EnqueueError>>) {
        let (done, answer) = std_mpsc::sync_channel(1);
        let payload = vec![1; 50];
        (Request { class: Class::Alert, crash: true, kind: MessageKind::Alert, payload, done: Some(done) }, answer)
    }

    #[test]
    fn a_failing_disk_is_said_the_message_is_sent_all_the_same_and_stored_when_the_disk_works_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut worker = worker(folder.path());
        let (_hold, mut none) = mpsc::channel(1);
        let mut put = |worker: &mut Worker| {
            let (request, answer) = request();
            worker.take(request, &mut none);
            answer.recv().unwrap()
        };
        let saved = put(&mut worker).unwrap();
        worker.store.break_for_test();
        worker.next_reopen = Instant::now() + Duration::from_secs(3600);
        let EnqueueError::NotDurable { key: sent } = put(&mut worker).unwrap_err() else { panic!("it was said") };
        let EnqueueError::NotDurable { key: kept } = put(&mut worker).unwrap_err() else { panic!("it was said") };
        assert_eq!(worker.shared.lock().not_durable, 2);
        // Both can be sent; one of each is acknowledged while the disk is away.
        let now = worker.now();
        let order: Vec<u64> = std::iter::from_fn(|| worker.outbox.next_to_send(now)).map(|e| e.key).collect();
        assert_eq!(order, [saved, sent, kept]);
        worker.on_acked(Sent::Entry(saved), Duration::ZERO);
        worker.on_acked(Sent::Entry(sent), Duration::ZERO);
        worker.next_reopen = Instant::now();
        worker.persist();
        assert!(worker.unsaved.is_empty() && worker.deletes.is_empty());
        drop(worker);
        let (_, opened) = Store::open(&folder.path().join("outbox.redb")).unwrap();
        assert_eq!(opened.waiting.iter().map(|s| s.key).collect::<Vec<_>>(), [kept]);
    }
}
