//! Evidence chains: whatever is done to a file, it shows, and it is said where.

use std::ops::Range;
use std::sync::Arc;

use agent_core::time::MonoTime;
use agent_drive::verify::FaultKind;
use agent_drive::{DriveWriter, Seal, Verdict, verify};
use agent_keys::SecretKey;

use crate::util::{can, frame, imu, info, read_all};

const CHUNK: u8 = 6;
const METADATA: u8 = 12;
const DATA_END: u8 = 15;

fn seal(key: Option<u8>, about: &str) -> Seal {
    let key = key.map(|seed| Arc::new(SecretKey::from_seed(&[seed; 32]).unwrap()));
    Seal { unit: "unit-7".into(), about: about.into(), source: "sensors".into(), key }
}

/// A small evidence file of `parts` parts of samples and the last, empty one.
fn file(seal: Seal, parts: u64, salt: u64) -> Vec<u8> {
    let mut w = DriveWriter::chained(Vec::new(), &info(), seal).unwrap();
    for part in 0..parts {
        for i in 0..8 {
            let t = part * 1_000_000_000 + i * 50_000_000 + 7;
            w.write_imu(&imu(t + salt)).unwrap();
            w.write_can(&can(t + salt + 1, 0x100, 8)).unwrap();
            let (meta, data) = frame(t + salt + 2, part * 8 + i + salt * 1000, 60);
            w.write_frame(&meta, &data).unwrap();
        }
        w.flush().unwrap();
    }
    let (out, _) = w.finish().unwrap();
    out.into_inner().into_inner()
}

fn signed() -> Vec<u8> {
    file(seal(Some(1), "unit-7_00000001_000001"), 5, 0)
}

fn judged(bytes: &[u8]) -> Verdict {
    verify(bytes, bytes.len() as u64).unwrap()
}

fn kinds(verdict: &Verdict) -> Vec<(FaultKind, u32)> {
    verdict.faults.iter().map(|f| (f.kind, f.part)).collect()
}

/// Opcode and place of every record of the data, the end of the data last.
fn records(bytes: &[u8]) -> Vec<(u8, Range<usize>)> {
    let (mut at, mut found) = (8, Vec::new());
    while at + 9 <= bytes.len() {
        let len = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
        found.push((bytes[at], at..at + 9 + len));
        at += 9 + len;
        if found.last().unwrap().0 == DATA_END {
            break;
        }
    }
    found
}

fn is_link(bytes: &[u8], (op, at): &(u8, Range<usize>)) -> bool {
    let text = String::from_utf8_lossy(&bytes[at.clone()]).into_owned();
    *op == METADATA && text.contains("evidence_chain") && text.contains("digest")
}

/// Magic and header, then each part with its link as one piece; the end of the data and what follows are left out.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut pieces, mut from) = (vec![bytes[..8].to_vec()], 8);
    for record in records(bytes) {
        if is_link(bytes, &record) {
            pieces.push(bytes[from..record.1.end].to_vec());
            from = record.1.end;
        }
    }
    pieces
}

