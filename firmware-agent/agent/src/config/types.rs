//! The checked configuration: what the rest of the agent works with.
//!
//! Field names are the keys of the file, and serialising a [`Config`] gives a file again (`none` stands for an absent
//! path). Raw numbers carry their unit last; MB are 10^6 bytes. Paths stand as written: relative ones mean the folder
//! of the user's file ([`Config::resolve`]), so that the hash does not depend on where that folder is.
//! Nothing here reads files.

use std::path::{Path, PathBuf};

use agent_core::samples::VehicleSignal;
use agent_wire::{Severity, UnitId};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

pub(crate) use super::broker::BrokerUrl;
use super::camera::CameraConfig;
pub(crate) use super::can::CanPreset;
pub(crate) use super::commands::CommandsConfig;
pub(crate) use super::evidence::{EvidenceConfig, KeyFile, Persist};
use super::link::LinkConfig;
use super::updates::UpdatesConfig;

/// Everything that the agent can be told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Config {
    /// Who this is.
    pub(crate) unit: UnitConfig,
    /// Thresholds of each vehicle class.
    pub(crate) classes: Classes,
    /// What is kept in memory.
    pub(crate) rings: RingsConfig,
    /// What makes an event.
    pub(crate) trigger: TriggerConfig,
    /// The vehicle bus.
    pub(crate) can: CanConfig,
    /// How triggers become events.
    pub(crate) fusion: FusionConfig,
    /// The model that looks at an event afterwards.
    pub(crate) student: StudentConfig,
    /// The way out.
    pub(crate) link: LinkConfig,
    /// Whose commands are taken.
    pub(crate) commands: CommandsConfig,
    /// Whose updates are taken.
    pub(crate) updates: UpdatesConfig,
    /// Files of events.
    pub(crate) evidence: EvidenceConfig,
    /// Where samples come from.
    pub(crate) sources: SourcesConfig,
    /// Folder of the user's file: relative paths begin here. Not part of the file or the hash.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// `[unit]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct UnitConfig {
    /// Name of the unit, unique in the fleet.
    pub(crate) name: UnitId,
    /// Name of the fleet: a level of every topic.
    pub(crate) fleet: UnitId,
    /// Which thresholds apply.
    pub(crate) vehicle_class: VehicleClass,
    /// The board's power mode that this was written for.
    #[serde(serialize_with = "name_or_none")]
    pub(crate) power_mode: Option<UnitId>,
}

/// Kind of vehicle, for the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VehicleClass {
    /// Passenger car.
    Car,
    /// Van up to 3.5 t.
    Van,
    /// Lorry.
    Truck,
    /// Bus or coach.
    Bus,
}

impl VehicleClass {
    /// Its word in the configuration.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Van => "van",
            Self::Truck => "truck",
            Self::Bus => "bus",
        }
    }
}

/// `[classes]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Classes {
    /// `[classes.car]`
    pub(crate) car: ClassConfig,
    /// `[classes.van]`
    pub(crate) van: ClassConfig,
    /// `[classes.truck]`
    pub(crate) truck: ClassConfig,
    /// `[classes.bus]`
    pub(crate) bus: ClassConfig,
}

/// Thresholds of one class; the fields are those of [`agent_core::config::TelemetryConfig`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClassConfig {
    /// Delta-V that makes an impact, km/h.
    pub(crate) impact_delta_v_kmh: f32,
    /// Window for it, ms.
    pub(crate) impact_window_ms: u32,
    /// Delta-V of a critical impact, km/h.
    pub(crate) critical_delta_v_kmh: f32,
    /// Harsh braking, m/s^2.
    pub harsh_braking_mps2: f32,
    /// Harsh acceleration, m/s^2.
    pub harsh_acceleration_mps2: f32,
    /// Harsh cornering, m/s^2.
    pub harsh_cornering_mps2: f32,
    /// How long a harsh value must last, ms.
    pub(crate) harsh_duration_ms: u32,
}

