//! The event page: one HTML file that shows an event to a person, with nothing outside itself.
//!
//! It holds a film strip, plots of acceleration, speed and delta-V about time zero, and the alert and the report in
//! words and as JSON. Images are data URIs, plots inline SVG; there is no script. Times are milliseconds from *time
//! zero* of the event, before it negative.
//!
//! What it never does: read or write files, trust a text (all are escaped and cut), draw more than [`limits`] allow, or
//! leave out that the input was simulated or replayed.

mod html;
mod limits;
mod plot;
mod tables;
mod words;

use agent_wire::{Alert, EventId, EventKind, EventTime, Flags, Report, Severity};

pub(crate) use html::escape;
use html::{base64, escape_whole};
use limits::{MAX_FRAMES, MAX_JPEG_BYTES, MAX_MARKS};
use plot::{Curve, Plot};

/// A camera frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageFrame<'a> {
    /// Milliseconds from time zero.
    pub(crate) at_ms: i32,
    /// The image as a JPEG file.
    pub(crate) jpeg: &'a [u8],
}

/// Acceleration without gravity at an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccelPoint {
    /// Milliseconds from time zero.
    pub(crate) at_ms: f32,
    /// Forward, left and up, m/s^2. When the axes are not known only the first is used: the magnitude.
    pub(crate) mps2: [f32; 3],
}

/// Speeds from one source.
#[derive(Clone, Debug)]
pub(crate) struct SpeedSeries<'a> {
    /// Where they come from: `vehicle bus`, `GNSS`.
    pub(crate) source: &'a str,
    /// Milliseconds from time zero, and km/h.
    pub(crate) points: Vec<(f32, f32)>,
}

/// Delta-V since time zero at an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaVPoint {
    /// Milliseconds from time zero.
    pub(crate) at_ms: f32,
    /// Forward and left, km/h. When the axes are not known only the first is used: the horizontal magnitude.
    pub(crate) kmh: [f32; 2],
}

/// The student's answers in words: a report holds known answers as codes, and the codebook is the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AnswerWords<'a> {
    /// Who hits whom.
    pub(crate) description: Option<&'a str>,
    /// The cause.
    pub(crate) cause: Option<&'a str>,
    /// What would have prevented it.
    pub(crate) prevention: Option<&'a str>,
    /// What the model was trained on, where its file says so: `simulated`.
    pub(crate) trained_on: Option<&'a str>,
}

/// What the page shows. Everything may be missing; what is missing is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventPage<'a> {
    /// What the event was found in, in words: `demo drive, seed 7`, a file's name.
    pub(crate) source: &'a str,
    /// Name and version of the program.
    pub(crate) program: &'a str,
    /// The last alert of the event and its size on the wire, bytes.
    pub(crate) alert: Option<(&'a Alert, usize)>,
    /// The report and its size on the wire, bytes.
    pub(crate) report: Option<(&'a Report, usize)>,
    /// The student's answers in words.
    pub(crate) answers: AnswerWords<'a>,
    /// Frames about the event, in the order of time.
    pub(crate) frames: Vec<PageFrame<'a>>,
    /// Whether `accel` and `delta_v` are in the vehicle's axes.
    pub(crate) axes_known: bool,
    /// Acceleration, in the order of time.
    pub(crate) accel: Vec<AccelPoint>,
    /// Speed, one series a source.
    pub(crate) speed: Vec<SpeedSeries<'a>>,
    /// Delta-V, in the order of time.
    pub(crate) delta_v: Vec<DeltaVPoint>,
    /// Other instants to mark in the plots: milliseconds from time zero, and a name of a few words.
    pub(crate) marks: Vec<(f32, &'a str)>,
}

/// What alert and report both say.
struct Common<'a> {
    event: &'a EventId,
    kind: EventKind,
    severity: Severity,
    time: EventTime,
    flags: Flags,
}

impl<'a> EventPage<'a> {
    /// From the report where there is one: it is the later word. Flags of either count.
    fn common(&self) -> Option<Common<'a>> {
        let alert = self.alert.map(|(a, _)| (&a.event, a.kind, a.severity, a.time, a.flags));
        let report = self.report.map(|(r, _)| (&r.event, r.kind, r.severity, r.time, r.flags));
        let (event, kind, severity, time, mut flags) = report.or(alert)?;
        if let Some((.., other)) = alert {
            flags.simulated |= other.simulated;
            flags.replayed |= other.replayed;
        }
        Some(Common { event, kind, severity, time, flags })
    }
}

