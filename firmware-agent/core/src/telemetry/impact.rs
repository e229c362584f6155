//! Finds impacts: a change of horizontal velocity that no driving makes, and that stays.
//!
//! Terms, after 49 CFR 563.5 and 563.9, applied to the horizontal resultant instead of one axis:
//! *time zero* is the first point of the first 20 ms interval in which the delta-V exceeds 0.8 km/h; the *end* is
//! the first point of the first 20 ms interval in which it is 0.8 km/h or less again (and stays so for 30 ms, so
//! that a pulse with a dip is one impact). Between time zero and the decision the shock is a *candidate*.
//!
//! A candidate becomes an impact when its delta-V within 150 ms, less what the vertical part leaks into it, passes
//! the decision threshold and has stayed there for the hold time (20 ms). Rebounding shocks are gone by then. A unit
//! that turns as no vehicle does, or has just fallen freely, is in somebody's hand: such a candidate is *held* until
//! the vehicle's speed confirms it, its delta-V is beyond any hand, or a second has passed. Where that is unclear
//! the decision waits up to 60 ms more. Speed is never waited for otherwise. Never allocates.
//!
//! Known limits. A yank on the unit without a turn, of a crash's delta-V, is taken for a crash. A vehicle struck while
//! in the air, or by less than 12 km/h while it rolls over, needs its speed to confirm it.

use super::history::{Entry, History};
use super::vec3::{V3, add, angle, conj, cross, dot, mul, norm, reject, rotate, sub, turn, unit};
use super::{Impact, TelemetryEvent};
use crate::config::TelemetryConfig;
use crate::time::{MonoTime, Span};

/// Part 563: delta-V and interval of time zero and end.
const ONSET_MPS: f64 = 0.8 / 3.6;
const ONSET: Span = Span::from_ms(20);
/// How long it must be quiet before an event has ended.
const QUIET: Span = Span::from_ms(30);
/// Part 563: the maximum delta-V is sought from 0 to 300 ms.
const MAX_DELTA_V: Span = Span::from_ms(300);
/// An impact is cut here: what shakes on for longer is another event.
const MAX_EVENT: Span = Span::from_ms(1000);
/// A candidate this old that has not passed the threshold moves its time zero up.
const STALE: Span = Span::from_ms(250);
/// How long a held candidate waits for the speed.
const HELD: Span = Span::from_ms(1000);
/// How far before time zero the turn of the unit is looked at.
const LOOK_BACK: Span = Span::from_ms(250);
/// Delta-V that no hand gives and no fall from a windscreen ends with, m/s (25 km/h).
const BEYOND_HANDS: f64 = 25.0 / 3.6;
/// The largest share of a delta-V that may come from one sample: a knock shorter than the sampling is no impact.
const MAX_ONE_SAMPLE: f64 = 0.65;
/// Once the delta-V falls below this share of the threshold, the hold starts anew.
const STAY: f64 = 0.85;
/// Below this magnitude for this long the unit is falling, m/s^2 and s; suspicion lasts for some time after.
const FALL_MPS2: f64 = 4.0;
const FALL_S: f64 = 0.06;
const SUSPICION: Span = Span::from_ms(2000);
/// How fast the allowed turn grows with the peak (1: in proportion), and the multiple of the handling peak from
/// which no hand is suspected for a turn.
const HARDER: f64 = 1.5;
const NO_HAND: f64 = 2.5;
/// How much longer than the hold an unclear candidate waits.
const UNCLEAR: Span = Span::from_ms(60);
/// What tells a blow during a roll-over from a hand: multiple of the handling peak (4.6 g) and delta-V (12 km/h).
const ROLLING_PEAK: f64 = 1.9;
const ROLLING_DELTA_V: f64 = 12.0 / 3.6;
/// Yaw rate that a vehicle may have by steering, rad/s: turned by that much is no sign of a hand.
const VEHICLE_YAW: f64 = 0.7;
/// What brakes alone may have taken from the speed meanwhile, m/s^2.
const BRAKES_MPS2: f64 = 9.0;
/// From this peak on a shock that was no impact is worth counting, m/s^2.
const DISTURBANCE_MPS2: f64 = 10.0;

