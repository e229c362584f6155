//! The messages in words: key facts, the student's answers or refusal, evidence, grounding, and every field.

use agent_wire::{
    Alert, Answer, DeltaV, EdrSummary, PeakAcceleration, Quality, Report, StudentAnswers, StudentOutcome,
};

use super::EventPage;
use super::html::{Rows, escape};
use super::words;

/// The few numbers at the top.
pub(crate) fn key_facts(page: &EventPage<'_>) -> Vec<(&'static str, String)> {
    let (alert, edr) = (page.alert.map(|(a, _)| a), page.report.and_then(|(r, _)| r.edr.as_ref()));
    let mut facts = Vec::new();
    if let Some(edr) = edr.filter(|e| e.delta_v.quality != Quality::Absent) {
        let bound = if edr.delta_v.quality == Quality::Clipped { "at least " } else { "" };
        let value = words::tenths(i32::from(edr.max_delta_v_dkmh), "km/h");
        facts.push(("Largest delta-V", format!("{bound}{value}")));
    } else if let Some(delta_v) = alert.and_then(|a| a.delta_v.as_ref()) {
        facts.push(("Delta-V so far", resultant(delta_v)));
    }
    let peak = edr.map(|e| e.peak).or(alert.and_then(|a| a.peak));
    facts.extend(peak.map(|p| ("Peak acceleration", peak_value(&p))));
    let speed = edr.and_then(|e| e.speed_at_dkmh).or(alert.and_then(|a| a.speed_dkmh));
    let speed = speed.map_or("not known".to_owned(), |v| words::tenths(i32::from(v), "km/h"));
    facts.push(("Speed at time zero", speed));
    if let Some(brake) = edr.and_then(|e| e.brake_on) {
        facts.push(("Brake at time zero", if brake { "on" } else { "off" }.to_owned()));
    }
    for (name, losses) in [
        ("Lost before the alert", alert.map(|a| a.losses)),
        ("Lost since the alert", page.report.map(|(r, _)| r.losses)),
    ] {
        facts.extend(losses.filter(|l| !l.is_zero()).map(|l| (name, words::losses(&l))));
    }
    facts
}

fn resultant(delta_v: &DeltaV) -> String {
    if delta_v.quality == Quality::Absent {
        return "not known".to_owned();
    }
    let (x, y) = (f64::from(delta_v.longitudinal_dkmh), f64::from(delta_v.lateral_dkmh));
    let bound = if delta_v.quality == Quality::Clipped { "at least " } else { "" };
    format!("{bound}{:.1} km/h", (x * x + y * y).sqrt() * 0.1)
}

fn peak_value(peak: &PeakAcceleration) -> String {
    let bound = if peak.clipped { "at least " } else { "" };
    format!("{bound}{:.1} m/s²", f64::from(peak.magnitude_cmps2) * 0.01)
}

fn delta_v_rows(rows: &mut Rows, delta_v: &DeltaV) {
    if delta_v.quality == Quality::Absent {
        rows.text("Delta-V", "not known");
        return;
    }
    if delta_v.axes_known {
        rows.text("Delta-V, longitudinal", &words::tenths(i32::from(delta_v.longitudinal_dkmh), "km/h"));
        rows.text("Delta-V, lateral", &words::tenths(i32::from(delta_v.lateral_dkmh), "km/h"));
    } else {
        let value = words::tenths(i32::from(delta_v.longitudinal_dkmh), "km/h");
        rows.text("Delta-V, horizontal magnitude", &format!("{value} (the vehicle's axes are not known)"));
    }
    rows.text("Delta-V, integrated over", &format!("{} ms", delta_v.window_ms));
    rows.text("Delta-V, quality", words::quality(delta_v.quality));
}

pub(crate) fn student(out: &mut String, page: &EventPage<'_>) {
    out.push_str("<section><h2>What happened, in words</h2>\n");
    match page.report.map(|(r, _)| &r.student) {
        Some(StudentOutcome::Answered(answers)) => out.push_str(&answered(page, answers)),
        Some(StudentOutcome::Refused(why)) => {
            out.push_str(&format!("<p class=\"refusal\">{}</p>\n", escape(words::refusal(*why))));
        }
        None => out.push_str("<p class=\"refusal\">There is no report yet, so nobody has described the video.</p>\n"),
    }
    for fall in page.report.map_or(&[][..], |(r, _)| r.student_falls.as_slice()) {
        let (step, why) = (ladder_step(fall.step), words::ladder(fall.reason));
        out.push_str(&format!("<p class=\"note\">{} gave no answer: {why}.</p>\n", escape(&step)));
    }
    out.push_str("</section>\n");
}

