//! The weights of others: safetensors and PyTorch archives behind one table of names.
//!
//! Terms: *stored*, one tensor as a file has it; *shard*, one file of several. Values are read in ranges, converted to
//! f32 and must be finite. Only headers are kept in memory; files are never mapped, so that one cut short while it is
//! read is an error and not a fault.

mod pickle;
mod safetensors;
mod torch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use sha2::{Digest as _, Sha256};

use super::error::ConvertError;
use super::gguf::hex;
use super::limits::{MAX_DIMS, MAX_JSON_BYTES, MAX_NAME_BYTES, MAX_SHARDS, MAX_TENSORS};

/// How the values of a stored tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// 64 bits.
    F64,
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// The upper half of 32 bits.
    Bf16,
}

impl Float {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// Which file of the source.
    pub file: usize,
    /// Its dimensions, row-major.
    pub dims: Vec<usize>,
    /// How its values are written.
    pub float: Float,
    /// First byte of its data in the file.
    pub offset: u64,
}

impl Stored {
    /// Values in all; their bytes were checked against the file.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// True for a tensor of no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One or several weight files.
#[derive(Debug)]
pub struct Source {
    files: Vec<(PathBuf, File)>,
    /// Every tensor by its name.
    pub tensors: BTreeMap<String, Stored>,
}

impl Source {
    /// Opens the weights in a checkpoint folder: `stem.safetensors`, its shards by their index, or the same of
    /// `bin_stem.bin`; safetensors where both are there.
    ///
    /// # Errors
    /// [`ConvertError::Input`] when there are none, a shard is missing or a tensor stands twice; those of the formats.
    pub fn open_folder(folder: &Path, stem: &str, bin_stem: &str) -> Result<Self, ConvertError> {
        for (stem, suffix) in [(stem, "safetensors"), (bin_stem, "bin")] {
            let index = folder.join(format!("{stem}.{suffix}.index.json"));
            if index.exists() {
                return Self::open_index(folder, &index);
            }
            let one = folder.join(format!("{stem}.{suffix}"));
            if one.exists() {
                return Self::open_files(&[one]);
            }
        }
        Err(ConvertError::input(folder, format!("neither {stem}.safetensors nor {bin_stem}.bin, whole or in shards")))
    }

    /// Opens the shards that an index names, and checks that they hold what it promises.
    fn open_index(folder: &Path, index: &Path) -> Result<Self, ConvertError> {
        let json = read_json(index)?;
        let map = json.get("weight_map").and_then(|m| m.as_object());
        let map = map.ok_or_else(|| ConvertError::input(index, "no weight_map"))?;
        let mut names = BTreeSet::new();
        for (tensor, shard) in map {
            let shard = shard.as_str().filter(|s| Path::new(s).file_name().is_some_and(|n| n == *s));
            let shard = shard.ok_or_else(|| ConvertError::tensor(index, tensor, "its shard is no file name"))?;
            names.insert(shard.to_owned());
            if names.len() > MAX_SHARDS {
                return Err(ConvertError::input(index, format!("more than {MAX_SHARDS} shards")));
            }
        }
        let paths: Vec<PathBuf> = names.iter().map(|n| folder.join(n)).collect();
        if let Some(missing) = paths.iter().find(|p| !p.exists()) {
            return Err(ConvertError::input(missing, format!("this shard is missing; {} names it", index.display())));
        }
        let source = Self::open_files(&paths)?;
        match map.keys().find(|k| !source.tensors.contains_key(*k)) {
            Some(absent) => Err(ConvertError::tensor(index, absent, "in no shard")),
            None => Ok(source),
        }
    }

    /// Opens weight files; their format is told by their beginning.
    ///
    /// # Errors
    /// As [`Self::open_folder`].
    pub fn open_files(paths: &[PathBuf]) -> Result<Self, ConvertError> {
        let mut source = Self { files: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            let file = File::open(path).map_err(|e| ConvertError::reading(path, e))?;
            let index = source.files.len();
            let mut head = [0; 4];
            let found = match file.read_exact_at(&mut head, 0) {
                Ok(()) if head == *b"PK\x03\x04" => torch::tensors(path, &file, index)?,
                Ok(()) => safetensors::tensors(path, &file, index)?,
                Err(e) => return Err(ConvertError::reading(path, e)),
            };
            source.files.push((path.clone(), file));
            for stored in found {
                if let Some(twice) = source.tensors.insert(stored.name.clone(), stored) {
                    return Err(ConvertError::tensor(path, &twice.name, "stands twice"));
                }
            }
            if source.tensors.len() > MAX_TENSORS {
                return Err(ConvertError::input(path, format!("more than {MAX_TENSORS} tensors")));
            }
        }
        Ok(source)
    }

