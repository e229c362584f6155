//! A PyTorch archive (`torch.save` since 1.6): a zip of one pickle and of one uncompressed file for each storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use super::pickle::{self, Pickled};
use super::{Float, Stored, checked};
use crate::convert::error::ConvertError;
use crate::convert::limits::{MAX_PICKLE_BYTES, MAX_ZIP_ENTRIES};

/// The tensors of an archive.
pub(super) fn tensors(path: &Path, file: &File, index: usize) -> Result<Vec<Stored>, ConvertError> {
    let wrong = |e: zip::result::ZipError| ConvertError::input(path, format!("PyTorch archive: {e}"));
    let file = file.try_clone().map_err(|e| ConvertError::reading(path, e))?;
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(wrong)?;
    if zip.len() > MAX_ZIP_ENTRIES {
        return Err(ConvertError::input(
            path,
            format!("{} files in the archive, at most {MAX_ZIP_ENTRIES}", zip.len()),
        ));
    }
    let mut pickle = None;
    let mut storages = BTreeMap::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index_raw(i).map_err(wrong)?;
        let name = entry.name().map_err(wrong)?.into_owned();
        let stored = entry.compression() == zip::CompressionMethod::Stored && entry.size() == entry.compressed_size();
        let Some((_, inner)) = name.split_once('/') else { continue };
        if inner == "data.pkl" {
            if !stored || entry.size() > MAX_PICKLE_BYTES {
                let what = format!("{name}: {} bytes, stored at most {MAX_PICKLE_BYTES}", entry.size());
                return Err(ConvertError::input(path, what));
            }
            let mut bytes = Vec::new();
            entry
                .by_ref()
                .take(MAX_PICKLE_BYTES)
                .read_to_end(&mut bytes)
                .map_err(|e| ConvertError::reading(path, e))?;
            pickle = Some(bytes);
        } else if inner == "byteorder" {
            let mut order = Vec::new();
            entry.by_ref().take(16).read_to_end(&mut order).map_err(|e| ConvertError::reading(path, e))?;
            if order != b"little" {
                return Err(ConvertError::input(path, "its values are not little-endian"));
            }
        } else if let (true, Some(key), Some(start)) = (stored, inner.strip_prefix("data/"), entry.data_start()) {
            storages.insert(key.to_owned(), (start, entry.size()));
        }
    }
    let pickle = pickle.ok_or_else(|| ConvertError::input(path, "no data.pkl in the archive"))?;
    let pickled = pickle::tensors(&pickle).map_err(|e| ConvertError::input(path, format!("data.pkl: {e}")))?;
    pickled.into_iter().map(|(name, p)| place(path, index, name, &p, &storages)).collect()
}

fn place(
    path: &Path,
    file: usize,
    name: String,
    p: &Pickled,
    storages: &BTreeMap<String, (u64, u64)>,
) -> Result<Stored, ConvertError> {
    let wrong = |what: String| ConvertError::tensor(path, &name, what);
    let float = match p.storage_type.as_str() {
        "DoubleStorage" => Float::F64,
        "FloatStorage" => Float::F32,
        "HalfStorage" => Float::F16,
        "BFloat16Storage" => Float::Bf16,
        other => return Err(wrong(format!("{other}; Double, Float, Half and BFloat16 are read"))),
    };
    if !contiguous(&p.dims, &p.strides) {
        return Err(wrong(format!("{:?} with strides {:?} is not contiguous", p.dims, p.strides)));
    }
    let &(start, room) = storages.get(&p.key).ok_or_else(|| wrong(format!("no storage data/{} in it", p.key)))?;
    let skip = (p.offset as u64).checked_mul(float.size() as u64).filter(|&s| s <= room);
    let skip = skip.ok_or_else(|| wrong(format!("begins at value {} of a storage of {room} bytes", p.offset)))?;
    checked(path, Stored { name: name.clone(), file, dims: p.dims.clone(), float, offset: start + skip }, room - skip)
}

/// Row-major without gaps; the stride of a dimension of one does not matter.
fn contiguous(dims: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    dims.len() == strides.len()
        && dims.iter().zip(strides).rev().all(|(&d, &s)| {
            let fits = d <= 1 || s == expected;
            expected = expected.saturating_mul(d);
            fits
        })
}
