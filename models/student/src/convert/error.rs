//! Errors of the converter. Each names its file, and the tensor or key in it.

use std::path::{Path, PathBuf};

/// Why a checkpoint was not converted or a model file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// True when it is our output.
        output: bool,
        /// Why.
        source: std::io::Error,
    },
    /// An input is not what it should be.
    #[error("{}: {what}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        what: String,
    },
    /// One tensor of an input is not what it should be.
    #[error("{}: tensor {name}: {what}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor, as the file names it.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// Tensors that the shape asks for are in none of the inputs.
    #[error("{}: missing {}", path.display(), listed(names))]
    Missing {
        /// The checkpoint.
        path: PathBuf,
        /// The tensors, as the model file names them.
        names: Vec<String>,
    },
    /// The disk has no room for the output.
    #[error("{}: no room for {bytes} bytes: {source}", path.display())]
    Disk {
        /// The output.
        path: PathBuf,
        /// What it needs.
        bytes: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was asked for cannot be: a shape, a type, an order of writing.
    #[error("{0}")]
    Asked(String),
    /// A shape that the student does not take.
    #[error(transparent)]
    Shape(#[from] crate::error::StudentError),
    /// Quantising failed.
    #[error("tensor {name}: {source}")]
    Quantise {
        /// The tensor.
        name: String,
        /// What candle says.
        source: candle_core::Error,
    },
}

impl ConvertError {
    /// True when an input is at fault, false when it is the machine, the output or the call.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Io { output, .. } => !output,
            Self::Input { .. } | Self::Tensor { .. } | Self::Missing { .. } | Self::Shape(_) => true,
            Self::Disk { .. } | Self::Asked(_) | Self::Quantise { .. } => false,
        }
    }

    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), output: false, source }
    }

    pub(crate) fn writing(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), output: true, source }
    }

    pub(crate) fn input(path: &Path, what: impl Into<String>) -> Self {
        Self::Input { path: path.into(), what: what.into() }
    }

    pub(crate) fn tensor(path: &Path, name: &str, what: impl Into<String>) -> Self {
        Self::Tensor { path: path.into(), name: name.into(), what: what.into() }
    }
}

/// The first names of a list and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names.get(..super::limits::MAX_LISTED.min(names.len())).unwrap_or_default().join(", ");
    match names.len().saturating_sub(super::limits::MAX_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