/// One moment as the impact finder sees it.
pub(super) struct Step<'a> {
    pub(super) history: &'a History,
    pub(super) now: Entry,
    /// Specific force minus gravity, local frame, m/s^2.
    pub(super) accel: V3,
    /// Magnitude of the specific force itself, m/s^2.
    pub(super) force: f64,
    pub(super) dt_s: f64,
    pub(super) clipped: bool,
    /// Horizontal and vertical can be told apart.
    pub(super) up_rough: bool,
    pub(super) gyro_valid: bool,
    /// The vehicle's forward axis in sensor axes, once known.
    pub(super) forward: Option<V3>,
    /// The vehicle's speed, if it is fresh, m/s.
    pub(super) speed: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Shock {
    zero: Entry,
    up_rough: bool,
    forward: Option<V3>,
    speed_before: Option<f64>,
    max: (f64, MonoTime),
    max_window: f64,
    peak: (f64, MonoTime),
    peak_horizontal: f64,
    biggest_step: f64,
    clipped: bool,
    /// What the unit did shortly before.
    suspicion: Suspicion,
    crossed: Option<MonoTime>,
    held_until: Option<MonoTime>,
    quiet_since: Option<MonoTime>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Candidate(Shock),
    Active(Shock),
}

/// What the unit did before a shock.
#[derive(Clone, Copy, Debug)]
enum Suspicion {
    None,
    /// It tilted faster than a vehicle on its wheels: a hand, or a vehicle that rolls over.
    Tilted,
    /// It fell freely: off its mount, or a vehicle in the air.
    Fell,
}

enum Verdict {
    Wait,
    Impact,
    Hand,
}

/// Who moved the unit.
enum Mover {
    Vehicle,
    /// The turn of the unit is more than expected and less than proof, or it may have begun to fall: some tens of ms
    /// more will show.
    Unclear,
    Hand,
}

#[derive(Clone, Debug)]
pub(super) struct ImpactFinder {
    state: State,
    clipped_at: Option<MonoTime>,
    falling_s: f64,
    fell_until: Option<MonoTime>,
    tilted_until: Option<MonoTime>,
    ended_at: Option<MonoTime>,
    onset_before: f64,
    before: V3,
}

