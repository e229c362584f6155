//! The vision trigger: detector boxes to tracks, tracks to looming and time to collision, and one risk per frame.
//!
//! *Looming* is the relative growth of an object's image, 1/s; its inverse is the *time to collision*. A *cue* is one
//! way in which a collision shows; the *risk* of a frame joins the cues and is smoothed over time, so that
//! one wrong box does not make an event. Boxes may be anything a detector says, NaN included; time may jump. Fixed
//! size, no clock, no pixels; the same input gives the same output on the same machine type (exp and ln are the
//! platform's).

mod cues;
mod features;
mod geometry;
mod slope;
mod track;
mod tracker;

use crate::config::VisionConfig;
use crate::limits::{MAX_DETECTIONS, MAX_TRACKS, OBJECT_TABLE};
use crate::samples::ImuSample;
use crate::time::{MonoTime, Span};
use cues::{Camera, Seen};
pub use features::{
    FEATURES_VERSION, GLOBAL_FEATURES, LIMIT, RISK_GAP, RISK_SLOTS, RISK_STEP, RiskFeatures, RiskModel, RiskScores,
    SLOT_FEATURES, Vehicle,
};
use features::{Featurer, MotionSense};
use tracker::Tracker;

/// Classes that matter on the road; detectors' own classes are mapped to these by their manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectClass {
    /// Person on foot.
    Person,
    /// Bicycle, with or without rider.
    Bicycle,
    /// Motorbike or scooter.
    Motorcycle,
    /// Car or van.
    Car,
    /// Bus.
    Bus,
    /// Lorry.
    Truck,
    /// Anything else.
    Other,
}

/// A box in fractions of the frame: x right, y down, origin top left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
}

/// One box of a detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// What.
    pub class: ObjectClass,
    /// Score, 0 to 1.
    pub score: f32,
    /// Where.
    pub bbox: BBox,
}

/// Detections of one frame, strongest first.
pub type Detections = heapless::Vec<Detection, MAX_DETECTIONS>;

/// One row of the object table that the student will read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackedObject {
    /// Identity of the track, unique within a drive.
    pub track: u32,
    /// Class.
    pub class: ObjectClass,
    /// Box now.
    pub bbox: BBox,
    /// Rough distance from the height of the box and the usual height of the class, m.
    pub distance_m: Option<f32>,
    /// Motion of the centre of the box, fractions of the frame a second (x, y).
    pub flow_per_s: Option<[f32; 2]>,
    /// Closing speed, m/s, approaching positive.
    pub closing_mps: Option<f32>,
    /// Time to collision from looming, s.
    pub ttc_s: Option<f32>,
}

/// What the vision trigger says of one frame.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VisionAssessment {
    /// Risk of a collision, of this vehicle or in view, in the next 2 s: 0 to 1. A calibrated probability when a risk
    /// head says it, a rule's figure otherwise.
    pub risk: f32,
    /// Probability that a collision has just begun, by the risk head; `None` without one.
    pub contact: Option<f32>,
    /// The rule's figure where it judges beside a risk head, 0 to 1; `None` where it does not, or stands in `risk`.
    pub rule: Option<f32>,
    /// Shortest time to collision of an object in the way, s.
    pub ttc_s: Option<f32>,
    /// The nearest objects.
    pub objects: heapless::Vec<TrackedObject, OBJECT_TABLE>,
}

impl VisionAssessment {
    /// The strongest of a collision ahead, one that has just begun, and the rule's figure where it judges too.
    #[must_use]
    pub fn strongest(&self) -> f32 {
        self.risk.max(self.contact.unwrap_or(0.0)).max(self.rule.unwrap_or(0.0))
    }
}

/// Risk rises to a steady cue with this time constant, s. At 0.08 s the cues of one bad track of a motorway clip
/// reached 0.89, among the crashes; what is real lasts longer than what a detector makes up.
const RISE_S: f32 = 0.25;
/// And falls with this one, s: a collision hides what led to it.
const FALL_S: f32 = 0.5;
/// After the first frame, or the first one after a gap, no risk is said for this long: the slopes of tracks reach back 0.8 s,
/// and those of boxes that have just appeared are the detector settling, not the road. (3 of 6 ordinary simulated drives
/// had a false near collision 0.6 to 0.8 s after their first frame without this.)
const SETTLE: Span = Span::from_ms(1500);
/// Longest step of time that smoothing believes in, s.
const MAX_STEP_S: f32 = 0.5;

