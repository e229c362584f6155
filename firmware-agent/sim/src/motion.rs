//! The scripted motion: both vehicles integrated in steps of one millisecond, the collision between them, and the
//! body's pitch and roll. Everything else samples this table.

use agent_core::time::MonoTime;

use crate::limits::{DEMO_MS, IMU_PERIOD_MS};
use crate::maths::{Mat3, PI, sin};
use crate::rng::Rng;
use crate::road::{POTHOLE_S, curvature};
use crate::truth::Truth;

/// Camera (windscreen) to front bumper, metres.
pub(crate) const CAMERA_TO_BUMPER_M: f64 = 2.0;
/// Masses of the vehicle and of the car ahead, kilograms: their ratio sets how the impulse is shared.
const MASS_KG: f64 = 1500.0;
const LEAD_MASS_KG: f64 = 2400.0;
const RESTITUTION: f64 = 0.1;
const PULSE_MS: usize = 110;
/// Share of the impulse that goes sideways: the car ahead stands slightly to the right, so the vehicle is pushed left.
const LATERAL_SHARE: f64 = 0.07;
/// Commanded acceleration from each second on, m/s^2.
const SCRIPT: [(f64, f64); 11] = [
    (0.0, 0.0),
    (5.0, 2.2),
    (9.0, 0.0),
    (11.0, -2.2),
    (12.0, 0.0),
    (16.0, 2.0),
    (19.0, 0.0),
    (22.0, -2.8),
    (24.0, 0.0),
    (28.0, 2.1),
    (31.5, 0.0),
];
/// The same for the car ahead, which stops for good.
const LEAD_SCRIPT: [(f64, f64); 4] = [(0.0, 0.0), (2.9, 2.5), (6.5, 0.0), (31.2, -5.0)];
/// Deceleration of the late braking, m/s^2, and the gap at which it begins, metres.
const LATE_BRAKE_MPS2: f64 = -6.5;
const LATE_BRAKE_GAP_M: f64 = 6.2;
/// Gap between the bumpers at the start, metres.
const START_GAP_M: f64 = 6.0;

/// One millisecond.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Step {
    /// Way along the road of the camera, m; speed, m/s.
    pub(crate) s: f64,
    pub(crate) v: f64,
    /// Means over this millisecond in vehicle axes, gravity left out, m/s^2.
    pub(crate) accel: [f64; 3],
    /// Turn rates about forward, left and up, rad/s.
    pub(crate) rates: [f64; 3],
    /// Body angles, rad: pitch (nose down positive, as about the left axis), roll, and yaw off the road's direction.
    pub(crate) pitch: f64,
    pub(crate) roll: f64,
    pub(crate) yaw_off: f64,
    /// Sideways way off the driven line, m, left positive.
    pub(crate) left: f64,
    /// Brake on; pedal of the throttle, percent.
    pub(crate) brake: bool,
    pub(crate) throttle: f64,
    /// The car ahead: gap between the bumpers, m; brake lights; whether it was hit.
    pub(crate) gap: f64,
    pub(crate) lead_v: f64,
    pub(crate) lead_s: f64,
    pub(crate) lead_brake: bool,
}

/// The whole drive and what is true of it.
pub(crate) struct Motion {
    pub(crate) steps: Vec<Step>,
    pub(crate) contact: usize,
    pub(crate) pothole: usize,
    last_brake: usize,
    standstill: usize,
    closing: f64,
    collision: [f64; 2],
}

/// What the integration carries from step to step.
#[derive(Default)]
struct State {
    now: Step,
    a: f64,
    lead_a: f64,
    lateral_v: f64,
    impact: Option<(usize, [f64; 2])>,
    late: Option<usize>,
    pothole: Option<usize>,
    standstill: Option<usize>,
    closing: f64,
}

fn command(script: &[(f64, f64)], t: f64) -> f64 {
    script.iter().rev().find(|(from, _)| t >= *from).map_or(0.0, |(_, a)| *a)
}

/// Haversine pulse of a whole integral of one, `ms` milliseconds after its begin, per second.
fn pulse(ms: usize) -> f64 {
    if ms >= PULSE_MS {
        return 0.0;
    }
    let x = sin(PI * (ms as f64 + 0.5) / PULSE_MS as f64);
    2.0 * x * x / (PULSE_MS as f64 * 1e-3)
}

