//! Event data, Part 563-style: the summary for the report and the whole table for the evidence file.
//!
//! 49 CFR Part 563 binds makers of light vehicles, not a retrofit unit: say "Part 563-style", never "compliant". Each
//! element says how it came about ([`Quality`]); a value that the sensor could not measure is marked clipped and
//! never reported as if it were true.

use agent_wire::{DeltaV, EdrSummary, PeakAcceleration, Quality};

use crate::fusion::KMH_PER_MPS;
use crate::history::{History, Row};
use crate::limits::{EDR_DELTA_V_ROWS, EDR_PRE_CRASH_ROWS};
use crate::samples::ImuSample;
use crate::telemetry::{Alignment, Impact};
use crate::time::{MonoTime, Span};

/// One row of the delta-V table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeltaVRow {
    /// Time from time zero, ms.
    pub at_ms: u16,
    /// Forward, left: km/h.
    pub delta_v_kmh: [f32; 2],
}

/// One row of the pre-crash table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreCrashRow {
    /// Time from time zero, ms (negative).
    pub at_ms: i32,
    /// Vehicle signals then.
    pub row: Row,
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub struct EdrTable {
    /// Delta-V from 0 to 300 ms at 100 Hz; empty when the vehicle's axes were not known or there was no IMU.
    pub delta_v: heapless::Vec<DeltaVRow, EDR_DELTA_V_ROWS>,
    /// Vehicle signals from -20 s to 0 at 10 Hz.
    pub pre_crash: heapless::Vec<PreCrashRow, EDR_PRE_CRASH_ROWS>,
}

fn scaled_i16(value: f32) -> i16 {
    // `as` saturates and turns NaN into 0.
    value.round() as i16
}

/// Delta-V of an impact so far, for the wire.
#[must_use]
pub fn delta_v(impact: &Impact) -> DeltaV {
    let [x, y] = impact.delta_v_mps;
    DeltaV {
        longitudinal_dkmh: scaled_i16(x * KMH_PER_MPS * 10.0),
        lateral_dkmh: scaled_i16(y * KMH_PER_MPS * 10.0),
        window_ms: u16::try_from(impact.t.since(impact.t_zero).as_ms()).unwrap_or(u16::MAX),
        axes_known: impact.axes_known,
        quality: if impact.clipped { Quality::Clipped } else { Quality::Derived },
    }
}

/// Peak acceleration of an impact so far, for the wire, from `zero`.
#[must_use]
pub fn peak(impact: &Impact, zero: MonoTime) -> PeakAcceleration {
    PeakAcceleration {
        magnitude_cmps2: (impact.peak_mps2 * 100.0).round() as u16,
        at_ms: clamp_i16(impact.peak_at.ms_from(zero)),
        clipped: impact.clipped,
    }
}

/// Milliseconds in 16 bits, saturating.
#[must_use]
pub fn clamp_i16(ms: i32) -> i16 {
    i16::try_from(ms).unwrap_or(if ms < 0 { i16::MIN } else { i16::MAX })
}

/// Speed in 0.1 km/h.
#[must_use]
pub fn dkmh(speed_mps: f32) -> u16 {
    (speed_mps * KMH_PER_MPS * 10.0).round() as u16
}

/// The summary of an event: its strongest impact, the gap to the next, speeds and brake.
/// `complete` says whether all of the post-roll was recorded.
#[must_use]
pub fn summary(impacts: &[Impact], count: u8, history: &History, complete: bool) -> Option<EdrSummary> {
    let first = impacts.first()?;
    let strongest = impacts.iter().max_by(|a, b| a.max_delta_v_mps.total_cmp(&b.max_delta_v_mps))?;
    let zero = first.t_zero;
    let before = history.row_at(zero.minus(Span::from_s(5))).and_then(|r| r.speed_mps);
    // The last row strictly before time zero: the crash itself upsets wheel speeds.
    let at = history.row_at(zero).and_then(|r| r.speed_mps);
    let gap = impacts.get(1).map(|second| second.t_zero.since(zero).as_ms() / 100);
    Some(EdrSummary {
        delta_v: delta_v(strongest),
        max_delta_v_dkmh: dkmh(strongest.max_delta_v_mps),
        max_delta_v_at_dms: u16::try_from(strongest.max_delta_v_at.since(strongest.t_zero).0 / 100_000)
            .unwrap_or(u16::MAX),
        peak: peak(strongest, zero),
        speed_before_dkmh: before.map(|(v, _)| dkmh(v)),
        speed_at_dkmh: at.map(|(v, _)| dkmh(v)),
        speed_quality: match at {
            Some((_, true)) => Quality::Measured,
            Some((_, false)) => Quality::Derived,
            None => Quality::Absent,
        },
        brake_on: history.row_at(zero).and_then(|r| r.brake),
        brake_before_ms: brake_before(history, zero),
        impacts: count,
        gap_ds: gap.map(|g| u8::try_from(g).unwrap_or(u8::MAX)),
        complete,
    })
}

/// How long the brake had been on without a break at time zero.
fn brake_before(history: &History, zero: MonoTime) -> Option<u16> {
    if history.row_at(zero)?.brake != Some(true) {
        return history.row_at(zero)?.brake.map(|_| 0);
    }
    let mut since = zero;
    for row in history.rows(MonoTime::ZERO, zero).rev() {
        if row.brake != Some(true) {
            break;
        }
        since = row.t;
    }
    Some(u16::try_from(zero.since(since).as_ms()).unwrap_or(u16::MAX))
}

/// The whole table around `zero`. Delta-V is integrated from specific force minus gravity along the axes that were
/// known at the event, without following the body's rotation over these 300 ms.
pub fn table<'a>(
    zero: MonoTime,
    history: &History,
    imu: impl Iterator<Item = &'a ImuSample>,
    alignment: &Alignment,
) -> EdrTable {
    let mut out = EdrTable::default();
    for step in (0..EDR_PRE_CRASH_ROWS as u64).rev() {
        let back = Span::from_ms(step * 100);
        // A drive shorter than 20 s has fewer rows; a row held over a gap is not this moment's.
        if zero.0 >= back.0
            && let Some(row) =
                history.row_at(zero.minus(back)).filter(|r| zero.minus(back).since(r.t) < Span::from_ms(100))
        {
            let _ = out.pre_crash.push(PreCrashRow { at_ms: -((step * 100) as i32), row: *row });
        }
    }
    if !alignment.forward_known {
        return out;
    }
    let mut sum = [0.0f32; 2];
    let mut last: Option<(MonoTime, [f32; 2])> = None;
    for s in imu.filter(|s| s.t >= zero) {
        let a = [0, 1].map(|axis| dot(alignment.vehicle_from_sensor[axis], s.accel_mps2));
        if let Some((t, before)) = last {
            let dt = (s.t.since(t).as_s() as f32).min(0.1);
            for axis in 0..2 {
                sum[axis] += 0.5 * (a[axis] + before[axis]) * dt;
            }
        }
        last = Some((s.t, a));
        let at_ms = s.t.since(zero).as_ms();
        while (out.delta_v.len() as u64) * 10 <= at_ms {
            let row = DeltaVRow { at_ms: (out.delta_v.len() * 10) as u16, delta_v_kmh: sum.map(|v| v * KMH_PER_MPS) };
            if out.delta_v.push(row).is_err() {
                return out;
            }
        }
    }
    out
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
