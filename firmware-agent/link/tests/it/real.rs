//! Against a real Mosquitto: the whole way, restarts, cuts, kills, hostile payloads and commands.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agent_link::{CommandRefusal, ListenConfig, Listener, ReceiveError, Received, Store};
use agent_wire::{
    Command as FleetCommand, CommandAction, DecodeError, Message, MessageKind, Severity, UnitId, UnitState, encode,
};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use crate::support::*;

fn listener(port: u16) -> Listener {
    let listener = Listener::start(ListenConfig::new(broker(port), "fleet-side")).unwrap();
    assert!(listener.wait_subscribed(DEADLINE));
    listener
}

/// Receives until `done` or the deadline.
fn collect(listener: &Listener, mut done: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
    let (mut out, end) = (Vec::new(), Instant::now() + DEADLINE);
    while !done(&out) && Instant::now() < end {
        out.extend(listener.recv(Duration::from_millis(100)));
    }
    out
}

/// How often each event's alert came, by sequence; the first of each not marked as a duplicate, the others marked.
fn alerts(received: &[Received]) -> BTreeMap<u32, usize> {
    let mut out = BTreeMap::new();
    for one in received {
        if let Ok(Message::Alert(alert)) = &one.message {
            let times = out.entry(alert.event.seq).or_default();
            assert_eq!(one.duplicate, *times > 0, "event {}", alert.event);
            *times += 1;
        }
    }
    out
}

fn states(received: &[Received]) -> Vec<UnitState> {
    let status = received.iter().filter_map(|r| match &r.message {
        Ok(Message::Status(status)) => Some(status.state),
        _ => None,
    });
    status.collect()
}

/// Publishes raw payloads and waits for their acknowledgement.
fn publish(port: u16, what: &[(&str, Vec<u8>, bool)]) {
    let mut options = MqttOptions::new("by-hand", "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut connection) = Client::new(options, 100);
    for (topic, payload, retain) in what {
        client.try_publish(*topic, QoS::AtLeastOnce, *retain, payload.clone()).unwrap();
    }
    let mut left = what.len();
    for event in connection.iter() {
        if let Event::Incoming(Packet::PubAck(_)) = event.unwrap() {
            left -= 1;
        }
        if left == 0 {
            return;
        }
    }
}

#[test]
fn a_message_of_each_kind_arrives_and_the_unit_says_hello_and_goodbye() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let listener = listener(mosquitto.port);
    let link = start(config(mosquitto.port), folder.path());
    for message in [alert(1, Severity::Critical), report(1), health()] {
        link.enqueue_durable(&message, DEADLINE).unwrap();
    }
    assert!(link.drain(DEADLINE));
    let stats = link.stop(DEADLINE);
    assert_eq!((stats.acked_alerts, stats.acked_reports, stats.acked_other), (1, 1, 1));
    let received = collect(&listener, |r| states(r).contains(&UnitState::Stopped));
    assert_eq!(states(&received), [UnitState::Online, UnitState::Stopped]);
    let messages: Vec<&Message> = received.iter().map(|r| r.message.as_ref().unwrap()).collect();
    for message in [alert(1, Severity::Critical), report(1), health()] {
        assert!(messages.contains(&&message));
    }
    let topics: Vec<&str> = received.iter().map(|r| r.topic.as_str()).collect();
    assert!(topics.contains(&"fleet/f/unit-7/alert") && topics.contains(&"fleet/f/unit-7/report"));
}

#[test]
fn a_broker_that_is_killed_and_comes_back_gets_everything_soon() {
    let port = free_port();
    let Some(mosquitto) = Mosquitto::start(port) else { return };
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(port, true, Vec::new());
    let first = listener(port);
    let link = start(config(proxy.port), folder.path());
    for seq in 1..=20 {
        link.enqueue(&alert(seq, Severity::Severe)).unwrap();
    }
    assert!(link.drain(DEADLINE));
    assert_eq!(alerts(&collect(&first, |r| alerts(r).len() == 20)).len(), 20);
    proxy.open.store(false, Ordering::SeqCst);
    drop((first, mosquitto));
    assert!(link.wait_for(DEADLINE, |s| !s.connected && s.disconnects >= 3));
    for seq in 21..=40 {
        link.enqueue(&alert(seq, Severity::Severe)).unwrap();
    }
    let _mosquitto = Mosquitto::start(port).unwrap();
    let second = listener(port);
    assert_eq!(link.stats().waiting, 20);
    proxy.open.store(true, Ordering::SeqCst);
    let up = Instant::now();
    assert!(link.drain(DEADLINE));
    println!("drained {} ms after the link was up", up.elapsed().as_millis());
    let received = collect(&second, |r| alerts(r).len() == 20);
    assert_eq!(alerts(&received).into_keys().collect::<Vec<_>>(), (21..=40).collect::<Vec<_>>());
}

