//! What goes in comes out, in time order, with the drive's own record.

use std::collections::BTreeMap;
use std::io::Cursor;

use agent_core::time::MonoTime;
use agent_drive::{DriveError, DriveWriter};

use crate::util::{Owned, can, drive, frame, gnss, imu, info, read_all};

#[test]
fn every_kind_of_record_comes_back_as_it_went_in() {
    let mut w = DriveWriter::new(Cursor::new(Vec::new()), &info()).unwrap();
    let mut want = Vec::new();
    for (i, len) in [0, 1, 7, 8, 12, 64].into_iter().enumerate() {
        for id in [0x0, 0x7FF, 0x18FE_F100] {
            let c = can(10 + i as u64, id, len);
            w.write_can(&c).unwrap();
            want.push(Owned::Can(Box::new(c)));
        }
    }
    for (i, (speed, course)) in [(0.1, 0.0), (13.7, 359.9), (33.3, 180.0), (1e-3, 90.5)].into_iter().enumerate() {
        let g = gnss(100 + i as u64, speed, course);
        w.write_gnss(&g).unwrap();
        want.push(Owned::Gnss(g));
    }
    for i in 200..206 {
        w.write_imu(&imu(i)).unwrap();
        want.push(Owned::Imu(imu(i)));
    }
    let (meta, data) = frame(u64::from(u32::MAX) * 3_000_000_000, 10, 3000);
    w.write_json("/agent/report", MonoTime(300), r#"{"kind":"impact"}"#).unwrap();
    want.push(Owned::Json("/agent/report".into(), MonoTime(300), r#"{"kind":"impact"}"#.into()));
    w.write_frame(&meta, &data).unwrap();
    want.push(Owned::Frame(meta, data));
    w.write_metadata("event", BTreeMap::from([("id".into(), "7".into())])).unwrap();
    w.write_attachment("report.json", "application/json", MonoTime(301), b"{}").unwrap();
    let (out, counts) = w.finish().unwrap();
    assert_eq!((counts.can, counts.gnss, counts.imu, counts.frames, counts.json), (18, 4, 6, 1, 1));
    let (got, reader) = read_all(out.into_inner());
    assert_eq!(got, want);
    assert_eq!(reader.info(), &info());
    assert_eq!(reader.loss(), None);
    assert_eq!(reader.stats(), agent_drive::ReadStats::default());
    assert_eq!(reader.metadata()[1].1["id"], "7");
}

#[test]
fn the_same_samples_give_the_same_bytes_and_many_chunks_keep_the_order() {
    let (a, want) = drive(200);
    let (b, _) = drive(200);
    assert!(a == b, "two writes differ");
    let (got, reader) = read_all(a);
    assert!(got == want);
    assert_eq!(reader.stats().steps_back, 0);
}

#[test]
fn records_of_one_chunk_come_out_by_time_however_they_went_in() {
    let mut w = DriveWriter::new(Cursor::new(Vec::new()), &info()).unwrap();
    for t in [50, 10, 40, 20, 30] {
        w.write_imu(&imu(t)).unwrap();
        w.write_gnss(&gnss(t, t as f32, 90.0)).unwrap();
    }
    let (got, _) = read_all(w.finish().unwrap().0.into_inner());
    let want: Vec<_> = [10, 20, 30, 40, 50]
        .iter()
        .flat_map(|t| [Owned::Imu(imu(*t)), Owned::Gnss(gnss(*t, *t as f32, 90.0))])
        .collect();
    assert_eq!(got, want);
}

#[test]
fn a_frame_too_large_or_of_another_size_is_refused_and_the_drive_goes_on() {
    let mut w = DriveWriter::new(Cursor::new(Vec::new()), &info()).unwrap();
    let (meta, data) = frame(1, 0, 100);
    w.write_frame(&meta, &data).unwrap();
    let huge = vec![0; agent_core::limits::MAX_FRAME_BYTES + 1];
    assert!(matches!(w.write_frame(&meta, &huge), Err(DriveError::FrameTooLarge { seq: 0, .. })));
    let mut other = meta;
    other.size = [640, 360];
    let text = w.write_frame(&other, &data).unwrap_err().to_string();
    assert_eq!(text, "frame 0 is h264 640x360, but the drive's camera is h264 1280x720");
    let (got, _) = read_all(w.finish().unwrap().0.into_inner());
    assert_eq!(got, [Owned::Frame(meta, data)]);
}
