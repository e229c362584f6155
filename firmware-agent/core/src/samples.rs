//! What the sensors say, stamped on one monotonic clock.

use crate::time::{MonoTime, WallTime};

/// One IMU sample in sensor axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImuSample {
    /// When it was taken.
    pub t: MonoTime,
    /// Specific force, m/s^2 (at rest: +9.81 along up).
    pub accel_mps2: [f32; 3],
    /// Turn rate, rad/s, right-handed; zeros with `gyro_valid` false where there is no gyroscope.
    pub gyro_rps: [f32; 3],
    /// Whether `gyro_rps` was measured.
    pub gyro_valid: bool,
}

/// One GNSS fix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GnssFix {
    /// When it was received.
    pub t: MonoTime,
    /// Latitude, WGS 84, degrees.
    pub lat_deg: f64,
    /// Longitude, WGS 84, degrees.
    pub lon_deg: f64,
    /// Altitude, m.
    pub alt_m: f32,
    /// Speed over ground, m/s.
    pub speed_mps: f32,
    /// Course over ground, degrees clockwise from north.
    pub course_deg: f32,
    /// Horizontal accuracy, m, if the receiver gives one.
    pub accuracy_m: Option<f32>,
    /// Wall time of the fix, if the receiver gives one.
    pub wall: Option<WallTime>,
}

/// One CAN or CAN FD frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanFrame {
    /// When it was received.
    pub t: MonoTime,
    /// Which bus, from 0.
    pub bus: u8,
    /// Identifier, 11 or 29 bits.
    pub id: u32,
    /// Whether the identifier has 29 bits.
    pub extended: bool,
    /// Whether it is a CAN FD frame.
    pub fd: bool,
    /// Whether it is a remote request (no data).
    pub remote: bool,
    /// Valid bytes of `data`: at most 8, or 64 for FD.
    pub len: u8,
    /// Payload.
    pub data: [u8; 64],
}

impl CanFrame {
    /// The valid bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.data[..usize::from(self.len).min(self.data.len())]
    }
}

/// A named signal of the vehicle. Names follow the COVESA Vehicle Signal Specification; DBC signals are mapped to
/// them by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VehicleSignal {
    /// `Vehicle.Speed`, m/s.
    Speed,
    /// `Vehicle.Chassis.Brake.PedalPosition` or a switch: on above 0.5.
    Brake,
    /// `Vehicle.Chassis.Accelerator.PedalPosition`, percent.
    Accelerator,
    /// `Vehicle.Chassis.SteeringWheel.Angle`, degrees, left positive.
    SteeringAngle,
    /// `Vehicle.Powertrain.CombustionEngine.Speed`, rpm.
    EngineSpeed,
    /// `Vehicle.AngularVelocity.Yaw`, rad/s, left positive.
    YawRate,
    /// Any airbag deployed, such as `Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed`: on above 0.5.
    AirbagDeployed,
    /// `Vehicle.ADAS.ABS.IsEngaged`: on above 0.5.
    AbsActive,
    /// `Vehicle.ADAS.ESC.IsEngaged`, stability control: on above 0.5.
    EscActive,
    /// A signal that the configuration names to trigger on, by its index there.
    Custom(u8),
}

/// One decoded value of a vehicle signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalSample {
    /// When the CAN frame was received.
    pub t: MonoTime,
    /// Which signal.
    pub signal: VehicleSignal,
    /// Its value, in the unit that [`VehicleSignal`] names.
    pub value: f32,
}

/// How an encoded frame is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// H.264, Annex B byte stream, one access unit a frame, parameter sets before each key frame.
    H264,
    /// H.265, Annex B.
    H265,
    /// JPEG: every frame is a key frame.
    Jpeg,
}

/// What is known of an encoded frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// When it was captured.
    pub t: MonoTime,
    /// Counts the frames of a source, from 0; a gap is a loss.
    pub seq: u64,
    /// Compression.
    pub codec: VideoCodec,
    /// Whether decoding can begin here.
    pub key: bool,
    /// Width and height, pixels.
    pub size: [u16; 2],
}
