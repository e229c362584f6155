//! The page of full, empty and hostile input: well-formed, bounded, escaped, nothing from outside.

use agent_wire::{
    Alert, Answer, DeltaV, EdrSummary, EventId, Evidence, EvidenceFile, EvidenceSource, Flags, Grounding,
    GroundingCheck, Hash8, Interval, LadderFall, LadderReason, Losses, PeakAcceleration, Position, Quality,
    SeverityEstimate, StudentAnswers, StudentOutcome, StudentRefusal, UnitId, Verdict, WallQuality,
};

use super::*;

const JPEG: &[u8] = &[0xff, 0xd8, 0xff, 0xe0, 1, 2, 3];

fn flags(simulated: bool, replayed: bool) -> Flags {
    Flags { simulated, replayed, ..Flags::default() }
}

fn event_time() -> EventTime {
    EventTime { mono_ns: 34_084_000_000, unix_ms: 1_767_268_834_084, quality: WallQuality::Gnss }
}

fn delta_v(quality: Quality) -> DeltaV {
    DeltaV { longitudinal_dkmh: -304, lateral_dkmh: 17, window_ms: 110, axes_known: true, quality }
}

pub(super) fn alert() -> Alert {
    Alert {
        event: EventId { unit: UnitId::new("demo-unit").unwrap(), boot: 1, seq: 1 },
        revision: 1,
        kind: EventKind::Collision,
        severity: Severity::Critical,
        time: event_time(),
        position: Some(Position { lat_e7: 450_012_340, lon_e7: -299_987_700, age_ms: 84, accuracy_dm: 18 }),
        peak: Some(PeakAcceleration { magnitude_cmps2: 14_810, at_ms: 41, clipped: false }),
        delta_v: Some(delta_v(Quality::Measured)),
        speed_dkmh: Some(416),
        evidence: [
            Evidence { source: EvidenceSource::DeltaV, value_milli: -28_200, threshold_milli: 8000, at_ms: 31 },
            Evidence { source: EvidenceSource::Airbag, value_milli: 1000, threshold_milli: 500, at_ms: 16 },
        ]
        .into_iter()
        .collect(),
        alignment_pct: 92,
        flags: flags(true, false),
        losses: Losses { imu: 3, ..Losses::default() },
        config: Hash8([1, 2, 3, 4, 5, 6, 7, 8]),
        trigger_model: None,
    }
}

pub(super) fn report(student: StudentOutcome) -> Report {
    Report {
        event: alert().event,
        kind: EventKind::Collision,
        severity: Severity::Critical,
        time: event_time(),
        student,
        student_falls: [LadderFall { step: 0, reason: LadderReason::OutOfMemory }].into_iter().collect(),
        edr: Some(EdrSummary {
            delta_v: delta_v(Quality::Measured),
            max_delta_v_dkmh: 305,
            max_delta_v_at_dms: 960,
            peak: PeakAcceleration { magnitude_cmps2: 14_810, at_ms: 41, clipped: false },
            speed_before_dkmh: Some(401),
            speed_at_dkmh: Some(416),
            speed_quality: Quality::Measured,
            brake_on: Some(true),
            brake_before_ms: Some(488),
            impacts: 1,
            gap_ds: None,
            complete: true,
        }),
        grounding: [
            Grounding { check: GroundingCheck::DeltaVVersusSpeed, verdict: Verdict::Agrees },
            Grounding { check: GroundingCheck::CollisionVersusDeltaV, verdict: Verdict::Unknown },
        ]
        .into_iter()
        .collect(),
        evidence_file: Some(EvidenceFile {
            name: heapless_text("demo-unit_00000001_000001.mcap"),
            bytes: 8_123_456,
            sha256_8: Hash8([0xab; 8]),
        }),
        flags: flags(true, false),
        losses: Losses::default(),
        config: Hash8::default(),
        trigger_model: Some(Hash8([9; 8])),
    }
}

/// Text for a bounded field, whatever its bound.
fn heapless_text<T: for<'a> TryFrom<&'a str>>(text: &str) -> T {
    T::try_from(text).ok().unwrap()
}

fn answers(text: &str) -> StudentOutcome {
    StudentOutcome::Answered(StudentAnswers {
        model: Hash8::default(),
        codebook: 3,
        ladder_step: 1,
        label_ms: 900,
        total_ms: 4200,
        severity: Some(SeverityEstimate { collision_e4: 9500, near_collision_e4: 400, normal_e4: 100 }),
        recognition_e4: 9612,
        calibrated: true,
        frames: 18,
        telemetry: true,
        description: Answer::Text { text: heapless_text(text), probability_e4: 8000 },
        cause: Answer::Known { code: 17, probability_e4: 7000 },
        prevention: Answer::Absent,
        crash: Some(Interval { from_ms: -100, to_ms: 300, probability_e4: 6000 }),
        pre_crash: Some(Interval { from_ms: -1800, to_ms: -1800, probability_e4: 5000 }),
    })
}

