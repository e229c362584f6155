//! Capacities of decoding.

/// Most nodes of all known answers of one task: a window of 20 s has 20,301 intervals of about 12 tokens that share
/// most of them; CrashChat's longest list, prevention, about 6,000.
pub const MAX_TRIE_NODES: usize = 1 << 18;
/// Most tokens of one known answer.
pub const MAX_KNOWN_TOKENS: usize = 512;
/// Most tokens drafted for one branch in one step.
pub const MAX_DRAFT: usize = 64;
/// Branch points that a draft may pass on the more frequent side.
pub const MAX_THROUGH: usize = 4;
/// Logits of one step at most, bytes: 110 rows of the 2B student's vocabulary. Drafts are cut to fit.
pub const MAX_LOGIT_BYTES: usize = 64 << 20;
/// Rows with logits in one step at most, however small the vocabulary.
pub const MAX_LOGIT_ROWS: usize = 512;
/// Steps of one run at most: every answer's tokens one by one would be fewer.
pub const MAX_STEPS: usize = 4_096;

const _: () = assert!(MAX_DRAFT <= MAX_KNOWN_TOKENS);
