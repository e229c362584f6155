//! A camera as a source of `run`: its two threads and the buffers that go round between them.
//!
//! | thread | does | its channel |
//! |---|---|---|
//! | camera | the keeper: frames from the camera to the core | to the core: whoever starts it says how; never waits for a buffer: a frame that finds none is lost, counted |
//! | look | small pictures, their health, the trigger model | from camera, one place for each buffer of `rings.small_frame_count`: a frame that finds none goes unseen, counted |
//!
//! Health of the picture is worth a state of the camera only while frames come: the look thread's word passes the camera
//! thread, which says one state at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use agent_core::samples::FrameMeta;
use agent_core::time::{MonoTime, Span};
use agent_core::vision::Detections;
use agent_models::Detector;
use agent_worker::pulse::Pulse;

use super::clock::monotonic_now;
use super::keeper::{CameraState, Counts, Keeper, Rules, Taker};
use super::looker::{Look, Looker, Seen};
use super::picture::{Judge, Limits, PictureFault};
use super::{Camera, Shot};
use crate::config::Config;

/// How long the rate of what is kept is measured before it is held against the ring's.
const RATE_OVER: Span = Span::from_s(10);

/// What a camera says to the core.
#[derive(Debug)]
pub(crate) enum News {
    /// A frame for the ring. Its buffer goes back to the pool.
    Frame(FrameMeta, Vec<u8>),
    /// What the trigger model saw in the frame of this time, and the picture's width over its height.
    Seen(MonoTime, f32, Box<Detections>),
    /// Frames that were not looked at.
    Unseen(u32),
    /// Frames that were lost without a gap in the sequence.
    Lost(u32),
    /// The camera is in another state; why, in words.
    State(CameraState, String),
    /// Something that a person should know.
    Said(String),
    /// The camera's thread has ended.
    Ended,
}

/// What a camera's threads are given.
pub(crate) struct Parts<F> {
    pub(crate) camera: Box<dyn Camera + Send>,
    /// Gives news to the core; false when it is gone.
    pub(crate) tell: F,
    /// Buffers for kept frames; whoever takes the frames puts them back.
    pub(crate) pool: Receiver<Vec<u8>>,
    /// The trigger model; every so manieth frame is scored.
    pub(crate) detector: Option<(Detector, u64)>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) pulses: Pulses,
}

/// How the threads say that they get on: a pulse, and how long one step may take.
pub(crate) struct Pulses {
    pub(crate) camera: (Arc<Pulse>, Duration),
    pub(crate) look: (Arc<Pulse>, Duration),
}

/// The picture's fault as the look thread sees it, for the camera's thread: 0 is none.
#[derive(Default)]
struct Shared(AtomicU8);

