//! The outbox's policy over virtual time, held against a plain list.

use super::*;
use proptest::prelude::*;

const T0: MonoTime = MonoTime::ZERO;

fn small() -> OutboxLimits {
    OutboxLimits {
        window: 3,
        entries: 12,
        bytes: 4096,
        lesser_entries: 8,
        lesser_max_age: Span::from_s(1000),
        other_max_age: Span::from_s(100),
    }
}

fn admit(outbox: &mut Outbox, class: Class, crash: bool) -> u64 {
    outbox.admit(class, crash, 100, T0).unwrap().key
}

#[test]
fn alerts_then_reports_then_the_rest_each_with_crashes_first_and_the_oldest_first() {
    let mut o = Outbox::new(OutboxLimits { window: 10, ..small() });
    let other = admit(&mut o, Class::Other, false);
    let report = admit(&mut o, Class::Report, true);
    let lesser = admit(&mut o, Class::Alert, false);
    let first = admit(&mut o, Class::Alert, true);
    let second = admit(&mut o, Class::Alert, true);
    let order: Vec<u64> = std::iter::from_fn(|| o.next_to_send(T0)).map(|e| e.key).collect();
    assert_eq!(order, [first, second, lesser, report, other]);
    o.on_disconnected();
    assert_eq!(o.next_to_send(T0).unwrap().key, first);
}

#[test]
fn an_hour_without_a_broker_keeps_every_crash_and_counts_what_it_gives_up() {
    let mut o = Outbox::new(small());
    let (mut crashes, mut gone, mut lesser) = (Vec::new(), 0, 0);
    for minute in 0..60u64 {
        let now = T0 + Span::from_s(60 * minute);
        gone += o.expire(now).len();
        for (class, crash) in [(Class::Other, false), (Class::Alert, false), (Class::Alert, minute % 10 == 0)] {
            match o.admit(class, crash, 100, now) {
                Ok(a) => {
                    gone += a.evicted.len();
                    lesser += usize::from(!crash);
                    crashes.extend(crash.then_some(a.key));
                }
                Err(_) => assert!(!crash, "a crash was refused while lesser entries were there"),
            }
        }
    }
    assert_eq!(crashes.len(), 6);
    assert!(crashes.iter().all(|k| o.state(*k) == Some(State::Stored)));
    assert_eq!(o.waiting(), crashes.len() + lesser - gone);
    assert_eq!(o.given_up().expired + o.given_up().evicted, gone as u64);
    assert_eq!(o.given_up().crash_refused, 0);
}

#[test]
fn a_full_outbox_gives_up_the_lowest_class_first_and_never_a_higher_one() {
    let mut o = Outbox::new(OutboxLimits { lesser_entries: 2, ..small() });
    let report = admit(&mut o, Class::Report, false);
    let health = admit(&mut o, Class::Other, false);
    let alert = o.admit(Class::Alert, false, 100, T0).unwrap();
    assert_eq!(alert.evicted.iter().map(|e| e.key).collect::<Vec<_>>(), [health]);
    assert!(matches!(o.admit(Class::Other, false, 100, T0), Err(Refusal::Full { .. })));
    assert_eq!(o.state(report), Some(State::Stored));
}

#[test]
fn only_a_box_full_of_crashes_refuses_a_crash() {
    let mut o = Outbox::new(small());
    let lesser: Vec<u64> = (0..8).map(|_| admit(&mut o, Class::Alert, false)).collect();
    for _ in 0..12 {
        admit(&mut o, Class::Report, true);
    }
    assert!(lesser.iter().all(|k| o.state(*k).is_none()));
    assert_eq!(o.admit(Class::Alert, true, 100, T0), Err(Refusal::FullOfCrashes { entries: 12 }));
    assert_eq!(o.given_up().crash_refused, 1);
}

#[test]
fn restored_entries_keep_their_age_and_keys_go_on() {
    let mut o = Outbox::new(small());
    let entry = |key, crash| Entry { key, class: Class::Alert, crash, bytes: 10 };
    o.restore(entry(7, false), Span::from_s(999), T0);
    o.restore(entry(9, true), Span::from_s(1_000_000), T0);
    assert!(o.expire(T0).is_empty());
    assert_eq!(o.expire(MonoTime::from_s(2.0)), [entry(7, false)]);
    assert_eq!(admit(&mut o, Class::Alert, true), 10);
    assert_eq!(o.next_to_send(T0).unwrap().key, 9);
}

