//! What becomes of the buses: opened, heard in the order of their stamps, opened again, counted. The kernel stands behind
//! [`Kernel`], so that all of it is tested without a bus.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::samples::CanFrame;
use agent_core::time::{MonoTime, Span};
use rustix::io::Errno;

use super::errors::{ErrorCounts, ErrorKind, ErrorSet};
use super::{Asks, BusReport, News};
use crate::io::news::{Teller, Told};

/// The thread answers the stop flag and the watchdog at least this often.
pub(super) const POLL: Duration = Duration::from_millis(50);
const FIRST_WAIT: Span = Span::from_ms(250);
const LONGEST_WAIT: Span = Span::from_s(30);
/// An interface that was heard for this long is opened anew at once when it fails.
const FORGIVEN: Span = Span::from_s(10);
/// Errors that stay out for this long are over.
const ERRORS_OVER: Span = Span::from_s(10);
/// How often the kernel is asked what it dropped.
const DROPS_EVERY: Span = Span::from_s(1);
/// An older stamp is not believed: the wall clock was set between it and now.
const BELIEVED: Span = Span::from_s(2);
/// OBD-II (ISO 15765-4): the identifier that all controllers hear, and what fills a frame.
const ASK_ALL: u16 = 0x7df;
const PAD: u8 = 0x55;
/// Speed, engine speed, accelerator pedal (SAE J1979).
const PIDS: [u8; 3] = [0x0d, 0x0c, 0x49];
/// Frames between two looks at the stop flag: some milliseconds of work.
const ROUND: usize = 256;
/// A bus with more frames than so many in so long is read once a millisecond and not at each frame: waking for each is most of what
/// a full bus costs. Stamps are the kernel's, which holds hundreds of milliseconds; an alert comes a millisecond later.
const CROWD: u64 = 40;
const CROWD_IN: Span = Span::from_ms(10);
const PAUSE: Duration = Duration::from_millis(1);
/// Frames of a backlog whose stamps are placed by one look at the clocks, at most: some tenths of a millisecond.
const ONE_LOOK: u32 = 32;

/// The two clocks, read together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) mono: MonoTime,
    /// Wall clock, nanoseconds since 1970.
    pub(super) unix_ns: u64,
}

/// What a socket gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Heard {
    /// Its time is not set yet.
    Frame(CanFrame),
    Errors(ErrorSet),
    /// No frame of any known form.
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Got {
    pub(super) heard: Heard,
    /// When the kernel took it, by the wall clock, nanoseconds since 1970.
    pub(super) stamp_unix_ns: Option<u64>,
}

/// The kernel's side. Buses go by their numbers.
pub(super) trait Kernel {
    fn now(&self) -> Now;
    /// Opens the interface; how many bytes it may hold for us.
    fn open(&mut self, bus: usize) -> io::Result<usize>;
    fn close(&mut self, bus: usize);
    /// What came next on an open bus; never waits. An error means that the interface went down or away.
    fn read(&mut self, bus: usize) -> io::Result<Option<Got>>;
    /// Frames dropped for want of room since this opening; wraps.
    fn dropped(&mut self, bus: usize) -> u32;
    /// Until something came on an open bus, at most so long.
    fn wait(&mut self, most: Duration);
    /// So long, whatever comes.
    fn pause(&mut self, long: Duration);
    /// Sends a frame of eight bytes; never waits.
    fn send(&mut self, bus: usize, id: u16, data: [u8; 8]) -> io::Result<()>;
}

enum State {
    /// Closed, and tried again then.
    Away { again: MonoTime },
    /// Opened, but nothing was read yet: what is down can be opened.
    Opened,
    /// Up since then.
    Up { since: MonoTime },
}

/// One bus.
struct Line {
    state: State,
    /// Before the next try.
    wait: Span,
    /// What was read and is not handed over yet.
    head: Option<(MonoTime, Heard)>,
    /// Since when it is away, to say for how long it was.
    away_since: Option<MonoTime>,
    /// Since when it is bus-off.
    off_since: Option<MonoTime>,
    /// The last error of a spell, and its counts.
    last_error: Option<MonoTime>,
    spell: ErrorCounts,
    drops_seen: u32,
    drops_at: MonoTime,
    report: BusReport,
}

