//! A checkpoint to a model file: base weights, an adapter merged into them, trainables outside it, tokenizer, questions.
//!
//! Everything is planned and checked before the first byte is written; then each tensor passes through in chunks of
//! whole rows: read, merged, quantised, written. Peak memory is two chunks, one adapter pair and the tokenizer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::adapter::{Adapter, Loaded};
use super::config::{Measured, read_shape};
use super::error::ConvertError;
use super::gguf::{Planned, Writer, Written};
use super::limits::{CHUNK_VALUES, MAX_LICENCE_BYTES, MAX_NOTES, MAX_STRING_BYTES};
use super::metadata::{Facts, MAX_TRAINED_ON_BYTES, Sources, all};
use super::names::{Named, resolve};
use super::quant::encode;
use super::questions::read_questions;
use super::source::{Source, Stored, read_json, read_text};
use super::tensors::{Preset, Wanted, parameters, plan, tensors};
use super::tokens::read_tokens;
use crate::session;
use crate::shape::{ModelShape, WindowShape};

/// What to import and how.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Folder of the base checkpoint.
    pub base: PathBuf,
    /// Folder of a PEFT adapter.
    pub adapter: Option<PathBuf>,
    /// Weight file of trainables outside the adapter (`non_lora_trainables.bin`).
    pub non_lora: Option<PathBuf>,
    /// Folder of annotation files, or a TOML or JSON file with the questions.
    pub prompts: PathBuf,
    /// Types of the file.
    pub preset: Preset,
    /// Name of the model; without it the base folder's.
    pub name: Option<String>,
    /// Licence; without it what the checkpoint states.
    pub licence: Option<String>,
    /// The window that it was trained for.
    pub window: WindowShape,
    /// Trained with telemetry as text.
    pub telemetry: bool,
    /// Trained with the table of objects.
    pub objects: bool,
    /// Trained on its known answers alone.
    pub closed: bool,
    /// What it was trained on, in a word: `simulated`.
    pub trained_on: Option<String>,
    /// Most vision tokens of a clip, in place of the checkpoint's.
    pub max_tokens: Option<usize>,
}

impl ImportOptions {
    /// A base checkpoint alone, with the defaults of everything else.
    pub fn new(base: impl Into<PathBuf>, prompts: impl Into<PathBuf>, preset: Preset) -> Self {
        Self {
            base: base.into(),
            adapter: None,
            non_lora: None,
            prompts: prompts.into(),
            preset,
            name: None,
            licence: None,
            window: WindowShape::default(),
            telemetry: false,
            objects: false,
            closed: false,
            trained_on: None,
            max_tokens: None,
        }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The file.
    pub written: Written,
    /// Weights in all.
    pub parameters: u64,
    /// Matrices that the adapter changed.
    pub merged: usize,
    /// Tensors by type.
    pub types: BTreeMap<&'static str, usize>,
    /// Licence as the file states it.
    pub licence: String,
    /// Hashes of the inputs.
    pub sources: Sources,
    /// What was worth saying.
    pub notes: Vec<String>,
}

/// Where one tensor's values are: in which source, and as what.
struct Found<'a> {
    source: &'a Source,
    stored: &'a Stored,
}

