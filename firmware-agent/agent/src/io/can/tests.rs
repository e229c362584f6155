//! The keeper on buses that are made up, with a clock that only waiting moves; and what the kernel's frames become.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_core::samples::CanFrame;
use agent_core::time::MonoTime;
use rustix::io::Errno;
use socketcan::{
    CanAnyFrame, CanErrorFrame, CanFdFrame, CanFdSocket, CanRemoteFrame, EmbeddedFrame as _, ExtendedId, StandardId,
};

use super::errors::{ErrorKind, ErrorSet};
use super::keeper::{Got, Heard, Keeper, Kernel, Now};
use super::kernel::{Sockets, heard};
use super::{Asks, BusReport, News};
use crate::io::news::Told;

const MS: u64 = 1_000_000;
const UNIX_NS: u64 = 1_800_000_000_000 * MS;

/// What happens on a bus.
enum Event {
    /// Something is in the socket, stamped by the wall clock so many ms ago; not stamped if `None`.
    Heard(Heard, Option<u64>),
    /// The next read fails so, and until [`Event::Up`] each read after an opening does.
    Down(Errno),
    /// Opening fails.
    Gone,
    Up,
    /// The kernel had no room for so many frames.
    Dropped(u32),
}

#[derive(Default)]
struct FakeBus {
    /// When (ms), what.
    script: VecDeque<(u64, Event)>,
    open: bool,
    gone: bool,
    down: Option<Errno>,
    dropped: u32,
    tries: Vec<u64>,
}

struct Fake<'a> {
    ns: &'a Cell<u64>,
    buses: Vec<FakeBus>,
    /// The wall clock is set by so much at a time, both in ms.
    step: Option<(u64, i64)>,
    /// What was sent: when (ms), on which bus, the first three bytes.
    sent: Vec<(u64, usize, [u8; 3])>,
    /// How often the clocks were looked at.
    looks: Cell<u32>,
    /// How often it was paused.
    pauses: u32,
}

impl Fake<'_> {
    fn wall(&self, ns: u64) -> u64 {
        let step = self.step.filter(|(at, _)| ns >= at * MS).map_or(0, |(_, by)| by * MS as i64);
        (UNIX_NS + ns).saturating_add_signed(step)
    }

    /// Everything that has happened by now, up to what a read gives.
    fn play(&mut self, bus: usize) {
        let now = self.ns.get() / MS;
        let bus = &mut self.buses[bus];
        while let Some((at, event)) = bus.script.front()
            && *at <= now
            && !matches!(event, Event::Heard(..))
        {
            match bus.script.pop_front().unwrap().1 {
                Event::Down(error) => bus.down = Some(error),
                Event::Gone => (bus.gone, bus.down) = (true, Some(Errno::NODEV)),
                Event::Up => (bus.gone, bus.down) = (false, None),
                Event::Dropped(frames) => bus.dropped += frames,
                Event::Heard(..) => unreachable!(),
            }
        }
    }
}

