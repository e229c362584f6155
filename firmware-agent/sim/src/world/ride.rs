//! How the body rides on its springs, and how the unit shakes on its mount, from a run of the ego vehicle.
//!
//! Two quarter cars (front and rear axle; body mass, axle mass, spring, damper, tyre) carry the load transfer of
//! braking and the profile of the road, so that pitch, heave and vertical acceleration belong together; roll is a
//! second-order system of its own. The road's roughness is a random walk, whose spectrum falls with the square of the
//! wave number as ISO 8608 has it (class A 16e-6 m^3, class B 64e-6 at 0.1 cycles/m). The unit hangs on a mount that
//! rings at some tens of hertz. Constants are textbook values of passenger cars.

use super::engine::Trace;
use super::geometry::Pose;
use super::rigid::G;
use super::stage::{Stage, UnitShock};
use super::state::Bump;
use crate::maths::{PI, cos, sin};
use crate::rng::Rng;

const DT: f64 = 1e-3;
/// Spacing of the table of roughness, metres.
const ROUGH_M: f64 = 0.05;
/// The unit's place from the middle of the body: forward, up, metres.
pub(crate) const UNIT_M: [f64; 2] = [0.55, 0.65];

/// One millisecond of the body and the unit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RideMs {
    /// Nose down, right side down, rad; above rest, m.
    pub(crate) pitch: f64,
    pub(crate) roll: f64,
    pub(crate) heave: f64,
    /// About forward, left, up, rad/s.
    pub(crate) rates: [f64; 3],
    /// Of the unit, vehicle axes (forward, left, up), gravity left out, m/s^2.
    pub(crate) accel: [f64; 3],
    /// Angles of the unit against the body, rad, about forward, left, up.
    pub(crate) unit: [f64; 3],
}

/// Half of the car on one axle.
#[derive(Clone, Copy, Debug, Default)]
struct Corner {
    body: [f64; 2],
    axle: [f64; 2],
    accel: f64,
}

/// Springs and masses of an axle's half of the car.
struct Springs {
    body_kg: f64,
    axle_kg: f64,
    spring: f64,
    damper: f64,
    tyre: f64,
}

impl Springs {
    fn new(mass: f64) -> Self {
        let body_kg = mass * 0.45;
        let w = 2.0 * PI * 1.35;
        let spring = body_kg * w * w;
        Self { body_kg, axle_kg: mass * 0.055, spring, damper: 2.0 * 0.33 * body_kg * w, tyre: spring * 8.0 }
    }

    /// Moves on by a millisecond under a load on the body and a road height.
    fn advance(&self, c: &mut Corner, load: f64, road: f64) {
        // The bump stop: beyond 9 cm the spring is ten times as stiff.
        let travel = c.body[0] - c.axle[0];
        let stop = (travel.abs() - 0.09).max(0.0) * self.spring * 10.0;
        let stop = if travel < 0.0 { -stop } else { stop };
        let force = -self.spring * travel - stop - self.damper * (c.body[1] - c.axle[1]);
        // A tyre pushes, it does not pull: no more than its static load upward from the road.
        let tyre = (self.tyre * (road - c.axle[0])).max(-(self.body_kg + self.axle_kg) * G);
        c.accel = (force + load) / self.body_kg;
        c.body[1] += c.accel * DT;
        c.axle[1] += (tyre - force) / self.axle_kg * DT;
        c.body[0] += c.body[1] * DT;
        c.axle[0] += c.axle[1] * DT;
    }
}

/// The unit on its mount along one axis: place and speed against the body.
#[derive(Clone, Copy, Debug, Default)]
struct Mount {
    q: f64,
    v: f64,
}

impl Mount {
    /// Absolute acceleration of the unit when its foot has the acceleration `a`.
    fn advance(&mut self, a: f64, w: f64, damping: f64) -> f64 {
        let back = -w * w * self.q - 2.0 * damping * w * self.v;
        self.v += (back - a) * DT;
        self.q += self.v * DT;
        back
    }
}

struct Road<'a> {
    rough: Vec<f64>,
    bumps: &'a [Bump],
    kerb: Option<f64>,
}

