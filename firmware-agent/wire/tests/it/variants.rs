//! Every variant of every enum with its number on the wire and its word in JSON, frozen for versions 1 to 4: the frozen
//! messages show only some of them, and two variants that change places would pass unseen.
//!
//! IF THIS FAILS, REVERT YOUR CHANGE. A new variant needs a new version: old readers refuse the whole message.

use agent_wire::{
    Answer, CameraState, EventKind, EvidenceSource, GroundingCheck, LadderReason, MessageKind, Quality, SensorState,
    Severity, StudentRefusal, UnitState, Verdict, WallQuality,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, bytes: &[u8], json: &str) {
    let mut buffer = [0u8; 16];
    assert_eq!(postcard::to_slice(value, &mut buffer).unwrap(), bytes, "{value:?} on the wire");
    assert_eq!(postcard::take_from_bytes::<T>(bytes).unwrap(), (serde_json::from_str(json).unwrap(), &[][..]));
    assert_eq!(serde_json::to_string(value).unwrap(), json, "{value:?} in JSON");
}

/// Checks each variant; the `match` does not compile when one is missing here.
macro_rules! frozen {
    ($name:ident: $($variant:ident = $number:literal $word:literal),+ $(,)?) => {
        $(check(&$name::$variant, &[$number], concat!("\"", $word, "\""));)+
        let _ = |value: &$name| match value { $($name::$variant => (),)+ };
    };
}

#[test]
fn numbers_and_words_of_the_variants() {
    frozen!(EventKind: HarshBraking = 0 "harsh_braking", HarshAcceleration = 1 "harsh_acceleration",
        HarshCornering = 2 "harsh_cornering", HarshManoeuvre = 3 "harsh_manoeuvre",
        NearCollision = 4 "near_collision", VehicleSignal = 5 "vehicle_signal", Collision = 6 "collision");
    frozen!(Severity: Minor = 0 "minor", Moderate = 1 "moderate", Severe = 2 "severe", Critical = 3 "critical");
    frozen!(UnitState: Online = 0 "online", Stopped = 1 "stopped", Lost = 2 "lost");
    frozen!(WallQuality: None = 0 "none", Rtc = 1 "rtc", Ntp = 2 "ntp", Gnss = 3 "gnss");
    frozen!(Quality: Measured = 0 "measured", Derived = 1 "derived", Clipped = 2 "clipped", Absent = 3 "absent");
    frozen!(StudentRefusal: NotInstalled = 0 "not_installed", Late = 1 "late", Hot = 2 "hot", Failed = 3 "failed",
        NoVideo = 4 "no_video", NotAsked = 5 "not_asked");
    frozen!(LadderReason: NotInstalled = 0 "not_installed", OutOfMemory = 1 "out_of_memory",
        WorkerDied = 2 "worker_died", CorruptModel = 3 "corrupt_model", Deadline = 4 "deadline", Hot = 5 "hot",
        Unreachable = 6 "unreachable", Protocol = 7 "protocol", Overload = 8 "overload", Failed = 9 "failed");
    frozen!(GroundingCheck: CollisionVersusDeltaV = 0 "collision_versus_delta_v",
        ImpactVersusVision = 1 "impact_versus_vision", DeltaVVersusSpeed = 2 "delta_v_versus_speed",
        IntervalVersusTimeZero = 3 "interval_versus_time_zero");
    frozen!(CameraState: Unheard = 0 "unheard", Starting = 1 "starting", Good = 2 "good", Missing = 3 "missing",
        Stalled = 4 "stalled", Failed = 5 "failed", Black = 6 "black", Covered = 7 "covered", Frozen = 8 "frozen",
        Blurred = 9 "blurred");
    frozen!(SensorState: Unheard = 0 "unheard", Good = 1 "good", Silent = 2 "silent");
    frozen!(Verdict: Agrees = 0 "agrees", Contradicts = 1 "contradicts", Unknown = 2 "unknown");
}

#[test]
fn numbers_and_words_of_the_variants_that_carry_values() {
    for (source, number, word) in [
        (EvidenceSource::DeltaV, 0, "delta_v"),
        (EvidenceSource::PeakAcceleration, 1, "peak_acceleration"),
        (EvidenceSource::Longitudinal, 2, "longitudinal"),
        (EvidenceSource::Lateral, 3, "lateral"),
        (EvidenceSource::Horizontal, 4, "horizontal"),
        (EvidenceSource::SpeedDrop, 5, "speed_drop"),
        (EvidenceSource::Airbag, 6, "airbag"),
        (EvidenceSource::VisionRisk, 8, "vision_risk"),
        (EvidenceSource::TimeToCollision, 9, "time_to_collision"),
    ] {
        check(&source, &[number], &format!("\"{word}\""));
    }
    check(&EvidenceSource::Signal(200), &[7, 200], "{\"signal\":200}");
    let known: Answer<8> = Answer::Known { code: 300, probability_e4: 1 };
    check(&known, &[0, 0xac, 2, 1], "{\"known\":{\"code\":300,\"probability_e4\":1}}");
    let text: Answer<8> = Answer::Text { text: heapless::String::try_from("ab").unwrap(), probability_e4: 1 };
    check(&text, &[1, 2, b'a', b'b', 1], "{\"text\":{\"text\":\"ab\",\"probability_e4\":1}}");
    check(&Answer::<8>::Absent, &[2], "\"absent\"");
}

/// The kind byte and the topic level of each kind.
#[test]
fn numbers_and_topics_of_the_kinds() {
    let kinds = MessageKind::ALL.map(|kind| (kind as u8, kind.topic_level()));
    assert_eq!(kinds, [(1, "alert"), (2, "report"), (3, "status"), (4, "health"), (5, "command")]);
}