/// The same, and the end of the data: what somebody makes who leaves out what he likes and closes the file.
fn joined(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut out = pieces.concat();
    out.push(DATA_END);
    out.extend_from_slice(&4u64.to_le_bytes());
    let crc = crc32fast::hash(&out[..out.len() - 9]);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What the chain says of such a file, without what is said of its missing index.
fn chain_faults(pieces: &[Vec<u8>]) -> (Vec<(FaultKind, u32)>, Verdict) {
    let verdict = judged(&joined(pieces));
    let faults = kinds(&verdict).into_iter().filter(|(k, _)| *k != FaultKind::Index).collect();
    (faults, verdict)
}

#[test]
fn a_whole_file_is_intact_signed_and_a_drive_like_any_other() {
    let bytes = signed();
    let verdict = judged(&bytes);
    assert!(verdict.intact() && verdict.signed && verdict.cut.is_none(), "{verdict:?}");
    assert_eq!((verdict.parts, verdict.about.as_str()), (6, "unit-7_00000001_000001"));
    assert_eq!((verdict.unit.as_str(), verdict.source.as_str()), ("unit-7", "sensors"));
    assert_eq!(verdict.key, Some(SecretKey::from_seed(&[1; 32]).unwrap().public()));
    assert_eq!(verdict.span, Some((MonoTime(7), MonoTime(4_350_000_009))));
    assert!(bytes == signed(), "the same samples and key give the same bytes");
    let (got, reader) = read_all(bytes);
    assert_eq!((got.len(), reader.loss()), (5 * 8 * 3, None));
    assert_eq!(reader.metadata().len(), 1, "links are not shown as metadata");

    let unsigned = judged(&file(seal(None, "e"), 5, 0));
    assert!(unsigned.intact() && !unsigned.signed && unsigned.key.is_none(), "{unsigned:?}");
    let bare = crate::util::drive(3).0;
    assert!(!judged(&bare).chained && !judged(&bare).intact());
}

/// The reader of the MCAP project itself takes such a file, by its index and without.
#[test]
fn standard_readers_open_it() {
    let bytes = signed();
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    assert_eq!(summary.stats.as_ref().unwrap().message_count, 120);
    assert_eq!(summary.chunk_indexes.len(), 5);
    assert!(summary.metadata_indexes.iter().filter(|m| m.name == "evidence_chain").count() == 7);
    assert_eq!(mcap::MessageStream::new(&bytes).unwrap().map(Result::unwrap).count(), 120);
}

#[test]
fn large_chunks_end_by_themselves_each_with_its_link() {
    let mut w = DriveWriter::chained(Vec::new(), &info(), seal(Some(1), "e")).unwrap();
    for i in 0..200 {
        let (meta, data) = frame(i * 33_000_000, i, 20_000);
        w.write_frame(&meta, &data).unwrap();
    }
    let bytes = w.finish().unwrap().0.into_inner().into_inner();
    let (chunks, links) = (
        records(&bytes).iter().filter(|(op, _)| *op == CHUNK).count(),
        records(&bytes).iter().filter(|r| is_link(&bytes, r)).count(),
    );
    assert!((14..18).contains(&chunks) && (chunks..=chunks + 1).contains(&links), "{chunks} chunks, {links} links");
    let verdict = judged(&bytes);
    assert!(verdict.intact() && verdict.signed && verdict.parts as usize == links, "{verdict:?}");
}

#[test]
fn a_part_taken_out_changed_doubled_or_moved_is_named() {
    let bytes = signed();
    let whole = pieces(&bytes);
    assert_eq!(whole.len(), 7);
    assert_eq!(chain_faults(&whole).0, []);
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut pieces = whole.clone();
        change(&mut pieces);
        chain_faults(&pieces)
    };
    assert_eq!(with(&|p| drop(p.remove(3))).0, [(FaultKind::Removed, 3)]);
    let (faults, verdict) = with(&|p| drop(p.drain(2..4)));
    assert_eq!(faults, [(FaultKind::Removed, 2), (FaultKind::Removed, 3)]);
    assert_eq!(verdict.parts, 4);
    assert_eq!(with(&|p| p.swap(2, 3)).0, [(FaultKind::Moved, 2)]);
    assert_eq!(with(&|p| p.insert(4, p[3].clone())).0, [(FaultKind::Doubled, 3)]);
    // A byte of the picture inside the chunk of part 3.
    let (faults, verdict) = with(&|p| {
        let at = p[3].len() / 3;
        p[3][at] ^= 0x20;
    });
    assert_eq!(faults, [(FaultKind::Changed, 3)]);
    let fault = verdict.faults.iter().find(|f| f.part == 3).unwrap();
    assert_eq!(fault.span, Some((MonoTime(2_000_000_007), MonoTime(2_350_000_009))), "and when that was");
    // The chunk alone taken out, its link left.
    let (faults, _) = with(&|p| {
        let link = records(&[whole[0].clone(), p[3].clone()].concat()).pop().unwrap().1;
        p[3] = p[3][link.start - 8..].to_vec();
    });
    assert_eq!(faults, [(FaultKind::Removed, 3)]);
    // Two chunks changed over, the links where they were.
    let (faults, _) = with(&|p| {
        let split = |piece: &[u8]| records(&[whole[0].clone(), piece.to_vec()].concat()).pop().unwrap().1.start - 8;
        let (a, b) = (split(&p[2]), split(&p[3]));
        let (two, three) = (p[2].clone(), p[3].clone());
        p[2] = [&three[..b], &two[a..]].concat();
        p[3] = [&two[..a], &three[b..]].concat();
    });
    assert_eq!(faults, [(FaultKind::Moved, 2), (FaultKind::Moved, 3)]);
    // Something added behind the last part.
    let loose = records(&[whole[0].clone(), whole[3].clone()].concat())[0].1.clone();
    assert_eq!(with(&|p| p.push(whole[3][..loose.len()].to_vec())).0, [(FaultKind::Added, 0)]);
}

#[test]
fn parts_and_signatures_of_other_files_do_not_fit() {
    let (one, other) = (pieces(&signed()), pieces(&file(seal(Some(1), "unit-7_00000001_000002"), 5, 9)));
    // A part with its own good link, of another event of the same unit and key.
    let mut mixed = one.clone();
    mixed[3] = other[3].clone();
    let (faults, verdict) = chain_faults(&mixed);
    assert_eq!(faults, [(FaultKind::Signature, 3)]);
    assert_eq!(verdict.parts, 5);
    // The whole tail of the other.
    let spliced = [&one[..3], &other[3..]].concat();
    assert_eq!(chain_faults(&spliced).0.first(), Some(&(FaultKind::Signature, 3)));
    assert!(!chain_faults(&spliced).1.intact());
    // The same event's id, other contents, the same key: as if a unit had counted its events twice.
    let again = pieces(&file(seal(Some(1), "unit-7_00000001_000001"), 5, 9));
    let twin = [&one[..3], &again[3..]].concat();
    assert_eq!(chain_faults(&twin).0, [(FaultKind::Moved, 3)]);
    // The signatures of one put into the links of another.
    let signature = |piece: &[u8]| {
        let at = piece.windows(9).rposition(|w| w == b"signature").unwrap() + 13;
        at..at + 128
    };
    let mut swapped = one.clone();
    for i in 1..one.len() {
        let (to, from) = (signature(&one[i]), signature(&other[i]));
        swapped[i][to].copy_from_slice(&other[i][from]);
    }
    let (faults, verdict) = chain_faults(&swapped);
    assert_eq!(faults.len(), 6);
    assert!(faults.iter().all(|(kind, _)| *kind == FaultKind::Signature) && !verdict.signed, "{faults:?}");
    // Made anew from end to end with another key: whole, and another's.
    let forged = judged(&file(seal(Some(2), "unit-7_00000001_000001"), 5, 0));
    assert!(forged.intact() && forged.key != judged(&signed()).key);
}

