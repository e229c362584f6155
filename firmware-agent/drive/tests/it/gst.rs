//! Videos by GStreamer: real clips, files that GStreamer itself makes, and files that are none.

use std::path::Path;

use agent_drive::import::{ImportError, ImportReport, InputKind, Offset, import};
use agent_drive::{DriveInfo, DriveReader, DriveRecord, VideoDecoder};
use gstreamer::prelude::*;

use crate::importers::one;
use crate::util::data;

/// Imports a video; the times of its frames, milliseconds, and the mean colour of the first picture.
fn frames(path: &Path) -> (ImportReport, Vec<u64>, [u32; 3]) {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("d.mcap");
    let report = import(&one(path, InputKind::Video, Offset::OwnClock(0.0)), &out, DriveInfo::new("x"), true).unwrap();
    let mut reader = DriveReader::open(&out).unwrap();
    let (mut decoder, mut times, mut colour) = (None, Vec::new(), [0; 3]);
    while let Some(record) = reader.next().unwrap() {
        let DriveRecord::Frame(meta, bytes) = record else { panic!("{record:?}") };
        let decoder = decoder.get_or_insert_with(|| VideoDecoder::new(meta.codec, 640).unwrap());
        let small = decoder.decode(&meta, bytes).unwrap().unwrap();
        if times.is_empty() {
            assert!(meta.key);
            let n = small.rgb.len() as u32 / 3;
            colour = [0, 1, 2].map(|c| small.rgb.iter().skip(c).step_by(3).map(|v| u32::from(*v)).sum::<u32>() / n);
        }
        times.push(meta.t.0 / 1_000_000);
    }
    assert!(report.info.transcoded);
    (report, times, colour)
}

/// jpegenc writes the values that it is given, whatever their range; JPEG is full range.
const FULL: &str = "video/x-raw,format=I420,colorimetry=1:4:0:0";

/// Has GStreamer make 20 red pictures at 10 Hz in a file.
fn make(path: &Path, encoder: &str) {
    gstreamer::init().unwrap();
    let text = format!(
        "videotestsrc pattern=red num-buffers=20 ! video/x-raw,width=321,height=241,framerate=10/1 ! videoconvert \
         ! {encoder} ! filesink name=out"
    );
    let pipeline = gstreamer::parse::launch(&text).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    pipeline.by_name("out").unwrap().set_property("location", path.to_str().unwrap());
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let ends = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &ends).unwrap();
    pipeline.set_state(gstreamer::State::Null).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos, "{end:?}");
}

#[test]
fn mpeg4_clips_import_whole_with_their_times() {
    for name in ["clips/jg_ccd_crash_01.mp4", "clips/jg_ccd_crash_04.mp4"] {
        let Some(clip) = data(name) else { return };
        let (report, times, _) = frames(&clip);
        assert_eq!((report.counts.frames, report.skipped), (50, 0), "{:?}", report.warnings);
        assert_eq!(times, (0..50).map(|i| 100 * i).collect::<Vec<_>>());
        assert_eq!(report.info.camera.unwrap().fps, 10.0);
    }
}

#[test]
fn other_containers_and_codecs_keep_count_times_and_colours() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("video with a space");
    for encoder in
        [&format!("{FULL} ! jpegenc ! avimux"), &format!("{FULL} ! jpegenc ! matroskamux"), "vp8enc ! webmmux"]
    {
        make(&path, encoder);
        let (report, times, colour) = frames(&path);
        assert_eq!((times.len(), report.skipped), (20, 0), "{encoder}: {:?}", report.warnings);
        assert!(times.iter().zip((0..).step_by(100)).all(|(t, want)| t.abs_diff(want) <= 1), "{encoder}: {times:?}");
        assert!(colour[0] > 240 && colour[1] < 20 && colour[2] < 20, "{encoder}: {colour:?}");
        let camera = report.info.camera.unwrap();
        assert_eq!((camera.width, camera.height), (320, 240), "{encoder}");
    }
}

#[test]
fn what_gstreamer_cannot_read_names_the_file_and_why_and_a_cut_file_keeps_its_first_frames() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("v.mkv");
    let out = temp.path().join("d.mcap");
    let run = || import(&one(&path, InputKind::Video, Offset::OwnClock(0.0)), &out, DriveInfo::new("x"), true);
    std::fs::write(&path, [&[0x1A, 0x45, 0xDF, 0xA3][..], &[0; 500]].concat()).unwrap();
    let e = run().unwrap_err();
    assert!(matches!(&e, ImportError::Bad { reason, .. } if reason.starts_with("GStreamer: ")), "{e}");
    assert!(e.to_string().contains("v.mkv"), "{e}");
    println!("{e}");
    make(&path, "jpegenc ! matroskamux");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let report = run().unwrap();
    println!("{report:?}");
    assert!((5..20).contains(&report.counts.frames), "{report:?}");
}
