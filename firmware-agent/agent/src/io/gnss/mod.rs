//! The GNSS receiver: fixes from NMEA 0183 over a serial line, or from gpsd.
//!
//! A fix carries the time at which its last byte arrived: receivers speak 50 to 300 ms after the instant that they measured,
//! and none says how long. One thread reads; a receiver that is missing, silent or unplugged is said once, looked for
//! again and again, and said again when it is back. Sentences that are damaged are losses, counted.

mod gpsd;
mod language;
mod lines;
mod nmea;
mod serial;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_core::samples::GnssFix;

use crate::config::gnss::{GnssConfig, GnssKind};
use crate::io::camera::clock::monotonic_now;
use language::{Language, Meaning, hear};
use lines::Lines;

/// A read waits this long at most, so that the thread answers the stop flag and the watchdog.
const POLL: Duration = Duration::from_millis(100);
/// Receivers speak every second or more often, without a fix too; a line that is silent for longer is dead.
const SILENT: Duration = Duration::from_secs(5);
/// Between two tries to open.
const RETRY: Duration = Duration::from_secs(1);

/// What a receiver says: fixes, and words about them.
pub(crate) type News = crate::io::news::News<GnssFix>;

/// One opened receiver.
struct Opened {
    bytes: Box<dyn Read + Send>,
    language: Box<dyn Language + Send>,
    what: String,
}

fn open(config: &GnssConfig, device: &Path) -> std::io::Result<Opened> {
    Ok(match config.kind {
        GnssKind::None => return Err(std::io::Error::other("no receiver is configured")),
        GnssKind::Serial => Opened {
            bytes: Box::new(serial::open(device, config.baud)?),
            language: Box::<nmea::Nmea>::default(),
            what: format!("{} at {} baud", device.display(), config.baud),
        },
        GnssKind::Gpsd => Opened {
            bytes: Box::new(gpsd::connect(&config.address, POLL)?),
            language: Box::new(gpsd::Gpsd),
            what: format!("gpsd at {}", config.address),
        },
    })
}

/// Reads the receiver until `stop`. `tell` says false when nobody listens any more; `beat` is called many times a second.
/// `device` is the configured one, resolved. Whether sound sentences came, with a position in them or not.
pub(crate) fn run(
    config: &GnssConfig,
    device: &Path,
    stop: &AtomicBool,
    beat: &dyn Fn(),
    tell: &mut dyn FnMut(News) -> bool,
) -> bool {
    let (mut said, mut spoke): (Option<String>, bool) = (None, false);
    while !stop.load(Ordering::Relaxed) {
        beat();
        let why = match open(config, device) {
            Err(error) => Some(format!("GNSS receiver: {error}; looked for every second")),
            Ok(opened) => {
                let what = opened.what.clone();
                let mut heard = false;
                let ended = listen(opened, said.is_some(), stop, beat, tell, &mut heard);
                spoke |= heard;
                if matches!(ended, Ended::Told) {
                    return spoke;
                }
                // After it spoke, the next silence is news again.
                said = said.filter(|_| !heard);
                Some(format!("GNSS receiver: {what} is silent; opened again every few seconds"))
            }
        };
        if why != said {
            if let Some(why) = &why
                && !tell(News::Said(why.clone()))
            {
                return spoke;
            }
            said = why;
        }
        let until = Instant::now() + RETRY;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            beat();
            std::thread::sleep(POLL / 2);
        }
    }
    spoke
}

enum Ended {
    /// Told to stop, or nobody listens.
    Told,
    /// Nothing comes.
    Silent,
}

/// Reads an opened receiver to its end; `heard` becomes true with the first sound sentence.
fn listen(
    mut opened: Opened,
    was_away: bool,
    stop: &AtomicBool,
    beat: &dyn Fn(),
    tell: &mut dyn FnMut(News) -> bool,
    heard: &mut bool,
) -> Ended {
    let mut lines = Lines::new();
    let mut last = Instant::now();
    let (mut away, mut positioned) = (was_away, None);
    let mut buffer = [0_u8; 512];
    loop {
        beat();
        if stop.load(Ordering::Relaxed) {
            return Ended::Told;
        }
        let got = match opened.bytes.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => 0,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(_) => return Ended::Silent,
        };
        if got == 0 {
            if last.elapsed() >= SILENT {
                return Ended::Silent;
            }
            // A line that hung up gives nothing at once, again and again.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        last = Instant::now();
        for byte in buffer.get(..got).unwrap_or(&[]) {
            let Some(meaning) = hear(&mut lines, *byte, &mut *opened.language, monotonic_now) else { continue };
            if matches!(meaning, Meaning::Fix(_) | Meaning::NoFix) {
                *heard = true;
                if std::mem::take(&mut away) && !tell(News::Said(format!("GNSS receiver: {} is back", opened.what))) {
                    return Ended::Told;
                }
                let has = matches!(meaning, Meaning::Fix(_));
                if positioned.replace(has) != Some(has) {
                    let word = if has { "has a position" } else { "has no position" };
                    if !tell(News::Said(format!("GNSS receiver: {} {word}", opened.what))) {
                        return Ended::Told;
                    }
                }
            }
            let news = match meaning {
                Meaning::Fix(fix) => News::Sample(fix),
                Meaning::Damaged => News::Lost(1),
                Meaning::NoFix | Meaning::Other => continue,
            };
            if !tell(news) {
                return Ended::Told;
            }
        }
    }
}