/// The cues of one frame before smoothing, each 0 to 1: why a risk rose.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Cues {
    /// An object looms on a course that meets this vehicle.
    pub ego: f32,
    /// Two objects at one depth close in on each other.
    pub pair: f32,
    /// A rider or walker falls.
    pub fall: f32,
}

impl Cues {
    /// The probability that at least one holds, were they independent: no cue is lost, none counts twice over.
    fn joined(self) -> f32 {
        (1.0 - (1.0 - self.ego) * (1.0 - self.pair) * (1.0 - self.fall)).clamp(0.0, 1.0)
    }
}

/// The vision trigger.
#[derive(Clone, Debug)]
pub struct VisionTrigger {
    config: VisionConfig,
    tracker: Tracker,
    risk: f32,
    cues: Cues,
    last: Option<MonoTime>,
    /// First frame of the stream without a gap.
    begun: Option<MonoTime>,
    featurer: Featurer,
    sense: MotionSense,
    scores: Option<RiskScores>,
}

/// A track that a detector missed for no longer than this is still put to the head.
const MISSED: Span = Span::from_ms(250);

impl VisionTrigger {
    /// A trigger without tracks.
    #[must_use]
    pub fn new(config: VisionConfig) -> Self {
        Self {
            config,
            tracker: Tracker::default(),
            risk: 0.0,
            cues: Cues::default(),
            last: None,
            begun: None,
            featurer: Featurer::default(),
            sense: MotionSense::default(),
            scores: None,
        }
    }

    /// Takes the detections of the frame captured at `t`. `aspect` is width over height of the frame; `ego_speed_mps`
    /// the vehicle's speed if known. A frame not later than the one before changes nothing and repeats its risk.
    pub fn on_detections(
        &mut self,
        t: MonoTime,
        detections: &[Detection],
        aspect: f32,
        ego_speed_mps: Option<f32>,
    ) -> VisionAssessment {
        self.assess(t, detections, aspect, Vehicle { speed_mps: ego_speed_mps, brake: None }, None)
    }

    /// An inertial sample, for the risk head.
    pub fn on_imu(&mut self, s: &ImuSample) {
        self.sense.on_imu(s);
    }

    /// The telemetry trigger found an impact of the vehicle, for the risk head.
    pub fn on_impact(&mut self, t: MonoTime, delta_v_mps: f32) {
        self.sense.on_impact(t, delta_v_mps);
    }

    /// As [`Self::on_detections`], with what is known of the vehicle and with a risk head: what the head says takes the
    /// place of the cues' risk, and holds until its next step.
    pub fn assess(
        &mut self,
        t: MonoTime,
        detections: &[Detection],
        aspect: f32,
        vehicle: Vehicle,
        head: Option<&mut dyn RiskModel>,
    ) -> VisionAssessment {
        let ego_speed_mps = vehicle.speed_mps;
        let step_s = match self.last {
            Some(last) if t <= last => {
                return self.said();
            }
            Some(last) => (t.since(last).as_s() as f32).min(MAX_STEP_S),
            None => 0.04,
        };
        if self.last.is_none_or(|last| t.since(last) > RISK_GAP) {
            self.begun = Some(t);
        }
        self.last = Some(t);
        let settling = self.begun.is_none_or(|begun| t.since(begun) < SETTLE);
        let cam = camera(&self.config, aspect);
        self.tracker.update(t, detections, cam.aspect, self.config.min_score);
        let seen: heapless::Vec<Seen<'_>, MAX_TRACKS> =
            self.tracker.confirmed(t).map(|k| Seen::new(k, cam)).take(MAX_TRACKS).collect();
        self.cues = strongest(&seen, ego_speed_mps);
        let now = self.cues.joined();
        let tau = if now > self.risk { RISE_S } else { FALL_S };
        self.risk = (self.risk + (now - self.risk) * (1.0 - (-step_s / tau).exp())).clamp(0.0, 1.0);
        if settling {
            self.risk = 0.0;
        }
        let ttc_s = seen.iter().filter(|s| cues::in_the_way(s)).filter_map(Seen::ttc_s).reduce(f32::min);
        let objects = nearest(&seen);
        match head {
            Some(head) => {
                let recent: heapless::Vec<Seen<'_>, MAX_TRACKS> =
                    self.tracker.recent(t, MISSED).map(|k| Seen::new(k, cam)).take(MAX_TRACKS).collect();
                let close = Cues { ego: strongest_ego(&seen, ego_speed_mps, cues::CLOSE), ..self.cues };
                if let Some(features) = self.featurer.at(t, &recent, close, &mut self.sense, vehicle) {
                    self.scores = head.step(&features).map(RiskScores::bounded).filter(|_| !settling);
                }
            }
            None => self.scores = None,
        }
        VisionAssessment { ttc_s, objects, ..self.said() }
    }