fn answer<const N: usize>(answer: &Answer<N>, known: Option<&str>, codebook: u16) -> String {
    match answer {
        Answer::Known { code, probability_e4 } => {
            let words = known.map_or(format!("answer {code} of codebook {codebook}"), str::to_owned);
            format!("{words} ({})", words::probability(*probability_e4))
        }
        Answer::Text { text, probability_e4 } => format!("{text} ({})", words::probability(*probability_e4)),
        Answer::Absent => "no usable answer".to_owned(),
    }
}

fn ladder_step(step: u8) -> String {
    match step {
        0 => "full model".to_owned(),
        1 => "smaller budget".to_owned(),
        2 => "small model on the CPU".to_owned(),
        other => format!("step {other}"),
    }
}

fn answered(page: &EventPage<'_>, a: &StudentAnswers) -> String {
    let mut rows = Rows::default();
    rows.text("Description", &answer(&a.description, page.answers.description, a.codebook));
    rows.text("Likely cause", &answer(&a.cause, page.answers.cause, a.codebook));
    rows.text("Would have prevented it", &answer(&a.prevention, page.answers.prevention, a.codebook));
    let interval = |interval: Option<agent_wire::Interval>| {
        interval.map_or("none given".to_owned(), |i| {
            let end = if i.to_ms == i.from_ms { String::new() } else { format!(" to {}", words::ms(i.to_ms)) };
            format!("{}{end} ({})", words::ms(i.from_ms), words::probability(i.probability_e4))
        })
    };
    rows.text("When it happens", &interval(a.crash));
    rows.text("First visible sign", &interval(a.pre_crash));
    if let Some(s) = &a.severity {
        let [c, n, o] = [s.collision_e4, s.near_collision_e4, s.normal_e4].map(words::probability);
        rows.text("Severity", &format!("collision {c}, near-collision {n}, normal {o}"));
    }
    let sure = if a.calibrated { "calibrated" } else { "not calibrated: usually too sure" };
    rows.text("A collision happens", &format!("{} ({sure})", words::probability(a.recognition_e4)));
    let step = ladder_step(a.ladder_step);
    rows.text("Answered by", &format!("model {} ({step})", a.model));
    if let Some(what) = page.answers.trained_on {
        rows.text("Knows", &format!("{what} roads only: of real ones its answers say nothing"));
    }
    let beside = if a.telemetry { ", with telemetry" } else { "" };
    rows.text("Looked at", &format!("{} frames{beside}", a.frames));
    if a.total_ms > 0 {
        rows.text("Took", &format!("{} ms to the label, {} ms in all", a.label_ms, a.total_ms));
    }
    let note = "<p class=\"note\">Answers of a language model that looked at the video. They can be wrong; the checks \
                below hold them against the measurements.</p>\n";
    rows.table("The student's answers") + note
}

pub(crate) fn evidence(out: &mut String, page: &EventPage<'_>) {
    out.push_str("<section><h2>Why this event was made</h2>\n");
    let items: &[agent_wire::Evidence] = page.alert.map_or(&[], |(a, _)| a.evidence.as_slice());
    if items.is_empty() {
        out.push_str("<p class=\"empty\">No evidence is listed.</p></section>\n");
        return;
    }
    out.push_str("<table class=\"wide\"><thead><tr><th scope=\"col\">Measurement</th><th scope=\"col\">Value</th><th scope=\"col\">Threshold</th><th scope=\"col\">When</th></tr></thead><tbody>\n");
    for item in items {
        let [name, value, threshold, when] = words::evidence(item).map(|text| escape(&text));
        out.push_str(&format!(
            "<tr><th scope=\"row\">{name}</th><td>{value}</td><td>{threshold}</td><td>{when}</td></tr>\n"
        ));
    }
    out.push_str("</tbody></table></section>\n");
}

pub(crate) fn grounding(out: &mut String, page: &EventPage<'_>) {
    out.push_str("<section><h2>Do words and measurements agree?</h2>\n");
    let mut rows = Rows::default();
    for item in page.report.map_or(&[][..], |(r, _)| r.grounding.as_slice()) {
        let (word, class) = words::verdict(item.verdict);
        rows.html(words::check(item.check), &format!("<span class=\"verdict {class}\">{}</span>", escape(word)));
    }
    let table = rows.table("Checks");
    out.push_str(if table.is_empty() { "<p class=\"empty\">No checks were made.</p>" } else { &table });
    out.push_str("</section>\n");
}

