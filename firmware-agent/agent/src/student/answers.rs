//! The worker's answers as the report holds them, and the report's codes as people read them.

use agent_core::time::MonoTime;
use agent_wire::{Answer, Hash8, Interval, SeverityEstimate, StudentAnswers};
use agent_worker::job::{Answers, Codebook, Facts, TextAnswer, TimeAnswer};
use serde_json::{Value, json};

use crate::page::AnswerWords;

/// Codebooks that are held: one for each step of the ladder.
const MAX_BOOKS: usize = agent_worker::limits::MAX_STEPS;

fn e4(p: f32) -> u16 {
    (p * 1e4).round().clamp(0.0, 1e4) as u16
}

/// Whether the clock's figures go into the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clocked {
    /// `run`: what it took.
    Yes,
    /// `replay`: 0, so that the same inputs give the same bytes.
    No,
}

/// The answers on the wire; the worker's times begin at `first`.
pub(crate) fn to_wire(
    a: &Answers,
    facts: &Facts,
    first: MonoTime,
    t_zero: MonoTime,
    clocked: Clocked,
) -> StudentAnswers {
    let ms = |time_s: f32| {
        let from_zero = f64::from(first.ms_from(t_zero)) + f64::from(time_s) * 1000.0;
        // A saturating cast: what a model says may be anything.
        from_zero.round() as i32
    };
    let interval =
        |t: TimeAnswer| Interval { from_ms: ms(t.from_s), to_ms: ms(t.to_s), probability_e4: e4(t.probability) };
    let took = |n: u32| if clocked == Clocked::Yes { n } else { 0 };
    StudentAnswers {
        model: facts.model,
        codebook: facts.codebook.version,
        ladder_step: a.ladder_step,
        label_ms: took(a.timings.label_ms),
        total_ms: took(a.timings.total_ms),
        severity: a.severity.map(|s| SeverityEstimate {
            collision_e4: e4(s.collision),
            near_collision_e4: e4(s.near_collision),
            normal_e4: e4(s.normal),
        }),
        recognition_e4: e4(a.label.probability),
        calibrated: a.label.calibrated,
        frames: u8::try_from(a.frames).unwrap_or(u8::MAX),
        telemetry: a.telemetry,
        description: text(a.description.as_ref()),
        cause: text(a.cause.as_ref()),
        prevention: text(a.prevention.as_ref()),
        crash: a.crash.map(interval),
        pre_crash: a.pre_crash.map(interval),
    }
}

/// A known answer as its code, any other in full; one that is too long ends in an ellipsis.
fn text<const N: usize>(answer: Option<&TextAnswer>) -> Answer<N> {
    const MORE: char = '\u{2026}';
    let Some(answer) = answer else { return Answer::Absent };
    let probability_e4 = e4(answer.probability);
    if let Some(code) = answer.code {
        return Answer::Known { code, probability_e4 };
    }
    let whole = answer.text.trim();
    if whole.is_empty() {
        return Answer::Absent;
    }
    let mut out = heapless::String::new();
    if out.push_str(whole).is_err() {
        for c in whole.chars().take_while(|c| !c.is_control()) {
            if out.len() + c.len_utf8() + MORE.len_utf8() > N || out.push(c).is_err() {
                break;
            }
        }
        // Room was left for it.
        let _ = out.push(MORE);
    }
    Answer::Text { text: out, probability_e4 }
}

/// The codebooks of the models that answered, for files and pages that people read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books(Vec<Book>);

/// One model's.
#[derive(Clone, Debug)]
struct Book {
    model: Hash8,
    codes: Codebook,
    trained_on: Option<String>,
}

impl Books {
    /// Remembers a model's codebook.
    pub(crate) fn add(&mut self, facts: &Facts) {
        self.add_book(facts.model, facts.codebook.clone(), facts.trained_on.clone());
    }

    /// The same for a codebook of its own.
    fn add_book(&mut self, model: Hash8, codes: Codebook, trained_on: Option<String>) {
        if self.0.iter().all(|known| known.model != model) && self.0.len() < MAX_BOOKS {
            self.0.push(Book { model, codes, trained_on });
        }
    }

