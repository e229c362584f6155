//! Fusion: what the triggers say becomes at most one [`Trigger`] at a time, with hysteresis per source.
//!
//! A source that has fired must fall back below its lower threshold before it can fire again; telemetry does that
//! itself, vision and configured signals here. Whether a trigger makes an event, joins one or is swallowed by the
//! cool-down is decided in [`crate::event`].

use agent_wire::{EventKind, EvidenceSource, Severity};

use crate::config::{FusionConfig, TelemetryConfig, VisionConfig};
use crate::limits::MAX_CUSTOM_SIGNALS;
use crate::samples::{SignalSample, VehicleSignal};
use crate::telemetry::{Impact, Manoeuvre, TelemetryEvent};
use crate::time::MonoTime;
use crate::vision::VisionAssessment;

/// m/s to km/h.
pub const KMH_PER_MPS: f32 = 3.6;

/// One reason, before it is scaled for the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reason {
    /// Which measurement.
    pub source: EvidenceSource,
    /// Its value, in the unit that the source names.
    pub value: f32,
    /// The threshold it was held against.
    pub threshold: f32,
    /// When.
    pub t: MonoTime,
}

/// What fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Kind of event it would make.
    pub kind: EventKind,
    /// Severity it asks for.
    pub severity: Severity,
    /// Time zero if it makes an event.
    pub t_zero: MonoTime,
    /// Why; the strongest first.
    pub reasons: heapless::Vec<Reason, 2>,
    /// The impact, if it is one.
    pub impact: Option<Impact>,
    /// False for the update of an impact that already fired: it may raise its event, never open one.
    pub opens: bool,
}

/// State of the sources that have no hysteresis of their own.
#[derive(Debug)]
pub struct Fusion {
    telemetry: TelemetryConfig,
    vision: VisionConfig,
    config: FusionConfig,
    vision_armed: bool,
    contact_armed: bool,
    airbag_armed: bool,
    signal_armed: [bool; MAX_CUSTOM_SIGNALS],
}

fn trigger(kind: EventKind, severity: Severity, t_zero: MonoTime, reasons: &[Reason]) -> Trigger {
    let reasons = reasons.iter().copied().take(2).collect();
    Trigger { kind, severity, t_zero, reasons, impact: None, opens: true }
}

impl Fusion {
    /// Everything armed.
    #[must_use]
    pub fn new(telemetry: TelemetryConfig, vision: VisionConfig, config: FusionConfig) -> Self {
        Self {
            telemetry,
            vision,
            config,
            vision_armed: true,
            contact_armed: true,
            airbag_armed: true,
            signal_armed: [true; MAX_CUSTOM_SIGNALS],
        }
    }

    /// Severity of an impact of this delta-V, m/s.
    #[must_use]
    pub fn impact_severity(&self, max_delta_v_mps: f32) -> Severity {
        if max_delta_v_mps * KMH_PER_MPS >= self.telemetry.critical_delta_v_kmh {
            Severity::Critical
        } else {
            Severity::Severe
        }
    }

