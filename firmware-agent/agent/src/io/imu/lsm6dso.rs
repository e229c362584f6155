//! The LSM6DSO. Registers, times and limits: STMicroelectronics, data sheet DS12140 and application note AN5192.

use super::bus::Registers;
use super::chip::{Batch, Chip, G, Raw, Started, compare, identify, triple, within};

const ID: (u8, u8) = (0x0f, 0x6c);
const FIFO_CTRL3: u8 = 0x09;
const FIFO_CTRL4: u8 = 0x0a;
const CTRL1_XL: u8 = 0x10;
const CTRL2_G: u8 = 0x11;
const CTRL3_C: u8 = 0x12;
const CTRL5_C: u8 = 0x14;
const OUT_TEMP: u8 = 0x20;
const OUT_GYRO: u8 = 0x22;
const OUT_ACCEL: u8 = 0x28;
const FIFO_STATUS: u8 = 0x3a;
const FIFO_OUT: u8 = 0x78;

const RESET: u8 = 0x01;
/// Registers change only between readings; addresses count up.
const WHOLE_AND_ON: u8 = 0x44;
const CONTINUOUS: u8 = 0x06;
/// Code and rate, Hz.
const RATES: [(u8, u32); 5] = [(0x4, 104), (0x5, 208), (0x6, 417), (0x7, 833), (0x8, 1667)];
/// 2000 degrees a second, of which a count is 70 thousandths.
const GYRO_FULL: u8 = 0b11 << 2;
const GYRO_DPS_PER_COUNT: f32 = 0.070;
/// A word of the FIFO: tag and three numbers.
const WORD: usize = 7;
/// Words of the FIFO, and those that one transfer reads.
const WORDS: usize = 512;
const CHUNK: usize = 64;
const GYRO: u8 = 0x01;
const ACCEL: u8 = 0x02;

/// The chip.
#[derive(Debug)]
pub(super) struct Lsm6dso<R> {
    pub(super) bus: R,
    set: [(u8, u8); 5],
    /// Halves of a reading that has not come whole: the counter of its tag, and the halves.
    counter: u8,
    gyro: Option<[i16; 3]>,
    accel: Option<[i16; 3]>,
}

impl<R: Registers> Lsm6dso<R> {
    pub(super) const fn new(bus: R) -> Self {
        Self { bus, set: [(0, 0); 5], counter: 0, gyro: None, accel: None }
    }

    fn reset(&mut self) -> Result<(), String> {
        self.bus.wake()?;
        identify(&mut self.bus, ID.0, ID.1, "LSM6DSO")?;
        self.bus.write(CTRL3_C, RESET)?;
        for _ in 0..10 {
            self.bus.sleep_ms(5);
            if self.bus.get(CTRL3_C)? & RESET == 0 {
                return self.bus.write(CTRL3_C, WHOLE_AND_ON);
            }
        }
        Err("its reset does not end".to_owned())
    }

    /// Mean of five readings, after the sensor had `settle_ms`.
    fn mean(&mut self, register: u8, settle_ms: u32, period_ms: u32) -> Result<[f32; 3], String> {
        self.bus.sleep_ms(settle_ms);
        let mut sum = [0.0; 3];
        for _ in 0..5 {
            let mut bytes = [0; 6];
            self.bus.read(register, &mut bytes)?;
            triple(&bytes).iter().zip(&mut sum).for_each(|(n, s)| *s += f32::from(*n) / 5.0);
            self.bus.sleep_ms(period_ms);
        }
        Ok(sum)
    }

