//! IMU tables: comma-separated, one header line, columns named by the caller with their units. Quoting is not known:
//! such a file's odd lines are skipped and counted.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use agent_core::samples::ImuSample;
use agent_core::time::MonoTime;

use super::{ImportError, Item, Notes, Source, bad, io_error, open_text, read_line};

/// Unit of the time column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

/// Unit of the accelerometer columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccelUnit {
    /// Metres per second squared.
    Mps2,
    /// Standard gravity, 9.80665 m/s^2.
    G,
}

/// Unit of the gyroscope columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GyroUnit {
    /// Radians per second.
    RadPerS,
    /// Degrees per second.
    DegPerS,
}

/// Which columns hold what.
#[derive(Clone, Debug, PartialEq)]
pub struct ImuColumns {
    /// The time column and its unit.
    pub time: (String, TimeUnit),
    /// The three axes of the accelerometer.
    pub accel: [String; 3],
    /// Their unit.
    pub accel_unit: AccelUnit,
    /// The three axes of the gyroscope and their unit, if there is one.
    pub gyro: Option<([String; 3], GyroUnit)>,
}

pub(crate) struct ImuCsv {
    path: PathBuf,
    input: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
    time: usize,
    ns_per_unit: f64,
    accel: [usize; 3],
    accel_scale: f64,
    gyro: Option<[usize; 3]>,
    gyro_scale: f64,
    notes: Notes,
}

impl ImuCsv {
    pub(crate) fn open(path: &Path, columns: &ImuColumns) -> Result<Self, ImportError> {
        let mut input = open_text(path)?;
        let mut line = Vec::new();
        read_line(&mut *input, &mut line).map_err(io_error(path))?.ok_or_else(|| bad(path, "the file is empty"))?;
        let header = String::from_utf8_lossy(&line).into_owned();
        let names: Vec<&str> = header.trim_start_matches('\u{FEFF}').trim().split(',').map(str::trim).collect();
        let find = |name: &String| {
            names.iter().position(|n| n == name).ok_or_else(|| {
                let some: Vec<&str> = names.iter().take(24).copied().collect();
                bad(path, format!("no column {name:?}; there are {}", some.join(", ")))
            })
        };
        let three = |names: &[String; 3]| -> Result<[usize; 3], ImportError> {
            Ok([find(&names[0])?, find(&names[1])?, find(&names[2])?])
        };
        let ns_per_unit = match columns.time.1 {
            TimeUnit::S => 1e9,
            TimeUnit::Ms => 1e6,
            TimeUnit::Us => 1e3,
            TimeUnit::Ns => 1.0,
        };
        let gyro = columns.gyro.as_ref().map(|(names, _)| three(names)).transpose()?;
        let gyro_scale = match columns.gyro {
            Some((_, GyroUnit::DegPerS)) => 1f64.to_radians(),
            _ => 1.0,
        };
        let accel_scale = if columns.accel_unit == AccelUnit::G { 9.806_65 } else { 1.0 };
        let (time, accel) = (find(&columns.time.0)?, three(&columns.accel)?);
        let (path, notes) = (path.to_owned(), Notes::default());
        Ok(Self { path, input, line, number: 1, time, ns_per_unit, accel, accel_scale, gyro, gyro_scale, notes })
    }

    fn parse(&self, text: &str) -> Result<ImuSample, String> {
        let cells: Vec<&str> = text.split(',').map(str::trim).collect();
        let cell = |i: usize| *cells.get(i).unwrap_or(&"");
        let number = |i: usize| {
            let v = cell(i).parse::<f64>().ok().filter(|v| v.is_finite());
            v.ok_or_else(|| format!("column {} is {:?}, not a number", i + 1, cell(i)))
        };
        // Whole numbers (nanoseconds of a boot clock) keep all their digits; floats have 53 bits.
        let ns = match cell(self.time).parse::<u64>() {
            Ok(v) => v.checked_mul(self.ns_per_unit as u64).ok_or("its time is too large")?,
            Err(_) => MonoTime::from_s(number(self.time)? * self.ns_per_unit * 1e-9).0,
        };
        let three = |at: [usize; 3], scale: f64| -> Result<[f32; 3], String> {
            Ok([number(at[0])?, number(at[1])?, number(at[2])?].map(|v| (v * scale) as f32))
        };
        let gyro_rps = self.gyro.map_or(Ok([0.0; 3]), |at| three(at, self.gyro_scale))?;
        let accel_mps2 = three(self.accel, self.accel_scale)?;
        Ok(ImuSample { t: MonoTime(ns), accel_mps2, gyro_rps, gyro_valid: self.gyro.is_some() })
    }
}

impl Source for ImuCsv {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        loop {
            let mut line = std::mem::take(&mut self.line);
            let read = read_line(&mut *self.input, &mut line).map_err(io_error(&self.path));
            self.line = line;
            if read?.is_none() {
                return Ok(None);
            }
            self.number += 1;
            let text = String::from_utf8_lossy(&self.line);
            if text.trim().is_empty() {
                continue;
            }
            match self.parse(text.trim()) {
                Ok(sample) => return Ok(Some(Item::Imu(sample))),
                Err(reason) => {
                    let number = self.number;
                    self.notes.skip(|| format!("line {number}: {reason}"));
                }
            }
        }
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }
}
