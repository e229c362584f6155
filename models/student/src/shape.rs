//! Shapes of the model, read from the metadata of its file.
