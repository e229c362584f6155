//! Fixed messages. Struct literals without `..`, on purpose: an added field does not compile until somebody has
//! thought about its longest encoding here and about the version of the envelope.
//!
//! *Longest*: each field at the value whose postcard encoding is longest. *Typical*: plausible values for the frozen
//! files. *Shortest*: everything that may be absent is absent.

use agent_wire::limits::{LADDER_FALLS, MESSAGE_BYTES};
use agent_wire::{
    Alert, Answer, CameraState, Command, CommandAction, DeltaV, EdrSummary, EventId, EventKind, EventTime, Evidence,
    EvidenceFile, EvidenceSource, Flags, Grounding, GroundingCheck, Hash8, Health, Interval, LadderFall, LadderReason,
    Losses, Message, PeakAcceleration, Position, Quality, Report, SensorState, Sensors, Severity, SeverityEstimate,
    Status, Storage, StudentAnswers, StudentOutcome, StudentRefusal, UnitId, UnitState, Verdict, WallQuality, encode,
};
use heapless::{String, Vec};

/// Encoded bytes of `message`.
pub(crate) fn bytes_of(message: &Message) -> std::vec::Vec<u8> {
    let mut buffer = [0u8; MESSAGE_BYTES];
    encode(message, &mut buffer).unwrap().to_vec()
}

fn full_text<const N: usize>() -> String<N> {
    let mut text = String::new();
    while text.push('w').is_ok() {}
    assert_eq!(text.len(), N);
    text
}

fn full_list<T: Copy, const N: usize>(item: T) -> Vec<T, N> {
    let mut list = Vec::new();
    while list.push(item).is_ok() {}
    list
}

fn text<const N: usize>(words: &str) -> String<N> {
    String::try_from(words).unwrap()
}

fn longest_unit() -> UnitId {
    UnitId::new(&"w".repeat(agent_wire::limits::UNIT_ID_BYTES)).unwrap()
}

fn longest_event() -> EventId {
    EventId { unit: longest_unit(), boot: u32::MAX, seq: u32::MAX }
}

fn longest_time() -> EventTime {
    EventTime { mono_ns: u64::MAX, unix_ms: u64::MAX, quality: WallQuality::Gnss }
}

fn longest_losses() -> Losses {
    Losses { frames: u32::MAX, imu: u32::MAX, can: u32::MAX, gnss: u32::MAX, unseen_frames: u32::MAX }
}

const ALL_FLAGS: Flags =
    Flags { simulated: true, replayed: true, multi_event: true, no_vision: true, no_telemetry: true };
const NO_FLAGS: Flags =
    Flags { simulated: false, replayed: false, multi_event: false, no_vision: false, no_telemetry: false };
const NO_LOSSES: Losses = Losses { frames: 0, imu: 0, can: 0, gnss: 0, unseen_frames: 0 };
// The numbers of postcard are zig-zag varints: the minimum is as long as any.
const LONGEST_DELTA_V: DeltaV = DeltaV {
    longitudinal_dkmh: i16::MIN,
    lateral_dkmh: i16::MIN,
    window_ms: u16::MAX,
    axes_known: true,
    quality: Quality::Absent,
};
const LONGEST_PEAK: PeakAcceleration = PeakAcceleration { magnitude_cmps2: u16::MAX, at_ms: i16::MIN, clipped: true };
const LONGEST_INTERVAL: Interval = Interval { from_ms: i32::MIN, to_ms: i32::MIN, probability_e4: u16::MAX };
const HASH: Hash8 = Hash8([0xde, 0xad, 0xbe, 0xef, 0x01, 0x23, 0x45, 0x67]);
const OTHER_HASH: Hash8 = Hash8([0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]);

pub(crate) fn longest_alert() -> Message {
    Message::Alert(Alert {
        event: longest_event(),
        revision: u8::MAX,
        kind: EventKind::Collision,
        severity: Severity::Critical,
        time: longest_time(),
        position: Some(Position { lat_e7: i32::MIN, lon_e7: i32::MIN, age_ms: u32::MAX, accuracy_dm: u16::MAX }),
        peak: Some(LONGEST_PEAK),
        delta_v: Some(LONGEST_DELTA_V),
        speed_dkmh: Some(u16::MAX),
        evidence: full_list(Evidence {
            // The only source that carries a value of its own.
            source: EvidenceSource::Signal(u8::MAX),
            value_milli: i32::MIN,
            threshold_milli: i32::MIN,
            at_ms: i16::MIN,
        }),
        alignment_pct: u8::MAX,
        flags: ALL_FLAGS,
        losses: longest_losses(),
        config: HASH,
        trigger_model: Some(HASH),
    })
}

