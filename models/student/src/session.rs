//! A loaded student and one job on it: frames in, answers out.
//!
//! A job: [`Student::begin`], [`Student::push_frame`] for each frame as it comes (it is cut, pruned, encoded and put into
//! the prefix at once, so that little is left to do when the last one is in), then [`Student::answer`] for the tasks of
//! the file, [`Student::ask`] for a free question, or [`Student::choose`] for a choice among given answers; each any
//! number of times over the same frames. Times in answers are seconds from the window's first frame.
//!
//! Terms: *texts* are what the file has besides weights; the *span* is the window's length in seconds; *room* is what the
//! caches were made for, once, at load. Speaks to no socket and decides nothing about events. A job that failed or was
//! cancelled leaves nothing behind: the next one begins with an empty prefix.

mod load;
mod read;

use std::path::Path;
use std::time::Instant;

use agent_worker::job::{
    Answers, Facts, FrameInput, JobSpec, LabelAnswer, SeverityAnswer, TimeAnswer, Timings, Window,
};

pub use load::{Asked, Texts, answerable, texts};

use crate::calibration::label_probability;
use crate::decode::{self, Decoded, End, First, Mode, Outcome, Plan, Question, Score, Stats, Trie};
use crate::engine::{EngineLanguage, EngineVision};
#[cfg(feature = "cuda")]
use crate::error::Place;
use crate::error::{Result, StudentError};
use crate::file::ModelFile;
use crate::frames::{Pruner, Pruning, cut, fit};
use crate::limits::MAX_BRANCHES;
use crate::llm::candle::CandleLanguage;
use crate::llm::{Language, Piece, Room, Seeing};
use crate::prompt::{Prompt, head};
use crate::shape::ModelShape;
use crate::tasks::{Task, instants, intervals, parse_label};
use crate::vision::Vision;

/// Longest window whose times have known answers on the 0.1 s grid, tenths of a second: 20 s. Beyond it times are
/// decoded without drafts.
pub const MAX_GRID_TENTHS: u32 = 200;
/// Least tokens of a branch, so that a free question finds room also where the tasks are short.
const MIN_BRANCH_TOKENS: usize = 512;
/// Branch points that drafts pass on the more frequent side.
const DRAFT_THROUGH: usize = 1;

/// Where the student runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number; only in a build with the feature `cuda`.
    Cuda(usize),
}

/// Which code computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// candle, on any device.
    #[default]
    Candle,
    /// This crate's own kernels, on the CPU and on a GPU (where the GPU's cannot take a model's sizes: candle).
    Engine,
}

/// How a student is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// Threads of [`Backend::Engine`]; 0 leaves it to the machine. candle takes its number from the environment
    /// (`RAYON_NUM_THREADS`) when the process starts, and cannot be told otherwise.
    pub threads: usize,
    /// Most tokens of a prefix; `None`: what the file's window needs. More frames or larger ones are then refused.
    pub max_prefix_tokens: Option<usize>,
    /// Which vision tokens are left out.
    pub pruning: Pruning,
    /// Which code computes.
    pub backend: Backend,
    /// How tokens are chosen.
    pub mode: Mode,
    /// The label's question has a step to itself: the label comes sooner, all answers a little later.
    pub label_first: bool,
    /// Most tokens drafted for an answer in one step, at most [`decode::limits::MAX_DRAFT`]; 0 drafts none.
    pub draft: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            threads: 0,
            max_prefix_tokens: None,
            pruning: Pruning::Upstream,
            backend: Backend::Candle,
            mode: Mode::Exact,
            label_first: true,
            draft: decode::limits::MAX_DRAFT,
        }
    }
}

/// The frames of one job so far.
#[derive(Debug)]
struct Job {
    shape: ModelShape,
    pruner: Pruner,
    window: Window,
    expected: usize,
    frames: u16,
    last_s: f32,
    telemetry: bool,
}

/// Known answers of times in a window of so many tenths of a second.
#[derive(Debug)]
struct Grid {
    tenths: u32,
    instants: Option<Trie>,
    intervals: Option<Trie>,
}

/// A loaded student.
pub struct Student {
    texts: Texts,
    shape: ModelShape,
    language: Box<dyn Language>,
    seeing: Box<dyn Seeing>,
    room: Room,
    options: Options,
    grid: Grid,
    job: Option<Job>,
    stats: Stats,
    label_logit: Option<f32>,
}