#[test]
fn cuts_in_the_middle_of_publishing_lose_nothing_and_duplicates_have_the_same_id() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let listener = listener(mosquitto.port);
    // From inside CONNECT to inside the publishes, each connection cut a little later.
    let budgets: Vec<usize> = (0..12).map(|n| 20 + 173 * n).collect();
    let cuts = budgets.len();
    let proxy = Proxy::start(mosquitto.port, true, budgets);
    let link = start(config(proxy.port), folder.path());
    for seq in 1..=100 {
        link.enqueue_durable(&alert(seq, Severity::Severe), DEADLINE).unwrap();
    }
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    assert_eq!(link.stats().acked_alerts, 100);
    let received = collect(&listener, |r| alerts(r).len() == 100);
    assert_eq!(alerts(&received).into_keys().collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    assert!(proxy.cuts.load(Ordering::SeqCst) >= cuts / 2, "it was cut: {:?}", proxy.cuts);
}

/// Run by the next test in a process of its own, which is then killed.
#[test]
#[ignore = "started by a_killed_process_loses_nothing_that_was_accepted"]
fn child_that_is_killed() {
    let (Ok(folder), Ok(port)) = (std::env::var("LINK_TEST_FOLDER"), std::env::var("LINK_TEST_PORT")) else { return };
    let link = start(config(port.parse().unwrap()), Path::new(&folder));
    for seq in 1.. {
        if link.enqueue_durable(&alert(seq, Severity::Critical), DEADLINE).is_ok() {
            // Renamed, so that a kill between emptying and writing leaves the number before.
            let [new, durable] = ["durable.new", "durable"].map(|name| Path::new(&folder).join(name));
            std::fs::write(&new, format!("{seq}\n")).unwrap();
            std::fs::rename(new, durable).unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_accepted() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let listener = listener(mosquitto.port);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "real::child_that_is_killed"])
        .env("LINK_TEST_FOLDER", folder.path())
        .env("LINK_TEST_PORT", mosquitto.port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let durable = || std::fs::read_to_string(folder.path().join("durable")).ok()?.trim().parse::<u32>().ok();
    eventually("the child stores", || durable() >= Some(30));
    child.kill().unwrap();
    child.wait().unwrap();
    let last = durable().unwrap();
    let link = start(config(mosquitto.port), folder.path());
    assert!(link.drain(DEADLINE));
    let received = collect(&listener, |r| alerts(r).range(1..=last).count() == last as usize);
    let came = alerts(&received);
    assert!((1..=last).all(|seq| came.contains_key(&seq)), "of {last} durable ones came {came:?}");
    let mut status = states(&received);
    if !status.contains(&UnitState::Lost) {
        status.extend(states(&collect(&listener, |r| states(r).contains(&UnitState::Lost))));
    }
    assert!(status.contains(&UnitState::Lost), "the broker published the last will: {status:?}");
}

#[test]
fn hostile_payloads_get_a_named_error_and_lose_nothing() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let listener = listener(mosquitto.port);
    let good = encode(&alert(1, Severity::Severe), &mut [0; 1024]).unwrap().to_vec();
    let mut flipped = good.clone();
    flipped[9] ^= 0x40;
    let mut newer = good.clone();
    newer[2] = 9;
    let topic = "fleet/f/unit-7/alert";
    let cases = [
        (topic, Vec::new(), true),
        (topic, b"FA".to_vec(), false),
        (topic, b"{\"kind\":\"alert\"}".to_vec(), false),
        (topic, flipped, false),
        (topic, newer, false),
        (topic, [good.clone(), vec![0]].concat(), false),
        (topic, vec![0xFF; 200_000], false),
        ("fleet/f/unit-7/report", good.clone(), false),
        ("fleet/f/other/alert", good.clone(), false),
        ("fleet/f/unit-7/alert/deep", good.clone(), false),
        (topic, good.clone(), false),
        (topic, good, false),
    ];
    publish(mosquitto.port, &cases);
    let received = collect(&listener, |r| r.len() == cases.len());
    let error = |n: usize| received[n].message.clone().unwrap_err();
    assert!(matches!(error(0), ReceiveError::Decode(DecodeError::Short { have: 0, .. })));
    assert!(matches!(error(1), ReceiveError::Decode(DecodeError::Short { have: 2, .. })));
    assert!(matches!(error(2), ReceiveError::Decode(DecodeError::Magic(_))));
    assert!(matches!(error(3), ReceiveError::Decode(DecodeError::Crc { .. })));
    assert!(matches!(error(4), ReceiveError::Decode(DecodeError::Version(9))));
    assert!(matches!(error(5), ReceiveError::Decode(DecodeError::Trailing(1))));
    assert!(matches!(error(6), ReceiveError::Decode(DecodeError::Long(200_000))));
    assert_eq!(error(7), ReceiveError::Kind(MessageKind::Alert));
    assert_eq!(error(8), ReceiveError::Unit(unit()));
    assert_eq!(error(9), ReceiveError::Topic);
    assert_eq!((received[10].message.clone(), received[10].duplicate), (Ok(alert(1, Severity::Severe)), false));
    assert_eq!((received[11].message.clone(), received[11].duplicate), (Ok(alert(1, Severity::Severe)), true));
    assert_eq!((listener.stats().refused, listener.stats().duplicates), (10, 1));
}

