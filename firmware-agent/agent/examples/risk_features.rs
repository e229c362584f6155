//! Sequences to train the risk head on: simulated drives through the core's own tracker and features.
//!
//! `risk_features --seeds A..B --split train --out PREFIX [--copies N] [--normal]` writes
//! - `PREFIX.steps.npy`: f32, steps x ([`RISK_SLOTS`] x [`SLOT_FEATURES`] + [`GLOBAL_FEATURES`] + 4); the last four are the
//!   number of filled slots, whether the step begins anew, the time (s) and the row of the drive below;
//! - `PREFIX.drives.jsonl`: one line per drive and copy: scenario, severity, contact, way, and which alerts the core
//!   raised by telemetry alone.
//!
//! With `--detector builtin` or a manifest, the first copy's boxes are that detector's, of pictures drawn at its size. All
//! other boxes are made from the simulator's true ones by an error model ([`Eye`]) whose strength is drawn anew for every
//! copy, so that the head does not learn one detector's habits; without a detector no picture is painted, only what stands
//! before what is found, small. `--normal` takes ordinary drives alone, to count false events over
//! many kilometres. `--ideal`: the first copy sees every box as it is, of obstacles as of a car, which tells what better
//! detectors could give. Simulated throughout, and so is what is learnt.

use std::io::{Seek as _, Write as _};

use agent_core::agent::{Agent, Output};
use agent_core::config::{AgentConfig, AskStudent, FusionConfig, RingConfig, RingRates, TelemetryConfig, VisionConfig};
use agent_core::samples::{SignalSample, VehicleSignal};
use agent_core::time::{MonoTime, Span};
use agent_core::vision::{
    BBox, Detection, GLOBAL_FEATURES, ObjectClass, RISK_SLOTS, RiskFeatures, RiskModel, RiskScores, SLOT_FEATURES,
};
use agent_drive::{SignalMap, SignalMapping};
use agent_models::Detector;
use agent_sim::SimRecord;
use agent_sim::render::{BoxTruth, Camera, CameraLook};
use agent_sim::rng::Rng;
use agent_sim::world::state::ActorKind;
use agent_sim::world::truth::{Split, split_of};
use agent_sim::world::{DriveOptions, Expect, Next, WorldDrive, built_in, names, scenario_of};
use agent_wire::{Flags, Hash8};
use anyhow::Context as _;

/// Size of the pictures that hidden parts are measured in, and of those that a detector looks at.
const SIZE: [usize; 2] = [192, 108];
const DETECTOR_SIZE: [usize; 2] = [384, 216];
const COLUMNS: usize = RISK_SLOTS * SLOT_FEATURES + GLOBAL_FEATURES + 4;

/// Notes what the head would read, and says nothing.
#[derive(Default)]
struct Recorder {
    last: Option<RiskFeatures>,
}

impl RiskModel for Recorder {
    fn step(&mut self, features: &RiskFeatures) -> Option<RiskScores> {
        self.last = Some(features.clone());
        None
    }
}

/// How a detector errs.
struct Eye {
    rng: Rng,
    /// Chance that an object goes missing in a frame, and that a missing one is found again.
    lost: f64,
    found: f64,
    /// Deviation of an edge, share of the size; share of it that stays from frame to frame.
    jitter: f64,
    stays: f64,
    /// Smallest height that is seen at all, share of the picture.
    smallest: f32,
    visible: f32,
    confused: f64,
    /// False boxes a frame; they last some frames.
    false_rate: f64,
    ghosts: Vec<(BBox, ObjectClass, u32)>,
    objects: std::collections::HashMap<u32, (bool, [f64; 4])>,
    ideal: bool,
}

impl Eye {
    fn new(seed: u64, copy: u64) -> Self {
        let mut rng = Rng::new(seed, 900 + copy);
        Self {
            lost: rng.between(0.005, 0.12),
            found: rng.between(0.25, 0.8),
            jitter: rng.between(0.008, 0.045),
            stays: rng.between(0.0, 0.8),
            smallest: rng.between(0.02, 0.06) as f32,
            visible: rng.between(0.2, 0.6) as f32,
            confused: rng.between(0.0, 0.15),
            false_rate: rng.between(0.0, 0.12),
            rng,
            ghosts: Vec::new(),
            objects: std::collections::HashMap::new(),
            ideal: false,
        }
    }

