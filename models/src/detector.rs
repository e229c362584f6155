//! The trigger detector: a manifest and its ONNX file in, detections of each frame out.
//!
//! Loading checks the file's SHA-256, lets tract parse the graph and settle its shapes, compares these with the
//! manifest, lowers the graph ([`crate::net`]) and runs both on a probe image. Only if they agree is the lowered
//! network used; otherwise tract's own plan is, and [`Detector::describe`] says why. tract may panic on a hostile
//! file: loading catches that and returns [`DetectorError::Panicked`]. Detecting reads no file and no clock.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use agent_core::vision::Detections;
use sha2::{Digest, Sha256};
use tract_onnx::pb;
use tract_onnx::prelude::*;

use crate::decode::Decoder;
use crate::footprint;
use crate::limits::{MAX_FRAME_SIDE, MAX_MODEL_BYTES};
use crate::manifest::{Manifest, ManifestError};
use crate::net::{Program, lower};
use crate::preprocess::Preprocessor;
use crate::sizes;

/// Why a detector cannot be loaded or a frame not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The manifest is wrong.
    #[error("manifest {0}")]
    Manifest(#[from] ManifestError),
    /// The model file cannot be read.
    #[error("model {}: {source}", path.display())]
    Read {
        /// The model file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The model file is too large.
    #[error("model {}: {bytes} bytes, at most {MAX_MODEL_BYTES}", path.display())]
    TooLarge {
        /// The model file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The model file is not the one that the manifest names.
    #[error("model {}: SHA-256 is {found}, the manifest says {expected}", path.display())]
    Sha256 {
        /// The model file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// Of the manifest.
        expected: String,
    },
    /// Not an ONNX model, or one that tract cannot run.
    #[error("model {}: {reason}", path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// What tract says.
        reason: String,
    },
    /// The parser panicked on the model file.
    #[error("model {}: the parser gave up on it (panic): {reason}", path.display())]
    Panicked {
        /// The model file.
        path: PathBuf,
        /// The panic's message.
        reason: String,
    },
    /// The model's input or output has another shape than the manifest says.
    #[error("model {}: {what} is {found:?}, the manifest says {expected:?}", path.display())]
    Shape {
        /// The model file.
        path: PathBuf,
        /// "input" or "output".
        what: &'static str,
        /// Of the model.
        found: Vec<usize>,
        /// Of the manifest.
        expected: Vec<usize>,
    },
    /// The frame is empty, too large, or its bytes do not fit its size.
    #[error(
        "frame of {width}x{height} pixels with {bytes} bytes: need 1 to {MAX_FRAME_SIDE} a side and 3 bytes a pixel"
    )]
    Frame {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// The network failed on a frame.
    #[error("model failed on a frame: {0}")]
    Run(String),
}

/// The detector that ships, its manifest first; made by `models/train/trigger`.
const BUILTIN: (&str, &[u8]) =
    (include_str!("../artifacts/trigger.toml"), include_bytes!("../artifacts/trigger.onnx").as_slice());
/// What tract says to its probe, [`KNOWN`] values of it: with that the network that ships is held to tract's word at every start
/// without tract, which takes most of a start's time and memory. Written by this module's test.
const BUILTIN_PROBE: &str = include_str!("../artifacts/trigger.probe.txt");
/// Values of an output that are kept for that, evenly apart.
const KNOWN: usize = 256;

/// Which engine a detector runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The lowered network where possible, else tract's plan.
    Auto,
    /// tract's own plan, unchanged; for comparison.
    Tract,
}

enum Net {
    Lowered(Box<Program>),
    Tract(Box<tract_onnx::tract_core::plan::SimpleState<TypedFact, Box<dyn TypedOp>>>),
}

/// A loaded detector. Not shared between threads; each camera thread loads its own.
pub struct Detector {
    manifest: Manifest,
    net: Net,
    why_tract: Option<String>,
    pre: Preprocessor,
    decoder: Decoder,
    raw: Vec<f32>,
    detections: Detections,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("describe", &self.describe()).finish_non_exhaustive()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

impl Detector {
    /// Loads the detector of a manifest; the model file lies beside it.
    ///
    /// # Errors
    /// [`DetectorError`]: the manifest, the file, its hash, its graph or its shapes.
    pub fn load(manifest_path: &Path) -> Result<Self, DetectorError> {
        let manifest = Manifest::read(manifest_path)?;
        let onnx = manifest_path.with_file_name(&manifest.file);
        Self::from_manifest(manifest, &onnx, Engine::Auto)
    }

