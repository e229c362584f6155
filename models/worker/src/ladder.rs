//! The steps of the ladder: what each one runs on, whether it may be tried now, and which frames it is given.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_wire::{LadderReason, StudentRefusal};

use crate::client::{Launch, WorkerError};
use crate::job::Window;
use crate::limits::{BACKOFF_FIRST, BACKOFF_MOST};
use crate::protocol::Fault;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number on the wire: 0 full, 1 smaller budget, 2 small model.
    pub number: u8,
    /// Where its worker comes from; steps with the same one share the worker.
    pub launch: Launch,
    /// Most frames that it is given.
    pub max_frames: Option<u16>,
    /// Most vision tokens that it may spend.
    pub token_budget: Option<u32>,
}

/// A step that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fall {
    /// Its number.
    pub step: u8,
    /// Why.
    pub reason: LadderReason,
    /// Why, in words, for the log.
    pub detail: String,
}

/// When a step may be tried again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    not_before: Option<Instant>,
    last: Option<(LadderReason, String)>,
}

impl Health {
    /// Why it may not be tried now.
    pub(crate) fn blocked(&self, now: Instant) -> Option<(LadderReason, String)> {
        self.last.clone().filter(|_| self.not_before.is_some_and(|t| now < t))
    }

    pub(crate) fn good(&mut self) {
        *self = Self::default();
    }

    /// Waits twice as long after each failure. What does not mend by itself is tried rarely from the start.
    pub(crate) fn failed(&mut self, now: Instant, reason: LadderReason, detail: &str) {
        let wait = match reason {
            LadderReason::NotInstalled | LadderReason::CorruptModel => BACKOFF_MOST,
            _ => BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MOST),
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
        self.last = Some((reason, detail.to_owned()));
    }
}

/// Which of the collected frames a step is given: its own window, thinned to its rate and its budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Selection {
    from_s: f32,
    to_s: f32,
    stride: usize,
    /// Size of its pictures.
    pub(crate) size: [u16; 2],
    /// Most frames.
    pub(crate) frames: u16,
}

impl Selection {
    /// For frames collected for `collected`, whose time zero is at `zero_s`, and a model trained for `own`.
    pub(crate) fn new(collected: &Window, zero_s: f32, own: &Window, max_frames: Option<u16>) -> Self {
        let most = max_frames.unwrap_or(u16::MAX).min(own.frames).max(1);
        let by_rate = (collected.fps / own.fps).round().max(1.0) as usize;
        let span_s = (own.before_s + own.after_s).min(collected.before_s + collected.after_s);
        let there = usize::from(collected.frames).min((span_s * collected.fps).ceil().max(1.0) as usize);
        // A tolerance of a frame's half: the first frame stands a little after the window's begin.
        let slack = 0.5 / collected.fps;
        Self {
            from_s: zero_s - own.before_s - slack,
            to_s: zero_s + own.after_s + slack,
            stride: by_rate.max(there.div_ceil(usize::from(most))),
            size: [own.width, own.height],
            frames: most,
        }
    }

    /// Whether the frame collected as number `index` at `t_s` is one of them.
    pub(crate) fn takes(&self, index: usize, t_s: f32) -> bool {
        index.is_multiple_of(self.stride) && (self.from_s..=self.to_s).contains(&t_s)
    }
}

/// Where the board says how hot it is and whether it throttles, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Thermal {
    /// A file with thousandths of a degree Celsius, as the kernel's thermal zones are.
    pub zone: Option<PathBuf>,
    /// From here on the full budget is not used where there is another step, degrees Celsius.
    pub warm_c: f32,
    /// From here on the student is not asked, degrees Celsius.
    pub hot_c: f32,
    /// A file with a whole number above 0 while the board slows itself down for its power or its temperature, as the state of the kernel's
    /// cooling devices is. It counts as warm.
    pub throttled: Option<PathBuf>,
}

/// What [`Thermal`] found, with the reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heat {
    /// Everything may run.
    Cool,
    /// The full budget is not used.
    Warm(String),
    /// Nothing is asked.
    Hot(String),
}

impl Thermal {
    /// The zone's temperature, degrees Celsius; `None` without a zone or when its file says none.
    #[must_use]
    pub fn celsius(&self) -> Option<f32> {
        self.zone.as_deref().and_then(number).map(|n| n / 1000.0)
    }

    /// How it is now. A file that cannot be read hinders nothing.
    #[must_use]
    pub fn now(&self) -> Heat {
        if let Some(celsius) = self.celsius() {
            if celsius >= self.hot_c {
                return Heat::Hot(format!("{celsius:.1} C"));
            }
            if celsius >= self.warm_c {
                return Heat::Warm(format!("{celsius:.1} C"));
            }
        }
        match self.throttled.as_deref().and_then(number) {
            Some(state) if state > 0.0 => Heat::Warm(format!("the board throttles (state {state})")),
            _ => Heat::Cool,
        }
    }
}

