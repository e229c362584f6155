//! The event machine over virtual time: no lost event, no duplicate identity, bounds under any interleaving.

use std::collections::BTreeMap;

use agent_wire::{Message, Severity, UnitId};
use proptest::prelude::*;

use super::*;
use crate::config::{AskStudent, FusionConfig, RingConfig, RingRates, SignalRule, TelemetryConfig, VisionConfig};
use crate::samples::VideoCodec;

fn config() -> AgentConfig {
    let mut fusion = FusionConfig::default();
    fusion.signals.push(SignalRule { index: 0, threshold: 10.0, above: true, severity: Severity::Moderate }).unwrap();
    AgentConfig {
        unit: UnitId::new("unit-1").unwrap(),
        boot: 7,
        telemetry: TelemetryConfig::default(),
        vision: VisionConfig::default(),
        rings: RingConfig::sized(
            Span::from_s(20),
            Span::from_s(10),
            Span::from_s(5),
            Span::from_s(2),
            &RingRates { video_mbit_s: 0.5, fps: 30, imu_hz: 100, can_hz: 100, gnss_hz: 5 },
        ),
        fusion,
        ask: AskStudent::Collisions,
        report_deadline: Span::from_s(30),
        health_interval: Span::from_s(60),
        flags: Flags::default(),
        config: agent_wire::Hash8::default(),
        trigger_model: None,
    }
}

fn signal(t: MonoTime, signal: VehicleSignal, value: f32) -> SignalSample {
    SignalSample { t, signal, value }
}

/// Holds every message against the rules that a receiver relies on.
#[derive(Default)]
struct Checker {
    alerts: BTreeMap<u32, Vec<Alert>>,
    reports: BTreeMap<u32, Report>,
    closed: Vec<EventId>,
}

impl Checker {
    fn drain(&mut self, agent: &mut Agent) {
        let mut drained = 0;
        while let Some(output) = agent.poll() {
            drained += 1;
            assert!(drained <= MAX_OUTPUTS);
            match output {
                Output::Alert(alert) => {
                    let mut buffer = [0; agent_wire::limits::ALERT_BYTES];
                    agent_wire::encode(&Message::Alert(alert.clone()), &mut buffer).unwrap();
                    let known = self.alerts.entry(alert.event.seq).or_default();
                    assert_eq!(usize::from(alert.revision), known.len(), "revisions count from 0 without a gap");
                    assert!(known.last().is_none_or(|k| alert.severity >= k.severity), "severity only rises");
                    assert!(!self.reports.contains_key(&alert.event.seq), "no alert after the report");
                    known.push(alert);
                }
                Output::Report(report) => {
                    let alerts = &self.alerts[&report.event.seq];
                    assert_eq!(alerts.last().unwrap().severity, report.severity);
                    assert!(self.reports.insert(report.event.seq, report).is_none(), "one report an event");
                }
                Output::Closed { event, .. } => self.closed.push(event),
                Output::Health(_) => {}
            }
        }
        assert!(agent.events.len() <= MAX_OPEN_EVENTS + 1);
        assert!(agent.events.iter().filter(|e| e.gathering()).count() <= 1);
        assert_eq!(agent.counts.undrained, 0);
    }
}

#[test]
fn an_airbag_makes_one_critical_event_and_a_report_without_answers_goes_out_at_the_deadline() {
    let (mut agent, mut seen) = (Agent::new(config()), Checker::default());
    let at = |s: f64| MonoTime::from_s(100.0 + s);
    agent.on_signal(&signal(at(0.0), VehicleSignal::AirbagDeployed, 0.0));
    for i in 0..100 {
        agent.on_signal(&signal(at(1.0 + f64::from(i) * 0.01), VehicleSignal::AirbagDeployed, 1.0));
        seen.drain(&mut agent);
    }
    agent.on_tick(at(7.0));
    seen.drain(&mut agent);
    assert_eq!(seen.alerts.len(), 1);
    assert_eq!(seen.alerts[&1][0].severity, Severity::Critical);
    assert_eq!(seen.closed.len(), 1);
    assert!(seen.reports.is_empty());
    agent.on_tick(at(40.0));
    seen.drain(&mut agent);
    assert_eq!(seen.reports[&1].student, StudentOutcome::Refused(StudentRefusal::Late));
    assert_eq!(seen.reports[&1].evidence_file, None);
}

