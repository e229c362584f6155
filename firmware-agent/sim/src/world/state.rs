//! What the world hands to the camera: one instant of it, as plain data.
//!
//! Terms: *world axes* are x east, y north, z up, metres; headings turn from east to north (anticlockwise), radians.
//! The ground is the plane z = 0 but for the bumps and holes named in [`RoadWorld`]. The *route* is the line that the
//! ego vehicle's road follows; ways along it (`s`) begin at 0 at its first point.
//!
//! What it never does: compute or draw.

/// A point on the ground, x east and y north, metres.
pub type Point2 = [f64; 2];

/// One instant of the world.
#[derive(Clone, Copy, Debug)]
pub struct SceneState<'a> {
    /// Time since the begin of the drive, seconds.
    pub t_s: f64,
    /// The vehicle that carries the camera.
    pub ego: Body,
    /// Where the camera is and how it turns.
    pub camera: CameraPose,
    /// Everything that moves or could, the ego vehicle left out; parked vehicles stand in the road.
    pub actors: &'a [Actor],
    /// What does not move.
    pub road: &'a RoadWorld,
    /// Light and weather.
    pub weather: Weather,
    /// Phase of the wipers, 0 (parked) through 0.5 (turning point) to 1; below 0: off.
    pub wipers: f32,
    /// The drive's seed, for textures.
    pub seed: u64,
}

/// Position and attitude of a rigid body: the middle of its footprint on the ground.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Body {
    /// East, metres.
    pub x: f64,
    /// North, metres.
    pub y: f64,
    /// From east to north, radians.
    pub heading: f64,
    /// Nose down positive (as about the left axis), radians.
    pub pitch: f64,
    /// Right side down positive (as about the forward axis), radians.
    pub roll: f64,
    /// Above its rest height, metres.
    pub heave: f64,
    /// Along its heading, m/s; negative: backwards.
    pub speed: f64,
    /// Anticlockwise, rad/s.
    pub yaw_rate: f64,
}

/// The camera in the world.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CameraPose {
    /// East, metres.
    pub x: f64,
    /// North, metres.
    pub y: f64,
    /// Above the ground, metres.
    pub z: f64,
    /// Direction of the optical axis, from east to north, radians.
    pub yaw: f64,
    /// Optical axis below the horizon positive, radians.
    pub pitch: f64,
    /// Right side down positive, radians.
    pub roll: f64,
    /// For motion blur, rad/s, sign as yaw.
    pub yaw_rate: f64,
    /// For motion blur, rad/s, sign as pitch.
    pub pitch_rate: f64,
    /// Focal length over image width.
    pub focal_px_at_width_1: f64,
    /// First radial coefficient: distorted = r (1 + k1 r^2), r over the focal length. Negative: barrel.
    pub k1: f64,
}

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// Passenger car.
    Car,
    /// Tall passenger car.
    Suv,
    /// Delivery van.
    Van,
    /// Lorry.
    Truck,
    /// Bus.
    Bus,
    /// Motorbike with its rider.
    Motorbike,
    /// Bicycle with its rider.
    Cyclist,
    /// Grown person on foot.
    Pedestrian,
    /// Child on foot.
    Child,
    /// Deer or dog.
    Animal,
    /// Traffic cone.
    Cone,
    /// Road block: a board on feet or a concrete element.
    Barrier,
    /// Something lying on the road.
    Debris,
}

/// One road user or thing on the road.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Actor {
    /// The same over the whole drive.
    pub id: u32,
    /// What it is.
    pub kind: ActorKind,
    /// Where it is: the middle of its footprint.
    pub body: Body,
    /// Along its heading, metres.
    pub length: f64,
    /// Across, metres.
    pub width: f64,
    /// Upright, metres.
    pub height: f64,
    /// Paint or clothes, red, green, blue.
    pub colour: [u8; 3],
    /// Brake lights on.
    pub brake: bool,
    /// Indicator: -1 left, 1 right, 2 both, 0 off. Blinks at 1.5 Hz by the scene's time.
    pub indicator: i8,
    /// Headlights (and rear lights) on.
    pub headlights: bool,
    /// 0 upright to 1 lying on its side.
    pub lying: f64,
    /// 0 whole to 1 wrecked.
    pub damage: f64,
    /// Phase of legs, pedals or wheels, turns.
    pub gait: f64,
}

