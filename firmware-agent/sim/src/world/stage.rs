//! Sets the stage: draws from a scenario's ranges where everything is and what everyone means to do.
//!
//! The *event* is the planned instant of the danger: of the contact, if nobody answers it, for what crosses or stands
//! in the way; of the braking for what drives ahead. Whether it comes to a contact is for the engine to find out.

use super::cast::{self, Build};
use super::geometry::Path;
use super::layout::{EGO_START_M, Layout, Wanted};
use super::mover::{Mover, Shift};
use super::plan::{EgoPlan, OwnBrake, Speeds, Stop};
use super::roles;
use super::scenario::{EgoAct, Hazard, Role, Scenario};
use super::scenery::{Features, Phases, dress};
use super::state::{ActorKind, Body, Bump, LevelCrossing, LightColour, RoadKind, RoadWorld, Weather};
use super::traffic;
use crate::maths::PI;
use crate::rng::Rng;

/// A shock of the unit alone, not of the vehicle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UnitShock {
    pub(crate) t: f64,
    /// Peak, m/s^2, vehicle axes.
    pub(crate) peak: [f64; 3],
    /// Ring and its fading.
    pub(crate) hz: f64,
    pub(crate) fade_s: f64,
    /// Turn of the unit that stays, radians about forward, left, up.
    pub(crate) turn: [f64; 3],
    pub(crate) turn_s: f64,
}

/// What was drawn and matters for the words of the truth.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) role: Option<Role>,
    /// Roles of the scenario's movers, in its order.
    pub(crate) roles: Vec<Role>,
    pub(crate) kinds: Vec<ActorKind>,
    /// Movers of the scenario, in its order.
    pub(crate) cast: Vec<usize>,
    pub(crate) act: EgoAct,
    pub(crate) headway_s: f64,
    pub(crate) runs_light: bool,
    /// The danger begins to show.
    pub(crate) hazard_at: Option<f64>,
}

/// Everything that a drive begins with.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) layout: Layout,
    pub(crate) world: RoadWorld,
    /// The route first.
    pub(crate) paths: Vec<Path>,
    pub(crate) movers: Vec<Mover>,
    pub(crate) ego: EgoPlan,
    pub(crate) ego_kind: ActorKind,
    pub(crate) ego_build: Build,
    pub(crate) weather: Weather,
    pub(crate) wipers: bool,
    pub(crate) mu: f64,
    pub(crate) shocks: Vec<UnitShock>,
    pub(crate) length_ms: usize,
    /// Half of the camera's horizontal angle of view, radians.
    pub(crate) half_view: f64,
    pub(crate) facts: Facts,
}

/// What the roles are placed by.
pub(crate) struct Setting<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) ego: &'a mut EgoPlan,
    pub(crate) ego_length: f64,
    pub(crate) event: f64,
    pub(crate) length: f64,
    /// Way of the ego vehicle's middle at the event, if all goes to plan.
    pub(crate) way: f64,
    /// Its speed then.
    pub(crate) speed: f64,
    pub(crate) paths: Vec<Path>,
    pub(crate) movers: Vec<Mover>,
    pub(crate) features: Features,
    pub(crate) facts: Facts,
    pub(crate) night: bool,
    /// Where two others meet.
    pub(crate) pair: Option<roles::Meeting>,
    /// Ways where no other vehicle may be parked.
    pub(crate) clear: Vec<[f64; 2]>,
}

