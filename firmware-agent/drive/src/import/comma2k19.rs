//! A comma2k19 segment: IMU, u-blox GNSS and raw CAN from its `processed_log`, on the device's boot clock.
//!
//! The IMU's axes (forward, right, down) are kept as sensor axes: finding the vehicle's axes is the core's work. Its
//! accelerometer reads -9.8 along down at rest, that is +9.8 along up, as ours does. Sources 128 and up are echoes of
//! what the device itself sent, and are left out. Numpy dropped trailing zero bytes of CAN data, so lengths come from a
//! DBC file if given and are 8 otherwise.
//! Pictures (`video.hevc`) are not imported.

use std::collections::BTreeMap;
use std::path::Path;

use agent_core::samples::{CanFrame, GnssFix, ImuSample};
use agent_core::time::{MonoTime, WallQuality, WallTime};

use super::npy::Array;
use super::{ImportError, Item, Notes, Source, bad};
use crate::dbc;

pub(crate) struct Segment {
    imu: Option<Imu>,
    gnss: Option<[Array; 2]>,
    can: Option<[Array; 4]>,
    lengths: BTreeMap<u32, u8>,
    /// Next row of IMU, GNSS, CAN.
    next: [usize; 3],
    notes: Notes,
}

struct Imu {
    accel: [Array; 2],
    /// Times and values of the gyroscope, of the same length as the accelerometer's.
    gyro: Option<[Array; 2]>,
}

impl Segment {
    pub(crate) fn open(path: &Path, dbc_text: Option<&str>) -> Result<Self, ImportError> {
        let log = path.join("processed_log");
        if !log.is_dir() {
            return Err(bad(path, "not a comma2k19 segment: it has no folder processed_log"));
        }
        let mut notes = Notes::default();
        let pair = |folder: &str, columns: usize| -> Result<Option<[Array; 2]>, ImportError> {
            let folder = log.join(folder);
            if !folder.is_dir() {
                return Ok(None);
            }
            let t = Array::read(&folder.join("t"), &["<f8"], 1)?;
            let value = Array::read(&folder.join("value"), &["<f8"], columns)?;
            if t.rows != value.rows {
                return Err(bad(&folder, format!("{} times for {} values", t.rows, value.rows)));
            }
            Ok(Some([t, value]))
        };
        let gyro = pair("IMU/gyro", 3)?;
        let imu = pair("IMU/accelerometer", 3)?.map(|accel| {
            let gyro = gyro.filter(|g| g[0].rows == accel[0].rows);
            Imu { accel, gyro }
        });
        if imu.as_ref().is_some_and(|i| i.gyro.is_none()) {
            notes.say("the gyroscope does not pair with the accelerometer: left out".to_owned());
        }
        let gnss = pair("GNSS/live_gnss_ublox", 6)?;
        let raw = log.join("CAN/raw_can");
        let can = if raw.is_dir() {
            let read = |name: &str, kinds: &[&str]| Array::read(&raw.join(name), kinds, 1);
            let ints = ["<i8", "|u1"];
            let all = [read("t", &["<f8"])?, read("src", &ints)?, read("address", &ints)?, read("data", &["|S8"])?];
            if all.iter().any(|a| a.rows != all[0].rows) {
                return Err(bad(&raw, "its arrays differ in length"));
            }
            Some(all)
        } else {
            None
        };
        if imu.is_none() && gnss.is_none() && can.is_none() {
            return Err(bad(&log, "it has neither IMU, nor GNSS, nor CAN"));
        }
        let lengths = match dbc_text {
            Some(text) => {
                let all = dbc::message_lengths(text).map_err(|e| bad(path, e.to_string()))?;
                all.into_iter().filter(|(_, extended, _)| !extended).map(|(id, _, n)| (id, n.min(8))).collect()
            }
            None => BTreeMap::new(),
        };
        Ok(Self { imu, gnss, can, lengths, next: [0; 3], notes })
    }

