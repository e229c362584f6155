//! The unit's own sensors in `run`: opened by the configuration, heard by the core.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::thread::Scope;
use std::time::{Duration, Instant, SystemTime};

use agent_core::agent::Lost;
use agent_core::samples::{CanFrame, SignalSample, VehicleSignal};
use agent_drive::{DriveRecord, IdFilter, SignalMap};
use agent_worker::pulse::Pulse;

use super::watch::{Teller as Manager, Watch};
use super::{Core, INBOX, Inbox, Owned, watch};
use crate::config::Config;
use crate::config::gnss::GnssKind;
use crate::config::imu::ImuKind;
use crate::config::types::SourceKind;
use crate::exit::bad_config;
use crate::io::camera::Camera;
use crate::io::camera::source::News as CameraNews;
use crate::io::news::{News, Teller, Told};
use crate::io::wall::WallClock;
use crate::io::{can, gnss, gpio, imu};
use crate::show::say;

/// The configured camera, which need not be there yet; none where the unit has other sensors.
pub(super) fn open_camera(config: &Config) -> anyhow::Result<Option<Box<dyn Camera + Send>>> {
    let bad = |why: String| bad_config(why);
    let sources = &config.sources;
    let others =
        sources.gnss.kind != GnssKind::None || sources.imu.kind != ImuKind::None || !sources.can.interfaces.is_empty();
    match crate::io::camera::make::camera(config) {
        Ok(None) if !others => {
            Err(bad("sources.kind is device, the kinds of sources.camera, sources.imu and sources.gnss are none, and \
             sources.can.interfaces is empty: there is no source"
                .to_owned()))
        }
        Ok(camera) => Ok(camera),
        Err(why) => Err(bad(why)),
    }
}

/// Hands what the camera says to the core; false when it is gone. A frame never waits: what finds the inbox full is a gap
/// in the sequence, which the core counts, and its buffer goes back.
pub(super) fn tell(inbox: &SyncSender<Inbox>, give_back: &SyncSender<Vec<u8>>, news: CameraNews) -> bool {
    let born = Some(SystemTime::now());
    let message = match news {
        CameraNews::Frame(meta, bytes) => {
            let Err(refused) = inbox.try_send(Inbox::Record(Owned::Frame(meta, bytes), born)) else { return true };
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = refused;
            if let Inbox::Record(Owned::Frame(_, bytes), _) = message {
                let _ = give_back.try_send(bytes);
            }
            return false;
        }
        CameraNews::Seen(t, aspect, detections) => Inbox::Seen { t, aspect, detections, born },
        CameraNews::Unseen(frames) => Inbox::Unseen(frames),
        CameraNews::Ended => Inbox::End,
        other => Inbox::Camera(other),
    };
    inbox.send(message).is_ok()
}

/// What the threads of the sensors are given.
#[derive(Clone, Copy)]
pub(super) struct Sensors<'a> {
    pub(super) config: &'a Config,
    pub(super) filters: Option<&'a [IdFilter]>,
    pub(super) stop: &'a AtomicBool,
    /// What the lamp is to show.
    pub(super) lamp: &'a AtomicU8,
    /// Whether it is noted when each sample is handed over.
    pub(super) timed: bool,
    /// How many frames of the buses are in the inbox; whoever takes them out takes them off.
    pub(super) bus_frames: Option<&'a AtomicUsize>,
}

/// Starts a thread for each kind of sensor that is configured, camera apart.
///
/// # Errors
/// The system makes no more threads.
pub(super) fn start<'s>(
    scope: &'s Scope<'s, '_>,
    sensors: Sensors<'s>,
    inbox: &SyncSender<Inbox>,
    watch: &mut Watch,
) -> std::io::Result<()> {
    let sources = &sensors.config.sources;
    let gpio = &sources.gpio;
    let mut thread = |name: &'static str, wanted: bool, run: fn(Sensors<'_>, &Pulse, &SyncSender<Inbox>)| {
        if !wanted {
            return Ok(());
        }
        let (inbox, pulse) = (inbox.clone(), watch.sensor(name));
        let run = move || {
            run(sensors, &pulse, &inbox);
            pulse.idle();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run).map(drop)
    };
    thread("gnss", sources.gnss.kind != GnssKind::None, receiver)?;
    thread("can", !sources.can.interfaces.is_empty(), buses)?;
    thread("imu", sources.imu.kind != ImuKind::None, inertial)?;
    thread("gpio", [gpio.ignition, gpio.panic, gpio.lamp].iter().any(Option::is_some), lines)
}

