//! Harsh braking, acceleration and cornering: a low-passed horizontal acceleration that stays above its threshold.
//!
//! Each manoeuvre is told once, when it has lasted, and is over when the value has been below the release share of
//! the threshold. Before the vehicle's forward axis is known there is one manoeuvre, [`Manoeuvre::Unknown`], by
//! magnitude, at the lowest of the thresholds. Never speaks during an impact or shortly after it.

use super::vec3::{V3, add, clamp_len, dot, norm, scale, sub};
use super::{Manoeuvre, TelemetryEvent};
use crate::config::TelemetryConfig;
use crate::time::{MonoTime, Span};

/// Low-pass, s: takes off the vibration and leaves a brake pedal's edge.
const LOW_PASS_S: f64 = 0.3;
/// No tyre gives more, m/s^2: a shock counts for no more than this.
const TYRE_LIMIT: f64 = 12.0;
/// How long the value must stay below the release for the manoeuvre to be over.
const RELEASE: Span = Span::from_ms(300);

#[derive(Clone, Copy, Debug)]
enum Phase {
    Calm,
    /// Above the threshold since.
    Rising(MonoTime),
    /// Told; not below the release since.
    Told,
    /// Below the release since.
    Falling(MonoTime),
}

/// One direction's state.
#[derive(Clone, Copy, Debug)]
struct Channel {
    phase: Phase,
}

impl Channel {
    /// Time of the crossing, once, when the value has lasted.
    fn step(&mut self, t: MonoTime, value: f64, on: f64, off: f64, lasting: Span) -> Option<MonoTime> {
        let (next, told) = match self.phase {
            Phase::Calm if value >= on => (Phase::Rising(t), None),
            Phase::Calm => (Phase::Calm, None),
            Phase::Rising(_) if value < on => (Phase::Calm, None),
            Phase::Rising(since) if t.since(since) >= lasting => (Phase::Told, Some(since)),
            Phase::Rising(since) => (Phase::Rising(since), None),
            Phase::Told if value < off => (Phase::Falling(t), None),
            Phase::Told => (Phase::Told, None),
            Phase::Falling(_) if value >= off => (Phase::Told, None),
            Phase::Falling(since) if t.since(since) >= RELEASE => (Phase::Calm, None),
            Phase::Falling(since) => (Phase::Falling(since), None),
        };
        self.phase = next;
        told
    }
}

#[derive(Clone, Debug)]
pub(super) struct Harsh {
    low: V3,
    knew_axes: bool,
    channels: [Channel; 3],
}

impl Harsh {
    pub(super) fn new() -> Self {
        Self { low: [0.0; 3], knew_axes: false, channels: [Channel { phase: Phase::Calm }; 3] }
    }

    /// After a gap or an impact nothing is known of the present manoeuvre.
    pub(super) fn reset(&mut self) {
        self.low = [0.0; 3];
        self.channels = [Channel { phase: Phase::Calm }; 3];
    }

    /// Takes the horizontal acceleration in sensor axes, m/s^2, and the forward and left axes once known.
    pub(super) fn step(
        &mut self,
        config: &TelemetryConfig,
        t: MonoTime,
        dt_s: f64,
        accel: V3,
        axes: Option<(V3, V3)>,
    ) -> Option<TelemetryEvent> {
        let k = 1.0 - (-dt_s / LOW_PASS_S).exp();
        self.low = add(self.low, scale(sub(clamp_len(accel, TYRE_LIMIT), self.low), k));
        if axes.is_some() != self.knew_axes {
            // The channels change meaning: a manoeuvre told under the old one must not be told again.
            self.knew_axes = axes.is_some();
            let any = self.channels.iter().any(|c| matches!(c.phase, Phase::Told | Phase::Falling(_)));
            self.channels = [Channel { phase: if any { Phase::Told } else { Phase::Calm } }; 3];
        }
        let brake = f64::from(config.harsh_braking_mps2);
        let accelerate = f64::from(config.harsh_acceleration_mps2);
        let corner = f64::from(config.harsh_cornering_mps2);
        let values = match axes {
            Some((forward, left)) => {
                let along = dot(self.low, forward);
                [
                    (Manoeuvre::Braking, -along, brake),
                    (Manoeuvre::Acceleration, along, accelerate),
                    (Manoeuvre::Cornering, dot(self.low, left).abs(), corner),
                ]
            }
            None => [
                (Manoeuvre::Unknown, norm(self.low), brake.min(accelerate).min(corner)),
                (Manoeuvre::Unknown, 0.0, brake),
                (Manoeuvre::Unknown, 0.0, brake),
            ],
        };
        let lasting = Span::from_ms(u64::from(config.harsh_duration_ms));
        let mut event = None;
        for (channel, (manoeuvre, value, on)) in self.channels.iter_mut().zip(values) {
            let off = on * f64::from(config.harsh_release_share);
            if let Some(t_zero) = channel.step(t, value, on, off, lasting) {
                // At most one a sample: two channels never pass on the same sample but by chance, and then the
                // first, braking, tells.
                event.get_or_insert(TelemetryEvent::Harsh {
                    manoeuvre,
                    t_zero,
                    value_mps2: value as f32,
                    threshold_mps2: on as f32,
                });
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_manoeuvre_is_told_once_though_it_wavers() {
        let config = TelemetryConfig::default();
        let mut h = Harsh::new();
        let axes = Some(([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]));
        let mut told = Vec::new();
        for i in 0..1000u64 {
            let a = if (200..600).contains(&i) { -8.0 + 2.0 * ((i / 20) % 2) as f64 } else { 0.0 };
            told.extend(h.step(&config, MonoTime(i * 10_000_000), 0.01, [a, 0.0, 0.0], axes));
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(matches!(told[0], TelemetryEvent::Harsh { manoeuvre: Manoeuvre::Braking, .. }));
    }

    #[test]
    fn a_short_shock_is_no_manoeuvre() {
        let config = TelemetryConfig::default();
        let mut h = Harsh::new();
        for i in 0..1000u64 {
            let a = if (200..210).contains(&i) { 120.0 } else { 0.0 };
            let got = h.step(&config, MonoTime(i * 10_000_000), 0.01, [a, 0.0, 0.0], None);
            assert_eq!(got, None);
        }
    }
}
