//! Synthetic crashes on the recorded drive: pulses of every size and direction must be found once and dated right,
//! also when they are not clean. Every shock here is synthetic.

use super::runner::{G, Outcome, Prefix, boxed, lobe, mean, still, worst};
use super::synth::{Drive, Quiet, Random, Shock, V3, mounts, scale};
use std::f64::consts::{PI, TAU};

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

/// What a shape of pulse is made of, at a heading, and how many impacts it is.
type Shape = (&'static str, usize, fn(f64) -> Box<dyn Shock>);

/// A pulse by its longitudinal acceleration, m/s^2, turned to `heading`.
fn towards(heading: f64, seconds: f64, a: impl Fn(f64) -> f64 + 'static) -> Box<dyn Shock> {
    boxed(move |t| [a(t) * heading.cos(), a(t) * heading.sin(), 0.0], still, seconds)
}

/// Half a sine of `kmh` over `seconds`, from `from` on.
fn half_sine(t: f64, kmh: f64, from: f64, seconds: f64) -> f64 {
    kmh / 3.6 * PI / 2.0 / seconds * lobe(t, from, seconds)
}

#[test]
fn other_shapes_make_as_many_impacts_as_there_are() {
    let Some(drive) = Drive::load("shapes") else { return };
    let shapes: [Shape; 8] = [
        ("rectangle, 9 km/h in 120 ms", 1, |h| towards(h, 0.12, |_| 9.0 / 3.6 / 0.12)),
        ("10 km/h, 15 % rebound", 1, |h| {
            towards(h, 0.3, |t| half_sine(t, 10.0, 0.0, 0.1) - half_sine(t, 1.5, 0.1, 0.1))
        }),
        ("30 km/h in 300 ms", 1, |h| towards(h, 0.3, |t| half_sine(t, 30.0, 0.0, 0.3))),
        ("12 + 12 km/h, 25 ms between", 1, |h| {
            towards(h, 0.15, |t| half_sine(t, 12.0, 0.0, 0.06) + half_sine(t, 12.0, 0.085, 0.06))
        }),
        ("25 km/h with 60 Hz ringing of 10 g", 1, |h| {
            towards(h, 0.2, |t| half_sine(t, 25.0, 0.0, 0.1) + 10.0 * G * (TAU * 60.0 * t).sin() * (-t / 0.05).exp())
        }),
        ("15 km/h twice, 0.4 s apart", 2, |h| {
            towards(h, 0.6, |t| half_sine(t, 15.0, 0.0, 0.1) + half_sine(t, 15.0, 0.5, 0.1))
        }),
        ("full braking, 1.1 g for 2 s", 0, |h| {
            towards(h, 2.5, |t| -1.1 * G * (t / 0.2).min(1.0) * if t < 2.0 { 1.0 } else { 0.0 })
        }),
        ("stopping jerk, 0.6 g at 3 Hz", 0, |h| {
            towards(h, 1.0, |t| 0.6 * G * (TAU * 3.0 * t).cos() * (-t / 0.3).exp())
        }),
    ];
    println!("synthetic pulses of other shapes: rate, runs, with the right number of impacts");
    let mut wrong = Vec::new();
    for hz in [100.0, 500.0] {
        let mut prefixes = Vec::new();
        for mount in mounts(3) {
            for place in [0.9, 6.0, 21.0, 37.0, 50.0] {
                prefixes.push(Prefix::new(&drive, mount, hz, place));
            }
        }
        for (name, expected, make) in shapes {
            let (mut runs, mut right) = (0, 0);
            for prefix in &prefixes {
                for quarter in 0..4u8 {
                    let shock = make(f64::from(quarter) * PI / 2.0);
                    let out = prefix.with(shock.as_ref(), 91 + u64::from(quarter), 1.0);
                    runs += 1;
                    right += usize::from(out.began.len() == expected && out.ended.len() == expected);
                    if out.began.len() != expected {
                        println!("WRONG: {name} at {} s, {hz} Hz, {quarter}: {:?}", prefix.t, out.began);
                    }
                }
            }
            println!("{name:34} {hz:4} {runs:4} {right:4}");
            if right != runs {
                wrong.push((name, hz, runs - right));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
