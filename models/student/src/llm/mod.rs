//! The language half behind one trait, and what every backend of it shares.
//!
//! Terms: the *prefix* is written once and never rolled back within a job; a *branch* is a continuation of it with
//! keys and values of its own; a *step* takes rows of several branches at once (*ragged*: each branch any number) and
//! attends the whole prefix once for all of them (*cascade*). Position of a row is prefix + its place in the branch.
//! Knows no text: tokens are numbers here.

pub(crate) mod branches;
mod cache;
pub mod candle;
pub(crate) mod logits;

use crate::{
    error::{Result, StudentError},
    frames::PatchFrame,
    limits::{MAX_BRANCH_TOKENS, MAX_BRANCHES, MAX_PREFIX_TOKENS, MAX_STEP_ROWS},
    shape::TextShape,
};

/// One token of one branch. Rows of one branch are consecutive and in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The branch, from 0.
    pub branch: u8,
    /// The token.
    pub token: u32,
}

/// A piece of the prefix.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Text.
    Tokens(&'a [u32]),
    /// Vision tokens: rows x hidden.
    Embeddings(&'a [f32]),
}

impl Piece<'_> {
    /// Whether it adds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::Tokens(ids) => ids.is_empty(),
            Self::Embeddings(x) => x.is_empty(),
        }
    }

    /// Rows that it adds to a stream of this width.
    pub(crate) const fn rows(&self, hidden: usize) -> usize {
        match self {
            Self::Tokens(ids) => ids.len(),
            Self::Embeddings(x) => x.len() / hidden,
        }
    }
}

/// Refuses tokens outside the vocabulary and vision tokens that are no whole rows; returns the rows of all pieces.
///
/// # Errors
/// [`StudentError::Call`].
pub(crate) fn check_pieces(shape: &TextShape, pieces: &[Piece<'_>]) -> Result<usize> {
    let hidden = shape.hidden;
    for piece in pieces {
        match piece {
            Piece::Tokens(ids) => ids.iter().try_for_each(|id| check_token(shape, *id))?,
            Piece::Embeddings(x) if x.len().is_multiple_of(hidden) => {}
            Piece::Embeddings(x) => return Err(call(format!("{} values for rows of {hidden}", x.len()))),
        }
    }
    Ok(pieces.iter().map(|piece| piece.rows(hidden)).sum())
}

/// What the caches are made for; they are allocated once, at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Tokens of the prefix.
    pub prefix: usize,
    /// Branches.
    pub branches: usize,
    /// Tokens of one branch.
    pub branch: usize,
}

impl Room {
    /// Holds the caps and the model's context.
    ///
    /// # Errors
    /// [`StudentError::Limit`].
    pub fn check(&self, shape: &TextShape) -> Result<()> {
        limit("prefix tokens", self.prefix, MAX_PREFIX_TOKENS)?;
        limit("branches", self.branches, MAX_BRANCHES)?;
        limit("branch tokens", self.branch, MAX_BRANCH_TOKENS)?;
        limit("positions", self.prefix + self.branch, shape.context)
    }
}

/// What decoding reads of one row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct RowRead {
    /// The largest logit's token; the first of several.
    pub best: u32,
    /// Its logit.
    pub max: f32,
    /// Logarithm of the sum of the exponentials of all logits.
    pub lse: f32,
    /// Logits of the tokens that were asked for, in their order.
    pub picked: Vec<f32>,
}

impl RowRead {
    /// Logarithm of the probability of a token with this logit.
    pub(crate) fn log_p(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.lse)
    }

    /// Refuses logits that are no numbers: then the weights or the device are broken, and an answer would be a guess.
    /// What is reduced on the host was held to that there.
    ///
    /// # Errors
    /// [`StudentError::Call`].
    #[cfg(feature = "cuda")]
    pub(crate) fn check(&self) -> Result<()> {
        if self.max.is_finite() && self.lse.is_finite() { Ok(()) } else { Err(logits::broken()) }
    }
}

/// Refuses other than one list of tokens for each marked row.
///
/// # Errors
/// [`StudentError::Call`].
pub(crate) fn read_rows(marks: &[bool], wanted: &[&[u32]]) -> Result<()> {
    let marked = marks.iter().filter(|mark| **mark).count();
    if marked == wanted.len() { Ok(()) } else { Err(call(format!("{} lists for {marked} rows", wanted.len()))) }
}

