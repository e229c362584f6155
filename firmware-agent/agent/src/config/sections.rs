//! From the merged tree to a [`Config`]: what each key may hold, and the rules between keys.
//!
//! One function for each section, in the order of `base.toml`. Bounds are those of the core where it has one. A
//! function returns `None` only after it has noted a problem; rules between values are skipped for faulty ones.

use std::path::PathBuf;

use agent_core::limits as core_limits;
use agent_wire::{Severity, UnitId};

use super::camera::camera;
use super::can::can_buses;
use super::commands::commands;
use super::error::Problem;
use super::evidence::evidence;
use super::gnss::gnss;
use super::gpio::gpio;
use super::imu::imu;
use super::limits;
use super::link::link;
use super::memory::MemoryPlan;
use super::model_choice::ModelChoice;
use super::reader::{At, Section, refuse, text, whole};
use super::tree::{Files, Node, Spot, Table, Value};
use super::types::{
    Ask, CanConfig, CanPreset, ClassConfig, Classes, Config, FusionConfig, RingsConfig, SignalRef, SmallerStep,
    SourceKind, SourcesConfig, StudentBackend, StudentConfig, StudentDevice, StudentPruning, TelemetryTriggerConfig,
    Threshold, TriggerConfig, TriggerSignal, UnitConfig, VEHICLE_SIGNALS, VehicleClass, VisionRule,
    VisionTriggerConfig,
};
use super::updates::updates;

/// Reads the whole tree. `None`, or problems noted in `files`, mean that there is no configuration.
pub(super) fn config(files: &mut Files, tree: &Table, folder: PathBuf) -> Option<Config> {
    let mut top = Section::top(tree);
    // The chain has been followed by then.
    let _ = top.has("inherits");
    let unit = unit(files, &mut top);
    let classes = classes(files, &mut top);
    let rings = rings(files, &mut top);
    let (can, dbc) = can(files, &mut top);
    let trigger = trigger(files, &mut top, dbc);
    let fusion = fusion(files, &mut top);
    let student = student(files, &mut top);
    let link = link(files, &mut top);
    let commands = commands(files, &mut top);
    let updates = updates(files, &mut top);
    let evidence = evidence(files, &mut top, rings.as_ref());
    let sources = sources(files, &mut top, rings.as_ref(), trigger.as_ref(), dbc);
    top.finish(files);
    let config = Config {
        unit: unit?,
        classes: classes?,
        rings: rings?,
        trigger: trigger?,
        can,
        fusion,
        student: student?,
        link: link?,
        commands,
        updates,
        evidence,
        sources: sources?,
        folder,
    };
    overrides_fit_class(files, tree, &config);
    Some(config)
}

/// Refuses the name of a shipped file (those from number `shipped` on), and that of `base.toml` wherever it is written, as
/// the name of a unit: all units that keep it would share topics and event ids.
pub(super) fn name_of_its_own(files: &mut Files, tree: &Table, shipped: usize, base: Option<&Node>) {
    let Some(node) = tree.find(&["unit", "name"]) else { return };
    let as_in_base =
        matches!((&node.value, base.map(|b| &b.value)), (Value::Text(name), Some(Value::Text(base))) if name == base);
    if as_in_base || node.spot.file >= shipped {
        let reason = "a placeholder: all units that keep it share topics and event ids; give this one a name of its own \
                      under [unit]";
        refuse(files, node.spot, "unit.name".to_owned(), reason.to_owned());
    }
}

/// The rule that `critical` is at least `impact` once more, for the mix of a class and `[trigger.telemetry]`.
fn overrides_fit_class(files: &mut Files, tree: &Table, config: &Config) {
    let telemetry = config.telemetry();
    if telemetry.critical_delta_v_kmh >= telemetry.impact_delta_v_kmh {
        return;
    }
    let cases = [
        ("critical_delta_v_kmh", "below the impact_delta_v_kmh", telemetry.impact_delta_v_kmh),
        ("impact_delta_v_kmh", "above the critical_delta_v_kmh", telemetry.critical_delta_v_kmh),
    ];
    for (key, relation, other) in cases {
        let class = config.unit.vehicle_class.name();
        if let Some(node) = tree.find(&["trigger", "telemetry", key]) {
            let reason = format!("{relation} of {other} that applies (vehicle_class is \"{class}\")");
            refuse(files, node.spot, format!("trigger.telemetry.{key}"), reason);
            return;
        }
    }
}

