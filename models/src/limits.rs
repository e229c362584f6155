//! Every capacity of this crate. A model or a frame beyond one of these is refused with an error that names it.

/// Largest model file that is read, bytes. The detectors in use are below 4 MB; a trigger must run beside recording.
pub const MAX_MODEL_BYTES: u64 = 64 << 20;
/// Largest manifest that is read, bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 10;
/// Largest probe file that is read, bytes: a detector's has some 260 numbers, a risk head's 12 for each value of its state.
pub const MAX_PROBE_BYTES: u64 = 256 << 10;
/// Largest risk head that is read, bytes; the one that ships takes 120 KB.
pub const MAX_RISK_BYTES: u64 = 4 << 20;
/// Most values of a risk head's state.
pub const MAX_RISK_STATE: usize = 1024;
/// Largest side of a model's input, pixels.
pub const MAX_INPUT_SIDE: usize = 1280;
/// Largest side of a frame given to a detector, pixels.
pub const MAX_FRAME_SIDE: usize = 8192;
/// Most classes a head may have.
pub const MAX_CLASSES: usize = 1024;
/// Most strides (levels) a head may have.
pub const MAX_STRIDES: usize = 8;
/// Most boxes that enter non-maximum suppression, the strongest; it compares pairs, so this bounds its time.
pub const MAX_CANDIDATES: usize = 512;
/// Most floats that a lowered network may keep for its activations (256 MB).
pub const MAX_ARENA_FLOATS: usize = 64 << 20;
/// Most entries of all tables of a network that is lowered together, weights among them; YOLOX-nano's have 1.4 million.
pub const MAX_TABLES: usize = 16 << 20;
/// Most products of a lowered network for a picture: more is no trigger, which looks at every frame. YOLOX-nano takes 0.5 thousand million.
pub const MAX_PRODUCTS: usize = 1 << 34;
/// Most values of a tensor of a model (256 MB), whatever its input.
pub const MAX_TENSOR_VALUES: usize = 64 << 20;
/// Most graphs within each other, of conditions and loops.
pub const MAX_GRAPHS: usize = 64;
/// Most nodes of an ONNX graph that is lowered.
pub const MAX_NODES: usize = 4096;

const _: () = assert!(agent_core::limits::MAX_DETECTIONS <= MAX_CANDIDATES);
const _: () = assert!(MAX_INPUT_SIDE <= MAX_FRAME_SIDE);
