//! A simulated drive: its records in the order of time, and its truth.
//!
//! The whole run is computed when the drive is made, because its truth must be known before its first record; pictures
//! are drawn as they are asked for.

use agent_core::time::MonoTime;

use super::engine::{self, EgoMs, Trace};
use super::facts;
use super::ride::{RideMs, UNIT_M, ride};
use super::scenario::{Scenario, ScenarioError};
use super::sensors::{Gnss, Imu, bus_state, to_vehicle};
use super::sight;
use super::stage::{Stage, set};
use super::state::{Actor, ActorKind, Body, CameraPose, SceneState};
use super::truth::{DriveTruth, EventTruth, FrameTruth, SensorTruth, TrackTruth, kind_name};
use super::verdict::judge;
use crate::bus::{Bus, BusMessage};
use crate::demo::SimRecord;
use crate::limits::{ATTEMPTS, TRACE_MS};
use crate::maths::{PI, sin};
use crate::rng::Rng;

/// How a drive is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveOptions {
    /// Size of the pictures, pixels.
    pub size: [usize; 2],
    /// Pictures a second; 0: none.
    pub fps: f64,
    /// Inertial samples a second: 100 or 500, or another whole divisor of 1000.
    pub imu_hz: usize,
    /// Fixes a second: 1 to 10.
    pub gnss_hz: usize,
}

impl Default for DriveOptions {
    fn default() -> Self {
        Self { size: [640, 360], fps: 12.5, imu_hz: 100, gnss_hz: 5 }
    }
}

/// What belongs to the camera and its mount; see the camera's own description of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Colour of the bonnet.
    pub bonnet: [u8; 3],
    /// Share of the picture's height that the bonnet covers; 0: not in view.
    pub bonnet_height: f32,
    /// Strength of the windscreen's reflections, 0 to 1.
    pub reflection: f32,
    /// Deviation of the sensor's noise by day, steps of 255.
    pub noise: f32,
    /// Exposure time by day, s.
    pub exposure_s: f32,
}

/// The camera's place and eye.
#[derive(Clone, Copy, Debug)]
struct Eye {
    height: f64,
    aside: f64,
    yaw: f64,
    tilt: f64,
    roll: f64,
    focal: f64,
    k1: f64,
}

/// A simulated drive.
#[derive(Debug)]
pub struct WorldDrive {
    stage: Stage,
    trace: Trace,
    ride: Vec<RideMs>,
    truth: DriveTruth,
    options: DriveOptions,
    imu: Imu,
    gnss: Gnss,
    bus: Bus,
    eye: Eye,
    airbag: Option<usize>,
    seed: u64,
    actors: Vec<Actor>,
    ms: usize,
    slot: usize,
    frames: u64,
}

/// Sources within one millisecond, in the order in which they are handed out, 100 microseconds apart.
const SLOTS: usize = BusMessage::ALL.len() + 3;

/// A number for a scenario, a seed and a draw: what everything random in the drive is seeded by.
fn root(name: &str, seed: u64, draw: u64) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    Rng::new(hash ^ seed.rotate_left(32), draw).next_u64()
}

/// What comes next from a drive: a record, or the time for a picture, which [`WorldDrive::scene`] describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// A record of a sensor or the bus.
    Record(SimRecord<'static>),
    /// The picture of this number is due now.
    Picture {
        /// Counts from 0.
        seq: u64,
        /// When it is exposed.
        t: MonoTime,
    },
}

impl WorldDrive {
    /// Draws and runs a scenario until it ends as it is meant to.
    ///
    /// # Errors
    /// [`ScenarioError::NoDraw`] if none of [`ATTEMPTS`] draws does.
    pub fn new(scenario: &Scenario, seed: u64, options: DriveOptions) -> Result<Self, ScenarioError> {
        for draw in 0..ATTEMPTS {
            let root = root(scenario.name(), seed, draw);
            let mut stage = set(scenario, root);
            let trace = engine::run(&mut stage, root);
            let Some(verdict) = judge(scenario.expect, &stage, &trace) else { continue };
            let ride = ride(&stage, &trace, root);
            let imu = Imu::new(root, (1000 / options.imu_hz.clamp(1, 1000)).max(1));
            let length = stage.length_ms as f64 * 1e-3;
            let gnss_ms = (1000 / options.gnss_hz.clamp(1, 1000)).max(1);
            let gnss = Gnss::new(root, gnss_ms, length, tunnel_times(&stage, &trace));
            let eye = Eye::draw(&mut Rng::new(root, 120), &stage);
            let sensors = SensorTruth {
                vehicle_from_sensor: imu.mount,
                accel_bias_mps2: imu.accel_bias,
                gyro_bias_rps: imu.gyro_bias,
                gnss_outages_s: gnss.outages.clone(),
                camera: [eye.focal, eye.k1],
            };
            let truth = facts::write(scenario, (seed, draw + 1), &stage, &trace, verdict, sensors);
            let mut drive = Self {
                airbag: facts::airbag(&stage, &trace),
                actors: Vec::with_capacity(trace.actors_per_step),
                bus: Bus::new(root),
                seed: root,
                stage,
                trace,
                ride,
                truth,
                options,
                imu,
                gnss,
                eye,
                ms: 0,
                slot: 0,
                frames: 0,
            };
            drive.find_sign();
            return Ok(drive);
        }
        Err(ScenarioError::NoDraw {
            name: scenario.name().to_owned(),
            seed,
            attempts: ATTEMPTS,
            expect: scenario.expect.name(),
        })
    }

