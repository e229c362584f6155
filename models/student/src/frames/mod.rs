//! Frames: sampling, resize, patches and pruning.
