//! From an ONNX graph to the steps of a [`Program`].
//!
//! Each value of the graph is a list of planes (symbolic addresses) with a logical shape around it. Operators that
//! only rearrange channels rearrange the list; operators that compute append a step. Activations and additions are
//! folded into the step that made their input when nothing else reads it.
//!
//! An operator or attribute outside this set is [`Unsupported`], never approximated, and so is what takes too much.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::attributes::{Constant, constant, int, ints, text};
use super::kernels::{Act, BLOCK, Combine, Filter, Window};
use super::layout::{address, buffer, place, plane_stride};
use super::{Kind, Part, Program, Step};
use crate::limits::{MAX_ARENA_FLOATS, MAX_NODES, MAX_PRODUCTS, MAX_TABLES};
use crate::pb;

/// Why a graph is not lowered: the node and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported(pub(crate) String);

type Lowered<T> = Result<T, Unsupported>;

fn no<T>(node: &pb::NodeProto, why: &str) -> Lowered<T> {
    let output = node.output.first().map_or("", String::as_str);
    Err(Unsupported(format!("node {} ({output}): {why}", node.op_type)))
}

/// Planes with a logical shape: `lead` dimensions enumerate the planes; then come rows and columns, or their product.
#[derive(Clone, Debug)]
struct Map {
    lead: Vec<usize>,
    flat: bool,
    planes: Vec<usize>,
    h: usize,
    w: usize,
    row_stride: usize,
    col_stride: usize,
    /// Zeros around it that are not stored: top, left, bottom, right.
    pad: [usize; 4],
    /// Whether the logical order is N, W, H, C.
    turned: bool,
}

impl Map {
    fn plain(planes: Vec<usize>, h: usize, w: usize) -> Self {
        let lead = vec![1, planes.len()];
        Self { lead, flat: false, planes, h, w, row_stride: w, col_stride: 1, pad: [0; 4], turned: false }
    }

    fn is_image(&self) -> bool {
        self.lead.len() == 2 && self.lead.first() == Some(&1) && !self.flat && !self.turned
    }

    fn is_dense(&self) -> bool {
        self.is_image() && self.row_stride == self.w && self.col_stride == 1 && self.pad == [0; 4]
    }
}

#[derive(Clone, Debug)]
enum Value {
    Map(Map),
    /// The sigmoid of the named value, not computed yet.
    SigmoidOf(String),
    /// Maps joined along their pixels; whether pixels come before channels.
    Joined(Vec<Map>, bool),
}

struct Lowering<'a> {
    constants: BTreeMap<&'a str, Constant>,
    values: BTreeMap<String, Value>,
    uses: BTreeMap<&'a str, usize>,
    steps: Vec<Step>,
    /// Floats of each buffer, and the step that fills it (the input: none).
    buffers: Vec<(usize, Option<usize>)>,
    /// Earlier pools of the same input: input name, kernel, output name.
    pools: Vec<(String, usize, String)>,
    /// Entries of tables and products so far: a file of a few hundred bytes can double its planes with every node.
    entries: Cell<usize>,
    products: Cell<usize>,
}

/// Lowers `model`, whose one input is an image of `[1, channels, height, width]`.
pub(crate) fn lower(model: &pb::ModelProto, channels: usize, height: usize, width: usize) -> Lowered<Program> {
    let graph = model.graph.as_ref().ok_or_else(|| Unsupported("no graph".into()))?;
    if graph.node.len() > MAX_NODES {
        return Err(Unsupported(format!("{} nodes, at most {MAX_NODES}", graph.node.len())));
    }
    let constants: BTreeMap<&str, Constant> =
        graph.initializer.iter().filter_map(|t| Some((t.name.as_str(), constant(t)?))).collect();
    let names: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).filter(|n| !constants.contains_key(n)).collect();
    let ([input], [output]) = (names.as_slice(), graph.output.as_slice()) else {
        return Err(Unsupported("not one input and one output".into()));
    };
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for name in graph.node.iter().flat_map(|n| &n.input).chain([&output.name]) {
        *uses.entry(name.as_str()).or_default() += 1;
    }
    let mut l = Lowering {
        constants,
        values: BTreeMap::new(),
        uses,
        steps: Vec::new(),
        buffers: Vec::new(),
        pools: Vec::new(),
        entries: Cell::new(0),
        products: Cell::new(0),
    };
    let mut inputs = l.buffer(channels, height * width, None)?;
    l.values.insert((*input).to_owned(), Value::Map(Map::plain(inputs.clone(), height, width)));
    for node in &graph.node {
        let value = l.node(node)?;
        let Some(name) = node.output.first() else { return no(node, "no output") };
        l.values.insert(name.clone(), value);
    }
    let (maps, pixel_major) = match l.values.remove(&output.name) {
        Some(Value::Map(m)) if m.is_dense() => (vec![m], false),
        Some(Value::Joined(maps, pixel_major)) => (maps, pixel_major),
        _ => return Err(Unsupported(format!("output {} is not planes", output.name))),
    };
    let mut parts: Vec<Part> = maps.into_iter().map(|m| Part { pixels: m.h * m.w, planes: m.planes }).collect();
    let sizes: Vec<usize> = l.buffers.iter().map(|b| b.0).collect();
    let floats = place(&sizes, &mut l.steps, &mut inputs, &mut parts);
    if floats > MAX_ARENA_FLOATS {
        return Err(Unsupported(format!("its values take {floats} floats at once, at most {MAX_ARENA_FLOATS}")));
    }
    Ok(Program::new(l.steps, inputs, height * width, parts, pixel_major, floats))
}

