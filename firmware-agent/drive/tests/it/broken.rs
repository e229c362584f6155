//! Broken inputs and the error each gives. The text is what a user reads: each names the file and what is wrong.

use std::io::Cursor;
use std::path::Path;

use agent_core::samples::VideoCodec;
use agent_drive::import::{AccelUnit, ImuColumns, InputKind, Offset, TimeUnit, import};
use agent_drive::{DecodeError, DriveInfo, DriveReader, VideoDecoder, dbc};

use crate::importers::one;
use crate::util::{data, drive, frame, read_all};

fn import_error(path: &Path, kind: InputKind) -> String {
    let temp = tempfile::tempdir().unwrap();
    let inputs = one(path, kind, Offset::OwnClock(0.0));
    import(&inputs, &temp.path().join("out.mcap"), DriveInfo::new("x"), true).unwrap_err().to_string()
}

fn columns() -> ImuColumns {
    let accel = ["x", "y", "z"].map(String::from);
    ImuColumns { time: ("t".into(), TimeUnit::S), accel, accel_unit: AccelUnit::Mps2, gyro: None }
}

pub(crate) fn mp4_box(kind: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let mut out = (contents.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(contents);
    out
}

#[test]
fn files_that_are_no_drives_say_what_they_are() {
    for (bytes, want) in [
        (&b""[..], "not a drive: the first bytes are not those of an MCAP file (the file is empty)"),
        (b"\x89MC", "not a drive: the first bytes are not those of an MCAP file"),
        (
            b"\x1f\x8b\x08\0\0\0\0\0\0",
            "not a drive: the first bytes are not those of an MCAP file (it is gzip: uncompress it first)",
        ),
        (
            b"\0\0\0\x20ftypisom",
            "not a drive: the first bytes are not those of an MCAP file (it is an MP4 video: import it first)",
        ),
        (
            b"(1.0) can0 1",
            "not a drive: the first bytes are not those of an MCAP file (it looks like a candump log: import it first)",
        ),
    ] {
        let e = DriveReader::from_reader(Cursor::new(bytes), bytes.len() as u64).err().unwrap();
        assert_eq!(e.to_string(), want);
    }
    let e = DriveReader::open(Path::new("/no/such.mcap")).err().unwrap().to_string();
    assert!(e.starts_with("/no/such.mcap: No such file"), "{e}");
}

#[test]
fn damaged_drives_say_what_is_lost() {
    let (bytes, _) = drive(60);
    let head = bytes[..8].to_vec();
    let record = |op: u8, n: u64| [&head[..], &[op], &n.to_le_bytes()[..], &[0; 16]].concat();
    for (bytes, want) in [
        (head.clone(), "0 bytes lost in 1 places, first at byte 8: cut: the end of the data is missing"),
        (record(0x00, 4), "25 bytes lost in 1 places, first at byte 8: a record of unknown kind"),
        (record(0x33, 4), "25 bytes lost in 1 places, first at byte 8: a record of unknown kind"),
        (
            record(0x06, 1 << 40),
            "25 bytes lost in 1 places, first at byte 8: cut: a record runs past the end of the file",
        ),
        (
            record(0x06, u64::MAX),
            "25 bytes lost in 1 places, first at byte 8: cut: a record runs past the end of the file",
        ),
        (record(0x06, 16), "25 bytes lost in 2 places, first at byte 8: a chunk's head is malformed"),
        (record(0x0F, 16), "0 bytes lost in 1 places, first at byte 8: the end-of-data record is malformed"),
        (bytes[..bytes.len() - 1].to_vec(), "the index at the end is cut or damaged; every sample was read"),
    ] {
        let (_, reader) = read_all(bytes);
        let loss = reader.loss().unwrap().to_string();
        assert!(loss.ends_with(want), "{loss}");
    }
}

#[test]
fn broken_imports_name_the_file_and_the_reason() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("input");
    let segment = InputKind::Comma2k19(None);
    let moov = |inner: &[u8]| [mp4_box(b"ftyp", b"isom"), mp4_box(b"moov", inner)].concat();
    let trak = |inner: &[u8]| {
        let hdlr = mp4_box(b"hdlr", b"\0\0\0\0\0\0\0\0vide");
        moov(&mp4_box(b"trak", &mp4_box(b"mdia", &[&hdlr, inner].concat())))
    };
    let csv = || InputKind::ImuCsv(columns());
    let cases: Vec<(Vec<u8>, InputKind, &str)> = vec![
        (vec![], InputKind::Video, "the file is empty"),
        (
            b"RIFF\0\0\0\0WAVEfmt ".to_vec(),
            InputKind::Video,
            "not an MP4 file: it does not begin with a box that MP4 files begin with",
        ),
        (
            mp4_box(b"ftyp", b"isom"),
            InputKind::Video,
            "cut: it has no index (moov box); the recording was not finished",
        ),
        (
            [&mp4_box(b"ftyp", b"")[..], b"\0\0\0\x03moov"].concat(),
            InputKind::Video,
            "the box at byte 8 has a size of 3",
        ),
        (
            [&mp4_box(b"ftyp", b"")[..], b"\0\0\xFF\0moov"].concat(),
            InputKind::Video,
            "cut: its index at byte 8 needs 65280 bytes, 8 are there",
        ),
        (moov(b""), InputKind::Video, "it has no video track"),
        (trak(b""), InputKind::Video, "its video track is malformed: no mdhd box"),
        (trak(&mp4_box(b"mdhd", &[0; 24])), InputKind::Video, "its video track is malformed: no time scale"),
        (trak(&mp4_box(b"mdhd", &[1; 40])), InputKind::Video, "its video track is malformed: no stbl box"),
        (vec![], csv(), "the file is empty"),
        (b"t,x,y\n1,2,3\n".to_vec(), csv(), "no column \"z\"; there are t, x, y"),
        (b"".to_vec(), InputKind::Candump, "input: there is none in it)"),
        (b"no\nlog\n".to_vec(), InputKind::Candump, "input: line 1: no time in parentheses at its start)"),
        (b"x".to_vec(), segment.clone(), "not a comma2k19 segment: it has no folder processed_log"),
    ];
    for (bytes, kind, want) in cases {
        std::fs::write(&path, bytes).unwrap();
        let e = import_error(&path, kind);
        assert!(e.ends_with(want), "{e:?} for {want:?}");
        assert!(e.starts_with(&path.display().to_string()) || e.starts_with("nothing"), "{e}");
    }
    if cfg!(not(feature = "gstreamer")) {
        std::fs::write(&path, b"RIFF\0\0\0\0AVI LIST").unwrap();
        let e = import_error(&path, InputKind::Video);
        assert!(e.contains("input: the video is in AVI; this build imports H.264 in MP4 only. Build it with"), "{e}");
    }
    let gone = temp.path().join("gone");
    for kind in [InputKind::Video, InputKind::Candump, csv()] {
        assert!(import_error(&gone, kind).contains("gone: No such file"));
    }
}

