//! The recorded drive as it is: no event, and the mounting found from any mount.

use super::data;
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

#[test]
fn the_alignment_knows_how_wrong_it_is() {
    let Some(drive) = Drive::load("alignment") else { return };
    let mount = mounts(3)[2];
    println!("drive begun at s, after s: up error/sigma deg | forward error/sigma deg | confidence");
    let (mut known, mut within) = (0, 0);
    let mut squares = [Vec::new(), Vec::new()];
    for begin in 0..10 {
        let begin = f64::from(begin) * 4.0;
        let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
        let mut speeds = drive.speed.iter().skip_while(|s| s.0 < begin).peekable();
        let mut next = begin + 5.0;
        for (i, &t) in drive.t.iter().enumerate().skip_while(|s| *s.1 < begin) {
            while let Some(&(st, v)) = speeds.next_if(|s| s.0 <= t) {
                trigger.on_speed(MonoTime::from_s(100.0 + st), v as f32);
            }
            trigger.on_imu(&ImuSample {
                t: MonoTime::from_s(100.0 + t),
                accel_mps2: apply(mount, drive.accel[i]).map(|x| x as f32),
                gyro_rps: apply(mount, drive.gyro[i]).map(|x| x as f32),
                gyro_valid: true,
            });
            if t < next {
                continue;
            }
            next += 5.0;
            let a = trigger.alignment();
            let (up, forward) = errors(&a, &drive, mount);
            let (Some(up_sigma), true) = (a.up_sigma_deg, a.up_known) else { continue };
            known += 1;
            within += usize::from(up < 10.0 && (!a.forward_known || forward < 10.0));
            squares[0].push((up / f64::from(up_sigma)).powi(2) / 2.0);
            let sigma = a.forward_sigma_deg.filter(|_| a.forward_known).map(f64::from);
            squares[1].extend(sigma.map(|s| (forward / s).powi(2)));
            if (t - begin) as u32 % 10 < 5 {
                let forward = sigma.map_or("not known".to_owned(), |s| format!("{forward:4.1}/{s:.1}"));
                println!("{begin:4.0} {:4.0}: {up:4.1}/{up_sigma:.1} | {forward} | {:.2}", t - begin, a.confidence);
            }
        }
    }
    // Root mean square of error over claimed standard error: 1 is honest, above it the claim is too bold.
    let rms = squares.each_ref().map(|s| (s.iter().sum::<f64>() / s.len() as f64).sqrt());
    println!("{known} claims, {within} within 10 deg; rms error over sigma: up {:.2}, forward {:.2}", rms[0], rms[1]);
    assert!(within as f64 >= 0.95 * known as f64);
    assert!(rms.iter().all(|r| *r < 1.5), "{rms:?}");
}

/// Seconds of the day of a time such as `2018-04-08 10:31:37.097`.
fn clock(text: &str) -> f64 {
    let mut parts = text[11..].split(':').map(|p| p.parse::<f64>().unwrap());
    let mut part = || parts.next().unwrap();
    part() * 3600.0 + part() * 60.0 + part()
}

/// A second vehicle: a BMW in a town for 342 s, phone on the dashboard at only 10 Hz, speed from the bus. The truth is
/// the regression of the phone's force on the car's own accelerometer (both axes at once), good to some 3 degrees.
#[test]
fn a_slow_sensor_in_another_car_shows_the_mounting_too() {
    let Some(dir) = data::folder("second vehicle") else { return };
    let forward_truth = [-0.02, -0.12, -0.99];
    let phone = data::csv(dir.join("imu/cloudpose/dataset1_phone.csv"));
    let car = data::csv(dir.join("imu/cloudpose/dataset1_car.csv"));
    let t0 = clock(&phone[0][0]) - 1.0;
    let mut speeds = car.iter().map(|r| (clock(&r[0]) - t0, r[5].parse::<f64>().unwrap() * 0.447_04)).peekable();
    let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
    let (mut next, mut harsh, mut last) = (10.0, 0, f64::NAN);
    println!("second vehicle at s: up sigma | forward error to truth, sigma | confidence");
    for row in &phone {
        let t = clock(&row[0]) - t0;
        while let Some((st, v)) = speeds.next_if(|s| s.0 <= t) {
            trigger.on_speed(MonoTime::from_s(st), v as f32);
        }
        let number = |i: usize| row[i].parse::<f32>().unwrap();
        // The phone gives gravity, in g, where we want the specific force.
        let accel_mps2 = [18, 19, 20].map(|i| -9.806_65 * number(i));
        let gyro_rps = [22, 23, 24].map(number);
        for event in trigger.on_imu(&ImuSample { t: MonoTime::from_s(t), accel_mps2, gyro_rps, gyro_valid: true }) {
            match event {
                TelemetryEvent::Harsh { .. } => harsh += 1,
                TelemetryEvent::Disturbance { .. } => {}
                e => panic!("{e:?}"),
            }
        }
        if t >= next {
            next += if next < 60.0 { 10.0 } else { 60.0 };
            let a = trigger.alignment();
            let row = |i: usize| a.vehicle_from_sensor[i].map(f64::from);
            last = degrees(row(0), forward_truth);
            let sigma = a.forward_sigma_deg.unwrap_or(f32::NAN);
            let up_sigma = a.up_sigma_deg.unwrap_or(f32::NAN);
            println!(
                "{t:4.0}: {up_sigma:4.1} | known {} {last:5.1}, {sigma:4.1} | {:.2}",
                a.forward_known, a.confidence
            );
            if a.forward_known {
                assert!(last < 15.0, "{last}");
            }
        }
    }
    println!("harsh manoeuvres: {harsh}; {:?}", trigger.health());
    assert!(trigger.alignment().forward_known && last < 10.0, "{last}");
}

#[test]
fn satellite_speed_shows_the_mounting_as_well() {
    let Some(drive) = Drive::load("satellite speed") else { return };
    let mount = mounts(4)[3];
    println!("speed from the receiver every n-th fix: s, up error/sigma | forward known, error/sigma");
    for every in [1, 5, 10] {
        let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
        let mut speeds = drive.gnss_speed.iter().step_by(every).peekable();
        let mut next = 20.0;
        for (i, &t) in drive.t.iter().enumerate() {
            while let Some(&(st, v)) = speeds.next_if(|s| s.0 <= t) {
                trigger.on_speed(MonoTime::from_s(100.0 + st), v as f32);
            }
            trigger.on_imu(&ImuSample {
                t: MonoTime::from_s(100.0 + t),
                accel_mps2: apply(mount, drive.accel[i]).map(|x| x as f32),
                gyro_rps: apply(mount, drive.gyro[i]).map(|x| x as f32),
                gyro_valid: true,
            });
            if t >= next {
                next += 19.5;
                let a = trigger.alignment();
                let (up, forward) = errors(&a, &drive, mount);
                let sigma = [a.up_sigma_deg, a.forward_sigma_deg].map(|s| s.unwrap_or(f32::NAN));
                println!(
                    "{every:2} {t:3.0}: {up:.1}/{:.1} | {} {forward:.1}/{:.1}",
                    sigma[0], a.forward_known, sigma[1]
                );
                assert!(!a.up_known || up < 10.0, "up {up:.1}");
                assert!(!a.forward_known || forward < 15.0, "forward {forward:.1}");
            }
        }
        assert!(trigger.alignment().forward_known, "every {every}");
    }
}
