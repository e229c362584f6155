//! The camera's thread: opens the stream, hands frames over, and never gives up.
//!
//! The *state* of the camera is one word ([`CameraState`]), said when it changes. While there is no frame the losses are
//! said every second, by the rate that the camera had, so that the fleet hears of an outage while it lasts.
//!
//! | what happens | then |
//! |---|---|
//! | the device is not there, or was unplugged | looked for every half second: its stable name comes back when it does |
//! | it fails, stalls or refuses | opened anew after 0.25 s, 0.5 s, ... up to 30 s; the count begins again after 10 s of frames |
//! | its picture is frozen | opened anew after 10 s of it, then 20 s, 40 s, ... up to 10 minutes; until then it is kept as it is |
//! | the driver's count jumps, a frame is damaged, no buffer is free | counted: a gap in the sequence is a loss to the core |
//!
//! Never waits for whoever takes the frames.

use std::time::Duration;

use agent_core::samples::FrameMeta;
use agent_core::time::{MonoTime, Span};

use super::picture::PictureFault;
use super::{Camera, Fault, Got, Shot, Stream};

/// One look at the stream waits this long at most: the thread answers the watchdog and the stop at this pace.
pub(crate) const POLL: Duration = Duration::from_millis(50);
const MISSING_EVERY: Span = Span::from_ms(500);
const FIRST_WAIT: Span = Span::from_ms(250);
const LONGEST_WAIT: Span = Span::from_s(30);
/// Frames for this long forgive what was before.
const FORGIVEN: Span = Span::from_s(10);
/// A camera may take this long to its first frame (auto-exposure, RTSP).
const FIRST_FRAME: Span = Span::from_s(5);
/// However short the interval, a pause below this is no stall.
const SHORTEST_STALL: Span = Span::from_ms(500);
const LOSSES_EVERY: Span = Span::from_s(1);
/// A picture may be frozen this long before the stream is opened anew; twice as long each time that it did not help.
const FROZEN: Span = Span::from_s(10);
const LONGEST_FROZEN: Span = Span::from_s(600);

/// How the camera is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CameraState {
    /// Opened, no frame yet.
    Starting,
    /// Frames come.
    Good,
    /// Its device is not there.
    Missing,
    /// Open, but no frame comes.
    Stalled,
    /// It fails or refuses.
    Failed,
    /// Frames come, but their picture is worth nothing.
    Picture(PictureFault),
}

impl CameraState {
    /// What health says of it.
    pub(crate) const fn on_the_wire(self) -> agent_wire::CameraState {
        use agent_wire::CameraState as Wire;
        match self {
            Self::Starting => Wire::Starting,
            Self::Good => Wire::Good,
            Self::Missing => Wire::Missing,
            Self::Stalled => Wire::Stalled,
            Self::Failed => Wire::Failed,
            Self::Picture(PictureFault::Black) => Wire::Black,
            Self::Picture(PictureFault::Covered) => Wire::Covered,
            Self::Picture(PictureFault::Frozen) => Wire::Frozen,
            Self::Picture(PictureFault::Blurred) => Wire::Blurred,
        }
    }

    /// Its word in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Good => "good",
            Self::Missing => "missing",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
            Self::Picture(fault) => fault.name(),
        }
    }
}

/// Where a camera's frames and news go.
pub(crate) trait Taker {
    /// The time now, CLOCK_MONOTONIC.
    fn now(&self) -> MonoTime;
    /// The thread is alive; true when it is to end.
    fn beat(&mut self) -> bool;
    /// Sleeps.
    fn rest(&mut self, wait: Duration);
    /// What is wrong with the picture, as far as it was looked at.
    fn picture(&self) -> Option<PictureFault>;
    /// Takes a frame and leaves buffers for the next in the shot. False: it found no room, and was lost.
    fn frame(&mut self, meta: FrameMeta, shot: &mut Shot) -> bool;
    /// Frames that will not be looked at.
    fn unseen(&mut self, frames: u32);
    /// Frames that were lost without a gap in the sequence.
    fn lost(&mut self, frames: u32);
    /// The camera is in another state; why, in words.
    fn state(&mut self, state: CameraState, why: &str);
}

