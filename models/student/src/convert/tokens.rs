//! A checkpoint's tokenizer as the lists that GGUF holds.
//!
//! From `tokenizer.json` (vocabulary, merges, added tokens), or where there is none from `vocab.json`, `merges.txt`
//! and the added tokens of `tokenizer_config.json` and `added_tokens.json`. Only Qwen2's: byte-level pairs with its
//! splitting. A tokenizer that splits otherwise is refused, because it would give other tokens without a word.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::error::ConvertError;
use super::limits::MAX_JSON_BYTES;
use super::metadata::TokenTable;
use super::source::{read_json, read_text};
use crate::tokenizer::{MAX_MERGES, MAX_TOKEN_BYTES};

/// Qwen2's splitting, as its `tokenizer.json` states it.
pub const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Tokens by their id: text and kind.
type ById = BTreeMap<usize, (String, i32)>;

/// Reads the tokenizer of a checkpoint folder for an embedding of `vocab` rows. Rows without a token become unused
/// ones, `[PAD…]`, as llama.cpp's own converter names them.
///
/// # Errors
/// [`ConvertError::Input`] naming the file and what is wrong in it.
pub fn read_tokens(folder: &Path, vocab: usize, notes: &mut Vec<String>) -> Result<TokenTable, ConvertError> {
    let path = folder.join("tokenizer.json");
    let (mut by_id, merges) = if path.exists() { from_json(&path)? } else { from_files(folder)? };
    added_of_config(folder, &mut by_id)?;
    if let Some((id, (text, _))) = by_id.last_key_value().filter(|(id, _)| **id >= vocab) {
        return Err(ConvertError::input(folder, format!("token {text} has id {id}, the embedding has {vocab} rows")));
    }
    let unused = vocab - by_id.len();
    if unused > 0 {
        notes.push(format!("{unused} rows of the embedding have no token"));
    }
    let mut table = TokenTable { merges, ..TokenTable::default() };
    for id in 0..vocab {
        let (text, kind) = by_id.remove(&id).unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
        if text.len() > MAX_TOKEN_BYTES {
            return Err(ConvertError::input(folder, format!("token {id} has {} bytes", text.len())));
        }
        table.tokens.push(text);
        table.kinds.push(kind);
    }
    let ids: BTreeMap<&str, u32> = table.tokens.iter().zip(0u32..).map(|(t, i)| (t.as_str(), i)).collect();
    if ids.len() != table.tokens.len() {
        return Err(ConvertError::input(folder, "two tokens have the same text"));
    }
    let special = |key: &str, usual: &str| -> Result<u32, ConvertError> {
        let text = special_token(folder, key)?.unwrap_or_else(|| usual.into());
        let id = ids.get(text.as_str()).copied();
        id.ok_or_else(|| ConvertError::input(folder, format!("{key} {text} is no token")))
    };
    let eos = special("eos_token", "<|im_end|>")?;
    // Padding never reaches the model; a vocabulary without a token for it pads with the end.
    let pad = special("pad_token", "<|endoftext|>").unwrap_or(eos);
    (table.eos, table.pad) = (eos, pad);
    Ok(table)
}

fn from_json(path: &Path) -> Result<(ById, Vec<String>), ConvertError> {
    let json = read_json(path)?;
    let wrong = |what: &str| ConvertError::input(path, what);
    check_pipeline(path, &json)?;
    let vocab = json.pointer("/model/vocab").and_then(Value::as_object).ok_or_else(|| wrong("no model.vocab"))?;
    let mut by_id = ById::new();
    for (text, id) in vocab {
        insert(path, &mut by_id, id, text, NORMAL)?;
    }
    let merges = json.pointer("/model/merges").and_then(Value::as_array).ok_or_else(|| wrong("no model.merges"))?;
    if merges.len() > MAX_MERGES {
        return Err(wrong(&format!("{} merges, at most {MAX_MERGES}", merges.len())));
    }
    let merges = merges.iter().enumerate().map(|(i, merge)| {
        let parts: Option<Vec<&str>> = match merge {
            Value::String(s) => Some(s.split(' ').collect()),
            Value::Array(pair) => pair.iter().map(Value::as_str).collect(),
            _ => None,
        };
        match parts.as_deref() {
            // GGUF writes a merge as one text with a space: the byte-level alphabet has none.
            Some([a, b]) if !a.is_empty() && !b.is_empty() && !a.contains(' ') && !b.contains(' ') => {
                Ok(format!("{a} {b}"))
            }
            _ => Err(wrong(&format!("merge {i} is not two parts"))),
        }
    });
    let merges = merges.collect::<Result<Vec<_>, _>>()?;
    for added in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        let text =
            added.get("content").and_then(Value::as_str).ok_or_else(|| wrong("an added token without content"))?;
        let special = added.get("special").and_then(Value::as_bool).unwrap_or(false);
        let id = added.get("id").unwrap_or(&Value::Null);
        add(path, &mut by_id, id, text, special)?;
    }
    Ok((by_id, merges))
}