#[test]
fn a_file_that_was_cut_holds_as_far_as_it_goes_and_is_said_to_be_cut() {
    let bytes = signed();
    let ends: Vec<usize> = records(&bytes).iter().filter(|r| is_link(&bytes, r)).map(|r| r.1.end).collect();
    let mut seen = [0; 7];
    for len in (8..bytes.len()).step_by(7) {
        let verdict = judged(&bytes[..len]);
        let whole = ends.iter().filter(|end| **end <= len).count();
        assert_eq!(verdict.parts as usize, whole, "cut at {len}");
        assert!(verdict.faults.is_empty(), "cut at {len}: {:?}", verdict.faults);
        if verdict.chained {
            let cut = verdict.cut.as_ref().unwrap_or_else(|| panic!("cut at {len} and not said"));
            assert!(cut.offset as usize <= len, "{cut:?}");
        }
        seen[whole] += 1;
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    // Zeros behind the cut, as a file system leaves them, and a part torn although its link came to the disk.
    let zeros = [&bytes[..ends[2]], &[0; 500]].concat();
    let verdict = judged(&zeros);
    assert!(verdict.intact() && verdict.parts == 3, "{verdict:?}");
    assert_eq!(verdict.cut.map(|c| (c.offset as usize, c.bytes)), Some((ends[2], 500)));
    let mut torn = bytes[..ends[2]].to_vec();
    torn[ends[1] + 100..ends[1] + 300].fill(0);
    let verdict = judged(&torn);
    assert!(verdict.intact() && verdict.parts == 2, "{verdict:?}");
    assert_eq!(verdict.cut.map(|c| c.offset as usize), Some(ends[1]));
    // The same in the middle is no cut.
    let mut changed = bytes[..ends[3]].to_vec();
    changed[ends[1] + 100..ends[1] + 300].fill(0);
    assert_eq!(kinds(&judged(&changed)), [(FaultKind::Changed, 3)]);
    // Cut and closed again.
    let closed = judged(&joined(&pieces(&bytes)[..4]));
    assert!(closed.cut.is_some() && closed.parts == 3, "{closed:?}");
}

/// Whatever byte of a whole file is changed, it shows.
#[test]
fn no_byte_can_be_changed() {
    let bytes = file(seal(Some(1), "e"), 2, 0);
    let mut changed = 0;
    for at in 8..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let verdict = judged(&bad);
        assert!(!verdict.intact() || verdict.cut.is_some() || !verdict.signed, "byte {at} of {}", bytes.len());
        changed += 1;
    }
    assert!(changed > 5000, "{changed}");
}

/// An index that leaves out what is there, with its checksum made to fit, is found out.
#[test]
fn nothing_can_be_hidden_in_the_index() {
    let bytes = signed();
    let data_end = records(&bytes).pop().unwrap().1.end;
    let (mut at, mut tail) = (data_end, Vec::new());
    while at < bytes.len() - 8 {
        let len = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
        tail.push(bytes[at..at + 9 + len].to_vec());
        at += 9 + len;
    }
    let rebuilt = |records: &[Vec<u8>]| {
        let mut out = bytes[..data_end].to_vec();
        out.extend(records.concat());
        let crc_at = out.len() - 4;
        let crc = crc32fast::hash(&out[data_end..crc_at]);
        out[crc_at..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&bytes[bytes.len() - 8..]);
        judged(&out)
    };
    assert!(rebuilt(&tail).intact(), "{:?}", rebuilt(&tail));
    let mut tried = 0;
    for left_out in 0..tail.len() - 1 {
        let mut less = tail.clone();
        less.remove(left_out);
        let verdict = rebuilt(&less);
        assert_eq!(kinds(&verdict), [(FaultKind::Index, 0)], "record {left_out}, kind {}", tail[left_out][0]);
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
    // The topic of a channel under another name.
    let mut renamed = tail.clone();
    let channel = renamed.iter_mut().find(|r| String::from_utf8_lossy(r).contains("/imu")).unwrap();
    let at = channel.windows(4).position(|w| w == b"/imu").unwrap();
    channel[at + 1] = b'x';
    assert_eq!(kinds(&rebuilt(&renamed)), [(FaultKind::Index, 0)]);
}
