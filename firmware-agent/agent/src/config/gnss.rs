//! `[sources.gnss]`: where fixes come from. Nothing here opens anything.

use std::path::PathBuf;

use serde::Serialize;

use super::Config;
use super::reader::{At, Section, refuse};
use super::tree::Files;
use super::types::path_or_none;

/// `[sources.gnss]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GnssConfig {
    /// Which kind of receiver.
    pub(crate) kind: GnssKind,
    /// Serial device of `serial`, best a stable name below /dev/serial/by-id.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) device: Option<PathBuf>,
    /// Its rate, bits a second.
    pub(crate) baud: u32,
    /// Host and port of `gpsd`.
    pub(crate) address: String,
}

impl Config {
    /// The receiver's serial device, resolved; empty where none is named.
    pub(crate) fn gnss_device(&self) -> PathBuf {
        self.resolve_or_empty(self.sources.gnss.device.as_deref())
    }
}

/// Kind of receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GnssKind {
    /// None.
    None,
    /// NMEA 0183 over a serial line.
    Serial,
    /// The daemon gpsd, JSON over TCP.
    Gpsd,
}

const KINDS: [(&str, GnssKind); 3] = [("none", GnssKind::None), ("serial", GnssKind::Serial), ("gpsd", GnssKind::Gpsd)];
/// What serial lines and receivers have in common.
const BAUDS: [u32; 8] = [4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800];

/// The section inside `[sources]`.
pub(super) fn gnss(files: &mut Files, sources: &mut Section<'_>) -> Option<GnssConfig> {
    let mut s = sources.section(files, "gnss");
    let kind = s.word(files, "kind", &KINDS);
    let device = s.path_or_none(files, "device");
    let baud = s.whole(files, "baud", BAUDS[0], BAUDS[BAUDS.len() - 1]);
    if let Some(spot) = baud.spot.filter(|_| !BAUDS.contains(&baud.value)) {
        let known: Vec<String> = BAUDS.iter().map(u32::to_string).collect();
        refuse(files, spot, s.key("baud"), format!("none of {}", known.join(", ")));
    }
    let address = s.checked(files, "address", "HOST:PORT", host_and_port);
    if let Some(At { value: GnssKind::Serial, spot: Some(spot) }) = kind
        && device.value.is_none()
        && device.spot.is_some()
    {
        refuse(files, spot, s.key("kind"), format!("but {} is none", s.key("device")));
    }
    s.finish(files);
    Some(GnssConfig { kind: kind?.value, device: device.value, baud: baud.value, address: address?.value })
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(text.to_owned()),
        _ => Err("not of the form HOST:PORT".to_owned()),
    }
}