    /// Without errors, and without a class that it does not know.
    fn ideal(seed: u64) -> Self {
        let (lost, found, jitter, stays, confused, false_rate) = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0);
        let (smallest, visible) = (0.02, 0.2);
        Self { lost, found, jitter, stays, confused, false_rate, smallest, visible, ideal: true, ..Self::new(seed, 0) }
    }

    fn gauss(&mut self) -> f64 {
        // Sum of twelve: near enough to normal.
        (0..12).map(|_| self.rng.unit()).sum::<f64>() - 6.0
    }

    fn class(&mut self, kind: ActorKind) -> Option<ObjectClass> {
        use ObjectClass as C;
        let sure = self.rng.unit() >= self.confused;
        let odd = self.rng.unit();
        Some(match kind {
            ActorKind::Car | ActorKind::Suv => {
                if sure {
                    C::Car
                } else {
                    C::Truck
                }
            }
            ActorKind::Van => {
                if odd < 0.6 {
                    C::Car
                } else {
                    C::Truck
                }
            }
            ActorKind::Truck => {
                if sure {
                    C::Truck
                } else if odd < 0.5 {
                    C::Bus
                } else {
                    C::Car
                }
            }
            ActorKind::Bus => {
                if sure {
                    C::Bus
                } else {
                    C::Truck
                }
            }
            ActorKind::Motorbike => {
                if sure {
                    C::Motorcycle
                } else if odd < 0.5 {
                    C::Bicycle
                } else {
                    C::Person
                }
            }
            ActorKind::Cyclist => {
                if sure {
                    C::Bicycle
                } else if odd < 0.5 {
                    C::Motorcycle
                } else {
                    C::Person
                }
            }
            ActorKind::Pedestrian | ActorKind::Child => C::Person,
            // Detectors of road users know no cones, barriers or deer, or see them as something else now and then.
            _ if odd < 0.06 || self.ideal => C::Car,
            _ => return None,
        })
    }

    fn see(&mut self, boxes: &[BoxTruth], size: [usize; 2], out: &mut Vec<Detection>) {
        out.clear();
        let (w, h) = (size[0] as f32, size[1] as f32);
        for b in boxes {
            let [l, t, r, d] = b.corners.map(f32::from);
            let (mut l, mut t, mut r, mut d) = (l / w, t / h, r / w, d / h);
            if d - t < self.smallest || b.visible < self.visible {
                continue;
            }
            let (mut here, mut off) = self.objects.get(&b.id).copied().unwrap_or((true, [0.0; 4]));
            let chance = self.rng.unit();
            here = if here { chance >= self.lost } else { chance < self.found };
            for e in &mut off {
                let fresh = self.gauss() * (1.0 - self.stays * self.stays).sqrt();
                *e = self.stays * *e + fresh;
            }
            self.objects.insert(b.id, (here, off));
            let Some(class) = self.class(b.kind) else { continue };
            if !here {
                continue;
            }
            let (sx, sy) = (self.jitter as f32 * (r - l) + 0.002, self.jitter as f32 * (d - t) + 0.003);
            let (sx, sy) = if self.ideal { (0.0, 0.0) } else { (sx, sy) };
            let e = off.map(|v| v as f32);
            (l, t, r, d) = (l + e[0] * sx, t + e[1] * sy, r + e[2] * sx, d + e[3] * sy);
            let score = (0.35 + 1.2 * (d - t) + self.rng.between(-0.1, 0.3) as f32).clamp(0.31, 0.98);
            let bbox = BBox { x: l, y: t, w: r - l, h: d - t };
            out.push(Detection { class, score, bbox });
            if matches!(b.kind, ActorKind::Cyclist | ActorKind::Motorbike) && self.rng.unit() < 0.4 {
                let rider = BBox { x: l + 0.15 * (r - l), y: t, w: 0.7 * (r - l), h: 0.75 * (d - t) };
                out.push(Detection { class: ObjectClass::Person, score: 0.8 * score, bbox: rider });
            }
        }
        self.ghosts.retain_mut(|g| {
            g.2 = g.2.saturating_sub(1);
            g.2 > 0
        });
        if self.rng.unit() < self.false_rate {
            let [x, y, w] = [0.0, 0.35, 0.03].map(|from| from + 0.5 * self.rng.unit() as f32);
            let bbox = BBox { x, y, w: 0.4 * w, h: w };
            let class = if self.rng.unit() < 0.6 { ObjectClass::Car } else { ObjectClass::Person };
            let frames = 1 + (self.rng.unit() * self.rng.unit() * 12.0) as u32;
            self.ghosts.push((bbox, class, frames));
        }
        let ghosts: Vec<_> = self.ghosts.iter().map(|g| (g.0, g.1)).collect();
        for (b, class) in ghosts {
            let n = self.gauss() as f32 * 0.02;
            out.push(Detection { class, score: 0.4, bbox: BBox { x: b.x + n * b.w, w: b.w * (1.0 + n), ..b } });
        }
        out.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
}

