//! Broken logs, tables, segments and videos for `import`.

use std::fs;
use std::path::Path;

use super::{Case, case};

const CANDUMP: &str = "candump logs";
const CSV: &str = "IMU tables";
const SEGMENT: &str = "comma2k19 segments";
const VIDEO: &str = "Videos";

pub(super) fn cases() -> Vec<Case> {
    [candump(), csv(), segments(), videos()].into_iter().flatten().collect()
}

fn log(what: &'static str, content: impl Into<Vec<u8>>, code: i32, says: &[&'static str]) -> Case {
    case(CANDUMP, what, "import --out d.mcap --candump a.log", code, says).file("a.log", content)
}

fn candump() -> Vec<Case> {
    let bad = "(1.0) can0 123#00\n(1.1) can0 XYZ#00\n(1.2) can0 123#0\n(1.3) can0 123#001122334455667788\n(1.4) can0 123#01\n";
    vec![
        log(
            "three bad lines of five",
            bad,
            5,
            &["a.log: line 2: ", "a.log: line 3: ", "a.log: line 4: more than 8 bytes"],
        ),
        log("no good line", "hello\nworld\n", 4, &["a.log", "line 1"]),
        log("empty", "", 4, &["a.log"]),
        log("binary", (0..=255u8).cycle().take(4096).collect::<Vec<u8>>(), 4, &["a.log", "line 1"]),
        log("a time beyond all clocks", "(99999999999999.0) can0 123#00\n(1.0) can0 123#00\n", 5, &["a.log: line 1: "]),
        log(
            "a line of a megabyte",
            [vec![b'x'; 1 << 20], b"\n(1.0) can0 123#00\n".to_vec()].concat(),
            5,
            &["a.log: line 1"],
        ),
        log("gzip that is cut", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b".to_vec(), 4, &["a.log", "gzip"]),
        case(CANDUMP, "no such file", "import --out d.mcap --candump a.log", 4, &["a.log: No such file"]),
        case(CANDUMP, "a folder", "import --out d.mcap --candump .", 4, &[".: Is a directory"]),
    ]
}

const COLUMNS: &str = "t=t,x=ax,y=ay,z=az";

fn table(what: &'static str, text: &str, columns: &str, code: i32, says: &[&'static str]) -> Case {
    let args = format!("import --out d.mcap --imu-csv a.csv --imu-columns {columns}");
    case(CSV, what, &args, code, says).file("a.csv", text)
}

fn csv() -> Vec<Case> {
    let good = "t,ax,ay,az\n0.00,0,0,9.81\n";
    vec![
        table(
            "a column that is not there",
            good,
            "t=t,x=ax,y=ay,z=up",
            4,
            &["a.csv: no column \"up\"; there are t, ax, ay, az"],
        ),
        table(
            "not-a-number",
            "t,ax,ay,az\n0,0,0,9.81\n0.01,NaN,0,9.81\n",
            COLUMNS,
            5,
            &["a.csv: line 3: column 2 is \"NaN\""],
        ),
        table(
            "words in a row",
            "t,ax,ay,az\n0,0,0,9.81\n0.01,a,b,c\n",
            COLUMNS,
            5,
            &["a.csv: line 3: column 2 is \"a\""],
        ),
        table(
            "a row that is too short",
            "t,ax,ay,az\n0,0,0,9.81\n0.01,0\n",
            COLUMNS,
            5,
            &["a.csv: line 3: column 3 is \"\""],
        ),
        table("only a header", "t,ax,ay,az\n", COLUMNS, 4, &["a.csv"]),
        table("empty", "", COLUMNS, 4, &["a.csv: the file is empty"]),
        table("a unit that does not exist", good, "t=t:h,x=ax,y=ay,z=az", 2, &["h is none of s, ms, us, ns"]),
        table("two axes", good, "t=t,x=ax,y=ay", 2, &["t, x, y and z are needed"]),
        case(CSV, "no columns named", "import --out d.mcap --imu-csv a.csv", 2, &["--imu-csv needs --imu-columns"])
            .file("a.csv", good),
        case(
            CSV,
            "no such file",
            &format!("import --out d.mcap --imu-csv a.csv --imu-columns {COLUMNS}"),
            4,
            &["a.csv: No such"],
        ),
    ]
}

/// A numpy file of version 1.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\0".as_slice(), &length, header.as_bytes(), data].concat()
}

/// A segment of two accelerometer samples, its two files made by the arguments.
fn segment(what: &'static str, t: Vec<u8>, value: Vec<u8>, code: i32, says: &[&'static str]) -> Case {
    case(SEGMENT, what, "import --out d.mcap --comma2k19 seg", code, says).with(move |folder| {
        let imu = folder.join("seg/processed_log/IMU/accelerometer");
        fs::create_dir_all(&imu).unwrap();
        fs::write(imu.join("t"), &t).unwrap();
        fs::write(imu.join("value"), &value).unwrap();
    })
}

