//! Line plots as inline SVG: axes with units and ticks, curves thinned out without losing a peak, marks in time.
//! Colours come from the page's style sheet, so that one drawing serves light, dark and paper.

use super::html::escape;
use super::limits::{CURVE_BINS, MAX_CURVES, MAX_MARKS};

/// Size of the drawing in its own units; text is 13 of them high, readable on a phone's width.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
/// Above the drawing stand the unit and, below it, three lines of marks' names.
const TOP: f64 = 66.0;
const MARK_LINES: usize = 3;
const BOTTOM: f64 = 44.0;

/// One value of a curve: milliseconds from time zero, and the value. Values that are no numbers break the curve.
pub(crate) type Sample = (f64, f64);

/// One curve.
pub(crate) struct Curve<'a> {
    /// Its name in the legend.
    pub(crate) name: &'a str,
    /// Its samples, in the order of time.
    pub(crate) samples: Vec<Sample>,
}

/// One plot.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    /// Quantity and unit of the vertical axis.
    pub(crate) unit: &'a str,
    /// Range of time shown, milliseconds from time zero.
    pub(crate) range_ms: (f64, f64),
    pub(crate) curves: Vec<Curve<'a>>,
    /// Instants to mark besides time zero.
    pub(crate) marks: Vec<(f64, &'a str)>,
}

/// A curve after thinning: pieces of unbroken line.
type Pieces = Vec<Vec<Sample>>;

/// Lowest and highest value of a bin, and whether the line is broken before it.
#[derive(Clone, Copy)]
struct Bin {
    low: Sample,
    high: Sample,
    broken: bool,
}

/// Thins a curve to at most two points a bin; the lowest and the highest value of each bin stay, so a peak of one
/// sample is still there.
fn thin(samples: &[Sample], (from, to): (f64, f64)) -> Pieces {
    let mut bins: Vec<Option<Bin>> = vec![None; CURVE_BINS];
    let mut broken = false;
    for &(t, value) in samples.iter().filter(|(t, _)| *t >= from && *t <= to) {
        if !value.is_finite() {
            broken = true;
            continue;
        }
        let at = ((t - from) / (to - from) * CURVE_BINS as f64) as usize;
        let Some(slot) = bins.get_mut(at.min(CURVE_BINS - 1)) else { continue };
        match slot {
            Some(bin) if value < bin.low.1 => bin.low = (t, value),
            Some(bin) if value > bin.high.1 => bin.high = (t, value),
            Some(_) => {}
            None => *slot = Some(Bin { low: (t, value), high: (t, value), broken }),
        }
        broken = false;
    }
    let mut pieces: Pieces = Vec::new();
    for bin in bins.into_iter().flatten() {
        if bin.broken || pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let Some(piece) = pieces.last_mut() else { continue };
        let (first, second) = if bin.low.0 <= bin.high.0 { (bin.low, bin.high) } else { (bin.high, bin.low) };
        piece.push(first);
        if second != first {
            piece.push(second);
        }
    }
    pieces
}

/// A step of 1, 2 or 5 times a power of ten that cuts `range` into at most `most` parts.
fn tick_step(range: f64, most: f64) -> f64 {
    let raw = range / most;
    let mut step = 1e-3;
    for _ in 0..80 {
        for factor in [1.0, 2.0, 5.0] {
            if step * factor >= raw {
                return step * factor;
            }
        }
        step *= 10.0;
    }
    range
}

/// Ticks within a range, at most a few dozen whatever the range.
fn ticks(low: f64, high: f64, most: f64) -> (f64, Vec<f64>) {
    let step = tick_step(high - low, most);
    let first = (low / step - 1e-9).ceil();
    let all = (0..40).map(|k| (first + f64::from(k)) * step).take_while(|t| *t <= high + step * 1e-6).collect();
    (step, all)
}

