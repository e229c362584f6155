//! What becomes of the chip: started, read, judged, started again, counted. Chip and clock stand behind traits, so that all
//! of it is tested without either.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::samples::ImuSample;
use agent_core::time::{MonoTime, Span};

use super::News;
use super::cadence::Cadence;
use super::chip::{Batch, Chip, Started};
use super::truth::{Truth, WORKS_C};
use crate::io::news::{Teller, Told};

/// How often the FIFO is emptied: adds this to the age of a sample at most.
const POLL: Duration = Duration::from_millis(10);
const FIRST_WAIT: Span = Span::from_ms(250);
const LONGEST_WAIT: Span = Span::from_s(10);
/// A chip that was read for this long is started anew at once when it fails.
const FORGIVEN: Span = Span::from_s(10);
/// No reading for this long: it hangs.
const SILENT: Span = Span::from_ms(200);
/// Errors of the bus in a row that make it fail; single ones happen.
const ERRORS: u32 = 3;
const VERIFY_EVERY: Span = Span::from_s(1);
const TEMPERATURE_EVERY: Span = Span::from_s(60);

/// The clock.
pub(super) trait Timer {
    fn now(&self) -> MonoTime;
    fn sleep(&mut self, span: Duration);
}

/// What was read since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ImuReport {
    /// Samples handed over.
    pub(crate) samples: u64,
    /// Readings that the chip overwrote.
    pub(crate) overwritten: u64,
    /// Samples that the core had no room for.
    pub(crate) no_room: u64,
    /// Readings that came in part.
    pub(crate) broken: u64,
    /// Failed transfers on the bus.
    pub(crate) bus_errors: u64,
    /// Times that the chip was given up and started anew.
    pub(crate) restarts: u32,
    /// Readings a second, by the unit's clock; 0 while there were none.
    pub(crate) hz: f64,
    /// Temperature as last read, degrees Celsius.
    pub(crate) temperature_c: Option<f32>,
    /// Gravity as last measured at rest, m/s^2.
    pub(crate) at_rest_mps2: Option<f32>,
    /// The self-test: passed, or why not; none where it was not made.
    pub(crate) self_test: Option<Result<(), String>>,
    /// Whether it is being read.
    pub(crate) up: bool,
    /// Why not, as last said.
    pub(crate) why: Option<String>,
}