fn config() -> anyhow::Result<AgentConfig> {
    let rates = RingRates { video_mbit_s: 0.1, fps: 30, imu_hz: 200, can_hz: 1000, gnss_hz: 10 };
    let s = Span::from_s;
    Ok(AgentConfig {
        unit: agent_wire::UnitId::new("unit").context("the name")?,
        boot: 1,
        telemetry: TelemetryConfig::default(),
        // Above 1: only telemetry makes events here, the head is not there yet.
        vision: VisionConfig { risk_on: 1.1, contact_on: 1.1, ..VisionConfig::default() },
        rings: RingConfig::sized(s(2), s(1), s(1), s(1), &rates),
        fusion: FusionConfig { harsh_events: false, ..FusionConfig::default() },
        ask: AskStudent::Collisions,
        report_deadline: s(1),
        health_interval: s(1_000_000),
        flags: Flags { simulated: true, ..Flags::default() },
        config: Hash8::default(),
        trigger_model: Some(Hash8::default()),
    })
}

fn signals() -> anyhow::Result<SignalMap> {
    let of = |signal, message, name, scale| SignalMapping { signal, message, name, scale, offset: 0.0, bus: None };
    let wanted = [
        of(VehicleSignal::Speed, "VEHICLE_SPEED", "SPEED", 1.0 / 3.6),
        of(VehicleSignal::Brake, "BRAKE_STATUS", "BRAKE_PRESSED", 1.0),
    ];
    SignalMap::from_dbc(agent_sim::DEMO_DBC, &wanted).context("the simulator's DBC")
}

/// Where the steps of all drives go: an array of f32 in NumPy's format (version 1.0), whose head is written again at the end.
struct Steps {
    row: u32,
    count: usize,
    file: std::io::BufWriter<std::fs::File>,
}

impl Steps {
    fn new(path: &str) -> anyhow::Result<Self> {
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let mut steps = Self { row: 0, count: 0, file };
        steps.head()?;
        Ok(steps)
    }

    fn head(&mut self) -> std::io::Result<()> {
        let head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {COLUMNS}), }}", self.count);
        self.file.write_all(b"\x93NUMPY\x01\x00\x76\x00")?;
        writeln!(self.file, "{head:<117}")
    }

    fn put(&mut self, values: &[f32]) -> std::io::Result<()> {
        self.count += values.len() / COLUMNS;
        values.iter().try_for_each(|v| self.file.write_all(&v.to_le_bytes()))
    }

    fn end(mut self) -> std::io::Result<()> {
        self.file.seek(std::io::SeekFrom::Start(0))?;
        self.head()?;
        self.file.flush()
    }
}

