//! Ways of asking that must answer alike: six tasks in one pass as in six, frames one by one as all at once, with drafts
//! as plain greedy decoding, and after a job that was cancelled or abandoned as before it.
//!
//! Over any backend of the two halves, so that `tests/it/gpu_ways.rs` tries the checks themselves on the processor, where
//! it also breaks each promise once. Terms: a *scene* is what is asked about what; a *way* is how. What holds:
//!
//! - Logits of two ways: cosine of each row at least [`COSINE`]. Only rows with the same tokens before them are compared.
//! - Tokens: the same ones. Where two ways choose differently the plain way's logits of the two tokens must be a *near
//!   tie*, at most [`NEAR_TIE`] of the spread of that row's logits apart; the rest of that answer then stands on other
//!   tokens and is not compared. At least half of all tokens must have been.
//! - After a cancelled or an abandoned job: the same tokens and the same probabilities, to the bit.

use std::cell::Cell;

use agent_student::{
    decode::{self, Mode, Outcome, Plan, Question, Trie, limits::MAX_DRAFT},
    error::StudentError,
    frames::PatchFrame,
    llm::{Language, Piece, Row, Seeing},
    shape::ModelShape,
};

/// Least cosine of the logits of two ways.
pub(crate) const COSINE: f64 = 0.9995;
/// Standard deviations of a row's logits that lie between two tokens at most for either to be right.
const NEAR_TIE: f64 = 0.05;
/// Tokens of each question: together more rows than a recorded step takes, some alone fewer.
const QUESTIONS: [usize; 6] = [5, 30, 9, 17, 2, 24];
/// Text before a frame, tokens.
const FRAME_TEXT: usize = 8;
/// Tokens of an answer.
const STEPS: usize = 24;
/// Tokens of the longest branch: what the caches need room for.
pub(crate) const BRANCH: usize = 30 + STEPS + MAX_DRAFT;

type Result<T> = std::result::Result<T, StudentError>;

/// Numbers that repeat on every machine, in -1 to 1 (an LCG; Knuth's MMIX constants).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub(crate) fn token(&mut self, vocab: usize) -> u32 {
        (((self.next() + 1.0) * 0.5 * (vocab - 1) as f32) as u32).min(vocab as u32 - 1)
    }

    pub(crate) fn frame(&mut self, (rows, cols): (usize, usize), values: usize, merge: usize) -> PatchFrame {
        let pixels = (0..rows * cols * values).map(|_| self.next()).collect();
        PatchFrame { rows, cols, pixels, keep: vec![true; rows * cols / (merge * merge)] }
    }
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Frames with the text between them, and the questions.
pub(crate) struct Scene {
    text: Vec<u32>,
    frames: Vec<PatchFrame>,
    questions: Vec<Vec<u32>>,
}

impl Scene {
    /// So many frames of some patches each; of all but the first some tokens are left out.
    pub(crate) fn new(seed: u64, shape: &ModelShape, frames: usize, patches: (usize, usize)) -> Self {
        let mut numbers = Numbers(seed);
        let (vocab, vision) = (shape.text.vocab, &shape.vision);
        let mut cut = |i: usize| {
            let mut frame = numbers.frame(patches, vision.patch_values(), vision.merge);
            for (at, keep) in frame.keep.iter_mut().enumerate() {
                *keep = i == 0 || !(7 * i + at).is_multiple_of(5);
            }
            frame
        };
        let frames = (0..frames).map(&mut cut).collect();
        let mut tokens = |count: usize| (0..count).map(|_| numbers.token(vocab)).collect::<Vec<u32>>();
        Self { frames, text: tokens(FRAME_TEXT), questions: QUESTIONS.map(&mut tokens).to_vec() }
    }
}

/// What one way gave beside the plain one.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) way: &'static str,
    /// Least of the rows that were compared; 1 where only tokens are.
    pub(crate) cosine: f64,
    /// Tokens that were asked for; equal ones; answers that end at a near tie; what must not be.
    pub(crate) asked: usize,
    pub(crate) equal: usize,
    pub(crate) ties: usize,
    pub(crate) wrong: usize,
    /// Why it ended early.
    pub(crate) fault: Option<String>,
}

impl Found {
    fn by(way: &'static str, work: impl FnOnce(&mut Self) -> Result<()>) -> Self {
        let mut found = Self { way, cosine: 1.0, asked: 0, equal: 0, ties: 0, wrong: 0, fault: None };
        found.fault = work(&mut found).err().map(|error| error.to_string());
        found
    }