impl Student {
    /// Loads a model file.
    ///
    /// # Errors
    /// What is wrong with the file, by key or tensor; [`StudentError::Compute`] where the device has no room;
    /// [`StudentError::Call`] for a device or backend that this build does not have.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let file = ModelFile::open(path)?;
        let (texts, shape) = (texts(&file)?, file.shape()?);
        let room = room(&texts, &shape, options)?;
        let (language, seeing, device) = backends(&file, room, options)?;
        let mut student = Self::assemble(texts, shape, room, language, seeing, options)?;
        student.texts.facts.device = device;
        Ok(student)
    }

    /// Puts a student together from its parts; `room` must be what `language` was made for.
    ///
    /// # Errors
    /// [`StudentError::Key`] if the file's answers to the label cannot be told apart, [`StudentError::Tokenizer`].
    pub fn assemble(
        texts: Texts,
        shape: ModelShape,
        room: Room,
        language: Box<dyn Language>,
        seeing: Box<dyn Seeing>,
        options: &Options,
    ) -> Result<Self> {
        let grid = Grid { tenths: 0, instants: None, intervals: None };
        let (options, stats, label_logit) = (*options, Stats::default(), None);
        let window = texts.facts.window;
        let mut student = Self { texts, shape, language, seeing, room, options, grid, job: None, stats, label_logit };
        load::label_tokens(&student.texts.tokens)?;
        student.set_grid(window)?;
        Ok(student)
    }

    /// What the model is.
    pub fn facts(&self) -> &Facts {
        &self.texts.facts
    }

    /// Counts of the last answer.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// logit(Yes) - logit(No) of the last label, before any calibration: what a calibration is fitted to.
    pub fn label_logit(&self) -> Option<f32> {
        self.label_logit
    }

    /// Tokens in the prefix of the job so far.
    pub fn prefix_tokens(&self) -> usize {
        self.language.prefix_len()
    }

    /// Forgets the job before and begins a new one.
    ///
    /// # Errors
    /// [`StudentError::Call`] for a job that does not hold the caps or has no frames.
    pub fn begin(&mut self, spec: &JobSpec) -> Result<()> {
        self.job = None;
        self.language.reset();
        spec.check().map_err(call)?;
        if spec.frames == 0 {
            return Err(call("a job without frames".to_owned()));
        }
        self.set_grid(spec.window)?;
        let mut shape = self.shape.clone();
        let expected = usize::from(spec.frames);
        // What the caches were made for, whatever the size of the pictures that come.
        let most = per_frame(&self.shape)? * expected;
        let budget = spec.token_budget.map_or(usize::MAX, |b| b as usize);
        shape.image.max_tokens = shape.image.max_tokens.min(budget).min(most).max(1);
        let pruner = Pruner::new(self.options.pruning);
        let (window, last_s) = (spec.window, f32::NEG_INFINITY);
        self.job = Some(Job { shape, pruner, window, expected, frames: 0, last_s, telemetry: false });
        Ok(())
    }

    /// Takes the next frame of the job: cuts it, leaves out what did not change, encodes the rest and appends it to the
    /// prefix. Telemetry and objects are read only where the model was trained for them.
    ///
    /// # Errors
    /// [`StudentError::Call`] without a job, for more frames than announced or one that is not later than the last;
    /// [`StudentError::Frame`] for a picture that cannot be used; [`StudentError::Limit`] past the room. The job ends
    /// with any error.
    pub fn push_frame(&mut self, input: &FrameInput<'_>) -> Result<()> {
        let mut job = self.job.take().ok_or_else(|| call("a frame without a job".to_owned()))?;
        input.check().map_err(call)?;
        if usize::from(job.frames) >= job.expected || input.t_s <= job.last_s {
            let (n, t) = (job.frames + 1, input.t_s);
            return Err(call(format!("frame {n} of {} at {t} s: too many, or not in order", job.expected)));
        }
        let size = (usize::from(input.height), usize::from(input.width));
        let to = fit(size, job.expected, &job.shape.image, &job.shape.vision)?;
        let mut frame = cut(input.rgb, size, to, &job.shape.image, &job.shape.vision)?;
        job.pruner.mark(&mut frame);
        let facts = &self.texts.facts;
        let telemetry = input.telemetry.as_ref().filter(|_| facts.telemetry);
        let objects = if facts.objects { input.objects } else { &[] };
        let head = head(input.t_s, telemetry, objects);
        let ids = self.texts.prompt.frame(&self.texts.tokens, job.frames == 0, &head)?;
        let seen = self.seeing.encode(std::slice::from_ref(&frame))?;
        // In one pass: a backend that unpacks its matrices for many rows does so once a frame.
        self.language.extend_pieces(&[Piece::Tokens(&ids), Piece::Embeddings(&seen)])?;
        job.telemetry |= telemetry.is_some();
        job.frames += 1;
        job.last_s = input.t_s;
        self.job = Some(job);
        Ok(())
    }

    /// Answers all tasks of the file about the frames so far. `cancel` is asked between steps; `on_label` hears the
    /// label as soon as it is known, before any other answer.
    ///
    /// # Errors
    /// [`StudentError::Cancelled`], after which the job still stands; [`StudentError::Call`] without frames; what the
    /// backend says.
    pub fn answer(&mut self, cancel: &dyn Fn() -> bool, on_label: &mut dyn FnMut(&LabelAnswer)) -> Result<Answers> {
        let begin = Instant::now();
        let since = || u32::try_from(begin.elapsed().as_millis()).unwrap_or(u32::MAX);
        let (frames, telemetry, span_s) = self.seen()?;
        let watch = load::label_tokens(&self.texts.tokens)?;
        let questions: Vec<Question<'_>> = self
            .texts
            .asked
            .iter()
            .map(|asked| Question {
                prompt: &asked.prompt,
                trie: asked.trie.as_ref().or(match asked.task {
                    Task::Localization => self.grid.intervals.as_ref(),
                    Task::PreCrash => self.grid.instants.as_ref(),
                    _ => None,
                }),
                max_tokens: asked.max_tokens,
                watch: if asked.task == Task::Recognition { &watch } else { &[] },
            })
            .collect();
        let label_at = self.texts.asked.iter().position(|a| a.task == Task::Recognition);
        let calibration = self.texts.calibration;
        let (mut label, mut label_ms, mut logit) = (None, 0, None);
        let mut on_first = |first: First| {
            if Some(first.question) == label_at
                && let [yes, no] = *first.watched.as_slice()
            {
                let (probability, calibrated) = label_probability(calibration.as_ref(), yes - no);
                let answer = LabelAnswer { probability, calibrated };
                (label, label_ms, logit) = (Some(answer), since(), Some(yes - no));
                on_label(&answer);
            }
        };
        let plan = Plan {
            questions: &questions,
            ends: &self.ends(),
            mode: if self.texts.closed { Mode::Constrained } else { self.options.mode },
            draft: self.options.draft.min(decode::limits::MAX_DRAFT),
            through: DRAFT_THROUGH,
            first: label_at.filter(|_| self.options.label_first),
        };
        let outcome = decode::run(self.language.as_mut(), &plan, cancel, &mut on_first)?;
        (self.stats, self.label_logit) = (outcome.stats, logit);
        let label = label.ok_or_else(|| call("the model gave no label".to_owned()))?;
        let severity = self.severity(&outcome, cancel)?;
        let mut answers = self.read(&outcome, span_s, label)?;
        (answers.severity, answers.frames, answers.telemetry) = (severity, frames, telemetry);
        answers.timings = Timings { label_ms, total_ms: since() };
        Ok(answers)
    }

    /// Answers a free question about the frames so far, with at most `max_tokens` tokens and as the room allows. The
    /// text is the model's own and may be cut.
    ///
    /// # Errors
    /// As [`Student::answer`]; [`StudentError::Limit`] for a question that leaves no room.
    pub fn ask(&mut self, question: &str, max_tokens: u16, cancel: &dyn Fn() -> bool) -> Result<String> {
        self.seen()?;
        let prompt = self.texts.prompt.question(&self.texts.tokens, question)?;
        let left = self.room.branch.saturating_sub(prompt.len());
        if left == 0 {
            let (asked, cap) = (prompt.len() as u64, self.room.branch as u64);
            return Err(StudentError::Limit { what: "tokens of a question", asked, cap });
        }
        let max_tokens = usize::from(max_tokens).clamp(1, left);
        let question = Question { prompt: &prompt, trie: None, max_tokens, watch: &[] };
        let (ends, questions) = (self.ends(), [question]);
        let plan = Plan { questions: &questions, ends: &ends, mode: Mode::Exact, draft: 0, through: 0, first: None };
        let outcome = decode::run(self.language.as_mut(), &plan, cancel, &mut |_| {})?;
        self.stats = outcome.stats;
        let tokens = outcome.answers.first().map_or(&[][..], |a| &a.tokens);
        Ok(self.texts.tokens.decode(tokens)?.trim().to_owned())
    }

    /// How likely each of some given answers to a question is: multiple choice, or with all instants of the window the
    /// exact distribution over its 0.1 s grid.
    ///
    /// # Errors
    /// As [`Student::ask`]; [`StudentError::Limit`] for too many options.
    pub fn choose(&mut self, question: &str, options: &[&str], cancel: &dyn Fn() -> bool) -> Result<Vec<Score>> {
        self.seen()?;
        let prompt = self.texts.prompt.question(&self.texts.tokens, question)?;
        let options = load::encode_all(&self.texts.tokens, options.iter().copied())?;
        let ends = self.ends();
        decode::score(self.language.as_mut(), &prompt, &options, &ends, self.room.branches, cancel)
    }

    /// Frames, whether telemetry was read, and the window's span, of a job that has frames.
    fn seen(&self) -> Result<(u16, bool, f32)> {
        match &self.job {
            Some(job) if job.frames > 0 => Ok((job.frames, job.telemetry, span(job.window))),
            _ => Err(call("a question without frames".to_owned())),
        }
    }

    fn ends(&self) -> Vec<u32> {
        let chat = self.texts.tokens.chat();
        std::iter::once(chat.end).chain(chat.end_of_text).collect()
    }

    /// Makes the known times of a window, unless they are there.
    fn set_grid(&mut self, window: Window) -> Result<()> {
        let tenths = (span(window) * 10.0).round() as u32;
        if tenths == self.grid.tenths {
            return Ok(());
        }
        let (mut first, mut second) = (None, None);
        if tenths <= MAX_GRID_TENTHS {
            let tokens = &self.texts.tokens;
            let trie = |texts: &mut dyn Iterator<Item = String>| -> Result<Option<Trie>> {
                let encoded = texts.map(|t| tokens.encode_plain(&t)).collect::<std::result::Result<Vec<_>, _>>()?;
                // A vocabulary of bytes may need more nodes than there may be: then times are decoded without drafts.
                Ok(Trie::new(tokens.chat().end, encoded).ok())
            };
            (first, second) = (trie(&mut instants(tenths))?, trie(&mut intervals(tenths))?);
        }
        self.grid = Grid { tenths, instants: first, intervals: second };
        Ok(())
    }

    fn read(&self, outcome: &Outcome, span_s: f32, label: LabelAnswer) -> Result<Answers> {
        let mut answers = Answers {
            label,
            severity: None,
            description: None,
            cause: None,
            prevention: None,
            crash: None,
            pre_crash: None,
            frames: 0,
            telemetry: false,
            ladder_step: 0,
            timings: Timings::default(),
        };
        let (tokens, book) = (&self.texts.tokens, &self.texts.facts.codebook);
        let mut says_no = false;
        for (asked, decoded) in self.texts.asked.iter().zip(&outcome.answers) {
            let Some(text) = read::text(tokens, decoded)? else { continue };
            let time = || -> Option<TimeAnswer> { read::time(asked.task, &text, span_s, decoded).filter(|_| !says_no) };
            match asked.task {
                Task::Recognition => says_no = parse_label(&text) == Some(false),
                Task::Localization => answers.crash = time(),
                Task::PreCrash => answers.pre_crash = time(),
                Task::Severity => {}
                task => {
                    let answer = read::known_or_text(book, task, text, decoded);
                    match task {
                        Task::Description => answers.description = answer,
                        Task::Cause => answers.cause = answer,
                        _ => answers.prevention = answer,
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Severity of files that have the question: from the pass itself where the three answers part at once, else by
    /// scoring each.
    fn severity(&mut self, outcome: &Outcome, cancel: &dyn Fn() -> bool) -> Result<Option<SeverityAnswer>> {
        let Some(at) = self.texts.asked.iter().position(|a| a.task == Task::Severity) else { return Ok(None) };
        let options = load::encode_all(&self.texts.tokens, crate::tasks::SEVERITIES.into_iter())?;
        let decoded: Option<&Decoded> =
            outcome.answers.get(at).filter(|d| d.end == End::Token || !d.choices.is_empty());
        if let Some(severity) = decoded.and_then(|d| read::severity(&options, d)) {
            return Ok(Some(severity));
        }
        let ends = self.ends();
        let prompt = self.texts.asked.get(at).map_or(&[][..], |a| &a.prompt);
        let scores = decode::score(self.language.as_mut(), prompt, &options, &ends, self.room.branches, cancel)?;
        let [collision, near_collision, normal] = scores.as_slice() else { return Ok(None) };
        Ok(Some(SeverityAnswer {
            collision: collision.share,
            near_collision: near_collision.share,
            normal: normal.share,
        }))
    }
}

impl std::fmt::Debug for Student {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Student").field("facts", &self.texts.facts).field("room", &self.room).finish_non_exhaustive()
    }
}

/// What the caches of a file's students are made for: its window, its questions and their answers.
///
/// # Errors
/// [`StudentError::Frame`] if the file's window cannot be cut, [`StudentError::Tokenizer`].
pub fn room(texts: &Texts, shape: &ModelShape, options: &Options) -> Result<Room> {
    let frames = shape.window.frames;
    let heads = longest_head(&texts.prompt, texts)? * frames;
    let prefix = options.max_prefix_tokens.unwrap_or(per_frame(shape)? * frames + heads);
    let longest = texts.asked.iter().map(|a| a.prompt.len() + a.max_tokens).max().unwrap_or(0);
    let branches = texts.asked.len().clamp(2, MAX_BRANCHES);
    Ok(Room { prefix, branches, branch: longest.max(MIN_BRANCH_TOKENS) })
}

/// Vision tokens of a frame of the window's size, none left out.
fn per_frame(shape: &ModelShape) -> Result<usize> {
    let (window, side) = (&shape.window, shape.vision.token_side());
    let (rows, cols) = fit((window.height, window.width), window.frames, &shape.image, &shape.vision)?;
    Ok((rows / side) * (cols / side))
}

/// Tokens of the longest text before a frame.
fn longest_head(prompt: &Prompt, texts: &Texts) -> Result<usize> {
    use agent_worker::job::{ObjectKind, ObjectRow, TelemetryRow};
    let row = TelemetryRow { acc_mps2: [-999.9; 3], heading_change_deg: -999.9, speed_mps: Some(-999.9) };
    let object = ObjectRow {
        class: ObjectKind::Motorcycle,
        distance_m: Some(-999.9),
        flow_per_s: Some([-999.91; 2]),
        closing_mps: Some(-999.9),
    };
    let objects = if texts.facts.objects { vec![object; agent_worker::limits::MAX_OBJECTS] } else { Vec::new() };
    let text = head(999.9, Some(&row).filter(|_| texts.facts.telemetry), &objects);
    Ok(prompt.frame(&texts.tokens, true, &text)?.len())
}

fn span(window: Window) -> f32 {
    window.before_s + window.after_s
}

/// The two halves of a student, and where they run in words.
type Halves = (Box<dyn Language>, Box<dyn Seeing>, String);

/// The two halves of a file on the chosen device and code.
fn backends(file: &ModelFile, room: Room, options: &Options) -> Result<Halves> {
    if options.backend == Backend::Engine && options.device == Device::Cpu {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        let language = Box::new(EngineLanguage::load(file, room, threads)?);
        let seeing = Box::new(EngineVision::load(file, threads)?);
        return Ok((language, seeing, format!("CPU, {threads} threads, engine")));
    }
    let (device, words) = match options.device {
        Device::Cpu => {
            let threads = candle_core::utils::get_num_threads();
            (candle_core::Device::Cpu, format!("CPU, {threads} threads, candle"))
        }
        Device::Cuda(n) if cfg!(feature = "cuda") => {
            let device = candle_core::Device::new_cuda(n);
            let device = device.map_err(|source| StudentError::Compute { place: "CUDA device", source })?;
            (device, format!("CUDA {n}"))
        }
        Device::Cuda(_) => return Err(call("this build has no CUDA".to_owned())),
    };
    #[cfg(feature = "cuda")]
    if let (Device::Cuda(number), Backend::Engine) = (options.device, options.backend) {
        let shape = file.shape()?;
        if crate::cuda::refuses(&shape.text, &shape.vision).is_none() {
            let gpu = crate::cuda::Gpu::open(number).place("CUDA device")?;
            let language = Box::new(crate::cuda::CudaLanguage::load(file, room, &gpu)?);
            let seeing = Box::new(crate::cuda::CudaVision::load(file, &gpu)?);
            return Ok((language, seeing, format!("{words}, engine")));
        }
    }
    let language = Box::new(CandleLanguage::load(file, room, &device)?);
    let seeing = Box::new(Vision::load(file, &device)?);
    Ok((language, seeing, words))
}

fn call(what: String) -> StudentError {
    StudentError::Call { place: "session", what }
}
