//! Labelled trips: placeholder until the next commit.
