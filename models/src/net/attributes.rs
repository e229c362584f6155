//! Constants and attributes of ONNX nodes, read without trusting them: what is not of the expected type or size is absent.

use crate::pb;

pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) floats: Vec<f32>,
    pub(crate) ints: Vec<i64>,
}

pub(crate) fn constant(t: &pb::TensorProto) -> Option<Constant> {
    let dims: Vec<usize> = t.dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>()?;
    let (mut floats, mut ints) = (t.float_data.clone(), t.int64_data.clone());
    match t.data_type {
        1 if floats.is_empty() => {
            floats = t.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        }
        7 if ints.is_empty() => {
            ints = t.raw_data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
        }
        1 | 7 => {}
        _ => return None,
    }
    let count = dims.iter().try_fold(1usize, |a, d| a.checked_mul(*d))?;
    (count == floats.len().max(ints.len())).then_some(Constant { dims, floats, ints })
}

pub(crate) fn ints(node: &pb::NodeProto, name: &str) -> Option<Vec<usize>> {
    let a = node.attribute.iter().find(|a| a.name == name)?;
    a.ints.iter().map(|i| usize::try_from(*i).ok()).collect()
}

pub(crate) fn int(node: &pb::NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i)
}

pub(crate) fn text<'a>(node: &'a pb::NodeProto, name: &str) -> &'a [u8] {
    node.attribute.iter().find(|a| a.name == name).map_or(&[], |a| &a.s)
}