impl Kernel for Fake<'_> {
    fn now(&self) -> Now {
        self.looks.set(self.looks.get() + 1);
        Now { mono: MonoTime(self.ns.get()), unix_ns: self.wall(self.ns.get()) }
    }

    fn open(&mut self, bus: usize) -> io::Result<usize> {
        self.play(bus);
        let now = self.ns.get() / MS;
        let bus = &mut self.buses[bus];
        bus.tries.push(now);
        if bus.gone {
            return Err(Errno::NODEV.into());
        }
        (bus.open, bus.dropped) = (true, 0);
        Ok(1 << 20)
    }

    fn close(&mut self, bus: usize) {
        assert!(self.buses[bus].open);
        self.buses[bus].open = false;
    }

    fn read(&mut self, bus: usize) -> io::Result<Option<Got>> {
        assert!(self.buses[bus].open);
        self.play(bus);
        let now = self.ns.get();
        if let Some(error) = self.buses[bus].down {
            return Err(error.into());
        }
        match self.buses[bus].script.front() {
            Some((at, Event::Heard(..))) if at * MS <= now => {}
            _ => return Ok(None),
        }
        let Some((_, Event::Heard(heard, age_ms))) = self.buses[bus].script.pop_front() else { unreachable!() };
        // Stamped by the clock as it was then.
        Ok(Some(Got { heard, stamp_unix_ns: age_ms.map(|ms| self.wall(now.saturating_sub(ms * MS))) }))
    }

    fn dropped(&mut self, bus: usize) -> u32 {
        self.buses[bus].dropped
    }

    fn send(&mut self, bus: usize, id: u16, data: [u8; 8]) -> io::Result<()> {
        assert!(self.buses[bus].open && id == 0x7df);
        self.sent.push((self.ns.get() / MS, bus, [data[0], data[1], data[2]]));
        if self.ns.get() > 3_000 * MS { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn wait(&mut self, most: Duration) {
        let most = u64::try_from(most.as_nanos()).unwrap().max(MS);
        let next = self.buses.iter().filter_map(|b| b.script.front()).map(|(at, _)| at * MS).min();
        let next = next.filter(|at| *at > self.ns.get());
        self.ns.set((self.ns.get() + most).min(next.unwrap_or(u64::MAX)));
    }

    fn pause(&mut self, long: Duration) {
        self.ns.set(self.ns.get() + u64::try_from(long.as_nanos()).unwrap());
        self.pauses += 1;
    }
}

/// What was told and when (ms), what was reported, and when each bus was tried.
struct Ran {
    news: Vec<(u64, News)>,
    reports: Vec<BusReport>,
    tries: Vec<Vec<u64>>,
    looks: u32,
    pauses: u32,
}

impl Ran {
    fn said(&self) -> Vec<&str> {
        self.news
            .iter()
            .filter_map(|(_, n)| if let News::Said(text) = n { Some(text.as_str()) } else { None })
            .collect()
    }

    fn frames(&self) -> Vec<&CanFrame> {
        self.news.iter().filter_map(|(_, n)| if let News::Sample(f) = n { Some(f) } else { None }).collect()
    }

    fn lost(&self) -> u32 {
        self.news.iter().map(|(_, n)| if let News::Lost(n) = n { *n } else { 0 }).sum()
    }
}

/// Plays the scripts for so many ms; the core has room when `room` says so of the time in ms.
fn play(scripts: Vec<Vec<(u64, Event)>>, step: Option<(u64, i64)>, ms: u64, room: &dyn Fn(u64) -> bool) -> Ran {
    let ns = Cell::new(0);
    let names: Vec<String> = (0..scripts.len()).map(|i| format!("can{i}")).collect();
    let buses = scripts.into_iter().map(|s| FakeBus { script: s.into(), ..FakeBus::default() }).collect();
    let mut fake = Fake { ns: &ns, buses, step, sent: Vec::new(), looks: Cell::new(0), pauses: 0 };
    let mut news = Vec::new();
    let mut tell = |n| {
        let now = ns.get() / MS;
        if !room(now) {
            return Told::Full;
        }
        news.push((now, n));
        Told::Taken
    };
    let stop = AtomicBool::new(false);
    let beat = || stop.store(ns.get() >= ms * MS, Ordering::Relaxed);
    let reports = Keeper::new(&names, None, &mut fake, &mut tell).run(&stop, &beat);
    assert!(fake.buses.iter().all(|b| !b.open), "all are closed at the end");
    let (looks, pauses) = (fake.looks.get(), fake.pauses);
    Ran { news, reports, looks, pauses, tries: fake.buses.into_iter().map(|b| b.tries).collect() }
}

fn frame(bus: u8, id: u32) -> Heard {
    let (t, data) = (MonoTime::ZERO, [0; 64]);
    Heard::Frame(CanFrame { t, bus, id, extended: false, fd: false, remote: false, len: 8, data })
}

fn errors(kinds: &[ErrorKind]) -> Heard {
    Heard::Errors(ErrorSet::of(kinds))
}

#[test]
fn an_interface_that_is_down_is_said_once_tried_ever_more_rarely_and_taken_up_when_it_is_back() {
    let script = vec![
        (0, Event::Down(Errno::NETDOWN)),
        (9_000, Event::Up),
        (20_000, Event::Heard(frame(0, 7), Some(0))),
        (60_000, Event::Gone),
        (200_000, Event::Up),
    ];
    let ran = play(vec![script], None, 300_000, &|_| true);
    let said = ran.said();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("CAN can0: is down: `ip link set can0 up type can bitrate 500000`"), "{said:?}");
    assert_eq!(said[1], "CAN can0: is up after 15.8 s; it is bus 0");
    assert!(said[2].starts_with("CAN can0: is not there"), "{said:?}");
    assert!(said[3].starts_with("CAN can0: is up after "), "{said:?}");
    assert_eq!(ran.tries[0][..7], [0, 250, 750, 1750, 3750, 7750, 15750]);
    let again: Vec<u64> = ran.tries[0][7..].to_vec();
    assert_eq!(again[0], 60_250, "it was good for long, so the waiting begins anew");
    assert!(again.windows(2).all(|w| w[1] - w[0] <= 30_050), "{again:?}");
    assert_eq!((ran.frames().len(), ran.reports[0].outages, ran.reports[0].up), (1, 1, true));
}

