//! The engine's language half against the tensor library's, and against itself cut in other ways.

use std::path::Path;

use agent_student::convert::{Preset, shape_tiny, write_random};
use agent_student::engine::EngineLanguage;
use agent_student::engine::kernels::Isa;
use agent_student::engine::linear::Compute;
use agent_student::file::ModelFile;
use agent_student::llm::{Language, Piece, Room, Row, candle::CandleLanguage};
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};

const ROOM: Room = Room { prefix: 200, branches: 4, branch: 100 };

/// A tiny random model of a type, and the same weights in f32.
pub(crate) fn models(preset: Preset, seed: u64) -> (tempfile::TempDir, ModelFile, ModelFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write_random(&shape_tiny(), seed, preset, &path).unwrap();
    let file = ModelFile::open(&path).unwrap();
    let exact = dir.path().join("exact.gguf");
    write_exact(&file, &exact);
    let exact = ModelFile::open(&exact).unwrap();
    (dir, file, exact)
}

fn write_exact(file: &ModelFile, out: &Path) {
    let tensors: Vec<(&str, QTensor)> = file
        .names()
        .map(|name| {
            let dims = file.info(name).unwrap().dims.clone();
            let values = file.values(name, &dims).unwrap();
            let tensor = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
            (name, QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let meta: Vec<(&str, &gguf_file::Value)> = file.meta().iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut writer = std::io::BufWriter::new(std::fs::File::create(out).unwrap());
    gguf_file::write(&mut writer, &meta, &tensors).unwrap();
}

fn ids(count: usize, salt: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * 97 + salt * 31 + i * i * 7) % 500).collect()
}

/// A prefix of 150 tokens in uneven pieces (text, then embeddings, then text), three branches, a ragged step with a
/// mark on each row.
fn logits(model: &mut dyn Language) -> Vec<f32> {
    model.reset();
    model.extend_tokens(&ids(70, 1)).unwrap();
    let hidden = model.shape().hidden;
    let rows: Vec<f32> = (0..20 * hidden).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect();
    model.extend_embeddings(&rows, 20).unwrap();
    model.extend_tokens(&ids(60, 2)).unwrap();
    model.open_branches(3).unwrap();
    let mut out = Vec::new();
    let branch = |branch: u8, count: usize| {
        ids(count, u32::from(branch) + 3).into_iter().map(move |token| Row { branch, token })
    };
    let rows: Vec<Row> = branch(0, 3).chain(branch(1, 9)).chain(branch(2, 1)).collect();
    model.step(&rows, &vec![true; rows.len()], &mut out).unwrap();
    let rows: Vec<Row> = branch(2, 5).chain(branch(0, 1)).collect();
    model.step(&rows, &vec![true; rows.len()], &mut out).unwrap();
    out
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Kullback-Leibler divergence of the softmax of two rows of logits.
fn divergence(exact: &[f32], ours: &[f32]) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        row.iter().map(|x| f64::from(x - most) - sum.ln()).collect()
    };
    let (p, q) = (log_softmax(exact), log_softmax(ours));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

#[test]
fn f32_weights_give_the_library_s_logits() {
    let (_dir, file, _) = models(Preset::F32, 5);
    let theirs = logits(&mut CandleLanguage::load(&file, ROOM, &Device::Cpu).unwrap());
    let ours = logits(&mut EngineLanguage::load(&file, ROOM, 2).unwrap());
    assert_eq!(ours.len(), theirs.len());
    let spread = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let worst = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(worst <= 1e-5 * spread.max(1.0), "{worst} of {spread}");
}

#[test]
fn quantised_weights_give_the_logits_of_their_f32_values() {
    // What is left is the rounding of the activations to 13 bits. The random model's logits are large (a standard
    // deviation of several units), which is what the divergence measures here; the goals are 1e-4 and 0.02.
    for preset in [Preset::Q8_0, Preset::Q4K, Preset::F16] {
        let (_dir, file, exact) = models(preset, 6);
        let theirs = logits(&mut CandleLanguage::load(&exact, ROOM, &Device::Cpu).unwrap());
        let ours = logits(&mut EngineLanguage::load(&file, ROOM, 2).unwrap());
        let vocab = file.text_shape().unwrap().vocab;
        for (ours, theirs) in ours.chunks(vocab).zip(theirs.chunks(vocab)) {
            let (cosine, divergence) = (cosine(ours, theirs), divergence(theirs, ours));
            assert!(1.0 - cosine < 1e-6, "{} 1 - cosine {}", preset.name(), 1.0 - cosine);
            assert!(divergence < 1e-4, "{} divergence {divergence}", preset.name());
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for preset in [Preset::F32, Preset::Q8_0, Preset::Q4K] {
        let (_dir, file, _) = models(preset, 7);
        let one = logits(&mut EngineLanguage::load(&file, ROOM, 1).unwrap());
        for threads in [2, 3, 5] {
            let more = logits(&mut EngineLanguage::load(&file, ROOM, threads).unwrap());
            assert!(one.iter().zip(&more).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {threads}", preset.name());
        }
    }
}

#[test]
fn portable_kernels_agree() {
    let (_dir, file, _) = models(Preset::Q4K, 8);
    let fast = logits(&mut EngineLanguage::load(&file, ROOM, 1).unwrap());
    let plain = EngineLanguage::with(&file, ROOM, Compute::with(1, Isa::Portable));
    let plain = logits(&mut plain.unwrap());
    // The integer products are the same; exponentials differ in the last bit, which can tip a rounding.
    assert!(1.0 - cosine(&fast, &plain) < 1e-6, "{}", 1.0 - cosine(&fast, &plain));
}

#[test]
fn streaming_and_a_single_prefill_give_the_same_bits() {
    let (_dir, file, _) = models(Preset::Q8_0, 9);
    let mut model = EngineLanguage::load(&file, ROOM, 2).unwrap();
    let all = ids(160, 4);
    let last = |model: &mut EngineLanguage| {
        let mut out = Vec::new();
        model.open_branches(1).unwrap();
        model.step(&[Row { branch: 0, token: 7 }], &[true], &mut out).unwrap();
        out
    };
    model.extend_tokens(&all).unwrap();
    let once = last(&mut model);
    for pieces in [vec![1; 160], vec![63, 1, 64, 32], vec![100, 60]] {
        model.reset();
        let mut from = 0;
        for piece in pieces {
            model.extend_tokens(&all[from..from + piece]).unwrap();
            from += piece;
        }
        assert_eq!(model.prefix_len(), 160);
        assert!(last(&mut model).iter().zip(&once).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn pieces_in_one_call_and_one_by_one_give_the_same_bits() {
    let (_dir, file, _) = models(Preset::Q4K, 12);
    let room = Room { prefix: 700, ..ROOM };
    let mut model = EngineLanguage::load(&file, room, 2).unwrap();
    let hidden = model.shape().hidden;
    let (text, more) = (ids(7, 1), ids(20, 2));
    let rows: Vec<f32> = (0..600 * hidden).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect(); // over a pass
    let pieces = [Piece::Tokens(&text), Piece::Embeddings(&rows), Piece::Tokens(&[]), Piece::Tokens(&more)];
    let last = |model: &mut EngineLanguage| {
        let mut out = Vec::new();
        assert_eq!(model.prefix_len(), 627);
        model.open_branches(1).unwrap();
        model.step(&[Row { branch: 0, token: 7 }], &[true], &mut out).unwrap();
        model.reset();
        out
    };
    model.extend_pieces(&pieces).unwrap();
    let once = last(&mut model);
    for piece in pieces {
        model.extend_pieces(&[piece]).unwrap();
    }
    assert!(last(&mut model).iter().zip(&once).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert!(model.extend_pieces(&[Piece::Tokens(&text), Piece::Embeddings(&rows[1..])]).is_err());
    assert!(model.extend_pieces(&[Piece::Tokens(&text), Piece::Tokens(&[100_000])]).is_err());
    assert_eq!(model.prefix_len(), 0);
}

#[test]
fn six_in_one_equals_six_passes_and_drafts_roll_back() {
    let (_dir, file, _) = models(Preset::Q4K, 10);
    let mut model = EngineLanguage::load(&file, ROOM, 2).unwrap();
    model.extend_tokens(&ids(90, 5)).unwrap();
    let suffix = |branch: u8| ids(70, u32::from(branch) + 20); // longer than a tile
    let row = |branch: u8| suffix(branch).into_iter().map(move |token| Row { branch, token });
    model.open_branches(4).unwrap();
    let rows: Vec<Row> = (0..4).flat_map(row).collect();
    let mut together = Vec::new();
    model.step(&rows, &vec![true; rows.len()], &mut together).unwrap();
    let mut apart = Vec::new();
    for branch in 0..4 {
        model.open_branches(1).unwrap();
        for token in suffix(branch) {
            model.step(&[Row { branch: 0, token }], &[true], &mut apart).unwrap();
        }
    }
    assert_eq!(together.len(), apart.len());
    assert!(together.iter().zip(&apart).all(|(a, b)| a.to_bits() == b.to_bits()));

    // A rejected draft leaves nothing behind, and a copy goes on as its origin.
    let vocab = model.shape().vocab;
    model.open_branches(2).unwrap();
    let mut out = Vec::new();
    model.step(&row(0).take(40).collect::<Vec<_>>(), &[false; 40], &mut out).unwrap();
    assert!(out.is_empty());
    let wrong: Vec<Row> = (0..9).map(|token| Row { branch: 0, token }).collect();
    model.step(&wrong, &[true; 9], &mut out).unwrap();
    model.truncate(0, 40);
    model.copy_branch(0, 1).unwrap();
    assert_eq!((model.branch_len(0), model.branch_len(1), model.branch_len(2)), (40, 40, 0));
    out.clear();
    let next = suffix(0)[40];
    model.step(&[Row { branch: 1, token: next }, Row { branch: 0, token: next }], &[true, true], &mut out).unwrap();
    for logits in out.chunks(vocab) {
        assert!(logits.iter().zip(&together[40 * vocab..]).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let (_dir, file, _) = models(Preset::Q8_0, 11);
    let mut model = EngineLanguage::load(&file, ROOM, 1).unwrap();
    assert!(model.open_branches(1).is_err());
    assert!(model.extend_tokens(&[1, 2, 100_000]).is_err());
    assert!(model.extend_embeddings(&[0.0; 7], 1).is_err());
    assert!(model.extend_tokens(&ids(201, 1)).is_err());
    assert_eq!(model.prefix_len(), 0);
    model.extend_tokens(&ids(200, 1)).unwrap();
    assert!(model.extend_tokens(&[1]).is_err());
    assert!(model.open_branches(5).is_err());
    model.open_branches(2).unwrap();
    assert!(model.extend_tokens(&[1]).is_err());
    assert!(model.copy_branch(0, 2).is_err());
    let row = |branch: u8| Row { branch, token: 1 };
    let mut out = Vec::new();
    assert!(model.step(&[row(0), row(1), row(0)], &[true; 3], &mut out).is_err());
    assert!(model.step(&[row(2)], &[true], &mut out).is_err());
    assert!(model.step(&[row(0)], &[true, false], &mut out).is_err());
    assert!(model.step(&vec![row(0); 101], &[false; 101], &mut out).is_err());
    assert!(out.is_empty() && model.branch_len(0) == 0);
}
