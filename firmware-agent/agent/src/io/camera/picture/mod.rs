//! Whether a camera's picture can be looked at: black, covered, frozen or blurred, each noticed after a time and taken
//! back after another.
//!
//! What is held against what:
//! - *black*: nothing in the picture is brighter than a covered sensor's noise.
//! - *covered*: most of the picture shows nothing, and it did before. A picture that was never seen otherwise (the
//!   agent started with it) needs much longer.
//! - *frozen*: pictures that are the same in every sampled pixel; a sensor has noise. Only asked of pictures that reach
//!   us unencoded or as JPEG, which the source says: in H.264 a standing scene is truly copied from picture to picture,
//!   and how fast the vehicle goes, which would tell the two apart, is not known here.
//! - *blurred*: sharpness below what any scene of a sharp camera showed (15 recorded clips and simulated fog stay above
//!   0.25; the same clips blurred by 2.5 pixels fall to 0.20 and less), and far below the level of this camera, which is
//!   learnt: quickly upwards, slowly downwards, and not while anything is wrong.
//!
//! One fault at a time, in this order; the later ones cannot be judged behind the earlier. Times are arguments. Night,
//! rain, fog, tunnels and a low sun are not faults: tests hold that against simulated scenes and recorded clips.

mod measure;
#[cfg(test)]
mod tests;

use agent_core::time::{MonoTime, Span};

pub(crate) use measure::{Measures, Meter};

/// What is wrong with a picture, the first to be said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PictureFault {
    /// Nothing but dark.
    Black,
    /// Something is in front of the lens.
    Covered,
    /// The same picture again and again.
    Frozen,
    /// Out of focus, wet or dirty.
    Blurred,
}

impl PictureFault {
    /// Its word in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Black => "black",
            Self::Covered => "covered",
            Self::Frozen => "frozen",
            Self::Blurred => "blurred",
        }
    }
}

/// Thresholds and times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Black: one cell in a hundred at most is brighter, and when it is over.
    black: [f32; 2],
    /// Covered: share of flat tiles from which on, and below which it is over.
    flat: [f32; 2],
    /// Blurred: sharpness below which, and above which it is over.
    sharp: [f32; 2],
    /// The same as a share of the learnt sharpness: blurred is what is below both, and it is over above either.
    share: [f32; 2],
    /// How long each must last, in the order of [`PictureFault`].
    hold: [Span; 4],
    /// How long a picture must be good again.
    clear: Span,
    /// Covered since the start needs this long.
    hold_unseen: Span,
    /// Pictures that must be the same before they are frozen, besides the time.
    same_pictures: u32,
    /// Measured sharpness before the level is trusted.
    learn: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            black: [20.0, 28.0],
            flat: [0.90, 0.75],
            sharp: [0.20, 0.24],
            share: [0.45, 0.60],
            hold: [Span::from_s(5), Span::from_s(4), Span::from_s(3), Span::from_s(15)],
            clear: Span::from_s(2),
            hold_unseen: Span::from_s(60),
            same_pictures: 10,
            learn: 50,
        }
    }
}

impl Limits {
    /// For a look of a few seconds at a camera that nothing is known of: what the last picture shows is said at once, and
    /// its sharpness is held against the absolute threshold alone. Says more than [`Limits::default`]: fog is *covered*.
    pub(crate) fn glance() -> Self {
        Self {
            share: [f32::INFINITY; 2],
            // Cameras repeat pictures for as long as they expose.
            hold: [Span(0), Span(0), Span::from_ms(500), Span(0)],
            clear: Span(0),
            hold_unseen: Span(0),
            learn: 0,
            ..Self::default()
        }
    }
}

/// Every so often a picture is measured.
const MEASURE_EVERY: Span = Span::from_ms(200);
/// How fast the level of sharpness follows upwards and downwards: share of the difference per measurement (5 a second):
/// about 10 s and 10 minutes.
const UP: f32 = 0.02;
const DOWN: f32 = 0.000_33;
/// The same for the share of flat tiles that counts as "before": about 20 s.
const BEFORE: f32 = 0.01;
/// A picture of which less than this was flat before has been covered since.
const SEEN_FLAT: f32 = 0.7;

/// On after it has been so for some time, off after it has not been so for another.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    on: bool,
    since: Option<MonoTime>,
}

impl Held {
    /// `now_bad` is `None` between the thresholds, where all stays as it is.
    fn update(&mut self, t: MonoTime, now_bad: Option<bool>, hold: Span, clear: Span) {
        if now_bad != Some(!self.on) {
            // What must last begins again; between the thresholds nothing does.
            if now_bad.is_some() {
                self.since = None;
            }
            return;
        }
        let since = *self.since.get_or_insert(t);
        if t.since(since) >= if self.on { clear } else { hold } {
            *self = Self { on: !self.on, since: None };
        }
    }
}

