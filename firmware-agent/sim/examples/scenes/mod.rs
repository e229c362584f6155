//! Scenes built by hand for the contact sheet and the bench: roads, people and traffic as the world would give them.

use agent_sim::maths::{PI, cos, sin};
use agent_sim::rng::Rng;
use agent_sim::world::state::*;

/// A scene that owns its data.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) road: RoadWorld,
    pub(crate) actors: Vec<Actor>,
    pub(crate) weather: Weather,
    pub(crate) wipers: f32,
    pub(crate) t_s: f64,
    /// Where the camera is along the road, metres left of its lane's middle, and turned, radians.
    pub(crate) s: f64,
    pub(crate) aside: f64,
    pub(crate) turn: f64,
    pub(crate) pitch: f64,
    pub(crate) yaw_rate: f64,
    pub(crate) bend: f64,
}

/// Middle of the ego lane and its direction at `s` for a road that bends with curvature `bend`.
pub(crate) fn road_at(s: f64, left: f64, bend: f64) -> ([f64; 2], f64) {
    let (x, y, heading) =
        if bend.abs() < 1e-9 { (s, 0.0, 0.0) } else { (sin(bend * s) / bend, (1.0 - cos(bend * s)) / bend, bend * s) };
    ([x - sin(heading) * left, y + cos(heading) * left], heading)
}

fn line(left: f64, bend: f64, from: f64, to: f64) -> Vec<[f64; 2]> {
    let n = ((to - from) / 2.0) as usize;
    (0..=n).map(|i| road_at(from + 2.0 * i as f64, left, bend).0).collect()
}

fn ribbon(left: f64, right: f64, bend: f64, material: Material) -> Ribbon {
    Ribbon { left: line(left, bend, -40.0, 420.0), right: line(right, bend, -40.0, 420.0), material }
}

fn marking(left: f64, bend: f64, dash: Option<(f64, f64)>) -> Marking {
    Marking { points: line(left, bend, -40.0, 420.0), width: 0.14, dash, yellow: false }
}

fn rail(left: f64, bend: f64, height: f64, kind: RailKind) -> Rail {
    Rail { points: line(left, bend, -40.0, 420.0), height, kind }
}

const WALLS: [[u8; 3]; 7] = [
    [196, 178, 150],
    [178, 120, 96],
    [206, 202, 192],
    [160, 150, 140],
    [186, 160, 120],
    [140, 108, 92],
    [214, 196, 160],
];

