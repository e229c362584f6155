//! One answer while it is decoded.
//!
//! Terms: *pending* tokens are part of the answer and not yet in the branch's cache; the *draft* follows them and is
//! part of nothing until verified. What the cache keeps is the prompt and the answer up to the last fed token.

use super::{First, Mode, Plan, Question, Stats, Trie};
use crate::error::{Result, StudentError};
use crate::llm::logits::softmax;
use crate::llm::{Row, RowRead};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By an end token.
    Token,
    /// At its most tokens: the text is cut.
    Limit,
}

/// What the model thought at a branch point of the known answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Place in the answer, tokens.
    pub at: usize,
    /// The known ways on: token and share, which sum to 1. The end of an answer is a way too.
    pub ways: Vec<(u32, f32)>,
    /// Probability, over the whole vocabulary, that it is any of these.
    pub known: f32,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Tokens without the end.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub end: End,
    /// Number of the known answer that it is.
    pub answer: Option<u32>,
    /// Probability: among the known answers if it is one, else the geometric mean over its tokens.
    pub probability: f32,
    /// The branch points on its way, as long as it was on the trie.
    pub choices: Vec<Choice>,
}

pub(super) struct Branch<'a> {
    id: u8,
    question: Question<'a>,
    ends: &'a [u32],
    /// The trie where only its answers may be given.
    only: Option<&'a Trie>,
    /// Where the answer stands on the trie.
    node: Option<u32>,
    /// Tokens of prompt and answer in the cache.
    kept: usize,
    pending: Vec<u32>,
    draft: Vec<u32>,
    tokens: Vec<u32>,
    end: Option<End>,
    answer: Option<u32>,
    choices: Vec<Choice>,
    /// Sum of the logarithms of the shares taken at branch points.
    log_share: f64,
    /// Sum of the logarithms of the tokens' probabilities, and their number.
    log_tokens: (f64, u32),
    asked: bool,
}

impl<'a> Branch<'a> {
    pub(super) fn new(id: u8, question: Question<'a>, plan: &Plan<'a>) -> Self {
        let trie = question.trie.filter(|t| t.answers() > 0);
        let question = Question { trie, ..question };
        Self {
            id,
            question,
            ends: plan.ends,
            only: trie.filter(|_| plan.mode == Mode::Constrained),
            node: trie.map(|_| 0),
            kept: 0,
            pending: question.prompt.to_vec(),
            draft: Vec::new(),
            tokens: Vec::new(),
            end: None,
            answer: None,
            choices: Vec::new(),
            log_share: 0.0,
            log_tokens: (0.0, 0),
            asked: false,
        }
    }

    pub(super) fn place(&self) -> usize {
        usize::from(self.id)
    }

    pub(super) fn ended(&self) -> bool {
        self.end.is_some()
    }

    /// Tokens that the cache is to keep.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Drafts at most `most` tokens; returns how many it took.
    pub(super) fn propose(&mut self, most: usize, through: usize) -> usize {
        self.draft.clear();
        // The last token of an answer is never fed, so a draft of all but one of what may come is enough.
        let room = (self.question.max_tokens - self.tokens.len()).saturating_sub(1);
        if let (Some(trie), Some(node), None) = (self.question.trie, self.node, self.only) {
            trie.draft(node, most.min(room), through, &mut self.draft);
        }
        self.draft.len()
    }

    /// Writes the rows of the next step: what is pending, the last of it with logits, and the draft, all with logits.
    pub(super) fn write_rows(&self, rows: &mut Vec<Row>, marks: &mut Vec<bool>) {
        let row = |token: &u32| Row { branch: self.id, token: *token };
        rows.extend(self.pending.iter().chain(&self.draft).map(row));
        marks.extend((1..self.pending.len()).map(|_| false));
        marks.extend((0..=self.draft.len()).map(|_| true));
    }

    /// Writes for each row with logits which of them are asked for: the watched tokens for the first of the answer, the
    /// ends, the known ways.
    pub(super) fn write_asked(&self, asked: &mut Vec<Vec<u32>>) {
        let mut node = self.node;
        for i in 0..=self.draft.len() {
            let watch: &[u32] = if i == 0 && !self.asked { self.question.watch } else { &[] };
            let ways = self.ways(node).iter().map(|(token, _)| *token);
            asked.push(watch.iter().chain(self.ends).copied().chain(ways).collect());
            let next = self.draft.get(i).zip(node);
            node = self.question.trie.zip(next).and_then(|(trie, (token, node))| trie.child(node, *token));
        }
    }