impl Road<'_> {
    fn height(&self, s: f64, left: f64, at: &Pose) -> f64 {
        let index = (s / ROUGH_M).max(0.0) as usize;
        let mut z = self.rough.get(index % self.rough.len().max(1)).copied().unwrap_or(0.0);
        for bump in self.bumps {
            let d = [at.x - bump.at[0], at.y - bump.at[1]];
            if d[0].abs() + d[1].abs() > bump.length + bump.width {
                continue;
            }
            let (sin_b, cos_b) = (sin(bump.heading), cos(bump.heading));
            let (along, across) = (cos_b * d[0] + sin_b * d[1], cos_b * d[1] - sin_b * d[0]);
            // A tyre rolls over an edge: the shape is a little longer than the bump, and round.
            let reach = bump.length / 2.0 + 0.08;
            if along.abs() < reach && across.abs() < bump.width / 2.0 + 0.1 {
                let hat = cos(PI * along / (2.0 * reach));
                z += bump.height * hat * hat;
            }
        }
        if let Some(kerb) = self.kerb {
            z += 0.12 * ((kerb - left) / 0.2).clamp(0.0, 1.0);
        }
        z
    }
}

/// The ride of a run.
pub(crate) fn ride(stage: &Stage, trace: &Trace, root: u64) -> Vec<RideMs> {
    let mut rng = Rng::new(root, 103);
    let mass = stage.ego_build.mass;
    let springs = Springs::new(mass);
    let wheelbase = stage.ego_build.size[0] * 0.6;
    let track = stage.ego_build.size[1] * 0.85;
    let road = Road { rough: rough(&mut rng, stage), bumps: &stage.world.bumps, kerb: kerb(stage) };
    let ring = [rng.between(30.0, 46.0), rng.between(30.0, 46.0), rng.between(26.0, 40.0)].map(|f| 2.0 * PI * f);
    let damping = rng.between(0.08, 0.16);
    let (mut front, mut rear) = (Corner::default(), Corner::default());
    let (mut roll, mut roll_v) = (0.0, 0.0);
    let mut mounts = [Mount::default(); 3];
    let mut out = Vec::with_capacity(trace.ego.len());
    let wash = if stage.weather.car_wash { 1.0 } else { 0.0 };
    for (ms, ego) in trace.ego.iter().enumerate() {
        let body = Pose { x: ego.x, y: ego.y, heading: ego.heading };
        let height = |ahead: f64, aside: f64| road.height(ego.s + ahead, ego.left + aside, &body.offset(ahead, aside));
        let z = [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)]
            .map(|(a, b)| height(a * wheelbase / 2.0, b * track / 2.0));
        // Contacts push near the height of the centre of gravity: they pitch the body far less than brakes do.
        let along = ego.accel[0].clamp(-11.0, 11.0) + 0.06 * (ego.accel[0] - ego.accel[0].clamp(-11.0, 11.0));
        let transfer = -mass * along * 0.42 / wheelbase;
        springs.advance(&mut front, -transfer, (z[0] + z[1]) / 2.0);
        springs.advance(&mut rear, transfer, (z[2] + z[3]) / 2.0);
        let w = 2.0 * PI * 1.7;
        let lean = 0.0052 * ego.accel[1].clamp(-14.0, 14.0) + 0.6 * (z[0] + z[2] - z[1] - z[3]) / (2.0 * track);
        let roll_a = w * w * (lean - roll) - 2.0 * 0.35 * w * roll_v;
        roll_v += roll_a * DT;
        roll += roll_v * DT;
        let pitch = (rear.body[0] - front.body[0]) / wheelbase;
        let pitch_v = (rear.body[1] - front.body[1]) / wheelbase;
        let pitch_a = (rear.accel - front.accel) / wheelbase;
        let [forward, up] = UNIT_M;
        let moving = if ego.v.abs() > 0.3 { 1.0 } else { 0.0 };
        let hum = 0.05 + moving * (0.04 + 0.014 * ego.v.abs()) + wash * 0.5;
        let noise: [f64; 3] = core::array::from_fn(|_| hum * 3.16 * quick_normal(&mut rng));
        let foot = [
            ego.accel[0] + pitch_a * up + 0.4 * noise[0],
            ego.accel[1] - roll_a * up + 0.4 * noise[1],
            (front.accel + rear.accel) / 2.0 - pitch_a * forward + noise[2],
        ];
        let (knock, turn, turn_v) = shocks(&stage.shocks, ms as f64 * DT);
        let accel = core::array::from_fn(|i| mounts[i].advance(foot[i], ring[i], damping) + knock[i]);
        // The unit hangs some 8 cm below its foot: where it lags behind, it tilts.
        let unit = [mounts[1].q / 0.08 + turn[0], -mounts[2].q / 0.12 - mounts[0].q / 0.16 + turn[1], turn[2]];
        let tilt_v = [mounts[1].v / 0.08, -mounts[2].v / 0.12 - mounts[0].v / 0.16];
        let rates =
            [roll_v + turn_v[0] + 0.3 * tilt_v[0], pitch_v + turn_v[1] + 0.3 * tilt_v[1], ego.yaw_rate + turn_v[2]];
        let heave = (front.body[0] + rear.body[0]) / 2.0;
        out.push(RideMs { pitch, roll, heave, rates, accel, unit });
    }
    out
}

