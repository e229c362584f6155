//! The header of a GGUF as the converter uses it: metadata in the order of the file, tensors in the order of their data.
//!
//! Reading and checking is [`crate::file`]'s, the one reader of headers in this crate. What is added here: only the types
//! and the alignment that we write are taken. Never reads tensor data.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::Value as Raw;

use super::{ALIGNMENT, Type, Value};
use crate::convert::error::ConvertError;
use crate::error::StudentError;
use crate::file::read_header;

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
        let header = read_header(&file, file_bytes).map_err(|fault| in_file(path, fault))?;
        let mut metadata = Vec::with_capacity(header.meta.len());
        for (key, value) in header.meta {
            let value = Value::from_raw(value);
            if key == "general.alignment" && value != Value::U32(ALIGNMENT as u32) {
                return Err(ConvertError::input(path, format!("an alignment other than {ALIGNMENT}")));
            }
            metadata.push((key, value));
        }
        let mut tensors = Vec::with_capacity(header.tensors.len());
        for (name, info) in header.tensors {
            let Some(kind) = Type::from_ggml(info.kind) else {
                return Err(ConvertError::tensor(path, &name, format!("type {:?} is none of ours", info.kind)));
            };
            tensors.push(Entry { name, dims: info.dims, kind, offset: info.offset, bytes: info.bytes });
        }
        tensors.sort_by_key(|t| t.offset);
        Ok(Self { metadata, tensors, file_bytes })
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
}

/// The reader's fault as the converter says it: with the file's name.
fn in_file(path: &Path, fault: StudentError) -> ConvertError {
    match fault {
        StudentError::File { offset, what } => ConvertError::input(path, format!("byte {offset}: {what}")),
        StudentError::Key { key, what } => ConvertError::input(path, format!("key {key}: {what}")),
        StudentError::Tensor { name, what } => ConvertError::tensor(path, &name, what),
        other => ConvertError::input(path, other.to_string()),
    }
}

impl Value {
    fn from_raw(raw: Raw) -> Self {
        match raw {
            Raw::U8(v) => Self::U32(v.into()),
            Raw::U16(v) => Self::U32(v.into()),
            Raw::U32(v) => Self::U32(v),
            Raw::I8(v) => Self::I32(v.into()),
            Raw::I16(v) => Self::I32(v.into()),
            Raw::I32(v) => Self::I32(v),
            Raw::U64(v) => Self::U64(v),
            Raw::I64(v) => Self::I64(v),
            Raw::F32(v) => Self::F32(v),
            Raw::F64(v) => Self::F64(v),
            Raw::Bool(v) => Self::Bool(v),
            Raw::String(v) => Self::Str(v),
            Raw::Array(values) => Self::array(values),
        }
    }

    /// The elements of an array are of one type: the first says which. One that is empty has no type that matters.
    fn array(values: Vec<Raw>) -> Self {
        let count = values.len();
        let strs = |v| if let Raw::String(v) = v { Some(v) } else { None };
        let f32s = |v| if let Raw::F32(v) = v { Some(v) } else { None };
        let i32s = |v| if let Raw::I32(v) = v { Some(v) } else { None };
        match values.first() {
            Some(Raw::String(_)) | None => Self::Strs(values.into_iter().filter_map(strs).collect()),
            Some(Raw::F32(_)) => Self::F32s(values.into_iter().filter_map(f32s).collect()),
            Some(Raw::I32(_)) => Self::I32s(values.into_iter().filter_map(i32s).collect()),
            Some(_) => Self::Skipped(count),
        }
    }
}
