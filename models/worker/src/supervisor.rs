//! Starts the worker, restarts it with back-off, holds deadlines and walks the ladder.
//!
//! One job at a time. Its frames are sent as they come and kept, so that another step can be given them too. A step
//! that fails is left with its reason, and the job is tried once more on the next step that may be tried. Only one
//! worker lives at a time: a board that had no memory for one has none for two.
//!
//! Makes no thread: its caller gives it one (`run`) or calls it in line (`replay`). Every wait has a limit and looks at
//! the caller's `stop`. It reads the clock for deadlines and back-off only; what it answers does not depend on it
//! unless a limit was hit, which the outcome says.

use std::time::{Duration, Instant};

use agent_wire::{EventId, LadderReason};

use crate::client::{Launch, Worker, WorkerError, unexpected};
use crate::job::{Answers, Facts, FrameInput, JobSpec, ObjectRow, TelemetryRow, Window};
use crate::ladder::{Fall, Health, Heat, Selection, Step, Thermal, reason_of, reason_of_error, share};
use crate::limits::{CANCEL_GRACE, MAX_ATTEMPTS, MAX_JOB_BYTES, MAX_JOB_FRAMES, MAX_OBJECTS, MAX_STEPS, PONG_WITHIN};
use crate::picture;
use crate::protocol::{FromWorker, ToWorker};

/// How it is set up.
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// The ladder, best first; at most [`MAX_STEPS`] are used.
    pub steps: Vec<Step>,
    /// A model is loaded within this time, or its worker counts as hung.
    pub load_within: Duration,
    /// Smaller steps, or none, by temperature and throttling.
    pub thermal: Option<Thermal>,
    /// How often an idle worker is asked whether it lives, [`crate::limits::PING_EVERY`] usually.
    pub ping_every: Duration,
}

/// What begins a job.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The event.
    pub event: EventId,
    /// The window that its frames are collected for.
    pub window: Window,
    /// Time zero, seconds from the first frame.
    pub zero_s: f32,
    /// A free question in place of the six tasks, and the most tokens of its answer.
    pub question: Option<(String, u16)>,
    /// From the question to the answer, over all attempts.
    pub within: Duration,
}

/// What a job gave.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one in an event")]
pub enum Reply {
    /// The six answers; times count from the first frame that was collected.
    Answers(Answers),
    /// The answer to the free question.
    Text(String),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The reply, where a step gave one.
    pub reply: Option<Reply>,
    /// The model that gave it.
    pub facts: Option<Facts>,
    /// Steps that gave none, in the order tried.
    pub falls: Vec<Fall>,
}

#[derive(Debug)]
struct Running {
    launch: Launch,
    worker: Worker,
    facts: Facts,
    pinged: Instant,
}

#[derive(Debug)]
struct Kept {
    t_s: f32,
    size: [u16; 2],
    rgb: Vec<u8>,
    telemetry: Option<TelemetryRow>,
    objects: Vec<ObjectRow>,
}

#[derive(Debug)]
struct Attempt {
    step: usize,
    number: u32,
    selection: Selection,
    /// Time of the first frame sent: the worker's times begin there.
    origin_s: Option<f32>,
    sent: u16,
}

#[derive(Debug)]
struct Job {
    begin: Begin,
    kept: Vec<Kept>,
    bytes: usize,
    falls: Vec<Fall>,
    next_step: usize,
    attempts: usize,
    attempt: Option<Attempt>,
}

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    config: SupervisorConfig,
    health: Vec<Health>,
    running: Option<Running>,
    job: Option<Job>,
    next_number: u32,
    scratch: Vec<u8>,
}

/// A worker ends a job at its deadline by itself; this much later it is told to.
const DEADLINE_SLACK: Duration = Duration::from_millis(150);

impl Supervisor {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(mut config: SupervisorConfig) -> Self {
        config.steps.truncate(MAX_STEPS);
        let health = vec![Health::default(); config.steps.len()];
        Self { config, health, running: None, job: None, next_number: 1, scratch: Vec::new() }
    }

