//! What the student reads beside a frame: telemetry as Trinci et al. define it, and the nearest objects at that time.
//! Decides nothing, and knows no model.

use crate::history::GNSS_FRESH;
use crate::limits::{OBJECT_ROWS, OBJECT_SPACING, OBJECT_TABLE};
use crate::rings::{SampleRing, Stamped};
use crate::samples::{GnssFix, ImuSample};
use crate::telemetry::Alignment;
use crate::time::{MonoTime, Span};
use crate::vision::TrackedObject;

/// Standard gravity, m/s^2.
const G_MPS2: f32 = 9.806_65;
/// A gap between two samples that is longer than this is not turned through, s.
const MAX_STEP_S: f64 = 0.1;
/// Objects of a look that is older than this say nothing of a frame.
const OBJECTS_FRESH: Span = Span::from_ms(500);

/// Telemetry of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TelemetryAt {
    /// Mean acceleration without gravity in vehicle axes (forward, left, up), m/s^2.
    pub acc_mps2: [f32; 3],
    /// Heading change, degrees, left positive.
    pub heading_change_deg: f32,
    /// Speed, m/s.
    pub speed_mps: Option<f32>,
}

/// Block average of the samples: mean acceleration, and the yaw rate summed over time. `None` without a sample, while the
/// vehicle's axes are not known, or where one sample has no turn rate: a model that was trained on both is not given half.
#[must_use]
pub fn telemetry<'a>(
    imu: impl Iterator<Item = &'a ImuSample>,
    alignment: &Alignment,
    speed_mps: Option<f32>,
) -> Option<TelemetryAt> {
    if !(alignment.up_known && alignment.forward_known) {
        return None;
    }
    let axes = &alignment.vehicle_from_sensor;
    let along =
        |row: &[f32; 3], v: &[f32; 3]| -> f64 { row.iter().zip(v).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let (mut sum, mut turned_rad, mut count) = ([0.0f64; 3], 0.0, 0u32);
    let mut last: Option<MonoTime> = None;
    for sample in imu {
        if !sample.gyro_valid {
            return None;
        }
        for (total, row) in sum.iter_mut().zip(axes) {
            *total += along(row, &sample.accel_mps2);
        }
        let step_s = last.map_or(0.0, |l| sample.t.since(l).as_s()).min(MAX_STEP_S);
        turned_rad += along(&axes[2], &sample.gyro_rps) * step_s;
        last = Some(sample.t);
        count += 1;
    }
    let mean = |i: usize| sum.get(i).map_or(0.0, |s| (s / f64::from(count)) as f32);
    let all_finite = sum.iter().all(|s| s.is_finite()) && turned_rad.is_finite();
    (count > 0 && all_finite).then(|| TelemetryAt {
        acc_mps2: [mean(0), mean(1), mean(2) - G_MPS2],
        heading_change_deg: turned_rad.to_degrees() as f32,
        speed_mps,
    })
}

/// Speed at `t` on a straight line between the fixes around it, if both are there and no further apart than a stale fix.
#[must_use]
pub fn between_fixes(fixes: &SampleRing<GnssFix>, t: MonoTime) -> Option<f32> {
    let before = fixes.at(t)?;
    let after = fixes.range(t, t + GNSS_FRESH).next()?;
    let (gap_s, at_s) = (after.t.since(before.t).as_s(), t.since(before.t).as_s());
    if gap_s > GNSS_FRESH.as_s() || !(before.speed_mps.is_finite() && after.speed_mps.is_finite()) {
        return None;
    }
    let share = if gap_s > 0.0 { (at_s / gap_s) as f32 } else { 0.0 };
    Some(before.speed_mps + share * (after.speed_mps - before.speed_mps))
}

/// The nearest objects of one look.
#[derive(Debug)]
struct Seen {
    t: MonoTime,
    objects: heapless::Vec<TrackedObject, OBJECT_TABLE>,
}

impl Stamped for Seen {
    fn t(&self) -> MonoTime {
        self.t
    }
}

/// What the trigger model saw in the last seconds.
#[derive(Debug)]
pub(crate) struct ObjectHistory {
    seen: SampleRing<Seen>,
    last: Option<MonoTime>,
}

impl Default for ObjectHistory {
    fn default() -> Self {
        let keep = Span::from_ms(OBJECT_ROWS as u64 * OBJECT_SPACING.as_ms());
        Self { seen: SampleRing::new(OBJECT_ROWS, keep), last: None }
    }
}

impl ObjectHistory {
    /// Takes a look, unless one was taken just before.
    pub(crate) fn push(&mut self, t: MonoTime, objects: &heapless::Vec<TrackedObject, OBJECT_TABLE>) {
        if self.last.is_some_and(|l| t.since(l) < OBJECT_SPACING) {
            return;
        }
        self.last = Some(t);
        self.seen.push(Seen { t, objects: objects.clone() }, None);
    }

    /// The look in force at `t`.
    pub(crate) fn at(&self, t: MonoTime) -> &[TrackedObject] {
        self.seen.at(t).filter(|s| t.since(s.t) <= OBJECTS_FRESH).map_or(&[], |s| &s.objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::{BBox, ObjectClass};

    fn alignment(known: bool) -> Alignment {
        // Mounted with its x axis to the vehicle's left, its y axis backwards.
        let vehicle_from_sensor = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
        Alignment { vehicle_from_sensor, up_known: true, forward_known: known, ..Alignment::default() }
    }

    fn samples(gyro_valid: bool) -> Vec<ImuSample> {
        (0..34)
            .map(|i| ImuSample {
                t: MonoTime(i * 10_000_000),
                accel_mps2: [0.5, 3.0, G_MPS2],
                gyro_rps: [0.0, 0.0, 0.2],
                gyro_valid,
            })
            .collect()
    }

    #[test]
    fn braking_and_turning_left_read_so_in_vehicle_axes() {
        let row = telemetry(samples(true).iter(), &alignment(true), Some(9.0)).unwrap();
        assert!((row.acc_mps2[0] + 3.0).abs() < 1e-4 && (row.acc_mps2[1] - 0.5).abs() < 1e-4, "{row:?}");
        assert!(row.acc_mps2[2].abs() < 1e-4);
        // 0.2 rad/s over 33 steps of 10 ms.
        assert!((row.heading_change_deg - (0.2f32 * 0.33).to_degrees()).abs() < 1e-3, "{row:?}");
        assert_eq!(row.speed_mps, Some(9.0));
    }

    #[test]
    fn without_axes_gyroscope_or_samples_there_is_no_row() {
        assert_eq!(telemetry(samples(true).iter(), &alignment(false), None), None);
        assert_eq!(telemetry(samples(false).iter(), &alignment(true), None), None);
        assert_eq!(telemetry([].iter(), &alignment(true), None), None);
    }

    #[test]
    fn speed_between_two_fixes_is_on_the_line_and_stale_fixes_give_none() {
        let fix = |s: f64, speed_mps: f32| GnssFix {
            t: MonoTime::from_s(s),
            lat_deg: 0.0,
            lon_deg: 0.0,
            alt_m: 0.0,
            speed_mps,
            course_deg: 0.0,
            accuracy_m: None,
            wall: None,
        };
        let mut fixes = SampleRing::new(8, Span::from_s(60));
        for (s, v) in [(1.0, 10.0), (2.0, 20.0), (6.0, 0.0)] {
            assert!(fixes.push(fix(s, v), None));
        }
        let at = |s: f64| between_fixes(&fixes, MonoTime::from_s(s));
        assert!((at(1.25).unwrap() - 12.5).abs() < 1e-4);
        assert_eq!(at(2.0), Some(20.0));
        assert_eq!((at(0.5), at(4.0), at(7.0)), (None, None, None));
    }

    #[test]
    fn objects_are_those_of_the_last_look_and_only_while_it_is_fresh() {
        let mut history = ObjectHistory::default();
        let object = |track| TrackedObject {
            track,
            class: ObjectClass::Car,
            bbox: BBox { x: 0.0, y: 0.0, w: 0.1, h: 0.1 },
            distance_m: None,
            flow_per_s: None,
            closing_mps: None,
            ttc_s: None,
        };
        let at = |ms: u64| MonoTime(ms * 1_000_000);
        for (i, ms) in [0u64, 20, 60, 130].into_iter().enumerate() {
            history.push(at(ms), &[object(i as u32)].into_iter().collect());
        }
        let track = |ms: u64| history.at(at(ms)).first().map(|o| o.track);
        // The look at 20 ms came too soon after the first.
        assert_eq!((track(30), track(60), track(630), track(631)), (Some(0), Some(2), Some(3), None));
    }
}
