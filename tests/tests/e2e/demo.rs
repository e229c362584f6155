//! `demo`: what a newcomer sees first. What it reports is held against what really happens in its drive.

use serde_json::Value;

use super::samples::demo;

/// The number before `unit` in the words after `label`: `("contact at 34.073 s at ...", "contact at ", " s")`.
fn figure(text: &str, label: &str, unit: &str) -> f64 {
    let rest = text.split_once(label).unwrap_or_else(|| panic!("no {label:?} in {text}")).1;
    rest.split_once(unit).unwrap().0.parse().unwrap_or_else(|e| panic!("{e}: {label:?} in {text}"))
}

/// The JSON objects that stand, pretty-printed, between lines of words.
fn objects(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if line == "{" {
            open = Some(String::new());
        }
        if let Some(object) = &mut open {
            object.push_str(line);
            if line == "}" {
                found.push(serde_json::from_str(object).unwrap());
                open = None;
            }
        }
    }
    found
}

#[test]
fn the_demo_shows_an_alert_and_a_report_that_agree_with_the_truth() {
    let said = &demo().ended;
    let all = objects(&said.stdout);
    let alert = &all.iter().find(|o| o["alert"].is_object()).expect("an alert")["alert"];
    let reports: Vec<&Value> = all.iter().filter(|o| o["report"].is_object()).map(|o| &o["report"]).collect();
    assert_eq!(reports.len(), 1, "{}", said.stdout);
    let report = reports[0];
    assert_eq!(alert["event"], report["event"]);
    assert_eq!((&report["kind"], &report["severity"]), (&"collision".into(), &"critical".into()));
    assert_eq!(report["flags"]["simulated"], true);
    // The student that ships is found beside the program and says what it knows.
    let answers = &report["student"]["answered"];
    assert!(answers["recognition_e4"].as_u64().is_some_and(|p| p <= 10_000), "{}", report["student"]);
    assert!(said.stdout.contains("knows simulated roads only"), "{}", said.stdout);

    let truth = said.stderr.lines().find_map(|l| l.strip_prefix("the truth: ")).expect("the truth");
    let zero_ms = figure(truth, "time zero ", " s") * 1e3;
    let found_ms = report["time"]["mono_ns"].as_f64().unwrap() / 1e6;
    println!("time zero {found_ms:.1} ms, in truth {zero_ms:.1} ms");
    assert!((found_ms - zero_ms).abs() <= 20.0, "time zero {found_ms} ms, in truth {zero_ms}");

    let (along, across) = (figure(truth, "delta-V ", " km/h along"), figure(truth, "along and ", " across"));
    let wanted = along.hypot(across);
    let found = report["edr"]["max_delta_v_dkmh"].as_f64().unwrap() / 10.0;
    println!("delta-V {found:.1} km/h, in truth {wanted:.1}");
    assert!((found - wanted).abs() <= 0.1 * wanted, "delta-V {found}, in truth {wanted}");
    assert!(report["edr"]["delta_v"]["longitudinal_dkmh"].as_f64().unwrap() * along > 0.0, "hit from the other side");
}

#[test]
fn the_demo_writes_a_page_that_needs_nothing_else() {
    let page = demo().ended.stdout.lines().find_map(|l| l.strip_prefix("event page: ")).expect("a page").to_owned();
    let text = std::fs::read_to_string(&page).unwrap();
    for part in ["<!DOCTYPE html>", "<svg", "data:image/jpeg;base64,", "demo-unit_00000001_000001", "</html>"] {
        assert!(text.contains(part), "{page} has no {part}");
    }
    for outside in ["src=\"http", "href=\"http", "@import", "<script src"] {
        assert!(!text.contains(outside), "{page} needs {outside}");
    }
    assert!(demo().ended.stdout.contains("simulated"), "it is not said that this is synthetic");
}
