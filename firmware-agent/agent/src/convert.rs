//! From the checked configuration to what the core, the detector and the signal map take.

use agent_core::config::{AgentConfig, AskStudent, FusionConfig, RingConfig, RingRates, SignalRule};
use agent_core::samples::VehicleSignal;
use agent_core::time::Span;
use agent_drive::{SignalMap, SignalMapping};
use agent_models::{Detector, RiskHead};
use agent_wire::{Flags, Hash8, Severity};

use crate::config::{Ask, Config, ModelChoice, SignalRef, Threshold, VEHICLE_SIGNALS};
use crate::exit::bad_input;
use crate::preset::preset;

/// Frames a second that the frame ring's index is sized for.
const MAX_FPS: u32 = 60;
/// The report waits this much longer than the student's deadline, for the evidence file.
const EVIDENCE_SLACK_S: f32 = 5.0;

fn span_s(seconds: f32) -> Span {
    Span::from_ms((f64::from(seconds) * 1000.0).round() as u64)
}

/// Rings as configured.
pub(crate) fn rings(config: &Config) -> RingConfig {
    let r = &config.rings;
    let s = |seconds: u32| Span::from_s(u64::from(seconds));
    let rates = RingRates {
        video_mbit_s: r.video_max_mbit_s,
        fps: MAX_FPS,
        imu_hz: r.imu_max_hz,
        can_hz: r.can_max_hz,
        gnss_hz: r.gnss_max_hz,
    };
    RingConfig::sized(s(r.sample_pre_roll_s), s(r.video_pre_roll_s), s(r.post_roll_s), s(r.key_frame_max_s), &rates)
}

/// What the core is told. `flags` are those that hold for the whole input.
pub(crate) fn agent(config: &Config, boot: u32, flags: Flags, trigger_model: Option<Hash8>) -> AgentConfig {
    let signals = config.trigger.signals.iter().enumerate().filter_map(|(index, s)| {
        let (above, threshold) = match s.threshold {
            Threshold::Above(v) => (true, v),
            Threshold::Below(v) => (false, v),
        };
        Some(SignalRule { index: u8::try_from(index).ok()?, threshold, above, severity: s.severity })
    });
    // The panic button is one more signal, after those that the configuration names.
    let button = config.sources.gpio.panic.and(panic_signal(config));
    let button = button.map(|index| SignalRule { index, threshold: 0.5, above: true, severity: Severity::Severe });
    AgentConfig {
        unit: config.unit.name.clone(),
        boot,
        telemetry: config.telemetry(),
        vision: config.vision(),
        rings: rings(config),
        fusion: FusionConfig {
            cool_down: span_s(config.fusion.cool_down_s),
            join_window: span_s(config.fusion.join_window_s),
            harsh_events: config.fusion.harsh_events,
            signals: signals.chain(button).take(agent_core::limits::MAX_CUSTOM_SIGNALS).collect(),
        },
        ask: ask(config),
        report_deadline: span_s(config.student.deadline_s + EVIDENCE_SLACK_S),
        health_interval: Span::from_s(u64::from(config.link.health_interval_s)),
        flags,
        config: config.hash8(),
        trigger_model,
    }
}

/// Which events the student is asked about.
pub(crate) fn ask(config: &Config) -> AskStudent {
    match config.student.ask {
        Ask::Crash => AskStudent::Collisions,
        Ask::Near => AskStudent::NearCollisions,
        Ask::All => AskStudent::All,
    }
}

/// Which configured signal the panic button is.
pub(crate) fn panic_signal(config: &Config) -> Option<u8> {
    u8::try_from(config.trigger.signals.len()).ok()
}

/// The detector as configured.
pub(crate) fn detector(config: &Config) -> anyhow::Result<Option<Detector>> {
    match &config.trigger.vision.model {
        ModelChoice::None => Ok(None),
        ModelChoice::Builtin => Ok(Some(Detector::builtin()?)),
        ModelChoice::File(path) => Ok(Some(Detector::load(&config.resolve(path)).map_err(bad_input)?)),
    }
}