/// Notes that `key` breaks a rule with another value, naming that one and its place.
fn against(files: &mut Files, at: Spot, key: String, relation: &str, other: &str, other_at: Spot) {
    let value = files.quote(other_at);
    let place = files.place(Some(other_at));
    refuse(files, at, key, format!("{relation} {other}, which is {value} ({place})"));
}

/// Two values of a section of which the first must not be above the second; the one that stands in the later file is refused.
fn in_order(files: &mut Files, s: &Section<'_>, low: (&'static str, &At<f32>), high: (&'static str, &At<f32>)) {
    let (Some(low_at), Some(high_at)) = (low.1.spot, high.1.spot) else { return };
    if low.1.value <= high.1.value {
        return;
    }
    if high_at.file < low_at.file {
        against(files, high_at, s.key(high.0), "below", &s.key(low.0), low_at);
    } else {
        against(files, low_at, s.key(low.0), "above", &s.key(high.0), high_at);
    }
}

fn name(files: &mut Files, section: &mut Section<'_>, key: &'static str) -> Option<UnitId> {
    let check = |text: &str| UnitId::new(text).map_err(|e| e.to_string());
    section.checked(files, key, "a name", check).map(|at| at.value)
}

fn unit(files: &mut Files, top: &mut Section<'_>) -> Option<UnitConfig> {
    let mut s = top.section(files, "unit");
    let unit = name(files, &mut s, "name");
    let fleet = name(files, &mut s, "fleet");
    let classes = [
        ("car", VehicleClass::Car),
        ("van", VehicleClass::Van),
        ("truck", VehicleClass::Truck),
        ("bus", VehicleClass::Bus),
    ];
    let class = s.word(files, "vehicle_class", &classes);
    let mode = s.checked(files, "power_mode", "\"none\" or a mode's name", |text| match text {
        "none" => Ok(None),
        name => UnitId::new(name).map(Some).map_err(|e| e.to_string()),
    });
    s.finish(files);
    Some(UnitConfig { name: unit?, fleet: fleet?, vehicle_class: class?.value, power_mode: mode?.value })
}

fn classes(files: &mut Files, top: &mut Section<'_>) -> Option<Classes> {
    let mut s = top.section(files, "classes");
    let classes = Classes {
        car: class(files, &mut s, "car"),
        van: class(files, &mut s, "van"),
        truck: class(files, &mut s, "truck"),
        bus: class(files, &mut s, "bus"),
    };
    s.finish(files);
    Some(classes)
}

// Bounds of the thresholds, shared by [classes.*] and [trigger.telemetry]. A delta-V threshold below 2 km/h is a
// speed bump; 150 ms is Part 563's window and no pulse of a crash lasts 1 s; tyres give about 10 m/s^2.
const DELTA_V_KMH: (f32, f32) = (2.0, 100.0);
const WINDOW_MS: (u32, u32) = (20, 1000);
const HARSH_MPS2: (f32, f32) = (1.0, 15.0);
const DURATION_MS: (u32, u32) = (50, 5000);

fn class(files: &mut Files, classes: &mut Section<'_>, key: &'static str) -> ClassConfig {
    let mut s = classes.section(files, key);
    let impact = s.real(files, "impact_delta_v_kmh", DELTA_V_KMH.0, DELTA_V_KMH.1);
    let window = s.whole(files, "impact_window_ms", WINDOW_MS.0, WINDOW_MS.1);
    let critical = s.real(files, "critical_delta_v_kmh", DELTA_V_KMH.0, DELTA_V_KMH.1);
    critical_above_impact(files, &s, &critical, &impact);
    let harsh = |files: &mut Files, s: &mut Section<'_>, key| s.real(files, key, HARSH_MPS2.0, HARSH_MPS2.1).value;
    let class = ClassConfig {
        impact_delta_v_kmh: impact.value,
        impact_window_ms: window.value,
        critical_delta_v_kmh: critical.value,
        harsh_braking_mps2: harsh(files, &mut s, "harsh_braking_mps2"),
        harsh_acceleration_mps2: harsh(files, &mut s, "harsh_acceleration_mps2"),
        harsh_cornering_mps2: harsh(files, &mut s, "harsh_cornering_mps2"),
        harsh_duration_ms: s.whole(files, "harsh_duration_ms", DURATION_MS.0, DURATION_MS.1).value,
    };
    s.finish(files);
    class
}