#[test]
fn an_interface_that_flaps_is_not_opened_without_end() {
    // Good for a moment after each opening.
    let script =
        (0..2_000).flat_map(|i| [(i * 500, Event::Down(Errno::NETDOWN)), (i * 500 + 100, Event::Up)]).collect();
    let ran = play(vec![script], None, 900_000, &|_| true);
    assert!(ran.tries[0].len() < 60, "{:?}", ran.tries[0]);
    assert!(ran.said().len() <= 2 * ran.tries[0].len());
}

#[test]
fn error_frames_are_counted_by_kind_and_said_when_they_begin_and_end() {
    let mut script: Vec<_> = (0..500)
        .map(|i| (1_000 + i * 4, Event::Heard(errors(&[ErrorKind::NoAck, ErrorKind::Protocol]), Some(0))))
        .collect();
    script.push((3_100, Event::Heard(errors(&[ErrorKind::Arbitration]), Some(0))));
    script.push((3_101, Event::Heard(Heard::Damaged, None)));
    let ran = play(vec![script], None, 20_000, &|_| true);
    assert_eq!(
        ran.said(),
        [
            "CAN can0: is up; it is bus 0",
            "CAN can0: errors begin: no acknowledgement, protocol violation",
            "CAN can0: no error for 10 s; there were 1 arbitration lost, 500 no acknowledgement, 500 protocol violation",
        ]
    );
    let report = &ran.reports[0];
    assert_eq!((report.errors.of(ErrorKind::NoAck), report.errors.of(ErrorKind::BusOff)), (500, 0));
    assert_eq!((report.damaged, ran.lost()), (1, 1));
    let json = serde_json::to_string(&report.errors).unwrap();
    assert_eq!(json, r#"{"arbitration lost":1,"no acknowledgement":500,"protocol violation":500}"#);
    assert!(report.to_string().starts_with("CAN can0: 0 frames, 1 damaged; error frames: 1 arbitration"), "{report}");
}

#[test]
fn bus_off_and_recovery_are_said_once_each() {
    let off = || Event::Heard(errors(&[ErrorKind::BusOff, ErrorKind::Passive]), Some(0));
    let script = vec![
        (100, Event::Heard(errors(&[ErrorKind::Warning]), Some(0))),
        (200, off()),
        (300, off()),
        (400, off()),
        (1_700, Event::Heard(errors(&[ErrorKind::Restarted]), Some(0))),
        (1_800, Event::Heard(errors(&[ErrorKind::Active]), Some(0))),
        (2_000, off()),
        // Restarted by hand: the first sign is a frame.
        (5_000, Event::Heard(frame(0, 1), Some(0))),
        (5_001, Event::Heard(frame(0, 2), Some(0))),
    ];
    let ran = play(vec![script], None, 6_000, &|_| true);
    let said = ran.said();
    assert_eq!(said[1], "CAN can0: errors begin: error-warning");
    assert!(said[2].starts_with("CAN can0: bus-off"), "{said:?}");
    assert_eq!(said[3], "CAN can0: back from bus-off after 1.5 s");
    assert!(said[4].starts_with("CAN can0: bus-off"), "{said:?}");
    assert_eq!(said[5], "CAN can0: back from bus-off after 3.0 s");
    assert_eq!((said.len(), ran.reports[0].bus_offs, ran.reports[0].errors.of(ErrorKind::BusOff)), (6, 2, 4));
}

#[test]
fn a_burst_into_a_full_core_is_counted_and_told_when_there_is_room() {
    // A second of 20,000 frames; the core takes nothing for a quarter of it.
    let script = (0..20_000).map(|i| (1_000 + i / 20, Event::Heard(frame(0, 1), Some(0)))).collect();
    let ran = play(vec![script], None, 3_000, &|ms| !(1_250..1_500).contains(&ms));
    assert_eq!((ran.frames().len(), ran.lost(), ran.reports[0].no_room), (15_000, 5_000, 5_000));
    assert!(ran.news.iter().any(|(ms, n)| *ms == 1_500 && *n == News::Lost(5_000)), "told as soon as there is room");
    assert_eq!(ran.said().iter().filter(|s| s.contains("lost")).count(), 1);
}

#[test]
fn what_is_lost_at_the_end_of_a_burst_is_told_without_another_frame() {
    let script = (0..100).map(|_| (1_000, Event::Heard(frame(0, 1), Some(0)))).collect();
    let ran = play(vec![script], None, 3_000, &|ms| !(1_000..=1_100).contains(&ms));
    assert_eq!((ran.frames().len(), ran.lost()), (0, 100));
}

#[test]
fn what_the_kernel_dropped_is_counted() {
    let script = vec![(500, Event::Dropped(40)), (5_000, Event::Dropped(2)), (7_500, Event::Down(Errno::NETDOWN))];
    let ran = play(vec![script], None, 8_000, &|_| true);
    assert_eq!((ran.lost(), ran.reports[0].dropped), (42, 42));
    assert!(ran.said().iter().any(|s| s.contains("net.core.rmem_max")), "{:?}", ran.said());
}

#[test]
fn frames_of_several_buses_come_in_the_order_of_their_stamps() {
    // Each bus was read late, with frames 9, 7, 5 ... ms old in its socket.
    let of = |bus: u8, ages: &[u64]| {
        ages.iter().map(|a| (100, Event::Heard(frame(bus, u32::from(bus)), Some(*a)))).collect()
    };
    let ran = play(vec![of(0, &[9, 5, 1]), of(1, &[8, 7, 6, 0]), of(2, &[2])], None, 200, &|_| true);
    let order: Vec<(u8, u64)> = ran.frames().iter().map(|f| (f.bus, f.t.0 / MS)).collect();
    assert_eq!(order, [(0, 91), (1, 92), (1, 93), (1, 94), (0, 95), (2, 98), (0, 99), (1, 100)]);
}

#[test]
fn stamps_are_followed_through_a_step_of_the_wall_clock_and_none_means_the_arrival() {
    for by in [-3_600_000, -700, 700, 3_600_000] {
        let mut script: Vec<_> = (0..100).map(|i| (1_000 + i * 10, Event::Heard(frame(0, 1), Some(3)))).collect();
        script.push((2_000, Event::Heard(frame(0, 2), None)));
        script.push((9_000, Event::Heard(frame(0, 3), Some(5_000))));
        let ran = play(vec![script], Some((1_508, by)), 10_000, &|_| true);
        let frames = ran.frames();
        assert!(frames.windows(2).all(|w| w[0].t <= w[1].t), "the core takes no older frame");
        let off: Vec<i64> =
            frames.iter().zip(0_i64..).take(100).map(|(f, i)| (f.t.0 / MS).cast_signed() - (997 + i * 10)).collect();
        // One frame lay in the socket while the clock was set; all others are right.
        assert!(off.iter().filter(|ms| **ms != 0).count() <= 1, "{by}: {off:?}");
        assert_eq!((frames[100].t.0 / MS, frames[101].t.0 / MS), (2_000, 9_000), "no stamp, and one not to believe");
    }
}

#[test]
fn a_backlog_is_placed_by_few_looks_at_the_clocks() {
    let idle = play(vec![Vec::new()], None, 1_050, &|_| true).looks;
    // Stamped one after the other while the thread was away, the last as it comes back.
    let script = (0..320).map(|i| (1_000, Event::Heard(frame(0, i), Some(u64::from(319 - i))))).collect();
    let ran = play(vec![script], None, 1_050, &|_| true);
    let times: Vec<u64> = ran.frames().iter().map(|f| f.t.0 / MS).collect();
    assert_eq!(times, (681..=1_000).collect::<Vec<_>>());
    assert!(ran.looks - idle < 60, "{} looks for 320 frames, {idle} without any", ran.looks);
}

#[test]
fn a_full_bus_is_read_once_a_millisecond_and_a_quiet_one_at_each_frame() {
    // 20,000 a second for half a second, then 100 a second.
    let full = (1_000..1_500).flat_map(|ms| (0..20).map(move |i| (ms, Event::Heard(frame(0, i), Some(0)))));
    let quiet = (150..250).map(|i| (i * 10, Event::Heard(frame(0, 99), Some(0))));
    let ran = play(vec![full.chain(quiet).collect()], None, 2_600, &|_| true);
    assert_eq!(ran.reports[0].frames, 10_100);
    assert!((480..=520).contains(&ran.pauses), "{}", ran.pauses);
    let late = ran.news.iter().filter_map(|(at, n)| if let News::Sample(f) = n { Some(at - f.t.0 / MS) } else { None });
    assert!(late.max() <= Some(1), "an alert waits a millisecond at most");
    // 3,000 a second are no crowd.
    let some = (1_000..1_500).flat_map(|ms| (0..3).map(move |i| (ms, Event::Heard(frame(0, i), Some(0))))).collect();
    assert_eq!(play(vec![some], None, 1_600, &|_| true).pauses, 0);
}

#[test]
fn ends_when_nobody_listens() {
    let ns = Cell::new(0);
    let mut fake =
        Fake { ns: &ns, buses: vec![FakeBus::default()], step: None, sent: Vec::new(), looks: Cell::new(0), pauses: 0 };
    let reports =
        Keeper::new(&["can0".to_owned()], None, &mut fake, &mut |_| Told::Gone).run(&AtomicBool::new(false), &|| {});
    assert!(reports[0].up);
}

#[test]
fn frames_of_every_form_become_the_cores() {
    let id = StandardId::new(0x123).unwrap();
    let Heard::Frame(f) = heard(3, &CanAnyFrame::new(id, &[1, 2, 3]).unwrap()) else { panic!("no frame") };
    assert_eq!((f.bus, f.id, f.extended, f.fd, f.remote, f.payload()), (3, 0x123, false, false, false, &[1, 2, 3][..]));
    let wide = ExtendedId::new(0x18FE_F100).unwrap();
    let fd = CanFdFrame::new(wide, &[7; 48]).unwrap();
    let Heard::Frame(f) = heard(0, &fd.into()) else { panic!("no frame") };
    assert_eq!((f.id, f.extended, f.fd, f.payload()), (0x18FE_F100, true, true, &[7; 48][..]));
    let remote = CanRemoteFrame::new_remote(id, 4).unwrap();
    let Heard::Frame(f) = heard(0, &remote.into()) else { panic!("no frame") };
    assert_eq!((f.remote, f.len, f.data), (true, 4, [0; 64]));
}

#[test]
fn error_frames_are_understood() {
    let set = |class: u32, data: &[u8]| match heard(0, &CanErrorFrame::new_error(class, data).unwrap().into()) {
        Heard::Errors(set) => set.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(set(libc::CAN_ERR_BUSOFF, &[]), "bus-off");
    assert_eq!(set(libc::CAN_ERR_RESTARTED, &[]), "restarted");
    assert_eq!(set(libc::CAN_ERR_CRTL, &[0, 0x10 | 0x20]), "error-passive");
    assert_eq!(set(libc::CAN_ERR_CRTL, &[0, 0x40]), "error-active");
    assert_eq!(set(libc::CAN_ERR_CRTL, &[0, 0x01]), "overflow");
    assert_eq!(set(libc::CAN_ERR_LOSTARB | libc::CAN_ERR_ACK, &[3]), "arbitration lost, no acknowledgement");
    assert_eq!(set(libc::CAN_ERR_PROT | libc::CAN_ERR_BUSERROR, &[0, 0, 4]), "protocol violation");
    assert_eq!(set(libc::CAN_ERR_TX_TIMEOUT, &[]), "other");
}

/// A pair of Unix sockets that carries what the kernel's CAN sockets would: its form, its stamps and its waiting are the same.
#[test]
fn a_descriptor_is_read_without_waiting_and_with_stamps() {
    let (bus, end) = UnixDatagram::pair().unwrap();
    let names = ["pair".to_owned()];
    let mut sockets = Sockets::new(&names, None);
    assert!(sockets.put_first(CanFdSocket::from(OwnedFd::from(end))).unwrap() >= 4096);
    assert_eq!(sockets.read(0).unwrap(), None);
    let begun = Instant::now();
    sockets.wait(Duration::from_millis(20));
    assert!(begun.elapsed() >= Duration::from_millis(19), "nothing came");
    let mut classic = [0_u8; 16];
    classic[..4].copy_from_slice(&(0x18FE_F100_u32 | libc::CAN_EFF_FLAG).to_ne_bytes());
    (classic[4], classic[8], classic[9]) = (2, 0xAB, 0xCD);
    let mut fd = [0x55_u8; 72];
    fd[..4].copy_from_slice(&0x7E8_u32.to_ne_bytes());
    fd[4..8].copy_from_slice(&[64, 0, 0, 0]);
    let mut error = [0_u8; 16];
    error[..4].copy_from_slice(&(libc::CAN_ERR_FLAG | libc::CAN_ERR_BUSOFF).to_ne_bytes());
    error[4] = 8;
    for bytes in [&classic[..], &fd, &error, &[1, 2, 3]] {
        bus.send(bytes).unwrap();
    }
    sockets.wait(Duration::from_secs(600));
    let mut next = || sockets.read(0).unwrap().unwrap();
    let got = next();
    let Heard::Frame(f) = got.heard else { panic!("{got:?}") };
    assert_eq!((f.id, f.extended, f.fd, f.payload()), (0x18FE_F100, true, false, &[0xAB, 0xCD][..]));
    let stamp = got.stamp_unix_ns.unwrap();
    let Heard::Frame(f) = next().heard else { panic!("no frame") };
    assert_eq!((f.id, f.extended, f.fd, f.payload()), (0x7E8, false, true, &[0x55; 64][..]));
    assert_eq!(next().heard, errors(&[ErrorKind::BusOff]));
    assert_eq!(next().heard, Heard::Damaged);
    assert_eq!((sockets.read(0).unwrap(), sockets.dropped(0)), (None, 0));
    let age = sockets.now().unix_ns.checked_sub(stamp).unwrap();
    assert!(age < 60_000 * MS, "the stamp is of the wall clock: {age}");
    sockets.close(0);
    assert_eq!(sockets.read(0).unwrap(), None);
}

/// OBD-II: speed, engine speed and pedal in turn, on the bus that is configured and while it is up alone.
#[test]
fn requests_go_out_in_turn_while_the_bus_is_up() {
    let ns = Cell::new(0);
    let script = vec![(1_000, Event::Down(Errno::NETDOWN)), (2_000, Event::Up)];
    let buses = vec![FakeBus::default(), FakeBus { script: script.into(), ..FakeBus::default() }];
    let mut fake = Fake { ns: &ns, buses, step: None, sent: Vec::new(), looks: Cell::new(0), pauses: 0 };
    let stop = AtomicBool::new(false);
    let beat = || stop.store(ns.get() >= 4_000 * MS, Ordering::Relaxed);
    let names = ["can0".to_owned(), "can1".to_owned()];
    let asks = Some(Asks { bus: 1, hz: 10.0 });
    let reports = Keeper::new(&names, asks, &mut fake, &mut |_| Told::Taken).run(&stop, &beat);
    let (asked, unasked) = (reports[1].asked, reports[1].unasked);
    assert!((10..=21).contains(&asked) && (8..=11).contains(&unasked), "{asked} {unasked}");
    assert!(fake.sent.iter().all(|(ms, bus, _)| *bus == 1 && !(1_100..2_000).contains(ms)), "{:?}", fake.sent);
    let asked: Vec<[u8; 3]> = fake.sent.iter().take(4).map(|s| s.2).collect();
    assert_eq!(asked, [[2, 1, 0x0d], [2, 1, 0x0c], [2, 1, 0x49], [2, 1, 0x0d]]);
    assert_eq!((reports[0].asked, reports[0].unasked), (0, 0));
    let config = |text: &str| crate::config::load_str("u", text).unwrap().sources.can;
    assert_eq!(Asks::of(&config("")), None);
    let named = "[sources.can]\ninterfaces = [\"can0\", \"can1\"]\nobd_interface = \"can1\"\n";
    assert_eq!(Asks::of(&config(named)), Some(Asks { bus: 1, hz: 9.0 }));
}
