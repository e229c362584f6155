//! The risk head: a small recurrent network over tracks and the vehicle's motion, read by tract and computed by `cell`; by
//! tract where the graph is another one.
//!
//! It reads [`RiskFeatures`] and keeps a state from step to step; what it gives are calibrated probabilities
//! ([`RiskScores`]). One head ships inside the program ([`RiskHead::builtin`]); a manifest beside an ONNX file names
//! another. A head made for another version of the features is refused. A step that fails gives `None` and forgets the
//! state: the core's cues then stand in. Reads the files it is given and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use agent_core::vision::{
    FEATURES_VERSION, GLOBAL_FEATURES, RISK_SLOTS, RiskFeatures, RiskModel, RiskScores, SLOT_FEATURES,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tract_onnx::pb;
use tract_onnx::prelude::*;

use crate::cell::Cell;
use crate::footprint;
use crate::limits::{MAX_MANIFEST_BYTES, MAX_RISK_BYTES, MAX_RISK_STATE};
use crate::sizes;

/// The head that ships, and its manifest; made by `models/train/risk`.
const BUILTIN: (&str, &[u8]) =
    (include_str!("../artifacts/risk.toml"), include_bytes!("../artifacts/risk.onnx").as_slice());
/// What it says in two steps.
const BUILTIN_SAYS: &str = include_str!("../artifacts/risk.golden.txt");

/// Why a risk head cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RiskError {
    /// A file cannot be read, or is too large.
    #[error("{}: {reason}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The manifest is wrong.
    #[error("risk head manifest {}: {reason}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What and, where it is known, in which line.
        reason: String,
    },
    /// The ONNX file is not what the manifest says, or tract cannot run it.
    #[error("risk head {}: {reason}", path.display())]
    Model {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    file: String,
    sha256: String,
    features: u32,
    state: usize,
    licence: String,
    source: String,
}

/// Steps that are not told after a beginning: the state needs a second to know anything, and training did not judge it.
pub const WARM_UP: usize = 10;

type Plan = tract_onnx::tract_core::plan::SimpleState<TypedFact, Box<dyn TypedOp>>;

/// What computes a head.
enum Engine {
    Own(Box<Cell>),
    Tract(Box<Plan>),
}

/// A loaded head with its state.
pub struct RiskHead {
    engine: Engine,
    state: Vec<f32>,
    /// Steps since it began anew, up to [`WARM_UP`].
    warm: usize,
    hash: [u8; 8],
    licence: String,
    source: String,
}

