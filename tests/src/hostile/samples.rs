//! Sound samples, drives and keys, small, for the seeds of several targets.

use std::sync::Arc;

use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample, VideoCodec};
use agent_core::time::{MonoTime, WallQuality, WallTime};
use agent_drive::{DriveError, DriveInfo, DriveWriter, PictureEncoder, Seal};
use agent_keys::SecretKey;

/// Side of the pictures, pixels.
pub(super) const SIDE: u16 = 32;

pub(super) fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32]).expect("a seed")
}

pub(super) fn seal(signed: bool) -> Seal {
    let key = signed.then(|| Arc::new(key()));
    Seal { unit: "me".into(), about: "me_00000001_000002".into(), source: "sensors".into(), key }
}

/// Pictures of 32 x 32 that change, as H.264 in Annex B; the first is a key frame.
pub(super) fn pictures(n: u64) -> Vec<(FrameMeta, Vec<u8>)> {
    let mut encoder = PictureEncoder::new([SIDE, SIDE], 10.0).expect("the encoder starts");
    let rgb = |seq: u64| -> Vec<u8> {
        (0..u64::from(SIDE) * u64::from(SIDE) * 3).map(|i| (i / 64 * 9 + seq * 40) as u8).collect()
    };
    let one = |seq| encoder.encode_rgb(&rgb(seq), MonoTime(seq * 100_000_000), seq).expect("it encodes");
    (0..n).filter_map(one).collect()
}

/// One sample of each kind and one part, then the same a second later in a second part.
pub(super) fn fill<W: std::io::Write + std::io::Seek>(writer: &mut DriveWriter<W>) -> Result<(), DriveError> {
    for (seq, (meta, data)) in (0..).zip(pictures(2)) {
        let t = |ms: u64| MonoTime((seq * 1000 + ms) * 1_000_000);
        writer.write_imu(&ImuSample {
            t: t(1),
            accel_mps2: [0.1, -9.81, 0.5],
            gyro_rps: [0.0; 3],
            gyro_valid: seq == 0,
        })?;
        let data_8 = std::array::from_fn(|i| if i < 8 { i as u8 } else { 0 });
        let frame =
            CanFrame { t: t(2), bus: 1, id: 0xAA, extended: false, fd: false, remote: false, len: 8, data: data_8 };
        writer.write_can(&frame)?;
        writer.write_can(&CanFrame { t: t(3), extended: true, id: 0x18FE_F10B, fd: true, len: 12, ..frame })?;
        writer.write_gnss(&GnssFix {
            t: t(4),
            lat_deg: 48.137,
            lon_deg: -11.576,
            alt_m: 519.5,
            speed_mps: 13.5,
            course_deg: 271.25,
            accuracy_m: Some(2.5),
            wall: Some(WallTime { unix_ms: 1_700_000_000_123, quality: WallQuality::Gnss }),
        })?;
        writer.write_frame(&FrameMeta { t: t(5), codec: VideoCodec::H264, ..meta }, &data)?;
        writer.write_json("/event", t(6), "{\"kind\":\"alert\"}")?;
        writer.flush()?;
    }
    Ok(())
}

/// An evidence file with a chain.
pub(super) fn evidence(signed: bool) -> Vec<u8> {
    let made = DriveWriter::chained(Vec::new(), &DriveInfo::new("seed"), seal(signed)).and_then(|mut writer| {
        fill(&mut writer)?;
        writer.finish()
    });
    made.expect("memory takes a drive").0.into_inner().into_inner()
}
