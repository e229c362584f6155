//! The vehicle bus of the demo: five messages of our own, described by [`DEMO_DBC`], each with a counter and a
//! checksum (the sum of its other bytes and of the identifier's, modulo 256).

use agent_core::samples::CanFrame;
use agent_core::time::MonoTime;

use crate::maths::PI;
use crate::motion::Motion;
use crate::rng::Rng;
use crate::road::curvature;

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
    pub(crate) const fn is_due(self, ms: usize, contact: usize) -> bool {
        let (_, period, offset) = self.schedule();
        let deploys = matches!(self, Self::Airbag) && contact > 0 && ms == contact + AIRBAG_DELAY_MS;
        (ms >= offset && (ms - offset).is_multiple_of(period)) || deploys
    }
}

pub(crate) struct Bus {
    counters: [u8; BusMessage::ALL.len()],
    rng: Rng,
}

impl Bus {
    pub(crate) fn new(seed: u64) -> Self {
        Self { counters: [0; BusMessage::ALL.len()], rng: Rng::new(seed, 4) }
    }

    pub(crate) fn frame(&mut self, message: BusMessage, motion: &Motion, ms: usize, t: MonoTime) -> CanFrame {
        let step = motion.at(ms);
        let mut data = [0u8; 64];
        let mut put = |at: usize, value: i32| data[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        match message {
            BusMessage::Airbag => {
                let deployed = motion.contact > 0 && ms >= motion.contact + AIRBAG_DELAY_MS;
                put(0, i32::from(deployed) | 2);
            }
            BusMessage::Speed => {
                // Indicated speed is a little high, as the rules for speedometers have it.
                let shown = step.v * 3.6 * 1.005 + if step.v > 0.3 { 0.03 * self.rng.normal() } else { 0.0 };
                put(0, (shown.max(0.0) / 0.01).round() as i32);
            }
            BusMessage::Brake => {
                let pressure = if step.brake { (12.0 - 9.0 * step.accel[0]).clamp(4.0, 90.0) } else { 0.0 };
                let abs = step.brake && step.accel[0] < -6.0 && step.v > 1.0;
                put(0, i32::from(step.brake) | i32::from(abs) << 1);
                put(2, (pressure / 0.1).round() as i32);
            }
            BusMessage::Steering => {
                let wheel = curvature(step.s + 1.2) * WHEELBASE_M * STEERING_RATIO * 180.0 / PI;
                put(0, ((wheel + 0.2 * self.rng.normal()) / 0.1).round() as i32);
                put(2, ((step.rates[2] * 180.0 / PI + 0.05 * self.rng.normal()) / 0.01).round() as i32);
            }
            BusMessage::Engine => {
                let rpm = (800.0 + step.v * 140.0 + 12.0 * step.throttle).min(5200.0) + 6.0 * self.rng.normal();
                put(0, (rpm / 0.25).round() as i32);
                put(2, (step.throttle / 0.1).round() as i32);
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
