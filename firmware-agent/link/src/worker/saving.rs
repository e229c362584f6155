//! What of the outbox is on disk, and what the store's thread answers.

use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::keeper::Answer;
use crate::limits::{COMMIT_WITHIN, LAST_COMMIT_WITHIN, REOPEN_CAP, REOPEN_FIRST};
use crate::store::StoreError;

impl Worker {
    /// Brings the disk to what the outbox says.
    pub(super) fn persist(&mut self) {
        self.persist_within(COMMIT_WITHIN);
    }

    /// The same at the end, with more patience.
    pub(super) fn persist_at_last(&mut self) {
        let began = Instant::now();
        if let Some(answer) = self.store.answer(LAST_COMMIT_WITHIN) {
            self.on_answer(answer);
        }
        self.persist_within(LAST_COMMIT_WITHIN.saturating_sub(began.elapsed()));
    }

    fn persist_within(&mut self, within: Duration) {
        if let Some(answer) = self.store.answer(Duration::ZERO) {
            self.on_answer(answer);
        }
        if self.store.busy() {
            return;
        }
        if !self.store.is_open() {
            if Instant::now() < self.next_reopen {
                return;
            }
            let answer = self.store.reopen(self.payloads.values().cloned().collect(), within);
            self.on_answered(answer);
            if self.store.busy() || !self.store.is_open() {
                return;
            }
        }
        if self.unsaved.is_empty() && self.deletes.is_empty() {
            return;
        }
        let puts = self.unsaved.iter().filter_map(|key| self.payloads.get(key).cloned()).collect();
        let answer = self.store.commit(puts, self.deletes.iter().copied().collect(), within);
        self.on_answered(answer);
    }

    /// An answer, or none in the time that is given for it.
    fn on_answered(&mut self, answer: Option<Answer>) {
        match answer {
            Some(answer) => self.on_answer(answer),
            None => {
                self.hangs = Some(Instant::now());
                let mut stats = self.shared.lock();
                stats.store_hangs += 1;
                stats.last_store_error = Some("the disk does not answer".to_owned());
            }
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        self.hangs = None;
        match answer {
            Answer::Committed { puts, deletes, took, result: Ok(()) } => {
                {
                    let mut stats = self.shared.lock();
                    stats.stored += puts.len() as u64;
                    stats.commits += 1;
                    stats.commit_time += took;
                }
                self.on_saved(&puts, deletes);
            }
            Answer::Reopened { puts, result: Ok(found) } => {
                self.reopen_wait = REOPEN_FIRST;
                match found {
                    Some(opened) => self.restore(opened),
                    None => {
                        self.shared.lock().stored +=
                            puts.iter().filter(|key| self.unsaved.contains(key)).count() as u64;
                        // What was to be deleted before is not in it; what has been since then is among these.
                        let deletes = self.deletes.iter().filter(|key| !puts.contains(key)).copied().collect();
                        self.on_saved(&puts, deletes);
                    }
                }
            }
            Answer::Committed { puts, result: Err(error), .. } | Answer::Reopened { puts, result: Err(error) } => {
                // What was acknowledged meanwhile never was on disk.
                for key in puts.into_iter().filter(|key| !self.payloads.contains_key(key)) {
                    self.outbox.on_deleted(key);
                }
                self.on_store_error(&error);
            }
            Answer::Counted(_) => {}
        }
    }

    /// The disk has those, and the others not any more.
    fn on_saved(&mut self, puts: &[u64], deletes: Vec<u64>) {
        for key in puts {
            if !self.unsaved.remove(key) && !self.payloads.contains_key(key) {
                // Acknowledged or given up while it was being stored.
                self.deletes.insert(*key);
            }
        }
        for key in deletes {
            self.deletes.remove(&key);
            self.outbox.on_deleted(key);
        }
    }

    fn on_store_error(&mut self, error: &StoreError) {
        self.next_reopen = Instant::now() + self.reopen_wait;
        self.reopen_wait = (self.reopen_wait * 2).min(REOPEN_CAP);
        let mut stats = self.shared.lock();
        stats.store_errors += 1;
        stats.last_store_error = Some(error.to_string().chars().take(200).collect());
    }
}
