//! The metadata of a model file, key by key. What stands beside the weights: shape, tokenizer, preprocessing, window,
//! prompts, codebook, licence, hashes of the inputs.
//!
//! Keys without a prefix of ours are llama.cpp's, with its meaning. Calibration is written later (`calibrate.rs`).

use super::gguf::Value;
use crate::shape::ModelShape;
use crate::tokenizer::Vocabulary;

/// Version of our keys.
pub const FORMAT: u32 = 1;
/// The tasks whose questions every file has, in their order; `severity` may follow.
pub const TASKS: [&str; 6] = ["recognition", "description", "cause", "prevention", "localization", "pre_crash"];
/// The tasks whose answers are codes.
pub const CODED: [&str; 3] = ["description", "cause", "prevention"];

/// True where a model was trained on its known answers alone, so that nothing else is decoded.
pub const CLOSED: &str = "student.codebook.closed";
/// What the model was trained on.
pub const TRAINED_ON: &str = "student.trained_on";
/// Kind and splitting of the tokenizer, in llama.cpp's words.
const TOKENIZER: (&str, &str) = ("gpt2", "qwen2");
/// Longest text of [`TRAINED_ON`], bytes.
pub const MAX_TRAINED_ON_BYTES: usize = 64;

/// A tokenizer as GGUF holds it (byte-pair, Qwen2's splitting).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenTable {
    /// Text of each token, in the alphabet of byte-level pairs; one for each row of the embedding.
    pub tokens: Vec<String>,
    /// llama.cpp's kind of each: 1 normal, 3 control, 4 user-defined, 5 unused.
    pub kinds: Vec<i32>,
    /// Merges in order, `left right`.
    pub merges: Vec<String>,
    /// End of an answer.
    pub eos: u32,
    /// Padding.
    pub pad: u32,
}

impl TokenTable {
    /// The id of a token's text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|t| t == text).and_then(|i| u32::try_from(i).ok())
    }

    /// As the student's tokenizer takes it.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            tokens: self.tokens.clone(),
            kinds: self.kinds.iter().map(|k| u32::try_from(*k).unwrap_or(0)).collect(),
            merges: self.merges.clone(),
            model: TOKENIZER.0.to_owned(),
            pre: TOKENIZER.1.to_owned(),
            end: self.eos,
        }
    }
}

/// Questions and known answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Questions {
    /// The questions in the order of [`TASKS`].
    pub prompts: [String; 6],
    /// The seventh, three-class question, only of models trained for it.
    pub severity: Option<String>,
    /// Version of the codebook; 0 is never used. The wire carries it in 16 bits.
    pub codebook_version: u16,
    /// Known answers in the order of [`CODED`]; their index is their code.
    pub codebook: [Vec<String>; 3],
}

/// SHA-256 of the inputs, hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Base checkpoint: of its one weight file, or of the lines `HASH  NAME` of its shards in the order of their names.
    pub base: Option<String>,
    /// The adapter's weight file.
    pub adapter: Option<String>,
    /// The file of trainables outside the adapter.
    pub non_lora: Option<String>,
}

/// All that stands beside the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Name of the model.
    pub name: String,
    /// Its licence: a name or a text, `none stated` where none is.
    pub licence: String,
    /// Tokenizer.
    pub tokens: TokenTable,
    /// Questions and known answers.
    pub questions: Questions,
    /// Trained with telemetry as text.
    pub telemetry: bool,
    /// Trained with the table of objects.
    pub objects: bool,
    /// Its answers are always known ones: it is asked for nothing else.
    pub closed: bool,
    /// What it was trained on, in a word (`simulated`), where that was said.
    pub trained_on: Option<String>,
    /// Inputs.
    pub sources: Sources,
    /// What the importer found worth saying.
    pub notes: Vec<String>,
}