    /// Loads the detector of a manifest with a model file elsewhere.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn load_with(manifest_path: &Path, onnx: &Path) -> Result<Self, DetectorError> {
        Self::from_manifest(Manifest::read(manifest_path)?, onnx, Engine::Auto)
    }

    /// Loads a detector for a checked manifest with a chosen engine.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn from_manifest(manifest: Manifest, onnx: &Path, engine: Engine) -> Result<Self, DetectorError> {
        let bytes = read(onnx)?;
        Self::from_bytes(manifest, onnx, bytes.into(), engine, None)
    }

    /// The detector that ships inside the program.
    ///
    /// # Errors
    /// Never, as a test shows; the type says so rather than a panic.
    pub fn builtin() -> Result<Self, DetectorError> {
        let path = Path::new("builtin");
        let known = BUILTIN_PROBE.split_whitespace().map_while(|v| v.parse().ok()).collect();
        Self::from_bytes(Manifest::parse(path, BUILTIN.0)?, path, BUILTIN.1.into(), Engine::Auto, Some(known))
    }

    fn from_bytes(
        manifest: Manifest,
        onnx: &Path,
        bytes: std::borrow::Cow<'_, [u8]>,
        engine: Engine,
        known: Option<Vec<f32>>,
    ) -> Result<Self, DetectorError> {
        check_hash(&manifest, onnx, &bytes)?;
        let net = footprint::loading(|| {
            // Dropped with the rest.
            let bytes = bytes;
            catch_unwind(AssertUnwindSafe(|| build(&manifest, onnx, &bytes, engine, known.as_deref())))
        });
        let (net, why_tract) = net.unwrap_or_else(|panic| {
            let reason = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            Err(DetectorError::Panicked { path: onnx.to_owned(), reason })
        })?;
        let raw = vec![0.0; manifest.output_shape().iter().product()];
        Ok(Self {
            pre: Preprocessor::new(manifest.input.clone()),
            decoder: Decoder::new(&manifest),
            manifest,
            net,
            why_tract,
            raw,
            detections: Detections::new(),
        })
    }

    /// Looks at one frame: RGB, 3 bytes a pixel, rows without gaps. Boxes are fractions of this frame, at most
    /// [`agent_core::limits::MAX_DETECTIONS`], strongest first, after suppression per class. A picture of one shade (a covered
    /// or dark lens) has no boxes: what networks say of those is made up (a flat grey picture was a lorry that fills it).
    ///
    /// # Errors
    /// [`DetectorError::Frame`] if the bytes do not fit the size; [`DetectorError::Run`] if the network fails.
    pub fn detect(&mut self, width: usize, height: usize, rgb: &[u8]) -> Result<&Detections, DetectorError> {
        let sides = 1..=MAX_FRAME_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || rgb.len() != width * height * 3 {
            return Err(DetectorError::Frame { width, height, bytes: rgb.len() });
        }
        if shows_nothing(rgb) {
            self.detections.clear();
            return Ok(&self.detections);
        }
        let image = self.pre.run(width, height, rgb);
        run(&mut self.net, &self.manifest, image, &mut self.raw)?;
        self.decoder.run(&self.manifest, &self.raw, self.pre.fill(), &mut self.detections);
        Ok(&self.detections)
    }

    /// The model's input for a frame, `[3][rows][columns]`, as [`Detector::detect`] makes it.
    ///
    /// # Errors
    /// [`DetectorError::Frame`].
    pub fn preprocess(&mut self, width: usize, height: usize, rgb: &[u8]) -> Result<&[f32], DetectorError> {
        let sides = 1..=MAX_FRAME_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || rgb.len() != width * height * 3 {
            return Err(DetectorError::Frame { width, height, bytes: rgb.len() });
        }
        Ok(self.pre.run(width, height, rgb))
    }

    /// The raw output for a ready input `[3][rows][columns]`, in the order of the ONNX output.
    ///
    /// # Errors
    /// [`DetectorError::Shape`] if the input has another length; [`DetectorError::Run`] if the network fails.
    pub fn run_raw(&mut self, image: &[f32]) -> Result<&[f32], DetectorError> {
        let expected = 3 * self.manifest.input.width * self.manifest.input.height;
        if image.len() != expected {
            let (found, expected) = (vec![image.len()], vec![expected]);
            return Err(DetectorError::Shape { path: PathBuf::new(), what: "input", found, expected });
        }
        run(&mut self.net, &self.manifest, image, &mut self.raw)?;
        Ok(&self.raw)
    }

    /// Runs the steps of the lowered network one by one and names each to `seen`; nothing under tract.
    pub fn trace(&mut self, image: &[f32], mut seen: impl FnMut(usize, &str)) {
        if let Net::Lowered(p) = &mut self.net {
            p.run_steps(image, |i, step| seen(i, &step.name()));
        }
    }

    /// First 8 bytes of the SHA-256 of the model file.
    #[must_use]
    pub fn hash8(&self) -> [u8; 8] {
        self.manifest.sha256.first_chunk().copied().unwrap_or_default()
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether the lowered network runs, rather than tract's own plan.
    #[must_use]
    pub fn is_lowered(&self) -> bool {
        matches!(self.net, Net::Lowered(_))
    }

    /// One line for logs: file, hash, input, engine and, if tract's plan runs, why.
    #[must_use]
    pub fn describe(&self) -> String {
        let m = &self.manifest;
        let engine = match (&self.net, &self.why_tract) {
            (Net::Lowered(p), _) => format!("lowered, {} steps, {} kB", p.steps.len(), p.floats() * 4 / 1000),
            (Net::Tract(_), Some(why)) => format!("tract's plan, because {why}"),
            (Net::Tract(_), None) => "tract's plan".to_owned(),
        };
        let (w, h) = (m.input.width, m.input.height);
        format!("{} ({:?}, {w}x{h}, sha256 {}): {engine}", m.file, m.family, hex(&self.hash8()))
    }
}

