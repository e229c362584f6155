//! What the unit's sensors do, told with its health.

use serde::{Deserialize, Serialize};

/// The camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraState {
    /// No frame since the start, and nothing said of it: there may be none.
    #[default]
    Unheard,
    /// Opened, no frame yet.
    Starting,
    /// Frames come.
    Good,
    /// Its device is not there.
    Missing,
    /// It is open, but frames come no more.
    Stalled,
    /// It fails or refuses.
    Failed,
    /// Frames come; they show nothing but dark.
    Black,
    /// Something is in front of the lens.
    Covered,
    /// The same picture again and again.
    Frozen,
    /// Out of focus, wet or dirty.
    Blurred,
}

/// A bus, the motion sensor or the positioning receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorState {
    /// Nothing was heard of it since the start: there may be none.
    #[default]
    Unheard,
    /// Its samples come.
    Good,
    /// Its samples came, and come no more.
    Silent,
}

/// All of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sensors {
    /// The camera.
    pub camera: CameraState,
    /// CAN, all buses together.
    pub can: SensorState,
    /// The inertial unit.
    pub imu: SensorState,
    /// Fixes of the GNSS receiver: in a tunnel they come no more, either.
    pub gnss: SensorState,
}