/// `[rings]`: what is kept in memory, and the caps of its rates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RingsConfig {
    /// Samples (IMU, CAN, GNSS) before an event, s.
    pub(crate) sample_pre_roll_s: u32,
    /// Video before an event, s.
    pub(crate) video_pre_roll_s: u32,
    /// Samples and video after an event, s.
    pub(crate) post_roll_s: u32,
    /// Longest time between key frames, s: the ring begins at one, so it holds that much more.
    pub(crate) key_frame_max_s: u32,
    /// Highest video rate that the ring is sized for, Mbit/s.
    pub(crate) video_max_mbit_s: f32,
    /// Highest IMU rate that the ring is sized for, samples a second.
    pub(crate) imu_max_hz: u32,
    /// Highest CAN load that the ring is sized for, frames a second over all buses.
    pub(crate) can_max_hz: u32,
    /// Highest GNSS rate that the ring is sized for, fixes a second.
    pub(crate) gnss_max_hz: u32,
    /// Width of the small frames that the trigger model sees, pixels.
    pub(crate) small_frame_width: u32,
    /// Height of them, pixels.
    pub(crate) small_frame_height: u32,
    /// How many the pool holds.
    pub(crate) small_frame_count: u32,
    /// Most memory for all of the above, MB.
    pub(crate) memory_cap_mb: u32,
}

/// `[trigger]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TriggerConfig {
    /// `[[trigger.signals]]`: vehicle signals that make an event; their order is the index of `VehicleSignal::Custom`.
    pub(crate) signals: Vec<TriggerSignal>,
    /// `[trigger.vision]`
    pub(crate) vision: VisionTriggerConfig,
    /// `[trigger.telemetry]`
    pub(crate) telemetry: TelemetryTriggerConfig,
}

/// Where the rule of looming judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VisionRule {
    /// Where no risk head does.
    Alone,
    /// Beside a risk head too.
    Beside,
}

/// `[trigger.vision]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct VisionTriggerConfig {
    /// The trigger model; without one the vision trigger is off.
    pub(crate) model: super::model_choice::ModelChoice,
    /// Judges the tracks of the trigger model; without one a rule of looming does.
    pub(crate) risk_head: super::model_choice::ModelChoice,
    /// Whether the rule of looming judges beside a risk head, too.
    pub(crate) rule: VisionRule,
    /// Probability of a collision ahead at which an event begins, with a risk head.
    pub(crate) ahead_on: f32,
    /// Probability of a collision having just begun at which an event is one, with a risk head.
    pub(crate) contact_on: f32,
    /// The rule's figure at which an event begins, 0 to 1.
    pub(crate) risk_on: f32,
    /// Risk below which it may end, at most `risk_on`.
    pub(crate) risk_off: f32,
    /// Detections below this score are not looked at, 0 to 1.
    pub(crate) min_score: f32,
    /// 1 looks at every frame, 2 at every second one.
    pub(crate) every_nth_frame: u32,
    /// Horizontal field of view of the camera, degrees.
    pub(crate) hfov_deg: f32,
}

/// `[trigger.telemetry]`: the sensor's range, and thresholds that replace those of the vehicle class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TelemetryTriggerConfig {
    /// Range of the accelerometer on each axis, g (9.80665 m/s^2).
    pub(crate) accel_range_g: f32,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) impact_delta_v_kmh: Option<f32>,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) impact_window_ms: Option<u32>,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) critical_delta_v_kmh: Option<f32>,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harsh_braking_mps2: Option<f32>,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harsh_acceleration_mps2: Option<f32>,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harsh_cornering_mps2: Option<f32>,
    /// See [`ClassConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) harsh_duration_ms: Option<u32>,
}

/// A signal of a DBC and what turns its physical value into the unit that is wanted: `value * scale + offset`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SignalRef {
    /// Message name in the DBC.
    pub(crate) message: String,
    /// Signal name in that message.
    pub(crate) signal: String,
    /// Factor, not 0.
    pub(crate) scale: f32,
    /// Added after scaling, in the wanted unit.
    pub(crate) offset: f32,
}

impl Serialize for SignalRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_struct("SignalRef", 3)?;
        table.serialize_field("signal", &format_args!("{}.{}", self.message, self.signal))?;
        table.serialize_field("scale", &self.scale)?;
        table.serialize_field("offset", &self.offset)?;
        table.end()
    }
}

