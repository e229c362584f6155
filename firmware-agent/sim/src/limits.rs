//! Every size and rate of the simulator, in one place, with the relations between them checked at compile time.

/// Length of the demo drive, milliseconds.
pub const DEMO_MS: usize = 40_000;
/// Time between IMU samples, milliseconds (100 Hz).
pub const IMU_PERIOD_MS: usize = 10;
/// Time between GNSS fixes, milliseconds (5 Hz).
pub const GNSS_PERIOD_MS: usize = 200;
/// Time between camera frames, milliseconds (12.5 frames a second).
pub const FRAME_PERIOD_MS: usize = 80;
/// Width of a camera frame, pixels.
pub const FRAME_WIDTH: usize = 640;
/// Height of a camera frame, pixels.
pub const FRAME_HEIGHT: usize = 360;
/// Bytes of a camera frame: RGB, 8 bits each, rows from the top without padding.
pub const FRAME_BYTES: usize = FRAME_WIDTH * FRAME_HEIGHT * 3;
/// Range of the accelerometer per axis, m/s^2 (16 g).
pub const ACCEL_RANGE_MPS2: f64 = 16.0 * 9.806_65;
/// Range of the gyroscope per axis, rad/s (about 1000 degrees a second).
pub const GYRO_RANGE_RPS: f64 = 17.45;
/// Length of the road, metres: more than any scripted drive covers plus what the camera sees.
pub const ROAD_M: usize = 520;
/// Points of the road's centre line per metre.
pub const ROAD_POINTS_PER_M: usize = 2;
/// Most objects beside the road.
pub const SCENERY: usize = 160;
/// Most corners of a polygon that the painter takes (a clipped ellipse of 24 corners).
pub const POLYGON_CORNERS: usize = 28;

/// Most points of a path in the simulated world: 4 km at 1 m.
pub const PATH_POINTS: usize = 4096;
/// Longest crash pulse, milliseconds.
pub const PULSE_MS_MAX: usize = 250;
/// Shortest and longest drive of a scenario, seconds.
pub const DRIVE_S: [f64; 2] = [4.0, 120.0];
/// Most road users of a drive, those of the scenario and the others together.
pub const ACTORS: usize = 48;
/// Most actors that a scenario names.
pub const SCENARIO_ACTORS: usize = 8;
/// Longest scenario file, bytes.
pub const SCENARIO_BYTES: usize = 16 << 10;
/// Most entries of a list in a scenario file.
pub const SCENARIO_CHOICES: usize = 16;
/// How often a scenario is drawn anew when the outcome is not the one it is for.
pub const ATTEMPTS: u64 = 64;
/// Milliseconds between two places of the other road users that a drive keeps.
pub const TRACE_MS: usize = 20;
/// Most contacts kept of a drive.
pub const CONTACTS: usize = 16;
/// Most points of disturbance (bumps, holes, shocks of the unit) of a drive.
pub const SHOCKS: usize = 64;

const _: () = assert!(SCENARIO_ACTORS < ACTORS);
const _: () = assert!(DEMO_MS.is_multiple_of(FRAME_PERIOD_MS) && DEMO_MS.is_multiple_of(GNSS_PERIOD_MS));
const _: () = assert!(FRAME_WIDTH.is_multiple_of(16) && FRAME_HEIGHT.is_multiple_of(8));
