//! Drives and evidence files: any bytes give records, losses and a verdict; a file whose chain holds with the unit's signature
//! gives the records that the unit wrote, and no others.

use std::io::Cursor;
use std::sync::OnceLock;

use agent_drive::limits::MAX_FAULTS;
use agent_drive::{DriveInfo, DriveReader, DriveWriter, verify};

use super::samples;

/// All that can be read of a drive, as it looks; `None` if it is none.
fn records(bytes: &[u8]) -> Option<Vec<String>> {
    let mut reader = DriveReader::from_reader(Cursor::new(bytes.to_vec()), bytes.len() as u64).ok()?;
    let mut all = Vec::new();
    while let Some(record) = reader.next().expect("memory does not fail") {
        all.push(format!("{record:?}"));
    }
    Some(all)
}

fn read(bytes: &[u8]) {
    let opened = DriveReader::from_reader(Cursor::new(bytes.to_vec()), bytes.len() as u64);
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    while let Some(record) = reader.next().expect("memory does not fail") {
        let _ = record.time();
    }
    if let Some(loss) = reader.loss() {
        assert!(loss.offset <= bytes.len() as u64 && !loss.to_string().is_empty());
    }
}

pub fn judge(bytes: &[u8]) {
    read(bytes);
    let Ok(verdict) = verify(bytes, bytes.len() as u64) else { return };
    assert!(verdict.faults.len() <= MAX_FAULTS);
    assert!(verdict.faults.iter().all(|f| f.offset <= bytes.len() as u64 && !f.says.is_empty()));
    static OURS: OnceLock<(Vec<String>, agent_keys::PublicKey)> = OnceLock::new();
    let (ours, key) = OURS.get_or_init(|| {
        let records = records(&samples::evidence(true)).expect("our own file is a drive");
        (records, samples::key().public())
    });
    if verdict.intact() && verdict.signed && verdict.key == Some(*key) {
        let mut found = records(bytes).expect("what is intact is a drive");
        if let Some(cut) = &verdict.cut {
            // Behind the cut nobody vouches for anything.
            found = records(&bytes[..cut.offset as usize]).expect("what is intact is a drive");
        }
        assert!(ours.starts_with(&found), "signed, but not what was written: {found:?}");
        assert!(verdict.cut.is_some() || found.len() == ours.len());
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let plain = DriveWriter::new(Cursor::new(Vec::new()), &DriveInfo::new("seed")).and_then(|mut writer| {
        samples::fill(&mut writer)?;
        writer.finish()
    });
    let plain = plain.expect("memory takes a drive").0.into_inner();
    vec![plain, samples::evidence(true), samples::evidence(false)]
}