/// Kind of road.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoadKind {
    /// Streets with houses, pavements and crossings.
    #[default]
    Town,
    /// Separated carriageways with guard rails.
    Motorway,
    /// One lane each way between fields and trees.
    Country,
}

/// Everything that stands still. Ribbons come in painting order: later ones lie on earlier ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoadWorld {
    /// Kind of the ego vehicle's road.
    pub kind: RoadKind,
    /// Line that the ego vehicle's road follows (its own lane's middle), points about 2 m apart.
    pub route: Vec<Point2>,
    /// Lanes of all roads.
    pub lanes: Vec<Lane>,
    /// Ground that is no field or grass: asphalt, pavements.
    pub ribbons: Vec<Ribbon>,
    /// Where roads cross.
    pub junctions: Vec<Junction>,
    /// Houses and halls.
    pub buildings: Vec<Building>,
    /// Trees and bushes.
    pub trees: Vec<Tree>,
    /// Signs on posts.
    pub signs: Vec<Sign>,
    /// Traffic lights.
    pub lights: Vec<TrafficLight>,
    /// Street lamps.
    pub lamps: Vec<Lamp>,
    /// Painted lines.
    pub markings: Vec<Marking>,
    /// Zebra crossings.
    pub zebras: Vec<Zebra>,
    /// Guard rails, walls, fences, kerbs.
    pub rails: Vec<Rail>,
    /// Parked vehicles; they never move.
    pub parked: Vec<Actor>,
    /// Speed bumps and holes.
    pub bumps: Vec<Bump>,
    /// Ways along the route between which the road runs in a tunnel, metres.
    pub tunnel: Option<(f64, f64)>,
    /// A railway across the road.
    pub level_crossing: Option<LevelCrossing>,
}

/// Middle line of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// In the direction of travel.
    pub points: Vec<Point2>,
    /// Metres.
    pub width: f64,
}

/// What ground is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Material {
    /// Road surface.
    Asphalt,
    /// Slabs beside the road, raised by the height of a kerb (0.12 m; it may be drawn flat).
    Pavement,
    /// Hard shoulder, car park, older asphalt.
    Shoulder,
    /// Mown strip beside or between carriageways.
    Verge,
}

/// A strip of ground between two lines of equally many points.
#[derive(Clone, Debug, PartialEq)]
pub struct Ribbon {
    /// Left edge in the direction of its points.
    pub left: Vec<Point2>,
    /// Right edge.
    pub right: Vec<Point2>,
    /// What it is made of.
    pub material: Material,
}

/// A crossing of the route with another road.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Junction {
    /// Way along the route of its middle, metres.
    pub s: f64,
    /// Middle.
    pub at: Point2,
    /// Direction of the crossing road, radians.
    pub heading: f64,
    /// Half the widths of the route's road and of the crossing road, metres.
    pub half: [f64; 2],
    /// Has traffic lights.
    pub signalled: bool,
}

/// A house.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Building {
    /// Middle of its footprint.
    pub at: Point2,
    /// Direction of its front's line, radians.
    pub heading: f64,
    /// Along the heading, metres.
    pub length: f64,
    /// Across, metres.
    pub width: f64,
    /// To the eaves, metres.
    pub height: f64,
    /// Of the roof above the eaves, metres; 0: flat.
    pub roof: f64,
    /// Storeys, for the windows.
    pub floors: u8,
    /// Of the walls.
    pub colour: [u8; 3],
}

/// What a tree looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TreeKind {
    /// Round crown.
    Broadleaf,
    /// Pointed.
    Conifer,
    /// No trunk.
    Bush,
}

/// A tree or bush.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tree {
    /// Foot.
    pub at: Point2,
    /// Metres.
    pub height: f64,
    /// Of the crown, metres.
    pub radius: f64,
    /// What it looks like.
    pub kind: TreeKind,
    /// Of the crown.
    pub colour: [u8; 3],
}

