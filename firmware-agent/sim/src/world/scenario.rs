//! What a scenario file says: ranges to draw a drive from.
//!
//! TOML. Every number may be given as one value or as `[low, high]`, from which each seed draws. Unknown keys, values
//! out of bounds and lists that are too long are refused with the line.

use core::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::state::{ActorKind, RoadKind};
use crate::limits::{DRIVE_S, SCENARIO_ACTORS, SCENARIO_BYTES, SCENARIO_CHOICES};
use crate::rng::Rng;

/// Why a scenario file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// Longer than the cap.
    #[error("the file has {0} bytes, more than {SCENARIO_BYTES}")]
    TooLong(usize),
    /// No TOML, an unknown key, or a value of the wrong kind; the text names line and column.
    #[error("{0}")]
    Toml(String),
    /// A value out of its bounds.
    #[error("line {line}: {what}")]
    Value {
        /// From 1.
        line: usize,
        /// Which value, and its bounds.
        what: String,
    },
    /// No draw of this seed gave the outcome that the scenario is for.
    #[error("scenario {name}, seed {seed}: none of {attempts} draws ends as {expect}")]
    NoDraw {
        /// Scenario.
        name: String,
        /// Seed.
        seed: u64,
        /// How often it was tried.
        attempts: u64,
        /// What it is for.
        expect: &'static str,
    },
}

/// One value or a range to draw from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Range {
    pub(crate) const fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    pub(crate) fn draw(self, rng: &mut Rng) -> f64 {
        rng.between(self.low, self.high)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Range;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or [low, high]")
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Range, E> {
                if !v.is_finite() {
                    return Err(E::custom("not a finite number"));
                }
                Ok(Range::new(v, v))
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Range, E> {
                self.visit_f64(v as f64)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Range, A::Error> {
                let low: Option<Number> = seq.next_element()?;
                let high: Option<Number> = seq.next_element()?;
                match (low, high, seq.next_element::<Number>()?) {
                    (Some(low), Some(high), None) if low.0 <= high.0 => Ok(Range::new(low.0, high.0)),
                    (Some(low), Some(high), None) => {
                        Err(A::Error::custom(format!("the range [{}, {}] runs backwards", low.0, high.0)))
                    }
                    _ => Err(A::Error::custom("a range has two numbers")),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A finite number, whole or not.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let v = f64::deserialize(deserializer)?;
        if v.is_finite() { Ok(Self(v)) } else { Err(D::Error::custom("not a finite number")) }
    }
}

/// How a drive of a scenario must end; draws that end otherwise are drawn anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The ego vehicle collides.
    Collision,
    /// Others collide in view of the ego vehicle.
    CollisionOfOthers,
    /// No contact, but only just.
    NearCollision,
    /// Nothing of the kind.
    Normal,
}

impl Expect {
    /// As it stands in a scenario file.
    pub(crate) const fn line(self) -> &'static str {
        match self {
            Self::Collision => "expect = \"collision\"",
            Self::CollisionOfOthers => "expect = \"collision_of_others\"",
            Self::NearCollision => "expect = \"near_collision\"",
            Self::Normal => "expect = \"normal\"",
        }
    }

    /// In words, for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Collision => "a collision of the ego vehicle",
            Self::CollisionOfOthers => "a collision of others",
            Self::NearCollision => "a near collision",
            Self::Normal => "normal driving",
        }
    }
}

/// What the ego driver does of their own accord.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EgoAct {
    /// Drives on.
    #[default]
    Cruise,
    /// Brakes hard with nothing there.
    EmergencyStop,
    /// Stops at a traffic light or a line, and goes on.
    Stop,
    /// Stands all the time.
    Stand,
    /// Parks at the kerb and touches it.
    Park,
    /// Leaves the lane to the right without meaning to.
    Drift,
    /// The same, but notices it `reaction_s` after it shows and steers back.
    DriftBack,
    /// Rolls slowly all the time.
    Creep,
    /// Turns into another street.
    Turn,
    /// Drives into the junction although it must not.
    RunLight,
}

/// What an actor of the scenario is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Drives ahead and brakes at the event.
    LeadBrakes,
    /// Stands in the lane ahead.
    LeadStands,
    /// Stands at the roadside, partly in the way.
    Parked,
    /// Comes from the neighbouring lane with little room.
    CutIn,
    /// Leaves the roadside.
    PullOut,
    /// Crosses at the junction.
    Cross,
    /// Comes to the junction and stops there.
    Yields,
    /// Stands at the roadside on foot.
    Waits,
    /// Comes towards us and turns left before us.
    TurnAcross,
    /// Walks or runs across the road.
    StepOut,
    /// A two-wheeler ahead that swings out.
    SwingOut,
    /// A two-wheeler ahead that falls.
    Falls,
    /// Lies or stands in the lane.
    Obstacle,
    /// Follows and does not stop.
    Follower,
    /// Comes into our lane from ahead.
    Oncoming,
    /// Of two others: the one ahead, which brakes.
    PairFront,
    /// Of two others: the one behind, which does not.
    PairBack,
    /// Of two others: drives ahead through the junction.
    PairThrough,
    /// Of two others: crosses its way at the junction.
    PairCross,
    /// Of two others: walks before the one ahead.
    PairWalker,
}

