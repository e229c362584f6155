//! The keeper against a camera and a clock that follow a script.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::*;

const MS: u64 = 1_000_000;

/// One thing that the camera does; `Wait` lets time pass without a frame.
#[derive(Clone, Debug)]
enum Does {
    Frames(u32),
    Lost(u32),
    Damaged,
    Silent(u64),
    Fails(Fault),
    CannotOpen(Fault),
    /// From here on the picture is judged so.
    Looks(Option<PictureFault>),
}

struct Scripted {
    script: Rc<Cell<VecDeque<Does>>>,
    now: Rc<Cell<u64>>,
    picture: Rc<Cell<Option<PictureFault>>>,
}

impl Scripted {
    fn next_act(&self) -> Option<Does> {
        let mut acts = self.script.take();
        let act = acts.pop_front();
        self.script.set(acts);
        act
    }

    fn put_back(&self, act: Does) {
        let mut acts = self.script.take();
        acts.push_front(act);
        self.script.set(acts);
    }

    fn again(&self) -> Box<dyn Stream> {
        let (script, now, picture) = (Rc::clone(&self.script), Rc::clone(&self.now), Rc::clone(&self.picture));
        Box::new(Self { script, now, picture })
    }
}

impl Camera for Scripted {
    fn open(&mut self) -> Result<Box<dyn Stream>, Fault> {
        match self.next_act() {
            Some(Does::CannotOpen(fault)) => Err(fault),
            Some(other) => {
                self.put_back(other);
                Ok(self.again())
            }
            None => Ok(self.again()),
        }
    }
}

impl Stream for Scripted {
    fn next(&mut self, wait: Duration, shot: &mut Shot) -> Result<Got, Fault> {
        let pass = |ms: u64| self.now.set(self.now.get() + ms * MS);
        shot.lost = 0;
        match self.next_act() {
            Some(Does::Frames(n)) => {
                if n > 1 {
                    self.put_back(Does::Frames(n - 1));
                }
                pass(40);
                shot.t = MonoTime(self.now.get());
                Ok(Got::Frame)
            }
            Some(Does::Lost(n)) => {
                shot.lost = n;
                pass(40 * (u64::from(n) + 1));
                shot.t = MonoTime(self.now.get());
                Ok(Got::Frame)
            }
            Some(Does::Damaged) => {
                pass(40);
                Ok(Got::Damaged)
            }
            Some(Does::Silent(ms)) => {
                let step = (wait.as_millis() as u64).min(ms);
                if ms > step {
                    self.put_back(Does::Silent(ms - step));
                }
                pass(step);
                Ok(Got::Nothing)
            }
            Some(Does::Fails(fault)) => Err(fault),
            Some(Does::Looks(fault)) => {
                self.picture.set(fault);
                Ok(Got::Nothing)
            }
            Some(act @ Does::CannotOpen(_)) => {
                self.put_back(act);
                Err(Fault::Failed("it broke".to_owned()))
            }
            None => {
                pass(wait.as_millis() as u64);
                Ok(Got::Nothing)
            }
        }
    }

    fn fps(&self) -> f32 {
        25.0
    }

    fn describe(&self) -> String {
        "scripted".to_owned()
    }
}

#[derive(Default)]
struct Log {
    now: Rc<Cell<u64>>,
    picture: Rc<Cell<Option<PictureFault>>>,
    until_ms: u64,
    room: Option<u64>,
    seqs: Vec<u64>,
    lost: u32,
    /// Losses by the second in which they were said.
    lost_at: Vec<u64>,
    states: Vec<(u64, &'static str, String)>,
}

impl Taker for Log {
    fn now(&self) -> MonoTime {
        MonoTime(self.now.get())
    }

    fn beat(&mut self) -> bool {
        self.now.get() >= self.until_ms * MS
    }

    fn rest(&mut self, wait: Duration) {
        self.now.set(self.now.get() + wait.as_nanos() as u64);
    }

    fn picture(&self) -> Option<PictureFault> {
        self.picture.get()
    }

    fn frame(&mut self, meta: FrameMeta, _shot: &mut Shot) -> bool {
        if self.room == Some(meta.seq) {
            return false;
        }
        self.seqs.push(meta.seq);
        true
    }

