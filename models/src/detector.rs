//! The trigger detector: a manifest and its ONNX file in, detections of each frame out.
//!
//! Loading checks the file's SHA-256, lowers the graph ([`crate::net`]) and runs that on a probe image. Where a probe file
//! ([`crate::probe`]) says what tract answers to it and the lowered network says the same, that is all. Otherwise tract reads
//! the graph too, settles its shapes, which are compared with the manifest, and runs on the probe: only if both agree is the
//! lowered network used, else tract's own plan is, and [`Detector::describe`] says why. A build without tract refuses what no
//! probe file vouches for ([`DetectorError::Unproven`]). tract may panic on a hostile file: loading catches that and returns
//! [`DetectorError::Panicked`]. Detecting reads no file and no clock.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use agent_core::vision::Detections;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::decode::Decoder;
use crate::limits::{MAX_FRAME_SIDE, MAX_MODEL_BYTES};
use crate::manifest::{Manifest, ManifestError};
use crate::net::{Program, lower};
use crate::preprocess::Preprocessor;
use crate::probe::Known;
#[cfg(feature = "tract")]
use crate::reference;
use crate::{footprint, pb, probe, sizes};

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
        /// What the reader of the file or tract says.
        reason: String,
    },
    /// Nothing vouches for what our own network makes of the model file, and there is no tract to ask.
    #[error("model {}: {reason}, and this program is built without tract", path.display())]
    Unproven {
        /// The model file.
        path: PathBuf,
        /// Why its probe file does not do.
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
/// Its probe file, written by this module's test.
const BUILTIN_PROBE: &str = include_str!("../artifacts/trigger.probe.txt");
/// Values of an output that a probe file has, evenly apart.
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
    #[cfg(feature = "tract")]
    Tract(reference::Net),
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

    /// Loads the detector of a manifest with a model file elsewhere; its probe file may be there too, or beside the manifest.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn load_with(manifest_path: &Path, onnx: &Path) -> Result<Self, DetectorError> {
        let manifest = Manifest::read(manifest_path)?;
        let known = match probe::read(onnx, &manifest.sha256) {
            Ok(None) => probe::read(&manifest_path.with_file_name(&manifest.file), &manifest.sha256),
            known => known,
        };
        let bytes = read(onnx)?;
        Self::from_bytes(manifest, onnx, bytes.into(), Engine::Auto, known)
    }

    /// Loads a detector for a checked manifest with a chosen engine.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn from_manifest(manifest: Manifest, onnx: &Path, engine: Engine) -> Result<Self, DetectorError> {
        let bytes = read(onnx)?;
        let known = probe::read(onnx, &manifest.sha256);
        Self::from_bytes(manifest, onnx, bytes.into(), engine, known)
    }

    /// The detector that ships inside the program.
    ///
    /// # Errors
    /// Never, as a test shows; the type says so rather than a panic.
    pub fn builtin() -> Result<Self, DetectorError> {
        let path = Path::new("builtin");
        let manifest = Manifest::parse(path, BUILTIN.0)?;
        let known = probe::parse(BUILTIN_PROBE, &manifest.sha256).map(Some);
        Self::from_bytes(manifest, path, BUILTIN.1.into(), Engine::Auto, known)
    }

    /// The probe file of a manifest's network: its place, beside the model file, and its text, made anew by tract. What is there
    /// already is not looked at.
    ///
    /// # Errors
    /// As [`Detector::load`]; [`DetectorError::Model`] if only tract can run the network, or runs it otherwise than our own;
    /// [`DetectorError::Unproven`] without tract.
    pub fn probe_file(manifest_path: &Path) -> Result<(PathBuf, String), DetectorError> {
        let manifest = Manifest::read(manifest_path)?;
        let onnx = manifest_path.with_file_name(&manifest.file);
        let text = probe_text(&manifest, &onnx, read(&onnx)?)?;
        Ok((probe::beside(&onnx), text))
    }

    /// Whether a network lowers and runs, whatever it says: what a probe file would be held against, for tests with hostile files.
    ///
    /// # Errors
    /// Why not.
    #[doc(hidden)]
    pub fn lowers(m: &Manifest, onnx: &[u8]) -> Result<(), String> {
        let proto = pb::ModelProto::decode(onnx).map_err(|e| e.to_string())?;
        let nothing = vec![f32::NAN; m.output_shape().iter().product()];
        lowered(m, &proto, &probe_image(m), &nothing).map(drop)
    }

    fn from_bytes(
        manifest: Manifest,
        onnx: &Path,
        bytes: std::borrow::Cow<'_, [u8]>,
        engine: Engine,
        known: Known,
    ) -> Result<Self, DetectorError> {
        check_hash(&manifest, onnx, &bytes)?;
        let net = footprint::loading(|| {
            // Dropped with the rest.
            let bytes = bytes;
            catch_unwind(AssertUnwindSafe(|| build(&manifest, onnx, &bytes, engine, known)))
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
        run(&mut self.net, image, &mut self.raw)?;
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
        run(&mut self.net, image, &mut self.raw)?;
        Ok(&self.raw)
    }

    /// Runs the steps of the lowered network one by one and names each to `seen`; nothing under tract.
    pub fn trace(&mut self, image: &[f32], mut seen: impl FnMut(usize, &str)) {
        match &mut self.net {
            Net::Lowered(p) => p.run_steps(image, |i, step| seen(i, &step.name())),
            #[cfg(feature = "tract")]
            Net::Tract(_) => {}
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
            #[cfg(feature = "tract")]
            (Net::Tract(_), Some(why)) => format!("tract's plan, because {why}"),
            #[cfg(feature = "tract")]
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

/// Parses, lowers, compares: with what is known of tract's answer, else with tract.
fn build(
    m: &Manifest,
    path: &Path,
    bytes: &[u8],
    engine: Engine,
    known: Known,
) -> Result<(Net, Option<String>), DetectorError> {
    let bad = |reason: String| DetectorError::Model { path: path.to_owned(), reason };
    let proto = pb::ModelProto::decode(bytes).map_err(|e| bad(e.to_string()))?;
    let graph = proto.graph.as_ref().ok_or_else(|| bad("no graph".to_owned()))?;
    sizes::check_file(graph, sizes::most(3 * m.input.width * m.input.height)).map_err(bad)?;
    let unproven = match known {
        Ok(Some(known)) if engine == Engine::Auto => match lowered(m, &proto, &probe_image(m), &known) {
            Ok(program) => return Ok((Net::Lowered(Box::new(program)), None)),
            Err(why) => why,
        },
        Ok(_) => probe::missing(path),
        Err(why) => why,
    };
    ask(m, path, bytes, &proto, engine, unproven)
}

/// Settles with tract what no probe file did.
#[cfg(feature = "tract")]
fn ask(
    m: &Manifest,
    path: &Path,
    bytes: &[u8],
    proto: &pb::ModelProto,
    engine: Engine,
    _: String,
) -> Result<(Net, Option<String>), DetectorError> {
    if engine == Engine::Tract {
        return Ok((Net::Tract(reference::Net::read(m, path, bytes)?), None));
    }
    let (probe, theirs) = answer(m, path, bytes)?;
    match lowered(m, proto, &probe, &theirs) {
        Ok(program) => Ok((Net::Lowered(Box::new(program)), None)),
        Err(why) => Ok((Net::Tract(reference::Net::read(m, path, bytes)?), Some(why))),
    }
}

/// There is no tract to ask.
#[cfg(not(feature = "tract"))]
fn ask(
    _: &Manifest,
    path: &Path,
    _: &[u8],
    _: &pb::ModelProto,
    _: Engine,
    reason: String,
) -> Result<(Net, Option<String>), DetectorError> {
    Err(DetectorError::Unproven { path: path.to_owned(), reason })
}

/// The probe, and tract's answer to it. Its plan goes before a lowered network comes: both at once, with their buffers, would be
/// the most memory that the agent ever takes.
#[cfg(feature = "tract")]
fn answer(m: &Manifest, path: &Path, bytes: &[u8]) -> Result<(Vec<f32>, Vec<f32>), DetectorError> {
    let probe = probe_image(m);
    let mut theirs = vec![0.0; m.output_shape().iter().product()];
    reference::Net::read(m, path, bytes)?.run(&probe, &mut theirs)?;
    Ok((probe, theirs))
}

#[cfg(feature = "tract")]
fn probe_text(m: &Manifest, onnx: &Path, bytes: Vec<u8>) -> Result<String, DetectorError> {
    // All values first, and whatever tract may panic on.
    let detector = Detector::from_bytes(m.clone(), onnx, bytes.as_slice().into(), Engine::Auto, Ok(None))?;
    if let Some(reason) = detector.why_tract {
        return Err(DetectorError::Model { path: onnx.to_owned(), reason });
    }
    let (_, theirs) = answer(m, onnx, &bytes)?;
    let kept: Vec<f32> = theirs.iter().copied().step_by(apart(theirs.len())).collect();
    Ok(probe::text(&m.sha256, &kept))
}

#[cfg(not(feature = "tract"))]
fn probe_text(_: &Manifest, onnx: &Path, _: Vec<u8>) -> Result<String, DetectorError> {
    let reason = "a probe file is made by tract".to_owned();
    Err(DetectorError::Unproven { path: onnx.to_owned(), reason })
}

/// Of an output every so many values are in a probe file.
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
fn probe_image(m: &Manifest) -> Vec<f32> {
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

fn run(net: &mut Net, image: &[f32], out: &mut [f32]) -> Result<(), DetectorError> {
    match net {
        Net::Lowered(program) => {
            program.run(image);
            program.write_output(out);
        }
        #[cfg(feature = "tract")]
        Net::Tract(plan) => plan.run(image, out)?,
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
mod tests;
