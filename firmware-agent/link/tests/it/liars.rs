//! Brokers that break the protocol: acknowledge late, twice, never, ahead, or what was not sent, or claim a session that was not asked
//! for. What must hold: a message goes from the outbox when the broker that took it says so and for no other reason, everything
//! arrives once a broker keeps to the protocol, and a liar costs neither the processor nor the network much.

use std::time::{Duration, Instant};

use agent_link::LinkConfig;
use agent_link::backoff::BackoffConfig;
use agent_wire::Severity;

use crate::support::*;

fn patient(port: u16) -> LinkConfig {
    let mut config = config(port);
    config.watchdog = Duration::from_millis(300);
    config.connect_timeout_s = 1;
    config.backoff = BackoffConfig { first: Duration::from_millis(20), ..BackoffConfig::default() };
    config
}

const LIES: [Act; 13] = [
    Act::OldSession,
    Act::NoConnack,
    Act::ConnackAgain,
    Act::AckUnknown,
    Act::AckAhead,
    Act::AckOfBefore,
    Act::Pubrec,
    Act::AckAllButFirst,
    Act::NoSubscription,
    Act::StraySuback,
    Act::AckTwice,
    Act::NeverAck,
    // Later than the watchdog waits.
    Act::Slow(Duration::from_millis(400)),
];

#[test]
fn after_any_lie_everything_arrives_and_is_counted_once() {
    for lie in LIES {
        let folder = tempfile::tempdir().unwrap();
        let scripted = Scripted::start(vec![lie, lie, Act::Serve]);
        let link = start(patient(scripted.port), folder.path());
        for seq in 1..=20 {
            link.enqueue(&alert(seq, Severity::Critical)).unwrap();
        }
        // Harmless lies do not end a session: that must be the end of it too.
        assert!(link.drain(DEADLINE), "{lie:?}: {:?}", link.stats());
        let stats = link.stop(DEADLINE);
        println!("{lie:?}: {} sessions, {} stray, {:?}", stats.connects, stats.stray_acks, stats.last_end);
        assert_eq!(scripted.alerts(), (1..=20).collect::<Vec<_>>(), "{lie:?}: {stats:?}");
        assert_eq!((stats.acked_alerts, stats.waiting, stats.given_up.total()), (20, 0, 0), "{lie:?}: {stats:?}");
    }
}

/// A broker that only ever lies: what it did not take, or did not acknowledge, is still there after a restart.
#[test]
fn what_a_liar_did_not_acknowledge_stays_and_it_is_not_asked_without_pause() {
    for lie in [Act::NoConnack, Act::AckAhead, Act::AckOfBefore, Act::Pubrec, Act::NeverAck] {
        let folder = tempfile::tempdir().unwrap();
        let scripted = Scripted::start(vec![lie]);
        let mut config = patient(scripted.port);
        config.backoff = BackoffConfig::default();
        let begun = Instant::now();
        let link = start(config.clone(), folder.path());
        for seq in 1..=20 {
            link.enqueue_durable(&alert(seq, Severity::Critical), DEADLINE).unwrap();
        }
        // Two failed sessions at least, and a while.
        assert!(link.wait_for(DEADLINE, |s| s.disconnects >= 2), "{lie:?}: {:?}", link.stats());
        std::thread::sleep(Duration::from_millis(800));
        let seconds = begun.elapsed().as_secs_f64();
        let stats = link.stop(Duration::ZERO);
        // A session that acknowledged something may be followed by the next after half of the first wait.
        assert!((stats.disconnects as f64) < 4.0 + 20.0 * seconds, "{lie:?}: {stats:?} in {seconds:.1} s");
        let acked = usize::try_from(stats.acked_alerts).unwrap();
        if !matches!(lie, Act::AckOfBefore) {
            assert_eq!(acked, 0, "{lie:?}: {stats:?}");
        }
        let honest = Scripted::start(vec![Act::Serve]);
        config.broker = broker(honest.port);
        let link = start(config, folder.path());
        assert!(link.drain(DEADLINE), "{lie:?}: {:?}", link.stats());
        // An acknowledgement that the liar sent before the publish reached it can be taken for one of that publish, if the publish was
        // on its way by then: the protocol has nothing that would tell. Anything else that is missing would be our fault.
        let came = honest.alerts();
        assert_eq!(came.len() + acked, 20, "{lie:?}: {came:?}");
    }
}

/// One message that the broker takes and never acknowledges does not hold up the others.
#[test]
fn a_message_that_is_never_acknowledged_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let scripted = Scripted::start(vec![Act::AckAllButFirst]);
    let link = start(patient(scripted.port), folder.path());
    for seq in 1..=40 {
        link.enqueue(&alert(seq, Severity::Critical)).unwrap();
    }
    assert!(link.wait_for(DEADLINE, |s| s.waiting == 1), "{:?}", link.stats());
    assert_eq!(scripted.alerts(), (1..=40).collect::<Vec<_>>());
    // It goes on being sent, with longer and longer pauses.
    assert!(link.wait_for(DEADLINE, |s| s.watchdog >= 2 && s.waiting == 1), "{:?}", link.stats());
}

/// A refused subscription means that no command ever comes: it is counted, and sending goes on.
#[test]
fn a_refused_subscription_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let scripted = Scripted::start(vec![Act::NoSubscription]);
    let link = start(patient(scripted.port), folder.path());
    assert!(link.wait_for(DEADLINE, |s| s.subscriptions_refused == 1), "{:?}", link.stats());
    link.enqueue(&alert(1, Severity::Critical)).unwrap();
    assert!(link.drain(DEADLINE));
    assert_eq!(link.stats().disconnects, 0);
}
