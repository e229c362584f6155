//! The truth about a simulated drive, as it stands in `DRIVE.truth.json`.

use serde::Serialize;

use super::scenario::KINDS;
use super::state::{ActorKind, RoadKind};
use super::wording::{CAUSES, DESCRIPTIONS, PREVENTIONS, Words, words};

/// Version of the format.
pub const FORMAT: &str = "firmware-agent simulated drive truth 1";

/// How bad it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A contact, of the ego vehicle or of others in view.
    Collision,
    /// No contact, but only just.
    NearCollision,
    /// Neither.
    Normal,
}

/// Which part of all seeds a seed belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To train on: 8 of 10.
    Train,
    /// To choose by: 1 of 10.
    Validation,
    /// To report: 1 of 10.
    Test,
}

/// The split of a seed, whatever the scenario: the only rule by which training and test drives are kept apart.
#[must_use]
pub fn split_of(seed: u64) -> Split {
    // The finaliser of SplitMix64, so that neighbouring seeds fall anywhere.
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    match (z ^ (z >> 31)) % 10 {
        0 => Split::Test,
        1 => Split::Validation,
        _ => Split::Train,
    }
}

/// A code and its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Stable code.
    pub code: &'static str,
    /// The words.
    pub text: &'static str,
}

impl Label {
    fn of(set: &'static [Words], code: &'static str) -> Self {
        Self { code, text: words(set, code).unwrap_or("") }
    }

    /// A description by its code.
    #[must_use]
    pub fn description(code: &'static str) -> Self {
        Self::of(&DESCRIPTIONS, code)
    }

    /// A cause by its code.
    #[must_use]
    pub fn cause(code: &'static str) -> Self {
        Self::of(&CAUSES, code)
    }

    /// A prevention by its code.
    #[must_use]
    pub fn prevention(code: &'static str) -> Self {
        Self::of(&PREVENTIONS, code)
    }
}

/// A contact between two bodies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContactTruth {
    /// When they touch, s.
    pub t_s: f64,
    /// Who: 0 is the ego vehicle, the others by their id; the kerb has none.
    pub who: [Option<u32>; 2],
    /// What they are.
    pub kinds: [&'static str; 2],
    /// Speed at which their points of contact near each other, m/s.
    pub closing_mps: f64,
    /// Coefficient of restitution.
    pub restitution: f64,
    /// Length of the pulse, ms.
    pub pulse_ms: usize,
    /// Change of velocity of the ego vehicle by the force of the contact alone, forward and left, m/s; zeros if it
    /// takes no part.
    pub ego_delta_v_mps: [f64; 2],
    /// Where it was struck, degrees from straight ahead of its middle, left positive; only with the ego vehicle.
    pub bearing_deg: Option<f64>,
}

/// The event of a collision or near collision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventTruth {
    /// First contact, s; of a near collision the instant of the least time to collision.
    pub contact_s: f64,
    /// Crash interval, s: from the first contact until all who took part stand, at most 2.5 s; `None` without contact.
    pub crash_interval_s: Option<[f64; 2]>,
    /// First visible sign of the danger, s.
    pub first_sign_s: f64,
    /// Whether that sign is in the camera's view before the contact.
    pub sign_in_view: bool,
    /// When the ego driver begins to brake or steer for it, s.
    pub answered_s: Option<f64>,
    /// Whether the ego vehicle takes part.
    pub ego_takes_part: bool,
    /// Speed of the ego vehicle at that time, m/s.
    pub ego_speed_mps: f64,
    /// Change of velocity of the ego vehicle by everything over the pulse, forward and left, m/s: what a recorder that
    /// integrates finds.
    pub recorder_delta_v_mps: [f64; 2],
    /// Largest change of velocity within 150 ms about the contact, km/h (49 CFR 563.9 asks for 8).
    pub delta_v_150ms_kmh: f64,
    /// Largest horizontal acceleration of the body, m/s^2, over 10 ms.
    pub peak_mps2: f64,
    /// The airbag's bit, s.
    pub airbag_s: Option<f64>,
}

