//! Synthetic shocks that are no crash, in families of varied size, direction and duration: none may be an impact.

use super::runner::{G, Made, Prefix, boxed, lobe, still};
use super::synth::{Drive, Random, Shock, V3, mounts, scale};
use std::f64::consts::{PI, TAU};

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
