//! What the fleet is still owed: events whose alert was stored and whose report was not. Kept in the same transactions as the two, so
//! that after a power cut or a kill it is known which events have to be reported yet, and none is reported twice.

use std::collections::BTreeMap;

use agent_wire::{Alert, Message, decode};

use crate::limits::OWED;
use crate::store::Stored;

/// The latest alert of each such event as it went out, by the event's name: oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed(BTreeMap<String, Vec<u8>>);

/// A change to a table of the same: a new value, or that there is none any more.
pub(crate) type Change = (String, Option<Vec<u8>>);

impl Owed {
    /// Takes note of what is put into the store; the changes for the one on disk.
    pub(crate) fn note(&mut self, puts: &[&Stored]) -> Vec<Change> {
        let mut changes = Vec::new();
        for stored in puts {
            match decode(&stored.payload) {
                Ok(Message::Alert(alert)) => {
                    let event = alert.event.to_string();
                    self.0.insert(event.clone(), stored.payload.clone());
                    changes.push((event, Some(stored.payload.clone())));
                    // Bounded: the oldest will not be reported any more.
                    if self.0.len() > OWED
                        && let Some((oldest, _)) = self.0.pop_first()
                    {
                        changes.push((oldest, None));
                    }
                }
                Ok(Message::Report(report)) => {
                    let event = report.event.to_string();
                    if self.0.remove(&event).is_some() {
                        changes.push((event, None));
                    }
                }
                _ => {}
            }
        }
        changes
    }

    /// A row as it stands on disk; what is no alert, or too much, is passed over.
    pub(crate) fn load(&mut self, event: &str, payload: &[u8]) {
        if self.0.len() < OWED && alert(payload).is_some_and(|a| a.event.to_string() == event) {
            self.0.insert(event.to_owned(), payload.to_vec());
        }
    }

    /// Everything, as changes to an empty table.
    pub(crate) fn whole(&self) -> Vec<Change> {
        self.0.iter().map(|(event, payload)| (event.clone(), Some(payload.clone()))).collect()
    }

    /// Adds what another one has.
    pub(crate) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
        while self.0.len() > OWED {
            self.0.pop_first();
        }
    }

    /// The alerts, oldest first.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        self.0.values().filter_map(|payload| alert(payload)).collect()
    }
}

fn alert(payload: &[u8]) -> Option<Alert> {
    match decode(payload) {
        Ok(Message::Alert(alert)) => Some(alert),
        _ => None,
    }
}