impl<'a> Lowering<'a> {
    /// Counts what a network takes against its limit.
    fn spend(counter: &Cell<usize>, more: usize, most: usize, what: &str) -> Lowered<()> {
        counter.set(counter.get().saturating_add(more));
        if counter.get() > most { Err(Unsupported(format!("more than {most} {what}"))) } else { Ok(()) }
    }

    /// Counts entries of tables.
    fn enter(&self, more: usize) -> Lowered<()> {
        Self::spend(&self.entries, more, MAX_TABLES, "entries of tables")
    }

    /// Counts a kernel's products for so many pixels, and its weights among the tables.
    fn enter_weights(&self, weights: usize, pixels: usize) -> Lowered<()> {
        self.enter(weights)?;
        Self::spend(&self.products, weights.saturating_mul(pixels), MAX_PRODUCTS, "products a picture")
    }

    /// A new buffer of `count` planes; its addresses.
    fn buffer(&mut self, count: usize, pixels: usize, step: Option<usize>) -> Lowered<Vec<usize>> {
        let stride = plane_stride(pixels);
        let id = self.buffers.len();
        if count.saturating_mul(stride) > MAX_ARENA_FLOATS {
            return Err(Unsupported(format!("a value of {count} planes of {pixels} pixels is too large")));
        }
        self.enter(count)?;
        self.buffers.push((count * stride, step));
        Ok((0..count).map(|c| address(id, c * stride)).collect())
    }

    /// Appends a step with an output of its own.
    fn step(&mut self, kind: Kind, src: Vec<usize>, outputs: usize, h: usize, w: usize) -> Lowered<Value> {
        let dst = self.buffer(outputs, h * w, Some(self.steps.len()))?;
        self.steps.push(Step { kind, src, dst: dst.clone() });
        Ok(Value::Map(Map::plain(dst, h, w)))
    }

    fn map(&self, node: &pb::NodeProto, i: usize) -> Lowered<Map> {
        match node.input.get(i).and_then(|n| self.values.get(n)) {
            Some(Value::Map(m)) => self.enter(m.planes.len()).map(|()| m.clone()),
            _ => no(node, "input is not planes"),
        }
    }

    fn dense_map(&self, node: &pb::NodeProto, i: usize) -> Lowered<Map> {
        let m = self.map(node, i)?;
        if m.is_dense() { Ok(m) } else { no(node, "input is rearranged") }
    }

    fn constant(&self, node: &pb::NodeProto, i: usize) -> Lowered<&Constant> {
        match node.input.get(i).and_then(|n| self.constants.get(n.as_str())) {
            Some(c) => Ok(c),
            None => no(node, "operand is not a constant"),
        }
    }

    /// The integers of a constant: a shape, pads or bounds, of which no tensor has more.
    fn integers(&self, node: &pb::NodeProto, i: usize) -> Lowered<Vec<i64>> {
        let all = &self.constant(node, i)?.ints;
        if all.len() > 16 { no(node, "a shape of more than 16 numbers") } else { Ok(all.clone()) }
    }

    fn uses_of(&self, name: &str) -> usize {
        self.uses.get(name).copied().unwrap_or(0)
    }

    /// The step that makes exactly this value, if one does.
    fn producer(&self, m: &Map) -> Option<usize> {
        let first = buffer(*m.planes.first()?);
        let step = self.buffers.get(first)?.1?;
        (self.steps.get(step)?.dst == m.planes && m.is_dense()).then_some(step)
    }