impl Motion {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let brake_gap = LATE_BRAKE_GAP_M + rng.between(-0.3, 0.3);
        let mut state = State::default();
        state.now.lead_s = START_GAP_M + CAMERA_TO_BUMPER_M;
        let mut steps = Vec::with_capacity(DEMO_MS);
        for ms in 0..DEMO_MS {
            state.advance(ms, brake_gap);
            steps.push(state.now);
        }
        let (contact, collision) = state.impact.unwrap_or_default();
        Self {
            steps,
            contact,
            pothole: state.pothole.unwrap_or_default(),
            last_brake: state.late.unwrap_or_default(),
            standstill: state.standstill.unwrap_or_default(),
            closing: state.closing,
            collision,
        }
    }

    /// The step at a millisecond, the last one beyond the end.
    pub(crate) fn at(&self, ms: usize) -> Step {
        self.steps.get(ms).or(self.steps.last()).copied().unwrap_or_default()
    }

    /// Mean of accelerations and turn rates over the 10 ms about `ms`: what a sensor's own filter leaves.
    pub(crate) fn mean(&self, ms: usize) -> ([f64; 3], [f64; 3]) {
        let half = IMU_PERIOD_MS / 2;
        let mut sum = ([0.0; 3], [0.0; 3]);
        for k in 0..IMU_PERIOD_MS {
            let step = self.at((ms + k).saturating_sub(half));
            for axis in 0..3 {
                sum.0[axis] += step.accel[axis] / IMU_PERIOD_MS as f64;
                sum.1[axis] += step.rates[axis] / IMU_PERIOD_MS as f64;
            }
        }
        sum
    }

    pub(crate) fn truth(&self, seed: u64, mount: Mat3, bias: [[f64; 3]; 2]) -> Truth {
        let time = |ms: usize| MonoTime(ms as u64 * 1_000_000);
        let delta_v =
            |from: usize, to: usize, axis: usize| -> f64 { (from..to).map(|ms| self.at(ms).accel[axis] * 1e-3).sum() };
        let zero = (self.contact..self.contact + PULSE_MS)
            .find(|ms| delta_v(ms.saturating_sub(20), *ms, 0).abs() > 0.8 / 3.6)
            .map_or(self.contact, |end| end.saturating_sub(20));
        let peak = (self.contact..self.contact + PULSE_MS).fold(0.0f64, |peak, ms| {
            let a = self.mean(ms).0;
            peak.max((a[0] * a[0] + a[1] * a[1]).sqrt())
        });
        let end = self.contact + PULSE_MS;
        Truth {
            seed,
            contact: time(self.contact),
            time_zero: time(zero),
            pulse_ms: PULSE_MS as u32,
            collision_delta_v_mps: self.collision,
            recorder_delta_v_mps: [delta_v(self.contact, end, 0), delta_v(self.contact, end, 1)],
            peak_mps2: peak,
            // The force pushes back and to the left, so it comes from ahead and to the right. The angle is small:
            // the arc tangent's series to the third power is exact to 1e-6 rad.
            direction_deg: -(LATERAL_SHARE - LATERAL_SHARE * LATERAL_SHARE * LATERAL_SHARE / 3.0) * 180.0 / PI,
            closing_mps: self.closing,
            speed_at_contact_mps: self.at(self.contact).v,
            restitution: RESTITUTION,
            last_brake: time(self.last_brake),
            airbag: time(self.contact + crate::bus::AIRBAG_DELAY_MS),
            pothole: time(self.pothole),
            standstill: time(self.standstill),
            vehicle_from_sensor: mount,
            accel_bias_mps2: bias[0],
            gyro_bias_rps: bias[1],
        }
    }
}

impl State {
    fn advance(&mut self, ms: usize, brake_gap: f64) {
        const DT: f64 = 1e-3;
        self.advance_lead(ms, DT);
        self.now.gap = self.now.lead_s - self.now.s - CAMERA_TO_BUMPER_M;
        let t = ms as f64 * DT;
        if self.late.is_none() && ms > 32_000 && self.now.gap < brake_gap {
            self.late = Some(ms);
        }
        let wanted = if self.late.is_some() { LATE_BRAKE_MPS2 } else { command(&SCRIPT, t) };
        self.now.brake = wanted < -0.3 || (t < 4.8) || (self.standstill.is_some());
        // The pedal leads the vehicle: brakes bite faster than an engine pulls.
        let lag = if self.late.is_some() { 0.07 } else { 0.18 };
        self.a += (wanted - self.a) * DT / lag;
        if self.now.v <= 0.0 && self.a < 0.0 {
            self.a = 0.0;
        }
        self.now.throttle = if self.now.brake { 0.0 } else { (4.0 + 13.0 * self.a).clamp(0.0, 100.0) };
        if self.impact.is_none() && self.now.gap <= 0.0 {
            self.collide(ms);
        }
        self.move_body(ms, DT);
    }

