//! Values to the bytes of a type. Quantising is candle's; rows go to it in groups, so that memory stays small and both
//! cores work. The groups do not show in the bytes: blocks never span them.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::f16;
use rayon::prelude::*;

use super::error::ConvertError;
use super::gguf::Type;

/// Values that one task quantises at a time; a multiple of every block.
const GROUP: usize = 1 << 16;

/// Encodes whole blocks. `name` is for errors.
///
/// # Errors
/// [`ConvertError::Asked`] for broken blocks or a value beyond 16-bit floats, [`ConvertError::Quantise`].
pub fn encode(name: &str, kind: Type, values: &[f32]) -> Result<Vec<u8>, ConvertError> {
    let dtype = match kind {
        Type::F32 => return Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Type::F16 => return halves(name, values),
        Type::Q8_0 => GgmlDType::Q8_0,
        Type::Q4K => GgmlDType::Q4K,
        Type::Q6K => GgmlDType::Q6K,
    };
    let groups: Result<Vec<Vec<u8>>, candle_core::Error> = values
        .par_chunks(GROUP)
        .map(|group| {
            let tensor = Tensor::from_slice(group, group.len(), &Device::Cpu)?;
            Ok(QTensor::quantize(&tensor, dtype)?.data()?.into_owned())
        })
        .collect();
    let groups = groups.map_err(|source| ConvertError::Quantise { name: name.into(), source })?;
    Ok(groups.concat())
}

fn halves(name: &str, values: &[f32]) -> Result<Vec<u8>, ConvertError> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for v in values {
        let h = f16::from_f32(*v);
        if !h.is_finite() {
            return Err(ConvertError::Asked(format!("tensor {name}: {v} is beyond 16-bit floats; keep it at f32")));
        }
        bytes.extend(h.to_le_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_do_not_show() {
        let values: Vec<f32> = (0..3 * GROUP).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
        for (kind, dtype) in [(Type::Q8_0, GgmlDType::Q8_0), (Type::Q4K, GgmlDType::Q4K), (Type::Q6K, GgmlDType::Q6K)] {
            let whole = Tensor::from_slice(&values, (3, GROUP), &Device::Cpu).unwrap();
            let whole = QTensor::quantize(&whole, dtype).unwrap();
            assert_eq!(encode("t", kind, &values).unwrap(), whole.data().unwrap().as_ref());
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(encode("t", Type::F16, &[1e6]).unwrap_err().to_string().contains("tensor t: 1000000"));
        assert!(encode("t", Type::Q4K, &[0.0; 100]).is_err());
        assert_eq!(encode("t", Type::F32, &[1.0]).unwrap(), 1f32.to_le_bytes());
    }
}
