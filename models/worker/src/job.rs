//! What is asked of a student and what it answers.
//!
//! Terms: a *job* is one event put to the student; its *window* is the span of video around time zero that the model
//! was trained for; a *row* is what stands beside one frame. Times are seconds from the window's first frame that was
//! sent. Plain data; [`JobSpec::check`] and its like hold the caps, because what comes from a socket may be anything.

use agent_wire::{EventId, Hash8};
use serde::{Deserialize, Serialize};

use crate::limits::{
    MAX_ANSWER_BYTES, MAX_ASK_TOKENS, MAX_CODES, MAX_JOB_FRAMES, MAX_OBJECTS, MAX_PICTURE_BYTES, MAX_PICTURE_SIDE,
    MAX_QUESTION_BYTES,
};

/// The span of video that a model was trained for. Default: Trinci et al., t_e - 4 s to + 2 s at 3 fps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Frames, at most [`MAX_JOB_FRAMES`].
    pub frames: u16,
    /// Frames a second.
    pub fps: f32,
    /// Begin before time zero, s.
    pub before_s: f32,
    /// End after time zero, s.
    pub after_s: f32,
    /// Width of a picture, pixels.
    pub width: u16,
    /// Height of a picture, pixels.
    pub height: u16,
}

impl Default for Window {
    fn default() -> Self {
        Self { frames: 18, fps: 3.0, before_s: 4.0, after_s: 2.0, width: 420, height: 252 }
    }
}

impl Window {
    /// Bytes of one picture.
    #[must_use]
    pub const fn picture_bytes(&self) -> usize {
        3 * self.width as usize * self.height as usize
    }

    /// Holds the caps.
    ///
    /// # Errors
    /// What is out of range, in words.
    pub fn check(&self) -> Result<(), String> {
        let frames = usize::from(self.frames);
        if !(1..=MAX_JOB_FRAMES).contains(&frames) {
            return Err(format!("a window of {frames} frames; 1 to {MAX_JOB_FRAMES} are taken"));
        }
        if !(0.1..=60.0).contains(&self.fps) {
            return Err(format!("a window at {} frames a second; 0.1 to 60 are taken", self.fps));
        }
        if !(0.0..=60.0).contains(&self.before_s) || !(0.0..=60.0).contains(&self.after_s) {
            return Err(format!("a window from -{} to +{} s; 0 to 60 are taken", self.before_s, self.after_s));
        }
        let sides = 1..=MAX_PICTURE_SIDE;
        if !sides.contains(&self.width) || !sides.contains(&self.height) || self.picture_bytes() > MAX_PICTURE_BYTES {
            return Err(format!(
                "pictures of {}x{}; at most {MAX_PICTURE_BYTES} bytes of RGB are taken",
                self.width, self.height
            ));
        }
        Ok(())
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The event.
    pub event: EventId,
    /// Frames that will come if the recording has them all.
    pub frames: u16,
    /// Their window.
    pub window: Window,
    /// A free question in place of the six tasks.
    pub question: Option<String>,
    /// Most tokens of the answer to it.
    pub max_tokens: u16,
    /// Vision tokens that may be spent; `None` leaves it to the model file. The ladder's smaller step sets it.
    pub token_budget: Option<u32>,
    /// The job is given up this long after its end was asked for, ms; 0 is no limit (the daemon's guard still holds).
    pub deadline_ms: u32,
}

impl JobSpec {
    /// The six tasks about an event.
    #[must_use]
    pub fn tasks(event: EventId, window: Window) -> Self {
        let frames = window.frames;
        Self { event, frames, window, question: None, max_tokens: MAX_ASK_TOKENS, token_budget: None, deadline_ms: 0 }
    }

    /// Holds the caps.
    ///
    /// # Errors
    /// What is out of range, in words.
    pub fn check(&self) -> Result<(), String> {
        self.window.check()?;
        if self.frames > self.window.frames {
            return Err(format!("{} frames in a window of {}", self.frames, self.window.frames));
        }
        if self.question.as_ref().is_some_and(|q| q.is_empty() || q.len() > MAX_QUESTION_BYTES) {
            return Err(format!("a question of 1 to {MAX_QUESTION_BYTES} bytes is taken"));
        }
        if self.max_tokens > MAX_ASK_TOKENS {
            return Err(format!("{} tokens asked for; at most {MAX_ASK_TOKENS}", self.max_tokens));
        }
        Ok(())
    }
}

/// Telemetry beside one frame (Trinci et al.).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetryRow {
    /// Acceleration without gravity in vehicle axes (x forward, y left, z up), m/s^2: the mean of the samples between
    /// the frame's time and one frame interval before it.
    pub acc_mps2: [f32; 3],
    /// Heading change over the same samples, degrees, left positive: the sum of the yaw rate times the sample interval.
    pub heading_change_deg: f32,
    /// Speed, m/s, linearly interpolated at the frame's time.
    pub speed_mps: Option<f32>,
}