    fn can(&mut self, row: usize) -> Option<CanFrame> {
        let [t, src, address, data] = self.can.as_ref()?;
        let bus = u8::try_from(src.int(row)).ok().filter(|b| *b <= 2)?;
        let t = time(t.f64(row, 0))?;
        let id = u32::try_from(address.int(row)).ok().filter(|id| *id <= 0x1FFF_FFFF)?;
        let mut payload = [0u8; 64];
        payload[..8].copy_from_slice(&data.raw(row, 0));
        let len = self.lengths.get(&id).copied().unwrap_or(8);
        Some(CanFrame { t, bus, id, extended: id > 0x7FF, fd: false, remote: false, len, data: payload })
    }

    fn imu(&self, row: usize) -> Option<ImuSample> {
        let imu = self.imu.as_ref()?;
        let three = |a: &Array| [0, 1, 2].map(|c| a.f64(row, c) as f32);
        let accel_mps2 = three(&imu.accel[1]);
        let gyro_rps = imu.gyro.as_ref().map_or([0.0; 3], |g| three(&g[1]));
        let finite = accel_mps2.iter().chain(&gyro_rps).all(|v| v.is_finite());
        let t = time(imu.accel[0].f64(row, 0)).filter(|_| finite)?;
        Some(ImuSample { t, accel_mps2, gyro_rps, gyro_valid: imu.gyro.is_some() })
    }

    /// Columns of a fix: latitude, longitude (degrees), speed (m/s), Unix time (ms), altitude (m), course (degrees).
    fn fix(&self, row: usize) -> Option<GnssFix> {
        let [t, value] = self.gnss.as_ref()?;
        let [lat_deg, lon_deg, speed, unix_ms, alt, course] = [0, 1, 2, 3, 4, 5].map(|c| value.f64(row, c));
        let sane = lat_deg.abs() <= 90.0 && lon_deg.abs() <= 180.0 && speed.is_finite() && course.is_finite();
        let wall = (unix_ms > 0.0).then_some(WallTime { unix_ms: unix_ms as u64, quality: WallQuality::Gnss });
        Some(GnssFix {
            t: time(t.f64(row, 0)).filter(|_| sane)?,
            lat_deg,
            lon_deg,
            alt_m: alt as f32,
            speed_mps: speed as f32,
            course_deg: course.rem_euclid(360.0) as f32,
            accuracy_m: None,
            wall,
        })
    }

    /// Times of the next rows of IMU, GNSS and CAN.
    fn heads(&self) -> [Option<f64>; 3] {
        let head = |a: Option<&Array>, i: usize| a.filter(|a| i < a.rows).map(|a| a.f64(i, 0));
        [
            head(self.imu.as_ref().map(|i| &i.accel[0]), self.next[0]),
            head(self.gnss.as_ref().map(|g| &g[0]), self.next[1]),
            head(self.can.as_ref().map(|c| &c[0]), self.next[2]),
        ]
    }
}

impl Source for Segment {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        loop {
            let heads = self.heads().into_iter().enumerate().filter_map(|(i, t)| Some((i, t?)));
            let Some((which, _)) = heads.min_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(None) };
            let row = self.next[which];
            self.next[which] += 1;
            let item = match which {
                0 => self.imu(row).map(Item::Imu),
                1 => self.fix(row).map(Item::Gnss),
                _ => {
                    let echo = self.can.as_ref().is_some_and(|c| c[1].int(row) > 2);
                    if echo {
                        continue;
                    }
                    self.can(row).map(Item::Can)
                }
            };
            match item {
                Some(item) => return Ok(Some(item)),
                None => self
                    .notes
                    .skip(|| format!("{} row {row}: not finite or out of range", ["IMU", "GNSS", "CAN"][which])),
            }
        }
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }
}

fn time(s: f64) -> Option<MonoTime> {
    (s.is_finite() && (0.0..1e10).contains(&s)).then(|| MonoTime::from_s(s))
}
