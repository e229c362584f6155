//! The pure core of the agent: samples, frames and detections in; alerts, reports and requests out.
//!
//! It does no I/O, starts nothing, reads no clock and sees no pixels. Time is an argument ([`time::MonoTime`]).
//! After each input, the caller drains the outputs. `run` and `replay` drive the same core; it cannot tell which.
//!
//! Axes. *Sensor axes* are those of the IMU as mounted, unknown. *Vehicle axes* are x forward, y left, z up
//! (ISO 8855). An accelerometer at rest reads +9.81 m/s^2 along up (specific force).

pub mod agent;
pub mod config;
pub mod edr;
pub mod event;
pub mod evidence;
pub mod fusion;
pub mod grounding;
pub mod history;
pub mod limits;
mod losses;
pub mod outbox;
pub mod rings;
pub mod samples;
mod sensors;
pub mod student;
pub mod telemetry;
pub mod time;
pub mod vision;
