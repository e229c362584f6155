//! The pipeline that `run`, `replay` and `demo` share: drive records in, core outputs out.
//!
//! It decodes CAN to signals and frames to pixels, has the detector look at them and feeds the core; what the core
//! wants done goes to a [`Sink`]. It takes no decision about events itself.

use agent_core::agent::{Agent, Lost, Output};
use agent_core::evidence::EvidenceView;
use agent_core::samples::{FrameMeta, SignalSample};
use agent_core::time::{MonoTime, WallQuality, WallTime};
use agent_drive::{DriveRecord, SignalMap, VideoDecoder};
use agent_models::{Detector, RiskHead};
use agent_wire::{EventId, EvidenceFile, Message, StudentRefusal};
use agent_worker::job::Facts;

use crate::student::{Done, Inline};

/// Widest picture that the detector is given, pixels; its own input is smaller (352 or 416).
pub(crate) const SMALL_WIDTH: u16 = 640;

/// Where the outputs go.
pub(crate) trait Sink {
    /// A message: make it durable and publish it. `now` is the time of the pipeline's clock.
    fn message(&mut self, now: MonoTime, message: Message) -> anyhow::Result<()>;
    /// An event closed: store its evidence. `None` when it could not be stored; the reason is the sink's to report.
    fn evidence(&mut self, view: &EvidenceView<'_>) -> Option<EvidenceFile>;
    /// A student answered: its codebook says what the codes of the report that follows mean.
    fn student(&mut self, _facts: &Facts) {}
    /// A frame was scored.
    fn scored(&mut self, _agent: &Agent) {}
}

/// Where the pipeline's wall-clock time went, for benchmarks: never part of what must be the same twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Decoding video, s.
    pub(crate) decode_s: f64,
    /// Detector, s.
    pub(crate) detect_s: f64,
}

/// The way of everything that is no picture: samples as they are, CAN frames with the signals in them.
pub(crate) struct Samples {
    signals: Option<SignalMap>,
    /// Buses whose frames are decoded; empty for all.
    buses: Vec<u8>,
    decoded: Vec<SignalSample>,
}

impl Samples {
    pub(crate) const fn new(signals: Option<SignalMap>, buses: Vec<u8>) -> Self {
        Self { signals, buses, decoded: Vec::new() }
    }

    /// Hands a sample to the core. Pictures, and what an agent said of events when it recorded the drive, are left alone.
    pub(crate) fn feed(&mut self, agent: &mut Agent, record: &DriveRecord<'_>) {
        match record {
            DriveRecord::Imu(s) => agent.on_imu(s),
            DriveRecord::Gnss(f) => agent.on_gnss(f),
            DriveRecord::Can(f) => {
                agent.on_can(f);
                let decodes = self.buses.is_empty() || self.buses.contains(&f.bus);
                if let (Some(map), true) = (&mut self.signals, decodes) {
                    self.decoded.clear();
                    map.decode(f, &mut self.decoded);
                    self.decoded.iter().for_each(|s| agent.on_signal(s));
                }
            }
            // The wall clock as it was when the drive was recorded.
            DriveRecord::Json("/clock", t, text) => {
                if let Ok(said) = serde_json::from_str::<Clock>(text) {
                    agent.on_wall(*t, WallTime { unix_ms: said.unix_ms, quality: said.quality });
                }
            }
            DriveRecord::Frame(..) | DriveRecord::Json(..) => {}
        }
    }
}

/// What `record` writes once a second.
#[derive(serde::Deserialize)]
struct Clock {
    unix_ms: u64,
    quality: WallQuality,
}

/// See the module.
pub(crate) struct Pipeline {
    pub(crate) agent: Agent,
    pub(crate) detector: Option<Detector>,
    pub(crate) head: Option<RiskHead>,
    pub(crate) student: Option<Inline>,
    decoder: Option<VideoDecoder>,
    samples: Samples,
    every_nth_frame: u64,
    decode_errors: u64,
    first_decode_error: Option<String>,
    frames_seen: u64,
    pub(crate) spent: Spent,
}

impl Pipeline {
    /// A pipeline around `agent`. Without a detector no frame is decoded.
    pub(crate) fn new(agent: Agent, detector: Option<Detector>, samples: Samples, every_nth: u64) -> Self {
        Self {
            agent,
            detector,
            head: None,
            student: None,
            decoder: None,
            samples,
            every_nth_frame: every_nth.max(1),
            decode_errors: 0,
            first_decode_error: None,
            frames_seen: 0,
            spent: Spent::default(),
        }
    }

