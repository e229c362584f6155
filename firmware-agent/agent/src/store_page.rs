//! Event pages of a replay: what a page needs is taken from the rings when the event closes, and the page is written
//! when its report comes. Bounded: events that wait for their report, frames of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_core::evidence::EvidenceView;
use agent_core::fusion::KMH_PER_MPS;
use agent_core::limits::MAX_OPEN_EVENTS;
use agent_core::samples::FrameMeta;
use agent_core::time::MonoTime;
use agent_drive::{DriveInfo, VideoDecoder};
use agent_wire::{Alert, EventId, Message, StudentOutcome};

use crate::page::{AccelPoint, AnswerWords, DeltaVPoint, EventPage, PageFrame, SpeedSeries, render};
use crate::student::{Books, answer_words};

/// Widest picture of the film strip, pixels.
const STRIP_WIDTH: u16 = 480;
/// Quality of its JPEGs.
const STRIP_QUALITY: u8 = 75;
/// Times of the film strip, milliseconds from time zero: closer together where it happens.
const STRIP_MS: [i32; 8] = [-6000, -3000, -1500, -500, 0, 300, 1000, 3000];
/// Standard gravity, m/s^2.
const G_MPS2: f32 = 9.806_65;

/// What was taken from the rings of one event.
#[derive(Default)]
struct Taken {
    alert: Option<(Alert, usize)>,
    source: String,
    frames: Vec<(i32, Vec<u8>)>,
    axes_known: bool,
    accel: Vec<AccelPoint>,
    bus_speed: Vec<(f32, f32)>,
    gnss_speed: Vec<(f32, f32)>,
    delta_v: Vec<DeltaVPoint>,
    airbag_ms: Option<f32>,
}

/// Pages in the making.
#[derive(Default)]
pub(crate) struct PageStore {
    open: BTreeMap<EventId, Taken>,
}

impl PageStore {
    /// Takes what the page of a closed event will show.
    pub(crate) fn on_evidence(&mut self, view: &EvidenceView<'_>, info: &DriveInfo) {
        let event = view.event();
        let zero = event.t_zero;
        let ms = |t: MonoTime| t.ms_from(zero) as f32 + ((t.0 % 1_000_000) as f32 - (zero.0 % 1_000_000) as f32) * 1e-6;
        let taken = self.open.entry(event.id.clone()).or_default();
        taken.source.clone_from(&info.source);
        let alignment = view.alignment();
        let axes = alignment.vehicle_from_sensor;
        taken.axes_known = alignment.forward_known;
        for s in view.imu() {
            let f = s.accel_mps2;
            let along = |axis: [f32; 3]| axis[0] * f[0] + axis[1] * f[1] + axis[2] * f[2];
            let [x, y, z] = axes;
            let mps2 = if alignment.forward_known {
                [along(x), along(y), along(z) - G_MPS2]
            } else {
                [(f[0] * f[0] + f[1] * f[1] + f[2] * f[2]).sqrt() - G_MPS2, 0.0, 0.0]
            };
            taken.accel.push(AccelPoint { at_ms: ms(s.t), mps2 });
        }
        for row in view.rows() {
            if let Some((v, true)) = row.speed_mps {
                taken.bus_speed.push((ms(row.t), v * KMH_PER_MPS));
            }
        }
        taken.gnss_speed = view.gnss().map(|f| (ms(f.t), f.speed_mps * KMH_PER_MPS)).collect();
        let table = view.edr();
        taken.delta_v =
            table.delta_v.iter().map(|r| DeltaVPoint { at_ms: f32::from(r.at_ms), kmh: r.delta_v_kmh }).collect();
        taken.airbag_ms =
            event.reasons.iter().find(|r| r.source == agent_wire::EvidenceSource::Airbag).map(|r| ms(r.t));
        taken.frames = film_strip(view, zero);
    }

