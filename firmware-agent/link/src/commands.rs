//! Which commands a unit takes. Judges only; carries nothing out.

use agent_wire::{Command, DecodeError, Message, MessageKind, UnitId, decode};

/// Why a message on the command topic was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// Not a message at all.
    #[error("not a message: {0}")]
    Malformed(#[from] DecodeError),
    /// A message of another kind.
    #[error("a {0:?} on the command topic")]
    NotACommand(MessageKind),
    /// For another unit.
    #[error("for another unit")]
    OtherUnit,
    /// Its counter is not above that of the last accepted command.
    #[error("counter {counter} is not above {last}")]
    Old {
        /// Of the command.
        counter: u64,
        /// Of the last accepted one.
        last: u64,
    },
    /// The agent has not taken the earlier ones yet.
    #[error("too many commands wait")]
    Busy,
    /// Its counter could not be kept, so it might be taken twice.
    #[error("the counter could not be stored")]
    NotStored,
}

/// Checks one payload from the command topic.
pub(crate) fn judge(payload: &[u8], unit: &UnitId, last: u64) -> Result<Command, CommandRefusal> {
    match decode(payload)? {
        Message::Command(command) if command.unit != *unit => Err(CommandRefusal::OtherUnit),
        Message::Command(command) if command.counter <= last => {
            Err(CommandRefusal::Old { counter: command.counter, last })
        }
        Message::Command(command) => Ok(command),
        other => Err(CommandRefusal::NotACommand(other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_wire::{CommandAction, encode};

    fn bytes(unit: &str, counter: u64) -> Vec<u8> {
        let unit = UnitId::new(unit).unwrap();
        let message = Message::Command(Command { unit, counter, action: CommandAction::SendHealth });
        encode(&message, &mut [0; 256]).unwrap().to_vec()
    }

    #[test]
    fn only_a_new_command_for_this_unit_is_taken() {
        let me = UnitId::new("me").unwrap();
        assert_eq!(judge(&bytes("me", 5), &me, 4).unwrap().counter, 5);
        assert_eq!(judge(&bytes("me", 5), &me, 5), Err(CommandRefusal::Old { counter: 5, last: 5 }));
        assert_eq!(judge(&bytes("you", 5), &me, 4), Err(CommandRefusal::OtherUnit));
        assert!(matches!(judge(b"FA", &me, 4), Err(CommandRefusal::Malformed(DecodeError::Short { .. }))));
        let mut flipped = bytes("me", 5);
        flipped[8] ^= 1;
        assert!(matches!(judge(&flipped, &me, 4), Err(CommandRefusal::Malformed(DecodeError::Crc { .. }))));
    }
}