/// One of `[[trigger.signals]]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TriggerSignal {
    /// What to call it.
    pub(crate) name: String,
    /// Message name in the DBC.
    pub(crate) message: String,
    /// Signal name in that message.
    pub(crate) signal: String,
    /// When it fires, in the unit of the DBC.
    pub(crate) threshold: Threshold,
    /// Severity of the event.
    pub(crate) severity: Severity,
}

/// On which side of a value a signal fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threshold {
    /// Above the value.
    Above(f32),
    /// Below the value.
    Below(f32),
}

impl Serialize for TriggerSignal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (side, value) = match self.threshold {
            Threshold::Above(value) => ("above", value),
            Threshold::Below(value) => ("below", value),
        };
        let mut table = serializer.serialize_map(Some(4))?;
        table.serialize_entry("name", &self.name)?;
        table.serialize_entry("signal", &format_args!("{}.{}", self.message, self.signal))?;
        table.serialize_entry(side, &value)?;
        table.serialize_entry("severity", &self.severity)?;
        table.end()
    }
}

/// `[can]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CanConfig {
    /// DBC that names the signals.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) dbc: Option<PathBuf>,
    /// A DBC and signals of the program's own, in place of `dbc`.
    pub(crate) preset: CanPreset,
    /// Buses whose frames are decoded; none named means all.
    pub(crate) buses: Vec<u8>,
    /// `[can.signals]`: where each vehicle signal comes from, in the order of [`VEHICLE_SIGNALS`]; at most one each.
    #[serde(serialize_with = "signal_map")]
    pub(crate) signals: Vec<(VehicleSignal, SignalRef)>,
}

/// Keys of `[can.signals]`: the short name and the path in the COVESA Vehicle Signal Specification (VSS 4), which mean the
/// same. Units as [`VehicleSignal`] names them, whichever name is used.
pub(crate) const VEHICLE_SIGNALS: [(&str, &str, VehicleSignal); 9] = [
    ("speed", "Vehicle.Speed", VehicleSignal::Speed),
    ("brake", "Vehicle.Chassis.Brake.PedalPosition", VehicleSignal::Brake),
    ("accelerator", "Vehicle.Chassis.Accelerator.PedalPosition", VehicleSignal::Accelerator),
    ("steering_angle", "Vehicle.Chassis.SteeringWheel.Angle", VehicleSignal::SteeringAngle),
    ("engine_speed", "Vehicle.Powertrain.CombustionEngine.Speed", VehicleSignal::EngineSpeed),
    ("yaw_rate", "Vehicle.AngularVelocity.Yaw", VehicleSignal::YawRate),
    ("airbag_deployed", "Vehicle.Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed", VehicleSignal::AirbagDeployed),
    ("abs_active", "Vehicle.ADAS.ABS.IsEngaged", VehicleSignal::AbsActive),
    ("esc_active", "Vehicle.ADAS.ESC.IsEngaged", VehicleSignal::EscActive),
];

/// `[fusion]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FusionConfig {
    /// After an event, no new one of the same or a lesser severity for this long, s.
    pub(crate) cool_down_s: f32,
    /// A second impact within this time joins the event, s; at most `cool_down_s`.
    pub(crate) join_window_s: f32,
    /// Whether harsh braking, acceleration and cornering make events.
    pub(crate) harsh_events: bool,
}