fn longest_student() -> StudentOutcome {
    StudentOutcome::Answered(StudentAnswers {
        model: HASH,
        codebook: u16::MAX,
        ladder_step: u8::MAX,
        label_ms: u32::MAX,
        total_ms: u32::MAX,
        severity: Some(SeverityEstimate { collision_e4: u16::MAX, near_collision_e4: u16::MAX, normal_e4: u16::MAX }),
        recognition_e4: u16::MAX,
        calibrated: true,
        frames: u8::MAX,
        telemetry: true,
        description: Answer::Text { text: full_text(), probability_e4: u16::MAX },
        cause: Answer::Text { text: full_text(), probability_e4: u16::MAX },
        prevention: Answer::Text { text: full_text(), probability_e4: u16::MAX },
        crash: Some(LONGEST_INTERVAL),
        pre_crash: Some(LONGEST_INTERVAL),
    })
}

pub(crate) fn longest_report() -> Message {
    Message::Report(Report {
        event: longest_event(),
        kind: EventKind::Collision,
        severity: Severity::Critical,
        time: longest_time(),
        student: longest_student(),
        student_falls: [LadderFall { step: u8::MAX, reason: LadderReason::Failed }; LADDER_FALLS].into_iter().collect(),
        edr: Some(EdrSummary {
            delta_v: LONGEST_DELTA_V,
            max_delta_v_dkmh: u16::MAX,
            max_delta_v_at_dms: u16::MAX,
            peak: LONGEST_PEAK,
            speed_before_dkmh: Some(u16::MAX),
            speed_at_dkmh: Some(u16::MAX),
            speed_quality: Quality::Absent,
            brake_on: Some(true),
            brake_before_ms: Some(u16::MAX),
            impacts: u8::MAX,
            gap_ds: Some(u8::MAX),
            complete: true,
        }),
        grounding: full_list(Grounding { check: GroundingCheck::IntervalVersusTimeZero, verdict: Verdict::Unknown }),
        evidence_file: Some(EvidenceFile { name: full_text(), bytes: u64::MAX, sha256_8: HASH }),
        flags: ALL_FLAGS,
        losses: longest_losses(),
        config: HASH,
        trigger_model: Some(HASH),
    })
}

pub(crate) fn longest_status() -> Message {
    Message::Status(Status {
        unit: longest_unit(),
        boot: u32::MAX,
        state: UnitState::Lost,
        version: full_text(),
        config: HASH,
        broker: u8::MAX,
    })
}

pub(crate) fn longest_health() -> Message {
    Message::Health(Health {
        unit: longest_unit(),
        boot: u32::MAX,
        uptime_s: u32::MAX,
        clock: WallQuality::Gnss,
        alignment_pct: u8::MAX,
        ring_video_ms: u32::MAX,
        outbox_waiting: u32::MAX,
        outbox_expired: u32::MAX,
        events: u32::MAX,
        disturbances: u32::MAX,
        losses: longest_losses(),
        flags: ALL_FLAGS,
        broker: u8::MAX,
        storage: Storage {
            outbox_failing: true,
            not_durable: u32::MAX,
            evidence_failing: true,
            evidence_lost: u32::MAX,
            evidence_rotated: u32::MAX,
        },
        sensors: Sensors {
            camera: CameraState::Blurred,
            can: SensorState::Silent,
            imu: SensorState::Silent,
            gnss: SensorState::Silent,
        },
    })
}

pub(crate) fn longest_command() -> Message {
    Message::Command(Command {
        unit: longest_unit(),
        counter: u64::MAX,
        action: CommandAction::KeepEvidence(longest_event()),
    })
}

/// The longest message of each kind.
pub(crate) fn longest() -> [Message; 5] {
    [longest_alert(), longest_report(), longest_status(), longest_health(), longest_command()]
}

fn van() -> UnitId {
    UnitId::new("van-017").unwrap()
}

fn crash() -> EventId {
    EventId { unit: van(), boot: 42, seq: 3 }
}

fn crash_time() -> EventTime {
    EventTime { mono_ns: 1_234_567_890_123, unix_ms: 1_772_000_000_250, quality: WallQuality::Gnss }
}

fn typical_delta_v() -> DeltaV {
    DeltaV { longitudinal_dkmh: -213, lateral_dkmh: 34, window_ms: 250, axes_known: true, quality: Quality::Clipped }
}