    fn node(&mut self, node: &'a pb::NodeProto) -> Lowered<Value> {
        if !node.is_of_onnx() {
            return no(node, "operator of another domain");
        }
        match node.op_type.as_str() {
            "Conv" => self.conv(node),
            "Relu" => self.activation(node, Act::Relu),
            "Sigmoid" => self.sigmoid(node),
            "Mul" => self.mul(node),
            "Add" => self.add(node),
            "Concat" => self.concat(node),
            "Reshape" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Gather" => self.gather(node),
            "Slice" => self.slice(node),
            "Pad" => self.pad(node),
            "MaxPool" | "AveragePool" => self.pool(node),
            "Resize" => self.resize(node),
            "Softmax" => self.softmax(node),
            _ => no(node, "operator is not known"),
        }
    }

    /// Puts `act` on the step that made `m`, if it has none yet; the caller checks that nothing else reads `m`.
    fn fold(&mut self, m: &Map, act: Act) -> bool {
        let Some(step) = self.producer(m).and_then(|i| self.steps.get_mut(i)) else { return false };
        let slot = match &mut step.kind {
            Kind::Pointwise { filter, .. } | Kind::Dense { filter, .. } => {
                if filter.residual.is_empty() {
                    &mut filter.act
                } else {
                    &mut filter.after
                }
            }
            Kind::PerChannel { act, .. } | Kind::Add { act, .. } => act,
            _ => return false,
        };
        let free = *slot == Act::None;
        if free {
            *slot = act;
        }
        free
    }

    fn activation(&mut self, node: &pb::NodeProto, act: Act) -> Lowered<Value> {
        let m = self.map(node, 0)?;
        let single = node.input.first().is_some_and(|n| self.uses_of(n) == 1);
        if single && self.fold(&m, act) { Ok(Value::Map(m)) } else { no(node, "activation stands alone") }
    }

    fn sigmoid(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let name = node.input.first().cloned().unwrap_or_default();
        if self.uses_of(&name) == 1 {
            return self.activation(node, Act::Sigmoid);
        }
        Ok(Value::SigmoidOf(name))
    }

    /// Only x * sigmoid(x), with no other reader of either.
    fn mul(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let [a, b] = node.input.as_slice() else { return no(node, "not two inputs") };
        for (x, gate) in [(a, b), (b, a)] {
            let Some(Value::SigmoidOf(of)) = self.values.get(gate) else { continue };
            let Some(Value::Map(m)) = self.values.get(x) else { continue };
            let m = m.clone();
            if of == x && self.uses_of(x) == 2 && self.uses_of(gate) == 1 && self.fold(&m, Act::Silu) {
                return Ok(Value::Map(m));
            }
        }
        no(node, "product is not x * sigmoid(x)")
    }

    fn add(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let (a, b) = (self.dense_map(node, 0)?, self.dense_map(node, 1)?);
        if (a.h, a.w, a.planes.len()) != (b.h, b.w, b.planes.len()) {
            return no(node, "shapes differ");
        }
        for (i, own, other) in [(0, &a, &b), (1, &b, &a)] {
            let single = node.input.get(i).is_some_and(|n| self.uses_of(n) == 1);
            let Some(step) = self.producer(own).filter(|_| single) else { continue };
            let made = other.planes.iter().filter_map(|p| self.buffers.get(buffer(*p)).and_then(|b| b.1)).max();
            if made.is_some_and(|m| m >= step) {
                continue;
            }
            if let Some(f) = self.steps.get_mut(step).and_then(|s| s.kind.filter_mut())
                && f.residual.is_empty()
            {
                f.residual.clone_from(&other.planes);
                return Ok(Value::Map(own.clone()));
            }
        }
        let (h, w, c) = (a.h, a.w, a.planes.len());
        self.step(Kind::Add { other: b.planes, pixels: h * w, act: Act::None }, a.planes, c, h, w)
    }

