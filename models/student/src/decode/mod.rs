//! Answers of several questions about one prefix, decoded as one batch.
//!
//! All questions are fed in one step over the shared prefix; then each step takes, for every answer that is not ended,
//! the last token and a *draft*: the tokens that the known answers say will follow. A draft is verified greedily: its
//! tokens count only as far as the model itself chooses them, so that the answers are those of plain greedy decoding,
//! token for token, in fewer steps (speculative decoding after Leviathan et al., 2023, with the trie of known answers as
//! the drafting model). "Token for token" holds as far as the backend gives a row the same logits in any batch.
//!
//! In [`Mode::Constrained`] only known answers can be given: where the trie has one way it is gone without asking
//! (*forced* tokens), where it has several the model's logits choose among them.
//!
//! Probabilities. On the trie: product over the branch points of the softmax among the children, which sums to 1 over
//! all known answers. Off it: the geometric mean of the tokens' probabilities; that is a measure of the model's own
//! certainty and not the probability that the text is right. Neither is calibrated; see [`crate::calibration`].
//!
//! Terms: a *branch point* is a place where known answers part. Knows no text and no task. Never leaves a state of its
//! own behind: what a run did is gone with the branches.

mod branch;
pub mod limits;
mod score;
mod trie;

pub use branch::{Choice, Decoded, End};
pub use score::{MAX_OPTIONS, Score, score};
pub use trie::Trie;

use branch::Branch;
use limits::{MAX_DRAFT, MAX_LOGIT_BYTES, MAX_LOGIT_ROWS, MAX_STEPS, MAX_THROUGH};

use crate::error::{Result, StudentError};
use crate::limits::MAX_BRANCHES;
use crate::llm::Language;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plain greedy decoding's answer exactly; known answers are only drafts.
    #[default]
    Exact,
    /// Only known answers, for questions that have any.
    Constrained,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Tokens from the end of the prefix to the begin of the answer; at least one.
    pub prompt: &'a [u32],
    /// Known answers.
    pub trie: Option<&'a Trie>,
    /// Most tokens of the answer, without its end; at least one.
    pub max_tokens: usize,
    /// Tokens whose logits at the first token of the answer are wanted.
    pub watch: &'a [u32],
}

/// All questions of a run and how to go about them.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The questions; their places are the branches.
    pub questions: &'a [Question<'a>],
    /// Tokens that end an answer.
    pub ends: &'a [u32],
    /// How tokens are chosen.
    pub mode: Mode,
    /// Most tokens drafted for a branch in a step; 0 is plain greedy decoding. At most [`MAX_DRAFT`] are.
    pub draft: usize,
    /// Branch points that a draft may pass on the more frequent side. At most [`MAX_THROUGH`] are.
    pub through: usize,
    /// A question that has a first step to itself, so that its first token is known before the others are read.
    pub first: Option<usize>,
}

/// First token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct First {
    /// The question's place.
    pub question: usize,
    /// The token.
    pub token: u32,
    /// Logits of the watched tokens, in their order.
    pub watched: Vec<f32>,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Passes through the model.
    pub steps: u32,
    /// Rows of all passes.
    pub rows: u32,
    /// Rows whose logits were made.
    pub logit_rows: u32,
    /// Tokens drafted.
    pub drafted: u32,
    /// Of these, tokens that the model chose too.
    pub accepted: u32,
    /// Tokens that the known answers forced without asking; only in [`Mode::Constrained`].
    pub forced: u32,
    /// Passes that plain greedy decoding of the same answers in one batch takes.
    pub plain_steps: u32,
}

/// Answers and counts of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// One for each question, in order.
    pub answers: Vec<Decoded>,
    /// What it took.
    pub stats: Stats,
}

