//! Scratch.
use agent_core::config::TelemetryConfig;
use agent_core::telemetry::{TelemetryEvent, TelemetryTrigger};
use agent_sim::SimRecord;
use agent_sim::world::{DriveOptions, Next, WorldDrive, built_in, names};
fn main() {
    let from: u64 = std::env::args().nth(1).map_or(0, |a| a.parse().unwrap());
    let to: u64 = std::env::args().nth(2).map_or(10, |a| a.parse().unwrap());
    let only = std::env::args().nth(3);
    let hz: usize = std::env::args().nth(4).map_or(100, |a| a.parse().unwrap());
    let verbose = std::env::args().nth(5).is_some();
    for name in names().filter(|n| only.as_deref().is_none_or(|o| n.contains(o))) {
        let s = built_in(name).unwrap().unwrap();
        let (mut draws, mut n, mut big, mut found, mut small, mut extra, mut km, mut most) =
            (0, 0, 0, 0, 0, 0, 0.0, 0.0f64);
        let (mut early, mut spoiled) = (Vec::new(), 0);
        let mut codes = std::collections::BTreeMap::new();
        let t0 = std::time::Instant::now();
        for seed in from..to {
            let options = DriveOptions { fps: 0.0, imu_hz: hz, ..DriveOptions::default() };
            let Ok(mut d) = WorldDrive::new(&s, seed, options) else {
                spoiled += 1;
                continue;
            };
            let t = d.truth().clone();
            draws += t.draws;
            n += 1;
            km += t.way_m / 1000.0;
            *codes.entry(format!("{}/{}", t.description.code, t.danger)).or_insert(0) += 1;
            let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
            let mut hits = Vec::new();
            while let Some(next) = d.next_due() {
                match next {
                    Next::Record(SimRecord::Imu(s)) => {
                        for e in trigger.on_imu(&s) {
                            if let TelemetryEvent::ImpactBegan(i) = e {
                                hits.push(i.t.as_s());
                            }
                        }
                    }
                    Next::Record(SimRecord::Can(f)) if f.id == 0x100 => {
                        let v = f32::from(u16::from_le_bytes([f.data[0], f.data[1]])) * 0.01 / 3.6;
                        trigger.on_speed(f.t, v);
                    }
                    _ => {}
                }
            }
            // Horizontal delta-V in 150 ms anywhere.
            let n_ms = d.length_ms();
            let mut v = vec![[0.0f64; 2]];
            for ms in 0..n_ms {
                let a = d.motion(ms).1;
                let l = v[ms];
                v.push([l[0] + a[0] * 1e-3, l[1] + a[1] * 1e-3]);
            }
            let dv = v.iter().zip(&v[150..]).map(|(a, b)| (b[0] - a[0]).hypot(b[1] - a[1])).fold(0.0, f64::max) * 3.6;
            most = most.max(dv);
            let contact = t.contacts.iter().map(|c| c.t_s).collect::<Vec<_>>();
            if dv >= 8.0 {
                big += 1;
                if !hits.is_empty() {
                    found += 1;
                } else {
                    print!("MISS {name} {seed} dv {dv:.1}; ");
                }
            } else if !hits.is_empty() {
                small += 1;
                if verbose || dv < 6.0 {
                    print!("small {name} {seed} dv {dv:.1} {hits:?} {contact:?}; ");
                }
            }
            extra += hits.iter().filter(|h| !contact.iter().any(|c| (**h - c).abs() < 0.5)).count();
            if let Some(e) = &t.event {
                early.push(e.contact_s - e.first_sign_s);
            }
        }
        early.sort_by(f64::total_cmp);
        println!(
            "{name}: n={n} none={spoiled} draws={:.1} {:.0}ms {km:.1}km dv>=8: {found}/{big} small-fired {small} extra {extra} maxdv {most:.1} lead {:?} {codes:?}",
            draws as f64 / f64::from(n.max(1)),
            t0.elapsed().as_secs_f64() * 1000.0 / (to - from) as f64,
            [0.1, 0.5, 0.9].map(|q| early.get((early.len() as f64 * q) as usize).map(|x| (x * 10.0).round() / 10.0))
        );
    }
}
