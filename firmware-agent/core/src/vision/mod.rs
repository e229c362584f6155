//! The vision trigger: detector boxes to tracks, tracks to looming and time to collision, and one risk per frame.

use crate::config::VisionConfig;
use crate::limits::{MAX_DETECTIONS, OBJECT_TABLE};
use crate::time::MonoTime;

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
    /// Risk of a collision, of this vehicle or in view, now or in the next 2 s: 0 to 1.
    pub risk: f32,
    /// Shortest time to collision of an object in the way, s.
    pub ttc_s: Option<f32>,
    /// The nearest objects.
    pub objects: heapless::Vec<TrackedObject, OBJECT_TABLE>,
}

/// The vision trigger.
#[derive(Clone, Debug)]
pub struct VisionTrigger {
    config: VisionConfig,
}

impl VisionTrigger {
    /// A trigger without tracks.
    #[must_use]
    pub fn new(config: VisionConfig) -> Self {
        Self { config }
    }

    /// Takes the detections of the frame captured at `t`. `aspect` is width over height of the frame; `ego_speed_mps`
    /// the vehicle's speed if known.
    pub fn on_detections(
        &mut self,
        _t: MonoTime,
        _detections: &[Detection],
        _aspect: f32,
        _ego_speed_mps: Option<f32>,
    ) -> VisionAssessment {
        let _ = &self.config;
        VisionAssessment::default()
    }
}
