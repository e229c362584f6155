//! A language half whose logits are a function of the tokens it was given, for tests of decoding: it has no weights,
//! holds the rules of the trait, and gives a row the same logits in any batch.

use agent_student::error::{Result, StudentError};
use agent_student::llm::{Language, Row};
use agent_student::shape::TextShape;

/// How it answers.
pub(crate) struct Toy {
    shape: TextShape,
    prefix: Vec<u32>,
    branches: Vec<Vec<u32>>,
    /// For a question of these tokens: answers it likes, with their ends.
    pub(crate) liked: Vec<(Vec<u32>, Vec<Vec<u32>>)>,
    /// Of 100 places, how many where it says something else.
    pub(crate) stray: u64,
    /// Rows of each step so far.
    pub(crate) log: Vec<usize>,
    /// Fails at this step.
    pub(crate) fail_at: Option<usize>,
}

/// Mixes numbers (splitmix64's finaliser).
pub(crate) fn mix(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(0x9e37_79b9_7f4a_7c15, |h, v| {
        let mut z = (h ^ v).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl Toy {
    pub(crate) fn new(vocab: usize) -> Self {
        let shape = TextShape {
            hidden: 8,
            ffn: 8,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            vocab,
            context: 1 << 16,
            rope_theta: 1e6,
            eps: 1e-6,
            tied: true,
        };
        let (prefix, branches, liked, log) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { shape, prefix, branches, liked, stray: 0, log, fail_at: None }
    }

    /// Logits after the last token of `branch`.
    fn logits(&self, branch: &[u32]) -> Vec<f32> {
        let context = mix(self.prefix.iter().chain(branch).map(|t| u64::from(*t)));
        let mut logits: Vec<f32> =
            (0..self.shape.vocab as u64).map(|t| (mix([context, t]) % 4_000) as f32 / 1_000.0).collect();
        let liked = self.liked.iter().find(|(prompt, _)| branch.starts_with(prompt));
        let said = liked.map_or(branch, |(prompt, _)| &branch[prompt.len()..]);
        let ways: Vec<u32> = liked
            .iter()
            .flat_map(|(_, answers)| answers)
            .filter(|a| a.len() > said.len() && a.starts_with(said))
            .map(|a| a[said.len()])
            .collect();
        let strays = mix([context, 7]) % 100 < self.stray;
        if !ways.is_empty() && !strays {
            for way in &ways {
                logits[*way as usize] += 6.0;
            }
        }
        logits
    }
}

impl Language for Toy {
    fn shape(&self) -> &TextShape {
        &self.shape
    }
    fn reset(&mut self) {
        self.prefix.clear();
        self.branches.clear();
    }
    fn prefix_len(&self) -> usize {
        self.prefix.len()
    }
    fn extend_tokens(&mut self, ids: &[u32]) -> Result<()> {
        self.prefix.extend(ids);
        Ok(())
    }
    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()> {
        assert_eq!(x.len(), rows * self.shape.hidden);
        self.prefix.extend(x.chunks(self.shape.hidden).map(|r| mix(r.iter().map(|v| u64::from(v.to_bits()))) as u32));
        Ok(())
    }
    fn open_branches(&mut self, n: usize) -> Result<()> {
        self.branches = vec![Vec::new(); n];
        Ok(())
    }
    fn branch_len(&self, branch: u8) -> usize {
        self.branches.get(usize::from(branch)).map_or(0, Vec::len)
    }
    fn truncate(&mut self, branch: u8, len: usize) {
        self.branches[usize::from(branch)].truncate(len);
    }
    fn copy_branch(&mut self, from: u8, to: u8) -> Result<()> {
        self.branches[usize::from(to)] = self.branches[usize::from(from)].clone();
        Ok(())
    }
    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()> {
        assert_eq!(rows.len(), logits_of.len());
        let mut seen = Vec::new();
        for run in rows.chunk_by(|a, b| a.branch == b.branch) {
            assert!(!seen.contains(&run[0].branch), "rows of a branch stand apart");
            seen.push(run[0].branch);
        }
        if self.fail_at == Some(self.log.len()) {
            return Err(StudentError::Call { place: "toy", what: "asked to fail".into() });
        }
        self.log.push(rows.len());
        for (row, wanted) in rows.iter().zip(logits_of) {
            let branch = usize::from(row.branch);
            self.branches[branch].push(row.token);
            if *wanted {
                let logits = self.logits(&self.branches[branch]);
                out.extend(logits);
            }
        }
        Ok(())
    }
}
