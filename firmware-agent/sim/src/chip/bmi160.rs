//! A BMI160 (Bosch Sensortec, data sheet BST-BMI160-DS000).

use std::collections::VecDeque;

use super::{G, SimChip, Ticks, World, counts};

/// The FIFO, bytes.
const FIFO_BYTES: usize = 1024;
/// A frame of both sensors with its header.
const FRAME: usize = 13;
const BOTH: u8 = 0x8c;
const SKIP: u8 = 0x40;
const EMPTY: u8 = 0x80;

/// The chip.
#[derive(Clone, Debug)]
pub struct SimBmi160 {
    registers: [u8; 128],
    fifo: VecDeque<[u8; FRAME]>,
    skipped: u8,
    latest: [u8; 12],
    ticks: Ticks,
}

impl SimBmi160 {
    /// Just switched on, with a clock that is fast by this share.
    #[must_use]
    pub fn new(fast: f64) -> Self {
        let mut chip = Self {
            registers: [0; 128],
            fifo: VecDeque::with_capacity(FIFO_BYTES / FRAME),
            skipped: 0,
            latest: [0; 12],
            ticks: Ticks::new(fast),
        };
        chip.dip();
        chip
    }

    fn length(&self) -> usize {
        self.fifo.len() * FRAME + if self.skipped > 0 { 2 } else { 0 }
    }

    /// Whole frames leave; one that is read in part is given again.
    fn fifo(&mut self, into: &mut [u8]) {
        let mut at = 0;
        if self.skipped > 0 && into.len() >= 2 {
            into[..2].copy_from_slice(&[SKIP, self.skipped]);
            (self.skipped, at) = (0, 2);
        }
        while at < into.len() {
            let Some(frame) = self.fifo.front() else {
                into[at..].fill(EMPTY);
                return;
            };
            let n = FRAME.min(into.len() - at);
            into[at..at + n].copy_from_slice(&frame[..n]);
            at += n;
            if n == FRAME {
                self.fifo.pop_front();
            }
        }
    }

    fn measure(&mut self, force: [f32; 3], turn: [f32; 3]) {
        let range_g = match self.registers[0x41] & 0x0f {
            0x5 => 4.0,
            0x8 => 8.0,
            0xc => 16.0,
            _ => 2.0,
        };
        let range_dps = 2000.0 / f64::from(1_u32 << (self.registers[0x43] & 0x07).min(4));
        // The self-test bends the accelerometer's axes by about a g, and half that for z.
        let test = self.registers[0x6d];
        let bend = match (test & 0x03 != 0, test & 0x04 != 0) {
            (true, true) => 1.0,
            (true, false) => -1.0,
            _ => 0.0,
        };
        for axis in 0..3 {
            let bent = f64::from(force[axis]) / G + bend * [0.9, 0.9, 0.45][axis];
            let turn = counts(f64::from(turn[axis]).to_degrees(), 32768.0 / range_dps);
            let force = counts(bent, 32768.0 / range_g);
            self.latest[2 * axis..][..2].copy_from_slice(&turn.to_le_bytes());
            self.latest[6 + 2 * axis..][..2].copy_from_slice(&force.to_le_bytes());
        }
    }
}

impl SimChip for SimBmi160 {
    fn read(&mut self, register: u8, into: &mut [u8]) {
        if register == 0x24 {
            return self.fifo(into);
        }
        let length = (self.length() as u16).to_le_bytes();
        for (i, to) in into.iter_mut().enumerate() {
            let at = (usize::from(register) + i) & 0x7f;
            *to = match at {
                0x0c..=0x17 => self.latest[at - 0x0c],
                // The gyroscope's test passes as soon as it is asked for.
                0x1b => 0x10 | (self.registers[0x6d] >> 3 & 0x02),
                0x22 | 0x23 => length[at - 0x22],
                _ => self.registers[at],
            };
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        match (register, value) {
            (0x7e, 0xb6) => self.dip(),
            (0x7e, 0xb0) => {
                self.fifo.clear();
                self.skipped = 0;
            }
            (0x7e, 0x11) => self.registers[0x03] = self.registers[0x03] & !0x30 | 0x10,
            (0x7e, 0x15) => self.registers[0x03] = self.registers[0x03] & !0x0c | 0x04,
            (0x7e, _) => {}
            (0x00..=0x3f, _) => {}
            _ => self.registers[usize::from(register & 0x7f)] = value,
        }
    }

    fn advance(&mut self, until_s: f64, world: World<'_>) {
        let hz = 25.0 / 64.0 * f64::from(1_u32 << (self.registers[0x40] & 0x0f));
        while let Some(at) = self.ticks.next(hz, until_s) {
            if self.registers[0x03] & 0x3c != 0x14 {
                continue;
            }
            let (force, turn) = world(at);
            self.measure(force, turn);
            if self.registers[0x47] & 0xd0 != 0xd0 {
                continue;
            }
            if self.length() + FRAME > FIFO_BYTES {
                self.fifo.pop_front();
                self.skipped = self.skipped.saturating_add(1);
            }
            let mut frame = [BOTH; FRAME];
            frame[1..].copy_from_slice(&self.latest);
            self.fifo.push_back(frame);
        }
    }

    fn dip(&mut self) {
        self.registers = [0; 128];
        for (register, value) in
            [(0x00, 0xd1), (0x40, 0x28), (0x41, 0x03), (0x42, 0x28), (0x45, 0x88), (0x46, 0x80), (0x47, 0x10)]
        {
            self.registers[register] = value;
        }
        // 31 degrees Celsius.
        self.registers[0x21] = 0x10;
        self.fifo.clear();
        self.skipped = 0;
    }
}