fn read(onnx: &Path) -> Result<Vec<u8>, DetectorError> {
    let read = |source| DetectorError::Read { path: onnx.to_owned(), source };
    let bytes = std::fs::metadata(onnx).map_err(read)?.len();
    if bytes > MAX_MODEL_BYTES {
        return Err(DetectorError::TooLarge { path: onnx.to_owned(), bytes });
    }
    std::fs::read(onnx).map_err(read)
}

fn check_hash(manifest: &Manifest, onnx: &Path, bytes: &[u8]) -> Result<(), DetectorError> {
    let found: [u8; 32] = Sha256::digest(bytes).into();
    if found != manifest.sha256 {
        let (found, expected) = (hex(&found), hex(&manifest.sha256));
        return Err(DetectorError::Sha256 { path: onnx.to_owned(), found, expected });
    }
    Ok(())
}

/// Parses, checks shapes, lowers, compares: with what is known of tract's answer, else with tract.
fn build(
    m: &Manifest,
    path: &Path,
    bytes: &[u8],
    engine: Engine,
    known: Option<&[f32]>,
) -> Result<(Net, Option<String>), DetectorError> {
    let bad = |e: &dyn std::fmt::Display| DetectorError::Model { path: path.to_owned(), reason: format!("{e:#}") };
    let onnx = tract_onnx::onnx();
    let proto: pb::ModelProto = onnx.proto_model_for_read(&mut &*bytes).map_err(|e| bad(&e))?;
    let graph = proto.graph.as_ref().ok_or_else(|| bad(&"no graph"))?;
    let most = sizes::most(3 * m.input.width * m.input.height);
    sizes::check_file(graph, most).map_err(|e| bad(&e))?;
    if let Some(known) = known
        && let Ok(program) = lowered(m, &proto, &probe(m), known)
    {
        return Ok((Net::Lowered(Box::new(program)), None));
    }
    let read = || onnx.model_for_proto_model(&proto).and_then(|m| sizes::into_typed(m, most)).map_err(|e| bad(&e));
    let typed = read()?;
    let shape = |fact: TractResult<&TypedFact>| -> Result<Vec<usize>, DetectorError> {
        let fact = fact.map_err(|e| bad(&e))?;
        fact.shape.as_concrete().map(<[usize]>::to_vec).ok_or_else(|| bad(&format!("shape {:?} is open", fact.shape)))
    };
    let input = [1, 3, m.input.height, m.input.width];
    let checks = [
        ("input", shape(typed.input_fact(0))?, input.to_vec()),
        ("output", shape(typed.output_fact(0))?, m.output_shape()),
    ];
    for (what, found, expected) in checks {
        if found != expected {
            return Err(DetectorError::Shape { path: path.to_owned(), what, found, expected });
        }
    }
    let tract = |typed: TypedModel| -> Result<Net, DetectorError> {
        let plan = typed.into_optimized().and_then(|m| m.into_runnable()).and_then(|p| p.spawn());
        plan.map(|state| Net::Tract(Box::new(state))).map_err(|e| bad(&e))
    };
    if engine == Engine::Tract {
        return Ok((tract(typed)?, None));
    }
    // tract's answer to the probe, then its plan goes before the lowered network comes: both at once, with their
    // buffers, would be the most memory that the agent ever takes.
    let probe = probe(m);
    let mut theirs = vec![0.0; m.output_shape().iter().product()];
    let mut plan = tract(typed)?;
    run(&mut plan, m, &probe, &mut theirs)?;
    drop(plan);
    let why = match lowered(m, &proto, &probe, &theirs) {
        Ok(program) => return Ok((Net::Lowered(Box::new(program)), None)),
        Err(why) => why,
    };
    Ok((tract(read()?)?, Some(why)))
}

