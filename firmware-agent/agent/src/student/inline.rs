//! Collector and desk in one thread: `replay` and `demo`. The same inputs give the same bytes: no deadline by the wall
//! clock ends in a refusal; a guard against a hang ends the command instead.

use std::time::Duration;

use agent_core::agent::Agent;
use agent_core::samples::FrameMeta;
use agent_wire::{EventId, LadderReason, StudentRefusal};
use agent_worker::job::{Facts, Window};

use super::answers::Clocked;
use super::{Collector, Desk, Done, Feed, ladder};
use crate::config::Config;

/// Longer than any sound worker takes for one event, on the slowest machine that a replay is run on.
const HANG_GUARD: Duration = Duration::from_secs(900);

/// See the module.
pub(crate) struct Inline {
    collector: Collector,
    desk: Desk,
    /// The model that runs.
    pub(crate) facts: Option<Facts>,
}

fn never() -> bool {
    false
}

impl Inline {
    /// Starts the worker; `None` when no model is configured.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Option<Self>> {
        // A temperature differs from run to run: it is not looked at.
        let Some(mut steps) = ladder(config, false)? else { return Ok(None) };
        steps.load_within = steps.load_within.max(HANG_GUARD);
        let mut desk = Desk::new(steps, HANG_GUARD, Clocked::No, config.student.telemetry);
        let facts = desk.prepare(&never);
        let window = facts.as_ref().map_or_else(Window::default, |f| f.window);
        Ok(Some(Self { collector: Collector::new(window), desk, facts }))
    }

    pub(crate) fn on_alert(&mut self, agent: &Agent, event: &EventId) {
        let desk = &mut self.desk;
        self.collector.on_alert(agent, event, &mut |feed| desk.take(feed, &never).is_none());
    }

    pub(crate) fn on_frame(&mut self, agent: &Agent, meta: &FrameMeta, bytes: &[u8]) {
        let desk = &mut self.desk;
        self.collector.on_frame(agent, meta, bytes, &mut |feed| desk.take(feed, &never).is_none());
    }

    /// The answer, or why there is none; nothing when the student is not asked.
    ///
    /// # Errors
    /// The worker hangs.
    pub(crate) fn on_closed(&mut self, agent: &Agent, event: &EventId, ask: bool) -> anyhow::Result<Option<Done>> {
        let (desk, mut done) = (&mut self.desk, None);
        self.collector.on_closed(agent, event, ask, &mut |feed: Feed| {
            done = desk.take(feed, &never).or(done.take());
            true
        });
        if !ask {
            return Ok(None);
        }
        let done = done.unwrap_or_else(|| Done::refused(event.clone(), StudentRefusal::NoVideo, None));
        if done.falls.iter().any(|f| f.reason == LadderReason::Deadline) {
            anyhow::bail!("the student did not answer within {} s about {event}: a hang", HANG_GUARD.as_secs());
        }
        Ok(Some(done))
    }

    /// Ends the worker.
    pub(crate) fn end(self) {
        self.desk.end();
    }
}