impl ImpactFinder {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            clipped_at: None,
            falling_s: 0.0,
            fell_until: None,
            tilted_until: None,
            ended_at: None,
            onset_before: 0.0,
            before: [0.0; 3],
        }
    }

    /// Whether an impact lasts, or ended within `span` before `now`.
    pub(super) fn busy(&self, now: MonoTime, span: Span) -> bool {
        matches!(self.state, State::Active(_)) || self.ended_at.is_some_and(|t| now.since(t) < span)
    }

    /// Gives up what is open, because samples are missing; an impact ends at `now`.
    pub(super) fn interrupt(&mut self, now: Entry) -> Option<TelemetryEvent> {
        let state = core::mem::replace(&mut self.state, State::Idle);
        self.onset_before = 0.0;
        self.falling_s = 0.0;
        match state {
            State::Active(shock) => {
                self.ended_at = Some(now.t);
                Some(TelemetryEvent::ImpactUpdated(shock.impact(now, true)))
            }
            State::Idle | State::Candidate(_) => None,
        }
    }

    /// Takes one moment.
    pub(super) fn step(&mut self, config: &TelemetryConfig, s: &Step<'_>) -> Option<TelemetryEvent> {
        if s.clipped {
            self.clipped_at = Some(s.now.t);
        }
        self.watch_hands(s);
        let onset = onset_delta_v(s);
        let state = core::mem::replace(&mut self.state, State::Idle);
        let (state, event) = match state {
            State::Idle => (self.open(s, onset), None),
            State::Candidate(shock) => self.weigh(config, s, onset, shock),
            State::Active(shock) => self.follow(s, onset, shock),
        };
        self.state = state;
        self.onset_before = onset;
        self.before = s.accel;
        event
    }

    fn suspicion(&self, t: MonoTime) -> Suspicion {
        if self.fell_until.is_some_and(|until| t < until) {
            Suspicion::Fell
        } else if self.tilted_until.is_some_and(|until| t < until) {
            Suspicion::Tilted
        } else {
            Suspicion::None
        }
    }

    /// Whether somebody seems to have the unit in hand at `now`.
    pub(super) fn in_hand(&self, now: MonoTime) -> bool {
        !matches!(self.suspicion(now), Suspicion::None)
    }

    /// Free fall and wild tilting make the next seconds suspicious.
    fn watch_hands(&mut self, s: &Step<'_>) {
        self.falling_s = if s.force < FALL_MPS2 { self.falling_s + s.dt_s } else { 0.0 };
        let tilted = s.history.at(s.now.t.minus(Span::from_ms(300))).is_some_and(|e| tilt(e, s.now) > 0.4);
        let in_impact = matches!(self.state, State::Active(_));
        if self.falling_s > FALL_S {
            self.fell_until = Some(s.now.t + SUSPICION);
        }
        if tilted && !in_impact {
            self.tilted_until = Some(s.now.t + SUSPICION);
        }
    }

    fn open(&self, s: &Step<'_>, onset: f64) -> State {
        if onset <= ONSET_MPS {
            return State::Idle;
        }
        // Between the sample before and this one the interval's delta-V passed the limit: interpolated.
        let over = if onset > self.onset_before { (onset - ONSET_MPS) / (onset - self.onset_before) } else { 0.0 };
        let back_ns = ONSET.0 + (over.clamp(0.0, 1.0) * s.dt_s * 1e9) as u64;
        let t = s.now.t.minus(Span(back_ns)).max(self.ended_at.unwrap_or(MonoTime::ZERO));
        let Some(zero) = s.history.at(t) else { return State::Idle };
        let mut shock = Shock {
            zero,
            up_rough: s.up_rough,
            forward: s.forward.and_then(|f| unit(flat(rotate(zero.q, f)))),
            speed_before: s.speed,
            max: (0.0, zero.t),
            max_window: 0.0,
            peak: (0.0, zero.t),
            peak_horizontal: 0.0,
            biggest_step: 0.0,
            clipped: self.clipped_at.is_some_and(|c| c >= zero.t),
            suspicion: self.suspicion(zero.t),
            crossed: None,
            held_until: None,
            quiet_since: None,
        };
        shock.update(s, onset, self.before);
        State::Candidate(shock)
    }

    fn weigh(
        &mut self,
        config: &TelemetryConfig,
        s: &Step<'_>,
        onset: f64,
        mut shock: Shock,
    ) -> (State, Option<TelemetryEvent>) {
        let now = s.now.t;
        shock.update(s, onset, self.before);
        if self.fell_until.is_some_and(|until| now < until) {
            // Pulled off and falling: what comes is the floor.
            shock.suspicion = Suspicion::Fell;
        }
        match Self::judge(config, s, &mut shock) {
            Verdict::Impact => {
                let impact = shock.impact(s.now, false);
                return (State::Active(shock), Some(TelemetryEvent::ImpactBegan(impact)));
            }
            Verdict::Hand if shock.held_until.is_none() => {
                shock.held_until = Some(now + HELD);
                shock.crossed = None;
            }
            Verdict::Hand | Verdict::Wait => {}
        }
        let over = match shock.held_until {
            Some(until) => now >= until,
            None => shock.crossed.is_none() && shock.quiet_for(now) >= QUIET,
        };
        if over {
            let peak = shock.peak.0;
            let event = (peak >= DISTURBANCE_MPS2)
                .then_some(TelemetryEvent::Disturbance { t: shock.peak.1, peak_mps2: peak as f32 });
            return (State::Idle, event);
        }
        if shock.crossed.is_none() && shock.held_until.is_none() && now.since(shock.zero.t) > STALE {
            shock.move_zero(s, config);
            shock.suspicion = self.suspicion(now);
        }
        (State::Candidate(shock), None)
    }

    /// Whether the candidate is an impact by now.
    fn judge(config: &TelemetryConfig, s: &Step<'_>, shock: &mut Shock) -> Verdict {
        let now = s.now.t;
        let threshold = f64::from(config.impact_delta_v_kmh * config.impact_decision_share) / 3.6;
        let window = Span::from_ms(u64::from(config.impact_window_ms));
        let from = now.minus(window).max(shock.zero.t);
        let Some(begin) = s.history.at(from) else { return Verdict::Wait };
        let delta = sub(s.now.v, begin.v);
        let size = shock.size(delta);
        shock.max_window = shock.max_window.max(size);
        let leak = if shock.up_rough { f64::from(config.vertical_leak_share) * delta[2].abs() } else { 0.0 };
        let decisive = size - leak;
        if let Some(before) = shock.speed_before
            && shock.held_until.is_some()
            && s.speed.is_some_and(|v| (before - v).abs() >= threshold + BRAKES_MPS2 * now.since(shock.zero.t).as_s())
        {
            return Verdict::Impact;
        }
        // Once passed, the delta-V since time zero counts too: the window slides on during the hold.
        let staying = decisive.max(shock.size(sub(s.now.v, shock.zero.v)) - leak);
        let enough = if shock.crossed.is_some() { staying >= STAY * threshold } else { decisive >= threshold };
        if !enough {
            shock.crossed = None;
            return Verdict::Wait;
        }
        let crossed = *shock.crossed.get_or_insert(now);
        let hold = Span::from_ms(u64::from(config.impact_hold_ms));
        if now.since(crossed) < hold {
            return Verdict::Wait;
        }
        if shock.biggest_step > MAX_ONE_SAMPLE * staying {
            shock.crossed = None;
            return Verdict::Wait;
        }
        if decisive >= BEYOND_HANDS {
            return Verdict::Impact;
        }
        match mover(config, s, shock, decisive) {
            Mover::Vehicle => Verdict::Impact,
            Mover::Unclear if now < crossed + hold + UNCLEAR => Verdict::Wait,
            Mover::Unclear => Verdict::Impact,
            Mover::Hand => Verdict::Hand,
        }
    }

    fn follow(&mut self, s: &Step<'_>, onset: f64, mut shock: Shock) -> (State, Option<TelemetryEvent>) {
        shock.update(s, onset, self.before);
        let now = s.now.t;
        let over = shock.quiet_for(now) >= QUIET || now.since(shock.zero.t) >= MAX_EVENT;
        let event = TelemetryEvent::ImpactUpdated(shock.impact(s.now, over));
        if over {
            self.ended_at = Some(now);
            return (State::Idle, Some(event));
        }
        (State::Active(shock), Some(event))
    }
}

