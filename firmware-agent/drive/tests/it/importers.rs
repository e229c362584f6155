//! Importers on real recordings, where they are present, and on small made-up inputs.

use std::path::Path;

use agent_drive::import::{AccelUnit, GyroUnit, ImuColumns, Input, InputKind, Offset, TimeUnit, import};
use agent_drive::{DriveInfo, DriveReader, DriveRecord, VideoDecoder};

use crate::util::{Owned, data};

pub(crate) fn one(path: &Path, kind: InputKind, offset: Offset) -> [Input; 1] {
    [Input { path: path.to_owned(), kind, offset }]
}

fn all(path: &Path) -> Vec<Owned> {
    let mut reader = DriveReader::open(path).unwrap();
    let mut out = Vec::new();
    while let Some(r) = reader.next().unwrap() {
        out.push(Owned::of(&r));
    }
    assert_eq!(reader.loss(), None);
    assert_eq!(reader.stats(), agent_drive::ReadStats::default());
    out
}

/// Frames that a player shows (ffprobe -count_frames) of each clip in H.264, and whether they are encoded anew.
const CLIPS: [(&str, u64, bool); 13] = [
    ("carnd_solidWhiteRight", 221, false),
    // 116 coded; its edit list shows 100, from a frame that is no key frame.
    ("carnd_vd_test_small2", 100, true),
    ("carnd_vd_test_video", 38, false),
    ("dad_000478", 100, true),
    ("dad_000487", 100, true),
    ("dad_000512", 100, true),
    ("dad_000540", 100, true),
    ("dad_000550", 100, true),
    ("dad_000597", 100, true),
    ("kart_dashcam1", 515, false),
    ("kart_dashcam2", 588, false),
    ("lvlane_crash_ori", 192, true),
    ("lvlane_videoplayback2", 493, true),
];

#[test]
fn every_h264_clip_imports_whole_in_order_and_decodes_whole() {
    let Some(folder) = data("clips") else { return };
    let temp = tempfile::tempdir().unwrap();
    // Every clip takes most of a minute; the full set runs where it is asked for.
    let full = std::env::var_os("AGENT_ALL_CLIPS").is_some();
    for (name, frames, b_frames) in CLIPS {
        if !full && !matches!(name, "carnd_vd_test_video" | "carnd_vd_test_small2" | "dad_000478") {
            continue;
        }
        let out = temp.path().join("drive.mcap");
        let inputs = one(&folder.join(format!("{name}.mp4")), InputKind::Video, Offset::FirstAt(0.0));
        let report = import(&inputs, &out, DriveInfo::new(name), true).unwrap();
        println!("{name}: {:?} {:?}", report.counts, report.warnings);
        assert_eq!((report.counts.frames, report.skipped), (frames, 0), "{name}: {:?}", report.warnings);
        assert_eq!(report.info.transcoded, b_frames, "{name}");
        let mut reader = DriveReader::open(&out).unwrap();
        let (mut decoder, mut last, mut n) = (None, None, 0);
        while let Some(record) = reader.next().unwrap() {
            let DriveRecord::Frame(meta, bytes) = record else { panic!("{name}: {record:?}") };
            assert!(last < Some(meta.t) && (n > 0 || meta.t.0 == 0 && meta.key), "{name}: {meta:?}");
            last = Some(meta.t);
            let decoder = decoder.get_or_insert_with(|| VideoDecoder::new(meta.codec, 640).unwrap());
            let small = decoder.decode(&meta, bytes).unwrap().unwrap();
            assert_eq!(small.rgb.len(), 3 * usize::from(small.width) * usize::from(small.height));
            assert!(small.width <= 640 && small.width > 320 && small.meta.seq == n, "{name}");
            n += 1;
        }
        assert_eq!(n, frames, "{name}");
        assert_eq!(reader.loss(), None);
    }
}

#[cfg(not(feature = "gstreamer"))]
#[test]
fn mpeg4_clips_are_refused_by_the_name_of_their_codec() {
    let Some(clip) = data("clips/jg_ccd_crash_01.mp4") else { return };
    let temp = tempfile::tempdir().unwrap();
    let inputs = one(&clip, InputKind::Video, Offset::FirstAt(0.0));
    let e = import(&inputs, &temp.path().join("d.mcap"), DriveInfo::new(""), true).unwrap_err();
    assert!(
        matches!(&e, agent_drive::import::ImportError::Codec { codec, .. } if codec == "MPEG-4 part 2 (mp4v)"),
        "{e}"
    );
    assert!(e.to_string().contains("feature gstreamer") && e.to_string().contains("ffmpeg -i"), "{e}");
}

