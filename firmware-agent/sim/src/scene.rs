//! Draws what the camera sees: sky, street, what stands beside it, the car ahead, the own bonnet, and the word
//! SYNTHETIC with the time. Farther things first.

use crate::lead::draw_lead;
use crate::limits::{FRAME_HEIGHT, FRAME_WIDTH, SCENERY};
use crate::maths::{PI, cos, sin};
use crate::motion::{Motion, Step};
use crate::raster::{Canvas, Point};
use crate::rng::Rng;
use crate::road::{POTHOLE_S, Road, Scenery, Thing};
use crate::view::{View, beside};

/// How far the street is drawn, metres.
const FAR_M: f64 = 190.0;
/// Edges of the street's parts, metres to the left of the driven line.
const LANE: [f64; 3] = [-1.9, 1.75, 5.4];
const KERBS: [f64; 2] = [-4.6, 8.1];
const ASPHALT: [u8; 3] = [92, 94, 98];
const PAVEMENT: [u8; 3] = [158, 154, 148];
const PAINT: [u8; 3] = [226, 226, 220];

pub(crate) struct Painter {
    canvas: Canvas,
    order: Vec<(f64, usize)>,
    rng: Rng,
    seed: u64,
}

impl Painter {
    pub(crate) fn new(seed: u64) -> Self {
        Self { canvas: Canvas::new(), order: Vec::with_capacity(SCENERY + 1), rng: Rng::new(seed, 5), seed }
    }

    /// The image at a millisecond, RGB rows from the top.
    pub(crate) fn paint(&mut self, road: &Road, motion: &Motion, ms: usize) -> &[u8] {
        let step = motion.at(ms);
        let view = View::new(road, &step, self.shake(motion, ms, &step));
        self.sky(&view, road, &step);
        self.street(&view, road, step.s);
        self.things(&view, road, &step, ms, motion.contact > 0 && ms > motion.contact + 900);
        bonnet(&mut self.canvas);
        crate::caption::draw(&mut self.canvas, ms);
        &self.canvas.rgb
    }

    /// Angles by which the unit shakes on its mount: a little with speed, strongly after the pothole and the impact.
    fn shake(&mut self, motion: &Motion, ms: usize, step: &Step) -> [f64; 3] {
        let since = |begin: usize| (ms >= begin && begin > 0).then(|| (ms - begin) as f64 * 1e-3);
        let kick = |t: Option<f64>, size: f64| t.map_or(0.0, |t| size / ((1.0 + 7.0 * t) * (1.0 + 7.0 * t)));
        let crash = kick(since(motion.contact), 0.055);
        let hole = kick(since(motion.pothole), 0.016);
        let t = ms as f64 * 1e-3;
        let road = 0.000_05 * step.v;
        let swing = |hz: f64, phase: f64| sin(2.0 * PI * hz * t + phase);
        [
            0.6 * crash * swing(5.3, 0.3) + road * self.rng.normal(),
            (crash + hole) * swing(4.7, 1.1) + 1.5 * road * self.rng.normal(),
            crash * swing(3.9, 2.0) + road * self.rng.normal(),
        ]
    }

    fn sky(&mut self, view: &View, road: &Road, step: &Step) {
        for y in 0..FRAME_HEIGHT {
            let f = (y as f64 / 190.0).min(1.0);
            let mix = |top: f64, low: f64| (top + (low - top) * f) as u8;
            self.canvas.row(y, [mix(112.0, 206.0), mix(158.0, 216.0), mix(204.0, 224.0)]);
        }
        let here = road.pose(step.s, 0.0);
        let mut rng = Rng::new(self.seed, 12);
        for _ in 0..14 {
            let (bearing, up, size) = (rng.between(-PI, PI), rng.between(70.0, 190.0), rng.between(30.0, 70.0));
            let (x, y) = (here.x + 600.0 * cos(bearing), here.y + 600.0 * sin(bearing));
            for puff in 0..3 {
                let aside = (f64::from(puff) - 1.0) * size;
                let middle = [x - sin(bearing) * aside, y + cos(bearing) * aside, up];
                let round = disc(middle, bearing, size * (1.0 - 0.2 * f64::from(puff)), size * 0.3);
                view.fill(&mut self.canvas, &round, [246, 248, 250], 0.5);
            }
        }
        // Distant hills, then the ground to the horizon.
        for k in 0..24 {
            let bearing = f64::from(k) * PI / 12.0;
            let (x, y) = (here.x + 500.0 * cos(bearing), here.y + 500.0 * sin(bearing));
            let hill = disc([x, y, 0.0], bearing, 95.0, 18.0 + 9.0 * sin(f64::from(k) * 2.4));
            view.fill(&mut self.canvas, &hill, [84, 112, 96], 1.0);
        }
        let corner = |ahead: f64, left: f64| beside(&here, ahead, left, 0.0);
        let ground = [corner(-5.0, -480.0), corner(-5.0, 480.0), corner(480.0, 480.0), corner(480.0, -480.0)];
        view.fill(&mut self.canvas, &ground, [104, 128, 78], 1.0);
    }

