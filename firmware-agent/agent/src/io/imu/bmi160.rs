//! The BMI160. Registers, times and limits: Bosch Sensortec, data sheet BST-BMI160-DS000.

use super::bus::Registers;
use super::chip::{Batch, Chip, G, Raw, Started, compare, identify, triple, within};

const ID: (u8, u8) = (0x00, 0xd1);
const ERROR: u8 = 0x02;
const POWER: u8 = 0x03;
const ACCEL: u8 = 0x12;
const STATUS: u8 = 0x1b;
const TEMPERATURE: u8 = 0x20;
const FIFO_LENGTH: u8 = 0x22;
const FIFO_DATA: u8 = 0x24;
const ACC_CONF: u8 = 0x40;
const ACC_RANGE: u8 = 0x41;
const GYR_CONF: u8 = 0x42;
const GYR_RANGE: u8 = 0x43;
const FIFO_DOWNS: u8 = 0x45;
const FIFO_CONFIG: u8 = 0x47;
const SELF_TEST: u8 = 0x6d;
const COMMAND: u8 = 0x7e;

const ACCEL_ON: u8 = 0x11;
const GYRO_ON: u8 = 0x15;
const FLUSH: u8 = 0xb0;
const RESET: u8 = 0xb6;
/// Accelerometer and gyroscope both in normal mode.
const BOTH_ON: u8 = 0b01_01_00;
/// Frames with headers, of both sensors.
const FIFO_BOTH: u8 = 0xd0;
/// Filtered data of both sensors, none left out.
const FIFO_FILTERED: u8 = 0x88;
/// No undersampling, filter of normal width.
const NORMAL: u8 = 0x20;
/// Code and rate, Hz: both sensors have these.
const RATES: [(u8, u32); 5] = [(0x8, 100), (0x9, 200), (0xa, 400), (0xb, 800), (0xc, 1600)];
/// 2000 degrees a second.
const GYRO_RANGE: u8 = 0;
const GYRO_DPS: f32 = 2000.0;
/// The FIFO, bytes.
const FIFO_BYTES: usize = 1024;
/// Headers, without the two bits that tag interrupts.
const HEADER: u8 = 0xfc;

/// The chip.
#[derive(Debug)]
pub(super) struct Bmi160<R> {
    pub(super) bus: R,
    set: [(u8, u8); 5],
}

impl<R: Registers> Bmi160<R> {
    pub(super) const fn new(bus: R) -> Self {
        Self { bus, set: [(0, 0); 5] }
    }

    fn reset(&mut self) -> Result<(), String> {
        self.bus.wake()?;
        identify(&mut self.bus, ID.0, ID.1, "BMI160")?;
        self.bus.write(COMMAND, RESET)?;
        self.bus.sleep_ms(20);
        self.bus.wake()
    }

    fn accel(&mut self) -> Result<[i16; 3], String> {
        let mut bytes = [0; 6];
        self.bus.read(ACCEL, &mut bytes)?;
        Ok(triple(&bytes))
    }
}