fn number(value: f64, step: f64) -> String {
    let decimals = if step >= 1.0 {
        0
    } else if step >= 0.1 {
        1
    } else if step >= 0.01 {
        2
    } else {
        3
    };
    let text = if value.abs() >= 1e6 { format!("{value:.0e}") } else { format!("{:.decimals$}", value + 0.0) };
    // A real minus sign, and none before zero.
    if value.abs() < step * 1e-6 { "0".to_owned() } else { text.replace('-', "\u{2212}") }
}

/// The frame of a plot: from time and value to drawing units.
struct Frame {
    t: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn x(&self, t: f64) -> f64 {
        LEFT + (t - self.t.0) / (self.t.1 - self.t.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }
}

impl Plot<'_> {
    /// The plot as a figure; a sentence in its place when it has no values.
    pub(crate) fn figure(&self) -> String {
        let range_is_sound =
            self.range_ms.0.is_finite() && self.range_ms.1.is_finite() && self.range_ms.0 < self.range_ms.1;
        let thinned: Vec<(&str, Pieces)> = if range_is_sound {
            self.curves.iter().take(MAX_CURVES).map(|c| (c.name, thin(&c.samples, self.range_ms))).collect()
        } else {
            Vec::new()
        };
        let values = || thinned.iter().flat_map(|(_, pieces)| pieces.iter().flatten().map(|(_, v)| *v));
        let title = escape(self.title);
        if values().next().is_none() {
            return format!(
                "<figure class=\"plot\"><figcaption>{title}</figcaption><p class=\"empty\">No values.</p></figure>\n"
            );
        }
        let (low, high) = values().fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let room = ((high - low) * 0.06).max(0.05);
        let frame = Frame {
            t: self.range_ms,
            y: (if low < 0.0 { low - room } else { 0.0 }, if high > 0.0 || low == 0.0 { high + room } else { 0.0 }),
        };
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}, {}\">\n",
            escape(self.unit)
        );
        axes(&mut svg, &frame, self.unit);
        marks(&mut svg, &frame, &self.marks);
        for (i, (_, pieces)) in thinned.iter().enumerate() {
            curve(&mut svg, &frame, i, pieces);
        }
        svg.push_str("</svg>");
        format!("<figure class=\"plot\"><figcaption>{title}</figcaption>{svg}{}</figure>\n", legend(&thinned))
    }
}

fn axes(svg: &mut String, frame: &Frame, unit: &str) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let (step, values) = ticks(frame.y.0, frame.y.1, 5.0);
    for value in values {
        let y = frame.y(value);
        let class = if value.abs() < step * 1e-6 { "zero" } else { "grid" };
        svg.push_str(&format!("<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"));
        let (x, y, text) = (LEFT - 7.0, y + 4.5, number(value, step));
        svg.push_str(&format!("<text class=\"end\" x=\"{x}\" y=\"{y:.1}\">{text}</text>\n"));
    }
    // Long ranges read better in seconds.
    let seconds = frame.t.1 - frame.t.0 > 2000.0;
    let (scale, name) = if seconds { (1000.0, "seconds from time zero") } else { (1.0, "milliseconds from time zero") };
    let (step, times) = ticks(frame.t.0 / scale, frame.t.1 / scale, 7.0);
    for time in times {
        let (x, y) = (frame.x(time * scale), bottom + 17.0);
        svg.push_str(&format!(
            "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>",
            bottom + 4.0
        ));
        svg.push_str(&format!("<text class=\"middle\" x=\"{x:.1}\" y=\"{y}\">{}</text>\n", number(time, step)));
    }
    svg.push_str(&format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"));
    let (x, y) = ((LEFT + right) / 2.0, HEIGHT - 8.0);
    svg.push_str(&format!("<text class=\"middle name\" x=\"{x}\" y=\"{y}\">{name}</text>\n"));
    svg.push_str(&format!("<text class=\"name\" x=\"4\" y=\"14\">{}</text>\n", escape(unit)));
}