fn critical_above_impact(files: &mut Files, s: &Section<'_>, critical: &At<f32>, impact: &At<f32>) {
    if let (Some(c), Some(i)) = (critical.spot, impact.spot)
        && critical.value < impact.value
    {
        // The value that the user wrote is named, whichever of the two it is.
        if i.file < c.file {
            let (key, other) = (s.key("impact_delta_v_kmh"), s.key("critical_delta_v_kmh"));
            against(files, i, key, "above", &other, c);
        } else {
            let (key, other) = (s.key("critical_delta_v_kmh"), s.key("impact_delta_v_kmh"));
            against(files, c, key, "below", &other, i);
        }
    }
}

fn rings(files: &mut Files, top: &mut Section<'_>) -> Option<RingsConfig> {
    let mut s = top.section(files, "rings");
    let rings = RingsConfig {
        sample_pre_roll_s: s.whole(files, "sample_pre_roll_s", 1, core_limits::MAX_SAMPLE_PRE_ROLL_S).value,
        video_pre_roll_s: s.whole(files, "video_pre_roll_s", 1, core_limits::MAX_VIDEO_PRE_ROLL_S).value,
        post_roll_s: s.whole(files, "post_roll_s", 1, core_limits::MAX_POST_ROLL_S).value,
        key_frame_max_s: s.whole(files, "key_frame_max_s", 1, 30).value,
        video_max_mbit_s: s.real(files, "video_max_mbit_s", 0.1, limits::MAX_VIDEO_MBIT_S).value,
        imu_max_hz: s.whole(files, "imu_max_hz", 10, core_limits::MAX_IMU_HZ).value,
        can_max_hz: s.whole(files, "can_max_hz", 10, core_limits::MAX_CAN_HZ).value,
        gnss_max_hz: s.whole(files, "gnss_max_hz", 1, limits::MAX_GNSS_HZ).value,
        small_frame_width: s.whole(files, "small_frame_width", 32, limits::MAX_SMALL_FRAME_PX).value,
        small_frame_height: s.whole(files, "small_frame_height", 32, limits::MAX_SMALL_FRAME_PX).value,
        small_frame_count: s.whole(files, "small_frame_count", 2, limits::MAX_SMALL_FRAMES).value,
        memory_cap_mb: 0,
    };
    let cap = s.whole(files, "memory_cap_mb", 1, limits::MAX_MEMORY_MB);
    let rings = RingsConfig { memory_cap_mb: cap.value, ..rings };
    let key = s.key("memory_cap_mb");
    s.finish(files);
    let plan = MemoryPlan::of(&rings);
    if let Some(spot) = cap.spot
        && plan.total_bytes() > plan.cap_bytes
    {
        refuse(files, spot, key, format!("below what [rings] needs: {}", plan.sum()));
    }
    Some(rings)
}

fn trigger(files: &mut Files, top: &mut Section<'_>, dbc: bool) -> Option<TriggerConfig> {
    let mut s = top.section(files, "trigger");
    let list = s.list(files, "signals", limits::MAX_TRIGGER_SIGNALS);
    let mut signals: Vec<TriggerSignal> = Vec::with_capacity(list.value.len());
    let mut complete = list.spot.is_some();
    for (i, node) in list.value.iter().enumerate() {
        match trigger_signal(files, format!("trigger.signals[{i}]"), node, &signals, dbc) {
            Some(signal) => signals.push(signal),
            None => complete = false,
        }
    }
    let vision = vision(files, &mut s);
    let telemetry = telemetry(files, &mut s);
    s.finish(files);
    complete.then_some(TriggerConfig { signals, vision, telemetry })
}

