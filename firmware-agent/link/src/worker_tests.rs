//! The link's thread without a network: failing disks, and weeks without a broker in virtual time.

use std::cell::Cell;
use std::path::Path;

use agent_core::outbox::OutboxLimits;
use agent_disk::{Disk as _, Faults, SimDisk};
use agent_wire::UnitId;

use super::*;
use crate::store::Store;

thread_local! {
    /// How much time has passed before a worker is made.
    pub(super) static SKIPPED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn worker(folder: &std::path::Path) -> Worker {
    let (store, opened) = Store::open(&folder.join("outbox.redb")).unwrap();
    of(store, opened, OutboxLimits::default())
}

/// A worker without a network.
fn of(store: Store, opened: Opened, limits: OutboxLimits) -> Worker {
    let (name, broker) = (UnitId::new("u").unwrap(), Broker::parse("mqtt://127.0.0.1:1").unwrap());
    let mut config = LinkConfig::new(broker.clone(), name.clone(), name, 1);
    config.limits = limits;
    let store = Keeper::start(store).unwrap();
    Worker::new(config, vec![(broker, None)], store, opened, Arc::new(Shared::default()), mpsc::channel(1).0)
}

/// A worker with its outbox on a simulated disk, or without one if that does not work.
fn on(disk: &SimDisk, limits: OutboxLimits) -> Worker {
    let path = Path::new("/s/outbox.redb");
    match Store::open_on(Arc::new(disk.clone()), path) {
        Ok((store, opened)) => of(store, opened, limits),
        Err(_) => of(Store::without_disk(Arc::new(disk.clone()), path), Opened::default(), limits),
    }
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

/// Puts a message in as a caller would, and says whether it was made durable.
fn put(worker: &mut Worker, class: Class, crash: bool, payload: Vec<u8>) -> Result<u64, EnqueueError> {
    let (done, answer) = std_mpsc::sync_channel(1);
    let kind = [MessageKind::Alert, MessageKind::Report, MessageKind::Health][class as usize];
    let (_hold, mut none) = mpsc::channel(1);
    worker.take(Request { class, crash, kind, payload, done: Some(done) }, &mut none);
    answer.recv().unwrap()
}

fn sim() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.make_folder(Path::new("/s")).unwrap();
    disk
}

/// Everything that is sent from now on, acknowledged at once.
fn send_all(worker: &mut Worker) -> Vec<u64> {
    let now = worker.now();
    let mut out = Vec::new();
    while let Some(entry) = worker.outbox.next_to_send(now) {
        worker.on_acked(Sent::Entry(entry.key), Duration::ZERO);
        out.push(entry.key);
    }
    out
}

#[test]
fn whatever_the_disk_does_alerts_go_on_from_memory_and_are_on_disk_when_it_works_again() {
    let faults = [
        ("full", Faults { capacity: Some(0), ..Faults::default() }),
        ("EIO on write", Faults { writes: true, ..Faults::default() }),
        ("EIO on sync", Faults { syncs: true, ..Faults::default() }),
        ("read-only", Faults { read_only: true, ..Faults::default() }),
        ("EIO on everything", Faults { writes: true, syncs: true, reads: true, ..Faults::default() }),
    ];
    for (name, faults) in faults {
        let disk = sim();
        let mut worker = on(&disk, OutboxLimits::default());
        let put = |worker: &mut Worker, size| put(worker, Class::Alert, true, vec![1; size]);
        let before = put(&mut worker, 100).unwrap();
        disk.set_faults(faults);
        // Enough that a file has to grow.
        let mut keys = vec![before];
        while !worker.shared.lock().store_failing {
            keys.push(match put(&mut worker, 1000) {
                Ok(key) | Err(EnqueueError::NotDurable { key }) => key,
                Err(other) => panic!("{name}: {other}"),
            });
            assert!(keys.len() < 3000, "{name}: nothing failed");
        }
        keys.extend([put(&mut worker, 100).unwrap_err(), put(&mut worker, 100).unwrap_err()].map(|e| match e {
            EnqueueError::NotDurable { key } => key,
            other => panic!("{name}: {other}"),
        }));
        {
            let stats = worker.shared.lock();
            assert!(stats.not_durable >= 3 && stats.store_errors >= 1, "{name}: {stats:?}");
        }
        // The first two leave while the disk is as it is; the rest is in memory.
        for key in &keys[..2] {
            worker.on_acked(Sent::Entry(*key), Duration::ZERO);
        }
        disk.set_faults(Faults::default());
        worker.next_reopen = Instant::now();
        worker.on_tick(true);
        assert!(!worker.shared.lock().store_failing || worker.store.is_open(), "{name}");
        assert!(worker.unsaved.is_empty() && worker.deletes.is_empty(), "{name}");
        drop(worker);
        // And a power cut right after takes nothing of it.
        let mut worker = on(&disk.after_cut(), OutboxLimits::default());
        assert_eq!(send_all(&mut worker), keys[2..], "{name}");
    }
}

/// A unit that starts on a disk that does not work: it sends from memory, and finds what had waited when the disk is back.
#[test]
fn a_start_without_a_disk_sends_from_memory_and_finds_what_had_waited_later() {
    let disk = sim();
    let mut worker = on(&disk, OutboxLimits::default());
    let old = put(&mut worker, Class::Alert, true, vec![1; 90]).unwrap();
    drop(worker);
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let mut worker = on(&disk, OutboxLimits::default());
    let [sent, kept] = [(); 2].map(|()| match put(&mut worker, Class::Alert, true, vec![2; 90]) {
        Err(EnqueueError::NotDurable { key }) => key,
        other => panic!("{other:?}"),
    });
    assert_eq!(worker.outbox.next_to_send(worker.now()).map(|e| e.key), Some(sent));
    worker.on_acked(Sent::Entry(sent), Duration::ZERO);
    disk.set_faults(Faults::default());
    worker.next_reopen = Instant::now();
    worker.on_tick(true);
    assert_eq!((worker.outbox.waiting(), worker.unsaved.len()), (2, 0));
    drop(worker);
    let mut worker = on(&disk.after_cut(), OutboxLimits::default());
    assert_eq!(send_all(&mut worker), [old, kept], "the older one first");
}

/// A slow disk delays what comes with its commit; what waits already goes on being sent between the commits.
#[test]
fn a_slow_disk_loses_nothing() {
    let disk = sim();
    let mut worker = on(&disk, OutboxLimits::default());
    let operations = disk.operations();
    put(&mut worker, Class::Alert, true, vec![1; 90]).unwrap();
    let of_one = disk.operations() - operations;
    disk.set_faults(Faults { slow: Duration::from_millis(4), ..Faults::default() });
    let begun = Instant::now();
    put(&mut worker, Class::Alert, true, vec![2; 90]).unwrap();
    let took = begun.elapsed();
    println!("one commit: {of_one} operations of the disk; at 4 ms each {} ms", took.as_millis());
    assert!(took >= Duration::from_millis(4) && of_one < 40);
    assert_eq!(send_all(&mut worker).len(), 2);
}

/// A disk that hangs holds a message up for as long as the link waits for it, once. What was sent and acknowledged meanwhile is not
/// on the disk afterwards, and what was not is.
#[test]
fn a_hanging_disk_holds_up_one_message_for_a_moment_and_no_other() {
    let disk = sim();
    let mut worker = on(&disk, OutboxLimits::default());
    let before = put(&mut worker, Class::Alert, true, vec![1; 90]).unwrap();
    disk.set_faults(Faults { hangs: true, ..Faults::default() });
    let in_memory = |worker: &mut Worker| match put(worker, Class::Alert, true, vec![2; 90]) {
        Err(EnqueueError::NotDurable { key }) => key,
        other => panic!("{other:?}"),
    };
    let begun = Instant::now();
    let first = in_memory(&mut worker);
    let waited = begun.elapsed();
    let others = [(); 3].map(|()| in_memory(&mut worker));
    println!("the first waited {} ms, three others {} ms", waited.as_millis(), (begun.elapsed() - waited).as_millis());
    assert!(waited >= COMMIT_WITHIN && begun.elapsed() - waited < COMMIT_WITHIN, "{waited:?}");
    {
        let stats = worker.shared.lock();
        assert_eq!((stats.store_hangs, stats.not_durable), (1, 4), "{stats:?}");
    }
    // All of it can be sent; some is acknowledged, also of what is being stored.
    let now = worker.now();
    let order: Vec<u64> = std::iter::from_fn(|| worker.outbox.next_to_send(now)).map(|e| e.key).collect();
    assert_eq!(order, [&[before, first][..], &others].concat());
    for key in [before, first, others[1]] {
        worker.on_acked(Sent::Entry(key), Duration::ZERO);
    }
    worker.on_tick(true);
    assert!(worker.store.busy());
    worker.hangs = worker.hangs.map(|since| since - HANG_SAID);
    worker.show();
    assert!(worker.shared.lock().store_failing, "it has been said");
    disk.set_faults(Faults::default());
    while worker.store.busy() || !worker.unsaved.is_empty() || !worker.deletes.is_empty() {
        worker.on_tick(true);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(worker.hangs.is_none() && worker.store.is_open());
    worker.show();
    assert!(!worker.shared.lock().store_failing);
    drop(worker);
    let mut worker = on(&disk.after_cut(), OutboxLimits::default());
    assert_eq!(send_all(&mut worker), [others[0], others[2]]);
}

/// The same when the disk, once it answers, has failed: nothing of it counts as stored.
#[test]
fn a_disk_that_hangs_and_then_fails_has_nothing_and_gets_all_of_it_later() {
    let disk = sim();
    let mut worker = on(&disk, OutboxLimits::default());
    disk.set_faults(Faults { hangs: true, ..Faults::default() });
    let keys = [(); 3].map(|()| match put(&mut worker, Class::Alert, true, vec![2; 90]) {
        Err(EnqueueError::NotDurable { key }) => key,
        other => panic!("{other:?}"),
    });
    let now = worker.now();
    while worker.outbox.next_to_send(now).is_some() {}
    worker.on_acked(Sent::Entry(keys[0]), Duration::ZERO);
    disk.set_faults(Faults { writes: true, syncs: true, ..Faults::default() });
    while worker.store.busy() {
        worker.on_tick(true);
    }
    assert!(!worker.store.is_open() && worker.unsaved.len() == 2);
    disk.set_faults(Faults::default());
    worker.next_reopen = Instant::now();
    worker.on_tick(true);
    assert!(worker.unsaved.is_empty() && worker.deletes.is_empty());
    drop(worker);
    let mut worker = on(&disk.after_cut(), OutboxLimits::default());
    assert_eq!(send_all(&mut worker), keys[1..]);
}

/// What the test remembers of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Made {
    class: Class,
    crash: bool,
    event: u64,
}

/// Fifteen days without a network, and the way out over a slow one.
///
/// `AGENT_OFFLINE_EVENTS=10000` runs it with as many events and the caps of base.toml; without it fewer of both.
#[test]
fn fifteen_days_without_a_network_keep_what_the_policy_says_and_leave_in_order() {
    let events: u64 = std::env::var("AGENT_OFFLINE_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let entries = events as usize;
    let limits = OutboxLimits {
        window: 10,
        entries,
        lesser_entries: entries / 4 * 3,
        bytes: 16_000_000.min(entries * 1600),
        lesser_max_age: Span::from_s(360 * 3600),
        ..OutboxLimits::default()
    };
    let days = Duration::from_secs(15 * 86_400);
    let mut disk = sim();
    let mut worker = on(&disk, limits);
    let mut made: BTreeMap<u64, Made> = BTreeMap::new();
    let (mut refused, mut given_up, mut restarts, mut commits) = (0u64, 0u64, 0, 0);
    let (mut messages, mut skipped) = (0u64, Duration::ZERO);
    let begun = std::time::Instant::now();
    for event in 0..events {
        skipped += days / events as u32;
        worker.skipped = skipped;
        worker.on_tick(true);
        let crash = event % 33 == 7;
        let size = |class, low: u64, span: u64| (low + (event * 7919 + class as u64 * 31) % span) as usize;
        let all = [
            (Class::Alert, crash, size(Class::Alert, 90, 150)),
            (Class::Report, crash, size(Class::Report, 200, 750)),
            (Class::Other, false, size(Class::Other, 60, 60)),
        ];
        for (class, crash, bytes) in all {
            messages += 1;
            match put(&mut worker, class, crash, vec![event as u8; bytes]) {
                Ok(key) => drop(made.insert(key, Made { class, crash, event })),
                Err(EnqueueError::Refused(_)) => {
                    assert!(!crash, "a crash was refused");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
            let (waiting, bytes) = (worker.outbox.waiting(), worker.outbox.waiting_bytes());
            assert!(waiting <= limits.entries && bytes <= limits.bytes, "{waiting} messages, {bytes} bytes");
        }
        // Twice the power goes.
        if event == events / 3 || event == 2 * events / 3 {
            given_up += worker.outbox.given_up().total();
            commits += worker.shared.lock().commits;
            drop(worker);
            disk = disk.after_cut();
            SKIPPED.set(skipped);
            worker = on(&disk, limits);
            restarts += 1;
        }
    }
    given_up += worker.outbox.given_up().total();
    commits += worker.shared.lock().commits;
    let waiting: BTreeMap<u64, Made> = worker.payloads.keys().map(|key| (*key, made[key])).collect();
    let of = |class, crash| waiting.values().filter(|m| m.class == class && m.crash == crash).count();
    let crashes = (0..events).filter(|event| event % 33 == 7).count();
    println!(
        "offline: {events} events, {messages} messages, {restarts} power cuts, {commits} commits, {:.1} s; waiting {} ({} bytes, {} on \
         disk): {} crash alerts, {} crash reports, {} lesser alerts, {} lesser reports, {} health; given up {given_up}",
        begun.elapsed().as_secs_f64(),
        waiting.len(),
        worker.outbox.waiting_bytes(),
        disk.used(),
        of(Class::Alert, true),
        of(Class::Report, true),
        of(Class::Alert, false),
        of(Class::Report, false),
        of(Class::Other, false)
    );
    // Every crash is there; what is missing is counted, each once; of the lesser the highest class stays, the newest of it.
    assert_eq!((of(Class::Alert, true), of(Class::Report, true)), (crashes, crashes));
    assert_eq!(messages - waiting.len() as u64, given_up, "{refused} refused");
    let lesser: Vec<u64> = waiting.values().filter(|m| m.class == Class::Alert && !m.crash).map(|m| m.event).collect();
    let newest: Vec<u64> = (0..events).filter(|e| e % 33 != 7).rev().take(lesser.len()).collect();
    assert!(lesser.iter().eq(newest.iter().rev()), "the oldest lesser alerts went first");
    assert_eq!(lesser.len() + of(Class::Report, false) + of(Class::Other, false), limits.lesser_entries);
    assert_eq!(of(Class::Report, false), 0, "no lesser report stays while a lesser alert goes");

    drain(&mut worker, &waiting);
    drop(worker);
    let worker = on(&disk, limits);
    assert_eq!(worker.outbox.waiting(), 0, "everything acknowledged is off the disk");
}

/// Everything waits to leave over 64 kbit/s with 600 ms to the broker and back; a crash happens in the middle.
fn drain(worker: &mut Worker, waiting: &BTreeMap<u64, Made>) {
    const BITS_PER_S: u64 = 64_000;
    const ROUND_TRIP: Duration = Duration::from_millis(600);
    // Topic, MQTT's and TLS's headers, TCP and IP.
    const OVERHEAD: usize = 24 + 6 + 29 + 40;
    let start = worker.skipped;
    let (mut free, mut flying) = (start, std::collections::VecDeque::new());
    let mut order: Vec<(u64, Duration)> = Vec::new();
    let (mut fresh, mut sent_bytes) = (None, 0);
    loop {
        while let Some(entry) = worker.outbox.next_to_send(worker.now()) {
            let bytes = worker.payloads[&entry.key].payload.len() + OVERHEAD;
            sent_bytes += bytes;
            free = free.max(worker.skipped) + Duration::from_micros(bytes as u64 * 8 * 1_000_000 / BITS_PER_S);
            order.push((entry.key, free - start));
            flying.push_back((free + ROUND_TRIP, entry.key));
        }
        assert!(flying.len() <= worker.outbox.limits().window);
        let Some((at, key)) = flying.pop_front() else { break };
        worker.skipped = worker.skipped.max(at);
        worker.on_acked(Sent::Entry(key), Duration::ZERO);
        if order.len() >= waiting.len() / 2 && fresh.is_none() {
            let key = put(worker, Class::Alert, true, vec![9; 200]).unwrap();
            fresh = Some((key, worker.skipped - start));
        }
    }
    worker.persist();
    let (fresh, born) = fresh.unwrap();
    let arrived = |key: u64| order.iter().find(|(k, _)| *k == key).unwrap().1 + ROUND_TRIP / 2;
    let behind = arrived(fresh) - born;
    let old: Vec<u64> = order.iter().map(|(key, _)| *key).filter(|key| *key != fresh).collect();
    let rank = |key: &u64| (waiting[key].class, !waiting[key].crash, *key);
    assert!(
        old.is_sorted_by_key(rank) && old.len() == waiting.len(),
        "alerts, then reports; crashes, then lesser; by age"
    );
    let last_of = |wanted: fn(&Made) -> bool| {
        let last = old.iter().rev().find(|key| wanted(&waiting[*key])).unwrap();
        arrived(*last).as_secs_f64()
    };
    let total = order.last().unwrap().1;
    println!(
        "at 64 kbit/s, 600 ms: crash alerts there after {:.1} s, all alerts {:.0} s, everything {:.0} s ({sent_bytes} bytes); a \
         fresh crash alert in the middle took {:.2} s",
        last_of(|m| m.class == Class::Alert && m.crash),
        last_of(|m| m.class == Class::Alert),
        total.as_secs_f64(),
        behind.as_secs_f64()
    );
    // Never faster than the link, and the window does not leave it idle for more than the round trips.
    assert!(sent_bytes as f64 * 8.0 / total.as_secs_f64() <= BITS_PER_S as f64 * 1.01);
    assert!(behind < Duration::from_secs(3), "a fresh crash waits for what is in flight and nothing else: {behind:?}");
}