    /// One word of the FIFO; a reading is whole when both of its halves came with the same counter.
    fn word(&mut self, word: &[u8], batch: &mut Batch) {
        let (tag, counter) = (word[0] >> 3, word[0] >> 1 & 0x03);
        if !matches!(tag, GYRO | ACCEL) {
            return;
        }
        if counter != self.counter {
            batch.broken += u32::from(self.gyro.is_some() != self.accel.is_some());
            (self.counter, self.gyro, self.accel) = (counter, None, None);
        }
        *(if tag == GYRO { &mut self.gyro } else { &mut self.accel }) = Some(triple(&word[1..]));
        if let (Some(gyro), Some(accel)) = (self.gyro, self.accel) {
            (self.gyro, self.accel) = (None, None);
            batch.raw.push(Raw { gyro, accel });
        }
    }
}

impl<R: Registers> Chip for Lsm6dso<R> {
    fn name(&self) -> &'static str {
        "LSM6DSO"
    }

    fn start(&mut self, hz: u32, range_g: u8) -> Result<Started, String> {
        self.reset()?;
        let range = match range_g {
            2 => 0b00,
            4 => 0b10,
            8 => 0b11,
            _ => 0b01,
        };
        let (code, hz) = RATES.into_iter().find(|(_, rate)| *rate >= hz).unwrap_or(RATES[RATES.len() - 1]);
        // Off first: that empties it.
        self.bus.write(FIFO_CTRL4, 0)?;
        self.set = [
            (CTRL3_C, WHOLE_AND_ON),
            (CTRL1_XL, code << 4 | range << 2),
            (CTRL2_G, code << 4 | GYRO_FULL),
            (FIFO_CTRL3, code << 4 | code),
            (FIFO_CTRL4, CONTINUOUS),
        ];
        for (register, value) in self.set {
            self.bus.write(register, value)?;
        }
        (self.gyro, self.accel) = (None, None);
        self.verify()?;
        Ok(Started {
            hz: f64::from(hz),
            accel_scale: f32::from(range_g) * G / 32768.0,
            gyro_scale: GYRO_DPS_PER_COUNT.to_radians(),
        })
    }

    /// AN5192, section 11: at 4 g each axis moves by 50 to 1700 mg, at 2000 degrees a second by 150 to 700.
    fn self_test(&mut self) -> Result<(), String> {
        const MG_PER_COUNT: f32 = 0.122;
        self.reset()?;
        for (setting, on, register, period_ms, scale, least, most, unit) in [
            ((CTRL1_XL, 0x38), 0x01, OUT_ACCEL, 20, MG_PER_COUNT, 50.0, 1700.0, "mg"),
            ((CTRL2_G, 0x5c), 0x04, OUT_GYRO, 5, GYRO_DPS_PER_COUNT, 150.0, 700.0, "degrees/s"),
        ] {
            self.bus.write(setting.0, setting.1)?;
            let still = self.mean(register, 100, period_ms)?;
            self.bus.write(CTRL5_C, on)?;
            let moved = self.mean(register, 100, period_ms)?;
            self.bus.write(CTRL5_C, 0)?;
            for axis in 0..3 {
                within(axis, (moved[axis] - still[axis]).abs() * scale, least, most, unit)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, batch: &mut Batch) -> Result<(), String> {
        batch.clear();
        let mut status = [0; 2];
        self.bus.read(FIFO_STATUS, &mut status)?;
        batch.overrun = status[1] & 0x48 != 0;
        let mut left = usize::from(u16::from_le_bytes([status[0], status[1] & 0x03])).min(WORDS);
        while left > 0 {
            let words = left.min(CHUNK);
            let mut bytes = std::mem::take(&mut batch.bytes);
            bytes.resize(words * WORD, 0);
            let read = self.bus.read(FIFO_OUT, &mut bytes);
            if read.is_ok() {
                bytes.chunks_exact(WORD).for_each(|word| self.word(word, batch));
            }
            batch.bytes = bytes;
            read?;
            left -= words;
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), String> {
        compare(&mut self.bus, &self.set)
    }

    fn temperature_c(&mut self) -> Result<f32, String> {
        let mut bytes = [0; 2];
        self.bus.read(OUT_TEMP, &mut bytes)?;
        Ok(25.0 + f32::from(i16::from_le_bytes(bytes)) / 256.0)
    }
}
