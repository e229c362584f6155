//! gpsd: its JSON over TCP. `TPV` objects of mode 2 or more are fixes (gpsd_json(5)).

use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use agent_core::samples::GnssFix;
use agent_core::time::{MonoTime, WallQuality, WallTime};
use serde::Deserialize;

use super::language::{Language, Meaning};

/// A connection takes this long at most; gpsd runs on the unit.
const CONNECT: Duration = Duration::from_secs(2);

pub(super) fn connect(address: &str, poll: Duration) -> std::io::Result<TcpStream> {
    let place =
        address.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other(format!("{address} is nowhere")))?;
    let told = |e: std::io::Error| std::io::Error::new(e.kind(), format!("gpsd at {address}: {e}"));
    let mut stream = TcpStream::connect_timeout(&place, CONNECT).map_err(told)?;
    stream.set_read_timeout(Some(poll))?;
    stream.set_write_timeout(Some(CONNECT))?;
    stream.write_all(b"?WATCH={\"enable\":true,\"json\":true};\n").map_err(told)?;
    Ok(stream)
}

#[derive(Debug, Deserialize)]
struct Object<'a> {
    class: &'a str,
}

/// A report of time, place and velocity; what it does not know is absent.
#[derive(Debug, Deserialize)]
struct Tpv {
    #[serde(default)]
    mode: u8,
    lat: Option<f64>,
    lon: Option<f64>,
    /// Mean sea level, m.
    #[serde(rename = "altMSL")]
    alt_msl: Option<f32>,
    /// Older gpsd has this one.
    alt: Option<f32>,
    speed: Option<f32>,
    track: Option<f32>,
    /// Estimated horizontal error, m.
    eph: Option<f32>,
    time: Option<String>,
}

#[derive(Debug)]
pub(super) struct Gpsd;

impl Language for Gpsd {
    fn line(&mut self, text: &str, now: MonoTime) -> Meaning {
        match serde_json::from_str::<Object<'_>>(text) {
            Ok(Object { class: "TPV" }) => {}
            Ok(_) => return Meaning::Other,
            Err(_) => return Meaning::Damaged,
        }
        let Ok(tpv) = serde_json::from_str::<Tpv>(text) else { return Meaning::Damaged };
        let (Some(lat), Some(lon)) = (tpv.lat, tpv.lon) else { return Meaning::NoFix };
        if tpv.mode < 2 || !(-90.0..=90.0).contains(&lat) || !(-180.0..=180.0).contains(&lon) {
            return Meaning::NoFix;
        }
        let unix_ms = tpv.time.and_then(|t| t.parse::<chrono::DateTime<chrono::Utc>>().ok());
        let unix_ms = unix_ms.and_then(|d| u64::try_from(d.timestamp_millis()).ok());
        let finite = |v: Option<f32>| v.filter(|v| v.is_finite());
        Meaning::Fix(GnssFix {
            t: now,
            lat_deg: lat,
            lon_deg: lon,
            alt_m: finite(tpv.alt_msl).or(finite(tpv.alt)).unwrap_or(0.0),
            speed_mps: finite(tpv.speed).unwrap_or(0.0),
            course_deg: finite(tpv.track).unwrap_or(0.0),
            accuracy_m: finite(tpv.eph),
            wall: unix_ms.map(|unix_ms| WallTime { unix_ms, quality: WallQuality::Gnss }),
        })
    }
}