    /// Takes what the telemetry trigger said. Updates of an impact come back as triggers too, so that the event can
    /// be raised; disturbances make none.
    #[must_use]
    pub fn on_telemetry(&self, event: &TelemetryEvent) -> Option<Trigger> {
        match event {
            TelemetryEvent::ImpactBegan(impact) | TelemetryEvent::ImpactUpdated(impact) => {
                let delta_v = Reason {
                    source: EvidenceSource::DeltaV,
                    value: impact.max_delta_v_mps * KMH_PER_MPS,
                    threshold: self.telemetry.impact_delta_v_kmh,
                    t: impact.max_delta_v_at,
                };
                let severity = self.impact_severity(impact.max_delta_v_mps);
                let mut t = trigger(EventKind::Collision, severity, impact.t_zero, &[delta_v]);
                t.impact = Some(*impact);
                t.opens = matches!(event, TelemetryEvent::ImpactBegan(_));
                Some(t)
            }
            TelemetryEvent::Harsh { manoeuvre, t_zero, value_mps2, threshold_mps2 } => {
                if !self.config.harsh_events {
                    return None;
                }
                let (kind, source) = match manoeuvre {
                    Manoeuvre::Braking => (EventKind::HarshBraking, EvidenceSource::Longitudinal),
                    Manoeuvre::Acceleration => (EventKind::HarshAcceleration, EvidenceSource::Longitudinal),
                    Manoeuvre::Cornering => (EventKind::HarshCornering, EvidenceSource::Lateral),
                    Manoeuvre::Unknown => (EventKind::HarshManoeuvre, EvidenceSource::Horizontal),
                };
                let reason = Reason { source, value: *value_mps2, threshold: *threshold_mps2, t: *t_zero };
                Some(trigger(kind, Severity::Minor, *t_zero, &[reason]))
            }
            TelemetryEvent::Disturbance { .. } => None,
        }
    }

    /// Takes what the vision trigger said of the frame at `t`.
    pub fn on_vision(&mut self, t: MonoTime, seen: &VisionAssessment) -> Option<Trigger> {
        let rule = seen.rule.unwrap_or(0.0);
        if seen.risk.max(rule) < self.vision.risk_off {
            self.vision_armed = true;
        }
        // A collision that the head has just seen outranks the danger of one; lifted where the danger is over too.
        let contact = seen.contact.unwrap_or(0.0);
        if contact < self.vision.risk_off {
            self.contact_armed = true;
        } else if self.contact_armed && contact >= self.vision.contact_on {
            (self.contact_armed, self.vision_armed) = (false, false);
            let seen =
                Reason { source: EvidenceSource::VisionRisk, value: contact, threshold: self.vision.contact_on, t };
            return Some(trigger(EventKind::Collision, Severity::Moderate, t, &[seen]));
        }
        let on = if seen.contact.is_some() { self.vision.ahead_on } else { self.vision.risk_on };
        // Where both are sure, the head's word stands: it is a probability.
        let judges = [(seen.risk, on), (rule, self.vision.risk_on)];
        let (value, threshold) = judges.into_iter().find(|(value, on)| value >= on).filter(|_| self.vision_armed)?;
        self.vision_armed = false;
        let risk = Reason { source: EvidenceSource::VisionRisk, value, threshold, t };
        let ttc = seen.ttc_s.map(|value| Reason { source: EvidenceSource::TimeToCollision, value, threshold: 2.0, t });
        let mut out = trigger(EventKind::NearCollision, Severity::Moderate, t, &[risk]);
        out.reasons.extend(ttc);
        Some(out)
    }

    /// Takes a vehicle signal: the airbag, or one that the configuration names.
    pub fn on_signal(&mut self, s: &SignalSample) -> Option<Trigger> {
        match s.signal {
            VehicleSignal::AirbagDeployed => {
                let on = s.value > 0.5;
                let fires = on && self.airbag_armed;
                self.airbag_armed = !on;
                let reason = Reason { source: EvidenceSource::Airbag, value: s.value, threshold: 0.5, t: s.t };
                fires.then(|| trigger(EventKind::Collision, Severity::Critical, s.t, &[reason]))
            }
            VehicleSignal::Custom(index) => {
                let rule = self.config.signals.iter().find(|r| r.index == index)?;
                let armed = self.signal_armed.get_mut(usize::from(index))?;
                let on = if rule.above { s.value > rule.threshold } else { s.value < rule.threshold };
                let fires = on && *armed;
                *armed = !on;
                let reason =
                    Reason { source: EvidenceSource::Signal(index), value: s.value, threshold: rule.threshold, t: s.t };
                fires.then(|| trigger(EventKind::VehicleSignal, rule.severity, s.t, &[reason]))
            }
            _ => None,
        }
    }
}
