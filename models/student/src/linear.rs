//! A linear layer over any of the stored types.