fn full<'a>(alert: &'a Alert, report: &'a Report) -> EventPage<'a> {
    let pulse = |ms: f32| if (0.0..110.0).contains(&ms) { -140.0 } else { 0.0 };
    EventPage {
        source: "demo drive, seed 7",
        program: "firmware-agent 0.1.0",
        alert: Some((alert, 141)),
        report: Some((report, 260)),
        answers: AnswerWords { trained_on: Some("simulated"), ..AnswerWords::default() },
        frames: (-20..10).map(|k| PageFrame { at_ms: k * 250 + 30, jpeg: JPEG }).collect(),
        axes_known: true,
        accel: (-500..200)
            .map(|k| k as f32 * 10.0)
            .map(|t| AccelPoint { at_ms: t, mps2: [pulse(t), 1.0, 0.5] })
            .collect(),
        speed: vec![SpeedSeries { source: "vehicle bus", points: vec![(-5000.0, 40.0), (0.0, 41.0), (500.0, 0.0)] }],
        delta_v: (0..15).map(|k| DeltaVPoint { at_ms: k as f32 * 10.0, kmh: [-2.0 * k as f32, 0.1] }).collect(),
        marks: vec![(16.0, "airbag"), (-488.0, "brake on")],
    }
}

/// Checks that tags nest and close, attributes are quoted and ampersands begin entities. The page is written so that
/// it is XML but for its first line and its style sheet.
fn check_well_formed(html: &str) {
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("document type");
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closes what is open");
            continue;
        }
        assert!(!tag.contains('<'), "no tag within {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of {tag}");
        let name = tag.split([' ', '/']).next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty(), "name of {tag}");
        assert_ne!(name, "script");
        if !tag.ends_with('/') {
            open.push(name);
        }
        if name == "style" {
            rest = &rest[rest.find("</style>").expect("style ends")..];
        }
    }
    check_text(rest);
    assert!(open.is_empty(), "left open: {open:?}");
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|entity| text[at..].starts_with(entity)), "{}", &text[at..]);
    }
}

#[test]
fn a_full_page_is_well_formed_and_says_what_it_must() {
    let (alert, report) = (alert(), report(StudentOutcome::Refused(StudentRefusal::NotInstalled)));
    let html = render(&full(&alert, &report));
    check_well_formed(&html);
    for text in [
        "SIMULATED INPUT",
        "demo drive, seed 7",
        "Collision",
        "critical",
        "2026-01-01 12:00:34.084 UTC",
        "45.00123° N, 29.99877° W",
        "30.5 km/h",
        "148.1 m/s²",
        "no student model is installed",
        "<dt>Lost before the alert</dt><dd>3 IMU samples</dd>",
        "time zero",
        "airbag",
        "Airbag",
        "141 bytes",
        "&quot;kind&quot;: &quot;collision&quot;",
        "demo-unit_00000001_000001.mcap",
    ] {
        assert!(html.contains(text), "the page lacks {text}");
    }
    assert!(!html.contains("<dt>Lost since the alert</dt>"), "nothing was lost since");
    assert_eq!(html.matches("<figure class=\"plot\">").count(), 4);
}

#[test]
fn nothing_comes_from_outside() {
    let (alert, report) = (alert(), report(answers("a")));
    let html = render(&full(&alert, &report));
    for word in ["http://", "https://", "url(", "@import", "<link", "<script", "src=\"//"] {
        assert!(!html.contains(word), "the page has {word}");
    }
}

#[test]
fn hostile_texts_stay_texts() {
    let evil = "\"><script>alert(1)</script><img src=x onerror='x'>&";
    let (alert, report) = (alert(), report(answers(evil)));
    let mut page = full(&alert, &report);
    page.source = evil;
    page.program = evil;
    page.answers.cause = Some(evil);
    page.speed[0].source = evil;
    page.marks.push((50.0, evil));
    let html = render(&page);
    check_well_formed(&html);
    assert!(!html.contains("<script") && !html.contains("onerror='"));
    assert!(html.matches("&lt;script&gt;alert(1)").count() >= 4);
}

