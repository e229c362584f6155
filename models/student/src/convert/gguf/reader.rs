//! Reads the header of a GGUF. Every length is checked against a cap and against the file before it is believed.
//!
//! Entries are kept in the order of their data, which must not overlap, must be aligned and must lie in the file.
//! Never reads tensor data.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{ALIGNMENT, MAGIC, Type, Value};
use crate::convert::error::ConvertError;
use crate::convert::limits::{
    MAX_ARRAY, MAX_DIMS, MAX_HEADER_BYTES, MAX_METADATA, MAX_NAME_BYTES, MAX_STRING_BYTES, MAX_TENSORS,
};

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its dimensions, row-major.
    pub dims: Vec<usize>,
    /// How it is stored.
    pub kind: Type,
    /// First byte of its data in the file.
    pub offset: u64,
    /// Bytes of its data.
    pub bytes: u64,
}

/// The header of a GGUF.
#[derive(Clone, Debug)]
pub struct Header {
    /// Metadata in the order of the file.
    pub metadata: Vec<(String, Value)>,
    /// Tensors in the order of their data.
    pub tensors: Vec<Entry>,
    /// Size of the file.
    pub file_bytes: u64,
}

impl Header {
    /// Reads and checks the header of `path`.
    ///
    /// # Errors
    /// [`ConvertError::Input`] with the byte at which the header is wrong, [`ConvertError::Tensor`] for an entry whose
    /// data cannot be.
    pub fn read(path: &Path) -> Result<Self, ConvertError> {
        let file = File::open(path).map_err(|e| ConvertError::reading(path, e))?;
        let file_bytes = file.metadata().map_err(|e| ConvertError::reading(path, e))?.len();
        let mut cursor = Cursor { inner: BufReader::new(file), at: 0, end: file_bytes.min(MAX_HEADER_BYTES) };
        let mut header = cursor.header().map_err(|e| ConvertError::input(path, format!("byte {}: {e}", cursor.at)))?;
        header.file_bytes = file_bytes;
        header.place(path, cursor.at)?;
        Ok(header)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The text of a key.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// The whole number of a key, where it is one and fits.
    pub fn u32(&self, key: &str) -> Option<u32> {
        match self.get(key)? {
            Value::U32(v) => Some(*v),
            Value::I32(v) => u32::try_from(*v).ok(),
            Value::U64(v) => u32::try_from(*v).ok(),
            Value::I64(v) => u32::try_from(*v).ok(),
            _ => None,
        }
    }

    /// The number of a key.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match self.get(key)? {
            Value::F32(v) => Some(*v),
            _ => None,
        }
    }

    /// The flag of a key.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// The texts of a key.
    pub fn strs(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Strs(v) => Some(v),
            _ => None,
        }
    }

    /// The numbers of a key.
    pub fn f32s(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            Value::F32s(v) => Some(v),
            _ => None,
        }
    }

    /// Moves offsets to the file's beginning, sorts by them and refuses overlaps, holes in the alignment and data
    /// beyond the end.
    fn place(&mut self, path: &Path, header_end: u64) -> Result<(), ConvertError> {
        let start = header_end.div_ceil(ALIGNMENT) * ALIGNMENT;
        self.tensors.sort_by_key(|t| t.offset);
        let mut free = start;
        for t in &mut self.tensors {
            let wrong = |what: String| ConvertError::tensor(path, &t.name, what);
            let offset = start.checked_add(t.offset).ok_or_else(|| wrong("its offset overflows".into()))?;
            let end = offset.checked_add(t.bytes).ok_or_else(|| wrong("its end overflows".into()))?;
            if !t.offset.is_multiple_of(ALIGNMENT) {
                return Err(wrong(format!("data at byte {offset}, which is no multiple of {ALIGNMENT}")));
            }
            if offset < free {
                return Err(wrong(format!("data at byte {offset}, inside the tensor that ends at {free}")));
            }
            if end > self.file_bytes {
                return Err(wrong(format!("data up to byte {end} of a file of {}", self.file_bytes)));
            }
            t.offset = offset;
            free = end;
        }
        Ok(())
    }
}

/// Reads little-endian values and never past `end`.
struct Cursor<R> {
    inner: R,
    at: u64,
    end: u64,
}