fn trigger_signal(
    files: &mut Files,
    path: String,
    node: &Node,
    before: &[TriggerSignal],
    dbc: bool,
) -> Option<TriggerSignal> {
    let mut s = Section::entry(files, path.clone(), node);
    let name = s.checked(files, "name", "a name", |text| {
        if text.is_empty() || text.len() > limits::MAX_SIGNAL_NAME_BYTES {
            Err(format!("not 1 to {} bytes long", limits::MAX_SIGNAL_NAME_BYTES))
        } else if before.iter().any(|b| b.name == text) {
            Err("the name of an earlier signal too".to_owned())
        } else {
            Ok(text.to_owned())
        }
    });
    let signal = s.checked(files, "signal", "\"MESSAGE.SIGNAL\"", message_signal);
    if let Some(At { spot: Some(spot), .. }) = &signal
        && !dbc
    {
        refuse(files, *spot, s.key("signal"), NO_DBC.to_owned());
    }
    let above = s.real_or_none(files, "above", f32::MIN, f32::MAX);
    let below = s.real_or_none(files, "below", f32::MIN, f32::MAX);
    let severities = [
        ("minor", Severity::Minor),
        ("moderate", Severity::Moderate),
        ("severe", Severity::Severe),
        ("critical", Severity::Critical),
    ];
    let severity = s.word(files, "severity", &severities);
    let spot = s.spot();
    s.finish(files);
    let threshold = match (above, below) {
        (Some(above), None) => Threshold::Above(above.value),
        (None, Some(below)) => Threshold::Below(below.value),
        (None, None) => {
            files.problem(spot, Problem::Missing { key: format!("{path}.above"), wanted: "above or below".to_owned() });
            return None;
        }
        (Some(_), Some(below)) => {
            let spot = below.spot?;
            refuse(files, spot, format!("{path}.below"), "beside above; a signal fires on one side".to_owned());
            return None;
        }
    };
    let (message, signal) = signal?.value;
    Some(TriggerSignal { name: name?.value, message, signal, threshold, severity: severity?.value })
}