/// Answers the questions over the prefix that `language` holds. `cancel` is asked before each step; `on_first` hears
/// the first token of each answer as soon as it is known. The branches stay open, empty of meaning, at the end.
///
/// # Errors
/// [`StudentError::Cancelled`], [`StudentError::Limit`] for too many questions, [`StudentError::Call`] for an empty
/// question or broken logits, and what the backend says. After an error the prefix is untouched and a new run or job
/// may follow.
pub fn run(
    language: &mut dyn Language,
    plan: &Plan<'_>,
    cancel: &dyn Fn() -> bool,
    on_first: &mut dyn FnMut(First),
) -> Result<Outcome> {
    check(plan)?;
    language.open_branches(plan.questions.len())?;
    let mut branches: Vec<Branch<'_>> = Vec::with_capacity(plan.questions.len());
    for (i, question) in plan.questions.iter().enumerate() {
        branches.push(Branch::new(i as u8, *question, plan));
    }
    let mut stats = Stats::default();
    let (mut rows, mut marks, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    let mut asked: Vec<Vec<u32>> = Vec::new();
    let mut alone = plan.first;
    for _ in 0..MAX_STEPS {
        let takes_part = |branch: &Branch<'_>| !branch.ended() && alone.is_none_or(|one| one == branch.place());
        let taking = branches.iter().filter(|b| takes_part(b)).count();
        if taking == 0 {
            if alone.take().is_some() {
                continue;
            }
            return Ok(finish(branches, stats));
        }
        if cancel() {
            return Err(StudentError::Cancelled);
        }
        let vocab = language.shape().vocab;
        let mut spare = logit_rows(vocab).saturating_sub(taking);
        let (mut left, mut begins) = (taking, Vec::with_capacity(taking));
        rows.clear();
        marks.clear();
        asked.clear();
        for branch in branches.iter_mut().filter(|b| takes_part(b)) {
            // What earlier branches left over goes to later ones: prevention, the longest, is the last but two.
            let share = (spare / left).min(plan.draft.min(MAX_DRAFT));
            (spare, left) = (spare - branch.propose(share, plan.through.min(MAX_THROUGH)), left - 1);
            begins.push((branch.place(), asked.len()));
            branch.write_rows(&mut rows, &mut marks);
            branch.write_asked(&mut asked);
        }
        let wanted: Vec<&[u32]> = asked.iter().map(Vec::as_slice).collect();
        let read = language.step_read(&rows, &marks, &wanted, &mut logits)?;
        stats.steps += 1;
        stats.rows += rows.len() as u32;
        stats.logit_rows += read.len() as u32;
        for (place, begin) in begins {
            let branch = &mut branches[place];
            let first = branch.take(read.get(begin..).unwrap_or_default(), &mut stats)?;
            language.truncate(place as u8, branch.kept());
            if let Some(first) = first {
                on_first(first);
            }
        }
        alone = None;
    }
    Err(StudentError::Limit { what: "steps of a run", asked: MAX_STEPS as u64 + 1, cap: MAX_STEPS as u64 })
}

fn check(plan: &Plan<'_>) -> Result<()> {
    let asked = plan.questions.len();
    if asked == 0 || asked > MAX_BRANCHES {
        return Err(StudentError::Limit { what: "questions", asked: asked as u64, cap: MAX_BRANCHES as u64 });
    }
    if let Some(i) = plan.questions.iter().position(|q| q.prompt.is_empty() || q.max_tokens == 0) {
        return Err(StudentError::Call { place: "decode", what: format!("question {i} is empty or has no room") });
    }
    if plan.questions.iter().filter_map(|q| q.trie).any(|trie| !plan.ends.contains(&trie.end())) {
        let what = "known answers end with a token that is no end".to_owned();
        return Err(StudentError::Call { place: "decode", what });
    }
    if plan.first.is_some_and(|i| i >= asked) {
        return Err(StudentError::Call { place: "decode", what: "the first question is not among them".to_owned() });
    }
    Ok(())
}

/// Rows with logits that fit the capacity.
fn logit_rows(vocab: usize) -> usize {
    (MAX_LOGIT_BYTES / (4 * vocab.max(1))).min(MAX_LOGIT_ROWS)
}

fn finish(branches: Vec<Branch<'_>>, mut stats: Stats) -> Outcome {
    let answers: Vec<Decoded> = branches.into_iter().map(Branch::into_decoded).collect();
    let passes = |d: &Decoded| d.tokens.len() as u32 + u32::from(d.end == End::Token);
    stats.plain_steps = answers.iter().map(passes).max().unwrap_or(0);
    Outcome { answers, stats }
}