#[test]
fn a_weaker_event_is_raised_by_a_crash_and_takes_its_time_zero() {
    let (mut agent, mut seen) = (Agent::new(config()), Checker::default());
    agent.on_signal(&signal(MonoTime::from_s(10.0), VehicleSignal::Custom(0), 11.0));
    agent.on_signal(&signal(MonoTime::from_s(11.0), VehicleSignal::AirbagDeployed, 1.0));
    seen.drain(&mut agent);
    let alerts = &seen.alerts[&1];
    assert_eq!((alerts[0].kind, alerts[0].severity), (EventKind::VehicleSignal, Severity::Moderate));
    assert_eq!((alerts[1].kind, alerts[1].severity), (EventKind::Collision, Severity::Critical));
    assert_eq!(alerts[1].time.mono_ns, MonoTime::from_s(11.0).0);
    assert_eq!(alerts[1].evidence[0].source, agent_wire::EvidenceSource::Airbag);
}

#[test]
fn the_cool_down_swallows_lesser_events_and_never_a_crash() {
    let (mut agent, mut seen) = (Agent::new(config()), Checker::default());
    let custom = |agent: &mut Agent, s: f64| {
        agent.on_signal(&signal(MonoTime::from_s(s), VehicleSignal::Custom(0), 0.0));
        agent.on_signal(&signal(MonoTime::from_s(s + 0.1), VehicleSignal::Custom(0), 11.0));
    };
    custom(&mut agent, 10.0);
    agent.on_tick(MonoTime::from_s(16.0));
    custom(&mut agent, 17.0);
    seen.drain(&mut agent);
    assert_eq!((seen.alerts.len(), agent.counts().cooled), (1, 1));
    agent.on_signal(&signal(MonoTime::from_s(18.0), VehicleSignal::AirbagDeployed, 1.0));
    seen.drain(&mut agent);
    assert_eq!(seen.alerts.len(), 2);
}

#[test]
fn evidence_reaches_back_to_the_pre_roll_and_stays_until_it_is_stored() {
    let (mut agent, mut seen) = (Agent::new(config()), Checker::default());
    let frame = |agent: &mut Agent, ms: u64| {
        let meta = FrameMeta {
            t: MonoTime(ms * 1_000_000),
            seq: ms / 100,
            codec: VideoCodec::H264,
            key: (ms / 100).is_multiple_of(10),
            size: [640, 360],
        };
        agent.on_frame(&meta, &[9; 500]);
    };
    for ms in (0..30_000).step_by(100) {
        frame(&mut agent, ms);
    }
    agent.on_signal(&signal(MonoTime::from_s(30.0), VehicleSignal::AirbagDeployed, 1.0));
    for ms in (30_000..36_000).step_by(100) {
        frame(&mut agent, ms);
    }
    seen.drain(&mut agent);
    let id = seen.closed[0].clone();
    let frames: Vec<_> = agent.evidence(&id).unwrap().frames().map(|(m, _)| m).collect();
    assert!(frames[0].key && frames[0].t <= MonoTime::from_s(20.0) && frames[0].t >= MonoTime::from_s(19.0));
    assert!(frames.last().unwrap().t >= MonoTime::from_s(35.0));
    assert_eq!(agent.losses(), Losses::default());
    agent.on_evidence(&id, None);
    agent.on_student(&id, StudentOutcome::Refused(StudentRefusal::NotInstalled), &[]);
    seen.drain(&mut agent);
    assert_eq!(seen.reports.len(), 1);
}

#[test]
fn a_gap_in_the_frames_is_said_in_the_next_message() {
    let (mut agent, mut seen) = (Agent::new(config()), Checker::default());
    for seq in [0u64, 1, 5, 6] {
        let t = MonoTime(seq * 33_000_000);
        let meta = FrameMeta { t, seq, codec: VideoCodec::Jpeg, key: true, size: [64, 64] };
        agent.on_frame(&meta, &[0; 10]);
    }
    agent.on_signal(&signal(MonoTime::from_s(1.0), VehicleSignal::AirbagDeployed, 1.0));
    seen.drain(&mut agent);
    assert_eq!(seen.alerts[&1][0].losses.frames, 3);
}