fn segments() -> Vec<Case> {
    let floats = |v: &[f64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let t = || npy("<f8", "(2,)", &floats(&[1.0, 1.01]));
    let v = || npy("<f8", "(2, 3)", &floats(&[0.0, 0.0, -9.8, 0.0, 0.0, -9.8]));
    let accel = "seg/processed_log/IMU/accelerometer";
    let empty = |folder: &Path| fs::create_dir_all(folder.join("seg/processed_log")).unwrap();
    vec![
        segment(
            "times in 32 bits",
            npy("<f4", "(2,)", &[0; 8]),
            v(),
            4,
            &["accelerometer/t: numpy array of <f4, expected <f8"],
        ),
        segment("values cut short", t(), v()[..160].to_vec(), 4, &["accelerometer/value: numpy array: cut"]),
        segment(
            "two axes",
            t(),
            npy("<f8", "(2, 2)", &floats(&[0.0; 4])),
            4,
            &["value: numpy array of 2 columns, expected 3"],
        ),
        segment(
            "three times for two values",
            npy("<f8", "(3,)", &floats(&[1.0; 3])),
            v(),
            4,
            &[accel, "3 times for 2 values"],
        ),
        segment(
            "text in place of an array",
            b"hello".to_vec(),
            v(),
            4,
            &["accelerometer/t: numpy array: no numpy header"],
        ),
        segment(
            "a shape beyond all memory",
            npy("<f8", "(4611686018427387904, 3)", &[]),
            v(),
            4,
            &["accelerometer/t: ", "shape"],
        ),
        segment(
            "a time that is not a number",
            npy("<f8", "(2,)", &floats(&[f64::NAN, 1.0])),
            v(),
            5,
            &["seg: IMU row 0: not finite"],
        ),
        case(SEGMENT, "no such folder", "import --out d.mcap --comma2k19 seg", 4, &["seg: not a comma2k19 segment"]),
        case(
            SEGMENT,
            "nothing in it",
            "import --out d.mcap --comma2k19 seg",
            4,
            &["seg/processed_log: it has neither IMU"],
        )
        .with(empty),
        case(
            SEGMENT,
            "times without values",
            "import --out d.mcap --comma2k19 seg",
            4,
            &["accelerometer/value: No such file"],
        )
        .with(move |f| {
            fs::create_dir_all(f.join(accel)).unwrap();
            fs::write(f.join(accel).join("t"), npy("<f8", "(0,)", &[])).unwrap();
        }),
        case(
            SEGMENT,
            "a broken DBC beside it",
            "import --out d.mcap --comma2k19 seg --dbc a.dbc",
            4,
            &["a.dbc: DBC line 2"],
        )
        .file("a.dbc", "VERSION \"\"\nBO_ nonsense\n")
        .with(empty),
    ]
}

fn video(what: &'static str, content: impl Into<Vec<u8>>, says: &[&'static str]) -> Case {
    case(VIDEO, what, "import --out d.mcap --video a.mp4", 4, says).file("a.mp4", content)
}

/// A real clip as `a.mp4`, after `change`.
fn clip(what: &'static str, code: i32, says: &[&'static str], change: fn(&mut Vec<u8>)) -> Case {
    case(VIDEO, what, "import --out d.mcap --video a.mp4", code, says).data().with(move |folder| {
        let mut bytes = fs::read(folder.join("data/clips/carnd_vd_test_video.mp4")).unwrap();
        change(&mut bytes);
        fs::write(folder.join("a.mp4"), bytes).unwrap();
    })
}

fn videos() -> Vec<Case> {
    let ftyp = b"\0\0\0\x10ftypisom\0\0\0\0".to_vec();
    let with = |more: &[u8]| [ftyp.clone(), more.to_vec()].concat();
    vec![
        video("empty", "", &["a.mp4: "]),
        video("text", "this is no video\n", &["a.mp4: not an MP4 file"]),
        video("no index", with(b"\0\0\0\x0cmdataaaa"), &["a.mp4: "]),
        video("an index without tracks", with(b"\0\0\0\x10moov\0\0\0\x08mvhd"), &["a.mp4: it has no video track"]),
        video("an index longer than the file", with(b"\0\x10\0\0moov"), &["a.mp4: cut: its index at byte 16"]),
        video(
            "a box shorter than its own head",
            with(b"\0\0\0\x04free"),
            &["a.mp4: the box at byte 16 has a size of 4"],
        ),
        case(VIDEO, "no such file", "import --out d.mcap --video a.mp4", 4, &["a.mp4: No such file"]),
        clip("a real clip cut in half", 5, &["a.mp4: frame "], |b| b.truncate(b.len() / 2)),
        clip("a real clip with zeros in its pictures", 5, &["a.mp4: frame "], |b| {
            let at = b.len() / 2;
            b[at..at + 20_000].fill(0);
        }),
        case(
            VIDEO,
            "MPEG-4 part 2",
            "import --out d.mcap --video data/clips/jg_ccd_crash_01.mp4",
            4,
            &["MPEG-4 part 2", "ffmpeg"],
        )
        .data(),
        case(
            VIDEO,
            "a drive in place of a video",
            "import --out e.mcap --video d.mcap",
            4,
            &["d.mcap: not an MP4 file"],
        )
        .file("d.mcap", b"\x89MCAP0\r\n".to_vec()),
    ]
}
