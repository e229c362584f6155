//! The detector as a whole: manifests, broken inputs, the two known models against stored numbers and a real frame.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

use agent_core::vision::ObjectClass;
use agent_models::{Detector, DetectorError, Engine, Manifest};
use sha2::{Digest, Sha256};

const MODELS: [(&str, &str); 2] = [("yolox_nano.toml", "yolox_nano.onnx"), ("fastestdet.toml", "FastestDet.onnx")];

fn manifest_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(name)
}

/// A file of the data folder beside the repository; None, with a line, where it is absent.
fn data(path: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(path);
    if !file.exists() {
        println!("skipped: no {}", file.display());
    }
    file.exists().then_some(file)
}

/// An image with squares and noise, the same everywhere, in the model's input range.
fn image(m: &Manifest) -> Vec<f32> {
    let w = m.input.width;
    (0..3 * w * m.input.height)
        .map(|i| {
            let noise = ((i as u64 * 2_654_435_761) & 0xffff_ffff) >> 25;
            let square = ((i / 37) ^ (i / w / 29)) & 1;
            (noise + 128 * square as u64) as f32 * m.input.scale
        })
        .collect()
}

fn manifest_with(from: &str, to: &str) -> String {
    let text = fs::read_to_string(manifest_path("yolox_nano.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

#[test]
fn shipped_manifests_are_valid() {
    for (name, file) in MODELS {
        let m = Manifest::read(&manifest_path(name)).unwrap();
        assert_eq!(m.file, file);
        assert_eq!(m.classes.iter().filter(|c| c.is_some()).count(), 6);
        assert_eq!(m.classes[2], Some(ObjectClass::Car));
    }
}

#[test]
fn broken_manifests_name_the_place() {
    let cases = [
        ("family = \"yolox\"", "family = \"yolo9\"", "unknown variant `yolo9`"),
        ("pad_value", "pad_valeu", "unknown field `pad_valeu`"),
        ("width = 416", "width = \"416\"", "line 9"),
        ("width = 416", "width = 420", "line 9, column 9: side 420 is not a multiple of every stride"),
        ("width = 416", "width = 41600", "line 9, column 9: side 41600 is not within 16 to 1280"),
        ("score_threshold = 0.3", "score_threshold = 1.5", "line 20, column 19: 1.5 is not within 0 to 1"),
        ("score_threshold = 0.3", "score_threshold = nan", "NaN is not within 0 to 1"),
        ("strides = [8, 16, 32]", "strides = []", "0 strides do not fit the family"),
        ("std = [1.0, 1.0, 1.0]", "std = [1.0, 0.0, 1.0]", "std must be above 0"),
        ("person = 0", "person = 80", "class index 80 is not below class_count 80"),
        ("person = 0", "person = 2", "class index 2 is given twice"),
        ("person = 0", "lorry = 0", "class \"lorry\" is none of"),
        ("sha256 = \"695e", "sha256 = \"95e", "line 4, column 10: sha256 is not 64 hexadecimal digits"),
        ("file = \"yolox", "file = \"../yolox", "is not a bare file name"),
        ("licence = \"Apache-2.0\"\n", "", "missing field `licence`"),
    ];
    for (from, to, expected) in cases {
        let error = Manifest::parse(Path::new("m.toml"), &manifest_with(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("m.toml"), "{to}: {error}");
    }
}

#[test]
fn broken_model_files_are_named_errors() {
    let dir = tempfile::tempdir().unwrap();
    let load = |bytes: Option<&[u8]>, edit: (&str, &str)| {
        let manifest = dir.path().join("detector.toml");
        let onnx = dir.path().join("yolox_nano.onnx");
        let _ = fs::remove_file(&onnx);
        let mut text = manifest_with(edit.0, edit.1);
        if let Some(bytes) = bytes {
            fs::write(&onnx, bytes).unwrap();
            let sha: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
            if edit.0 != "sha256" {
                text = text.replace("695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14", &sha);
            }
        }
        fs::write(&manifest, text).unwrap();
        Detector::load(&manifest).expect_err("broken").to_string()
    };
    let same = ("family", "family");
    assert!(load(None, same).contains("yolox_nano.onnx"));
    assert!(load(Some(b"not a model"), ("sha256", "sha256")).contains("SHA-256 is"));
    assert!(load(Some(b"not a model"), same).starts_with("model "));
    assert!(load(Some(b""), same).contains("no graph"));
    let Some(model) = data("models/yolox_nano.onnx") else { return };
    let model = fs::read(model).unwrap();
    for cut in [1, 100, model.len() / 2, model.len() - 1] {
        assert!(load(Some(&model[..cut]), same).starts_with("model "), "{cut}");
    }
    let mut flipped = model.clone();
    flipped[40..400].fill(0xff);
    assert!(load(Some(&flipped), same).starts_with("model "));
    let shape = load(Some(&model), ("width = 416", "width = 320"));
    assert!(shape.contains("input is [1, 3, 416, 416], the manifest says [1, 3, 416, 320]"), "{shape}");
    let classes = load(Some(&model), ("class_count = 80", "class_count = 79"));
    assert!(classes.contains("output is [1, 3549, 85], the manifest says [1, 3549, 84]"), "{classes}");
    let family = load(Some(&model), ("family = \"yolox\"", "family = \"fastestdet\""));
    assert!(family.contains("strides do not fit the family"), "{family}");
}

#[test]
fn raw_outputs_equal_stored_numbers_and_tracts() {
    // Computed once by onnxruntime 1.31.1 on `image`: sum of all outputs, then (index, value).
    let expected: [(f64, &[(usize, f32)]); 2] = [
        (
            15041.6368,
            &[(102_947, 0.000_841_528), (110_123, 0.016_201_943), (7176, 0.007_133_245), (220_246, 0.008_785_605)],
        ),
        (
            385.1096,
            &[
                (582, 0.173_003_87),
                (970, 0.179_288_66),
                (1358, -0.156_402_7),
                (1552, 4.241_063_6),
                (20_667, 0.026_541_267),
            ],
        ),
    ];
    for ((name, file), (sum, samples)) in MODELS.into_iter().zip(expected) {
        let Some(onnx) = data(&format!("models/{file}")) else { return };
        let mut ours = Detector::load_with(&manifest_path(name), &onnx).unwrap();
        assert!(ours.is_lowered(), "{}", ours.describe());
        let m = ours.manifest().clone();
        let image = image(&m);
        let raw = ours.run_raw(&image).unwrap().to_vec();
        let total: f64 = raw.iter().map(|v| f64::from(*v)).sum();
        assert!((total - sum).abs() < 1e-4 * sum, "{file}: sum {total}");
        for (i, v) in samples {
            assert!((raw[*i] - v).abs() < 1e-3, "{file}: {i}: {} is not {v}", raw[*i]);
        }
        assert_eq!(raw, ours.run_raw(&image).unwrap(), "a second run differs");
        let mut tract = Detector::from_manifest(m, &onnx, Engine::Tract).unwrap();
        assert!(!tract.is_lowered());
        let theirs = tract.run_raw(&image).unwrap();
        let worst = raw.iter().zip(theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{file}: {worst}");
        assert_eq!(ours.hash8(), m_hash(&onnx));
        assert!(matches!(ours.run_raw(&image[1..]), Err(DetectorError::Shape { .. })));
    }
}

#[test]
fn the_probe_files_of_known_models_are_tracts_word() {
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in MODELS {
        let Some(onnx) = data(&format!("models/{file}")) else { return };
        let manifest = folder.path().join(name);
        fs::copy(manifest_path(name), &manifest).unwrap();
        fs::copy(onnx, folder.path().join(file)).unwrap();
        let (place, now) = Detector::probe_file(&manifest).unwrap();
        let kept = fs::read_to_string(manifest_path(name).with_file_name(place.file_name().unwrap())).unwrap();
        assert_eq!(kept.lines().count(), now.lines().count());
        let (mut kept, mut now) = (kept.lines(), now.lines());
        assert_eq!(kept.next(), now.next(), "the hash");
        for (a, b) in kept.zip(now).map(|(a, b)| (a.parse::<f32>().unwrap(), b.parse::<f32>().unwrap())) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{file}: {a} {b}");
        }
    }
}

fn m_hash(onnx: &Path) -> [u8; 8] {
    Sha256::digest(fs::read(onnx).unwrap())[..8].try_into().unwrap()
}

#[test]
fn frames_of_any_size_are_taken_or_refused() {
    let Some(onnx) = data("models/FastestDet.onnx") else { return };
    let mut d = Detector::load_with(&manifest_path("fastestdet.toml"), &onnx).unwrap();
    for (w, h, bytes) in [(0, 0, 0), (0, 5, 0), (2, 2, 11), (2, 2, 13), (9000, 1, 27_000), (usize::MAX, 2, 3)] {
        let error = d.detect(w, h, &vec![0; bytes]).unwrap_err();
        assert!(matches!(error, DetectorError::Frame { .. }), "{error}");
    }
    for (w, h) in [(1, 1), (3, 7), (351, 353), (1920, 1080)] {
        let seen = d.detect(w, h, &vec![200; w * h * 3]).unwrap();
        assert!(seen.iter().all(|s| s.bbox.x >= 0.0 && s.bbox.x + s.bbox.w <= 1.0001 && s.score <= 1.0));
    }
}

#[test]
fn cars_are_found_in_a_real_frame() {
    let Some(clip) = data("clips/carnd_vd_test_video.mp4") else { return };
    let args = ["-v", "error", "-i"];
    let frame = ["-frames:v", "1", "-vf", "scale=1280:720", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let Ok(out) = std::process::Command::new("ffmpeg").args(args).arg(clip).args(frame).output() else {
        println!("skipped: no ffmpeg");
        return;
    };
    assert_eq!(out.stdout.len(), 1280 * 720 * 3);
    for (name, file) in MODELS {
        let Some(onnx) = data(&format!("models/{file}")) else { return };
        let mut d = Detector::load_with(&manifest_path(name), &onnx).unwrap();
        let seen = d.detect(1280, 720, &out.stdout).unwrap().clone();
        let cars: Vec<_> = seen.iter().filter(|s| s.class == ObjectClass::Car && s.score > 0.6).collect();
        // Two cars stand on the right half, just below the middle.
        assert!(cars.len() >= 2, "{file}: {seen:?}");
        assert!(cars.iter().all(|c| c.bbox.x > 0.5 && c.bbox.y > 0.5 && c.bbox.y < 0.65), "{file}: {seen:?}");
        assert!(seen.windows(2).all(|p| p[0].score >= p[1].score));
        let again = d.detect(1280, 720, &out.stdout).unwrap();
        assert_eq!(&seen, again);
    }
}

#[test]
fn the_shipped_detector_runs_lowered_and_gives_the_same_twice() {
    let mut d = Detector::builtin().unwrap();
    assert!(d.is_lowered(), "{}", d.describe());
    // Bars of two greys: edges everywhere, objects nowhere that matter here.
    let bars: Vec<u8> = (0..640 * 360).flat_map(|i| [if i % 64 < 32 { 60 } else { 190 }; 3]).collect();
    let first = d.detect(640, 360, &bars).unwrap().clone();
    assert_eq!(&first, d.detect(640, 360, &bars).unwrap());
    let raw = d.preprocess(640, 360, &bars).unwrap().to_vec();
    assert!(d.run_raw(&raw).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn a_covered_lens_shows_no_objects() {
    let mut d = Detector::builtin().unwrap();
    for shade in [0u8, 60, 128, 250] {
        // With the noise of a sensor.
        let flat: Vec<u8> =
            (0..640 * 360 * 3u32).map(|i| shade.saturating_add((i.wrapping_mul(2_654_435_761) >> 29) as u8)).collect();
        assert!(d.detect(640, 360, &flat).unwrap().is_empty(), "shade {shade}");
    }
}
