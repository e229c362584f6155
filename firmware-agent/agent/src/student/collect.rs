//! Which frames the student sees, taken from the core's rings when the alert goes out and as frames come.
//!
//! The *grid* of a window has one place every 1/fps from its begin; the first frame at or after a place takes it (an
//! eighth of the interval early is on time: cameras jitter). A place without a frame stays empty. Frames between
//! places go along because a decoder needs them.

use agent_core::agent::Agent;
use agent_core::evidence::EvidenceView;
use agent_core::samples::FrameMeta;
use agent_core::student::TelemetryAt;
use agent_core::time::{MonoTime, Span};
use agent_core::vision::TrackedObject;
use agent_wire::EventId;
use agent_worker::job::{ObjectRow, TelemetryRow, Window};
use agent_worker::limits::MAX_OBJECTS;

use super::{Beside, Feed};

/// The places of a window around time zero.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    begin_ns: i128,
    interval_ns: i128,
    places: i128,
    next: i128,
}

impl Grid {
    pub(crate) fn new(window: &Window, t_zero: MonoTime) -> Self {
        let ns = |s: f64| (s * 1e9).round() as i128;
        let interval_ns = ns(1.0 / f64::from(window.fps)).max(1);
        // The window may begin before the clock did.
        let begin_ns = i128::from(t_zero.0) - ns(f64::from(window.before_s));
        Self { begin_ns, interval_ns, places: i128::from(window.frames), next: 0 }
    }

    /// Where reading has to begin.
    pub(crate) fn begin(&self) -> MonoTime {
        MonoTime(u64::try_from(self.begin_ns - self.interval_ns / 8).unwrap_or(0))
    }

    /// Time between two places.
    pub(crate) fn interval(&self) -> Span {
        Span(u64::try_from(self.interval_ns).unwrap_or(u64::MAX))
    }

    /// Whether the frame of time `t` takes a place. Frames come in the order of time.
    pub(crate) fn takes(&mut self, t: MonoTime) -> bool {
        let place = (i128::from(t.0) - self.begin_ns + self.interval_ns / 8).div_euclid(self.interval_ns);
        if place < self.next || place >= self.places {
            // A frame after the window ends it.
            self.next = if place >= self.places { self.places } else { self.next };
            return false;
        }
        self.next = place + 1;
        true
    }

    /// True when no frame can take a place any more.
    pub(crate) fn full(&self) -> bool {
        self.next >= self.places
    }
}

/// The event that is collected.
struct Open {
    event: EventId,
    t_zero: MonoTime,
    grid: Grid,
    last_seq: Option<u64>,
    overrun: bool,
}

/// See the module. `feed` says `false` when it cannot take more: the job is then given up as overrun, and said so.
pub(crate) struct Collector {
    window: Window,
    open: Option<Open>,
}

/// Where feeds go.
pub(crate) type Feeder<'a> = &'a mut dyn FnMut(Feed) -> bool;

impl Collector {
    pub(crate) const fn new(window: Window) -> Self {
        Self { window, open: None }
    }

    /// The model's window became known; it holds from the next event on.
    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// An alert went out: begins to collect if the student would be asked, again if time zero moved.
    pub(crate) fn on_alert(&mut self, agent: &Agent, event: &EventId, feed: Feeder<'_>) {
        if agent.asks_student(event)
            && let Some(view) = agent.evidence(event)
        {
            self.follow(&view, feed);
        }
    }

    /// Begins with the event, or begins again when its time zero moved by more than half a place.
    fn follow(&mut self, view: &EvidenceView<'_>, feed: Feeder<'_>) {
        let (event, t_zero) = (&view.event().id, view.event().t_zero);
        if let Some(open) = &self.open
            && open.event == *event
        {
            let moved = if t_zero > open.t_zero { t_zero.since(open.t_zero) } else { open.t_zero.since(t_zero) };
            if moved.0 <= open.grid.interval().0 / 2 {
                return;
            }
        }
        let grid = Grid::new(&self.window, t_zero);
        let begin = grid.begin();
        let overrun = !feed(Feed::Begin { event: event.clone(), t_zero, window: self.window });
        let mut open = Open { event: event.clone(), t_zero, grid, last_seq: None, overrun };
        for (meta, bytes) in view.frames_from(begin) {
            step(&mut open, view, &meta, bytes, feed);
        }
        self.open = Some(open);
    }

