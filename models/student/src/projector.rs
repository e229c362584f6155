//! The projector: vision tokens to the width of the language half. Linear, GELU by the error function, linear.

use candle_core::{DType, Device, Tensor};

use crate::{error::Result, file::ModelFile, linear::Linear};

/// Two layers, both with bias.
#[derive(Debug)]
pub struct Projector {
    first: Linear,
    second: Linear,
}

impl Projector {
    /// Reads `mm.0` and `mm.2`.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Tensor`] for what is missing or shaped otherwise.
    pub fn load(file: &ModelFile, vision: usize, text: usize, kind: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            first: Linear::load(file, "mm.0", (text, vision), true, kind, device)?,
            second: Linear::load(file, "mm.2", (text, text), true, kind, device)?,
        })
    }

    /// Rows x vision width to rows x text width.
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.gelu_erf()?)
    }
}
