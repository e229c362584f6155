//! The header of a safetensors file: a length, then JSON with type, shape and place of each tensor.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;

use super::{Float, Stored, checked};
use crate::convert::error::ConvertError;
use crate::convert::limits::{MAX_SAFETENSORS_HEADER, MAX_TENSORS};

/// What the header says of a tensor.
#[derive(Deserialize)]
struct Said {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The tensors of a file.
pub(super) fn tensors(path: &Path, file: &File, index: usize) -> Result<Vec<Stored>, ConvertError> {
    let size = file.metadata().map_err(|e| ConvertError::reading(path, e))?.len();
    let mut head = [0; 8];
    file.read_exact_at(&mut head, 0).map_err(|e| ConvertError::reading(path, e))?;
    let n = u64::from_le_bytes(head);
    if n > MAX_SAFETENSORS_HEADER || n > size.saturating_sub(8) {
        let what = format!(
            "neither a PyTorch archive nor safetensors: a header of {n} bytes in a file of {size}, at most \
             {MAX_SAFETENSORS_HEADER}"
        );
        return Err(ConvertError::input(path, what));
    }
    let mut header = vec![0; n as usize];
    file.read_exact_at(&mut header, 8).map_err(|e| ConvertError::reading(path, e))?;
    let said: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| ConvertError::input(path, format!("header: {e}")))?;
    if said.len() > MAX_TENSORS {
        return Err(ConvertError::input(path, format!("{} tensors, at most {MAX_TENSORS}", said.len())));
    }
    let mut all = Vec::with_capacity(said.len());
    for (name, value) in said {
        if name == "__metadata__" {
            continue;
        }
        let said: Said = serde_json::from_value(value).map_err(|e| ConvertError::tensor(path, &name, e.to_string()))?;
        all.push(place(path, index, name, said, 8 + n, size)?);
    }
    Ok(all)
}

fn place(path: &Path, file: usize, name: String, said: Said, data: u64, size: u64) -> Result<Stored, ConvertError> {
    let float = match said.dtype.as_str() {
        "F64" => Float::F64,
        "F32" => Float::F32,
        "F16" => Float::F16,
        "BF16" => Float::Bf16,
        other => return Err(ConvertError::tensor(path, &name, format!("type {other}; F64, F32, F16, BF16 are read"))),
    };
    let [from, to] = said.data_offsets;
    if from > to || to > size - data {
        let what =
            format!("data from {from} to {to} of {} bytes: the file is cut short or its header wrong", size - data);
        return Err(ConvertError::tensor(path, &name, what));
    }
    let stored = Stored { name, file, dims: said.shape, float, offset: data + from };
    let stored = checked(path, stored, to - from)?;
    let bytes = (stored.len() * float.size()) as u64;
    if bytes != to - from {
        let what = format!("{:?} takes {bytes} bytes, its place has {}", stored.dims, to - from);
        return Err(ConvertError::tensor(path, &stored.name, what));
    }
    Ok(stored)
}