    fn unseen(&mut self, _frames: u32) {}

    fn lost(&mut self, frames: u32) {
        self.lost += frames;
        self.lost_at.push(self.now.get() / MS);
    }

    fn state(&mut self, state: CameraState, why: &str) {
        self.states.push((self.now.get() / MS, state.name(), why.to_owned()));
    }
}

fn play(script: Vec<Does>, seconds: u64, room: Option<u64>) -> (Log, Counts) {
    let now = Rc::new(Cell::new(1_000 * MS));
    let mut log = Log { now: Rc::clone(&now), until_ms: 1_000 + seconds * 1_000, room, ..Log::default() };
    let rules = Rules { fps: 30, stall_frames: 25 };
    let mut camera = Scripted { script: Rc::new(Cell::new(script.into())), now, picture: Rc::clone(&log.picture) };
    let counts = Keeper::new(rules, &mut log).run(&mut camera);
    (log, counts)
}

fn words(log: &Log) -> Vec<&'static str> {
    log.states.iter().map(|s| s.1).collect()
}

#[test]
fn a_camera_that_works_loses_nothing_and_is_good() {
    let (log, counts) = play(vec![Does::Frames(100)], 4, None);
    assert_eq!(words(&log), ["starting", "good"]);
    assert_eq!(log.seqs, (0..100).collect::<Vec<_>>());
    assert_eq!(counts, Counts { frames: 100, opened: 1, ..Counts::default() });
}

#[test]
fn what_the_driver_lost_what_is_damaged_and_what_finds_no_room_are_gaps_in_the_sequence() {
    let script = vec![Does::Frames(3), Does::Lost(2), Does::Damaged, Does::Frames(4)];
    let (log, counts) = play(script, 1, Some(8));
    assert_eq!(log.seqs, [0, 1, 2, 5, 7, 9, 10]);
    assert_eq!((counts.lost, counts.damaged, counts.no_room, log.lost), (2, 1, 1, 0));
}

#[test]
fn an_unplugged_camera_is_looked_for_and_its_losses_are_said_while_it_is_away() {
    let gone = || Does::CannotOpen(Fault::Missing("camera".to_owned()));
    let mut script = vec![Does::Frames(50), Does::Fails(Fault::Unplugged("camera".to_owned()))];
    script.extend((0..10).map(|_| gone()));
    script.push(Does::Frames(50));
    let (log, counts) = play(script, 10, None);
    assert_eq!(words(&log), ["starting", "good", "missing", "good"]);
    assert_eq!(log.states[2].2, "camera was unplugged");
    let away_ms = log.states[3].0 - log.states[2].0;
    assert!((5_000..6_100).contains(&away_ms), "{away_ms} ms");
    // 25 a second; the frame that ended it is not lost.
    assert_eq!(u64::from(log.lost), away_ms / 40 - 1);
    assert!(log.lost_at.len() >= 5 && log.lost_at.windows(2).all(|w| w[1] - w[0] <= 1_100), "{:?}", log.lost_at);
    assert_eq!(log.seqs, (0..100).collect::<Vec<_>>(), "losses of an outage are no gap besides");
    assert_eq!((counts.opened, counts.outage), (2, u64::from(log.lost)));
}

#[test]
fn a_camera_that_stalls_is_opened_anew() {
    let (log, counts) = play(vec![Does::Frames(10), Does::Silent(1_000), Does::Frames(10)], 3, None);
    assert_eq!(words(&log), ["starting", "good", "stalled", "good"]);
    assert_eq!(log.states[2].2, "no frame for 1.0 s");
    assert_eq!(counts.opened, 2);
}

#[test]
fn a_pause_shorter_than_a_stall_is_none() {
    let (log, counts) = play(vec![Does::Frames(10), Does::Silent(900), Does::Frames(10)], 2, None);
    assert_eq!((words(&log), counts.opened, log.lost), (vec!["starting", "good"], 1, 0));
}

