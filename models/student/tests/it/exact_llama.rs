//! Language halves that the converter wrote, against what llama.cpp answers on them (fixtures/llama.safetensors, which
//! reference/make_llama_fixture.py makes).
//!
//! The hash holds that llama.cpp read these very bytes; tokens, logits and greedy tokens hold that it understands them
//! as the student does: names, order of dimensions, types, tokenizer, constants of norms and rotary positions.

use std::{collections::HashMap, path::Path};

use agent_student::{
    convert::{ImportOptions, Preset, export_language, import},
    engine::EngineLanguage,
    file::ModelFile,
    llm::{Language, candle::CandleLanguage},
    prompt::head,
    tokenizer::{Tokens, Vocabulary},
};
use candle_core::{Device, Tensor, quantized::gguf_file::Value, safetensors};
use sha2::{Digest as _, Sha256};

use crate::{
    convert_fixture::{Names, questions},
    decode_prompt::chat,
    exact::{argmax, assert_close, greedy, room, rows, step},
    exact_adapters::checkpoint,
    exact_quantised::{cosines, mean_divergence},
    tiny::{HALF, TINY, Tiny},
};

const VOCAB: usize = 512;
/// Positions whose logits the fixture has: the prompt's last.
const ROWS: usize = 4;
/// Tokens that it has of greedy decoding.
const GREEDY: usize = 16;

type Fixture = HashMap<String, Tensor>;

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/llama.safetensors");
    safetensors::load(path, &Device::Cpu).unwrap()
}

/// Makes the language half that llama.cpp was given, and holds it to its hash.
fn half(folder: &Path, fixture: &Fixture, model: &Tiny, preset: Preset) -> ModelFile {
    let name = format!("{}.{}", model.key, preset.name());
    let base = folder.join(model.key);
    checkpoint(&base, model, Names::HuggingFace);
    let mut options = ImportOptions::new(base, questions(folder), preset);
    // What the half has of its surroundings: all else in it follows from the checkpoint.
    options.name = Some("half".into());
    options.licence = Some("none: a test".into());
    let (whole, half) = (folder.join("whole.gguf"), folder.join("half.gguf"));
    import(&options, &whole, &mut |_, _, _| {}).unwrap();
    export_language(&whole, &half).unwrap();
    let digest = Sha256::digest(std::fs::read(&half).unwrap()).to_vec();
    assert_eq!(digest, fixture[&format!("{name}.sha256")].to_vec1::<u8>().unwrap(), "{name}: other bytes");
    ModelFile::open(&half).unwrap()
}

/// The tokenizer of a half.
fn tokens(file: &ModelFile) -> Tokens {
    let texts =
        |key: &str| -> Vec<String> { file.texts(key).unwrap().unwrap().into_iter().map(str::to_owned).collect() };
    let Value::Array(kinds) = &file.meta()["tokenizer.ggml.token_type"] else { panic!("no list of kinds") };
    let vocabulary = Vocabulary {
        tokens: texts("tokenizer.ggml.tokens"),
        kinds: kinds.iter().map(|kind| kind.to_i32().unwrap() as u32).collect(),
        merges: texts("tokenizer.ggml.merges"),
        model: "gpt2".into(),
        pre: "qwen2".into(),
        end: file.number("tokenizer.ggml.eos_token_id").unwrap().unwrap() as u32,
    };
    Tokens::new(vocabulary).unwrap()
}

/// Logits of the prompt's last positions, and the greedy tokens after it.
fn answers(language: &mut dyn Language, prompt: &[u32]) -> (Vec<f32>, Vec<u32>) {
    let (prefix, last) = prompt.split_at(prompt.len() - ROWS);
    language.extend_tokens(prefix).unwrap();
    language.open_branches(1).unwrap();
    let logits = step(language, &rows(0, last));
    let first = argmax(&logits[(ROWS - 1) * VOCAB..]);
    let tokens = greedy(language, vec![first], GREEDY).remove(0);
    (logits, tokens)
}

/// Both backends on one half: their greedy tokens are held here, their logits are handed to `held` with llama.cpp's.
fn compare(model: &Tiny, preset: Preset, held: impl Fn(&str, &[f32], &[f32])) {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture();
    let file = half(folder.path(), &fixture, model, preset);
    let name = format!("{}.{}", model.key, preset.name());
    let u32s = |key: &str| fixture[key].to_vec1::<u32>().unwrap();
    let logits: Vec<f32> = fixture[&format!("{name}.logits")].flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(logits.len(), ROWS * VOCAB);
    let backends: [(&str, Box<dyn Language>); 2] = [
        ("candle", Box::new(CandleLanguage::load(&file, room(), &Device::Cpu).unwrap())),
        ("engine", Box::new(EngineLanguage::load(&file, room(), 1).unwrap())),
    ];
    for (backend, mut language) in backends {
        let (ours, tokens) = answers(language.as_mut(), &u32s("prompt"));
        held(&format!("{name} {backend}"), &ours, &logits);
        assert_eq!(tokens, u32s(&format!("{name}.greedy")), "{name} {backend}");
    }
}

#[test]
fn a_half_s_prompt_has_llama_cpp_s_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture();
    let tokens = tokens(&half(folder.path(), &fixture, &HALF, Preset::F32));
    let frames = [(head(0.0, None, &[]), 2), (head(1.0 / 3.0, None, &[]), 2)];
    let ids = chat(&tokens, tokens.id("<image>").unwrap(), &frames, "Who hits whom?");
    assert_eq!(ids, fixture["prompt"].to_vec1::<u32>().unwrap());
}

#[test]
fn f32_halves_have_llama_cpp_s_logits_and_greedy_tokens() {
    // The head is the embedding in one and its own in the other.
    for model in [&TINY, &HALF] {
        compare(model, Preset::F32, |what, ours, theirs| assert_close(what, ours, theirs, 1e-5));
    }
}

#[test]
fn quantised_halves_have_llama_cpp_s_logits_and_greedy_tokens() {
    // Both sides read the same stored weights; what is left is that llama.cpp takes activations as integers of 8 bits,
    // as candle does, and the engine as integers of 13 bits.
    for preset in [Preset::Q8_0, Preset::Q4K] {
        compare(&HALF, preset, |what, ours, theirs| {
            let (least, divergence) = (cosines(ours, theirs, VOCAB).0, mean_divergence(ours, theirs, VOCAB));
            println!("{what}: least cosine {least:.6}, mean divergence {divergence:.1e}");
            assert!(least >= 0.9999, "{what}: cosine {least}");
            assert!(divergence <= 0.001, "{what}: divergence {divergence}");
        });
    }
}
