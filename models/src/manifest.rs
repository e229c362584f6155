//! The manifest of a detector: a TOML file beside its ONNX file that says what the model expects and what it gives.
//!
//! Terms. *Family*: how the head is decoded. *Letterbox*: scaled by one factor, top left, the rest filled with the
//! pad value; *stretch*: both sides scaled on their own. Unknown keys are refused, and errors name their line.
//! This module reads and checks; it never opens the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_core::vision::ObjectClass;
use serde::Deserialize;
use toml::Spanned;

use crate::limits::{MAX_CLASSES, MAX_INPUT_SIDE, MAX_MANIFEST_BYTES, MAX_STRIDES};

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than a manifest may be.
    #[error("{}: {bytes} bytes, a manifest has at most {MAX_MANIFEST_BYTES}", path.display())]
    TooLarge {
        /// The manifest.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Not TOML, an unknown or missing key, or a wrong type; the message names line and column.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The manifest.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// A value that cannot be right.
    #[error("{}: line {line}, column {column}: {reason}", path.display())]
    Value {
        /// The manifest.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Why.
        reason: String,
    },
}

/// How a head is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// YOLOX: `[1, points, 5 + classes]`; centre and log size in strides, objectness and class scores as
    /// probabilities; score = objectness * class (Megvii YOLOX, `demo_postprocess`).
    Yolox,
    /// FastestDet: `[1, 5 + classes, rows, columns]`; objectness, tanh offsets, sigmoid sizes, class probabilities;
    /// score = objectness^0.6 * class^0.4 (dog-qiuqiu/FastestDet, `handle_preds`).
    Fastestdet,
}

/// How a frame is brought to the size of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// One factor for both sides, top left, padded.
    Letterbox,
    /// Each side by its own factor.
    Stretch,
}

/// Order of the channels the model expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// Order of the dimensions of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[1, channels, rows, columns]`.
    Nchw,
}

/// The input of a model. A channel value v of 0 to 255 becomes `(v * scale - mean) / std`.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Order of dimensions.
    pub layout: Layout,
    /// Order of channels.
    pub channels: ChannelOrder,
    /// How frames are fitted.
    pub resize: Resize,
    /// Channel value (0 to 255) of the padding of a letterbox.
    pub pad_value: f32,
    /// Factor on channel values.
    pub scale: f32,
    /// Subtracted after scaling, in the model's channel order.
    pub mean: [f32; 3],
    /// Divided by, in the model's channel order.
    pub std: [f32; 3],
}

/// A checked manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// How the head is decoded.
    pub family: Family,
    /// File name of the model, beside the manifest.
    pub file: String,
    /// SHA-256 of that file.
    pub sha256: [u8; 32],
    /// Licence of the model.
    pub licence: String,
    /// Where it came from.
    pub source: String,
    /// The input.
    pub input: InputSpec,
    /// Scores below this are dropped, 0 to 1.
    pub score_threshold: f32,
    /// Overlap (intersection over union) above which the weaker box of the same class is dropped, 0 to 1.
    pub nms_iou: f32,
    /// Strides of the head's levels, pixels of the input, in output order.
    pub strides: Vec<usize>,
    /// Number of classes of the head.
    pub class_count: usize,
    /// Road class of each model class that is used; the others are dropped.
    pub classes: Vec<Option<ObjectClass>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    family: Family,
    file: Spanned<String>,
    sha256: Spanned<String>,
    licence: String,
    source: String,
    input: RawInput,
    head: RawHead,
    classes: BTreeMap<Spanned<String>, Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInput {
    width: Spanned<usize>,
    height: Spanned<usize>,
    layout: Layout,
    channels: ChannelOrder,
    resize: Resize,
    pad_value: Spanned<f32>,
    scale: Spanned<f32>,
    mean: [f32; 3],
    std: Spanned<[f32; 3]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    score_threshold: Spanned<f32>,
    nms_iou: Spanned<f32>,
    strides: Spanned<Vec<usize>>,
    class_count: Spanned<usize>,
}

struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Checker<'_> {
    fn check<T>(&self, ok: bool, at: &Spanned<T>, reason: impl FnOnce() -> String) -> Result<(), ManifestError> {
        if ok {
            return Ok(());
        }
        let before = self.text.get(..at.span().start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        Err(ManifestError::Value { path: self.path.to_owned(), line, column, reason: reason() })
    }
}

