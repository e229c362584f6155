//! NMEA 0183 to fixes, by the nmea crate: RMC gives place, speed, course and time, GGA before it the altitude, GST before it
//! the accuracy.

use ::nmea::sentences::rmc::RmcStatusOfFix;
use ::nmea::{ParseResult, parse_str};
use agent_core::samples::GnssFix;
use agent_core::time::{MonoTime, Span, WallQuality, WallTime};

use super::language::{Language, Meaning};

/// What another sentence said is used for this long: the epoch before at 1 Hz, and no longer.
const FRESH: Span = Span::from_ms(1500);
/// m/s in a knot: 1852 m an hour.
const KNOT_MPS: f32 = 1852.0 / 3600.0;

#[derive(Debug, Default)]
pub(super) struct Nmea {
    altitude_m: Option<(MonoTime, f32)>,
    accuracy_m: Option<(MonoTime, f32)>,
}

impl Language for Nmea {
    fn line(&mut self, text: &str, now: MonoTime) -> Meaning {
        // Receivers share the line with binary protocols; what does not begin as a sentence is not one.
        let Some(start) = text.find('$') else { return Meaning::Other };
        let text = text.get(start..).unwrap_or("");
        let fresh = |held: Option<(MonoTime, f32)>| held.filter(|(t, _)| now.since(*t) <= FRESH).map(|(_, v)| v);
        match parse_str(text) {
            Ok(ParseResult::GGA(gga)) => {
                self.altitude_m = gga.altitude.map(|m| (now, m)).or(self.altitude_m);
                Meaning::Other
            }
            Ok(ParseResult::GST(gst)) => {
                let both = gst.lat_sd.zip(gst.long_sd).map(|(a, b)| (now, a.hypot(b)));
                self.accuracy_m = both.or(self.accuracy_m);
                Meaning::Other
            }
            Ok(ParseResult::RMC(rmc)) => {
                let (Some(lat), Some(lon)) = (rmc.lat, rmc.lon) else { return Meaning::NoFix };
                let placed = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon);
                if rmc.status_of_fix == RmcStatusOfFix::Invalid || !placed {
                    return Meaning::NoFix;
                }
                let date = rmc.fix_date.zip(rmc.fix_time).map(|(day, time)| day.and_time(time).and_utc());
                let unix_ms = date.and_then(|d| u64::try_from(d.timestamp_millis()).ok());
                Meaning::Fix(GnssFix {
                    t: now,
                    lat_deg: lat,
                    lon_deg: lon,
                    alt_m: fresh(self.altitude_m).unwrap_or(0.0),
                    speed_mps: rmc.speed_over_ground.filter(|v| v.is_finite()).unwrap_or(0.0) * KNOT_MPS,
                    course_deg: rmc.true_course.filter(|v| v.is_finite()).unwrap_or(0.0),
                    accuracy_m: fresh(self.accuracy_m).filter(|m| m.is_finite()),
                    wall: unix_ms.map(|unix_ms| WallTime { unix_ms, quality: WallQuality::Gnss }),
                })
            }
            Ok(_) => Meaning::Other,
            // Sentences that this reader was built without.
            Err(::nmea::Error::DisabledSentence | ::nmea::Error::Unsupported(_)) => Meaning::Other,
            // A damaged sentence is a loss where it was the one that brings a fix.
            Err(_) if text.get(3..6) == Some("RMC") => Meaning::Damaged,
            Err(_) => Meaning::Other,
        }
    }
}