/// The risk head as configured; none where no detector gives it anything to judge.
pub(crate) fn risk_head(config: &Config, detector: bool) -> anyhow::Result<Option<RiskHead>> {
    match &config.trigger.vision.risk_head {
        ModelChoice::Builtin if detector => Ok(Some(RiskHead::builtin()?)),
        ModelChoice::File(path) if detector => Ok(Some(RiskHead::load(&config.resolve(path)).map_err(bad_input)?)),
        _ => Ok(None),
    }
}

/// Reads the configured DBC, if there is one, and maps the configured signals.
pub(crate) fn signal_map(config: &Config) -> anyhow::Result<Option<SignalMap>> {
    let Some(path) = &config.can.dbc else {
        return match preset(config.can.preset) {
            Some((text, _)) => Ok(Some(map_signals(text, config).map_err(bad_input)?)),
            None => Ok(None),
        };
    };
    let path = config.resolve(path);
    let text = read_text(&path)?;
    let map = map_signals(&text, config).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    Ok(Some(map))
}

/// Maps the configured signals of a DBC's text.
pub(crate) fn map_signals(text: &str, config: &Config) -> Result<SignalMap, agent_drive::DbcError> {
    let named = config.can.signals.iter().map(|(signal, place)| mapping(*signal, place));
    let rules = config.trigger.signals.iter().enumerate().filter_map(|(index, s)| {
        let signal = VehicleSignal::Custom(u8::try_from(index).ok()?);
        Some(SignalMapping { signal, message: &s.message, name: &s.signal, scale: 1.0, offset: 0.0, bus: None })
    });
    // What the configuration says of a signal outranks the preset.
    let preset = preset(config.can.preset).map_or(&[][..], |(_, signals)| signals);
    let own = preset.iter().filter(|p| !config.can.signals.iter().any(|(s, _)| *s == p.signal));
    let mappings: Vec<_> = named.chain(own.copied()).chain(rules).collect();
    SignalMap::from_dbc(text, &mappings)
}

fn mapping(signal: VehicleSignal, place: &SignalRef) -> SignalMapping<'_> {
    let (scale, offset) = (f64::from(place.scale), f64::from(place.offset));
    SignalMapping { signal, message: &place.message, name: &place.signal, scale, offset, bus: None }
}

/// `NAME=MESSAGE.SIGNAL[*SCALE]` of the command line; the name is a key of `[can.signals]`.
pub(crate) fn parse_signal(text: &str) -> Result<(VehicleSignal, SignalRef), String> {
    let (name, place) = text.split_once('=').ok_or("not NAME=MESSAGE.SIGNAL[*SCALE]")?;
    let known = VEHICLE_SIGNALS.iter().find(|(short, vss, _)| *short == name || *vss == name);
    let (.., signal) = known.ok_or_else(|| {
        let names: Vec<_> = VEHICLE_SIGNALS.iter().map(|(short, ..)| *short).collect();
        format!("{name} is none of {}", names.join(", "))
    })?;
    let (place, scale) = match place.split_once('*') {
        Some((place, scale)) => (place, scale.parse::<f32>().map_err(|_| format!("{scale} is no number"))?),
        None => (place, 1.0),
    };
    if !scale.is_finite() || scale == 0.0 {
        return Err(format!("a scale of {scale} makes no signal"));
    }
    let (message, name) = place.split_once('.').ok_or("not MESSAGE.SIGNAL after the '='")?;
    Ok((*signal, SignalRef { message: message.to_owned(), signal: name.to_owned(), scale, offset: 0.0 }))
}

/// Largest DBC file that is read, bytes.
const MAX_DBC_BYTES: u64 = 8 << 20;

