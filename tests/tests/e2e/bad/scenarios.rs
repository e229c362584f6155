//! Broken scenarios, and drives that `simulate` is asked for and does not make.

use super::{Case, case};

const SCENARIOS: &str = "Scenarios";

/// A scenario that is drawn.
const GOOD: &str = r#"name = "mine"
text = "a car ahead brakes"
expect = "collision"
road = ["town"]
length_s = [10, 12]
event_s = [5, 6]

[ego]
speed_kmh = [40, 50]

[[actor]]
role = "lead_brakes"
kind = ["car"]
"#;

/// A drive of a town with one option.
fn town(what: &'static str, option: &str, says: &[&'static str]) -> Case {
    case(SCENARIOS, what, &format!("simulate town --out d.mcap {option}"), 2, says)
}

/// A scenario file with one thing changed.
fn changed(what: &'static str, from: &str, to: &str, says: &[&'static str]) -> Case {
    assert!(GOOD.contains(from), "{from}");
    case(SCENARIOS, what, "simulate s.toml --out d.mcap", 4, says).file("s.toml", GOOD.replace(from, to))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = drives();
    all.extend(files());
    all.extend(batches());
    all
}

fn drives() -> Vec<Case> {
    vec![
        town("a rate of fixes that does not divide a second", "--gnss-hz 3", &["--gnss-hz 3 does not divide 1000"]),
        town("more fixes than a receiver gives", "--gnss-hz 20", &["--gnss-hz 20 is not within 1 to 10"]),
        town("a rate of samples that does not divide a second", "--imu-hz 300", &["--imu-hz 300 does not divide 1000"]),
        town("no samples", "--imu-hz 0", &["--imu-hz 0 is not within 10 to 1000"]),
        town("an odd width", "--width 161", &["--width and --height are even numbers"]),
        town("pictures too small", "--height 32", &["--height 32 is not within 64 to 1920"]),
        town("too many pictures a second", "--fps 100", &["--fps 100 is not within 0 to 60"]),
        case(SCENARIOS, "no scenario", "simulate --out d.mcap", 2, &["which scenario?"]),
        case(SCENARIOS, "no place for the drive", "simulate town", 2, &["--out DRIVE.mcap is needed"]),
        case(
            SCENARIOS,
            "a scenario that does not exist",
            "simulate sea --out d.mcap",
            2,
            &["no scenario sea", "--list"],
        ),
    ]
}

fn files() -> Vec<Case> {
    vec![
        case(
            SCENARIOS,
            "a scenario file that is not there",
            "simulate gone.toml --out d.mcap",
            4,
            &["gone.toml: No such file"],
        ),
        changed("an unknown key", "speed_kmh", "speed_mph", &["s.toml: ", "line 9, column 1", "speed_mph"]),
        changed(
            "a range that runs backwards",
            "[10, 12]",
            "[12, 10]",
            &["s.toml: ", "line 5, column 12", "runs backwards"],
        ),
        changed("a value out of its bounds", "[40, 50]", "[40, 500]", &["s.toml: line 9: speed_kmh 40 to 500"]),
        changed("a kind that does not exist", "[\"car\"]", "[\"tram\"]", &["s.toml: line 13: kind \"tram\""]),
        changed("a role that does not exist", "lead_brakes", "lead_flies", &["s.toml: ", "line 12, column 8"]),
        changed("a danger at the end of the drive", "[5, 6]", "[5, 9]", &["s.toml: line 6: event_s up to 9"]),
        case(
            SCENARIOS,
            "a scenario that cannot end as meant",
            "simulate s.toml --out d.mcap --fps 0",
            1,
            &["scenario mine, seed 1: none of 64 draws ends as a collision of others"],
        )
        .file("s.toml", GOOD.replace("\"collision\"", "\"collision_of_others\"")),
    ]
}

fn batches() -> Vec<Case> {
    let batch = |what: &'static str, options: &str, says: &[&'static str]| {
        case(SCENARIOS, what, &format!("simulate --batch --out o{options}"), 2, says)
    };
    vec![
        batch("seeds that run backwards", " --seeds 5..3", &["--seeds 5..3 is not A..B"]),
        batch("a batch without seeds", "", &["--seeds <SEEDS>"]),
        batch("a split that does not exist", " --seeds 0..2 --split most", &["--split most is none of train"]),
        batch("a shard that does not fit", " --seeds 0..2 --per-shard 9999", &["lower --per-shard"]),
        batch("a clip without a frame", " --seeds 0..2 --fps 0", &["holds at least one frame"]),
    ]
}
