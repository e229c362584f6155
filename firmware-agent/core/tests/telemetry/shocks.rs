//! Synthetic shocks on the recorded drive: crash pulses of every size and direction must be found once and dated
//! right, and what is no crash must not be one. Every shock here is synthetic.

use super::synth::{Drive, M3, Quiet, Random, Sensor, Shock, V3, mounts, scale};
use agent_core::config::TelemetryConfig;
use agent_core::telemetry::{Impact, TelemetryEvent, TelemetryTrigger};
use agent_core::time::MonoTime;
use std::f64::consts::{PI, TAU};

const G: f64 = 9.806_65;

/// A haversine pulse: horizontal, `delta_v` in m/s towards `heading` (0 = pushed forward, left positive, rad).
struct Pulse {
    delta_v: f64,
    seconds: f64,
    heading: f64,
}

impl Pulse {
    /// Time zero by the rule of 49 CFR 563.5 on the pulse alone at 10 kHz: the first point of the first 20 ms in
    /// which the delta-V exceeds 0.8 km/h, s after the pulse's first instant.
    fn time_zero(&self) -> f64 {
        let v = |t: f64| {
            let x = (t / self.seconds).clamp(0.0, 1.0);
            self.delta_v * (x - (TAU * x).sin() / TAU)
        };
        (-200..2000).map(|i| f64::from(i) * 1e-4).find(|&t| v(t + 0.02) - v(t) > 0.8 / 3.6).unwrap()
    }
}

impl Shock for Pulse {
    fn accel(&self, t: f64) -> V3 {
        let a = self.delta_v / self.seconds * (1.0 - (TAU * t / self.seconds).cos());
        [a * self.heading.cos(), a * self.heading.sin(), 0.0]
    }
    fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// What came of a shock.
#[derive(Default)]
struct Outcome {
    began: Vec<Impact>,
    ended: Vec<Impact>,
    disturbances: usize,
    harsh: usize,
    /// The sensor was at its range.
    clipped: bool,
}

/// A trigger that has driven up to a moment.
struct Prefix<'a> {
    drive: &'a Drive,
    mount: M3,
    hz: f64,
    t: f64,
    gyro: bool,
    trigger: TelemetryTrigger,
}

impl<'a> Prefix<'a> {
    fn bare(drive: &'a Drive, mount: M3, hz: f64) -> Self {
        Self { drive, mount, hz, t: 0.0, gyro: true, trigger: TelemetryTrigger::new(TelemetryConfig::default()) }
    }

    fn new(drive: &'a Drive, mount: M3, hz: f64, until: f64) -> Self {
        let mut p = Self::bare(drive, mount, hz);
        let mut out = Outcome::default();
        p.go(&Quiet, 0.0, until, 7, &mut out);
        assert!(out.began.is_empty());
        p
    }

    fn go(&mut self, shock: &dyn Shock, start: f64, until: f64, seed: u64, out: &mut Outcome) {
        let mut sensor = Sensor::new(self.drive, self.mount, self.hz, seed);
        let mut next = self.drive.speed.partition_point(|s| s.0 <= self.t);
        while self.t < until {
            self.t += 1.0 / self.hz;
            while let Some(&(t, v)) = self.drive.speed.get(next).filter(|s| s.0 <= self.t) {
                self.trigger.on_speed(MonoTime::from_s(100.0 + t), v as f32);
                next += 1;
            }
            let mut sample = sensor.sample(self.t, shock, start);
            if !self.gyro {
                (sample.gyro_rps, sample.gyro_valid) = ([0.0; 3], false);
            }
            out.clipped |= sample.accel_mps2.iter().any(|x| f64::from(x.abs()) >= 0.98 * super::synth::RANGE);
            for event in self.trigger.on_imu(&sample) {
                match event {
                    TelemetryEvent::ImpactBegan(i) => out.began.push(i),
                    TelemetryEvent::ImpactUpdated(i) if i.ended => out.ended.push(i),
                    TelemetryEvent::ImpactUpdated(_) => {}
                    TelemetryEvent::Harsh { .. } => out.harsh += 1,
                    TelemetryEvent::Disturbance { .. } => out.disturbances += 1,
                }
            }
        }
    }

