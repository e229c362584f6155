//! Models of the fleet edge agent: the trigger detector and the risk head.
//!
//! A [`manifest::Manifest`] beside an ONNX file says what a detector expects and gives; [`detector::Detector`] loads
//! both and turns RGB frames into [`agent_core::vision::Detections`]. tract parses the graph, settles its shapes and
//! stays the reference and the fallback; the network that runs on frames is a lowering of the same graph (`net`).
//!
//! [`risk::RiskHead`] judges what the tracks of those boxes mean: a small recurrent network, computed
//! by itself (`cell`), with tract as its reference and fallback.
//!
//! This crate reads the files it is given and nothing else; it knows no clock, no network and no configuration.

mod cell;
mod decode;
pub mod detector;
pub mod footprint;
pub mod limits;
pub mod manifest;
mod net;
mod preprocess;
pub mod risk;
mod sizes;

pub use detector::{Detector, DetectorError, Engine};
pub use manifest::{Manifest, ManifestError};
pub use risk::{RiskError, RiskHead};