impl<R: Read> Cursor<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        if bytes.len() as u64 > self.end - self.at {
            return Err(format!("the header goes on after byte {}, where the file or its cap ends", self.end));
        }
        self.inner.read_exact(bytes).map_err(|e| e.to_string())?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// A count that is at most `cap` and whose elements, of `each` bytes at least, can be in what is left.
    fn count(&mut self, cap: usize, each: u64, what: &str) -> Result<usize, String> {
        let n = u64::from_le_bytes(self.take()?);
        if n > cap as u64 {
            return Err(format!("{n} {what}, at most {cap}"));
        }
        if n * each > self.end - self.at {
            return Err(format!("{n} {what} do not fit in the {} bytes that are left", self.end - self.at));
        }
        Ok(n as usize)
    }

    fn string(&mut self, cap: usize) -> Result<String, String> {
        let n = self.count(cap, 1, "bytes of text")?;
        let mut bytes = vec![0; n];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| "text that is not UTF-8".into())
    }

    fn header(&mut self) -> Result<Header, String> {
        if self.take::<4>()? != MAGIC {
            return Err("not a GGUF".into());
        }
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(format!("GGUF version {version}; 2 and 3 are read"));
        }
        let tensors = self.count(MAX_TENSORS, 24, "tensors")?;
        let pairs = self.count(MAX_METADATA, 13, "metadata entries")?;
        let mut metadata: Vec<(String, Value)> = Vec::with_capacity(pairs);
        let mut keys = BTreeSet::new();
        for _ in 0..pairs {
            let key = self.string(MAX_NAME_BYTES)?;
            if !keys.insert(key.clone()) {
                return Err(format!("key {key} stands twice"));
            }
            let kind = self.u32()?;
            let value = self.value(kind).map_err(|e| format!("key {key}: {e}"))?;
            if key == "general.alignment" && value != Value::U32(ALIGNMENT as u32) {
                return Err(format!("an alignment other than {ALIGNMENT}"));
            }
            metadata.push((key, value));
        }
        let mut entries = Vec::with_capacity(tensors);
        let mut names = BTreeSet::new();
        for _ in 0..tensors {
            let entry = self.entry()?;
            if !names.insert(entry.name.clone()) {
                return Err(format!("tensor {} stands twice", entry.name));
            }
            entries.push(entry);
        }
        Ok(Header { metadata, tensors: entries, file_bytes: 0 })
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let name = self.string(MAX_NAME_BYTES)?;
        let n = self.u32()? as usize;
        if n == 0 || n > MAX_DIMS {
            return Err(format!("tensor {name}: {n} dimensions"));
        }
        let mut dims = Vec::with_capacity(n);
        for _ in 0..n {
            let d = u64::from_le_bytes(self.take()?);
            dims.push(usize::try_from(d).map_err(|_| format!("tensor {name}: a dimension of {d}"))?);
        }
        dims.reverse();
        let code = self.u32()?;
        let offset = u64::from_le_bytes(self.take()?);
        let kind = Type::from_code(code).ok_or_else(|| format!("tensor {name}: type {code} is none of ours"))?;
        let bytes = kind
            .bytes(&dims)
            .ok_or_else(|| format!("tensor {name}: {dims:?} is no whole number of {} blocks", kind.name()))?;
        Ok(Entry { name, dims, kind, offset, bytes })
    }

    fn value(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::U32(u32::from(u8::from_le_bytes(self.take()?))),
            1 => Value::I32(i32::from(i8::from_le_bytes(self.take()?))),
            2 => Value::U32(u32::from(u16::from_le_bytes(self.take()?))),
            3 => Value::I32(i32::from(i16::from_le_bytes(self.take()?))),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.take()?)),
            6 => Value::F32(f32::from_le_bytes(self.take()?)),
            7 => match self.take::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [b] => return Err(format!("a flag of {b}")),
            },
            8 => Value::Str(self.string(MAX_STRING_BYTES)?),
            9 => self.array()?,
            10 => Value::U64(u64::from_le_bytes(self.take()?)),
            11 => Value::I64(i64::from_le_bytes(self.take()?)),
            12 => Value::F64(f64::from_le_bytes(self.take()?)),
            other => return Err(format!("a value of unknown type {other}")),
        })
    }

    fn array(&mut self) -> Result<Value, String> {
        let element = self.u32()?;
        let each = match element {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            other => return Err(format!("an array of elements of type {other}")),
        };
        let n = self.count(MAX_ARRAY, each, "elements")?;
        Ok(match element {
            5 => {
                let mut all = Vec::with_capacity(n);
                for _ in 0..n {
                    all.push(i32::from_le_bytes(self.take()?));
                }
                Value::I32s(all)
            }
            6 => {
                let mut all = Vec::with_capacity(n);
                for _ in 0..n {
                    all.push(f32::from_le_bytes(self.take()?));
                }
                Value::F32s(all)
            }
            8 => {
                let mut all = Vec::with_capacity(n);
                for _ in 0..n {
                    all.push(self.string(MAX_STRING_BYTES)?);
                }
                Value::Strs(all)
            }
            _ => {
                // Bounded by MAX_ARRAY elements of eight bytes.
                let mut skipped = vec![0; n * each as usize];
                self.fill(&mut skipped)?;
                Value::Skipped(element, n)
            }
        })
    }
}