/// The page as one HTML document.
pub(crate) fn render(page: &EventPage<'_>) -> String {
    let common = page.common();
    let title = common.as_ref().map_or("Event".to_owned(), |c| format!("{}, {}", words::kind(c.kind), c.event));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"/>\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escape(&title),
        include_str!("style.css")
    );
    banner(&mut out, page, common.as_ref());
    header(&mut out, page, common.as_ref());
    film_strip(&mut out, &page.frames);
    plots(&mut out, page);
    tables::student(&mut out, page);
    tables::evidence(&mut out, page);
    tables::grounding(&mut out, page);
    tables::decoded(&mut out, page);
    json(&mut out, page);
    out.push_str(&format!(
        "<footer>Made by {}. Times are from time zero, the start of the event. Event data are Part 563-style; they \
         are no certified event data recorder's.</footer>\n</main>\n</body>\n</html>\n",
        escape(page.program)
    ));
    out
}

/// Says first of all that this is no real event, where it is none.
fn banner(out: &mut String, page: &EventPage<'_>, common: Option<&Common<'_>>) {
    let Some(flags) = common.map(|c| c.flags) else { return };
    let (title, text) = match (flags.simulated, flags.replayed) {
        (true, _) => {
            ("SIMULATED INPUT", "This event did not happen: its input was made by a simulator, wholly or in part.")
        }
        (false, true) => {
            ("REPLAYED INPUT", "This event comes from a logged drive, not from a vehicle on the road now.")
        }
        (false, false) => return,
    };
    let source = if page.source.is_empty() { String::new() } else { format!(" Input: {}.", escape(page.source)) };
    out.push_str(&format!("<p class=\"banner\" role=\"note\"><strong>{title}.</strong> {text}{source}</p>\n"));
}

fn header(out: &mut String, page: &EventPage<'_>, common: Option<&Common<'_>>) {
    let Some(common) = common else {
        out.push_str("<header><h1>Event</h1><p class=\"sub\">Neither an alert nor a report was given.</p></header>\n");
        return;
    };
    let (severity, class) = words::severity(common.severity);
    out.push_str(&format!(
        "<header><h1>{} <span class=\"badge {class}\">{severity}</span></h1>\n<p class=\"sub\">Unit {} · event {}",
        words::kind(common.kind),
        escape(common.event.unit.as_str()),
        escape(&common.event.to_string())
    ));
    let alert = page.alert.map(|(a, _)| a);
    let position = alert.and_then(|a| a.position.as_ref()).map_or("position not known".to_owned(), words::position);
    out.push_str(&format!(
        "<br/>{}<br/>{}</p>\n<dl class=\"facts\">\n",
        escape(&words::time(&common.time)),
        escape(&position)
    ));
    for (name, value) in tables::key_facts(page) {
        out.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(&value)));
    }
    out.push_str("</dl></header>\n");
}

