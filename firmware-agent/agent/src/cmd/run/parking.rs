//! The way to parked: the ignition went off, and what is open is finished, within a limit.
//!
//! Time is an argument. What ends the daemon, and what is reported of events that did not finish, is the core's.

use std::time::{Duration, Instant};

/// How long events that are open when the ignition goes off may take.
const LONGEST: Duration = Duration::from_secs(20);

/// When the ignition went off, if it did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parking(Option<Instant>);

impl Parking {
    /// The ignition is off. The limit counts from the first time.
    pub(super) fn begin(&mut self, now: Instant) {
        self.0.get_or_insert(now);
    }

    /// Whether the ignition is off and nothing is open any more, or has been for too long. `awaiting`: an event is open.
    pub(super) fn over(self, now: Instant, awaiting: bool) -> bool {
        self.0.is_some_and(|since| !awaiting || now.saturating_duration_since(since) >= LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use agent_core::agent::{Agent, Output};
    use agent_core::samples::{SignalSample, VehicleSignal};
    use agent_core::time::MonoTime;
    use agent_wire::{Flags, StudentOutcome, StudentRefusal};

    use super::*;

    const STEP_MS: u64 = 20;

    fn reports(agent: &mut Agent, answers: bool) -> u32 {
        let mut reports = 0;
        while let Some(output) = agent.poll() {
            match output {
                Output::Report(_) => reports += 1,
                Output::Closed { event, .. } if answers => {
                    agent.on_evidence(&event, None);
                    agent.on_student(&event, StudentOutcome::Refused(StudentRefusal::NotInstalled), &[]);
                }
                Output::Closed { .. } | Output::Alert(_) | Output::Health(_) => {}
            }
        }
        reports
    }

    /// An airbag, and a second later the ignition goes off. Gives the core, how many milliseconds after that it is over,
    /// and the reports until then. `answers`: disk and student answer when the event closes.
    fn park(text: &str, answers: bool) -> (Agent, u64, u32) {
        let config = crate::config::load_str("unit.toml", text).unwrap();
        let mut agent = Agent::new(crate::convert::agent(&config, 1, Flags::default(), None));
        let (begun, mut parking, mut reported) = (Instant::now(), Parking::default(), 0);
        for ms in (0..60_000).step_by(STEP_MS as usize) {
            let (now, t) = (begun + Duration::from_millis(ms), MonoTime((1000 + ms) * 1_000_000));
            if ms == 0 {
                agent.on_signal(&SignalSample { t, signal: VehicleSignal::AirbagDeployed, value: 1.0 });
            }
            agent.on_tick(t);
            reported += reports(&mut agent, answers);
            if ms >= 1000 {
                // The line may say it again.
                parking.begin(now);
            }
            if parking.over(now, agent.awaiting()) {
                return (agent, ms - 1000, reported);
            }
        }
        panic!("never parked");
    }

    #[test]
    fn an_event_that_is_open_when_the_ignition_goes_off_is_finished_first() {
        let (agent, after_ms, reported) = park("[rings]\npost_roll_s = 5\n", true);
        assert!(!agent.awaiting());
        assert_eq!(reported, 1);
        // The post-roll of 5 s began a second before.
        assert!((4000..=4000 + STEP_MS).contains(&after_ms), "{after_ms} ms");
    }

    #[test]
    fn an_event_that_never_finishes_is_waited_for_no_longer_than_the_limit() {
        let (mut agent, after_ms, reported) = park("[student]\ndeadline_s = 60.0\n", false);
        assert!(agent.awaiting());
        assert_eq!((reported, u128::from(after_ms)), (0, LONGEST.as_millis()));
        // As the core ends: it is reported with what is there.
        agent.finish();
        agent.give_up();
        assert_eq!((reports(&mut agent, false), agent.awaiting()), (1, false));
    }

    #[test]
    fn with_nothing_open_it_is_over_at_once_and_while_the_ignition_is_on_never() {
        let begun = Instant::now();
        let mut parking = Parking::default();
        assert!(!parking.over(begun + 2 * LONGEST, false));
        parking.begin(begun);
        assert!(parking.over(begun, false) && !parking.over(begun, true));
    }
}