/// Time zero and the other marks; names of marks that lie close together step down a line.
fn marks(svg: &mut String, frame: &Frame, others: &[(f64, &str)]) {
    let bottom = HEIGHT - BOTTOM;
    let zero = [(0.0, "time zero")];
    let mut rows = [f64::MIN; MARK_LINES];
    let mut all: Vec<&(f64, &str)> = zero.iter().chain(others.iter().take(MAX_MARKS)).collect();
    all.retain(|(t, _)| *t >= frame.t.0 && *t <= frame.t.1);
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (t, name) in all {
        let x = frame.x(*t);
        let text: String = name.chars().take(24).collect();
        let wide = text.chars().count() as f64 * 6.6 + 8.0;
        // To the right of the line, or to its left where the drawing ends.
        let turned = x + wide > WIDTH - 2.0;
        let begin = if turned { x - wide } else { x };
        let row = rows.iter().position(|end| *end <= begin).unwrap_or(rows.len() - 1);
        if let Some(end) = rows.get_mut(row) {
            *end = begin + wide;
        }
        let class = if *t == 0.0 && *name == "time zero" { "event" } else { "mark" };
        let (label_x, anchor) = if turned { (x - 4.0, "end") } else { (x + 4.0, "start") };
        let label_y = TOP - 6.0 - 14.0 * (MARK_LINES - 1 - row) as f64;
        let line_y = label_y - 9.0;
        svg.push_str(&format!("<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{line_y}\" y2=\"{bottom}\"/>"));
        let text = escape(&text);
        svg.push_str(&format!("<text class=\"{class} {anchor}\" x=\"{label_x:.1}\" y=\"{label_y}\">{text}</text>\n"));
    }
}

fn curve(svg: &mut String, frame: &Frame, index: usize, pieces: &Pieces) {
    let mut path = String::new();
    for piece in pieces {
        for (k, (t, value)) in piece.iter().enumerate() {
            let letter = if k == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{letter}{:.1} {:.1}", frame.x(*t), frame.y(*value)));
        }
        // A piece of one point is still seen, thanks to round caps.
        if piece.len() == 1 {
            path.push_str("h0.1");
        }
    }
    svg.push_str(&format!("<path class=\"curve c{index}\" d=\"{path}\"/>\n"));
}

fn legend(curves: &[(&str, Pieces)]) -> String {
    let items = curves.iter().enumerate().filter(|(_, (_, pieces))| !pieces.is_empty()).map(|(i, (name, _))| {
        let line = format!("<svg class=\"key\" viewBox=\"0 0 28 8\" aria-hidden=\"true\"><path class=\"curve c{i}\" d=\"M1 4H27\"/></svg>");
        format!("<li>{line}{}</li>", escape(name))
    });
    format!("<ul class=\"legend\">{}</ul>", items.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_of_one_sample_in_a_million_stays() {
        let mut samples: Vec<Sample> = (0..1_000_000).map(|i| (f64::from(i), 1.0)).collect();
        samples[654_321].1 = -77.0;
        samples[654_322].1 = 99.0;
        let pieces = thin(&samples, (0.0, 1e6));
        let all: Vec<Sample> = pieces.into_iter().flatten().collect();
        assert!(all.len() <= 1000, "{}", all.len());
        assert!(all.contains(&(654_321.0, -77.0)) && all.contains(&(654_322.0, 99.0)));
        assert!(all.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn what_is_no_number_breaks_the_line_and_is_never_drawn() {
        let samples = [(0.0, 1.0), (10.0, 2.0), (50.0, f64::NAN), (90.0, 3.0), (f64::NAN, 5.0), (95.0, f64::INFINITY)];
        let pieces = thin(&samples, (0.0, 100.0));
        assert_eq!(pieces, vec![vec![(0.0, 1.0), (10.0, 2.0)], vec![(90.0, 3.0)]]);
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(-3.0, 14.0, 5.0), (5.0, vec![0.0, 5.0, 10.0]));
        let (_, many) = ticks(-1e30, 1e30, 5.0);
        assert!((3..=40).contains(&many.len()));
        assert_eq!((number(-5.0, 5.0), number(-0.0, 1.0)), ("\u{2212}5".to_owned(), "0".to_owned()));
    }
}