    /// What runs.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.running.as_ref().map(|r| &r.facts)
    }

    /// Process id of the worker, if it is a child.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(|r| r.worker.pid())
    }

    /// The window that frames are to be collected for: that of the model that runs, else the default.
    #[must_use]
    pub fn window(&self) -> Window {
        self.facts().map_or_else(Window::default, |f| f.window)
    }

    /// Starts the best step that may be tried now and keeps it warm. Falls of this call are returned for the log.
    pub fn prepare(&mut self, stop: &dyn Fn() -> bool) -> Vec<Fall> {
        let mut falls = Vec::new();
        for step in 0..self.config.steps.len() {
            match self.ensure(step, stop) {
                Ok(()) => break,
                Err(fall) => falls.push(fall),
            }
        }
        falls
    }

    /// Between jobs: asks the worker whether it lives, and starts one if none does.
    pub fn idle(&mut self, stop: &dyn Fn() -> bool) -> Vec<Fall> {
        if self.job.is_some() {
            return Vec::new();
        }
        let Some(running) = &mut self.running else { return self.prepare_quietly(stop) };
        if running.pinged.elapsed() < self.config.ping_every {
            return Vec::new();
        }
        running.pinged = Instant::now();
        let nonce = self.next_number;
        self.next_number = self.next_number.wrapping_add(1).max(1);
        let answered =
            running.worker.send(&ToWorker::Ping { nonce }).and_then(|()| pong(&mut running.worker, nonce, stop));
        match answered {
            Ok(()) | Err(WorkerError::Stopped) => Vec::new(),
            Err(error) => {
                let launch = running.launch.clone();
                vec![self.worker_failed(&launch, &error)]
            }
        }
    }

    /// Starts what may be started; steps that wait for their time are no news.
    fn prepare_quietly(&mut self, stop: &dyn Fn() -> bool) -> Vec<Fall> {
        let now = Instant::now();
        let blocked: Vec<bool> = self.health.iter().map(|h| h.blocked(now).is_some()).collect();
        if blocked.iter().all(|b| *b) {
            return Vec::new();
        }
        let numbers: Vec<u8> =
            self.config.steps.iter().zip(&blocked).filter(|(_, b)| !**b).map(|(s, _)| s.number).collect();
        let falls = self.prepare(stop);
        falls.into_iter().filter(|f| numbers.contains(&f.step)).collect()
    }

    /// Begins a job; one that was begun and not finished is dropped.
    pub fn begin(&mut self, begin: Begin, stop: &dyn Fn() -> bool) {
        let (falls, kept) = (Vec::new(), Vec::new());
        self.job = Some(Job { begin, kept, bytes: 0, falls, next_step: 0, attempts: 0, attempt: None });
        self.advance(stop);
    }

    /// Takes the next frame of the job.
    pub fn push(&mut self, frame: &FrameInput<'_>, stop: &dyn Fn() -> bool) {
        let Some(job) = &mut self.job else { return };
        if frame.check().is_err() {
            return;
        }
        job.bytes += frame.rgb.len();
        if job.kept.len() >= MAX_JOB_FRAMES || job.bytes > MAX_JOB_BYTES {
            self.overload("more frames than a job may have");
            return;
        }
        job.kept.push(Kept {
            t_s: frame.t_s,
            size: [frame.width, frame.height],
            rgb: frame.rgb.to_vec(),
            telemetry: frame.telemetry,
            objects: frame.objects.iter().take(MAX_OBJECTS).copied().collect(),
        });
        let index = job.kept.len() - 1;
        if job.attempt.is_some()
            && let Err(error) = self.send_frame(index)
        {
            self.attempt_failed(&error);
            self.advance(stop);
        }
    }

    /// The job cannot be done with what was collected: the caller or a cap was overrun.
    pub fn overload(&mut self, detail: &str) {
        let Some(job) = &mut self.job else { return };
        let step = job.attempt.take().and_then(|a| self.config.steps.get(a.step)).map_or(0, |s| s.number);
        if job.next_step <= self.config.steps.len() {
            job.falls.push(Fall { step, reason: LadderReason::Overload, detail: detail.to_owned() });
        }
        // Beyond the ladder: nothing is tried, and it is said once.
        job.next_step = self.config.steps.len() + 1;
    }

    /// Whether a job was begun and not finished.
    #[must_use]
    pub const fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// Drops the job, as when its event turned out to be another one.
    pub fn drop_job(&mut self) {
        self.job = None;
    }

    /// All frames were given: asks for the answer and waits for it, at most as long as the job's `within`.
    pub fn finish(&mut self, stop: &dyn Fn() -> bool) -> Outcome {
        let Some(within) = self.job.as_ref().map(|j| j.begin.within) else {
            return Outcome { reply: None, facts: None, falls: Vec::new() };
        };
        let begun = Instant::now();
        let mut reply = None;
        while self.job.as_ref().is_some_and(|j| j.attempt.is_some()) {
            let left = within.saturating_sub(begun.elapsed());
            match self.answer(share(left, self.more_steps()), stop) {
                Ok(got) => {
                    reply = Some(got);
                    break;
                }
                Err(Lost::Worker(error)) => self.attempt_failed(&error),
                Err(Lost::Job(reason, detail)) => self.fall(reason, detail),
            }
            if stop() {
                break;
            }
            self.advance(stop);
        }
        let falls = self.job.take().map(|j| j.falls).unwrap_or_default();
        let facts = reply.as_ref().and_then(|_| self.facts().cloned());
        Outcome { reply, facts, falls }
    }

    /// Ends the worker.
    pub fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.worker.end();
        }
    }

    fn more_steps(&self) -> bool {
        self.job.as_ref().is_some_and(|j| j.next_step < self.config.steps.len() && j.attempts < MAX_ATTEMPTS)
    }

    /// Walks down until a step has the job, or none is left.
    fn advance(&mut self, stop: &dyn Fn() -> bool) {
        while self.more_steps() && !stop() {
            let Some(job) = &mut self.job else { return };
            let step = job.next_step;
            job.next_step += 1;
            let heat = self.config.thermal.as_ref().map_or(Heat::Cool, Thermal::now);
            let number = self.config.steps.get(step).map_or(0, |s| s.number);
            let hot = |detail| Fall { step: number, reason: LadderReason::Hot, detail };
            match heat {
                Heat::Cool => {}
                // The only step there is, is used.
                Heat::Warm(why) if number == 0 && job.next_step < self.config.steps.len() => {
                    job.falls.push(hot(why));
                    continue;
                }
                Heat::Warm(_) => {}
                Heat::Hot(why) => {
                    job.falls.push(hot(why));
                    // Lower steps heat too.
                    job.next_step = self.config.steps.len();
                    return;
                }
            }
            if let Err(fall) = self.ensure(step, stop) {
                if let Some(job) = &mut self.job {
                    job.falls.push(fall);
                }
                continue;
            }
            match self.hand_over(step) {
                Ok(()) => return,
                Err(error) => self.attempt_failed(&error),
            }
        }
    }

    /// A worker with the step's model runs after this.
    fn ensure(&mut self, step: usize, stop: &dyn Fn() -> bool) -> Result<(), Fall> {
        let Some(Step { number, launch, .. }) = self.config.steps.get(step).cloned() else {
            return Err(Fall { step: 0, reason: LadderReason::NotInstalled, detail: "no such step".to_owned() });
        };
        if self.running.as_ref().is_some_and(|r| r.launch == launch) {
            return Ok(());
        }
        if let Some((reason, detail)) = self.health.get(step).and_then(|h| h.blocked(Instant::now())) {
            return Err(Fall { step: number, reason, detail: format!("not tried again yet: {detail}") });
        }
        if let Some(running) = self.running.take() {
            running.worker.end();
        }
        let started = Worker::start(&launch).and_then(|mut worker| {
            let facts = worker.ready(self.config.load_within, stop)?;
            Ok(Running { launch: launch.clone(), worker, facts, pinged: Instant::now() })
        });
        match started {
            Ok(running) => {
                self.running = Some(running);
                Ok(())
            }
            Err(error) => Err(Fall { step: number, ..self.worker_failed(&launch, &error) }),
        }
    }

    /// Sends the job and the frames that are there.
    fn hand_over(&mut self, step: usize) -> Result<(), WorkerError> {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1).max(1);
        let more = self.more_steps();
        let (Some(job), Some(running), Some(config)) = (&mut self.job, &mut self.running, self.config.steps.get(step))
        else {
            return Ok(());
        };
        job.attempts += 1;
        let own = running.facts.window;
        let selection = Selection::new(&job.begin.window, job.begin.zero_s, &own, config.max_frames);
        let within = share(job.begin.within, more && job.attempts < MAX_ATTEMPTS);
        let spec = JobSpec {
            event: job.begin.event.clone(),
            frames: selection.frames,
            window: own,
            question: job.begin.question.as_ref().map(|(q, _)| q.clone()),
            max_tokens: job.begin.question.as_ref().map_or(0, |(_, n)| *n),
            token_budget: config.token_budget,
            deadline_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
        };
        job.attempt = Some(Attempt { step, number, selection, origin_s: None, sent: 0 });
        let frames = job.kept.len();
        running.worker.send(&ToWorker::Begin { job: number, spec })?;
        (0..frames).try_for_each(|index| self.send_frame(index))
    }

    /// Sends a kept frame if the attempt's step takes it.
    fn send_frame(&mut self, index: usize) -> Result<(), WorkerError> {
        let (Some(job), Some(running)) = (&mut self.job, &mut self.running) else { return Ok(()) };
        let (Some(attempt), Some(kept)) = (&mut job.attempt, job.kept.get(index)) else { return Ok(()) };
        if attempt.sent >= attempt.selection.frames || !attempt.selection.takes(index, kept.t_s) {
            return Ok(());
        }
        let size = attempt.selection.size;
        let rgb = if size == kept.size {
            &kept.rgb
        } else if picture::resize(&kept.rgb, kept.size.map(usize::from), size.map(usize::from), &mut self.scratch) {
            &self.scratch
        } else {
            return Ok(());
        };
        let origin_s = *attempt.origin_s.get_or_insert(kept.t_s);
        attempt.sent += 1;
        let frame = FrameInput {
            t_s: kept.t_s - origin_s,
            width: size[0],
            height: size[1],
            rgb,
            telemetry: kept.telemetry.filter(|_| running.facts.telemetry),
            objects: if running.facts.objects { &kept.objects } else { &[] },
        };
        running.worker.send_picture(attempt.number, &frame)
    }

    /// Waits for the answer of the attempt.
    fn answer(&mut self, within: Duration, stop: &dyn Fn() -> bool) -> Result<Reply, Lost> {
        let (Some(job), Some(running)) = (&mut self.job, &mut self.running) else {
            return Err(Lost::Job(LadderReason::Failed, "no worker has the job".to_owned()));
        };
        let Some(attempt) = &job.attempt else {
            return Err(Lost::Job(LadderReason::Failed, "no step has the job".to_owned()));
        };
        let number = attempt.number;
        running.worker.send(&ToWorker::Answer { job: number }).map_err(Lost::Worker)?;
        let got = match reply(&mut running.worker, number, within + DEADLINE_SLACK, stop) {
            Err(Lost::Worker(WorkerError::Silent(_) | WorkerError::Stopped)) => {
                running.worker.send(&ToWorker::Cancel { job: number }).map_err(Lost::Worker)?;
                // Given up in time, the worker is sound and stays; else it hangs.
                reply(&mut running.worker, number, CANCEL_GRACE, &|| false)
            }
            got => got,
        }?;
        running.pinged = Instant::now();
        let step = self.config.steps.get(attempt.step).map_or(0, |s| s.number);
        let launch = running.launch.clone();
        let checked = match got {
            Reply::Answers(answers) => settle(answers, &running.facts, step, attempt.origin_s.unwrap_or(0.0))
                .map(Reply::Answers)
                .map_err(|why| Lost::Job(LadderReason::Protocol, why)),
            text @ Reply::Text(_) => Ok(text),
        };
        if checked.is_ok() {
            self.each_health(&launch, Health::good);
        }
        checked
    }

    fn each_health(&mut self, launch: &Launch, mut change: impl FnMut(&mut Health)) {
        let steps = self.config.steps.iter().zip(&mut self.health);
        steps.filter(|(step, _)| step.launch == *launch).for_each(|(_, health)| change(health));
    }

    /// The worker is no good any more: it is killed, and its steps wait.
    fn worker_failed(&mut self, launch: &Launch, error: &WorkerError) -> Fall {
        self.running = None;
        let (reason, detail) = (reason_of_error(error), error.to_string());
        // Given up by the caller is no fault of the worker.
        if !matches!(error, WorkerError::Stopped) {
            let now = Instant::now();
            self.each_health(launch, |h| h.failed(now, reason, &detail));
        }
        let step = self.config.steps.iter().find(|s| s.launch == *launch).map_or(0, |s| s.number);
        Fall { step, reason, detail }
    }

    /// The attempt ended with its worker.
    fn attempt_failed(&mut self, error: &WorkerError) {
        let step = self.job.as_ref().and_then(|j| j.attempt.as_ref()).map_or(0, |a| a.step);
        let Some(launch) = self.config.steps.get(step).map(|s| s.launch.clone()) else { return };
        let fall = self.worker_failed(&launch, error);
        self.fall(fall.reason, fall.detail);
    }

    /// The attempt ended; the worker may go on.
    fn fall(&mut self, reason: LadderReason, detail: String) {
        let Some(job) = &mut self.job else { return };
        let Some(attempt) = job.attempt.take() else { return };
        let step = self.config.steps.get(attempt.step).map_or(0, |s| s.number);
        job.falls.push(Fall { step, reason, detail });
    }
}

