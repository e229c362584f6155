//! A few threads that work on one region at a time.
//!
//! A *region* is a number of items and a function; every item is handed out exactly once, in order, to whichever
//! thread asks next, the caller among them. Which thread computes an item never changes its result, so results do not
//! depend on the number of threads. Between regions the workers spin for a moment and then park. Never grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use super::super::limits::{MAX_THREADS, SPINS_BEFORE_PARK};

/// A region as its threads see it.
struct Region<'a> {
    next: AtomicUsize,
    items: usize,
    work: &'a (dyn Fn(usize, usize) + Sync),
}

impl Region<'_> {
    fn drain(&self, worker: usize) {
        loop {
            let item = self.next.fetch_add(1, Ordering::Relaxed);
            if item >= self.items {
                return;
            }
            (self.work)(worker, item);
        }
    }
}

/// `state`: the low 16 bits count workers inside the region, bit 16 says whether it takes more, the rest is its number.
const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const NUMBER: u32 = 17;

struct Shared {
    state: AtomicU64,
    region: AtomicPtr<()>,
    stop: AtomicBool,
    failed: AtomicBool,
}

struct Worker {
    asleep: Arc<AtomicBool>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// The threads. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included; at least 1, at most [`MAX_THREADS`]. Threads that the
    /// system refuses are done without.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            region: AtomicPtr::new(std::ptr::null_mut()),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut workers = Vec::new();
        for index in 1..threads.clamp(1, MAX_THREADS) {
            let asleep = Arc::new(AtomicBool::new(false));
            let (theirs, flag) = (Arc::clone(&shared), Arc::clone(&asleep));
            let named = thread::Builder::new().name(format!("engine-{index}"));
            let Ok(handle) = named.spawn(move || serve(&theirs, &flag, index)) else { break };
            workers.push(Worker { asleep, thread: handle.thread().clone(), handle: Some(handle) });
        }
        Self { shared, workers }
    }

    /// Number of threads, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work(thread, item)` for each item below `items`, and returns when all are done. False if a worker
    /// panicked: then some items are missing. Takes `&mut self`, so regions never nest.
    #[must_use]
    pub fn run(&mut self, items: usize, work: &(dyn Fn(usize, usize) + Sync)) -> bool {
        let region = Region { next: AtomicUsize::new(0), items, work };
        if self.workers.is_empty() || items < 2 {
            region.drain(0);
            return true;
        }
        let number = (self.shared.state.load(Ordering::Relaxed) >> NUMBER) + 1;
        self.shared.region.store((&raw const region).cast_mut().cast(), Ordering::Relaxed);
        // SeqCst, here and in `serve`: either the worker sees the new region before it parks, or we see it asleep.
        self.shared.state.store(number << NUMBER | OPEN, Ordering::SeqCst);
        let close = Close(&self.shared); // also when `work` panics here: no worker may outlive the borrow
        for worker in self.workers.iter().take(items - 1) {
            if worker.asleep.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        region.drain(0);
        drop(close);
        !self.shared.failed.load(Ordering::Relaxed)
    }
}

/// Closes the region and waits until nobody is inside.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut turns = 0_u32;
        while state & INSIDE != 0 {
            turns = turns.saturating_add(1);
            if turns < 1 << 14 {
                std::hint::spin_loop()
            } else {
                thread::yield_now()
            }
            state = self.0.state.load(Ordering::Acquire);
        }
    }
}

/// Leaves the region, also when the work panics.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        self.0.state.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(shared: &Shared, asleep: &AtomicBool, worker: usize) {
    let mut done = 0;
    let mut spins = 0_u32;
    loop {
        let state = shared.state.load(Ordering::SeqCst);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if state & OPEN != 0 && state >> NUMBER != done {
            let entered = shared.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if entered.is_err() {
                continue;
            }
            done = state >> NUMBER;
            spins = 0;
            let leave = Leave(shared);
            let region = shared.region.load(Ordering::Relaxed).cast::<Region<'_>>();
            // SAFETY: the exchange succeeded on an open region, so its owner is still inside `run` and waits for the
            // count that `leave` gives back; the pointer was stored before the state that the exchange acquired.
            unsafe { (*region).drain(worker) };
            drop(leave);
        } else if spins < SPINS_BEFORE_PARK {
            spins += 1;
            std::hint::spin_loop();
        } else {
            asleep.store(true, Ordering::SeqCst);
            let fresh = shared.state.load(Ordering::SeqCst);
            if fresh >> NUMBER == done || fresh & OPEN == 0 {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
            spins = 0;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker that panicked has been reported by `run`.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_by_any_number_of_threads() {
        for threads in 1..5 {
            let mut pool = Pool::new(threads);
            for items in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                assert!(pool.run(items, &|worker, item| {
                    assert!(worker < threads);
                    counts[item].fetch_add(1, Ordering::Relaxed);
                }));
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn workers_that_parked_come_back() {
        let mut pool = Pool::new(3);
        for _ in 0..20 {
            thread::sleep(std::time::Duration::from_millis(2));
            let sum = AtomicUsize::new(0);
            assert!(pool.run(64, &|_, item| {
                sum.fetch_add(item, Ordering::Relaxed);
            }));
            assert_eq!(sum.load(Ordering::Relaxed), 63 * 32);
        }
    }

    #[test]
    fn a_panicking_worker_is_reported_and_the_rest_is_done() {
        let mut pool = Pool::new(2);
        let waited = AtomicBool::new(false);
        let fine = pool.run(2, &|worker, _| {
            if worker == 1 {
                waited.store(true, Ordering::SeqCst);
                panic!("as the test means it");
            }
            while !waited.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        });
        assert!(!fine);
    }
}