    fn collide(&mut self, ms: usize) {
        self.closing = self.now.v - self.now.lead_v;
        let along = LEAD_MASS_KG / (MASS_KG + LEAD_MASS_KG) * (1.0 + RESTITUTION) * self.closing;
        self.impact = Some((ms, [-along, along * LATERAL_SHARE]));
    }

    fn advance_lead(&mut self, ms: usize, dt: f64) {
        let wanted = command(&LEAD_SCRIPT, ms as f64 * dt);
        self.lead_a += (wanted - self.lead_a) * dt / 0.15;
        let push = self.impact.map_or(0.0, |(at, dv)| -dv[0] * MASS_KG / LEAD_MASS_KG * pulse(ms.saturating_sub(at)));
        let before = self.now.lead_v;
        self.now.lead_v = (before + (self.lead_a + push) * dt).max(0.0);
        self.now.lead_s += (before + self.now.lead_v) / 2.0 * dt;
        self.now.lead_brake = wanted < 0.0 || ms < 2600;
    }

    fn move_body(&mut self, ms: usize, dt: f64) {
        let crash = self.impact.map_or([0.0; 2], |(at, dv)| {
            let p = pulse(ms.saturating_sub(at));
            [dv[0] * p, dv[1] * p]
        });
        let (bump_x, bump_z) = self.pothole_force(ms);
        let before = self.now.v;
        let mut along = self.a + crash[0] + bump_x * f64::from(u8::from(before > 0.0));
        let v = before + along * dt;
        if v < 0.0 {
            along = -before / dt;
            self.a = 0.0;
        }
        self.now.v = v.max(0.0);
        self.now.s += (before + self.now.v) / 2.0 * dt;
        if self.impact.is_some() && self.now.v <= 0.0 && self.standstill.is_none() {
            self.standstill = Some(ms);
        }
        // Tyres stop the sideways slide that the collision leaves.
        let tyres = -3.0 * self.lateral_v;
        self.lateral_v += (crash[1] + tyres) * dt;
        self.now.left += self.lateral_v * dt;
        let spin = self.impact.map_or(0.0, |(at, _)| 0.5 * pulse(ms.saturating_sub(at)) * 0.06);
        let yaw_rate = curvature(self.now.s + 1.2) * self.now.v + spin * f64::from(u8::from(self.now.v > 0.0));
        self.now.yaw_off += spin * dt * f64::from(u8::from(self.now.v > 0.0));
        let across = curvature(self.now.s + 1.2) * self.now.v * self.now.v + crash[1] + tyres;
        // The body leans on its springs after the force: 0.14 degrees per m/s^2, more slowly than the pulse.
        let pitch = (-0.0025 * along.clamp(-40.0, 10.0) - self.now.pitch) / 0.16;
        let roll = (0.0022 * across - self.now.roll) / 0.2;
        self.now.pitch += pitch * dt;
        self.now.roll += roll * dt;
        self.now.accel = [along, across, bump_z + ringing(self.impact.map(|(at, _)| ms.saturating_sub(at)))];
        self.now.rates = [roll, pitch, yaw_rate];
    }

    /// Front and rear wheels fall into the pothole and out of it: one period of a sine up and down, a tug back.
    fn pothole_force(&mut self, ms: usize) -> (f64, f64) {
        if self.pothole.is_none() && self.now.s + 1.0 >= POTHOLE_S {
            self.pothole = Some(ms);
        }
        let Some(begin) = self.pothole else { return (0.0, 0.0) };
        let at = |start: usize, size: f64| {
            let k = ms.saturating_sub(start);
            if ms < start || k >= 80 {
                return (0.0, 0.0);
            }
            let wave = sin(2.0 * PI * (k as f64 + 0.5) / 80.0);
            (if k >= 40 { 0.22 * size * wave } else { 0.0 }, -size * wave)
        };
        let (front, rear) = (at(begin, 17.0), at(begin + 210, 11.0));
        (front.0 + rear.0, front.1 + rear.1)
    }
}

/// The body rings on its springs after the impact, m/s^2 upward.
fn ringing(since: Option<usize>) -> f64 {
    let Some(ms) = since else { return 0.0 };
    let t = ms as f64 * 1e-3;
    let fade = 1.0 + t / 0.12;
    14.0 * sin(2.0 * PI * 14.0 * t) / (fade * fade * fade)
}
