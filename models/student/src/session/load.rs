//! What a session takes from a model file besides the weights: facts, questions, known answers, calibration.
//!
//! Reads metadata only. A key that is missing or out of range is named.

use agent_wire::Hash8;
use agent_worker::job::{Codebook, Facts, Window};
use agent_worker::limits::{MAX_ANSWER_BYTES, MAX_CODES};
use candle_core::quantized::gguf_file::Value;

use crate::calibration::Calibration;
use crate::convert::metadata::{CLOSED, TRAINED_ON};
use crate::decode::Trie;
use crate::error::{Result, StudentError};
use crate::file::ModelFile;
use crate::prompt::Prompt;
use crate::shape::WindowShape;
use crate::tasks::{Grammar, Task};
use crate::tokenizer::{MAX_MERGES, MAX_TOKENS, Tokens, Vocabulary};

/// The metadata of a file, ready for use.
#[derive(Debug)]
pub struct Texts {
    /// What the model is. `device` is still empty.
    pub facts: Facts,
    /// The tokenizer.
    pub tokens: Tokens,
    /// The chat format.
    pub prompt: Prompt,
    /// Calibration of the label, if the file has it.
    pub calibration: Option<Calibration>,
    /// Only known answers are decoded, times of the grid among them.
    pub closed: bool,
    /// The tasks that the file was trained for, in the order of the branches.
    pub asked: Vec<Asked>,
}

/// One task of a file.
#[derive(Debug)]
pub struct Asked {
    /// Which.
    pub task: Task,
    /// From the end of the prefix to the begin of the answer.
    pub prompt: Vec<u32>,
    /// Known answers; those of times come with the window.
    pub trie: Option<Trie>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
}

/// Known answers may be longer in tokens than a task's usual answers in a small vocabulary; this many more are left for
/// an answer of its own.
const SPARE_TOKENS: usize = 16;

/// Reads everything.
///
/// # Errors
/// [`StudentError::Key`] or [`StudentError::Tokenizer`], naming what is wrong.
pub fn texts(file: &ModelFile) -> Result<Texts> {
    let tokens = Tokens::new(vocabulary(file)?)?;
    let prompt = Prompt::new(&tokens)?;
    let facts = facts(file)?;
    let mut asked = Vec::with_capacity(7);
    for task in Task::SIX.into_iter().chain([Task::Severity]) {
        let key = format!("student.prompt.{}", task.key());
        let Some(question) = file.text(&key)? else {
            if task == Task::Severity {
                continue;
            }
            return Err(key_error(&key, "missing"));
        };
        if question.is_empty() {
            return Err(key_error(&key, "empty"));
        }
        let known: Vec<Vec<u32>> = match task.grammar() {
            Grammar::Choice(answers) => encode_all(&tokens, answers.iter().copied())?,
            Grammar::Text => encode_all(&tokens, book(&facts.codebook, task).iter().map(String::as_str))?,
            Grammar::Interval | Grammar::Instant => Vec::new(),
        };
        let longest = known.iter().map(Vec::len).max().unwrap_or(0);
        let max_tokens = task.max_tokens().max(longest + SPARE_TOKENS);
        let trie = if known.is_empty() { None } else { Some(Trie::new(tokens.chat().end, &known)?) };
        asked.push(Asked { task, prompt: prompt.question(&tokens, question)?, trie, max_tokens });
    }
    let closed = file.flag(CLOSED)?.unwrap_or(false);
    Ok(Texts { calibration: calibration(file)?, closed, facts, tokens, prompt, asked })
}

/// What a student asks of a vocabulary and of known answers before it is made: Yes and No part at their first tokens, and
/// each list of answers fits its tree.
///
/// # Errors
/// [`StudentError::Tokenizer`], [`StudentError::Limit`].
pub fn answerable<'a>(tokens: &Tokens, codebook: impl IntoIterator<Item = &'a [String]>) -> Result<()> {
    label_tokens(tokens)?;
    for answers in codebook {
        Trie::new(tokens.chat().end, &encode_all(tokens, answers.iter().map(String::as_str))?)?;
    }
    Ok(())
}

/// First tokens of Yes and No.
pub(super) fn label_tokens(tokens: &Tokens) -> Result<[u32; 2]> {
    let first = |text: &str| -> Result<Option<u32>> { Ok(tokens.encode_plain(text)?.first().copied()) };
    match (first("Yes")?, first("No")?) {
        (Some(yes), Some(no)) if yes != no => Ok([yes, no]),
        _ => Err(StudentError::Tokenizer { what: "Yes and No begin with the same token".to_owned() }),
    }
}

/// Tokens of several texts.
pub(super) fn encode_all<'a>(tokens: &Tokens, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<u32>>> {
    texts.map(|text| Ok(tokens.encode_plain(text)?)).collect()
}

/// The known answers of a task in the codebook; none for tasks without.
pub(super) fn book(codebook: &Codebook, task: Task) -> &[String] {
    match task {
        Task::Description => &codebook.description,
        Task::Cause => &codebook.cause,
        Task::Prevention => &codebook.prevention,
        _ => &[],
    }
}

