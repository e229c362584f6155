//! Placeholder.
use std::path::Path;
/// d
#[derive(Debug)]
pub struct Detector;
/// e
#[derive(Debug, thiserror::Error)]
#[error("none")]
pub struct DetectorError;
impl Detector {
    /// l
    pub fn load(_: &Path) -> Result<Self, DetectorError> { Err(DetectorError) }
    /// l
    pub fn load_with(_: &Path, _: &Path) -> Result<Self, DetectorError> { Err(DetectorError) }
    /// d
    pub fn detect(&mut self, _: usize, _: usize, _: &[u8]) -> Result<&agent_core::vision::Detections, DetectorError> { Err(DetectorError) }
    /// h
    pub fn hash8(&self) -> [u8; 8] { [0; 8] }
    /// d
    pub fn describe(&self) -> String { String::new() }
}