    /// The street in strips across it, far to near.
    fn street(&mut self, view: &View, road: &Road, s0: f64) {
        let mut cell = (s0 + FAR_M).floor() as i64;
        let last = s0.floor() as i64 - 3;
        while cell >= last {
            let length = if cell as f64 - s0 > 60.0 { 4 } else { 1 };
            let from = cell as f64;
            let mut strip = |low: f64, high: f64, colour: [u8; 3]| {
                let at = |s: f64, left: f64| {
                    let pose = road.pose(s, left);
                    [pose.x, pose.y, 0.0]
                };
                let to = from + length as f64 + 0.05;
                let quad = [at(from, low), at(from, high), at(to, high), at(to, low)];
                view.fill(&mut self.canvas, &quad, colour, 1.0);
            };
            // A few grey levels by the metre give the eye something that moves.
            let hash = (cell.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
            let tone = |c: [u8; 3]| c.map(|v| v.saturating_add(hash as u8));
            strip(KERBS[0], KERBS[1], tone(PAVEMENT));
            strip(LANE[0] - 0.75, LANE[2] + 0.65, [128, 126, 122]);
            strip(LANE[0] - 0.55, LANE[2] + 0.45, tone(ASPHALT));
            strip(LANE[0], LANE[0] + 0.13, PAINT);
            strip(LANE[2] - 0.13, LANE[2], PAINT);
            if cell.rem_euclid(8) < 4 {
                strip(LANE[1] - 0.07, LANE[1] + 0.07, PAINT);
            }
            cell -= length;
        }
        self.marks(view, road, s0);
    }

    /// Manholes, and the pothole.
    fn marks(&mut self, view: &View, road: &Road, s0: f64) {
        let mut mark = |s: f64, left: f64, along: f64, across: f64, colour: [u8; 3]| {
            if s < s0 - 2.0 || s > s0 + 60.0 {
                return;
            }
            let pose = road.pose(s, left);
            let ring: [_; 16] = core::array::from_fn(|k| {
                let a = k as f64 * PI / 8.0;
                beside(&pose, along * cos(a), across * sin(a), 0.0)
            });
            view.fill(&mut self.canvas, &ring, colour, 1.0);
        };
        for k in 0..12 {
            let s = 20.0 + f64::from(k) * 31.0;
            mark(s, if k % 2 == 0 { 3.4 } else { 0.5 }, 0.4, 0.4, [70, 70, 72]);
        }
        mark(POTHOLE_S, 0.75, 0.75, 0.42, [66, 64, 62]);
        mark(POTHOLE_S + 0.1, 0.75, 0.5, 0.28, [38, 36, 36]);
    }

    /// What stands beside the street and the car ahead, far to near.
    fn things(&mut self, view: &View, road: &Road, step: &Step, ms: usize, hazards: bool) {
        const LEAD: usize = usize::MAX;
        self.order.clear();
        for (i, item) in road.scenery.iter().enumerate() {
            if item.s > step.s - 16.0 && item.s < step.s + FAR_M {
                let pose = road.pose(item.s, item.left);
                let depth = view.depth([pose.x, pose.y, 0.0]);
                if depth > -8.0 {
                    self.order.push((depth, i));
                }
            }
        }
        let lead = road.pose(step.lead_s, 0.0);
        self.order.push((view.depth([lead.x, lead.y, 0.0]), LEAD));
        self.order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, i) in &self.order {
            if *i == LEAD {
                let blink = hazards && (ms / 350).is_multiple_of(2);
                draw_lead(view, &mut self.canvas, road, step.lead_s, step.lead_brake, blink);
            } else if let Some(item) = road.scenery.get(*i) {
                thing(view, &mut self.canvas, road, item);
            }
        }
    }
}

/// An upright ellipse that faces along `bearing`.
pub(crate) fn disc(middle: [f64; 3], bearing: f64, wide: f64, high: f64) -> [[f64; 3]; 24] {
    let (s, c) = (sin(bearing), cos(bearing));
    core::array::from_fn(|k| {
        let a = k as f64 * PI / 12.0;
        [middle[0] - s * wide * cos(a), middle[1] + c * wide * cos(a), middle[2] + high * sin(a)]
    })
}

pub(crate) fn shade(colour: [u8; 3], share: f64) -> [u8; 3] {
    colour.map(|v| (f64::from(v) * share).clamp(0.0, 255.0) as u8)
}