fn vocabulary(file: &ModelFile) -> Result<Vocabulary> {
    let list = |key: &str, cap: usize| -> Result<Vec<String>> {
        let texts = file.texts(key)?.ok_or_else(|| key_error(key, "missing"))?;
        if texts.len() > cap {
            return Err(key_error(key, &format!("{} entries, at most {cap}", texts.len())));
        }
        Ok(texts.into_iter().map(str::to_owned).collect())
    };
    let kinds_key = "tokenizer.ggml.token_type";
    let kinds = match file.meta().get(kinds_key) {
        Some(Value::Array(entries)) => entries.iter().map(|v| kind(v, kinds_key)).collect::<Result<Vec<_>>>()?,
        _ => return Err(key_error(kinds_key, "missing, or no list")),
    };
    let end_key = "tokenizer.ggml.eos_token_id";
    let end = file.number(end_key)?.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| key_error(end_key, "missing"))?;
    Ok(Vocabulary {
        tokens: list("tokenizer.ggml.tokens", MAX_TOKENS)?,
        kinds,
        merges: list("tokenizer.ggml.merges", MAX_MERGES)?,
        model: file.text("tokenizer.ggml.model")?.unwrap_or_default().to_owned(),
        pre: file.text("tokenizer.ggml.pre")?.unwrap_or_default().to_owned(),
        end,
    })
}

/// Writers differ in the width and sign of a token's kind.
fn kind(value: &Value, key: &str) -> Result<u32> {
    let number = match value {
        Value::I32(v) => i64::from(*v),
        Value::U32(v) => i64::from(*v),
        Value::I8(v) => i64::from(*v),
        Value::U8(v) => i64::from(*v),
        _ => -1,
    };
    u32::try_from(number).map_err(|_| key_error(key, "an entry that is no kind of token"))
}

fn facts(file: &ModelFile) -> Result<Facts> {
    let hash_key = "student.weights.sha256";
    let facts = Facts {
        model: hash8(file.text(hash_key)?.unwrap_or_default()).ok_or_else(|| key_error(hash_key, "no SHA-256"))?,
        name: short(file.text("general.name")?.unwrap_or("without a name")),
        licence: short(file.text("general.license")?.unwrap_or("none stated")),
        parameters: file.parameters(),
        device: String::new(),
        window: window(&file.shape()?.window)?,
        telemetry: file.flag("student.input.telemetry")?.unwrap_or(false),
        objects: file.flag("student.input.objects")?.unwrap_or(false),
        trained_on: file.text(TRAINED_ON)?.map(short),
        calibrated: file.fraction("student.calibration.slope")?.is_some(),
        codebook: codebook(file)?,
    };
    facts.check().map_err(|what| key_error("student.window", &what))?;
    Ok(facts)
}

/// First eight bytes of a hash in hexadecimal.
fn hash8(text: &str) -> Option<Hash8> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; 8];
    for (byte, i) in out.iter_mut().zip((0..16).step_by(2)) {
        *byte = u8::from_str_radix(text.get(i..i + 2)?, 16).ok()?;
    }
    Some(Hash8(out))
}

/// Facts go over a socket: a licence may be a whole text, of which the first line is enough there.
fn short(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The window as a job has it.
fn window(shape: &WindowShape) -> Result<Window> {
    let narrow = |value: usize| u16::try_from(value).map_err(|_| key_error("student.window", "too large"));
    Ok(Window {
        frames: narrow(shape.frames)?,
        fps: shape.fps,
        before_s: shape.before_s,
        after_s: shape.after_s,
        width: narrow(shape.width)?,
        height: narrow(shape.height)?,
    })
}

fn codebook(file: &ModelFile) -> Result<Codebook> {
    let list = |key: &str| -> Result<Vec<String>> {
        let texts = file.texts(key)?.unwrap_or_default();
        if texts.len() > MAX_CODES || texts.iter().any(|t| t.len() > MAX_ANSWER_BYTES) {
            let what = format!("{} answers; at most {MAX_CODES} of {MAX_ANSWER_BYTES} bytes are taken", texts.len());
            return Err(key_error(key, &what));
        }
        Ok(texts.into_iter().map(str::to_owned).collect())
    };
    let version_key = "student.codebook.version";
    let version = file.number(version_key)?.unwrap_or(0);
    Ok(Codebook {
        version: u16::try_from(version).map_err(|_| key_error(version_key, "above 65535"))?,
        description: list("student.codebook.description")?,
        cause: list("student.codebook.cause")?,
        prevention: list("student.codebook.prevention")?,
    })
}

fn calibration(file: &ModelFile) -> Result<Option<Calibration>> {
    let get = |name: &str| file.fraction(&format!("student.calibration.{name}"));
    let Some(slope) = get("slope")? else { return Ok(None) };
    let must = |name: &str| get(name)?.ok_or_else(|| key_error(&format!("student.calibration.{name}"), "missing"));
    let ece = get("ece")?;
    let made = Calibration::new(slope, must("offset")?, must("prior_trained")?, must("prior_field")?, ece);
    made.map(Some).map_err(|error| key_error("student.calibration", &error.to_string()))
}

fn key_error(key: &str, what: &str) -> StudentError {
    StudentError::Key { key: key.to_owned(), what: what.to_owned() }
}