#[test]
fn a_second_acknowledgement_and_one_for_a_stranger_change_nothing() {
    let mut o = Outbox::new(small());
    let key = admit(&mut o, Class::Alert, true);
    o.next_to_send(T0).unwrap();
    assert!(o.on_acked(key));
    assert!(!o.on_acked(key));
    assert!(!o.on_acked(99));
    assert_eq!((o.waiting(), o.state(key)), (0, Some(State::Acknowledged)));
    o.on_disconnected();
    assert_eq!(o.next_to_send(T0), None);
    o.on_deleted(key);
    assert_eq!(o.state(key), None);
}

#[derive(Clone, Debug)]
enum Op {
    Admit(u8, bool, usize),
    Send,
    Ack(usize),
    Delete,
    Disconnect,
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..3u8, any::<bool>(), 1..1024usize).prop_map(|(c, crash, n)| Op::Admit(c, crash, n)),
        4 => Just(Op::Send),
        3 => (0..8usize).prop_map(Op::Ack),
        1 => Just(Op::Delete),
        1 => Just(Op::Disconnect),
        1 => (0..200u64).prop_map(Op::Pass),
    ];
    proptest::collection::vec(op, 1..200)
}

proptest! {
    /// Against a plain list: nothing is lost, no crash is given up, caps hold, the order is the written one.
    #[test]
    fn any_interleaving_keeps_the_policy(ops in ops()) {
        let limits = small();
        let mut o = Outbox::new(limits);
        let mut now = T0;
        let mut live: BTreeMap<u64, (Class, bool, usize)> = BTreeMap::new();
        let mut flying: Vec<u64> = Vec::new();
        let mut acked: Vec<u64> = Vec::new();
        for op in ops {
            let mut gone = Vec::new();
            match op {
                Op::Admit(class, crash, bytes) => {
                    let class = [Class::Alert, Class::Report, Class::Other][usize::from(class)];
                    let crashes = live.values().filter(|(_, crash, _)| *crash);
                    let (count, sum) = crashes.fold((1, bytes), |(n, sum), (_, _, b)| (n + 1, sum + b));
                    let full_of_crashes = count > limits.entries || sum > limits.bytes;
                    match o.admit(class, crash, bytes, now) {
                        Ok(a) => {
                            gone = a.evicted;
                            prop_assert!(live.insert(a.key, (class, crash, bytes)).is_none(), "a key came twice");
                        }
                        Err(_) => prop_assert!(!crash || full_of_crashes, "a crash gave way to lesser entries"),
                    }
                }
                Op::Send => {
                    let due = live.iter().filter(|(k, _)| !flying.contains(k)).map(|(k, (c, crash, _))| (*c, !*crash, *k)).min();
                    let due = if flying.len() < limits.window { due } else { None };
                    let sent = o.next_to_send(now);
                    prop_assert_eq!(sent.map(|e| (e.class, !e.crash, e.key)), due);
                    flying.extend(sent.map(|e| e.key));
                }
                Op::Ack(n) => {
                    if let Some(key) = flying.get(n).copied() {
                        prop_assert!(o.on_acked(key));
                        prop_assert!(!o.on_acked(key));
                        live.remove(&key);
                        acked.push(key);
                    }
                }
                Op::Delete => acked.drain(..).for_each(|k| o.on_deleted(k)),
                Op::Disconnect => {
                    o.on_disconnected();
                    flying.clear();
                }
                Op::Pass(s) => {
                    now = now + Span::from_s(s);
                    gone = o.expire(now);
                }
            }
            for entry in gone {
                prop_assert_eq!(live.remove(&entry.key), Some((entry.class, false, entry.bytes)), "given up: {:?}", entry);
            }
            flying.retain(|k| live.contains_key(k));
            prop_assert_eq!(o.in_flight(), flying.len());
            prop_assert_eq!(o.waiting(), live.len());
            prop_assert!(live.keys().all(|k| !matches!(o.state(*k), None | Some(State::Acknowledged))));
            prop_assert!(o.waiting() <= limits.entries && o.waiting_bytes() <= limits.bytes);
            prop_assert!(live.values().filter(|(_, crash, _)| !crash).count() <= limits.lesser_entries);
        }
    }
}
