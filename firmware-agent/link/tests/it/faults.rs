//! Brokers that misbehave by script: nothing is lost, and duplicates carry the same id.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_core::outbox::OutboxLimits;
use agent_link::EnqueueError;
use agent_wire::Severity;
use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions, Outgoing, QoS, StateError};

use crate::support::*;

/// rumqttc 0.25.1 by itself (rumqtt issues 1014, 1056): after a collision and a lost session it connects again and
/// again and never publishes. The collision is made as a broker may make it: acknowledgements out of order.
#[test]
fn rumqttc_alone_wedges_after_a_collision() {
    // Ids 1, 2, 3 go out and 2 is acknowledged; the fourth publish takes id 1 again and collides; then the session is
    // lost. rumqttc's `clean` keeps the collision, the new session has nothing that could resolve it.
    let scripted = Scripted::start(vec![Act::OutOfOrderThenHold, Act::Serve]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timeouts = runtime.block_on(async {
        let mut options = MqttOptions::new("raw", "127.0.0.1", scripted.port);
        options.set_inflight(3).set_keep_alive(Duration::from_secs(1));
        let (client, mut event_loop) = AsyncClient::new(options, 100);
        for n in 0..10u8 {
            client.try_publish("fleet/f/raw/alert", QoS::AtLeastOnce, false, [n]).unwrap();
        }
        let mut timeouts = 0;
        let end = tokio::time::Instant::now() + DEADLINE;
        while timeouts < 3 && tokio::time::Instant::now() < end {
            match event_loop.poll().await {
                Err(ConnectionError::MqttState(StateError::CollisionTimeout)) => timeouts += 1,
                Ok(Event::Outgoing(Outgoing::AwaitAck(1))) => scripted.cut.store(true, Ordering::SeqCst),
                Err(_) | Ok(_) => {}
            }
        }
        timeouts
    });
    assert_eq!(timeouts, 3, "three sessions in a row ended over the collision of the first");
    assert_eq!(scripted.kinds(0).len(), 3);
    let later: usize = (1..=4).map(|n| scripted.kinds(n).len()).sum();
    assert_eq!(later, 0, "nothing was published after the cut: if this fails, rumqttc was mended");
}

#[test]
fn the_link_goes_on_where_rumqttc_wedges() {
    let folder = tempfile::tempdir().unwrap();
    for first in [Act::OutOfOrderThenHold, Act::OutOfOrderThenCut(3), Act::OutOfOrderThenCut(4)] {
        let scripted = Scripted::start(vec![first, Act::Serve]);
        let mut config = config(scripted.port);
        config.limits = OutboxLimits { window: 3, ..OutboxLimits::default() };
        let link = start(config, folder.path());
        for seq in 1..=10 {
            link.enqueue(&alert(seq, Severity::Critical)).unwrap();
        }
        // With two of three unacknowledged the link sends a fourth where rumqttc collides; then the session is lost.
        eventually("a fourth publish", || scripted.taken.lock().unwrap().len() >= 4);
        scripted.cut.store(true, Ordering::SeqCst);
        assert!(link.drain(DEADLINE), "{:?}", link.stats());
        assert_eq!(scripted.alerts(), (1..=10).collect::<Vec<_>>());
        let stats = link.stop(DEADLINE);
        assert_eq!(stats.acked_alerts, 10);
    }
}

#[test]
fn every_kind_of_failing_broker_is_outlived() {
    let folder = tempfile::tempdir().unwrap();
    let scripted = Scripted::start(vec![
        Act::CloseAtOnce,
        Act::Refuse(5),
        Act::NeverAck,
        Act::AckTwice,
        Act::Garbage,
        Act::OutOfOrderThenCut(5),
        Act::Slow(Duration::from_millis(5)),
    ]);
    let mut config = config(scripted.port);
    config.watchdog = Duration::from_millis(400);
    let link = start(config, folder.path());
    for seq in 1..=60 {
        link.enqueue(&alert(seq, Severity::Severe)).unwrap();
    }
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    let stats = link.stop(DEADLINE);
    assert_eq!(scripted.alerts(), (1..=60).collect::<Vec<_>>(), "nothing lost");
    assert_eq!((stats.acked_alerts, stats.refused), (60, 1), "each counted once: {stats:?}");
    assert!(stats.watchdog >= 1 && stats.disconnects >= 4, "{stats:?}");
    assert_eq!(stats.given_up, agent_core::outbox::GivenUp::default());
}

#[test]
fn a_broker_slower_than_the_watchdog_still_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let scripted = Scripted::start(vec![Act::Slow(Duration::from_millis(700))]);
    let mut config = config(scripted.port);
    config.watchdog = Duration::from_millis(300);
    let link = start(config, folder.path());
    for seq in 1..=4 {
        link.enqueue(&alert(seq, Severity::Severe)).unwrap();
    }
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    assert_eq!(scripted.alerts(), [1, 2, 3, 4]);
    assert!(link.stats().watchdog >= 1, "it was slower than the watchdog");
}

