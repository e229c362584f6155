//! `run`: the daemon. Threads and channels are all made in [`run`], each with its bound and policy:
//!
//! | thread | does | its channel |
//! |---|---|---|
//! | source | reads drives, paced | to core, [`RECORDS`]: waits when full |
//! | eyes | decodes and scores frames of drives | from core, [`FRAMES`]: a frame that finds it full goes unseen, counted |
//! | gnss | reads the unit's receiver | to core, [`INBOX`]: a fix that finds it full is lost, counted |
//! | can | hears the unit's buses | to core, [`INBOX`]: a frame that finds it full is lost, counted |
//! | imu | empties the FIFO of the unit's chip | to core, [`INBOX`]: a sample that finds it full is lost, counted |
//! | gpio | ignition, panic button, lamp | to core, [`INBOX`]: waits, a word at a time |
//! | camera, look | the unit's own camera, in place of source and eyes | see `io/camera/source.rs` |
//! | core | owns the agent | inbox of all others, [`INBOX`] |
//! | student | decodes an event's frames, speaks to the worker, waits for its answer | from core, agent's student module: what finds it full ends that event's job |
//! | journal | adds to a file what is new while risk is high, and syncs it | from core, [`journal::JOBS`]: when full a new file is begun and the gap is said |
//! | trial | judges an update on trial by what the others did | reads counters; none |
//! | disk | writes, syncs and names evidence files, makes room for them; nice 5 | from core, agent's scribe module: when full the core goes on later |
//! | link | outbox and broker | agent-link's own |
//!
//! Frame buffers go round: a fixed number is made at the start and comes back through the pool. Only the student's copy
//! of an event's frames is made anew, bounded, while such an event is open.

mod eyes;
mod journal;
mod keep;
mod live;
mod owed;
mod parking;
mod prepare;
pub(crate) mod record;
mod threads;
mod trial;
mod watch;

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use agent_core::agent::{Agent, Lost, Output};
use agent_core::samples::FrameMeta;
use agent_core::time::MonoTime;
use agent_core::vision::Detections;
use agent_disk::RealDisk;
use agent_drive::{DriveInfo, DriveReader, DriveRecord};
use agent_models::RiskHead;
use agent_wire::{Flags, Hash8, Message, Report, StudentRefusal};
use agent_worker::pulse::Pulse;
use anyhow::Context as _;
use prepare::{Prepared, Updates};
use trial::{Has, Trial, Vitals};
use watch::{Teller, Watch};

use crate::cli::RunArgs;
use crate::config::Config;
use crate::config::camera::CameraKind;
use crate::config::types::SourceKind;
use crate::evidence::Durability;
use crate::exit::Outcome;
use crate::io::camera::clock::monotonic_now;
use crate::io::camera::source::{self as camera_source, News as CameraNews};
use crate::io::gpio;
use crate::io::wall::WallClock;
use crate::link::{NoStore, RunningLink};
use crate::pipeline::Samples;
use crate::room::Place;
use crate::scribe::{Done as Kept, Keeper, Scribe};
use crate::show::say;
use crate::signer::Signer;
use crate::student::{Done, News, StudentLink};
use crate::{convert, evidence};

/// Records between the source and the core: half a second of a full CAN bus.
const RECORDS: usize = 4096;
/// Everything that reaches the core: the records, and a few from each other thread.
const INBOX: usize = RECORDS;
/// Frames that wait to be looked at; more would only make what is seen older.
const FRAMES: usize = 4;
/// Frame buffers: those in the inbox, those before the eyes and one on each side.
const BUFFERS: usize = 16;
/// First size of a frame buffer, bytes; it grows to the largest frame seen and stays.
const BUFFER_BYTES: usize = 256 << 10;
/// Messages that wait are taken so many at once before the core looks at anything else: a full bus brings one every 50 us.
const AT_ONCE: usize = 64;
/// The core looks at the clock at least this often.
const TICK: Duration = Duration::from_millis(20);
/// How often the core asks for commands of the fleet, and how the link is.
const COMMANDS: Duration = Duration::from_millis(50);
/// At the end, how long to wait for evidence files and the student.
const LAST_REPORTS: Duration = Duration::from_secs(3);
/// The same while evidence is being written.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// At the end, how long to wait for the broker.
const DRAIN: Duration = Duration::from_secs(10);