    fn conv(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let m = self.map(node, 0)?;
        let weights = self.constant(node, 1)?;
        let &[o, ci, kh, kw] = weights.dims.as_slice() else { return no(node, "weights have not four dimensions") };
        let packed = [ci, kh, kw].iter().fold(o.next_multiple_of(BLOCK), |all, n| all.saturating_mul(*n));
        self.enter_weights(packed, m.h * m.w)?;
        let bias = match node.input.get(2) {
            Some(_) => self.constant(node, 2)?.floats.clone(),
            None => vec![0.0; o],
        };
        let weights = weights.floats.clone();
        let groups = usize::try_from(int(node, "group", 1)).unwrap_or(0);
        let c = m.planes.len();
        let strides = ints(node, "strides").unwrap_or_else(|| vec![1, 1]);
        let pads = ints(node, "pads").unwrap_or_else(|| vec![0; 4]);
        let plain = ints(node, "dilations").is_none_or(|d| d == [1, 1])
            && matches!(text(node, "auto_pad"), b"" | b"NOTSET")
            && bias.len() == o
            && weights.len() == o * ci * kh * kw
            && o > 0
            && c > 0
            && m.is_image();
        let (&[sy, sx], &[t, l, b, r]) = (strides.as_slice(), pads.as_slice()) else {
            return no(node, "strides or pads");
        };
        if !plain || m.pad != [0; 4] {
            return no(node, "dilation, padding mode or shapes");
        }
        if groups == 1 && ci == c && (kh, kw, sy, sx) == (1, 1, 1, 1) && pads == [0; 4] {
            if !m.is_dense() {
                return no(node, "input is rearranged");
            }
            let filter = Filter::pack(o, c, &weights, &bias);
            let pixels = m.h * m.w;
            return self.step(Kind::Pointwise { filter, pixels }, m.planes, o, m.h, m.w);
        }
        let Some(mut win) = window(&m, [kh, kw], [sy, sx], [t, l, b, r]) else {
            return no(node, "window does not fit");
        };
        let (oh, ow) = (win.oh, win.ow);
        if groups == 1 && ci == c {
            win.band = 8.min(oh);
            let plane = win.plane();
            let taps = (0..c).flat_map(|i| win.taps().into_iter().map(move |t| i * plane + t)).collect();
            let filter = Filter::pack(o, c * kh * kw, &weights, &bias);
            return self.step(Kind::Dense { filter, win, taps }, m.planes, o, oh, ow);
        }
        if groups == c && ci == 1 && o == c {
            let (taps, act) = (win.taps(), Act::None);
            let kind = Kind::PerChannel { win, taps, weights, bias, act, combine: Combine::Sum };
            return self.step(kind, m.planes, o, oh, ow);
        }
        no(node, "grouped convolution")
    }

    fn pool(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let mut m = self.map(node, 0)?;
        let pads = ints(node, "pads").unwrap_or_else(|| vec![0; 4]);
        let strides = ints(node, "strides").unwrap_or_else(|| vec![1, 1]);
        let kernel = ints(node, "kernel_shape").unwrap_or_default();
        let (&[kh, kw], &[sy, sx], &[t, l, b, r]) = (kernel.as_slice(), strides.as_slice(), pads.as_slice()) else {
            return no(node, "kernel, strides or pads");
        };
        let plain = int(node, "ceil_mode", 0) == 0
            && ints(node, "dilations").is_none_or(|d| d == [1, 1])
            && matches!(text(node, "auto_pad"), b"" | b"NOTSET")
            && m.is_image();
        let max = node.op_type == "MaxPool";
        // Zeros around a maximum would count, and padding around a mean counts only when asked.
        if !plain || (max && m.pad != [0; 4]) || (!max && pads != [0; 4]) || kh * kw == 0 {
            return no(node, "padding");
        }
        let mut k = kh;
        let same = max && kh == kw && (sy, sx) == (1, 1) && kh % 2 == 1 && pads.iter().all(|p| *p == kh / 2);
        if same {
            // A maximum over 9x9 is the maximum over 5x5 of maxima over 5x5: start from the widest earlier pool.
            let name = node.input.first().cloned().unwrap_or_default();
            let best = self.pools.iter().filter(|p| p.0 == name && p.1 < kh).max_by_key(|p| p.1);
            if let Some((_, earlier, value)) = best
                && let Some(Value::Map(v)) = self.values.get(value)
            {
                (m, k) = (v.clone(), kh - earlier + 1);
            }
            self.pools.push((name, kh, node.output.first().cloned().unwrap_or_default()));
        }
        let (kernel, pads) = if same { ([k, k], [k / 2; 4]) } else { ([kh, kw], [t, l, b, r]) };
        let pads = if max { pads } else { m.pad };
        let Some(win) = window(&m, kernel, [sy, sx], pads) else { return no(node, "window does not fit") };
        let (c, oh, ow, taps) = (m.planes.len(), win.oh, win.ow, win.taps());
        self.enter_weights(c * taps.len(), oh * ow)?;
        let combine = if max { Combine::Max } else { Combine::Sum };
        let start = if max { f32::NEG_INFINITY } else { 0.0 };
        #[allow(clippy::cast_precision_loss)]
        let weights = vec![1.0 / taps.len() as f32; c * taps.len()];
        let kind = Kind::PerChannel { win, taps, weights, bias: vec![start; c], act: Act::None, combine };
        self.step(kind, m.planes, c, oh, ow)
    }

