//! How likely each of a few given answers is: multiple choice.
//!
//! Terms: an *option* is a whole answer; its *share* is its probability if one of the options must be given (the
//! product over the branch points of their trie), its *likelihood* that of its tokens and end over the whole
//! vocabulary. The question is read once and copied to a branch for each option; all tokens of an option stand in one
//! step, so that any number of options costs one pass for each group of them that the branches hold. Draws nothing.

use super::trie::Trie;
use crate::error::{Result, StudentError};
use crate::llm::logits::{Reduced, reduce, softmax};
use crate::llm::{Language, Row};

/// Most options of one question: a window of 20 s has 201 instants.
pub const MAX_OPTIONS: usize = 1_024;

/// One option's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Probability among the options; they sum to 1 over distinct options.
    pub share: f32,
    /// Natural logarithm of the probability over the whole vocabulary, end included.
    pub log_likelihood: f64,
}

/// Scores `options` (tokens without their end, none empty) as answers to the question `prompt` over the prefix that
/// `language` holds, with `branches` branches, at least 2. An answer may end with any of `ends`; the likeliest counts.
/// `cancel` is asked before each pass.
///
/// # Errors
/// [`StudentError::Limit`] for too many options, [`StudentError::Call`] for none or an empty one,
/// [`StudentError::Cancelled`], and what the backend says.
pub fn score(
    language: &mut dyn Language,
    prompt: &[u32],
    options: &[Vec<u32>],
    ends: &[u32],
    branches: usize,
    cancel: &dyn Fn() -> bool,
) -> Result<Vec<Score>> {
    if options.len() > MAX_OPTIONS {
        return Err(StudentError::Limit { what: "options", asked: options.len() as u64, cap: MAX_OPTIONS as u64 });
    }
    let Some(end) = ends.first().copied().filter(|_| branches >= 2) else {
        return Err(StudentError::Call { place: "score", what: "no end token, or no branch for an option".to_owned() });
    };
    if prompt.is_empty() || options.is_empty() || options.iter().any(Vec::is_empty) {
        return Err(StudentError::Call { place: "score", what: "an empty question or option".to_owned() });
    }
    let trie = Trie::new(end, options)?;
    let vocab = language.shape().vocab;
    let mut logits = Vec::new();
    // Branch 0 keeps the question; the others take the options.
    let places = branches - 1;
    language.open_branches(1 + places.min(options.len()))?;
    step(language, &mut logits, cancel, &[(0, prompt)], false)?;
    let question = logits.clone();
    let mut scores = Vec::with_capacity(options.len());
    for group in options.chunks(places) {
        let mut runs = Vec::with_capacity(group.len());
        for (i, option) in group.iter().enumerate() {
            let branch = i as u8 + 1;
            language.copy_branch(0, branch)?;
            runs.push((branch, option.as_slice()));
        }
        step(language, &mut logits, cancel, &runs, true)?;
        let mut at = 0;
        for option in group {
            let after = logits.get(at * vocab..(at + option.len()) * vocab).unwrap_or_default();
            scores.push(one(&trie, ends, &question, after.chunks_exact(vocab), option)?);
            at += option.len();
        }
    }
    Ok(scores)
}

fn step(
    language: &mut dyn Language,
    logits: &mut Vec<f32>,
    cancel: &dyn Fn() -> bool,
    runs: &[(u8, &[u32])],
    all: bool,
) -> Result<()> {
    if cancel() {
        return Err(StudentError::Cancelled);
    }
    let (mut rows, mut marks) = (Vec::new(), Vec::new());
    for (branch, tokens) in runs {
        rows.extend(tokens.iter().map(|token| Row { branch: *branch, token: *token }));
        marks.extend((1..=tokens.len()).map(|i| all || i == tokens.len()));
    }
    logits.clear();
    language.step(&rows, &marks, logits)
}

/// Walks one option: the question's logits decide its first token, each token's the next, the last one's its end.
fn one<'a>(
    trie: &Trie,
    ends: &[u32],
    question: &'a [f32],
    after: impl Iterator<Item = &'a [f32]>,
    option: &[u32],
) -> Result<Score> {
    let (mut node, mut share, mut likelihood) = (0, 0.0_f64, 0.0_f64);
    let rows = std::iter::once(question).chain(after);
    for (row, token) in rows.zip(option.iter().copied().chain([trie.end()])) {
        let plain = |t: u32| row.get(t as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let end = ends.iter().map(|t| plain(*t)).fold(f32::NEG_INFINITY, f32::max);
        let logit = |t: u32| if t == trie.end() { end } else { plain(t) };
        let reduced: Reduced = reduce(row)?;
        likelihood += reduced.log_p(logit(token));
        let ways = trie.children(node);
        if ways.len() > 1 {
            let shares = softmax(&ways.iter().map(|w| logit(w.0)).collect::<Vec<_>>());
            share += ways.iter().zip(shares).find(|(w, _)| w.0 == token).map_or(0.0, |(_, s)| f64::from(s).ln());
        }
        node = trie.child(node, token).unwrap_or(node);
    }
    Ok(Score { share: share.exp().min(1.0) as f32, log_likelihood: likelihood })
}