/// Every field of both messages.
pub(crate) fn decoded(out: &mut String, page: &EventPage<'_>) {
    out.push_str("<section><h2>Decoded messages</h2>\n<div class=\"tables\">\n<div>");
    match page.alert {
        Some((alert, bytes)) => out.push_str(&alert_rows(alert, bytes).table("Alert")),
        None => out.push_str("<p class=\"empty\">No alert was given.</p>"),
    }
    out.push_str("</div>\n<div>");
    match page.report {
        Some((report, bytes)) => {
            out.push_str(&report_rows(report, bytes).table("Report"));
            out.push_str(&report.edr.as_ref().map_or(String::new(), |edr| edr_rows(edr).table("Event data")));
        }
        None => out.push_str("<p class=\"empty\">No report was given.</p>"),
    }
    out.push_str("</div>\n</div></section>\n");
}

fn model(hash: Option<agent_wire::Hash8>) -> String {
    hash.map_or("none".to_owned(), |h| h.to_string())
}

fn alert_rows(alert: &Alert, bytes: usize) -> Rows {
    let mut rows = Rows::default();
    rows.text("Size on the wire", &format!("{bytes} bytes"));
    rows.text("Revision", &alert.revision.to_string());
    rows.text("Kind", words::kind(alert.kind));
    rows.text("Severity", words::severity(alert.severity).0);
    rows.text("Time zero", &words::time(&alert.time));
    rows.text("Position", &alert.position.as_ref().map_or("not known".to_owned(), words::position));
    let speed = alert.speed_dkmh.map_or("not known".to_owned(), |v| words::tenths(i32::from(v), "km/h"));
    rows.text("Speed at time zero", &speed);
    let unmeasured = if alert.flags.no_telemetry { "no IMU" } else { "not measured when this was sent" };
    let peak =
        alert.peak.map_or(unmeasured.to_owned(), |p| format!("{} at {}", peak_value(&p), words::ms(p.at_ms.into())));
    rows.text("Peak acceleration so far", &peak);
    match &alert.delta_v {
        Some(delta_v) => delta_v_rows(&mut rows, delta_v),
        None => rows.text("Delta-V", unmeasured),
    }
    rows.text("Mounting angle known", &format!("{} %", alert.alignment_pct));
    rows.text("Circumstances", &words::flags(alert.flags));
    rows.text("Losses before the alert", &words::losses(&alert.losses));
    rows.text("Configuration", &alert.config.to_string());
    rows.text("Trigger model", &model(alert.trigger_model));
    rows
}

fn report_rows(report: &Report, bytes: usize) -> Rows {
    let mut rows = Rows::default();
    rows.text("Size on the wire", &format!("{bytes} bytes"));
    rows.text("Kind", words::kind(report.kind));
    rows.text("Severity", words::severity(report.severity).0);
    rows.text("Time zero", &words::time(&report.time));
    match &report.evidence_file {
        Some(file) => {
            rows.text("Evidence file", &file.name);
            rows.text("Evidence file, size", &format!("{} bytes", file.bytes));
            rows.text("Evidence file, SHA-256", &format!("{}…", file.sha256_8));
        }
        None => rows.text("Evidence file", "none: it could not be written"),
    }
    rows.text("Circumstances", &words::flags(report.flags));
    rows.text("Losses since the alert", &words::losses(&report.losses));
    rows.text("Configuration", &report.config.to_string());
    rows.text("Trigger model", &model(report.trigger_model));
    rows
}

fn edr_rows(edr: &EdrSummary) -> Rows {
    let mut rows = Rows::default();
    let unknown = || "not known".to_owned();
    delta_v_rows(&mut rows, &edr.delta_v);
    let at = format!("{:.1} ms", f64::from(edr.max_delta_v_at_dms) * 0.1);
    rows.text("Largest delta-V", &format!("{} at +{at}", words::tenths(i32::from(edr.max_delta_v_dkmh), "km/h")));
    rows.text("Peak acceleration", &format!("{} at {}", peak_value(&edr.peak), words::ms(i32::from(edr.peak.at_ms))));
    let speed = |v: Option<u16>| v.map_or_else(unknown, |v| words::tenths(i32::from(v), "km/h"));
    rows.text("Speed 5 s before", &speed(edr.speed_before_dkmh));
    rows.text("Speed at time zero", &speed(edr.speed_at_dkmh));
    rows.text("Speeds, quality", words::quality(edr.speed_quality));
    let brake = edr.brake_on.map_or_else(unknown, |on| if on { "on" } else { "off" }.to_owned());
    rows.text("Brake at time zero", &brake);
    rows.text("Brake had been on for", &edr.brake_before_ms.map_or_else(unknown, |ms| format!("{ms} ms")));
    rows.text("Impacts", &edr.impacts.to_string());
    if let Some(gap) = edr.gap_ds {
        rows.text("Between the first two", &words::tenths(i32::from(gap), "s"));
    }
    rows.text("Recording", if edr.complete { "complete" } else { "not complete" });
    rows
}
