//! The durable outbox through a network that misbehaves, to a real Mosquitto, from seeds.
//!
//! What must hold for every seed: each message that was made durable comes to a subscriber that drops what it has seen before exactly
//! once, as it was sent; what waited together leaves alerts first, then reports, then health, on every connection anew; never more in
//! flight than the window, never more waiting than the caps.
//!
//! `AGENT_NET_SEEDS=200 AGENT_NET_SEED=1000 cargo test --workspace --test it storms:: -- --nocapture` runs more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use agent_core::outbox::OutboxLimits;
use agent_link::backoff::BackoffConfig;
use agent_link::{Broker, Link, LinkConfig, ListenConfig, Listener, Tls};
use agent_wire::{Message, MessageKind, Severity};

use crate::net::{Draw, Kind, Net};
use crate::support::*;
use crate::tls::{Authority, mosquitto, tls};

/// What tells one message of an event from another.
type Id = (agent_wire::EventId, MessageKind);

fn seeds(few: u64) -> std::ops::Range<u64> {
    let of = |name: &str, usual| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let first = of("AGENT_NET_SEED", 1);
    first..first + of("AGENT_NET_SEEDS", few)
}

/// What one seed, or many, came to.
#[derive(Debug, Default)]
struct Sum {
    committed: usize,
    arrived: usize,
    /// Came more than once, marked as such.
    again: usize,
    /// Came as no message, named.
    refused: usize,
    restarts: u32,
    connections: usize,
    struck: BTreeMap<&'static str, u32>,
    most_in_flight: usize,
}

struct Storm<'a> {
    seed: u64,
    draw: Draw,
    net: Net,
    listener: &'a Listener,
    config: LinkConfig,
    committed: BTreeMap<Id, Message>,
    came: BTreeSet<Id>,
    seq: u32,
    sum: Sum,
}

impl<'a> Storm<'a> {
    fn new(target: u16, seed: u64, kind: Kind, listener: &'a Listener, certificates: Option<Tls>) -> Self {
        let net = Net::start(target, seed, kind);
        let mut config = config(net.port);
        if certificates.is_some() {
            config.broker = Broker::parse(&format!("mqtts://localhost:{}", net.port)).unwrap();
        }
        config.tls = certificates;
        config.client_id = format!("storm-{seed}-{kind:?}");
        config.connect_timeout_s = 1;
        config.watchdog = Duration::from_millis(300);
        config.backoff = BackoffConfig {
            first: Duration::from_millis(10),
            cap: Duration::from_millis(80),
            refused_cap: Duration::from_millis(80),
        };
        config.limits = OutboxLimits { window: 6, entries: 60, lesser_entries: 40, ..OutboxLimits::default() };
        Self {
            seed,
            draw: Draw(seed ^ 0xA5A5),
            net,
            listener,
            config,
            committed: BTreeMap::new(),
            came: BTreeSet::new(),
            seq: 0,
            sum: Sum::default(),
        }
    }

    /// Some events while the network is down, then the network as it is, until nothing waits. The agent may be ended and started
    /// in the middle of it.
    fn round(&mut self, folder: &Path) {
        self.net.set_up(false);
        let mut link = start(self.config.clone(), folder);
        for _ in 0..6 + self.draw.below(8) {
            self.event(&link);
        }
        self.net.take();
        self.net.set_up(true);
        if self.draw.below(2) == 0 {
            let until = self.draw.below(12) as usize;
            let _ = link.wait_for(Duration::from_millis(400), |s| s.waiting <= until);
            drop(link);
            link = start(self.config.clone(), folder);
            self.sum.restarts += 1;
        }
        let limits = self.config.limits;
        let capped = |s: &agent_link::LinkStats| s.in_flight <= limits.window && s.waiting <= limits.entries;
        let sent = link.wait_for(DEADLINE, |s| {
            assert!(capped(s), "seed {}: {s:?}", self.seed);
            s.waiting == 0
        });
        assert!(sent, "seed {}: {:?}", self.seed, link.stats());
        assert_eq!(link.stats().given_up.total(), 0, "seed {}: nothing was above the caps", self.seed);
        drop(link);
        let seen = self.net.take();
        self.sum.connections += seen.publishes.len();
        self.sum.most_in_flight = self.sum.most_in_flight.max(seen.most_in_flight);
        seen.struck.into_iter().for_each(|(what, n)| *self.sum.struck.entry(what).or_default() += n);
        if self.config.tls.is_none() {
            for (connection, kinds) in &seen.publishes {
                let rank = |kind: &String| ["alert", "report", "health"].iter().position(|k| k == kind);
                assert!(kinds.is_sorted_by_key(rank), "seed {}, connection {connection}: {kinds:?}", self.seed);
            }
            // The window and the status, which is not of the outbox.
            let most = limits.window + 1;
            assert!(seen.most_in_flight <= most, "seed {}: {} in flight", self.seed, seen.most_in_flight);
        }
    }

