//! Writes the truth of a run down: times, changes of velocity, who touched whom.

use super::engine::{Contact, Party, Trace};
use super::scenario::Scenario;
use super::sensors::to_vehicle;
use super::stage::Stage;
use super::truth::{
    ClosestTruth, ContactTruth, DriveTruth, EventTruth, FORMAT, Label, SensorTruth, Severity, WeatherTruth, kind_name,
    road_name, split_of,
};
use super::verdict::{Verdict, cause, description};
use super::wording::prevention_of;
use crate::limits::TRACE_MS;
use crate::maths::PI;

/// Longest crash interval, ms.
const CRASH_MS: usize = 2_500;
/// Shortest.
const CRASH_LEAST_MS: usize = 500;
/// Changes of velocity of the ego vehicle above which an airbag deploys, m/s.
const AIRBAG_MPS: f64 = 5.8;

/// When the airbag deploys, ms: 18 to 34 ms into a blow that is hard enough.
pub(crate) fn airbag(stage: &Stage, trace: &Trace) -> Option<usize> {
    let hard = trace.contacts.iter().find(|c| {
        let [x, y] = c.delta_v[0];
        c.parties[0] == Party::Ego && (x * x + y * y).sqrt() > AIRBAG_MPS && c.bearing.abs() < 2.4
    })?;
    Some(hard.ms + 18 + stage.ego_build.mass as usize % 17)
}

/// The truth of a run.
pub(crate) fn write(
    scenario: &Scenario,
    (seed, draws): (u64, u64),
    stage: &Stage,
    trace: &Trace,
    verdict: Verdict,
    sensors: SensorTruth,
) -> DriveTruth {
    let what = description(stage, trace, verdict);
    let danger = cause(stage, trace, verdict);
    let severity = match (verdict.contact, verdict.near) {
        (Some(_), _) => Severity::Collision,
        (None, true) => Severity::NearCollision,
        (None, false) => Severity::Normal,
    };
    // Nothing happened: then nothing caused it, however close it was.
    let why = if severity == Severity::Collision { danger } else { "none" };
    let closest = trace.closest;
    let known = closest.ttc.is_finite();
    DriveTruth {
        format: FORMAT,
        simulated: true,
        scenario: scenario.name().to_owned(),
        seed,
        split: split_of(seed),
        draws,
        length_s: stage.length_ms as f64 * 1e-3,
        way_m: trace.ego.iter().map(|e| e.v.abs() * 1e-3).sum(),
        road: road_name(stage.layout.kind),
        ego_kind: kind_name(stage.ego_kind),
        severity,
        description: Label::description(what),
        cause: Label::cause(why),
        prevention: Label::prevention(prevention_of(why)),
        danger: if severity == Severity::Normal { "none" } else { danger },
        event: event(stage, trace, verdict),
        contacts: trace.contacts.iter().map(|c| contact(stage, trace, c)).collect(),
        closest: ClosestTruth {
            ttc_s: known.then_some(closest.ttc),
            at_s: known.then_some(closest.ttc_at),
            gap_m: closest.gap.is_finite().then_some(closest.gap),
            braking_mps2: trace.hardest,
        },
        weather: WeatherTruth {
            rain: stage.weather.rain,
            fog: stage.weather.fog,
            wet: stage.weather.wet,
            night: stage.weather.night,
            mu: stage.mu,
        },
        sensors,
    }
}

fn contact(stage: &Stage, trace: &Trace, c: &Contact) -> ContactTruth {
    let heading = trace.ego.get(c.ms).or(trace.ego.last()).map_or(0.0, |e| e.heading);
    let ego = c.parties.iter().position(|p| *p == Party::Ego);
    ContactTruth {
        t_s: c.ms as f64 * 1e-3,
        who: c.parties.map(|p| match p {
            Party::Ego => Some(0),
            Party::Mover(i) => stage.movers.get(i).map(|m| m.id),
            Party::Kerb => None,
        }),
        kinds: c.parties.map(|p| match p {
            Party::Ego => kind_name(stage.ego_kind),
            Party::Mover(i) => stage.movers.get(i).map_or("car", |m| kind_name(m.kind)),
            Party::Kerb => "kerb",
        }),
        closing_mps: c.closing,
        restitution: c.restitution,
        pulse_ms: c.pulse_ms,
        ego_delta_v_mps: ego.map_or([0.0; 2], |i| to_vehicle(heading, c.delta_v[i])),
        bearing_deg: ego.map(|_| c.bearing * 180.0 / PI),
    }
}

