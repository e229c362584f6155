//! The engine's vision tower and projector against the tensor library's.

use agent_student::convert::Preset;
use agent_student::engine::EngineVision;
use agent_student::frames::PatchFrame;
use agent_student::llm::Seeing;
use agent_student::vision::Vision;
use candle_core::Device;

use crate::engine_language::models;

fn frame(rows: usize, cols: usize, salt: usize, keep: impl Fn(usize) -> bool) -> PatchFrame {
    let value = |i: usize| ((i * 7919 + salt * 104_729 + i / 588 * 31) % 2003) as f32 / 1000.0 - 1.0;
    PatchFrame {
        rows,
        cols,
        pixels: (0..rows * cols * 588).map(value).collect(),
        keep: (0..rows * cols / 4).map(keep).collect(),
    }
}

/// Frames of two grids, one of more patches than a tile, one without a kept token.
fn frames() -> Vec<PatchFrame> {
    vec![
        frame(4, 6, 1, |_| true),
        frame(4, 6, 2, |i| i % 2 == 0),
        frame(10, 14, 3, |i| i != 5),
        frame(4, 6, 4, |_| false),
        frame(2, 2, 5, |_| true),
    ]
}

#[test]
fn f32_weights_give_the_library_s_tokens() {
    let (_dir, file, _) = models(Preset::F32, 21);
    let theirs = Vision::load(&file, &Device::Cpu).unwrap().encode(&frames()).unwrap();
    let ours = EngineVision::load(&file, 2).unwrap().encode(&frames()).unwrap();
    assert_eq!(ours.len(), theirs.len());
    let spread = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let worst = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(worst <= 1e-5 * spread.max(1.0), "{worst} of {spread}");
}

#[test]
fn f16_weights_give_the_tokens_of_their_f32_values() {
    let (_dir, file, exact) = models(Preset::Q8_0, 22);
    let theirs = Vision::load(&exact, &Device::Cpu).unwrap().encode(&frames()).unwrap();
    let ours = EngineVision::load(&file, 2).unwrap().encode(&frames()).unwrap();
    let hidden = file.text_shape().unwrap().hidden;
    for (ours, theirs) in ours.chunks(hidden).zip(theirs.chunks(hidden)) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt();
        assert!(1.0 - cosine < 1e-6, "1 - cosine {}", 1.0 - cosine);
    }
}

#[test]
fn frames_apart_and_any_number_of_threads_give_the_same_bits() {
    for preset in [Preset::F32, Preset::F16] {
        let (_dir, file, _) = models(preset, 23);
        let together = EngineVision::load(&file, 1).unwrap().encode(&frames()).unwrap();
        let mut model = EngineVision::load(&file, 3).unwrap();
        let apart: Vec<f32> = frames().chunks(1).flat_map(|one| model.encode(one).unwrap()).collect();
        assert_eq!(together.len(), apart.len());
        assert!(together.iter().zip(&apart).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let (_dir, file, _) = models(Preset::F16, 24);
    let mut model = EngineVision::load(&file, 1).unwrap();
    for spoil in [
        (|f: &mut PatchFrame| f.rows = 3) as fn(&mut PatchFrame),
        |f| f.cols = 0,
        |f| f.rows = usize::MAX,
        |f| f.pixels.truncate(5),
        |f| f.keep.push(true),
    ] {
        let mut one = frame(4, 6, 1, |_| true);
        spoil(&mut one);
        assert!(model.encode(&[one]).is_err());
    }
    assert!(model.encode(&[]).unwrap().is_empty());
}
