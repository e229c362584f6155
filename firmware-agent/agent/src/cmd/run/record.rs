//! `record`: the unit's own sensors into a drive, without looking at anything. The sensors' threads are those of `run`.
//!
//! Records enter the file in the order of time: each waits [`ORDER`] for those that were taken before it and arrive after it. The
//! file is flushed every [`FLUSH`], so that a power cut costs no more; such a file is read to its last whole chunk. Topic
//! `/clock` holds the wall clock and its quality, once a second; `/losses`, at the end, what did not get into the file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agent_core::agent::Lost;
use agent_core::time::{MonoTime, Span};
use agent_drive::{DriveCounts, DriveInfo, DriveRecord, DriveWriter};
use anyhow::Context as _;
use serde_json::json;

use super::watch::Watch;
use super::{BUFFER_BYTES, INBOX, Inbox, Owned, TICK, live, wait_for_signal, watch};
use crate::cli::RecordArgs;
use crate::config::camera::CameraKind;
use crate::config::types::SourceKind;
use crate::exit::{Outcome, bad_config, usage};
use crate::io::camera::source::{self as camera_source, News as CameraNews};
use crate::io::gpio;
use crate::io::wall::WallClock;
use crate::show::say;

/// How long a record waits for older ones.
const ORDER: Span = Span::from_ms(250);
/// Most records that wait: twice what a quarter of a second of the fastest sensors gives.
const WAITING: usize = 16_384;
/// Frame buffers: those of a quarter of a second at 60 a second, and some on their way.
const BUFFERS: usize = 32;
const FLUSH: Duration = Duration::from_secs(2);
/// After the end, how long the sensors' threads may take.
const LAST: Duration = Duration::from_secs(5);

/// A record on its way into the file; the earliest first, at equal times the first that came.
struct Waiting(MonoTime, u64, Owned);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What did not get into the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses {
    frames: u64,
    imu: u64,
    can: u64,
    gnss: u64,
    /// Records that came too late to stand in order.
    late: u64,
}

impl Losses {
    const fn any(&self) -> bool {
        self.frames + self.imu + self.can + self.gnss + self.late > 0
    }
}

pub(crate) fn record(args: &RecordArgs) -> anyhow::Result<Outcome> {
    if args.seconds.is_some_and(|s| !(0.1..=864_000.0).contains(&s)) {
        return Err(usage("--seconds is 0.1 to 864000"));
    }
    let config = crate::cmd::replay::load_config(Some(&args.config))?;
    if config.sources.kind != SourceKind::Device {
        return Err(bad_config(
            "sources.kind is drive: record takes the unit's own sensors, with sources.kind = \"device\"",
        ));
    }
    if args.out.exists() {
        return Err(usage(format!("{} is there already", args.out.display())));
    }
    let camera = live::open_camera(&config)?;
    let filters = live::can_filters(&config, crate::convert::signal_map(&config)?.as_ref())?;
    let info = DriveInfo {
        unit: config.unit.name.to_string(),
        simulated: config.sources.camera.kind == CameraKind::Test,
        ..DriveInfo::new("recorded from the unit's sensors")
    };
    let (inbox, arrivals) = sync_channel::<Inbox>(INBOX);
    let (give_back, pool) = sync_channel::<Vec<u8>>(BUFFERS);
    for _ in 0..BUFFERS {
        give_back.try_send(Vec::with_capacity(BUFFER_BYTES)).map_err(|_| anyhow::anyhow!("the pool is too small"))?;
    }
    let mut sink = Sink::new(&args.out, &info, give_back.clone(), u64::from(args.max_mb) * 1_000_000)?;
    let (stop, lamp) = (Arc::new(AtomicBool::new(false)), AtomicU8::new(gpio::Lamp::On as u8));
    let mut watch = Watch::default();
    let ended = std::thread::scope(|scope| -> anyhow::Result<()> {
        let sensors = live::Sensors {
            config: &config,
            filters: filters.as_deref(),
            stop: &stop,
            lamp: &lamp,
            timed: false,
            bus_frames: None,
        };
        live::start(scope, sensors, &inbox, &mut watch)?;
        if let Some(camera) = camera {
            let (camera_pulse, look_pulse) = (watch.sensor("camera"), watch.stage("look"));
            let pulses =
                camera_source::Pulses { camera: (camera_pulse, watch::CAMERA), look: (look_pulse, watch::LOOK) };
            let (told, back) = (inbox.clone(), give_back);
            let tell = move |news| live::tell(&told, &back, news);
            let parts = camera_source::Parts { camera, tell, pool, detector: None, stop: Arc::clone(&stop), pulses };
            camera_source::start(scope, &config, parts)?;
        }
        drop(inbox);
        let (stopper, seconds, shown) = (Arc::clone(&stop), args.seconds, &lamp);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn_scoped(scope, move || wait_for_signal(&stopper, seconds, watch, shown))?;
        let ended = sink.run(&arrivals, &stop);
        stop.store(true, Ordering::Relaxed);
        // A source that waits for room goes on until it has seen the flag.
        while arrivals.recv_timeout(LAST).is_ok() {}
        ended
    });
    let (counts, losses) = sink.finish(&args.out)?;
    ended?;
    say!(
        "{}: {} frames, {} IMU samples, {} CAN frames, {} fixes",
        args.out.display(),
        counts.frames,
        counts.imu,
        counts.can,
        counts.gnss
    );
    if losses.any() {
        say!("lost: {losses:?}");
        return Ok(Outcome::Loss);
    }
    Ok(Outcome::Done)
}

