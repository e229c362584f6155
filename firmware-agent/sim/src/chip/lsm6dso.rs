//! An LSM6DSO (STMicroelectronics, data sheet DS12140).

use std::collections::VecDeque;

use super::{G, SimChip, Ticks, World, counts};

/// The FIFO, words of a tag and three numbers.
const FIFO_WORDS: usize = 512;
const WORD: usize = 7;
const GYRO: u8 = 0x01;
const ACCEL: u8 = 0x02;
/// Readings a second by code.
const HZ: [f64; 11] = [0.0, 12.5, 26.0, 52.0, 104.0, 208.0, 417.0, 833.0, 1667.0, 3333.0, 6667.0];

/// The chip.
#[derive(Clone, Debug)]
pub struct SimLsm6dso {
    registers: [u8; 128],
    fifo: VecDeque<[u8; WORD]>,
    overrun: bool,
    counter: u8,
    latest: [u8; 12],
    ticks: Ticks,
}

impl SimLsm6dso {
    /// Just switched on, with a clock that is fast by this share.
    #[must_use]
    pub fn new(fast: f64) -> Self {
        let mut chip = Self {
            registers: [0; 128],
            fifo: VecDeque::with_capacity(FIFO_WORDS),
            overrun: false,
            counter: 0,
            latest: [0; 12],
            ticks: Ticks::new(fast),
        };
        chip.dip();
        chip
    }

    fn measure(&mut self, force: [f32; 3], turn: [f32; 3]) {
        let range_g = [2.0, 16.0, 4.0, 8.0][usize::from(self.registers[0x10] >> 2 & 0x03)];
        let dps_per_count = [0.00875, 0.0175, 0.035, 0.07][usize::from(self.registers[0x11] >> 2 & 0x03)];
        let test = self.registers[0x14];
        let (bend, spin) = (if test & 0x03 == 1 { 0.4 } else { 0.0 }, if test & 0x0c == 4 { 300.0 } else { 0.0 });
        for axis in 0..3 {
            let turn = counts(f64::from(turn[axis]).to_degrees() + spin, 1.0 / dps_per_count);
            let force = counts(f64::from(force[axis]) / G + bend, 32768.0 / range_g);
            self.latest[2 * axis..][..2].copy_from_slice(&turn.to_le_bytes());
            self.latest[6 + 2 * axis..][..2].copy_from_slice(&force.to_le_bytes());
        }
    }

    fn push(&mut self, tag: u8, numbers: [u8; 6]) {
        if self.fifo.len() >= FIFO_WORDS {
            self.fifo.pop_front();
            self.overrun = true;
        }
        let mut word = [tag << 3 | self.counter << 1; WORD];
        word[1..].copy_from_slice(&numbers);
        self.fifo.push_back(word);
    }

    fn half(&self, from: usize) -> [u8; 6] {
        self.latest.get(from..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
    }
}

impl SimChip for SimLsm6dso {
    fn read(&mut self, register: u8, into: &mut [u8]) {
        if register == 0x78 {
            for word in into.chunks_mut(WORD) {
                let n = word.len();
                word.copy_from_slice(&self.fifo.pop_front().unwrap_or_default()[..n]);
            }
            return;
        }
        let words = (self.fifo.len() as u16).to_le_bytes();
        for (i, to) in into.iter_mut().enumerate() {
            let at = (usize::from(register) + i) & 0x7f;
            *to = match at {
                0x22..=0x2d => self.latest[at - 0x22],
                0x3a => words[0],
                0x3b => words[1] & 0x03 | if std::mem::take(&mut self.overrun) { 0x48 } else { 0 },
                _ => self.registers[at],
            };
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        match register {
            0x12 if value & 0x01 != 0 => self.dip(),
            0x0f | 0x3a | 0x3b => {}
            _ => self.registers[usize::from(register & 0x7f)] = value,
        }
        if self.registers[0x0a] & 0x07 == 0 {
            self.fifo.clear();
        }
    }

    fn advance(&mut self, until_s: f64, world: World<'_>) {
        let hz = HZ.get(usize::from(self.registers[0x10] >> 4)).copied().unwrap_or(0.0);
        if hz == 0.0 {
            // The gyroscope alone may run for its test.
            let (force, turn) = world(until_s);
            return self.measure(force, turn);
        }
        while let Some(at) = self.ticks.next(hz, until_s) {
            let (force, turn) = world(at);
            self.measure(force, turn);
            if self.registers[0x0a] & 0x07 == 0x06 && self.registers[0x09] != 0 {
                self.counter = (self.counter + 1) & 0x03;
                self.push(GYRO, self.half(0));
                self.push(ACCEL, self.half(6));
            }
        }
    }

    fn dip(&mut self) {
        self.registers = [0; 128];
        (self.registers[0x0f], self.registers[0x12]) = (0x6c, 0x04);
        // 31 degrees Celsius.
        self.registers[0x21] = 0x06;
        self.fifo.clear();
        self.overrun = false;
    }
}
