//! `listen`: the fleet side. Decodes what units publish, as a table or as JSON lines; duplicates and refusals are
//! shown as such, never hidden.

use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::time::{Duration, Instant};

use agent_link::{Broker, ListenConfig, Listener, Received};
use agent_wire::{Answer, CameraState, Message, SensorState, Sensors, Storage, StudentOutcome, WallQuality};
use serde_json::json;

use crate::cli::ListenArgs;
use crate::exit::{Outcome, bad_input, usage};
use crate::link::certificates;
use crate::show::{put, say};
use crate::student::{Books, answer_words, words_json};

/// How often the end conditions are looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn listen(args: &ListenArgs) -> anyhow::Result<Outcome> {
    let books = args.codebook.as_deref().map(read_books).transpose()?.unwrap_or_default();
    let broker = Broker::parse(&args.broker).map_err(usage)?;
    let mut config = ListenConfig::new(broker, &format!("listen-{}", std::process::id()));
    config.filter.clone_from(&args.topic);
    config.tls = certificates(args.ca.as_deref(), args.certificate.as_deref(), args.key.as_ref())?;
    let listener = Listener::start(config)?;
    let begun = Instant::now();
    let limit = args.seconds.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX));
    let (mut count, mut told) = (0u64, false);
    if !args.json {
        put!("{:<16} {:<7} {:>5}  {}", "unit", "message", "bytes", "what")?;
    }
    while args.count.is_none_or(|n| count < n) && limit.is_none_or(|l| begun.elapsed() < l) {
        if let Some(received) = listener.recv(LOOK) {
            count += 1;
            show(&received, args.json, &books)?;
        }
        let stats = listener.stats();
        if !told && stats.ended > 0 && !stats.subscribed {
            told = true;
            say!("no session with the broker yet: {}", stats.last_end.unwrap_or_default());
        }
    }
    Ok(if args.count.is_some_and(|n| count < n) { Outcome::Failed } else { Outcome::Done })
}

/// Largest codebook or model header that is read, bytes.
const MAX_BOOK_BYTES: u64 = 16 << 20;

/// Known answers in words, of a replay's `codebook.json` or of a model file.
fn read_books(path: &Path) -> anyhow::Result<Books> {
    let unreadable = |e: &dyn std::fmt::Display| bad_input(format!("{}: {e}", path.display()));
    let mut file = std::fs::File::open(path).map_err(|e| unreadable(&e))?;
    let mut begin = [0; 4];
    let model = file.read_exact(&mut begin).is_ok() && begin == *b"GGUF";
    if model {
        let mut books = Books::default();
        books.add(&agent_student::serve::facts(path).map_err(|e| unreadable(&e))?);
        return Ok(books);
    }
    let mut text = String::new();
    file.rewind().and_then(|()| file.take(MAX_BOOK_BYTES).read_to_string(&mut text)).map_err(|e| unreadable(&e))?;
    let value = serde_json::from_str(&text).map_err(|e| unreadable(&e))?;
    Books::from_json(&value).ok_or_else(|| unreadable(&"not a codebook"))
}

/// One line for one payload.
pub(crate) fn show(received: &Received, as_json: bool, books: &Books) -> anyhow::Result<()> {
    if as_json {
        let (message, error) = match &received.message {
            Ok(message) => (Some(message), None),
            Err(error) => (None, Some(error.to_string())),
        };
        put!(
            "{}",
            json!({"topic": received.topic, "bytes": received.bytes, "duplicate": received.duplicate,
                   "retained": received.retained, "message": message, "error": error,
                   "student_words": message.and_then(|m| student_words(m, books))})
        )?;
        return Ok(());
    }
    let unit = received.topic.split('/').nth(2).unwrap_or("?");
    let mark = if received.duplicate { " (duplicate)" } else { "" };
    match &received.message {
        Ok(message) => {
            let level = message.kind().topic_level();
            put!("{unit:<16} {level:<7} {:>5}  {}{mark}", received.bytes, line(message, books))?;
        }
        Err(error) => put!("{unit:<16} {:<7} {:>5}  {}: {error}", "refused", received.bytes, received.topic)?,
    }
    Ok(())
}

/// The student's answers in words, as far as a codebook is at hand; nothing for other messages.
fn student_words(message: &Message, books: &Books) -> Option<serde_json::Value> {
    let Message::Report(report) = message else { return None };
    let StudentOutcome::Answered(answers) = &report.student else { return None };
    Some(words_json(books, answers))
}

/// What the student said, in a few words.
fn student(outcome: &StudentOutcome, books: &Books) -> String {
    let answers = match outcome {
        StudentOutcome::Answered(answers) => answers,
        StudentOutcome::Refused(why) => return format!("student: {}", word(why)),
    };
    let sure = if answers.calibrated { "" } else { ", not calibrated" };
    let label = f64::from(answers.recognition_e4) / 100.0;
    let words = answer_words(books, answers);
    let knows = words.trained_on.map_or(String::new(), |t| format!(", knows {t} roads only"));
    let description = match (&answers.description, words.description) {
        (_, Some(text)) => format!(", \"{text}\""),
        (Answer::Known { code, .. }, None) => format!(", answer {code} of codebook {}", answers.codebook),
        _ => String::new(),
    };
    format!("student: collision {label:.1} %{sure}{description}{knows}")
}

