//! Tensors of a model file, packed for the engine.

use candle_core::quantized::GgmlDType;

use super::linear::Linear;
use super::pack::{Matrix, Packed, Values};
use crate::{error::Result, file::ModelFile};

/// Packs `name`, shaped `rows` x `cols`, of any type that the file may hold.
///
/// # Errors
/// [`crate::error::StudentError::Tensor`] for what is missing or shaped otherwise.
pub(super) fn matrix(file: &ModelFile, name: &str, rows: usize, cols: usize) -> Result<Packed> {
    let kind = file.expect(name, &[rows, cols])?.kind;
    let pack = |values: Values<'_>| Packed::new(&Matrix { name, rows, cols, values });
    match kind {
        GgmlDType::Q8_0 => pack(Values::Q8(&file.bytes(name)?)),
        GgmlDType::Q4K => pack(Values::Q4K(&file.bytes(name)?)),
        GgmlDType::Q6K => pack(Values::Q6K(&file.bytes(name)?)),
        GgmlDType::F16 => pack(Values::F16(&file.bytes(name)?)),
        GgmlDType::BF16 => pack(Values::Bf16(&file.bytes(name)?)),
        GgmlDType::F32 => pack(Values::F32(&file.bytes(name)?)),
        _ => pack(Values::Floats(&file.values(name, &[rows, cols])?)),
    }
}

/// Layers of one input joined: `NAME.weight` of each, with `NAME.bias` where `bias` says so.
///
/// # Errors
/// As [`matrix`].
pub(super) fn linear(file: &ModelFile, names: &[(String, usize)], cols: usize, bias: bool) -> Result<Linear> {
    let mut parts = Vec::with_capacity(names.len());
    let mut biases = Vec::new();
    for (name, rows) in names {
        parts.push(matrix(file, &format!("{name}.weight"), *rows, cols)?);
        if bias {
            biases.extend(file.values(&format!("{name}.bias"), &[*rows])?);
        }
    }
    Linear::new(parts, biases)
}
