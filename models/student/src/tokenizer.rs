//! The tokenizer of the model file.
