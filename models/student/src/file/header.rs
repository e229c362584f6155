//! The header of a GGUF: metadata and the table of tensors, bounded. The one reader of it: the student and the converter
//! both stand on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, Read},
};

use candle_core::quantized::{GgmlDType, gguf_file::Value};

use super::TensorInfo;
use crate::{
    error::{Result, StudentError},
    limits::{
        MAX_HEADER_BYTES, MAX_META_ELEMENTS, MAX_META_ENTRIES, MAX_META_STRING, MAX_NAME_BYTES, MAX_TENSOR_BYTES,
        MAX_TENSORS,
    },
};

/// What stands before the data.
pub(crate) struct Header {
    /// First byte of the tensors' data.
    pub(crate) data_start: u64,
    /// Metadata in the order of the file.
    pub(crate) meta: Vec<(String, Value)>,
    /// The tensors, with offsets from the begin of the file.
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    /// Names of the tensors in the order of the table.
    pub(crate) order: Vec<String>,
}

/// Reads and checks the header of a file of `len` bytes.
pub(crate) fn read(file: &File, len: u64) -> Result<Header> {
    let mut cursor = Cursor { from: BufReader::new(file), at: 0, end: len.min(MAX_HEADER_BYTES), elements: 0 };
    if cursor.bytes::<4>()? != *b"GGUF" {
        return Err(StudentError::File { offset: 0, what: "no GGUF".to_owned() });
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return Err(StudentError::File { offset: 4, what: format!("version {version}; 2 and 3 are read") });
    }
    let tensor_count = cursor.count("tensors", MAX_TENSORS)?;
    let meta_count = cursor.count("metadata entries", MAX_META_ENTRIES)?;
    let meta = read_meta(&mut cursor, meta_count)?;
    let alignment = match meta.iter().find(|(key, _)| key == "general.alignment").map(|(_, value)| value) {
        None => 32,
        Some(Value::U32(n)) if n.is_power_of_two() && (8..=65_536).contains(n) => u64::from(*n),
        Some(_) => {
            let what = "no power of two between 8 and 65536".to_owned();
            return Err(StudentError::Key { key: "general.alignment".to_owned(), what });
        }
    };
    let (mut tensors, order) = read_table(&mut cursor, tensor_count, alignment)?;
    let data_start = cursor.at.div_ceil(alignment) * alignment;
    place(&mut tensors, data_start, len)?;
    Ok(Header { data_start, meta, tensors, order })
}

fn read_meta(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<(String, Value)>> {
    let (mut meta, mut keys) = (Vec::new(), BTreeSet::new());
    for _ in 0..count {
        let at = cursor.at;
        let key = cursor.string(MAX_NAME_BYTES)?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind, true)?;
        if !keys.insert(key.clone()) {
            return Err(StudentError::File { offset: at, what: format!("key {} stands twice", printable(&key)) });
        }
        meta.push((key, value));
    }
    Ok(meta)
}

type Table = (BTreeMap<String, TensorInfo>, Vec<String>);

fn read_table(cursor: &mut Cursor<'_>, count: usize, alignment: u64) -> Result<Table> {
    let (mut tensors, mut order) = (BTreeMap::new(), Vec::new());
    for _ in 0..count {
        let name = cursor.string(MAX_NAME_BYTES)?;
        let fault = |what: String| StudentError::Tensor { name: printable(&name), what };
        let rank = cursor.u32()?;
        if !(1..=4).contains(&rank) {
            return Err(fault(format!("{rank} dimensions; 1 to 4 are taken")));
        }
        let mut dims = Vec::with_capacity(4);
        for _ in 0..rank {
            dims.push(usize::try_from(cursor.u64()?).unwrap_or(usize::MAX));
        }
        dims.reverse();
        let code = cursor.u32()?;
        let kind = kind(code).ok_or_else(|| fault(format!("storage type {code} is not read")))?;
        let bytes = size(kind, &dims).map_err(fault)?;
        let offset = cursor.u64()?;
        if !offset.is_multiple_of(alignment) {
            return Err(fault(format!("offset {offset} is no multiple of {alignment}")));
        }
        if tensors.insert(name.clone(), TensorInfo { kind, dims, offset, bytes }).is_some() {
            return Err(StudentError::Tensor { name: printable(&name), what: "stands twice".to_owned() });
        }
        order.push(name);
    }
    Ok((tensors, order))
}