    /// An event's alert, report and, now and then, a health message, in any order.
    fn event(&mut self, link: &Link) {
        self.seq += 1;
        let severity = [Severity::Minor, Severity::Severe, Severity::Critical][self.draw.below(3) as usize];
        let (mut alert, mut report) = (alert(self.seq, severity), report(self.seq));
        // Each seed is a start of its own: no id comes twice from this program.
        if let (Message::Alert(a), Message::Report(r)) = (&mut alert, &mut report) {
            (a.event.boot, r.event.boot) = (self.config.boot, self.config.boot);
        }
        let mut all = vec![alert, report];
        if self.draw.below(4) == 0 {
            all.push(health());
        }
        if self.draw.below(2) == 0 {
            all.reverse();
        }
        for message in all {
            link.enqueue_durable(&message, DEADLINE).unwrap();
            if let Some(event) = message.event() {
                let before = self.committed.insert((event.clone(), message.kind()), message);
                assert!(before.is_none());
            }
        }
    }

    /// Takes what came, until everything has or nothing more comes for `patience`.
    fn listen(&mut self, patience: Duration) {
        let mut last = Instant::now();
        while self.came.len() < self.committed.len() && last.elapsed() < patience {
            let Some(received) = self.listener.recv(Duration::from_millis(50)) else { continue };
            last = Instant::now();
            let message = match received.message {
                Ok(message) => message,
                Err(_) => {
                    self.sum.refused += 1;
                    continue;
                }
            };
            let Some(event) = message.event().cloned() else { continue };
            if event.boot != self.config.boot {
                continue; // the end of another seed's
            }
            let id = (event, message.kind());
            let sent = self.committed.get(&id);
            assert_eq!(sent, Some(&message), "seed {}: not what was sent under this id", self.seed);
            assert_eq!(received.duplicate, !self.came.insert(id), "seed {}", self.seed);
            self.sum.again += usize::from(received.duplicate);
        }
        (self.sum.committed, self.sum.arrived) = (self.committed.len(), self.came.len());
    }
}

/// Runs one seed and says what came of it.
fn storm(
    target: u16,
    seed: u64,
    kind: Kind,
    listener: &Listener,
    certificates: Option<Tls>,
    patience: Duration,
) -> Sum {
    let folder = tempfile::tempdir().unwrap();
    let mut storm = Storm::new(target, seed, kind, listener, certificates);
    storm.config.boot = u32::try_from(seed).unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        storm.round(folder.path());
        storm.listen(patience);
    }
    storm.net.set_up(false);
    println!("seed {seed} {kind:?}: {:.1} s, {:?}", begun.elapsed().as_secs_f64(), storm.sum);
    storm.sum
}

fn fleet_side(target: u16, certificates: Option<Tls>) -> Listener {
    let host = if certificates.is_some() { "mqtts://localhost" } else { "mqtt://127.0.0.1" };
    let mut config = ListenConfig::new(Broker::parse(&format!("{host}:{target}")).unwrap(), "fleet-side");
    config.tls = certificates;
    let listener = Listener::start(config).unwrap();
    assert!(listener.wait_subscribed(DEADLINE), "{:?}", listener.stats());
    listener
}

#[test]
fn whatever_the_network_does_each_committed_message_arrives_once_by_id() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let listener = fleet_side(broker.port, None);
    let mut struck = BTreeMap::new();
    for seed in seeds(8) {
        let sum = storm(broker.port, seed, Kind::Broken, &listener, None, DEADLINE);
        assert_eq!((sum.arrived, sum.refused), (sum.committed, 0), "seed {seed}: {sum:?}");
        sum.struck.into_iter().for_each(|(what, n)| *struck.entry(what).or_insert(0) += n);
    }
    assert_eq!(struck.len(), 3, "it was cut, half closed and swallowed: {struck:?}");
}

/// TLS knows a changed bit and ends the connection: nothing is lost over it.
#[test]
fn bits_that_change_on_the_way_lose_nothing_under_tls() {
    let ours = Authority::new("ours");
    let Some(broker) = mosquitto(free_port(), "127.0.0.1", &ours.broker(), None) else { return };
    let certificates = tls(&ours, None);
    let listener = fleet_side(broker.port, Some(certificates.clone()));
    let mut changed = 0;
    for seed in seeds(3) {
        let sum = storm(broker.port, seed, Kind::Corrupting, &listener, Some(certificates.clone()), DEADLINE);
        assert_eq!((sum.arrived, sum.refused), (sum.committed, 0), "seed {seed}: {sum:?}");
        changed += sum.struck.get("corrupted").copied().unwrap_or(0);
    }
    assert!(changed > 0);
}

/// Without TLS the broker takes and acknowledges what it got, and nobody can send it again: such a message is lost. What must hold
/// is that it is seen to be damaged, and that nothing arrives as what it is not.
#[test]
fn bits_that_change_on_the_way_without_tls_are_noticed_and_no_message_is_taken_for_another() {
    let Some(broker) = Mosquitto::start(free_port()) else { return };
    let listener = fleet_side(broker.port, None);
    let (mut lost, mut changed, mut committed) = (0, 0, 0);
    for seed in seeds(3) {
        let sum = storm(broker.port, seed, Kind::Corrupting, &listener, None, Duration::from_millis(700));
        let struck = sum.struck.get("corrupted").copied().unwrap_or(0) as usize;
        assert!(sum.committed - sum.arrived <= struck, "seed {seed}: more lost than bits changed: {sum:?}");
        lost += sum.committed - sum.arrived;
        (changed, committed) = (changed + struck, committed + sum.committed);
    }
    println!("without TLS: {changed} bits changed, {lost} of {committed} messages lost");
    assert!(changed > 0);
}