    /// Lays a shock right after the prefix, at a phase of the sampling that the seed chooses.
    fn with(&self, shock: &dyn Shock, seed: u64, after_s: f64) -> Outcome {
        let mut p = Self { trigger: self.trigger.clone(), ..*self };
        let mut out = Outcome::default();
        let start = p.start(seed);
        p.go(shock, start, start + shock.seconds() + after_s, seed, &mut out);
        out
    }

    fn start(&self, seed: u64) -> f64 {
        self.t + Random(seed | 1).range(0.0, 0.03)
    }
}

/// Where in the drive, s: its first half second on, pulling away, cruising, its roughest place, braking.
const PLACES: [f64; 8] = [0.15, 0.4, 0.9, 2.0, 6.0, 21.0, 37.0, 56.5];

#[derive(Default)]
struct Row {
    runs: usize,
    found: usize,
    twice: usize,
    clipped: usize,
    zero_ms: Vec<f64>,
    first_ms: Vec<f64>,
    latency_ms: Vec<f64>,
    delta_v_percent: Vec<f64>,
}

fn worst(v: &[f64]) -> f64 {
    v.iter().copied().fold(0.0, |a, b| if b.abs() > f64::abs(a) { b } else { a })
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len().max(1) as f64
}

impl Row {
    fn take(&mut self, pulse: &Pulse, start: f64, out: &Outcome) {
        self.runs += 1;
        let Some(began) = out.began.first() else { return };
        self.found += 1;
        self.twice += usize::from(out.began.len() > 1);
        let zero = began.t_zero.as_s() - 100.0;
        self.zero_ms.push((zero - start - pulse.time_zero()) * 1e3);
        self.first_ms.push((zero - start) * 1e3);
        self.latency_ms.push((began.t.as_s() - 100.0 - start) * 1e3);
        assert_eq!(out.ended.len(), out.began.len(), "every impact ends once");
        let last = out.ended[0];
        self.clipped += usize::from(last.clipped);
        if !last.clipped {
            self.delta_v_percent.push((f64::from(last.max_delta_v_mps) / pulse.delta_v - 1.0) * 100.0);
        }
    }
}

#[test]
fn crash_pulses_are_found_once_and_dated_right() {
    let Some(drive) = Drive::load("crash pulses") else { return };
    println!("synthetic haversine pulses, 50 to 150 ms, 4 directions, 8 places, 4 mounts; ms and %");
    println!(
        "km/h   hz  runs found twice clip | t0-rule mean worst | t0-first mean worst | told after first mean worst | dV err mean worst (unclipped)"
    );
    let sizes = [5.5, 6.0, 8.0, 12.0, 20.0, 40.0];
    for hz in [100.0, 500.0] {
        let mut rows: Vec<Row> = sizes.iter().map(|_| Row::default()).collect();
        for (m, mount) in mounts(4).into_iter().enumerate() {
            for (p, place) in PLACES.into_iter().enumerate() {
                let prefix = Prefix::new(&drive, mount, hz, place - 0.05);
                for (row, &kmh) in rows.iter_mut().zip(&sizes) {
                    for (d, ms) in [50.0, 75.0, 100.0, 150.0].into_iter().enumerate() {
                        for quarter in 0..4 {
                            let pulse =
                                Pulse { delta_v: kmh / 3.6, seconds: ms / 1e3, heading: f64::from(quarter) * PI / 2.0 };
                            let seed = (m * 1000 + p * 100 + d * 10) as u64 + quarter as u64 + 0x9E37_79B9;
                            let out = prefix.with(&pulse, seed, 0.6);
                            let what = format!("{kmh} km/h {ms} ms from {quarter} at {place} s, mount {m}, {hz} Hz");
                            check(&what, kmh, &out);
                            row.take(&pulse, prefix.start(seed), &out);
                        }
                    }
                }
            }
        }
        for (row, kmh) in rows.iter().zip(sizes) {
            println!(
                "{kmh:4} {hz:4} {:5} {:5} {:5} {:4} | {:6.1} {:6.1} | {:6.1} {:6.1} | {:6.1} {:6.1} | {:6.1} {:6.1}",
                row.runs,
                row.found,
                row.twice,
                row.clipped,
                mean(&row.zero_ms),
                worst(&row.zero_ms),
                mean(&row.first_ms),
                worst(&row.first_ms),
                mean(&row.latency_ms),
                worst(&row.latency_ms),
                mean(&row.delta_v_percent),
                worst(&row.delta_v_percent)
            );
            if kmh >= 8.0 {
                assert_eq!((row.found, row.twice), (row.runs, 0), "{kmh} km/h at {hz} Hz");
                assert!(worst(&row.zero_ms).abs() <= 20.0, "{kmh} km/h at {hz} Hz: time zero");
            } else {
                assert_eq!(row.found, 0, "{kmh} km/h at {hz} Hz");
            }
        }
    }
}