/// A text file of bounded size.
pub(crate) fn read_text(path: &std::path::Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    let mut bytes = Vec::new();
    file.take(MAX_DBC_BYTES + 1).read_to_end(&mut bytes).map_err(|e| bad_input(format!("{shown}: {e}")))?;
    if bytes.len() as u64 > MAX_DBC_BYTES {
        return Err(bad_input(format!("{shown}: larger than {MAX_DBC_BYTES} bytes")));
    }
    // DBC files are often Latin-1; names of signals are ASCII, so comments may lose their accents.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `check-config` prints is what the core takes: the plan leaves out only the index of the frame ring.
    #[test]
    fn the_memory_plan_is_what_the_rings_take() {
        let config = Config::default_embedded().unwrap();
        let core = agent_core::agent::Agent::new(agent(&config, 1, Flags::default(), None));
        let (plan, taken) = (config.memory().event_bytes(), core.ring_memory() as u64);
        assert!(taken >= plan && taken < plan + 100_000, "{taken} taken, {plan} planned");
    }

    /// Frames as a truck and a car send them.
    #[test]
    fn presets_decode_frames_and_take_no_value_for_one_that_is_not_available() {
        use agent_core::samples::{CanFrame, SignalSample};
        let decoded = |preset: &str, id: u32, bytes: [u8; 8]| {
            let config = crate::config::load_str("u", &format!("[can]\npreset = \"{preset}\"\n")).unwrap();
            let mut map = signal_map(&config).unwrap().unwrap();
            let mut data = [0; 64];
            data[..8].copy_from_slice(&bytes);
            let t = agent_core::time::MonoTime(1);
            let frame = CanFrame { t, bus: 0, id, extended: id > 0x7ff, fd: false, remote: false, len: 8, data };
            let mut out: Vec<SignalSample> = Vec::new();
            map.decode(&frame, &mut out);
            out.iter().map(|s| (s.signal, (s.value * 100.0).round() / 100.0)).collect::<Vec<_>>()
        };
        // 80 km/h, brake pressed, from address 0x0B; then both not available, then an error.
        let ccvs =
            |speed: [u8; 2], switches| decoded("j1939", 0x18FE_F10B, [0xff, speed[0], speed[1], switches, 0, 0, 0, 0]);
        assert_eq!(ccvs([0x00, 0x50], 0b0001_0000), [(VehicleSignal::Speed, 22.22), (VehicleSignal::Brake, 1.0)]);
        assert_eq!(ccvs([0xff, 0xff], 0b0011_0000), []);
        assert_eq!(ccvs([0x00, 0xfe], 0b0010_0000), []);
        assert_eq!(
            decoded("j1939", 0x0CF0_0400, [0, 0, 0, 0x80, 0x25, 0, 0, 0]),
            [(VehicleSignal::EngineSpeed, 1200.0)]
        );
        let yaw = decoded("j1939", 0x0CF0_0913, [0xe0, 0x7d, 0, 0x70, 0x7d, 0, 0, 0]);
        assert_eq!(yaw[1], (VehicleSignal::YawRate, 0.0), "{yaw:?}");
        assert_eq!(decoded("obd2", 0x7e8, [3, 0x41, 0x0d, 50, 0, 0, 0, 0]), [(VehicleSignal::Speed, 13.89)]);
        assert_eq!(
            decoded("obd2", 0x7e8, [4, 0x41, 0x0c, 0x1a, 0xf8, 0, 0, 0]),
            [(VehicleSignal::EngineSpeed, 1726.0)]
        );
        assert_eq!(decoded("obd2", 0x7e8, [3, 0x7f, 0x01, 0x12, 0, 0, 0, 0]), [], "a refusal");
    }

    #[test]
    fn signals_of_the_command_line_are_read_and_refused_by_name() {
        let (signal, place) = parse_signal("speed=ESP.V*0.2777778").unwrap();
        assert_eq!(signal, VehicleSignal::Speed);
        assert_eq!(parse_signal("Vehicle.Speed=ESP.V*0.2777778"), Ok((signal, place.clone())));
        assert_eq!((place.message.as_str(), place.signal.as_str(), place.scale), ("ESP", "V", 0.277_777_8));
        for (text, why) in [
            ("speed", "not NAME"),
            ("sped=A.B", "sped is none of speed"),
            ("speed=A", "not MESSAGE.SIGNAL"),
            ("speed=A.B*x", "x is no number"),
            ("speed=A.B*0", "a scale of 0"),
        ] {
            assert!(parse_signal(text).unwrap_err().starts_with(why), "{text}");
        }
    }
}
