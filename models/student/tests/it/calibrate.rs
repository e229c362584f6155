//! A calibration is fitted, written into a copy of the file and read from it; the weights stay what they were.

use std::path::{Path, PathBuf};

use agent_student::calibration::Calibration;
use agent_student::convert::{Preset, calibrate, shape_tiny, verify, write_random};
use agent_student::session::{Options, Student, texts};

/// Scores whose truth follows P(Yes | z) = sigmoid(1.5 z - 0.5), by equal shares.
fn scores() -> Vec<(f32, bool)> {
    let of = |z: f32| (1.0 / (1.0 + (0.5 - 1.5 * z).exp()) * 40.0).round() as usize;
    (-20_i16..=20).map(|i| f32::from(i) / 5.0).flat_map(|z| (0..40).map(move |k| (z, k < of(z)))).collect()
}

fn model(folder: &Path) -> PathBuf {
    let path = folder.join("plain.gguf");
    write_random(&shape_tiny(), 3, Preset::Q8_0, &path).unwrap();
    path
}

#[test]
fn the_copy_has_the_parameters_and_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, out) = (model(folder.path()), folder.path().join("calibrated.gguf"));
    let made = calibrate(&plain, &out, &scores(), Some(0.1)).unwrap();
    assert!((made.slope - 1.5).abs() < 0.05 && (made.offset + 0.5).abs() < 0.05, "{made:?}");
    assert!(made.ece < 0.02 && made.ece_before > 0.05, "{made:?}");
    let (before, after) = (verify(&plain).unwrap(), verify(&out).unwrap());
    assert!(!before.calibrated && after.calibrated);
    assert_eq!(before.weights_sha256, after.weights_sha256);
    assert_eq!(made.weights_sha256, after.weights_sha256);

    let file = agent_student::file::ModelFile::open(&out).unwrap();
    let read = texts(&file).unwrap();
    assert!(read.facts.calibrated);
    let wanted = Calibration::new(made.slope, made.offset, made.prior_trained, 0.1, Some(made.ece)).unwrap();
    assert_eq!(read.calibration, Some(wanted));
    assert!(Student::open(&out, &Options::default()).unwrap().label_logit().is_none(), "nothing was asked yet");

    // Once more: the parameters are replaced, not added a second time.
    let again = folder.path().join("again.gguf");
    let second = calibrate(&out, &again, &scores(), None).unwrap();
    assert_eq!(second.prior_field, second.prior_trained);
    assert_eq!(std::fs::metadata(&again).unwrap().len(), std::fs::metadata(&out).unwrap().len());
    assert!(verify(&again).unwrap().calibrated);

    // Half a calibration is none, and no student takes it.
    let bytes = std::fs::read(&again).unwrap();
    let key = b"student.calibration.offset";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
    let mut cut = bytes.clone();
    cut[at + key.len() - 1] = b'_';
    std::fs::write(&again, cut).unwrap();
    let error = verify(&again).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("student.calibration.offset: missing"), "{error}");
}

#[test]
fn what_cannot_be_fitted_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, out) = (model(folder.path()), folder.path().join("calibrated.gguf"));
    let all = scores();
    let inverted: Vec<_> = all.iter().map(|(z, y)| (-z, *y)).collect();
    let one_class: Vec<_> = all.iter().map(|(z, _)| (*z, true)).collect();
    for (what, scores, prior) in [
        ("at least 50", &all[..20], None),
        ("do not rank", &inverted[..], None),
        ("only one class", &one_class[..], None),
        ("prior_field", &all[..], Some(1.0)),
    ] {
        let error = calibrate(&plain, &out, scores, prior).unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert!(!out.exists(), "{what}");
    }
    let other = folder.path().join("other.gguf");
    std::fs::write(&other, b"GGUF and then nothing").unwrap();
    assert!(calibrate(&other, &out, &all, None).unwrap_err().is_input());
}
