//! Videos by GStreamer: real clips, files that GStreamer itself makes, and files that are none.

use std::path::Path;
use std::process::Command;

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
    let cut = format!("it should have {} bytes and has {}", whole.len(), whole.len() / 2);
    assert!(report.skipped >= 1 && report.warnings.iter().any(|w| w.contains(&cut)), "{report:?}");
}

/// Has ffmpeg make a test picture that moves, 2 s at 10 Hz; false, with one printed line, where it cannot.
fn ffmpeg(arguments: &[&str], path: &Path) -> bool {
    let source = ["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10:duration=2"];
    match Command::new("ffmpeg").args(source).args(arguments).arg(path).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("skipped: ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(e) => {
            println!("skipped: ffmpeg: {e}");
            false
        }
    }
}

/// The first picture as ffmpeg shows it, RGB.
fn ffmpeg_shows(path: &Path) -> Vec<u8> {
    let out =
        ["-frames:v", "1", "-sws_flags", "accurate_rnd+full_chroma_int", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"];
    let output = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(path).args(out).output().unwrap();
    assert_eq!(output.stdout.len(), 320 * 240 * 3, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The first picture of the drive that a video becomes, RGB.
fn drive_shows(path: &Path) -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("d.mcap");
    import(&one(path, InputKind::Video, Offset::OwnClock(0.0)), &out, DriveInfo::new("x"), true).unwrap();
    let mut reader = DriveReader::open(&out).unwrap();
    let Some(DriveRecord::Frame(meta, bytes)) = reader.next().unwrap() else { panic!("no frame") };
    let mut decoder = VideoDecoder::new(meta.codec, 320).unwrap();
    decoder.decode(&meta, bytes).unwrap().unwrap().rgb.to_vec()
}

#[test]
fn clips_of_other_makers_keep_count_times_and_the_colours_that_ffmpeg_shows() {
    let temp = tempfile::tempdir().unwrap();
    let full = ["-vf", "scale=out_range=full:out_color_matrix=bt601", "-pix_fmt", "yuvj420p", "-color_range", "pc"];
    let hd = ["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv420p", "-colorspace", "bt709"];
    let plain = ["-pix_fmt", "yuv420p"];
    let hevc = ["-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "10"];
    let aom = ["-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "10"];
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("hevc.mp4", &hevc, &plain),
        ("hevc.mkv", &hevc, &plain),
        ("hevc.ts", &hevc, &plain),
        ("h264.ts", &["-c:v", "libx264", "-crf", "8"], &plain),
        ("av1.mp4", &aom, &plain),
        ("av1.mkv", &aom, &plain),
        ("full-range.mkv", &["-c:v", "mjpeg", "-q:v", "2"], &full),
        ("bt709.mkv", &["-c:v", "libx264", "-crf", "8"], &hd),
    ];
    for (name, codec, colours) in cases {
        let path = temp.path().join(name);
        if !ffmpeg(&[codec, colours].concat(), &path) {
            continue;
        }
        let (report, times, _) = frames(&path);
        assert_eq!((times.len(), report.skipped), (20, 0), "{name}: {:?}", report.warnings);
        assert!(times.iter().zip((0..).step_by(100)).all(|(t, want)| t.abs_diff(want) <= 1), "{name}: {times:?}");
        let (theirs, ours) = (ffmpeg_shows(&path), drive_shows(&path));
        let off =
            theirs.iter().zip(&ours).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() as f64 / ours.len() as f64;
        let mean = |p: &[u8]| p.iter().map(|v| f64::from(*v)).sum::<f64>() / p.len() as f64;
        println!("{name}: mean difference {off:.2}, mean {:.2} against {:.2}", mean(&ours), mean(&theirs));
        // Encoding anew costs detail, 2.5 to 3.2 levels; a wrong matrix gave 8.2.
        assert!(off < 5.0 && (mean(&ours) - mean(&theirs)).abs() < 2.0, "{name}: {off}");
    }
}

#[test]
fn a_clip_that_is_cut_says_so_in_each_container() {
    let temp = tempfile::tempdir().unwrap();
    for (name, codec) in [
        ("cut.mkv", &["-c:v", "libx264"][..]),
        ("cut.webm", &["-c:v", "libvpx-vp9", "-deadline", "realtime"]),
        ("cut.avi", &["-c:v", "mpeg4"]),
        ("cut.ts", &["-c:v", "libx264"]),
        ("cut.mp4", &["-c:v", "mpeg4", "-movflags", "+faststart"]),
    ] {
        let path = temp.path().join(name);
        if !ffmpeg(codec, &path) {
            continue;
        }
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(frames(&path).0.skipped, 0, "{name}");
        std::fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();
        let (report, times, _) = frames(&path);
        assert!((1..20).contains(&times.len()), "{name}: {times:?}");
        assert!(
            report.skipped >= 1 && report.warnings.iter().any(|w| w.contains("the file is cut")),
            "{name}: {report:?}"
        );
    }
}
