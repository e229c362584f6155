//! Classification: accuracy, precision, recall, F1, confusion matrix.

use crate::share;

/// Counts of a yes-or-no judgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Binary {
    /// Yes where it is yes.
    pub true_positives: usize,
    /// Yes where it is no.
    pub false_positives: usize,
    /// No where it is no.
    pub true_negatives: usize,
    /// No where it is yes.
    pub false_negatives: usize,
}

impl Binary {
    /// Counts pairs of truth and answer.
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for (truth, answer) in pairs {
            match (truth, answer) {
                (true, true) => counts.true_positives += 1,
                (false, true) => counts.false_positives += 1,
                (false, false) => counts.true_negatives += 1,
                (true, false) => counts.false_negatives += 1,
            }
        }
        counts
    }

    /// All pairs.
    pub fn n(&self) -> usize {
        self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
    }

    /// Share of right answers.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.true_positives + self.true_negatives, self.n())
    }

    /// Share of the yes answers that are right.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the true ones that were found.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }
}

/// Counts by true class (rows) and answered class (columns).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    /// `counts[truth][answer]`.
    pub counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Counts pairs of truth and answer, each below `classes`; others are left out.
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (truth, answer) in pairs {
            if let Some(cell) = counts.get_mut(truth).and_then(|row| row.get_mut(answer)) {
                *cell += 1;
            }
        }
        Self { counts }
    }

    /// All pairs.
    pub fn n(&self) -> usize {
        self.counts.iter().flatten().sum()
    }

    /// Share on the diagonal.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.counts.iter().enumerate().filter_map(|(i, row)| row.get(i)).sum();
        share(right, self.n())
    }

    /// One class against the rest.
    pub fn binary(&self, class: usize) -> Binary {
        let mut counts = Binary::default();
        for (truth, row) in self.counts.iter().enumerate() {
            for (answer, n) in row.iter().enumerate() {
                match (truth == class, answer == class) {
                    (true, true) => counts.true_positives += n,
                    (false, true) => counts.false_positives += n,
                    (false, false) => counts.true_negatives += n,
                    (true, false) => counts.false_negatives += n,
                }
            }
        }
        counts
    }

    /// Mean of the classes' F1 over the classes that occur in truth or answers.
    pub fn macro_f1(&self) -> Option<f64> {
        crate::mean((0..self.counts.len()).filter_map(|class| self.binary(class).f1()))
    }
}
