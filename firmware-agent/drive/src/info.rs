//! What a drive says of itself, kept as the MCAP metadata record `drive`, right behind the file's header so that a cut
//! drive still has it.

use std::collections::BTreeMap;

/// Name of the metadata record.
pub(crate) const RECORD: &str = "drive";

/// What is known of the camera.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct CameraInfo {
    /// Width, pixels.
    pub width: u16,
    /// Height, pixels.
    pub height: u16,
    /// Frames a second, nominal; 0 where unknown.
    pub fps: f32,
    /// Horizontal field of view, degrees, if known.
    pub hfov_deg: Option<f32>,
}

/// Where a drive comes from and how far it may be believed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DriveInfo {
    /// What it was made from: file names, a scenario, a unit's recording.
    pub source: String,
    /// The unit that recorded it; empty for imported drives.
    pub unit: String,
    /// Whether any sample was made up (a crash pulse laid over real driving, say).
    pub synthetic: bool,
    /// Whether the whole drive comes from the simulator.
    pub simulated: bool,
    /// Whether its parts come from different recordings (a clip with another car's telemetry).
    pub composite: bool,
    /// Whether the pictures were encoded anew when the drive was made.
    pub transcoded: bool,
    /// The camera, if there is one.
    pub camera: Option<CameraInfo>,
    /// What wrote it, with its version.
    pub importer: String,
}

impl DriveInfo {
    /// An info with its source and the name and version of this library as importer.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        let importer = concat!("agent-drive ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { source: source.into(), importer, ..Self::default() }
    }

    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let mut put = |k: &str, v: String| map.insert(k.to_owned(), v);
        put("source", self.source.clone());
        put("unit", self.unit.clone());
        put("synthetic", self.synthetic.to_string());
        put("simulated", self.simulated.to_string());
        put("composite", self.composite.to_string());
        put("transcoded", self.transcoded.to_string());
        put("importer", self.importer.clone());
        put("version", "1".to_owned());
        if let Some(c) = &self.camera {
            put("camera_width", c.width.to_string());
            put("camera_height", c.height.to_string());
            put("camera_fps", c.fps.to_string());
            if let Some(h) = c.hfov_deg {
                put("camera_hfov_deg", h.to_string());
            }
        }
        map
    }

    /// Reads what is there; what is missing or malformed keeps its default, since foreign files have no such record.
    pub(crate) fn from_map(map: &BTreeMap<String, String>) -> Self {
        let text = |k: &str| map.get(k).cloned().unwrap_or_default();
        let flag = |k: &str| map.get(k).is_some_and(|v| v == "true");
        let camera = map.get("camera_width").map(|w| CameraInfo {
            width: w.parse().unwrap_or(0),
            height: text("camera_height").parse().unwrap_or(0),
            fps: text("camera_fps").parse().unwrap_or(0.0),
            hfov_deg: text("camera_hfov_deg").parse().ok(),
        });
        Self {
            source: text("source"),
            unit: text("unit"),
            synthetic: flag("synthetic"),
            simulated: flag("simulated"),
            composite: flag("composite"),
            transcoded: flag("transcoded"),
            camera,
            importer: text("importer"),
        }
    }
}
