//! The link as the commands use it: opened with the outbox of a folder, fed message by message, finished with a limit.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_core::outbox::OutboxLimits;
use agent_core::time::Span;
use agent_disk::RealDisk;
use agent_link::store::is_of_disk;
use agent_link::{
    Broker, ClientKey, CommandPolicy, EnqueueError, Link, LinkConfig, LinkStats, Opened, Store, StoreError, Tls,
};
use agent_wire::{Alert, Command, Health, Message};

use crate::config::Config;
use crate::config::link::TlsKey;
use crate::exit::{bad_input, usage};
use crate::show::say;
use crate::token::{self, TokenWords};

/// How long a message may take to reach the disk before it is said that it did not.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// Refused commands are said no more often than this.
const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// A running link.
pub(crate) struct RunningLink {
    link: Link,
    /// Which start of the agent this is.
    pub(crate) boot: u32,
    /// Alerts of earlier starts whose report is owed.
    pub(crate) owed: Vec<Alert>,
    refused: u64,
    words: Words,
    token: Option<TokenWords>,
    /// Whether its state is worth a word.
    daemon: bool,
    /// Refused commands that were said, and when the last word of them was.
    commands_said: (u64, Option<Instant>),
}

/// How the link is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkState {
    /// The store does not work.
    pub(crate) store_failing: bool,
    /// A session with a broker stands.
    pub(crate) connected: bool,
}

/// What to do when the outbox cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStore {
    /// Refuse to start.
    Refuse,
    /// If the disk is at fault, hold messages in memory until it works: such a unit still tells of a crash.
    GoOn,
}

/// Opens the outbox at `store` and connects to the first of `urls` that answers, in the background.
pub(crate) fn start(config: &Config, urls: &[String], store: &Path, without: NoStore) -> anyhow::Result<RunningLink> {
    let mut brokers = urls.iter().map(|url| Broker::parse(url).map_err(usage));
    let broker = brokers.next().unwrap_or_else(|| Err(usage("no broker is named")))?;
    let others = brokers.collect::<anyhow::Result<Vec<_>>>()?;
    let names = urls.iter().map(|url| Broker::parse(url).map_or_else(|_| String::new(), |b| b.to_string())).collect();
    let (store, mut opened, boot) = match open(store) {
        Ok(opened) => opened,
        Err((error, true)) if without == NoStore::GoOn => {
            say!("{error:#}: messages are held in memory until it can be written; a power cut would lose them");
            let store = Store::without_disk(Arc::new(RealDisk), store);
            let boot = store.boot();
            (store, Opened::default(), boot)
        }
        Err((error, _)) => return Err(error),
    };
    let mut link = LinkConfig::new(broker, config.unit.fleet.clone(), config.unit.name.clone(), boot);
    link.others = others;
    link.fall_over = Duration::from_secs(u64::from(config.link.fall_over_s));
    link.return_after = Duration::from_secs(u64::from(config.link.return_s));
    link.config = config.hash8();
    link.tls = configured(config)?;
    let secure = std::iter::once(&link.broker).chain(&link.others).any(Broker::is_secure);
    let token = link.tls.as_ref().and_then(Tls::token).filter(|_| secure).cloned();
    // A unit whose token is away still records, and its messages wait on disk: `look` says it.
    if let Some(Err(error)) = token.as_ref().map(|token| token.check())
        && without == NoStore::Refuse
    {
        return Err(bad_input(format!("{error}. {}", token::advice(&error))));
    }
    link.commands =
        CommandPolicy { keys: config.commands.keys.clone(), max_per_minute: config.commands.max_per_minute };
    link.keep_alive = Duration::from_secs(u64::from(config.link.keep_alive_s));
    let outbox = &config.link.outbox;
    link.limits = OutboxLimits {
        window: config.link.in_flight as usize,
        entries: outbox.max_messages as usize,
        lesser_entries: outbox.max_messages as usize / 4 * 3,
        bytes: (outbox.max_mb as usize).saturating_mul(1_000_000),
        lesser_max_age: Span::from_s(u64::from(outbox.lesser_max_age_h) * 3600),
        ..OutboxLimits::default()
    }
    .clamped();
    let owed = std::mem::take(&mut opened.owed);
    Ok(RunningLink {
        owed,
        link: Link::start(link, store, opened)?,
        boot,
        refused: 0,
        commands_said: (0, None),
        words: Words::new(names),
        token: token.map(TokenWords::new),
        daemon: without == NoStore::GoOn,
    })
}