#[test]
fn a_backlog_goes_out_alerts_first_then_reports_then_health() {
    let folder = tempfile::tempdir().unwrap();
    let port = nobody().port();
    let link = start(config(port), folder.path());
    for seq in 1..=3 {
        link.enqueue_durable(&health(), DEADLINE).unwrap();
        link.enqueue_durable(&report(seq), DEADLINE).unwrap();
        link.enqueue_durable(&alert(seq, Severity::Minor), DEADLINE).unwrap();
    }
    assert!(link.wait_for(DEADLINE, |s| s.disconnects >= 2), "it tries again: {:?}", link.stats());
    assert_eq!(link.stats().waiting, 9);
    drop(link);
    let scripted = Scripted::start(vec![Act::Serve]);
    let link = start(config(scripted.port), folder.path());
    assert_eq!(link.stats().restored, 9);
    assert!(link.drain(DEADLINE));
    let expected = ["alert", "alert", "alert", "report", "report", "report", "health", "health", "health"];
    assert_eq!(scripted.kinds(0), expected);
}

#[test]
fn acknowledged_messages_do_not_come_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let scripted = Scripted::start(vec![Act::Serve]);
    for seq in 1..=3 {
        let link = start(config(scripted.port), folder.path());
        assert_eq!(link.stats().restored, 0, "deleted on acknowledgement");
        link.enqueue(&alert(seq, Severity::Critical)).unwrap();
        assert_eq!(link.stop(DEADLINE).acked_alerts, 1);
        assert_eq!(scripted.kinds(seq as usize - 1), ["alert"]);
    }
}

#[test]
fn a_full_queue_keeps_places_for_crashes_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(nobody().port());
    config.limits = OutboxLimits { entries: 10, lesser_entries: 4, ..OutboxLimits::default() };
    let link = start(config, folder.path());
    for seq in 1..=10 {
        link.enqueue_durable(&alert(seq, Severity::Critical), DEADLINE).unwrap();
        // What is lesser gives way or is refused by name; it never takes a crash's place.
        match link.enqueue_durable(&alert(100 + seq, Severity::Minor), DEADLINE) {
            Ok(_) | Err(EnqueueError::Refused(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let full = link.enqueue_durable(&alert(11, Severity::Critical), DEADLINE).unwrap_err();
    assert_eq!(full.to_string(), "outbox full of 10 crash messages");
    let stats = link.stats();
    assert_eq!((stats.waiting, stats.given_up.crash_refused), (10, 1));
    assert!(matches!(link.enqueue(&agent_status()), Err(EnqueueError::Kind(_))));
}

fn agent_status() -> agent_wire::Message {
    agent_wire::Message::Status(agent_wire::Status {
        unit: unit(),
        boot: 1,
        state: agent_wire::UnitState::Online,
        version: heapless::String::new(),
        config: agent_wire::Hash8::default(),
        broker: 0,
    })
}