/// A ring that is made for a source's own rate holds what it should: nothing is told as lost where nothing is.
#[test]
fn sources_at_exactly_their_highest_rates_lose_nothing() {
    let mut agent = Agent::new(config());
    // The motion sensor's clock runs fast by 1.5 %.
    let (mut imu, mut fixes) = (0u64, 0);
    for ms in (0..90_000u64).step_by(10) {
        let t = MonoTime(ms * 1_000_000);
        while imu * 9_850_000 <= t.0 {
            let at = MonoTime(imu * 9_850_000);
            agent.on_imu(&ImuSample { t: at, accel_mps2: [0.0, 0.0, 9.81], gyro_rps: [0.0; 3], gyro_valid: true });
            imu += 1;
        }
        agent.on_can(&CanFrame { t, bus: 0, id: 1, extended: false, fd: false, remote: false, len: 8, data: [0; 64] });
        if ms % 200 == 0 {
            fixes += 1;
            agent.on_gnss(&GnssFix {
                t,
                lat_deg: 48.0,
                lon_deg: 11.0,
                alt_m: 0.0,
                speed_mps: 0.0,
                course_deg: 0.0,
                accuracy_m: None,
                wall: None,
            });
        }
    }
    assert_eq!(agent.losses(), Losses::default());
    let counts = agent.counts();
    assert_eq!((counts.imu, counts.can, counts.gnss), (imu, 9_000, fixes));
}

/// What a caller has taken out of the rings may leave them while it makes the file safe, and it may begin a little late: nothing is told
/// as lost for that.
#[test]
fn evidence_that_was_taken_out_pins_nothing() {
    for (taken_after, lost) in [(Some(1), false), (Some(20), false), (None, true)] {
        let (mut agent, mut closed, mut waits) = (Agent::new(config()), None, 0);
        for ms in (0..120_000u64).step_by(10) {
            let t = MonoTime(ms * 1_000_000);
            let can = CanFrame { t, bus: 0, id: 1, extended: false, fd: false, remote: false, len: 8, data: [0; 64] };
            agent.on_can(&can);
            let value = f64::from(u8::from(ms == 60_000));
            agent.on_signal(&SignalSample { t, signal: VehicleSignal::AirbagDeployed, value: value as f32 });
            while let Some(output) = agent.poll() {
                if let Output::Closed { event, .. } = output {
                    closed = Some(event);
                }
            }
            let Some(event) = &closed else { continue };
            waits += 1;
            if Some(waits) == taken_after {
                agent.on_taken(event, t);
            }
            // The disk takes three seconds for it.
            if waits == 300 {
                agent.on_evidence(event, None);
            }
        }
        assert!(closed.is_some());
        assert_eq!(agent.losses().can > 0, lost, "{taken_after:?}: {:?}", agent.losses());
    }
}

#[test]
fn frames_that_left_the_ring_for_lack_of_room_are_said() {
    let mut small = config();
    small.rings.video_bytes = 10_000;
    let (mut agent, mut seen) = (Agent::new(small), Checker::default());
    for seq in 0..30u64 {
        let t = MonoTime(seq * 33_000_000);
        let meta = FrameMeta { t, seq, codec: VideoCodec::Jpeg, key: true, size: [64, 64] };
        agent.on_frame(&meta, &[0; 1000]);
    }
    agent.on_signal(&signal(MonoTime::from_s(1.0), VehicleSignal::AirbagDeployed, 1.0));
    seen.drain(&mut agent);
    assert_eq!(seen.alerts[&1][0].losses.frames, 20);
    assert_eq!(agent.losses().frames, 20);
}

#[derive(Clone, Debug)]
enum Step {
    Airbag(bool),
    Custom(f32),
    Tick(u32),
    Store(usize),
    Answer(usize),
    Shock(f32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Airbag),
        (0f32..20.0).prop_map(Step::Custom),
        (0u32..8000).prop_map(Step::Tick),
        (0usize..8).prop_map(Step::Store),
        (0usize..8).prop_map(Step::Answer),
        (-200f32..200.0).prop_map(Step::Shock),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_interleaving_loses_no_event_and_doubles_none(steps in proptest::collection::vec(step(), 1..200)) {
        let (mut agent, mut seen) = (Agent::new(config()), Checker::default());
        let mut now = MonoTime::from_s(5.0);
        let (mut airbag, mut edges_while_idle) = (false, 0);
        for step in steps {
            match step {
                Step::Airbag(on) => {
                    agent.on_tick(now);
                    let idle = !agent.events.iter().any(Event::gathering);
                    edges_while_idle += u32::from(on && !airbag && idle);
                    airbag = on;
                    agent.on_signal(&signal(now, VehicleSignal::AirbagDeployed, f32::from(u8::from(on))));
                }
                Step::Custom(v) => agent.on_signal(&signal(now, VehicleSignal::Custom(0), v)),
                Step::Tick(ms) => {
                    now = now + Span::from_ms(u64::from(ms));
                    agent.on_tick(now);
                }
                Step::Store(i) => {
                    if let Some(id) = seen.closed.iter().rev().nth(i).cloned() {
                        agent.on_evidence(&id, None);
                    }
                }
                Step::Answer(i) => {
                    if let Some(id) = seen.closed.iter().rev().nth(i).cloned() {
                        agent.on_student(&id, StudentOutcome::Refused(StudentRefusal::NotInstalled), &[]);
                    }
                }
                Step::Shock(a) => {
                    for _ in 0..20 {
                        now = now + Span::from_ms(10);
                        let accel_mps2 = [a, 0.0, 9.81];
                        agent.on_imu(&ImuSample { t: now, accel_mps2, gyro_rps: [0.0; 3], gyro_valid: true });
                    }
                }
            }
            seen.drain(&mut agent);
        }
        agent.finish();
        agent.on_tick(now + Span::from_s(60));
        seen.drain(&mut agent);
        prop_assert_eq!(seen.alerts.len(), agent.counts.events as usize);
        prop_assert_eq!(seen.reports.len(), seen.alerts.len());
        let collisions = seen.reports.values().filter(|r| r.kind == EventKind::Collision).count();
        prop_assert!(collisions as u32 >= edges_while_idle);
    }
}