impl Shock {
    /// Takes a moment into the running figures.
    fn update(&mut self, s: &Step<'_>, onset: f64, before: V3) {
        let now = s.now.t;
        self.clipped |= s.clipped;
        if onset > ONSET_MPS {
            self.quiet_since = None;
        } else if self.quiet_since.is_none() {
            // The first point of the quiet interval.
            self.quiet_since = Some(now.minus(ONSET).max(self.zero.t));
        }
        let mean = add(before, s.accel).map(|x| x * 0.5 * s.dt_s);
        self.biggest_step = self.biggest_step.max(self.size(mean));
        self.peak_horizontal = self.peak_horizontal.max(self.size(s.accel));
        let peak = norm(s.accel);
        if peak > self.peak.0 {
            self.peak = (peak, now);
        }
        let size = self.size(sub(s.now.v, self.zero.v));
        if size > self.max.0 && self.quiet_since.is_none() && now.since(self.zero.t) <= MAX_DELTA_V {
            self.max = (size, now);
        }
    }

    /// What of a vector counts: its horizontal part, or all of it while up is not known at all.
    fn size(&self, v: V3) -> f64 {
        if self.up_rough { v[0].hypot(v[1]) } else { norm(v) }
    }

    fn quiet_for(&self, now: MonoTime) -> Span {
        self.quiet_since.map_or(Span(0), |t| now.since(t + ONSET))
    }

