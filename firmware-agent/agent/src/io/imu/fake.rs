//! Simulated chips on a simulated bus and clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use agent_core::time::MonoTime;
use agent_sim::chip::{SimBmi160, SimChip, SimLsm6dso};
use embedded_hal::delay::DelayNs;

use super::bmi160::Bmi160;
use super::bus::Registers;
use super::chip::Chip;
use super::keeper::Timer;
use super::lsm6dso::Lsm6dso;

/// What is wrong with the bus or the chip, and for how long.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// So many transfers fail.
    pub(super) failing: Cell<u32>,
    /// Time passes, and the chip measures nothing.
    pub(super) hangs: Cell<bool>,
    /// It measures the same again and again.
    pub(super) repeats: Cell<bool>,
    /// Force at rest, in place of 9.81 m/s^2.
    pub(super) gravity: Cell<Option<f32>>,
    /// The thread sleeps once for so long, ns.
    pub(super) oversleep: Cell<u64>,
    /// The number at this register is read so many times as large: an axis that is stuck (0), or moves too far.
    pub(super) axis: Cell<Option<(u8, i16)>>,
    /// These bits of this register are never set.
    pub(super) never: Cell<Option<(u8, u8)>>,
}

/// A chip, its bus, and the clock of its world.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) chip: Rc<RefCell<Box<dyn SimChip>>>,
    pub(super) now_ns: Rc<Cell<u64>>,
    pub(super) faults: Rc<Faults>,
    /// The driver that fits.
    driver: fn(Bench) -> Box<dyn Chip>,
}

/// Every bench begins at this time.
pub(super) const BEGIN_NS: u64 = 100_000_000_000;

/// What the chip measures: gravity and a slow sway, with noise in the last digits.
pub(super) fn world(t: f64) -> ([f32; 3], [f32; 3]) {
    let noise = ((t * 1e6) as u64).wrapping_mul(2_654_435_761) >> 7 & 0x3f;
    let noise = noise as f32 / 640.0 - 0.05;
    let sway = (2.0 * std::f64::consts::PI * 0.5 * t).sin() as f32;
    ([3.0 * sway + noise, noise, 9.81 - noise], [0.0, noise / 10.0, 0.5 * sway])
}

impl Bench {
    pub(super) fn bmi160() -> Self {
        Self::new(Box::new(SimBmi160::new(0.02)), |b| Box::new(Bmi160::new(b)))
    }

    pub(super) fn lsm6dso() -> Self {
        Self::new(Box::new(SimLsm6dso::new(-0.02)), |b| Box::new(Lsm6dso::new(b)))
    }

    pub(super) fn new(chip: Box<dyn SimChip>, driver: fn(Bench) -> Box<dyn Chip>) -> Self {
        let (chip, now_ns) = (Rc::new(RefCell::new(chip)), Rc::new(Cell::new(BEGIN_NS)));
        Self { chip, now_ns, faults: Rc::default(), driver }
    }

    pub(super) fn open(&self) -> Result<Box<dyn Chip>, String> {
        Ok((self.driver)(self.clone()))
    }

    fn pass(&self, ns: u64) {
        self.now_ns.set(self.now_ns.get() + ns);
        if self.faults.hangs.get() {
            return;
        }
        let (repeats, gravity) = (self.faults.repeats.get(), self.faults.gravity.get());
        self.chip.borrow_mut().advance(self.now_ns.get() as f64 * 1e-9, &mut |t| {
            let (force, turn) = world(if repeats { 1.0 } else { t });
            match gravity {
                Some(g) => ([0.0, force[1], g], [0.0; 3]),
                None => (force, turn),
            }
        });
    }

    fn fails(&self) -> Result<(), String> {
        match self.faults.failing.get() {
            0 => Ok(()),
            n => {
                self.faults.failing.set(n - 1);
                Err("no acknowledgement".to_owned())
            }
        }
    }
}

impl Registers for Bench {
    fn read(&mut self, register: u8, into: &mut [u8]) -> Result<(), String> {
        self.fails()?;
        self.chip.borrow_mut().read(register, into);
        if let Some((at, times)) = self.faults.axis.get()
            && let Some(behind) = at.checked_sub(register).and_then(|from| into.get_mut(usize::from(from)..))
            && let Some(number) = behind.first_chunk_mut()
        {
            *number = i16::from_le_bytes(*number).saturating_mul(times).to_le_bytes();
        }
        if let (Some((at, bits)), [byte]) = (self.faults.never.get(), into)
            && at == register
        {
            *byte &= !bits;
        }
        Ok(())
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), String> {
        self.fails()?;
        self.chip.borrow_mut().write(register, value);
        Ok(())
    }

    fn sleep_ms(&mut self, ms: u32) {
        self.pass(u64::from(ms) * 1_000_000);
    }
}

impl DelayNs for Bench {
    fn delay_ns(&mut self, ns: u32) {
        self.pass(u64::from(ns));
    }
}

impl Timer for Bench {
    fn now(&self) -> MonoTime {
        MonoTime(self.now_ns.get())
    }

    fn sleep(&mut self, span: Duration) {
        self.pass(span.as_nanos() as u64 + self.faults.oversleep.take());
    }
}