/// The keys of the language half, which llama.cpp reads.
pub fn language(shape: &ModelShape, facts: &Facts) -> Vec<(String, Value)> {
    let t = &shape.text;
    let n = |v: usize| Value::U32(u32::try_from(v).unwrap_or(u32::MAX));
    let mut all = vec![
        pair("general.architecture", Value::str("qwen2")),
        pair("general.name", Value::str(&facts.name)),
        pair("general.license", Value::str(&facts.licence)),
        pair("qwen2.block_count", n(t.layers)),
        pair("qwen2.context_length", n(t.context)),
        pair("qwen2.embedding_length", n(t.hidden)),
        pair("qwen2.feed_forward_length", n(t.ffn)),
        pair("qwen2.attention.head_count", n(t.heads)),
        pair("qwen2.attention.head_count_kv", n(t.kv_heads)),
        pair("qwen2.rope.freq_base", Value::F32(t.rope_theta)),
        pair("qwen2.attention.layer_norm_rms_epsilon", Value::F32(t.eps)),
    ];
    let k = &facts.tokens;
    all.extend([
        pair("tokenizer.ggml.model", Value::str(TOKENIZER.0)),
        pair("tokenizer.ggml.pre", Value::str(TOKENIZER.1)),
        pair("tokenizer.ggml.tokens", Value::Strs(k.tokens.clone())),
        pair("tokenizer.ggml.token_type", Value::I32s(k.kinds.clone())),
        pair("tokenizer.ggml.merges", Value::Strs(k.merges.clone())),
        pair("tokenizer.ggml.eos_token_id", Value::U32(k.eos)),
        pair("tokenizer.ggml.padding_token_id", Value::U32(k.pad)),
        pair("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ]);
    all
}

/// All keys of a model file.
pub fn all(shape: &ModelShape, facts: &Facts) -> Vec<(String, Value)> {
    let mut all = language(shape, facts);
    all.push(pair("student.format", Value::U32(FORMAT)));
    all.extend(looking(shape));
    let q = &facts.questions;
    for (task, text) in TASKS.iter().zip(&q.prompts) {
        all.push((format!("student.prompt.{task}"), Value::str(text)));
    }
    if let Some(text) = &q.severity {
        all.push(pair("student.prompt.severity", Value::str(text)));
    }
    all.push(pair("student.codebook.version", Value::U32(u32::from(q.codebook_version))));
    for (task, answers) in CODED.iter().zip(&q.codebook) {
        all.push((format!("student.codebook.{task}"), Value::Strs(answers.clone())));
    }
    if facts.closed {
        all.push(pair(CLOSED, Value::Bool(true)));
    }
    all.push(pair("student.input.telemetry", Value::Bool(facts.telemetry)));
    all.push(pair("student.input.objects", Value::Bool(facts.objects)));
    if let Some(text) = &facts.trained_on {
        all.push(pair(TRAINED_ON, Value::str(text)));
    }
    let s = &facts.sources;
    for (what, hash) in [("base", &s.base), ("adapter", &s.adapter), ("non_lora", &s.non_lora)] {
        if let Some(hash) = hash {
            all.push((format!("student.source.{what}"), Value::str(hash)));
        }
    }
    if !facts.notes.is_empty() {
        all.push(pair("student.notes", Value::Strs(facts.notes.clone())));
    }
    // The writer fills this in when the weights are written.
    all.push(pair(super::gguf::HASH_KEY, Value::str("")));
    all
}

/// The keys of vision, preprocessing and window.
fn looking(shape: &ModelShape) -> Vec<(String, Value)> {
    let (v, i, w) = (&shape.vision, &shape.image, &shape.window);
    let n = |v: usize| Value::U32(u32::try_from(v).unwrap_or(u32::MAX));
    vec![
        pair("student.vision.hidden", n(v.hidden)),
        pair("student.vision.ffn", n(v.ffn)),
        pair("student.vision.layers", n(v.layers)),
        pair("student.vision.heads", n(v.heads)),
        pair("student.vision.patch", n(v.patch)),
        pair("student.vision.merge", n(v.merge)),
        pair("student.vision.eps", Value::F32(v.eps)),
        pair("student.vision.rope_theta", Value::F32(v.rope_theta)),
        pair("student.image.mean", Value::F32s(i.mean.to_vec())),
        pair("student.image.std", Value::F32s(i.std.to_vec())),
        pair("student.image.min_tokens", n(i.min_tokens)),
        pair("student.image.max_tokens", n(i.max_tokens)),
        pair("student.image.token_id", Value::U32(i.token_id)),
        pair("student.window.frames", n(w.frames)),
        pair("student.window.fps", Value::F32(w.fps)),
        pair("student.window.before_s", Value::F32(w.before_s)),
        pair("student.window.after_s", Value::F32(w.after_s)),
        pair("student.window.width", n(w.width)),
        pair("student.window.height", n(w.height)),
    ]
}

fn pair(key: &str, value: Value) -> (String, Value) {
    (key.to_owned(), value)
}
