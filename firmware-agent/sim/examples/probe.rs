//! Scratch: statistics of all scenarios.
use agent_sim::world::{DriveOptions, WorldDrive, built_in, names};
fn main() {
    let from: u64 = std::env::args().nth(1).map_or(0, |a| a.parse().unwrap());
    let to: u64 = std::env::args().nth(2).map_or(10, |a| a.parse().unwrap());
    let only = std::env::args().nth(3);
    for name in names().filter(|n| only.as_deref().is_none_or(|o| n.contains(o))) {
        let s = built_in(name).unwrap().unwrap();
        let (mut draws, mut fails, mut n) = (0, 0, 0);
        let mut lines = Vec::new();
        let t0 = std::time::Instant::now();
        for seed in from..to {
            match WorldDrive::new(&s, seed, DriveOptions::default()) {
                Ok(d) => {
                    let t = d.truth();
                    draws += t.draws;
                    n += 1;
                    if only.is_some() {
                        println!("{}", serde_json::to_string(t).unwrap());
                    }
                    let e = t.event.as_ref();
                    lines.push(format!(
                        "{}/{} c={:.1} dv150={:.1} pk={:.0} p={} ttc={:.1} br={:.1} sign={:.1}",
                        t.description.code,
                        t.danger,
                        t.contacts.first().map_or(0.0, |c| c.closing_mps * 3.6),
                        e.map_or(0.0, |e| e.delta_v_150ms_kmh),
                        e.map_or(0.0, |e| e.peak_mps2),
                        t.contacts.first().map_or(0, |c| c.pulse_ms),
                        t.closest.ttc_s.unwrap_or(99.0),
                        t.closest.braking_mps2,
                        e.map_or(0.0, |e| e.contact_s - e.first_sign_s)
                    ));
                }
                Err(e) => {
                    fails += 1;
                    println!("{e}");
                }
            }
        }
        println!(
            "{name}: n={n} fails={fails} draws/drive={:.1} {:.0} ms",
            draws as f64 / n.max(1) as f64,
            t0.elapsed().as_secs_f64() * 1000.0 / f64::from((to - from) as u32)
        );
        for l in lines.iter().take(3) {
            println!("    {l}");
        }
    }
}
