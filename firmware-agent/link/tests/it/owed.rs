//! Which reports are owed, over failures of the disk and restarts.

use std::path::Path;
use std::sync::Arc;

use agent_core::outbox::Class;
use agent_disk::{Disk as _, Faults, SimDisk};
use agent_link::store::{Opened, Stored};
use agent_link::{Store, limits};
use agent_wire::{Message, Severity};

use crate::support::{alert, report};

const STORE: &str = "data/outbox.redb";

fn stored(key: u64, message: &Message) -> Stored {
    let mut buffer = [0; agent_wire::limits::MESSAGE_BYTES];
    let payload = agent_wire::encode(message, &mut buffer).unwrap().to_vec();
    let class = if matches!(message, Message::Alert(_)) { Class::Alert } else { Class::Report };
    Stored { key, class, crash: true, kind: message.kind(), created_unix_ms: 5, payload }
}

/// The alert of an event, and its report.
fn both(seq: u32) -> (Stored, Stored) {
    let key = u64::from(2 * seq);
    (stored(key, &alert(seq, Severity::Severe)), stored(key + 1, &report(seq)))
}

fn open(disk: &SimDisk) -> (Store, Opened) {
    disk.make_folder(Path::new("data")).unwrap();
    Store::open_on(Arc::new(disk.clone()), Path::new(STORE)).unwrap()
}

fn owed(opened: &Opened) -> Vec<u32> {
    opened.owed.iter().map(|alert| alert.event.seq).collect()
}

#[test]
fn a_report_is_owed_from_the_alert_on_and_no_longer_than_to_its_report() {
    let disk = SimDisk::new(8);
    let (first, second, third) = (both(1), both(2), both(3));
    let (mut store, opened) = open(&disk);
    assert!(owed(&opened).is_empty());
    store.commit(&[&third.0, &first.0], &[]).unwrap();
    store.commit(&[&second.0, &second.1], &[]).unwrap();
    // Sent or not makes no difference.
    store.commit(&[], &[first.0.key]).unwrap();
    drop(store);
    let (mut store, opened) = open(&disk);
    assert_eq!(owed(&opened), [1, 3], "oldest first");
    // A disk that fails: what was owed and what comes meanwhile are in the store that is made anew.
    disk.set_faults(Faults { writes: true, ..Faults::default() });
    store.commit(&[&first.1], &[]).unwrap_err();
    disk.set_faults(Faults::default());
    assert_eq!(store.reopen([first.1].iter()).unwrap(), None);
    drop(store);
    assert_eq!(owed(&open(&disk).1), [3]);
    // A store that could not be read at the start forgets neither what it had nor what came since.
    let fourth = both(4);
    let mut late = Store::without_disk(Arc::new(disk.clone()), Path::new(STORE));
    late.commit(&[&fourth.0], &[]).unwrap_err();
    let found = late.reopen([fourth.0.clone()].iter()).unwrap().expect("what was there");
    assert_eq!(owed(&found), [3]);
    late.commit(&[&fourth.0], &[]).unwrap();
    drop(late);
    assert_eq!(owed(&open(&disk).1), [3, 4]);
}

#[test]
fn of_too_many_events_without_a_report_the_oldest_are_forgotten() {
    let disk = SimDisk::new(9);
    let (mut store, _) = open(&disk);
    for seq in 0..limits::OWED as u32 + 3 {
        store.commit(&[&both(seq).0], &[]).unwrap();
    }
    drop(store);
    let opened = open(&disk).1;
    assert_eq!((opened.owed.len(), opened.owed[0].event.seq), (limits::OWED, 3));
}