/// Says which pulse went wrong, and that no clipped one passes for whole.
fn check(what: &str, kmh: f64, out: &Outcome) {
    let expected = usize::from(kmh >= 8.0);
    if out.began.len() != expected {
        println!("WRONG: {what}: {} impacts", out.began.len());
    }
    if let Some(end) = out.ended.first() {
        assert_eq!(end.clipped, out.clipped, "{what}: clipped, and not said");
    }
}

/// A shock made of parts.
struct Made<A: Fn(f64) -> V3, T: Fn(f64) -> V3> {
    accel: A,
    turn: T,
    fall: (f64, f64),
    seconds: f64,
}

impl<A: Fn(f64) -> V3, T: Fn(f64) -> V3> Shock for Made<A, T> {
    fn accel(&self, t: f64) -> V3 {
        (self.accel)(t)
    }
    fn turn(&self, t: f64) -> V3 {
        (self.turn)(t)
    }
    fn falling(&self, t: f64) -> bool {
        (self.fall.0..self.fall.1).contains(&t)
    }
    fn seconds(&self) -> f64 {
        self.seconds
    }
}

fn still(_: f64) -> V3 {
    [0.0; 3]
}

/// Half a sine over `seconds`, beginning at `from`.
fn lobe(t: f64, from: f64, seconds: f64) -> f64 {
    let x = (t - from) / seconds;
    if (0.0..1.0).contains(&x) { (PI * x).sin() } else { 0.0 }
}

fn boxed<A: Fn(f64) -> V3 + 'static, T: Fn(f64) -> V3 + 'static>(accel: A, turn: T, seconds: f64) -> Box<dyn Shock> {
    Box::new(Made { accel, turn, fall: (0.0, 0.0), seconds })
}

/// Wheel drops, then climbs: vertical doublet of 1 to 5 g, 30 to 60 ms a lobe, 20 to 40 % of it horizontal.
fn pothole(r: &mut Random) -> Box<dyn Shock> {
    let (g, lobe_s, share, way) = (r.range(1.0, 5.0), r.range(0.03, 0.06), r.range(0.2, 0.4), r.range(0.0, TAU));
    let a = move |t: f64| {
        let d = (lobe(t, lobe_s, lobe_s) - 0.7 * lobe(t, 0.0, lobe_s)) * g * G;
        let h = -share * g * G * lobe(t, lobe_s, lobe_s) + share * g * G * 0.5 * lobe(t, 2.0 * lobe_s, lobe_s);
        [h * way.cos(), h * way.sin(), d]
    };
    boxed(a, still, 3.0 * lobe_s)
}

/// Up, down, up over 0.3 to 0.5 s, 0.5 to 1.5 g, with pitch.
fn bump(r: &mut Random) -> Box<dyn Shock> {
    let (g, s, pitch) = (r.range(0.5, 1.5), r.range(0.3, 0.5), r.range(0.2, 0.8));
    let a = move |t: f64| [-0.15 * g * G * lobe(t, 0.0, s * 0.4), 0.0, g * G * (TAU * 1.5 * t / s).sin()];
    let axis = r.direction();
    boxed(a, move |t: f64| scale(axis, pitch * (TAU * t / s).sin()), s)
}