/// The file, and what waits to get into it.
struct Sink {
    writer: DriveWriter<BufWriter<File>>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    give_back: SyncSender<Vec<u8>>,
    next: u64,
    newest: MonoTime,
    written: MonoTime,
    bytes: u64,
    most_bytes: u64,
    last_seq: Option<u64>,
    losses: Losses,
    clock: WallClock,
    parking: bool,
}

impl Sink {
    fn new(path: &Path, info: &DriveInfo, give_back: SyncSender<Vec<u8>>, most_bytes: u64) -> anyhow::Result<Self> {
        Ok(Self {
            writer: DriveWriter::create(path, info)?,
            waiting: BinaryHeap::with_capacity(WAITING + 1),
            give_back,
            next: 0,
            newest: MonoTime::ZERO,
            written: MonoTime::ZERO,
            bytes: 0,
            most_bytes,
            last_seq: None,
            losses: Losses::default(),
            clock: WallClock::new(),
            parking: false,
        })
    }

    fn run(&mut self, arrivals: &Receiver<Inbox>, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut flushed = Instant::now();
        while !stop.load(Ordering::Relaxed) && !self.parking {
            match arrivals.recv_timeout(TICK) {
                Ok(Inbox::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some((t, wall)) = self.clock.due() {
                let text = json!({"unix_ms": wall.unix_ms, "quality": wall.quality}).to_string();
                self.writer.write_json("/clock", t, &text)?;
            }
            if flushed.elapsed() >= FLUSH {
                self.writer.flush()?;
                flushed = Instant::now();
            }
            if self.bytes > self.most_bytes {
                say!("--max-mb is reached");
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, message: Inbox) -> anyhow::Result<()> {
        match message {
            Inbox::Record(owned, _) => {
                let t = owned.time();
                self.newest = self.newest.max(t);
                self.waiting.push(Reverse(Waiting(t, self.next, owned)));
                self.next += 1;
                while let Some(Reverse(first)) = self.waiting.peek() {
                    if self.newest.since(first.0) < ORDER && self.waiting.len() <= WAITING {
                        break;
                    }
                    self.write_first()?;
                }
            }
            Inbox::Camera(CameraNews::Lost(n)) => self.losses.frames += u64::from(n),
            Inbox::Camera(CameraNews::State(state, why)) => say!("camera {}: {why}", state.name()),
            Inbox::Camera(CameraNews::Said(what)) | Inbox::Said(what) | Inbox::Gpio(gpio::News::Said(what)) => {
                say!("{what}")
            }
            Inbox::Lost(Lost::Imu, n) => self.losses.imu += u64::from(n),
            Inbox::Lost(Lost::Can, n) => self.losses.can += u64::from(n),
            Inbox::Lost(Lost::Gnss, n) => self.losses.gnss += u64::from(n),
            Inbox::Gpio(gpio::News::IgnitionOff) => {
                say!("the ignition is off");
                self.parking = true;
            }
            Inbox::Gpio(gpio::News::Panic(down, t)) => {
                self.writer.write_json("/panic", t, &json!({"pressed": down}).to_string())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The earliest record goes into the file, unless a later one is there already.
    fn write_first(&mut self) -> anyhow::Result<()> {
        let Some(Reverse(Waiting(t, _, owned))) = self.waiting.pop() else { return Ok(()) };
        let late = t < self.written;
        self.losses.late += u64::from(late);
        self.written = self.written.max(t);
        match owned {
            Owned::Sample(record) => {
                // Header and padding of a message in the file are of this size.
                self.bytes += 100;
                match record {
                    _ if late => {}
                    DriveRecord::Imu(s) => self.writer.write_imu(&s)?,
                    DriveRecord::Can(s) => self.writer.write_can(&s)?,
                    DriveRecord::Gnss(s) => self.writer.write_gnss(&s)?,
                    DriveRecord::Json(..) | DriveRecord::Frame(..) => {}
                }
            }
            Owned::Frame(meta, bytes) => {
                if let Some(last) = self.last_seq {
                    self.losses.frames += meta.seq.saturating_sub(last + 1);
                }
                self.last_seq = Some(meta.seq);
                self.bytes += bytes.len() as u64;
                let written = if late { Ok(()) } else { self.writer.write_frame(&meta, &bytes) };
                let _ = self.give_back.try_send(bytes);
                written?;
            }
        }
        Ok(())
    }

    fn finish(mut self, path: &Path) -> anyhow::Result<(DriveCounts, Losses)> {
        while !self.waiting.is_empty() {
            self.write_first()?;
        }
        let l = self.losses;
        let text = json!({"frames": l.frames, "imu": l.imu, "can": l.can, "gnss": l.gnss, "late": l.late}).to_string();
        self.writer.write_json("/losses", self.newest, &text)?;
        let shown = || format!("writing {}", path.display());
        let (file, counts) = self.writer.finish().with_context(shown)?;
        file.into_inner().map_err(|e| e.into_error()).with_context(shown)?.sync_all().with_context(shown)?;
        Ok((counts, l))
    }
}

#[cfg(test)]
mod tests {
    use agent_core::samples::{CanFrame, FrameMeta, ImuSample, VideoCodec};
    use agent_drive::DriveReader;

    use super::*;

    fn ms(n: u64) -> MonoTime {
        MonoTime(n * 1_000_000)
    }

    fn imu_at(n: u64) -> Inbox {
        let s = ImuSample { t: ms(n), accel_mps2: [0.0, 0.0, 9.8], gyro_rps: [0.0; 3], gyro_valid: true };
        Inbox::Record(Owned::Sample(DriveRecord::Imu(s)), None)
    }

    fn can_at(n: u64) -> Inbox {
        let f = CanFrame { t: ms(n), bus: 0, id: 1, extended: false, fd: false, remote: false, len: 1, data: [0; 64] };
        Inbox::Record(Owned::Sample(DriveRecord::Can(f)), None)
    }

    fn frame_at(n: u64, seq: u64) -> Inbox {
        let meta = FrameMeta { t: ms(n), seq, codec: VideoCodec::Jpeg, key: true, size: [16, 16] };
        Inbox::Record(Owned::Frame(meta, vec![seq as u8; 100]), None)
    }

    #[test]
    fn records_of_several_sensors_stand_in_the_order_of_time_and_what_is_missing_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mcap");
        let (give_back, pool) = sync_channel(8);
        let mut sink = Sink::new(&path, &DriveInfo::new("test"), give_back, 1 << 30).unwrap();
        // The camera's frames come 60 ms after their time, the bus's frames in bursts; one sample is far too late.
        for n in 0..100_u64 {
            sink.take(imu_at(1000 + n * 10)).unwrap();
            if n % 10 == 9 {
                for k in 0..10 {
                    sink.take(can_at(1000 + (n - 9 + k) * 10 + 3)).unwrap();
                }
            }
            if n >= 6 && n % 3 == 0 {
                // Every fifth frame is lost in the camera.
                let seq = n / 3 + n / 15;
                sink.take(frame_at(1000 + (n - 6) * 10, seq)).unwrap();
            }
        }
        sink.take(can_at(1100)).unwrap();
        sink.take(Inbox::Lost(Lost::Imu, 7)).unwrap();
        assert!(pool.try_iter().count() > 5, "buffers of written frames go back");
        let (counts, losses) = sink.finish(&path).unwrap();
        assert_eq!((counts.imu, counts.can, counts.frames), (100, 100, 32));
        assert_eq!(losses, Losses { imu: 7, late: 1, frames: 6, ..Losses::default() });
        let mut reader = DriveReader::open(&path).unwrap();
        let (mut last, mut n) = (MonoTime::ZERO, 0);
        while let Some(record) = reader.next().unwrap() {
            assert!(record.time() >= last, "{} after {last}", record.time());
            last = record.time();
            n += 1;
        }
        assert_eq!((n, reader.loss()), (233, None), "and one line of losses");
    }

    #[test]
    fn what_waits_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (give_back, _pool) = sync_channel(8);
        let mut sink = Sink::new(&folder.path().join("a.mcap"), &DriveInfo::new("test"), give_back, 1 << 30).unwrap();
        for n in 0..40_000_u64 {
            let t = MonoTime(1_000_000_000 + n * 1000);
            let f = CanFrame { t, bus: 0, id: 1, extended: false, fd: false, remote: false, len: 1, data: [0; 64] };
            sink.take(Inbox::Record(Owned::Sample(DriveRecord::Can(f)), None)).unwrap();
            assert!(sink.waiting.len() <= WAITING);
        }
        assert_eq!(sink.losses, Losses::default());
    }
}
