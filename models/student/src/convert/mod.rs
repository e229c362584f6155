//! Import of checkpoints into the model file.
