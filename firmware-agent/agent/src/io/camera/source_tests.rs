//! The two threads against a camera that follows a script.

use std::sync::Mutex;

use agent_core::samples::VideoCodec;

use super::super::{Fault, Got, Stream};
use super::*;

/// Gives small pictures: a moving ramp, then the same dark one; then it is unplugged, and comes back.
struct Scripted {
    opened: u32,
}

struct Pictures {
    opened: u32,
    n: u64,
}

impl Camera for Scripted {
    fn open(&mut self) -> Result<Box<dyn Stream>, Fault> {
        self.opened += 1;
        Ok(Box::new(Pictures { opened: self.opened, n: 0 }))
    }
}

const SIZE: [u16; 2] = [64, 36];
/// Pictures are 10 ms apart and stamped 100 ms apart, so that what takes seconds takes a tenth.
const STAMP_MS: u64 = 100;

impl Stream for Pictures {
    fn next(&mut self, _wait: Duration, shot: &mut Shot) -> Result<Got, Fault> {
        std::thread::sleep(Duration::from_millis(10));
        let dark = self.opened == 1 && self.n > 20;
        if self.opened == 1 && self.n == 100 {
            return Err(Fault::Unplugged("camera".to_owned()));
        }
        let base = 1_000_000 * u64::from(self.opened);
        shot.t = MonoTime((base + self.n * STAMP_MS) * 1_000_000);
        (shot.codec, shot.key, shot.size) = (VideoCodec::Jpeg, true, SIZE);
        shot.kept.clear();
        shot.kept.extend_from_slice(&self.n.to_le_bytes());
        (shot.small_size, shot.small_raw) = (SIZE, true);
        shot.small.clear();
        let pixels = 0..usize::from(SIZE[0]) * usize::from(SIZE[1]);
        shot.small.extend(pixels.flat_map(|p| if dark { [2; 3] } else { [(p * 37 + self.n as usize * 11) as u8; 3] }));
        self.n += 1;
        Ok(Got::Frame)
    }

    fn fps(&self) -> f32 {
        100.0
    }

    fn describe(&self) -> String {
        "scripted".to_owned()
    }
}

/// Numbers of the frames, states with their reasons, frames lost, what was said.
type Heard = (Vec<u64>, Vec<(&'static str, String)>, u32, Vec<String>);

fn pulses() -> Pulses {
    let pulse = || (Arc::new(Pulse::new(Instant::now())), Duration::from_secs(5));
    Pulses { camera: pulse(), look: pulse() }
}

#[test]
fn frames_go_round_a_dark_picture_is_said_and_taken_back_and_an_unplugged_camera_returns() {
    let config = Config::default_embedded().unwrap();
    let (give_back, pool) = sync_channel(4);
    (0..4).for_each(|_| give_back.try_send(Vec::with_capacity(64)).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let heard: Mutex<Heard> = Mutex::default();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (heard, ended, done) = (&heard, &ended, Arc::clone(&stop));
        let tell = move |news| {
            let mut heard = heard.lock().unwrap();
            match news {
                News::Frame(meta, bytes) => {
                    assert_eq!(bytes.len(), 8);
                    heard.0.push(meta.seq);
                    // As the core does it.
                    give_back.try_send(bytes).unwrap();
                    // The second stream has run for a while.
                    if meta.t.0 > 2_001_000 * 1_000_000 {
                        done.store(true, Ordering::Relaxed);
                    }
                }
                News::State(state, why) => heard.1.push((state.name(), why)),
                News::Lost(frames) => heard.2 += frames,
                News::Said(what) => heard.3.push(what),
                News::Ended => ended.store(true, Ordering::Relaxed),
                News::Seen(..) | News::Unseen(_) => {}
            }
            true
        };
        let camera = Box::new(Scripted { opened: 0 });
        start(scope, &config, Parts { camera, tell, pool, detector: None, stop, pulses: pulses() }).unwrap();
    });
    let (seqs, states, lost, said) = heard.into_inner().unwrap();
    let words: Vec<_> = states.iter().map(|s| s.0).collect();
    assert_eq!(words, ["starting", "good", "black", "missing", "good"], "{states:?}");
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    assert!(lost > 0, "what the outage cost is said");
    assert!(said.iter().any(|s| s.contains("opened 2 times")), "{said:?}");
    assert!(ended.load(Ordering::Relaxed));
}

#[test]
fn a_core_that_gives_no_buffer_back_costs_frames_and_nothing_waits() {
    let config = Config::default_embedded().unwrap();
    let (give_back, pool) = sync_channel(3);
    (0..3).for_each(|_| give_back.try_send(Vec::new()).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let heard: Mutex<(Vec<u64>, String)> = Mutex::default();
    std::thread::scope(|scope| {
        let (heard, done) = (&heard, Arc::clone(&stop));
        let tell = move |news| {
            match news {
                News::Frame(meta, _) => heard.lock().unwrap().0.push(meta.seq),
                News::Said(what) => heard.lock().unwrap().1 = what,
                News::State(CameraState::Missing, _) => done.store(true, Ordering::Relaxed),
                _ => {}
            }
            true
        };
        let camera = Box::new(Scripted { opened: 0 });
        start(scope, &config, Parts { camera, tell, pool, detector: None, stop, pulses: pulses() }).unwrap();
    });
    let (seqs, said) = heard.into_inner().unwrap();
    assert_eq!(seqs, [0, 1, 2]);
    assert!(said.starts_with("camera: 3 frames") && said.contains("97 without room"), "{said}");
}

#[test]
fn a_rate_above_the_rings_is_said_once() {
    let mut rate = Rate { most_mbit_s: 8.0, ..Rate::default() };
    let mut said = Vec::new();
    for i in 0..3000_u64 {
        said.extend(rate.take(MonoTime(i * 33_333_333), if i < 900 { 10_000 } else { 60_000 }));
    }
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("the camera gives 1") && said[0].contains("(8)"), "{said:?}");
}