/// One lane each way, pavements, houses, lamps, trees and a zebra; parked cars.
pub(crate) fn town(bend: f64, seed: u64) -> RoadWorld {
    let mut rng = Rng::new(seed, 9);
    let mut road = RoadWorld { kind: RoadKind::Town, route: line(0.0, bend, 0.0, 420.0), ..RoadWorld::default() };
    road.ribbons = vec![ribbon(12.0, -8.5, bend, Material::Pavement), ribbon(7.4, -4.0, bend, Material::Asphalt)];
    road.markings = vec![marking(1.75, bend, Some((3.0, 3.0))), marking(5.25, bend, None), marking(-1.75, bend, None)];
    for left in [7.4, -4.0] {
        road.rails.push(rail(left, bend, 0.12, RailKind::Kerb));
    }
    let mut s = -30.0;
    while s < 340.0 {
        let length = rng.between(9.0, 20.0);
        for (side, off) in [(1.0, 12.6), (-1.0, -9.2)] {
            let floors = 2 + (rng.unit() * 3.5) as u8;
            let width = rng.between(8.0, 12.0);
            let (at, heading) = road_at(s + length / 2.0, off + side * width / 2.0, bend);
            let roof = if rng.unit() < 0.6 { rng.between(2.0, 3.6) } else { 0.0 };
            let colour = WALLS[(rng.unit() * 7.0) as usize % 7];
            let height = f64::from(floors) * 3.1;
            road.buildings.push(Building { at, heading, length, width, height, roof, floors, colour });
        }
        s += length + if rng.unit() < 0.3 { rng.between(3.0, 9.0) } else { 0.0 };
    }
    for k in 0..18 {
        let s = f64::from(k) * 18.0 + 6.0;
        let (at, heading) = road_at(s, if k % 2 == 0 { 8.3 } else { -4.9 }, bend);
        let facing = heading + if k % 2 == 0 { -PI / 2.0 } else { PI / 2.0 };
        road.lamps.push(Lamp { at, facing, height: 7.0, arm: 1.6 });
        if k % 3 == 1 {
            let (at, _) = road_at(s + 8.0, if k % 2 == 0 { -5.6 } else { 9.4 }, bend);
            let colour = [70 + (rng.unit() * 40.0) as u8, 104, 48];
            road.trees.push(Tree {
                at,
                height: rng.between(5.0, 8.0),
                radius: rng.between(1.6, 2.4),
                kind: TreeKind::Broadleaf,
                colour,
            });
        }
        if k % 2 == 1 && k > 1 {
            let (at, heading) = road_at(s + 3.0, 6.3, bend);
            let kind = [ActorKind::Car, ActorKind::Suv, ActorKind::Van][k as usize % 3];
            road.parked.push(vehicle(900 + k as u32, kind, at, heading + PI, PAINTS[k as usize % 8]));
        }
    }
    let (at, heading) = road_at(46.0, 1.75, bend);
    road.zebras.push(Zebra { at, heading, length: 3.4, width: 10.4 });
    let (at, heading) = road_at(43.0, -4.6, bend);
    road.signs.push(Sign { at, facing: heading + PI, height: 2.4, size: 0.7, kind: SignKind::Crossing });
    let (at, heading) = road_at(24.0, -4.6, bend);
    road.signs.push(Sign { at, facing: heading + PI, height: 2.3, size: 0.65, kind: SignKind::Limit(50) });
    road
}

pub(crate) const PAINTS: [[u8; 3]; 8] = [
    [188, 32, 30],
    [36, 60, 120],
    [212, 214, 216],
    [26, 26, 30],
    [122, 126, 130],
    [230, 230, 228],
    [60, 92, 70],
    [150, 110, 60],
];

/// Two carriageways of three lanes with guard rails.
pub(crate) fn motorway(bend: f64, seed: u64) -> RoadWorld {
    let mut rng = Rng::new(seed, 10);
    let mut road = RoadWorld { kind: RoadKind::Motorway, route: line(0.0, bend, 0.0, 420.0), ..RoadWorld::default() };
    road.ribbons = vec![
        ribbon(24.0, -14.0, bend, Material::Verge),
        ribbon(5.6, -9.0, bend, Material::Asphalt),
        ribbon(-5.6, -9.0, bend, Material::Shoulder),
        ribbon(20.0, 8.6, bend, Material::Asphalt),
    ];
    road.markings = vec![
        marking(5.5, bend, None),
        marking(1.85, bend, Some((6.0, 12.0))),
        marking(-1.85, bend, Some((6.0, 12.0))),
        marking(-5.55, bend, None),
        marking(8.9, bend, None),
        marking(12.6, bend, Some((6.0, 12.0))),
        marking(16.3, bend, Some((6.0, 12.0))),
        marking(19.8, bend, None),
    ];
    for left in [6.4, 7.8, -9.6, 20.6] {
        road.rails.push(rail(left, bend, 0.78, RailKind::GuardRail));
    }
    for _ in 0..110 {
        let left = if rng.unit() < 0.5 { rng.between(26.0, 70.0) } else { rng.between(-70.0, -14.0) };
        let (at, _) = road_at(rng.between(-10.0, 400.0), left, bend);
        let kind = if rng.unit() < 0.3 {
            TreeKind::Bush
        } else if rng.unit() < 0.4 {
            TreeKind::Conifer
        } else {
            TreeKind::Broadleaf
        };
        let height = if kind == TreeKind::Bush { rng.between(1.0, 2.5) } else { rng.between(6.0, 13.0) };
        road.trees.push(Tree {
            at,
            height,
            radius: height * 0.36,
            kind,
            colour: [62 + (rng.unit() * 40.0) as u8, 96, 44],
        });
    }
    let (at, heading) = road_at(70.0, -11.5, bend);
    road.signs.push(Sign { at, facing: heading + PI, height: 4.2, size: 4.6, kind: SignKind::Direction });
    let (at, heading) = road_at(34.0, -10.4, bend);
    road.signs.push(Sign { at, facing: heading + PI, height: 2.6, size: 1.0, kind: SignKind::Limit(120) });
    road
}

