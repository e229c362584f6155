//! Collector and desk in two threads: `run`. The core's thread offers feeds without ever waiting; what finds the queue
//! full, or too many bytes in it, ends that event's job as overrun, and the report says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use agent_core::agent::Agent;
use agent_core::samples::FrameMeta;
use agent_wire::{EventId, LadderReason, StudentRefusal};
use agent_worker::job::{Facts, Window};

use super::answers::Clocked;
use super::{Collector, Desk, Done, Feed, ladder, within};
use crate::config::Config;

/// Feeds that wait for the desk: the frames of a window at 60 a second with room for a slow start, and few others.
const FEEDS: usize = 1024;
/// Encoded frames that wait for it, bytes: 32 s at 8 Mbit/s.
const QUEUED_BYTES: usize = 32 << 20;
/// How often an idle desk looks after the worker and at the stop flag.
const LOOK: Duration = Duration::from_millis(200);

/// What the desk's thread tells the core's.
#[derive(Debug)]
pub(crate) enum News {
    /// A model runs: its window holds from the next event on.
    Ready(Box<Facts>),
    /// An event was put to the student.
    Done(Box<Done>),
}

/// The core's end.
pub(crate) struct StudentLink {
    collector: Collector,
    feeds: SyncSender<Feed>,
    queued: Arc<AtomicUsize>,
}

/// The desk's end, to be run in a thread of its own.
pub(crate) struct DeskThread {
    desk: Desk,
    feeds: Receiver<Feed>,
    queued: Arc<AtomicUsize>,
}

fn bytes_of(feed: &Feed) -> usize {
    if let Feed::Frame { bytes, .. } = feed { bytes.len() } else { 0 }
}

/// Both ends; `None` when no model is configured.
pub(crate) fn pair(config: &Config) -> anyhow::Result<Option<(StudentLink, DeskThread)>> {
    let Some(steps) = ladder(config, true)? else { return Ok(None) };
    let (to_desk, feeds) = sync_channel(FEEDS);
    let queued = Arc::new(AtomicUsize::new(0));
    let collector = Collector::new(Window::default());
    let link = StudentLink { collector, feeds: to_desk, queued: Arc::clone(&queued) };
    let desk = Desk::new(steps, within(config), Clocked::Yes, config.student.telemetry);
    Ok(Some((link, DeskThread { desk, feeds, queued })))
}

impl StudentLink {
    fn offer(feeds: &SyncSender<Feed>, queued: &AtomicUsize, feed: Feed) -> bool {
        let bytes = bytes_of(&feed);
        if queued.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES || feeds.try_send(feed).is_err() {
            queued.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// A model runs.
    pub(crate) fn ready(&mut self, facts: &Facts) {
        self.collector.set_window(facts.window);
    }

    pub(crate) fn on_alert(&mut self, agent: &Agent, event: &EventId) {
        let Self { collector, feeds, queued } = self;
        collector.on_alert(agent, event, &mut |feed| Self::offer(feeds, queued, feed));
    }

    pub(crate) fn on_frame(&mut self, agent: &Agent, meta: &FrameMeta, bytes: &[u8]) {
        let Self { collector, feeds, queued } = self;
        collector.on_frame(agent, meta, bytes, &mut |feed| Self::offer(feeds, queued, feed));
    }

    /// Hands the question over. An outcome at once when it could not be.
    pub(crate) fn on_closed(&mut self, agent: &Agent, event: &EventId, ask: bool) -> Option<Done> {
        let Self { collector, feeds, queued } = self;
        let handed = collector.on_closed(agent, event, ask, &mut |feed| Self::offer(feeds, queued, feed));
        let overload = || Done::refused(event.clone(), StudentRefusal::Failed, Some(LadderReason::Overload));
        (ask && !handed).then(overload)
    }
}

impl DeskThread {
    /// Runs until the core's end is dropped. `tell` says `false` when nobody listens any more. Before it listens itself it has
    /// `first` done: what finds the queue meanwhile waits in it.
    pub(crate) fn run(mut self, stop: &AtomicBool, tell: &dyn Fn(News) -> bool, first: impl FnOnce(&mut Desk)) {
        let stopped = || stop.load(Ordering::Relaxed);
        if let Some(facts) = self.desk.prepare(&stopped)
            && !tell(News::Ready(Box::new(facts)))
        {
            return;
        }
        first(&mut self.desk);
        loop {
            let news = match self.feeds.recv_timeout(LOOK) {
                Ok(feed) => {
                    self.queued.fetch_sub(bytes_of(&feed), Ordering::Relaxed);
                    self.desk.take(feed, &stopped).map(|done| News::Done(Box::new(done)))
                }
                Err(RecvTimeoutError::Timeout) if stopped() => None,
                Err(RecvTimeoutError::Timeout) => {
                    self.desk.idle(&stopped).map(|facts| News::Ready(Box::new(facts.clone())))
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if news.is_some_and(|news| !tell(news)) {
                break;
            }
        }
        self.desk.end();
    }
}
