//! Products with a weight matrix: dense, or quantised as the file has it.
//!
//! Terms: *n* is what comes out, *k* what goes in; weights stand n x k. Dense weights are f32 on the CPU (its f16
//! products are slower) and f16 elsewhere. Nothing is dequantised that the device can multiply quantised.

use std::sync::Arc;

use candle_core::{
    DType, Device, Module, Tensor,
    quantized::{GgmlDType, QMatMul, QTensor},
};

use crate::{
    error::{Place, Result},
    file::ModelFile,
};

/// Type of dense weights on a device.
#[must_use]
pub fn dense_type(device: &Device) -> DType {
    if device.is_cpu() { DType::F32 } else { DType::F16 }
}

#[derive(Clone, Debug)]
enum Weights {
    Dense(Tensor),
    Quantised(Arc<QTensor>, QMatMul),
}

impl Weights {
    fn load(file: &ModelFile, name: &str, n: usize, k: usize, device: &Device) -> Result<Self> {
        let tensor = file.tensor(name, &[n, k], device)?;
        match tensor.dtype() {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                let dense = tensor.dequantize(device).and_then(|t| t.to_dtype(dense_type(device)));
                Ok(Self::Dense(dense.place("dense weights")?))
            }
            _ => {
                let tensor = Arc::new(tensor);
                let product = QMatMul::from_arc(Arc::clone(&tensor)).place("quantised weights")?;
                Ok(Self::Quantised(tensor, product))
            }
        }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let kind = x.dtype();
        match self {
            Self::Dense(w) => x.to_dtype(w.dtype())?.matmul(&w.t()?)?.to_dtype(kind),
            Self::Quantised(_, product) => product.forward(&x.to_dtype(DType::F32)?)?.to_dtype(kind),
        }
    }
}

/// x W^T + b, rows of `k` to rows of `n`.
#[derive(Clone, Debug)]
pub struct Linear {
    weights: Weights,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `NAME.weight`, and `NAME.bias` where `bias` says so; the bias is held in `kind`, the type of the rows.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Tensor`] for what is missing or shaped otherwise.
    pub fn load(
        file: &ModelFile,
        name: &str,
        (n, k): (usize, usize),
        bias: bool,
        kind: DType,
        device: &Device,
    ) -> Result<Self> {
        let weights = Weights::load(file, &format!("{name}.weight"), n, k, device)?;
        let bias = if bias { Some(vector(file, &format!("{name}.bias"), n, kind, device)?) } else { None };
        Ok(Self { weights, bias })
    }

    /// Rows x k to rows x n, in the type of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.weights.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A vector of the file (norm weights, biases) in a type.
///
/// # Errors
/// [`crate::error::StudentError::Tensor`] if it is missing or shaped otherwise.
pub fn vector(file: &ModelFile, name: &str, n: usize, kind: DType, device: &Device) -> Result<Tensor> {
    let values = file.values(name, &[n])?;
    Tensor::from_vec(values, n, device).and_then(|t| t.to_dtype(kind)).place("vector to device")
}

/// The embedding, which is also the head where the model ties them: one copy of the weights for both.
#[derive(Clone, Debug)]
pub struct Table(Weights);

impl Table {
    /// Reads a tensor of `rows` x `width`.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Tensor`] if it is missing or shaped otherwise.
    pub fn load(file: &ModelFile, name: &str, rows: usize, width: usize, device: &Device) -> Result<Self> {
        Ok(Self(Weights::load(file, name, rows, width, device)?))
    }

    /// The rows of some tokens, f32.
    pub(crate) fn rows(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        match &self.0 {
            Weights::Dense(w) => w.index_select(ids, 0)?.to_dtype(DType::F32),
            Weights::Quantised(tensor, _) => tensor.embedding(ids),
        }
    }

    /// Rows x width to rows x tokens.
    pub(crate) fn logits(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(x)
    }
}
