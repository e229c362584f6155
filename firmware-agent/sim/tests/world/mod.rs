//! Simulated drives as their users see them: truth, physics and sensors agree.

mod physics;
mod records;

use agent_core::config::TelemetryConfig;
use agent_core::telemetry::{TelemetryEvent, TelemetryTrigger};
use agent_sim::SimRecord;
use agent_sim::world::{DriveOptions, Expect, Next, Scenario, WorldDrive, built_in, names};

const BLIND: DriveOptions = DriveOptions { size: [0, 0], fps: 0.0, imu_hz: 100, gnss_hz: 5 };

fn scenario(name: &str) -> Scenario {
    built_in(name).unwrap().unwrap()
}

fn drive(name: &str, seed: u64) -> WorldDrive {
    WorldDrive::new(&scenario(name), seed, BLIND).unwrap()
}

fn records(drive: &mut WorldDrive) -> Vec<SimRecord<'static>> {
    let mut out = Vec::new();
    while let Some(next) = drive.next_due() {
        if let Next::Record(record) = next {
            out.push(record);
        }
    }
    out
}

/// Largest horizontal change of velocity of the body within 150 ms, km/h.
fn largest_delta_v(drive: &WorldDrive) -> f64 {
    let mut v = vec![[0.0f64; 2]];
    for ms in 0..drive.length_ms() {
        let (_, a) = drive.motion(ms);
        v.push([v[ms][0] + a[0] * 1e-3, v[ms][1] + a[1] * 1e-3]);
    }
    let change = |(a, b): (&[f64; 2], &[f64; 2])| (b[0] - a[0]).hypot(b[1] - a[1]);
    3.6 * v.iter().zip(&v[150..]).map(change).fold(0.0, f64::max)
}

/// When the product's own telemetry trigger says that an impact began.
fn impacts(records: &[SimRecord<'_>]) -> Vec<f64> {
    let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
    let mut out = Vec::new();
    for record in records {
        match record {
            SimRecord::Imu(s) => {
                for event in trigger.on_imu(s) {
                    if let TelemetryEvent::ImpactBegan(impact) = event {
                        out.push(impact.t_zero.as_s());
                    }
                }
            }
            SimRecord::Can(f) if f.id == 0x100 => {
                trigger.on_speed(f.t, f32::from(u16::from_le_bytes([f.data[0], f.data[1]])) * 0.01 / 3.6);
            }
            _ => {}
        }
    }
    out
}

/// The scenarios of an outcome.
fn all(expect: Expect) -> impl Iterator<Item = &'static str> {
    names().filter(move |n| scenario(n).expect() == expect)
}