fn thing(view: &View, canvas: &mut Canvas, road: &Road, item: &Scenery) {
    let pose = road.pose(item.s, item.left);
    let up = |left: f64, z: f64| beside(&pose, 0.0, left, z);
    match item.thing {
        Thing::House { length, depth, height, colour } => {
            house(view, canvas, road, item, [length, depth, height], colour)
        }
        Thing::Tree { height, radius, colour } => {
            let shadow: [_; 16] = core::array::from_fn(|k| {
                let a = k as f64 * PI / 8.0;
                beside(&pose, radius * 0.9 * cos(a), radius * 0.9 * sin(a), 0.0)
            });
            view.fill(canvas, &shadow, [70, 76, 66], 0.45);
            view.fill(canvas, &[up(-0.16, 0.0), up(0.16, 0.0), up(0.12, height), up(-0.12, height)], [86, 66, 50], 1.0);
            let crown = |dz: f64, dl: f64, r: f64| disc(up(dl, height + dz), pose.heading, r, r);
            view.fill(canvas, &crown(0.0, 0.0, radius), shade(colour, 0.85), 1.0);
            view.fill(canvas, &crown(0.55 * radius, -0.3 * radius, 0.75 * radius), colour, 1.0);
            view.fill(canvas, &crown(0.4 * radius, 0.35 * radius, 0.5 * radius), shade(colour, 1.2), 1.0);
        }
        Thing::Lamp => {
            let post = [up(-0.06, 0.0), up(0.06, 0.0), up(0.05, 6.4), up(-0.05, 6.4)];
            view.fill(canvas, &post, [110, 112, 116], 1.0);
            view.fill(canvas, &[up(-0.05, 6.3), up(1.6, 6.5), up(1.6, 6.6), up(-0.05, 6.45)], [110, 112, 116], 1.0);
            view.fill(canvas, &[up(0.9, 6.4), up(1.7, 6.4), up(1.6, 6.62), up(1.0, 6.62)], [214, 212, 196], 1.0);
        }
    }
}

/// A box with a roof line, windows and a door towards the street.
fn house(view: &View, canvas: &mut Canvas, road: &Road, item: &Scenery, size: [f64; 3], colour: [u8; 3]) {
    let [length, depth, height] = size;
    let away = if item.left > 0.0 { 1.0 } else { -1.0 };
    let pose = road.pose(item.s, item.left);
    let at = |ahead: f64, back: f64, z: f64| beside(&pose, ahead, away * back, z);
    let half = length / 2.0;
    // The wall across the street's direction that faces the camera, then the front along the street.
    let near = [at(-half, 0.0, 0.0), at(-half, depth, 0.0), at(-half, depth, height), at(-half, 0.0, height)];
    view.fill(canvas, &near, shade(colour, 0.82), 1.0);
    let gable = [at(-half, 0.0, height), at(-half, depth, height), at(-half, depth / 2.0, height + 2.4)];
    view.fill(canvas, &gable, shade(colour, 0.78), 1.0);
    let front =
        |a0: f64, a1: f64, z0: f64, z1: f64| [at(a0, 0.0, z0), at(a1, 0.0, z0), at(a1, 0.0, z1), at(a0, 0.0, z1)];
    view.fill(canvas, &front(-half, half, 0.0, height), colour, 1.0);
    view.fill(canvas, &front(-half, half, 0.0, 0.5), shade(colour, 0.7), 1.0);
    let roof = [
        at(-half, -0.3, height),
        at(half, -0.3, height),
        at(half, depth / 2.0, height + 2.4),
        at(-half, depth / 2.0, height + 2.4),
    ];
    view.fill(canvas, &roof, [128, 76, 62], 1.0);
    let mut z = 1.0;
    while z + 1.6 < height {
        let mut a = -half + 1.0;
        while a + 1.2 < half {
            view.fill(canvas, &front(a - 0.1, a + 1.2, z - 0.1, z + 1.5), [222, 218, 210], 1.0);
            view.fill(canvas, &front(a, a + 1.1, z, z + 1.4), [74, 88, 104], 1.0);
            a += 2.5;
        }
        z += 2.8;
    }
}

/// The own bonnet at the lower edge, always the same.
fn bonnet(canvas: &mut Canvas) {
    let (w, h) = (FRAME_WIDTH as f64, FRAME_HEIGHT as f64);
    let arch = |rise: f64, sink: f64| -> [Point; 19] {
        core::array::from_fn(|k| {
            if k == 17 {
                return (w, h + 1.0);
            }
            if k == 18 {
                return (0.0, h + 1.0);
            }
            let x = k as f64 / 16.0;
            let u = 2.0 * x - 1.0;
            (x * w, h - rise * (1.0 - 0.75 * u * u) + sink)
        })
    };
    canvas.fill(&arch(26.0, 0.0), [30, 38, 52], 1.0);
    canvas.fill(&arch(26.0, 2.5), [58, 72, 92], 1.0);
    canvas.fill(&arch(26.0, 8.0), [44, 56, 74], 1.0);
    let (middle, low) = (w / 2.0, h);
    for side in [-1.0, 1.0] {
        let ridge = [
            (middle + side * 150.0, low),
            (middle + side * 143.0, low),
            (middle + side * 126.0, low - 19.0),
            (middle + side * 128.0, low - 19.0),
        ];
        canvas.fill(&ridge, [66, 80, 100], 0.8);
    }
}
