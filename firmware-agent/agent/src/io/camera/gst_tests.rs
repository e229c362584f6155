//! Real pipelines of drawn pictures and made files. Where an element is not installed its test says so and ends.

use super::super::clock::monotonic_now as now;
use super::super::keeper::POLL;
use super::super::presets::Frames as Sizes;
use super::*;
use crate::config::camera::{CameraConfig, CameraKind, PixelFormat, Transport};
use agent_core::samples::FrameMeta;
use agent_drive::VideoDecoder;

fn has(elements: &[&str]) -> bool {
    gstreamer::init().unwrap();
    let missing: Vec<_> = elements.iter().filter(|e| ElementFactory::find(e).is_none()).collect();
    if !missing.is_empty() {
        println!("skipped: GStreamer has no {missing:?}");
    }
    missing.is_empty()
}

fn config(kind: CameraKind) -> CameraConfig {
    CameraConfig {
        kind,
        device: None,
        sensor_id: 0,
        url: None,
        credentials: None,
        transport: Transport::Tcp,
        latency_ms: 200,
        file: None,
        pipeline: None,
        format: PixelFormat::Auto,
        width: 640,
        height: 360,
        fps: 30,
        bitrate_mbit_s: 2.0,
        encoder: Encoder::X264enc,
        stall_frames: 30,
        picture_health: true,
    }
}

fn camera(config: &CameraConfig) -> GstCamera {
    GstCamera {
        name: "camera".to_owned(),
        camera: config.clone(),
        frames: Sizes { small: [320, 180], key_every: 15 },
        credentials: None,
        fps: config.fps as f32,
        small_width: 640,
        now,
    }
}

fn custom(pipeline: &str) -> GstCamera {
    camera(&CameraConfig { pipeline: Some(pipeline.to_owned()), ..config(CameraKind::Pipeline) })
}

/// The next `n` frames, or the fault that came first.
fn take(stream: &mut dyn Stream, n: usize) -> Result<Vec<Shot>, Fault> {
    let mut shots = Vec::new();
    // Bounds the test, and judges nothing: 60 s on a machine that does something else.
    for _ in 0..60 * 20 {
        let mut shot = Shot::default();
        if stream.next(POLL, &mut shot)? == Got::Frame {
            shots.push(shot);
        }
        if shots.len() == n {
            return Ok(shots);
        }
    }
    panic!("{} of {n} frames in a minute", shots.len());
}

#[test]
fn drawn_pictures_come_twice_in_order_and_decode_to_what_is_looked_at() {
    for encoder in [Encoder::X264enc, Encoder::Openh264enc] {
        if !has(&["videotestsrc", encoder.element().unwrap(), "h264parse"]) {
            continue;
        }
        let mut stream = camera(&CameraConfig { encoder, ..config(CameraKind::Test) }).open().unwrap();
        let before = now();
        let shots = take(stream.as_mut(), 40).unwrap();
        let mut decoder = VideoDecoder::new(VideoCodec::H264, 320).unwrap();
        let mut keys = 0;
        for (seq, shot) in shots.iter().enumerate() {
            assert_eq!((shot.codec, shot.size), (VideoCodec::H264, [640, 360]));
            let meta = FrameMeta { t: shot.t, seq: seq as u64, codec: shot.codec, key: shot.key, size: shot.size };
            let decoded = decoder.decode(&meta, &shot.kept).unwrap().expect("decoding begins at the first");
            keys += usize::from(shot.key);
            if shot.small_size == [0; 2] {
                continue;
            }
            assert_eq!((shot.small_size, shot.small.len()), ([320, 180], 3 * 320 * 180));
            assert!(shot.small_raw, "drawn, and never decoded");
            let sum: u64 = decoded.rgb.iter().zip(&shot.small).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            assert!(sum / (shot.small.len() as u64) < 12, "{encoder:?} frame {seq}: {sum}");
        }
        assert!(shots.iter().filter(|s| s.small_size != [0; 2]).count() > 20, "most have their picture");
        assert!(keys >= 2, "{encoder:?}: {keys} key frames");
        assert!(shots.windows(2).all(|w| w[0].t < w[1].t));
        let (first, last) = (shots[0].t, shots[39].t);
        assert!(before.since(first) < Span::from_s(5) && last <= now(), "{first:?} {last:?}");
    }
}

