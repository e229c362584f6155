//! Wrong answers of multiple-choice questions, hard ones: what a baseline took for the truth or the truth for (LLaVAction),
//! and where it confused too little, what is closest in words. Nothing is drawn by chance.

use std::collections::{BTreeMap, BTreeSet};

use crate::text::rouge;

/// Wrong answers beside the true one.
pub const DISTRACTORS: usize = 4;

/// How often a baseline took two answers for one another, whichever was true.
#[derive(Debug, Clone, Default)]
pub struct Confusions(BTreeMap<(String, String), usize>);

fn pair(a: &str, b: &str) -> (String, String) {
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    (a.to_owned(), b.to_owned())
}

impl Confusions {
    /// Counts one answer of the baseline; right and empty ones say nothing.
    pub fn add(&mut self, truth: &str, given: &str) {
        if truth != given && !given.is_empty() {
            *self.0.entry(pair(truth, given)).or_insert(0) += 1;
        }
    }

    /// True where the baseline confused nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hard distractors of `truth` among `options`, at most [`DISTRACTORS`]: the most often confused first, then by ROUGE-L
    /// to the truth, then in the options' order. Also how many of them were confused with it.
    pub fn hard<'o>(&self, truth: &str, options: &'o BTreeSet<String>) -> (Vec<&'o str>, usize) {
        let others = options.iter().filter(|o| *o != truth);
        let mut others: Vec<(usize, f64, &str)> = others
            .map(|o| (self.0.get(&pair(truth, o)).copied().unwrap_or(0), rouge(o, truth).l, o.as_str()))
            .collect();
        others.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        others.truncate(DISTRACTORS);
        let confused = others.iter().filter(|o| o.0 > 0).count();
        (others.into_iter().map(|o| o.2).collect(), confused)
    }
}

/// The credit for an answer among the truth and its distractors: 1 for the truth, 0 for a distractor; any other answer
/// chooses none of them and gets what a blind choice gets on average.
pub fn credit(given: &str, truth: &str, distractors: &[&str]) -> f64 {
    if given == truth {
        1.0
    } else if distractors.contains(&given) {
        0.0
    } else {
        1.0 / (distractors.len() + 1) as f64
    }
}
