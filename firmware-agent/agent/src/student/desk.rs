//! The desk between the collector and the worker: decodes frames, scales those that were selected to the window's size
//! and hands them to the supervisor; asks when told to. It may take its time: nothing of the recording waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use agent_core::samples::FrameMeta;
use agent_core::time::MonoTime;
use agent_drive::{DriveReader, DriveRecord, VideoDecoder};
use agent_wire::limits::LADDER_FALLS;
use agent_wire::{EventId, LadderFall, LadderReason, StudentOutcome, StudentRefusal};
use agent_worker::job::{Facts, FrameInput, Window};
use agent_worker::ladder::{Fall, refusal};
use agent_worker::limits::MAX_JOB_FRAMES;
use agent_worker::picture;
use agent_worker::supervisor::{Begin, Reply, Supervisor, SupervisorConfig};

use super::answers::{Clocked, to_wire};
use super::{Beside, Feed, Grid, Recorded, telemetry_row};
use crate::show::say;

/// What came of one event.
#[derive(Debug)]
pub(crate) struct Done {
    /// The event.
    pub(crate) event: EventId,
    /// For the report.
    pub(crate) outcome: StudentOutcome,
    /// For the report.
    pub(crate) falls: heapless::Vec<LadderFall, LADDER_FALLS>,
    /// The model that answered.
    pub(crate) facts: Option<Facts>,
}

impl Done {
    /// An event that nobody was asked about, for one reason.
    pub(crate) fn refused(event: EventId, why: StudentRefusal, fall: Option<LadderReason>) -> Self {
        let falls = fall.map(|reason| LadderFall { step: 0, reason }).into_iter().collect();
        Self { event, outcome: StudentOutcome::Refused(why), falls, facts: None }
    }
}

/// The event at the desk.
struct Open {
    event: EventId,
    t_zero: MonoTime,
    window: Window,
    /// Time of the first frame that the supervisor was given.
    first: Option<MonoTime>,
    decoder: Option<VideoDecoder>,
    /// Selected frames that the decoder has not given back yet.
    pending: VecDeque<(u64, Beside)>,
    undecoded: u32,
}

/// See the module.
pub(crate) struct Desk {
    supervisor: Supervisor,
    within: Duration,
    clocked: Clocked,
    /// Whether the student is given telemetry.
    telemetry: bool,
    open: Option<Open>,
    picture: Vec<u8>,
}

impl Desk {
    /// `within` bounds the wait from the question to the answer; without `telemetry` the student sees the video alone.
    pub(crate) fn new(config: SupervisorConfig, within: Duration, clocked: Clocked, telemetry: bool) -> Self {
        Self { supervisor: Supervisor::new(config), within, clocked, telemetry, open: None, picture: Vec::new() }
    }

    /// Loads the model, and says what it is or why it is not there.
    pub(crate) fn prepare(&mut self, stop: &dyn Fn() -> bool) -> Option<Facts> {
        for fall in self.supervisor.prepare(stop) {
            said(&fall);
        }
        let facts = self.supervisor.facts().cloned();
        if let Some(f) = &facts {
            let label = if f.calibrated { "calibrated" } else { "label not calibrated" };
            say!("student: {} ({} million parameters, {}, {label})", f.name, f.parameters / 1_000_000, f.device);
        }
        facts
    }

    /// Nothing to do: looks after the worker.
    pub(crate) fn idle(&mut self, stop: &dyn Fn() -> bool) -> Option<&Facts> {
        let before = self.supervisor.facts().map(|f| f.model);
        for fall in self.supervisor.idle(stop) {
            said(&fall);
        }
        self.supervisor.facts().filter(|f| Some(f.model) != before)
    }

    /// Ends the worker.
    pub(crate) fn end(self) {
        self.supervisor.stop();
    }

    /// Takes a feed; an outcome at the question.
    pub(crate) fn take(&mut self, feed: Feed, stop: &dyn Fn() -> bool) -> Option<Done> {
        match feed {
            Feed::Begin { event, t_zero, window } => {
                self.supervisor.drop_job();
                let (decoder, pending) = (None, VecDeque::new());
                self.open = Some(Open { event, t_zero, window, first: None, decoder, pending, undecoded: 0 });
                None
            }
            Feed::Frame { meta, bytes, beside } => {
                self.frame(&meta, &bytes, beside, stop);
                None
            }
            Feed::Ask { event, t_zero, overrun } => Some(self.ask(event, t_zero, overrun, stop)),
            Feed::Drop => {
                self.supervisor.drop_job();
                self.open = None;
                None
            }
        }
    }

