//! Several brokers by preference: real Mosquittos that are killed and come back.

use std::time::{Duration, Instant};

use agent_link::{Link, LinkConfig, ListenConfig, Listener};
use agent_wire::{Message, Severity, Status, UnitState};

use crate::support::*;

fn two(first: u16, second: u16) -> LinkConfig {
    let mut config = config(first);
    config.others = vec![broker(second)];
    config.fall_over = Duration::from_secs(1);
    config.return_after = Duration::from_secs(2);
    config.connect_timeout_s = 1;
    config
}

fn listener(port: u16) -> Listener {
    let listener = Listener::start(ListenConfig::new(broker(port), &format!("fleet-side-{port}"))).unwrap();
    assert!(listener.wait_subscribed(DEADLINE));
    listener
}

/// Takes what comes until this alert has.
fn until_alert(listener: &Listener, seq: u32, statuses: &mut Vec<Status>) {
    until(listener, statuses, |message| matches!(message, Message::Alert(a) if a.event.seq == seq));
}

fn until(listener: &Listener, statuses: &mut Vec<Status>, done: impl Fn(&Message) -> bool) {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        let Some(received) = listener.recv(Duration::from_millis(50)) else { continue };
        let message = received.message.unwrap();
        if let Message::Status(status) = &message {
            statuses.push(status.clone());
        }
        if done(&message) {
            return;
        }
    }
    panic!("it did not come; statuses: {statuses:?}");
}

fn sends(link: &Link, seq: u32) {
    link.enqueue(&alert(seq, Severity::Critical)).unwrap();
}

#[test]
fn the_next_broker_takes_over_after_the_stated_time_and_the_preferred_one_is_returned_to() {
    let (port, other_port) = (free_port(), free_port());
    let Some(preferred) = Mosquitto::start(port) else { return };
    let _other = Mosquitto::start(other_port).unwrap();
    let (folder, mut at_first, mut at_other) = (tempfile::tempdir().unwrap(), Vec::new(), Vec::new());
    let other_side = listener(other_port);
    let link = start(two(port, other_port), folder.path());
    {
        let side = listener(port);
        sends(&link, 1);
        until_alert(&side, 1, &mut at_first);
    }
    drop(preferred);
    let killed = Instant::now();
    sends(&link, 2);
    until_alert(&other_side, 2, &mut at_other);
    let took = killed.elapsed();
    println!("over to the second broker {} ms after the first was killed", took.as_millis());
    assert!(took >= Duration::from_secs(1), "not before the stated time");
    assert!(link.wait_for(DEADLINE, |s| (s.broker, s.waiting) == (1, 0)));
    // The preferred one stays away: the tries cost the session in use nothing.
    let stats = link.stats();
    std::thread::sleep(Duration::from_millis(2500));
    sends(&link, 3);
    until_alert(&other_side, 3, &mut at_other);
    assert_eq!(link.stats().connects, stats.connects);
    let preferred = Mosquitto::start(port).unwrap();
    let side = listener(port);
    let back = Instant::now();
    assert!(link.wait_for(DEADLINE, |s| s.broker == 0 && s.connected), "{:?}", link.stats());
    println!("back at the first {} ms after it was there again", back.elapsed().as_millis());
    sends(&link, 4);
    until_alert(&side, 4, &mut at_first);
    until(&other_side, &mut at_other, |m| matches!(m, Message::Status(s) if s.state == UnitState::Lost));
    assert!(link.drain(DEADLINE));
    let stats = link.stop(DEADLINE);
    assert_eq!((stats.acked_alerts, stats.broker_changes), (4, 2), "{stats:?}");
    // Each broker was told which of the order it is.
    assert!(
        at_first.iter().all(|s| s.broker == 0) && at_other.iter().all(|s| s.broker == 1),
        "{at_first:?} {at_other:?}"
    );
    assert!(at_other.iter().any(|s| s.state == UnitState::Online));
    drop(preferred);
}

/// A preferred broker that takes connections and acknowledges nothing is left, tried now and then, and left again at once.
#[test]
fn a_preferred_broker_that_only_answers_keeps_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let (hollow, honest) = (Scripted::start(vec![Act::NeverAck]), Scripted::start(vec![Act::Serve]));
    let mut config = two(hollow.port, honest.port);
    config.watchdog = Duration::from_millis(200);
    let link = start(config, folder.path());
    for seq in 1..=60 {
        sends(&link, seq);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    let stats = link.stop(DEADLINE);
    assert_eq!((stats.acked_alerts, stats.waiting), (60, 0), "{stats:?}");
    assert_eq!(honest.alerts(), (1..=60).collect::<Vec<_>>());
    assert!(stats.broker_changes >= 2, "it was returned to and left again: {stats:?}");
}

#[test]
fn with_no_broker_anywhere_all_are_tried_in_turn_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = two(nobody().port(), nobody().port());
    config.others.push(broker(nobody().port()));
    config.fall_over = Duration::from_millis(300);
    let link = start(config.clone(), folder.path());
    sends(&link, 1);
    assert!(link.wait_for(DEADLINE, |s| s.broker_changes >= 4), "{:?}", link.stats());
    assert_eq!(link.stats().waiting, 1);
    drop(link);
    let honest = Scripted::start(vec![Act::Serve]);
    config.others.push(broker(honest.port));
    let link = start(config, folder.path());
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    assert_eq!(honest.alerts(), [1]);
}
