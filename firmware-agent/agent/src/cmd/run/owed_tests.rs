//! Owed reports over evidence files made here.

use std::cell::RefCell;
use std::fs;

use agent_core::time::MonoTime;
use agent_drive::{DriveInfo, DriveWriter};
use agent_wire::{EventKind, EventTime, Flags, Hash8, Severity, StudentOutcome, UnitId, WallQuality};
use serde_json::json;

use super::*;

fn alert(seq: u32, kind: EventKind) -> Alert {
    Alert {
        event: EventId { unit: UnitId::new("u").unwrap(), boot: 7, seq },
        revision: 1,
        kind,
        severity: Severity::Severe,
        time: EventTime { mono_ns: 5, unix_ms: 0, quality: WallQuality::None },
        position: None,
        peak: None,
        delta_v: None,
        speed_dkmh: None,
        evidence: heapless::Vec::new(),
        alignment_pct: 0,
        flags: Flags { no_vision: true, ..Flags::default() },
        losses: Losses { imu: 4, ..Losses::default() },
        config: Hash8([3; 8]),
        trigger_model: Some(Hash8([4; 8])),
    }
}

/// A drive in which some events begin.
fn drive(path: &Path, events: &[u32]) {
    let file = fs::File::create(path).unwrap();
    let mut writer = DriveWriter::new(file, &DriveInfo::new("test")).unwrap();
    for seq in events {
        let text = json!({
            "event": format!("u_00000007_{seq:06}"),
            "time_zero_ns": 5,
            "alignment": {"vehicle_from_sensor": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "up_known": true, "forward_known": false},
        });
        writer.write_json("/event", MonoTime(5), &text.to_string()).unwrap();
    }
    writer.finish().unwrap();
}

fn settled(folder: &Path, alerts: Vec<Alert>, stop: bool) -> Vec<Report> {
    let owed = Owed { alerts, folder: folder.to_owned(), ask: AskStudent::Collisions };
    let reports = RefCell::new(Vec::new());
    owed.settle(None, &|| stop, &|report| {
        reports.borrow_mut().push(report);
        true
    });
    reports.into_inner()
}

#[test]
fn each_event_is_reported_with_the_evidence_that_there_is() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    fs::create_dir(folder.join(evidence::LESSER)).unwrap();
    drive(&folder.join("u_00000007_000001.mcap"), &[1]);
    drive(&folder.join("u_00000007_000001.cut.mcap"), &[1]);
    drive(&folder.join("lesser/u_00000007_000002.mcap"), &[2]);
    // The journal bears the name of the last event; the one before is in its first part.
    drive(&folder.join("u_00000007_000004.cut-000008.mcap"), &[3]);
    drive(&folder.join("u_00000007_000004.cut-000009.mcap"), &[4]);
    let alerts = (1..=5).map(|seq| alert(seq, if seq == 2 { EventKind::NearCollision } else { EventKind::Collision }));
    let reports = settled(folder, alerts.collect(), false);
    let found: Vec<_> = reports
        .iter()
        .map(|r| {
            let file = r.evidence_file.as_ref();
            let why = if let StudentOutcome::Refused(why) = r.student { why } else { panic!("{:?}", r.student) };
            (r.event.seq, file.map(|f| f.name.as_str()), why)
        })
        .collect();
    use StudentRefusal::{NotAsked, NotInstalled};
    assert_eq!(
        found,
        [
            (1, Some("u_00000007_000001.mcap"), NotInstalled),
            (2, Some("u_00000007_000002.mcap"), NotAsked),
            (3, Some("u_00000007_000004.cut-000008.mcap"), NotInstalled),
            (4, Some("u_00000007_000004.cut-000009.mcap"), NotInstalled),
            (5, None, NotInstalled),
        ]
    );
    let first = &reports[0];
    let file = first.evidence_file.as_ref().unwrap();
    assert_eq!(evidence::hash(&RealDisk, &folder.join(file.name.as_str())).unwrap(), (file.bytes, file.sha256_8));
    assert_eq!((first.config, first.trigger_model), (Hash8([3; 8]), Some(Hash8([4; 8]))), "of then, not of now");
    assert!(first.flags.no_vision && first.losses.is_zero() && first.edr.is_none());
    assert!(settled(folder, vec![alert(1, EventKind::Collision)], true).is_empty(), "what a stop leaves is owed still");
}