pub(crate) fn set(scenario: &Scenario, root: u64) -> Stage {
    let mut rng = Rng::new(root, 100);
    let kind = scenario.road[(rng.next_u64() % scenario.road.len().max(1) as u64) as usize];
    let length = scenario.length_s.draw(&mut rng);
    let event = scenario.event_s.draw(&mut rng);
    let v = scenario.ego.speed_kmh.draw(&mut rng) / 3.6;
    let ego_kind = [ActorKind::Car, ActorKind::Suv, ActorKind::Car, ActorKind::Van][(rng.next_u64() % 4) as usize];
    let ego_build = cast::draw(&mut rng, ego_kind);
    let mut ego = ego_plan(scenario, &mut rng, v, event, length, kind);
    let way = EGO_START_M + ego.speeds.way(event);
    let (mut weather, wipers, mu) = weather(scenario, &mut rng);
    let junction = scenario.junction.then_some(way + ego_build.size[0] / 2.0 + 0.4 + junction_lead(scenario, v));
    let needs_parking = scenario.actors.iter().any(|a| matches!(a.role, Role::PullOut | Role::Parked))
        || matches!(scenario.ego.act, EgoAct::Park | EgoAct::Drift | EgoAct::DriftBack);
    let wanted = Wanted {
        kind,
        reach: ego.speeds.way(length),
        straight: [way - 90.0, way + 90.0],
        junction,
        speed: ego.speeds.fastest(),
        parking: needs_parking,
        turn: (scenario.ego.act == EgoAct::Turn).then(|| (way - 12.0, rng.unit() < 0.5)),
    };
    let layout = Layout::draw(&mut rng, &wanted);
    weather.sun_azimuth_deg += layout.route.at(way, 0.0).heading * 180.0 / PI;
    let facts = Facts {
        role: scenario.actors.first().map(|a| a.role),
        roles: scenario.actors.iter().map(|a| a.role).collect(),
        kinds: Vec::new(),
        cast: Vec::new(),
        act: scenario.ego.act,
        headway_s: 0.0,
        runs_light: false,
        hazard_at: None,
    };
    let speed = ego.speeds.at(event).0;
    let limit = speed_limit(kind, v);
    let mut setting = Setting {
        paths: vec![layout.route.clone()],
        layout: &layout,
        ego: &mut ego,
        ego_length: ego_build.size[0],
        event,
        length,
        way,
        speed,
        movers: Vec::new(),
        features: Features { limit, ..Features::default() },
        facts,
        night: weather.night,
        pair: None,
        clear: Vec::new(),
    };
    let mut shocks = Vec::new();
    for hazard in &scenario.hazard {
        place_hazard(&mut setting, &mut rng, *hazard, &mut shocks);
    }
    let reaction = scenario.ego.reaction_s.draw(&mut rng);
    for spec in &scenario.actors {
        roles::place(&mut setting, &mut rng, spec, reaction);
    }
    acts(&mut setting, scenario, &mut rng, reaction);
    if scenario.lights
        && let Some(s) = junction
    {
        lights(&mut setting, scenario, s);
    }
    let density = scenario.traffic.draw(&mut rng);
    traffic::fill(&mut setting, &mut rng, density);
    let Setting { paths, movers, features, facts, .. } = setting;
    let world = dress(&layout, features, Rng::new(root, 101));
    Stage {
        world,
        layout,
        paths,
        movers,
        ego,
        ego_kind,
        ego_build,
        weather,
        wipers,
        mu,
        shocks,
        length_ms: (length * 1000.0) as usize,
        // Horizontal angles of view from 62 to 100 degrees.
        half_view: Rng::new(root, 104).between(31.0, 50.0) * PI / 180.0,
        facts,
    }
}

/// How far beyond the ego vehicle's place at the event the junction lies, metres: others that collide do so ahead.
fn junction_lead(scenario: &Scenario, v: f64) -> f64 {
    let pair = scenario.actors.iter().any(|a| matches!(a.role, Role::PairThrough));
    if pair { 8.0 + 2.2 * v } else { 0.0 }
}

fn speed_limit(kind: RoadKind, v: f64) -> u8 {
    let steps: &[u8] = match kind {
        RoadKind::Town => &[30, 50],
        RoadKind::Motorway => &[80, 100, 120, 130],
        RoadKind::Country => &[50, 70, 80, 100],
    };
    steps.iter().copied().find(|s| f64::from(*s) >= v * 3.6 - 4.0).or(steps.last().copied()).unwrap_or(50)
}