fn road_class(name: &str) -> Option<ObjectClass> {
    Some(match name {
        "person" => ObjectClass::Person,
        "bicycle" => ObjectClass::Bicycle,
        "motorcycle" => ObjectClass::Motorcycle,
        "car" => ObjectClass::Car,
        "bus" => ObjectClass::Bus,
        "truck" => ObjectClass::Truck,
        _ => return None,
    })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    ///
    /// # Errors
    /// [`ManifestError`], with the line where there is one.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let read = |source| ManifestError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { path: path.to_owned(), bytes });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(read)?)
    }

    /// Checks the manifest `text`; `path` is for messages.
    ///
    /// # Errors
    /// [`ManifestError`], with the line where there is one.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ManifestError> {
        let raw: RawManifest = toml::from_str(text)
            .map_err(|e| ManifestError::Syntax { path: path.to_owned(), message: e.to_string() })?;
        let c = Checker { path, text };
        let bare = Path::new(raw.file.get_ref()).file_name().is_some_and(|n| n == raw.file.get_ref().as_str());
        c.check(bare, &raw.file, || format!("file \"{}\" is not a bare file name", raw.file.get_ref()))?;
        let sha256 = digest(raw.sha256.get_ref());
        c.check(sha256.is_some(), &raw.sha256, || "sha256 is not 64 hexadecimal digits".into())?;
        check_numbers(&c, &raw)?;
        let count = *raw.head.class_count.get_ref();
        let mut classes = vec![None; count];
        for (name, index) in &raw.classes {
            let class = road_class(name.get_ref());
            c.check(class.is_some(), name, || {
                format!("class \"{}\" is none of person, bicycle, motorcycle, car, bus, truck", name.get_ref())
            })?;
            let i = *index.get_ref();
            c.check(i < count, index, || format!("class index {i} is not below class_count {count}"))?;
            c.check(classes.get(i) == Some(&None), index, || format!("class index {i} is given twice"))?;
            if let Some(slot) = classes.get_mut(i) {
                *slot = class;
            }
        }
        let i = raw.input;
        Ok(Self {
            family: raw.family,
            file: raw.file.into_inner(),
            sha256: sha256.unwrap_or_default(),
            licence: raw.licence,
            source: raw.source,
            input: InputSpec {
                width: i.width.into_inner(),
                height: i.height.into_inner(),
                layout: i.layout,
                channels: i.channels,
                resize: i.resize,
                pad_value: i.pad_value.into_inner(),
                scale: i.scale.into_inner(),
                mean: i.mean,
                std: i.std.into_inner(),
            },
            score_threshold: raw.head.score_threshold.into_inner(),
            nms_iou: raw.head.nms_iou.into_inner(),
            strides: raw.head.strides.into_inner(),
            class_count: count,
            classes,
        })
    }

    /// Points (cells of all levels) that the head gives.
    #[must_use]
    pub fn points(&self) -> usize {
        self.strides.iter().map(|s| (self.input.width / s) * (self.input.height / s)).sum()
    }

    /// Shape of the output that the family gives at this input size.
    #[must_use]
    pub fn output_shape(&self) -> Vec<usize> {
        let values = 5 + self.class_count;
        match self.family {
            Family::Yolox => vec![1, self.points(), values],
            Family::Fastestdet => {
                let s = self.strides.first().copied().unwrap_or(1);
                vec![1, values, self.input.height / s, self.input.width / s]
            }
        }
    }
}

fn check_numbers(c: &Checker<'_>, raw: &RawManifest) -> Result<(), ManifestError> {
    let strides = raw.head.strides.get_ref();
    for side in [&raw.input.width, &raw.input.height] {
        let v = *side.get_ref();
        c.check((16..=MAX_INPUT_SIDE).contains(&v), side, || format!("side {v} is not within 16 to {MAX_INPUT_SIDE}"))?;
        let whole = strides.iter().all(|s| *s > 0 && v % s == 0);
        c.check(whole, side, || format!("side {v} is not a multiple of every stride"))?;
    }
    for v in [&raw.head.score_threshold, &raw.head.nms_iou] {
        let x = *v.get_ref();
        c.check((0.0..=1.0).contains(&x), v, || format!("{x} is not within 0 to 1"))?;
    }
    let pad = *raw.input.pad_value.get_ref();
    c.check((0.0..=255.0).contains(&pad), &raw.input.pad_value, || format!("{pad} is not within 0 to 255"))?;
    let scale = *raw.input.scale.get_ref();
    c.check(scale.is_finite() && scale > 0.0, &raw.input.scale, || format!("scale {scale} is not above 0"))?;
    let std_ok = raw.input.std.get_ref().iter().all(|s| s.is_finite() && *s > 0.0);
    c.check(std_ok, &raw.input.std, || "std must be above 0".into())?;
    let levels = match raw.family {
        Family::Yolox => (1..=MAX_STRIDES).contains(&strides.len()),
        Family::Fastestdet => strides.len() == 1,
    };
    c.check(levels, &raw.head.strides, || format!("{} strides do not fit the family", strides.len()))?;
    let count = *raw.head.class_count.get_ref();
    c.check((1..=MAX_CLASSES).contains(&count), &raw.head.class_count, || {
        format!("class_count {count} is not within 1 to {MAX_CLASSES}")
    })
}