/// One lane each way between fields, trees, fences.
pub(crate) fn country(bend: f64, seed: u64) -> RoadWorld {
    let mut rng = Rng::new(seed, 11);
    let mut road = RoadWorld { kind: RoadKind::Country, route: line(0.0, bend, 0.0, 420.0), ..RoadWorld::default() };
    road.ribbons = vec![ribbon(6.6, -3.2, bend, Material::Verge), ribbon(5.2, -1.9, bend, Material::Asphalt)];
    road.markings = vec![marking(1.65, bend, Some((4.0, 8.0))), marking(4.95, bend, None), marking(-1.65, bend, None)];
    road.rails = vec![rail(9.0, bend, 1.2, RailKind::Fence), rail(-6.0, bend, 1.3, RailKind::Hedge)];
    for _ in 0..120 {
        let left = if rng.unit() < 0.5 { rng.between(8.0, 60.0) } else { rng.between(-60.0, -5.5) };
        let (at, _) = road_at(rng.between(2.0, 400.0), left, bend);
        let kind = [TreeKind::Broadleaf, TreeKind::Broadleaf, TreeKind::Conifer, TreeKind::Bush]
            [(rng.unit() * 4.0) as usize % 4];
        let height = if kind == TreeKind::Bush { rng.between(1.0, 2.2) } else { rng.between(6.0, 14.0) };
        road.trees.push(Tree {
            at,
            height,
            radius: height * 0.34,
            kind,
            colour: [66 + (rng.unit() * 46.0) as u8, 100, 44],
        });
    }
    let (at, heading) = road_at(90.0, -16.0, bend);
    road.buildings.push(Building {
        at,
        heading,
        length: 14.0,
        width: 9.0,
        height: 4.2,
        roof: 3.6,
        floors: 1,
        colour: [196, 178, 150],
    });
    let (at, heading) = road_at(30.0, -2.8, bend);
    road.signs.push(Sign { at, facing: heading + PI, height: 2.0, size: 0.9, kind: SignKind::Warning });
    road
}

/// Usual size of a kind: length, width, height.
pub(crate) fn size_of(kind: ActorKind) -> [f64; 3] {
    match kind {
        ActorKind::Car => [4.4, 1.8, 1.46],
        ActorKind::Suv => [4.6, 1.9, 1.72],
        ActorKind::Van => [5.6, 2.0, 2.5],
        ActorKind::Truck => [11.5, 2.5, 3.7],
        ActorKind::Bus => [12.0, 2.5, 3.1],
        ActorKind::Motorbike => [2.1, 0.8, 1.55],
        ActorKind::Cyclist => [1.75, 0.6, 1.75],
        ActorKind::Pedestrian => [0.5, 0.55, 1.75],
        ActorKind::Child => [0.4, 0.45, 1.15],
        ActorKind::Animal => [1.6, 0.5, 1.3],
        ActorKind::Cone => [0.36, 0.36, 0.72],
        ActorKind::Barrier => [0.5, 2.0, 1.05],
        ActorKind::Debris => [1.2, 1.0, 0.4],
    }
}

pub(crate) fn vehicle(id: u32, kind: ActorKind, at: [f64; 2], heading: f64, colour: [u8; 3]) -> Actor {
    let [length, width, height] = size_of(kind);
    let body = Body { x: at[0], y: at[1], heading, ..Body::default() };
    Actor {
        id,
        kind,
        body,
        length,
        width,
        height,
        colour,
        brake: false,
        indicator: 0,
        headlights: false,
        lying: 0.0,
        damage: 0.0,
        gait: 0.0,
    }
}