#[test]
fn a_file_plays_again_and_again() {
    if !has(&["x264enc", "h264parse", "mp4mux", "decodebin", "avdec_h264"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it's a clip.mp4");
    let text = "videotestsrc num-buffers=20 ! video/x-raw,width=640,height=360,framerate=30/1 ! x264enc bframes=0 \
                ! h264parse ! mp4mux ! filesink name=out";
    let pipeline = gstreamer::parse::launch(text).unwrap().downcast::<Pipeline>().unwrap();
    pipeline.by_name("out").unwrap().set_property("location", file.to_str().unwrap());
    pipeline.set_state(State::Playing).unwrap();
    pipeline.bus().unwrap().timed_pop_filtered(ClockTime::from_seconds(60), &[MessageType::Eos]).unwrap();
    pipeline.set_state(State::Null).unwrap();
    let mut stream = camera(&CameraConfig { file: Some(file), ..config(CameraKind::File) }).open().unwrap();
    let shots = take(stream.as_mut(), 50).unwrap();
    assert!(shots.windows(2).all(|w| w[0].t < w[1].t), "time goes on over the end of the file");
    assert!(shots.iter().filter(|s| s.key).count() >= 3);
    let mut seen = shots.iter().filter(|s| s.small_size != [0; 2]).peekable();
    assert!(seen.peek().is_some() && seen.all(|s| !s.small_raw), "decoded from H.264");
}

#[test]
fn small_pictures_are_raw_unless_something_decodes_video() {
    if !has(&["videoconvert", "jpegenc", "jpegdec", "decodebin", "avdec_h264"]) {
        return;
    }
    let cases = [("videoconvert", false), ("jpegenc ! jpegdec", false), ("avdec_h264", true), ("decodebin", true)];
    for (by, decodes) in cases {
        let text = format!("fakesrc ! {by} ! fakesink");
        let pipeline = gstreamer::parse::launch(&text).unwrap().downcast::<Pipeline>().unwrap();
        assert_eq!(decodes_video(&pipeline), decodes, "{by}");
    }
}

#[test]
fn jpeg_pipelines_without_small_pictures_are_taken_too() {
    if !has(&["jpegenc"]) {
        return;
    }
    let text =
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! jpegenc ! appsink name=kept";
    let mut stream = custom(text).open().unwrap();
    let shots = take(stream.as_mut(), 5).unwrap();
    assert!(shots.iter().all(|s| s.codec == VideoCodec::Jpeg && s.key && s.small.is_empty()));
    assert!(shots.iter().all(|s| s.kept.starts_with(&[0xFF, 0xD8]) && s.size == [320, 240]));
}

#[test]
fn a_pipeline_that_breaks_ends_with_the_reason_and_can_be_opened_again() {
    if !has(&["x264enc", "identity"]) {
        return;
    }
    let text = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! identity error-after=12 \
                ! x264enc tune=zerolatency bframes=0 ! h264parse ! video/x-h264,stream-format=byte-stream ! appsink name=kept";
    let mut camera = custom(text);
    for _ in 0..2 {
        let mut stream = camera.open().unwrap();
        let fault = take(stream.as_mut(), 100).unwrap_err();
        let Fault::Failed(why) = &fault else { panic!("{fault:?}") };
        assert!(why.starts_with("camera: identity") && why.contains("Failed after iterations"), "{why}");
    }
    let ended = "videotestsrc num-buffers=3 ! jpegenc ! appsink name=kept";
    let mut stream = custom(ended).open().unwrap();
    assert_eq!(take(stream.as_mut(), 10).unwrap_err().to_string(), "camera: the pipeline came to its end");
}

#[test]
fn what_cannot_be_a_camera_is_refused_by_name() {
    if !has(&["x264enc", "v4l2src", "filesrc"]) {
        return;
    }
    let refused = |text: &str| match custom(text).open().err() {
        Some(Fault::Refused(why)) => why,
        other => panic!("{text}: {other:?}"),
    };
    assert!(refused("videotestsrc ! nosuchelement ! appsink name=kept").contains("nosuchelement"));
    assert!(refused("videotestsrc ! jpegenc ! appsink name=other").contains("no appsink named kept"));
    assert!(refused("videotestsrc ! fakesink name=kept").contains("is no appsink"));
    let b_frames = "videotestsrc is-live=true ! video/x-raw,width=320,height=240 ! x264enc bframes=2 b-adapt=false \
                    ! h264parse ! appsink name=kept";
    let mut stream = custom(b_frames).open().unwrap();
    assert!(take(stream.as_mut(), 200).unwrap_err().to_string().contains("B-frames"));
    let wide = "videotestsrc is-live=true ! video/x-raw,width=1280,height=720 ! tee name=t t. ! queue ! videoconvert \
                ! appsink name=small t. ! queue ! jpegenc ! appsink name=kept";
    let mut stream = custom(wide).open().unwrap();
    assert!(take(stream.as_mut(), 200).unwrap_err().to_string().contains("small pictures of 1280x720"));
    let gone = CameraConfig { device: Some("/dev/no-such-camera".into()), ..config(CameraKind::Usb) };
    let fault = match camera(&gone).open() {
        Err(fault) => fault,
        Ok(mut stream) => take(stream.as_mut(), 1).unwrap_err(),
    };
    assert!(fault.to_string().contains("no-such-camera"), "{fault}");
}

/// A sink that nobody empties in time: raw frames are dropped before the encoder and counted, the stream stays whole.
#[test]
fn a_reader_that_is_late_loses_whole_frames_and_hears_how_many() {
    if !has(&["x264enc"]) {
        return;
    }
    let mut stream = camera(&config(CameraKind::Test)).open().unwrap();
    take(stream.as_mut(), 10).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let shots = take(stream.as_mut(), 30).unwrap();
    let lost: u32 = shots.iter().map(|s| s.lost).sum();
    assert!(lost >= 10, "{lost}");
    let largest = shots.windows(2).map(|w| w[1].t.since(w[0].t).as_ms()).max().unwrap();
    assert!(largest >= 300, "the gap shows in the times: {largest} ms");
    let mut live = LiveStream::new(VideoCodec::H264);
    assert!(shots.iter().any(|s| live.admit(&mut s.kept.clone())), "a key frame among them");
}
