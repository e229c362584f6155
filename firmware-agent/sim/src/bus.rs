//! The vehicle bus of the demo: five messages of our own, described by [`DEMO_DBC`], each with a counter and a
//! checksum (the sum of its other bytes and of the identifier's, modulo 256).

use agent_core::samples::CanFrame;
use agent_core::time::MonoTime;

use crate::maths::PI;
use crate::motion::Motion;
use crate::rng::Rng;
use crate::road::curvature;

/// What the vehicle's controllers know at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BusState {
    /// Speed, m/s.
    pub(crate) v: f64,
    /// Along the vehicle, m/s^2.
    pub(crate) accel: f64,
    pub(crate) brake: bool,
    pub(crate) abs: bool,
    /// Of the steering wheel, degrees, left positive.
    pub(crate) wheel_deg: f64,
    /// Left positive, rad/s.
    pub(crate) yaw_rate: f64,
    /// Pedal, percent.
    pub(crate) throttle: f64,
    /// An airbag has deployed.
    pub(crate) airbag: bool,
}

impl BusState {
    /// That of the demo at a millisecond.
    pub(crate) fn of_demo(motion: &Motion, ms: usize) -> Self {
        let step = motion.at(ms);
        Self {
            v: step.v,
            accel: step.accel[0],
            brake: step.brake,
            abs: step.brake && step.accel[0] < -6.0 && step.v > 1.0,
            wheel_deg: wheel_deg(curvature(step.s + 1.2) * WHEELBASE_M),
            yaw_rate: step.rates[2],
            throttle: step.throttle,
            airbag: motion.contact > 0 && ms >= motion.contact + AIRBAG_DELAY_MS,
        }
    }
}

/// Angle of the steering wheel for one of the front wheels (radians), degrees.
pub(crate) fn wheel_deg(front: f64) -> f64 {
    front * STEERING_RATIO * 180.0 / PI
}

/// The description of these messages, for decoders.
pub const DEMO_DBC: &str = include_str!("../assets/demo.dbc");
/// Time from contact to the airbag bit, milliseconds.
pub const AIRBAG_DELAY_MS: usize = 30;

const WHEELBASE_M: f64 = 2.7;
const STEERING_RATIO: f64 = 15.0;

/// One message of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BusMessage {
    Airbag,
    Speed,
    Brake,
    Steering,
    Engine,
}

impl BusMessage {
    pub(crate) const ALL: [Self; 5] = [Self::Airbag, Self::Speed, Self::Brake, Self::Steering, Self::Engine];

    /// Identifier, period and offset in milliseconds.
    const fn schedule(self) -> (u32, usize, usize) {
        match self {
            Self::Airbag => (0x050, 100, 7),
            Self::Speed => (0x100, 20, 1),
            Self::Brake => (0x110, 20, 3),
            Self::Steering => (0x120, 10, 4),
            Self::Engine => (0x130, 50, 9),
        }
    }

    /// Whether it is sent at this millisecond: by its period, and the airbag's at once when it deploys.
    pub(crate) const fn is_due(self, ms: usize, deployed: Option<usize>) -> bool {
        let (_, period, offset) = self.schedule();
        let deploys = matches!(self, Self::Airbag) && matches!(deployed, Some(at) if ms == at);
        (ms >= offset && (ms - offset).is_multiple_of(period)) || deploys
    }
}

#[derive(Debug)]
pub(crate) struct Bus {
    counters: [u8; BusMessage::ALL.len()],
    rng: Rng,
}

impl Bus {
    pub(crate) fn new(seed: u64) -> Self {
        Self { counters: [0; BusMessage::ALL.len()], rng: Rng::new(seed, 4) }
    }

    pub(crate) fn frame(&mut self, message: BusMessage, now: &BusState, t: MonoTime) -> CanFrame {
        let mut data = [0u8; 64];
        let mut put = |at: usize, value: i32| data[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        match message {
            BusMessage::Airbag => put(0, i32::from(now.airbag) | 2),
            BusMessage::Speed => {
                // Indicated speed is a little high, as the rules for speedometers have it.
                let shown = now.v * 3.6 * 1.005 + if now.v > 0.3 { 0.03 * self.rng.normal() } else { 0.0 };
                put(0, (shown.clamp(0.0, 655.0) / 0.01).round() as i32);
            }
            BusMessage::Brake => {
                let pressure = if now.brake { (12.0 - 9.0 * now.accel).clamp(4.0, 90.0) } else { 0.0 };
                put(0, i32::from(now.brake) | i32::from(now.abs) << 1);
                put(2, (pressure / 0.1).round() as i32);
            }
            BusMessage::Steering => {
                put(0, ((now.wheel_deg + 0.2 * self.rng.normal()) / 0.1).round() as i32);
                let yaw = (now.yaw_rate * 180.0 / PI + 0.05 * self.rng.normal()).clamp(-320.0, 320.0);
                put(2, (yaw / 0.01).round() as i32);
            }
            BusMessage::Engine => {
                let rpm = (800.0 + now.v * 140.0 + 12.0 * now.throttle).min(5200.0) + 6.0 * self.rng.normal();
                put(0, (rpm / 0.25).round() as i32);
                put(2, (now.throttle / 0.1).round() as i32);
            }
        }
        let (id, _, _) = message.schedule();
        let counter = &mut self.counters[message as usize];
        data[6] = *counter;
        *counter = (*counter + 1) & 0x0f;
        let sum = data[..7].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        data[7] = sum.wrapping_add((id & 0xff) as u8).wrapping_add((id >> 8) as u8);
        CanFrame { t, bus: 0, id, extended: false, fd: false, remote: false, len: 8, data }
    }
}
