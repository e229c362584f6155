//! What is made of a driver's buffers, without a driver.

use super::super::keeper::POLL;
use super::jpeg::tests::picture;
use super::*;

/// Gives buffers as they were put in.
#[derive(Default)]
struct Script(Vec<Result<Taken, Fault>>);

/// Bytes, sequence, time and whether the driver marked an error.
type Taken = (Vec<u8>, u32, u64, bool);

impl Grab for Script {
    fn grab(&mut self, _wait: Duration, take: &mut dyn FnMut(&Raw<'_>)) -> Result<bool, Fault> {
        if self.0.is_empty() {
            return Ok(false);
        }
        let (bytes, sequence, ns, damaged) = self.0.remove(0)?;
        take(&Raw { bytes: &bytes, sequence, stamp: Stamp { ns, monotonic: true }, damaged });
        Ok(true)
    }
}

fn now() -> MonoTime {
    MonoTime(10_000_000_000)
}

fn frames(format: PixelFormat, size: [u16; 2], script: Script) -> Frames<Script> {
    let agreed = Agreed { format, size, stride: 2 * usize::from(size[0]), fps: 30.0 };
    let making = Making { bitrate_mbit_s: 2.0, key_every: 10, small_width: 640 };
    Frames::new(script, "camera".to_owned(), agreed, making, now).unwrap()
}

const T: u64 = 9_500_000_000;

#[test]
fn jumps_of_the_count_are_losses_and_spoilt_buffers_are_damaged() {
    let jpeg = picture(64, 48);
    let script = Script(vec![
        Ok((jpeg.clone(), 100, T, false)),
        Ok((jpeg.clone(), 101, T + 33_000_000, false)),
        Ok((jpeg.clone(), 104, T + 132_000_000, false)),
        Ok((jpeg.clone(), 105, T + 165_000_000, true)),
        Ok((Vec::new(), 106, T + 198_000_000, false)),
        Ok((jpeg[..jpeg.len() - 9].to_vec(), 107, T + 231_000_000, false)),
        // The driver was restarted.
        Ok((jpeg.clone(), 0, T + 264_000_000, false)),
        Err(Fault::Unplugged("camera".to_owned())),
    ]);
    let mut frames = frames(PixelFormat::Mjpeg, [64, 48], script);
    let mut shot = Shot::default();
    let mut got = Vec::new();
    let fault = loop {
        match frames.next(POLL, &mut shot) {
            Ok(what) => got.push((what, shot.lost)),
            Err(fault) => break fault,
        }
    };
    use Got::{Damaged, Frame};
    assert_eq!(got, [(Frame, 0), (Frame, 0), (Frame, 2), (Damaged, 0), (Damaged, 0), (Damaged, 0), (Frame, 0)]);
    assert_eq!(fault.to_string(), "camera was unplugged");
    assert_eq!((shot.kept, shot.t.0, shot.key, shot.size), (jpeg, T + 264_000_000, true, [64, 48]));
    assert_eq!(frames.next(POLL, &mut Shot::default()), Ok(Got::Nothing));
}

#[test]
fn raw_pictures_become_h264_that_decodes_and_a_small_picture() {
    let (width, height) = (1280_usize, 720_usize);
    let mut script = Script::default();
    for i in 0..12_u32 {
        // A grey ramp that moves, with colour.
        let bytes =
            (0..width * height).flat_map(|p| [((p % width + i as usize * 8) / 8) as u8, 100 + (p / width / 8) as u8]);
        script.0.push(Ok((bytes.collect(), i, T + u64::from(i) * 33_000_000, false)));
    }
    let mut frames = frames(PixelFormat::Yuyv, [1280, 720], script);
    let mut decoder = agent_drive::VideoDecoder::new(VideoCodec::H264, 640).unwrap();
    let mut shot = Shot::default();
    let mut keys = Vec::new();
    for seq in 0..12 {
        assert_eq!(frames.next(POLL, &mut shot), Ok(Got::Frame));
        assert_eq!((shot.small_size, shot.small.len(), shot.small_raw), ([640, 360], 3 * 640 * 360, true));
        if shot.key {
            keys.push(seq);
        }
        let meta = agent_core::samples::FrameMeta { t: shot.t, seq, codec: shot.codec, key: shot.key, size: shot.size };
        let decoded = decoder.decode(&meta, &shot.kept).unwrap().unwrap();
        let difference: u64 = decoded.rgb.iter().zip(&shot.small).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(difference / (shot.small.len() as u64) < 6, "frame {seq}: {difference}");
    }
    assert_eq!(keys, [0, 10], "a key frame as often as asked for");
}

#[test]
fn h264_of_a_camera_is_kept_with_its_sets_before_each_key_frame() {
    // Of the sets and the key frame 16 bytes; a set that is put back has the longer start code.
    let (sets, key, other) = ([0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2], [0, 0, 1, 0x65, 3], [0, 0, 1, 0x41, 4]);
    let script = Script(vec![
        Ok(([&sets[..], &key].concat(), 0, T, false)),
        Ok((other.to_vec(), 1, T + 33_000_000, false)),
        Ok((key.to_vec(), 2, T + 66_000_000, false)),
    ]);
    let mut frames = frames(PixelFormat::H264, [640, 480], script);
    let mut shot = Shot::default();
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert_eq!(frames.next(POLL, &mut shot), Ok(Got::Frame));
        seen.push((shot.key, shot.kept.len(), shot.small_size));
    }
    assert_eq!(seen, [(true, 16, [0, 0]), (false, 5, [0, 0]), (true, 17, [0, 0])]);
}

#[test]
fn a_short_raw_buffer_is_damaged() {
    let mut frames = frames(PixelFormat::Yuyv, [64, 48], Script(vec![Ok((vec![0; 100], 0, T, false))]));
    assert_eq!(frames.next(POLL, &mut Shot::default()), Ok(Got::Damaged));
}
