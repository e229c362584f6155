//! The network of a risk head, computed by itself: two layers on each slot, the maximum over the slots, a gated recurrent
//! unit, and two probabilities (`RiskHead` in `models/train/risk/train.py`).
//!
//! Why it exists: a step is 120,000 products, which tract's plan does in good time too, but through code that lies all over
//! the program, so that megabytes of it stay resident in the daemon for that alone. As with the detector's network (`net`),
//! tract stays the reference and the fallback: a graph of other nodes, or one that says something else on a probe, runs under
//! tract.

use crate::net::attributes::{Constant, constant, int};
use crate::pb;
use agent_core::vision::{GLOBAL_FEATURES, RISK_SLOTS, RiskFeatures, SLOT_FEATURES};

/// What the graph has besides constants, in its order; the wiring between them is what the probe is for.
const NODES: &str = "MatMul Add Relu MatMul Add Relu Unsqueeze Mul ReduceMax Concat Gemm Relu Concat Gemm Sigmoid \
    Shape Gather Add Div Mul Slice Mul Slice Mul Concat Gemm Tanh Mul Sub Mul Add Concat Gemm Sigmoid";

/// A layer: `out[j] = bias[j] + sum of input[i] * weights[i][j]`.
#[derive(Debug)]
struct Dense {
    /// One row of outputs for each input.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    /// Of weights `[inputs, outputs]`.
    fn by_input(weights: Constant, bias: &Constant) -> Option<Self> {
        let [inputs, outputs] = weights.dims[..] else { return None };
        let whole = weights.floats.len() == inputs * outputs && bias.floats.len() == outputs && outputs > 0;
        (whole && bias.dims == [outputs]).then(|| Self { weights: weights.floats, bias: bias.floats.clone() })
    }

    /// Of weights `[outputs, inputs]`.
    fn by_output(weights: &Constant, bias: &Constant) -> Option<Self> {
        let [outputs, inputs] = weights.dims[..] else { return None };
        let mut turned = vec![0.0; weights.floats.len()];
        for (j, row) in weights.floats.chunks_exact(inputs.max(1)).enumerate() {
            for (i, w) in row.iter().enumerate() {
                *turned.get_mut(i * outputs + j)? = *w;
            }
        }
        Self::by_input(Constant { dims: vec![inputs, outputs], floats: turned, ints: Vec::new() }, bias)
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }

    fn inputs(&self) -> usize {
        self.weights.len() / self.bias.len()
    }

    /// `input` in two parts, one after the other.
    fn apply(&self, input: [&[f32]; 2], out: &mut [f32]) {
        out.copy_from_slice(&self.bias);
        let rows = self.weights.chunks_exact(self.bias.len());
        for (x, row) in input.into_iter().flatten().zip(rows) {
            for (to, w) in out.iter_mut().zip(row) {
                *to += x * w;
            }
        }
    }
}

fn relu(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = v.max(0.0));
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

/// The network, with memory for one step.
#[derive(Debug)]
pub(crate) struct Cell {
    slot: [Dense; 2],
    join: Dense,
    gates: Dense,
    candidate: Dense,
    out: Dense,
    inner: Vec<f32>,
    track: Vec<f32>,
    tracks: Vec<f32>,
    joined: Vec<f32>,
    gate: Vec<f32>,
    fresh: Vec<f32>,
    reset: Vec<f32>,
}

impl Cell {
    /// The network of a graph whose state has so many values; nothing if the graph is not of this form.
    pub(crate) fn read(graph: &pb::GraphProto, state: usize) -> Option<Self> {
        let nodes: Vec<&pb::NodeProto> = graph.node.iter().filter(|n| n.op_type != "Constant").collect();
        let plain = nodes.iter().all(|n| n.is_of_onnx());
        if !plain || !nodes.iter().map(|n| n.op_type.as_str()).eq(NODES.split(' ')) {
            return None;
        }
        let kept = |name: &str| graph.initializer.iter().find(|t| t.name == name).and_then(constant);
        let input = |node: &pb::NodeProto, i: usize| kept(node.input.get(i)?);
        let mut products = nodes.windows(2).filter(|pair| pair[0].op_type == "MatMul").map(|pair| {
            let bias = input(pair[1], 0).or_else(|| input(pair[1], 1))?;
            Dense::by_input(input(pair[0], 1)?, &bias)
        });
        let slot = [products.next()??, products.next()??];
        let mut layers = nodes.iter().filter(|n| n.op_type == "Gemm").map(|node| {
            let (weights, bias) = (input(node, 1)?, input(node, 2)?);
            (int(node, "transB", 0) == 1).then(|| Dense::by_output(&weights, &bias))?
        });
        let (join, gates, candidate, out) = (layers.next()??, layers.next()??, layers.next()??, layers.next()??);
        drop((products, layers));
        let (track, joined) = (slot[1].outputs(), join.outputs());
        let fits = [
            (&slot[0], SLOT_FEATURES, slot[0].outputs()),
            (&slot[1], slot[0].outputs(), track),
            (&join, track + GLOBAL_FEATURES, joined),
            (&gates, joined + state, 2 * state),
            (&candidate, joined + state, state),
            (&out, joined + state, 2),
        ];
        if fits.iter().any(|(layer, inputs, outputs)| layer.inputs() != *inputs || layer.outputs() != *outputs) {
            return None;
        }
        let nothing = |n: usize| vec![0.0; n];
        Some(Self {
            inner: nothing(slot[0].outputs()),
            track: nothing(track),
            tracks: nothing(track),
            joined: nothing(joined),
            gate: nothing(2 * state),
            fresh: nothing(state),
            reset: nothing(state),
            slot,
            join,
            gates,
            candidate,
            out,
        })
    }

    /// One step: the state becomes the next one; gives the two probabilities.
    pub(crate) fn step(&mut self, f: &RiskFeatures, state: &mut [f32]) -> [f32; 2] {
        let Self { slot: [first, second], join, gates, candidate, out, inner, track, tracks, .. } = self;
        // What ReLU leaves is at least 0, and so are the slots that hold nothing.
        tracks.fill(0.0);
        for values in f.slots.iter().take(f.count.min(RISK_SLOTS)) {
            first.apply([values, &[]], inner);
            relu(inner);
            second.apply([inner, &[]], track);
            tracks.iter_mut().zip(&*track).for_each(|(most, v)| *most = most.max(*v));
        }
        join.apply([tracks, &f.global], &mut self.joined);
        relu(&mut self.joined);
        let Self { joined, gate, fresh, reset, .. } = self;
        gates.apply([joined, state], gate);
        gate.iter_mut().for_each(|v| *v = sigmoid(*v));
        let (keep, kept) = gate.split_at(state.len());
        for ((to, k), s) in reset.iter_mut().zip(kept).zip(&*state) {
            *to = k * s;
        }
        candidate.apply([joined, reset], fresh);
        for ((s, k), v) in state.iter_mut().zip(keep).zip(&*fresh) {
            *s = k * *s + (1.0 - k) * v.tanh();
        }
        let mut risk = [0.0; 2];
        out.apply([joined, state], &mut risk);
        risk.map(sigmoid)
    }
}