/// Most frames of the buses in the inbox: a full bus takes no room from the other sensors.
const BUS_FRAMES: usize = INBOX / 4 * 3;
/// A frame that finds no room is tried again for so long, once, until there was room again: the kernel holds those behind it
/// meanwhile. Far below what a stage may take.
const BUS_PATIENCE: Duration = Duration::from_millis(200);

/// Hands news of the buses over, within their share of the inbox; waits for the core at most [`BUS_PATIENCE`].
fn hand_over_frames(sensors: Sensors<'_>, inbox: &SyncSender<Inbox>) -> impl FnMut(News<CanFrame>) -> Told {
    let mut tell = hand_over(inbox, sensors.timed, Lost::Can, DriveRecord::Can);
    let mut patient = true;
    move |news| {
        let News::Sample(frame) = news else { return tell(news) };
        let mut begun = None;
        loop {
            // Counted before it can be taken.
            let told = match sensors.bus_frames {
                Some(n) if n.fetch_add(1, Ordering::Relaxed) >= BUS_FRAMES => Told::Full,
                _ => tell(News::Sample(frame)),
            };
            if told != Told::Taken
                && let Some(n) = sensors.bus_frames
            {
                n.fetch_sub(1, Ordering::Relaxed);
            }
            if told != Told::Full {
                patient = true;
                return told;
            }
            patient &= begun.get_or_insert_with(Instant::now).elapsed() < BUS_PATIENCE;
            if !patient || sensors.stop.load(Ordering::Relaxed) {
                return told;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Takes what still comes until the source has seen that it ends, so that it never waits for a full inbox; its last words are said, which
/// count what came and what was lost.
pub(super) fn drain(arrivals: &Receiver<Inbox>) {
    loop {
        match arrivals.recv_timeout(Duration::from_secs(2)) {
            Ok(Inbox::Camera(CameraNews::Said(what)) | Inbox::Said(what)) => say!("{what}"),
            Ok(Inbox::End) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// Hands news of a sensor over without ever waiting for the core: samples as records, and words.
fn hand_over<T>(
    inbox: &SyncSender<Inbox>,
    timed: bool,
    kind: Lost,
    record: fn(T) -> DriveRecord<'static>,
) -> impl FnMut(News<T>) -> Told {
    move |news| {
        let message = match news {
            News::Sample(sample) => Inbox::Record(Owned::Sample(record(sample)), timed.then(SystemTime::now)),
            News::Lost(samples) => Inbox::Lost(kind, samples),
            News::Said(what) => Inbox::Said(what),
        };
        match inbox.try_send(message) {
            Ok(()) => Told::Taken,
            Err(TrySendError::Full(_)) => Told::Full,
            Err(TrySendError::Disconnected(_)) => Told::Gone,
        }
    }
}

/// The receiver's thread.
fn receiver(sensors: Sensors<'_>, pulse: &Pulse, inbox: &SyncSender<Inbox>) {
    let mut tell = hand_over(inbox, sensors.timed, Lost::Gnss, DriveRecord::Gnss);
    let mut teller = Teller::new(&mut tell);
    let mut tell = |news: gnss::News| {
        match news {
            News::Sample(fix) => {
                teller.sample(fix);
            }
            News::Lost(fixes) => teller.lose(fixes),
            News::Said(what) => teller.say(what),
        }
        !teller.gone()
    };
    let beat = || pulse.busy(Instant::now(), watch::GNSS);
    gnss::run(&sensors.config.sources.gnss, &sensors.config.gnss_device(), sensors.stop, &beat, &mut tell);
}

/// The thread of the CAN buses.
fn buses(sensors: Sensors<'_>, pulse: &Pulse, inbox: &SyncSender<Inbox>) {
    let mut tell = hand_over_frames(sensors, inbox);
    let beat = || pulse.busy(Instant::now(), watch::CAN);
    let settings = &sensors.config.sources.can;
    let asks = can::Asks::of(settings);
    for bus in can::run(&settings.interfaces, sensors.filters, asks, sensors.stop, &beat, &mut tell) {
        say!("{bus}");
    }
}

/// The thread of the motion sensor.
fn inertial(sensors: Sensors<'_>, pulse: &Pulse, inbox: &SyncSender<Inbox>) {
    let mut tell = hand_over(inbox, sensors.timed, Lost::Imu, DriveRecord::Imu);
    let (config, beat) = (sensors.config, || pulse.busy(Instant::now(), watch::IMU));
    let (settings, range_g) = (&config.sources.imu, config.imu_range_g());
    let report = imu::run(settings, range_g, &config.imu_device(), sensors.stop, &beat, &mut tell);
    say!("{report}");
}

/// The thread of the lines. Its words are few, so it waits for the core.
fn lines(sensors: Sensors<'_>, pulse: &Pulse, inbox: &SyncSender<Inbox>) {
    let (config, beat) = (sensors.config, || pulse.busy(Instant::now(), watch::GPIO));
    let (settings, chip) = (&config.sources.gpio, config.gpio_chip());
    let mut open = || gpio::Kernel::open(settings, &chip).map(|k| Box::new(k) as Box<dyn gpio::Lines>);
    let mut tell = |news| inbox.send(Inbox::Gpio(news)).is_ok();
    gpio::run(settings, &mut open, sensors.lamp, sensors.stop, &beat, &mut tell);
}

/// Waits for the ignition where the unit has a line for it; false when told to stop before it came on.
pub(super) fn ignition(config: &Config, stop_after_s: Option<f64>) -> bool {
    let settings = &config.sources.gpio;
    if config.sources.kind != SourceKind::Device || settings.ignition.is_none() {
        return true;
    }
    let mut kernel = match gpio::Kernel::open(settings, &config.gpio_chip()) {
        Ok(kernel) => kernel,
        Err(why) => {
            say!("GPIO: {why}; the ignition counts as on");
            return true;
        }
    };
    let begun = Instant::now();
    let mut teller: Option<Manager> = None;
    let stop = || stop_after_s.is_some_and(|s| begun.elapsed().as_secs_f64() >= s);
    // A signal ends the program as ever: nothing is open yet.
    gpio::wait_for_ignition(&mut kernel, &stop, &mut || {
        let teller = teller.get_or_insert_with(|| {
            say!("the ignition is off: waiting for it, recording nothing");
            Manager::ready(Watch::default(), "parked: the ignition is off")
        });
        teller.look(Instant::now());
    })
}

/// What the kernel lets through of the buses: everything, or what is mapped and what the configuration names.
pub(super) fn can_filters(config: &Config, signals: Option<&SignalMap>) -> anyhow::Result<Option<Vec<IdFilter>>> {
    let settings = &config.sources.can;
    if settings.record_all || settings.interfaces.is_empty() {
        return Ok(None);
    }
    let mut filters = signals.map(SignalMap::filters).unwrap_or_default();
    for filter in &settings.filters {
        if !filters.contains(filter) {
            filters.push(*filter);
        }
    }
    if filters.is_empty() {
        return Err(bad_config(
            "sources.can.record_all is false, and neither [can.signals], [[trigger.signals]] nor sources.can.filters names \
             anything: nothing would be heard",
        ));
    }
    Ok(Some(filters))
}

impl Core {
    pub(super) fn lines(&mut self, news: &gpio::News) {
        match news {
            gpio::News::IgnitionOff => {
                say!("the ignition is off: finishing what is open");
                self.parking.begin(Instant::now());
            }
            gpio::News::Panic(down, t) => {
                if let Some(index) = self.panic_signal {
                    let value = if *down { 1.0 } else { 0.0 };
                    self.agent.on_signal(&SignalSample { t: *t, signal: VehicleSignal::Custom(index), value });
                }
            }
            gpio::News::Said(what) => say!("{what}"),
        }
    }

    /// Whether the ignition is off and nothing is open any more, or has been for too long.
    pub(super) fn parked(&self) -> bool {
        self.parking.over(Instant::now(), self.agent.awaiting())
    }

    /// Gives the core the wall clock's word, once a second.
    pub(super) fn look_at_clock(&mut self) {
        let Some((t, wall)) = self.wall.as_mut().and_then(WallClock::due) else { return };
        self.agent.on_wall(t, wall);
        while let Some(step) = self.agent.next_wall_step() {
            say!("{step}");
        }
    }

    /// `event,record handed over,alert given to the outbox`: Unix nanoseconds.
    pub(super) fn log_latency(&mut self, event: &str, born: Option<SystemTime>) {
        use std::io::Write as _;
        let (Some(file), Some(born)) = (&mut self.latency, born) else { return };
        let ns = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        // A measurement that cannot be written is missing from the file, which the reader notices.
        let _ = writeln!(file, "{event},{},{}", ns(born), ns(SystemTime::now()));
    }

    pub(super) fn camera(&mut self, news: CameraNews) {
        match news {
            CameraNews::Lost(frames) => self.agent.on_loss(Lost::Frames, frames),
            CameraNews::State(state, why) => {
                say!("camera {}: {why}", state.name());
                self.camera = Some(state.on_the_wire());
                // Whoever watches the fleet need not wait for the next health to hear of a covered lens.
                self.agent.request_health();
            }
            CameraNews::Said(what) => say!("{what}"),
            CameraNews::Frame(..) | CameraNews::Seen(..) | CameraNews::Unseen(_) | CameraNews::Ended => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lets_through_is_everything_or_what_is_mapped_and_named() {
        let of = |text: &str| {
            let config = crate::config::load_str("unit.toml", text).unwrap();
            let dbc = "VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: A\n\nBO_ 291 M: 8 A\n SG_ S : 0|8@1+ (1,0) [0|0] \"\" A\n";
            let signals = config.can.dbc.as_ref().map(|_| crate::convert::map_signals(dbc, &config).unwrap());
            let filters = can_filters(&config, signals.as_ref()).map_err(|e| e.to_string())?;
            Ok::<_, String>(filters.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()))
        };
        let bus = "[sources.can]\ninterfaces = [\"can0\"]\n";
        assert_eq!(of(bus), Ok(None));
        let dbc = "[can]\ndbc = \"car.dbc\"\n";
        let mapped =
            format!("{dbc}[can.signals]\nspeed = \"M.S\"\n{bus}record_all = false\nfilters = [\"123\", \"7E8\"]\n");
        assert_eq!(of(&mapped), Ok(Some(vec!["123:7FF".to_owned(), "7E8:7FF".to_owned()])));
        let nothing = of(&format!("{dbc}{bus}record_all = false\n")).unwrap_err();
        assert!(nothing.contains("nothing would be heard"), "{nothing}");
    }

    #[test]
    fn a_full_bus_waits_once_for_the_core_and_leaves_room_for_other_sensors() {
        let (config, stop, lamp) = (Config::default_embedded().unwrap(), AtomicBool::new(false), AtomicU8::new(0));
        let (inbox, arrivals) = std::sync::mpsc::sync_channel(INBOX);
        let waiting = AtomicUsize::new(0);
        let sensors = Sensors {
            config: &config,
            filters: None,
            stop: &stop,
            lamp: &lamp,
            timed: false,
            bus_frames: Some(&waiting),
        };
        let (t, data) = (agent_core::time::MonoTime::ZERO, [0; 64]);
        let frame = CanFrame { t, bus: 0, id: 1, extended: false, fd: false, remote: false, len: 8, data };
        let mut tell = hand_over_frames(sensors, &inbox);
        let mut told = |n: usize| (0..n).map(|_| tell(News::Sample(frame))).filter(|t| *t == Told::Taken).count();
        assert_eq!(told(BUS_FRAMES), BUS_FRAMES);
        let begun = Instant::now();
        assert_eq!((told(1), begun.elapsed() >= BUS_PATIENCE), (0, true), "the kernel holds the rest meanwhile");
        let begun = Instant::now();
        assert_eq!((told(100), begun.elapsed() < 2 * BUS_PATIENCE), (0, true), "a core that hangs is waited for once");
        let mut other = hand_over(&inbox, false, Lost::Imu, |s: String| panic!("no sample: {s}"));
        assert_eq!(other(News::Said("room".to_owned())), Told::Taken);
        // As the core does.
        for _ in 0..10 {
            assert!(matches!(arrivals.recv(), Ok(Inbox::Record(..))));
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
        assert_eq!((told(10), told(1)), (10, 0));
        drop(arrivals);
        waiting.store(0, Ordering::Relaxed);
        assert_eq!((tell(News::Sample(frame)), waiting.load(Ordering::Relaxed)), (Told::Gone, 0));
    }

    #[test]
    fn buses_alone_are_a_source() {
        let open = |text: &str| {
            let config = crate::config::load_str("unit.toml", text).unwrap();
            open_camera(&config).map(|camera| camera.is_none()).map_err(|e| e.to_string())
        };
        assert!(open("[sources]\nkind = \"device\"\n").unwrap_err().contains("there is no source"));
        assert_eq!(open("[sources]\nkind = \"device\"\n[sources.can]\ninterfaces = [\"can0\"]\n"), Ok(true));
    }
}
