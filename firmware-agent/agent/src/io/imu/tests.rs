//! The chips' drivers and what is made of them, on simulated chips.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::samples::ImuSample;
use agent_core::time::MonoTime;

use super::News;
use super::chip::Chip;
use super::fake::{BEGIN_NS, Bench, world};
use super::keeper::{ImuReport, Keeper};
use crate::io::news::Told;

struct Ran {
    samples: Vec<ImuSample>,
    lost: u32,
    said: Vec<String>,
    report: ImuReport,
}

impl Ran {
    fn says(&self, what: &str) -> usize {
        self.said.iter().filter(|s| s.contains(what)).count()
    }
}

/// Runs for so many seconds; `at` is called with the milliseconds that passed, every 10.
fn run(bench: &Bench, seconds: f64, at: &dyn Fn(u64)) -> Ran {
    run_told(bench, seconds, at, &|| Told::Taken)
}

fn run_told(bench: &Bench, seconds: f64, at: &dyn Fn(u64), told: &dyn Fn() -> Told) -> Ran {
    let (mut samples, mut lost, mut said) = (Vec::new(), 0, Vec::new());
    let stop = AtomicBool::new(false);
    let passed = || (bench.now_ns.get() - BEGIN_NS) / 1_000_000;
    let beat = || {
        at(passed());
        stop.store(passed() as f64 >= seconds * 1e3, Ordering::Relaxed);
    };
    let mut tell = |news| {
        let told = told();
        if told == Told::Taken {
            match news {
                News::Sample(s) => samples.push(s),
                News::Lost(n) => lost += n,
                News::Said(what) => said.push(what),
            }
        }
        told
    };
    let mut open = || bench.open();
    let report = Keeper::new(&mut open, 500, 16, true, bench.clone(), &mut tell).run(&stop, &beat);
    Ran { samples, lost, said, report }
}

fn both() -> [(Bench, f64); 2] {
    [(Bench::bmi160(), 800.0 * 1.02), (Bench::lsm6dso(), 833.0 * 0.98)]
}

#[test]
fn samples_are_what_the_world_is_at_the_time_that_they_carry_and_none_is_lost() {
    for (bench, hz) in both() {
        let ran = run(&bench, 20.0, &|_| {});
        let name = &ran.said[0];
        assert_eq!(ran.report.self_test, Some(Ok(())), "{name}");
        assert_eq!((ran.lost, ran.report.restarts, ran.report.bus_errors), (0, 0, 0), "{name}");
        assert!((ran.samples.len() as f64 / (19.5 * hz) - 1.0).abs() < 0.02, "{name}: {}", ran.samples.len());
        assert!((ran.report.hz / hz - 1.0).abs() < 2e-3, "{name}: {}", ran.report.hz);
        assert!(ran.samples.windows(2).all(|w| w[1].t > w[0].t), "{name}");
        for s in ran.samples.iter().skip(4000) {
            let (force, turn) = world(s.t.as_s());
            // Noise apart, 2 ms of the sway are 0.02 m/s^2.
            assert!((s.accel_mps2[0] - force[0]).abs() < 0.13, "{name} {}: {:?} {force:?}", s.t, s.accel_mps2);
            assert!((s.accel_mps2[2] - 9.81).abs() < 0.06 && (s.gyro_rps[2] - turn[2]).abs() < 0.01, "{name}");
        }
        assert_eq!(ran.report.temperature_c, Some(31.0));
    }
}

