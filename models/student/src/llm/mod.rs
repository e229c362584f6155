//! The language model: a prefix that grows, and branches that share it.