    /// Rough road keeps a candidate open: its time zero follows, one window behind.
    fn move_zero(&mut self, s: &Step<'_>, config: &TelemetryConfig) {
        let window = Span::from_ms(u64::from(config.impact_window_ms));
        let Some(zero) = s.history.at(s.now.t.minus(window)) else { return };
        self.zero = zero;
        self.up_rough = s.up_rough;
        self.forward = s.forward.and_then(|f| unit(flat(rotate(zero.q, f))));
        self.speed_before = s.speed.or(self.speed_before);
        self.max = (0.0, zero.t);
        self.peak = (0.0, zero.t);
        self.peak_horizontal = 0.0;
        self.biggest_step = 0.0;
        self.clipped = s.clipped;
    }

    fn impact(&self, now: Entry, ended: bool) -> Impact {
        let delta = sub(now.v, self.zero.v);
        let in_axes = match self.forward {
            // Left is up x forward.
            Some(f) => [dot(delta, f), dot(delta, cross(super::vec3::UP, f))],
            None => [self.size(delta), 0.0],
        };
        Impact {
            t_zero: self.zero.t,
            t: now.t,
            delta_v_mps: [in_axes[0] as f32, in_axes[1] as f32],
            max_delta_v_mps: self.max.0 as f32,
            max_delta_v_at: self.max.1,
            delta_v_window_mps: self.max_window as f32,
            vertical_delta_v_mps: delta[2] as f32,
            axes_known: self.forward.is_some(),
            peak_mps2: self.peak.0 as f32,
            peak_at: self.peak.1,
            clipped: self.clipped,
            ended,
        }
    }
}

/// Whether the unit moved with the vehicle or against it.
fn mover(config: &TelemetryConfig, s: &Step<'_>, shock: &Shock, delta_v: f64) -> Mover {
    let peak = shock.peak_horizontal / f64::from(config.handling_peak_mps2);
    match shock.suspicion {
        Suspicion::Fell => return Mover::Hand,
        // A roll-over tilts like a hand, but hands do not strike like a vehicle.
        _ if peak >= ROLLING_PEAK && delta_v >= ROLLING_DELTA_V => return Mover::Vehicle,
        Suspicion::Tilted => return Mover::Hand,
        Suspicion::None => {}
    }
    if !s.gyro_valid {
        // Nothing tells of a turn: what a hand can do is left to the speed.
        return if peak < 1.0 { Mover::Hand } else { Mover::Vehicle };
    }
    let Some(before) = s.history.at(shock.zero.t.minus(LOOK_BACK)) else { return Mover::Vehicle };
    let most = f64::from(config.handling_tilt_rad);
    if peak >= NO_HAND {
        // A unit may break loose in a crash: only how it turned before time zero speaks of a hand.
        return if tilt(before, shock.zero) > most { Mover::Hand } else { Mover::Vehicle };
    }
    // The harder the shock, the more a vehicle may turn with it and the less it can be a hand: the turn that is
    // allowed grows from the gentle limit with the peak.
    let allowed = f64::from(config.handling_turn_rad) * (1.0 + HARDER * (peak - 1.0).max(0.0));
    let tilted = tilt(before, s.now);
    let around = (turn(before.gyro_q, s.now.gyro_q).powi(2) - tilted.powi(2)).max(0.0).sqrt();
    let steered = VEHICLE_YAW * s.now.t.since(before.t).as_s();
    let turned = tilted.hypot((around - steered).max(0.0));
    if turned > allowed || tilted > most {
        Mover::Hand
    } else if turned > 0.5 * allowed || s.force < FALL_MPS2 {
        // No weight right after a shock: it may have been the yank that took the unit off its mount.
        Mover::Unclear
    } else {
        Mover::Vehicle
    }
}

/// Delta-V of the last 20 ms, m/s.
fn onset_delta_v(s: &Step<'_>) -> f64 {
    let Some(e) = s.history.at(s.now.t.minus(ONSET)) else { return 0.0 };
    let d = sub(s.now.v, e.v);
    if s.up_rough { d[0].hypot(d[1]) } else { norm(d) }
}

fn flat(v: V3) -> V3 {
    reject(v, super::vec3::UP)
}

/// How far up moved in sensor axes between two moments by the gyroscope, rad: a turn about the vertical does not
/// count.
fn tilt(a: Entry, b: Entry) -> f64 {
    let up = rotate(conj(a.q), super::vec3::UP);
    angle(up, rotate(mul(conj(b.gyro_q), a.gyro_q), up))
}
