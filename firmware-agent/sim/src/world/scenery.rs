//! Dresses a road: surfaces, lines, houses, trees, signs, lights and what else stands beside it.

use super::layout::{CROSS_HALF_M, Layout};
use super::state::{
    Actor, Building, Bump, Junction, Lamp, Lane, LevelCrossing, LightColour, Marking, Material, Point2, Rail, RailKind,
    Ribbon, RoadKind, RoadWorld, Sign, SignKind, TrafficLight, Tree, TreeKind, Zebra,
};
use crate::maths::PI;
use crate::rng::Rng;

/// Spacing of the points of lines, metres.
const EVERY_M: f64 = 3.0;
/// Most houses, and most trees, of a world.
const THINGS: usize = 400;
/// Length of the crossing road on each side, metres.
const CROSS_M: f64 = 90.0;

/// Phases of a traffic light.
pub(crate) type Phases = [(f64, LightColour); 6];

/// What a scenario puts on the road.
#[derive(Clone, Debug, Default)]
pub(crate) struct Features {
    /// Phases of the lights for the ego vehicle and for the crossing road.
    pub(crate) lights: Option<[Phases; 2]>,
    /// Way of a zebra crossing.
    pub(crate) zebra: Option<f64>,
    pub(crate) bumps: Vec<Bump>,
    pub(crate) tunnel: Option<(f64, f64)>,
    pub(crate) level_crossing: Option<LevelCrossing>,
    pub(crate) parked: Vec<Actor>,
    /// Speed limit for the signs, km/h.
    pub(crate) limit: u8,
    /// Way at which a works sign warns.
    pub(crate) works: Option<f64>,
}

struct Dresser<'a> {
    layout: &'a Layout,
    rng: Rng,
    world: RoadWorld,
    length: f64,
}

/// The world of a layout.
pub(crate) fn dress(layout: &Layout, features: Features, rng: Rng) -> RoadWorld {
    let world = RoadWorld {
        kind: layout.kind,
        route: layout.route.points().to_vec(),
        parked: features.parked.clone(),
        bumps: features.bumps.clone(),
        tunnel: features.tunnel,
        level_crossing: features.level_crossing,
        ..RoadWorld::default()
    };
    let mut dresser = Dresser { layout, rng, world, length: layout.route.length() };
    dresser.surfaces();
    dresser.lines(&features);
    dresser.crossing(&features);
    dresser.roadside(&features);
    dresser.signs(&features);
    dresser.world
}