fn command(to: &str, counter: u64) -> Vec<u8> {
    let unit = UnitId::new(to).unwrap();
    let message = Message::Command(FleetCommand { unit, counter, action: CommandAction::SendHealth });
    encode(&message, &mut [0; 256]).unwrap().to_vec()
}

#[test]
fn commands_are_taken_once_and_bad_ones_are_counted_with_the_reason() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let topic = "fleet/f/unit-7/command";
    // Retained, so that the order of subscribing and publishing does not matter.
    publish(mosquitto.port, &[(topic, command("unit-7", 5), true)]);
    let link = start(config(mosquitto.port), folder.path());
    assert!(link.wait_for(DEADLINE, |s| s.commands_taken == 1));
    assert_eq!(link.try_command().map(|c| c.counter), Some(5));
    assert_eq!(link.try_command(), None);
    let status = encode(&health(), &mut [0; 256]).unwrap().to_vec();
    for (n, (payload, reason)) in [
        (command("unit-7", 5), CommandRefusal::Old { counter: 5, last: 5 }),
        (command("someone", 6), CommandRefusal::OtherUnit),
        (status, CommandRefusal::NotACommand(MessageKind::Health)),
        (vec![1; 20], CommandRefusal::Malformed(DecodeError::Magic([1, 1]))),
    ]
    .into_iter()
    .enumerate()
    {
        publish(mosquitto.port, &[(topic, payload, false)]);
        assert!(link.wait_for(DEADLINE, |s| s.commands_refused == n as u64 + 1));
        assert_eq!(link.stats().last_refusal, Some(reason));
    }
    let _ = link.stop(DEADLINE);
    let link = start(config(mosquitto.port), folder.path());
    assert!(link.wait_for(DEADLINE, |s| s.commands_refused == 1), "the retained one again, after a restart");
    assert_eq!(link.stats().commands_taken, 0);
}

#[test]
fn a_retained_monster_on_the_command_topic_does_not_keep_alerts_back() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let folder = tempfile::tempdir().unwrap();
    publish(mosquitto.port, &[("fleet/f/unit-7/command", vec![7; 100_000], true)]);
    let link = start(config(mosquitto.port), folder.path());
    assert!(link.wait_for(DEADLINE, |s| s.disconnects == 1 && s.connects == 2), "{:?}", link.stats());
    for seq in 1..=20 {
        link.enqueue(&alert(seq, Severity::Critical)).unwrap();
    }
    assert!(link.drain(DEADLINE));
    assert_eq!((link.stats().acked_alerts, link.stats().disconnects), (20, 1), "{:?}", link.stats());
}

#[test]
fn a_link_that_is_dropped_stores_what_it_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let link = start(config(nobody().port()), folder.path());
    for seq in 1..=50 {
        link.enqueue(&alert(seq, Severity::Minor)).unwrap();
    }
    drop(link);
    let (_, opened) = Store::open(&folder.path().join("outbox.redb")).unwrap();
    assert_eq!(opened.waiting.len(), 50);
}

/// Prints the time from `enqueue` to a subscriber, and the share of the disk in it.
#[test]
#[ignore = "a measurement"]
fn measure_latency() {
    let Some(mosquitto) = Mosquitto::start(free_port()) else { return };
    let folder = tempfile::tempdir_in(".").unwrap();
    let listener = listener(mosquitto.port);
    let link = start(config(mosquitto.port), folder.path());
    assert!(link.wait_for(DEADLINE, |s| s.connected));
    let mut times = Vec::new();
    for seq in 1..=200 {
        let began = Instant::now();
        link.enqueue(&alert(seq, Severity::Critical)).unwrap();
        let came = collect(&listener, |r| alerts(r).contains_key(&seq));
        assert_eq!(alerts(&came).get(&seq), Some(&1));
        times.push(began.elapsed().as_micros());
    }
    times.sort_unstable();
    let stats = link.stop(DEADLINE);
    let commit = stats.commit_time.as_micros() / u128::from(stats.commits.max(1));
    println!("enqueue to subscriber: p50 {} us, p99 {} us, max {} us", times[100], times[198], times[199]);
    let mean = times.iter().sum::<u128>() / times.len() as u128;
    println!("mean {mean} us, of which one durable commit: mean {commit} us over {}", stats.commits);
}