fn event(stage: &Stage, trace: &Trace, verdict: Verdict) -> Option<EventTruth> {
    let hit = verdict.contact.and_then(|i| trace.contacts.get(i));
    let ms = match hit {
        Some(hit) => hit.ms,
        None if verdict.near => (trace.closest.ttc_at * 1000.0).round() as usize,
        None => return None,
    };
    let ego = trace.ego.get(ms).copied().unwrap_or_default();
    let part = hit.is_some_and(|h| h.parties.contains(&Party::Ego));
    let pulse = hit.map_or(0, |h| h.pulse_ms);
    let sum = |from: usize, to: usize, axis: usize| -> f64 {
        trace.ego.iter().skip(from).take(to.saturating_sub(from)).map(|e| e.accel[axis] * 1e-3).sum()
    };
    Some(EventTruth {
        contact_s: ms as f64 * 1e-3,
        crash_interval_s: hit.map(|h| [ms as f64 * 1e-3, crash_end(trace, h) as f64 * 1e-3]),
        // Found afterwards, with a camera: `sight`.
        first_sign_s: ms as f64 * 1e-3,
        sign_in_view: false,
        answered_s: trace.answered,
        ego_takes_part: part,
        ego_speed_mps: ego.v,
        recorder_delta_v_mps: if part { [sum(ms, ms + pulse, 0), sum(ms, ms + pulse, 1)] } else { [0.0; 2] },
        delta_v_150ms_kmh: largest_delta_v(trace, ms),
        peak_mps2: peak(trace, ms),
        airbag_s: airbag(stage, trace).map(|at| at as f64 * 1e-3),
    })
}

/// Largest change of velocity within any 150 ms from a time to 400 ms after it, km/h. What the brakes did before does
/// not count, what they do meanwhile does.
fn largest_delta_v(trace: &Trace, ms: usize) -> f64 {
    let from = ms.saturating_sub(2);
    let mut v = vec![[0.0; 2]];
    let mut now = [0.0; 2];
    for e in trace.ego.iter().skip(from).take(402) {
        now = [now[0] + e.accel[0] * 1e-3, now[1] + e.accel[1] * 1e-3];
        v.push(now);
    }
    let change = |a: &[f64; 2], b: &[f64; 2]| ((b[0] - a[0]) * (b[0] - a[0]) + (b[1] - a[1]) * (b[1] - a[1])).sqrt();
    3.6 * v.iter().zip(v.iter().skip(150)).map(|(a, b)| change(a, b)).fold(0.0, f64::max)
}

/// Largest horizontal acceleration over 10 ms within half a second of a time.
fn peak(trace: &Trace, ms: usize) -> f64 {
    let window = trace.ego.get(ms..(ms + 500).min(trace.ego.len())).unwrap_or(&[]);
    window
        .windows(10)
        .map(|w| {
            let mean = |axis: usize| w.iter().map(|e| e.accel[axis]).sum::<f64>() / 10.0;
            (mean(0) * mean(0) + mean(1) * mean(1)).sqrt()
        })
        .fold(0.0, f64::max)
}

/// When all who took part stand, or the longest interval is over.
fn crash_end(trace: &Trace, hit: &Contact) -> usize {
    let last = (hit.ms + CRASH_MS).min(trace.ego.len().saturating_sub(1));
    let slow = |ms: usize| {
        hit.parties.iter().all(|p| match p {
            Party::Mover(i) => {
                let at = ms / TRACE_MS * trace.actors_per_step + i;
                trace.actors.get(at).is_none_or(|a| a.body.speed.abs() < 0.5)
            }
            _ => trace.ego.get(ms).is_none_or(|e| e.v.abs() < 0.5),
        })
    };
    let mut ms = hit.ms + CRASH_LEAST_MS;
    while ms < last && !slow(ms) {
        ms += TRACE_MS;
    }
    ms.min(last)
}
