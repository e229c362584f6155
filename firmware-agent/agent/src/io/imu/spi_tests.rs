//! The drivers over SPI, on a bus as the data sheets have it.
//!
//! The first byte of a transaction is the register, and its highest bit says that it is read; data follows at once: neither
//! chip has a dummy byte before the registers that are read here. A BMI160 comes up speaking I2C, after each reset too, and
//! changes over with the first read, which it does not answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use agent_sim::chip::{SimBmi160, SimLsm6dso};
use embedded_hal::spi::{ErrorKind, ErrorType, Operation, SpiDevice};

use super::bmi160::Bmi160;
use super::bus::{OnSpi, Registers as _};
use super::chip::{Batch, G};
use super::fake::Bench;
use super::keeper::Timer as _;
use super::lsm6dso::Lsm6dso;

/// What was written in each transaction, and how many bytes were read.
type Sent = Vec<(Vec<u8>, usize)>;

/// A chip at the end of four wires.
struct Wires {
    bench: Bench,
    /// It comes up speaking I2C.
    i2c_first: bool,
    /// It speaks SPI now.
    spi: bool,
    broken: bool,
    sent: Rc<RefCell<Sent>>,
}

impl ErrorType for Wires {
    type Error = ErrorKind;
}

impl SpiDevice for Wires {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        if self.broken {
            return Err(ErrorKind::ModeFault);
        }
        let (mut out, mut read) = (Vec::<u8>::new(), 0);
        for operation in operations {
            match operation {
                Operation::Write(bytes) => out.extend_from_slice(bytes),
                Operation::Read(into) => {
                    assert!(out.len() == 1 && out[0] & 0x80 != 0, "read after {out:02x?}");
                    read += into.len();
                    if self.spi {
                        self.bench.chip.borrow_mut().read(out[0] & 0x7f, into);
                    } else {
                        into.fill(0xff);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        if read > 0 {
            self.spi = true;
        } else if self.spi {
            assert!(out.len() == 2 && out[0] & 0x80 == 0, "written: {out:02x?}");
            self.bench.chip.borrow_mut().write(out[0], out[1]);
            self.spi = !(self.i2c_first && out == [0x7e, 0xb6]);
        }
        self.sent.borrow_mut().push((out, read));
        Ok(())
    }
}

fn wires(bench: &Bench, i2c_first: bool) -> OnSpi<Wires, Bench> {
    let bus = Wires { bench: bench.clone(), i2c_first, spi: !i2c_first, broken: false, sent: Rc::default() };
    OnSpi { bus, delay: bench.clone() }
}

#[test]
fn a_read_has_the_highest_bit_and_no_byte_before_its_data_and_a_write_has_neither() {
    let mut spi = wires(&Bench::lsm6dso(), false);
    let sent = Rc::clone(&spi.bus.sent);
    assert_eq!(spi.get(0x0f), Ok(0x6c));
    let mut temperature = [0xee; 2];
    spi.read(0x20, &mut temperature).unwrap();
    assert_eq!(temperature, [0x00, 0x06], "the first byte is that of the register");
    spi.write(0x10, 0x74).unwrap();
    spi.write(0x90, 0x44).unwrap();
    assert_eq!(spi.get(0x10), Ok(0x44));
    spi.wake().unwrap();
    let expected = [
        (vec![0x8f], 1),
        (vec![0xa0], 2),
        (vec![0x10, 0x74], 0),
        (vec![0x10, 0x44], 0),
        (vec![0x90], 1),
        (vec![0xff], 1),
    ];
    assert_eq!(*sent.borrow(), expected);
    spi.bus.broken = true;
    assert_eq!(spi.get(0x0f).unwrap_err(), "register 0x0f cannot be read: ModeFault");
    assert_eq!(spi.write(0x10, 0).unwrap_err(), "register 0x10 cannot be written: ModeFault");
}

#[test]
fn waking_changes_a_chip_over_to_spi_before_anything_is_asked_of_it() {
    let mut asleep = wires(&Bench::bmi160(), true);
    assert_eq!(asleep.get(0x00), Ok(0xff), "the first read is not answered");
    let mut awake = wires(&Bench::bmi160(), true);
    awake.wake().unwrap();
    assert_eq!(awake.get(0x00), Ok(0xd1));
    awake.write(0x7e, 0xb6).unwrap();
    awake.write(0x41, 0x0c).unwrap();
    awake.wake().unwrap();
    assert_eq!(awake.get(0x41), Ok(0x03), "what is written before it wakes is lost");
}

#[test]
fn both_drivers_test_start_and_empty_their_chip_over_spi() {
    let benches = [
        Bench::new(Box::new(SimBmi160::new(0.02)), |bench| Box::new(Bmi160::new(wires(&bench, true)))),
        Bench::new(Box::new(SimLsm6dso::new(-0.02)), |bench| Box::new(Lsm6dso::new(wires(&bench, false)))),
    ];
    for mut bench in benches {
        let mut chip = bench.open().unwrap();
        let name = chip.name();
        assert_eq!(chip.self_test(), Ok(()), "{name}");
        let started = chip.start(500, 16).unwrap();
        bench.sleep(Duration::from_millis(50));
        let mut batch = Batch::new();
        chip.drain(&mut batch).unwrap();
        // At 816 Hz each; the first may still be the next of the self-test's slower rate, up to 20 ms away.
        assert!((24..=43).contains(&batch.raw.len()), "{name}: {batch:?}");
        assert_eq!((batch.skipped, batch.broken, batch.overrun), (0, 0, false), "{name}");
        let down = |counts: i16| f32::from(counts) * started.accel_scale;
        assert!(batch.raw.iter().all(|raw| (down(raw.accel[2]) - G).abs() < 0.1), "{name}: {batch:?}");
        assert_eq!((chip.verify(), chip.temperature_c()), (Ok(()), Ok(31.0)), "{name}");
        bench.chip.borrow_mut().dip();
        assert!(chip.verify().unwrap_err().contains("the chip was reset"), "{name}");
    }
}
