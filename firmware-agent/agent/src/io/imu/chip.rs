//! What all supported chips have in common.

use super::bus::Registers;

/// Standard gravity, m/s^2.
pub(super) const G: f32 = 9.806_65;

/// One reading: turn rate x, y, z and specific force x, y, z, as the chip counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) gyro: [i16; 3],
    pub(super) accel: [i16; 3],
}

/// Most readings in any chip's FIFO: those of the LSM6DSO, 512 words of which two make one.
pub(super) const MAX_BATCH: usize = 256;

/// What one emptying of the FIFO gave.
#[derive(Debug)]
pub(super) struct Batch {
    /// Oldest first.
    pub(super) raw: Vec<Raw>,
    /// Readings that the chip says it overwrote before those.
    pub(super) skipped: u32,
    /// It overwrote some and does not say how many, or no more than that.
    pub(super) overrun: bool,
    /// Pieces that were no whole reading.
    pub(super) broken: u32,
    /// Bytes of the FIFO, reused.
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            raw: Vec::with_capacity(MAX_BATCH),
            skipped: 0,
            overrun: false,
            broken: 0,
            bytes: Vec::with_capacity(4096),
        }
    }

    pub(super) fn clear(&mut self) {
        self.raw.clear();
        (self.skipped, self.overrun, self.broken) = (0, false, 0);
    }
}

/// What a started chip gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Started {
    /// Readings a second, by the data sheet.
    pub(super) hz: f64,
    /// m/s^2 of one count.
    pub(super) accel_scale: f32,
    /// rad/s of one count.
    pub(super) gyro_scale: f32,
}

/// A chip; each method leaves it as documented there or says why not.
pub(super) trait Chip {
    /// Name, as makers print it.
    fn name(&self) -> &'static str;
    /// Resets it and sets range (in g, one of 2, 4, 8, 16), the lowest rate that is at least `hz`, and the FIFO.
    fn start(&mut self, hz: u32, range_g: u8) -> Result<Started, String>;
    /// The self-test of the data sheet; needs a start afterwards. The vehicle must stand.
    fn self_test(&mut self) -> Result<(), String>;
    /// Empties the FIFO.
    fn drain(&mut self, batch: &mut Batch) -> Result<(), String>;
    /// Whether the chip is still set as [`Chip::start`] left it: after a dip of its supply it is not, and gives other units.
    fn verify(&mut self) -> Result<(), String>;
    /// Temperature of the die, degrees Celsius.
    fn temperature_c(&mut self) -> Result<f32, String>;
}

/// Checks the identity that a chip gives.
pub(super) fn identify<R: Registers>(bus: &mut R, register: u8, wanted: u8, name: &str) -> Result<(), String> {
    match bus.get(register)? {
        found if found == wanted => Ok(()),
        // A bus that hangs, or nothing at the address.
        0x00 | 0xff => Err(format!("nothing answers as a {name} does")),
        found => Err(format!("another chip is there: it says {found:#04x}, a {name} says {wanted:#04x}")),
    }
}

/// Compares registers with what they should hold; `of` says which bits count.
pub(super) fn compare<R: Registers>(bus: &mut R, wanted: &[(u8, u8)]) -> Result<(), String> {
    for &(register, value) in wanted {
        let found = bus.get(register)?;
        if found != value {
            return Err(format!(
                "register {register:#04x} holds {found:#04x} and was set to {value:#04x}: the chip was reset, by its supply \
                 or by somebody else"
            ));
        }
    }
    Ok(())
}

pub(super) fn triple(bytes: &[u8]) -> [i16; 3] {
    let mut out = [0; 3];
    for (to, from) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *to = i16::from_le_bytes([from[0], from[1]]);
    }
    out
}

/// The self-test of an axis, in units of the data sheet.
pub(super) fn within(axis: usize, moved: f32, least: f32, most: f32, unit: &str) -> Result<(), String> {
    if (least..=most).contains(&moved) {
        return Ok(());
    }
    let axis = ["x", "y", "z"].get(axis).copied().unwrap_or("?");
    Err(format!(
        "{axis} moved by {moved:.2} {unit} and should by {least} to {most} (the vehicle must stand for the test)"
    ))
}