/// See the module.
pub(super) struct Keeper<'a, K: Kernel> {
    kernel: &'a mut K,
    teller: Teller<'a, CanFrame>,
    lines: Vec<Line>,
    /// Time of the newest frame: the core takes no older one.
    last: MonoTime,
    /// That frames are lost is said once.
    lost_said: bool,
    asking: Option<Asking>,
    /// The clocks as last looked at, and how many frames that may still serve.
    looked: Option<(Now, u32)>,
    crowd: Crowd,
}

/// Whether frames come so fast that they are better read in heaps.
#[derive(Default)]
struct Crowd {
    since: MonoTime,
    frames: u64,
    is: bool,
}

impl Crowd {
    /// Asked when nothing is left to read.
    fn judge(&mut self, now: MonoTime) -> bool {
        if now.since(self.since) >= CROWD_IN {
            // A look that comes late judges a longer time.
            let long = now.since(self.since).0 / CROWD_IN.0;
            (self.is, self.since, self.frames) = (self.frames > CROWD * long, now, 0);
        }
        self.is
    }
}

/// OBD-II requests: when the next is due, and for what.
struct Asking {
    bus: usize,
    every: Span,
    next: MonoTime,
    pids: core::iter::Cycle<core::array::IntoIter<u8, 3>>,
}

impl<'a, K: Kernel> Keeper<'a, K> {
    pub(super) fn new(
        interfaces: &[String],
        asks: Option<Asks>,
        kernel: &'a mut K,
        tell: &'a mut dyn FnMut(News) -> Told,
    ) -> Self {
        let line = |name: &String| Line {
            state: State::Away { again: MonoTime::ZERO },
            wait: FIRST_WAIT,
            head: None,
            away_since: None,
            off_since: None,
            last_error: None,
            spell: ErrorCounts::default(),
            drops_seen: 0,
            drops_at: MonoTime::ZERO,
            report: BusReport { name: name.clone(), ..BusReport::default() },
        };
        let lines = interfaces.iter().map(line).collect();
        let asking = asks.map(|asks| Asking {
            bus: asks.bus,
            every: Span((1e9 / f64::from(asks.hz.max(0.1))) as u64),
            next: MonoTime::ZERO,
            pids: PIDS.into_iter().cycle(),
        });
        Self {
            kernel,
            teller: Teller::new(tell),
            lines,
            last: MonoTime::ZERO,
            lost_said: false,
            asking,
            looked: None,
            crowd: Crowd::default(),
        }
    }

    pub(super) fn run(mut self, stop: &AtomicBool, beat: &dyn Fn()) -> Vec<BusReport> {
        while !stop.load(Ordering::Relaxed) && !self.teller.gone() {
            beat();
            let now = self.kernel.now().mono;
            for bus in 0..self.lines.len() {
                self.look_after(bus, now);
            }
            self.ask(now);
            self.hear();
            self.teller.flush();
        }
        for bus in 0..self.lines.len() {
            if !matches!(self.lines[bus].state, State::Away { .. }) {
                self.count_drops(bus);
                self.kernel.close(bus);
            }
        }
        self.teller.flush();
        self.lines.into_iter().map(|line| line.report).collect()
    }

    /// What is due without a frame: opening, asking for drops, the end of a spell of errors.
    fn look_after(&mut self, bus: usize, now: MonoTime) {
        let line = &mut self.lines[bus];
        match line.state {
            State::Away { again } if now >= again => match self.kernel.open(bus) {
                Ok(room_bytes) => {
                    line.report.room_bytes = room_bytes;
                    line.state = State::Opened;
                    (line.drops_seen, line.drops_at) = (0, now);
                }
                Err(error) => self.lost_interface(bus, now, &error),
            },
            State::Away { .. } => {}
            State::Opened | State::Up { .. } => {
                if now.since(line.drops_at) >= DROPS_EVERY {
                    line.drops_at = now;
                    self.count_drops(bus);
                }
            }
        }
        let line = &mut self.lines[bus];
        if line.off_since.is_none() && line.last_error.is_some_and(|last| now.since(last) >= ERRORS_OVER) {
            line.last_error = None;
            let spell = std::mem::take(&mut line.spell);
            let name = &line.report.name;
            self.teller.say(format!("CAN {name}: no error for {} s; there were {spell}", ERRORS_OVER.as_s()));
        }
    }

