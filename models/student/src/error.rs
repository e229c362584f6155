//! What can go wrong in the student, each with its place.
//!
//! Terms: *place* is the module or step that a message of candle came from. Never holds more of a hostile file than
//! a name cut to a printable length.

/// A fault of a model file, an input, a device or a caller.
#[derive(Debug, thiserror::Error)]
pub enum StudentError {
    /// The operating system refused a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The bytes of a model file do not form a GGUF.
    #[error("model file, byte {offset}: {what}")]
    File {
        /// Bytes from the begin.
        offset: u64,
        /// In words.
        what: String,
    },
    /// A metadata key is missing, of another type or out of range.
    #[error("model file, key {key}: {what}")]
    Key {
        /// The key.
        key: String,
        /// In words.
        what: String,
    },
    /// A tensor is missing, of another shape or of a type that is not taken.
    #[error("model file, tensor {name}: {what}")]
    Tensor {
        /// Its name.
        name: String,
        /// In words.
        what: String,
    },
    /// A frame cannot be used.
    #[error("frame of {width}x{height}: {what}")]
    Frame {
        /// Its width, pixels.
        width: usize,
        /// Its height, pixels.
        height: usize,
        /// In words.
        what: String,
    },
    /// More was asked for than the caps allow.
    #[error("{what}: {asked} asked for, at most {cap}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much.
        asked: u64,
        /// The cap.
        cap: u64,
    },
    /// A call out of order, or with arguments that contradict each other.
    #[error("{place}: {what}")]
    Call {
        /// Where.
        place: &'static str,
        /// In words.
        what: String,
    },
    /// The tokenizer's data or a text.
    #[error("tokenizer: {what}")]
    Tokenizer {
        /// In words.
        what: String,
    },
    /// The tensor library or the device below it.
    #[error("{place}: {source}")]
    Compute {
        /// Which step.
        place: &'static str,
        /// What it said.
        source: candle_core::Error,
    },
    /// The caller's `cancel` said yes.
    #[error("cancelled")]
    Cancelled,
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StudentError>;

/// Gives an error of candle its place.
pub(crate) trait Place<T> {
    /// Names the step.
    fn place(self, place: &'static str) -> Result<T>;
}

impl<T> Place<T> for candle_core::Result<T> {
    fn place(self, place: &'static str) -> Result<T> {
        self.map_err(|source| StudentError::Compute { place, source })
    }
}
