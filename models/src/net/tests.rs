//! The lowered network against tract on small graphs made here.

use prost::Message as _;
use tract_onnx::prelude::*;

use super::lower::lower;
use crate::pb;

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut s = seed;
    (0..count)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// A graph in the making.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) graph: pb::GraphProto,
}

fn info(name: &str, dims: &[i64]) -> pb::ValueInfoProto {
    let dim = dims.iter().map(|d| pb::Dimension { dim_value: Some(*d) }).collect();
    let tensor = pb::TypeOfTensor { elem_type: 1, shape: Some(pb::TensorShapeProto { dim }) };
    pb::ValueInfoProto { name: name.into(), r#type: Some(pb::TypeProto { tensor_type: Some(tensor) }) }
}

impl Graph {
    pub(crate) fn floats(&mut self, name: &str, dims: &[i64], data: Vec<f32>) {
        let t = pb::TensorProto {
            name: name.into(),
            dims: dims.into(),
            data_type: 1,
            float_data: data,
            ..Default::default()
        };
        self.graph.initializer.push(t);
    }

    pub(crate) fn integers(&mut self, name: &str, dims: &[i64], data: &[i64]) {
        let t = pb::TensorProto {
            name: name.into(),
            dims: dims.into(),
            data_type: 7,
            int64_data: data.into(),
            ..Default::default()
        };
        self.graph.initializer.push(t);
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) {
        let attribute = attributes
            .iter()
            .map(|(name, v)| match v {
                [i] => pb::AttributeProto { name: (*name).into(), r#type: 2, i: *i, ..Default::default() },
                _ => pb::AttributeProto { name: (*name).into(), r#type: 7, ints: v.to_vec(), ..Default::default() },
            })
            .collect();
        self.graph.node.push(pb::NodeProto {
            op_type: op.into(),
            name: output.into(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..Default::default()
        });
    }

    fn conv(&mut self, input: &str, output: &str, [o, c, k]: [i64; 3], group: i64, stride: i64) {
        let (w, b) = (format!("{output}.w"), format!("{output}.b"));
        self.floats(&w, &[o, c / group, k, k], noise((o * c / group * k * k) as usize, (o * 31 + k) as u32));
        self.floats(&b, &[o], noise(o as usize, 7));
        let p = k / 2;
        let attributes: [(&str, &[i64]); 4] =
            [("group", &[group]), ("kernel_shape", &[k, k]), ("strides", &[stride, stride]), ("pads", &[p, p, p, p])];
        self.node("Conv", &[input, &w, &b], output, &attributes);
    }

    fn text(&mut self, name: &str, value: &str) {
        let a = pb::AttributeProto { name: name.into(), r#type: 3, s: value.into(), ..Default::default() };
        self.graph.node.last_mut().unwrap().attribute.push(a);
    }

    /// With an input and an output.
    pub(crate) fn model(mut self, [c, h, w]: [usize; 3], output: &str, shape: &[i64]) -> pb::ModelProto {
        self.graph.input.push(info("in", &[1, c as i64, h as i64, w as i64]));
        self.graph.output.push(info(output, shape));
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: 11 };
        pb::ModelProto { ir_version: 6, opset_import: vec![opset], graph: Some(self.graph) }
    }

    /// Largest difference between the lowered network and tract, or why it is not lowered.
    fn compare(self, [c, h, w]: [usize; 3], output: &str, shape: &[i64]) -> Result<f32, String> {
        let model = self.model([c, h, w], output, shape);
        let image = noise(c * h * w, 99);
        let mut program = lower(&model, c, h, w).map_err(|e| e.0)?;
        let mut ours = vec![0.0; program.output_len()];
        // Twice: the second run must not see what the first left behind.
        program.run(&noise(c * h * w, 5));
        program.run(&image);
        program.write_output(&mut ours);
        let plan = tract_onnx::onnx().model_for_read(&mut &*model.encode_to_vec()).unwrap().into_optimized().unwrap();
        let input = Tensor::from_shape(&[1, c, h, w], &image).unwrap();
        let theirs = plan.into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
        let plain = theirs[0].try_as_plain_ram().unwrap();
        let theirs = plain.as_slice::<f32>().unwrap();
        assert_eq!(theirs.len(), ours.len());
        Ok(ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
    }
}

#[test]
fn convolutions_of_all_kinds_and_sizes_equal_tracts() {
    for (h, w) in [(5, 7), (11, 11), (22, 22), (17, 45), (40, 70)] {
        for (k, stride) in [(1, 1), (3, 1), (3, 2), (5, 1)] {
            for (o, c, group) in [(7, 3, 1), (12, 12, 1), (6, 6, 6)] {
                let mut g = Graph::default();
                g.conv("in", "a", [o, c, k], group, stride);
                g.node("Relu", &["a"], "out", &[]);
                let [h1, w1] = [h, w].map(|v: i64| (v - 1) / stride + 1);
                let d = g.compare([c as usize, h as usize, w as usize], "out", &[1, o, h1, w1]);
                assert!(d.as_ref().is_ok_and(|d| *d < 1e-4), "{h}x{w} kernel {k}/{stride} {o},{c},{group}: {d:?}");
            }
        }
    }
}

#[test]
fn a_shuffle_block_with_pools_and_softmax_equals_tracts() {
    let mut g = Graph::default();
    g.conv("in", "a", [8, 3, 3], 1, 2);
    g.node("Relu", &["a"], "ar", &[]);
    g.node("MaxPool", &["ar"], "p", &[("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])]);
    g.integers("s3", &[3], &[4, 2, 15 * 11]);
    g.integers("s5", &[5], &[2, 1, 4, 15, 11]);
    g.integers("zero", &[], &[0]);
    g.integers("one", &[], &[1]);
    g.node("Reshape", &["p", "s3"], "r1", &[]);
    g.node("Transpose", &["r1"], "r2", &[("perm", &[1, 0, 2])]);
    g.node("Reshape", &["r2", "s5"], "r3", &[]);
    g.node("Gather", &["r3", "zero"], "x0", &[("axis", &[0])]);
    g.node("Gather", &["r3", "one"], "x1", &[("axis", &[0])]);
    g.conv("x1", "b", [4, 4, 3], 4, 1);
    g.conv("b", "c", [4, 4, 1], 1, 1);
    g.node("Add", &["x0", "c"], "d", &[]);
    g.node("Relu", &["d"], "dr", &[]);
    g.node("Concat", &["x0", "dr"], "e", &[("axis", &[1])]);
    g.node("MaxPool", &["e"], "m5", &[("kernel_shape", &[5, 5]), ("strides", &[1, 1]), ("pads", &[2, 2, 2, 2])]);
    g.node("MaxPool", &["e"], "m9", &[("kernel_shape", &[9, 9]), ("strides", &[1, 1]), ("pads", &[4, 4, 4, 4])]);
    g.node("Concat", &["e", "m5", "m9"], "f", &[("axis", &[1])]);
    g.conv("f", "h", [9, 24, 1], 1, 1);
    g.node("Transpose", &["h"], "t1", &[("perm", &[0, 3, 2, 1])]);
    g.node("Softmax", &["t1"], "t2", &[("axis", &[3])]);
    g.node("Transpose", &["t2"], "out", &[("perm", &[0, 3, 2, 1])]);
    let d = g.compare([3, 60, 44], "out", &[1, 9, 15, 11]);
    assert!(d.as_ref().is_ok_and(|d| *d < 1e-4), "{d:?}");
}

#[test]
fn space_to_depth_silu_and_joined_levels_equal_tracts() {
    let mut g = Graph::default();
    for (name, v) in [("0", 0), ("1", 1), ("2", 2), ("3", 3), ("end", i64::MAX)] {
        g.integers(name, &[1], &[v]);
    }
    let mut parts = Vec::new();
    for (y, x) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (rows, both) = (format!("r{y}{x}"), format!("p{y}{x}"));
        g.node("Slice", &["in", &y.to_string(), "end", "2", "2"], &rows, &[]);
        g.node("Slice", &[&rows, &x.to_string(), "end", "3", "2"], &both, &[]);
        parts.push(both);
    }
    g.node("Concat", &parts.iter().map(String::as_str).collect::<Vec<_>>(), "a", &[("axis", &[1])]);
    g.conv("a", "b", [6, 12, 3], 1, 1);
    g.node("Sigmoid", &["b"], "bs", &[]);
    g.node("Mul", &["b", "bs"], "c", &[]);
    g.conv("c", "d", [6, 6, 3], 1, 2);
    g.node("Sigmoid", &["d"], "ds", &[]);
    g.floats("none", &[0], vec![]);
    g.floats("two", &[4], vec![1.0, 1.0, 2.0, 2.0]);
    g.node("Resize", &["ds", "none", "two"], "u", &[]);
    g.text("mode", "nearest");
    g.text("nearest_mode", "floor");
    g.text("coordinate_transformation_mode", "asymmetric");
    g.node("Add", &["u", "c"], "v", &[]);
    g.integers("s1", &[3], &[1, 6, -1]);
    g.node("Reshape", &["v", "s1"], "j1", &[]);
    g.node("Reshape", &["ds", "s1"], "j2", &[]);
    g.node("Concat", &["j1", "j2"], "j", &[("axis", &[2])]);
    g.node("Transpose", &["j"], "out", &[("perm", &[0, 2, 1])]);
    let d = g.compare([3, 40, 56], "out", &[1, 20 * 28 + 10 * 14, 6]);
    assert!(d.as_ref().is_ok_and(|d| *d < 1e-4), "{d:?}");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let mut g = Graph::default();
    g.conv("in", "a", [4, 3, 3], 1, 1);
    g.node("Elu", &["a"], "out", &[]);
    assert_eq!(g.compare([3, 8, 8], "out", &[1, 4, 8, 8]), Err("node Elu (out): operator is not known".into()));
    let mut g = Graph::default();
    g.conv("in", "a", [4, 4, 3], 2, 1);
    assert_eq!(g.compare([4, 8, 8], "a", &[1, 4, 8, 8]), Err("node Conv (a): grouped convolution".into()));
}

/// Asked before tables are made, which no tract has looked at where there is none.
#[test]
fn what_takes_too_much_is_refused_before_it_is_made() {
    let lowered = |g: Graph, sides: [usize; 3], output: &str| {
        let [c, h, w] = sides;
        lower(&g.model(sides, output, &[1, 1, 1, 1]), c, h, w).map(drop).map_err(|e| e.0)
    };
    // Twice the planes with each node.
    let mut g = Graph::default();
    for i in 0..40 {
        let (from, to) = (if i == 0 { "in".to_owned() } else { format!("n{i}") }, format!("n{}", i + 1));
        g.node("Concat", &[&from, &from], &to, &[("axis", &[1])]);
    }
    assert_eq!(lowered(g, [3, 8, 8], "n40"), Err("more than 16777216 entries of tables".into()));
    // Large values that all live at once.
    let mut g = Graph::default();
    let names: Vec<String> = (0..64).map(|i| format!("p{i}")).collect();
    for name in &names {
        let k = &[("kernel_shape", &[2, 2][..]), ("strides", &[1, 1]), ("pads", &[0; 4])];
        g.node("MaxPool", &["in"], name, k);
    }
    g.node("Concat", &names.iter().map(String::as_str).collect::<Vec<_>>(), "out", &[("axis", &[1])]);
    let why = lowered(g, [3, 1280, 1280], "out").unwrap_err();
    assert!(why.starts_with("its values take ") && why.ends_with("at most 67108864"), "{why}");
    // More products than any unit has time for.
    let mut g = Graph::default();
    g.conv("in", "c0", [200, 3, 3], 1, 1);
    g.conv("c0", "c1", [200, 200, 7], 1, 1);
    let why = lowered(g, [3, 512, 512], "c1").unwrap_err();
    assert_eq!(why, "more than 17179869184 products a picture");
    // A shape of more numbers than a tensor has axes.
    let mut g = Graph::default();
    g.integers("shape", &[17], &[1; 17]);
    g.node("Reshape", &["in", "shape"], "out", &[]);
    assert_eq!(lowered(g, [3, 8, 8], "out"), Err("node Reshape (out): a shape of more than 16 numbers".into()));
}