/// Makes offsets count from the begin of the file; refuses tensors that overlap or run past the end.
fn place(tensors: &mut BTreeMap<String, TensorInfo>, data_start: u64, len: u64) -> Result<()> {
    let mut spans = Vec::with_capacity(tensors.len());
    for (name, info) in tensors.iter_mut() {
        let fault = |what: String| StudentError::Tensor { name: printable(name), what };
        let start = data_start.checked_add(info.offset);
        let end = start.and_then(|start| start.checked_add(info.bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= len => {
                info.offset = start;
                spans.push((start, end, name));
            }
            _ => return Err(fault(format!("runs past the end of the file ({len} bytes)"))),
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            let what = format!("overlaps {}", printable(first));
            return Err(StudentError::Tensor { name: printable(second), what });
        }
    }
    Ok(())
}

/// Bytes of a tensor; the last dim must be whole blocks.
fn size(kind: GgmlDType, dims: &[usize]) -> std::result::Result<u64, String> {
    let block = kind.block_size();
    let row = dims.last().copied().unwrap_or(0);
    if !row.is_multiple_of(block) {
        return Err(format!("rows of {row} values in blocks of {block}"));
    }
    let values = dims.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim as u64)).filter(|n| *n > 0);
    let blocks = values.map(|values| values / block as u64);
    let bytes = blocks.and_then(|blocks| blocks.checked_mul(kind.type_size() as u64));
    bytes.filter(|bytes| *bytes <= MAX_TENSOR_BYTES).ok_or_else(|| format!("shaped {dims:?}: empty or too large"))
}

/// ggml's storage types that candle computes with.
fn kind(code: u32) -> Option<GgmlDType> {
    Some(match code {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// A name from a file, safe to print.
fn printable(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

struct Cursor<'a> {
    from: BufReader<&'a File>,
    at: u64,
    end: u64,
    elements: usize,
}

impl Cursor<'_> {
    fn fault(&self, what: String) -> StudentError {
        StudentError::File { offset: self.at, what }
    }

    /// Refuses a read past the end before anything is allocated for it.
    fn claim(&self, bytes: u64) -> Result<()> {
        if bytes > self.end - self.at {
            return Err(self.fault(format!("{bytes} bytes wanted, {} left of the header", self.end - self.at)));
        }
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        self.claim(into.len() as u64)?;
        let read = self.from.read_exact(into);
        read.map_err(|e| StudentError::File { offset: self.at, what: e.to_string() })?;
        self.at += into.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn count(&mut self, what: &str, cap: usize) -> Result<usize> {
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(n) if n <= cap => Ok(n),
            _ => Err(self.fault(format!("{count} {what}, at most {cap}"))),
        }
    }

    fn string(&mut self, cap: usize) -> Result<String> {
        let len = self.count("bytes of text", cap)?;
        self.claim(len as u64)?;
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.fault("text that is no UTF-8".to_owned()))
    }

    fn value(&mut self, kind: u32, arrays: bool) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => match self.bytes::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.fault(format!("truth value {other}"))),
            },
            8 => Value::String(self.string(MAX_META_STRING)?),
            9 if arrays => self.array()?,
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            9 => return Err(self.fault("an array of arrays".to_owned())),
            other => return Err(self.fault(format!("value type {other}"))),
        })
    }

    fn array(&mut self) -> Result<Value> {
        let kind = self.u32()?;
        let len = self.count("array entries", MAX_META_ELEMENTS - self.elements)?;
        // Every entry takes at least a byte: a count past the end of the file allocates nothing.
        self.claim(len as u64)?;
        self.elements += len;
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(self.value(kind, false)?);
        }
        Ok(Value::Array(values))
    }
}