#[test]
fn banners_follow_the_flags_of_either_message() {
    let (mut alert, mut report) = (alert(), report(StudentOutcome::Refused(StudentRefusal::Late)));
    for (of_alert, of_report, wanted) in [
        ((true, false), (false, false), Some("SIMULATED INPUT")),
        ((false, false), (true, true), Some("SIMULATED INPUT")),
        ((false, true), (false, false), Some("REPLAYED INPUT")),
        ((false, false), (false, false), None),
    ] {
        alert.flags = flags(of_alert.0, of_alert.1);
        report.flags = flags(of_report.0, of_report.1);
        let html = render(&full(&alert, &report));
        let banner = html.split("<p class=\"banner\"").nth(1).map(|rest| rest.split("</p>").next().unwrap());
        assert_eq!(banner.is_some(), wanted.is_some());
        assert!(banner.is_none_or(|text| text.contains(wanted.unwrap())), "{banner:?}");
    }
}

#[test]
fn an_empty_page_is_a_page() {
    let html = render(&EventPage::default());
    check_well_formed(&html);
    assert!(html.contains("Neither an alert nor a report was given") && html.contains("No camera frames"));
    assert_eq!(html.matches("No values.").count(), 4);
}

#[test]
fn numbers_that_are_none_are_never_drawn() {
    let (alert, report) = (alert(), report(StudentOutcome::Refused(StudentRefusal::Hot)));
    let mut page = full(&alert, &report);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
        page.accel.push(AccelPoint { at_ms: 10.0, mps2: [odd; 3] });
        page.accel.push(AccelPoint { at_ms: odd, mps2: [1.0; 3] });
        page.speed[0].points.push((odd, odd));
        page.delta_v.push(DeltaVPoint { at_ms: odd, kmh: [odd; 2] });
        page.marks.push((odd, "odd"));
    }
    let html = render(&page);
    check_well_formed(&html);
    for path in html.split(" d=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(!path.contains("NaN") && !path.contains("inf"), "{path}");
    }
}

#[test]
fn whatever_comes_in_the_page_stays_small() {
    let (alert, report) = (alert(), report(answers("b")));
    let mut page = full(&alert, &report);
    let mut big = JPEG.to_vec();
    big.resize(MAX_JPEG_BYTES + 1, 0);
    page.frames = (0..1000).map(|k| PageFrame { at_ms: k - 700, jpeg: JPEG }).collect();
    page.frames[700].jpeg = &big;
    page.frames[0].jpeg = b"GIF89a";
    page.accel = (0..200_000).map(|k| AccelPoint { at_ms: k as f32 * 0.1, mps2: [(k % 97) as f32; 3] }).collect();
    page.speed = (0..50).map(|_| SpeedSeries { source: "x", points: vec![(0.0, 1.0)] }).collect();
    page.marks = (0..500).map(|k| (k as f32, "m")).collect();
    let html = render(&page);
    check_well_formed(&html);
    assert_eq!(html.matches("alt=\"camera frame").count(), MAX_FRAMES - 2);
    assert!(html.contains("not a JPEG image") && html.contains(&format!("image of {} bytes left out", big.len())));
    assert!(html.len() < 400_000, "{} bytes", html.len());
    for path in html.split(" d=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(path.matches(['M', 'L']).count() <= 1000);
    }
}

#[test]
fn the_frame_nearest_to_time_zero_is_shown_and_marked() {
    let frames: Vec<PageFrame<'_>> = (0..77).map(|k| PageFrame { at_ms: k * 80 - 4013, jpeg: JPEG }).collect();
    let (chosen, event) = choose(&frames);
    assert_eq!((chosen.len(), event), (MAX_FRAMES, Some(50)));
    assert!(chosen.contains(&50) && chosen.is_sorted());
    assert_eq!(choose(&[]), (Vec::new(), None));
}

#[test]
fn every_refusal_is_told_in_words() {
    for why in [
        StudentRefusal::NotInstalled,
        StudentRefusal::Late,
        StudentRefusal::Hot,
        StudentRefusal::Failed,
        StudentRefusal::NoVideo,
        StudentRefusal::NotAsked,
    ] {
        let report = report(StudentOutcome::Refused(why));
        let html = render(&EventPage { report: Some((&report, 1)), ..EventPage::default() });
        assert!(html.contains(&escape(words::refusal(why))), "{why:?}");
    }
}

#[test]
fn clipped_values_are_lower_bounds() {
    let mut report = report(StudentOutcome::Refused(StudentRefusal::NoVideo));
    let edr = report.edr.as_mut().unwrap();
    edr.delta_v.quality = Quality::Clipped;
    edr.peak.clipped = true;
    let html = render(&EventPage { report: Some((&report, 1)), ..EventPage::default() });
    assert!(html.contains("at least 30.5 km/h") && html.contains("at least 148.1 m/s²"));
}