    fn find_sign(&mut self) {
        let Some(contact_s) = self.truth.event.as_ref().map(|e| e.contact_s) else { return };
        let (first_sign_s, sign_in_view) = sight::first_sign(self, self.stage.facts.hazard_at, contact_s);
        if let Some(event) = &mut self.truth.event {
            *event = EventTruth { first_sign_s, sign_in_view, ..event.clone() };
        }
    }

    pub(crate) const fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(crate) const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Id of a mover of the stage, as boxes give it.
    pub(crate) fn mover_id(&self, mover: usize) -> Option<u32> {
        self.trace.actors.get(mover).map(|a| a.id)
    }

    /// What really happens.
    #[must_use]
    pub const fn truth(&self) -> &DriveTruth {
        &self.truth
    }

    /// What belongs to the camera and its mount.
    #[must_use]
    pub fn look(&self) -> Look {
        let mut rng = Rng::new(self.seed, 121);
        let colour = self.stage.ego_build.colour;
        Look {
            bonnet: colour,
            bonnet_height: if rng.unit() < 0.35 { 0.0 } else { rng.between(0.03, 0.14) as f32 },
            reflection: rng.between(0.05, 0.6) as f32,
            noise: rng.between(1.0, 4.0) as f32,
            exposure_s: rng.between(0.003, 0.014) as f32,
        }
    }

    /// Horizontal angle of view of the camera, degrees, without its distortion.
    #[must_use]
    pub fn hfov_deg(&self) -> f64 {
        2.0 * self.stage.half_view * 180.0 / PI
    }