/// A record that owns its bytes.
enum Owned {
    Sample(DriveRecord<'static>),
    Frame(FrameMeta, Vec<u8>),
}

impl Owned {
    fn time(&self) -> MonoTime {
        match self {
            Self::Sample(record) => record.time(),
            Self::Frame(meta, _) => meta.t,
        }
    }
}

enum Inbox {
    /// A record, and when it was handed over (where there is a latency log).
    Record(Owned, Option<SystemTime>),
    /// What the detector saw, and when its frame was handed over. Boxed: the inbox has thousands of places.
    Seen { t: MonoTime, aspect: f32, detections: Box<Detections>, born: Option<SystemTime> },
    /// Frames that were not looked at.
    Unseen(u32),
    /// From the student's thread.
    Student(News),
    /// The camera's state, or another word of it.
    Camera(CameraNews),
    /// The unit's own lines.
    Gpio(gpio::News),
    /// The unit's own receiver, buses or motion sensor lost samples; those that it has are records.
    Lost(Lost, u32),
    /// A word of one of them.
    Said(String),
    /// What the disk's thread did.
    Kept(Kept),
    /// A report that an earlier start owed.
    Owed(Box<Report>),
    /// The source ended.
    End,
}

/// A frame for the trigger model, and when it was handed over.
type Shown = (FrameMeta, Vec<u8>, Option<SystemTime>);

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Outcome> {
    let Some(prepared) = prepare::prepare(args)? else { return Ok(Outcome::Done) };
    let Prepared { config, detector, head, student, camera, drives, signals, filters, updates } = prepared;
    let model = detector.as_ref().map(|d| Hash8(d.hash8()));
    let live = config.sources.kind == SourceKind::Device;
    let drawn = live && config.sources.camera.kind == CameraKind::Test;
    let played = live && config.sources.camera.kind == CameraKind::File;
    let made_up = drawn || drives.iter().any(|(_, info)| info.simulated || info.synthetic);
    let flags = Flags { replayed: !live || played, simulated: made_up, ..Flags::default() };
    let store = config.resolve(&config.link.outbox.store);
    let brokers: Vec<String> = config.link.all_brokers().iter().map(ToString::to_string).collect();
    let mut link = crate::link::start(&config, &brokers, &store, NoStore::GoOn)?;
    let agent = Agent::new(convert::agent(&config, link.boot, flags, model));
    match evidence::recover(&RealDisk, &config.resolve(&config.evidence.dir)) {
        Ok(0) => {}
        Ok(files) => say!("{files} evidence files were cut off by the end of the last start: kept as NAME.cut.mcap"),
        Err(error) => say!("evidence that was cut off by the end of the last start cannot be named: {error}"),
    }
    let owed = owed::Owed::new(std::mem::take(&mut link.owed), &config);
    say!("start {} of unit {}; rings take {:.1} MB", link.boot, config.unit.name, agent.ring_memory() as f64 / 1e6);

    let (student, desk) = student.unzip();
    let other_brokers = updates.as_ref().is_some_and(|u| u.other_brokers);
    let has = Has { detector: detector.is_some(), student: student.is_some(), other_brokers };
    let vitals = Arc::new(Vitals::default());
    let fell = AtomicBool::new(false);
    let stop = Arc::new(AtomicBool::new(false));
    let (inbox, arrivals) = sync_channel::<Inbox>(INBOX);
    let (give_back, pool) = sync_channel::<Vec<u8>>(BUFFERS);
    for _ in 0..BUFFERS {
        give_back.try_send(Vec::with_capacity(BUFFER_BYTES)).map_err(|_| anyhow::anyhow!("the pool is too small"))?;
    }
    let info = DriveInfo {
        unit: config.unit.name.to_string(),
        simulated: made_up,
        ..drives.first().map_or_else(Default::default, |d| d.1.clone())
    };
    let signer = Signer::of_unit(&config, flags);
    let (journal, journal_jobs, journal_back) = journal::of(&config, link.boot, &info, signer.clone());
    let mut watch = Watch::default();
    let (to_eyes, frames) = sync_channel::<Shown>(FRAMES);
    let (scribe, evidence_jobs, evidence_back) = Scribe::new(info, signer);
    let keeper = Keeper::new(Arc::new(RealDisk), Place::of(&config), Durability::Synced, evidence_back);
    let mut core = Core {
        agent,
        head,
        samples: Samples::new(signals, config.can.buses.clone()),
        link,
        give_back: give_back.clone(),
        to_eyes: (detector.is_some() && !live).then_some(to_eyes),
        scribe,
        journal,
        latency: args.latency_log.as_ref().map(std::fs::File::create).transpose().context("making the latency log")?,
        unseen: 0,
        student,
        realtime: config.sources.realtime || live,
        live,
        pulse: watch.stage("core"),
        first_frame: Some(Instant::now()),
        ended: false,
        bus_frames: Arc::default(),
        wall: live.then(WallClock::new),
        panic_signal: convert::panic_signal(&config),
        parking: parking::Parking::default(),
        keeping: keep::Keeping::default(),
        camera: None,
        vitals: Arc::clone(&vitals),
    };
    let (keeping, looking) = (watch.disk("evidence"), watch.stage("look"));
    let lamp = AtomicU8::new(gpio::Lamp::On as u8);
    let bus_frames = Arc::clone(&core.bus_frames);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let name = |n: &str| std::thread::Builder::new().name(n.to_owned());
        let (kept, certified) = (inbox.clone(), &config);
        name("disk").spawn_scoped(scope, move || keep::keep(keeper, certified, &evidence_jobs, &kept, &keeping))?;
        let journaling = watch.disk("journal");
        name("journal")
            .spawn_scoped(scope, move || journal::write(&RealDisk, &journal_jobs, journal_back, &journaling))?;
        owed::start(scope, desk, owed, &inbox, &stop)?;
        if live {
            let sensors = live::Sensors {
                config: &config,
                filters: filters.as_deref(),
                stop: &stop,
                lamp: &lamp,
                timed: args.latency_log.is_some(),
                bus_frames: Some(&bus_frames),
            };
            live::start(scope, sensors, &inbox, &mut watch)?;
        }
        if let Some(camera) = camera {
            let (detector, back) = (detector.map(|d| (d, u64::from(config.trigger.vision.every_nth_frame))), give_back);
            let tell = move |news| live::tell(&inbox, &back, news);
            let pulses =
                camera_source::Pulses { camera: (watch.sensor("camera"), watch::CAMERA), look: (looking, watch::LOOK) };
            let parts = camera_source::Parts { camera, tell, pool, detector, stop: Arc::clone(&stop), pulses };
            camera_source::start(scope, &config, parts)?;
        } else if !live {
            if let Some(detector) = detector {
                let (nth, seen, back) =
                    (u64::from(config.trigger.vision.every_nth_frame), inbox.clone(), give_back.clone());
                name("eyes").spawn_scoped(scope, move || eyes::eyes(detector, nth, &frames, &seen, &back, &looking))?;
            }
            let (config, stopped) = (&config, Arc::clone(&stop));
            name("source").spawn_scoped(scope, move || {
                source(config, &stopped, &inbox, &pool);
                // The core may have ended already.
                let _ = inbox.send(Inbox::End);
            })?;
        }
        if let Some(Updates { store, slot, .. }) = &updates {
            let (config, vitals, watch) = (&config, &*vitals, watch.clone());
            let (stop, fell) = (&*stop, &fell);
            let trial = Trial { store, slot: slot.as_ref(), config, vitals, watch, has, stop, fell };
            name("trial").spawn_scoped(scope, move || trial.run())?;
        }
        let stopper = Arc::clone(&stop);
        let (stop_after, lamp_shown) = (args.stop_after_s, &lamp);
        name("signals").spawn_scoped(scope, move || wait_for_signal(&stopper, stop_after, watch, lamp_shown))?;
        let ended = core.run(&arrivals, &stop);
        stop.store(true, Ordering::Relaxed);
        live::drain(&arrivals);
        // Closing their channels ends the other threads.
        let link = core.end();
        // Started again at once, it has what waits.
        if !link.finish(if fell.load(Ordering::Relaxed) { Duration::ZERO } else { DRAIN }) {
            say!("the broker did not acknowledge everything; the rest waits in the outbox");
        }
        ended
    })?;
    Ok(if fell.load(Ordering::Relaxed) { Outcome::FellBack } else { Outcome::Done })
}

