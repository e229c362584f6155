//! The store in a thread of its own, with one job at a time: a disk that hangs holds up its answer and nothing else.
//!
//! The link waits a little for each answer, because what is stored before it is sent survives a power cut; when that time is over the
//! job goes on by itself ([`Keeper::busy`]), and its answer is found later ([`Keeper::answer`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::CLOSE_WITHIN;
use crate::store::{Opened, Store, StoreError, Stored};

/// What the thread does with the store.
enum Job {
    Commit(Vec<Arc<Stored>>, Vec<u64>),
    Reopen(Vec<Arc<Stored>>),
    Count(String, u64),
    /// Closes the file as a failing disk would.
    #[cfg(test)]
    Break,
}

/// What came of a job.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Messages of these keys are on disk, those are off it, in so long; or neither.
    Committed { puts: Vec<u64>, deletes: Vec<u64>, took: Duration, result: Result<(), StoreError> },
    /// The store was made anew with messages of these keys, or gives what had waited in it.
    Reopened { puts: Vec<u64>, result: Result<Option<Opened>, StoreError> },
    /// A counter is kept, or is not.
    Counted(Result<(), StoreError>),
}

/// An answer, and how the store is after it.
struct Told {
    answer: Answer,
    open: bool,
    /// Those that a store brought which was read only now.
    counters: BTreeMap<String, u64>,
}

/// The link's side.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// `None` when it ends.
    jobs: Option<Sender<Job>>,
    told: Receiver<Told>,
    /// Keys of the messages that the job that is out is about, in order.
    out: Option<Vec<u64>>,
    open: bool,
    /// Highest counters of accepted commands, also of those whose keeping is not known.
    counters: BTreeMap<String, u64>,
}

impl Keeper {
    /// Takes the store.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(store: Store) -> std::io::Result<Self> {
        let ((jobs, taken), (tell, told)) = (channel(), channel());
        let (open, counters) = (store.is_open(), store.command_counters().clone());
        thread::Builder::new().name("store".to_owned()).spawn(move || keep(store, &taken, &tell))?;
        Ok(Self { jobs: Some(jobs), told, out: None, open, counters })
    }

    /// Whether the store was usable when last heard of.
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a job is out: no other is taken.
    pub(crate) const fn busy(&self) -> bool {
        self.out.is_some()
    }

    /// Whether a message is being stored now.
    pub(crate) fn stores(&self, key: u64) -> bool {
        self.out.as_ref().is_some_and(|keys| keys.binary_search(&key).is_ok())
    }

    /// Highest counter of accepted commands of that name; 0 if there was none.
    pub(crate) fn command_counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Stores messages, in the order of their keys, and deletes, in one transaction.
    pub(crate) fn commit(&mut self, puts: Vec<Arc<Stored>>, deletes: Vec<u64>, within: Duration) -> Option<Answer> {
        self.perform(Job::Commit(puts, deletes), within)
    }

    /// Makes the store anew ([`Store::reopen`]) with these messages, in the order of their keys.
    pub(crate) fn reopen(&mut self, waiting: Vec<Arc<Stored>>, within: Duration) -> Option<Answer> {
        self.perform(Job::Reopen(waiting), within)
    }

    /// Keeps the counter of an accepted command. True if it is durable. If that is not known it counts as used: a command is carried
    /// out at most once.
    pub(crate) fn count(&mut self, name: &str, counter: u64, within: Duration) -> bool {
        if self.busy() {
            return false;
        }
        let answer = self.perform(Job::Count(name.to_owned(), counter), within);
        if !matches!(answer, Some(Answer::Counted(Err(_)))) {
            self.counters.insert(name.to_owned(), counter);
        }
        matches!(answer, Some(Answer::Counted(Ok(()))))
    }

    /// The answer to the job that is out, if it comes within this time.
    pub(crate) fn answer(&mut self, within: Duration) -> Option<Answer> {
        self.out.as_ref()?;
        match self.told.recv_timeout(within) {
            Ok(Told { answer, open, counters }) => {
                self.out = None;
                self.open = open;
                for (name, counter) in counters {
                    let known = self.counters.entry(name).or_default();
                    *known = counter.max(*known);
                }
                Some(answer)
            }
            // The thread ended only if it panicked, which was reported; the disk then counts as one that hangs.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn perform(&mut self, job: Job, within: Duration) -> Option<Answer> {
        self.out = Some(match &job {
            Job::Commit(puts, _) | Job::Reopen(puts) => keys(puts),
            _ => Vec::new(),
        });
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
        self.answer(within)
    }

    #[cfg(test)]
    pub(crate) fn break_for_test(&mut self) {
        let _ = self.perform(Job::Break, Duration::MAX);
    }
}

impl Drop for Keeper {
    /// Waits a moment for the file to be closed, so that it can be opened again.
    fn drop(&mut self) {
        self.jobs = None;
        let until = Instant::now() + CLOSE_WITHIN;
        // The last answer, then the end of the thread.
        while self.told.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
    }
}

fn keys(puts: &[Arc<Stored>]) -> Vec<u64> {
    puts.iter().map(|stored| stored.key).collect()
}

fn keep(mut store: Store, jobs: &Receiver<Job>, tell: &Sender<Told>) {
    while let Ok(job) = jobs.recv() {
        let began = Instant::now();
        let answer = match job {
            Job::Commit(puts, deletes) => {
                let these: Vec<&Stored> = puts.iter().map(|stored| &**stored).collect();
                let result = store.commit(&these, &deletes);
                Answer::Committed { puts: keys(&puts), deletes, took: began.elapsed(), result }
            }
            Job::Reopen(puts) => {
                let result = store.reopen(puts.iter().map(|stored| &**stored));
                Answer::Reopened { puts: keys(&puts), result }
            }
            Job::Count(name, counter) => Answer::Counted(store.set_command_counter(&name, counter)),
            #[cfg(test)]
            Job::Break => {
                store.break_for_test();
                Answer::Counted(Ok(()))
            }
        };
        let counters = match &answer {
            Answer::Reopened { .. } => store.command_counters().clone(),
            _ => BTreeMap::new(),
        };
        let told = Told { answer, open: store.is_open(), counters };
        if tell.send(told).is_err() {
            break;
        }
    }
    // Closed before the other side hears of the end.
    drop(store);
}