/// Every so many values are kept of an output.
fn apart(outputs: usize) -> usize {
    (outputs / KNOWN).max(1)
}

/// The lowered network, if it gives on the probe what tract gave (all values, or those that are kept); why not otherwise.
fn lowered(m: &Manifest, proto: &pb::ModelProto, probe: &[f32], theirs: &[f32]) -> Result<Program, String> {
    let mut program = lower::lower(proto, 3, m.input.height, m.input.width).map_err(|why| why.0)?;
    let outputs: usize = m.output_shape().iter().product();
    let step = if theirs.len() == outputs { 1 } else { apart(outputs) };
    if program.output_len() != outputs || theirs.len() != outputs.div_ceil(step) {
        return Err("the lowered output has another length".into());
    }
    let mut ours = vec![0.0; outputs];
    let ran = catch_unwind(AssertUnwindSafe(|| {
        program.run(probe);
        program.write_output(&mut ours);
    }));
    if ran.is_err() {
        return Err("the lowered network failed on the probe".into());
    }
    let worst = ours.iter().step_by(step).zip(theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, nan_max);
    if worst <= PROBE_TOLERANCE {
        Ok(program)
    } else {
        Err(format!("the lowered network differs from it by {worst:e} on the probe"))
    }
}

/// Largest difference from tract that is accepted, relative above 1: both round in another order.
const PROBE_TOLERANCE: f32 = 1e-3;

fn nan_max(a: f32, b: f32) -> f32 {
    if b.is_nan() { f32::INFINITY } else { a.max(b) }
}

/// An image with edges and noise, the same each time.
#[allow(clippy::cast_precision_loss)]
fn probe(m: &Manifest) -> Vec<f32> {
    let (w, h) = (m.input.width, m.input.height);
    let mut seed = 0x9e37_79b9_u32;
    (0..3 * w * h)
        .map(|i| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let square = ((i / 37) ^ (i / w / 29)) & 1;
            let v = (seed >> 24) / 2 + if square == 1 { 128 } else { 0 };
            (v as f32 * m.input.scale - m.input.mean[i / (w * h)]) / m.input.std[i / (w * h)]
        })
        .collect()
}