    pub(crate) fn pass(&self) -> bool {
        self.fault.is_none() && self.wrong == 0 && self.asked > 0 && self.equal * 2 >= self.asked
    }

    fn must(&mut self, holds: bool) {
        self.wrong += usize::from(!holds);
    }

    /// An answer beside the plain one: its tokens, and its logits where there are any.
    fn compare(&mut self, plain: &Answer, tokens: &[u32], logits: &[Vec<f32>]) {
        self.asked += plain.tokens.len();
        self.must(tokens.len() == plain.tokens.len());
        let mut other = logits.iter();
        for ((want, row), got) in plain.tokens.iter().zip(&plain.logits).zip(tokens) {
            if let Some(other) = other.next() {
                let cosine = cosine(row, other);
                self.cosine = self.cosine.min(cosine);
                // Also where it is no number.
                self.must(cosine >= COSINE);
            }
            if want == got {
                self.equal += 1;
                continue;
            }
            let tie = apart(row, *want, *got) <= NEAR_TIE;
            self.ties += usize::from(tie);
            self.must(tie);
            return;
        }
    }
}

/// A plain greedy answer with the logits that each of its tokens was chosen by.
#[derive(Clone, Default)]
struct Answer {
    tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

/// All ways over one scene. A fault in one leaves the others.
pub(crate) fn all(language: &mut dyn Language, seeing: &mut dyn Seeing, scene: &Scene, other: &Scene) -> Vec<Found> {
    let plain = take_in(language, seeing, scene, false).and_then(|()| greedy(language, &scene.questions));
    let plain = match plain {
        Ok(plain) => plain,
        Err(error) => return vec![Found::by("plain", |_| Err(error))],
    };
    let known = match Known::of(&plain, language.shape().vocab) {
        Ok(known) => known,
        Err(error) => return vec![Found::by("known answers", |_| Err(error))],
    };
    vec![
        Found::by("six passes", |found| {
            for (question, plain) in scene.questions.iter().zip(&plain) {
                take_in(language, seeing, scene, false)?;
                let answers = greedy(language, std::slice::from_ref(question))?;
                answers.iter().for_each(|a| found.compare(plain, &a.tokens, &a.logits));
            }
            Ok(())
        }),
        Found::by("frame by frame", |found| {
            take_in(language, seeing, scene, true)?;
            let answers = greedy(language, &scene.questions)?;
            plain.iter().zip(&answers).for_each(|(plain, a)| found.compare(plain, &a.tokens, &a.logits));
            Ok(())
        }),
        Found::by("drafted", |found| {
            take_in(language, seeing, scene, false)?;
            for draft in [4, MAX_DRAFT] {
                let Outcome { answers, stats } = run(language, scene, &known, draft, &|| false)?;
                plain.iter().zip(&answers).for_each(|(plain, a)| found.compare(plain, &a.tokens, &[]));
                // Drafts were taken, and refused: else nothing was tried.
                found.must(0 < stats.accepted && stats.accepted < stats.drafted && stats.steps < stats.plain_steps);
            }
            Ok(())
        }),
        Found::by("after a cancelled job", |found| after(language, seeing, [scene, other], &known, found)),
    ]
}

/// Asks, then again after jobs that did not come to their end.
fn after(
    language: &mut dyn Language,
    seeing: &mut dyn Seeing,
    [scene, other]: [&Scene; 2],
    known: &Known,
    found: &mut Found,
) -> Result<()> {
    let never = || false;
    let asks = Cell::new(0);
    let soon = || asks.replace(asks.get() + 1) >= 2;
    take_in(language, seeing, scene, true)?;
    let want = run(language, scene, known, MAX_DRAFT, &never)?;
    let same = |found: &mut Found, got: &Outcome| {
        let count = |o: &Outcome| o.answers.iter().map(|a| a.tokens.len()).sum::<usize>();
        found.asked += count(&want);
        found.equal += if *got == want { count(&want) } else { 0 };
        found.must(*got == want);
    };
    // Cancelled between two steps: the job still stands.
    let cancelled = run(language, other, known, MAX_DRAFT, &soon);
    found.must(matches!(cancelled, Err(StudentError::Cancelled)));
    same(found, &run(language, scene, known, MAX_DRAFT, &never)?);
    // Another job left with its frames half in, then the same one anew.
    let half = other.frames.len().div_ceil(2);
    let begun = Scene { text: other.text.clone(), frames: other.frames[..half].to_vec(), questions: Vec::new() };
    take_in(language, seeing, &begun, true)?;
    take_in(language, seeing, scene, true)?;
    same(found, &run(language, scene, known, MAX_DRAFT, &never)?);
    // Another job left by a step that is refused, with branches open and longer than those that come.
    take_in(language, seeing, other, false)?;
    greedy(language, &other.questions)?;
    let outside = [Row { branch: 0, token: u32::MAX }];
    found.must(language.step(&outside, &[true], &mut Vec::new()).is_err());
    take_in(language, seeing, scene, true)?;
    same(found, &run(language, scene, known, MAX_DRAFT, &never)?);
    Ok(())
}

/// A scene's frames as a new prefix: each as it comes, or all in one pass.
fn take_in(language: &mut dyn Language, seeing: &mut dyn Seeing, scene: &Scene, streamed: bool) -> Result<()> {
    language.reset();
    if streamed {
        for frame in &scene.frames {
            let seen = seeing.encode(std::slice::from_ref(frame))?;
            language.extend_pieces(&[Piece::Tokens(&scene.text), Piece::Embeddings(&seen)])?;
        }
        return Ok(());
    }
    let seen = seeing.encode(&scene.frames)?;
    let mut rest = &seen[..];
    let mut pieces = Vec::with_capacity(2 * scene.frames.len());
    for frame in &scene.frames {
        let (own, later) = rest.split_at_checked(frame.kept() * language.shape().hidden).unwrap_or((rest, &[]));
        pieces.extend([Piece::Tokens(&scene.text), Piece::Embeddings(own)]);
        rest = later;
    }
    language.extend_pieces(&pieces)
}

/// Plain greedy answers of some questions side by side, over the prefix that is there.
fn greedy(language: &mut dyn Language, questions: &[Vec<u32>]) -> Result<Vec<Answer>> {
    let vocab = language.shape().vocab;
    language.open_branches(questions.len())?;
    let mut answers = vec![Answer::default(); questions.len()];
    let (mut rows, mut marks) = (Vec::new(), Vec::new());
    for (branch, question) in (0u8..).zip(questions) {
        rows.extend(question.iter().map(|token| Row { branch, token: *token }));
        marks.extend((1..=question.len()).map(|i| i == question.len()));
    }
    for _ in 0..STEPS {
        let mut logits = Vec::new();
        language.step(&rows, &marks, &mut logits)?;
        rows.clear();
        for ((branch, answer), row) in (0u8..).zip(&mut answers).zip(logits.chunks_exact(vocab)) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let token = row.iter().position(|v| *v == most).unwrap_or(0) as u32;
            answer.tokens.push(token);
            answer.logits.push(row.to_vec());
            rows.push(Row { branch, token });
        }
        marks = vec![true; rows.len()];
    }
    Ok(answers)
}