/// How close it came outside contacts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClosestTruth {
    /// Least time to collision at unchanged speeds, s, if any was below 4.5.
    pub ttc_s: Option<f64>,
    /// When, s.
    pub at_s: Option<f64>,
    /// Least gap to a road user of the scenario at 3 m/s or more, m.
    pub gap_m: Option<f64>,
    /// Hardest braking, m/s^2.
    pub braking_mps2: f64,
}

/// The sensors' true errors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SensorTruth {
    /// Rows: forward, left and up of the vehicle in sensor axes.
    pub vehicle_from_sensor: [[f64; 3]; 3],
    /// m/s^2, sensor axes.
    pub accel_bias_mps2: [f64; 3],
    /// rad/s, sensor axes.
    pub gyro_bias_rps: [f64; 3],
    /// Times without a fix, s.
    pub gnss_outages_s: Vec<(f64, f64)>,
    /// Focal length over image width, and first radial coefficient.
    pub camera: [f64; 2],
}

/// One road user in one frame, in the ego vehicle's axes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackTruth {
    /// The same over the drive.
    pub id: u32,
    /// What it is.
    pub kind: &'static str,
    /// From the middle of the ego vehicle: forward, left, m.
    pub at_m: [f64; 2],
    /// Speed over the ground, m/s.
    pub speed_mps: f64,
    /// Box in the image if it is seen: left, top, right, bottom, pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub box_px: Option<[f32; 4]>,
    /// Share of it that is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible: Option<f32>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameTruth {
    /// When, s.
    pub t_s: f64,
    /// Speed of the ego vehicle, m/s.
    pub ego_mps: f64,
    /// Whom it shows, and who is near.
    pub tracks: Vec<TrackTruth>,
}

/// The truth about a drive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DriveTruth {
    /// [`FORMAT`].
    pub format: &'static str,
    /// Always true: nothing here was recorded.
    pub simulated: bool,
    /// Name of the scenario.
    pub scenario: String,
    /// Seed.
    pub seed: u64,
    /// Which split the seed belongs to.
    pub split: Split,
    /// How often the scenario was drawn until it ended as it is meant to.
    pub draws: u64,
    /// Length, s.
    pub length_s: f64,
    /// Way driven, m.
    pub way_m: f64,
    /// Kind of road.
    pub road: &'static str,
    /// Kind of the ego vehicle.
    pub ego_kind: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What happened.
    pub description: Label,
    /// Why.
    pub cause: Label,
    /// What would have helped.
    pub prevention: Label,
    /// Cause code of a danger, also where nothing came of it.
    pub danger: &'static str,
    /// The event, if there is one.
    pub event: Option<EventTruth>,
    /// Every contact, in order of time.
    pub contacts: Vec<ContactTruth>,
    /// How close it came.
    pub closest: ClosestTruth,
    /// Rain, fog, wet road: 0 to 1; night; friction of the tyres.
    pub weather: WeatherTruth,
    /// The sensors' true errors.
    pub sensors: SensorTruth,
}

/// Weather in figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WeatherTruth {
    /// 0 to 1.
    pub rain: f32,
    /// 0 to 1.
    pub fog: f32,
    /// 0 to 1.
    pub wet: f32,
    /// No sun.
    pub night: bool,
    /// Friction of the tyres.
    pub mu: f64,
}

/// Name of a kind, as in scenario files.
#[must_use]
pub fn kind_name(kind: ActorKind) -> &'static str {
    KINDS.iter().find(|(_, k)| *k == kind).map_or("car", |(name, _)| name)
}

/// Name of a kind of road.
#[must_use]
pub const fn road_name(kind: RoadKind) -> &'static str {
    match kind {
        RoadKind::Town => "town",
        RoadKind::Motorway => "motorway",
        RoadKind::Country => "country",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_split_eight_to_one_to_one() {
        let count = |split| (0..100_000).filter(|s| split_of(*s) == split).count();
        assert!((9_700..10_300).contains(&count(Split::Test)), "{}", count(Split::Test));
        assert!((9_700..10_300).contains(&count(Split::Validation)));
        // The rule is fixed: a seed never changes sides.
        let first: Vec<u64> = (0..200).filter(|s| split_of(*s) == Split::Test).take(5).collect();
        assert_eq!(first, TEST_SEEDS);
    }

    const TEST_SEEDS: [u64; 5] = [2, 18, 29, 30, 31];
}