    /// Frames that could not be decoded, and the first reason.
    pub(crate) fn decode_errors(&self) -> (u64, Option<&str>) {
        (self.decode_errors, self.first_decode_error.as_deref())
    }

    /// Takes one record and hands every output to `sink`.
    pub(crate) fn feed(&mut self, record: &DriveRecord<'_>, sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.samples.feed(&mut self.agent, record);
        if let DriveRecord::Frame(meta, bytes) = record {
            self.agent.on_frame(meta, bytes);
            if let Some(student) = &mut self.student {
                student.on_frame(&self.agent, meta, bytes);
            }
            self.look(meta, bytes, sink);
        }
        self.drain(record.time(), sink)
    }

    /// Decodes a frame and scores it. Every frame is decoded (later ones refer to it), every n-th is scored.
    fn look(&mut self, meta: &FrameMeta, bytes: &[u8], sink: &mut dyn Sink) {
        let Some(detector) = &mut self.detector else { return };
        let nth = self.frames_seen;
        self.frames_seen += 1;
        let begun = std::time::Instant::now();
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => match VideoDecoder::new(meta.codec, SMALL_WIDTH) {
                Ok(decoder) => self.decoder.insert(decoder),
                Err(error) => return self.decode_failed(meta, &error.to_string()),
            },
        };
        let small = match decoder.decode(meta, bytes) {
            Ok(Some(small)) => small,
            Ok(None) => return,
            Err(error) => {
                let text = error.to_string();
                return self.decode_failed(meta, &text);
            }
        };
        let decoded = std::time::Instant::now();
        self.spent.decode_s += (decoded - begun).as_secs_f64();
        if !nth.is_multiple_of(self.every_nth_frame) {
            return;
        }
        let (t, aspect) = (small.meta.t, f32::from(small.width) / f32::from(small.height.max(1)));
        let found = detector.detect(small.width.into(), small.height.into(), small.rgb).cloned();
        self.spent.detect_s += decoded.elapsed().as_secs_f64();
        match found {
            Ok(detections) => {
                self.agent.on_detections(t, &detections, aspect, self.head.as_mut().map(|h| h as _));
                sink.scored(&self.agent);
            }
            Err(error) => self.decode_failed(meta, &error.to_string()),
        }
    }

    fn decode_failed(&mut self, meta: &FrameMeta, why: &str) {
        self.decode_errors += 1;
        self.agent.on_loss(Lost::UnseenFrames, 1);
        self.first_decode_error.get_or_insert_with(|| format!("frame {} at {}: {why}", meta.seq, meta.t));
    }

    /// The end of the input.
    pub(crate) fn finish(&mut self, now: MonoTime, sink: &mut dyn Sink) -> anyhow::Result<()> {
        self.agent.finish();
        self.drain(now, sink)
    }

    /// Asks the student about a closed event. In line: the drive stands still meanwhile.
    fn put_to_student(&mut self, event: &EventId, ask: bool, sink: &mut dyn Sink) -> anyhow::Result<()> {
        let done = match &mut self.student {
            Some(student) => student.on_closed(&self.agent, event, ask)?,
            None => ask.then(|| Done::refused(event.clone(), StudentRefusal::NotInstalled, None)),
        };
        let Some(done) = done else { return Ok(()) };
        if let Some(facts) = &done.facts {
            sink.student(facts);
        }
        self.agent.on_student(event, done.outcome, &done.falls);
        Ok(())
    }

    /// Hands every waiting output to `sink`.
    pub(crate) fn drain(&mut self, now: MonoTime, sink: &mut dyn Sink) -> anyhow::Result<()> {
        while let Some(output) = self.agent.poll() {
            match output {
                Output::Alert(alert) => {
                    let event = alert.event.clone();
                    sink.message(now, Message::Alert(alert))?;
                    if let Some(student) = &mut self.student {
                        student.on_alert(&self.agent, &event);
                    }
                }
                Output::Report(report) => sink.message(now, Message::Report(report))?,
                Output::Health(health) => sink.message(now, Message::Health(health))?,
                Output::Closed { event, ask } => {
                    self.put_to_student(&event, ask, sink)?;
                    let file = self.agent.evidence(&event).and_then(|view| sink.evidence(&view));
                    self.agent.on_evidence(&event, file);
                }
            }
        }
        Ok(())
    }
}