impl std::fmt::Debug for RiskHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RiskHead")
            .field("state", &self.state.len())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl RiskHead {
    /// The head that ships.
    ///
    /// # Errors
    /// Never, as a test shows; the type says so rather than a panic.
    pub fn builtin() -> Result<Self, RiskError> {
        Self::from_parts(Path::new("builtin"), BUILTIN.0, BUILTIN.1, true)
    }

    /// The head of a manifest; its model file lies beside it.
    ///
    /// # Errors
    /// [`RiskError`]: a file, the manifest, the hash, the graph or its shapes.
    pub fn load(manifest: &Path) -> Result<Self, RiskError> {
        let text = read(manifest, MAX_MANIFEST_BYTES)?;
        let text = String::from_utf8(text)
            .map_err(|e| RiskError::Manifest { path: manifest.to_owned(), reason: e.to_string() })?;
        let raw = parse(manifest, &text)?;
        let onnx = manifest.with_file_name(&raw.file);
        Self::from_parts(manifest, &text, &read(&onnx, MAX_RISK_BYTES)?, false)
    }

    fn from_parts(path: &Path, text: &str, onnx: &[u8], shipped: bool) -> Result<Self, RiskError> {
        footprint::loading(|| Self::made_of(path, text, onnx, shipped))
    }

    fn made_of(path: &Path, text: &str, onnx: &[u8], shipped: bool) -> Result<Self, RiskError> {
        let raw = parse(path, text)?;
        let model = |reason: String| RiskError::Model { path: path.with_file_name(&raw.file), reason };
        let digest = Sha256::digest(onnx);
        let found = crate::detector::hex(&digest);
        if found != raw.sha256.to_lowercase() {
            return Err(model(format!("SHA-256 is {found}, the manifest says {}", raw.sha256)));
        }
        let engine = catch_unwind(AssertUnwindSafe(|| build(onnx, raw.state, shipped)))
            .map_err(|_| model("the parser gave up on it (panic)".to_owned()))?
            .map_err(|e| model(format!("{e:#}")))?;
        let mut hash = [0; 8];
        hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let head = Self {
            engine,
            state: vec![0.0; raw.state],
            warm: 0,
            hash,
            licence: raw.licence.clone(),
            source: raw.source.clone(),
        };
        head.probe().map_err(model)
    }

    /// One step on nothing, so that a graph with other outputs is refused at load and not at the first frame.
    fn probe(mut self) -> Result<Self, String> {
        let nothing = RiskFeatures {
            count: 0,
            slots: [[0.0; SLOT_FEATURES]; RISK_SLOTS],
            global: [0.0; GLOBAL_FEATURES],
            anew: true,
        };
        self.compute(&nothing)?;
        self.state.fill(0.0);
        Ok(self)
    }

    /// First eight bytes of the SHA-256 of the model file.
    #[must_use]
    pub const fn hash8(&self) -> [u8; 8] {
        self.hash
    }

    /// What it is, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let by = if matches!(self.engine, Engine::Own(_)) { "" } else { ", run by tract" };
        format!("risk head, {} values of state, {} ({}){by}", self.state.len(), self.source, self.licence)
    }

    fn compute(&mut self, f: &RiskFeatures) -> Result<RiskScores, String> {
        if f.anew {
            self.state.fill(0.0);
            self.warm = 0;
        }
        // The graph's own maxima would swallow what is no number.
        if f.slots.iter().flatten().chain(&f.global).any(|v| !v.is_finite()) {
            return Err("a feature is no number".to_owned());
        }
        let [ahead, now] = match &mut self.engine {
            Engine::Own(cell) => cell.step(f, &mut self.state),
            Engine::Tract(plan) => run(plan, f, &mut self.state)?,
        };
        if self.state.iter().chain(&[ahead, now]).any(|v| !v.is_finite()) {
            return Err("a state or a probability that is no number".to_owned());
        }
        Ok(RiskScores { ahead, now })
    }
}

