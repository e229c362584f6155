//! Matching of events to the truth, and what the command says of drives without results.

use super::*;

fn truth(severity: &str, event: &str) -> String {
    format!(
        r#"{{"format":"firmware-agent simulated drive truth 1","simulated":true,"scenario":"s","seed":7,"split":"train",
        "way_m":1000.0,"severity":"{severity}","description":{{"code":"a","text":"a car hits a car"}},
        "cause":{{"code":"b","text":"too late"}},"prevention":{{"code":"c","text":"look"}},"event":{event}}}"#
    )
}

const EVENT: &str = r#"{"contact_s":10.0,"crash_interval_s":[10.0,12.0],"first_sign_s":8.0,"sign_in_view":true,
    "ego_takes_part":true}"#;

fn drive(severity: &str, messages: &str, risk: &str) -> Drive {
    let event = if severity == "normal" { "null" } else { EVENT };
    Drive {
        name: "x".to_owned(),
        path: PathBuf::from("x.mcap"),
        truth: load::truth(&truth(severity, event)).unwrap(),
        events: load::events(messages).unwrap(),
        baseline: Vec::new(),
        risk: load::risks(risk).unwrap(),
    }
}

/// An alert of a kind, and its report with the student's answers.
fn messages(kind: &str, zero_s: f64, words: [&str; 3]) -> String {
    let time = json!({"mono_ns": (zero_s * 1e9) as u64});
    let e4 = if kind == "collision" { [9000, 900, 100] } else { [100, 900, 9000] };
    let said = json!({"recognition_e4": e4[0], "telemetry": true, "model": "m",
        "severity": {"collision_e4": e4[0], "near_collision_e4": e4[1], "normal_e4": e4[2]},
        "crash": {"from_ms": 0, "to_ms": 1000}, "pre_crash": {"from_ms": -1000, "to_ms": -1000}});
    let alert = json!({"event": "u_1_1", "message": {"alert": {"kind": "harsh_braking", "time": time}}});
    let [description, cause, prevention] = words;
    let report = json!({"event": "u_1_1", "message": {"report": {"kind": kind, "time": time, "student": {"answered": said}}},
        "student_words": {"description": description, "cause": cause, "prevention": prevention}});
    format!("{alert}\n{report}\n")
}

const RISK: &str = "boot,contact,t_s,new,risk\n1,0,6.5,,0.2\n1,0,8.5,,0.96\n1,0,9.5,,0.9\n1,0,11,,0.1\n";

fn value(judged: &Judged, name: &str) -> Option<f64> {
    judged.figures.iter().find(|f| f.name.starts_with(name)).unwrap_or_else(|| panic!("no figure {name}")).value
}

#[test]
fn figures_follow_the_rules() {
    let right = ["a car hits a car", "too late", "look"];
    let crash = messages("collision", 10.0, right);
    let drives = [
        drive("collision", &crash, RISK),
        drive("collision", &messages("collision", 2.0, right), RISK),
        drive("near_collision", "", "t_s,risk\n1,0.3\n"),
        drive("normal", &messages("collision", 5.0, ["x", "y", "z"]), "t_s,risk\n1,0.1\n2.5,0.97\n"),
        drive("normal", &messages("harsh_braking", 5.0, right), "t_s,risk\n1,0.1\n"),
    ];
    let judged = judge::judge(&drives);
    // The second drive's event is 8 s before the contact: not of it.
    assert_eq!(value(&judged, "recall, collisions of the ego vehicle"), Some(0.5));
    assert_eq!(value(&judged, "recall, near collisions"), Some(0.0));
    assert_eq!(value(&judged, "recall, collisions of others"), None);
    // One in 2 km; harsh braking is counted apart.
    assert_eq!(value(&judged, "false events per 1,000 km"), Some(500.0));
    assert_eq!(value(&judged, "harsh driving events per 1,000 km"), Some(500.0));
    assert_eq!(judged.confusion_agent, [[2, 0, 0], [0, 0, 1], [1, 0, 1]]);
    // Answers: of the matched crash and of both normal drives.
    assert_eq!(judged.confusion_student, Some(vec![vec![1, 0, 0], vec![0, 0, 0], vec![1, 0, 1]]));
    assert_eq!(value(&judged, "description: exact"), Some(2.0 / 3.0));
    assert_eq!(value(&judged, "crash localization: mIoU"), Some(0.5));
    assert_eq!(value(&judged, "pre-crash: mIoU"), Some(0.5));
    assert_eq!(value(&judged, "pre-crash: time to accident"), Some(1.0));
    // Crashes have 0.96 from 4 to 1 s ahead, the worst drive without one 0.97: precision 0.94 is never reached.
    assert_eq!(value(&judged, "1 s ahead, drives: ROC AUC"), Some(2.0 / 3.0));
    assert_eq!(value(&judged, "1 s ahead, drives: recall at precision 0.94"), Some(0.0));
    // In windows of equal length: 0.96 of each crash, and of the normal drives what lies in their middle.
    let windows: Vec<usize> = judged.figures.iter().filter(|f| f.name.contains("window each")).map(|f| f.n).collect();
    assert_eq!((windows, value(&judged, "1 s ahead, a window each: ROC AUC")), (vec![4; 8], Some(0.5)));
    // 0.96 and 0.96 of the crashes and 0.97 of a normal drive in one bin, 0.1 of the other in another.
    for (name, wanted) in [("Brier", 0.9541 / 4.0), ("MAE", 1.15 / 4.0), ("ECE", 0.99 / 4.0)] {
        let found = value(&judged, &format!("1 s ahead, a window each: {name}")).unwrap();
        assert!((found - wanted).abs() < 1e-12, "{name}: {found}");
    }
    // A risk at the threshold fires, as in the agent: three do, two of them rightly.
    let at_threshold = |what: &str| {
        let name = format!("1 s ahead, a window each: {what} at ahead_on = 0.95");
        judged.figures.iter().find(|f| f.name == name).unwrap().share
    };
    assert_eq!((at_threshold("precision"), at_threshold("recall")), (Some([2, 3]), Some([2, 2])));
    assert_eq!(value(&judged, "collisions whose sign shows 1 s before the contact"), Some(1.0));
    let frames: usize = judged.reliability_risk.iter().map(|b| b.0).sum();
    assert_eq!(frames, 3 + 3 + 1 + 2 + 1);
    let page = page::render("<title>", &judged);
    assert!(page.contains("&lt;title&gt;") && page.contains("Reliability, risk") && !page.contains("http"));
    assert!(!page.contains("NaN") && page.matches("<svg").count() == page.matches("</svg>").count());
}

