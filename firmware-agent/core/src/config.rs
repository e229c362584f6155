//! What the core can be told, as checked numbers. The binary parses files into these types; defaults live in the
//! binary's one shipped configuration file and are repeated here only as `Default` for tests, held equal by a test.

/// Thresholds of the telemetry trigger, for one vehicle class.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    /// Delta-V within `impact_window_ms` that makes an impact, km/h (49 CFR 563.9: 8).
    pub impact_delta_v_kmh: f32,
    /// Window for that, ms (49 CFR 563.9: 150).
    pub impact_window_ms: u32,
    /// Delta-V from which an impact is critical, km/h (UN R160 locks above 25).
    pub critical_delta_v_kmh: f32,
    /// Harsh braking, low-passed longitudinal deceleration, m/s^2.
    pub harsh_braking_mps2: f32,
    /// Harsh acceleration, m/s^2.
    pub harsh_acceleration_mps2: f32,
    /// Harsh cornering, lateral, m/s^2.
    pub harsh_cornering_mps2: f32,
    /// How long a harsh value must last, ms.
    pub harsh_duration_ms: u32,
    /// Range of the accelerometer, m/s^2 per axis: at or above 0.98 of it a sample is clipped.
    pub accel_range_mps2: f32,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            impact_delta_v_kmh: 8.0,
            impact_window_ms: 150,
            critical_delta_v_kmh: 25.0,
            harsh_braking_mps2: 4.5,
            harsh_acceleration_mps2: 3.5,
            harsh_cornering_mps2: 4.5,
            harsh_duration_ms: 300,
            accel_range_mps2: 16.0 * 9.806_65,
        }
    }
}

/// Thresholds of the vision trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Risk at which an event begins, 0 to 1.
    pub risk_on: f32,
    /// Risk below which it may end (hysteresis), at most `risk_on`.
    pub risk_off: f32,
    /// Detections below this score are not looked at.
    pub min_score: f32,
    /// Horizontal field of view of the camera, degrees: for rough distances.
    pub hfov_deg: f32,
}

impl Default for VisionConfig {
    fn default() -> Self {
        // Seven normal clips stayed at or below 0.52 with two detectors, each at its own score threshold (YOLOX-nano
        // 0.3, FastestDet 0.5): 15 clips are smoke evidence, chosen on the same clips, not a calibration.
        Self { risk_on: 0.6, risk_off: 0.3, min_score: 0.3, hfov_deg: 70.0 }
    }
}
