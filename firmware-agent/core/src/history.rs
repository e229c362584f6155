//! What the core remembers of slow things: vehicle signals at 50 Hz (the pre-crash table of an event data recorder takes
//! every fifth row; the speed at time zero of a braking vehicle needs more than a tenth of a second),
//! the last position, and how monotonic time maps to wall time.

use crate::limits::MAX_WALL_STEPS;
use crate::rings::{SampleRing, Stamped};
use crate::samples::{GnssFix, ImuSample, SignalSample, VehicleSignal};
use crate::time::{MonoTime, Span, WallQuality, WallStep, WallTime};

impl Stamped for ImuSample {
    fn t(&self) -> MonoTime {
        self.t
    }
}
impl Stamped for GnssFix {
    fn t(&self) -> MonoTime {
        self.t
    }
}
impl Stamped for Row {
    fn t(&self) -> MonoTime {
        self.t
    }
}

/// Rate of the history, rows a second: the rate at which buses send speed.
pub const ROWS_HZ: u64 = 50;
/// Rows held: 20 s before the event, an event of at most 20 s with its post-roll, and slack.
pub const ROWS: usize = 5000;
/// A bus speed older than this says nothing about now.
pub const SPEED_FRESH: Span = Span::from_ms(1000);
/// A GNSS speed older than this says nothing about now.
pub const GNSS_FRESH: Span = Span::from_ms(2000);

/// Vehicle signals at one moment; `None` where the signal never came or is stale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// When.
    pub t: MonoTime,
    /// Speed, m/s, and whether it came from the bus (true) or GNSS (false).
    pub speed_mps: Option<(f32, bool)>,
    /// Brake on.
    pub brake: Option<bool>,
    /// Accelerator pedal, percent.
    pub accelerator_pct: Option<f32>,
    /// Engine speed, rpm.
    pub engine_rpm: Option<f32>,
    /// Steering wheel angle, degrees, left positive.
    pub steering_deg: Option<f32>,
    /// ABS active.
    pub abs: Option<bool>,
    /// Stability control active.
    pub esc: Option<bool>,
}

/// A step of at least this is remembered where the quality stays; receivers and services speak some tenths late.
const STEP_MS: u64 = 500;

const SLOTS: usize = 7;

/// The history.
#[derive(Debug)]
pub struct History {
    rows: SampleRing<Row>,
    last_row: Option<MonoTime>,
    latest: [Option<(MonoTime, f32)>; SLOTS],
    gnss: Option<GnssFix>,
    wall: Option<(MonoTime, WallTime)>,
    steps: heapless::Deque<WallStep, MAX_WALL_STEPS>,
    unsaid: usize,
}

const fn slot(signal: VehicleSignal) -> Option<usize> {
    Some(match signal {
        VehicleSignal::Speed => 0,
        VehicleSignal::Brake => 1,
        VehicleSignal::Accelerator => 2,
        VehicleSignal::EngineSpeed => 3,
        VehicleSignal::SteeringAngle => 4,
        VehicleSignal::AbsActive => 5,
        VehicleSignal::EscActive => 6,
        VehicleSignal::YawRate | VehicleSignal::AirbagDeployed | VehicleSignal::Custom(_) => return None,
    })
}

impl Default for History {
    fn default() -> Self {
        Self {
            rows: SampleRing::new(ROWS, Span::from_s(ROWS as u64 / ROWS_HZ)),
            last_row: None,
            latest: [None; SLOTS],
            gnss: None,
            wall: None,
            steps: heapless::Deque::new(),
            unsaid: 0,
        }
    }
}

impl History {
    /// Takes a vehicle signal; values that are not finite are ignored.
    pub fn on_signal(&mut self, s: &SignalSample) {
        if let (Some(i), true) = (slot(s.signal), s.value.is_finite()) {
            self.latest[i] = Some((s.t, s.value));
        }
    }

    /// Takes a fix, and its wall time if it is at least as good as what is known.
    pub fn on_gnss(&mut self, fix: &GnssFix) {
        self.gnss = Some(*fix);
        if let Some(wall) = fix.wall {
            self.on_wall(fix.t, wall);
        }
    }

    /// Takes a reading of the wall clock. Returns the step in milliseconds if the mapping moved.
    pub fn on_wall(&mut self, t: MonoTime, wall: WallTime) -> Option<i64> {
        let known = self.wall_at(t);
        if known.is_some_and(|k| k.quality > wall.quality) {
            return None;
        }
        self.wall = Some((t, wall));
        let moved_ms = known.map(|k| wall.unix_ms.cast_signed().wrapping_sub(k.unix_ms.cast_signed()));
        let from = known.map_or(WallQuality::None, |k| k.quality);
        if wall.quality > from || moved_ms.is_some_and(|ms| ms.unsigned_abs() >= STEP_MS) {
            if self.steps.is_full() {
                self.steps.pop_front();
            }
            // There is room now.
            let _ = self.steps.push_back(WallStep { t, from, to: wall.quality, moved_ms });
            self.unsaid = (self.unsaid + 1).min(MAX_WALL_STEPS);
        }
        moved_ms
    }

    /// The last steps of the wall clock, oldest first.
    pub fn wall_steps(&self) -> impl Iterator<Item = &WallStep> {
        self.steps.iter()
    }

    /// The next step that was not asked for yet.
    pub fn next_wall_step(&mut self) -> Option<WallStep> {
        let at = self.steps.len().checked_sub(self.unsaid)?;
        let step = self.steps.iter().nth(at).copied()?;
        self.unsaid -= 1;
        Some(step)
    }

