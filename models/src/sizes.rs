//! How large the tensors of an ONNX graph may be, asked before anything is computed: a graph of a few hundred bytes can want more memory
//! than there is, and where a library allocates it without asking, the process ends and no panic is there to be caught.
//!
//! Twice: in the file, for what constants alone say (tract folds constants while it reads), and in the facts that tract derives
//! (`reference`).

use crate::limits::{MAX_GRAPHS, MAX_TENSOR_VALUES};
use crate::pb;

/// Values of the largest tensor of a model with so many values of input: networks of this kind have up to seven times the input (a
/// first layer of half the resolution with 80 channels).
pub(crate) fn most(input: usize) -> usize {
    input.saturating_mul(64).clamp(1 << 20, MAX_TENSOR_VALUES)
}

/// Operators whose constant inputs say how large their output is.
const SIZED: [&str; 10] =
    ["ConstantOfShape", "EyeLike", "Expand", "OneHot", "Pad", "Range", "Reshape", "Resize", "Tile", "Upsample"];

/// What the file itself says.
///
/// # Errors
/// The node, and what it wants.
pub(crate) fn check_file(graph: &pb::GraphProto, most: usize) -> Result<(), String> {
    let mut graphs = vec![graph];
    let mut seen = 0;
    while let Some(graph) = graphs.pop() {
        seen += 1;
        if seen > MAX_GRAPHS {
            return Err(format!("more than {MAX_GRAPHS} graphs within each other"));
        }
        let of_nodes = graph.node.iter().filter(|n| n.op_type == "Constant").filter_map(|node| {
            let tensor = node.attribute.iter().find_map(|a| a.t.as_ref())?;
            Some((node.output.first()?.as_str(), tensor))
        });
        let constants: Vec<(&str, &pb::TensorProto)> =
            graph.initializer.iter().map(|t| (t.name.as_str(), t)).chain(of_nodes).collect();
        for (name, tensor) in &constants {
            let held = [
                tensor.raw_data.len(),
                tensor.float_data.len(),
                tensor.int32_data.len(),
                tensor.int64_data.len(),
                tensor.double_data.len(),
                tensor.uint64_data.len(),
                tensor.string_data.len(),
            ];
            let says = tensor.dims.iter().fold(1u64, |all, d| all.saturating_mul(d.unsigned_abs()));
            if says > held.into_iter().max().unwrap_or(0) as u64 {
                return Err(format!("constant {name:?} says that it has {says} values, and holds fewer"));
            }
        }
        for node in &graph.node {
            graphs.extend(node.attribute.iter().filter_map(|a| a.g.as_ref()));
            if !SIZED.contains(&node.op_type.as_str()) {
                continue;
            }
            for input in &node.input {
                let Some((_, tensor)) = constants.iter().find(|(name, _)| name == input) else { continue };
                let wants = numbers(tensor).fold(1.0, |all: f64, v| all * v.abs().max(1.0));
                if wants > most as f64 {
                    return Err(format!("{} {:?} wants {wants:.0} values, at most {most}", node.op_type, node.name));
                }
            }
        }
    }
    Ok(())
}

