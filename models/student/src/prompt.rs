//! The chat format and the order of frames, telemetry and questions.
//!
//! One prompt, as VideoLLaMA3 and CrashChat have it (no system text, the video before the question):
//!
//! ```text
//! <|im_start|>user\nTime 0.0s:<image>...<image>,Time 0.3s:<image>...\n{question}<|im_end|>\n<|im_start|>assistant\n
//! ```
//!
//! For files trained with telemetry (`student.input.telemetry`), a frame's head also has its row, and for files trained
//! with objects (`student.input.objects`) its nearest ones, both before the colon, so that nothing but a comma or the
//! question follows a frame's tokens and the last frame adds nothing to the branches:
//!
//! ```text
//! Time 0.3s a -3.2 0.1 9.8 h -0.4 v 13.2 | car 12.3m 4.1m/s 0.05 -0.02; person ?m ?m/s ? ?:<image>...
//! ```
//!
//! `a` is the acceleration along x, y, z in m/s^2, `h` the heading change in degrees, `v` the speed in m/s, as Trinci et
//! al. define them; an object has class, distance, closing speed, and the motion of its box in pictures a second
//! (AutoVideoTrack's table as far as the trigger knows it). `?` is "not known". This text is our own: the papers do not
//! print theirs, so a model must be trained on it.
//!
//! Terms: the *prefix* is everything up to the question, shared by all tasks; a *branch's prompt* is the rest. Text is
//! encoded piece by piece between the frames' tokens, which gives the same ids as the whole prompt at once, because the
//! tokenizer cuts at added tokens first. Never lets a control token in from text: see [`Tokens::encode_plain`].

use std::fmt::Write;

use agent_worker::job::{ObjectRow, TelemetryRow};
use agent_worker::limits::MAX_OBJECTS;

use crate::error::{Result, StudentError};
use crate::tokenizer::{TokenizerError, Tokens};

/// Longest question of a task or from outside, bytes.
pub const MAX_QUESTION_BYTES: usize = 8_192;
/// Largest number that telemetry text shows; above it, or not finite, it is "?".
const MAX_SHOWN: f32 = 999.95;

/// Token ids of the prompt's parts.
#[derive(Debug)]
pub struct Prompt {
    open: Vec<u32>,
    close: Vec<u32>,
}

impl Prompt {
    /// Encodes the fixed parts once.
    ///
    /// # Errors
    /// If the vocabulary lacks what the chat needs.
    pub fn new(tokens: &Tokens) -> Result<Self> {
        let chat = tokens.chat();
        let end = tokens.id("<|im_end|>").ok_or(TokenizerError::Missing("<|im_end|>"))?;
        let mut close = vec![end];
        close.extend(tokens.encode_plain("\n")?);
        close.push(chat.start);
        close.extend(tokens.encode_plain("assistant\n")?);
        Ok(Self { open: vec![chat.start], close })
    }

    /// Ids before the image tokens of a frame: the chat's opening before the first one, a comma before all others,
    /// then the head.
    ///
    /// # Errors
    /// If the head does not encode.
    pub fn frame(&self, tokens: &Tokens, first: bool, head: &str) -> Result<Vec<u32>> {
        if first {
            let mut ids = self.open.clone();
            ids.extend(tokens.encode_plain(&format!("user\n{head}"))?);
            Ok(ids)
        } else {
            Ok(tokens.encode_plain(&format!(",{head}"))?)
        }
    }

    /// Ids after the last frame: the question and the begin of the answer.
    ///
    /// # Errors
    /// If the question is above [`MAX_QUESTION_BYTES`].
    pub fn question(&self, tokens: &Tokens, question: &str) -> Result<Vec<u32>> {
        if question.len() > MAX_QUESTION_BYTES {
            let (asked, cap) = (question.len() as u64, MAX_QUESTION_BYTES as u64);
            return Err(StudentError::Limit { what: "bytes of a question", asked, cap });
        }
        let mut ids = tokens.encode_plain(&format!("\n{question}"))?;
        ids.extend(&self.close);
        Ok(ids)
    }
}

/// Text before a frame's tokens. `telemetry` and `objects` are given only for files trained with them.
pub fn head(t_s: f32, telemetry: Option<&TelemetryRow>, objects: &[ObjectRow]) -> String {
    let mut text = format!("Time {}s", tenths(t_s));
    if let Some(row) = telemetry {
        let [x, y, z] = row.acc_mps2.map(tenths);
        let (h, v) = (tenths(row.heading_change_deg), row.speed_mps.map_or_else(unknown, tenths));
        // Writing to a string cannot fail.
        let _ = write!(text, " a {x} {y} {z} h {h} v {v}");
    }
    for (i, object) in objects.iter().take(MAX_OBJECTS).enumerate() {
        let lead = if i == 0 { " |" } else { ";" };
        let distance = object.distance_m.map_or_else(unknown, tenths);
        let closing = object.closing_mps.map_or_else(unknown, tenths);
        let flow = object.flow_per_s.map_or_else(|| [unknown(), unknown()], |f| f.map(hundredths));
        let word = object.class.word();
        let _ = write!(text, "{lead} {word} {distance}m {closing}m/s {} {}", flow[0], flow[1]);
    }
    text.push(':');
    text
}

fn unknown() -> String {
    "?".to_owned()
}

fn shown(value: f32, digits: usize) -> String {
    if !value.is_finite() || value.abs() > MAX_SHOWN {
        return unknown();
    }
    let text = format!("{:.digits$}", f64::from(value));
    // "-0.0" and "0.0" are one value and must be one text.
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| b == b'0' || b == b'.') => rest.to_owned(),
        _ => text,
    }
}

fn tenths(value: f32) -> String {
    shown(value, 1)
}

fn hundredths(value: f32) -> String {
    shown(value, 2)
}

#[cfg(test)]
mod tests {
    use agent_worker::job::ObjectKind;

    use super::*;

    #[test]
    fn heads_are_as_the_module_says() {
        assert_eq!(head(0.0, None, &[]), "Time 0.0s:");
        let row = TelemetryRow { acc_mps2: [-3.21, 0.06, 9.81], heading_change_deg: -0.04, speed_mps: Some(13.2) };
        assert_eq!(head(1.0 / 3.0, Some(&row), &[]), "Time 0.3s a -3.2 0.1 9.8 h 0.0 v 13.2:");
        let car = ObjectRow {
            class: ObjectKind::Car,
            distance_m: Some(12.34),
            flow_per_s: Some([0.05, -0.021]),
            closing_mps: Some(4.1),
        };
        let person = ObjectRow { class: ObjectKind::Person, distance_m: None, flow_per_s: None, closing_mps: None };
        assert_eq!(head(5.7, None, &[car, person]), "Time 5.7s | car 12.3m 4.1m/s 0.05 -0.02; person ?m ?m/s ? ?:");
    }

    #[test]
    fn numbers_that_cannot_be_are_said_to_be_unknown() {
        let row =
            TelemetryRow { acc_mps2: [f32::NAN, f32::INFINITY, -1e9], heading_change_deg: 999.94, speed_mps: None };
        assert_eq!(head(0.0, Some(&row), &[]), "Time 0.0s a ? ? ? h 999.9 v ?:");
    }

    #[test]
    fn times_round_as_the_reference_rounds_them() {
        // Exact halves go to the even digit, as in Python's format.
        assert_eq!(["0.2", "0.8", "2.2"].map(str::to_owned), [0.25, 0.75, 2.25].map(tenths));
    }
}