#[test]
fn a_share_of_all_or_none_has_an_interval_with_a_width() {
    let crash = messages("collision", 10.0, ["a car hits a car", "too late", "look"]);
    let drives: Vec<Drive> = (0..10).map(|_| drive("collision", &crash, RISK)).collect();
    let judged = judge::judge(&drives);
    let figure = |name: &str| judged.figures.iter().find(|f| f.name == name).unwrap();
    for name in [
        "recall, collisions of the ego vehicle",
        "the same, called a collision",
        "three classes: accuracy",
        "collision or not: precision",
        "recognition: recall",
        "cause: exact",
        "crash localization: IoU at least 0.3",
    ] {
        let all = figure(name);
        let [low, high] = all.interval.unwrap();
        // The exact lower bound of 10 in 10.
        assert!((low - 0.6915).abs() < 1e-4 && high == 1.0, "{name}: {low} {high}");
        assert_eq!((all.value, all.share, all.n), (Some(1.0), Some([10, 10]), 10), "{name}");
    }
    let none = figure("crash localization: IoU at least 0.7");
    let [low, high] = none.interval.unwrap();
    assert!(low == 0.0 && (high - 0.3085).abs() < 1e-4, "{low} {high}");
    // A figure that is no share keeps its bootstrap.
    assert_eq!(figure("recognition: F1").method, "bootstrap over drives");
}

#[test]
fn without_student_and_risk_those_figures_are_not_there() {
    let judged = judge::judge(&[drive("normal", "", "t_s,risk\n")]);
    assert!(judged.figures.iter().all(|f| f.group != "six tasks" && f.group != "risk"));
    assert!(judged.confusion_student.is_none() && judged.curve_risk.is_empty());
    let rate = judged.figures.iter().find(|f| f.method == "exact Poisson").unwrap();
    // None in 1 km: up to 3.69 expected, the exact bound.
    let [low, high] = rate.interval.unwrap();
    assert!(low == 0.0 && (high - 3688.9).abs() < 0.1, "{high}");
    // With 95 % confidence no more than 3.00 expected; in eval.json, on the page and in the table.
    assert!((rate.at_most.unwrap() - 2995.7).abs() < 0.1, "{:?}", rate.at_most);
    let line = "at most 2995.7 (95 %, one-sided)";
    assert!((json!(judged)["figures"][4]["at_most"].as_f64().unwrap() - 2995.7).abs() < 0.1);
    assert!(page::render("", &judged).contains(line));
    assert!(table(&judged.figures).iter().any(|l| l.contains(line)));
}

#[test]
fn a_warning_counts_for_the_last_five_seconds_before_the_contact() {
    // The contact is at 10 s: a risk at 1 s was of something else, one at 5.5 s warns.
    let risk = "t_s,risk\n1,0.9\n5.5,0.9\n8.5,0.9\n";
    let judged = judge::judge(&[drive("collision", "", risk), drive("normal", "", "t_s,risk\n1,0.1\n")]);
    assert_eq!(value(&judged, "time to accident at that threshold"), Some(4.5));
}

