//! Capacities of the converter: what is read from others is bounded here, before it is allocated. Those of the model file
//! itself are the student's, in [`crate::limits`].

use crate::limits::MAX_FFN;

/// Most tensors in an input (a model file has at most [`crate::limits::MAX_TENSORS`]). The 7B shape has 783.
pub const MAX_TENSORS: usize = 16_384;
/// Longest tensor or metadata name, bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 5;
/// Longest metadata string, bytes (a licence text, a chat template).
pub const MAX_STRING_BYTES: usize = 1 << 20;
/// Largest safetensors header; the format's own cap is 100 MB, the 7B shape needs 0.1 MB.
pub const MAX_SAFETENSORS_HEADER: u64 = 16 << 20;
/// Largest `data.pkl` of a PyTorch archive: names and shapes only, the 7B shape needs 0.1 MB.
pub const MAX_PICKLE_BYTES: u64 = 16 << 20;
/// Most objects one pickle may make, counting each use of the memo: a small pickle cannot grow without end.
pub const MAX_PICKLE_OBJECTS: usize = 1 << 20;
/// Most files in a PyTorch archive (one a storage).
pub const MAX_ZIP_ENTRIES: usize = 32_768;
/// Most shards of a checkpoint.
pub const MAX_SHARDS: usize = 256;
/// Largest JSON or TOML file beside the weights: `tokenizer.json` of Qwen2 has 11.4 MB.
pub const MAX_JSON_BYTES: u64 = 64 << 20;
/// Largest licence text kept in the model file.
pub const MAX_LICENCE_BYTES: u64 = 64 << 10;
/// Longest question of a task, bytes.
pub const MAX_QUESTION_BYTES: usize = 8 << 10;
/// Most clips in one annotation file.
pub const MAX_CLIPS: usize = 1 << 20;
/// Most values converted at a time: 16 MiB of f32, so that the largest tensor never stands in memory whole.
pub const CHUNK_VALUES: usize = 4 << 20;
/// Largest rank of an adapter.
pub const MAX_RANK: usize = 4_096;
/// Most values of one adapter's A and B together, kept whole while their tensor is merged: 512 MiB of f32.
pub const MAX_ADAPTER_VALUES: usize = 128 << 20;
/// Most notes that an import keeps.
pub const MAX_NOTES: usize = 64;
/// Most names that an error lists.
pub const MAX_LISTED: usize = 8;

const _: () = assert!(agent_worker::limits::MAX_CODES <= u16::MAX as usize, "the wire's code is a u16");
const _: () = assert!(CHUNK_VALUES >= MAX_FFN, "a chunk holds at least one row");
