//! Checks a model file: header, every tensor, hash of the weights, tokenizer, questions.
//!
//! Reads the whole file once, in small pieces. Beyond the hash it looks at every stored scale and float: a file whose
//! hash is right can still hold what is not a number. Says what a file is; never what it is worth.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::error::ConvertError;
use super::gguf::{ALIGNMENT, Entry, HASH_KEY, Header, Type, Value, hex};
use super::metadata::{CLOSED, CODED, FORMAT, TASKS, TRAINED_ON};
use super::tensors::{Role, Wanted, parameters, tensors};
use crate::file::ModelFile;
use crate::session;
use crate::shape::ModelShape;
use crate::tokenizer::{Tokens, Vocabulary};

/// Bytes read at a time.
const PIECE: usize = 4 << 20;
/// Texts that a tokenizer must give back as they were; in normal form C, which it brings texts to.
const SAMPLES: [&str; 6] = [
    "ego-car hits a pedestrian at 3.8 - 5.0 seconds.",
    "  two spaces,\ttab\nand\r\nlines\n\n",
    "Größe 100 %, 12345, don't, WE'LL",
    "日本語 \u{1f697} русский العربية",
    "\u{0}\u{7f}\u{a0}\u{200b}",
    "",
];

/// What a model file is, every check passed.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// Its licence.
    pub licence: String,
    /// Bytes.
    pub bytes: u64,
    /// Weights.
    pub parameters: u64,
    /// Tensors by type.
    pub types: BTreeMap<&'static str, usize>,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// SHA-256 of the inputs, by `base`, `adapter`, `non_lora`.
    pub sources: BTreeMap<&'static str, String>,
    /// Sizes of the language half and of the tower.
    pub shape: Sizes,
    /// Window that it was trained for.
    pub window: Window,
    /// Tasks that it has a question for.
    pub tasks: Vec<&'static str>,
    /// Version of the codebook.
    pub codebook_version: u32,
    /// Known answers by task.
    pub codebook: BTreeMap<&'static str, usize>,
    /// Trained with telemetry as text.
    pub telemetry: bool,
    /// Trained with the table of objects.
    pub objects: bool,
    /// True when the file has a calibration of its label.
    pub calibrated: bool,
    /// Only its known answers are given.
    pub closed: bool,
    /// What it was trained on, where the file says so.
    pub trained_on: Option<String>,
    /// What the importer had to say.
    pub notes: Vec<String>,
}

/// Sizes of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Sizes {
    /// Width of the language half.
    pub hidden: usize,
    /// Its layers.
    pub layers: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Head and embedding are one.
    pub tied: bool,
    /// Width of the tower.
    pub vision_hidden: usize,
    /// Its layers.
    pub vision_layers: usize,
}

/// The window of video.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// Frames.
    pub frames: usize,
    /// Frames a second.
    pub fps: f32,
    /// Seconds before the event.
    pub before_s: f32,
    /// Seconds after it.
    pub after_s: f32,
    /// Width of a frame, pixels.
    pub width: usize,
    /// Height of a frame, pixels.
    pub height: usize,
}

/// Checks a model file without reading its weights: header, tensors, tokenizer, questions.
///
/// # Errors
/// [`ConvertError`] naming the byte, key or tensor.
pub fn describe(path: &Path) -> Result<Verified, ConvertError> {
    described(path).map(|(v, _)| v)
}

/// Checks all of a model file.
///
/// # Errors
/// [`ConvertError`] naming the byte, key or tensor.
pub fn verify(path: &Path) -> Result<Verified, ConvertError> {
    let (verified, header) = described(path)?;
    let found = hash_weights(path, &header)?;
    if found != verified.weights_sha256 {
        let what = format!("the weights hash to {found}, {HASH_KEY} says {}", verified.weights_sha256);
        return Err(ConvertError::input(path, what));
    }
    Ok(verified)
}