/// Class of an object, as the trigger's manifest maps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// Person on foot.
    Person,
    /// Bicycle.
    Bicycle,
    /// Motorbike or scooter.
    Motorcycle,
    /// Car or van.
    Car,
    /// Bus.
    Bus,
    /// Lorry.
    Truck,
    /// Anything else.
    Other,
}

impl ObjectKind {
    /// The word for a prompt.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Bicycle => "bicycle",
            Self::Motorcycle => "motorcycle",
            Self::Car => "car",
            Self::Bus => "bus",
            Self::Truck => "truck",
            Self::Other => "object",
        }
    }
}

impl From<agent_core::vision::ObjectClass> for ObjectKind {
    fn from(class: agent_core::vision::ObjectClass) -> Self {
        use agent_core::vision::ObjectClass;
        match class {
            ObjectClass::Person => Self::Person,
            ObjectClass::Bicycle => Self::Bicycle,
            ObjectClass::Motorcycle => Self::Motorcycle,
            ObjectClass::Car => Self::Car,
            ObjectClass::Bus => Self::Bus,
            ObjectClass::Truck => Self::Truck,
            ObjectClass::Other => Self::Other,
        }
    }
}

/// One of the nearest objects at a frame (AutoVideoTrack's table, as far as the trigger knows it). `None` is "not
/// valid": the tracker does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// What.
    pub class: ObjectKind,
    /// Rough distance, m.
    pub distance_m: Option<f32>,
    /// Motion of the centre of its box, fractions of the picture a second (x right, y down).
    pub flow_per_s: Option<[f32; 2]>,
    /// Closing speed, m/s, approaching positive.
    pub closing_mps: Option<f32>,
}

/// One frame for the student: RGB24, interleaved, rows from the top, no padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameInput<'a> {
    /// Seconds from the window's first frame.
    pub t_s: f32,
    /// Width, pixels.
    pub width: u16,
    /// Height, pixels.
    pub height: u16,
    /// `3 * width * height` bytes.
    pub rgb: &'a [u8],
    /// Telemetry beside it, where axes and samples are known.
    pub telemetry: Option<TelemetryRow>,
    /// The nearest objects, nearest first, at most [`MAX_OBJECTS`].
    pub objects: &'a [ObjectRow],
}

impl FrameInput<'_> {
    /// Holds the caps and that the picture has the bytes its size says.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&self) -> Result<(), String> {
        let bytes = 3 * usize::from(self.width) * usize::from(self.height);
        let side = self.width.max(self.height);
        if bytes == 0 || bytes > MAX_PICTURE_BYTES || side > MAX_PICTURE_SIDE || bytes != self.rgb.len() {
            let have = self.rgb.len();
            return Err(format!("a picture of {}x{} with {have} bytes; {bytes} belong to it", self.width, self.height));
        }
        if !self.t_s.is_finite() || self.objects.len() > MAX_OBJECTS {
            return Err(format!("a frame at {} s with {} objects", self.t_s, self.objects.len()));
        }
        Ok(())
    }
}

/// The first answer: does a collision happen in the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelAnswer {
    /// Probability, 0 to 1.
    pub probability: f32,
    /// Whether it is calibrated; if not it is the model's own, which is usually too sure.
    pub calibrated: bool,
}

/// Severity in three classes; probabilities sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeverityAnswer {
    /// A collision happened.
    pub collision: f32,
    /// A near-collision.
    pub near_collision: f32,
    /// Neither.
    pub normal: f32,
}

/// A text answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextAnswer {
    /// Its index in the codebook's list, if it is a known answer.
    pub code: Option<u16>,
    /// The text in full, at most [`MAX_ANSWER_BYTES`].
    pub text: String,
    /// Probability, 0 to 1.
    pub probability: f32,
}