/// Side of the road as the ego driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    Left,
    Right,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEgo {
    pub(crate) speed_kmh: Spanned<Range>,
    #[serde(default)]
    pub(crate) act: EgoAct,
    /// From the event until the driver answers it, s.
    pub(crate) reaction_s: Option<Spanned<Range>>,
    pub(crate) brake_mps2: Option<Spanned<Range>>,
    /// Sideways way of an evasion, m, left positive.
    pub(crate) swerve_m: Option<Spanned<Range>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawActor {
    pub(crate) role: Role,
    pub(crate) kind: Spanned<Vec<String>>,
    pub(crate) side: Option<Side>,
    pub(crate) speed_kmh: Option<Spanned<Range>>,
    pub(crate) headway_s: Option<Spanned<Range>>,
    pub(crate) brake_mps2: Option<Spanned<Range>>,
    pub(crate) reaction_s: Option<Spanned<Range>>,
    pub(crate) offset_s: Option<Spanned<Range>>,
    pub(crate) lateral_m: Option<Spanned<Range>>,
    #[serde(default)]
    pub(crate) runs_light: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWeather {
    /// Chance of night, of low sun ahead.
    pub(crate) night: Option<Spanned<f64>>,
    pub(crate) low_sun: Option<Spanned<f64>>,
    /// Chance of rain and of fog, and how much if so.
    pub(crate) rain_chance: Option<Spanned<f64>>,
    pub(crate) rain: Option<Spanned<Range>>,
    pub(crate) fog_chance: Option<Spanned<f64>>,
    pub(crate) fog: Option<Spanned<Range>>,
    #[serde(default)]
    pub(crate) wipers: bool,
    #[serde(default)]
    pub(crate) car_wash: bool,
}

/// Something that shakes the vehicle or the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hazard {
    Pothole,
    SpeedBump,
    LevelCrossing,
    SlammedDoor,
    UnitKnocked,
    Tunnel,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Spanned<String>,
    text: Spanned<String>,
    expect: Expect,
    road: Spanned<Vec<String>>,
    length_s: Spanned<Range>,
    event_s: Spanned<Range>,
    /// 0 empty to 1 dense.
    traffic: Option<Spanned<Range>>,
    /// A junction at the event, and whether it has lights.
    #[serde(default)]
    junction: bool,
    #[serde(default)]
    lights: bool,
    #[serde(default)]
    hazard: Vec<Hazard>,
    ego: RawEgo,
    #[serde(default)]
    actor: Vec<RawActor>,
    #[serde(default)]
    weather: RawWeather,
}

/// A scenario that was read and checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) expect: Expect,
    pub(crate) road: Vec<RoadKind>,
    pub(crate) length_s: Range,
    pub(crate) event_s: Range,
    pub(crate) traffic: Range,
    pub(crate) junction: bool,
    pub(crate) lights: bool,
    pub(crate) hazard: Vec<Hazard>,
    pub(crate) ego: EgoSpec,
    pub(crate) actors: Vec<ActorSpec>,
    pub(crate) weather: WeatherSpec,
}

#[derive(Clone, Debug)]
pub(crate) struct EgoSpec {
    pub(crate) speed_kmh: Range,
    pub(crate) act: EgoAct,
    pub(crate) reaction_s: Range,
    pub(crate) brake_mps2: Range,
    pub(crate) swerve_m: Range,
}

#[derive(Clone, Debug)]
pub(crate) struct ActorSpec {
    pub(crate) role: Role,
    pub(crate) kind: Vec<ActorKind>,
    pub(crate) side: Option<Side>,
    pub(crate) speed_kmh: Option<Range>,
    pub(crate) headway_s: Range,
    pub(crate) brake_mps2: Range,
    pub(crate) reaction_s: Range,
    pub(crate) offset_s: Range,
    pub(crate) lateral_m: Option<Range>,
    pub(crate) runs_light: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct WeatherSpec {
    pub(crate) night: f64,
    pub(crate) low_sun: f64,
    pub(crate) rain_chance: f64,
    pub(crate) rain: Range,
    pub(crate) fog_chance: f64,
    pub(crate) fog: Range,
    pub(crate) wipers: bool,
    pub(crate) car_wash: bool,
}

/// Checks values and names the line of the first that is wrong.
struct Check<'a>(&'a str);