impl core::fmt::Display for ImuReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IMU: {} samples at {:.1} Hz", self.samples, self.hz)?;
        for (count, what) in [
            (self.overwritten, "overwritten in the chip"),
            (self.no_room, "lost before the core"),
            (self.broken, "in part"),
            (self.bus_errors, "errors of the bus"),
            (u64::from(self.restarts), "restarts"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A chip that was started.
struct Live {
    chip: Box<dyn Chip>,
    scale: Started,
    cadence: Cadence,
    truth: Truth,
    since: MonoTime,
    last: MonoTime,
    verified: MonoTime,
    measured: Option<MonoTime>,
    errors: u32,
}

pub(super) struct Keeper<'a, T> {
    open: &'a mut dyn FnMut() -> Result<Box<dyn Chip>, String>,
    rate_hz: u32,
    range_g: u8,
    self_test: bool,
    timer: T,
    teller: Teller<'a, ImuSample>,
    batch: Batch,
    report: ImuReport,
    live: Option<Live>,
    again: MonoTime,
    wait: Span,
    away_since: Option<MonoTime>,
    lost_said: bool,
    heavy: bool,
    hot: bool,
}

impl<'a, T: Timer> Keeper<'a, T> {
    pub(super) fn new(
        open: &'a mut dyn FnMut() -> Result<Box<dyn Chip>, String>,
        rate_hz: u32,
        range_g: u8,
        self_test: bool,
        timer: T,
        tell: &'a mut dyn FnMut(News) -> Told,
    ) -> Self {
        Self {
            open,
            rate_hz,
            range_g,
            self_test,
            timer,
            teller: Teller::new(tell),
            batch: Batch::new(),
            report: ImuReport::default(),
            live: None,
            again: MonoTime::ZERO,
            wait: FIRST_WAIT,
            away_since: None,
            lost_said: false,
            heavy: false,
            hot: false,
        }
    }

    pub(super) fn run(mut self, stop: &AtomicBool, beat: &dyn Fn()) -> ImuReport {
        while !stop.load(Ordering::Relaxed) && !self.teller.gone() {
            beat();
            let step = match self.live.take() {
                Some(live) => self.read(live),
                None if self.timer.now() >= self.again => self.start(),
                None => Ok(None),
            };
            match step {
                Ok(live) => self.live = live,
                Err(why) => self.give_up(&why),
            }
            self.teller.flush();
            self.timer.sleep(POLL);
        }
        self.report.up = self.live.is_some();
        self.report
    }

    fn start(&mut self) -> Result<Option<Live>, String> {
        let mut chip = (self.open)()?;
        if std::mem::take(&mut self.self_test) {
            let tested = chip.self_test();
            let name = chip.name();
            self.teller.say(match &tested {
                Ok(()) => format!("IMU: the {name} passed its self-test"),
                Err(why) => format!("IMU: the {name} did not pass its self-test: {why}"),
            });
            self.report.self_test = Some(tested);
        }
        let scale = chip.start(self.rate_hz, self.range_g)?;
        let now = self.timer.now();
        let mut after = String::new();
        if let Some(since) = self.away_since.take() {
            let away_s = now.since(since).as_s();
            // 0 Hz before it was ever read: then nothing is lost that there was.
            self.teller.lose((away_s * self.report.hz) as u32);
            after = format!(" after {away_s:.1} s");
        }
        self.teller.say(format!("IMU: {} at {} Hz, {} g{after}", chip.name(), scale.hz, self.range_g));
        self.report.why = None;
        Ok(Some(Live {
            chip,
            scale,
            cadence: Cadence::new(scale.hz),
            truth: Truth::new(scale.hz),
            since: now,
            last: now,
            verified: now,
            measured: None,
            errors: 0,
        }))
    }

    fn read(&mut self, mut live: Live) -> Result<Option<Live>, String> {
        let now = self.timer.now();
        match live.chip.drain(&mut self.batch) {
            Ok(()) => live.errors = 0,
            Err(why) => {
                self.report.bus_errors += 1;
                live.errors += 1;
                self.restart_if(live.errors >= ERRORS, &live, now, &why)?;
                return Ok(Some(live));
            }
        }
        let n = self.batch.raw.len();
        if n == 0 {
            let silent = now.since(live.last) >= SILENT;
            self.restart_if(silent, &live, now, &format!("no reading for {} s", SILENT.as_s()))?;
            return self.look_after(live, now).map(Some);
        }
        live.last = now;
        self.count_lost(&mut live, now);
        let batch = live.cadence.batch(n, now);
        for i in 0..n {
            let raw = self.batch.raw[i];
            let repeats = live.truth.repeats(&raw);
            self.restart_if(repeats, &live, now, "it repeats one reading")?;
            let t = live.cadence.time(batch, i);
            let sample = ImuSample {
                t,
                accel_mps2: raw.accel.map(|n| f32::from(n) * live.scale.accel_scale),
                gyro_rps: raw.gyro.map(|n| f32::from(n) * live.scale.gyro_scale),
                gyro_valid: true,
            };
            if let Some((measured, true_gravity)) = live.truth.gravity(&sample) {
                self.rest(measured, true_gravity);
            }
            if self.teller.sample(sample) {
                self.report.samples += 1;
            } else {
                self.report.no_room += 1;
                self.say_lost("the core is behind");
            }
        }
        self.report.hz = live.cadence.hz();
        self.look_after(live, now).map(Some)
    }

    fn count_lost(&mut self, live: &mut Live, now: MonoTime) {
        let batch = &self.batch;
        let by_time = if batch.overrun { live.cadence.missing(batch.raw.len(), now) } else { 0 };
        let skipped = batch.skipped.max(by_time);
        live.cadence.skip(skipped);
        self.report.broken += u64::from(batch.broken);
        self.teller.lose(skipped.saturating_add(batch.broken));
        if skipped > 0 {
            self.report.overwritten += u64::from(skipped);
            self.say_lost("the chip overwrote them before they were read");
        }
    }

    /// What is due without a reading.
    fn look_after(&mut self, mut live: Live, now: MonoTime) -> Result<Live, String> {
        if now.since(live.verified) >= VERIFY_EVERY {
            live.verified = now;
            if let Err(why) = live.chip.verify() {
                self.restart_if(true, &live, now, &why)?;
            }
        }
        if live.measured.is_none_or(|at| now.since(at) >= TEMPERATURE_EVERY) {
            live.measured = Some(now);
            if let Ok(c) = live.chip.temperature_c() {
                self.report.temperature_c = Some(c);
                let hot = !WORKS_C.contains(&c);
                if std::mem::replace(&mut self.hot, hot) != hot {
                    let range = format!("{} to {} degrees C, for which it is made", WORKS_C.start(), WORKS_C.end());
                    let where_to = if hot { "outside" } else { "back within" };
                    self.teller.say(format!("IMU: it is at {c:.0} degrees C, {where_to} {range}"));
                }
            }
        }
        Ok(live)
    }

    fn rest(&mut self, measured: f32, can_be: bool) {
        self.report.at_rest_mps2 = Some(measured);
        if std::mem::replace(&mut self.heavy, !can_be) == can_be {
            self.teller.say(if can_be {
                format!("IMU: at rest it measures gravity again ({measured:.2} m/s^2)")
            } else {
                format!(
                    "IMU: at rest it measures {measured:.2} m/s^2 in place of gravity: it is damaged, or another chip"
                )
            });
        }
    }

    /// An error if `fails`: the chip is given up, and counted.
    fn restart_if(&mut self, fails: bool, live: &Live, now: MonoTime, why: &str) -> Result<(), String> {
        if !fails {
            return Ok(());
        }
        self.report.restarts += 1;
        // What it measured meanwhile is lost: from the last reading until it is up again.
        self.away_since.get_or_insert(live.last);
        if now.since(live.since) >= FORGIVEN {
            self.wait = FIRST_WAIT;
        }
        Err(why.to_owned())
    }

    fn give_up(&mut self, why: &str) {
        let now = self.timer.now();
        self.away_since.get_or_insert(now);
        self.again = now + self.wait;
        self.wait = Span(self.wait.0.saturating_mul(2).min(LONGEST_WAIT.0));
        if self.report.why.as_deref() != Some(why) {
            self.report.why = Some(why.to_owned());
            self.teller.say(format!("IMU: {why}; started again every {} s at most", LONGEST_WAIT.as_s()));
        }
    }

    fn say_lost(&mut self, why: &str) {
        if !std::mem::replace(&mut self.lost_said, true) {
            self.teller.say(format!("IMU samples are lost, counted in each message: {why}"));
        }
    }
}
