//! The link's thread: stores, then publishes, then deletes what was acknowledged.
//!
//! Order of things for a new message: policy ([`Outbox::admit`]), one durable transaction for all that came at once,
//! then publishing. Deletions ride with the next transaction or with the tick, so that an acknowledgement costs no
//! disk sync of its own; a power cut before that sends the message twice, with the same event id.
//!
//! When the disk fails, or has not answered within [`COMMIT_WITHIN`], the message is published all the same, from memory: an alert that reaches the fleet is worth
//! more than the order of storing and sending. It is counted ([`LinkStats::not_durable`]) and stored once the disk
//! works again.
//!
//! [`LinkStats::not_durable`]: crate::publisher::LinkStats::not_durable

mod saving;

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
use crate::broker::Broker;
use crate::choice::Choice;
use crate::commands::{CommandRefusal, Gate};
use crate::connection::{Connection, End, Sent, Signal};
use crate::keeper::Keeper;
use crate::limits::{BATCH, COMMANDS_MUTED, COMMIT_WITHIN, HANG_SAID, REOPEN_FIRST, TICK, WATCHDOG_CAP};
use crate::publisher::{EnqueueError, LinkConfig, Shared, status_bytes};
use crate::store::{Opened, Stored, unix_ms};

/// How long the goodbye may take, besides draining.
const GOODBYE: Duration = Duration::from_secs(1);
/// Pending deletions that are worth a transaction of their own before the tick.
const DELETE_BATCH: usize = 64;

/// Keys begin here while the disk does not work from the start on: above any that can stand on it.
const KEYS_WITHOUT_DISK: u64 = 1 << 62;

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
    /// In order of preference. TLS is made once: certificates are not parsed again for each connection.
    brokers: Vec<(Broker, Option<Arc<ClientConfig>>)>,
    choice: Choice,
    store: Keeper,
    outbox: Outbox,
    /// Payloads of all entries that wait. As large as the outbox's caps allow.
    payloads: BTreeMap<u64, Arc<Stored>>,
    /// Keys that are not known to be on disk yet.
    unsaved: BTreeSet<u64>,
    /// Since when a job for the store is out, if for longer than is waited for.
    hangs: Option<Instant>,
    /// Keys that are still on disk and must not be.
    deletes: BTreeSet<u64>,
    connection: Option<Connection>,
    /// A session with a preferred broker, beside the one in use, until it answers or fails.
    trial: Option<Connection>,
    next_try: Instant,
    next_reopen: Instant,
    /// How long after another failure of the store.
    reopen_wait: Duration,
    backoff: Backoff,
    watchdog: Duration,
    commands: mpsc::Sender<Command>,
    gate: Gate,
    commands_muted_until: Option<Instant>,
    shared: Arc<Shared>,
    start: Instant,
    phase: Phase,
    /// Time that a test has let pass.
    #[cfg(test)]
    skipped: Duration,
}

impl Worker {
    pub(crate) fn new(
        config: LinkConfig,
        brokers: Vec<(Broker, Option<Arc<ClientConfig>>)>,
        store: Keeper,
        opened: Opened,
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let start = Instant::now();
        let mut worker = Self {
            outbox: Outbox::new(config.limits),
            payloads: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            hangs: None,
            deletes: BTreeSet::new(),
            connection: None,
            trial: None,
            next_try: start,
            next_reopen: start,
            reopen_wait: REOPEN_FIRST,
            choice: Choice::new(brokers.len(), config.fall_over, config.return_after, start),
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
            brokers,
            #[cfg(test)]
            skipped: tests::SKIPPED.get(),
        };
        if !worker.store.is_open() {
            // Whatever waits on the disk that does not work now has lower keys.
            worker.outbox.begin_at(KEYS_WITHOUT_DISK);
        }
        worker.restore(opened);
        worker
    }