    /// The known ways on from a node.
    fn ways(&self, node: Option<u32>) -> &'a [(u32, u32)] {
        match (self.question.trie, node) {
            (Some(trie), Some(node)) => trie.children(node),
            _ => &[],
        }
    }

    /// Takes what was read in the step: `from` begins with this branch's rows.
    pub(super) fn take(&mut self, from: &[RowRead], stats: &mut Stats) -> Result<Option<First>> {
        let draft = std::mem::take(&mut self.draft);
        let mut rows = from.iter();
        self.kept += self.pending.len();
        self.pending.clear();
        stats.drafted += draft.len() as u32;
        let (mut first, mut verified) = (None, 0);
        loop {
            let Some(row) = rows.next() else {
                let what = format!("branch {}: the backend gave fewer logits than were marked", self.id);
                return Err(StudentError::Call { place: "decode", what });
            };
            let watch = if self.asked { 0 } else { self.question.watch.len() };
            let (watched, picked) = row.picked.split_at_checked(watch).unwrap_or_default();
            let token = self.choose(row, picked)?;
            if !self.asked {
                self.asked = true;
                first = Some(First { question: self.place(), token, watched: watched.to_vec() });
            }
            self.put(token);
            if self.ended() || draft.get(verified) != Some(&token) {
                break;
            }
            verified += 1;
        }
        self.kept += verified;
        stats.accepted += verified as u32;
        if !self.ended() {
            self.pending.extend(self.tokens.last());
            self.force(stats);
        }
        Ok(first)
    }

    /// The token that the row says, and what it says of the known ways: `picked` has the logits of the ends and of them.
    fn choose(&mut self, row: &RowRead, picked: &[f32]) -> Result<u32> {
        let ways = self.ways(self.node);
        if picked.len() != self.ends.len() + ways.len() {
            let what = format!("branch {}: the backend gave other logits than were asked for", self.id);
            return Err(StudentError::Call { place: "decode", what });
        }
        let (of_ends, of_ways) = picked.split_at(self.ends.len());
        let mut token = row.best;
        // An answer may end with any end token: its end counts with the likeliest of them.
        let end = of_ends.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let of_way = |i: usize| if self.ends.contains(&ways[i].0) { end } else { of_ways[i] };
        if self.only.is_some() && !ways.is_empty() {
            token = ways[(1..ways.len()).fold(0, |best, i| if of_way(i) > of_way(best) { i } else { best })].0;
        }
        let logit = match ways.iter().position(|way| way.0 == token) {
            _ if self.ends.contains(&token) => end,
            Some(i) => of_ways[i],
            None => row.max,
        };
        if ways.len() > 1 {
            let of: Vec<f32> = (0..ways.len()).map(of_way).collect();
            let known = of.iter().map(|l| row.log_p(*l).exp()).sum::<f64>().min(1.0);
            let shares: Vec<(u32, f32)> = ways.iter().map(|w| w.0).zip(softmax(&of)).collect();
            let taken = shares.iter().find(|(t, _)| *t == token || self.both_end(*t, token));
            self.log_share += taken.map_or(0.0, |(_, share)| f64::from(*share).ln());
            self.choices.push(Choice { at: self.tokens.len(), ways: shares, known: known as f32 });
        }
        self.log_tokens = (self.log_tokens.0 + row.log_p(logit), self.log_tokens.1 + 1);
        Ok(token)
    }

    fn both_end(&self, a: u32, b: u32) -> bool {
        self.ends.contains(&a) && self.ends.contains(&b)
    }

    /// Adds a chosen token to the answer, or ends it.
    fn put(&mut self, token: u32) {
        let (trie, node) = (self.question.trie, self.node.take());
        if self.ends.contains(&token) {
            self.end = Some(End::Token);
            self.answer = trie.zip(node).and_then(|(t, n)| t.answer(t.child(n, t.end())?));
            return;
        }
        self.node = trie.zip(node).and_then(|(t, n)| t.child(n, token));
        self.tokens.push(token);
        if self.tokens.len() >= self.question.max_tokens {
            self.end = Some(End::Limit);
        }
    }

    /// In constrained mode: goes on while the trie has one way.
    fn force(&mut self, stats: &mut Stats) {
        let Some(trie) = self.only else { return };
        while let (None, Some(node)) = (self.end, self.node) {
            let [(token, _)] = trie.children(node) else { return };
            let token = *token;
            self.put(token);
            stats.forced += 1;
            if self.end.is_none() {
                self.pending.push(token);
            }
        }
    }

    pub(super) fn into_decoded(self) -> Decoded {
        let (sum, count) = self.log_tokens;
        let log = if self.answer.is_some() { self.log_share } else { sum / f64::from(count.max(1)) };
        let (end, probability) = (self.end.unwrap_or(End::Limit), log.exp().clamp(0.0, 1.0) as f32);
        let Self { tokens, answer, choices, .. } = self;
        Decoded { tokens, end, answer, probability, choices }
    }
}
