//! The six tasks: questions, answers and how they are read.
//!
//! Terms: a task's *key* names it in model files (`student.prompt.KEY`); its *grammar* is the form of its answers as
//! CrashChat (Liang et al.) gives them; a *known answer* is one of the codebook in the model file. Reading an answer
//! never repairs it: what does not fit the grammar is no answer.

/// Longest time that an answer may name, seconds.
pub const MAX_SECONDS: f32 = 600.0;

/// A question put to the student. The order is that of the branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Does a collision happen: `Yes` or `No`.
    Recognition,
    /// Who hits whom.
    Description,
    /// The most likely cause.
    Cause,
    /// What would have prevented it.
    Prevention,
    /// When the crash happens: `3.8 - 5.0 seconds`.
    Localization,
    /// The first visible sign: `8.6 seconds`.
    PreCrash,
    /// collision, near-collision or normal; only in files trained for it (Trinci et al.).
    Severity,
}

/// The form of a task's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// One of these, word for word.
    Choice(&'static [&'static str]),
    /// A known answer of the codebook, or any other text.
    Text,
    /// Two times of the window, 0.1 s apart or a multiple of it.
    Interval,
    /// One time of the window on the 0.1 s grid.
    Instant,
}

/// The answers of [`Task::Recognition`].
pub const LABELS: [&str; 2] = ["Yes", "No"];
/// The answers of [`Task::Severity`], in this order.
pub const SEVERITIES: [&str; 3] = ["collision", "near-collision", "normal"];

impl Task {
    /// CrashChat's six, which every model file has.
    pub const SIX: [Task; 6] =
        [Task::Recognition, Task::Description, Task::Cause, Task::Prevention, Task::Localization, Task::PreCrash];

    /// Name in the metadata of model files.
    pub fn key(self) -> &'static str {
        match self {
            Task::Recognition => "recognition",
            Task::Description => "description",
            Task::Cause => "cause",
            Task::Prevention => "prevention",
            Task::Localization => "localization",
            Task::PreCrash => "pre_crash",
            Task::Severity => "severity",
        }
    }

    /// Form of the answers.
    pub fn grammar(self) -> Grammar {
        match self {
            Task::Recognition => Grammar::Choice(&LABELS),
            Task::Severity => Grammar::Choice(&SEVERITIES),
            Task::Description | Task::Cause | Task::Prevention => Grammar::Text,
            Task::Localization => Grammar::Interval,
            Task::PreCrash => Grammar::Instant,
        }
    }

    /// Most tokens of an answer: several times the longest of CrashChat's (480 bytes, prevention) also for a
    /// vocabulary of 2,048 entries, and few enough that a model that rambles cannot hold up the report.
    pub fn max_tokens(self) -> usize {
        match self {
            Task::Recognition => 4,
            Task::Severity => 12,
            Task::PreCrash => 16,
            Task::Localization => 24,
            Task::Description => 48,
            Task::Cause => 96,
            Task::Prevention => 256,
        }
    }
}

/// Reads `Yes` or `No`, in any case, with or without a full stop.
pub fn parse_label(text: &str) -> Option<bool> {
    let text = text.trim().trim_end_matches('.');
    if text.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if text.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

/// Reads one of [`SEVERITIES`]: its index.
pub fn parse_severity(text: &str) -> Option<usize> {
    let text = text.trim().trim_end_matches('.');
    SEVERITIES.iter().position(|s| text.eq_ignore_ascii_case(s))
}

/// Reads `8.6 seconds`: seconds from the window's first frame.
pub fn parse_instant(text: &str) -> Option<f32> {
    number(without_unit(text)?)
}

/// Reads `3.8 - 5.0 seconds`: begin and end, seconds from the window's first frame. An end before its begin is no
/// answer.
pub fn parse_interval(text: &str) -> Option<(f32, f32)> {
    let (from, to) = without_unit(text)?.split_once('-')?;
    let (from, to) = (number(from.trim_end())?, number(to.trim_start())?);
    (from <= to).then_some((from, to))
}

fn without_unit(text: &str) -> Option<&str> {
    let text = text.trim().trim_end_matches('.');
    let text = text.strip_suffix("seconds").or_else(|| text.strip_suffix("second"))?;
    Some(text.trim_end())
}

/// A decimal number of digits and at most one point; no sign, no exponent, no "inf" or "nan".
fn number(text: &str) -> Option<f32> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let points = text.bytes().filter(|b| *b == b'.').count();
    if digits == 0 || points > 1 || digits + points != text.len() || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|v| *v <= MAX_SECONDS)
}

/// The answers of the 0.1 s grid of a window: instants `0.0 seconds` to its length, in order.
pub fn instants(window_tenths: u32) -> impl Iterator<Item = String> {
    (0..=window_tenths).map(|t| format!("{}.{} seconds", t / 10, t % 10))
}

/// The intervals of the 0.1 s grid, from each begin to each end at or after it, in order.
pub fn intervals(window_tenths: u32) -> impl Iterator<Item = String> {
    (0..=window_tenths).flat_map(move |a| {
        (a..=window_tenths).map(move |b| format!("{}.{} - {}.{} seconds", a / 10, a % 10, b / 10, b % 10))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_grid_reads_back() {
        for (i, text) in instants(60).enumerate() {
            assert_eq!(parse_instant(&text).map(|s| (s * 10.0).round() as usize), Some(i), "{text}");
        }
        let all: Vec<_> = intervals(60).collect();
        assert_eq!(all.len(), 61 * 62 / 2);
        for text in &all {
            let (a, b) = parse_interval(text).unwrap();
            let (a, b) = ((a * 10.0).round() as u32, (b * 10.0).round() as u32);
            assert_eq!(&format!("{}.{} - {}.{} seconds", a / 10, a % 10, b / 10, b % 10), text);
        }
    }

    #[test]
    fn near_misses_of_the_grammar_are_read_or_refused_never_repaired() {
        assert_eq!(parse_interval(" 3.8-5.0 seconds. "), Some((3.8, 5.0)));
        assert_eq!(parse_interval("3 - 5 seconds"), Some((3.0, 5.0)));
        assert_eq!(parse_instant("1 second"), Some(1.0));
        for bad in ["", "seconds", "5.0 - 3.8 seconds", "3.8 - 5.0", "3.8 5.0 seconds", "nan - inf seconds"] {
            assert_eq!(parse_interval(bad), None, "{bad}");
        }
        for bad in [
            "-3.8 - 5.0 seconds",
            "1 - 2 - 3 seconds",
            "1e1 - 2e1 seconds",
            "3.8 - 99999.0 seconds",
            "3..8 - 5 seconds",
        ] {
            assert_eq!(parse_interval(bad), None, "{bad}");
        }
        for bad in ["8.6", "x seconds", "inf seconds", "+8.6 seconds", "8.6 - 9.0 seconds", ". seconds", ".6 seconds"] {
            assert_eq!(parse_instant(bad), None, "{bad}");
        }
    }

    #[test]
    fn labels_and_severities() {
        assert_eq!(
            [parse_label("Yes"), parse_label(" no. "), parse_label("Yes, it does")],
            [Some(true), Some(false), None]
        );
        assert_eq!(SEVERITIES.map(|s| parse_severity(&s.to_uppercase())), [Some(0), Some(1), Some(2)]);
        assert_eq!(parse_severity("a collision"), None);
    }
}