/// Ends with SIGTERM, SIGINT, the limit for tests, or when the daemon stops by itself; until then tells the service manager
/// how the stages are.
fn wait_for_signal(stop: &AtomicBool, stop_after_s: Option<f64>, watch: Watch, lamp: &AtomicU8) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let begun = Instant::now();
    let mut teller = Teller::ready(watch, "recording");
    runtime.block_on(async {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return;
        };
        while !stop.load(Ordering::Relaxed) {
            teller.look(Instant::now());
            let shows = if teller.hangs() { gpio::Lamp::Fault } else { gpio::Lamp::On };
            lamp.store(shows as u8, Ordering::Relaxed);
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if stop_after_s.is_some_and(|s| begun.elapsed().as_secs_f64() >= s) {
                break;
            }
        }
    });
    Teller::stopping();
    stop.store(true, Ordering::Relaxed);
}

/// Reads the drives one after the other, each moved to follow the one before on one clock that began at zero.
fn source(config: &Config, stop: &AtomicBool, inbox: &SyncSender<Inbox>, pool: &Receiver<Vec<u8>>) {
    let begun = Instant::now();
    let mut offset = MonoTime::ZERO;
    let mut seq = 0;
    loop {
        for path in &config.sources.drives {
            let path = config.resolve(path);
            match play(&path, config.sources.realtime, begun, offset, &mut seq, stop, inbox, pool) {
                Ok(end) => offset = end,
                Err(error) => say!("{}: {error:#}", path.display()),
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
        if !config.sources.repeat {
            return;
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "the state of the source thread, all of it")]
fn play(
    path: &std::path::Path,
    realtime: bool,
    begun: Instant,
    offset: MonoTime,
    seq: &mut u64,
    stop: &AtomicBool,
    inbox: &SyncSender<Inbox>,
    pool: &Receiver<Vec<u8>>,
) -> anyhow::Result<MonoTime> {
    let mut reader = DriveReader::open(path)?;
    let (mut first, mut last) = (None, offset);
    while let Some(record) = reader.next()? {
        let at = record.time();
        let t = offset + at.since(*first.get_or_insert(at));
        last = last.max(t);
        if realtime && let Some(wait) = Duration::from_nanos(t.0).checked_sub(begun.elapsed()) {
            std::thread::sleep(wait);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let owned = match record {
            DriveRecord::Imu(mut s) => {
                s.t = t;
                Owned::Sample(DriveRecord::Imu(s))
            }
            DriveRecord::Gnss(mut f) => {
                f.t = t;
                Owned::Sample(DriveRecord::Gnss(f))
            }
            DriveRecord::Can(mut f) => {
                f.t = t;
                Owned::Sample(DriveRecord::Can(f))
            }
            DriveRecord::Json(..) => continue,
            DriveRecord::Frame(meta, bytes) => {
                let Ok(mut buffer) = pool.recv() else { break };
                buffer.clear();
                buffer.extend_from_slice(bytes);
                let meta = FrameMeta { t, seq: *seq, ..meta };
                *seq += 1;
                Owned::Frame(meta, buffer)
            }
        };
        if inbox.send(Inbox::Record(owned, Some(SystemTime::now()))).is_err() {
            break;
        }
    }
    if let Some(loss) = reader.loss() {
        say!("{}: {loss}", path.display());
    }
    // A millisecond between drives keeps the order strict.
    Ok(last + agent_core::time::Span::from_ms(1))
}

/// The core thread's state.
struct Core {
    head: Option<RiskHead>,
    agent: Agent,
    samples: Samples,
    link: RunningLink,
    give_back: SyncSender<Vec<u8>>,
    to_eyes: Option<SyncSender<Shown>>,
    scribe: Scribe,
    journal: journal::Journal,
    latency: Option<std::fs::File>,
    unseen: u32,
    student: Option<StudentLink>,
    realtime: bool,
    live: bool,
    pulse: Arc<Pulse>,
    /// When the daemon began, until its first frame is in the ring.
    first_frame: Option<Instant>,
    /// The source came to its end.
    ended: bool,
    /// Frames of live buses in the inbox.
    bus_frames: Arc<AtomicUsize>,
    /// The unit's own; a drive carries its time.
    wall: Option<WallClock>,
    panic_signal: Option<u8>,
    /// Whether the ignition went off, and when.
    parking: parking::Parking,
    /// How the disk takes evidence.
    keeping: keep::Keeping,
    /// What the camera says of itself, where there is a live one.
    camera: Option<agent_wire::CameraState>,
    /// For the trial of an update.
    vitals: Arc<Vitals>,
}

impl Core {
    fn run(&mut self, arrivals: &Receiver<Inbox>, stop: &AtomicBool) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (mut heard, mut behind) = (begun, 0u32);
        // After the end of the source the open events still wait for their files.
        while !(stop.load(Ordering::Relaxed) || self.ended && !self.agent.awaiting() || self.parked()) {
            self.pulse.busy(Instant::now(), watch::CORE);
            self.look_at_clock();
            self.journal.tick(&self.agent, self.agent.now());
            self.write_between(behind);
            // By the clock and not when there is nothing else to do: sensors may leave no such moment.
            if heard.elapsed() >= COMMANDS {
                heard = Instant::now();
                self.commands();
            }
            match arrivals.recv_timeout(TICK) {
                Ok(message) => {
                    let mut taken = 0;
                    for message in iter::once(message).chain(arrivals.try_iter().take(AT_ONCE)) {
                        let born = self.take(message);
                        self.drain(born);
                        taken += 1;
                    }
                    behind = if taken > AT_ONCE { behind.wrapping_add(1) } else { 0 };
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Time goes on without samples too. Both clocks began at zero with this run; without pacing the drive's
            // runs ahead, and there is no waiting to be done.
            if !self.ended && self.live {
                self.agent.on_tick(monotonic_now());
            } else if !self.ended && self.realtime {
                self.agent.on_tick(MonoTime(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)));
            }
            self.drain(None);
        }
        // The end has limits of its own.
        self.pulse.idle();
        self.agent.finish();
        self.drain(None);
        self.last_reports(arrivals);
        Ok(())
    }

    /// Events that closed just now: their files and the student's word are awaited for a moment, then they are reported
    /// with what is there.
    fn last_reports(&mut self, arrivals: &Receiver<Inbox>) {
        let begun = Instant::now();
        while self.agent.awaiting() {
            self.write();
            if begun.elapsed() >= if self.scribe.busy() { LAST_WRITES } else { LAST_REPORTS } {
                break;
            }
            match arrivals.recv_timeout(TICK) {
                Ok(message @ (Inbox::Kept(_) | Inbox::Student(_))) => drop(self.take(message)),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.drain(None);
        }
        self.agent.give_up();
        self.drain(None);
    }

    /// Takes one message; returns when the record behind it was handed over.
    fn take(&mut self, message: Inbox) -> Option<SystemTime> {
        match message {
            Inbox::Record(Owned::Sample(record), born) => {
                if self.live && matches!(record, DriveRecord::Can(_)) {
                    self.bus_frames.fetch_sub(1, Ordering::Relaxed);
                }
                self.vitals.sample(&record);
                self.samples.feed(&mut self.agent, &record);
                born
            }
            Inbox::Record(Owned::Frame(meta, bytes), born) => {
                self.vitals.frame();
                self.agent.on_frame(&meta, &bytes);
                if let Some(begun) = self.first_frame.take() {
                    say!("first frame in the ring {:.2} s after the start", begun.elapsed().as_secs_f64());
                }
                if let Some(student) = &mut self.student {
                    student.on_frame(&self.agent, &meta, &bytes);
                }
                self.show_frame(meta, bytes, born);
                born
            }
            Inbox::Seen { t, aspect, detections, born } => {
                self.vitals.seen();
                self.agent.on_detections(t, &detections, aspect, self.head.as_mut().map(|h| h as _));
                born
            }
            Inbox::Unseen(n) => {
                self.agent.on_loss(Lost::UnseenFrames, n);
                None
            }
            Inbox::Student(News::Ready(facts)) => {
                self.vitals.student();
                if let Some(student) = &mut self.student {
                    student.ready(&facts);
                }
                None
            }
            Inbox::Student(News::Done(done)) => {
                self.agent.on_student(&done.event, done.outcome, &done.falls);
                None
            }
            Inbox::Camera(news) => {
                self.camera(news);
                None
            }
            Inbox::Gpio(news) => {
                self.lines(&news);
                None
            }
            Inbox::Lost(what, samples) => {
                self.agent.on_loss(what, samples);
                None
            }
            Inbox::Said(what) => {
                say!("{what}");
                None
            }
            Inbox::Kept(done) => {
                self.kept(done);
                None
            }
            Inbox::Owed(report) => {
                self.link.send(&Message::Report(*report));
                None
            }
            Inbox::End => {
                self.ended = true;
                self.agent.finish();
                None
            }
        }
    }

    fn drain(&mut self, born: Option<SystemTime>) {
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Alert(alert) => {
                    let first = alert.revision == 0;
                    let event = alert.event.clone();
                    self.journal.mark(&event, MonoTime(alert.time.mono_ns));
                    self.link.send(&Message::Alert(alert));
                    if first {
                        self.log_latency(&event.to_string(), born);
                    }
                    // Only now: the alert waits for nothing.
                    if let Some(student) = &mut self.student {
                        student.on_alert(&self.agent, &event);
                    }
                }
                Output::Report(report) => self.link.send(&Message::Report(report)),
                Output::Health(mut health) => {
                    self.keeping.complete(&mut health);
                    health.sensors.camera = self.camera.unwrap_or(health.sensors.camera);
                    self.link.complete(&mut health);
                    self.link.send(&Message::Health(health));
                }
                Output::Closed { event, ask } => {
                    let refused = match &mut self.student {
                        Some(student) => student.on_closed(&self.agent, &event, ask),
                        None => ask.then(|| Done::refused(event.clone(), StudentRefusal::NotInstalled, None)),
                    };
                    if let Some(done) = refused {
                        self.agent.on_student(&event, done.outcome, &done.falls);
                    }
                    self.store(&event);
                }
            }
        }
    }

    /// Closes the channels to the other threads and gives the link back.
    fn end(mut self) -> RunningLink {
        self.journal.end();
        self.link
    }
}