/// A message in one line of words.
pub(crate) fn line(message: &Message, books: &Books) -> String {
    match message {
        Message::Alert(a) => {
            let delta_v = a.delta_v.map_or(String::new(), |d| {
                let (x, y) = (f64::from(d.longitudinal_dkmh) / 10.0, f64::from(d.lateral_dkmh) / 10.0);
                let quality = word(&d.quality);
                if d.axes_known {
                    format!(", delta-V {x:.1} km/h along, {y:.1} across ({quality}, {} ms)", d.window_ms)
                } else {
                    format!(", delta-V {x:.1} km/h, direction unknown ({quality}, {} ms)", d.window_ms)
                }
            });
            let speed = a.speed_dkmh.map_or(String::new(), |s| format!(", at {:.0} km/h", f64::from(s) / 10.0));
            let made = if a.flags.simulated { " [simulated]" } else { "" };
            let revision = if a.revision > 0 { format!(", raised ({})", a.revision) } else { String::new() };
            format!(
                "{} {} {}{revision}{delta_v}{speed}, {}{made}",
                a.event,
                word(&a.kind),
                word(&a.severity),
                clock(a.time.unix_ms, a.time.quality)
            )
        }
        Message::Report(r) => {
            let edr = r.edr.map_or(String::new(), |e| {
                format!(
                    ", max delta-V {:.1} km/h at {:.0} ms",
                    f64::from(e.max_delta_v_dkmh) / 10.0,
                    f64::from(e.max_delta_v_at_dms) / 10.0
                )
            });
            let file = r.evidence_file.as_ref().map_or("no evidence file".to_owned(), |f| {
                format!("evidence {} ({:.1} MB)", f.name, f.bytes as f64 / 1e6)
            });
            let student = student(&r.student, books);
            format!("{} {} {}{edr}, {student}, {file}", r.event, word(&r.kind), word(&r.severity))
        }
        Message::Status(s) => {
            format!("{} (start {}, version {}{})", word(&s.state), s.boot, s.version, by_broker(s.broker))
        }
        Message::Health(h) => format!(
            "up {} s, {} events, {} waiting, video ring {:.1} s, mounting {} %, lost {} frames {} IMU {} CAN{}{}{}",
            h.uptime_s,
            h.events,
            h.outbox_waiting,
            f64::from(h.ring_video_ms) / 1000.0,
            h.alignment_pct,
            h.losses.frames,
            h.losses.imu,
            h.losses.can,
            by_broker(h.broker),
            disk(&h.storage),
            sensors(&h.sensors)
        ),
        Message::Command(c) => format!("command {}", c.counter),
    }
}

/// Which broker, unless it is the preferred one.
fn by_broker(place: u8) -> String {
    if place == 0 { String::new() } else { format!(", by broker {} in order of preference", u32::from(place) + 1) }
}

/// What is wrong with the unit's disk; nothing where nothing is.
fn disk(storage: &Storage) -> String {
    let mut out = String::new();
    if storage.outbox_failing {
        out += &format!(", OUTBOX FAILING ({} messages in memory alone)", storage.not_durable);
    }
    if storage.evidence_failing {
        out += ", EVIDENCE FAILING";
    }
    if storage.evidence_lost > 0 {
        out += &format!(", evidence of {} events not safe", storage.evidence_lost);
    }
    out
}

/// Which sensors are not well; nothing of those that are, or that were never heard of.
fn sensors(sensors: &Sensors) -> String {
    let mut out = String::new();
    if !matches!(sensors.camera, CameraState::Unheard | CameraState::Good) {
        out += &format!(", CAMERA {}", word(&sensors.camera).to_uppercase());
    }
    for (name, state) in [("CAN", sensors.can), ("IMU", sensors.imu), ("GNSS", sensors.gnss)] {
        if state == SensorState::Silent {
            out += &format!(", {name} SILENT");
        }
    }
    out
}

/// The JSON word of a value, with spaces.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|v| v.as_str().map(|s| s.replace('_', " ")))
        .unwrap_or_else(|| "?".to_owned())
}

/// Wall time as ISO 8601 in UTC, with its quality; says so when it is not known.
pub(crate) fn clock(unix_ms: u64, quality: WallQuality) -> String {
    if quality == WallQuality::None {
        return "wall time unknown".to_owned();
    }
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (y, m, d) = civil(days);
    let (h, min, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z ({})", ms % 1000, word(&quality))
}

/// Days since 1970-01-01 to a date of the Gregorian calendar, by counting years and months; wire times reach the year
/// 584 million, so the years are taken off in eras of 400 first.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let (mut year, mut left) = (1970 + 400 * (days / ERA), days % ERA);
    let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(clock(0, WallQuality::Gnss), "1970-01-01T00:00:00.000Z (gnss)");
        assert_eq!(clock(951_782_400_000, WallQuality::Ntp), "2000-02-29T00:00:00.000Z (ntp)");
        assert_eq!(clock(1_735_689_599_999, WallQuality::Rtc), "2024-12-31T23:59:59.999Z (rtc)");
        assert_eq!(clock(5, WallQuality::None), "wall time unknown");
        assert!(clock(u64::MAX, WallQuality::Gnss).contains("(gnss)"));
    }
}