    /// Keeps the last alert of each event; writes the page when the report comes and returns its path.
    pub(crate) fn on_message(
        &mut self,
        message: &Message,
        bytes: usize,
        folder: &Path,
        books: &Books,
    ) -> anyhow::Result<Option<PathBuf>> {
        match message {
            Message::Alert(alert) => {
                self.open.entry(alert.event.clone()).or_default().alert = Some((alert.clone(), bytes));
                // Events whose report never came (none should exist) must not gather.
                while self.open.len() > MAX_OPEN_EVENTS + 1 {
                    self.open.pop_first();
                }
                Ok(None)
            }
            Message::Report(report) => {
                let Some(taken) = self.open.remove(&report.event) else { return Ok(None) };
                let mut speed = Vec::new();
                for (source, points) in [("vehicle bus", &taken.bus_speed), ("GNSS", &taken.gnss_speed)] {
                    if !points.is_empty() {
                        speed.push(SpeedSeries { source, points: points.clone() });
                    }
                }
                let answers = match &report.student {
                    StudentOutcome::Answered(answers) => answer_words(books, answers),
                    StudentOutcome::Refused(_) => AnswerWords::default(),
                };
                let page = EventPage {
                    answers,
                    source: &taken.source,
                    program: concat!("firmware-agent ", env!("CARGO_PKG_VERSION")),
                    alert: taken.alert.as_ref().map(|(a, n)| (a, *n)),
                    report: Some((report, bytes)),
                    frames: taken.frames.iter().map(|(at_ms, jpeg)| PageFrame { at_ms: *at_ms, jpeg }).collect(),
                    axes_known: taken.axes_known,
                    accel: taken.accel,
                    speed,
                    delta_v: taken.delta_v,
                    marks: taken.airbag_ms.map(|t| (t, "airbag")).into_iter().collect(),
                };
                std::fs::create_dir_all(folder)?;
                let path = folder.join(format!("{}.html", report.event));
                std::fs::write(&path, render(&page))?;
                Ok(Some(path))
            }
            _ => Ok(None),
        }
    }
}

/// The frames nearest to [`STRIP_MS`], decoded and made small JPEGs. A frame that cannot be decoded is left out.
fn film_strip(view: &EvidenceView<'_>, zero: MonoTime) -> Vec<(i32, Vec<u8>)> {
    let times: Vec<i32> = view.frames().map(|(m, _)| m.t.ms_from(zero)).collect();
    let mut wanted: Vec<i32> = STRIP_MS
        .iter()
        .filter_map(|at| times.iter().copied().min_by_key(|t| (i64::from(*t) - i64::from(*at)).abs()))
        .collect();
    wanted.dedup();
    let mut decoder: Option<VideoDecoder> = None;
    let mut out = Vec::new();
    for (meta, bytes) in view.frames() {
        let decoder = match &mut decoder {
            Some(decoder) => decoder,
            None => match VideoDecoder::new(meta.codec, STRIP_WIDTH) {
                Ok(new) => decoder.insert(new),
                Err(_) => return out,
            },
        };
        if let Ok(Some(small)) = decoder.decode(&meta, bytes) {
            let at = small.meta.t.ms_from(zero);
            if wanted.contains(&at)
                && let Some(jpeg) = jpeg(small.rgb, small.width, small.height)
            {
                out.push((at, jpeg));
            }
        }
    }
    out.sort_by_key(|(at, _)| *at);
    out
}

/// A picture as JPEG.
pub(crate) fn jpeg(rgb: &[u8], width: u16, height: u16) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    jpeg_encoder::Encoder::new(&mut out, STRIP_QUALITY)
        .encode(rgb, width, height, jpeg_encoder::ColorType::Rgb)
        .ok()?;
    Some(out)
}

/// A frame of a synthetic drive as a JPEG record.
pub(crate) fn jpeg_meta(t: MonoTime, seq: u64, width: usize, height: usize) -> FrameMeta {
    let side = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    FrameMeta { t, seq, codec: agent_core::samples::VideoCodec::Jpeg, key: true, size: [side(width), side(height)] }
}