/// The number that stands in a file of the kernel.
fn number(file: &Path) -> Option<f32> {
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The word for the report of what a worker's fault is.
#[must_use]
pub const fn reason_of(fault: Fault) -> LadderReason {
    match fault {
        Fault::NotInstalled => LadderReason::NotInstalled,
        Fault::Corrupt => LadderReason::CorruptModel,
        Fault::OutOfMemory => LadderReason::OutOfMemory,
        Fault::Deadline | Fault::Cancelled => LadderReason::Deadline,
        Fault::Protocol => LadderReason::Protocol,
        Fault::Failed => LadderReason::Failed,
    }
}

/// The same for what went wrong with a worker.
#[must_use]
pub fn reason_of_error(error: &WorkerError) -> LadderReason {
    match error {
        WorkerError::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            LadderReason::NotInstalled
        }
        WorkerError::Start { .. } | WorkerError::Connect { .. } => LadderReason::Unreachable,
        WorkerError::Died(_) => LadderReason::WorkerDied,
        WorkerError::Protocol(_) => LadderReason::Protocol,
        WorkerError::Failed { fault, .. } => reason_of(*fault),
        WorkerError::Silent(_) | WorkerError::Stopped => LadderReason::Deadline,
    }
}

/// The report's one word for a job without an answer, from why each step failed.
#[must_use]
pub fn refusal(falls: &[Fall]) -> StudentRefusal {
    let all = |reason| falls.iter().all(|f| f.reason == reason);
    match falls.last() {
        None => StudentRefusal::Failed,
        _ if all(LadderReason::NotInstalled) => StudentRefusal::NotInstalled,
        Some(last) if last.reason == LadderReason::Hot => StudentRefusal::Hot,
        Some(last) if last.reason == LadderReason::Deadline => StudentRefusal::Late,
        _ => StudentRefusal::Failed,
    }
}

/// What an attempt may take of the time that is left: with a step below, that one needs its part.
pub(crate) fn share(left: Duration, more_steps: bool) -> Duration {
    if more_steps { left.mul_f32(0.6) } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_cap_and_ends_with_a_success() {
        let (mut health, now) = (Health::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            health.failed(now, LadderReason::WorkerDied, "x");
            waits.push(health.not_before.unwrap() - now);
        }
        assert_eq!(waits[..4], [1, 2, 4, 8].map(Duration::from_secs));
        assert_eq!(waits[11], BACKOFF_MOST);
        assert!(health.blocked(now).is_some() && health.blocked(now + BACKOFF_MOST).is_none());
        health.good();
        assert!(health.blocked(now).is_none());
        health.failed(now, LadderReason::CorruptModel, "x");
        assert_eq!(health.not_before.unwrap() - now, BACKOFF_MOST);
    }

    #[test]
    fn the_same_window_takes_every_frame_and_half_the_budget_every_second() {
        let w = Window::default();
        let all = Selection::new(&w, 4.0, &w, None);
        let half = Selection::new(&w, 4.0, &w, Some(9));
        let taken = |s: &Selection| (0..18).filter(|i| s.takes(*i, *i as f32 / 3.0)).count();
        assert_eq!((taken(&all), taken(&half)), (18, 9));
    }

    #[test]
    fn a_shorter_and_slower_window_takes_the_middle() {
        let w = Window::default();
        let own = Window { frames: 4, fps: 1.5, before_s: 1.0, after_s: 1.0, width: 224, height: 112 };
        let s = Selection::new(&w, 4.0, &own, None);
        let taken: Vec<f32> = (0..18).filter(|i| s.takes(*i, *i as f32 / 3.0)).map(|i| i as f32 / 3.0).collect();
        assert!(taken.len() <= 4 && taken.iter().all(|t| (2.8..=5.2).contains(t)), "{taken:?}");
        assert_eq!(s.size, [224, 112]);
    }

    #[test]
    fn one_word_for_a_whole_ladder() {
        let fall = |reason| Fall { step: 0, reason, detail: String::new() };
        assert_eq!(refusal(&[]), StudentRefusal::Failed);
        assert_eq!(refusal(&[fall(LadderReason::NotInstalled)]), StudentRefusal::NotInstalled);
        let died = [fall(LadderReason::NotInstalled), fall(LadderReason::WorkerDied)];
        assert_eq!(refusal(&died), StudentRefusal::Failed);
        assert_eq!(refusal(&[fall(LadderReason::OutOfMemory), fall(LadderReason::Deadline)]), StudentRefusal::Late);
    }
}