/// An actor at `s`, `left` of the ego lane's middle, turned by `turn` from the road's direction.
pub(crate) fn actor(kind: ActorKind, (s, left, turn): (f64, f64, f64), bend: f64, id: u32) -> Actor {
    let (at, heading) = road_at(s, left, bend);
    let mut a = vehicle(id, kind, at, heading + turn, PAINTS[id as usize % 8]);
    a.gait = f64::from(id) * 0.23;
    a.body.speed = if matches!(kind, ActorKind::Pedestrian | ActorKind::Child) { 1.4 } else { 8.0 };
    a
}

impl Scene {
    pub(crate) fn state(&self) -> SceneState<'_> {
        let ([x, y], heading) = road_at(self.s, self.aside, self.bend);
        let yaw = heading + self.turn;
        let ego = Body { x, y, heading: yaw, speed: 12.0, ..Body::default() };
        let camera = CameraPose {
            x: x + cos(yaw) * 0.6,
            y: y + sin(yaw) * 0.6,
            z: 1.32,
            yaw,
            pitch: 0.035 + self.pitch,
            roll: 0.0,
            yaw_rate: self.yaw_rate,
            pitch_rate: 0.0,
            focal_px_at_width_1: 0.72,
            k1: -0.12,
        };
        SceneState {
            t_s: self.t_s,
            ego,
            camera,
            actors: &self.actors,
            road: &self.road,
            weather: self.weather,
            wipers: self.wipers,
            seed: 7,
        }
    }
}

pub(crate) fn day() -> Weather {
    Weather { sun_elevation_deg: 42.0, sun_azimuth_deg: 120.0, cloud: 0.35, ..Weather::default() }
}

pub(crate) fn night() -> Weather {
    Weather { sun_elevation_deg: -20.0, night: true, cloud: 0.5, ..Weather::default() }
}

fn base(name: &'static str, road: RoadWorld, actors: Vec<Actor>, weather: Weather, bend: f64) -> Scene {
    Scene {
        name,
        road,
        actors,
        weather,
        wipers: -1.0,
        t_s: 1.0,
        s: 20.0,
        aside: 0.0,
        turn: 0.0,
        pitch: 0.0,
        yaw_rate: 0.0,
        bend,
    }
}

fn traffic(bend: f64, lights: bool) -> Vec<Actor> {
    let mut all = vec![
        actor(ActorKind::Car, (36.0, 0.1, 0.0), bend, 1),
        actor(ActorKind::Suv, (52.0, 3.5, PI), bend, 2),
        actor(ActorKind::Van, (78.0, 3.5, PI), bend, 4),
        actor(ActorKind::Car, (66.0, 0.0, 0.0), bend, 6),
    ];
    all.iter_mut().for_each(|a| a.headlights = lights);
    all
}

use ActorKind::{Animal, Barrier, Bus, Car, Child, Cone, Cyclist, Debris, Motorbike, Pedestrian, Suv, Truck, Van};

