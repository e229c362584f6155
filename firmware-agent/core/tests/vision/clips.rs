//! A table of the trigger over dumps of a detector's boxes, for a person to read. Run by hand:
//! `AGENT_DETECTIONS=DIR cargo test -p agent-core --test it clips -- --ignored --nocapture`.
//!
//! `DIR` holds one folder a detector, in it one text file a clip: `A aspect`, then `F seconds` a frame, followed by
//! `class score x y w h` for each box in fractions of the frame. `DIR/labels.csv` has columns clip,_,label,_,event_s.

// The core does no I/O; this table, run by hand, reads dumps of detectors.
#![allow(clippy::disallowed_methods)]

use agent_core::config::VisionConfig;
use agent_core::time::MonoTime;
use agent_core::vision::{BBox, Cues, Detection, ObjectClass, VisionTrigger};
use std::fs;
use std::path::Path;

struct Clip {
    name: String,
    crash: bool,
    event_s: Option<f32>,
}

#[derive(Default)]
struct Outcome {
    max: f32,
    max_s: f64,
    first_on_s: Option<f64>,
    before: f32,
    peak: Cues,
}

fn class(name: &str) -> ObjectClass {
    match name {
        "person" => ObjectClass::Person,
        "bicycle" => ObjectClass::Bicycle,
        "motorcycle" => ObjectClass::Motorcycle,
        "car" => ObjectClass::Car,
        "bus" => ObjectClass::Bus,
        "truck" => ObjectClass::Truck,
        _ => ObjectClass::Other,
    }
}

fn labels(dir: &Path) -> Vec<Clip> {
    let text = fs::read_to_string(dir.join("labels.csv")).unwrap();
    text.lines()
        .skip(1)
        .map(|l| {
            let c: Vec<&str> = l.split(',').collect();
            Clip { name: c[0].to_owned(), crash: c[2] == "collision", event_s: c[4].parse().ok() }
        })
        .collect()
}

fn run(text: &str, event_s: Option<f32>, step: usize) -> Outcome {
    let mut config = VisionConfig::default();
    if let Some(s) = std::env::var("AGENT_MIN_SCORE").ok().and_then(|s| s.parse().ok()) {
        config.min_score = s;
    }
    let mut trigger = VisionTrigger::new(config.clone());
    let (mut aspect, mut out) = (16.0 / 9.0, Outcome::default());
    let mut frame: Option<(f64, Vec<Detection>)> = None;
    let trace = std::env::var_os("AGENT_TRACE").is_some();
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let w: Vec<&str> = line.split_whitespace().collect();
        match w[0] {
            "A" => aspect = w[1].parse().unwrap(),
            "F" => frame = Some((w[1].parse().unwrap(), Vec::new())),
            _ => {
                let n: Vec<f32> = w[1..].iter().map(|v| v.parse().unwrap()).collect();
                let bbox = BBox { x: n[1], y: n[2], w: n[3], h: n[4] };
                frame.as_mut().unwrap().1.push(Detection { class: class(w[0]), score: n[0], bbox });
            }
        }
        if lines.peek().is_some_and(|l| !l.starts_with('F')) {
            continue;
        }
        let Some((s, mut boxes)) = frame.take() else { continue };
        count += 1;
        if count % step != 0 {
            continue;
        }
        boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
        let r = trigger.on_detections(MonoTime::from_s(s), &boxes, aspect, None);
        let c = trigger.cues();
        if trace && r.risk > 0.2 {
            println!(
                "      {s:6.2} risk {:.2} ego {:.2} pair {:.2} fall {:.2} {:?}",
                r.risk, c.ego, c.pair, c.fall, r.objects
            );
        }
        out.peak =
            Cues { ego: out.peak.ego.max(c.ego), pair: out.peak.pair.max(c.pair), fall: out.peak.fall.max(c.fall) };
        if r.risk > out.max {
            (out.max, out.max_s) = (r.risk, s);
        }
        if event_s.is_some_and(|e| s < f64::from(e) - 2.0) {
            out.before = out.before.max(r.risk);
        }
        if out.first_on_s.is_none() && r.risk >= config.risk_on {
            out.first_on_s = Some(s);
        }
    }
    out
}

fn auc(scores: &[(bool, f32)]) -> f32 {
    let (mut won, mut n) = (0.0f32, 0.0f32);
    for &(_, p) in scores.iter().filter(|s| s.0) {
        for &(_, q) in scores.iter().filter(|s| !s.0) {
            n += 1.0;
            won += if p > q {
                1.0
            } else if p == q {
                0.5
            } else {
                0.0
            };
        }
    }
    won / n.max(1.0)
}

#[test]
#[ignore = "needs AGENT_DETECTIONS; prints a table for a person"]
fn table_over_dumps() {
    let Some(dir) = std::env::var_os("AGENT_DETECTIONS") else {
        println!("AGENT_DETECTIONS is not set: nothing to look at");
        return;
    };
    let dir = Path::new(&dir);
    let step: usize = std::env::var("AGENT_STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut detectors: Vec<_> = fs::read_dir(dir).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
    detectors.sort_by_key(fs::DirEntry::file_name);
    for d in detectors {
        println!("{:?}\n  clip                     event   max    at first>=on before  (ego pair fall)", d.file_name());
        let mut scores = Vec::new();
        for c in labels(dir) {
            let Ok(text) = fs::read_to_string(d.path().join(format!("{}.txt", c.name))) else { continue };
            let o = run(&text, c.event_s, step);
            let text = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.2}"));
            println!(
                "  {:24} {:>5} {:5.2} {:5.2} {:>9} {:6.2}  ({:.2} {:.2} {:.2})",
                c.name,
                text(c.event_s.map(f64::from)),
                o.max,
                o.max_s,
                text(o.first_on_s),
                o.before,
                o.peak.ego,
                o.peak.pair,
                o.peak.fall
            );
            scores.push((c.crash, o.max));
            assert!((0.0..=1.0).contains(&o.max));
        }
        println!("  AUC over clips {:.3}", auc(&scores));
    }
}