    fn pad(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let mut m = self.map(node, 0)?;
        let pads = self.integers(node, 1)?;
        let zero = match node.input.get(2) {
            Some(n) if !n.is_empty() => self.constant(node, 2)?.floats == [0.0],
            _ => true,
        };
        let constant_mode = matches!(text(node, "mode"), b"" | b"constant");
        match (pads.as_slice(), zero && constant_mode && m.is_image() && m.pad == [0; 4]) {
            (&[0, 0, t, l, 0, 0, b, r], true) => {
                let pads = [t, l, b, r].map(|p| usize::try_from(p).unwrap_or(usize::MAX));
                if pads.iter().any(|p| *p > 64) {
                    return no(node, "padding");
                }
                m.pad = pads;
                Ok(Value::Map(m))
            }
            _ => no(node, "padding"),
        }
    }

    fn resize(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let m = self.dense_map(node, 0)?;
        let scales = &self.constant(node, 2)?.floats;
        let nearest = text(node, "mode") == b"nearest"
            && text(node, "nearest_mode") == b"floor"
            && text(node, "coordinate_transformation_mode") == b"asymmetric"
            && node.input.len() == 3;
        for factor in [2usize, 3, 4] {
            #[allow(clippy::cast_precision_loss)]
            let f = factor as f32;
            if nearest && *scales == [1.0, 1.0, f, f] {
                let (h, w, c) = (m.h, m.w, m.planes.len());
                return self.step(Kind::Enlarge { factor, h, w }, m.planes, c, h * factor, w * factor);
            }
        }
        no(node, "resizing other than nearest by 2, 3 or 4")
    }

    fn softmax(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let m = self.map(node, 0)?;
        let mut straight = m.clone();
        straight.turned = false;
        if !m.turned || int(node, "axis", -1) != 3 || !straight.is_dense() {
            return no(node, "softmax not over channels");
        }
        let (c, h, w) = (m.planes.len(), m.h, m.w);
        let Value::Map(mut out) = self.step(Kind::Softmax { pixels: h * w }, m.planes, c, h, w)? else {
            return no(node, "softmax");
        };
        out.turned = true;
        Ok(Value::Map(out))
    }

    fn concat(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let maps: Vec<Map> = (0..node.input.len()).map(|i| self.map(node, i)).collect::<Lowered<_>>()?;
        let Some(first) = maps.first() else { return no(node, "no input") };
        let axis = int(node, "axis", 0);
        if axis == 2 && maps.iter().all(|m| m.flat && m.lead == first.lead && m.lead.first() == Some(&1)) {
            return Ok(Value::Joined(maps, false));
        }
        let alike = |m: &Map| {
            m.is_image()
                && (m.h, m.w, m.row_stride, m.col_stride) == (first.h, first.w, first.row_stride, first.col_stride)
                && m.pad == [0; 4]
        };
        if axis != 1 || !maps.iter().all(alike) {
            return no(node, "not a concatenation of channels");
        }
        let mut all = first.clone();
        all.planes = maps.into_iter().flat_map(|m| m.planes).collect();
        all.lead = vec![1, all.planes.len()];
        Ok(Value::Map(all))
    }

    fn reshape(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let mut m = self.map(node, 0)?;
        let shape = self.integers(node, 1)?;
        let total = m.planes.len() * m.h * m.w;
        let known: i64 = shape.iter().filter(|d| **d != -1).fold(1i64, |a, d| a.saturating_mul(*d));
        let dims: Option<Vec<usize>> = shape
            .iter()
            .map(|d| match *d {
                -1 if known > 0 => usize::try_from(known).ok().map(|k| total / k),
                d => usize::try_from(d).ok(),
            })
            .collect();
        let stored = m.row_stride == m.w && m.col_stride == 1 && m.pad == [0; 4] && !m.turned;
        let Some(dims) = dims.filter(|_| stored) else { return no(node, "shape") };
        for (tail, flat) in [(vec![m.h, m.w], false), (vec![m.h * m.w], true)] {
            if let Some(lead) = dims.strip_suffix(tail.as_slice())
                && lead.iter().product::<usize>() == m.planes.len()
            {
                m.lead = lead.to_vec();
                m.flat = flat;
                return Ok(Value::Map(m));
            }
        }
        no(node, "reshape mixes channels and pixels")
    }