impl Check<'_> {
    fn error(&self, at: usize, what: String) -> ScenarioError {
        let line = self.0.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1;
        ScenarioError::Value { line, what }
    }

    fn range(&self, value: &Spanned<Range>, name: &str, low: f64, high: f64) -> Result<Range, ScenarioError> {
        let range = *value.get_ref();
        if range.low < low || range.high > high {
            let what = format!("{name} {} to {} is not within {low} to {high}", range.low, range.high);
            return Err(self.error(value.span().start, what));
        }
        Ok(range)
    }

    fn or(
        &self,
        value: &Option<Spanned<Range>>,
        name: &str,
        bounds: [f64; 2],
        default: [f64; 2],
    ) -> Result<Range, ScenarioError> {
        let default = Range::new(default[0], default[1]);
        value.as_ref().map_or(Ok(default), |v| self.range(v, name, bounds[0], bounds[1]))
    }

    fn maybe(
        &self,
        value: &Option<Spanned<Range>>,
        name: &str,
        bounds: [f64; 2],
    ) -> Result<Option<Range>, ScenarioError> {
        value.as_ref().map(|v| self.range(v, name, bounds[0], bounds[1])).transpose()
    }

    fn chance(&self, value: &Option<Spanned<f64>>, name: &str, default: f64) -> Result<f64, ScenarioError> {
        let Some(value) = value else { return Ok(default) };
        if !(0.0..=1.0).contains(value.get_ref()) {
            return Err(self.error(value.span().start, format!("{name} {} is no chance of 0 to 1", value.get_ref())));
        }
        Ok(*value.get_ref())
    }

    /// A list of names, each one of a closed set.
    fn names<T: Copy>(
        &self,
        list: &Spanned<Vec<String>>,
        what: &str,
        set: &[(&str, T)],
    ) -> Result<Vec<T>, ScenarioError> {
        let names = list.get_ref();
        if names.is_empty() || names.len() > SCENARIO_CHOICES {
            let text = format!("{what}: {} entries, not 1 to {SCENARIO_CHOICES}", names.len());
            return Err(self.error(list.span().start, text));
        }
        let find = |name: &String| set.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        names
            .iter()
            .map(|name| {
                find(name).ok_or_else(|| {
                    let known: Vec<&str> = set.iter().map(|(n, _)| *n).collect();
                    self.error(list.span().start, format!("{what} {name:?} is none of {}", known.join(", ")))
                })
            })
            .collect()
    }
}

/// Names of kinds in scenario files and truth files.
pub(crate) const KINDS: [(&str, ActorKind); 13] = [
    ("car", ActorKind::Car),
    ("suv", ActorKind::Suv),
    ("van", ActorKind::Van),
    ("truck", ActorKind::Truck),
    ("bus", ActorKind::Bus),
    ("motorbike", ActorKind::Motorbike),
    ("cyclist", ActorKind::Cyclist),
    ("pedestrian", ActorKind::Pedestrian),
    ("child", ActorKind::Child),
    ("animal", ActorKind::Animal),
    ("cone", ActorKind::Cone),
    ("barrier", ActorKind::Barrier),
    ("debris", ActorKind::Debris),
];