fn ego_plan(scenario: &Scenario, rng: &mut Rng, v: f64, event: f64, length: f64, kind: RoadKind) -> EgoPlan {
    let share = match kind {
        RoadKind::Motorway => 0.05,
        _ => 0.13,
    };
    let level = |v: f64| Speeds::new(vec![(0.0, v)]);
    let speeds = match scenario.ego.act {
        EgoAct::Stand => level(0.0),
        EgoAct::Creep => level(v.min(1.2)),
        EgoAct::Park => Speeds::new(vec![
            (0.0, v),
            (event - 4.5 - v / 2.0, v),
            (event - 4.5, 2.2),
            (event, rng.between(1.0, 1.7)),
            (event + rng.between(0.6, 1.2), 0.0),
        ]),
        EgoAct::Turn => {
            let slow = rng.between(4.2, 5.8);
            let (before, after) = ((v - slow) / 1.8, (v - slow) / 1.5);
            let (begin, end) = (event - 2.2, event + 5.5);
            let knots = [(0.0, v), (begin - before.max(0.5), v), (begin, slow), (end, slow), (end + after.max(0.5), v)];
            Speeds::new(knots.to_vec())
        }
        _ if scenario.hazard.iter().any(|h| matches!(h, Hazard::SpeedBump | Hazard::LevelCrossing)) => {
            let slow = (v * 0.5).clamp(3.5, 8.0);
            Speeds::new(vec![(0.0, v), (event - 5.0, v), (event - 1.5, slow), (event + 1.5, slow), (event + 6.0, v)])
        }
        _ => {
            // Alone on the road some drive briskly: stronger changes of speed belong to ordinary driving.
            let share = if scenario.actors.is_empty() { share * rng.between(0.5, 2.5) } else { share };
            let starts = kind == RoadKind::Town && event > 9.0 + v / 1.5 && rng.unit() < 0.3;
            Speeds::wavering(rng, v, share, event, length, starts)
        }
    };
    EgoPlan {
        speeds,
        headway_s: rng.between(1.4, 2.2),
        blind: [0.0; 2],
        notice: f64::INFINITY,
        brake: scenario.ego.brake_mps2.draw(rng),
        swerve: scenario.ego.swerve_m.draw(rng),
        ..EgoPlan::default()
    }
}

fn weather(scenario: &Scenario, rng: &mut Rng) -> (Weather, bool, f64) {
    let spec = &scenario.weather;
    let night = rng.unit() < spec.night;
    let low_sun = !night && rng.unit() < spec.low_sun;
    let rain = if !low_sun && rng.unit() < spec.rain_chance { spec.rain.draw(rng) } else { 0.0 };
    let fog = if !low_sun && rng.unit() < spec.fog_chance { spec.fog.draw(rng) } else { 0.0 };
    let wet = if rain > 0.05 { (0.4 + rain).min(1.0) } else { 0.0 };
    let cloud = if low_sun { 0.05 } else { rng.unit().max(rain * 1.4).min(1.0) };
    let dry = rng.between(0.85, 0.98);
    let mu = dry - 0.35 * wet;
    let weather = Weather {
        sun_elevation_deg: match (night, low_sun) {
            (true, _) => -20.0,
            (_, true) => rng.between(4.0, 9.0),
            _ => rng.between(18.0, 62.0),
        },
        // Low sun: so far from the road's direction.
        sun_azimuth_deg: if low_sun { rng.between(-9.0, 9.0) } else { rng.between(-180.0, 180.0) },
        cloud: cloud as f32,
        rain: rain as f32,
        fog: fog as f32,
        night,
        wet: wet as f32,
        car_wash: spec.car_wash,
    };
    (weather, spec.wipers || rain > 0.12, mu)
}