/// `MESSAGE.SIGNAL`, both identifiers of the C kind, as a DBC has them.
fn message_signal(text: &str) -> Result<(String, String), String> {
    let identifier = |s: &str| {
        !s.is_empty()
            && !s.starts_with(|c: char| c.is_ascii_digit())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once('.') {
        Some((message, signal)) if identifier(message) && identifier(signal) => {
            Ok((message.to_owned(), signal.to_owned()))
        }
        _ => Err("not of the form MESSAGE.SIGNAL".to_owned()),
    }
}

fn vision(files: &mut Files, trigger: &mut Section<'_>) -> VisionTriggerConfig {
    let mut s = trigger.section(files, "vision");
    let model = ModelChoice::from_path(s.path_or_none(files, "model").value);
    let risk_head = ModelChoice::from_path(s.path_or_none(files, "risk_head").value);
    let rules = [("alone", VisionRule::Alone), ("beside", VisionRule::Beside)];
    let rule = s.word(files, "rule", &rules).map_or(VisionRule::Alone, |rule| rule.value);
    let ahead_on = s.real(files, "ahead_on", 0.01, 1.0).value;
    let contact_on = s.real(files, "contact_on", 0.01, 1.0).value;
    // A risk of 0 would make every frame an event.
    let on = s.real(files, "risk_on", 0.01, 1.0);
    let off = s.real(files, "risk_off", 0.0, 1.0);
    let min_score = s.real(files, "min_score", 0.0, 1.0).value;
    let every_nth_frame = s.whole(files, "every_nth_frame", 1, 60).value;
    let hfov_deg = s.real(files, "hfov_deg", 10.0, 170.0).value;
    in_order(files, &s, ("risk_off", &off), ("risk_on", &on));
    s.finish(files);
    VisionTriggerConfig {
        model,
        risk_head,
        rule,
        ahead_on,
        contact_on,
        risk_on: on.value,
        risk_off: off.value,
        min_score,
        every_nth_frame,
        hfov_deg,
    }
}

fn telemetry(files: &mut Files, trigger: &mut Section<'_>) -> TelemetryTriggerConfig {
    let mut s = trigger.section(files, "telemetry");
    let accel_range_g = s.real(files, "accel_range_g", 1.0, 500.0).value;
    let impact = s.real_or_none(files, "impact_delta_v_kmh", DELTA_V_KMH.0, DELTA_V_KMH.1);
    let critical = s.real_or_none(files, "critical_delta_v_kmh", DELTA_V_KMH.0, DELTA_V_KMH.1);
    if let (Some(impact), Some(critical)) = (&impact, &critical) {
        critical_above_impact(files, &s, critical, impact);
    }
    let harsh = |files: &mut Files, s: &mut Section<'_>, key| {
        s.real_or_none(files, key, HARSH_MPS2.0, HARSH_MPS2.1).map(|at| at.value)
    };
    let telemetry = TelemetryTriggerConfig {
        accel_range_g,
        impact_delta_v_kmh: impact.map(|at| at.value),
        impact_window_ms: s.whole_or_none(files, "impact_window_ms", WINDOW_MS.0, WINDOW_MS.1).map(|at| at.value),
        critical_delta_v_kmh: critical.map(|at| at.value),
        harsh_braking_mps2: harsh(files, &mut s, "harsh_braking_mps2"),
        harsh_acceleration_mps2: harsh(files, &mut s, "harsh_acceleration_mps2"),
        harsh_cornering_mps2: harsh(files, &mut s, "harsh_cornering_mps2"),
        harsh_duration_ms: s.whole_or_none(files, "harsh_duration_ms", DURATION_MS.0, DURATION_MS.1).map(|at| at.value),
    };
    s.finish(files);
    telemetry
}

/// Why a signal was refused.
const NO_DBC: &str = "but can.dbc is none: there is no DBC to find it in";

/// The section, and whether a DBC is named; a faulty name counts as one.
fn can(files: &mut Files, top: &mut Section<'_>) -> (CanConfig, bool) {
    let mut s = top.section(files, "can");
    let dbc = s.path_or_none(files, "dbc");
    let presets = [("none", CanPreset::None), ("j1939", CanPreset::J1939), ("obd2", CanPreset::Obd2)];
    let preset = s.word(files, "preset", &presets).unwrap_or(At { value: CanPreset::None, spot: None });
    if let (Some(spot), true, true) = (preset.spot, preset.value != CanPreset::None, dbc.value.is_some()) {
        refuse(files, spot, s.key("preset"), format!("beside {}: a preset brings its own", s.key("dbc")));
    }
    let list = s.list(files, "buses", limits::MAX_BUSES);
    let mut buses: Vec<u8> = Vec::with_capacity(list.value.len());
    for (i, node) in list.value.iter().enumerate() {
        let key = format!("can.buses[{i}]");
        let At { value, spot } = whole(files, &key, node, 0, u32::from(u8::MAX));
        let bus = u8::try_from(value).unwrap_or(u8::MAX);
        match spot {
            Some(spot) if buses.contains(&bus) => refuse(files, spot, key, "named twice".to_owned()),
            Some(_) => buses.push(bus),
            None => {}
        }
    }
    let mut map = s.section(files, "signals");
    let mut signals = Vec::new();
    let mut first: Option<(Spot, String)> = None;
    for (short, vss, signal) in VEHICLE_SIGNALS {
        let Some((key, node)) = named_signal(files, &mut map, short, vss) else { continue };
        if let Some(place) = signal_ref(files, key.clone(), node) {
            first.get_or_insert((node.spot, key));
            signals.push((signal, place));
        }
    }
    map.finish(files);
    s.finish(files);
    let named = dbc.value.is_some() || dbc.spot.is_none() || preset.value != CanPreset::None || preset.spot.is_none();
    if let (Some((spot, key)), false) = (first, named) {
        refuse(files, spot, key, NO_DBC.to_owned());
    }
    (CanConfig { dbc: dbc.value, preset: preset.value, buses, signals }, named)
}

