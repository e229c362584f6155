//! The plain words for what messages hold as codes and scaled integers.

use agent_wire::{
    EventKind, EventTime, Evidence, EvidenceSource, Flags, GroundingCheck, LadderReason, Losses, Position, Quality,
    Severity, StudentRefusal, Verdict, WallQuality,
};

pub(crate) const fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::HarshBraking => "Harsh braking",
        EventKind::HarshAcceleration => "Harsh acceleration",
        EventKind::HarshCornering => "Harsh cornering",
        EventKind::HarshManoeuvre => "Harsh manoeuvre, direction not known",
        EventKind::NearCollision => "Near collision",
        EventKind::VehicleSignal => "Vehicle signal",
        EventKind::Collision => "Collision",
    }
}

/// Word and style class.
pub(crate) const fn severity(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Minor => ("minor", "minor"),
        Severity::Moderate => ("moderate", "moderate"),
        Severity::Severe => ("severe", "severe"),
        Severity::Critical => ("critical", "critical"),
    }
}

/// Why a step of the student's ladder gave no answer.
pub(crate) const fn ladder(why: LadderReason) -> &'static str {
    match why {
        LadderReason::NotInstalled => "it is not installed",
        LadderReason::OutOfMemory => "memory was not enough",
        LadderReason::WorkerDied => "its process ended or was killed",
        LadderReason::CorruptModel => "its model file is damaged or of another form",
        LadderReason::Deadline => "it did not answer in time",
        LadderReason::Hot => "the unit was too hot",
        LadderReason::Unreachable => "its process could not be started or reached",
        LadderReason::Protocol => "what it said was not the protocol",
        LadderReason::Overload => "more frames waited for it than the unit holds",
        LadderReason::Failed => "it failed",
    }
}

pub(crate) const fn refusal(why: StudentRefusal) -> &'static str {
    match why {
        StudentRefusal::NotInstalled => {
            "Nobody has described the video: no student model is installed on this unit. The measurements on this page stand on their own."
        }
        StudentRefusal::Late => {
            "Nobody has described the video: the student did not answer before its deadline. The measurements on this page stand on their own."
        }
        StudentRefusal::Hot => {
            "Nobody has described the video: the unit was too hot to run the student. The measurements on this page stand on their own."
        }
        StudentRefusal::Failed => {
            "Nobody has described the video: the student failed, also with its smaller models. The measurements on this page stand on their own."
        }
        StudentRefusal::NoVideo => {
            "Nobody has described the video: there was none of this event. The measurements on this page stand on their own."
        }
        StudentRefusal::NotAsked => {
            "Nobody has described the video: events of this severity are not put to the student, by configuration."
        }
    }
}

pub(crate) const fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Measured => "measured",
        Quality::Derived => "derived from other measurements",
        Quality::Clipped => "the sensor's range was exceeded: at least this",
        Quality::Absent => "not known",
    }
}

pub(crate) const fn check(check: GroundingCheck) -> &'static str {
    match check {
        GroundingCheck::CollisionVersusDeltaV => "The student's collision against the measured delta-V",
        GroundingCheck::ImpactVersusVision => "The alert's kind against what the camera showed",
        GroundingCheck::DeltaVVersusSpeed => "Delta-V against the change of the vehicle's speed",
        GroundingCheck::IntervalVersusTimeZero => "The student's crash interval against time zero",
    }
}

/// Word and style class.
pub(crate) const fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Agrees => ("agrees", "agrees"),
        Verdict::Contradicts => ("contradicts: read both with care", "contradicts"),
        Verdict::Unknown => ("cannot be told: one of them is missing", "unknown"),
    }
}

pub(crate) fn flags(flags: Flags) -> String {
    let all = [
        (flags.simulated, "simulated input"),
        (flags.replayed, "replayed input"),
        (flags.multi_event, "a second impact joined this event"),
        (flags.no_vision, "no trigger model installed: telemetry alone decided"),
        (flags.no_telemetry, "no telemetry: vision alone decided"),
    ];
    let set: Vec<&str> = all.iter().filter(|(on, _)| *on).map(|(_, words)| *words).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("; ") }
}

pub(crate) fn losses(losses: &Losses) -> String {
    let all = [
        (losses.frames, "camera frames"),
        (losses.imu, "IMU samples"),
        (losses.can, "CAN frames"),
        (losses.gnss, "GNSS fixes"),
        (losses.unseen_frames, "frames not seen by the trigger model"),
    ];
    let some: Vec<String> = all.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if some.is_empty() { "nothing was lost".to_owned() } else { some.join(", ") }
}