#[test]
fn the_comma2k19_segment_and_its_candump_log_give_the_same_can() {
    let (Some(folder), Some(log), Some(dbc)) =
        (data("comma2k19"), data("can/comma2k19_rav4_candump.log.gz"), data("dbc/toyota_new_mc_pt_generated.dbc"))
    else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a.mcap"), temp.path().join("b.mcap"));
    let dbc = std::fs::read_to_string(dbc).unwrap();
    let inputs = one(&folder, InputKind::Comma2k19(Some(dbc)), Offset::OwnClock(0.0));
    let report = import(&inputs, &a, DriveInfo::new("comma2k19"), true).unwrap();
    assert_eq!(
        (report.counts.imu, report.counts.gnss, report.counts.can, report.skipped),
        (6256, 579, 98_800, 0),
        "{:?}",
        report.warnings
    );
    let inputs = one(&log, InputKind::Candump, Offset::OwnClock(0.0));
    let report = import(&inputs, &b, DriveInfo::new("candump"), true).unwrap();
    assert_eq!((report.counts.can, report.skipped), (98_800, 0));
    let can = |path: &Path| {
        let frames = all(path).into_iter().filter_map(|r| if let Owned::Can(c) = r { Some(c) } else { None });
        // The log has microseconds, the arrays have floats: compare to the microsecond, within the same one in any order.
        let mut keys: Vec<_> = frames.map(|c| ((c.t.0 + 500) / 1000, c.bus, c.id, c.data[..8].to_vec())).collect();
        keys.sort();
        keys
    };
    let (a, b) = (can(&a), can(&b));
    // Lengths are a guess in both (numpy dropped trailing zeros): the eight bytes are compared.
    // The log cut its times to microseconds, so that frames of one microsecond may swap places: compare as sets.
    for (x, y) in a.iter().zip(&b) {
        assert!(x.0.abs_diff(y.0) < 2_000, "{x:?} against {y:?}");
    }
    let strip = |v: Vec<(u64, u8, u32, Vec<u8>)>| {
        let mut keys: Vec<_> = v.into_iter().map(|(_, bus, id, data)| (bus, id, data)).collect();
        keys.sort();
        keys
    };
    let (a, b) = (strip(a), strip(b));
    let wrong = a.iter().zip(&b).filter(|(x, y)| x != y).count();
    assert_eq!(wrong, 0, "of {} frames", a.len());
}

#[test]
fn inputs_are_merged_by_time_with_their_offsets_and_the_composite_is_flagged() {
    let temp = tempfile::tempdir().unwrap();
    let (can, csv, out) = (temp.path().join("c.log"), temp.path().join("i.csv"), temp.path().join("d.mcap"));
    std::fs::write(&can, "(1700000000.5) can2 123#01\nrubbish\n(1700000001.5) can2 123#02\n").unwrap();
    std::fs::write(&csv, "time,ax,ay,az,gz,gy,gx\n1000,1,0,0,180,0,0\n2000,x,0,0,0,0,0\n3000,0,0,-1,0,0,90\n").unwrap();
    let columns = ImuColumns {
        time: ("time".into(), TimeUnit::Ms),
        accel: ["ax", "ay", "az"].map(String::from),
        accel_unit: AccelUnit::G,
        gyro: Some((["gx", "gy", "gz"].map(String::from), GyroUnit::DegPerS)),
    };
    let inputs = [
        Input { path: can, kind: InputKind::Candump, offset: Offset::FirstAt(2.0) },
        Input { path: csv, kind: InputKind::ImuCsv(columns), offset: Offset::OwnClock(-0.5) },
    ];
    let report = import(&inputs, &out, DriveInfo::new("two"), false).unwrap();
    assert!(report.info.composite);
    assert_eq!((report.counts.can, report.counts.imu, report.skipped), (2, 2, 2));
    assert!(
        report.warnings[0].ends_with("c.log: line 2: no time in parentheses at its start"),
        "{:?}",
        report.warnings
    );
    assert!(report.warnings[1].ends_with("i.csv: line 3: column 2 is \"x\", not a number"), "{:?}", report.warnings);
    let got = all(&out);
    let times: Vec<u64> = got
        .iter()
        .map(|r| match r {
            Owned::Imu(s) => s.t.0 / 1_000_000,
            Owned::Can(c) => c.t.0 / 1_000_000,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [500, 2000, 2500, 3000]);
    let Owned::Imu(first) = &got[0] else { panic!() };
    assert_eq!((first.accel_mps2, first.gyro_valid), ([9.806_65, 0.0, 0.0], true));
    assert!((first.gyro_rps[2] - std::f32::consts::PI).abs() < 1e-6);
    assert!(DriveReader::open(&out).unwrap().info().composite);
}