/// Rules of one camera.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Frames a second where the stream does not say.
    pub(crate) fps: u32,
    /// Intervals without a frame that are a stall.
    pub(crate) stall_frames: u32,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Frames handed over.
    pub(crate) frames: u64,
    /// Frames that found no room.
    pub(crate) no_room: u64,
    /// Damaged frames.
    pub(crate) damaged: u64,
    /// Frames that the source said it lost.
    pub(crate) lost: u64,
    /// Frames that an outage cost, by the camera's rate.
    pub(crate) outage: u64,
    /// Times that it was opened.
    pub(crate) opened: u64,
}

/// See the module.
pub(crate) struct Keeper<'a> {
    rules: Rules,
    taker: &'a mut dyn Taker,
    state: Option<CameraState>,
    seq: u64,
    wait: Span,
    /// How long a picture may be frozen.
    patience: Span,
    /// Until when an outage has been counted; `None` while frames come, or before the first ever.
    outage: Option<MonoTime>,
    interval: Span,
    last: Option<MonoTime>,
    counts: Counts,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(rules: Rules, taker: &'a mut dyn Taker) -> Self {
        let interval = Span(1_000_000_000 / u64::from(rules.fps.max(1)));
        Self {
            rules,
            taker,
            state: None,
            seq: 0,
            wait: FIRST_WAIT,
            patience: FROZEN,
            outage: None,
            interval,
            last: None,
            counts: Counts::default(),
        }
    }

    /// Runs the camera until it is told to end.
    pub(crate) fn run(mut self, camera: &mut dyn Camera) -> Counts {
        let mut shot = Shot::default();
        while !self.taker.beat() {
            let fault = match camera.open() {
                Ok(mut stream) => {
                    self.counts.opened += 1;
                    self.say(CameraState::Starting, &stream.describe());
                    match self.stream(stream.as_mut(), &mut shot) {
                        None => break,
                        Some(fault) => fault,
                    }
                }
                Err(fault) => self.state_of(fault),
            };
            if self.pause(fault.0, &fault.1) {
                break;
            }
        }
        self.counts
    }

    /// Takes frames until something is wrong, which it gives; `None` at the end.
    fn stream(&mut self, stream: &mut dyn Stream, shot: &mut Shot) -> Option<(CameraState, String)> {
        let opened = self.taker.now();
        if stream.fps() > 0.0 {
            self.interval = Span((1e9 / f64::from(stream.fps())) as u64);
        }
        let stall = Span(self.interval.0.saturating_mul(u64::from(self.rules.stall_frames))).max(SHORTEST_STALL);
        let mut first: Option<MonoTime> = None;
        let mut frozen: Option<MonoTime> = None;
        let mut last = opened;
        loop {
            if self.taker.beat() {
                return None;
            }
            match stream.next(POLL, shot) {
                Err(fault) => return Some(self.state_of(fault)),
                Ok(Got::Nothing) => {}
                Ok(Got::Damaged) => {
                    self.counts.damaged += 1;
                    self.counts.lost += u64::from(shot.lost);
                    self.seq += u64::from(shot.lost) + 1;
                    last = self.taker.now();
                }
                Ok(Got::Frame) => {
                    last = self.taker.now();
                    self.frame(shot, last);
                    let good_for = last.since(*first.get_or_insert(last));
                    if self.taker.picture() == Some(PictureFault::Frozen) {
                        let frozen_for = last.since(*frozen.get_or_insert(last));
                        if frozen_for >= self.patience {
                            return Some(self.give_up_frozen(frozen_for));
                        }
                    } else {
                        frozen = None;
                        if good_for >= FORGIVEN {
                            (self.wait, self.patience) = (FIRST_WAIT, FROZEN);
                        }
                    }
                    continue;
                }
            }
            let now = self.taker.now();
            let silent = now.since(last);
            let allowed = if first.is_some() { stall } else { stall.max(FIRST_FRAME) };
            if silent >= allowed {
                return Some((CameraState::Stalled, format!("no frame for {:.1} s", silent.as_s())));
            }
            if silent >= stall {
                self.count_outage(now);
            }
        }
    }

    /// Opening anew may help, and costs frames: each time that it did not, it is tried later.
    fn give_up_frozen(&mut self, frozen_for: Span) -> (CameraState, String) {
        self.patience = Span(self.patience.0.saturating_mul(2)).min(LONGEST_FROZEN);
        let why = format!("the same picture for {:.0} s: opening it anew", frozen_for.as_s());
        (CameraState::Picture(PictureFault::Frozen), why)
    }

    fn frame(&mut self, shot: &mut Shot, now: MonoTime) {
        self.count_outage_to_the_end(now);
        self.counts.lost += u64::from(shot.lost);
        self.seq += u64::from(shot.lost);
        if shot.unseen > 0 {
            self.taker.unseen(std::mem::take(&mut shot.unseen));
        }
        let meta = FrameMeta { t: shot.t, seq: self.seq, codec: shot.codec, key: shot.key, size: shot.size };
        self.seq += 1;
        self.last = Some(now);
        if self.taker.frame(meta, shot) {
            self.counts.frames += 1;
        } else {
            self.counts.no_room += 1;
        }
        if matches!(self.state, Some(s) if s != CameraState::Good) {
            self.say(CameraState::Good, "frames come");
        }
    }

    fn say(&mut self, state: CameraState, why: &str) {
        if matches!(state, CameraState::Picture(_)) {
            // Whoever judges the picture said so, and takes it back: frames alone do not.
            return self.taker.state(state, why);
        }
        // Opening again and again is one fault, not many.
        let hidden = state == CameraState::Starting && self.state.is_some();
        if !hidden && self.state != Some(state) {
            self.state = Some(state);
            self.taker.state(state, why);
        }
    }

    fn state_of(&mut self, fault: Fault) -> (CameraState, String) {
        let why = fault.to_string();
        match fault {
            Fault::Missing(_) | Fault::Unplugged(_) => (CameraState::Missing, why),
            Fault::Denied(_) | Fault::Busy(_) | Fault::Refused(_) | Fault::Failed(_) => (CameraState::Failed, why),
        }
    }

    /// Waits before the next try; true at the end.
    fn pause(&mut self, state: CameraState, why: &str) -> bool {
        self.say(state, why);
        let wait = match state {
            CameraState::Missing => MISSING_EVERY,
            // It waited with the stream open.
            CameraState::Picture(_) => FIRST_WAIT,
            _ => {
                let wait = self.wait;
                self.wait = Span(wait.0.saturating_mul(2)).min(LONGEST_WAIT);
                wait
            }
        };
        let until = self.taker.now() + wait;
        loop {
            let now = self.taker.now();
            self.count_outage(now);
            if self.taker.beat() {
                return true;
            }
            let left = until.since(now);
            if left == Span(0) {
                return false;
            }
            self.taker.rest(POLL.min(Duration::from_nanos(left.0)));
        }
    }

    /// Says what the outage has cost so far, every second.
    fn count_outage(&mut self, now: MonoTime) {
        // What was never there is not lost.
        let Some(last) = self.last else { return };
        let since = *self.outage.get_or_insert(last);
        if now.since(since) >= LOSSES_EVERY {
            self.outage_frames(since, now);
        }
    }

    fn count_outage_to_the_end(&mut self, now: MonoTime) {
        if let Some(since) = self.outage {
            // The frame that came now is not lost.
            self.outage_frames(since, MonoTime(now.0.saturating_sub(self.interval.0)));
            self.outage = None;
        }
    }

    fn outage_frames(&mut self, since: MonoTime, until: MonoTime) {
        let frames = until.since(since).0 / self.interval.0.max(1);
        self.outage = Some(since + Span(frames.saturating_mul(self.interval.0)));
        if frames > 0 {
            self.counts.outage += frames;
            self.taker.lost(u32::try_from(frames).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
