//! `[sources.imu]`: the accelerometer and gyroscope. Nothing here opens anything.

use std::path::PathBuf;

use serde::Serialize;

use super::Config;
use super::reader::{At, Section, refuse};
use super::tree::Files;
use super::types::path_or_none;

/// `[sources.imu]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ImuConfig {
    /// Which chip.
    pub(crate) kind: ImuKind,
    /// How it is wired.
    pub(crate) bus: ImuBus,
    /// The bus's device file.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) device: Option<PathBuf>,
    /// Address on I2C.
    pub(crate) address: u8,
    /// Samples a second, at least.
    pub(crate) rate_hz: u32,
    /// Whether the chip tests itself at the start.
    pub(crate) self_test: bool,
}

impl Config {
    /// The chip's device file, resolved; empty where none is named.
    pub(crate) fn imu_device(&self) -> PathBuf {
        self.resolve_or_empty(self.sources.imu.device.as_deref())
    }

    /// Its range: that of the telemetry trigger, g.
    pub(crate) fn imu_range_g(&self) -> u8 {
        self.trigger.telemetry.accel_range_g as u8
    }
}

/// Kind of chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImuKind {
    /// None.
    None,
    /// Bosch BMI160.
    Bmi160,
    /// STMicroelectronics LSM6DSO and LSM6DSOX.
    Lsm6dso,
}

/// Kind of bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImuBus {
    /// I2C.
    I2c,
    /// SPI.
    Spi,
}

const KINDS: [(&str, ImuKind); 3] =
    [("none", ImuKind::None), ("bmi160", ImuKind::Bmi160), ("lsm6dso", ImuKind::Lsm6dso)];
const BUSES: [(&str, ImuBus); 2] = [("i2c", ImuBus::I2c), ("spi", ImuBus::Spi)];
/// What both chips have as range.
const RANGES_G: [f32; 4] = [2.0, 4.0, 8.0, 16.0];
/// Slowest and fastest that both chips do.
const RATES_HZ: [u32; 2] = [100, 1600];

/// The section inside `[sources]`; `range_g` is that of the telemetry trigger, `most_hz` what the ring is sized for.
pub(super) fn imu(
    files: &mut Files,
    sources: &mut Section<'_>,
    range_g: f32,
    most_hz: Option<u32>,
) -> Option<ImuConfig> {
    let mut s = sources.section(files, "imu");
    let kind = s.word(files, "kind", &KINDS);
    let bus = s.word(files, "bus", &BUSES);
    let device = s.path_or_none(files, "device");
    // The other addresses of seven bits are reserved.
    let address = s.whole(files, "address", 0x08, 0x77);
    let rate_hz = s.whole(files, "rate_hz", RATES_HZ[0], RATES_HZ[1]);
    let self_test = s.flag(files, "self_test").value;
    if let Some(At { value, spot: Some(spot) }) = kind
        && value != ImuKind::None
    {
        if device.value.is_none() && device.spot.is_some() {
            refuse(files, spot, s.key("kind"), format!("but {} is none", s.key("device")));
        }
        if !RANGES_G.contains(&range_g) {
            let reason = format!("but trigger.telemetry.accel_range_g is {range_g}: the chip has 2, 4, 8 and 16");
            refuse(files, spot, s.key("kind"), reason);
        }
        if let (Some(most), Some(spot)) = (most_hz, rate_hz.spot)
            // The chip takes the next higher rate that it has, which may be twice this.
            && rate_hz.value > most
        {
            refuse(files, spot, s.key("rate_hz"), format!("above rings.imu_max_hz, which is {most}"));
        }
    }
    s.finish(files);
    let address = u8::try_from(address.value).unwrap_or(0x68);
    Some(ImuConfig {
        kind: kind?.value,
        bus: bus?.value,
        device: device.value,
        address,
        rate_hz: rate_hz.value,
        self_test,
    })
}