/// A signal by its short name or its VSS path, with the key that was used. Of two files the nearer one says; one file may
/// not say both.
fn named_signal<'t>(
    files: &mut Files,
    map: &mut Section<'t>,
    short: &'static str,
    vss: &'static str,
) -> Option<(String, &'t Node)> {
    let (by_short, by_vss) = (map.optional(short), map.alias(vss));
    let (short, vss) = (map.key(short), map.key(&format!("\"{vss}\"")));
    match (by_short, by_vss) {
        (Some(one), Some(other)) if one.spot.file == other.spot.file => {
            refuse(files, other.spot, vss, format!("beside {short}, which is the same signal"));
            None
        }
        (one, Some(other)) if one.is_none_or(|one| other.spot.file < one.spot.file) => Some((vss, other)),
        (one, _) => one.map(|node| (short, node)),
    }
}

/// `"MESSAGE.SIGNAL"`, a table with it and a conversion, or `"none"` to take an inherited one away.
fn signal_ref(files: &mut Files, path: String, node: &Node) -> Option<SignalRef> {
    if !matches!(node.value, Value::Table(_)) {
        let At { value, spot } =
            text(files, &path, node, "\"MESSAGE.SIGNAL\", or a table with signal, scale and offset");
        let spot = spot?;
        if value == "none" {
            return None;
        }
        return match message_signal(&value) {
            Ok((message, signal)) => Some(SignalRef { message, signal, scale: 1.0, offset: 0.0 }),
            Err(reason) => {
                refuse(files, spot, path, reason);
                None
            }
        };
    }
    let mut s = Section::entry(files, path.clone(), node);
    let signal = s.checked(files, "signal", "\"MESSAGE.SIGNAL\"", message_signal);
    let scale = s.real_or_none(files, "scale", -1e6, 1e6).unwrap_or(At { value: 1.0, spot: None });
    let offset = s.real_or_none(files, "offset", -1e6, 1e6).map_or(0.0, |at| at.value);
    s.finish(files);
    if let Some(spot) = scale.spot
        && scale.value == 0.0
    {
        refuse(files, spot, format!("{path}.scale"), "which would make every value the same".to_owned());
    }
    let (message, signal) = signal?.value;
    Some(SignalRef { message, signal, scale: scale.value, offset })
}

fn fusion(files: &mut Files, top: &mut Section<'_>) -> FusionConfig {
    let mut s = top.section(files, "fusion");
    let cool = s.real(files, "cool_down_s", 0.0, 3600.0);
    let join = s.real(files, "join_window_s", 0.0, 60.0);
    in_order(files, &s, ("join_window_s", &join), ("cool_down_s", &cool));
    let harsh_events = s.flag(files, "harsh_events").value;
    s.finish(files);
    FusionConfig { cool_down_s: cool.value, join_window_s: join.value, harsh_events }
}