#[test]
fn the_true_crash_interval_is_cut_to_what_the_student_was_shown() {
    let at = |zero_s: f64, model: &str| {
        let mut drive = drive("collision", &messages("collision", zero_s, ["", "", ""]), RISK);
        drive.show(&json!({"model": model, "window": {"before_s": 4.0, "frames": 18, "fps": 3.0}}));
        judge::judge(&[drive])
    };
    let iou = "crash localization: mIoU";
    // Shown 5.5 to 11.5 s, so the truth is 10 to 11.5 s; the answer 9.5 to 10.5 s.
    assert_eq!(value(&at(9.5, "m"), iou), Some(0.25));
    // The window of another model says nothing: the truth is 10 to 12 s.
    assert_eq!(value(&at(9.5, "other"), iou), Some(0.2));
    // Shown 3.5 to 9.5 s: nothing to find, which is told apart.
    let early = at(7.5, "m");
    assert_eq!((value(&early, iou), value(&early, "crash localization: part of it")), (None, Some(0.0)));
    // No window goes beyond the drive.
    let mut short = drive("collision", &messages("collision", 2.0, ["", "", ""]), RISK);
    short.truth.length_s = Some(3.0);
    short.show(&json!({"model": "m", "window": {"before_s": 4.0, "frames": 18, "fps": 3.0}}));
    assert_eq!(short.events[0].answers.as_ref().unwrap().seen_s, Some([0.0, 3.0]));
}

#[test]
fn multiple_choice_takes_its_wrong_options_from_what_the_baseline_confused() {
    // Six truths; the baseline took the second for the first, and the student falls for the same.
    let texts =
        ["a car hits a car", "fog", "a car hits a truck", "a car hits a bus", "a car hits a van", "a bus hits a car"];
    let of = |at: usize, said: &str, baseline: &str| {
        let mut drive = drive("collision", &messages("collision", 10.0, [said, "too late", "look"]), RISK);
        drive.truth.description.text = texts[at].to_owned();
        drive.baseline = load::events(&messages("collision", 10.0, [baseline, "too late", "look"])).unwrap();
        drive
    };
    let mut drives: Vec<Drive> = (0..6).map(|at| of(at, texts[at], texts[at])).collect();
    let choice = "description: multiple choice";
    // A baseline that errs nowhere gives no hard options.
    assert!(judge::judge(&drives).figures.iter().all(|f| f.name != choice));
    drives[0] = of(0, "fog", "fog");
    drives[1] = of(1, "no such option", texts[1]);
    let judged = judge::judge(&drives);
    // 0 for the distractor, a fifth for what is no option, 1 for each of the others.
    assert!((value(&judged, choice).unwrap() - 4.2 / 6.0).abs() < 1e-12);
    // Fog and the car were confused with each other, the other four with nothing.
    assert_eq!(value(&judged, "description: distractors out of confusions"), Some(2.0 / 6.0));
    assert!(judged.figures.iter().all(|f| f.name != "cause: multiple choice"));
    // Without the confusion, fog would be the option least like the truth and be no distractor.
    drives[0] = of(0, "fog", texts[2]);
    assert!((value(&judge::judge(&drives), choice).unwrap() - 4.4 / 6.0).abs() < 1e-12);
}

#[test]
fn a_student_without_telemetry_is_said_once_and_only_where_it_was_so() {
    let summary = |student: serde_json::Value| json!({"config": "c", "student": student});
    let (none, given) = (summary(json!(null)), summary(json!({"telemetry_given": true})));
    // Summaries of earlier versions say nothing of it.
    assert_eq!(blind(&[none.clone(), given.clone(), summary(json!({"telemetry": true}))]), "");
    let without = summary(json!({"telemetry": true, "telemetry_given": false}));
    assert_eq!(blind(&[none, given, without]), ", the student is not given telemetry");
}

#[test]
fn bad_files_are_named_by_their_place() {
    let bad = |text: &str| load::truth(text).unwrap_err();
    assert!(bad("{").contains("line 1"));
    let good = truth("collision", EVENT);
    assert!(bad(&good.replace("drive truth 1", "drive truth 9")).contains("format"));
    assert!(bad(&good.replace("\"train\"", "\"test\"")).contains("seed 7 belongs to \"train\""));
    assert!(bad(&truth("collision", "null")).contains("without an event"));
    assert!(bad(&truth("bad", EVENT)).contains("severity \"bad\""));
    assert!(load::events("{}\n{").unwrap_err().starts_with("line 2"));
    assert_eq!(load::risks("t_s,ttc_s\n").unwrap_err(), "no column risk");
    assert_eq!(load::risks("t_s,risk\n1,nan\n").unwrap_err(), "line 2: no time or risk");
}
