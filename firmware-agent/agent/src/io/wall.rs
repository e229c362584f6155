//! The wall clock, and how far it may be trusted.
//!
//! *Synchronised*: the kernel says that a time service disciplines its clock (adjtimex(2): STA_UNSYNC is not set); where the
//! unit's sandbox forbids to ask, systemd-timesyncd's note that it did so since the start is taken. *From the
//! RTC*: a battery-backed clock exists and agrees with the system's, and neither stands before this program was written; a
//! clock without a battery begins in the past. Otherwise the time means nothing, whatever it shows. A service's clock that
//! lost its source is called unsynchronised by the kernel within hours; the mapping of the core keeps the better reading.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent_core::time::{MonoTime, Span, WallQuality, WallTime};

use crate::io::camera::clock::monotonic_now;

/// Between two looks.
const EVERY: Span = Span::from_s(1);
/// No clock that was ever set shows a time before this: 2026-01-01.
const WRITTEN_UNIX_S: u64 = 1_767_225_600;
/// What systemd-timesyncd touches when it has set the clock; gone with every start.
const NOTE: &str = "/run/systemd/timesync/synchronized";
/// An RTC counts whole seconds, and may have been read late.
const AGREES_S: u64 = 3;

/// Reads the clock every second.
#[derive(Debug)]
pub(crate) struct WallClock {
    /// Where the kernel lists battery-backed clocks.
    rtcs: PathBuf,
    next: MonoTime,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        Self { rtcs: PathBuf::from("/sys/class/rtc"), next: MonoTime::ZERO }
    }

    /// A reading, if one is due.
    pub(crate) fn due(&mut self) -> Option<(MonoTime, WallTime)> {
        let now = monotonic_now();
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        Some(self.read())
    }

    /// Both clocks and what the wall clock's word is worth.
    pub(crate) fn read(&self) -> (MonoTime, WallTime) {
        let now = monotonic_now();
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let synchronised = synchronised().unwrap_or_else(|| Path::new(NOTE).exists());
        let quality = quality(synchronised, unix.as_secs(), || rtc_unix_s(&self.rtcs));
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(0);
        (now, WallTime { unix_ms, quality })
    }
}

fn quality(synchronised: bool, unix_s: u64, rtc: impl FnOnce() -> Option<u64>) -> WallQuality {
    if unix_s < WRITTEN_UNIX_S {
        WallQuality::None
    } else if synchronised {
        WallQuality::Ntp
    } else if rtc().is_some_and(|rtc| rtc.abs_diff(unix_s) <= AGREES_S) {
        WallQuality::Rtc
    } else {
        WallQuality::None
    }
}

/// The first battery-backed clock that the kernel can read.
fn rtc_unix_s(rtcs: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(rtcs.join(name).join("since_epoch")).ok()?.trim().parse().ok();
    ["rtc0", "rtc1"].into_iter().find_map(read)
}

/// Whether the kernel's clock is disciplined. None where it may not be asked.
#[allow(unsafe_code, reason = "the kernel's word has no safe interface")]
fn synchronised() -> Option<bool> {
    // SAFETY: timex is plain numbers, for all of which zero is a value; modes 0 only reads.
    let (state, status) = unsafe {
        let mut timex: libc::timex = core::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    (state >= 0).then_some(state < libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_what_stands_behind_the_time() {
        let now = WRITTEN_UNIX_S + 1_000_000;
        assert_eq!(quality(true, now, || None), WallQuality::Ntp);
        assert_eq!(quality(false, now, || Some(now - 1)), WallQuality::Rtc);
        assert_eq!(
            quality(false, now, || Some(now - 100)),
            WallQuality::None,
            "a clock that was set to something else"
        );
        assert_eq!(quality(false, now, || None), WallQuality::None, "a time that a shutdown wrote down");
        assert_eq!(quality(true, 1000, || Some(1000)), WallQuality::None, "1970");
    }

    #[test]
    fn a_clock_of_the_kernel_is_read_from_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(rtc_unix_s(folder.path()), None);
        std::fs::create_dir(folder.path().join("rtc1")).unwrap();
        std::fs::write(folder.path().join("rtc1/since_epoch"), "1767225700\n").unwrap();
        assert_eq!(rtc_unix_s(folder.path()), Some(1_767_225_700));
    }

    #[test]
    fn readings_come_once_a_second_and_go_on_with_the_monotonic_clock() {
        let mut clock = WallClock::new();
        let (t, wall) = clock.due().unwrap();
        assert_eq!(clock.due(), None);
        let (later, after) = clock.read();
        assert!(later >= t && after.unix_ms.abs_diff(wall.unix_ms) < 5000);
    }
}
