//! The evaluation as one page of HTML with nothing outside itself: tables, and plots as inline SVG. It reads and writes
//! no files; every text is escaped.

use super::judge::Judged;
use super::load::CLASSES;
use crate::page::escape;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;\
color:#1c2330;background:#fff}table{border-collapse:collapse;margin:.6rem 0 1.4rem}td,th{padding:.2rem .7rem;\
border-bottom:1px solid #d9dee6;text-align:left}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
figure{display:inline-block;margin:.5rem 1.2rem .8rem 0;vertical-align:top}figcaption{font-weight:600}\
svg{width:340px;height:auto}svg text{font:12px system-ui,sans-serif;fill:#1c2330}.grid{stroke:#d9dee6}\
.line{fill:none;stroke:#1f6fb2;stroke-width:2}.dot{fill:#1f6fb2}.ideal{stroke:#8a94a3;stroke-dasharray:4 4}\
.bar{fill:#1f6fb2}.wrong{fill:#b5472f}.mark{font-weight:600}";

/// Side of the square in which shares are drawn, and its left and top edge.
const SIDE: f64 = 240.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 12.0;

fn x(share: f64) -> f64 {
    LEFT + share.clamp(0.0, 1.0) * SIDE
}

fn y(share: f64) -> f64 {
    TOP + (1.0 - share.clamp(0.0, 1.0)) * SIDE
}

/// The page.
pub(crate) fn render(title: &str, judged: &Judged) -> String {
    let title = escape(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Evaluation</title><style>{STYLE}</style></head><body>\n\
         <h1>Evaluation</h1><p class=\"mark\">{title}</p>\n<p>Everything here is simulated. Intervals of 95 %: exact for \
         shares (Clopper and Pearson) and rates (Poisson), else a bootstrap over drives. A bootstrap of cases that are all \
         alike has no width; that does not make the figure certain.</p>\n"
    );
    figures(&mut html, judged);
    html.push_str(&matrix("Severity, the agent's kind", &judged.confusion_agent));
    if let Some(counts) = &judged.confusion_student {
        html.push_str(&matrix("Severity, the student", counts));
    }
    for (name, bins, curve) in [
        ("risk", &judged.reliability_risk, &judged.curve_risk),
        ("student's recognition", &judged.reliability_student, &judged.curve_student),
    ] {
        if !bins.is_empty() {
            html.push_str(&reliability(&format!("Reliability, {name}"), bins));
        }
        if !curve.is_empty() {
            html.push_str(&precision_recall(&format!("Precision and recall, {name}"), curve));
        }
    }
    families(&mut html, judged);
    html.push_str("</body></html>\n");
    html
}

fn figures(html: &mut String, judged: &Judged) {
    let mut group = "";
    for figure in &judged.figures {
        if figure.group != group {
            html.push_str(if group.is_empty() { "" } else { "</table>\n" });
            group = figure.group;
            html.push_str(&format!(
                "<h2>{}</h2><table><tr><th>figure<th class=\"n\">value<th class=\"n\">95 % interval<th class=\"n\">n\n",
                escape(group)
            ));
        }
        let [value, interval, at_most] = super::shown(figure);
        let mut name = escape(&figure.name);
        if !at_most.is_empty() {
            name.push_str(&format!("<br>{}", escape(&at_most)));
        }
        html.push_str(&format!(
            "<tr><td>{name}<td class=\"n\">{value}<td class=\"n\">{interval}<td class=\"n\">{}\n",
            figure.n
        ));
    }
    html.push_str(if group.is_empty() { "" } else { "</table>\n" });
}

/// A figure with axes from 0 to 1.
fn square(title: &str, [below, beside]: [&str; 2], inside: &str) -> String {
    let mut svg = String::new();
    for k in 0..=5 {
        let share = f64::from(k) / 5.0;
        let (at, up) = (x(share), y(share));
        svg.push_str(&format!(
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{up:.1}\" y2=\"{up:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{share:.1}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{share:.1}</text>",
            TOP + SIDE,
            LEFT + SIDE,
            TOP + SIDE + 16.0,
            LEFT - 5.0,
            up + 4.0
        ));
    }
    let title = escape(title);
    format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 300 300\" role=\"img\" aria-label=\"{title}\">{svg}\
         {inside}<text x=\"164\" y=\"290\" text-anchor=\"middle\">{below}</text><text transform=\"translate(11 132) \
         rotate(-90)\" text-anchor=\"middle\">{beside}</text></svg></figure>\n"
    )
}

fn reliability(title: &str, bins: &[(usize, f64, f64)]) -> String {
    let most = bins.iter().map(|b| b.0).max().unwrap_or(1) as f64;
    let mut inside =
        format!("<line class=\"ideal\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>", x(0.0), y(0.0), x(1.0), y(1.0));
    for (n, probability, share) in bins {
        // The area of a dot goes with its cases.
        let radius = 2.5 + 6.5 * (*n as f64 / most).sqrt();
        inside.push_str(&format!(
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"><title>{n} cases, said {probability:.3}, \
             happened {share:.3}</title></circle>",
            x(*probability),
            y(*share)
        ));
    }
    square(title, ["probability said", "share that happened"], &inside)
}

fn precision_recall(title: &str, curve: &[(f64, f64)]) -> String {
    let points: Vec<String> = curve.iter().map(|(r, p)| format!("{:.1},{:.1}", x(*r), y(*p))).collect();
    let mut inside = format!("<polyline class=\"line\" points=\"{}\"/>", points.join(" "));
    if let [(recall, precision)] = curve {
        inside.push_str(&format!(
            "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
            x(*recall),
            y(*precision)
        ));
    }
    square(title, ["recall", "precision"], &inside)
}

fn matrix(title: &str, counts: &[Vec<usize>]) -> String {
    let title = escape(title);
    let mut svg = String::new();
    for (row, (name, cells)) in CLASSES.iter().zip(counts).enumerate() {
        let all = cells.iter().sum::<usize>().max(1) as f64;
        let (name, top) = (name.replace('_', " "), 40.0 + 62.0 * row as f64);
        svg.push_str(&format!("<text x=\"96\" y=\"{}\" text-anchor=\"end\">{name}</text>", top + 34.0));
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"30\" text-anchor=\"middle\">{name}</text>",
            148.0 + 92.0 * row as f64
        ));
        for (column, n) in cells.iter().enumerate() {
            let (left, shade) = (102.0 + 92.0 * column as f64, *n as f64 / all);
            let class = if row == column { "bar" } else { "wrong" };
            svg.push_str(&format!(
                "<rect class=\"{class}\" fill-opacity=\"{:.2}\" x=\"{left}\" y=\"{top}\" width=\"90\" height=\"60\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{n}</text>",
                0.06 + 0.6 * shade,
                left + 45.0,
                top + 34.0
            ));
        }
    }
    format!(
        "<figure><figcaption>{title}: truth in rows, answer in columns</figcaption><svg viewBox=\"0 0 380 232\" role=\"img\" \
         aria-label=\"{title}\">{svg}</svg></figure>\n"
    )
}

fn families(html: &mut String, judged: &Judged) {
    let height = 20 * judged.families.len() + 8;
    let mut svg = String::new();
    for (row, (name, family)) in judged.families.iter().enumerate() {
        let top = 4 + 20 * row;
        let share = family.fired as f64 / family.drives.max(1) as f64;
        let class = if family.severity == "normal" { "wrong" } else { "bar" };
        svg.push_str(&format!(
            "<text x=\"196\" y=\"{}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"204\" y=\"{top}\" \
             width=\"{:.1}\" height=\"15\"/><text x=\"{:.1}\" y=\"{}\">{}/{}</text>",
            top + 12,
            escape(name),
            share * 220.0,
            210.0 + share * 220.0,
            top + 12,
            family.fired,
            family.drives
        ));
    }
    html.push_str(&format!(
        "<h2>By scenario</h2><p>Blue: drives whose event was noticed. Red: normal drives with a false event.</p>\
         <svg style=\"width:100%;max-width:520px\" viewBox=\"0 0 480 {height}\" role=\"img\" aria-label=\"By \
         scenario\">{svg}</svg>\n"
    ));
}