    /// Risk, contact and the rule's figure as they stand.
    fn said(&self) -> VisionAssessment {
        match self.scores {
            Some(s) => {
                let rule = self.config.rule_beside.then_some(self.risk);
                VisionAssessment { risk: s.ahead, contact: Some(s.now), rule, ..VisionAssessment::default() }
            }
            None => VisionAssessment { risk: self.risk, ..VisionAssessment::default() },
        }
    }

    /// The cues of the last frame, unsmoothed.
    #[must_use]
    pub const fn cues(&self) -> Cues {
        self.cues
    }

    /// Boxes that found no place because all tracks were taken, since the start.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.tracker.left_out()
    }
}

fn camera(config: &VisionConfig, aspect: f32) -> Camera {
    // A field of view or an aspect that no camera has is replaced by a usual one rather than believed.
    let hfov = if (10.0..=170.0).contains(&config.hfov_deg) { config.hfov_deg } else { 70.0 };
    let aspect = if (0.2..=5.0).contains(&aspect) { aspect } else { 16.0 / 9.0 };
    Camera { focal: 0.5 / (0.5 * hfov.to_radians()).tan(), aspect }
}

/// Tracks that are large enough for a cue.
fn large<'s, 'a>(seen: &'s [Seen<'a>]) -> impl Iterator<Item = &'s Seen<'a>> {
    seen.iter().filter(|s| s.track.last.h >= geometry::CUE_HEIGHT).take(MAX_TRACKS)
}

fn strongest_ego(seen: &[Seen<'_>], ego_speed_mps: Option<f32>, course: cues::Course) -> f32 {
    large(seen).map(|s| cues::ego(s, ego_speed_mps, course)).fold(0.0, f32::max)
}

fn strongest(seen: &[Seen<'_>], ego_speed_mps: Option<f32>) -> Cues {
    let mut cues = Cues { ego: strongest_ego(seen, ego_speed_mps, cues::MEETS), ..Cues::default() };
    let large: heapless::Vec<&Seen<'_>, MAX_TRACKS> = large(seen).collect();
    for (i, a) in large.iter().enumerate() {
        cues.fall = cues.fall.max(cues::fall(a));
        for b in large.iter().skip(i + 1) {
            cues.pair = cues.pair.max(cues::pair(a, b));
        }
    }
    cues
}

/// The nearest objects, nearest first; among equals, and after those of known distance, the older track.
fn nearest(seen: &[Seen<'_>]) -> heapless::Vec<TrackedObject, OBJECT_TABLE> {
    let mut order: heapless::Vec<&Seen<'_>, MAX_TRACKS> = seen.iter().take(MAX_TRACKS).collect();
    let key = |s: &Seen<'_>| s.distance_m.unwrap_or(if s.track.last.h > 0.5 { 0.0 } else { f32::MAX });
    order.sort_unstable_by(|a, b| key(a).total_cmp(&key(b)).then(a.track.id.cmp(&b.track.id)));
    order.iter().take(OBJECT_TABLE).map(|s| s.row()).collect()
}