fn typical_alert() -> Message {
    let mut evidence = Vec::new();
    for item in [
        Evidence { source: EvidenceSource::DeltaV, value_milli: 12_700, threshold_milli: 8_000, at_ms: 62 },
        Evidence { source: EvidenceSource::Signal(4), value_milli: 1_000, threshold_milli: 500, at_ms: -15 },
        Evidence { source: EvidenceSource::VisionRisk, value_milli: 913, threshold_milli: 700, at_ms: -640 },
    ] {
        evidence.push(item).unwrap();
    }
    Message::Alert(Alert {
        event: crash(),
        revision: 1,
        kind: EventKind::Collision,
        severity: Severity::Severe,
        time: crash_time(),
        position: Some(Position { lat_e7: 526_540_000, lon_e7: -11_234_567, age_ms: 180, accuracy_dm: 23 }),
        peak: Some(PeakAcceleration { magnitude_cmps2: 15_691, at_ms: 38, clipped: true }),
        delta_v: Some(typical_delta_v()),
        speed_dkmh: Some(614),
        evidence,
        alignment_pct: 97,
        flags: Flags { simulated: false, replayed: true, multi_event: true, no_vision: false, no_telemetry: false },
        losses: Losses { frames: 2, imu: 0, can: 300, gnss: 0, unseen_frames: 17 },
        config: HASH,
        trigger_model: Some(OTHER_HASH),
    })
}

fn shortest_alert() -> Message {
    Message::Alert(Alert {
        event: EventId { unit: UnitId::new("u").unwrap(), boot: 0, seq: 1 },
        revision: 0,
        kind: EventKind::HarshBraking,
        severity: Severity::Minor,
        time: EventTime { mono_ns: 0, unix_ms: 0, quality: WallQuality::None },
        position: None,
        peak: None,
        delta_v: None,
        speed_dkmh: None,
        evidence: Vec::new(),
        alignment_pct: 0,
        flags: NO_FLAGS,
        losses: NO_LOSSES,
        config: Hash8([0; 8]),
        trigger_model: None,
    })
}

fn typical_report() -> Message {
    let mut grounding = Vec::new();
    for (check, verdict) in [
        (GroundingCheck::CollisionVersusDeltaV, Verdict::Agrees),
        (GroundingCheck::ImpactVersusVision, Verdict::Unknown),
        (GroundingCheck::DeltaVVersusSpeed, Verdict::Contradicts),
    ] {
        grounding.push(Grounding { check, verdict }).unwrap();
    }
    Message::Report(Report {
        event: crash(),
        kind: EventKind::Collision,
        severity: Severity::Critical,
        time: crash_time(),
        student: StudentOutcome::Answered(StudentAnswers {
            model: OTHER_HASH,
            codebook: 1,
            ladder_step: 1,
            label_ms: 2_345,
            total_ms: 19_876,
            severity: Some(SeverityEstimate { collision_e4: 9_312, near_collision_e4: 600, normal_e4: 88 }),
            recognition_e4: 9_400,
            calibrated: true,
            frames: 18,
            telemetry: true,
            description: Answer::Known { code: 17, probability_e4: 8_123 },
            cause: Answer::Text { text: text("Ego ran a red light \u{2013} \"amber\" at 3 s."), probability_e4: 5_050 },
            prevention: Answer::Absent,
            crash: Some(Interval { from_ms: -125, to_ms: 875, probability_e4: 7_700 }),
            pre_crash: None,
        }),
        student_falls: [LadderFall { step: 0, reason: LadderReason::OutOfMemory }].into_iter().collect(),
        edr: Some(EdrSummary {
            delta_v: typical_delta_v(),
            max_delta_v_dkmh: 216,
            max_delta_v_at_dms: 975,
            peak: PeakAcceleration { magnitude_cmps2: 15_691, at_ms: 38, clipped: true },
            speed_before_dkmh: Some(702),
            speed_at_dkmh: Some(614),
            speed_quality: Quality::Measured,
            brake_on: Some(true),
            brake_before_ms: Some(900),
            impacts: 2,
            gap_ds: Some(8),
            complete: true,
        }),
        grounding,
        evidence_file: Some(EvidenceFile {
            name: text("van-017_00000042_000003.mcap"),
            bytes: 18_230_112,
            sha256_8: HASH,
        }),
        flags: Flags { simulated: true, replayed: true, multi_event: true, no_vision: false, no_telemetry: false },
        losses: Losses { frames: 0, imu: 1, can: 2, gnss: 3, unseen_frames: 4 },
        config: HASH,
        trigger_model: Some(OTHER_HASH),
    })
}