#[test]
fn a_camera_that_fails_again_and_again_is_tried_ever_more_seldom_and_said_once() {
    let broken = || Does::CannotOpen(Fault::Refused("camera: another program uses it".to_owned()));
    let (log, counts) = play((0..100).map(|_| broken()).collect(), 100, None);
    assert_eq!(words(&log), ["failed"]);
    assert_eq!((counts.opened, counts.frames, log.lost), (0, 0, 0), "what never came is not lost");
    // 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30 s: nine waits in 100 s.
    let (again, _) = play((0..9).map(|_| broken()).chain([Does::Frames(1)]).collect(), 93, None);
    assert_eq!(words(&again)[..2], ["failed", "good"]);
    assert!(again.states[1].0 > 91_000, "{:?}", again.states);
}

#[test]
fn good_frames_forgive_the_failures_before() {
    let fail = || Does::Fails(Fault::Failed("it broke".to_owned()));
    let mut script: Vec<Does> = (0..6).map(|_| fail()).collect();
    script.extend([Does::Frames(300), fail(), Does::Frames(10)]);
    let (log, _) = play(script, 29, None);
    assert_eq!(words(&log), ["starting", "failed", "good", "failed", "good"]);
    let away_ms = log.states[4].0 - log.states[3].0;
    assert!(away_ms < 400, "opened again after the first wait, not the longest: {away_ms} ms");
}

#[test]
fn a_camera_without_a_first_frame_gets_more_time_and_then_has_stalled() {
    let (log, _) = play(vec![Does::Silent(4_900), Does::Frames(5)], 6, None);
    assert_eq!(words(&log), ["starting", "good"]);
    let (log, _) = play(vec![Does::Silent(20_000)], 6, None);
    assert_eq!(words(&log), ["starting", "stalled"]);
}

const FROZEN_PICTURE: Does = Does::Looks(Some(PictureFault::Frozen));

#[test]
fn a_frozen_camera_is_opened_anew_after_a_while_and_nothing_is_good_before_its_picture_is() {
    // 25 frames a second: 9 s frozen are borne, 10 s are not.
    let script = vec![Does::Frames(25), FROZEN_PICTURE, Does::Frames(225), Does::Looks(None), Does::Frames(25)];
    let (log, counts) = play(script, 11, None);
    assert_eq!((words(&log), counts.opened, counts.outage), (vec!["starting", "good"], 1, 0));
    let script = vec![Does::Frames(25), FROZEN_PICTURE, Does::Frames(300), Does::Looks(None), Does::Frames(25)];
    let (log, counts) = play(script, 15, None);
    assert_eq!(words(&log), ["starting", "good", "frozen"], "that it moves again says whoever looks at it");
    assert_eq!(log.states[2].2, "the same picture for 10 s: opening it anew");
    assert_eq!((counts.opened, counts.frames), (2, 350));
    assert!((1..=10).contains(&counts.outage), "a quarter of a second: {counts:?}");
    let blurred = Does::Looks(Some(PictureFault::Blurred));
    let (_, counts) = play(vec![blurred, Does::Frames(1_000)], 40, None);
    assert_eq!(counts.opened, 1, "no other fault of the picture goes away by opening");
}

#[test]
fn a_camera_that_stays_frozen_is_opened_ever_more_seldom_and_a_good_picture_forgives_that() {
    let (log, counts) = play(vec![FROZEN_PICTURE, Does::Frames(100_000)], 3_600, None);
    let waits: Vec<u64> = log.states.windows(2).skip(2).map(|w| (w[1].0 - w[0].0) / 1_000).collect();
    assert_eq!(waits, [20, 40, 80, 160, 320, 600, 600, 600, 600], "{:?}", log.states);
    assert_eq!(counts.opened, 11);
    assert!(counts.outage < 100, "what it costs stays small: {counts:?}");
    let script = vec![FROZEN_PICTURE, Does::Frames(1_000), Does::Looks(None), Does::Frames(300), FROZEN_PICTURE];
    let (log, _) = play(script.into_iter().chain([Does::Frames(300)]).collect(), 66, None);
    let frozen: Vec<&str> = log.states.iter().filter(|s| s.1 == "frozen").map(|s| s.2.as_str()).collect();
    assert_eq!(frozen.len(), 3, "{:?}", log.states);
    assert!(frozen[1].contains("for 20 s") && frozen[2].contains("for 10 s"), "{frozen:?}");
}
