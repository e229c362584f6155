//! Broken drives and DBC files, mostly made of good ones.

use std::fs;

use super::{Case, case};
use crate::e2e::samples::{can_drive, demo};

const DRIVES: &str = "Drives";
const DBC: &str = "DBC files";

/// What the drive holds, as far as the cases name it.
const BUS: &str = "VERSION \"\"\n\nBU_: UNIT\n\nBO_ 256 VEHICLE_SPEED: 8 UNIT\n \
                   SG_ SPEED : 0|16@1+ (0.01,0) [0|655.35] \"km/h\" UNIT\n \
                   SG_ COUNTER : 48|4@1+ (1,0) [0|15] \"\" UNIT\n";

/// With a good drive as `d.mcap`.
pub(super) fn with_drive(case: Case) -> Case {
    case.with(|folder| fs::write(folder.join("d.mcap"), can_drive()).unwrap())
}

/// With the demo's drive as `d.mcap`.
pub(super) fn with_demo(case: Case) -> Case {
    case.with(|folder| {
        fs::copy(demo().file("demo.mcap"), folder.join("d.mcap")).unwrap();
    })
}

/// With a good drive as `d.mcap`, after `change`.
fn changed(case: Case, change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Case {
    case.with(move |folder| {
        let mut bytes = can_drive().to_vec();
        change(&mut bytes);
        fs::write(folder.join("d.mcap"), bytes).unwrap();
    })
}

/// The middle of the second chunk of a drive: records are an opcode, a length of 8 bytes and that many bytes.
fn middle_of_chunk(drive: &[u8]) -> usize {
    const CHUNK: u8 = 6;
    let (mut at, mut chunks) = (8, 0);
    loop {
        let length = u64::from_le_bytes(drive[at + 1..at + 9].try_into().unwrap()) as usize;
        chunks += usize::from(drive[at] == CHUNK);
        if chunks == 2 {
            return at + 9 + length / 2;
        }
        at += 9 + length;
    }
}

fn refused(what: &'static str, content: impl Into<Vec<u8>>, says: &'static str) -> Case {
    case(DRIVES, what, "replay d.mcap --out o", 4, &["d.mcap", says]).file("d.mcap", content)
}

fn lossy(what: &'static str, says: &'static str, change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Case {
    changed(case(DRIVES, what, "replay d.mcap --out o", 5, &["d.mcap: ", "bytes lost", says]), change)
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        refused("an empty file", "", "the file is empty"),
        refused("text", "this is not a drive at all\n", "not a drive: the first bytes"),
        refused("seven bytes of the magic", b"\x89MCAP0\r".to_vec(), "not a drive"),
        refused("gzip", b"\x1f\x8b\x08\x00aaaaaaaaaaaa".to_vec(), "it is gzip: uncompress it first"),
        refused("an MP4 video", b"\0\0\0\x1cftypmp42\0\0\0\0".to_vec(), "it is an MP4 video: import it first"),
        refused("a candump log", "(1.0) can0 123#00\n", "it looks like a candump log: import it first"),
        changed(case(DRIVES, "a wrong magic", "replay d.mcap --out o", 4, &["d.mcap", "not a drive"]), |b| b[0] ^= 1),
        lossy("cut in its first record", "first at byte 8", |b| b.truncate(20)),
        lossy("cut behind its header", "first at byte", |b| b.truncate(100)),
        lossy("cut in its second chunk", "cut", |b| b.truncate(middle_of_chunk(b))),
        lossy("without its last byte", "first at byte", |b| b.truncate(b.len() - 1)),
        lossy("without its index", "first at byte", |b| b.truncate(b.len() - 200)),
        lossy("a bit flipped in its second chunk", "1 places", |b| {
            let at = middle_of_chunk(b);
            b[at] ^= 4;
        }),
        lossy("four kilobytes of zeros in its second chunk", "1 places", |b| {
            let at = middle_of_chunk(b);
            b[at..at + 4096].fill(0);
        }),
        lossy("a gigabyte claimed by a record", "first at byte", |b| {
            let at = 8 + 1;
            b[at..at + 8].copy_from_slice(&(1u64 << 30).to_le_bytes());
        }),
        case(DRIVES, "no such file", "replay d.mcap --out o", 4, &["d.mcap: No such file"]),
        case(DRIVES, "a folder", "replay . --out o", 4, &[".: ", "directory"]),
        case(DRIVES, "no such file for inspect", "inspect d.mcap", 4, &["d.mcap: No such file"]),
        case(DRIVES, "a folder for inspect", "inspect .", 4, &[".: Is a directory"]),
        case(
            DRIVES,
            "a file of no kind",
            "inspect a.txt",
            4,
            &["a.txt: neither a drive (MCAP), a message nor a manifest"],
        )
        .file("a.txt", "hello\n"),
        changed(
            case(DRIVES, "cut in its second chunk, for inspect", "inspect d.mcap", 5, &["bytes lost", "first at byte"]),
            |b| {
                b.truncate(middle_of_chunk(b));
            },
        ),
        case(
            DRIVES,
            "a real clip in place of a drive",
            "replay data/clips/carnd_vd_test_video.mp4 --out o",
            4,
            &["MP4 video"],
        )
        .data(),
    ];
    all.extend(dbc());
    all
}

/// A replay with a DBC of our own.
fn with_dbc(what: &'static str, signal: &str, text: impl Into<Vec<u8>>, says: &[&'static str]) -> Case {
    let args = format!("replay d.mcap --out o --dbc a.dbc --signal {signal}");
    with_drive(case(DBC, what, &args, 4, says)).file("a.dbc", text)
}