fn town_scenes() -> Vec<Scene> {
    let mut out = vec![base("town", town(0.0, 1), traffic(0.0, false), day(), 0.0)];
    let mut braking = traffic(0.001, false);
    braking[0] = actor(Car, (29.5, 0.0, 0.0), 0.001, 8);
    braking[0].brake = true;
    braking[0].indicator = 1;
    out.push(base("braking ahead", town(0.001, 2), braking, Weather { sun_azimuth_deg: 230.0, ..day() }, 0.001));
    let walkers = vec![
        actor(Pedestrian, (30.0, -0.6, PI / 2.0), 0.0, 3),
        actor(Pedestrian, (31.2, 1.8, -PI / 2.0), 0.0, 10),
        actor(Child, (29.6, -1.6, PI / 2.0), 0.0, 8),
        actor(Pedestrian, (34.0, -6.0, 0.2), 0.0, 13),
        actor(Car, (58.0, 3.6, PI), 0.0, 5),
    ];
    out.push(base("pedestrians", town(0.0, 3), walkers, day(), 0.0));
    let riders = vec![
        actor(Cyclist, (28.5, -1.2, 0.0), 0.0, 9),
        actor(Motorbike, (33.0, 2.9, PI - 0.1), 0.0, 0),
        actor(Van, (60.0, 0.0, 0.0), 0.0, 5),
    ];
    out.push(base("two-wheelers", town(0.0, 4), riders, Weather { sun_azimuth_deg: 40.0, ..day() }, 0.0));
    let mut lit = town(0.0, 5);
    for (left, turn, phase) in
        [(-4.4, PI, LightColour::Red), (7.8, PI, LightColour::Red), (-4.4, PI / 2.0, LightColour::Green)]
    {
        let (at, heading) = road_at(50.0 + turn, left, 0.0);
        lit.lights.push(TrafficLight { at, facing: heading + turn, height: 3.0, phases: [(1e9, phase); 6] });
    }
    let crossing = vec![
        actor(Car, (40.0, 1.2, PI / 2.0), 0.0, 0),
        actor(Bus, (72.0, 3.6, PI), 0.0, 1),
        actor(Pedestrian, (36.0, -5.4, 0.0), 0.0, 6),
    ];
    out.push(base("crossing car", lit, crossing, Weather { cloud: 0.9, ..day() }, 0.0));
    out
}

fn weather_scenes() -> Vec<Scene> {
    let mut lit = traffic(0.0, true);
    lit.push(actor(Pedestrian, (38.0, -4.6, 0.0), 0.0, 2));
    let mut out = vec![base("town by night", town(0.0, 6), lit.clone(), night(), 0.0)];
    let wet = Weather { rain: 0.8, wet: 0.9, cloud: 1.0, ..day() };
    let mut rain = base("heavy rain, wipers", town(0.0, 7), traffic(0.0, true), wet, 0.0);
    rain.wipers = 0.3;
    out.push(rain);
    out.push(base("wet night", town(0.0, 8), lit, Weather { rain: 0.4, wet: 1.0, ..night() }, 0.0));
    let fog = Weather { fog: 0.8, cloud: 1.0, ..day() };
    out.push(base("fog", country(0.002, 9), traffic(0.002, true), fog, 0.002));
    let low = Weather { sun_elevation_deg: 9.0, sun_azimuth_deg: 4.0, cloud: 0.2, ..Weather::default() };
    out.push(base("sun in the lens", country(0.0, 10), traffic(0.0, false), low, 0.0));
    let mut wash =
        base("car wash", town(0.0, 11), vec![], Weather { car_wash: true, wet: 1.0, cloud: 1.0, ..day() }, 0.0);
    wash.t_s = 4.2;
    out.push(wash);
    out
}

fn open_scenes() -> Vec<Scene> {
    let bunch = vec![
        actor(Truck, (52.0, -3.7, 0.0), 0.0008, 1),
        actor(Car, (40.0, 0.0, 0.0), 0.0008, 2),
        actor(Suv, (62.0, 3.7, 0.0), 0.0008, 4),
        actor(Car, (70.0, 11.0, PI), 0.0008, 5),
        actor(Truck, (110.0, 14.5, PI), 0.0008, 6),
        actor(Car, (96.0, 0.0, 0.0), 0.0008, 8),
    ];
    let mut out = vec![base("motorway", motorway(0.0008, 12), bunch, day(), 0.0008)];
    out.push(base(
        "country",
        country(-0.003, 14),
        vec![actor(Car, (62.0, 3.3, PI), -0.003, 3), actor(Animal, (38.0, -2.6, 1.9), -0.003, 7)],
        day(),
        -0.003,
    ));
    out[1].actors[1].colour = [128, 92, 60];
    out.push(base(
        "lorry ahead",
        country(0.0, 15),
        vec![actor(Truck, (33.0, 0.0, 0.0), 0.0, 3), actor(Bus, (64.0, 3.3, PI), 0.0, 0)],
        Weather { cloud: 0.7, ..day() },
        0.0,
    ));
    out[2].actors[0].brake = true;
    let mut tunnel = motorway(0.0, 16);
    tunnel.tunnel = Some((0.0, 150.0));
    let inside = vec![
        actor(Car, (36.0, 0.0, 0.0), 0.0, 2),
        actor(Truck, (58.0, -3.7, 0.0), 0.0, 1),
        actor(Car, (52.0, 3.7, 0.0), 0.0, 6),
    ];
    let mut tunnel = base("tunnel", tunnel, inside, day(), 0.0);
    tunnel.actors.iter_mut().for_each(|a| a.headlights = true);
    out.push(tunnel);
    let mut mouth = motorway(0.0, 17);
    mouth.tunnel = Some((62.0, 260.0));
    out.push(base("tunnel mouth", mouth, vec![actor(Suv, (48.0, 0.0, 0.0), 0.0, 5)], day(), 0.0));
    out
}