/// Imports a checkpoint to `out`. `progress` is told each tensor with the bytes written so far and in all.
///
/// # Errors
/// [`ConvertError`], naming the file and the tensor or key; nothing is left in place of `out` then.
pub fn import(
    options: &ImportOptions,
    out: &Path,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Imported, ConvertError> {
    let mut notes = Vec::new();
    let base = Source::open_folder(&options.base, "model", "pytorch_model")?;
    let adapter = options.adapter.as_deref().map(Adapter::open).transpose()?;
    let non_lora = options.non_lora.as_ref().map(|p| Source::open_files(std::slice::from_ref(p))).transpose()?;

    let mut found = BTreeMap::new();
    find(&base, false, &mut found)?;
    let mut shape = read_shape(&options.base, measured(&found), options.window.clone(), &mut notes)?;
    shape.image.max_tokens = options.max_tokens.unwrap_or(shape.image.max_tokens);
    shape.check()?;
    drop_tied_head(&shape, &mut found, &mut notes)?;
    if let Some(adapter) = &adapter {
        found.extend(adapter.replaced.iter().map(|(n, stored)| (n.clone(), Found { source: &adapter.source, stored })));
    }
    if let Some(source) = &non_lora {
        find(source, true, &mut found)?;
    }
    let wanted = tensors(&shape);
    check_all(&options.base, &wanted, &found)?;
    if let Some(adapter) = &adapter {
        let dims = wanted.iter().map(|w| (w.name.as_str(), w.dims.as_slice())).collect();
        adapter.check(&dims)?;
    }

    let (planned, fallbacks) = plan(&wanted, options.preset);
    notes.extend(fallbacks);
    let sources = Sources {
        base: Some(base.sha256()?),
        adapter: adapter.as_ref().map(|a| a.source.sha256()).transpose()?,
        non_lora: non_lora.as_ref().map(Source::sha256).transpose()?,
    };
    let facts = facts(options, &shape, sources, notes)?;
    let mut writer = Writer::create(out, &all(&shape, &facts), &planned)?;
    let total = planned.iter().filter_map(|p| p.kind.bytes(&p.dims)).sum();
    let mut done = 0;
    for tensor in &planned {
        progress(&tensor.name, done, total);
        write_tensor(&mut writer, tensor, &found, adapter.as_ref())?;
        done += tensor.kind.bytes(&tensor.dims).unwrap_or(0);
    }
    progress("", done, total);
    let mut types = BTreeMap::new();
    planned.iter().for_each(|p| *types.entry(p.kind.name()).or_default() += 1);
    Ok(Imported {
        written: writer.finish()?,
        parameters: parameters(&shape),
        merged: adapter.map_or(0, |a| a.changes.len()),
        types,
        licence: facts.licence,
        sources: facts.sources,
        notes: facts.notes,
    })
}

/// Adds a source's tensors to the table by their names in the model file. A base must not name one twice;
/// trainables outside the adapter `replace` those of the base.
fn find<'a>(source: &'a Source, replace: bool, found: &mut BTreeMap<String, Found<'a>>) -> Result<(), ConvertError> {
    let mut here: BTreeMap<String, &Stored> = BTreeMap::new();
    for stored in source.tensors.values() {
        let wrong = |what: String| ConvertError::tensor(source.path(stored), &stored.name, what);
        match resolve(&stored.name) {
            Named::Derived => {}
            Named::Unknown => return Err(wrong("stands for no tensor of the model".into())),
            Named::Tensor(name) => {
                if let Some(other) = here.insert(name.clone(), stored) {
                    return Err(wrong(format!("is {name}, and so is {}", other.name)));
                }
                if replace || !found.contains_key(&name) {
                    found.insert(name, Found { source, stored });
                }
            }
        }
    }
    Ok(())
}

/// Sizes of the vision tower as its tensors have them.
fn measured(found: &BTreeMap<String, Found<'_>>) -> Measured {
    let rows = |name: &str| found.get(name).and_then(|f| f.stored.dims.first().copied()).unwrap_or(0);
    Measured {
        hidden: rows("v.patch_embd.weight"),
        ffn: rows("v.blk.0.ffn_up.weight"),
        layers: found.keys().filter(|n| n.starts_with("v.blk.") && n.ends_with(".ln1.weight")).count(),
    }
}