fn dbc() -> Vec<Case> {
    let speed = "speed=VEHICLE_SPEED.SPEED";
    let own = |what, signal: &str, code, says: &[&'static str]| {
        let args = format!("replay d.mcap --out o --dbc a.dbc --signal {signal}");
        with_drive(case(DBC, what, &args, code, says)).file("a.dbc", BUS)
    };
    vec![
        own("a message that it has not", "speed=VEHICLE_SPED.SPEED", 4, &["a.dbc: ", "no message \"VEHICLE_SPED\""]),
        own("a signal that its message has not", "speed=VEHICLE_SPEED.SPED", 4, &["a.dbc", "has no signal \"SPED\""]),
        own("an unknown vehicle signal", "velocity=VEHICLE_SPEED.SPEED", 2, &["velocity is none of speed, brake"]),
        own(
            "no signal behind the message",
            "speed=VEHICLE_SPEED",
            2,
            &["--signal speed=VEHICLE_SPEED: ", "MESSAGE.SIGNAL"],
        ),
        own("a scale of zero", "speed=VEHICLE_SPEED.SPEED*0", 2, &["a scale of 0 makes no signal"]),
        own("a scale that is no number", "speed=VEHICLE_SPEED.SPEED*x", 2, &["x is no number"]),
        with_dbc("cut in the middle of a signal", speed, &BUS[..75], &["a.dbc: DBC line "]),
        with_dbc("binary", speed, (0..=255u8).cycle().take(4096).collect::<Vec<u8>>(), &["a.dbc: DBC"]),
        with_dbc("empty", speed, "", &["a.dbc: ", "VEHICLE_SPEED"]),
        with_dbc(
            "a signal of 200 bits",
            speed,
            "BO_ 1 VEHICLE_SPEED: 8 X\n SG_ SPEED : 0|200@1+ (1,0) [0|1] \"\" X\n",
            &["a.dbc: "],
        ),
        with_drive(case(
            DBC,
            "no such file",
            "replay d.mcap --out o --dbc a.dbc --signal speed=A.B",
            4,
            &["a.dbc: No such file"],
        )),
        with_drive(case(DBC, "a folder", "replay d.mcap --out o --dbc . --signal speed=A.B", 4, &["Is a directory"])),
        with_drive(case(
            DBC,
            "toyota_2017_ref_pt.dbc, which other parsers refuse: it is read, and lacks the message",
            "replay d.mcap --out o --dbc data/dbc/toyota_2017_ref_pt.dbc --signal speed=SPEED.SPEED",
            4,
            &["toyota_2017_ref_pt.dbc: the DBC has no message \"SPEED\""],
        ))
        .data(),
        with_drive(case(
            DBC,
            "toyota_2017_ref_pt.dbc cut in half, within a number",
            "replay d.mcap --out o --dbc half.dbc --signal speed=SPEED.SPEED",
            4,
            &["half.dbc: DBC line "],
        ))
        .data()
        .with(|folder| {
            // Cut within the last word of a line, it would read as a whole file.
            let whole = fs::read(folder.join("data/dbc/toyota_2017_ref_pt.dbc")).unwrap();
            fs::write(folder.join("half.dbc"), &whole[..whole.len() / 2 - 20]).unwrap();
        }),
    ]
}