fn place_hazard(setting: &mut Setting<'_>, rng: &mut Rng, hazard: Hazard, shocks: &mut Vec<UnitShock>) {
    let front = setting.way + setting.ego_length * 0.3;
    let bump = |setting: &mut Setting<'_>, s: f64, left: f64, size: [f64; 3]| {
        let at = setting.layout.route.at(s, left);
        let [length, width, height] = size;
        setting.features.bumps.push(Bump { at: at.point(), heading: at.heading, length, width, height });
    };
    match hazard {
        Hazard::Pothole => {
            let count = 1 + rng.next_u64() % 3;
            for k in 0..count {
                let s = front + k as f64 * rng.between(15.0, 45.0);
                let side = if rng.unit() < 0.7 { -0.75 } else { 0.75 };
                let size = [rng.between(0.45, 0.9), rng.between(0.4, 0.7), -rng.between(0.04, 0.09)];
                bump(setting, s, side, size);
            }
        }
        Hazard::SpeedBump => {
            let size = [rng.between(0.9, 2.4), setting.layout.lane * 1.9, rng.between(0.05, 0.08)];
            bump(setting, front, setting.layout.lane / 2.0, size);
        }
        Hazard::LevelCrossing => {
            for x in [-0.72, 0.72] {
                bump(setting, front + x, 0.6, [0.12, 8.0, rng.between(0.012, 0.025)]);
            }
            let at = setting.layout.route.at(front, 0.0);
            let crossing =
                LevelCrossing { s: front, at: at.point(), heading: at.heading + PI / 2.0, closed: (0.0, 0.0) };
            setting.features.level_crossing = Some(crossing);
        }
        Hazard::SlammedDoor => {
            for k in 0..1 + rng.next_u64() % 3 {
                let side = if rng.unit() < 0.5 { 1.0 } else { -1.0 };
                shocks.push(UnitShock {
                    t: setting.event + k as f64 * rng.between(0.8, 2.0),
                    peak: [rng.between(-3.0, 3.0), side * rng.between(4.0, 11.0), rng.between(-6.0, 6.0)],
                    hz: rng.between(18.0, 34.0),
                    fade_s: rng.between(0.04, 0.09),
                    turn: [0.0; 3],
                    turn_s: 0.1,
                });
            }
        }
        Hazard::UnitKnocked => {
            let degree = PI / 180.0;
            shocks.push(UnitShock {
                t: setting.event,
                peak: [rng.between(-9.0, 9.0), rng.between(-9.0, 9.0), rng.between(-9.0, 9.0)],
                hz: rng.between(6.0, 14.0),
                fade_s: rng.between(0.05, 0.12),
                turn: [rng.between(-3.0, 3.0), rng.between(-7.0, 7.0), rng.between(-9.0, 9.0)].map(|d| d * degree),
                turn_s: rng.between(0.12, 0.3),
            });
        }
        Hazard::Tunnel => setting.features.tunnel = Some((setting.way, setting.way + rng.between(70.0, 260.0))),
    }
}

/// What the ego driver does of their own accord.
fn acts(setting: &mut Setting<'_>, scenario: &Scenario, rng: &mut Rng, reaction: f64) {
    let (event, kerb) = (setting.event, setting.layout.edges[0]);
    match scenario.ego.act {
        EgoAct::EmergencyStop => {
            let stand = rng.between(1.5, 4.0);
            let decel = setting.ego.brake;
            let until = event + setting.speed / decel.max(1.0) + stand;
            setting.ego.own_brake = Some(OwnBrake { t: event, until, decel });
        }
        EgoAct::Stop => {
            let s = setting.layout.junction.map_or(setting.way + 1.0, |j| j - 6.0);
            setting.ego.stops.push(Stop { s, from: 0.0, until: event + rng.between(3.0, 6.0) });
        }
        EgoAct::Park => {
            // The tyre shall touch the kerb: half the width and a little more.
            setting.ego.shifts.push(Shift { t: event - 4.5, seconds: 4.3, to: kerb + 0.82 });
            setting.ego.kerb = true;
            setting.clear.push([setting.way - 30.0, setting.way + 15.0]);
        }
        EgoAct::Drift | EgoAct::DriftBack => {
            let seconds = rng.between(0.95, 1.25);
            let shows = event - seconds * 0.8 + 0.15;
            setting.ego.shifts.push(Shift { t: event - seconds * 0.8, seconds, to: kerb - 1.4 });
            setting.ego.kerb = true;
            setting.facts.hazard_at = Some(shows);
            setting.ego.notice = event + 0.3;
            if scenario.ego.act == EgoAct::DriftBack {
                // Back into the lane at once, and no brake.
                setting.ego.shifts.push(Shift { t: shows + reaction, seconds: 1.0, to: 0.0 });
                setting.ego.notice = f64::INFINITY;
            }
            setting.clear.push([setting.way - 60.0, setting.way + 60.0]);
        }
        EgoAct::Cruise | EgoAct::Stand | EgoAct::Creep | EgoAct::RunLight | EgoAct::Turn => {}
    }
}

