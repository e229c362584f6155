//! Writes a GGUF in one pass: the header with all sizes and offsets first, then tensor after tensor in chunks.
//!
//! The file grows as `NAME.part`, is synced and renamed at the end, and removed when the writer is dropped before
//! that: a half file never stands in place. The hash of the weights is known only at the end; its 64 digits are
//! reserved in the header and filled in then. Never holds a tensor whole.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{MAGIC, Type, VERSION, Value, aligned};
use crate::convert::error::ConvertError;
use crate::limits::{MAX_HEADER_BYTES, MAX_TENSORS};

/// The key whose text is filled in at the end: SHA-256, hexadecimal, over the bytes of all tensors in the order of the
/// file, without the padding between them.
pub const HASH_KEY: &str = "student.weights.sha256";
/// Digits of a SHA-256.
const HASH_DIGITS: usize = 64;

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its dimensions, row-major.
    pub dims: Vec<usize>,
    /// How it is stored.
    pub kind: Type,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the weights, hexadecimal.
    pub weights_sha256: String,
}

/// A GGUF being written.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    part: PathBuf,
    out: PathBuf,
    /// Name and bytes of each tensor, in order.
    plan: Vec<(String, u64)>,
    next: usize,
    /// Bytes of the current tensor that are written.
    filled: u64,
    position: u64,
    hash: Sha256,
    hash_at: Option<u64>,
    finished: bool,
}

