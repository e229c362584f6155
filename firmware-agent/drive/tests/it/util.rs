//! Samples and drives for the tests.

use std::io::Cursor;
use std::path::PathBuf;

use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, VideoCodec};
use agent_core::time::{MonoTime, WallQuality, WallTime};
use agent_drive::{CameraInfo, DriveInfo, DriveReader, DriveRecord, DriveWriter};

/// Real recordings beside the project; `None`, with one printed line, where they are absent.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let path = if path.exists() {
        path
    } else {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data").join(name)
    };
    if !path.exists() {
        println!("skipped: no {name} in the data folder");
        return None;
    }
    Some(path)
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Imu(ImuSample),
    Gnss(GnssFix),
    Can(Box<CanFrame>),
    Frame(FrameMeta, Vec<u8>),
    Json(String, MonoTime, String),
}

impl Owned {
    pub(crate) fn of(record: &DriveRecord<'_>) -> Self {
        match record {
            DriveRecord::Imu(s) => Self::Imu(*s),
            DriveRecord::Gnss(s) => Self::Gnss(*s),
            DriveRecord::Can(s) => Self::Can(Box::new(*s)),
            DriveRecord::Frame(m, b) => Self::Frame(*m, b.to_vec()),
            DriveRecord::Json(topic, t, text) => Self::Json((*topic).to_owned(), *t, (*text).to_owned()),
        }
    }
}

pub(crate) fn imu(i: u64) -> ImuSample {
    let gyro_valid = !i.is_multiple_of(3);
    let gyro = if gyro_valid { [0.1, -0.2, i as f32] } else { [0.0; 3] };
    ImuSample { t: MonoTime(i), accel_mps2: [i as f32 * 0.013, -9.81, 0.5], gyro_rps: gyro, gyro_valid }
}

pub(crate) fn gnss(t: u64, speed: f32, course: f32) -> GnssFix {
    GnssFix {
        t: MonoTime(t),
        lat_deg: 48.137_154,
        lon_deg: -11.576_124,
        alt_m: 519.5,
        speed_mps: speed,
        course_deg: course,
        accuracy_m: t.is_multiple_of(2).then_some(2.5),
        wall: t.is_multiple_of(3).then_some(WallTime { unix_ms: 1_700_000_000_123, quality: WallQuality::Gnss }),
    }
}

pub(crate) fn can(t: u64, id: u32, len: u8) -> CanFrame {
    let mut data = [0u8; 64];
    for (i, b) in data.iter_mut().take(usize::from(len)).enumerate() {
        *b = (i as u8).wrapping_mul(37) ^ t as u8;
    }
    let fd = len > 8;
    CanFrame { t: MonoTime(t), bus: (t % 3) as u8, id, extended: id > 0x7FF, fd, remote: len == 0, len, data }
}

pub(crate) fn frame(t: u64, seq: u64, bytes: usize) -> (FrameMeta, Vec<u8>) {
    let key = seq.is_multiple_of(10);
    let mut data = vec![0, 0, 0, 1, if key { 0x65 } else { 0x41 }];
    // Noise that no compression shrinks, so that chunks are as long as on a real drive.
    let mut x = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    data.extend((0..bytes).map(|_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8 | 1
    }));
    (FrameMeta { t: MonoTime(t), seq, codec: VideoCodec::H264, key, size: [1280, 720] }, data)
}

pub(crate) fn info() -> DriveInfo {
    let mut info = DriveInfo::new("test");
    info.unit = "unit-7".into();
    info.composite = true;
    info.camera = Some(CameraInfo { width: 1280, height: 720, fps: 30.0, hfov_deg: Some(70.5) });
    info
}

/// A drive of `n` frames of 20 kB with telemetry between; its bytes and its records.
pub(crate) fn drive(n: u64) -> (Vec<u8>, Vec<Owned>) {
    let mut w = DriveWriter::new(Cursor::new(Vec::new()), &info()).unwrap();
    let mut records = Vec::new();
    for i in 0..n {
        let t = i * 33_000_000;
        let (meta, data) = frame(t, i, 20_000);
        w.write_frame(&meta, &data).unwrap();
        records.push(Owned::Frame(meta, data));
        for k in 1..4 {
            let s = imu(t + k * 8_000_000);
            w.write_imu(&s).unwrap();
            records.push(Owned::Imu(s));
        }
        let c = can(t + 25_000_000, 0xAA, 8);
        w.write_can(&c).unwrap();
        records.push(Owned::Can(Box::new(c)));
        let g = gnss(t + 26_000_000, 13.5, 271.25);
        w.write_gnss(&g).unwrap();
        records.push(Owned::Gnss(g));
    }
    (w.finish().unwrap().0.into_inner(), records)
}

/// Everything that can be read, and the reader at its end.
pub(crate) fn read_all(bytes: Vec<u8>) -> (Vec<Owned>, DriveReader) {
    let len = bytes.len() as u64;
    let mut reader = DriveReader::from_reader(Cursor::new(bytes), len).unwrap();
    let mut out = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        out.push(Owned::of(&record));
    }
    (out, reader)
}
