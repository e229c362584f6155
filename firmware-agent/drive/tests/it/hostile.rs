//! Inputs that a fuzzer or a reader of the code found: small files that made the importers take much memory or time.

use agent_drive::DriveInfo;
use agent_drive::import::{InputKind, Offset, import};

use crate::broken::mp4_box;
use crate::importers::one;

/// Numbers of 32 bits one after another.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// An MP4 video of 64 x 64 with these tables and nothing in its frames.
fn video(stsc: &[u32], stsz: &[u32], extra: &[u8]) -> Vec<u8> {
    let avc1 = [&[0; 24][..], &[0, 64, 0, 64], &[0; 50], &mp4_box(b"avcC", &[1, 66, 0, 30, 3, 0, 0])].concat();
    let stbl = [
        mp4_box(b"stsd", &[words(&[0, 1]), mp4_box(b"avc1", &avc1)].concat()),
        mp4_box(b"stts", &words(&[0, 1, 1, 100])),
        mp4_box(b"stsc", &[words(&[0, stsc.len() as u32 / 3]), words(stsc)].concat()),
        mp4_box(b"stsz", &[words(&[0]), words(stsz)].concat()),
        mp4_box(b"stco", &words(&[0, 1, 0])),
    ];
    let hdlr = mp4_box(b"hdlr", b"\0\0\0\0\0\0\0\0vide");
    let mdhd = mp4_box(b"mdhd", &words(&[0, 0, 0, 1000, 300, 0]));
    let minf = mp4_box(b"minf", &mp4_box(b"stbl", &stbl.concat()));
    let trak = mp4_box(b"trak", &mp4_box(b"mdia", &[hdlr, mdhd, minf].concat()));
    [mp4_box(b"ftyp", b"isom"), mp4_box(b"moov", &[&trak, extra].concat())].concat()
}

fn error(bytes: &[u8]) -> String {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("v.mp4");
    std::fs::write(&path, bytes).unwrap();
    let inputs = one(&path, InputKind::Video, Offset::FirstAt(0.0));
    import(&inputs, &temp.path().join("d.mcap"), DriveInfo::new("x"), true).unwrap_err().to_string()
}

/// A table of one size for all frames takes 12 bytes, however many it says: a million cost 50 MB and two calls of the system each.
#[test]
fn a_video_has_no_more_frames_than_bytes() {
    let (whole, many) = (video(&[1, 1, 1], &[9, 1], b""), video(&[1, 1_000_000, 1], &[9, 1_000_000], b""));
    let wanted = format!("1000000 frames, not 1 to {}", many.len());
    assert!(error(&many).ends_with(&wanted), "{}", error(&many));
    assert!(error(&whole).contains("frame 0 at byte 0"), "{}", error(&whole));
    // The same in a fragment, whose run says nothing of each frame.
    let trun = mp4_box(b"trun", &words(&[0, 1_000_000]));
    let traf = mp4_box(b"traf", &[mp4_box(b"tfhd", &words(&[0, 1])), mp4_box(b"tfdt", &words(&[0, 0])), trun].concat());
    let mvex = mp4_box(b"mvex", &mp4_box(b"trex", &words(&[0, 1, 1, 10, 1, 0])));
    let fragmented = [video(&[1, 1, 1], &[9, 1], &mvex), mp4_box(b"moof", &traf)].concat();
    assert!(error(&fragmented).ends_with("trun is cut, or too many frames"), "{}", error(&fragmented));
}

/// Runs of chunks that go back to the first again and again: a table of 8 MB was gone through for minutes, the largest for hours.
#[test]
fn the_runs_of_a_video_s_chunks_are_in_order() {
    let back = video(&[1, 0, 1, 1, 1, 1], &[9, 1], b"");
    assert!(error(&back).ends_with("stsc is out of order"), "{}", error(&back));
}

/// Room for a frame was taken before its size was held against the limit: 4 GB for a file of 500 bytes.
#[test]
fn a_frame_of_four_gigabytes_is_left_out() {
    let huge = error(&video(&[1, 1, 1], &[u32::MAX, 1], b""));
    assert!(huge.ends_with("frame 0 at byte 0 is cut off or too large)"), "{huge}");
}