/// The language half with its caches. A call that fails leaves the lengths as they were.
pub trait Language: Send {
    /// Its sizes.
    fn shape(&self) -> &TextShape;
    /// Empty prefix, no branches.
    fn reset(&mut self);
    /// Tokens in the prefix.
    fn prefix_len(&self) -> usize;
    /// Appends tokens to the prefix, causally; no logits. Refused while branches are open.
    ///
    /// # Errors
    /// [`StudentError::Limit`] past the room, [`StudentError::Call`] for a token outside the vocabulary.
    fn extend_tokens(&mut self, ids: &[u32]) -> Result<()>;
    /// Appends vision tokens to the prefix: `x` is `rows` x hidden, row after row.
    ///
    /// # Errors
    /// As [`Language::extend_tokens`], and for a length that is not `rows` x hidden.
    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()>;
    /// Appends several pieces to the prefix, in order; a backend may take them in one pass.
    ///
    /// # Errors
    /// As [`Language::extend_tokens`] and [`Language::extend_embeddings`].
    fn extend_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let hidden = self.shape().hidden;
        for piece in pieces {
            match piece {
                Piece::Tokens(ids) => self.extend_tokens(ids)?,
                Piece::Embeddings(x) => self.extend_embeddings(x, x.len() / hidden)?,
            }
        }
        Ok(())
    }
    /// Opens branches 0 to `n`, all empty, over the prefix; branches open before are gone.
    ///
    /// # Errors
    /// [`StudentError::Limit`] past the room; [`StudentError::Call`] over an empty prefix.
    fn open_branches(&mut self, n: usize) -> Result<()>;
    /// Tokens in a branch; 0 for one that is not open.
    fn branch_len(&self, branch: u8) -> usize;
    /// Cuts a branch to its first `len` tokens (rejected drafts); longer than it is: no change.
    fn truncate(&mut self, branch: u8, len: usize);
    /// Makes `to` equal to `from`: copies the keys and values of the branch, not of the prefix.
    ///
    /// # Errors
    /// [`StudentError::Call`] for a branch that is not open.
    fn copy_branch(&mut self, from: u8, to: u8) -> Result<()>;
    /// One pass over rows of any branches. Appends `vocab` logits to `out` for each row that `logits_of` marks, in
    /// order.
    ///
    /// # Errors
    /// [`StudentError::Call`] for rows that break [`Row`]'s rule, [`StudentError::Limit`] past the room.
    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()>;
    /// As [`Language::step`], but what decoding reads of each marked row comes back: `wanted` has for each the tokens
    /// whose logits are asked for. A backend may leave the rest of the logits where they are; `logits` is room for one
    /// that does not.
    ///
    /// # Errors
    /// As [`Language::step`], and for logits that are no numbers.
    fn step_read(
        &mut self,
        rows: &[Row],
        logits_of: &[bool],
        wanted: &[&[u32]],
        logits: &mut Vec<f32>,
    ) -> Result<Vec<RowRead>> {
        read_rows(logits_of, wanted)?;
        logits.clear();
        self.step(rows, logits_of, logits)?;
        let vocab = self.shape().vocab;
        let read = |(row, tokens): (&[f32], &&[u32])| {
            let logits::Reduced { best, max, lse } = logits::reduce(row)?;
            let logit = |token: &u32| row.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
            Ok(RowRead { best, max, lse, picked: tokens.iter().map(logit).collect() })
        };
        logits.chunks_exact(vocab).zip(wanted).map(read).collect()
    }
}

/// The vision tower with the projector behind it.
pub trait Seeing: Send {
    /// The kept vision tokens of the frames, one after another: rows x hidden of the text.
    ///
    /// # Errors
    /// [`StudentError::Frame`] for a frame that does not fit the tower.
    fn encode(&mut self, frames: &[PatchFrame]) -> Result<Vec<f32>>;
}

/// Rows of one branch within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The branch.
    pub branch: usize,
    /// First row.
    pub start: usize,
    /// Rows.
    pub len: usize,
}

/// Checks a step against the rules of [`Row`] and the room, and groups it: each branch at most once.
///
/// # Errors
/// [`StudentError::Call`] or [`StudentError::Limit`], naming what is wrong.
pub fn runs(shape: &TextShape, room: &Room, branch_len: &[usize], rows: &[Row], marks: &[bool]) -> Result<Vec<Run>> {
    limit("rows of a step", rows.len(), MAX_STEP_ROWS)?;
    if rows.is_empty() || marks.len() != rows.len() {
        return Err(call(format!("{} rows with {} marks", rows.len(), marks.len())));
    }
    let mut runs: Vec<Run> = Vec::with_capacity(branch_len.len());
    for (start, row) in rows.iter().enumerate() {
        let branch = usize::from(row.branch);
        if branch >= branch_len.len() {
            return Err(call(format!("row {start} of branch {branch}; {} are open", branch_len.len())));
        }
        check_token(shape, row.token)?;
        let last = runs.last().is_some_and(|run| run.branch == branch);
        if !last && runs.iter().any(|run| run.branch == branch) {
            return Err(call(format!("rows of branch {branch} are apart")));
        }
        match runs.last_mut() {
            Some(run) if last => run.len += 1,
            _ => runs.push(Run { branch, start, len: 1 }),
        }
    }
    for run in &runs {
        limit("branch tokens", branch_len[run.branch] + run.len, room.branch)?;
    }
    Ok(runs)
}

/// Refuses a token outside the vocabulary.
///
/// # Errors
/// [`StudentError::Call`].
pub fn check_token(shape: &TextShape, token: u32) -> Result<()> {
    if (token as usize) < shape.vocab {
        Ok(())
    } else {
        Err(call(format!("token {token} in a vocabulary of {}", shape.vocab)))
    }
}

/// Refuses more than a cap.
pub(crate) fn limit(what: &'static str, asked: usize, cap: usize) -> Result<()> {
    if asked <= cap { Ok(()) } else { Err(StudentError::Limit { what, asked: asked as u64, cap: cap as u64 }) }
}

pub(crate) fn call(what: String) -> StudentError {
    StudentError::Call { place: "language", what }
}
