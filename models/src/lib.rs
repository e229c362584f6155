//! Models of the fleet edge agent: the trigger detector and the risk head.
//!
//! A [`manifest::Manifest`] beside an ONNX file says what a detector expects and gives; [`detector::Detector`] loads
//! both and turns RGB frames into [`agent_core::vision::Detections`]. The network that runs on frames is a lowering of
//! the ONNX graph (`net`), held to what tract says of the same graph.
//!
//! [`risk::RiskHead`] judges what the tracks of those boxes mean: a small recurrent network, computed
//! by itself (`cell`), held to tract as well.
//!
//! tract's word comes from a probe file beside the model (`probe`), or from tract itself (`reference`), which also runs
//! what our networks cannot. tract is the feature `tract`, on unless it is left out for the size of the program.
//!
//! This crate reads the files it is given and nothing else; it knows no clock, no network and no configuration.

mod cell;
mod decode;
pub mod detector;
pub mod footprint;
pub mod limits;
pub mod manifest;
mod net;
mod pb;
mod preprocess;
mod probe;
#[cfg(feature = "tract")]
mod reference;
pub mod risk;
mod sizes;

pub use detector::{Detector, DetectorError, Engine};
pub use manifest::{Manifest, ManifestError};
pub use probe::beside as probe_file_beside;
pub use risk::{RiskError, RiskHead};

/// Whether this program has tract. Without it networks need a probe file beside them.
pub const HAS_TRACT: bool = cfg!(feature = "tract");
