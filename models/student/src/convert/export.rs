//! The language half of a model file as a file of its own, which llama.cpp loads: it refuses tensors that it does not
//! know. The bytes of its tensors are those of the model file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::ConvertError;
use super::gguf::{Header, Planned, Value, Writer, Written};
use super::tensors::text_tensors;
use crate::file::ModelFile;

/// Bytes copied at a time.
const PIECE: usize = 4 << 20;

/// Writes the language half of the model file `path` to `out`.
///
/// # Errors
/// [`ConvertError`], naming the tensor or key; nothing is left in place of `out` then.
pub fn export_language(path: &Path, out: &Path) -> Result<Written, ConvertError> {
    let header = Header::read(path)?;
    let shape = ModelFile::open(path)?.shape()?;
    let mut planned = Vec::new();
    let mut places = Vec::new();
    for want in text_tensors(&shape.text) {
        let entry = header.tensors.iter().find(|t| t.name == want.name && t.dims == want.dims);
        let missing = || ConvertError::Missing { path: path.into(), names: vec![want.name.clone()] };
        let entry = entry.ok_or_else(missing)?;
        planned.push(Planned { name: want.name.clone(), dims: want.dims.clone(), kind: entry.kind });
        places.push(entry.offset);
    }
    let ours = |key: &str| ["general.", "qwen2.", "tokenizer."].iter().any(|p| key.starts_with(p));
    let metadata: Vec<_> = header.metadata.iter().filter(|(key, _)| ours(key)).cloned().collect();
    let tensors: Vec<_> = planned.into_iter().zip(places).collect();
    copy(path, out, &metadata, &tensors)
}

/// A new file of `metadata` and of tensors of the model file `path`, each with the place of its bytes there.
pub(super) fn copy(
    path: &Path,
    out: &Path,
    metadata: &[(String, Value)],
    tensors: &[(Planned, u64)],
) -> Result<Written, ConvertError> {
    let file = File::open(path).map_err(|e| ConvertError::reading(path, e))?;
    let planned: Vec<Planned> = tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
    let mut writer = Writer::create(out, metadata, &planned)?;
    let mut buffer = vec![0; PIECE];
    for (tensor, offset) in tensors {
        let bytes = tensor.kind.bytes(&tensor.dims).unwrap_or(0);
        let mut at = 0;
        while at < bytes {
            let n = (PIECE as u64).min(bytes - at) as usize;
            let piece = buffer.get_mut(..n).unwrap_or_default();
            file.read_exact_at(piece, offset + at).map_err(|e| ConvertError::reading(path, e))?;
            writer.write(&tensor.name, piece)?;
            at += n as u64;
        }
    }
    writer.finish()
}