fn kerb(stage: &Stage) -> Option<f64> {
    stage.ego.kerb.then_some(stage.layout.edges[0] - 0.05)
}

/// A near-normal number from four uniforms: quick, and good enough for hum.
fn quick_normal(rng: &mut Rng) -> f64 {
    (rng.unit() + rng.unit() + rng.unit() + rng.unit() - 2.0) * 1.732_050_8
}

/// Heights of the road, metres, every [`ROUGH_M`].
fn rough(rng: &mut Rng, stage: &Stage) -> Vec<f64> {
    use super::state::RoadKind;
    let worst = match stage.layout.kind {
        RoadKind::Motorway => [2e-6, 14e-6],
        RoadKind::Town => [6e-6, 50e-6],
        RoadKind::Country => [6e-6, 60e-6],
    };
    let class = rng.between(worst[0], worst[1]);
    // Variance per metre of a random walk with the spectrum class * (0.1 / n)^2.
    let step = (class * 0.01 * 4.0 * PI * PI / 2.0 * ROUGH_M).sqrt();
    let count = (stage.layout.route.length() / ROUGH_M) as usize + 1;
    let mut z = 0.0;
    (0..count)
        .map(|_| {
            z += step * quick_normal(rng) - z * ROUGH_M / 15.0;
            z
        })
        .collect()
}