#[test]
fn a_sensor_is_unheard_until_it_speaks_good_while_it_does_and_silent_after() {
    use agent_wire::{SensorState, Sensors};
    let mut agent = Agent::new(config());
    let of = |imu| Sensors { imu, ..Sensors::default() };
    let rest = |s: f64| ImuSample {
        t: MonoTime::from_s(s),
        accel_mps2: [0.0, 0.0, 9.81],
        gyro_rps: [0.0; 3],
        gyro_valid: true,
    };
    assert_eq!(agent.sensors(), of(SensorState::Unheard));
    agent.on_imu(&rest(1.0));
    assert_eq!(agent.sensors(), of(SensorState::Good));
    agent.on_tick(MonoTime::from_s(6.0));
    assert_eq!(agent.sensors(), of(SensorState::Good));
    agent.on_tick(MonoTime::from_s(6.1));
    agent.request_health();
    let said = std::iter::from_fn(|| agent.poll())
        .find_map(|o| if let Output::Health(h) = o { Some(h.sensors) } else { None });
    assert_eq!(said, Some(of(SensorState::Silent)));
    agent.on_imu(&rest(6.2));
    assert_eq!(agent.sensors(), of(SensorState::Good));
}

/// A head that sees no danger, whatever there is.
struct Calm;

impl RiskModel for Calm {
    fn step(&mut self, _: &crate::vision::RiskFeatures) -> Option<crate::vision::RiskScores> {
        Some(crate::vision::RiskScores { ahead: 0.02, now: 0.01 })
    }
}

#[test]
fn a_rule_beside_the_head_makes_an_event_of_its_own_and_alone_it_does_not() {
    use crate::vision::{BBox, Detection, ObjectClass};
    for beside in [false, true] {
        let mut asked = config();
        asked.vision.rule_beside = beside;
        let (mut agent, mut seen) = (Agent::new(asked), Checker::default());
        // A car head on, 15 m/s from 45 m, after three seconds of an empty road.
        for i in 0..135u32 {
            let s = i as f32 / 25.0 - 3.0;
            let z = 45.0 - 15.0 * s;
            let (w, h) = (1.8 * 0.714 / z, 1.5 * 0.714 * 1.78 / z);
            let bbox = BBox { x: 0.5 - 0.5 * w, y: 0.5 + 0.85 * h - h, w, h };
            let there = [Detection { class: ObjectClass::Car, score: 0.8, bbox }];
            let t = MonoTime::from_s(1.0 + f64::from(i) / 25.0);
            agent.on_detections(t, if s < 0.0 { &[] } else { &there }, 1.78, Some(&mut Calm));
            seen.drain(&mut agent);
        }
        let (_, last) = agent.last_seen().unwrap();
        assert!(last.risk < 0.1 && last.contact.is_some() && last.rule.is_some() == beside, "{last:?}");
        assert_eq!(last.strongest() > 0.6, beside, "{last:?}");
        assert_eq!(seen.alerts.len(), usize::from(beside));
        if let Some(alert) = seen.alerts.values().flatten().next() {
            assert_eq!(alert.kind, agent_wire::EventKind::NearCollision);
            let reason = alert.evidence.first().unwrap();
            assert!(reason.value_milli >= 600 && reason.threshold_milli == 600, "{reason:?}");
        }
    }
}
