//! A GNSS receiver on its line: fixes lie on the Earth and every number in them is one, whatever the line says.
//!
//! The first byte chooses NMEA 0183 or gpsd. NMEA is tried as it is and with right checksums.

#[path = "../../../firmware-agent/agent/src/io/gnss/gpsd.rs"]
#[allow(dead_code, reason = "the agent's own module; only its language is judged")]
mod gpsd;
#[path = "../../../firmware-agent/agent/src/io/gnss/language.rs"]
mod language;
#[path = "../../../firmware-agent/agent/src/io/gnss/lines.rs"]
mod lines;
#[path = "../../../firmware-agent/agent/src/io/gnss/nmea.rs"]
mod nmea;

use agent_core::samples::GnssFix;
use agent_core::time::MonoTime;

use language::{Language, Meaning, hear};
use lines::Lines;

pub fn judge(data: &[u8]) {
    let Some((language, bytes)) = data.split_first() else { return };
    if language % 2 == 0 {
        listen(bytes, &mut nmea::Nmea::default());
        listen(&repaired(bytes), &mut nmea::Nmea::default());
    } else {
        listen(bytes, &mut gpsd::Gpsd);
    }
}

fn listen(bytes: &[u8], language: &mut dyn Language) {
    let mut lines = Lines::new();
    for (i, byte) in bytes.iter().chain(b"\n").enumerate() {
        let now = MonoTime(i as u64 * 1_000_000);
        if let Some(Meaning::Fix(fix)) = hear(&mut lines, *byte, language, || now) {
            assert_eq!(fix.t, now);
            sound(&fix);
        }
    }
}

fn sound(fix: &GnssFix) {
    assert!((-90.0..=90.0).contains(&fix.lat_deg) && (-180.0..=180.0).contains(&fix.lon_deg), "{fix:?}");
    let numbers = [fix.alt_m, fix.speed_mps, fix.course_deg, fix.accuracy_m.unwrap_or(0.0)];
    assert!(numbers.iter().all(|n| n.is_finite()), "{fix:?}");
}

/// The same sentences with the checksum that they should have, up to the first `*` of each.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split(|b| *b == b'\n') {
        let body = line.split(|b| *b == b'*').next().unwrap_or_default();
        out.extend_from_slice(body);
        if let Some(from) = body.iter().position(|b| *b == b'$') {
            out.extend(format!("*{:02X}", body[from + 1..].iter().fold(0, |a, b| a ^ b)).bytes());
        }
        out.push(b'\n');
    }
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let nmea = "\0$GNGGA,083559.25,4717.11437,N,00833.91522,E,1,12,0.9,499.6,M,48.0,M,,\r\n\
        $GNGST,083559.25,1.2,,,,3.0,4.0,6.1\r\n\
        $GNRMC,083559.25,A,4717.11437,N,00833.91522,E,19.438,77.52,091226,,,A\r\n";
    let none = "\0$GNRMC,083559.00,V,,,,,,,091226,,,N\r\n\x01\x62 noise $GPZDA,1,2,3\n";
    let gpsd = "\x01{\"class\":\"VERSION\",\"release\":\"3.25\"}\n{\"class\":\"TPV\",\"mode\":3,\
        \"time\":\"2026-12-09T08:35:59.250Z\",\"lat\":47.28,\"lon\":8.56,\"altMSL\":499.6,\"alt\":1e3,\"speed\":10.0,\
        \"track\":77.5,\"eph\":5.0}\n";
    let old = "\x01{\"class\":\"TPV\",\"mode\":2,\"lat\":-1e1,\"lon\":null}\n{\"class\":\"SKY\"}\n[";
    [nmea, none, gpsd, old].map(|text| text.as_bytes().to_vec()).into()
}
