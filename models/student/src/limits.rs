//! Capacities of this crate.
//!
//! A model file, a frame and a prompt may be anything: each cap bounds the memory or the loop that it feeds. Real
//! models stand well below them (VideoLLaMA3-7B: hidden 3584, ffn 18944, 28 layers, vocabulary 152064).

/// Width of a residual stream.
pub const MAX_HIDDEN: usize = 16_384;
/// Width inside a feed-forward block.
pub const MAX_FFN: usize = 65_536;
/// Blocks of one half.
pub const MAX_LAYERS: usize = 128;
/// Heads of one layer.
pub const MAX_HEADS: usize = 128;
/// Rows of the embedding.
pub const MAX_VOCAB: usize = 262_144;
/// Positions.
pub const MAX_CONTEXT: usize = 1 << 20;

/// Frames of one job.
pub const MAX_FRAMES: usize = 96;
/// Side of a picture, pixels.
pub const MAX_PICTURE_SIDE: usize = 4096;
/// Pixels of one picture.
pub const MAX_PICTURE_PIXELS: usize = 4096 * 2304;
/// Vision tokens of one job: upstream's training cap is 10240.
pub const MAX_IMAGE_TOKENS: usize = 16_384;
/// Patches of one frame: the scores of one frame's attention grow with its square.
pub const MAX_FRAME_PATCHES: usize = 4096;

/// Branches of one prefix: six tasks, severity, and a candidate to fork to.
pub const MAX_BRANCHES: usize = 16;
/// Tokens of one branch.
pub const MAX_BRANCH_TOKENS: usize = 2048;
/// Tokens of the prefix: vision tokens and the text between them.
pub const MAX_PREFIX_TOKENS: usize = 24_576;
/// Rows of one step.
pub const MAX_STEP_ROWS: usize = 8192;

/// Attention scores held at once, 64 MiB in f32; a longer pass is cut.
pub const MAX_SCORES: usize = 1 << 24;

/// Tensors of one file: 12 a text layer, 16 a vision layer, and a few.
pub const MAX_TENSORS: usize = 8192;
/// Metadata entries of one file.
pub const MAX_META_ENTRIES: usize = 4096;
/// Bytes of a key or a tensor's name.
pub const MAX_NAME_BYTES: usize = 256;
/// Bytes of a string in the metadata (chat templates, licences).
pub const MAX_META_STRING: usize = 1 << 20;
/// Entries of all arrays in the metadata together (tokens, their types, merges: three times a vocabulary). An entry
/// takes 32 bytes in memory and as little as one in the file.
pub const MAX_META_ELEMENTS: usize = 1 << 21;
/// Bytes of everything before the tensors.
pub const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Bytes of one tensor.
pub const MAX_TENSOR_BYTES: u64 = 8 << 30;

const _: () = assert!(MAX_PICTURE_PIXELS <= MAX_PICTURE_SIDE * MAX_PICTURE_SIDE);
const _: () = assert!(MAX_IMAGE_TOKENS < MAX_PREFIX_TOKENS);
const _: () = assert!(3 * MAX_VOCAB < MAX_META_ELEMENTS);
const _: () = assert!(MAX_LAYERS * (12 + 16) < MAX_TENSORS);
const _: () = assert!(MAX_PREFIX_TOKENS + MAX_BRANCH_TOKENS < MAX_CONTEXT);
const _: () = assert!(MAX_BRANCHES <= u8::MAX as usize);