fn crash_scenes() -> Vec<Scene> {
    let mut pile = vec![
        actor(Car, (31.0, 0.4, 0.35), 0.0, 8),
        actor(Suv, (34.6, 1.6, -0.9), 0.0, 2),
        actor(Debris, (28.6, 0.9, 0.2), 0.0, 3),
        actor(Pedestrian, (33.0, -3.6, 2.0), 0.0, 5),
    ];
    pile[0].damage = 0.8;
    pile[1].damage = 0.7;
    pile[1].indicator = 2;
    let mut out = vec![base("crash", town(0.0, 18), pile, day(), 0.0)];
    let mut fallen = vec![
        actor(Motorbike, (29.0, 0.2, 0.8), 0.0, 0),
        actor(Pedestrian, (30.5, 1.5, 0.4), 0.0, 4),
        actor(Car, (35.0, 0.6, 0.5), 0.0, 7),
    ];
    fallen[0].lying = 1.0;
    fallen[1].lying = 1.0;
    fallen[2].damage = 0.4;
    fallen[2].brake = true;
    out.push(base("fallen rider", town(0.0, 19), fallen, Weather { cloud: 0.8, ..day() }, 0.0));
    let mut works = vec![
        actor(Barrier, (38.0, 0.0, 0.0), 0.0, 1),
        actor(Barrier, (38.0, -2.2, 0.0), 0.0, 2),
        actor(Van, (46.0, -0.4, 0.0), 0.0, 5),
    ];
    for k in 0..6 {
        works.push(actor(Cone, (25.0 + 2.2 * f64::from(k), -1.7 + 0.55 * f64::from(k), 0.0), 0.0, 20 + k as u32));
    }
    let mut site = country(0.0, 20);
    let (at, heading) = road_at(39.0, -2.4, 0.0);
    site.signs.push(Sign { at, facing: heading + PI, height: 2.2, size: 1.2, kind: SignKind::Works });
    out.push(base("road works", site, works, day(), 0.0));
    let mut rails = country(0.0, 21);
    let (at, heading) = road_at(38.0, 1.6, 0.0);
    rails.level_crossing = Some(LevelCrossing { s: 38.0, at, heading: heading + PI / 2.0, closed: (-10.0, 60.0) });
    let (at, heading) = road_at(30.0, -2.6, 0.0);
    rails.signs.push(Sign { at, facing: heading + PI, height: 2.4, size: 1.0, kind: SignKind::Railway });
    let (at, heading) = road_at(27.0, 0.0, 0.0);
    rails.bumps.push(Bump { at, heading, length: 0.9, width: 0.8, height: -0.08 });
    out.push(base(
        "level crossing",
        rails,
        vec![],
        Weather { sun_elevation_deg: 16.0, sun_azimuth_deg: 200.0, ..day() },
        0.0,
    ));
    out
}

/// Every scene of the sheet, in its order.
pub(crate) fn all() -> Vec<Scene> {
    let mut scenes = town_scenes();
    scenes.extend(weather_scenes());
    scenes.extend(open_scenes());
    scenes.extend(crash_scenes());
    scenes
}
