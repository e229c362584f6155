//! Checkpoint and adapter through the importer to logits, against peft's merge (fixtures/adapters.safetensors).

use std::{collections::HashMap, path::Path};

use agent_student::{
    convert::{ImportOptions, Preset, import},
    file::ModelFile,
    llm::{Language, candle::CandleLanguage},
};
use candle_core::{Device, Tensor as CandleTensor, safetensors as reader};
use serde_json::json;

use crate::{
    convert_fixture::{Names, Tensor, foreign, questions, safetensors, surroundings, torch},
    exact::{assert_close, room, rows, step, stream},
    tiny::{TINY, Tiny, even, generate},
};

const RANK: usize = 8;

fn fixture(name: &str) -> HashMap<String, CandleTensor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    reader::load(folder.join(name), &Device::Cpu).unwrap()
}

/// A model with a vocabulary of 512 as a checkpoint of one naming.
pub(crate) fn checkpoint(folder: &Path, model: &Tiny, names: Names) {
    surroundings(folder, names);
    let [hidden, ffn, layers, heads, kv, vocab] = model.text;
    let text = json!({
        "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocab, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096, "rope_theta": 1e6, "tie_word_embeddings": model.tied, "hidden_act": "silu",
    });
    let [hidden, ffn, layers, heads] = model.vision;
    let vision = json!({
        "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
        "patch_size": 14, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh",
    });
    let config = if names == Names::HuggingFace {
        json!({"model_type": "video_llama_3", "image_token_id": 509, "text_config": text, "vision_config": vision,
            "tie_word_embeddings": model.tied})
    } else {
        let mut config = text;
        config["image_token_index"] = json!(509);
        config["vision_encoder_config"] = vision;
        config
    };
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tensor = |(name, dims): (String, Vec<usize>)| {
        let values = generate(model.key, &name, &dims);
        let dims = if name == "v.patch_embd.weight" { vec![dims[0], 3, 14, 14] } else { dims };
        (foreign(&name, names), dims, values)
    };
    let tensors: Vec<Tensor> = model.tensors().into_iter().map(tensor).collect();
    if names == Names::Merged {
        torch(&folder.join("pytorch_model.bin"), &tensors);
    } else {
        safetensors(&folder.join("model.safetensors"), &tensors, "F32");
    }
}

/// The reference's adapter as peft saves it.
fn adapter(folder: &Path, names: Names, dora: bool) {
    std::fs::create_dir_all(folder).unwrap();
    let magnitudes = fixture("adapters.safetensors");
    let mut tensors: Vec<Tensor> = Vec::new();
    for (name, dims) in TINY.tensors() {
        if !name.starts_with("blk.") || dims.len() == 1 {
            continue;
        }
        let own = name.trim_end_matches(".weight");
        let module = foreign(&name, names);
        let module = format!("base_model.model.{}", module.trim_end_matches(".weight"));
        for (part, shape, scale) in [
            ("A", vec![RANK, dims[1]], 1.0 / (dims[1] as f64).sqrt()),
            ("B", vec![dims[0], RANK], 0.3 / (RANK as f64).sqrt()),
        ] {
            let even = even(&format!("{own}.lora_{}", part.to_lowercase()), shape.iter().product());
            let values = even.map(|x| (x * (3f64.sqrt() * scale)) as f32).collect();
            tensors.push((format!("{module}.lora_{part}.weight"), shape, values));
        }
        if dora {
            let values = magnitudes[&format!("dora.{own}.magnitude")].to_vec1().unwrap();
            tensors.push((format!("{module}.lora_magnitude_vector"), vec![dims[0]], values));
        }
    }
    safetensors(&folder.join("adapter_model.safetensors"), &tensors, "F32");
    let config = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "bias": "none", "fan_in_fan_out": false,
        "use_dora": dora, "use_rslora": false});
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

#[test]
fn imported_checkpoints_with_adapters_answer_as_peft_merges_them() {
    let dir = tempfile::tempdir().unwrap();
    let asked = questions(dir.path());
    let (exact, reference) = (fixture("exact.safetensors"), fixture("adapters.safetensors"));
    let ids = |key: &str| exact[key].to_vec1::<u32>().unwrap();
    let floats = |tensor: &CandleTensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (prefix, suffix, hidden) = (ids("tiny.prefix"), ids("tiny.suffix0"), floats(&exact["tiny.video_hidden"]));
    let all = [Names::Original, Names::HuggingFace, Names::Merged];
    for (names, kind) in all.into_iter().flat_map(|names| ["none", "lora", "dora"].map(|kind| (names, kind))) {
        let name = format!("{names:?} {kind}");
        let folder = dir.path().join(&name);
        checkpoint(&folder, &TINY, names);
        let mut options = ImportOptions::new(&folder, &asked, Preset::F32);
        if kind != "none" {
            let own = dir.path().join(format!("{name} adapter"));
            adapter(&own, names, kind == "dora");
            options.adapter = Some(own);
        }
        let out = dir.path().join(format!("{name}.gguf"));
        let made = import(&options, &out, &mut |_, _, _| {}).unwrap();
        assert_eq!(made.merged, if kind == "none" { 0 } else { 7 * 3 }, "{name}");
        let file = ModelFile::open(&out).unwrap();
        let mut language = CandleLanguage::load(&file, room(), &Device::Cpu).unwrap();
        stream(&mut language, &prefix, &hidden);
        language.open_branches(1).unwrap();
        let logits = step(&mut language, &rows(0, &suffix));
        let reference = if kind == "none" { &exact["tiny.logits0"] } else { &reference[&format!("{kind}.logits")] };
        assert_close(&name, &logits, &floats(reference), 1e-5);
    }
}