/// The store, what waits in it, and the number of this start; or why not, and whether the disk is at fault. Anything else, another agent
/// on the same outbox for example, is for people to mend.
fn open(path: &Path) -> Result<(Store, Opened, u32), (anyhow::Error, bool)> {
    // The error's text holds its cause already.
    let of_store = |error: StoreError| (anyhow::anyhow!("{error}"), error.disk_fails());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            let of_disk = is_of_disk(&error);
            (anyhow::Error::new(error).context(format!("making {} for the outbox", folder.display())), of_disk)
        })?;
    }
    let (mut store, opened) = Store::open(path).map_err(of_store)?;
    if let Some(aside) = &opened.set_aside {
        say!("the outbox was unreadable and was set aside: {aside:?}");
    }
    let boot = store.next_boot().map_err(of_store)?;
    Ok((store, opened, boot))
}

/// Largest PEM file that is read, bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// What `[link.tls]` names.
pub(crate) fn configured(config: &Config) -> anyhow::Result<Option<Tls>> {
    let tls = &config.link.tls;
    let [ca, certificate] = [&tls.ca, &tls.certificate].map(|path| path.as_ref().map(|path| config.resolve(path)));
    let key = tls.key.clone().map(|key| match key {
        TlsKey::File(path) => TlsKey::File(config.resolve(&path)),
        token @ TlsKey::Token(_) => token,
    });
    certificates(ca.as_deref(), certificate.as_deref(), key.as_ref())
}

/// The certificates in some files; `None` if none are named. Never says what stands in a key. A token is not touched.
pub(crate) fn certificates(
    ca: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&TlsKey>,
) -> anyhow::Result<Option<Tls>> {
    let read = |path: &Path| -> anyhow::Result<Vec<u8>> {
        let unreadable = |why: &dyn std::fmt::Display| bad_input(format!("{}: {why}", path.display()));
        let file = std::fs::File::open(path).map_err(|e| unreadable(&e))?;
        let mut pem = Vec::new();
        file.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem).map_err(|e| unreadable(&e))?;
        if pem.len() as u64 > MAX_PEM_BYTES {
            return Err(unreadable(&"larger than any certificate"));
        }
        Ok(pem)
    };
    let client = match (certificate, key) {
        (Some(certificate), Some(TlsKey::File(key))) => Some((read(certificate)?, ClientKey::Pem(read(key)?))),
        (Some(certificate), Some(TlsKey::Token(uri))) => {
            let pem = read(certificate)?;
            let key = ClientKey::in_token(uri.clone(), &pem);
            let key = key.map_err(|e| bad_input(format!("{}: {e}", certificate.display())))?;
            Some((pem, key))
        }
        (None, None) => None,
        _ => return Err(usage("a certificate and its key are needed together")),
    };
    if ca.is_none() && client.is_none() {
        return Ok(None);
    }
    Ok(Some(Tls { ca_pem: ca.map(read).transpose()?.unwrap_or_default(), client }))
}

impl RunningLink {
    /// Takes a message without waiting. A refusal (the written policy, or a full queue) is said and counted.
    pub(crate) fn send(&mut self, message: &Message) {
        if let Err(error) = self.link.enqueue(message) {
            self.refused += 1;
            say!("{:?} not taken by the outbox ({} so far): {error}", message.kind(), self.refused);
        }
    }