#[test]
fn a_self_test_that_fails_names_the_axis_and_its_limits_and_samples_go_on() {
    type Make = fn() -> Bench;
    let cases: [(Make, (u8, i16), &str); 6] = [
        (Bench::bmi160, (0x12, 0), "x moved by 0.00 g and should by 0.8 to 8"),
        (Bench::bmi160, (0x14, 0), "y moved by 0.00 g and should by 0.8 to 8"),
        (Bench::bmi160, (0x16, 0), "z moved by 0.00 g and should by 0.4 to 8"),
        (Bench::lsm6dso, (0x2a, 0), "y moved by 0.00 mg and should by 50 to 1700"),
        (Bench::lsm6dso, (0x2a, 5), " mg and should by 50 to 1700"),
        (Bench::lsm6dso, (0x26, 0), "z moved by 0.00 degrees/s and should by 150 to 700"),
    ];
    for (make, axis, what) in cases {
        let bench = make();
        bench.faults.axis.set(Some(axis));
        let ran = run(&bench, 2.0, &|_| {});
        let why = ran.report.self_test.clone().unwrap().unwrap_err();
        assert!(why.contains(what) && why.contains("must stand"), "{why}");
        assert_eq!(ran.says(&format!("did not pass its self-test: {why}")), 1, "{:?}", ran.said);
        assert!(ran.report.up && ran.samples.len() > 500, "it is used all the same: {:?}", ran.report);
    }
    let bench = Bench::lsm6dso();
    bench.faults.axis.set(Some((0x2a, 5)));
    let why = bench.open().unwrap().self_test().unwrap_err();
    assert!(why.starts_with("y moved by "), "{why}");
    let bench = Bench::bmi160();
    bench.faults.never.set(Some((0x1b, 0x02)));
    assert_eq!(bench.open().unwrap().self_test().unwrap_err(), "the gyroscope's test did not pass");
}

#[test]
fn a_chip_that_was_reset_behind_our_back_is_noticed_and_set_again() {
    for (bench, _) in both() {
        let once = Cell::new(false);
        let ran = run(&bench, 6.0, &|ms| {
            if ms >= 3000 && !once.replace(true) {
                bench.chip.borrow_mut().dip();
            }
        });
        assert_eq!(
            (ran.says("the chip was reset") + ran.says("no reading"), ran.report.restarts),
            (1, 1),
            "{:?}",
            ran.said
        );
        let late = ran.samples.iter().filter(|s| s.t > MonoTime(BEGIN_NS + 5_000_000_000));
        assert!(late.clone().count() > 400 && late.clone().all(|s| (s.accel_mps2[2] - 9.81).abs() < 0.06));
        assert!(ran.report.up && ran.lost > 0);
    }
}

#[test]
fn a_chip_that_hangs_or_repeats_itself_is_started_anew() {
    for (bench, _) in both() {
        let hung = run(&bench, 6.0, &|ms| bench.faults.hangs.set((2000..3000).contains(&ms)));
        // Its registers answer, so it is started, and found silent again.
        assert!((1..4).contains(&hung.says("no reading for 0.2 s")), "{:?}", hung.said);
        assert!(hung.report.up && hung.report.restarts > 0, "{:?}", hung.report);
        assert!((600..1200).contains(&hung.lost), "a second and the wait after it: {}", hung.lost);
    }
    for (bench, _) in both() {
        let stuck = run(&bench, 6.0, &|ms| bench.faults.repeats.set((2000..3000).contains(&ms)));
        assert!((1..4).contains(&stuck.says("it repeats one reading")), "{:?}", stuck.said);
        assert!(stuck.report.up && stuck.report.restarts > 0);
    }
}

#[test]
fn what_the_chip_overwrote_while_the_thread_slept_is_counted() {
    for (bench, hz) in both() {
        let slept = Cell::new(false);
        let ran = run(&bench, 5.0, &|ms| {
            if ms >= 3000 && !slept.replace(true) {
                bench.faults.oversleep.set(900_000_000);
            }
        });
        // The FIFO holds 78 or 256 readings of those of 0.91 s.
        let kept = if ran.said[0].contains("LSM") { 256.0 } else { 78.0 };
        let expected = 0.91 * hz - kept;
        assert!((f64::from(ran.lost) - expected).abs() < 4.0, "{}: {} for {expected}", ran.said[0], ran.lost);
        assert_eq!((ran.report.overwritten, ran.report.restarts), (u64::from(ran.lost), 0));
        assert_eq!(ran.says("the chip overwrote them"), 1, "{:?}", ran.said);
    }
}

