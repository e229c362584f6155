//! Threads of this process as the kernel sees them: whether one that hangs is out of reach of every signal.
//!
//! A thread that waits uninterruptibly inside a driver cannot be ended, and with it the process: the service manager's SIGKILL
//! waits for the driver too, for minutes in which nothing is recorded, and the next start finds the driver as it was. So
//! such a thread is told from one that hangs by a fault of our own. State `D` of proc_pid_stat(5) says it; some waits (FUSE's)
//! become uninterruptible only when a first signal has come, so the thread is sent one that does nothing else ([`poke`]).

use std::fs;

/// Tasks that are looked at; the unit allows 128.
const MAX_TASKS: usize = 256;
/// The kernel cuts names of threads at 15 bytes.
const NAME: usize = 15;

/// What is done about a thread, by its name; tests have others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threads {
    /// See [`poke`].
    pub(super) poke: fn(&str),
    /// See [`waits_uninterruptibly`].
    pub(super) waits: fn(&str) -> bool,
}

/// Those of this process.
pub(super) const REAL: Threads = Threads { poke, waits: waits_uninterruptibly };

/// The state of the thread of that name, and its number.
fn state_of(name: &str) -> Option<(i32, char)> {
    let wanted = name.get(..NAME).unwrap_or(name);
    fs::read_dir("/proc/self/task").ok()?.take(MAX_TASKS).flatten().find_map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let (number, found) = head.split_once('(')?;
        let state = tail.trim_start().chars().next()?;
        (found == wanted).then(|| number.trim().parse().ok().map(|number| (number, state)))?
    })
}

/// Whether the thread of that name waits in the kernel where no signal ends the wait.
fn waits_uninterruptibly(name: &str) -> bool {
    matches!(state_of(name), Some((_, 'D')))
}

/// Sends the thread of that name a signal whose handler does nothing and after which system calls are not begun again: a wait that
/// can be interrupted ends with an error, as a driver's time limit would have ended it.
fn poke(name: &str) {
    if let Some((thread, _)) = state_of(name) {
        signal::send(thread);
    }
}

#[allow(
    unsafe_code,
    reason = "a handler that lets system calls end, and a signal to one thread, have no safe interface"
)]
mod signal {
    use std::sync::Once;

    /// Of those that nothing here uses the one whose default is to be ignored.
    const SIGNAL: libc::c_int = libc::SIGURG;

    extern "C" fn nothing(_: libc::c_int) {}

    pub(super) fn send(thread: i32) {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            // SAFETY: all-zero is a valid sigaction (no flags, so no SA_RESTART; an empty mask); the handler touches nothing.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
                libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut());
            }
        });
        // SAFETY: takes three integers; a thread that has ended since is an error that changes nothing.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_wait_that_can_be_interrupted_ends_when_poked() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let waiting = std::thread::Builder::new().name("waits-in-a-pipe".to_owned());
        let waiting = waiting.spawn(move || rustix::io::read(&reader, &mut [0_u8; 1][..])).unwrap();
        let begun = Instant::now();
        while !matches!(state_of("waits-in-a-pipe"), Some((_, 'S'))) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!waits_uninterruptibly("waits-in-a-pipe") && !waiting.is_finished());
        while !waiting.is_finished() && begun.elapsed() < Duration::from_secs(10) {
            poke("waits-in-a-pipe");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Lets it go where the poke did not.
        let _ = writer.write(&[1]);
        assert_eq!(waiting.join().unwrap(), Err(rustix::io::Errno::INTR));
    }

    #[test]
    fn a_thread_that_is_not_there_is_none_that_waits() {
        assert!(state_of("no such thread").is_none() && !waits_uninterruptibly("no such thread"));
        poke("no such thread");
    }
}