impl Dresser<'_> {
    fn line(&self, left: f64) -> Vec<Point2> {
        self.layout.route.polyline(0.0, self.length, left, EVERY_M)
    }

    fn ribbon(&mut self, right: f64, left: f64, material: Material) {
        let ribbon = Ribbon { left: self.line(left), right: self.line(right), material };
        self.world.ribbons.push(ribbon);
    }

    fn surfaces(&mut self) {
        let [right, left] = self.layout.edges;
        match self.layout.kind {
            RoadKind::Town => {
                self.ribbon(right - 2.6, left + 2.6, Material::Pavement);
                self.cross_ribbon(CROSS_HALF_M + 2.0, Material::Pavement);
                self.ribbon(right, left, Material::Asphalt);
            }
            RoadKind::Motorway => {
                let far = self.layout.theirs.iter().fold(0.0f64, |m, l| m.max(*l));
                self.ribbon(right - 1.5, far + 6.0, Material::Verge);
                self.ribbon(right, left, Material::Asphalt);
                self.ribbon(right, right + 2.4, Material::Shoulder);
                self.ribbon(left + 3.0, far + 4.3, Material::Asphalt);
            }
            RoadKind::Country => {
                self.ribbon(right - 1.6, left + 1.6, Material::Verge);
                self.ribbon(right, left, Material::Asphalt);
            }
        }
        self.cross_ribbon(CROSS_HALF_M, Material::Asphalt);
        let lanes: Vec<Lane> = self
            .layout
            .ours
            .iter()
            .map(|l| Lane { points: self.line(*l), width: self.layout.lane })
            .chain(self.layout.theirs.iter().map(|l| {
                let mut points = self.line(*l);
                points.reverse();
                Lane { points, width: self.layout.lane }
            }))
            .collect();
        self.world.lanes = lanes;
    }

    /// The crossing road, cut where the route's road lies.
    fn cross_ribbon(&mut self, half: f64, material: Material) {
        let Some(s) = self.layout.junction else { return };
        let at = self.layout.route.at(s, 0.0);
        let along = |side: f64| {
            let n = 30;
            (0..=n)
                .map(|i| at.offset(side, CROSS_M * (2.0 * f64::from(i) / f64::from(n) - 1.0)).point())
                .collect::<Vec<_>>()
        };
        self.world.ribbons.push(Ribbon { left: along(-half), right: along(half), material });
    }

    fn mark(&mut self, left: f64, width: f64, dash: Option<(f64, f64)>) {
        let points = match self.layout.junction {
            None => vec![self.line(left)],
            // No lines on the junction.
            Some(s) => {
                let route = &self.layout.route;
                let half = CROSS_HALF_M + 1.5;
                vec![route.polyline(0.0, s - half, left, EVERY_M), route.polyline(s + half, self.length, left, EVERY_M)]
            }
        };
        for points in points {
            self.world.markings.push(Marking { points, width, dash, yellow: false });
        }
    }

    fn lines(&mut self, features: &Features) {
        let [right, left] = self.layout.edges;
        let lane = self.layout.lane;
        match self.layout.kind {
            RoadKind::Town => {
                self.mark(lane / 2.0, 0.12, Some((3.0, 3.0)));
                if self.layout.parking.is_some() {
                    self.mark(-lane / 2.0 - 0.1, 0.1, Some((1.0, 1.0)));
                }
                for edge in [right, left] {
                    let points = self.line(edge);
                    self.world.rails.push(Rail { points, height: 0.12, kind: RailKind::Kerb });
                }
            }
            RoadKind::Motorway => {
                let ours = self.layout.ours.clone();
                for pair in ours.windows(2) {
                    self.mark((pair[0] + pair[1]) / 2.0, 0.15, Some((6.0, 12.0)));
                }
                self.mark(right + 2.4, 0.25, None);
                self.mark(left - 0.5, 0.15, None);
                let far = self.layout.theirs.iter().fold(0.0f64, |m, l| m.max(*l));
                for l in [left + 3.4, far + 1.9] {
                    self.mark(l, 0.15, None);
                }
                self.mark(far - 1.8, 0.15, Some((6.0, 12.0)));
                for edge in [right - 0.6, left + 1.4] {
                    let points = self.line(edge);
                    self.world.rails.push(Rail { points, height: 0.75, kind: RailKind::GuardRail });
                }
            }
            RoadKind::Country => {
                self.mark(lane / 2.0, 0.12, Some((4.0, 8.0)));
                self.mark(right + 0.2, 0.12, None);
                self.mark(left - 0.2, 0.12, None);
            }
        }
        if let Some(s) = features.zebra {
            let at = self.layout.route.at(s, (right + left) / 2.0);
            self.world.zebras.push(Zebra { at: at.point(), heading: at.heading, length: 3.5, width: left - right });
        }
    }

    fn crossing(&mut self, features: &Features) {
        let Some(s) = self.layout.junction else { return };
        let route = &self.layout.route;
        let [right, left] = self.layout.edges;
        let at = route.at(s, 0.0);
        self.world.junctions.push(Junction {
            s,
            at: at.point(),
            heading: at.heading + PI / 2.0,
            half: [(left - right) / 2.0, CROSS_HALF_M],
            signalled: features.lights.is_some(),
        });
        let stop = s - CROSS_HALF_M - 2.0;
        let lane = self.layout.lane / 2.0;
        let bar = vec![route.at(stop, -lane).point(), route.at(stop, lane).point()];
        let cross = |x: f64, from: f64, to: f64| vec![at.offset(x, from).point(), at.offset(x, to).point()];
        let mut add = |points: Vec<Point2>, width: f64, dash| {
            self.world.markings.push(Marking { points, width, dash, yellow: false });
        };
        if features.lights.is_some() {
            add(bar, 0.4, None);
        }
        // The crossing road's middle line, and its stop or give-way lines on the lane that enters.
        add(cross(0.0, left + 1.0, CROSS_M), 0.12, Some((3.0, 3.0)));
        add(cross(0.0, -CROSS_M, right - 1.0), 0.12, Some((3.0, 3.0)));
        let dash = if features.lights.is_some() { None } else { Some((0.5, 0.4)) };
        add(vec![at.offset(0.0, right - 1.0).point(), at.offset(CROSS_HALF_M, right - 1.0).point()], 0.4, dash);
        add(vec![at.offset(-CROSS_HALF_M, left + 1.0).point(), at.offset(0.0, left + 1.0).point()], 0.4, dash);
        match features.lights {
            Some([ours, cross]) => {
                for (ahead, aside, facing, phases) in [
                    (-CROSS_HALF_M - 1.2, right - 0.7, PI, ours),
                    (CROSS_HALF_M + 1.2, left + 0.7, 0.0, ours),
                    (CROSS_HALF_M + 1.2, right - 1.0, -PI / 2.0, cross),
                    (-CROSS_HALF_M - 1.2, left + 1.0, PI / 2.0, cross),
                ] {
                    let foot = at.offset(ahead, aside);
                    let light = TrafficLight { at: foot.point(), facing: at.heading + facing, height: 2.6, phases };
                    self.world.lights.push(light);
                }
            }
            None => {
                for (ahead, aside, facing) in
                    [(CROSS_HALF_M + 0.8, right - 1.4, -PI / 2.0), (-CROSS_HALF_M - 0.8, left + 1.4, PI / 2.0)]
                {
                    let foot = at.offset(ahead, aside);
                    let kind = if self.layout.kind == RoadKind::Town { SignKind::GiveWay } else { SignKind::Stop };
                    let facing = at.heading + facing;
                    self.world.signs.push(Sign { at: foot.point(), facing, height: 2.1, size: 0.75, kind });
                }
            }
        }
    }

    /// True where houses and trees must not stand: on the crossing road, at a tunnel or a railway.
    fn kept_clear(&self, s: f64, reach: f64, features: &Features) -> bool {
        let near = |at: Option<f64>, room: f64| at.is_some_and(|at| (s - at).abs() < room + reach);
        near(self.layout.junction, CROSS_HALF_M + 4.0)
            || near(features.level_crossing.map(|c| c.s), 6.0)
            || features.tunnel.is_some_and(|(from, to)| s > from - reach && s < to + reach)
    }

    fn roadside(&mut self, features: &Features) {
        let (house_share, tree_share) = match self.layout.kind {
            RoadKind::Town => (0.82, 0.35),
            RoadKind::Motorway => (0.03, 0.5),
            RoadKind::Country => (0.07, 0.75),
        };
        let far = self.layout.theirs.iter().fold(self.layout.edges[1], |m, l| m.max(*l + 3.5));
        for side in [1.0, -1.0] {
            let edge = if side > 0.0 { far } else { -self.layout.edges[0] };
            let mut s = 4.0;
            while s < self.length - 10.0 && self.world.buildings.len() + self.world.trees.len() < THINGS {
                let house = self.rng.unit() < house_share;
                let step = if house {
                    self.house(s, side, edge, features)
                } else {
                    self.green(s, side, edge, tree_share, features)
                };
                s += step;
            }
        }
        if self.layout.kind == RoadKind::Town {
            let mut s = self.rng.between(5.0, 25.0);
            while s < self.length {
                if !self.kept_clear(s, 1.0, features) {
                    let at = self.layout.route.at(s, self.layout.edges[0] - 0.6);
                    let facing = at.heading + PI / 2.0;
                    self.world.lamps.push(Lamp { at: at.point(), facing, height: 6.5, arm: 1.6 });
                }
                s += 28.0;
            }
        }
        if self.layout.kind == RoadKind::Country && self.rng.unit() < 0.5 {
            let points = self.layout.route.polyline(40.0, self.length * 0.6, self.layout.edges[0] - 3.5, EVERY_M);
            let kind = if self.rng.unit() < 0.5 { RailKind::Fence } else { RailKind::Hedge };
            if self.layout.junction.is_none() && features.level_crossing.is_none() {
                self.world.rails.push(Rail { points, height: 1.1, kind });
            }
        }
    }

    fn house(&mut self, s: f64, side: f64, edge: f64, features: &Features) -> f64 {
        const WALLS: [[u8; 3]; 8] = [
            [198, 180, 152],
            [172, 118, 94],
            [208, 202, 192],
            [148, 140, 134],
            [190, 162, 122],
            [168, 152, 160],
            [214, 196, 160],
            [134, 96, 82],
        ];
        let length = self.rng.between(8.0, 18.0);
        let gap = if self.rng.unit() < 0.6 { 0.2 } else { self.rng.between(1.0, 5.0) };
        if self.kept_clear(s + length / 2.0, length / 2.0, features) {
            return 4.0;
        }
        let floors = 1 + (self.rng.next_u64() % 5) as u8;
        let width = self.rng.between(8.0, 12.0);
        let set_back = match self.layout.kind {
            RoadKind::Town => self.rng.between(2.7, 4.2),
            _ => self.rng.between(12.0, 35.0),
        };
        let at = self.layout.route.at(s + length / 2.0, side * (edge + set_back + width / 2.0));
        // Inside a bend a house could reach onto the road.
        let bend = self.layout.route.curvature(s + length / 2.0) * side;
        if bend > 0.004 {
            return 6.0;
        }
        let colour = WALLS[(self.rng.next_u64() % 8) as usize];
        let roof = if floors < 4 { self.rng.between(1.5, 3.5) } else { 0.0 };
        self.world.buildings.push(Building {
            at: at.point(),
            heading: at.heading,
            length,
            width,
            height: 1.0 + 2.9 * f64::from(floors),
            roof,
            floors,
            colour,
        });
        length + gap
    }

    fn green(&mut self, s: f64, side: f64, edge: f64, share: f64, features: &Features) -> f64 {
        let step = self.rng.between(4.0, 11.0);
        let (draw, back, height) = (self.rng.unit(), self.rng.unit(), self.rng.unit());
        if draw > share || self.kept_clear(s, 1.5, features) {
            return step;
        }
        let (near, spread) = match self.layout.kind {
            RoadKind::Town => (1.2, 1.0),
            RoadKind::Motorway => (5.0, 18.0),
            RoadKind::Country => (2.8, 12.0),
        };
        let kind = match (self.layout.kind, self.rng.next_u64() % 5) {
            (RoadKind::Town, _) | (_, 0 | 1) => TreeKind::Broadleaf,
            (_, 2 | 3) => TreeKind::Conifer,
            _ => TreeKind::Bush,
        };
        let height = match kind {
            TreeKind::Bush => 0.8 + 1.2 * height,
            _ => 4.5 + 7.5 * height,
        };
        let at = self.layout.route.at(s, side * (edge + near + spread * back));
        let shade = self.rng.between(-16.0, 16.0);
        let colour = [(58.0 + shade) as u8, (98.0 + shade) as u8, (46.0 + shade / 2.0) as u8];
        self.world.trees.push(Tree { at: at.point(), height, radius: height * 0.28, kind, colour });
        step
    }

    fn sign(&mut self, s: f64, left: f64, kind: SignKind, height: f64, size: f64) {
        let at = self.layout.route.at(s, left);
        self.world.signs.push(Sign { at: at.point(), facing: at.heading + PI, height, size, kind });
    }

    fn signs(&mut self, features: &Features) {
        let right = self.layout.edges[0] - 0.8;
        let mut s = self.rng.between(100.0, 160.0);
        while s < self.length && self.world.signs.len() < 40 {
            if !self.kept_clear(s, 2.0, features) {
                match self.layout.kind {
                    RoadKind::Motorway if self.rng.unit() < 0.4 => {
                        self.sign(s, right - 1.5, SignKind::Direction, 3.6, 3.2);
                    }
                    _ => self.sign(s, right, SignKind::Limit(features.limit), 2.2, 0.7),
                }
            }
            s += self.rng.between(120.0, 260.0);
        }
        if let Some(s) = features.zebra {
            self.sign(s - 2.6, right, SignKind::Crossing, 2.2, 0.7);
        }
        if let Some(crossing) = features.level_crossing {
            self.sign(crossing.s - 4.5, right - 0.3, SignKind::Railway, 2.2, 1.0);
            self.sign(crossing.s - 90.0, right, SignKind::Warning, 2.2, 0.8);
        }
        if let Some(s) = features.works {
            self.sign(s, right, SignKind::Works, 2.2, 0.9);
        }
    }
}
