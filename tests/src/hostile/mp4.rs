//! MP4 videos: any bytes give a drive or an error that names the file; the drive has the frames that the report counts, and the
//! decoder takes them or refuses them.

use agent_drive::import::InputKind;

use super::candump::{Record, imported};
use super::samples::{SIDE, pictures};

pub fn judge(bytes: &[u8]) {
    let Some((report, records)) = imported(bytes, InputKind::Video) else { return };
    let frames = records.iter().filter(|r| **r == Record::Frame).count();
    assert_eq!((frames as u64, records.len()), (report.counts.frames, frames));
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    [&(contents.len() as u32 + 8).to_be_bytes()[..], kind, &contents].concat()
}

/// Numbers of 32 bits one after another.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// Units of an access unit, without start codes.
fn units(data: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..data.len().saturating_sub(3)).filter(|i| data[*i..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([data.len() + 1]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &data[start + 3..end.min(data.len())];
        if end > data.len() { unit } else { unit.strip_suffix(&[0]).unwrap_or(unit) }
    };
    starts.iter().zip(ends).map(unit).collect()
}

/// A video of three frames; with `shifts` as composition offsets, which make it one with B-frames.
fn video(shifts: Option<[u32; 3]>) -> Vec<u8> {
    let frames = pictures(3);
    let kind = |unit: &&[u8]| unit.first().map_or(0, |b| b & 0x1F);
    let sets: Vec<&[u8]> = units(&frames[0].1).into_iter().filter(|u| matches!(kind(u), 7 | 8)).collect();
    let sized = |unit: &&[u8]| [&(unit.len() as u16).to_be_bytes()[..], unit].concat();
    let samples: Vec<Vec<u8>> = frames
        .iter()
        .map(|(_, data)| units(data).iter().filter(|u| !matches!(kind(u), 7 | 8)).flat_map(sized).collect())
        .collect();
    let ftyp = boxed(b"ftyp", &[b"isom"]);
    let mdat = boxed(b"mdat", &[&samples.concat()]);
    let avcc = boxed(b"avcC", &[&[1, 66, 0, 30, 1, 1], &sized(&sets[0]), &[1], &sized(&sets[1])]);
    let side = SIDE.to_be_bytes();
    let avc1 = boxed(b"avc1", &[&[0; 24], &side, &side, &[0; 50], &avcc]);
    let sizes: Vec<u32> = samples.iter().map(|s| s.len() as u32).collect();
    let ctts = shifts.map_or(Vec::new(), |[a, b, c]| boxed(b"ctts", &[&words(&[0, 3, 1, a, 1, b, 1, c])]));
    let stbl = boxed(
        b"stbl",
        &[
            &boxed(b"stsd", &[&words(&[0, 1]), &avc1]),
            &boxed(b"stts", &[&words(&[0, 1, 3, 100])]),
            &ctts,
            &boxed(b"stsc", &[&words(&[0, 1, 1, 3, 1])]),
            &boxed(b"stsz", &[&words(&[0, 0, 3]), &words(&sizes)]),
            &boxed(b"stco", &[&words(&[0, 1, ftyp.len() as u32 + 8])]),
        ],
    );
    let hdlr = boxed(b"hdlr", &[&words(&[0, 0]), b"vide"]);
    let mdhd = boxed(b"mdhd", &[&words(&[0, 0, 0, 1000, 300, 0])]);
    let mdia = boxed(b"mdia", &[&mdhd, &hdlr, &boxed(b"minf", &[&stbl])]);
    let edts = boxed(b"edts", &[&boxed(b"elst", &[&words(&[0, 1, 300, 0, 0x0001_0000])])]);
    let mvhd = boxed(b"mvhd", &[&words(&[0, 0, 0, 1000, 300])]);
    let moov = boxed(b"moov", &[&mvhd, &boxed(b"trak", &[&edts, &mdia])]);
    [ftyp, mdat, moov].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![video(None), video(Some([100, 200, 0]))]
}