/// A span of time, seconds from the window's first frame; a moment has equal ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeAnswer {
    /// Begin, s.
    pub from_s: f32,
    /// End, s.
    pub to_s: f32,
    /// Probability on the student's time grid, 0 to 1.
    pub probability: f32,
}

/// How long it took, ms of the worker's clock, from the moment the answer was asked for. What was encoded as it
/// arrived before that is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// To the label.
    pub label_ms: u32,
    /// To the last answer.
    pub total_ms: u32,
}

/// What the student says of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Crash recognition.
    pub label: LabelAnswer,
    /// Severity, where the model was trained for it.
    pub severity: Option<SeverityAnswer>,
    /// Who hits whom.
    pub description: Option<TextAnswer>,
    /// The most likely cause.
    pub cause: Option<TextAnswer>,
    /// What would have prevented it.
    pub prevention: Option<TextAnswer>,
    /// When the crash happens.
    pub crash: Option<TimeAnswer>,
    /// First visible sign, as a span of no length.
    pub pre_crash: Option<TimeAnswer>,
    /// Frames that it rests on.
    pub frames: u16,
    /// Whether the model read telemetry.
    pub telemetry: bool,
    /// Step of the ladder: 0 full, 1 smaller budget, 2 small model. The daemon fills it in.
    pub ladder_step: u8,
    /// How long it took.
    pub timings: Timings,
}

impl Answers {
    /// Holds the caps: texts, probabilities, finite times.
    ///
    /// # Errors
    /// What is out of range, in words.
    pub fn check(&self) -> Result<(), String> {
        let share = |name: &str, p: f32| {
            if (0.0..=1.0).contains(&p) { Ok(()) } else { Err(format!("a probability of {p} for {name}")) }
        };
        share("the label", self.label.probability)?;
        if let Some(s) = self.severity {
            for p in [s.collision, s.near_collision, s.normal] {
                share("severity", p)?;
            }
        }
        for (name, text) in
            [("description", &self.description), ("cause", &self.cause), ("prevention", &self.prevention)]
        {
            let Some(text) = text else { continue };
            share(name, text.probability)?;
            if text.text.len() > MAX_ANSWER_BYTES {
                return Err(format!("{} bytes of {name}; at most {MAX_ANSWER_BYTES}", text.text.len()));
            }
        }
        for (name, time) in [("the crash", self.crash), ("the first sign", self.pre_crash)] {
            let Some(time) = time else { continue };
            share(name, time.probability)?;
            if !time.from_s.is_finite() || !time.to_s.is_finite() {
                return Err(format!("{name} from {} to {} s", time.from_s, time.to_s));
            }
        }
        Ok(())
    }
}

/// The known answers of a model: what the codes in a report mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codebook {
    /// Its version.
    pub version: u16,
    /// Descriptions by code.
    pub description: Vec<String>,
    /// Causes by code.
    pub cause: Vec<String>,
    /// Preventions by code.
    pub prevention: Vec<String>,
}

/// What a loaded model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// First bytes of the SHA-256 of its weights.
    pub model: Hash8,
    /// Its name.
    pub name: String,
    /// Its licence.
    pub licence: String,
    /// Parameters.
    pub parameters: u64,
    /// What it runs on, in words: device, threads, backend.
    pub device: String,
    /// The window that it was trained for.
    pub window: Window,
    /// It reads telemetry.
    pub telemetry: bool,
    /// It reads the object table.
    pub objects: bool,
    /// What it was trained on, where its file says so: `simulated`.
    pub trained_on: Option<String>,
    /// Its label is calibrated.
    pub calibrated: bool,
    /// Its known answers.
    pub codebook: Codebook,
}

impl Facts {
    /// Holds the caps.
    ///
    /// # Errors
    /// What is out of range, in words.
    pub fn check(&self) -> Result<(), String> {
        self.window.check()?;
        let book = &self.codebook;
        for (name, list) in
            [("descriptions", &book.description), ("causes", &book.cause), ("preventions", &book.prevention)]
        {
            if list.len() > MAX_CODES || list.iter().any(|t| t.len() > MAX_ANSWER_BYTES) {
                return Err(format!(
                    "{} {name}; at most {MAX_CODES} of {MAX_ANSWER_BYTES} bytes are taken",
                    list.len()
                ));
            }
        }
        Ok(())
    }
}