/// One drive, `copies` times with another eye, the first of them the detector if there is one: its steps, and a line for
/// each.
fn drive(
    seed: u64,
    name: &str,
    copies: u64,
    detector: &mut Option<Detector>,
    ideal: bool,
    steps: &mut Steps,
) -> anyhow::Result<Vec<String>> {
    let size = if detector.is_some() { DETECTOR_SIZE } else { SIZE };
    let scenario = built_in(name).context("no such scenario")??;
    let mut rng = Rng::new(seed, 890);
    let fps = [10.0, 12.5, 20.0][(rng.unit() * 3.0) as usize % 3];
    let options = DriveOptions { size, fps, imu_hz: 100, gnss_hz: 5 };
    let mut sim = WorldDrive::new(&scenario, seed, options)?;
    let look = sim.look();
    let look = CameraLook { bonnet_height: look.bonnet_height, detail: 1.0, caption: false, ..CameraLook::default() };
    let mut camera = Camera::new(size[0], size[1], look);
    let mut eyes: Vec<Eye> =
        (0..copies).map(|c| if ideal && c == 0 { Eye::ideal(seed) } else { Eye::new(seed, c) }).collect();
    let mut agents = (0..copies).map(|_| Ok(Agent::new(config()?))).collect::<anyhow::Result<Vec<_>>>()?;
    let mut alerts = vec![Vec::new(); copies as usize];
    let mut signals = signals()?;
    let (mut rgb, mut boxes, mut seen, mut decoded) =
        (vec![0; size[0] * size[1] * 3], Vec::new(), Vec::new(), Vec::<SignalSample>::new());
    let aspect = size[0] as f32 / size[1] as f32;
    let mut made: Vec<Vec<f32>> = vec![Vec::new(); copies as usize];
    while let Some(next) = sim.next_due() {
        match next {
            Next::Record(SimRecord::Imu(s)) => agents.iter_mut().for_each(|a| a.on_imu(&s)),
            Next::Record(SimRecord::Gnss(f)) => agents.iter_mut().for_each(|a| a.on_gnss(&f)),
            Next::Record(SimRecord::Can(f)) => {
                decoded.clear();
                signals.decode(&f, &mut decoded);
                for a in &mut agents {
                    decoded.iter().for_each(|s| a.on_signal(s));
                }
            }
            Next::Record(SimRecord::Frame { .. }) => {}
            Next::Picture { t, .. } => {
                let scene = sim.scene((t.0 / 1_000_000) as usize);
                match detector {
                    Some(_) => camera.render(&scene, &mut rgb),
                    None => camera.outline(&scene),
                }
                camera.boxes(&scene, &mut boxes);
                for (k, ((agent, eye), made)) in agents.iter_mut().zip(&mut eyes).zip(&mut made).enumerate() {
                    match detector.as_mut().filter(|_| k == 0) {
                        Some(detector) => {
                            seen.clear();
                            seen.extend_from_slice(detector.detect(size[0], size[1], &rgb)?);
                        }
                        None => eye.see(&boxes, size, &mut seen),
                    }
                    let mut recorder = Recorder::default();
                    agent.on_detections(t, &seen, aspect, Some(&mut recorder));
                    if let Some(f) = recorder.last {
                        put(made, &f, t, steps.row + k as u32);
                    }
                }
            }
        }
        for (agent, alerts) in agents.iter_mut().zip(&mut alerts) {
            while let Some(output) = agent.poll() {
                if let Output::Alert(a) = output {
                    alerts.push(a.time.mono_ns as f64 * 1e-9);
                }
            }
        }
    }
    made.iter().try_for_each(|m| steps.put(m))?;
    steps.row += copies as u32;
    let truth = sim.truth();
    alerts
        .into_iter()
        .enumerate()
        .map(|(copy, alerts)| {
            Ok(serde_json::to_string(&serde_json::json!({
                "seed": seed, "scenario": name, "severity": truth.severity, "event": truth.event, "way_m": truth.way_m,
                "length_s": truth.length_s, "closest": truth.closest, "fps": fps, "telemetry_alerts_s": alerts,
                "description": truth.description.code, "ideal": ideal && copy == 0,
            }))?)
        })
        .collect()
}

fn put(to: &mut Vec<f32>, f: &RiskFeatures, t: MonoTime, row: u32) {
    to.extend(f.slots.iter().flatten());
    to.extend(f.global);
    to.extend([f.count as f32, f32::from(u8::from(f.anew)), t.as_s() as f32, row as f32]);
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
    let seeds = value("--seeds").context("--seeds A..B")?;
    let (from, to) = seeds.split_once("..").context("--seeds A..B")?;
    let (from, to): (u64, u64) = (from.parse()?, to.parse()?);
    let split = match value("--split").as_deref() {
        Some("train") => Split::Train,
        Some("validation") => Split::Validation,
        Some("test") => Split::Test,
        _ => anyhow::bail!("--split train, validation or test"),
    };
    let out = value("--out").context("--out PREFIX")?;
    let copies = value("--copies").map_or(Ok(1), |c| c.parse())?;
    let normal: Vec<&str> = match args.iter().any(|a| a == "--normal") {
        true => {
            names().filter(|n| built_in(n).and_then(Result::ok).is_some_and(|s| s.expect() == Expect::Normal)).collect()
        }
        false => Vec::new(),
    };
    let mut lines = std::io::BufWriter::new(std::fs::File::create(format!("{out}.drives.jsonl"))?);
    let mut detector = match value("--detector").as_deref() {
        None => None,
        Some("builtin") => Some(Detector::builtin()?),
        Some(manifest) => Some(Detector::load(std::path::Path::new(manifest))?),
    };
    let ideal = args.iter().any(|a| a == "--ideal");
    let mut steps = Steps::new(&format!("{out}.steps.npy"))?;
    for seed in (from..to).filter(|s| split_of(*s) == split) {
        let name = match normal.len() {
            0 => scenario_of(seed),
            n => normal[Rng::new(seed, 891).next_u64() as usize % n],
        };
        match drive(seed, name, copies, &mut detector, ideal, &mut steps) {
            Ok(made) => made.iter().try_for_each(|l| writeln!(lines, "{l}"))?,
            Err(error) => writeln!(std::io::stderr(), "seed {seed}, {name}: {error:#}")?,
        }
    }
    lines.flush()?;
    Ok(steps.end()?)
}