/// Name and unit of a source of evidence.
fn source(source: EvidenceSource) -> (String, &'static str) {
    let (name, unit) = match source {
        EvidenceSource::DeltaV => ("Delta-V within the window", "km/h"),
        EvidenceSource::PeakAcceleration => ("Peak acceleration", "m/s²"),
        EvidenceSource::Longitudinal => ("Longitudinal acceleration", "m/s²"),
        EvidenceSource::Lateral => ("Lateral acceleration", "m/s²"),
        EvidenceSource::Horizontal => ("Horizontal acceleration", "m/s²"),
        EvidenceSource::SpeedDrop => ("Loss of speed", "m/s"),
        EvidenceSource::Airbag => ("Airbag", ""),
        EvidenceSource::Signal(index) => return (format!("Configured signal {index}"), ""),
        EvidenceSource::VisionRisk => ("Risk seen by the camera", ""),
        EvidenceSource::TimeToCollision => ("Time to collision", "s"),
    };
    (name.to_owned(), unit)
}

/// Name, value, threshold and time of a piece of evidence.
pub(crate) fn evidence(item: &Evidence) -> [String; 4] {
    let (name, unit) = source(item.source);
    let value = |milli: i32| minus(format!("{:.2} {unit}", f64::from(milli) * 1e-3).trim_end().to_owned());
    [name, value(item.value_milli), value(item.threshold_milli), ms(i32::from(item.at_ms))]
}

/// Signed milliseconds from time zero.
pub(crate) fn ms(ms: i32) -> String {
    minus(format!("{ms:+} ms"))
}

/// Signed seconds from time zero, to the hundredth; no sign when that is nought.
pub(crate) fn seconds(ms: i32) -> String {
    if (-4..=4).contains(&ms) { "0.00 s".to_owned() } else { minus(format!("{:+.2} s", f64::from(ms) * 1e-3)) }
}

/// A real minus sign for a leading hyphen.
pub(crate) fn minus(text: String) -> String {
    text.strip_prefix('-').map_or(text.clone(), |rest| format!("\u{2212}{rest}"))
}

/// Tenths with their unit.
pub(crate) fn tenths(value: i32, unit: &str) -> String {
    minus(format!("{:.1} {unit}", f64::from(value) * 0.1))
}

/// A probability in units of 1e-4.
pub(crate) fn probability(e4: u16) -> String {
    format!("{:.1} %", f64::from(e4) * 0.01)
}

pub(crate) fn time(time: &EventTime) -> String {
    let mono = format!("{:.3} s on the unit's clock", time.mono_ns as f64 * 1e-9);
    let trust = match time.quality {
        WallQuality::None => return format!("wall time not known; {mono}"),
        WallQuality::Rtc => "battery-backed clock, unchecked",
        WallQuality::Ntp => "network time",
        WallQuality::Gnss => "GNSS time",
    };
    format!("{} ({trust}; {mono})", utc(time.unix_ms))
}

/// Unix milliseconds as a date, by the civil calendar (days counted in eras of 400 years).
pub(crate) fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{:03} UTC", ms % 1000)
}

pub(crate) fn position(position: &Position) -> String {
    let degrees = |e7: i32, signs: [char; 2]| {
        format!("{:.5}° {}", f64::from(e7).abs() * 1e-7, if e7 < 0 { signs[1] } else { signs[0] })
    };
    let accuracy = if position.accuracy_dm == u16::MAX {
        "accuracy not given".to_owned()
    } else {
        format!("accuracy {:.1} m", f64::from(position.accuracy_dm) * 0.1)
    };
    let place = format!("{}, {}", degrees(position.lat_e7, ['N', 'S']), degrees(position.lon_e7, ['E', 'W']));
    format!("{place} ({accuracy}; fix {:.1} s old)", f64::from(position.age_ms) * 1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59.999 UTC");
        assert_eq!(utc(1_709_164_800_000), "2024-02-29 00:00:00.000 UTC");
        assert_eq!(utc(1_767_268_834_070), "2026-01-01 12:00:34.070 UTC");
        assert!(utc(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn extremes_have_words() {
        let far = Position { lat_e7: i32::MIN, lon_e7: i32::MAX, age_ms: u32::MAX, accuracy_dm: u16::MAX };
        assert_eq!(position(&far), "214.74836° S, 214.74836° E (accuracy not given; fix 4294967.3 s old)");
        assert_eq!([seconds(-4), seconds(5), seconds(-1234)], ["0.00 s", "+0.01 s", "\u{2212}1.23 s"]);
        assert_eq!((ms(-5), tenths(-281, "km/h")), ("\u{2212}5 ms".to_owned(), "\u{2212}28.1 km/h".to_owned()));
    }
}