    /// The file that holds a tensor.
    pub fn path(&self, stored: &Stored) -> &Path {
        self.files.get(stored.file).map_or(Path::new(""), |(path, _)| path)
    }

    /// Reads `count` values from value `start` on, into `out`, which is emptied first.
    ///
    /// # Errors
    /// [`ConvertError::Tensor`] for a range outside the tensor and for a value that is not finite, [`ConvertError::Io`].
    pub fn read(&self, stored: &Stored, start: usize, count: usize, out: &mut Vec<f32>) -> Result<(), ConvertError> {
        out.clear();
        let Some((path, file)) = self.files.get(stored.file) else {
            return Err(ConvertError::Asked(format!("tensor {}: of another source", stored.name)));
        };
        if start.checked_add(count).is_none_or(|end| end > stored.len()) {
            return Err(ConvertError::tensor(path, &stored.name, format!("{count} values from {start} on")));
        }
        let size = stored.float.size();
        let mut bytes = vec![0; count * size];
        let at = stored.offset + (start * size) as u64;
        file.read_exact_at(&mut bytes, at).map_err(|e| ConvertError::reading(path, e))?;
        out.reserve(count);
        match stored.float {
            Float::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
            Float::F64 => out.extend(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
            Float::F16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Float::Bf16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
        }
        match out.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(ConvertError::tensor(path, &stored.name, format!("value {} is not finite", start + i))),
            None => Ok(()),
        }
    }

    /// SHA-256 of the one file, or of the lines `HASH  NAME` of the shards in the order of their names, as
    /// `sha256sum *.safetensors | sha256sum` gives it.
    ///
    /// # Errors
    /// [`ConvertError::Io`].
    pub fn sha256(&self) -> Result<String, ConvertError> {
        let mut lines = Vec::with_capacity(self.files.len());
        for (path, file) in &self.files {
            let digest = hash_file(file).map_err(|e| ConvertError::reading(path, e))?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            lines.push((name, digest));
        }
        if let [(_, digest)] = lines.as_slice() {
            return Ok(digest.clone());
        }
        lines.sort();
        let mut hash = Sha256::new();
        lines.iter().for_each(|(name, digest)| hash.update(format!("{digest}  {name}\n")));
        Ok(hex(&hash.finalize()))
    }
}

fn hash_file(file: &File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut buffer, at)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        at += n as u64;
    }
}

/// Checks a tensor that a header claims against the `room` bytes that its place has.
fn checked(path: &Path, stored: Stored, room: u64) -> Result<Stored, ConvertError> {
    let wrong = |what: String| Err(ConvertError::tensor(path, &stored.name, what));
    if stored.name.len() > MAX_NAME_BYTES {
        return Err(ConvertError::input(path, format!("a tensor's name of {} bytes", stored.name.len())));
    }
    if stored.dims.len() > MAX_DIMS {
        return wrong(format!("{} dimensions", stored.dims.len()));
    }
    let bytes = stored.dims.iter().try_fold(stored.float.size() as u64, |n, &d| n.checked_mul(d as u64));
    match bytes {
        Some(bytes) if bytes <= room => Ok(stored),
        Some(bytes) => wrong(format!("{:?} takes {bytes} bytes, its place has {room}", stored.dims)),
        None => wrong(format!("{:?} overflows", stored.dims)),
    }
}

/// Reads a whole text file of at most `cap` bytes.
pub(crate) fn read_text(path: &Path, cap: u64) -> Result<String, ConvertError> {
    let bytes = std::fs::metadata(path).map_err(|e| ConvertError::reading(path, e))?.len();
    if bytes > cap {
        return Err(ConvertError::input(path, format!("{bytes} bytes, at most {cap}")));
    }
    std::fs::read_to_string(path).map_err(|e| ConvertError::reading(path, e))
}

/// Reads a JSON file; its errors name line and column.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, ConvertError> {
    let text = read_text(path, MAX_JSON_BYTES)?;
    serde_json::from_str(&text).map_err(|e| ConvertError::input(path, e.to_string()))
}