/// What came instead of a reply.
enum Lost {
    /// The worker is no good any more.
    Worker(WorkerError),
    /// The job failed, the worker goes on.
    Job(LadderReason, String),
}

/// Reads until the job's reply; what belongs to earlier jobs is passed over.
fn reply(worker: &mut Worker, number: u32, within: Duration, stop: &dyn Fn() -> bool) -> Result<Reply, Lost> {
    let begun = Instant::now();
    loop {
        let left = within.saturating_sub(begun.elapsed());
        match worker.receive(left, stop).map_err(Lost::Worker)? {
            FromWorker::Answers { job, answers } if job == number => return Ok(Reply::Answers(answers)),
            FromWorker::Text { job, text } if job == number => return Ok(Reply::Text(text)),
            FromWorker::Refused { job, fault, detail } if job == number => {
                return Err(Lost::Job(reason_of(fault), detail));
            }
            FromWorker::Ready(facts) => return Err(Lost::Worker(unexpected(&FromWorker::Ready(facts)))),
            // The label stands in the answers too; the rest is of jobs that were dropped.
            _ => {}
        }
    }
}

fn pong(worker: &mut Worker, want: u32, stop: &dyn Fn() -> bool) -> Result<(), WorkerError> {
    let begun = Instant::now();
    loop {
        let left = PONG_WITHIN.saturating_sub(begun.elapsed());
        if matches!(worker.receive(left, stop)?, FromWorker::Pong { nonce, .. } if nonce == want) {
            return Ok(());
        }
    }
}

/// Answers as the caller wants them: within their caps, with times from the first frame that was collected.
fn settle(mut answers: Answers, facts: &Facts, step: u8, origin_s: f32) -> Result<Answers, String> {
    answers.check()?;
    answers.ladder_step = step;
    for time in [&mut answers.crash, &mut answers.pre_crash].into_iter().flatten() {
        time.from_s += origin_s;
        time.to_s += origin_s;
    }
    let book = &facts.codebook;
    for (answer, list) in [
        (&mut answers.description, &book.description),
        (&mut answers.cause, &book.cause),
        (&mut answers.prevention, &book.prevention),
    ] {
        if let Some(answer) = answer {
            // A code that the codebook does not know, or knows otherwise, would mean another sentence to its reader.
            answer.code = answer.code.filter(|c| list.get(usize::from(*c)).is_some_and(|t| *t == answer.text));
        }
    }
    Ok(answers)
}
