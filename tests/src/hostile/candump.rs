//! Candump logs: any bytes give a drive or an error that names the file; the drive has the frames that the report counts.

use std::cell::RefCell;

use agent_drive::import::{ImportReport, Input, InputKind, Offset, import};
use agent_drive::{DriveInfo, DriveReader, DriveRecord};

use super::memory_file::MemoryFile;

pub fn judge(bytes: &[u8]) {
    let Some((report, records)) = imported(bytes, InputKind::Candump) else { return };
    let frames = |r: &&Record| matches!(r, Record::Can);
    assert_eq!(records.iter().filter(frames).count() as u64, report.counts.can);
    assert_eq!(records.len() as u64, report.counts.can, "and nothing else");
}

/// What kind of record was read.
#[derive(PartialEq)]
pub(super) enum Record {
    Imu,
    Can,
    Frame,
    Other,
}

/// Imports the bytes as a file of this kind and reads the drive back whole; `None` where the file was refused.
pub(super) fn imported(bytes: &[u8], kind: InputKind) -> Option<(ImportReport, Vec<Record>)> {
    thread_local! {
        static FILES: RefCell<[MemoryFile; 2]> = RefCell::new([MemoryFile::new(), MemoryFile::new()]);
    }
    FILES.with_borrow_mut(|[input, out]| {
        input.put(bytes);
        let inputs = [Input { path: input.path(), kind, offset: Offset::FirstAt(0.0) }];
        let report = match import(&inputs, &out.path(), DriveInfo::new("hostile"), true) {
            Ok(report) => report,
            Err(error) => {
                assert!(error.to_string().contains("/proc/self/fd/"), "{error} names no file");
                return None;
            }
        };
        let mut reader = DriveReader::open(&out.path()).expect("an import leaves a drive");
        let mut records = Vec::new();
        while let Some(record) = reader.next().expect("memory does not fail") {
            records.push(match record {
                DriveRecord::Imu(_) => Record::Imu,
                DriveRecord::Can(_) => Record::Can,
                DriveRecord::Frame(..) => Record::Frame,
                _ => Record::Other,
            });
        }
        assert_eq!((reader.loss(), reader.stats().undecodable), (None, 0), "an import leaves a whole drive");
        Some((report, records))
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let log = "# a comment\n(1700000000.123456) can0 260#08FF\n(1700000000.2) vcan12 18FEF100#\n(1700000001) can1 123#R4\n\
        (1700000001.5) can1 123##1000102030405060708090A0B\n(1.5) can0 20000080#00\n\n(0) can0 7FF#00.11.22\n";
    vec![log.as_bytes().to_vec(), stored_gzip(log.as_bytes())]
}

/// A gzip stream of one stored block (RFC 1951, 3.2.4): no compressor needed.
fn stored_gzip(text: &[u8]) -> Vec<u8> {
    let n = text.len() as u16;
    let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF, 1];
    out.extend(n.to_le_bytes().into_iter().chain((!n).to_le_bytes()));
    out.extend(text);
    out.extend(super::envelope::crc32(text).to_le_bytes());
    out.extend((text.len() as u32).to_le_bytes());
    out
}