    /// Wall time at `t`, as far as it is known.
    #[must_use]
    pub fn wall_at(&self, t: MonoTime) -> Option<WallTime> {
        let (at, wall) = self.wall?;
        if wall.quality == WallQuality::None {
            return None;
        }
        let unix_ms = wall.unix_ms.saturating_add_signed(i64::from(t.ms_from(at)));
        Some(WallTime { unix_ms, quality: wall.quality })
    }

    /// The last fix.
    #[must_use]
    pub const fn position(&self) -> Option<&GnssFix> {
        self.gnss.as_ref()
    }

    fn fresh(&self, signal: VehicleSignal, now: MonoTime) -> Option<f32> {
        let (t, value) = self.latest[slot(signal)?]?;
        (now.since(t) <= SPEED_FRESH).then_some(value)
    }

    /// Speed now, m/s, from the bus if it is fresh, else from GNSS if that is; true when from the bus.
    #[must_use]
    pub fn speed(&self, now: MonoTime) -> Option<(f32, bool)> {
        self.fresh(VehicleSignal::Speed, now).map(|v| (v, true)).or_else(|| {
            self.gnss.filter(|f| now.since(f.t) <= GNSS_FRESH && f.speed_mps.is_finite()).map(|f| (f.speed_mps, false))
        })
    }

    /// The brake pedal now, if the bus says it.
    #[must_use]
    pub fn brake(&self, now: MonoTime) -> Option<bool> {
        self.fresh(VehicleSignal::Brake, now).map(|v| v > 0.5)
    }

    /// Adds a row if a fiftieth of a second has passed. Call at each input.
    pub fn tick(&mut self, now: MonoTime) {
        if self.last_row.is_some_and(|t| now.since(t) < Span(1_000_000_000 / ROWS_HZ)) {
            return;
        }
        self.last_row = Some(now);
        let on = |v: f32| v > 0.5;
        let row = Row {
            t: now,
            speed_mps: self.speed(now),
            brake: self.fresh(VehicleSignal::Brake, now).map(on),
            accelerator_pct: self.fresh(VehicleSignal::Accelerator, now),
            engine_rpm: self.fresh(VehicleSignal::EngineSpeed, now),
            steering_deg: self.fresh(VehicleSignal::SteeringAngle, now),
            abs: self.fresh(VehicleSignal::AbsActive, now).map(on),
            esc: self.fresh(VehicleSignal::EscActive, now).map(on),
        };
        self.rows.push(row, None);
    }

    /// Rows from `from` to `to`, oldest first.
    pub fn rows(&self, from: MonoTime, to: MonoTime) -> impl DoubleEndedIterator<Item = &Row> {
        self.rows.range(from, to)
    }

    /// The row in force at `t`.
    #[must_use]
    pub fn row_at(&self, t: MonoTime) -> Option<&Row> {
        self.rows.at(t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_bus_speed_gives_way_to_gnss_and_then_to_nothing() {
        let mut h = History::default();
        let t = MonoTime::from_s(10.0);
        h.on_signal(&SignalSample { t, signal: VehicleSignal::Speed, value: 20.0 });
        h.on_gnss(&GnssFix {
            t: t + Span::from_ms(500),
            lat_deg: 0.0,
            lon_deg: 0.0,
            alt_m: 0.0,
            speed_mps: 19.0,
            course_deg: 0.0,
            accuracy_m: None,
            wall: None,
        });
        assert_eq!(h.speed(t + Span::from_ms(900)), Some((20.0, true)));
        assert_eq!(h.speed(t + Span::from_ms(1100)), Some((19.0, false)));
        assert_eq!(h.speed(t + Span::from_ms(2600)), None);
    }

    #[test]
    fn a_worse_clock_never_replaces_a_better_one() {
        let mut h = History::default();
        let t = MonoTime::from_s(1.0);
        assert_eq!(h.on_wall(t, WallTime { unix_ms: 1000, quality: WallQuality::Rtc }), None);
        assert_eq!(h.on_wall(t, WallTime { unix_ms: 6000, quality: WallQuality::Gnss }), Some(5000));
        assert_eq!(h.on_wall(t, WallTime { unix_ms: 1, quality: WallQuality::Ntp }), None);
        assert_eq!(h.wall_at(MonoTime::from_s(2.0)).map(|w| w.unix_ms), Some(7000));
        let step = |from, to, moved_ms| WallStep { t, from, to, moved_ms };
        let steps =
            [step(WallQuality::None, WallQuality::Rtc, None), step(WallQuality::Rtc, WallQuality::Gnss, Some(5000))];
        assert!(h.wall_steps().eq(&steps));
        assert_eq!(h.next_wall_step(), Some(steps[0]));
        // A receiver that speaks late is no step; a clock that was set is.
        h.on_wall(t, WallTime { unix_ms: 6300, quality: WallQuality::Gnss });
        h.on_wall(t, WallTime { unix_ms: 66_300, quality: WallQuality::Gnss });
        let said: Vec<String> = core::iter::from_fn(|| h.next_wall_step().map(|s| s.to_string())).collect();
        assert_eq!(
            said,
            [
                "wall time: from GNSS, before from the RTC; it moved by +5.000 s",
                "wall time: from GNSS, before from GNSS; it moved by +60.000 s"
            ]
        );
        for minute in 0..20 {
            h.on_wall(t, WallTime { unix_ms: minute * 60_000, quality: WallQuality::Gnss });
        }
        assert_eq!(core::iter::from_fn(|| h.next_wall_step()).count(), MAX_WALL_STEPS);
    }
}