    /// Sends the next request, if one is due and the bus is up.
    fn ask(&mut self, now: MonoTime) {
        let Some(asking) = &mut self.asking else { return };
        let Some(line) = self.lines.get_mut(asking.bus).filter(|l| matches!(l.state, State::Up { .. })) else { return };
        if now < asking.next {
            return;
        }
        asking.next = now + asking.every;
        let pid = asking.pids.next().unwrap_or(PIDS[0]);
        // ISO 15765-2: a single frame of two bytes; the rest is padding.
        let sent = self.kernel.send(asking.bus, ASK_ALL, [2, 1, pid, PAD, PAD, PAD, PAD, PAD]);
        *(if sent.is_ok() { &mut line.report.asked } else { &mut line.report.unasked }) += 1;
    }

    /// Hands over what came, oldest first over all buses; waits when nothing did.
    fn hear(&mut self) {
        for _ in 0..ROUND {
            for bus in 0..self.lines.len() {
                self.fill(bus);
            }
            let heads = self.lines.iter().enumerate().filter_map(|(bus, l)| l.head.map(|(t, _)| (t, bus)));
            let Some((_, bus)) = heads.min() else {
                // Words and losses go out before a pause.
                self.teller.flush();
                self.looked = None;
                let now = self.kernel.now().mono;
                if self.crowd.judge(now) {
                    self.kernel.pause(PAUSE);
                    return;
                }
                let due = self.lines.iter().filter_map(|l| match l.state {
                    State::Away { again } => Some(Duration::from_nanos(again.since(now).0)),
                    State::Opened | State::Up { .. } => None,
                });
                self.kernel.wait(due.min().unwrap_or(POLL).min(POLL));
                return;
            };
            self.hand_over(bus);
            if self.teller.gone() {
                return;
            }
        }
    }

    /// Reads the next frame of a bus, if its last is handed over.
    fn fill(&mut self, bus: usize) {
        let line = &mut self.lines[bus];
        if line.head.is_some() || matches!(line.state, State::Away { .. }) {
            return;
        }
        let got = self.kernel.read(bus);
        let now = self.now_for(got.as_ref().ok().and_then(|got| got.as_ref()?.stamp_unix_ns));
        let line = &mut self.lines[bus];
        match got {
            Err(error) => {
                self.count_drops(bus);
                self.kernel.close(bus);
                self.lost_interface(bus, now.mono, &error);
            }
            Ok(got) => {
                line.head = got.map(|got| (taken_at(got.stamp_unix_ns, now), got.heard));
                if matches!(line.state, State::Opened) {
                    line.state = State::Up { since: now.mono };
                    line.report.up = true;
                    line.report.why = None;
                    let name = &line.report.name;
                    let words = match line.away_since.take() {
                        Some(since) => format!("is up after {:.1} s", now.mono.since(since).as_s()),
                        None => "is up".to_owned(),
                    };
                    self.teller.say(format!("CAN {name}: {words}; it is bus {bus}"));
                }
            }
        }
    }

    /// The clocks to place a stamp by. Of a backlog, whose frames were stamped before the last look, one look serves several.
    fn now_for(&mut self, stamp_unix_ns: Option<u64>) -> Now {
        let serves = |(now, left): &(Now, u32)| *left > 0 && stamp_unix_ns.is_some_and(|stamp| stamp <= now.unix_ns);
        let (now, left) = self.looked.filter(serves).unwrap_or_else(|| (self.kernel.now(), ONE_LOOK));
        self.looked = Some((now, left.saturating_sub(1)));
        now
    }

    /// Notes that an interface is not there, and when it is tried again.
    fn lost_interface(&mut self, bus: usize, now: MonoTime, error: &io::Error) {
        let line = &mut self.lines[bus];
        if let State::Up { since } = line.state {
            line.report.outages += 1;
            if now.since(since) >= FORGIVEN {
                line.wait = FIRST_WAIT;
            }
        }
        line.state = State::Away { again: now + line.wait };
        line.wait = Span(line.wait.0.saturating_mul(2).min(LONGEST_WAIT.0));
        line.report.up = false;
        line.away_since.get_or_insert(now);
        // A controller that was taken down comes back without the state that it had.
        line.off_since = None;
        let why = reason(&line.report.name, error);
        if line.report.why.as_ref() != Some(&why) {
            let words = format!("CAN {}: {why}; tried again every {} s at most", line.report.name, LONGEST_WAIT.as_s());
            line.report.why = Some(why);
            self.teller.say(words);
        }
    }

