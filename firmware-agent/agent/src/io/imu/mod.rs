//! The accelerometer and gyroscope of the unit, read from their FIFO over I2C or SPI by embedded-hal.
//!
//! A *reading* is what the chip counted in one period of its own clock; a *sample* is a reading in m/s^2 and rad/s with a
//! time on the monotonic clock ([`cadence`]). One thread empties the FIFO every 10 ms; it never waits for the core.
//!
//! | what happens | then |
//! |---|---|
//! | the chip is missing, another one, or refuses its settings | said once; tried again after 0.25 s, 0.5 s, ... up to 10 s |
//! | the bus fails three times in a row, or no reading comes for 0.2 s | said; started anew |
//! | its settings are no longer those that were made (a dip of its supply resets it to other units), looked at every second | said; started anew |
//! | it repeats one reading for half a second (noise always moves the last bit of a live one) | said; started anew |
//! | it overwrote readings before they were read | counted as lost, by its own count or by the time that passed |
//! | at rest it measures another force than gravity by more than 1.5 m/s^2, or is outside -40 to 85 degrees C | said, and again when that is over; samples go on |

mod bmi160;
mod bus;
mod cadence;
mod chip;
#[cfg(test)]
mod fake;
mod keeper;
mod lsm6dso;
#[cfg(test)]
mod spi_tests;
#[cfg(test)]
mod tests;
mod truth;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agent_core::samples::ImuSample;
use agent_core::time::MonoTime;
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{Delay, I2cdev, SpidevDevice};

use crate::config::imu::{ImuBus, ImuConfig, ImuKind};
use crate::io::camera::clock::monotonic_now;
use crate::io::news::Told;
use bus::{OnI2c, OnSpi, Registers};
use chip::Chip;
pub(crate) use keeper::ImuReport;
use keeper::{Keeper, Timer};

/// What the chip says.
pub(crate) type News = crate::io::news::News<ImuSample>;

/// The rate of SPI, bits a second: what both chips take.
const SPI_HZ: u32 = 8_000_000;

struct Real;

impl Timer for Real {
    fn now(&self) -> MonoTime {
        monotonic_now()
    }

    fn sleep(&mut self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// Reads the configured chip until `stop` and says what was read. `device` is the configured one, resolved; `beat` is called
/// many times a second. The self-test, where asked for, is made at the first start alone: later the vehicle may drive.
pub(crate) fn run(
    config: &ImuConfig,
    range_g: u8,
    device: &Path,
    stop: &AtomicBool,
    beat: &dyn Fn(),
    tell: &mut dyn FnMut(News) -> Told,
) -> ImuReport {
    let mut open = || open(config, device);
    Keeper::new(&mut open, config.rate_hz, range_g, config.self_test, Real, tell).run(stop, beat)
}

fn open(config: &ImuConfig, device: &Path) -> Result<Box<dyn Chip>, String> {
    let shown = device.display();
    match config.bus {
        ImuBus::I2c => {
            let bus = I2cdev::new(device).map_err(|e| format!("{shown}: {e}"))?;
            Ok(chip(config.kind, OnI2c { bus, address: config.address, delay: Delay }))
        }
        ImuBus::Spi => {
            let mut bus = SpidevDevice::open(device).map_err(|e| format!("{shown}: {e}"))?;
            let options =
                SpidevOptions::new().bits_per_word(8).max_speed_hz(SPI_HZ).mode(SpiModeFlags::SPI_MODE_3).build();
            bus.configure(&options).map_err(|e| format!("{shown}: {e}"))?;
            Ok(chip(config.kind, OnSpi { bus, delay: Delay }))
        }
    }
}

fn chip<R: Registers + 'static>(kind: ImuKind, registers: R) -> Box<dyn Chip> {
    match kind {
        ImuKind::None | ImuKind::Bmi160 => Box::new(bmi160::Bmi160::new(registers)),
        ImuKind::Lsm6dso => Box::new(lsm6dso::Lsm6dso::new(registers)),
    }
}