    fn restore(&mut self, opened: Opened) {
        let (now, unix_ms) = (self.now(), self.unix_ms());
        self.shared.lock().restored += opened.waiting.len() as u64;
        for stored in opened.waiting {
            let entry =
                Entry { key: stored.key, class: stored.class, crash: stored.crash, bytes: stored.payload.len() };
            // A clock that went back makes the age 0: kept longer, never shorter.
            let age = Span::from_ms(unix_ms.saturating_sub(stored.created_unix_ms));
            self.outbox.restore(entry, age, now);
            self.payloads.insert(stored.key, Arc::new(stored));
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
                signal = next_signal(&mut self.trial) => self.on_trial(signal),
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
        self.persist_at_last();
        (self.connection, self.trial) = (None, None);
        self.shared.lock().connected = false;
        self.show();
    }

    fn now(&self) -> MonoTime {
        let passed = self.start.elapsed();
        #[cfg(test)]
        let passed = passed + self.skipped;
        MonoTime(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
    }

    fn unix_ms(&self) -> u64 {
        #[cfg(test)]
        return unix_ms() + self.skipped.as_millis() as u64;
        #[cfg(not(test))]
        unix_ms()
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
        let stored = Stored { key, class, crash, kind, created_unix_ms: self.unix_ms(), payload };
        self.payloads.insert(key, Arc::new(stored));
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

    fn connect(&mut self) {
        let (before, which) = (self.choice.at(), self.choice.next(Instant::now()));
        if before != which {
            self.backoff.reset();
            self.shared.lock().broker_changes += 1;
        }
        match self.open(which) {
            Ok(connection) => self.connection = Some(connection),
            Err(why) => self.drop_connection(&why),
        }
    }

    /// Begins a session with a broker.
    fn open(&self, which: usize) -> Result<Connection, String> {
        let config = &self.config;
        let (broker, secure) = self.brokers.get(which).ok_or("there is no such broker")?;
        // Checked when the link was started; a failure here counts as a lost connection.
        let options = broker.options(&config.client_id, config.keep_alive, secure.as_ref());
        let mut options = options.map_err(|e| e.to_string())?;
        let will = self.status(UnitState::Lost, which);
        options.set_last_will(LastWill::new(self.topic(MessageKind::Status), will, QoS::AtLeastOnce, true));
        Ok(Connection::open(options, config.connect_timeout_s, self.topic(MessageKind::Command)))
    }

    fn status(&self, state: UnitState, broker: usize) -> Vec<u8> {
        status_bytes(&self.config, state, u8::try_from(broker).unwrap_or(u8::MAX))
    }

    /// Begins to try a preferred broker when it is time.
    fn try_preferred(&mut self) {
        let now = Instant::now();
        let in_use = self.connection.as_ref().is_some_and(|c| c.up);
        if self.trial.is_none()
            && in_use
            && self.phase == Phase::Running
            && let Some(which) = self.choice.trial(now)
        {
            match self.open(which) {
                Ok(connection) => self.trial = Some(connection),
                Err(_) => self.choice.trial_failed(now),
            }
        }
    }

    fn on_trial(&mut self, signal: Signal) {
        match signal {
            Signal::Up => {
                // The broker that is left publishes the last will; what it had not acknowledged goes to the other one.
                self.outbox.on_disconnected();
                self.connection = self.trial.take();
                self.choice.returned(Instant::now());
                self.shared.lock().broker_changes += 1;
                self.on_up();
            }
            Signal::Ended(_) => {
                self.trial = None;
                self.choice.trial_failed(Instant::now());
            }
            // Nothing was sent and nothing subscribed to.
            Signal::Acked { .. } | Signal::StrayAck | Signal::SubscriptionRefused | Signal::Command(_) => {}
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
            Signal::SubscriptionRefused => self.shared.lock().subscriptions_refused += 1,
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
        let status = self.status(UnitState::Online, self.choice.at());
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
        self.choice.worked();
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
        if !self.unsaved.remove(&key) {
            self.deletes.insert(key);
        } else if !self.store.stores(key) {
            self.outbox.on_deleted(key); // never was on disk
        } // else the answer will tell
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
            if !store.count(&judged.counter, judged.command.counter, COMMIT_WITHIN) {
                return Err(CommandRefusal::NotStored);
            }
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
        self.choice.failed(Instant::now());
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
        self.try_preferred();
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
        let status = self.status(UnitState::Stopped, self.choice.at());
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
        let hangs = self.hangs.is_some_and(|since| since.elapsed() >= HANG_SAID);
        stats.store_failing = hangs || !self.store.is_open();
        stats.broker = self.choice.at();
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
#[path = "worker_tests.rs"]
mod tests;