    /// Length, milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> usize {
        self.stage.length_ms
    }

    /// True speed (m/s) and horizontal acceleration of the body (forward, left, m/s^2) at a millisecond.
    #[must_use]
    pub fn motion(&self, ms: usize) -> (f64, [f64; 2]) {
        let ego = self.ego(ms);
        (ego.v, ego.accel)
    }

    fn ego(&self, ms: usize) -> EgoMs {
        self.trace.ego.get(ms).or(self.trace.ego.last()).copied().unwrap_or_default()
    }

    /// Millisecond of a picture.
    fn picture_ms(&self, seq: u64) -> usize {
        (seq as f64 * 1000.0 / self.options.fps).round() as usize
    }

    /// What comes next, `None` at the end.
    pub fn next_due(&mut self) -> Option<Next> {
        let gnss_ms = (1000 / self.options.gnss_hz.clamp(1, 1000)).max(1);
        let imu_ms = (1000 / self.options.imu_hz.clamp(1, 1000)).max(1);
        while self.ms < self.stage.length_ms {
            let (ms, slot) = (self.ms, self.slot);
            self.slot += 1;
            if self.slot == SLOTS {
                (self.slot, self.ms) = (0, ms + 1);
            }
            let t = MonoTime(ms as u64 * 1_000_000 + slot as u64 * 100_000);
            match slot {
                0 if ms.is_multiple_of(imu_ms) => {
                    return Some(Next::Record(SimRecord::Imu(self.imu.sample(&self.ride, ms, t))));
                }
                1 if ms.is_multiple_of(gnss_ms) => {
                    let ego = self.ego(ms);
                    if let Some(fix) = self.gnss.fix(&ego, ms, t) {
                        return Some(Next::Record(SimRecord::Gnss(fix)));
                    }
                }
                2 if self.options.fps > 0.0 && ms >= self.picture_ms(self.frames) => {
                    let seq = self.frames;
                    self.frames += 1;
                    return Some(Next::Picture { seq, t });
                }
                3.. => {
                    if let Some(message) = BusMessage::ALL.get(slot - 3).filter(|m| m.is_due(ms, self.airbag)) {
                        let now = bus_state(&self.trace, self.stage.mu, ms, self.airbag);
                        return Some(Next::Record(SimRecord::Can(self.bus.frame(*message, &now, t))));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The world at a millisecond, for the camera.
    pub fn scene(&mut self, ms: usize) -> SceneState<'_> {
        self.place_actors(ms);
        let t_s = ms as f64 * 1e-3;
        let camera = self.camera(ms);
        let (ego, ride) = (self.ego(ms), self.ride_at(ms));
        SceneState {
            t_s,
            ego: Body {
                x: ego.x,
                y: ego.y,
                heading: ego.heading,
                pitch: ride.pitch,
                roll: ride.roll,
                heave: ride.heave,
                speed: ego.v,
                yaw_rate: ego.yaw_rate,
            },
            camera,
            actors: &self.actors,
            road: &self.stage.world,
            weather: self.stage.weather,
            wipers: if self.stage.wipers { wiper(t_s, self.stage.weather.rain) } else { -1.0 },
            seed: self.seed,
        }
    }

    /// Actors at a millisecond, straight between the two kept places about it.
    fn place_actors(&mut self, ms: usize) {
        let n = self.trace.actors_per_step;
        let step = ms / TRACE_MS;
        let f = (ms % TRACE_MS) as f64 / TRACE_MS as f64;
        let at = |k: usize| self.trace.actors.get(k * n..(k + 1) * n);
        let (now, next) = (at(step), at(step + 1));
        self.actors.clear();
        let Some(now) = now.or_else(|| at(step.saturating_sub(1))) else { return };
        let next = next.unwrap_or(now);
        self.actors.extend(now.iter().zip(next).map(|(a, b)| {
            let mix = |x: f64, y: f64| x + (y - x) * f;
            let body = Body {
                x: mix(a.body.x, b.body.x),
                y: mix(a.body.y, b.body.y),
                heading: a.body.heading + super::geometry::wrap(b.body.heading - a.body.heading) * f,
                ..a.body
            };
            Actor { body, lying: mix(a.lying, b.lying), gait: mix(a.gait, b.gait), ..*a }
        }));
    }

    fn ride_at(&self, ms: usize) -> RideMs {
        self.ride.get(ms).or(self.ride.last()).copied().unwrap_or_default()
    }

    fn camera(&self, ms: usize) -> CameraPose {
        let (ego, ride, eye) = (self.ego(ms), self.ride_at(ms), &self.eye);
        let before = self.ride_at(ms.saturating_sub(2));
        let pose = super::geometry::Pose { x: ego.x, y: ego.y, heading: ego.heading }.offset(UNIT_M[0], eye.aside);
        CameraPose {
            x: pose.x,
            y: pose.y,
            z: eye.height + ride.heave - ride.pitch * UNIT_M[0],
            yaw: ego.heading + eye.yaw + ride.unit[2],
            pitch: eye.tilt + ride.pitch + ride.unit[1],
            roll: eye.roll + ride.roll + ride.unit[0],
            yaw_rate: ego.yaw_rate + (ride.unit[2] - before.unit[2]) / 2e-3,
            pitch_rate: (ride.pitch + ride.unit[1] - before.pitch - before.unit[1]) / 2e-3,
            focal_px_at_width_1: eye.focal,
            k1: eye.k1,
        }
    }

    /// Who is near at a millisecond, in the ego vehicle's axes, without boxes.
    #[must_use]
    pub fn frame_truth(&self, ms: usize) -> FrameTruth {
        let ego = self.ego(ms);
        let n = self.trace.actors_per_step;
        let step = (ms / TRACE_MS).min((self.trace.actors.len() / n.max(1)).saturating_sub(1));
        let actors = self.trace.actors.get(step * n..(step + 1) * n).unwrap_or(&[]);
        let parked = &self.stage.world.parked;
        let tracks = actors
            .iter()
            .chain(parked)
            .filter_map(|a| {
                let at_m = to_vehicle(ego.heading, [a.body.x - ego.x, a.body.y - ego.y]);
                let near = at_m[0].abs() < 100.0 && at_m[1].abs() < 60.0;
                let (id, kind, speed_mps) = (a.id, kind_name(a.kind), a.body.speed);
                near.then_some(TrackTruth { id, kind, at_m, speed_mps, box_px: None, visible: None })
            })
            .collect();
        FrameTruth { t_s: ms as f64 * 1e-3, ego_mps: ego.v, tracks }
    }
}

/// Times at which the vehicle is in the tunnel.
fn tunnel_times(stage: &Stage, trace: &Trace) -> Option<(f64, f64)> {
    let (from, to) = stage.world.tunnel?;
    let enter = trace.ego.iter().position(|e| e.s > from)?;
    let leave = trace.ego.iter().position(|e| e.s > to).unwrap_or(trace.ego.len());
    Some((enter as f64 * 1e-3, leave as f64 * 1e-3))
}

/// Phase of the wipers: faster in more rain, with a pause in less.
fn wiper(t: f64, rain: f32) -> f32 {
    let period = if rain > 0.5 { 0.9 } else { 1.3 };
    let pause = if rain > 0.3 { 0.0 } else { 1.6 };
    let at = t - (t / (period + pause)).floor() * (period + pause);
    (at / period).min(1.0) as f32
}

impl Eye {
    fn draw(rng: &mut Rng, stage: &Stage) -> Self {
        let degree = PI / 180.0;
        let base = match stage.ego_kind {
            ActorKind::Van => 1.75,
            _ => stage.ego_build.size[2] - 0.17,
        };
        Self {
            height: base + rng.between(-0.06, 0.06),
            aside: rng.between(-0.12, 0.06),
            yaw: rng.between(-2.5, 2.5) * degree,
            tilt: rng.between(-0.5, 4.5) * degree,
            roll: rng.between(-1.2, 1.2) * degree,
            focal: 0.5 * crate::maths::cos(stage.half_view) / sin(stage.half_view),
            k1: rng.between(-0.10, 0.0),
        }
    }
}
