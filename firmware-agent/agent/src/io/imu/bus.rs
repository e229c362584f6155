//! A chip's registers over I2C or SPI, by embedded-hal.

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use embedded_hal::spi::{Operation, SpiDevice};

/// Registers of eight bits behind some bus; errors are words that name the register.
pub(super) trait Registers {
    /// Reads as many bytes as `into` has, from `register` on.
    fn read(&mut self, register: u8, into: &mut [u8]) -> Result<(), String>;
    /// Writes one register.
    fn write(&mut self, register: u8, value: u8) -> Result<(), String>;
    /// Waits.
    fn sleep_ms(&mut self, ms: u32);
    /// Some chips come up speaking I2C and change to SPI with the first read of any register.
    fn wake(&mut self) -> Result<(), String> {
        Ok(())
    }
    /// Reads one register.
    fn get(&mut self, register: u8) -> Result<u8, String> {
        let mut byte = [0];
        self.read(register, &mut byte)?;
        Ok(byte[0])
    }
}

fn failed(what: &str, register: u8, error: &impl core::fmt::Debug) -> String {
    format!("register {register:#04x} cannot be {what}: {error:?}")
}

/// A chip at an address of an I2C bus.
#[derive(Debug)]
pub(super) struct OnI2c<B, D> {
    pub(super) bus: B,
    pub(super) address: u8,
    pub(super) delay: D,
}

impl<B: I2c, D: DelayNs> Registers for OnI2c<B, D> {
    fn read(&mut self, register: u8, into: &mut [u8]) -> Result<(), String> {
        self.bus.write_read(self.address, &[register], into).map_err(|e| failed("read", register, &e))
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), String> {
        self.bus.write(self.address, &[register, value]).map_err(|e| failed("written", register, &e))
    }

    fn sleep_ms(&mut self, ms: u32) {
        self.delay.delay_ms(ms);
    }
}

/// The highest bit of a register's number says that it is read.
const READ: u8 = 0x80;

/// A chip with a select line of its own on an SPI bus.
#[derive(Debug)]
pub(super) struct OnSpi<B, D> {
    pub(super) bus: B,
    pub(super) delay: D,
}

impl<B: SpiDevice, D: DelayNs> Registers for OnSpi<B, D> {
    fn read(&mut self, register: u8, into: &mut [u8]) -> Result<(), String> {
        self.bus
            .transaction(&mut [Operation::Write(&[register | READ]), Operation::Read(into)])
            .map_err(|e| failed("read", register, &e))
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), String> {
        self.bus.write(&[register & !READ, value]).map_err(|e| failed("written", register, &e))
    }

    fn sleep_ms(&mut self, ms: u32) {
        self.delay.delay_ms(ms);
    }

    fn wake(&mut self) -> Result<(), String> {
        self.get(0x7f).map(drop)
    }
}
