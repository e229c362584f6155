//! The recorded drive as it is: no event, and the mounting found from any mount.

use super::synth::{Drive, M3, apply, degrees, mounts, transpose};
use agent_core::config::TelemetryConfig;
use agent_core::samples::ImuSample;
use agent_core::telemetry::{Alignment, TelemetryEvent, TelemetryTrigger};
use agent_core::time::MonoTime;

/// Errors of up and forward against the recorded poses, degrees.
fn errors(alignment: &Alignment, drive: &Drive, mount: M3) -> (f64, f64) {
    let truth = transpose(drive.device_from_vehicle).map(|axis| apply(mount, axis));
    let row = |i: usize| alignment.vehicle_from_sensor[i].map(f64::from);
    (degrees(row(2), truth[2]), degrees(row(0), truth[0]))
}

#[test]
fn an_ordinary_drive_is_quiet_and_shows_the_mounting() {
    let Some(drive) = Drive::load("drive") else { return };
    println!("mount  t_s  up_known err_up sigma | fwd_known err_fwd sigma | confidence");
    let mut trusted = 0;
    for (m, mount) in mounts(6).into_iter().enumerate() {
        let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
        let mut speeds = drive.speed.iter().peekable();
        let mut next = 2.0;
        for (i, &t) in drive.t.iter().enumerate() {
            while let Some(&(st, v)) = speeds.next_if(|s| s.0 <= t) {
                trigger.on_speed(MonoTime::from_s(100.0 + st), v as f32);
            }
            let events = trigger.on_imu(&ImuSample {
                t: MonoTime::from_s(100.0 + t),
                accel_mps2: apply(mount, drive.accel[i]).map(|x| x as f32),
                gyro_rps: apply(mount, drive.gyro[i]).map(|x| x as f32),
                gyro_valid: true,
            });
            for e in events {
                assert!(matches!(e, TelemetryEvent::Disturbance { .. }), "mount {m} at {t:.2} s: {e:?}");
            }
            if t >= next {
                let a = trigger.alignment();
                let (up, forward) = errors(&a, &drive, mount);
                println!(
                    "{m:5} {t:5.1} {:>8} {up:6.1} {:5.1} | {:>8} {forward:7.1} {:5.1} | {:.2}",
                    a.up_known,
                    a.up_sigma_deg.unwrap_or(f32::NAN),
                    a.forward_known,
                    a.forward_sigma_deg.unwrap_or(f32::NAN),
                    a.confidence
                );
                if a.up_known {
                    assert!(up < 10.0, "up is called known and is {up:.1} deg off");
                }
                if a.forward_known {
                    trusted += 1;
                    assert!(forward < 15.0, "forward is called known and is {forward:.1} deg off");
                }
                next += if next < 10.0 { 2.0 } else { 10.0 };
            }
        }
        let a = trigger.alignment();
        let (up, forward) = errors(&a, &drive, mount);
        assert!(a.forward_known && up < 5.0 && forward < 6.0, "mount {m}: {up:.1} {forward:.1}");
    }
    assert!(trusted > 0);
}