/// How far two tokens' logits are apart, in standard deviations of the row.
fn apart(row: &[f32], a: u32, b: u32) -> f64 {
    let at = |token: u32| row.get(token as usize).map_or(f64::NAN, |v| f64::from(*v));
    let n = row.len() as f64;
    let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let spread = (row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    (at(a) - at(b)).abs() / spread
}

/// Known answers of each question: first one that leaves the plain answer a third of the way in, then the plain answer.
struct Known {
    tries: Vec<Trie>,
    end: u32,
}

impl Known {
    fn of(plain: &[Answer], vocab: usize) -> Result<Self> {
        let chosen = |token: &u32| plain.iter().any(|answer| answer.tokens.contains(token));
        // An end that no answer comes to: all are as long.
        let end = (0..vocab as u32).find(|token| !chosen(token)).unwrap_or(0);
        let trie = |answer: &Answer| {
            let mut astray = answer.tokens.clone();
            for token in astray.iter_mut().skip(STEPS / 3) {
                let next = (*token + 1) % vocab as u32;
                *token = if next == end { (next + 1) % vocab as u32 } else { next };
            }
            Trie::new(end, [&astray, &answer.tokens])
        };
        Ok(Self { tries: plain.iter().map(trie).collect::<Result<_>>()?, end })
    }
}

fn run(
    language: &mut dyn Language,
    scene: &Scene,
    known: &Known,
    draft: usize,
    cancel: &dyn Fn() -> bool,
) -> Result<Outcome> {
    let question = |(prompt, trie)| Question { prompt, trie: Some(trie), max_tokens: STEPS, watch: &[] };
    let questions: Vec<Question<'_>> =
        scene.questions.iter().map(Vec::as_slice).zip(&known.tries).map(question).collect();
    let plan = Plan { questions: &questions, ends: &[known.end], mode: Mode::Exact, draft, through: 1, first: Some(0) };
    decode::run(language, &plan, cancel, &mut |_| {})
}