    fn transpose(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let Some(perm) = ints(node, "perm") else { return no(node, "perm") };
        if let Some(Value::Joined(maps, false)) = node.input.first().and_then(|n| self.values.get(n))
            && perm == [0, 2, 1]
        {
            self.enter(maps.iter().map(|m| m.planes.len()).sum())?;
            return Ok(Value::Joined(maps.clone(), true));
        }
        let mut m = self.map(node, 0)?;
        if perm == [0, 3, 2, 1] && m.lead.len() == 2 && m.lead.first() == Some(&1) && !m.flat {
            m.turned = !m.turned;
            return Ok(Value::Map(m));
        }
        let rank = m.lead.len();
        let tail = if m.flat { 1 } else { 2 };
        let fixed = perm.len() == rank + tail && perm.iter().enumerate().skip(rank).all(|(i, p)| i == *p);
        if !fixed || m.turned || rank != 2 || perm.first() != Some(&1) {
            return no(node, "transposition of pixels");
        }
        let &[a, b] = m.lead.as_slice() else { return no(node, "rank") };
        m.planes = (0..b).flat_map(|j| (0..a).map(move |i| i * b + j)).map(|i| m.planes[i]).collect();
        m.lead = vec![b, a];
        Ok(Value::Map(m))
    }

    fn gather(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let mut m = self.map(node, 0)?;
        let index = self.constant(node, 1)?;
        let (&[i], true) = (index.ints.as_slice(), index.dims.is_empty()) else {
            return no(node, "index is not one number");
        };
        let Some((first, rest)) = m.lead.split_first() else { return no(node, "rank") };
        let Some(i) = usize::try_from(i).ok().filter(|i| i < first) else { return no(node, "index") };
        if int(node, "axis", 0) != 0 || m.turned || rest.is_empty() {
            return no(node, "axis");
        }
        let each = m.planes.len() / first;
        m.planes = m.planes[i * each..(i + 1) * each].to_vec();
        m.lead = rest.to_vec();
        Ok(Value::Map(m))
    }

    fn slice(&mut self, node: &pb::NodeProto) -> Lowered<Value> {
        let mut m = self.map(node, 0)?;
        let get = |i: usize| -> Lowered<i64> {
            match self.constant(node, i)?.ints.as_slice() {
                &[v] => Ok(v),
                _ => no(node, "more than one axis"),
            }
        };
        let (start, end, axis, step) = (get(1)?, get(2)?, get(3)?, if node.input.len() > 4 { get(4)? } else { 1 });
        let (Ok(start), Ok(end), Ok(step)) = (usize::try_from(start), usize::try_from(end), usize::try_from(step))
        else {
            return no(node, "negative bounds");
        };
        if !m.is_image() || m.pad != [0; 4] || step == 0 {
            return no(node, "input is rearranged");
        }
        let (size, stride) = match axis {
            2 => (&mut m.h, &mut m.row_stride),
            3 => (&mut m.w, &mut m.col_stride),
            _ => return no(node, "axis"),
        };
        let end = end.min(*size);
        if start >= end {
            return no(node, "empty");
        }
        let first = start * *stride;
        *size = (end - start).div_ceil(step);
        *stride *= step;
        m.planes.iter_mut().for_each(|p| *p += first);
        Ok(Value::Map(m))
    }
}

/// A window over `m`; one band holds all rows. None if it does not fit.
fn window(m: &Map, [kh, kw]: [usize; 2], [sy, sx]: [usize; 2], [t, l, b, r]: [usize; 4]) -> Option<Window> {
    if kh == 0 || kw == 0 || kh > 31 || kw > 31 || !(1..=4).contains(&sy) || !(1..=4).contains(&sx) {
        return None;
    }
    if t >= kh || l >= kw || b > 31 || r > 31 {
        return None;
    }
    let oh = (m.h + t + b).checked_sub(kh)? / sy + 1;
    let ow = (m.w + l + r).checked_sub(kw)? / sx + 1;
    Some(Window {
        kh,
        kw,
        sy,
        sx,
        pad_top: t,
        pad_left: l,
        h: m.h,
        w: m.w,
        row_stride: m.row_stride,
        col_stride: m.col_stride,
        oh,
        ow,
        band: oh,
    })
}
