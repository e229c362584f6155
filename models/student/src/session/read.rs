//! From decoded tokens to typed answers.
//!
//! What does not fit its grammar, is cut at its capacity or lies outside the window is no answer. The two times are
//! withheld when the student's own label is No: its training has no times for clips without a collision, so what it
//! would say there is made up.

use agent_worker::job::{Codebook, SeverityAnswer, TextAnswer, TimeAnswer};
use agent_worker::limits::MAX_ANSWER_BYTES;

use super::load::book;
use crate::decode::{Decoded, End};
use crate::error::Result;
use crate::tasks::{self, Task};
use crate::tokenizer::Tokens;

/// Text of an answer that ended by itself; none if it was cut or is empty.
pub(super) fn text(tokens: &Tokens, decoded: &Decoded) -> Result<Option<String>> {
    if decoded.end == End::Limit {
        return Ok(None);
    }
    let text = tokens.decode(&decoded.tokens)?;
    Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty()))
}

/// A text answer, with its code if it is a known one (also when the model wrote it with other tokens).
pub(super) fn known_or_text(book: &Codebook, task: Task, text: String, decoded: &Decoded) -> Option<TextAnswer> {
    if text.len() > MAX_ANSWER_BYTES {
        return None;
    }
    let list = self::book(book, task);
    let code = match decoded.answer {
        Some(number) => Some(number as usize),
        None => list.iter().position(|known| known.trim() == text),
    };
    Some(TextAnswer { code: code.and_then(|c| u16::try_from(c).ok()), text, probability: decoded.probability })
}

/// The interval or instant of a time answer, if it lies in a window of `span_s` seconds.
pub(super) fn time(task: Task, text: &str, span_s: f32, decoded: &Decoded) -> Option<TimeAnswer> {
    let (from_s, to_s) = match task {
        Task::Localization => tasks::parse_interval(text)?,
        Task::PreCrash => tasks::parse_instant(text).map(|t| (t, t))?,
        _ => return None,
    };
    // Half a step of the grid: the window's end itself is in it.
    (to_s <= span_s + 0.05).then_some(TimeAnswer { from_s, to_s, probability: decoded.probability })
}

/// Severity where the three answers part at their first token; otherwise they must be scored (none here).
pub(super) fn severity(options: &[Vec<u32>], decoded: &Decoded) -> Option<SeverityAnswer> {
    let choice = decoded.choices.first().filter(|c| c.at == 0 && c.ways.len() == options.len())?;
    let share = |i: usize| {
        let first = options.get(i)?.first()?;
        choice.ways.iter().find(|(token, _)| token == first).map(|(_, share)| *share)
    };
    Some(SeverityAnswer { collision: share(0)?, near_collision: share(1)?, normal: share(2)? })
}