impl Writer {
    /// Reserves the room, writes the header.
    ///
    /// # Errors
    /// [`ConvertError::Asked`] for a plan that cannot be written, [`ConvertError::Disk`] when there is no room,
    /// [`ConvertError::Io`] otherwise.
    pub fn create(out: &Path, metadata: &[(String, Value)], tensors: &[Planned]) -> Result<Self, ConvertError> {
        if tensors.len() > MAX_TENSORS {
            return Err(ConvertError::Asked(format!("{} tensors, at most {MAX_TENSORS}", tensors.len())));
        }
        let (header, hash_at) = header(metadata, tensors)?;
        let mut plan = Vec::with_capacity(tensors.len());
        let mut total = header.len() as u64;
        for t in tensors {
            let bytes = planned_bytes(t)?;
            total = total.checked_add(aligned(bytes)).ok_or_else(|| too_large(t))?;
            plan.push((t.name.clone(), bytes));
        }
        let part = part_of(out);
        let failed = |e| ConvertError::writing(&part, e);
        let file = File::create(&part).map_err(failed)?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            part: part.clone(),
            out: out.into(),
            plan,
            next: 0,
            filled: 0,
            position: header.len() as u64,
            hash: Sha256::new(),
            hash_at,
            finished: false,
        };
        writer.reserve(total)?;
        writer.file.write_all(&header).map_err(failed)?;
        writer.close_empty()?;
        Ok(writer)
    }

    /// Asks the file system for all blocks now: a full disk is found before hours of work, not after.
    fn reserve(&self, bytes: u64) -> Result<(), ConvertError> {
        match rustix::fs::fallocate(self.file.get_ref(), rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // Not every file system can reserve; then the write itself says so.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(e) => Err(ConvertError::Disk { path: self.out.clone(), bytes, source: e.into() }),
        }
    }

    /// The tensor that is written next, or `None` when all are.
    pub fn expects(&self) -> Option<&str> {
        self.plan.get(self.next).map(|(name, _)| name.as_str())
    }

    /// Appends bytes to tensor `name`, which must be the one that is next.
    ///
    /// # Errors
    /// [`ConvertError::Asked`] out of order or beyond the tensor's size, [`ConvertError::Io`].
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
        let Some((expected, size)) = self.plan.get(self.next) else {
            return Err(ConvertError::Asked(format!("tensor {name} after the last")));
        };
        if expected != name {
            return Err(ConvertError::Asked(format!("tensor {name} where {expected} was expected")));
        }
        let size = *size;
        if bytes.len() as u64 > size - self.filled {
            return Err(ConvertError::Asked(format!("tensor {name}: more than {size} bytes")));
        }
        self.file.write_all(bytes).map_err(|e| ConvertError::writing(&self.part, e))?;
        self.hash.update(bytes);
        self.filled += bytes.len() as u64;
        self.position += bytes.len() as u64;
        if self.filled == size {
            self.pad()?;
        }
        Ok(())
    }

    /// Ends the current tensor, and any after it that have no bytes.
    fn pad(&mut self) -> Result<(), ConvertError> {
        let padding = (aligned(self.position) - self.position) as usize;
        self.file.write_all(&vec![0; padding]).map_err(|e| ConvertError::writing(&self.part, e))?;
        self.position += padding as u64;
        self.filled = 0;
        self.next += 1;
        self.close_empty()
    }

    fn close_empty(&mut self) -> Result<(), ConvertError> {
        while self.plan.get(self.next).is_some_and(|(_, bytes)| *bytes == 0) {
            self.next += 1;
        }
        Ok(())
    }

    /// Fills in the hash, syncs, and renames the file into place.
    ///
    /// # Errors
    /// [`ConvertError::Asked`] when tensors are missing, [`ConvertError::Io`].
    pub fn finish(mut self) -> Result<Written, ConvertError> {
        if let Some(name) = self.expects() {
            return Err(ConvertError::Asked(format!("tensor {name} was not written")));
        }
        let digest = hex(&std::mem::take(&mut self.hash).finalize());
        self.settle(&digest).map_err(|e| ConvertError::writing(&self.part, e))?;
        std::fs::rename(&self.part, &self.out).map_err(|e| ConvertError::writing(&self.out, e))?;
        self.finished = true;
        sync_folder(&self.out);
        Ok(Written { bytes: self.position, weights_sha256: digest })
    }

    fn settle(&mut self, digest: &str) -> std::io::Result<()> {
        if let Some(at) = self.hash_at {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(digest.as_bytes())?;
        }
        self.file.flush()?;
        self.file.get_ref().set_len(self.position)?;
        self.file.get_ref().sync_all()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done where even this fails; the name says that the file is no model.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// The name under which a file grows.
fn part_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Makes the rename durable; a file system that cannot sync folders keeps the file all the same.
fn sync_folder(out: &Path) {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn too_large(t: &Planned) -> ConvertError {
    ConvertError::Asked(format!("tensor {}: {:?} is too large", t.name, t.dims))
}

fn planned_bytes(t: &Planned) -> Result<u64, ConvertError> {
    t.kind.bytes(&t.dims).ok_or_else(|| {
        ConvertError::Asked(format!("tensor {}: {:?} cannot be stored as {}", t.name, t.dims, t.kind.name()))
    })
}

/// The header with its padding, and where in it the hash stands.
fn header(metadata: &[(String, Value)], tensors: &[Planned]) -> Result<(Vec<u8>, Option<u64>), ConvertError> {
    let mut h = Vec::with_capacity(1 << 16);
    h.extend(MAGIC);
    h.extend(VERSION.to_le_bytes());
    h.extend((tensors.len() as u64).to_le_bytes());
    let reserved = Value::Str("0".repeat(HASH_DIGITS));
    let with_hash = metadata.iter().any(|(k, _)| k == HASH_KEY);
    h.extend((metadata.len() as u64).to_le_bytes());
    let mut hash_at = None;
    for (key, value) in metadata {
        put_str(&mut h, key);
        if with_hash && key == HASH_KEY {
            put_value(&mut h, &reserved)?;
            hash_at = Some((h.len() - HASH_DIGITS) as u64);
        } else {
            put_value(&mut h, value)?;
        }
    }
    let mut offset = 0u64;
    for t in tensors {
        put_str(&mut h, &t.name);
        h.extend((t.dims.len() as u32).to_le_bytes());
        t.dims.iter().rev().for_each(|&d| h.extend((d as u64).to_le_bytes()));
        h.extend(t.kind.code().to_le_bytes());
        h.extend(offset.to_le_bytes());
        offset = offset.checked_add(aligned(planned_bytes(t)?)).ok_or_else(|| too_large(t))?;
    }
    h.resize(aligned(h.len() as u64) as usize, 0);
    if h.len() as u64 > MAX_HEADER_BYTES {
        return Err(ConvertError::Asked(format!("a header of {} bytes, at most {MAX_HEADER_BYTES}", h.len())));
    }
    Ok((h, hash_at))
}

fn put_str(h: &mut Vec<u8>, text: &str) {
    h.extend((text.len() as u64).to_le_bytes());
    h.extend(text.as_bytes());
}

fn put_array(h: &mut Vec<u8>, element: u32, count: usize) {
    h.extend(9u32.to_le_bytes());
    h.extend(element.to_le_bytes());
    h.extend((count as u64).to_le_bytes());
}

fn put_value(h: &mut Vec<u8>, value: &Value) -> Result<(), ConvertError> {
    fn scalar<const N: usize>(h: &mut Vec<u8>, code: u32, bytes: [u8; N]) {
        h.extend(code.to_le_bytes());
        h.extend(bytes);
    }
    match value {
        Value::U32(v) => scalar(h, 4, v.to_le_bytes()),
        Value::I32(v) => scalar(h, 5, v.to_le_bytes()),
        Value::F32(v) => scalar(h, 6, v.to_le_bytes()),
        Value::Bool(v) => scalar(h, 7, [u8::from(*v)]),
        Value::U64(v) => scalar(h, 10, v.to_le_bytes()),
        Value::I64(v) => scalar(h, 11, v.to_le_bytes()),
        Value::F64(v) => scalar(h, 12, v.to_le_bytes()),
        Value::Str(v) => {
            h.extend(8u32.to_le_bytes());
            put_str(h, v);
        }
        Value::Strs(v) => {
            put_array(h, 8, v.len());
            v.iter().for_each(|s| put_str(h, s));
        }
        Value::F32s(v) => {
            put_array(h, 6, v.len());
            v.iter().for_each(|x| h.extend(x.to_le_bytes()));
        }
        Value::I32s(v) => {
            put_array(h, 5, v.len());
            v.iter().for_each(|x| h.extend(x.to_le_bytes()));
        }
        Value::Skipped(count) => {
            return Err(ConvertError::Asked(format!("an array of {count} elements that were not kept")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dims: &[usize]) -> Vec<Planned> {
        vec![Planned { name: "a".into(), dims: dims.to_vec(), kind: Type::F32 }]
    }

    #[test]
    fn no_room_is_said_before_any_work_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("m.gguf");
        // 8 TiB: less than the largest file, more than any disk this runs on.
        let error = Writer::create(&out, &[], &plan(&[1 << 21, 1 << 20])).unwrap_err();
        assert!(matches!(error, ConvertError::Disk { .. }), "{error}");
        assert!(error.to_string().contains("no room for"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_abandoned_file_leaves_what_stood_there() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("m.gguf");
        std::fs::write(&out, b"before").unwrap();
        let mut w = Writer::create(&out, &[], &plan(&[2, 3])).unwrap();
        w.write("a", &[0; 8]).unwrap();
        assert!(part_of(&out).exists());
        let error = w.finish().unwrap_err();
        assert!(error.to_string().contains("tensor a was not written"), "{error}");
        assert_eq!(std::fs::read(&out).unwrap(), b"before");
        assert!(!part_of(&out).exists());
    }

    #[test]
    fn order_and_size_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = Writer::create(&dir.path().join("m.gguf"), &[], &plan(&[2, 3])).unwrap();
        assert!(w.write("b", &[0; 4]).unwrap_err().to_string().contains("where a was expected"));
        assert!(w.write("a", &[0; 25]).unwrap_err().to_string().contains("more than 24 bytes"));
        w.write("a", &[1; 24]).unwrap();
        assert!(w.write("a", &[0; 4]).unwrap_err().to_string().contains("after the last"));
        assert!(w.finish().unwrap().bytes.is_multiple_of(32));
    }
}
