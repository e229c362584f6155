//! What a unit takes on its command topic, and what it refuses.

use agent_wire::EventId;

use super::*;

const NOW: Duration = Duration::from_secs(1000);

fn name(text: &str) -> UnitId {
    UnitId::new(text).unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32]).unwrap()
}

fn of(unit: &str, counter: u64, action: CommandAction) -> Command {
    Command { unit: name(unit), counter, action }
}

fn keep(unit: &str) -> CommandAction {
    CommandAction::KeepEvidence(EventId { unit: name(unit), boot: 1, seq: 2 })
}

fn plain(command: &Command) -> Vec<u8> {
    encode(&Message::Command(command.clone()), &mut [0; 256]).unwrap().to_vec()
}

fn gate(keys: &[u8]) -> Gate {
    let keys = keys.iter().map(|k| key(*k).public()).collect();
    Gate::new(name("north"), name("me"), &CommandPolicy { keys, max_per_minute: 0 })
}

#[test]
fn without_a_key_only_a_request_for_health_is_taken() {
    let mut gate = gate(&[]);
    let mut judge = |payload: &[u8]| gate.judge(payload, NOW, |_| 4).map(|j| (j.command.counter, j.counter));
    assert_eq!(judge(&plain(&of("me", 5, CommandAction::SendHealth))), Ok((5, "command".to_owned())));
    assert_eq!(
        judge(&plain(&of("me", 4, CommandAction::SendHealth))),
        Err(CommandRefusal::Old { counter: 4, last: 4 })
    );
    assert_eq!(judge(&plain(&of("you", 5, CommandAction::SendHealth))), Err(CommandRefusal::OtherUnit));
    assert_eq!(judge(&plain(&of("me", 5, keep("me")))), Err(CommandRefusal::NotSigned));
    let signed = sign_command(&key(1), &name("north"), &of("me", 5, keep("me"))).unwrap();
    assert_eq!(judge(&signed), Err(CommandRefusal::NoKeys));
    assert!(matches!(judge(b"FA"), Err(CommandRefusal::Malformed(DecodeError::Short { .. }))));
    let mut flipped = plain(&of("me", 5, CommandAction::SendHealth));
    flipped[8] ^= 1;
    assert!(matches!(judge(&flipped), Err(CommandRefusal::Malformed(DecodeError::Crc { .. }))));
}

#[test]
fn with_a_key_only_what_it_signed_for_this_unit_and_fleet_is_taken() {
    let mut gate = gate(&[1, 2]);
    let command = of("me", 9, keep("me"));
    let good = sign_command(&key(2), &name("north"), &command).unwrap();
    let taken = gate.judge(&good, NOW, |_| 8).unwrap();
    assert_eq!((taken.command, taken.counter), (command.clone(), format!("command:{}", key(2).public().id())));
    let mut judge = |payload: &[u8]| gate.judge(payload, NOW, |_| 8).map(drop);
    assert_eq!(judge(&plain(&of("me", 9, CommandAction::SendHealth))), Err(CommandRefusal::NotSigned));
    assert_eq!(judge(&sign_command(&key(3), &name("north"), &command).unwrap()), Err(CommandRefusal::UnknownKey));
    assert_eq!(judge(&sign_command(&key(1), &name("south"), &command).unwrap()), Err(CommandRefusal::BadSignature));
    // Signed for another unit, and one whose outer unit was this one's.
    let other = sign_command(&key(1), &name("north"), &of("you", 9, keep("you"))).unwrap();
    assert_eq!(judge(&other), Err(CommandRefusal::BadSignature));
    let old = sign_command(&key(1), &name("north"), &of("me", 8, keep("me"))).unwrap();
    assert_eq!(judge(&old), Err(CommandRefusal::Old { counter: 8, last: 8 }));
    // The key's id of one, the signature of another.
    let mut swapped = sign_command(&key(1), &name("north"), &command).unwrap();
    swapped[3..11].copy_from_slice(&key(2).public().id().0);
    assert_eq!(judge(&swapped), Err(CommandRefusal::BadSignature));
    assert_eq!(judge(&good[..40]), Err(CommandRefusal::Form));
    assert_eq!(judge(&[b'F', b'C', 9]), Err(CommandRefusal::Form));
    assert_eq!(judge(&[&good[..], &[0; 300]].concat()), Err(CommandRefusal::TooLong(good.len() + 300)));
}

/// Whatever bit is turned, it is refused, and nothing of it reaches the agent.
#[test]
fn no_bit_of_a_signed_command_can_be_changed() {
    let good = sign_command(&key(1), &name("north"), &of("me", 9, keep("me"))).unwrap();
    let mut checked = 0;
    for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        // Each on a fresh gate, so that the limit of the checks plays no part.
        assert!(gate(&[1]).judge(&bad, NOW, |_| 0).is_err(), "byte {at}, bit {bit}");
        checked += 1;
    }
    assert!(checked > 8 * HEAD);
    assert!(gate(&[1]).judge(&good, NOW, |_| 0).is_ok());
}

#[test]
fn more_than_a_minutes_share_is_refused_and_taken_later() {
    let mut gate = gate(&[1]);
    let at = |counter| sign_command(&key(1), &name("north"), &of("me", counter, CommandAction::SendHealth)).unwrap();
    let mut taken = 0;
    for counter in 1..=20 {
        match gate.judge(&at(counter), NOW, |_| counter - 1) {
            Ok(_) => taken += 1,
            Err(refusal) => assert_eq!(refusal, CommandRefusal::TooFast),
        }
    }
    assert_eq!(taken, COMMAND_BURST);
    assert!(gate.judge(&at(21), NOW + Duration::from_secs(3), |_| 20).is_ok(), "30 a minute are one in two seconds");
    assert_eq!(gate.judge(&at(22), NOW + Duration::from_secs(3), |_| 21), Err(CommandRefusal::TooFast));
}

/// A flood of bad signatures is not checked one by one.
#[test]
fn checks_of_signatures_are_bounded() {
    let mut gate = gate(&[1]);
    let mut bad = sign_command(&key(1), &name("north"), &of("me", 9, keep("me"))).unwrap();
    bad[20] ^= 1;
    let refusals: Vec<_> = (0..1000).map(|_| gate.judge(&bad, NOW, |_| 0).unwrap_err()).collect();
    let checked = refusals.iter().filter(|r| **r == CommandRefusal::BadSignature).count();
    assert_eq!(checked, CHECKS_BURST as usize);
    assert!(refusals[checked..].iter().all(|r| *r == CommandRefusal::TooFast));
}