fn described(path: &Path) -> Result<(Verified, Header), ConvertError> {
    let header = Header::read(path)?;
    let wrong = |what: String| ConvertError::input(path, what);
    match header.u32("student.format") {
        Some(FORMAT) => {}
        Some(other) => return Err(wrong(format!("student.format {other}, {FORMAT} is read"))),
        None => return Err(wrong("a GGUF without student.format: no model file of ours".into())),
    }
    let file = ModelFile::open(path)?;
    let shape = file.shape()?;
    check_tensors(path, &header, &tensors(&shape))?;
    let tokens = check_tokens(path, &header, &shape)?;
    let tasks = check_questions(path, &header, &tokens)?;
    // What the student itself reads and makes before the weights: nothing may pass here that it refuses.
    let loads = |e: crate::error::StudentError| wrong(e.to_string());
    let texts = session::texts(&file).map_err(loads)?;
    session::answerable(&texts.tokens, []).map_err(loads)?;
    session::room(&texts, &shape, &session::Options::default()).map_err(loads)?;
    let text = |key: &str| header.str(key).map(str::to_owned);
    let hash = text(HASH_KEY).ok_or_else(|| wrong(format!("{HASH_KEY} is missing")))?;
    let mut types = BTreeMap::new();
    header.tensors.iter().for_each(|t| *types.entry(t.kind.name()).or_default() += 1);
    let sources = ["base", "adapter", "non_lora"].into_iter();
    let flag = |key: &str| header.bool(key).ok_or_else(|| wrong(format!("{key} is missing")));
    let verified = Verified {
        name: text("general.name").ok_or_else(|| wrong("general.name is missing".into()))?,
        licence: text("general.license").ok_or_else(|| wrong("general.license is missing".into()))?,
        bytes: header.file_bytes,
        parameters: parameters(&shape),
        types,
        weights_sha256: hash,
        sources: sources.filter_map(|s| text(&format!("student.source.{s}")).map(|h| (s, h))).collect(),
        shape: sizes(&shape),
        window: window(&shape),
        tasks,
        codebook_version: header.u32("student.codebook.version").unwrap_or(0),
        codebook: CODED
            .into_iter()
            .map(|t| (t, header.strs(&format!("student.codebook.{t}")).map_or(0, <[String]>::len)))
            .collect(),
        telemetry: flag("student.input.telemetry")?,
        objects: flag("student.input.objects")?,
        calibrated: texts.calibration.is_some(),
        closed: header.bool(CLOSED).unwrap_or(false),
        trained_on: text(TRAINED_ON),
        notes: header.strs("student.notes").unwrap_or_default().to_vec(),
    };
    Ok((verified, header))
}

fn sizes(shape: &ModelShape) -> Sizes {
    Sizes {
        hidden: shape.text.hidden,
        layers: shape.text.layers,
        vocabulary: shape.text.vocab,
        tied: shape.text.tied,
        vision_hidden: shape.vision.hidden,
        vision_layers: shape.vision.layers,
    }
}

fn window(shape: &ModelShape) -> Window {
    let w = &shape.window;
    Window { frames: w.frames, fps: w.fps, before_s: w.before_s, after_s: w.after_s, width: w.width, height: w.height }
}

fn check_tensors(path: &Path, header: &Header, wanted: &[Wanted]) -> Result<(), ConvertError> {
    let found: BTreeMap<&str, &Entry> = header.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let missing: Vec<String> =
        wanted.iter().filter(|w| !found.contains_key(w.name.as_str())).map(|w| w.name.clone()).collect();
    if !missing.is_empty() {
        return Err(ConvertError::Missing { path: path.into(), names: missing });
    }
    let names: BTreeMap<&str, &Wanted> = wanted.iter().map(|w| (w.name.as_str(), w)).collect();
    for entry in &header.tensors {
        let wrong = |what: String| Err(ConvertError::tensor(path, &entry.name, what));
        let Some(want) = names.get(entry.name.as_str()) else {
            return wrong("no tensor of a model of this shape".into());
        };
        if entry.dims != want.dims {
            return wrong(format!("{:?}, must be {:?}", entry.dims, want.dims));
        }
        if want.role == Role::Small && entry.kind != Type::F32 {
            return wrong(format!("stored as {}, norms and biases are f32", entry.kind.name()));
        }
    }
    let end = header.tensors.last().map_or(0, |t| t.offset + t.bytes);
    if header.file_bytes - end >= ALIGNMENT {
        return Err(ConvertError::input(path, format!("{} bytes after the last tensor", header.file_bytes - end)));
    }
    Ok(())
}

/// Builds the tokenizer as the student does and sends texts through it and back.
fn check_tokens(path: &Path, header: &Header, shape: &ModelShape) -> Result<Tokens, ConvertError> {
    let wrong = |what: String| ConvertError::input(path, format!("tokenizer: {what}"));
    let strs = |key: &str| header.strs(key).map(<[String]>::to_vec).unwrap_or_default();
    let kinds = match header.get("tokenizer.ggml.token_type") {
        Some(Value::I32s(kinds)) => kinds.iter().map(|k| u32::try_from(*k).unwrap_or(0)).collect(),
        _ => Vec::new(),
    };
    let vocabulary = Vocabulary {
        tokens: strs("tokenizer.ggml.tokens"),
        kinds,
        merges: strs("tokenizer.ggml.merges"),
        model: header.str("tokenizer.ggml.model").unwrap_or_default().to_owned(),
        pre: header.str("tokenizer.ggml.pre").unwrap_or_default().to_owned(),
        end: header.u32("tokenizer.ggml.eos_token_id").unwrap_or(u32::MAX),
    };
    if vocabulary.tokens.len() != shape.text.vocab {
        return Err(wrong(format!("{} tokens, the embedding has {}", vocabulary.tokens.len(), shape.text.vocab)));
    }
    let tokens = Tokens::new(vocabulary).map_err(|e| wrong(e.to_string()))?;
    for sample in SAMPLES {
        check_text(&tokens, sample).map_err(wrong)?;
    }
    Ok(tokens)
}

