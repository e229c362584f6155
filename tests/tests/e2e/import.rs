//! `import` and `inspect`: real clips when they are there, logs of our own, and a drive that was cut.

use std::fs;

use super::binary::run;
use super::samples::{data, demo, text};

#[test]
fn real_clips_become_drives_with_every_frame() {
    // Shortest of the clips with H.264, and their frames as ffprobe counts them.
    for (clip, frames) in [("clips/carnd_vd_test_video.mp4", 38), ("clips/lvlane_crash_ori.mp4", 192)] {
        let Some(path) = data(clip) else { return };
        let temp = tempfile::tempdir().unwrap();
        let made =
            run(temp.path(), &["import", "--out", "clip.mcap", "--video", text(&path)]).with_code(0).json_lines();
        assert_eq!(made[0]["frames"], frames, "{clip}");
        let shown = run(temp.path(), &["inspect", "--json", "clip.mcap"]).with_code(0).json_lines();
        assert_eq!(shown[0]["channels"]["frames"]["count"], frames, "{clip}");
        assert_eq!(shown[0]["drive"]["simulated"], false);
        assert!(shown[0]["loss"].is_null());
    }
}

#[test]
fn a_candump_log_and_an_imu_table_become_one_drive() {
    let temp = tempfile::tempdir().unwrap();
    let log: String = (0..50).map(|i| format!("(100.{:06}) can0 0B4#00000000{i:02X}000000\n", i * 20_000)).collect();
    fs::write(temp.path().join("can.log"), log).unwrap();
    let rows: String = (0..100).map(|i| format!("{},0.0,0.0,9.81\n", 100_000 + i * 10)).collect();
    fs::write(temp.path().join("imu.csv"), format!("time,ax,ay,az\n{rows}")).unwrap();
    let columns = "t=time:ms,x=ax,y=ay,z=az";
    let args = ["import", "--out", "d.mcap", "--candump", "can.log", "--imu-csv", "imu.csv", "--imu-columns", columns];
    let made = run(temp.path(), &args).with_code(0).json_lines();
    assert_eq!((&made[0]["can_frames"], &made[0]["imu_samples"]), (&50.into(), &100.into()));
    assert_eq!(made[0]["composite"], true, "two inputs of which nobody said that they belong together");
    let shown = run(temp.path(), &["inspect", "--json", "d.mcap"]).with_code(0).json_lines();
    let channels = &shown[0]["channels"];
    assert_eq!((&channels["can"]["count"], &channels["imu"]["count"]), (&50.into(), &100.into()), "{channels}");
    assert_eq!((&channels["can"]["from_s"], &channels["imu"]["from_s"]), (&100.0.into(), &100.0.into()));
}

#[test]
fn a_drive_that_was_cut_is_read_to_its_last_whole_chunk_and_the_loss_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let whole = fs::read(demo().file("demo.mcap")).unwrap();
    let config = demo().file("demo.toml");
    // Six tenths end before the crash at 34 of 40 s, nine tenths after it.
    for (name, tenths, events) in [("early.mcap", 6, 0), ("late.mcap", 9, 1)] {
        fs::write(temp.path().join(name), &whole[..whole.len() / 10 * tenths]).unwrap();
        let args = ["replay", name, "--out", "out", "--config", text(&config)];
        let ended = run(temp.path(), &args).with_code(5);
        let said = ended.stderr.lines().find(|l| l.starts_with(name)).expect("the loss is said");
        println!("{said}");
        let summary = super::binary::json(&temp.path().join("out/summary.json"));
        let drive = &summary["drives"][0];
        assert_eq!(drive["events"], events, "{drive}");
        assert!(said.contains(drive["drive_loss"].as_str().expect("the loss stands in the summary")));
        let whole_s = 40.0 * tenths as f64 / 10.0;
        assert!((drive["duration_s"].as_f64().unwrap() - whole_s).abs() < 6.0, "{drive}");
        let shown = run(temp.path(), &["inspect", "--json", name]).with_code(5).json_lines();
        assert_eq!(shown[0]["loss"], drive["drive_loss"]);
    }
}
