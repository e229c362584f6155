//! The model file: one GGUF with weights, tokenizer, preprocessing, prompts, codebook, calibration and licence.
//!
//! Terms: the *header* is everything before the tensors' data (metadata and the table of tensors); *dims* stand rows
//! first, as candle and PyTorch have them (GGUF stores them the other way round). A file may be hostile: counts, sizes
//! and offsets are checked before anything is allocated, and each fault names its byte, key or tensor. Reads a file
//! and never writes; checks no hash (`models verify` does).
//!
//! Format: ggml's docs/gguf.md, versions 2 and 3, little-endian.

mod header;
mod keys;

pub(crate) use header::read as read_header;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    sync::Mutex,
};

use candle_core::{
    Device,
    quantized::{GgmlDType, QTensor, ggml_file, gguf_file::Value},
};

use crate::{
    error::{Place, Result, StudentError},
    limits::MAX_TENSOR_BYTES,
};

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// How its values are stored.
    pub kind: GgmlDType,
    /// Rows first; the last is what the blocks run along.
    pub dims: Vec<usize>,
    /// First byte, from the begin of the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

impl TensorInfo {
    /// Values.
    #[must_use]
    pub fn values(&self) -> usize {
        self.dims.iter().product()
    }
}

/// An open model file whose header was read and checked.
#[derive(Debug)]
pub struct ModelFile {
    path: String,
    file: Mutex<File>,
    len: u64,
    data_start: u64,
    meta: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
    order: Vec<String>,
}

impl ModelFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`StudentError::Io`], [`StudentError::File`] or [`StudentError::Tensor`], naming the place.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let io = |source| StudentError::Io { path: name.clone(), source };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let header = header::read(&file, len)?;
        Ok(Self {
            path: name,
            file: Mutex::new(file),
            len,
            data_start: header.data_start,
            meta: header.meta.into_iter().collect(),
            tensors: header.tensors,
            order: header.order,
        })
    }

    /// All metadata.
    #[must_use]
    pub fn meta(&self) -> &BTreeMap<String, Value> {
        &self.meta
    }

    /// Names of the tensors in the order of the table.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The table's entry of a tensor.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes (it could not have been opened then).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// First byte of the tensors' data.
    #[must_use]
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Parameters: values of all tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|info| info.values() as u64).sum()
    }

    /// The table's entry of a tensor that must be there, with these dims.
    ///
    /// # Errors
    /// [`StudentError::Tensor`] if it is missing or shaped otherwise.
    pub fn expect(&self, name: &str, dims: &[usize]) -> Result<&TensorInfo> {
        let fault = |what: String| StudentError::Tensor { name: name.to_owned(), what };
        let info = self.tensors.get(name).ok_or_else(|| fault("missing".to_owned()))?;
        if info.dims != dims {
            return Err(fault(format!("shaped {:?}, expected {dims:?}", info.dims)));
        }
        Ok(info)
    }

    /// The bytes of a tensor as they stand in the file.
    ///
    /// # Errors
    /// [`StudentError::Tensor`] if it is missing or past the cap, [`StudentError::Io`].
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let fault = |what: String| StudentError::Tensor { name: name.to_owned(), what };
        let info = self.tensors.get(name).ok_or_else(|| fault("missing".to_owned()))?;
        if info.bytes > MAX_TENSOR_BYTES {
            return Err(fault(format!("{} bytes, at most {MAX_TENSOR_BYTES}", info.bytes)));
        }
        let size = usize::try_from(info.bytes).map_err(|_| fault("larger than memory".to_owned()))?;
        let io = |source| StudentError::Io { path: self.path.clone(), source };
        let mut bytes = vec![0; size];
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(info.offset)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    /// A tensor as candle holds it, on a device.
    ///
    /// # Errors
    /// As [`ModelFile::expect`] and [`ModelFile::bytes`]; [`StudentError::Compute`] where the device has no room.
    pub fn tensor(&self, name: &str, dims: &[usize], device: &Device) -> Result<QTensor> {
        let info = self.expect(name, dims)?;
        let bytes = self.bytes(name)?;
        ggml_file::qtensor_from_ggml(info.kind, &bytes, dims.to_vec(), device).place("tensor to device")
    }

    /// A tensor's values in f32, rows first.
    ///
    /// # Errors
    /// As [`ModelFile::tensor`].
    pub fn values(&self, name: &str, dims: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.tensor(name, dims, &Device::Cpu)?;
        let values = tensor.dequantize(&Device::Cpu).and_then(|t| t.flatten_all()?.to_vec1());
        values.place("tensor to f32")
    }
}