#[test]
fn single_errors_of_the_bus_are_counted_and_three_in_a_row_end_it() {
    let bench = Bench::bmi160();
    let ran = run(&bench, 5.0, &|ms| {
        if ms % 1000 < 10 && (2000..4900).contains(&ms) {
            bench.faults.failing.set(1);
        }
    });
    assert_eq!((ran.report.bus_errors, ran.report.restarts, ran.lost), (3, 0, 0), "{:?}", ran.said);
    let (bench, once) = (Bench::bmi160(), Cell::new(false));
    let ran = run(&bench, 5.0, &|ms| {
        if ms >= 2000 && !once.replace(true) {
            bench.faults.failing.set(3);
        }
    });
    assert_eq!((ran.report.restarts, ran.says("no acknowledgement")), (1, 1), "{:?}", ran.said);
    assert!(ran.report.up);
}

#[test]
fn a_chip_that_measures_another_gravity_at_rest_is_said_and_so_is_its_recovery() {
    let bench = Bench::lsm6dso();
    let ran = run(&bench, 16.0, &|ms| {
        bench.faults.gravity.set(Some(if (4000..10_000).contains(&ms) { 4.9 } else { 9.7 }));
    });
    assert_eq!(ran.says("in place of gravity"), 1, "{:?}", ran.said);
    assert_eq!(ran.says("gravity again"), 1, "{:?}", ran.said);
    assert!((ran.report.at_rest_mps2.unwrap() - 9.7).abs() < 0.1);
    assert!(ran.report.restarts == 0 && ran.report.up);
}

#[test]
fn another_chip_none_at_all_and_a_missing_bus_are_said_by_name_once() {
    let bench = Bench::bmi160();
    for (wrong, what) in
        [(0x24, "another chip is there: it says 0x24, a BMI160 says 0xd1"), (0xff, "nothing answers as a BMI160")]
    {
        let mut open = || {
            let other = Bench::lsm6dso();
            other.chip.borrow_mut().write(0x00, wrong);
            Ok::<_, String>(Box::new(super::bmi160::Bmi160::new(other)) as Box<dyn Chip>)
        };
        let said = RefCell::new(Vec::new());
        let mut tell = |news| {
            if let News::Said(what) = news {
                said.borrow_mut().push(what);
            }
            Told::Taken
        };
        let stop = AtomicBool::new(false);
        let tries = Cell::new(0);
        let beat = || {
            tries.set(tries.get() + 1);
            stop.store(tries.get() > 300, Ordering::Relaxed);
        };
        let report = Keeper::new(&mut open, 500, 16, false, bench.clone(), &mut tell).run(&stop, &beat);
        assert!(!report.up && report.why.as_deref().is_some_and(|w| w.contains(what)), "{:?}", report.why);
        assert_eq!(said.borrow().len(), 1, "{said:?}");
    }
    let config =
        crate::config::load_str("unit.toml", "[sources.imu]\nkind = \"bmi160\"\ndevice = \"/dev/i2c-nowhere\"\n")
            .unwrap();
    let why = super::open(&config.sources.imu, &config.imu_device()).err().unwrap();
    assert!(why.contains("/dev/i2c-nowhere") && why.contains("No such file"), "{why}");
}

#[test]
fn what_finds_the_core_behind_is_counted_and_told_when_there_is_room() {
    let bench = Bench::bmi160();
    let full = Cell::new(false);
    let ran = run_told(&bench, 5.0, &|ms| full.set((2000..3000).contains(&ms)), &|| {
        if full.get() { Told::Full } else { Told::Taken }
    });
    assert!((750..=850).contains(&ran.lost), "{}", ran.lost);
    assert_eq!(ran.report.no_room, u64::from(ran.lost));
    let gone = run_told(&bench, 5.0, &|_| {}, &|| Told::Gone);
    assert_eq!(gone.report.samples, 0);
}