impl Shared {
    fn set(&self, fault: Option<PictureFault>) {
        self.0.store(fault.map_or(0, |f| f as u8 + 1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<PictureFault> {
        use PictureFault::{Black, Blurred, Covered, Frozen};
        let at = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        [Black, Covered, Frozen, Blurred].get(usize::from(at)).copied()
    }
}

/// What passes from the camera's thread to the look thread.
enum ToLook {
    /// An encoded frame.
    Encoded(FrameMeta, Vec<u8>),
    /// A small picture, its size, and whether it is raw.
    Small(FrameMeta, [u16; 2], Vec<u8>, bool),
    /// The camera was opened anew.
    Reopened,
}

/// Starts the threads of a camera.
///
/// # Errors
/// The system makes no more threads.
pub(crate) fn start<'s, 'e, F>(scope: &'s Scope<'s, 'e>, config: &Config, parts: Parts<F>) -> std::io::Result<()>
where
    F: Fn(News) -> bool + Clone + Send + 's,
{
    let Parts { mut camera, tell, pool, detector, stop, pulses } = parts;
    let settings = &config.sources.camera;
    let rings = &config.rings;
    let looks = rings.small_frame_count.max(2) as usize;
    let (to_look, from_camera) = sync_channel::<ToLook>(looks + 1);
    let (look_back, look_pool) = sync_channel::<Vec<u8>>(looks);
    for _ in 0..looks {
        let bytes = 3 * rings.small_frame_width as usize * rings.small_frame_height as usize;
        // The channel has room for each.
        let _ = look_back.try_send(Vec::with_capacity(bytes));
    }
    let shared = Arc::new(Shared::default());
    let judge = settings.picture_health.then(|| Judge::new(Limits::default()));
    let small_width = u16::try_from(rings.small_frame_width).unwrap_or(u16::MAX);
    let looker = Looker::new(judge, detector.is_some(), small_width);
    let looks = Looks {
        looker,
        detector,
        back: look_back,
        tell: tell.clone(),
        shared: Arc::clone(&shared),
        pulse: pulses.look,
    };
    let name = |n: &str| std::thread::Builder::new().name(n.to_owned());
    name("look").spawn_scoped(scope, move || looks.run(&from_camera))?;
    let rules = Rules { fps: settings.fps, stall_frames: settings.stall_frames };
    let mut hands = Hands {
        tell,
        stop,
        pool,
        to_look,
        look_pool,
        shared,
        state: None,
        fault: None,
        pulse: pulses.camera,
        rate: Rate { most_mbit_s: rings.video_max_mbit_s, ..Rate::default() },
    };
    name("camera").spawn_scoped(scope, move || {
        let counts = Keeper::new(rules, &mut hands).run(camera.as_mut());
        hands.pulse.0.idle();
        let _ = (hands.tell)(News::Said(in_words(&counts)));
        let _ = (hands.tell)(News::Ended);
    })?;
    Ok(())
}

fn in_words(counts: &Counts) -> String {
    let Counts { frames, no_room, damaged, lost, outage, opened } = counts;
    format!(
        "camera: {frames} frames, lost: {lost} by the source, {damaged} damaged, {no_room} without room, {outage} in \
         outages; opened {opened} times"
    )
}

/// Bits kept in a window, for one word to whoever configured a ring that is too small for them.
#[derive(Default)]
struct Rate {
    most_mbit_s: f32,
    since: Option<MonoTime>,
    bytes: u64,
    said: bool,
}

impl Rate {
    fn take(&mut self, t: MonoTime, bytes: usize) -> Option<String> {
        let since = *self.since.get_or_insert(t);
        self.bytes += bytes as u64;
        let passed = t.since(since);
        if self.said || passed < RATE_OVER {
            return None;
        }
        let mbit_s = self.bytes as f64 * 8e-6 / passed.as_s();
        (self.since, self.bytes) = (Some(t), 0);
        if mbit_s <= f64::from(self.most_mbit_s) {
            return None;
        }
        self.said = true;
        Some(format!(
            "the camera gives {mbit_s:.1} Mbit/s, more than rings.video_max_mbit_s ({}): the ring holds less than the \
             pre-roll",
            self.most_mbit_s
        ))
    }
}

/// The camera thread's hands.
struct Hands<F> {
    tell: F,
    stop: Arc<AtomicBool>,
    pool: Receiver<Vec<u8>>,
    to_look: SyncSender<ToLook>,
    look_pool: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    state: Option<CameraState>,
    /// The fault of the picture that was said.
    fault: Option<PictureFault>,
    rate: Rate,
    pulse: (Arc<Pulse>, Duration),
}

impl<F: Fn(News) -> bool> Hands<F> {
    fn look(&mut self, meta: FrameMeta, shot: &mut Shot) {
        let Ok(mut buffer) = self.look_pool.try_recv() else { return self.unseen(1) };
        let look = if shot.small_size == [0; 2] {
            buffer.clear();
            buffer.extend_from_slice(&shot.kept);
            ToLook::Encoded(meta, buffer)
        } else {
            std::mem::swap(&mut buffer, &mut shot.small);
            ToLook::Small(meta, shot.small_size, buffer, shot.small_raw)
        };
        // There is a place for every buffer, so that only a thread that ended refuses it.
        if self.to_look.try_send(look).is_err() {
            self.unseen(1);
        }
    }

    /// Says what is wrong with the picture, while frames come.
    fn say_fault(&mut self) {
        let fault = self.shared.get();
        let seen = matches!(self.state, Some(CameraState::Good | CameraState::Picture(_)));
        if !seen || fault == self.fault {
            return;
        }
        self.fault = fault;
        let (state, why) = match fault {
            Some(fault) => (CameraState::Picture(fault), format!("the picture is {}", fault.name())),
            None => (CameraState::Good, "the picture is good again".to_owned()),
        };
        self.state = Some(state);
        let _ = (self.tell)(News::State(state, why));
    }
}

impl<F: Fn(News) -> bool> Taker for Hands<F> {
    fn now(&self) -> MonoTime {
        monotonic_now()
    }

    fn beat(&mut self) -> bool {
        let (pulse, limit) = &self.pulse;
        pulse.busy(Instant::now(), *limit);
        self.stop.load(Ordering::Relaxed)
    }

    fn rest(&mut self, wait: Duration) {
        std::thread::sleep(wait);
    }

    fn picture(&self) -> Option<PictureFault> {
        self.shared.get()
    }

    fn frame(&mut self, meta: FrameMeta, shot: &mut Shot) -> bool {
        // Looking first: it copies, and what is kept is moved away.
        self.look(meta, shot);
        self.say_fault();
        if let Some(said) = self.rate.take(meta.t, shot.kept.len()) {
            let _ = (self.tell)(News::Said(said));
        }
        let Ok(empty) = self.pool.try_recv() else { return false };
        let kept = std::mem::replace(&mut shot.kept, empty);
        shot.kept.clear();
        (self.tell)(News::Frame(meta, kept))
    }

    fn unseen(&mut self, frames: u32) {
        let _ = (self.tell)(News::Unseen(frames));
    }

    fn lost(&mut self, frames: u32) {
        let _ = (self.tell)(News::Lost(frames));
    }

    fn state(&mut self, state: CameraState, why: &str) {
        // A picture that is frozen stays so until another comes, whichever stream brings it.
        if !matches!(state, CameraState::Good | CameraState::Picture(_)) {
            // The stream ends here, or begins: what was judged of it ends too. There is a place more than buffers.
            let _ = self.to_look.try_send(ToLook::Reopened);
            self.fault = None;
            self.shared.set(None);
        }
        self.state = Some(state);
        let _ = (self.tell)(News::State(state, why.to_owned()));
    }
}

/// The look thread.
struct Looks<F> {
    looker: Looker,
    detector: Option<(Detector, u64)>,
    back: SyncSender<Vec<u8>>,
    tell: F,
    shared: Arc<Shared>,
    pulse: (Arc<Pulse>, Duration),
}

impl<F: Fn(News) -> bool> Looks<F> {
    fn run(mut self, from_camera: &Receiver<ToLook>) {
        while let Ok(next) = from_camera.recv() {
            self.pulse.0.busy(Instant::now(), self.pulse.1);
            let (news, buffer) = match &next {
                ToLook::Reopened => {
                    self.pulse.0.idle();
                    self.looker.reopened();
                    continue;
                }
                ToLook::Encoded(meta, bytes) => (self.one(*meta, &Look::Encoded(meta, bytes)), next),
                ToLook::Small(meta, size, rgb, raw) => (self.one(*meta, &Look::Small(meta, *size, rgb, *raw)), next),
            };
            self.pulse.0.idle();
            self.shared.set(self.looker.fault());
            if let ToLook::Encoded(_, buffer) | ToLook::Small(_, _, buffer, _) = buffer {
                // The pool has room for every buffer that exists.
                let _ = self.back.try_send(buffer);
            }
            if let Some(news) = news
                && !(self.tell)(news)
            {
                return;
            }
        }
    }

    fn one(&mut self, meta: FrameMeta, look: &Look<'_>) -> Option<News> {
        match self.looker.look(look) {
            Seen::NotWanted => None,
            Seen::Unseen => Some(News::Unseen(1)),
            Seen::Picture([width, height], rgb) => {
                let (detector, every_nth) = self.detector.as_mut()?;
                if !meta.seq.is_multiple_of((*every_nth).max(1)) {
                    return None;
                }
                let aspect = f32::from(width) / f32::from(height.max(1));
                match detector.detect(width.into(), height.into(), rgb) {
                    Ok(found) => Some(News::Seen(meta.t, aspect, Box::new(found.clone()))),
                    Err(_) => Some(News::Unseen(1)),
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