const ROADS: [(&str, RoadKind); 3] =
    [("town", RoadKind::Town), ("motorway", RoadKind::Motorway), ("country", RoadKind::Country)];

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.len() > SCENARIO_BYTES {
            return Err(ScenarioError::TooLong(text.len()));
        }
        let raw: Raw = toml::from_str(text).map_err(|e| ScenarioError::Toml(e.to_string()))?;
        let check = Check(text);
        for (value, name, longest) in [(&raw.name, "name", 40), (&raw.text, "text", 200)] {
            if value.get_ref().is_empty() || value.get_ref().len() > longest {
                return Err(check.error(value.span().start, format!("{name} has not 1 to {longest} bytes")));
            }
        }
        let length_s = check.range(&raw.length_s, "length_s", DRIVE_S[0], DRIVE_S[1])?;
        let event_s = check.range(&raw.event_s, "event_s", 1.0, DRIVE_S[1])?;
        if event_s.high + 2.0 > length_s.low {
            let what = format!("event_s up to {} leaves less than 2 s of the shortest drive", event_s.high);
            return Err(check.error(raw.event_s.span().start, what));
        }
        if raw.actor.len() > SCENARIO_ACTORS || raw.hazard.len() > SCENARIO_CHOICES {
            let what = format!("more than {SCENARIO_ACTORS} actors or {SCENARIO_CHOICES} hazards");
            return Err(check.error(0, what));
        }
        Ok(Self {
            road: check.names(&raw.road, "road", &ROADS)?,
            traffic: check.or(&raw.traffic, "traffic", [0.0, 1.0], [0.2, 0.8])?,
            ego: ego(&check, &raw.ego)?,
            actors: raw.actor.iter().map(|a| actor(&check, a)).collect::<Result<_, _>>()?,
            weather: weather(&check, &raw.weather)?,
            name: raw.name.into_inner(),
            text: raw.text.into_inner(),
            expect: raw.expect,
            length_s,
            event_s,
            junction: raw.junction,
            lights: raw.lights,
            hazard: raw.hazard,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in a line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How its drives end.
    #[must_use]
    pub const fn expect(&self) -> Expect {
        self.expect
    }
}

fn ego(check: &Check<'_>, raw: &RawEgo) -> Result<EgoSpec, ScenarioError> {
    Ok(EgoSpec {
        speed_kmh: check.range(&raw.speed_kmh, "speed_kmh", 0.0, 180.0)?,
        act: raw.act,
        reaction_s: check.or(&raw.reaction_s, "reaction_s", [0.0, 20.0], [0.7, 1.3])?,
        brake_mps2: check.or(&raw.brake_mps2, "brake_mps2", [0.5, 10.0], [6.0, 8.5])?,
        swerve_m: check.or(&raw.swerve_m, "swerve_m", [-5.0, 5.0], [0.0, 0.0])?,
    })
}

fn actor(check: &Check<'_>, raw: &RawActor) -> Result<ActorSpec, ScenarioError> {
    Ok(ActorSpec {
        role: raw.role,
        kind: check.names(&raw.kind, "kind", &KINDS)?,
        side: raw.side,
        speed_kmh: check.maybe(&raw.speed_kmh, "speed_kmh", [0.0, 180.0])?,
        headway_s: check.or(&raw.headway_s, "headway_s", [0.2, 8.0], [1.2, 2.0])?,
        brake_mps2: check.or(&raw.brake_mps2, "brake_mps2", [0.5, 10.0], [5.0, 7.5])?,
        reaction_s: check.or(&raw.reaction_s, "reaction_s", [0.0, 20.0], [0.8, 1.4])?,
        offset_s: check.or(&raw.offset_s, "offset_s", [-5.0, 5.0], [-0.3, 0.3])?,
        lateral_m: check.maybe(&raw.lateral_m, "lateral_m", [-8.0, 8.0])?,
        runs_light: raw.runs_light,
    })
}

fn weather(check: &Check<'_>, raw: &RawWeather) -> Result<WeatherSpec, ScenarioError> {
    Ok(WeatherSpec {
        night: check.chance(&raw.night, "night", 0.15)?,
        low_sun: check.chance(&raw.low_sun, "low_sun", 0.05)?,
        rain_chance: check.chance(&raw.rain_chance, "rain_chance", 0.2)?,
        rain: check.or(&raw.rain, "rain", [0.0, 1.0], [0.15, 0.6])?,
        fog_chance: check.chance(&raw.fog_chance, "fog_chance", 0.08)?,
        fog: check.or(&raw.fog, "fog", [0.0, 1.0], [0.1, 0.5])?,
        wipers: raw.wipers,
        car_wash: raw.car_wash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"a\"\ntext = \"b\"\nexpect = \"collision\"\nroad = [\"town\"]\nlength_s = [18, 20.5]\n\
                        event_s = 9\n[ego]\nspeed_kmh = [30, 50]\n[[actor]]\nrole = \"lead_brakes\"\nkind = [\"car\"]\n";

    #[test]
    fn a_file_is_read_with_values_and_ranges() {
        let s = Scenario::parse(GOOD).unwrap();
        assert_eq!((s.name(), s.expect(), s.length_s), ("a", Expect::Collision, Range::new(18.0, 20.5)));
        assert_eq!((s.event_s, s.actors.len(), s.actors[0].role), (Range::new(9.0, 9.0), 1, Role::LeadBrakes));
    }

    #[test]
    fn errors_name_their_line() {
        for (from, to, line, what) in [
            ("[18, 20.5]", "[20, 18]", "5", "runs backwards"),
            ("[18, 20.5]", "[18, 900]", "5", "length_s"),
            ("event_s = 9", "event_s = 17", "6", "event_s"),
            ("[30, 50]", "[30, 500]", "8", "speed_kmh"),
            ("[30, 50]", "[30, nan]", "8", "finite"),
            ("[30, 50]", "[30, 40, 50]", "8", "two numbers"),
            ("speed_kmh", "speed_mph", "8", "speed_mph"),
            ("\"town\"", "\"sea\"", "4", "town, motorway, country"),
            ("[\"car\"]", "[\"tram\"]", "11", "tram"),
            ("[\"car\"]", "[]", "11", "0 entries"),
        ] {
            let error = Scenario::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")) && error.contains(what), "{to}: {error}");
        }
        assert_eq!(
            Scenario::parse(&"#".repeat(SCENARIO_BYTES + 1)).unwrap_err(),
            ScenarioError::TooLong(SCENARIO_BYTES + 1)
        );
    }
}