/// `[student]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StudentConfig {
    /// Model file; without one every report says that none is installed.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) model: Option<PathBuf>,
    /// A report waits no longer than this for the student, s.
    pub(crate) deadline_s: f32,
    /// Which events it is asked about.
    pub(crate) ask: Ask,
    /// Whether a model that was trained with telemetry is given it.
    pub(crate) telemetry: bool,
    /// Program of the worker; none means this one, which has no CUDA.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) worker: Option<PathBuf>,
    /// Socket of a worker that a service manager runs, in place of a child.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) connect: Option<PathBuf>,
    /// Device of the first two steps.
    pub(crate) device: StudentDevice,
    /// Which code computes on the CPU.
    pub(crate) backend: StudentBackend,
    /// Threads on the CPU; 0 means all.
    pub(crate) threads: u32,
    /// How tokens of unchanged picture are dropped.
    pub(crate) pruning: StudentPruning,
    /// Room for the tokens of one event; 0 means what the file's window needs.
    pub(crate) max_prefix_tokens: u32,
    /// A model file that takes more than this is refused as out of memory, MB; 0 means what the system has left.
    pub(crate) memory_mb: u32,
    /// A model is loaded within this time, s.
    pub(crate) load_s: f32,
    /// Model file of the last step, on the CPU by this program.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) small_model: Option<PathBuf>,
    /// File with the temperature, thousandths of a degree Celsius, as the kernel's thermal zones are; or `type:` and the type of one.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) thermal_zone: Option<PathBuf>,
    /// The full budget is not used at or above it, degrees Celsius.
    pub(crate) warm_c: f32,
    /// The student is not asked at or above it, degrees Celsius.
    pub(crate) hot_c: f32,
    /// File with a number above 0 while the board throttles.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) throttled: Option<PathBuf>,
    /// `[student.smaller]`
    pub(crate) smaller: SmallerStep,
}

/// `[student.smaller]`: the same model with less to look at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SmallerStep {
    /// Most frames; 0 leaves the step out.
    pub(crate) frames: u32,
    /// Room for the tokens of one event.
    pub(crate) max_prefix_tokens: u32,
}

/// What the student runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StudentDevice {
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

impl StudentDevice {
    /// Its word on the worker's command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Which code computes on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StudentBackend {
    /// The candle library.
    Candle,
    /// Our own kernels.
    Engine,
}

impl StudentBackend {
    /// Its word on the worker's command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Candle => "candle",
            Self::Engine => "engine",
        }
    }
}

/// How tokens of unchanged picture are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StudentPruning {
    /// VideoLLaMA3's rule, exactly.
    Upstream,
    /// Its threshold scaled with the noise measured in the frames.
    NoiseFloor,
}

impl StudentPruning {
    /// Its word on the worker's command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::NoiseFloor => "noise-floor",
        }
    }
}

/// Which events the student is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Collisions only.
    Crash,
    /// Collisions and near collisions.
    Near,
    /// Every event.
    All,
}

/// `[sources]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SourcesConfig {
    /// What kind of source.
    pub(crate) kind: SourceKind,
    /// Drives, one after the other.
    #[serde(serialize_with = "path_list")]
    pub(crate) drives: Vec<PathBuf>,
    /// At the pace at which they were recorded.
    pub(crate) realtime: bool,
    /// Begin again after the last.
    #[serde(rename = "loop")]
    pub(crate) repeat: bool,
    /// `[sources.camera]`
    pub(crate) camera: CameraConfig,
    /// `[sources.can]`
    pub(crate) can: super::can::CanBusConfig,
    /// `[sources.gnss]`
    pub(crate) gnss: super::gnss::GnssConfig,
    /// `[sources.imu]`
    pub(crate) imu: super::imu::ImuConfig,
    /// `[sources.gpio]`
    pub(crate) gpio: super::gpio::GpioConfig,
}

/// Kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceKind {
    /// Logged drives.
    Drive,
    /// The unit's own sensors.
    Device,
}

// Paths of a configuration come from UTF-8 text; one set by the program later might not be UTF-8 and is shown with the
// replacement character, because the effective configuration must always be printable.
pub(super) fn path_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn name_or_none<S: Serializer>(name: &Option<UnitId>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_ref().map_or("none", |name| name.as_str()))
}

pub(super) fn path_or_none<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path_text(path, serializer),
        None => serializer.serialize_str("none"),
    }
}

fn path_list<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

fn signal_map<S: Serializer>(signals: &[(VehicleSignal, SignalRef)], serializer: S) -> Result<S::Ok, S::Error> {
    let named = signals.iter().filter_map(|(signal, place)| {
        VEHICLE_SIGNALS.iter().find(|(.., s)| s == signal).map(|(name, ..)| (*name, place))
    });
    serializer.collect_map(named)
}