impl RiskModel for RiskHead {
    fn step(&mut self, features: &RiskFeatures) -> Option<RiskScores> {
        let Ok(scores) = self.compute(features) else {
            self.state.fill(0.0);
            self.warm = 0;
            return None;
        };
        self.warm = (self.warm + 1).min(WARM_UP + 1);
        (self.warm > WARM_UP).then_some(scores)
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, RiskError> {
    let fail = |reason: String| RiskError::Read { path: path.to_owned(), reason };
    let bytes = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if bytes > most {
        return Err(fail(format!("{bytes} bytes, at most {most}")));
    }
    std::fs::read(path).map_err(|e| fail(e.to_string()))
}

fn parse(path: &Path, text: &str) -> Result<RawManifest, RiskError> {
    let wrong = |reason: String| RiskError::Manifest { path: path.to_owned(), reason };
    let raw: RawManifest = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if Path::new(&raw.file).file_name().is_none_or(|n| n != raw.file.as_str()) {
        return Err(wrong(format!("file \"{}\" is not a bare file name", raw.file)));
    }
    if raw.features != FEATURES_VERSION {
        return Err(wrong(format!("made for features {}, this program has {FEATURES_VERSION}", raw.features)));
    }
    if !(1..=MAX_RISK_STATE).contains(&raw.state) {
        return Err(wrong(format!("state = {}, not within 1 and {MAX_RISK_STATE}", raw.state)));
    }
    Ok(raw)
}

fn build(onnx: &[u8], state: usize, shipped: bool) -> TractResult<Engine> {
    let proto = tract_onnx::onnx().proto_model_for_read(&mut std::io::Cursor::new(onnx))?;
    if shipped
        && let Some(mut cell) = proto.graph.as_ref().and_then(|graph| Cell::read(graph, state))
        && says(&mut cell, state, BUILTIN_SAYS)
    {
        return Ok(Engine::Own(Box::new(cell)));
    }
    engine_of(&proto, state)
}

/// Whether a network says what the one that ships said in training, in two steps (`models/train/risk/train.py`): with that it
/// is held to its reference at every start without tract, which takes most of a start's time and memory.
fn says(cell: &mut Cell, state: usize, golden: &str) -> bool {
    let mut kept = vec![0.0; state];
    let ours = [golden_features(1.0), golden_features(-0.5)].map(|f| cell.step(&f, &mut kept));
    let theirs: Vec<f32> = golden.split_whitespace().map_while(|v| v.parse().ok()).collect();
    let near = ours.as_flattened().iter().zip(&theirs).all(|(a, b)| (a - b).abs() <= PROBE_TOLERANCE);
    theirs.len() == ours.as_flattened().len() && near
}

/// What the golden values are the answer to.
fn golden_features(scale: f32) -> RiskFeatures {
    let mut f = RiskFeatures {
        count: 5,
        slots: [[0.0; SLOT_FEATURES]; RISK_SLOTS],
        global: [0.0; GLOBAL_FEATURES],
        anew: false,
    };
    for (i, v) in f.slots.as_flattened_mut().iter_mut().enumerate() {
        *v = scale * (0.37 * i as f32).sin();
    }
    for (i, v) in f.global.iter_mut().enumerate() {
        *v = scale * (0.91 * i as f32).cos();
    }
    f
}

fn engine_of(proto: &pb::ModelProto, state: usize) -> TractResult<Engine> {
    let graph = proto.graph.as_ref().ok_or_else(|| TractError::msg("no graph"))?;
    let mut plan = plan_of(proto, graph, state)?;
    let own = Cell::read(graph, state).and_then(|mut cell| agree(&mut cell, &mut plan, state).then_some(cell));
    Ok(own.map_or_else(|| Engine::Tract(plan), |cell| Engine::Own(Box::new(cell))))
}

fn plan_of(proto: &pb::ModelProto, graph: &pb::GraphProto, state: usize) -> TractResult<Box<Plan>> {
    let most = sizes::most(0);
    sizes::check_file(graph, most).map_err(TractError::msg)?;
    let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
    let shapes: [&[usize]; 4] = [&[1, RISK_SLOTS, SLOT_FEATURES], &[1, RISK_SLOTS], &[1, GLOBAL_FEATURES], &[1, state]];
    for (i, shape) in shapes.iter().enumerate() {
        model.set_input_fact(i, InferenceFact::dt_shape(f32::datum_type(), *shape))?;
    }
    let plan = sizes::into_typed(model, most)?.into_optimized()?.into_runnable()?;
    Ok(Box::new(plan.spawn()?))
}

/// One step under tract: the state becomes the next one; gives the two probabilities.
fn run(plan: &mut Plan, f: &RiskFeatures, state: &mut [f32]) -> Result<[f32; 2], String> {
    let mut mask = [0.0f32; RISK_SLOTS];
    mask.iter_mut().take(f.count).for_each(|m| *m = 1.0);
    let tensor = |shape: &[usize], values: &[f32]| Tensor::from_shape(shape, values).map_err(|e| e.to_string());
    let inputs = tvec![
        tensor(&[1, RISK_SLOTS, SLOT_FEATURES], f.slots.as_flattened())?.into_tvalue(),
        tensor(&[1, RISK_SLOTS], &mask)?.into_tvalue(),
        tensor(&[1, GLOBAL_FEATURES], &f.global)?.into_tvalue(),
        tensor(&[1, state.len()], state)?.into_tvalue(),
    ];
    let outputs = plan.run(inputs).map_err(|e| format!("{e:#}"))?;
    let read = |i: usize| -> Result<Vec<f32>, String> {
        let value = outputs.get(i).ok_or("an output is missing")?;
        let view = value.to_plain_array_view::<f32>().map_err(|e| e.to_string())?;
        Ok(view.iter().copied().collect())
    };
    let (risk, next) = (read(0)?, read(1)?);
    let risk = <[f32; 2]>::try_from(risk).map_err(|r| format!("{} probabilities instead of 2", r.len()))?;
    if next.len() != state.len() {
        return Err(format!("a state of {} values", next.len()));
    }
    state.copy_from_slice(&next);
    Ok(risk)
}

/// Steps in which a head's own network is held to tract, and how far it may be from it in a probability or in the state (their
/// exponentials are approximations, and sums have other orders).
const PROBE_STEPS: u32 = 12;
const PROBE_TOLERANCE: f32 = 1e-4;

/// Whether both say the same on made-up steps, from an empty road to a full one.
fn agree(cell: &mut Cell, plan: &mut Plan, state: usize) -> bool {
    let (mut own, mut tracts) = (vec![0.0; state], vec![0.0; state]);
    (0..PROBE_STEPS).all(|step| {
        let f = unmeant(step);
        let ours = cell.step(&f, &mut own);
        let Ok(theirs) = run(plan, &f, &mut tracts) else { return false };
        let pairs = own.iter().chain(&ours).zip(tracts.iter().chain(&theirs));
        // Not `>`: what is no number agrees with nothing.
        pairs.into_iter().all(|(a, b)| (a - b).abs() <= PROBE_TOLERANCE)
    })
}

/// Features without meaning, of another size and number of slots in each step.
fn unmeant(step: u32) -> RiskFeatures {
    let mut f = RiskFeatures {
        count: step as usize % (RISK_SLOTS + 1),
        slots: [[0.0; SLOT_FEATURES]; RISK_SLOTS],
        global: [0.0; GLOBAL_FEATURES],
        anew: false,
    };
    let mut drawn = step.wrapping_add(1).wrapping_mul(0x9e37_79b9);
    for v in f.slots.as_flattened_mut().iter_mut().chain(&mut f.global) {
        // Numerical Recipes' linear congruential generator; its upper bits as -1 to 1.
        drawn = drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *v = ((drawn >> 8) as f32 / f32::from(1u16 << 15) / 256.0) - 1.0;
    }
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up(scale: f32, anew: bool) -> RiskFeatures {
        RiskFeatures { anew, ..golden_features(scale) }
    }

    #[test]
    fn the_shipped_head_gives_what_it_gave_in_training() {
        let golden: Vec<f32> = BUILTIN_SAYS.split_whitespace().map(|v| v.parse().unwrap()).collect();
        let mut head = RiskHead::builtin().unwrap();
        // Twice over: after a gap nothing of the first run is left.
        for _ in 0..2 {
            let a = head.compute(&made_up(1.0, true)).unwrap();
            let b = head.compute(&made_up(-0.5, false)).unwrap();
            for (found, meant) in [a.ahead, a.now, b.ahead, b.now].into_iter().zip(&golden) {
                assert!((found - meant).abs() < 1e-4, "{found} {meant}");
            }
        }
        let without = head.compute(&made_up(-0.5, true)).unwrap();
        assert!((without.ahead - golden[2]).abs() > 1e-6, "the state means something");
    }

    #[test]
    fn what_is_no_number_is_forgotten() {
        let mut head = RiskHead::builtin().unwrap();
        let first = |head: &mut RiskHead| (0..50).find(|_| head.step(&made_up(1.0, false)).is_some());
        assert_eq!(first(&mut head), Some(WARM_UP), "after the first second it speaks");
        assert_eq!(first(&mut head), Some(0));
        let mut f = made_up(1.0, false);
        f.global[0] = f32::NAN;
        assert_eq!(head.step(&f), None);
        assert_eq!(first(&mut head), Some(WARM_UP), "and begins anew after a failure");
    }

    #[test]
    fn other_files_are_refused_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("head.toml");
        let write = |text: &str| std::fs::write(&manifest, text).unwrap();
        let error = || RiskHead::load(&manifest).unwrap_err().to_string();
        assert!(error().contains("head.toml"));
        let good = BUILTIN.0;
        write(&good.replace("features = 1", "features = 7"));
        assert!(error().contains("made for features 7"), "{}", error());
        write(&good.replace("state = 96", "state = 0"));
        assert!(error().contains("state = 0"), "{}", error());
        write(&format!("{good}other = 1\n"));
        assert!(error().contains("other"), "{}", error());
        write(good);
        assert!(error().contains("risk.onnx"), "the model file is missing: {}", error());
        std::fs::write(folder.path().join("risk.onnx"), b"no model").unwrap();
        assert!(error().contains("SHA-256"), "{}", error());
        let digest = crate::detector::hex(&Sha256::digest(b"no model"));
        let line = good.lines().find(|l| l.starts_with("sha256")).unwrap();
        write(&good.replace(line, &format!("sha256 = \"{digest}\"")));
        assert!(error().contains("risk.onnx"), "{}", error());
    }

    fn shipped() -> pb::ModelProto {
        tract_onnx::onnx().proto_model_for_read(&mut std::io::Cursor::new(BUILTIN.1)).unwrap()
    }

    fn is_own(proto: &pb::ModelProto) -> bool {
        matches!(engine_of(proto, 96).unwrap(), Engine::Own(_))
    }

    #[test]
    fn the_heads_own_network_says_what_tract_says() {
        let proto = shipped();
        let graph = proto.graph.as_ref().unwrap();
        let Engine::Own(mut cell) = engine_of(&proto, 96).unwrap() else { panic!("run by tract") };
        let mut plan = plan_of(&proto, graph, 96).unwrap();
        let (mut own, mut tracts) = (vec![0.0; 96], vec![0.0; 96]);
        let mut apart = 0.0f32;
        for step in 0..200u8 {
            let mut f = made_up(f32::from(step) * 0.02 - 1.0, false);
            f.count = usize::from(step) % 9;
            let ours = cell.step(&f, &mut own);
            let theirs = run(&mut plan, &f, &mut tracts).unwrap();
            let pairs = own.iter().chain(&ours).zip(tracts.iter().chain(&theirs));
            apart = pairs.fold(apart, |most, (a, b)| most.max((a - b).abs()));
        }
        // tract takes the exponentials by approximations, and steps add up.
        assert!(apart < 1e-4, "{apart}");
        assert!(!RiskHead::builtin().unwrap().describe().contains("tract"));
        // Golden values alone decide only while they are these.
        assert!(says(&mut cell, 96, BUILTIN_SAYS));
        let (first, rest) = BUILTIN_SAYS.trim().split_once(char::is_whitespace).unwrap();
        let more = first.parse::<f32>().unwrap() + 0.001;
        for other in [String::new(), rest.to_owned(), format!("{more} {rest}"), format!("{BUILTIN_SAYS} 0")] {
            assert!(!says(&mut cell, 96, &other), "{other}");
        }
    }

    #[test]
    fn another_graph_runs_under_tract() {
        assert!(is_own(&shipped()));
        let with = |change: &dyn Fn(&mut pb::GraphProto)| {
            let mut proto = shipped();
            change(proto.graph.as_mut().unwrap());
            proto
        };
        // The same nodes, wired otherwise: what is kept and what is reset, for each other.
        let wired = with(&|g| {
            let node = g.node.iter_mut().find(|n| n.output == ["/Mul_4_output_0"]).unwrap();
            assert_eq!(node.input, ["/Slice_output_0", "state"]);
            node.input[0] = "/Slice_1_output_0".to_owned();
        });
        assert!(!is_own(&wired));
        // The maximum over other slots than those that are filled.
        let mask = with(&|g| {
            let node = g.node.iter_mut().find(|n| n.op_type == "ReduceMax").unwrap();
            assert_eq!(node.input[0], "/Mul_output_0");
            node.input[0] = "/slot/slot.3/Relu_output_0".to_owned();
        });
        assert!(!is_own(&mask));
        // One node more, that does nothing.
        let more = with(&|g| {
            g.node.last_mut().unwrap().output[0] = "before".to_owned();
            let (input, output) = (vec!["before".to_owned()], vec!["risk".to_owned()]);
            g.node.push(pb::NodeProto { op_type: "Identity".to_owned(), input, output, ..Default::default() });
        });
        assert!(!is_own(&more));
        // What lacks a matrix, or has one of another shape, is nothing to read, whoever else may run it.
        for i in 0..shipped().graph.unwrap().initializer.len() {
            for change in [
                |g: &mut pb::GraphProto, i: usize| drop(g.initializer.remove(i)),
                |g: &mut pb::GraphProto, i: usize| g.initializer[i].dims.reverse(),
                |g: &mut pb::GraphProto, i: usize| g.initializer[i].raw_data.truncate(8),
            ] {
                let changed = with(&|g| change(g, i));
                let graph = changed.graph.as_ref().unwrap();
                let square = graph.initializer.get(i).is_some_and(|t| t.dims.first() == t.dims.last());
                assert!(Cell::read(graph, 96).is_none() || square, "{i}");
            }
        }
        assert!(Cell::read(&pb::GraphProto::default(), 96).is_none());
        assert!(Cell::read(shipped().graph.as_ref().unwrap(), 95).is_none());
    }
}
