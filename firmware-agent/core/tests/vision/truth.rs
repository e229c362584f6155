//! Simulated objects of known distance and speed, with box noise from a fixed seed; and arbitrary input.

use agent_core::config::VisionConfig;
use agent_core::limits::OBJECT_TABLE;
use agent_core::time::MonoTime;
use agent_core::vision::{BBox, Detection, ObjectClass, VisionAssessment, VisionTrigger};
use proptest::prelude::*;

const ASPECT: f32 = 16.0 / 9.0;

struct Noise(u32);

impl Noise {
    /// About -1 to 1, the same each run.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

/// A car seen at `z` m ahead and `x` m to the right of the camera, which looks along the road from 1.3 m.
fn car(x: f32, z: f32, noise: &mut Noise) -> Detection {
    let f = 0.5 / 35f32.to_radians().tan();
    let (w, h) = (1.8 * f / z * (1.0 + 0.015 * noise.next()), 1.5 * f * ASPECT / z * (1.0 + 0.015 * noise.next()));
    let (cx, bottom) = (0.5 + x * f / z, 0.5 + 1.3 * f * ASPECT / z);
    let bbox = BBox { x: cx - 0.5 * w + 0.002 * noise.next(), y: bottom - h, w, h };
    Detection { class: ObjectClass::Car, score: 0.8, bbox }
}

/// Runs `scene` (time in s to objects (x, z)) at `fps` until `until`, after two seconds of an empty road; the highest risk and
/// the last assessment.
fn drive(fps: f32, until: f32, scene: impl Fn(f32) -> Vec<(f32, f32)>) -> (f32, VisionAssessment) {
    let mut trigger = VisionTrigger::new(VisionConfig::default());
    let (mut noise, mut highest, mut last) = (Noise(7), 0.0f32, VisionAssessment::default());
    for i in 0..(2.0 * fps) as u32 {
        trigger.on_detections(MonoTime::from_s(f64::from(i as f32 / fps)), &[], ASPECT, None);
    }
    for i in 0..(until * fps) as u32 {
        let s = i as f32 / fps;
        let boxes: Vec<Detection> = scene(s).into_iter().map(|(x, z)| car(x, z, &mut noise)).collect();
        last = trigger.on_detections(MonoTime::from_s(2.0 + f64::from(s)), &boxes, ASPECT, None);
        highest = highest.max(last.risk);
    }
    (highest, last)
}

#[test]
fn head_on_approach_has_the_right_time_to_collision_and_rises() {
    for fps in [10.0, 25.0, 60.0] {
        // 15 m/s from 45 m: at 2.0 s it is 15 m away, 1 s from contact.
        let (risk, last) = drive(fps, 2.0, |s| vec![(0.0, 45.0 - 15.0 * s)]);
        let ttc = last.ttc_s.unwrap();
        // The truth at the last frame is 1.0 s and one frame.
        assert!((0.8..=1.4).contains(&ttc), "fps {fps}: ttc {ttc}");
        assert!(risk > 0.2, "fps {fps}: risk {risk}");
        // Looming over 0.8 s and smoothing are late: the trigger fires only some 0.5 s before contact.
        let (risk, _) = drive(fps, 2.5, |s| vec![(0.0, 45.0 - 15.0 * s)]);
        assert!(risk > VisionConfig::default().risk_on, "fps {fps}: risk {risk}");
        let row = last.objects.first().unwrap();
        assert!((row.distance_m.unwrap() - 15.0).abs() < 3.0, "{row:?}");
    }
}

#[test]
fn a_steady_lead_is_no_risk() {
    for fps in [5.0, 25.0, 60.0] {
        let (risk, last) = drive(fps, 6.0, |_| vec![(0.0, 15.0), (3.5, 25.0)]);
        assert!(risk < 0.1, "fps {fps}: {risk}");
        assert_eq!(last.objects.len(), 2);
    }
}

#[test]
fn what_passes_on_the_next_lane_is_no_risk() {
    let (risk, _) = drive(25.0, 2.4, |s| vec![(-4.0, 60.0 - 20.0 * s)]);
    assert!(risk < 0.3, "{risk}");
}

#[test]
fn what_is_passed_in_a_narrow_street_is_no_risk() {
    // Mirror to mirror with a parked car (0.6 m between the bodies), and with one that comes towards us.
    for speed in [8.0, 14.0, 22.0] {
        let (risk, _) = drive(25.0, 2.9, |s| vec![(2.5, 3.0 * speed - speed * s)]);
        assert!(risk < 0.3, "{speed} m/s: {risk}");
    }
}

#[test]
fn what_crosses_far_ahead_is_no_risk() {
    let (risk, _) = drive(25.0, 3.0, |s| vec![(-9.0 + 6.0 * s, 30.0)]);
    assert!(risk < 0.1, "{risk}");
}

#[test]
fn two_that_drive_into_each_other_rise_before_they_touch() {
    // 5 m/s each, centres 16 m apart: bumpers meet at about 1.4 s.
    let (risk, _) = drive(25.0, 1.4, |s| vec![(-8.0 + 5.0 * s, 20.0), (8.0 - 5.0 * s, 20.0)]);
    assert!(risk > 0.6, "{risk}");
    // At other depths the same picture is one passing behind the other.
    let (apart, _) = drive(25.0, 1.4, |s| vec![(-8.0 + 5.0 * s, 20.0), (16.0 - 10.0 * s, 45.0)]);
    assert!(apart < 0.3, "{apart}");
}

#[test]
fn nothing_is_said_while_the_stream_settles() {
    let mut trigger = VisionTrigger::new(VisionConfig::default());
    let mut noise = Noise(3);
    // The clock at the first frame, and again after a gap.
    for begin in [5.0, 60.0] {
        let mut risks = Vec::new();
        for i in 0..56 {
            let s = i as f32 / 25.0;
            let t = MonoTime::from_s(begin + f64::from(s));
            risks.push(trigger.on_detections(t, &[car(0.0, 45.0 - 15.0 * s, &mut noise)], ASPECT, None).risk);
        }
        assert!(risks[..37].iter().all(|r| *r == 0.0), "{risks:?}");
        assert!(risks[55] > 0.3, "{risks:?}");
    }
}

#[test]
fn a_gap_in_time_and_a_clock_that_stands_do_no_harm() {
    let mut trigger = VisionTrigger::new(VisionConfig::default());
    let boxes = [car(0.0, 10.0, &mut Noise(1))];
    let first = trigger.on_detections(MonoTime::from_s(1.0), &boxes, ASPECT, Some(f32::NAN));
    let again = trigger.on_detections(MonoTime::from_s(1.0), &boxes, ASPECT, None);
    assert_eq!(first.risk, again.risk);
    let late = trigger.on_detections(MonoTime::from_s(1e6), &boxes, f32::NAN, None);
    assert!(late.risk.is_finite());
}

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![3 => -0.2f32..1.2, 1 => proptest::num::f32::ANY]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn arbitrary_boxes_keep_the_bounds(
        frames in prop::collection::vec(
            (0u64..2_000_000_000, prop::collection::vec((any_f32(), any_f32(), any_f32(), any_f32(), any_f32()), 0..90)),
            1..30,
        ),
        aspect in any_f32(),
    ) {
        let mut trigger = VisionTrigger::new(VisionConfig::default());
        let mut t = 0u64;
        for (step, boxes) in frames {
            t += step;
            let boxes: Vec<Detection> = boxes
                .into_iter()
                .map(|(x, y, w, h, score)| Detection { class: ObjectClass::Person, score, bbox: BBox { x, y, w, h } })
                .collect();
            let a = trigger.on_detections(MonoTime(t), &boxes, aspect, None);
            prop_assert!((0.0..=1.0).contains(&a.risk));
            prop_assert!(a.objects.len() <= OBJECT_TABLE);
            prop_assert!(a.ttc_s.is_none_or(|v| v.is_finite() && v >= 0.0));
        }
    }
}