    /// Takes a message and waits until it is on disk.
    pub(crate) fn send_durable(&mut self, message: &Message) -> anyhow::Result<()> {
        match self.link.enqueue_durable(message, STORE_WITHIN) {
            Ok(_) => Ok(()),
            Err(EnqueueError::QueueFull) => {
                // Only a caller that never waits can fill the queue: let the link catch up once.
                let _ = self.link.drain(STORE_WITHIN);
                self.link.enqueue_durable(message, STORE_WITHIN).map(|_| ()).map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fills in what only the link knows.
    pub(crate) fn complete(&self, health: &mut Health) {
        let stats = self.link.stats();
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        health.outbox_waiting = small(stats.waiting as u64);
        health.outbox_expired = small(stats.given_up.total());
        health.broker = u8::try_from(stats.broker).unwrap_or(u8::MAX);
        health.storage.outbox_failing = stats.store_failing;
        health.storage.not_durable = small(stats.not_durable as u64);
    }

    /// Says what has changed of brokers, store and token. To be called many times a second.
    pub(crate) fn look(&mut self) -> LinkState {
        let stats = self.link.stats();
        for words in self.words.of(&stats, Instant::now()) {
            say!("{words}");
        }
        if let Some(words) = self.token.as_mut().and_then(TokenWords::look) {
            say!("{words}");
        }
        LinkState { store_failing: stats.store_failing, connected: stats.connected }
    }

    /// The next command from the fleet. Refused ones are said, with their number and the reason of the last; never what was in
    /// them.
    pub(crate) fn command(&mut self) -> Option<Command> {
        if self.commands_said.1.is_none_or(|at| at.elapsed() >= REFUSALS_EVERY) {
            self.say_refusals();
        }
        self.link.try_command()
    }

    fn say_refusals(&mut self) {
        let (refused, why) = self.link.refusals();
        let said = self.commands_said.0;
        if refused > said {
            let why = why.map(|why| why.to_string()).unwrap_or_default();
            say!("{} commands refused, the last one: {why} ({refused} since the start)", refused - said);
            self.commands_said = (refused, Some(Instant::now()));
        }
    }

    /// Waits for the acknowledgements for at most `within` and says goodbye. True when nothing waits any more.
    pub(crate) fn finish(mut self, within: Duration) -> bool {
        self.say_refusals();
        let mut delivered = false;
        for _ in 0..(within.as_millis() / LOOK.as_millis()).max(1) {
            delivered = self.link.drain(LOOK);
            if self.daemon {
                self.look();
            }
            if delivered {
                break;
            }
        }
        let stats = self.link.stop(Duration::from_secs(1));
        delivered && stats.waiting == 0
    }
}

/// How often the link is looked at while its end is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// A broker that is away for less is not worth a word.
const AWAY: Duration = Duration::from_secs(5);

/// Words of the link's state: once when it gets worse, once when it is well again.
#[derive(Debug)]
struct Words {
    brokers: Vec<String>,
    broker: usize,
    /// Since when no session stands, with the failures until then.
    away: Option<(Instant, u64)>,
    away_said: bool,
    store_failing: bool,
}

impl Words {
    const fn new(brokers: Vec<String>) -> Self {
        Self { brokers, broker: 0, away: None, away_said: false, store_failing: false }
    }

    fn of(&mut self, stats: &LinkStats, now: Instant) -> Vec<String> {
        let mut out = Vec::new();
        let name = |which: usize| self.brokers.get(which).map_or("?", String::as_str);
        if stats.broker != self.broker {
            let preferred = if stats.broker == 0 { ", the preferred one" } else { "" };
            out.push(format!("the broker in use is {}{preferred}; it was {}", name(stats.broker), name(self.broker)));
            self.broker = stats.broker;
        }
        let (since, before) = *self.away.get_or_insert((now, stats.disconnects));
        let seconds = now.saturating_duration_since(since).as_secs();
        if stats.connected {
            if self.away_said {
                let tries = stats.disconnects.saturating_sub(before);
                out.push(format!("the broker is there again after {seconds} s and {tries} tries"));
            }
            (self.away, self.away_said) = (None, false);
        } else if !self.away_said && seconds >= AWAY.as_secs() {
            self.away_said = true;
            let why = stats.last_end.as_deref().unwrap_or("no answer yet");
            out.push(format!(
                "no session with the broker for {seconds} s: {why}; messages wait, {} now",
                stats.waiting
            ));
        }
        if stats.store_failing != self.store_failing {
            self.store_failing = stats.store_failing;
            out.push(if stats.store_failing {
                let why = stats.last_store_error.as_deref().unwrap_or("it was not there at the start");
                format!("the outbox's disk fails: {why}; messages are sent from memory, a power cut would lose them")
            } else {
                format!("the outbox's disk works again after {} failures; what waits is on it", stats.store_errors)
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once_and_a_short_absence_not_at_all() {
        let mut words = Words::new(vec!["mqtt://a:1".to_owned(), "mqtt://b:2".to_owned()]);
        let begun = Instant::now();
        let mut at = |s: u64, stats: &LinkStats| words.of(stats, begun + Duration::from_secs(s));
        let well = LinkStats { connected: true, ..LinkStats::default() };
        assert!(at(0, &well).is_empty());
        let away = LinkStats { connected: false, disconnects: 3, last_end: Some("refused".to_owned()), ..well.clone() };
        assert!(at(1, &away).is_empty());
        assert!(at(5, &well).is_empty());
        assert!(at(10, &away).is_empty() && at(14, &away).is_empty());
        assert_eq!(at(15, &away), ["no session with the broker for 5 s: refused; messages wait, 0 now"]);
        assert!(at(16, &away).is_empty());
        let other = LinkStats { connected: true, broker: 1, disconnects: 9, ..well.clone() };
        assert_eq!(
            at(40, &other),
            ["the broker in use is mqtt://b:2; it was mqtt://a:1", "the broker is there again after 30 s and 6 tries"]
        );
        let why = Some("no room".to_owned());
        let failing = LinkStats { store_failing: true, store_errors: 2, last_store_error: why, ..other.clone() };
        assert_eq!(
            at(41, &failing),
            ["the outbox's disk fails: no room; messages are sent from memory, a power cut would lose them"]
        );
        assert!(at(42, &failing).is_empty());
        let again = LinkStats { store_failing: false, ..failing };
        assert_eq!(at(43, &again), ["the outbox's disk works again after 2 failures; what waits is on it"]);
    }
}
