//! `[can] preset`: DBC and signals that the program brings for buses without a DBC of the vehicle.

use agent_core::samples::VehicleSignal;
use agent_drive::SignalMapping;

use crate::config::types::CanPreset;

const fn own(signal: VehicleSignal, message: &'static str, name: &'static str, scale: f64) -> SignalMapping<'static> {
    SignalMapping { signal, message, name, scale, offset: 0.0, bus: None }
}

/// km/h to m/s.
const KMH: f64 = 1.0 / 3.6;
/// SAE J1939-71: SPN 84, 597, 91, 190, 1807, 1808, 563.
const J1939: [SignalMapping<'_>; 7] = [
    own(VehicleSignal::Speed, "CCVS1", "WheelBasedVehicleSpeed", KMH),
    own(VehicleSignal::Brake, "CCVS1", "BrakeSwitch", 1.0),
    own(VehicleSignal::Accelerator, "EEC2", "AcceleratorPedalPosition1", 1.0),
    own(VehicleSignal::EngineSpeed, "EEC1", "EngineSpeed", 1.0),
    own(VehicleSignal::SteeringAngle, "VDC2", "SteeringWheelAngle", 180.0 / core::f64::consts::PI),
    own(VehicleSignal::YawRate, "VDC2", "YawRate", 1.0),
    own(VehicleSignal::AbsActive, "EBC1", "AbsActive", 1.0),
];
/// SAE J1979, service 01: PIDs 0D, 0C, 49.
const OBD2: [SignalMapping<'_>; 3] = [
    own(VehicleSignal::Speed, "ANSWER", "VehicleSpeed", KMH),
    own(VehicleSignal::EngineSpeed, "ANSWER", "EngineSpeed", 1.0),
    own(VehicleSignal::Accelerator, "ANSWER", "AcceleratorPedalD", 1.0),
];

/// DBC and signals of a preset.
pub(crate) fn preset(preset: CanPreset) -> Option<(&'static str, &'static [SignalMapping<'static>])> {
    match preset {
        CanPreset::None => None,
        CanPreset::J1939 => Some((include_str!("../assets/j1939.dbc"), &J1939)),
        CanPreset::Obd2 => Some((include_str!("../assets/obd2.dbc"), &OBD2)),
    }
}
