//! From the raw output of a head to detections: grid decoding, road classes, non-maximum suppression per class.
//!
//! Boxes are first in fractions of the model's input and then of the frame. Values that are not finite are dropped.
//! Equal scores are ordered by their place in the output, so that the same input gives the same list.

use agent_core::limits::MAX_DETECTIONS;
use agent_core::vision::{BBox, Detection, Detections, ObjectClass};

use crate::limits::MAX_CANDIDATES;
use crate::manifest::{Family, Manifest};

#[derive(Clone, Copy, Debug)]
struct Candidate {
    class: ObjectClass,
    score: f32,
    index: usize,
    /// Left, top, right, bottom in fractions of the input.
    edges: [f32; 4],
}

/// Decodes one head; keeps its lists between frames.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    candidates: Vec<Candidate>,
    threshold: f32,
    iou: f32,
}

/// The strongest road class of one point: class and score.
fn best(classes: &[Option<ObjectClass>], value: impl Fn(usize) -> f32) -> Option<(ObjectClass, f32)> {
    let mut found: Option<(usize, f32)> = None;
    // The strongest of all classes decides, also when it is not a road class.
    for i in 0..classes.len() {
        let v = value(i);
        if found.is_none_or(|(_, top)| v > top) {
            found = Some((i, v));
        }
    }
    let (i, v) = found?;
    Some(((*classes.get(i)?)?, v))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Decoder {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let points = manifest.points();
        Self { candidates: Vec::with_capacity(points), threshold: manifest.score_threshold, iou: manifest.nms_iou }
    }

    /// Decodes `raw` into `out`. `fill` is the part of the input that the frame fills.
    pub(crate) fn run(&mut self, manifest: &Manifest, raw: &[f32], fill: (f32, f32), out: &mut Detections) {
        self.candidates.clear();
        match manifest.family {
            Family::Yolox => self.yolox(manifest, raw),
            Family::Fastestdet => self.fastestdet(manifest, raw),
        }
        self.candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        self.candidates.truncate(MAX_CANDIDATES);
        self.suppress(fill, out);
    }

    fn push(&mut self, class: ObjectClass, score: f32, index: usize, centre: [f32; 2], size: [f32; 2]) {
        let [cx, cy] = centre;
        let [w, h] = size;
        let edges = [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0];
        if score.is_finite()
            && edges.iter().all(|e| e.is_finite())
            && self.candidates.len() < self.candidates.capacity()
        {
            self.candidates.push(Candidate { class, score: score.min(1.0), index, edges });
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn yolox(&mut self, m: &Manifest, raw: &[f32]) {
        let (w, h) = (m.input.width, m.input.height);
        let mut rows = raw.chunks_exact(5 + m.class_count);
        let mut index = 0;
        for stride in &m.strides {
            let s = *stride as f32;
            for cell in 0..(w / stride) * (h / stride) {
                let Some(row) = rows.next() else { return };
                index += 1;
                let (&[x, y, bw, bh, obj], classes) = (row.first_chunk::<5>().unwrap_or(&[0.0; 5]), &row[5..]);
                if obj.is_nan() || obj < self.threshold {
                    continue;
                }
                let Some((class, p)) = best(&m.classes, |i| classes[i]) else { continue };
                if obj * p < self.threshold {
                    continue;
                }
                let (gx, gy) = ((cell % (w / stride)) as f32, (cell / (w / stride)) as f32);
                let centre = [(x + gx) * s / w as f32, (y + gy) * s / h as f32];
                self.push(class, obj * p, index, centre, [bw.exp() * s / w as f32, bh.exp() * s / h as f32]);
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn fastestdet(&mut self, m: &Manifest, raw: &[f32]) {
        let stride = m.strides.first().copied().unwrap_or(1);
        let (gw, gh) = (m.input.width / stride, m.input.height / stride);
        let cells = gw * gh;
        if raw.len() < cells * (5 + m.class_count) {
            return;
        }
        for cell in 0..cells {
            let at = |c: usize| raw[c * cells + cell];
            let obj = at(0).max(0.0).powf(0.6);
            // Class probabilities are at most 1, so the score is at most this.
            if obj.is_nan() || obj < self.threshold {
                continue;
            }
            let Some((class, p)) = best(&m.classes, |i| at(5 + i)) else { continue };
            let score = obj * p.max(0.0).powf(0.4);
            if score < self.threshold {
                continue;
            }
            let (gx, gy) = ((cell % gw) as f32, (cell / gw) as f32);
            let centre = [(at(1).tanh() + gx) / gw as f32, (at(2).tanh() + gy) / gh as f32];
            self.push(class, score, cell, centre, [sigmoid(at(3)), sigmoid(at(4))]);
        }
    }

    /// Keeps the strongest boxes that do not overlap a stronger one of their class.
    fn suppress(&self, fill: (f32, f32), out: &mut Detections) {
        let mut kept: heapless::Vec<Candidate, MAX_DETECTIONS> = heapless::Vec::new();
        out.clear();
        for c in &self.candidates {
            if kept.iter().any(|k| k.class == c.class && overlap(&k.edges, &c.edges) > self.iou) {
                continue;
            }
            let [l, t, r, b] = c.edges;
            let (x0, y0) = ((l / fill.0).clamp(0.0, 1.0), (t / fill.1).clamp(0.0, 1.0));
            let (x1, y1) = ((r / fill.0).clamp(0.0, 1.0), (b / fill.1).clamp(0.0, 1.0));
            if x1 <= x0 || y1 <= y0 {
                continue;
            }
            let bbox = BBox { x: x0, y: y0, w: x1 - x0, h: y1 - y0 };
            if kept.push(*c).is_err() || out.push(Detection { class: c.class, score: c.score, bbox }).is_err() {
                return;
            }
        }
    }
}

/// Intersection over union.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |e: &[f32; 4]| (e[2] - e[0]).max(0.0) * (e[3] - e[1]).max(0.0);
    let both = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    let inter = area(&both);
    let union = area(a) + area(b) - inter;
    if union > 0.0 { inter / union } else { 0.0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_precision_loss)]
mod tests {
    use super::*;
    use std::path::Path;

    fn manifest(name: &str) -> Manifest {
        Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(name)).unwrap()
    }

    fn decode(m: &Manifest, raw: &[f32], fill: (f32, f32)) -> Detections {
        let mut out = Detections::new();
        Decoder::new(m).run(m, raw, fill, &mut out);
        out
    }

    #[test]
    fn yolox_cells_of_each_level_land_where_their_grid_says() {
        let m = manifest("yolox_nano.toml");
        let mut raw = vec![0.0; 3549 * 85];
        // Second level, row 3, column 5: a car of 32x48 pixels around ((5 + 0.5) * 16, (3 + 0.25) * 16).
        let row = (52 * 52 + 3 * 26 + 5) * 85;
        raw[row..row + 5].copy_from_slice(&[0.5, 0.25, 2f32.ln(), 3f32.ln(), 0.9]);
        raw[row + 5 + 2] = 0.8;
        let seen = decode(&m, &raw, (1.0, 0.5));
        assert_eq!(seen.len(), 1);
        let d = seen[0];
        assert_eq!(d.class, ObjectClass::Car);
        let expected = [(88.0 - 16.0) / 416.0, (52.0 - 24.0) / 208.0, 32.0 / 416.0, 48.0 / 208.0];
        for (a, b) in [d.bbox.x, d.bbox.y, d.bbox.w, d.bbox.h].into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{d:?}");
        }
        assert!((d.score - 0.72).abs() < 1e-6);
    }

    #[test]
    fn overlap_drops_the_weaker_of_a_class_only_and_the_list_is_bounded() {
        let m = manifest("fastestdet.toml");
        let cells = 22 * 22;
        let mut raw = vec![0.0; 85 * cells];
        for (cell, class, obj) in [(100, 2, 0.9), (101, 2, 0.95), (102, 7, 0.8), (300, 2, 0.7)] {
            raw[cell] = obj;
            raw[(5 + class) * cells + cell] = 1.0;
        }
        // Wide boxes, so that neighbours overlap; cell 300 lies far away.
        let seen = decode(&m, &raw, (1.0, 1.0));
        let got: Vec<_> = seen.iter().map(|d| (d.class, (d.score.powf(1.0 / 0.6) * 100.0).round())).collect();
        let wide = [(ObjectClass::Car, 95.0), (ObjectClass::Truck, 80.0), (ObjectClass::Car, 70.0)];
        assert_eq!(got, wide);
        for cell in 0..cells {
            raw[cell] = 0.9;
            raw[7 * cells + cell] = 1.0;
            raw[3 * cells + cell] = -9.0;
            raw[4 * cells + cell] = -9.0;
        }
        assert_eq!(decode(&m, &raw, (1.0, 1.0)).len(), MAX_DETECTIONS);
    }

    #[test]
    fn values_that_are_not_finite_and_other_classes_make_no_box() {
        for name in ["yolox_nano.toml", "fastestdet.toml"] {
            let m = manifest(name);
            let len: usize = m.output_shape().iter().product();
            for v in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(decode(&m, &vec![v; len], (1.0, 1.0)).is_empty(), "{name} {v}");
            }
            assert!(decode(&m, &[], (1.0, 1.0)).is_empty());
        }
    }
}