    /// True without any.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, answers: &StudentAnswers) -> Option<&Book> {
        self.0.iter().find(|b| b.model == answers.model && b.codes.version == answers.codebook)
    }

    /// All of them as JSON: `listen --codebook` reads it.
    pub(crate) fn json(&self) -> Value {
        let book = |Book { model, codes: b, trained_on }: &Book| {
            json!({"model": model, "version": b.version, "description": b.description, "cause": b.cause,
                   "prevention": b.prevention, "trained_on": trained_on})
        };
        Value::Array(self.0.iter().map(book).collect())
    }

    /// Reads what [`Self::json`] wrote.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let list = |v: &Value, key: &str| -> Option<Vec<String>> {
            let list = v.get(key)?.as_array()?;
            list.iter().take(agent_worker::limits::MAX_CODES).map(|t| t.as_str().map(str::to_owned)).collect()
        };
        let mut books = Self::default();
        for entry in value.as_array()? {
            let model = serde_json::from_value(entry.get("model")?.clone()).ok()?;
            let version = u16::try_from(entry.get("version")?.as_u64()?).ok()?;
            let (description, cause) = (list(entry, "description")?, list(entry, "cause")?);
            let codes = Codebook { version, description, cause, prevention: list(entry, "prevention")? };
            // Files written before this was known have none.
            let trained_on = entry.get("trained_on").and_then(Value::as_str).map(str::to_owned);
            books.add_book(model, codes, trained_on);
        }
        Some(books)
    }
}

fn known<'b, const N: usize>(answer: &'b Answer<N>, list: Option<&'b Vec<String>>) -> Option<&'b str> {
    match answer {
        Answer::Known { code, .. } => list?.get(usize::from(*code)).map(String::as_str),
        Answer::Text { text, .. } => Some(text.as_str()),
        Answer::Absent => None,
    }
}

/// The three text answers in words, as far as a codebook is at hand.
pub(crate) fn answer_words<'b>(books: &'b Books, answers: &'b StudentAnswers) -> AnswerWords<'b> {
    let book = books.of(answers);
    AnswerWords {
        description: known(&answers.description, book.map(|b| &b.codes.description)),
        cause: known(&answers.cause, book.map(|b| &b.codes.cause)),
        prevention: known(&answers.prevention, book.map(|b| &b.codes.prevention)),
        trained_on: book.and_then(|b| b.trained_on.as_deref()),
    }
}

/// The same as JSON: `student_words` of messages.
pub(crate) fn words_json(books: &Books, answers: &StudentAnswers) -> Value {
    let words = answer_words(books, answers);
    json!({"description": words.description, "cause": words.cause, "prevention": words.prevention,
           "trained_on": words.trained_on})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Option<u16>, text: &str) -> TextAnswer {
        TextAnswer { code, text: text.to_owned(), probability: 0.25 }
    }

    #[test]
    fn known_answers_become_codes_and_long_ones_end_in_an_ellipsis() {
        let code: Answer<8> = text(Some(&answer(Some(3), "car hits car")));
        assert_eq!(code, Answer::Known { code: 3, probability_e4: 2500 });
        let Answer::Text { text: long, .. } =
            text::<16>(Some(&answer(None, "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}")))
        else {
            panic!()
        };
        assert!(long.ends_with('\u{2026}') && long.len() <= 16 && long.starts_with("\u{e9}\u{e9}"), "{long}");
        assert_eq!(text::<16>(Some(&answer(None, "  "))), Answer::Absent);
        assert_eq!(text::<16>(None), Answer::Absent);
    }

    #[test]
    fn a_codebook_goes_through_json_and_speaks_only_for_its_own_model_and_version() {
        let book =
            Codebook { version: 2, description: vec!["a".into(), "b".into()], cause: vec![], prevention: vec![] };
        let mut books = Books::default();
        books.add_book(Hash8([1; 8]), book, Some("simulated".to_owned()));
        let books = Books::from_json(&books.json()).unwrap();
        let mut answers = StudentAnswers {
            model: Hash8([1; 8]),
            codebook: 2,
            ladder_step: 0,
            label_ms: 0,
            total_ms: 0,
            severity: None,
            recognition_e4: 0,
            calibrated: false,
            frames: 18,
            telemetry: false,
            description: Answer::Known { code: 1, probability_e4: 1 },
            cause: Answer::Known { code: 7, probability_e4: 1 },
            prevention: Answer::Absent,
            crash: None,
            pre_crash: None,
        };
        let words = answer_words(&books, &answers);
        assert_eq!((words.description, words.cause, words.prevention), (Some("b"), None, None));
        assert_eq!(words.trained_on, Some("simulated"));
        assert_eq!(words_json(&books, &answers)["trained_on"], "simulated");
        answers.codebook = 3;
        assert_eq!(answer_words(&books, &answers).description, None);
        assert!(Books::from_json(&json!({"version": 1})).is_none());
    }
}
