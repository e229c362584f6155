//! The fleet's side of a simulated world: the broker, what arrived, and what had to.

use std::collections::{BTreeMap, BTreeSet};

use agent_link::store::Stored;
use agent_wire::{Message, Severity, decode};

/// Everything that reached the broker, and all that must.
#[derive(Default)]
pub(super) struct Fleet {
    /// Payload of each message, by event, kind and revision; how often it came.
    arrived: BTreeMap<String, (Vec<u8>, u64)>,
    /// Messages that were stored durably, or sent: they must arrive.
    owed: BTreeSet<String>,
    /// Events by id, with the time of the unit at their first alert.
    events: BTreeMap<String, u64>,
    pub(super) crashes: u64,
}

/// Event, kind and revision of a message.
fn name(stored: &Stored) -> Result<(String, Message), String> {
    let message = decode(&stored.payload).map_err(|e| format!("a message cannot be read: {e}"))?;
    let name = match &message {
        Message::Alert(alert) => format!("{} alert {}", alert.event, alert.revision),
        Message::Report(report) => format!("{} report", report.event),
        other => format!("{other:?}"),
    };
    Ok((name, message))
}

impl Fleet {
    /// The agent said something: ids are one event's alone.
    pub(super) fn said(&mut self, message: &Message, now_ms: u64) -> Result<(), String> {
        let Message::Alert(alert) = message else { return Ok(()) };
        let id = alert.event.to_string();
        if alert.revision == 0 {
            self.crashes += u64::from(alert.severity >= Severity::Severe);
            if let Some(before) = self.events.insert(id.clone(), now_ms) {
                return Err(format!("event {id} of {before} ms comes again at {now_ms} ms"));
            }
        } else if !self.events.contains_key(&id) {
            return Err(format!("event {id} is raised and was never told"));
        }
        Ok(())
    }

    /// A message was stored durably.
    pub(super) fn owe(&mut self, stored: &Stored) -> Result<(), String> {
        self.owed.insert(name(stored)?.0);
        Ok(())
    }

    /// The policy gave a message up: crash messages never.
    pub(super) fn forgive(&mut self, stored: &Stored) -> Result<(), String> {
        if stored.crash {
            return Err(format!("{} of a crash was given up", name(stored)?.0));
        }
        self.owed.remove(&name(stored)?.0);
        Ok(())
    }

    /// A message arrived.
    pub(super) fn arrive(&mut self, stored: &Stored) -> Result<(), String> {
        let (name, _) = name(stored)?;
        let (payload, times) = self.arrived.entry(name.clone()).or_insert_with(|| (stored.payload.clone(), 0));
        if *payload != stored.payload {
            return Err(format!("{name} arrived with two contents"));
        }
        *times += 1;
        Ok(())
    }

    /// What was owed and is not there.
    pub(super) fn missing(&self) -> Option<&str> {
        self.owed.iter().find(|name| !self.arrived.contains_key(*name)).map(String::as_str)
    }

    pub(super) fn events(&self) -> u64 {
        self.events.len() as u64
    }

    /// Messages that arrived, and how many times one came again.
    pub(super) fn delivered(&self) -> (u64, u64) {
        (self.arrived.len() as u64, self.arrived.values().map(|(_, times)| times - 1).sum())
    }
}