/// Refuses models, normalisers and splittings that are not Qwen2's.
fn check_pipeline(path: &Path, json: &Value) -> Result<(), ConvertError> {
    let wrong = |what: String| Err(ConvertError::input(path, what));
    let kind = json.pointer("/model/type").and_then(Value::as_str).unwrap_or("BPE");
    if kind != "BPE" {
        return wrong(format!("a {kind} model; byte-level pairs (BPE) are read"));
    }
    match json.pointer("/normalizer/type").and_then(Value::as_str) {
        Some("NFC") => {}
        other => return wrong(format!("normaliser {}; Qwen2's is NFC", other.unwrap_or("none"))),
    }
    let steps = json.pointer("/pre_tokenizer/pretokenizers").and_then(Value::as_array);
    let pattern = steps.into_iter().flatten().find_map(|s| s.pointer("/pattern/Regex").and_then(Value::as_str));
    match pattern {
        Some(QWEN2_PATTERN) => Ok(()),
        Some(other) => wrong(format!("it splits by {other}, Qwen2's splits otherwise")),
        None => wrong("it does not split by a pattern, Qwen2's does".into()),
    }
}

fn from_files(folder: &Path) -> Result<(ById, Vec<String>), ConvertError> {
    let path = folder.join("vocab.json");
    if !path.exists() {
        return Err(ConvertError::input(folder, "neither tokenizer.json nor vocab.json"));
    }
    let vocab = read_json(&path)?;
    let mut by_id = ById::new();
    for (text, id) in vocab.as_object().ok_or_else(|| ConvertError::input(&path, "not an object"))? {
        insert(&path, &mut by_id, id, text, NORMAL)?;
    }
    let added = folder.join("added_tokens.json");
    if added.exists() {
        for (text, id) in read_json(&added)?.as_object().into_iter().flatten() {
            add(&added, &mut by_id, id, text, true)?;
        }
    }
    let path = folder.join("merges.txt");
    let text = read_text(&path, MAX_JSON_BYTES)?;
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with("#version"));
    let merges: Vec<String> = lines.take(MAX_MERGES + 1).map(str::to_owned).collect();
    if merges.len() > MAX_MERGES {
        return Err(ConvertError::input(&path, format!("more than {MAX_MERGES} merges")));
    }
    Ok((by_id, merges))
}

/// The added tokens that `tokenizer_config.json` lists: newer ones are only there.
fn added_of_config(folder: &Path, by_id: &mut ById) -> Result<(), ConvertError> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(());
    }
    let json = read_json(&path)?;
    for (id, added) in json.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let number = id.parse::<u64>().map(Value::from).unwrap_or_default();
        let text = added.get("content").and_then(Value::as_str).unwrap_or_default();
        let special = added.get("special").and_then(Value::as_bool).unwrap_or(false);
        add(&path, by_id, &number, text, special)?;
    }
    Ok(())
}

fn insert(path: &Path, by_id: &mut ById, id: &Value, text: &str, kind: i32) -> Result<(), ConvertError> {
    let at = id.as_u64().and_then(|n| usize::try_from(n).ok());
    let at = at.ok_or_else(|| ConvertError::input(path, format!("token {text}: {id} is no id")))?;
    match by_id.insert(at, (text.to_owned(), kind)) {
        Some((other, _)) if other != text => {
            Err(ConvertError::input(path, format!("tokens {other} and {text} have the same id {at}")))
        }
        _ => Ok(()),
    }
}

/// An added token; one that more than one file lists is special where any says so.
fn add(path: &Path, by_id: &mut ById, id: &Value, text: &str, special: bool) -> Result<(), ConvertError> {
    let before = id.as_u64().and_then(|n| by_id.get(&(n as usize))).map_or(UNUSED, |(_, kind)| *kind);
    let kind = if special || before == CONTROL { CONTROL } else { USER_DEFINED };
    insert(path, by_id, id, text, kind)
}

/// The text of a special token that a configuration names: a string, or an object with its content.
fn special_token(folder: &Path, key: &str) -> Result<Option<String>, ConvertError> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let json = read_json(&path)?;
    let value = json.get(key).map(|v| v.get("content").unwrap_or(v));
    Ok(value.and_then(Value::as_str).map(str::to_owned))
}
