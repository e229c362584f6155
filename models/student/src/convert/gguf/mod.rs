//! GGUF version 3, the part of it that our model files use: types, values, a view of the header and a streaming writer.
//!
//! Terms: *entry*, one tensor's line in the header; dimensions are row-major here (`[rows, columns]`) and reversed on
//! disk, as the format wants. The reader keeps the order of the file. Nothing here quantises.

mod reader;
mod writer;

use candle_core::quantized::GgmlDType;

pub use reader::{Entry, Header};
pub(crate) use writer::hex;
pub use writer::{HASH_KEY, Planned, Writer, Written};

/// Tensor data begin at multiples of this many bytes.
pub const ALIGNMENT: u64 = 32;
/// First bytes of a GGUF.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version we write.
pub const VERSION: u32 = 3;

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 signed bytes under one scale.
    Q8_0,
    /// Blocks of 256 four-bit values, eight scales and minima of six bits.
    Q4K,
    /// Blocks of 256 six-bit values, sixteen scales of eight bits.
    Q6K,
}

impl Type {
    /// The type that candle calls so, if it is one of ours.
    pub(crate) fn from_ggml(kind: GgmlDType) -> Option<Self> {
        Some(match kind {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q6K => Self::Q6K,
            _ => return None,
        })
    }

    /// The format's number.
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q6K => 14,
        }
    }

    /// Values and bytes of one block (ggml's `block_q8_0`, `block_q4_K`, `block_q6_K`).
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a tensor, or `None` where its last dimension is no whole number of blocks or the size overflows.
    pub fn bytes(self, dims: &[usize]) -> Option<u64> {
        let (values, bytes) = self.block();
        if !dims.last()?.is_multiple_of(values) {
            return None;
        }
        let count = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
        (count / values as u64).checked_mul(bytes as u64)
    }

    /// The name that users see and that `--quantize` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Q6K => "q6_k",
        }
    }
}

/// A metadata value. Arrays of other kinds are skipped and only counted.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer up to 32 bits, written as u32.
    U32(u32),
    /// Any signed integer up to 32 bits, written as i32.
    I32(i32),
    /// A 64-bit unsigned integer.
    U64(u64),
    /// A 64-bit signed integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Str(String),
    /// Texts.
    Strs(Vec<String>),
    /// 32-bit floats.
    F32s(Vec<f32>),
    /// 32-bit integers.
    I32s(Vec<i32>),
    /// An array whose elements were not kept: how many there were.
    Skipped(usize),
}

impl Value {
    /// A text.
    pub fn str(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }
}

/// Rounds up to the alignment of tensor data.
fn aligned(n: u64) -> u64 {
    n.div_ceil(ALIGNMENT) * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_the_quantiser() {
        for (ours, theirs) in [
            (Type::F32, GgmlDType::F32),
            (Type::F16, GgmlDType::F16),
            (Type::Q8_0, GgmlDType::Q8_0),
            (Type::Q4K, GgmlDType::Q4K),
            (Type::Q6K, GgmlDType::Q6K),
        ] {
            assert_eq!(ours.block(), (theirs.block_size(), theirs.type_size()), "{}", ours.name());
            assert_eq!(Type::from_ggml(theirs), Some(ours));
        }
    }

    #[test]
    fn sizes_refuse_broken_blocks_and_overflow() {
        assert_eq!(Type::Q4K.bytes(&[2, 512]), Some(2 * 2 * 144));
        assert_eq!(Type::Q4K.bytes(&[2, 300]), None);
        assert_eq!(Type::F32.bytes(&[usize::MAX, 8]), None);
        assert_eq!(Type::F32.bytes(&[]), None);
    }
}
