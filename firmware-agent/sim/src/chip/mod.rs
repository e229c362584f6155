//! Simulated motion sensors, as a bus sees them: registers, FIFO, self-test, and the ways in which they fail.
//!
//! They stand in for the parts where there are none: in the tests of the drivers, and behind a simulated I2C bus on the bench
//! machine. What a register holds and when is from the data sheets that the drivers name; registers that no driver uses hold
//! what was written to them.

mod bmi160;
mod lsm6dso;

pub use bmi160::SimBmi160;
pub use lsm6dso::SimLsm6dso;

/// Standard gravity, m/s^2.
const G: f64 = 9.806_65;

/// Force (m/s^2) and turn rate (rad/s) at a time of the chip's world, seconds.
pub type World<'a> = &'a mut dyn FnMut(f64) -> ([f32; 3], [f32; 3]);

/// A chip behind registers.
pub trait SimChip {
    /// Reads from `register` on, as one transfer of the bus.
    fn read(&mut self, register: u8, into: &mut [u8]);
    /// Writes one register.
    fn write(&mut self, register: u8, value: u8);
    /// Lets time pass until `until_s`: readings enter the FIFO at the rate that is set, measured from `world`.
    fn advance(&mut self, until_s: f64, world: World<'_>);
    /// A dip of the supply: all registers as after power-on.
    fn dip(&mut self);
}

/// How a chip's own clock runs.
#[derive(Clone, Debug)]
struct Ticks {
    /// Next reading, seconds.
    next_s: f64,
    /// The clock is this much fast.
    fast: f64,
}

impl Ticks {
    const fn new(fast: f64) -> Self {
        Self { next_s: 0.0, fast }
    }

    /// Time of the next reading at `hz`, if it lies before `until_s`.
    fn next(&mut self, hz: f64, until_s: f64) -> Option<f64> {
        let period = 1.0 / (hz * (1.0 + self.fast));
        // After a pause it begins where it is, and does not make up for it.
        if self.next_s + 10.0 < until_s {
            self.next_s = until_s - period;
        }
        if self.next_s > until_s {
            return None;
        }
        let at = self.next_s;
        self.next_s += period;
        Some(at)
    }
}

/// To counts, saturating as the converter does.
fn counts(value: f64, per_unit: f64) -> i16 {
    (value * per_unit).round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
}