#[test]
fn broken_numpy_arrays_name_the_array() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("processed_log/IMU/accelerometer");
    std::fs::create_dir_all(&folder).unwrap();
    let npy = |header: &str, body: usize| {
        let n = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &n[..], header.as_bytes(), &vec![0; body][..]].concat()
    };
    let good = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", 16);
    for (t, want) in [
        (b"text".to_vec(), "t: numpy array: no numpy header"),
        (b"\x93NUMPY\x07\0\0\0".to_vec(), "t: numpy array: version 7 is not known"),
        (b"\x93NUMPY\x01\0\xFF\xFF".to_vec(), "t: numpy array: cut in its header"),
        (npy("{}", 0), "t: numpy array: its header has no descr"),
        (npy("{'descr': '>f8', 'shape': (2,)}", 16), "t: numpy array of >f8, expected <f8"),
        (npy("{'descr': '<f8', 'shape': (2,2,2)}", 64), "its shape (2,2,2) has more than two sides"),
        (
            npy("{'descr': '<f8', 'shape': (99999999999999999999,)}", 0),
            "t: numpy array: its shape (99999999999999999999,): number too large to fit in target type",
        ),
        (npy("{'descr': '<f8', 'shape': (4611686018427387904,)}", 0), "t: numpy array: its shape is too large"),
        (
            npy("{'descr': '<f8', 'shape': (3,)}", 16),
            "t: numpy array: cut: its shape (3,) needs 24 bytes, there are 16",
        ),
        (good.clone(), "value: numpy array of 1 columns, expected 3"),
    ] {
        std::fs::write(folder.join("t"), t).unwrap();
        std::fs::write(folder.join("value"), &good).unwrap();
        let e = import_error(temp.path(), InputKind::Comma2k19(None));
        assert!(e.ends_with(want), "{e:?} for {want:?}");
    }
}

