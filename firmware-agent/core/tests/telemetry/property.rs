//! Random samples: no panic, and impacts begin and end in turn.

use agent_core::config::TelemetryConfig;
use agent_core::samples::ImuSample;
use agent_core::telemetry::{TelemetryEvent, TelemetryTrigger};
use agent_core::time::MonoTime;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -20.0f32..20.0,
        4 => -200.0f32..200.0,
        1 => any::<f32>(),
    ]
}

fn input() -> impl Strategy<Value = (u64, [f32; 3], [f32; 3], bool, Option<f32>)> {
    let step = prop_oneof![10 => 400_000u64..25_000_000, 1 => Just(0u64), 1 => any::<u64>()];
    (step, prop::array::uniform3(value()), prop::array::uniform3(value()), any::<bool>(), prop::option::of(value()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn impacts_begin_and_end_in_turn(inputs in prop::collection::vec(input(), 1..600)) {
        let mut trigger = TelemetryTrigger::new(TelemetryConfig::default());
        let mut t = 1_000_000_000u64;
        let mut open = false;
        for (step, accel_mps2, gyro_rps, gyro_valid, speed) in inputs {
            // Far jumps go forward and back.
            t = if step > 1 << 40 { step } else { t.saturating_add(step) };
            if let Some(v) = speed {
                trigger.on_speed(MonoTime(t), v);
            }
            for event in trigger.on_imu(&ImuSample { t: MonoTime(t), accel_mps2, gyro_rps, gyro_valid }) {
                match event {
                    TelemetryEvent::ImpactBegan(i) => {
                        prop_assert!(!open && !i.ended);
                        prop_assert!(i.t_zero <= i.t);
                        open = true;
                    }
                    TelemetryEvent::ImpactUpdated(i) => {
                        prop_assert!(open);
                        prop_assert!(i.max_delta_v_mps.is_finite() && i.delta_v_mps[0].is_finite());
                        open = !i.ended;
                    }
                    TelemetryEvent::Harsh { value_mps2, .. } => prop_assert!(value_mps2.is_finite()),
                    TelemetryEvent::Disturbance { peak_mps2, .. } => prop_assert!(peak_mps2.is_finite()),
                }
            }
            let c = trigger.alignment().confidence;
            prop_assert!((0.0..=1.0).contains(&c));
        }
    }
}