fn refused_report() -> Message {
    Message::Report(Report {
        event: crash(),
        kind: EventKind::NearCollision,
        severity: Severity::Moderate,
        time: EventTime { mono_ns: 5_000_000_000, unix_ms: 0, quality: WallQuality::None },
        student: StudentOutcome::Refused(StudentRefusal::NotInstalled),
        student_falls: Vec::new(),
        edr: None,
        grounding: Vec::new(),
        evidence_file: None,
        flags: NO_FLAGS,
        losses: NO_LOSSES,
        config: HASH,
        trigger_model: None,
    })
}

/// What the frozen messages of version 3 are to a reader of today: what version 4 added is absent.
pub(crate) fn frozen_v3() -> std::vec::Vec<(&'static str, Message)> {
    let mut messages = frozen();
    for (_, message) in &mut messages {
        if let Message::Health(health) = message {
            health.sensors = Sensors::default();
        }
    }
    messages
}

/// What the frozen messages of version 2 are to a reader of today: what version 3 added is absent.
pub(crate) fn frozen_v2() -> std::vec::Vec<(&'static str, Message)> {
    let mut messages = frozen_v3();
    for (_, message) in &mut messages {
        match message {
            Message::Status(status) => status.broker = 0,
            Message::Health(health) => (health.broker, health.storage) = (0, Storage::default()),
            _ => {}
        }
    }
    messages
}

/// What the frozen messages of version 1 are to a reader of today: what version 2 added is absent too.
pub(crate) fn frozen_v1() -> std::vec::Vec<(&'static str, Message)> {
    let mut messages = frozen_v2();
    for (_, message) in &mut messages {
        let Message::Report(report) = message else { continue };
        report.student_falls.clear();
        if let StudentOutcome::Answered(answers) = &mut report.student {
            (answers.calibrated, answers.frames, answers.telemetry) = (false, 0, false);
        }
    }
    messages.retain(|(stem, _)| !ONLY_V2.contains(stem));
    messages
}

/// Messages that version 1 could not hold.
const ONLY_V2: [&str; 1] = ["report_fallen"];

/// A student that fell down its whole ladder.
fn fallen_report() -> Message {
    let mut message = refused_report();
    let falls = [(0, LadderReason::OutOfMemory), (1, LadderReason::WorkerDied), (2, LadderReason::CorruptModel)];
    if let Message::Report(report) = &mut message {
        report.student = StudentOutcome::Refused(StudentRefusal::Failed);
        report.student_falls = falls.map(|(step, reason)| LadderFall { step, reason }).into_iter().collect();
    }
    message
}

/// The frozen messages of the current version with the stems of their files.
pub(crate) fn frozen() -> std::vec::Vec<(&'static str, Message)> {
    vec![
        ("alert", typical_alert()),
        ("alert_shortest", shortest_alert()),
        ("alert_longest", longest_alert()),
        ("report", typical_report()),
        ("report_refused", refused_report()),
        ("report_longest", longest_report()),
        ("report_fallen", fallen_report()),
        (
            "status",
            Message::Status(Status {
                unit: van(),
                boot: 42,
                state: UnitState::Online,
                version: text("0.1.0"),
                config: HASH,
                broker: 1,
            }),
        ),
        (
            "health",
            Message::Health(Health {
                unit: van(),
                boot: 42,
                uptime_s: 86_400,
                clock: WallQuality::Ntp,
                alignment_pct: 88,
                ring_video_ms: 9_967,
                outbox_waiting: 2,
                outbox_expired: 1,
                events: 3,
                disturbances: 129,
                losses: Losses { frames: 2, imu: 0, can: 300, gnss: 0, unseen_frames: 17 },
                flags: Flags {
                    simulated: false,
                    replayed: false,
                    multi_event: false,
                    no_vision: true,
                    no_telemetry: false,
                },
                broker: 1,
                storage: Storage {
                    outbox_failing: true,
                    not_durable: 2,
                    evidence_failing: false,
                    evidence_lost: 1,
                    evidence_rotated: 300,
                },
                sensors: Sensors {
                    camera: CameraState::Covered,
                    can: SensorState::Good,
                    imu: SensorState::Good,
                    gnss: SensorState::Silent,
                },
            }),
        ),
        (
            "command_send_health",
            Message::Command(Command { unit: van(), counter: 1_000, action: CommandAction::SendHealth }),
        ),
        (
            "command_keep_evidence",
            Message::Command(Command { unit: van(), counter: 1_001, action: CommandAction::KeepEvidence(crash()) }),
        ),
    ]
}