fn student(files: &mut Files, top: &mut Section<'_>) -> Option<StudentConfig> {
    let mut s = top.section(files, "student");
    let model = s.path_or_none(files, "model").value;
    let deadline_s = s.real(files, "deadline_s", 0.5, 600.0).value;
    let ask = s.word(files, "ask", &[("crash", Ask::Crash), ("near", Ask::Near), ("all", Ask::All)]);
    let telemetry = s.flag(files, "telemetry").value;
    let worker = s.path_or_none(files, "worker");
    let connect = s.path_or_none(files, "connect");
    if let (Some(at), Some(_), Some(_)) = (connect.spot, &worker.value, &connect.value) {
        refuse(files, at, s.key("connect"), "beside student.worker; one worker, one way to it".to_owned());
    }
    let device = s.word(files, "device", &[("cpu", StudentDevice::Cpu), ("cuda", StudentDevice::Cuda)]);
    if let Some(At { value: StudentDevice::Cuda, spot: Some(at) }) = &device
        && worker.value.is_none()
        && connect.value.is_none()
        && worker.spot.is_some()
    {
        let reason = "but student.worker is none: this program has no CUDA, its worker program has".to_owned();
        refuse(files, *at, s.key("device"), reason);
    }
    let codes = [("candle", StudentBackend::Candle), ("engine", StudentBackend::Engine)];
    let backend = s.word(files, "backend", &codes);
    let threads = s.whole(files, "threads", 0, 256).value;
    let rules = [("upstream", StudentPruning::Upstream), ("noise_floor", StudentPruning::NoiseFloor)];
    let pruning = s.word(files, "pruning", &rules);
    let max_prefix_tokens = s.whole(files, "max_prefix_tokens", 0, limits::MAX_PREFIX_TOKENS).value;
    let memory_mb = s.whole(files, "memory_mb", 0, limits::MAX_MEMORY_MB).value;
    let load_s = s.real(files, "load_s", 1.0, 3600.0).value;
    let mut m = s.section(files, "smaller");
    let smaller = SmallerStep {
        frames: m.whole(files, "frames", 0, agent_worker::limits::MAX_JOB_FRAMES as u32).value,
        max_prefix_tokens: m.whole(files, "max_prefix_tokens", 64, limits::MAX_PREFIX_TOKENS).value,
    };
    m.finish(files);
    let small_model = s.path_or_none(files, "small_model").value;
    let thermal_zone = s.path_or_none(files, "thermal_zone").value;
    let warm = s.real(files, "warm_c", 0.0, 150.0);
    let hot = s.real(files, "hot_c", 0.0, 150.0);
    let throttled = s.path_or_none(files, "throttled").value;
    in_order(files, &s, ("warm_c", &warm), ("hot_c", &hot));
    s.finish(files);
    Some(StudentConfig {
        model,
        deadline_s,
        ask: ask?.value,
        telemetry,
        worker: worker.value,
        connect: connect.value,
        device: device?.value,
        backend: backend?.value,
        threads,
        pruning: pruning?.value,
        max_prefix_tokens,
        memory_mb,
        load_s,
        smaller,
        small_model,
        thermal_zone,
        warm_c: warm.value,
        hot_c: hot.value,
        throttled,
    })
}

fn sources(
    files: &mut Files,
    top: &mut Section<'_>,
    rings: Option<&RingsConfig>,
    trigger: Option<&TriggerConfig>,
    dbc: bool,
) -> Option<SourcesConfig> {
    let mut s = top.section(files, "sources");
    let kind = s.word(files, "kind", &[("drive", SourceKind::Drive), ("device", SourceKind::Device)]);
    let list = s.list(files, "drives", limits::MAX_DRIVES);
    let mut drives = Vec::with_capacity(list.value.len());
    for (i, node) in list.value.iter().enumerate() {
        let key = format!("sources.drives[{i}]");
        let At { value, spot } = text(files, &key, node, "a path");
        match spot {
            Some(spot) if value.is_empty() => refuse(files, spot, key, "empty".to_owned()),
            Some(_) => drives.push(PathBuf::from(value)),
            None => {}
        }
    }
    let realtime = s.flag(files, "realtime").value;
    let repeat = s.flag(files, "loop").value;
    // A ring whose own value was refused says nothing of what would fit it.
    let camera = camera(files, &mut s, rings.filter(|_| files.sound()).map(|r| r.video_max_mbit_s));
    let can = can_buses(files, &mut s, dbc);
    let gnss = gnss(files, &mut s);
    // A faulty section has been noted; its rules with others are then left out.
    let range_g = trigger.map_or(16.0, |t| t.telemetry.accel_range_g);
    let imu = imu(files, &mut s, range_g, rings.map(|r| r.imu_max_hz));
    let gpio = gpio(files, &mut s, trigger.map_or(0, |t| t.signals.len()), limits::MAX_TRIGGER_SIGNALS);
    s.finish(files);
    Some(SourcesConfig {
        kind: kind?.value,
        drives,
        realtime,
        repeat,
        camera: camera?,
        can,
        gnss: gnss?,
        imu: imu?,
        gpio: gpio?,
    })
}