/// What shocks of the unit alone do at a time: acceleration, turn and its rate.
fn shocks(all: &[UnitShock], t: f64) -> ([f64; 3], [f64; 3], [f64; 3]) {
    let mut sum = ([0.0; 3], [0.0; 3], [0.0; 3]);
    for shock in all {
        let since = t - shock.t;
        if since < 0.0 {
            continue;
        }
        let fade = 1.0 + since / shock.fade_s;
        let fade = fade * fade * fade * fade;
        let wave = if fade > 1e6 { 0.0 } else { sin(2.0 * PI * shock.hz * since) / fade * 1.6 };
        let f = (since / shock.turn_s).min(1.0);
        for i in 0..3 {
            sum.0[i] += shock.peak[i] * wave;
            sum.1[i] += shock.turn[i] * f * f * (3.0 - 2.0 * f);
            sum.2[i] += shock.turn[i] * 6.0 * f * (1.0 - f) / shock.turn_s;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Closest, EgoMs};
    use super::*;
    use crate::maths::{mul, rotation};
    use crate::world::built_in;
    use crate::world::stage::set;

    /// A vehicle on a level road at a speed, that accelerates (forward, left) from the first second on.
    fn ridden(v: f64, accel: [f64; 2], yaw_rate: f64) -> Vec<RideMs> {
        let mut stage = set(&built_in("town").unwrap().unwrap(), 3);
        stage.world.bumps.clear();
        stage.shocks.clear();
        stage.weather.car_wash = false;
        // Before the first of the road's heights it is level.
        let ego = |ms: usize| {
            let now = if ms < 1000 { [0.0; 2] } else { accel };
            EgoMs { v, accel: now, yaw_rate, s: -1000.0, ..EgoMs::default() }
        };
        let trace = Trace {
            ego: (0..4000).map(ego).collect(),
            actors: Vec::new(),
            actors_per_step: 0,
            contacts: Vec::new(),
            closest: Closest::NONE,
            hardest: 0.0,
            answered: None,
            spoiled: false,
        };
        ride(&stage, &trace, 3)
    }

    /// Pitch and roll at the end.
    fn settled(accel: [f64; 2]) -> [f64; 2] {
        let last = *ridden(14.0, accel, 0.0).last().unwrap();
        [last.pitch, last.roll]
    }

    #[test]
    fn braking_pitches_the_nose_down_and_pulling_away_lifts_it() {
        let [pitch, roll] = settled([-6.0, 0.0]);
        assert!((0.01..0.05).contains(&pitch) && roll.abs() < 1e-9, "{pitch} {roll}");
        // By the axes: what lies ahead in the body is below level in the world.
        assert!(mul(&rotation(0.0, pitch, 0.0), [1.0, 0.0, 0.0])[2] < -0.01, "{pitch}");
        let [lifted, _] = settled([3.0, 0.0]);
        assert!((-0.025..-0.005).contains(&lifted), "{lifted}");
    }

    #[test]
    fn a_left_turn_rolls_the_body_to_the_right() {
        let [pitch, roll] = settled([0.0, 4.0]);
        assert!((0.018..0.024).contains(&roll) && pitch.abs() < 1e-9, "{pitch} {roll}");
        // Its left side is up.
        assert!(mul(&rotation(0.0, 0.0, roll), [0.0, 1.0, 0.0])[2] > 0.018, "{roll}");
        let [_, right] = settled([0.0, -4.0]);
        assert!((right + roll).abs() < 1e-9, "{right} {roll}");
    }

    #[test]
    fn rates_are_those_of_the_angles_but_for_what_the_unit_shakes() {
        let ride = ridden(14.0, [-5.0, 3.0], 0.2);
        let mut sum = [0.0; 2];
        for (ms, now) in ride.iter().enumerate() {
            sum = [sum[0] + now.rates[0] * DT, sum[1] + now.rates[1] * DT];
            let off = [sum[0] - now.roll, sum[1] - now.pitch];
            assert!((0..2).all(|i| off[i].abs() <= now.unit[i].abs() + 1e-9), "{ms} ms: {off:?} {:?}", now.unit);
            assert!((now.rates[2] - 0.2).abs() < 1e-9, "{ms} ms: {:?}", now.rates);
        }
        // The angles are ten times as large as what is left over.
        let last = ride[ride.len() - 1];
        assert!(last.pitch > 0.01 && (sum[1] - last.pitch).abs() < 0.1 * last.pitch, "{sum:?} {last:?}");
        assert!(last.roll > 0.01 && (sum[0] - last.roll).abs() < 0.1 * last.roll, "{sum:?} {last:?}");
    }

    #[test]
    fn at_rest_on_a_level_road_it_stays_level() {
        let ride = ridden(0.0, [0.0; 2], 0.0);
        assert!(ride.iter().all(|r| r.pitch.abs() < 1e-9 && r.roll.abs() < 1e-9));
        // It sits on the road's height, and only the engine is felt.
        let late = &ride[3000..];
        assert!(late.iter().all(|r| r.heave.abs() < 0.01 && (r.heave - late[0].heave).abs() < 1e-4));
        assert!(late.iter().all(|r| r.rates.iter().all(|x| x.abs() < 0.03)));
        let mean: [f64; 3] = core::array::from_fn(|i| late.iter().map(|r| r.accel[i]).sum::<f64>() / late.len() as f64);
        assert!(mean.iter().all(|a| a.abs() < 0.03), "{mean:?}");
    }
}