/// Decaying oscillation of 1 to 4 g for 20 to 50 ms, any direction.
fn door(r: &mut Random) -> Box<dyn Shock> {
    let (g, hz, tau, way) = (r.range(1.0, 4.0), r.range(15.0, 60.0), r.range(0.02, 0.05), r.direction());
    boxed(move |t: f64| scale(way, g * G * (TAU * hz * t).sin() * (-t / tau).exp()), still, 5.0 * tau)
}

/// A knock on the housing: 3 to 16 g for 4 to 12 ms, then the mount rings it back.
fn knock(r: &mut Random) -> Box<dyn Shock> {
    let (g, s, ring, way) = (r.range(3.0, 16.0), r.range(0.004, 0.012), r.range(30.0, 90.0), r.direction());
    // The mount gives back what the knock gave: a ringing lobe of the same area, then its decay.
    let given = g * G * s * 2.0 / PI;
    let back = given * TAU * ring / 2.0;
    let a = move |t: f64| {
        let x = t - s;
        let ringing = if x > 0.0 { -back * (TAU * ring * x).sin() * (-x / 0.02).exp() } else { 0.0 };
        scale(way, g * G * lobe(t, 0.0, s) + ringing)
    };
    let axis = r.direction();
    let wobble = r.range(0.0, 3.0);
    boxed(a, move |t: f64| scale(axis, wobble * (TAU * ring * t).sin() * (-t / 0.02).exp()), 0.15)
}

/// The unit is turned by hand: 1 to 6 rad/s for 0.3 to 1.2 s, pushed about with up to 2 g meanwhile.
fn handling(r: &mut Random) -> Box<dyn Shock> {
    let (rate, s, axis) = (r.range(1.0, 6.0), r.range(0.3, 1.2), r.direction());
    let (g, way, pushes, phase) = (r.range(0.2, 2.0), r.direction(), r.range(1.0, 3.0), r.range(0.0, TAU));
    let a = move |t: f64| scale(way, g * G * (PI * t / s).sin() * (TAU * pushes * t / s + phase).sin());
    boxed(a, move |t: f64| scale(axis, rate * (PI * t / s).sin()), s)
}

/// Pulled off: a yank of 1.5 to 4 g while turning, 0.2 to 0.45 s of fall, the floor with 10 to 40 g in any direction.
fn pull_off(r: &mut Random) -> Box<dyn Shock> {
    let (g, yank_s, way) = (r.range(1.5, 4.0), r.range(0.04, 0.12), r.direction());
    let (rate, axis, fall_s) = (r.range(2.0, 8.0), r.direction(), r.range(0.2, 0.45));
    let (hit_g, hit_s, tumble) = (r.range(10.0, 40.0), r.range(0.004, 0.01), r.direction());
    let hit = unit_up(tumble);
    let landed = yank_s + fall_s;
    let a = move |t: f64| {
        let yank = scale(way, g * G * lobe(t, 0.0, yank_s));
        let floor = scale(hit, hit_g * G * lobe(t, landed, hit_s));
        [yank[0] + floor[0], yank[1] + floor[1], yank[2] + floor[2]]
    };
    let turn = move |t: f64| if t < landed + 0.05 { scale(axis, rate * (t / 0.03).min(1.0)) } else { [0.0; 3] };
    Box::new(Made { accel: a, turn, fall: (yank_s, landed), seconds: landed + 0.3 })
}

/// A direction with at least half of it upwards: floors push up.
fn unit_up(v: V3) -> V3 {
    super::synth::unit([v[0], v[1], v[2].abs() + 0.6])
}

