//! Labelled trips of a passenger car (phone on the windscreen): harsh manoeuvres found, and false ones an hour.
//!
//! The forces are in earth axes (east, north, up) already and there is no speed, so that the direction of driving is
//! not known and every event is by magnitude. The threshold comes from trip 17 alone by this rule: with low-pass and
//! duration as shipped, the largest threshold, in steps of 0.1 m/s^2, at which every labelled hard braking of trip 17
//! is found. Trip 20 has no hard braking among its labels, only hard turns.

use super::data;
use agent_core::config::TelemetryConfig;
use agent_core::samples::ImuSample;
use agent_core::telemetry::{TelemetryEvent, TelemetryTrigger};
use agent_core::time::MonoTime;

struct Trip {
    samples: Vec<ImuSample>,
    labels: Vec<(String, f64, f64)>,
    start_ns: u64,
}

impl Trip {
    fn load(dir: &std::path::Path) -> Self {
        let start_ns = std::fs::read_to_string(dir.join("viagem.json"))
            .unwrap()
            .split("\"firstCollectionUptimeNanos\":")
            .nth(1)
            .and_then(|s| s.split(',').next())
            .and_then(|s| s.trim().parse().ok())
            .unwrap();
        let rows = |name: &str| -> Vec<(u64, [f32; 3])> {
            let number = |s: &String| s.parse::<f32>().unwrap();
            data::csv(dir.join(name))
                .iter()
                .map(|r| (r[1].parse().unwrap(), [number(&r[2]), number(&r[3]), number(&r[4])]))
                .collect()
        };
        let gyro = rows("giroscopio_terra.csv");
        let samples = rows("acelerometro_terra.csv")
            .into_iter()
            .map(|(t, accel_mps2)| {
                let i = gyro.partition_point(|g| g.0 < t).clamp(1, gyro.len() - 1);
                let nearest = if t - gyro[i - 1].0 < gyro[i].0.saturating_sub(t) { gyro[i - 1] } else { gyro[i] };
                // The axes are the earth's, so the turn of the unit is out of the force already: given as zero.
                assert!(nearest.1.iter().all(|w| w.is_finite()));
                ImuSample { t: MonoTime(t), accel_mps2, gyro_rps: [0.0; 3], gyro_valid: true }
            })
            .collect();
        let labels = data::csv(dir.join("groundTruth.csv"))
            .into_iter()
            .map(|r| (r[0].clone(), r[1].parse().unwrap(), r[2].parse().unwrap()))
            .collect();
        Self { samples, labels, start_ns }
    }

    /// Times of the events, s from the start of the trip, and how many of them were impacts.
    fn run(&self, threshold: f32) -> (Vec<f64>, usize) {
        let config = TelemetryConfig {
            harsh_braking_mps2: threshold,
            harsh_acceleration_mps2: threshold,
            harsh_cornering_mps2: threshold,
            ..TelemetryConfig::default()
        };
        let mut trigger = TelemetryTrigger::new(config);
        let (mut times, mut impacts) = (Vec::new(), 0);
        for sample in &self.samples {
            for event in trigger.on_imu(sample) {
                match event {
                    TelemetryEvent::Harsh { t_zero, .. } => times.push((t_zero.0 - self.start_ns) as f64 * 1e-9),
                    TelemetryEvent::ImpactBegan(_) => impacts += 1,
                    TelemetryEvent::ImpactUpdated(_) | TelemetryEvent::Disturbance { .. } => {}
                }
            }
        }
        (times, impacts)
    }

    /// An event belongs to a label when it begins within half a second of it.
    fn found(&self, times: &[f64], which: impl Fn(&str) -> bool) -> (usize, usize) {
        let of: Vec<_> = self.labels.iter().filter(|l| which(&l.0)).collect();
        let hit = of.iter().filter(|l| times.iter().any(|&t| t >= l.1 - 0.5 && t <= l.2 + 0.5)).count();
        (hit, of.len())
    }

    /// Events outside every label, and the hours outside.
    fn outside(&self, times: &[f64]) -> (usize, f64) {
        let inside = |t: f64| self.labels.iter().any(|l| t >= l.1 - 0.5 && t <= l.2 + 0.5);
        let all = (self.samples[self.samples.len() - 1].t - self.samples[0].t).as_s();
        let labelled: f64 = self.labels.iter().map(|l| l.2 - l.1 + 1.0).sum();
        (times.iter().filter(|&&t| !inside(t)).count(), (all - labelled) / 3600.0)
    }
}

const BRAKING: &str = "freada_agressiva";
const CALM: &str = "evento_nao_agressivo";

/// The written rule.
fn threshold(trip: &Trip) -> f32 {
    (10..80)
        .rev()
        .map(|tenths| tenths as f32 / 10.0)
        .find(|&threshold| {
            let (hit, all) = trip.found(&trip.run(threshold).0, |l| l == BRAKING);
            hit == all
        })
        .unwrap()
}

#[test]
fn harsh_manoeuvres_of_labelled_trips() {
    let Some(dir) = data::folder("labelled trips") else { return };
    let trips = ["17", "20"].map(|n| (n, Trip::load(&dir.join("imu/jair/data").join(n))));
    let chosen = threshold(&trips[0].1);
    println!("threshold by the rule on trip 17: {chosen:.1} m/s^2");
    println!("m/s^2 trip | hard brakings | other harsh | labelled calm | events outside labels, an hour | impacts");
    for at in [chosen - 0.5, chosen, chosen + 0.5, 3.5, 4.5] {
        for (name, trip) in &trips {
            let (times, impacts) = trip.run(at);
            let brakes = trip.found(&times, |l| l == BRAKING);
            let others = trip.found(&times, |l| l != BRAKING && l != CALM);
            let calm = trip.found(&times, |l| l == CALM);
            let (outside, hours) = trip.outside(&times);
            println!(
                "{at:5.1} {name:>4} | {:6}/{:<6} | {:5}/{:<5} | {:6}/{:<6} | {outside} in {hours:.3} h: {:.1} | {impacts}",
                brakes.0,
                brakes.1,
                others.0,
                others.1,
                calm.0,
                calm.1,
                outside as f64 / hours
            );
            assert_eq!(impacts, 0, "trip {name} has no crash");
        }
    }
}