    fn hand_over(&mut self, bus: usize) {
        let line = &mut self.lines[bus];
        let Some((t, heard)) = line.head.take() else { return };
        match heard {
            Heard::Frame(frame) => {
                line.report.frames += 1;
                self.crowd.frames += 1;
                if line.off_since.is_some() {
                    self.recovered(bus, t);
                }
                // Buses are read one after the other: a frame may have come to one while another was read.
                self.last = self.last.max(t);
                if !self.teller.sample(CanFrame { t: self.last, ..frame }) {
                    self.lines[bus].report.no_room += 1;
                    self.say_lost("the core is behind");
                }
            }
            Heard::Errors(set) => self.errors(bus, t, set),
            Heard::Damaged => {
                line.report.damaged += 1;
                self.teller.lose(1);
            }
        }
    }

    fn errors(&mut self, bus: usize, t: MonoTime, set: ErrorSet) {
        let line = &mut self.lines[bus];
        line.report.errors.add(set);
        if !set.is_good_news() {
            line.spell.add(set);
            let begins = line.last_error.replace(t).is_none();
            let name = &line.report.name;
            if set.has(ErrorKind::BusOff) && line.off_since.is_none() {
                line.off_since = Some(t);
                line.report.bus_offs += 1;
                self.teller.say(format!(
                    "CAN {name}: bus-off, the controller gave up after too many errors (wiring, termination, bit rate); it \
                     comes back by itself after `ip link set {name} type can restart-ms 100`"
                ));
            } else if begins {
                self.teller.say(format!("CAN {name}: errors begin: {set}"));
            }
        }
        // A frame that names bus-off is the fall itself, whatever else it names.
        let back = set.has(ErrorKind::Restarted) || set.has(ErrorKind::Active);
        if back && !set.has(ErrorKind::BusOff) {
            self.recovered(bus, t);
        }
    }

    fn recovered(&mut self, bus: usize, t: MonoTime) {
        let line = &mut self.lines[bus];
        let Some(since) = line.off_since.take() else { return };
        let name = &line.report.name;
        self.teller.say(format!("CAN {name}: back from bus-off after {:.1} s", t.since(since).as_s()));
    }

    fn count_drops(&mut self, bus: usize) {
        let dropped = self.kernel.dropped(bus);
        let line = &mut self.lines[bus];
        let more = dropped.wrapping_sub(line.drops_seen);
        line.drops_seen = dropped;
        if more > 0 {
            line.report.dropped += u64::from(more);
            self.teller.lose(more);
            self.say_lost("the kernel has no room for more (net.core.rmem_max)");
        }
    }

    fn say_lost(&mut self, why: &str) {
        if !std::mem::replace(&mut self.lost_said, true) {
            self.teller.say(format!("CAN frames are lost, counted in each message: {why}"));
        }
    }
}

/// The stamp on the monotonic clock; the arrival if there is none to believe.
fn taken_at(stamp_unix_ns: Option<u64>, now: Now) -> MonoTime {
    let age = stamp_unix_ns.and_then(|stamp| now.unix_ns.checked_sub(stamp)).filter(|age| *age <= BELIEVED.0);
    now.mono.minus(Span(age.unwrap_or(0)))
}

/// What the kernel's error means for an interface, and what to do.
fn reason(name: &str, error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::NETDOWN) => {
            format!("is down: `ip link set {name} up type can bitrate 500000`, with the bus's own rate")
        }
        Some(Errno::NODEV | Errno::NXIO) => {
            "is not there, or is no CAN interface (`ip -details link show type can` lists those that are)".to_owned()
        }
        Some(Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT) => {
            "the kernel has no CAN sockets: `modprobe can_raw`".to_owned()
        }
        _ => format!("cannot be opened: {error}"),
    }
}