#[test]
fn what_is_no_crash_makes_no_impact() {
    let Some(drive) = Drive::load("no crash") else { return };
    type Family = fn(&mut Random) -> Box<dyn Shock>;
    let families: [(&str, Family); 6] = [
        ("pothole", pothole),
        ("speed bump", bump),
        ("door", door),
        ("knock", knock),
        ("handling", handling),
        ("pull-off", pull_off),
    ];
    println!("synthetic shocks that are no crash: family, rate, runs, false impacts, counted as disturbance, harsh");
    let mut wrong = 0;
    for hz in [100.0, 500.0] {
        let mut prefixes = Vec::new();
        for mount in mounts(3) {
            for place in [2.0, 21.0, 56.5] {
                prefixes.push(Prefix::new(&drive, mount, hz, place));
            }
        }
        for (name, family) in families {
            let mut random = Random(0xABCD_EF01);
            let (mut runs, mut impacts, mut counted, mut harsh) = (0, 0, 0, 0);
            for i in 0..40 {
                for prefix in &prefixes {
                    let shock = family(&mut random);
                    let out = prefix.with(shock.as_ref(), 77 + i, 1.2);
                    runs += 1;
                    impacts += usize::from(!out.began.is_empty());
                    if let Some(i) = out.began.first() {
                        println!("WRONG: {name} {i:?}");
                    }
                    counted += usize::from(out.disturbances > 0);
                    harsh += usize::from(out.harsh > 0);
                }
            }
            println!("{name:10} {hz:4} {runs:5} {impacts:5} {counted:5} {harsh:5}");
            wrong += impacts;
        }
    }
    assert_eq!(wrong, 0);
}

/// A crash that is more than a clean pulse: it begins after `lead` seconds of what came before.
struct Messy {
    pulse: Pulse,
    lead: f64,
    /// Braking before and during, m/s^2.
    braking: f64,
    /// Vertical share of the pulse, as a doublet.
    vertical: f64,
    /// Yaw rate before, and how fast the crash adds to it, rad/s and rad/s^2.
    yaw: (f64, f64),
    /// Roll acceleration from this long before the pulse on, s and rad/s^2, up to 4 rad/s.
    roll: (f64, f64),
    /// The unit breaks loose at this share of the pulse and turns at this rate, rad/s.
    loose: Option<(f64, V3)>,
}

impl Shock for Messy {
    fn accel(&self, t: f64) -> V3 {
        let x = t - self.lead;
        let inside = (0.0..self.pulse.seconds).contains(&x);
        let p = if inside { self.pulse.accel(x) } else { [0.0; 3] };
        let size = p[0].hypot(p[1]);
        let up = self.vertical * size * (TAU * x / self.pulse.seconds).sin();
        let ramp = (t / 0.3).min(1.0);
        [p[0] - self.braking * ramp, p[1], up]
    }
    fn turn(&self, t: f64) -> V3 {
        match self.loose {
            Some((share, rate)) if t > self.lead + share * self.pulse.seconds => rate,
            _ => [0.0; 3],
        }
    }
    fn vehicle_turn(&self, t: f64) -> V3 {
        let after = (t - self.lead).clamp(0.0, 0.3);
        let rolling = (t - self.lead + self.roll.0).max(0.0) * self.roll.1;
        [rolling.min(4.0), 0.0, self.yaw.0 * (t / 0.3).min(1.0) + self.yaw.1 * after]
    }
    fn seconds(&self) -> f64 {
        self.lead + self.pulse.seconds + 0.3
    }
}

fn messy(r: &mut Random, kmh: f64) -> Messy {
    let seconds = r.range(0.06, 0.15);
    let pulse = Pulse { delta_v: kmh / 3.6, seconds, heading: r.range(0.0, TAU) };
    Messy { pulse, lead: 0.8, braking: 0.0, vertical: 0.0, yaw: (0.0, 0.0), roll: (0.0, 0.0), loose: None }
}