/// What a sign says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignKind {
    /// Red ring with this limit in km/h.
    Limit(u8),
    /// Octagon.
    Stop,
    /// Triangle on its point.
    GiveWay,
    /// Warning triangle.
    Warning,
    /// Blue square: pedestrian crossing.
    Crossing,
    /// Diagonal cross of a railway.
    Railway,
    /// Large direction board (blue or green).
    Direction,
    /// Arrow board of road works.
    Works,
}

/// A sign on a post.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sign {
    /// Foot of the post.
    pub at: Point2,
    /// The way its face looks, radians (towards those who shall read it).
    pub facing: f64,
    /// Middle of the face above the ground, metres.
    pub height: f64,
    /// Side or diameter of the face, metres.
    pub size: f64,
    /// What it says.
    pub kind: SignKind,
}

/// What a traffic light shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LightColour {
    /// Stop.
    #[default]
    Red,
    /// About to change.
    Amber,
    /// Go.
    Green,
}

/// A traffic light on a post.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrafficLight {
    /// Foot of the post.
    pub at: Point2,
    /// The way its face looks, radians.
    pub facing: f64,
    /// Middle of the three lamps above the ground, metres.
    pub height: f64,
    /// What it shows and until when, seconds of the drive, in order; the last one holds to the end.
    pub phases: [(f64, LightColour); 6],
}

impl TrafficLight {
    /// What it shows at a time.
    #[must_use]
    pub fn colour_at(&self, t_s: f64) -> LightColour {
        let now = self.phases.iter().find(|(until, _)| t_s < *until).or(self.phases.last());
        now.map_or(LightColour::Red, |(_, colour)| *colour)
    }
}

/// A street lamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamp {
    /// Foot of the post.
    pub at: Point2,
    /// Direction of its arm, radians (towards the road).
    pub facing: f64,
    /// Metres.
    pub height: f64,
    /// Length of the arm, metres.
    pub arm: f64,
}

/// A painted line.
#[derive(Clone, Debug, PartialEq)]
pub struct Marking {
    /// Its middle.
    pub points: Vec<Point2>,
    /// Metres.
    pub width: f64,
    /// Lengths of dash and gap, metres; `None`: unbroken.
    pub dash: Option<(f64, f64)>,
    /// Yellow instead of white.
    pub yellow: bool,
}

/// A zebra crossing: bars along the direction of travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zebra {
    /// Middle.
    pub at: Point2,
    /// Direction of travel on the road, radians.
    pub heading: f64,
    /// Along the direction of travel, metres.
    pub length: f64,
    /// Across the road, metres.
    pub width: f64,
}

/// What stands along a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RailKind {
    /// Steel guard rail on posts.
    GuardRail,
    /// Concrete wall.
    Wall,
    /// Wooden or wire fence.
    Fence,
    /// Kerb stone.
    Kerb,
    /// Hedge.
    Hedge,
}

/// Something that stands along a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Rail {
    /// Its foot.
    pub points: Vec<Point2>,
    /// Metres.
    pub height: f64,
    /// What it is.
    pub kind: RailKind,
}

/// A speed bump (height above 0) or a pothole (height below 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bump {
    /// Middle.
    pub at: Point2,
    /// Direction of travel, radians.
    pub heading: f64,
    /// Along the direction of travel, metres.
    pub length: f64,
    /// Across, metres.
    pub width: f64,
    /// Metres; negative: depth of a hole.
    pub height: f64,
}

/// A railway across the road.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelCrossing {
    /// Way along the route, metres.
    pub s: f64,
    /// Middle of the track on the road.
    pub at: Point2,
    /// Direction of the track, radians.
    pub heading: f64,
    /// Barriers are down between these times, seconds (equal: never).
    pub closed: (f64, f64),
}

/// Light and weather.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Above the horizon, degrees.
    pub sun_elevation_deg: f64,
    /// Direction towards the sun, from east to north, degrees.
    pub sun_azimuth_deg: f64,
    /// 0 clear to 1 overcast.
    pub cloud: f32,
    /// 0 dry to 1 cloudburst.
    pub rain: f32,
    /// 0 clear to 1 (sight about 40 m).
    pub fog: f32,
    /// No sun: street lamps and headlights.
    pub night: bool,
    /// Of the road, 0 dry to 1 standing water.
    pub wet: f32,
    /// The vehicle is in a car wash: foam and brushes before the windscreen.
    pub car_wash: bool,
}