/// A tied model's own copy of the head must be the embedding; it is not written twice.
fn drop_tied_head(
    shape: &ModelShape,
    found: &mut BTreeMap<String, Found<'_>>,
    notes: &mut Vec<String>,
) -> Result<(), ConvertError> {
    if !shape.text.tied {
        return Ok(());
    }
    let Some(head) = found.remove("output.weight") else { return Ok(()) };
    let Some(embedding) = found.get("token_embd.weight") else { return Ok(()) };
    let differs = || {
        let what = "the configuration says that the head is the embedding, and they differ";
        ConvertError::tensor(head.source.path(head.stored), &head.stored.name, what)
    };
    if head.stored.dims != embedding.stored.dims {
        return Err(differs());
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let total = head.stored.len();
    for start in (0..total).step_by(CHUNK_VALUES) {
        let n = CHUNK_VALUES.min(total - start);
        head.source.read(head.stored, start, n, &mut a)?;
        embedding.source.read(embedding.stored, start, n, &mut b)?;
        if a != b {
            return Err(differs());
        }
    }
    notes.push("the checkpoint holds the tied head a second time: left out".into());
    Ok(())
}

/// Names what is missing, extra or of another shape.
fn check_all(base: &Path, wanted: &[Wanted], found: &BTreeMap<String, Found<'_>>) -> Result<(), ConvertError> {
    let names: BTreeMap<&str, &Wanted> = wanted.iter().map(|w| (w.name.as_str(), w)).collect();
    for (name, f) in found {
        let wrong = |what: String| Err(ConvertError::tensor(f.source.path(f.stored), &f.stored.name, what));
        let Some(want) = names.get(name.as_str()) else {
            return wrong(format!("is {name}, which a model of this shape does not have"));
        };
        // The patch convolution is stored with four dimensions and used as a matrix; its order is the same.
        let flat = match f.stored.dims.as_slice() {
            [rows, a, b, c] => vec![*rows, a * b * c],
            dims => dims.to_vec(),
        };
        if flat != want.dims {
            return wrong(format!("{:?}, for {name} it must be {:?}", f.stored.dims, want.dims));
        }
    }
    let missing: Vec<String> = wanted.iter().filter(|w| !found.contains_key(&w.name)).map(|w| w.name.clone()).collect();
    if missing.is_empty() { Ok(()) } else { Err(ConvertError::Missing { path: base.into(), names: missing }) }
}

fn write_tensor(
    writer: &mut Writer,
    tensor: &Planned,
    found: &BTreeMap<String, Found<'_>>,
    adapter: Option<&Adapter>,
) -> Result<(), ConvertError> {
    let Some(f) = found.get(&tensor.name) else {
        return Err(ConvertError::Asked(format!("tensor {} was not found", tensor.name)));
    };
    let change = adapter.and_then(|a| a.changes.get(&tensor.name).map(|c| a.load(c))).transpose()?;
    let columns = tensor.dims.last().copied().unwrap_or(1).max(1);
    let rows = f.stored.len() / columns;
    let at_once = (CHUNK_VALUES / columns).max(1);
    let mut values = Vec::new();
    for first in (0..rows).step_by(at_once) {
        let n = at_once.min(rows - first);
        f.source.read(f.stored, first * columns, n * columns, &mut values)?;
        if let Some(change) = &change {
            Loaded::merge(change, &mut values, first, columns);
        }
        writer.write(&tensor.name, &encode(&tensor.name, tensor.kind, &values)?)?;
    }
    Ok(())
}

fn facts(
    options: &ImportOptions,
    shape: &ModelShape,
    sources: Sources,
    mut notes: Vec<String>,
) -> Result<Facts, ConvertError> {
    let tokens = read_tokens(&options.base, shape.text.vocab, &mut notes)?;
    let questions = read_questions(&options.prompts, &mut notes)?;
    let vocabulary = tokens.vocabulary();
    let answerable = crate::tokenizer::Tokens::new(vocabulary).map_err(|e| e.to_string()).and_then(|tokens| {
        session::answerable(&tokens, questions.codebook.iter().map(Vec::as_slice)).map_err(|e| e.to_string())
    });
    answerable.map_err(|e| ConvertError::input(&options.prompts, format!("with the checkpoint's tokenizer: {e}")))?;
    let folder = options.base.file_name().map(|n| n.to_string_lossy().into_owned());
    let licence = match &options.licence {
        Some(text) => text.clone(),
        None => stated_licence(&options.base)?,
    };
    if licence.len() > MAX_LICENCE_BYTES as usize {
        return Err(ConvertError::Asked(format!("a licence of {} bytes, at most {MAX_LICENCE_BYTES}", licence.len())));
    }
    if let Some(text) = &options.trained_on
        && (text.is_empty() || text.len() > MAX_TRAINED_ON_BYTES || text.chars().any(char::is_control))
    {
        return Err(ConvertError::Asked(format!("trained on: one line of 1 to {MAX_TRAINED_ON_BYTES} bytes is taken")));
    }
    notes.truncate(MAX_NOTES);
    Ok(Facts {
        name: options.name.clone().or(folder).unwrap_or_else(|| "student".into()),
        licence,
        tokens,
        questions,
        telemetry: options.telemetry,
        objects: options.objects,
        closed: options.closed,
        trained_on: options.trained_on.clone(),
        sources,
        notes,
    })
}

/// The licence that a checkpoint states: in the head of its README, in `config.json`, or as a file.
fn stated_licence(folder: &Path) -> Result<String, ConvertError> {
    let readme = folder.join("README.md");
    if readme.exists() {
        let text = read_text(&readme, MAX_STRING_BYTES as u64)?;
        let head = text.strip_prefix("---").and_then(|t| t.split_once("\n---")).map_or("", |(head, _)| head);
        if let Some(licence) = head.lines().find_map(|l| l.strip_prefix("license:")) {
            return Ok(licence.trim().to_owned());
        }
    }
    let config = read_json(&folder.join("config.json"))?;
    if let Some(licence) = config.get("license").and_then(serde_json::Value::as_str) {
        return Ok(licence.to_owned());
    }
    for name in ["LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md"] {
        let path = folder.join(name);
        if path.exists() {
            return read_text(&path, MAX_LICENCE_BYTES);
        }
    }
    Ok("none stated".into())
}