/// Which frames are shown: all, or the one nearest to time zero and an even choice of the others. Returns their
/// indices and which one is at the event.
fn choose(frames: &[PageFrame<'_>]) -> (Vec<usize>, Option<usize>) {
    let nearest = (0..frames.len()).min_by_key(|i| frames.get(*i).map_or(u32::MAX, |f| f.at_ms.unsigned_abs()));
    let Some(event) = nearest else { return (Vec::new(), None) };
    let mut chosen: Vec<usize> = if frames.len() <= MAX_FRAMES {
        (0..frames.len()).collect()
    } else {
        (0..MAX_FRAMES).map(|k| k * (frames.len() - 1) / (MAX_FRAMES - 1)).collect()
    };
    if let Some(slot) = chosen.iter_mut().min_by_key(|i| i.abs_diff(event)) {
        *slot = event;
    }
    (chosen, Some(event))
}

fn film_strip(out: &mut String, frames: &[PageFrame<'_>]) {
    out.push_str("<section><h2>Film strip</h2>\n");
    let (chosen, event) = choose(frames);
    if chosen.is_empty() {
        out.push_str("<p class=\"empty\">No camera frames of this event.</p></section>\n");
        return;
    }
    out.push_str("<div class=\"strip\">\n");
    for i in chosen {
        let Some(frame) = frames.get(i) else { continue };
        let when = words::seconds(frame.at_ms);
        let (class, tag) = if Some(i) == event { (" class=\"event\"", "<b>event</b>") } else { ("", "") };
        let image = if !frame.jpeg.starts_with(&[0xff, 0xd8, 0xff]) {
            "<p class=\"none\">not a JPEG image</p>".to_owned()
        } else if frame.jpeg.len() > MAX_JPEG_BYTES {
            format!("<p class=\"none\">image of {} bytes left out</p>", frame.jpeg.len())
        } else {
            format!("<img src=\"data:image/jpeg;base64,{}\" alt=\"camera frame at {when}\"/>", base64(frame.jpeg))
        };
        out.push_str(&format!("<figure{class}>{image}<figcaption><span>{when}</span>{tag}</figcaption></figure>\n"));
    }
    out.push_str("</div></section>\n");
}

/// First and last finite time of some instants, widened so that time zero is in it.
fn range(times: impl Iterator<Item = f32>) -> (f64, f64) {
    let (low, high) =
        times.filter(|t| t.is_finite()).fold((0.0f64, 0.0f64), |(l, h), t| (l.min(f64::from(t)), h.max(f64::from(t))));
    if low < high { (low, high) } else { (-1000.0, 1000.0) }
}

fn plots(out: &mut String, page: &EventPage<'_>) {
    let marks: Vec<(f64, &str)> = page.marks.iter().take(MAX_MARKS).map(|(t, name)| (f64::from(*t), *name)).collect();
    let names: &[&str] = if page.axes_known { &["longitudinal", "lateral", "vertical"] } else { &["magnitude"] };
    let acceleration = |range_ms, title| {
        let one = |(axis, name): (usize, &&'static str)| Curve {
            name,
            samples: page
                .accel
                .iter()
                .map(|p| (f64::from(p.at_ms), f64::from(p.mps2.get(axis).copied().unwrap_or(f32::NAN))))
                .collect(),
        };
        let curves = names.iter().enumerate().map(one).collect();
        Plot { title, unit: "acceleration, m/s²", range_ms, curves, marks: marks.clone() }
    };
    let speed_range = range(page.speed.iter().flat_map(|s| s.points.iter().map(|p| p.0)));
    let speed_curve = |series: &'_ SpeedSeries<'_>| -> Vec<(f64, f64)> {
        series.points.iter().map(|(t, v)| (f64::from(*t), f64::from(*v))).collect()
    };
    let accel_range = range(page.accel.iter().map(|p| p.at_ms));
    let delta_names: &[&str] = if page.axes_known { &["longitudinal", "lateral"] } else { &["horizontal magnitude"] };
    let delta_curve = |(axis, name): (usize, &&'static str)| Curve {
        name,
        samples: page
            .delta_v
            .iter()
            .map(|p| (f64::from(p.at_ms), f64::from(p.kmh.get(axis).copied().unwrap_or(f32::NAN))))
            .collect(),
    };
    let all = [
        Plot {
            title: "Speed",
            unit: "speed, km/h",
            range_ms: speed_range,
            curves: page.speed.iter().map(|s| Curve { name: s.source, samples: speed_curve(s) }).collect(),
            marks: marks.clone(),
        },
        acceleration(accel_range, "Acceleration without gravity"),
        acceleration((-100.0, 300.0), "Acceleration about time zero"),
        Plot {
            title: "Delta-V since time zero",
            unit: "delta-V, km/h",
            range_ms: (-20.0, 300.0),
            curves: delta_names.iter().enumerate().map(delta_curve).collect(),
            marks,
        },
    ];
    out.push_str("<section><h2>Measurements</h2>\n<div class=\"plots\">\n");
    all.iter().for_each(|plot| out.push_str(&plot.figure()));
    out.push_str("</div></section>\n");
}

fn json(out: &mut String, page: &EventPage<'_>) {
    out.push_str("<section><h2>Messages as JSON</h2>\n");
    let mut one = |name: &str, text: Option<serde_json::Result<String>>| match text {
        Some(Ok(text)) => {
            out.push_str(&format!("<details><summary>{name}</summary><pre>{}</pre></details>\n", escape_whole(&text)));
        }
        Some(Err(error)) => {
            out.push_str(&format!("<p class=\"empty\">{name}: cannot be shown: {}</p>\n", escape(&error.to_string())));
        }
        None => out.push_str(&format!("<p class=\"empty\">{name}: none.</p>\n")),
    };
    one("Alert", page.alert.map(|(alert, _)| serde_json::to_string_pretty(alert)));
    one("Report", page.report.map(|(report, _)| serde_json::to_string_pretty(report)));
    out.push_str("</section>\n");
}

#[cfg(test)]
mod tests;