/// Numbers of a constant that could be a shape, in whatever type and layout.
fn numbers(t: &pb::TensorProto) -> impl Iterator<Item = f64> {
    // No tensor has more axes, and a shape of floats has two numbers for each.
    const AXES: usize = 16;
    let of_raw = |size: usize| t.raw_data.chunks_exact(size).take(AXES);
    let raw: Vec<f64> = match t.data_type {
        1 => of_raw(4).filter_map(|b| Some(f64::from(f32::from_le_bytes(b.try_into().ok()?)))).collect(),
        6 => of_raw(4).filter_map(|b| Some(f64::from(i32::from_le_bytes(b.try_into().ok()?)))).collect(),
        7 => of_raw(8).filter_map(|b| Some(i64::from_le_bytes(b.try_into().ok()?) as f64)).collect(),
        11 => of_raw(8).filter_map(|b| Some(f64::from_le_bytes(b.try_into().ok()?))).collect(),
        _ => Vec::new(),
    };
    let floats = t.float_data.iter().map(|v| f64::from(*v)).chain(t.double_data.iter().copied());
    let ints = t.int32_data.iter().map(|v| f64::from(*v)).chain(t.int64_data.iter().map(|v| *v as f64));
    let listed: Vec<f64> = floats.chain(ints).take(AXES).collect();
    // What is no number is none of a shape; tract refuses it by itself.
    raw.into_iter().chain(listed).filter(|v| v.is_finite())
}

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::net::tests::Graph;

    /// A picture made as large as constants say, and averaged.
    fn graph(op: &str, constant: &str, values: &[i64]) -> pb::ModelProto {
        let mut g = Graph::default();
        if constant == "scales" {
            g.floats(constant, &[values.len() as i64], values.iter().map(|v| *v as f32).collect());
            g.node(op, &["in", "", constant], "large", &[]);
        } else {
            g.integers(constant, &[values.len() as i64], values);
            g.node(op, &["in", constant], "large", &[]);
        }
        g.node("GlobalAveragePool", &["large"], "out", &[]);
        g.model([3, 32, 32], "out", &[1, 3, 1, 1])
    }

    fn outcome(model: &pb::ModelProto) -> Result<(), String> {
        check_file(model.graph.as_ref().unwrap(), most(3 * 32 * 32))?;
        crate::reference::settle(&model.encode_to_vec(), most(3 * 32 * 32), |_| Ok(()))
            .map(drop)
            .map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn what_a_constant_wants_is_asked_before_it_is_made() {
        let huge = 200_000;
        for (op, constant, values) in [
            ("Pad", "pads", &[0, 0, 0, 0, 0, 0, huge, huge][..]),
            ("Expand", "shape", &[1, 3, huge, huge]),
            ("Tile", "times", &[1, 1, huge, huge]),
            ("Resize", "scales", &[1, 1, huge, huge]),
            ("Reshape", "shape", &[1, 3, huge, huge]),
        ] {
            let why = outcome(&graph(op, constant, values)).unwrap_err();
            assert!(why.contains(&format!("{op} \"large\" wants ")), "{op}: {why}");
        }
        assert_eq!(outcome(&graph("Tile", "times", &[1, 1, 2, 2])), Ok(()));
        assert_eq!(outcome(&graph("Pad", "pads", &[0, 0, 1, 1, 0, 0, 1, 1])), Ok(()));
    }

    /// A little each, and together too much: only the derived shapes show it.
    #[test]
    fn sizes_that_grow_from_node_to_node_are_found_out() {
        let mut g = Graph::default();
        g.integers("times", &[4], &[1, 1, 30, 30]);
        g.node("Tile", &["in", "times"], "a", &[]);
        g.node("Tile", &["a", "times"], "b", &[]);
        g.node("GlobalAveragePool", &["b"], "out", &[]);
        let why = outcome(&g.model([3, 32, 32], "out", &[1, 3, 1, 1])).unwrap_err();
        assert!(why.contains("has the shape [1, 3, 960, 960]") || why.contains("[1, 3, 28800, 28800]"), "{why}");
    }

    #[test]
    fn a_constant_that_lies_and_graphs_without_end_are_refused() {
        let mut g = Graph::default();
        g.floats("w", &[1 << 40, 1 << 20], vec![1.0]);
        g.node("Add", &["in", "w"], "out", &[]);
        let why = outcome(&g.model([3, 32, 32], "out", &[1, 3, 32, 32])).unwrap_err();
        assert!(why.contains("\"w\" says that it has 1152921504606846976 values"), "{why}");
        let mut nested = pb::GraphProto::default();
        for _ in 0..=MAX_GRAPHS {
            let attribute = pb::AttributeProto { g: Some(nested), ..Default::default() };
            let node = pb::NodeProto { op_type: "If".to_owned(), attribute: vec![attribute], ..Default::default() };
            nested = pb::GraphProto { node: vec![node], ..Default::default() };
        }
        assert!(check_file(&nested, 1).unwrap_err().contains("graphs within each other"));
    }
}