    /// A frame was taken into the ring.
    pub(crate) fn on_frame(&mut self, agent: &Agent, meta: &FrameMeta, bytes: &[u8], feed: Feeder<'_>) {
        let Some(open) = &mut self.open else { return };
        if open.grid.full() || open.overrun {
            return;
        }
        let event = open.event.clone();
        if let Some(view) = agent.evidence(&event) {
            step(open, &view, meta, bytes, feed);
        }
    }

    /// The event closed. `false` when the question could not be handed over: nobody will answer.
    pub(crate) fn on_closed(&mut self, agent: &Agent, event: &EventId, ask: bool, feed: Feeder<'_>) -> bool {
        let view = agent.evidence(event).filter(|_| ask);
        let Some(view) = view else {
            if self.open.take_if(|o| o.event == *event).is_some() {
                // A desk that cannot take it has work of its own and finds the next begin.
                let _ = feed(Feed::Drop);
            }
            return !ask;
        };
        self.follow(&view, feed);
        let overrun = self.open.take().is_some_and(|o| o.overrun);
        feed(Feed::Ask { event: event.clone(), t_zero: view.event().t_zero, overrun })
    }
}

fn step(open: &mut Open, view: &EvidenceView<'_>, meta: &FrameMeta, bytes: &[u8], feed: Feeder<'_>) {
    if open.overrun || open.grid.full() || open.last_seq.is_some_and(|last| meta.seq <= last) {
        return;
    }
    open.last_seq = Some(meta.seq);
    let beside = open.grid.takes(meta.t).then(|| Beside {
        telemetry: view.telemetry_at(meta.t, open.grid.interval()).map(telemetry_row),
        objects: object_rows(view.objects_at(meta.t)),
    });
    if beside.is_none() && open.grid.full() {
        return;
    }
    open.overrun = !feed(Feed::Frame { meta: *meta, bytes: bytes.to_vec(), beside });
}

/// The core's telemetry as the worker takes it.
pub(crate) fn telemetry_row(at: TelemetryAt) -> TelemetryRow {
    TelemetryRow { acc_mps2: at.acc_mps2, heading_change_deg: at.heading_change_deg, speed_mps: at.speed_mps }
}

/// The core's objects as the worker takes them.
fn object_rows(objects: &[TrackedObject]) -> heapless::Vec<ObjectRow, MAX_OBJECTS> {
    objects
        .iter()
        .take(MAX_OBJECTS)
        .map(|o| ObjectRow {
            class: o.class.into(),
            distance_m: o.distance_m,
            flow_per_s: o.flow_per_s,
            closing_mps: o.closing_mps,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(window: &Window, zero_s: f64, times_s: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut grid = Grid::new(window, MonoTime::from_s(zero_s));
        times_s.filter(|t| grid.takes(MonoTime::from_s(*t))).collect()
    }

    #[test]
    fn eighteen_frames_from_four_seconds_before_to_two_after() {
        let times = taken(&Window::default(), 100.0, (0..6000).map(|i| f64::from(i) / 30.0));
        assert_eq!(times.len(), 18);
        assert!((times[0] - 96.0).abs() < 0.05 && (times[17] - (96.0 + 17.0 / 3.0)).abs() < 0.05, "{times:?}");
        assert!(times.windows(2).all(|p| (p[1] - p[0] - 1.0 / 3.0).abs() < 0.05));
    }

    #[test]
    fn slow_cameras_late_starts_and_gaps_leave_places_empty() {
        let slow = taken(&Window::default(), 100.0, (0..200).map(f64::from));
        assert_eq!(slow, [96.0, 97.0, 98.0, 99.0, 100.0, 101.0]);
        let late = taken(&Window::default(), 1.0, (0..300).map(|i| f64::from(i) / 30.0));
        assert_eq!(late.len(), 9, "the drive begins 1 s before time zero: {late:?}");
        let gap = taken(
            &Window::default(),
            100.0,
            (2850..3100).map(|i| f64::from(i) / 30.0).filter(|t| !(98.0..99.0).contains(t)),
        );
        // Two places stay empty: the frame just before the gap is early enough for the first one in it.
        assert_eq!(gap.len(), 16, "{gap:?}");
    }

    #[test]
    fn a_window_that_is_over_takes_nothing_more() {
        let mut grid = Grid::new(&Window::default(), MonoTime::from_s(10.0));
        assert!(!grid.takes(MonoTime::from_s(5.0)) && !grid.full());
        assert!(!grid.takes(MonoTime::from_s(12.1)) && grid.full());
        assert!(!grid.takes(MonoTime::from_s(10.0)));
    }
}
