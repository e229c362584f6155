//! A minute of a real motorway drive with its CAN bus, when the shared data is there: nothing happens in it, and nothing
//! may be reported.

use serde_json::Value;

use super::binary::{json, run};
use super::samples::{data, text};

#[test]
fn a_minute_of_ordinary_driving_makes_no_event_and_loses_nothing() {
    let (Some(segment), Some(dbc)) = (data("comma2k19"), data("dbc/toyota_new_mc_pt_generated.dbc")) else { return };
    let temp = tempfile::tempdir().unwrap();
    let import = ["import", "--out", "drive.mcap", "--comma2k19", text(&segment), "--dbc", text(&dbc)];
    let made = run(temp.path(), &import).with_code(0).json_lines();
    // The counts of the shared data's own description; echoes on buses 128 and 129 are not counted.
    assert_eq!((&made[0]["can_frames"], &made[0]["imu_samples"]), (&98_800.into(), &6256.into()), "{}", made[0]);
    assert_eq!((&made[0]["skipped"], &made[0]["composite"]), (&0.into(), &false.into()));
    let speed = "speed=SPEED.SPEED*0.2777778";
    let replay = ["replay", "drive.mcap", "--out", "out", "--dbc", text(&dbc), "--signal", speed];
    run(temp.path(), &replay).with_code(0);
    let summary = json(&temp.path().join("out/summary.json"));
    let drive = &summary["drives"][0];
    for count in ["events", "disturbances", "triggers_in_cool_down"] {
        assert_eq!(drive[count], 0, "{drive}");
    }
    assert_eq!((&drive["can_frames"], &drive["imu_samples"]), (&98_800.into(), &6256.into()));
    assert_eq!(drive["drive_loss"], Value::Null);
    assert!(drive["losses"].as_object().unwrap().values().all(|n| *n == 0), "{drive}");
    assert_eq!((&drive["alignment"]["up_known"], &drive["alignment"]["forward_known"]), (&true.into(), &true.into()));
    let messages = std::fs::read_to_string(temp.path().join("out/messages.jsonl")).unwrap();
    assert!(!messages.contains("\"alert\"") && !messages.contains("\"report\""), "{messages}");
}