fn run(net: &mut Net, m: &Manifest, image: &[f32], out: &mut [f32]) -> Result<(), DetectorError> {
    match net {
        Net::Lowered(program) => {
            program.run(image);
            program.write_output(out);
        }
        Net::Tract(state) => {
            let bad = |e: TractError| DetectorError::Run(format!("{e:#}"));
            let input = Tensor::from_shape(&[1, 3, m.input.height, m.input.width], image).map_err(bad)?;
            let outputs = state.run(tvec!(input.into_tvalue())).map_err(bad)?;
            let Some(first) = outputs.first() else { return Err(DetectorError::Run("no output".into())) };
            let plain = first.try_as_plain_ram().map_err(bad)?;
            let values = plain.as_slice::<f32>().map_err(bad)?;
            if values.len() != out.len() {
                return Err(DetectorError::Run(format!("{} values, not {}", values.len(), out.len())));
            }
            out.copy_from_slice(values);
        }
    }
    Ok(())
}

/// Levels within which all of a picture's values lie when it shows nothing: noise of a sensor, no edge of anything.
const ONE_SHADE: u8 = 16;
/// Pixels that are looked at for that, spread over the picture.
const SAMPLES: usize = 4096;

/// Whether a picture (RGB) is of one shade.
fn shows_nothing(rgb: &[u8]) -> bool {
    let step = (rgb.len() / 3 / SAMPLES).max(1);
    let (mut low, mut high) = ([u8::MAX; 3], [0; 3]);
    for pixel in rgb.chunks_exact(3).step_by(step) {
        for ((v, low), high) in pixel.iter().zip(&mut low).zip(&mut high) {
            (*low, *high) = ((*low).min(*v), (*high).max(*v));
        }
    }
    low.iter().zip(&high).all(|(low, high)| high.saturating_sub(*low) < ONE_SHADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(known: Option<&[f32]>, engine: Engine) -> (Net, Option<String>) {
        let path = Path::new("builtin");
        build(&Manifest::parse(path, BUILTIN.0).unwrap(), path, BUILTIN.1, engine, known).unwrap()
    }

    /// tract's answer to the probe: the values that are kept of it, and how many there are in all.
    fn of_tract() -> (Vec<f32>, usize) {
        let m = Manifest::parse(Path::new("builtin"), BUILTIN.0).unwrap();
        let mut theirs = vec![0.0; m.output_shape().iter().product()];
        let (mut plan, _) = built(None, Engine::Tract);
        run(&mut plan, &m, &probe(&m), &mut theirs).unwrap();
        (theirs.iter().copied().step_by(apart(theirs.len())).collect(), theirs.len())
    }

    #[test]
    fn what_is_known_of_the_shipped_detector_is_tracts_word() {
        let (theirs, all) = of_tract();
        if std::env::var_os("AGENT_UPDATE_PROBE").is_some() {
            let text: String = theirs.iter().map(|v| format!("{v}\n")).collect();
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts/trigger.probe.txt"), text).unwrap();
        }
        let known: Vec<f32> = BUILTIN_PROBE.lines().map(|v| v.parse().unwrap()).collect();
        assert!(known.len() == all.div_ceil(apart(all)) && known.len() > KNOWN / 2, "{} of {all}", known.len());
        assert!(known.iter().any(|v| v.abs() > 0.1), "it says something");
        for (known, theirs) in known.iter().zip(&theirs) {
            assert!((known - theirs).abs() <= 1e-4 * theirs.abs().max(1.0), "{known} {theirs}");
        }
    }

    #[test]
    fn a_network_that_says_something_else_than_is_known_is_put_to_tract_itself() {
        let known: Vec<f32> = BUILTIN_PROBE.lines().map(|v| v.parse().unwrap()).collect();
        let m = Manifest::parse(Path::new("builtin"), BUILTIN.0).unwrap();
        let proto = tract_onnx::onnx().proto_model_for_read(&mut &*BUILTIN.1).unwrap();
        let probe = probe(&m);
        let held = |known: &[f32]| lowered(&m, &proto, &probe, known).map(drop);
        assert_eq!(held(&known), Ok(()));
        let mut other = known.clone();
        other[100] += 0.01;
        assert!(held(&other).unwrap_err().contains("differs"));
        other[100] = f32::NAN;
        assert!(held(&other).unwrap_err().contains("differs"));
        assert!(held(&known[1..]).unwrap_err().contains("length"));
        assert!(held(&[]).unwrap_err().contains("length"));
        // Known wrongly, it is tract's own answer that counts.
        let (net, why) = built(Some(&other), Engine::Auto);
        assert!(matches!(net, Net::Lowered(_)) && why.is_none());
    }
}