#[test]
fn crashes_that_are_not_clean_still_count() {
    let Some(drive) = Drive::load("messy crashes") else { return };
    type Make = fn(&mut Random) -> Messy;
    // Name, what it is, whether every one must be found.
    let kinds: [(&str, Make, bool); 8] = [
        (
            "8 km/h, front, brakes at 7 m/s2",
            |r| {
                let mut m = messy(r, 8.0);
                m.pulse.heading = PI;
                Messy { braking: 7.0, ..m }
            },
            true,
        ),
        ("9 km/h, vertical as strong", |r| Messy { vertical: 1.0, ..messy(r, 9.0) }, true),
        ("9 km/h in a turn of 0.6 rad/s", |r| Messy { yaw: (0.6, 3.0), ..messy(r, 9.0) }, true),
        ("20 km/h, spun by 12 rad/s2", |r| Messy { yaw: (0.3, 12.0), ..messy(r, 20.0) }, true),
        (
            "20 km/h, unit breaks loose",
            |r| {
                let rate = scale(r.direction(), r.range(5.0, 15.0));
                Messy { loose: Some((r.range(0.3, 0.6), rate)), ..messy(r, 20.0) }
            },
            true,
        ),
        ("20 km/h, tripped rollover", |r| Messy { roll: (0.0, 20.0), ..messy(r, 20.0) }, true),
        ("20 km/h, rolling for 0.3 s", |r| Messy { roll: (0.3, 12.0), ..messy(r, 20.0) }, true),
        ("10 km/h, rolling for 0.3 s", |r| Messy { roll: (0.3, 12.0), ..messy(r, 10.0) }, false),
    ];
    println!("synthetic crashes with more in them: runs, found, found twice, told after the pulse began mean worst ms");
    let mut missed = Vec::new();
    for hz in [100.0, 500.0] {
        let mut prefixes = Vec::new();
        for mount in mounts(3) {
            for place in [2.0, 21.0, 50.0] {
                prefixes.push(Prefix::new(&drive, mount, hz, place));
            }
        }
        for (name, make, must) in kinds {
            let mut random = Random(0x1234_5679);
            let (mut runs, mut found, mut twice, mut told) = (0, 0, 0, Vec::new());
            for i in 0..12 {
                for prefix in &prefixes {
                    let crash = make(&mut random);
                    let out = prefix.with(&crash, 31 + i, 1.2);
                    runs += 1;
                    found += usize::from(!out.began.is_empty());
                    twice += usize::from(out.began.len() > 1);
                    if let Some(b) = out.began.first() {
                        told.push((b.t.as_s() - 100.0 - prefix.start(31 + i) - crash.lead) * 1e3);
                    }
                }
            }
            println!("{name:32} {hz:4} {runs:4} {found:4} {twice:4} {:6.1} {:6.1}", mean(&told), worst(&told));
            if must && found != runs {
                missed.push((name, hz, runs - found));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn other_rates_and_a_missing_gyroscope_are_survived() {
    let Some(drive) = Drive::load("rates") else { return };
    println!("synthetic 20 km/h pulses of 100 ms, 4 directions: rate, gyroscope, impacts of 4, told after ms (worst)");
    let mount = mounts(2)[1];
    for hz in [10.0, 25.0, 50.0, 100.0, 200.0, 1000.0, 2000.0] {
        for gyro in [true, false] {
            let mut prefix = Prefix::bare(&drive, mount, hz);
            prefix.gyro = gyro;
            let mut quiet = Outcome::default();
            prefix.go(&Quiet, 0.0, 20.0, 7, &mut quiet);
            assert!(quiet.began.is_empty(), "{hz} Hz");
            let (mut found, mut told) = (0, Vec::new());
            for quarter in 0..4u8 {
                let pulse = Pulse { delta_v: 20.0 / 3.6, seconds: 0.1, heading: f64::from(quarter) * PI / 2.0 };
                let seed = 5 + u64::from(quarter);
                let out = prefix.with(&pulse, seed, 0.6);
                found += out.began.len();
                told.extend(out.began.iter().map(|b| (b.t.as_s() - 100.0 - prefix.start(seed)) * 1e3));
            }
            println!("{hz:5} {gyro:5} {found} {:.1}", worst(&told));
            let expected = if hz >= 50.0 { 4 } else { 0 };
            assert_eq!(found, expected, "{hz} Hz, gyroscope {gyro}");
        }
    }
}