    /// An event of an earlier start, from its evidence file, put to the student as it would have been then.
    pub(crate) fn recorded(&mut self, event: &EventId, recorded: &Recorded, stop: &dyn Fn() -> bool) -> Done {
        let nothing = || Done::refused(event.clone(), StudentRefusal::NoVideo, None);
        let Ok(mut reader) = DriveReader::open(&recorded.path) else { return nothing() };
        let (window, t_zero) = (self.supervisor.window(), recorded.t_zero);
        let mut grid = Grid::new(&window, t_zero);
        let from = recorded.key_before(grid.begin());
        self.take(Feed::Begin { event: event.clone(), t_zero, window }, stop);
        // What cannot be read any more ends the frames, as the power did.
        while let Ok(Some(record)) = reader.next() {
            let DriveRecord::Frame(meta, bytes) = record else { continue };
            if grid.full() || stop() {
                break;
            }
            if meta.t >= from {
                let beside = grid.takes(meta.t).then(|| Beside {
                    telemetry: recorded.beside(meta.t, grid.interval()).map(telemetry_row),
                    objects: heapless::Vec::new(),
                });
                self.take(Feed::Frame { meta, bytes: bytes.to_vec(), beside }, stop);
            }
        }
        self.take(Feed::Ask { event: event.clone(), t_zero, overrun: false }, stop).unwrap_or_else(nothing)
    }

    fn frame(&mut self, meta: &FrameMeta, bytes: &[u8], beside: Option<Beside>, stop: &dyn Fn() -> bool) {
        let Some(open) = &mut self.open else { return };
        // Twice the size that is wanted, so that scaling down from it loses little.
        let width = open.window.width.saturating_mul(2);
        if let Some(beside) = beside {
            if open.pending.len() >= MAX_JOB_FRAMES {
                open.pending.pop_front();
            }
            open.pending.push_back((meta.seq, beside));
        }
        let decoder = match &mut open.decoder {
            Some(decoder) => decoder,
            None => match VideoDecoder::new(meta.codec, width) {
                Ok(decoder) => open.decoder.insert(decoder),
                Err(_) => {
                    open.undecoded += 1;
                    return;
                }
            },
        };
        let small = match decoder.decode(meta, bytes) {
            Ok(Some(small)) => small,
            Ok(None) => return,
            Err(_) => {
                open.undecoded += 1;
                return;
            }
        };
        let Some(at) = open.pending.iter().position(|(seq, _)| *seq == small.meta.seq) else { return };
        let Some((_, beside)) = open.pending.remove(at) else { return };
        let size = [open.window.width, open.window.height];
        let from = [small.width, small.height].map(usize::from);
        if !picture::resize(small.rgb, from, size.map(usize::from), &mut self.picture) {
            open.undecoded += 1;
            return;
        }
        let t = small.meta.t;
        let first = match open.first {
            Some(first) => first,
            None => {
                let zero_s = (i128::from(open.t_zero.0) - i128::from(t.0)) as f64 * 1e-9;
                let begin = Begin {
                    event: open.event.clone(),
                    window: open.window,
                    zero_s: zero_s as f32,
                    question: None,
                    within: self.within,
                };
                self.supervisor.begin(begin, stop);
                *open.first.insert(t)
            }
        };
        let input = FrameInput {
            t_s: t.since(first).as_s() as f32,
            width: size[0],
            height: size[1],
            rgb: &self.picture,
            telemetry: beside.telemetry.filter(|_| self.telemetry),
            objects: &beside.objects,
        };
        self.supervisor.push(&input, stop);
    }

    fn ask(&mut self, event: EventId, t_zero: MonoTime, overrun: bool, stop: &dyn Fn() -> bool) -> Done {
        let open = self.open.take().filter(|o| o.event == event);
        if overrun {
            self.supervisor.drop_job();
            return Done::refused(event, StudentRefusal::Failed, Some(LadderReason::Overload));
        }
        let Some((first, undecoded)) = open.and_then(|o| Some((o.first?, o.undecoded))) else {
            self.supervisor.drop_job();
            return Done::refused(event, StudentRefusal::NoVideo, None);
        };
        if undecoded > 0 {
            say!("student: {undecoded} frames of {event} could not be decoded");
        }
        let outcome = self.supervisor.finish(stop);
        outcome.falls.iter().for_each(said);
        let falls = outcome.falls.iter().take(LADDER_FALLS).map(wire_fall).collect();
        match (outcome.reply, outcome.facts) {
            (Some(Reply::Answers(answers)), Some(facts)) => {
                let wire = to_wire(&answers, &facts, first, t_zero, self.clocked);
                Done { event, outcome: StudentOutcome::Answered(wire), falls, facts: Some(facts) }
            }
            _ => {
                let why = refusal(&outcome.falls);
                Done { event, outcome: StudentOutcome::Refused(why), falls, facts: None }
            }
        }
    }
}

fn wire_fall(fall: &Fall) -> LadderFall {
    LadderFall { step: fall.step, reason: fall.reason }
}

fn said(fall: &Fall) {
    say!("student: step {} gave no answer ({:?}): {}", fall.step, fall.reason, fall.detail);
}
