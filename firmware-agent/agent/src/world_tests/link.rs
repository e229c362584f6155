//! The link of a simulated unit, in the order of `agent-link`'s thread: policy, one durable transaction, then sending; deletions
//! ride with the next one. That thread itself, with its sockets, is tested there.

use agent_core::outbox::{Class, Entry, State};
use agent_core::time::Span;
use agent_link::store::{Opened, Stored};
use agent_wire::{Message, MessageKind};

use super::Planted;
use super::unit::{End, Turn, Unit, WALL, World, broken};

const REOPEN_EVERY: u64 = 5_000;

impl World {
    pub(super) fn put(&mut self, unit: &mut Unit, class: Class, crash: bool, message: &Message) -> Turn {
        self.fleet.said(message, self.now).map_err(End::Broken)?;
        let mut buffer = [0; agent_wire::limits::MESSAGE_BYTES];
        let payload = agent_wire::encode(message, &mut buffer).map_err(|e| End::Broken(e.to_string()))?.to_vec();
        let kind = if class == Class::Alert { MessageKind::Alert } else { MessageKind::Report };
        let admitted = match unit.outbox.admit(class, crash, payload.len(), unit.time(self.now)) {
            Ok(admitted) => admitted,
            // Full: lesser messages may be refused.
            Err(_) if !crash => {
                self.trace.given_up += 1;
                return Ok(());
            }
            Err(refusal) => return broken(format!("a crash was refused: {refusal}")),
        };
        self.forget(unit, &admitted.evicted)?;
        let key = admitted.key;
        unit.payloads.insert(key, Stored { key, class, crash, kind, created_unix_ms: WALL + self.now, payload });
        unit.unsaved.insert(key);
        if self.planted == Planted::SendsFirst {
            self.send(unit)?;
        }
        unit.persist(self)
    }

    fn forget(&mut self, unit: &mut Unit, entries: &[Entry]) -> Turn {
        for entry in entries {
            self.trace.given_up += 1;
            if let Some(stored) = unit.payloads.remove(&entry.key) {
                self.fleet.forgive(&stored).map_err(End::Broken)?;
            }
            if !unit.unsaved.remove(&entry.key) {
                unit.deletes.insert(entry.key);
            }
        }
        Ok(())
    }

    /// The way to the broker: connection, sending, acknowledgements, and what the disk still has to hear.
    pub(super) fn link(&mut self, unit: &mut Unit) -> Turn {
        let reachable = self.now >= self.until.network;
        if unit.connected && !reachable {
            unit.outbox.on_disconnected();
            unit.acks.clear();
        }
        unit.connected = reachable;
        let due: Vec<u64> = unit.acks.extract_if(.., |(at, _)| *at <= self.now).map(|(_, key)| key).collect();
        for key in due {
            self.note(&[self.now, 7]);
            if unit.outbox.on_acked(key) {
                unit.payloads.remove(&key);
                unit.unsaved.remove(&key);
                unit.deletes.insert(key);
            }
        }
        let expired = unit.outbox.expire(unit.time(self.now));
        self.forget(unit, &expired)?;
        if !unit.unsaved.is_empty() {
            // What a disk that hung has not taken yet.
            unit.persist(self)?;
        }
        self.send(unit)?;
        if self.now.is_multiple_of(1000) {
            unit.persist(self)?;
        }
        Ok(())
    }

    fn send(&mut self, unit: &mut Unit) -> Turn {
        while unit.connected
            && let Some(entry) = unit.outbox.next_to_send(unit.time(self.now))
        {
            let alert_waits = |(key, stored): (&u64, &Stored)| {
                stored.class == Class::Alert && matches!(unit.outbox.state(*key), Some(State::Stored))
            };
            if entry.class != Class::Alert && unit.payloads.iter().any(alert_waits) {
                return broken(format!("{:?} {} goes before an alert", entry.class, entry.key));
            }
            let Some(stored) = unit.payloads.get(&entry.key) else { return broken("sent from nothing".to_owned()) };
            if unit.unsaved.contains(&entry.key) {
                if self.until.disk == 0 && self.now >= self.until.hang && unit.next_reopen <= self.now {
                    return broken(format!("message {} is sent and not stored", entry.key));
                }
                self.trace.not_durable += 1;
            }
            self.fleet.arrive(stored).map_err(End::Broken)?;
            self.note(&[self.now, 5, entry.class as u64, u64::from(entry.crash)]);
            if self.now < self.until.acks {
                // It comes to nothing: the watchdog takes the connection for dead and sends again.
                unit.acks.push((u64::MAX, entry.key));
            } else {
                let at = self.now + 100 + self.rng.next_u64() % 400;
                unit.acks.push((at, entry.key));
                if self.now < self.until.twice {
                    unit.acks.push((at + 300, entry.key));
                }
            }
        }
        if unit.acks.iter().any(|(at, _)| *at == u64::MAX) && self.now >= self.until.acks {
            unit.outbox.on_disconnected();
            unit.acks.retain(|(at, _)| *at != u64::MAX);
        }
        Ok(())
    }
}

impl Unit {
    pub(super) fn restore(&mut self, opened: Opened, now: u64) {
        for stored in opened.waiting {
            let entry =
                Entry { key: stored.key, class: stored.class, crash: stored.crash, bytes: stored.payload.len() };
            let age = Span::from_ms((WALL + now).saturating_sub(stored.created_unix_ms));
            self.outbox.restore(entry, age, self.time(now));
            self.payloads.insert(stored.key, stored);
        }
    }

    /// Brings the disk to what the outbox says.
    pub(super) fn persist(&mut self, world: &mut World) -> Turn {
        if world.now < world.until.hang {
            return Ok(());
        }
        if !self.store.is_open() {
            if world.now < self.next_reopen {
                return Ok(());
            }
            self.next_reopen = world.now + REOPEN_EVERY;
            match self.store.reopen(self.payloads.values()) {
                Ok(Some(opened)) => self.restore(opened, world.now),
                Ok(None) => self.saved(world)?,
                Err(_) if world.disk.is_off() => return Err(End::Power),
                Err(_) => return Ok(()),
            }
        }
        if self.unsaved.is_empty() && self.deletes.is_empty() {
            return Ok(());
        }
        let puts: Vec<&Stored> = self.unsaved.iter().filter_map(|key| self.payloads.get(key)).collect();
        let deletes: Vec<u64> = self.deletes.iter().copied().collect();
        match self.store.commit(&puts, &deletes) {
            Ok(()) => self.saved(world),
            Err(_) if world.disk.is_off() => Err(End::Power),
            Err(_) if world.until.disk != 0 => {
                self.next_reopen = world.now + REOPEN_EVERY;
                Ok(())
            }
            Err(error) => broken(format!("a message is not taken: {error}")),
        }
    }

    fn saved(&mut self, world: &mut World) -> Turn {
        for key in std::mem::take(&mut self.unsaved) {
            if let Some(stored) = self.payloads.get(&key) {
                world.fleet.owe(stored).map_err(End::Broken)?;
            }
        }
        for key in std::mem::take(&mut self.deletes) {
            self.outbox.on_deleted(key);
        }
        Ok(())
    }
}
