//! The model file: one GGUF with weights, tokenizer, preprocessing, prompts, codebook, calibration and licence.