fn check_text(tokens: &Tokens, text: &str) -> Result<(), String> {
    let ids = tokens.encode_plain(text).map_err(|e| e.to_string())?;
    let back = tokens.decode(&ids).map_err(|e| e.to_string())?;
    if back == text { Ok(()) } else { Err(format!("{text:?} comes back as {back:?}")) }
}

/// The tasks that have a question; all questions and known answers go through the tokenizer and back.
fn check_questions(path: &Path, header: &Header, tokens: &Tokens) -> Result<Vec<&'static str>, ConvertError> {
    let mut tasks = Vec::new();
    for task in TASKS.into_iter().chain(["severity"]) {
        let key = format!("student.prompt.{task}");
        match header.str(&key).filter(|text| !text.is_empty()) {
            Some(text) => {
                check_text(tokens, text).map_err(|e| ConvertError::input(path, format!("{key}: {e}")))?;
                tasks.push(task);
            }
            None if task == "severity" => {}
            None => return Err(ConvertError::input(path, format!("{key} is missing"))),
        }
    }
    for task in CODED {
        let key = format!("student.codebook.{task}");
        let wrong = |what: String| ConvertError::input(path, format!("{key}: {what}"));
        let answers = match header.get(&key) {
            Some(Value::Strs(answers)) => answers.as_slice(),
            _ => return Err(wrong("missing".into())),
        };
        answers.iter().try_for_each(|a| check_text(tokens, a)).map_err(wrong)?;
    }
    match header.u32("student.codebook.version") {
        Some(1..=0xffff) => Ok(tasks),
        Some(v) => Err(ConvertError::input(path, format!("student.codebook.version {v}, must be 1 to 65535"))),
        None => Err(ConvertError::input(path, "student.codebook.version is missing")),
    }
}

/// SHA-256 over the bytes of all tensors in the order of the file; refuses what is not a number.
fn hash_weights(path: &Path, header: &Header) -> Result<String, ConvertError> {
    let reading = |e| ConvertError::reading(path, e);
    let file = File::open(path).map_err(reading)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    for entry in &header.tensors {
        // Whole blocks at a time, so that their scales stand at known places.
        let block = entry.kind.block().1;
        let at_once = (PIECE / block * block) as u64;
        let mut at = 0;
        while at < entry.bytes {
            let n = at_once.min(entry.bytes - at) as usize;
            let piece = buffer.get_mut(..n).unwrap_or_default();
            file.read_exact_at(piece, entry.offset + at).map_err(reading)?;
            hash.update(&*piece);
            if let Some(i) = piece.chunks_exact(block).position(|b| !finite(entry.kind, b)) {
                let what = format!("block {} holds what is not a number", at / block as u64 + i as u64);
                return Err(ConvertError::tensor(path, &entry.name, what));
            }
            at += n as u64;
        }
    }
    Ok(hex(&hash.finalize()))
}

/// True when the floats of a block are numbers: the value itself, or the block's scales.
fn finite(kind: Type, block: &[u8]) -> bool {
    let half = |at: usize| block.get(at + 1).is_none_or(|high| high & 0x7c != 0x7c);
    match kind {
        Type::F32 => <[u8; 4]>::try_from(block).is_ok_and(|b| f32::from_le_bytes(b).is_finite()),
        Type::F16 | Type::Q8_0 => half(0),
        Type::Q4K => half(0) && half(2),
        Type::Q6K => half(208),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_that_are_no_numbers_are_seen() {
        for (kind, at) in [(Type::F32, 0), (Type::F16, 0), (Type::Q8_0, 0), (Type::Q4K, 2), (Type::Q6K, 208)] {
            let mut block = vec![0x11; kind.block().1];
            assert!(finite(kind, &block), "{}", kind.name());
            let nan: &[u8] = if kind == Type::F32 { &[0, 0, 0x80, 0x7f] } else { &[0, 0x7c] };
            block[at..at + nan.len()].copy_from_slice(nan);
            assert!(!finite(kind, &block), "{}", kind.name());
        }
    }
}