impl<R: Registers> Chip for Bmi160<R> {
    fn name(&self) -> &'static str {
        "BMI160"
    }

    fn start(&mut self, hz: u32, range_g: u8) -> Result<Started, String> {
        self.reset()?;
        let range = match range_g {
            2 => 0x3,
            4 => 0x5,
            8 => 0x8,
            _ => 0xc,
        };
        let (code, hz) = RATES.into_iter().find(|(_, rate)| *rate >= hz).unwrap_or(RATES[RATES.len() - 1]);
        self.bus.write(COMMAND, ACCEL_ON)?;
        self.bus.sleep_ms(10);
        self.bus.write(COMMAND, GYRO_ON)?;
        self.bus.sleep_ms(100);
        self.set = [
            (ACC_CONF, NORMAL | code),
            (ACC_RANGE, range),
            (GYR_CONF, NORMAL | code),
            (GYR_RANGE, GYRO_RANGE),
            (FIFO_CONFIG, FIFO_BOTH),
        ];
        self.bus.write(FIFO_DOWNS, FIFO_FILTERED)?;
        for (register, value) in self.set {
            self.bus.write(register, value)?;
            self.bus.sleep_ms(1);
        }
        let error = self.bus.get(ERROR)?;
        if error != 0 {
            return Err(format!("it refuses its settings: error register {error:#04x}"));
        }
        self.verify()?;
        self.bus.write(COMMAND, FLUSH)?;
        Ok(Started {
            hz: f64::from(hz),
            accel_scale: f32::from(range_g) * G / 32768.0,
            gyro_scale: (GYRO_DPS / 32768.0).to_radians(),
        })
    }

    /// Section 2.8: at 8 g each axis moves by more than 0.8, 0.8 and 0.4 g between the two deflections; the gyroscope says itself.
    fn self_test(&mut self) -> Result<(), String> {
        const COUNTS_PER_G: f32 = 4096.0;
        self.reset()?;
        self.bus.write(COMMAND, ACCEL_ON)?;
        self.bus.sleep_ms(10);
        self.bus.write(COMMAND, GYRO_ON)?;
        self.bus.sleep_ms(100);
        self.bus.write(ACC_RANGE, 0x8)?;
        self.bus.write(ACC_CONF, 0x2c)?;
        let mut seen = [[0; 3]; 2];
        // High amplitude, positive and then negative, with the gyroscope's own test beside it.
        for (to, how) in seen.iter_mut().zip([0x1d, 0x19]) {
            self.bus.write(SELF_TEST, how)?;
            self.bus.sleep_ms(60);
            *to = self.accel()?;
        }
        let gyro = self.bus.get(STATUS)? & 0x02 != 0;
        self.bus.write(SELF_TEST, 0)?;
        for (axis, least) in [0.8, 0.8, 0.4].into_iter().enumerate() {
            let moved = (f32::from(seen[0][axis]) - f32::from(seen[1][axis])).abs() / COUNTS_PER_G;
            within(axis, moved, least, 8.0, "g")?;
        }
        if gyro { Ok(()) } else { Err("the gyroscope's test did not pass".to_owned()) }
    }

    fn drain(&mut self, batch: &mut Batch) -> Result<(), String> {
        batch.clear();
        let mut length = [0; 2];
        self.bus.read(FIFO_LENGTH, &mut length)?;
        let length = usize::from(u16::from_le_bytes(length) & 0x7ff);
        if length == 0 {
            return Ok(());
        }
        if length > FIFO_BYTES {
            return Err(format!("it says that its FIFO of {FIFO_BYTES} bytes holds {length}"));
        }
        batch.bytes.resize(length, 0);
        self.bus.read(FIFO_DATA, &mut batch.bytes)?;
        frames(batch)
    }

    fn verify(&mut self) -> Result<(), String> {
        compare(&mut self.bus, &self.set)?;
        let power = self.bus.get(POWER)? & 0x3c;
        if power == BOTH_ON { Ok(()) } else { Err(format!("its sensors are not on: power status {power:#04x}")) }
    }

    fn temperature_c(&mut self) -> Result<f32, String> {
        let mut bytes = [0; 2];
        self.bus.read(TEMPERATURE, &mut bytes)?;
        match i16::from_le_bytes(bytes) {
            i16::MIN => Err("it gives no temperature".to_owned()),
            counts => Ok(23.0 + f32::from(counts) / 512.0),
        }
    }
}

/// Section 2.5: a header, then what it names. An end in the midst of a frame is given again with the next reading.
fn frames(batch: &mut Batch) -> Result<(), String> {
    let mut rest = batch.bytes.as_slice();
    while let Some((&header, after)) = rest.split_first() {
        let length = match header & HEADER {
            0x8c => 12,
            0x88 | 0x84 => 6,
            0x40 | 0x48 => 1,
            0x44 => 3,
            // Read beyond its end.
            0x80 => return Ok(()),
            _ => return Err(format!("its FIFO makes no sense: header {header:#04x}")),
        };
        let Some((frame, after)) = after.split_at_checked(length) else { return Ok(()) };
        match header & HEADER {
            0x8c => batch.raw.push(Raw { gyro: triple(&frame[..6]), accel: triple(&frame[6..]) }),
            // One sensor alone: only while the other starts.
            0x88 | 0x84 => batch.broken += 1,
            0x40 => {
                batch.skipped += u32::from(frame[0]);
                // It counts no further.
                batch.overrun |= frame[0] == u8::MAX;
            }
            _ => {}
        }
        rest = after;
    }
    Ok(())
}