#[test]
fn a_damaged_frame_is_an_error_and_decoding_resumes_at_the_next_key_frame() {
    let (meta, noise) = frame(0, 0, 500);
    let mut decoder = VideoDecoder::new(VideoCodec::H264, 640).unwrap();
    assert!(matches!(decoder.decode(&meta, &noise), Err(DecodeError::Damaged { seq: 0, .. })));
    let (next, bytes) = frame(1, 1, 10);
    assert_eq!(decoder.decode(&next, &bytes).unwrap(), None);
    assert_eq!((decoder.stats().damaged, decoder.stats().waited), (1, 1));
    let mut jpeg = meta;
    jpeg.codec = VideoCodec::Jpeg;
    assert_eq!(decoder.decode(&jpeg, &noise).unwrap_err().to_string(), "frame 0 is jpeg, the decoder is for h264");
    let mut decoder = VideoDecoder::new(VideoCodec::Jpeg, 640).unwrap();
    assert!(decoder.decode(&jpeg, &noise).unwrap_err().to_string().starts_with("frame 0 at 0.000 s: damaged: "));
    assert!(VideoDecoder::new(VideoCodec::H265, 640).is_err());
}

#[test]
fn a_jpeg_decodes_to_its_colours_and_a_cut_one_does_not_stop_the_next() {
    let rgb: Vec<u8> =
        (0..1300 * 40).flat_map(|i| if i % 1300 < 650 { [200, 30, 30] } else { [30, 30, 200] }).collect();
    let mut jpeg = Vec::new();
    jpeg_encoder::Encoder::new(&mut jpeg, 95).encode(&rgb, 1300, 40, jpeg_encoder::ColorType::Rgb).unwrap();
    let (mut meta, _) = frame(0, 0, 1);
    meta.codec = VideoCodec::Jpeg;
    let mut decoder = VideoDecoder::new(VideoCodec::Jpeg, 640).unwrap();
    assert!(decoder.decode(&meta, &jpeg[..20]).is_err());
    let small = decoder.decode(&meta, &jpeg).unwrap().unwrap();
    assert_eq!((small.width, small.height), (433, 13));
    let at = |x: usize| [0, 1, 2].map(|c| small.rgb[3 * (5 * 433 + x) + c]);
    for (got, want) in [(at(50), [200, 30, 30]), (at(400), [30, 30, 200])] {
        assert!(got.iter().zip(want).all(|(g, w)| g.abs_diff(w) <= 4), "{got:?} for {want:?}");
    }
}

#[test]
fn broken_dbc_files_name_their_line() {
    for (text, want) in [
        ("", ""),
        ("rubbish", "DBC line 1, column 1: "),
        ("VERSION \"\"\n\nBU_: A\n\nBO_ 12 M 8 A\n", "DBC line 5, column "),
        ("VERSION \"\"\n\nBU_: A\n\nBO_ 12 M: 8 A\n SG_ S : 0|8@1* (1,0) [0|0] \"\" A\n", "DBC line 6, column "),
    ] {
        match dbc::check(text) {
            Ok(n) => assert!(want.is_empty() && n == 0, "{text:?} gave {n}"),
            Err(e) => assert!(!want.is_empty() && e.to_string().starts_with(want), "{e} for {text:?}"),
        }
    }
}

#[test]
fn real_clips_cut_or_flipped_anywhere_import_or_say_why() {
    let Some(clip) = data("clips/carnd_vd_test_video.mp4") else { return };
    let bytes = std::fs::read(clip).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (path, out) = (temp.path().join("v.mp4"), temp.path().join("d.mcap"));
    let mut x = 5u64;
    for i in 0..60 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (x >> 33) as usize % bytes.len();
        let mut broken = bytes.clone();
        match i % 3 {
            0 => broken.truncate(at),
            1 => broken[at] ^= 0x41,
            // The index: its tables are where a parser goes wrong.
            _ => {
                let moov = bytes.windows(4).position(|w| w == b"moov").unwrap();
                let n = bytes.len().min(moov + 1500) - moov;
                broken[moov + 4 + at % (n - 4)] ^= 0xFF;
            }
        }
        std::fs::write(&path, &broken).unwrap();
        match import(&one(&path, InputKind::Video, Offset::FirstAt(0.0)), &out, DriveInfo::new("x"), true) {
            Ok(report) => assert!(report.counts.frames + report.skipped <= 38, "{report:?}"),
            Err(e) => assert!(e.to_string().len() > 10, "{e}"),
        }
    }
}