fn lights(setting: &mut Setting<'_>, scenario: &Scenario, junction: f64) {
    use LightColour::{Amber, Green, Red};
    let (event, end) = (setting.event, setting.length + 1.0);
    let red_from = event - 4.0;
    let red: Phases = [
        (red_from - 2.0, Green),
        (red_from, Amber),
        (event + 4.0, Red),
        (event + 5.0, Amber),
        (end, Green),
        (end, Green),
    ];
    let green: Phases = [(1.5, Red), (2.5, Amber), (end, Green), (end, Green), (end, Green), (end, Green)];
    let (ours, cross) = match scenario.ego.act {
        EgoAct::Stop => {
            // Ours changes to green when the driver goes.
            let until = setting.ego.stops.first().map_or(event + 4.0, |s| s.until);
            let red =
                [(1.0, Amber), (until - 1.0, Red), (until - 0.3, Amber), (end, Green), (end, Green), (end, Green)];
            (red, [(until - 3.0, Green), (until - 1.5, Amber), (end, Red), (end, Red), (end, Red), (end, Red)])
        }
        EgoAct::RunLight => {
            (red, [(red_from + 0.8, Red), (end, Green), (end, Green), (end, Green), (end, Green), (end, Green)])
        }
        _ => (green, [(1.0, Amber), (end, Red), (end, Red), (end, Red), (end, Red), (end, Red)]),
    };
    setting.features.lights = Some([ours, cross]);
    setting.facts.runs_light |= scenario.ego.act == EgoAct::RunLight;
    setting.clear.push([junction - 18.0, junction + 18.0]);
}

impl Setting<'_> {
    /// Adds a mover at rest on a path; the caller sets what it does.
    pub(crate) fn add(&mut self, rng: &mut Rng, kind: ActorKind, path: usize, s: f64, left: f64) -> Option<&mut Mover> {
        if self.movers.len() >= crate::limits::ACTORS {
            return None;
        }
        let id = self.movers.len() as u32 + 1;
        self.movers.push(Mover {
            id,
            kind,
            build: cast::draw(rng, kind),
            path,
            dir: 1.0,
            s,
            v: 0.0,
            a: 0.0,
            left,
            goes: Vec::new(),
            shifts: Vec::new(),
            with_plan: None,
            follow: None,
            signal: None,
            falls_at: None,
            hot: false,
            headlights: self.night,
            free: None,
            fallen_since: None,
            damage: 0.0,
            gait: rng.unit(),
            brakes: false,
            body: Body::default(),
        });
        self.movers.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::built_in;

    #[test]
    fn chances_are_kept() {
        let scenario = built_in("road_block").unwrap().unwrap();
        let mut rng = Rng::new(5, 5);
        let nights = (0..400).filter(|_| set(&scenario, rng.next_u64()).weather.night).count();
        // 0.3 of 400, within four deviations.
        assert!((84..157).contains(&nights), "{nights}");
    }

    #[test]
    fn friction_falls_with_water_and_stays_in_bounds() {
        let scenario = built_in("heavy_rain").unwrap().unwrap();
        for root in 0..50 {
            let stage = set(&scenario, root);
            assert!(stage.weather.rain >= 0.6 && (0.45..0.65).contains(&stage.mu), "{}", stage.mu);
        }
    }
}
