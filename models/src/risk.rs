//! The risk head: a small recurrent network over tracks and the vehicle's motion, computed by `cell`; by tract where the graph
//! is another one. As with the detector, tract's word decides, from a probe file or by itself.
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
use prost::Message as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::cell::Cell;
use crate::limits::{MAX_MANIFEST_BYTES, MAX_RISK_BYTES, MAX_RISK_STATE};
use crate::probe::Known;
#[cfg(feature = "tract")]
use crate::reference;
use crate::{footprint, pb, probe, sizes};

/// The head that ships, and its manifest; made by `models/train/risk`.
const BUILTIN: (&str, &[u8]) =
    (include_str!("../artifacts/risk.toml"), include_bytes!("../artifacts/risk.onnx").as_slice());
/// Its probe file, written by this module's test.
const BUILTIN_PROBE: &str = include_str!("../artifacts/risk.probe.txt");

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
    /// The ONNX file is not what the manifest says, tract cannot run it, or nothing vouches for what our own network makes of it and
    /// there is no tract to ask.
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

/// What computes a head.
enum Engine {
    Own(Box<Cell>),
    #[cfg(feature = "tract")]
    Tract(reference::Head),
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
        let path = Path::new("builtin");
        footprint::loading(|| {
            let raw = parse(path, BUILTIN.0)?;
            Self::made_of(path, &raw, BUILTIN.1, |sha256| probe::parse(BUILTIN_PROBE, sha256).map(Some))
        })
    }

    /// The head of a manifest; its model file lies beside it.
    ///
    /// # Errors
    /// [`RiskError`]: a file, the manifest, the hash, the graph or its shapes.
    pub fn load(manifest: &Path) -> Result<Self, RiskError> {
        let (raw, onnx, bytes) = files(manifest)?;
        footprint::loading(|| Self::made_of(&onnx, &raw, &bytes, |sha256| probe::read(&onnx, sha256)))
    }

    /// The probe file of a manifest's head: its place, beside the model file, and its text, made anew by tract.
    ///
    /// # Errors
    /// As [`RiskHead::load`]; [`RiskError::Model`] if only tract can run the head, or runs it otherwise than our own network, or
    /// there is no tract.
    pub fn probe_file(manifest: &Path) -> Result<(PathBuf, String), RiskError> {
        let (raw, onnx, bytes) = files(manifest)?;
        let head = Self::made_of(&onnx, &raw, &bytes, |_| Ok(None))?;
        let model = |reason: String| RiskError::Model { path: onnx.clone(), reason };
        let values = said_by_tract(&head.engine, &bytes, raw.state).map_err(model)?;
        Ok((probe::beside(&onnx), probe::text(&Sha256::digest(&bytes).into(), &values)))
    }

    fn made_of(
        path: &Path,
        raw: &RawManifest,
        onnx: &[u8],
        known: impl FnOnce(&[u8; 32]) -> Known,
    ) -> Result<Self, RiskError> {
        let model = |reason: String| RiskError::Model { path: path.to_owned(), reason };
        let digest: [u8; 32] = Sha256::digest(onnx).into();
        let found = crate::detector::hex(&digest);
        if found != raw.sha256.to_lowercase() {
            return Err(model(format!("SHA-256 is {found}, the manifest says {}", raw.sha256)));
        }
        let known = known(&digest);
        let engine = catch_unwind(AssertUnwindSafe(|| build(path, onnx, raw.state, known)))
            .map_err(|_| model("the parser gave up on it (panic)".to_owned()))?
            .map_err(model)?;
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
            #[cfg(feature = "tract")]
            Engine::Tract(plan) => plan.step(f, &mut self.state)?,
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

/// The manifest of a path, the path of its model file, and that file.
fn files(manifest: &Path) -> Result<(RawManifest, PathBuf, Vec<u8>), RiskError> {
    let text = String::from_utf8(read(manifest, MAX_MANIFEST_BYTES)?)
        .map_err(|e| RiskError::Manifest { path: manifest.to_owned(), reason: e.to_string() })?;
    let raw = parse(manifest, &text)?;
    let onnx = manifest.with_file_name(&raw.file);
    let bytes = read(&onnx, MAX_RISK_BYTES)?;
    Ok((raw, onnx, bytes))
}

fn build(path: &Path, onnx: &[u8], state: usize, known: Known) -> Result<Engine, String> {
    let proto = pb::ModelProto::decode(onnx).map_err(|e| e.to_string())?;
    let graph = proto.graph.as_ref().ok_or("no graph")?;
    sizes::check_file(graph, sizes::most(0))?;
    let cell = Cell::read(graph, state);
    let (cell, unproven) = match (cell, known) {
        (None, _) => (None, "only tract can run such a graph".to_owned()),
        (Some(mut cell), Ok(Some(known))) => {
            if agree(&known, |f, kept| Ok(cell.step(f, kept)), state) {
                return Ok(Engine::Own(Box::new(cell)));
            }
            (Some(cell), "our own network says something else than its probe file".to_owned())
        }
        (cell, Ok(None)) => (cell, probe::missing(path)),
        (cell, Err(why)) => (cell, why),
    };
    ask(onnx, cell, state, unproven)
}

/// Settles with tract what no probe file did.
#[cfg(feature = "tract")]
fn ask(onnx: &[u8], cell: Option<Cell>, state: usize, _: String) -> Result<Engine, String> {
    let mut plan = reference::Head::read(onnx, state)?;
    let Some(mut cell) = cell else { return Ok(Engine::Tract(plan)) };
    let theirs = says(|f, kept| plan.step(f, kept), state)?;
    let own = agree(&theirs, |f, kept| Ok(cell.step(f, kept)), state);
    Ok(if own { Engine::Own(Box::new(cell)) } else { Engine::Tract(plan) })
}

/// There is no tract to ask.
#[cfg(not(feature = "tract"))]
fn ask(_: &[u8], _: Option<Cell>, _: usize, unproven: String) -> Result<Engine, String> {
    Err(format!("{unproven}, and this program is built without tract"))
}

#[cfg(feature = "tract")]
fn said_by_tract(engine: &Engine, onnx: &[u8], state: usize) -> Result<Vec<f32>, String> {
    if matches!(engine, Engine::Tract(_)) {
        return Err("only tract can run such a graph, or it says something else than our own network".to_owned());
    }
    let mut plan = reference::Head::read(onnx, state)?;
    says(|f, kept| plan.step(f, kept), state)
}

#[cfg(not(feature = "tract"))]
fn said_by_tract(_: &Engine, _: &[u8], _: usize) -> Result<Vec<f32>, String> {
    Err("a probe file is made by tract, and this program is built without tract".to_owned())
}

/// Steps in which a head's own network is held to tract, and how far it may be from it in a probability or in the state (their
/// exponentials are approximations, and sums have other orders).
const PROBE_STEPS: u32 = 12;
const PROBE_TOLERANCE: f32 = 1e-4;

/// What a network says on made-up steps, from an empty road to a full one: the state and the probabilities after each.
fn says(
    mut step: impl FnMut(&RiskFeatures, &mut [f32]) -> Result<[f32; 2], String>,
    state: usize,
) -> Result<Vec<f32>, String> {
    let (mut all, mut kept) = (Vec::with_capacity(PROBE_STEPS as usize * (state + 2)), vec![0.0; state]);
    for i in 0..PROBE_STEPS {
        let risk = step(&unmeant(i), &mut kept)?;
        all.extend(kept.iter().chain(&risk));
    }
    Ok(all)
}

/// Whether a network says that.
fn agree(
    theirs: &[f32],
    step: impl FnMut(&RiskFeatures, &mut [f32]) -> Result<[f32; 2], String>,
    state: usize,
) -> bool {
    // Not `>`: what is no number agrees with nothing.
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= PROBE_TOLERANCE;
    says(step, state).is_ok_and(|ours| ours.len() == theirs.len() && ours.iter().zip(theirs).all(near))
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
#[cfg(not(feature = "tract"))]
mod tests {
    use super::*;

    #[test]
    fn the_head_that_ships_needs_no_tract() {
        assert!(!RiskHead::builtin().unwrap().describe().contains("tract"));
    }

    #[test]
    fn what_no_probe_file_vouches_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, onnx) = (folder.path().join("risk.toml"), folder.path().join("risk.onnx"));
        std::fs::write(&manifest, BUILTIN.0).unwrap();
        std::fs::write(&onnx, BUILTIN.1).unwrap();
        let refused = || RiskHead::load(&manifest).unwrap_err().to_string();
        let why = refused();
        assert!(why.contains("risk.onnx: there is no ") && why.contains("models probe"), "{why}");
        assert!(why.ends_with("this program is built without tract"), "{why}");
        std::fs::write(probe::beside(&onnx), BUILTIN_PROBE).unwrap();
        assert!(RiskHead::load(&manifest).is_ok());
        std::fs::write(probe::beside(&onnx), format!("{BUILTIN_PROBE}0\n")).unwrap();
        assert!(refused().contains("says something else than its probe file"), "{}", refused());
        assert!(RiskHead::probe_file(&manifest).is_err());
    }
}

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests {
    use super::*;

    /// What the head that ships said in training, in two steps (`models/train/risk/train.py`).
    const GOLDEN: &str = include_str!("../artifacts/risk.golden.txt");

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

    fn made_up(scale: f32, anew: bool) -> RiskFeatures {
        RiskFeatures { anew, ..golden_features(scale) }
    }

    #[test]
    fn the_shipped_head_gives_what_it_gave_in_training() {
        let golden: Vec<f32> = GOLDEN.split_whitespace().map(|v| v.parse().unwrap()).collect();
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
        pb::ModelProto::decode(BUILTIN.1).unwrap()
    }

    fn built(onnx: &[u8], known: Known) -> Engine {
        build(Path::new("risk.onnx"), onnx, 96, known).unwrap()
    }

    fn is_own(proto: &pb::ModelProto) -> bool {
        matches!(built(&proto.encode_to_vec(), Ok(None)), Engine::Own(_))
    }

    #[test]
    fn the_heads_own_network_says_what_tract_says() {
        let Engine::Own(mut cell) = built(BUILTIN.1, Ok(None)) else { panic!("run by tract") };
        let mut plan = reference::Head::read(BUILTIN.1, 96).unwrap();
        let (mut own, mut tracts) = (vec![0.0; 96], vec![0.0; 96]);
        let mut apart = 0.0f32;
        for step in 0..200u8 {
            let mut f = made_up(f32::from(step) * 0.02 - 1.0, false);
            f.count = usize::from(step) % 9;
            let ours = cell.step(&f, &mut own);
            let theirs = plan.step(&f, &mut tracts).unwrap();
            let pairs = own.iter().chain(&ours).zip(tracts.iter().chain(&theirs));
            apart = pairs.fold(apart, |most, (a, b)| most.max((a - b).abs()));
        }
        // tract takes the exponentials by approximations, and steps add up.
        assert!(apart < 1e-4, "{apart}");
        assert!(!RiskHead::builtin().unwrap().describe().contains("tract"));
    }

    #[test]
    fn what_is_known_of_the_shipped_head_is_tracts_word() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, onnx) = (folder.path().join("risk.toml"), folder.path().join("risk.onnx"));
        std::fs::write(&manifest, BUILTIN.0).unwrap();
        std::fs::write(&onnx, BUILTIN.1).unwrap();
        let (place, text) = RiskHead::probe_file(&manifest).unwrap();
        assert_eq!(place, folder.path().join("risk.probe.txt"));
        if std::env::var_os("AGENT_UPDATE_PROBE").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts/risk.probe.txt"), &text).unwrap();
        }
        let sha256 = Sha256::digest(BUILTIN.1).into();
        let (known, theirs) = (probe::parse(BUILTIN_PROBE, &sha256).unwrap(), probe::parse(&text, &sha256).unwrap());
        assert_eq!(known.len(), theirs.len());
        assert!(known.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{known:?} {theirs:?}");
        assert!(known.iter().any(|v| v.abs() > 0.1), "it says something");
        // A network that says something else than is known, or less, is put to tract itself.
        let Engine::Own(mut cell) = built(BUILTIN.1, Ok(Some(known.clone()))) else { panic!("run by tract") };
        let mut held = |known: &[f32]| agree(known, |f, kept| Ok(cell.step(f, kept)), 96);
        assert!(held(&known));
        let mut other = known.clone();
        for v in [known[500] + 0.001, f32::NAN] {
            other[500] = v;
            assert!(!held(&other));
        }
        assert!(!held(&known[1..]) && !held(&[]));
        for known in [Ok(Some(other)), Ok(None), Err("broken".to_owned())] {
            assert!(matches!(built(BUILTIN.1, known), Engine::Own(_)));
        }
        // What only tract can run has no probe file.
        let mut more = shipped();
        one_node_more(more.graph.as_mut().unwrap());
        let onnx = more.encode_to_vec();
        std::fs::write(folder.path().join("risk.onnx"), &onnx).unwrap();
        let old = crate::detector::hex(&Sha256::digest(BUILTIN.1));
        std::fs::write(&manifest, BUILTIN.0.replace(&old, &crate::detector::hex(&Sha256::digest(&onnx)))).unwrap();
        assert!(RiskHead::load(&manifest).unwrap().describe().ends_with("run by tract"));
        assert!(RiskHead::probe_file(&manifest).unwrap_err().to_string().contains("only tract can run such a graph"));
    }

    /// One that does nothing.
    fn one_node_more(g: &mut pb::GraphProto) {
        g.node.last_mut().unwrap().output[0] = "before".to_owned();
        let (input, output) = (vec!["before".to_owned()], vec!["risk".to_owned()]);
        g.node.push(pb::NodeProto { op_type: "Identity".to_owned(), input, output, ..Default::default() });
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
        assert!(!is_own(&with(&one_node_more)));
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