/// Judges the pictures of one camera.
pub(crate) struct Judge {
    limits: Limits,
    meter: Meter,
    held: [Held; 4],
    next_measure: Option<MonoTime>,
    same_run: u32,
    level: Option<f32>,
    learnt: u32,
    before: Option<f32>,
    last: Option<Measures>,
}

impl Judge {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            meter: Meter::default(),
            held: [Held::default(); 4],
            next_measure: None,
            same_run: 0,
            level: None,
            learnt: 0,
            before: None,
            last: None,
        }
    }

    /// Takes a picture: RGB, rows from the top. `raw`: it was not decoded from H.264 or H.265. Gives what is wrong now.
    pub(crate) fn look(&mut self, t: MonoTime, size: (usize, usize), rgb: &[u8], raw: bool) -> Option<PictureFault> {
        if size.0 == 0 || size.1 == 0 || rgb.len() < 3 * size.0 * size.1 {
            return self.fault();
        }
        if raw {
            let same = self.meter.same(size, rgb);
            self.same_run = if same == Some(true) { self.same_run.saturating_add(1) } else { 0 };
            // A sensor that sees nothing gives the same picture for ever: that is black, not frozen.
            let dark = self.last.as_ref().is_some_and(|m| below(m.bright, self.limits.black) == Some(true));
            let frozen = !dark && self.same_run >= self.limits.same_pictures;
            self.hold(PictureFault::Frozen, t, Some(frozen));
        }
        if self.next_measure.is_none_or(|next| t >= next) {
            self.next_measure = Some(t + MEASURE_EVERY);
            let measures = self.meter.measure(size, rgb);
            self.weigh(t, &measures);
            self.last = Some(measures);
        }
        self.fault()
    }

    /// The last measurements, for `doctor` and logs.
    pub(crate) fn last(&self) -> Option<&Measures> {
        self.last.as_ref()
    }

    /// The camera was opened anew: what was learnt stays, what must last begins again.
    pub(crate) fn reopened(&mut self) {
        self.same_run = 0;
        self.held.iter_mut().for_each(|h| *h = Held::default());
    }

    fn fault(&self) -> Option<PictureFault> {
        use PictureFault::{Black, Blurred, Covered, Frozen};
        [Black, Covered, Frozen, Blurred].into_iter().find(|f| self.held[*f as usize].on)
    }

    fn hold(&mut self, fault: PictureFault, t: MonoTime, now_bad: Option<bool>) {
        let hold = self.limits.hold[fault as usize];
        self.held[fault as usize].update(t, now_bad, hold, self.limits.clear);
    }

    fn weigh(&mut self, t: MonoTime, m: &Measures) {
        let Limits { black, flat, sharp, share, .. } = self.limits;
        let is_black = below(m.bright, black);
        self.hold(PictureFault::Black, t, is_black);
        let dark = self.held[PictureFault::Black as usize].on || is_black == Some(true);
        let is_flat = if dark { Some(false) } else { below(1.0 - m.flat, flat.map(|f| 1.0 - f)) };
        let seen = self.before.is_some_and(|b| b < SEEN_FLAT);
        let hold = if seen { self.limits.hold[PictureFault::Covered as usize] } else { self.limits.hold_unseen };
        self.held[PictureFault::Covered as usize].update(t, is_flat, hold, self.limits.clear);
        let clouded = dark || is_flat != Some(false);
        if !clouded {
            let before = self.before.get_or_insert(m.flat);
            *before += (m.flat - *before) * BEFORE;
        }
        if clouded {
            // Nothing to measure on: neither better nor worse.
            return self.hold(PictureFault::Blurred, t, None);
        }
        let sharpness = m.sharpness;
        let trusted = self.learnt >= self.limits.learn;
        let level = *self.level.get_or_insert(sharpness);
        let is_blurred = match (below(sharpness, sharp), below(sharpness / level.max(1e-6), share)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
        let is_blurred = if trusted { is_blurred } else { Some(false) };
        self.hold(PictureFault::Blurred, t, is_blurred);
        if is_blurred == Some(false) && self.fault().is_none() {
            self.learnt = self.learnt.saturating_add(1);
            // The first ones are averaged.
            let pace = if sharpness > level { UP } else { DOWN };
            let pace = if trusted { pace } else { 1.0 / self.learnt as f32 };
            self.level = Some(level + (sharpness - level) * pace);
        }
    }
}

/// Below the first is bad, above the second is good, between them nothing is known.
fn below(value: f32, [bad, good]: [f32; 2]) -> Option<bool> {
    if value < bad {
        Some(true)
    } else if value > good {
        Some(false)
    } else {
        None
    }
}
