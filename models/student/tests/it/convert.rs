//! Checkpoints in every naming and format become the same file; adapters are merged as computed directly.

use std::path::Path;

use agent_student::convert::tensors::tensors;
use agent_student::convert::{
    ImportOptions, Imported, Preset, describe, export_language, import, shape_small, shape_tiny, verify, write_random,
};
use agent_student::file::ModelFile;
use serde_json::json;

use super::convert_fixture::{
    Names, Tensor, dequantised, foreign, questions, safetensors, shape, sharded, sharded_torch, surroundings, torch,
    values, weights,
};

fn quiet(options: &ImportOptions, out: &Path) -> Imported {
    import(options, out, &mut |_, _, _| {}).unwrap()
}

#[test]
fn all_namings_and_formats_give_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let asked = questions(dir.path());
    let mut hashes = Vec::new();
    for (names, format) in [
        (Names::Original, "one safetensors"),
        (Names::HuggingFace, "sharded safetensors"),
        (Names::Merged, "PyTorch"),
        (Names::Merged, "sharded PyTorch"),
        (Names::Original, "sharded PyTorch"),
        (Names::Original, "F16"),
    ] {
        let base = dir.path().join(format!("{names:?} {format}"));
        surroundings(&base, names);
        match format {
            "sharded safetensors" => sharded(&base, &weights(names)),
            "PyTorch" => torch(&base.join("pytorch_model.bin"), &weights(names)),
            "sharded PyTorch" => sharded_torch(&base, &weights(names)),
            "F16" => safetensors(&base.join("model.safetensors"), &weights(names), "F16"),
            _ => safetensors(&base.join("model.safetensors"), &weights(names), "F32"),
        }
        let out = dir.path().join(format!("{format}.gguf"));
        let made = quiet(&ImportOptions::new(&base, &asked, Preset::Q4K), &out);
        let checked = verify(&out).unwrap();
        assert_eq!(checked.weights_sha256, made.written.weights_sha256);
        assert_eq!(checked.licence, "apache-2.0");
        assert_eq!(checked.sources["base"].len(), 64);
        hashes.push(made.written.weights_sha256);
    }
    assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
}

#[test]
fn values_and_facts_are_those_of_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    surroundings(&base, Names::Original);
    safetensors(&base.join("model.safetensors"), &weights(Names::Original), "F32");
    let mut options = ImportOptions::new(&base, questions(dir.path()), Preset::F32);
    options.telemetry = true;
    options.licence = Some("for tests".into());
    options.trained_on = Some("simulated".into());
    let out = dir.path().join("m.gguf");
    quiet(&options, &out);
    for t in tensors(&shape()) {
        assert_eq!(dequantised(&out, &t.name), values(&t.name, t.dims.iter().product()), "{}", t.name);
    }
    assert_eq!(ModelFile::open(&out).unwrap().shape().unwrap(), shape());
    let said = verify(&out).unwrap();
    assert_eq!(
        (said.licence.as_str(), said.telemetry, said.objects, said.calibrated),
        ("for tests", true, false, false)
    );
    assert_eq!(said.trained_on.as_deref(), Some("simulated"));
    assert_eq!(said.tasks.len(), 6);
    assert_eq!((said.codebook["description"], said.codebook["cause"], said.codebook["prevention"]), (2, 1, 0));

    options.preset = Preset::Q4K;
    quiet(&options, &out);
    let kinds = describe(&out).unwrap().types;
    assert_eq!(kinds.keys().copied().collect::<Vec<_>>(), ["f16", "f32", "q4_k", "q6_k"]);
    for name in ["blk.0.attn_q.weight", "blk.1.ffn_down.weight", "output.weight"] {
        let (a, b) = (dequantised(&out, name), values(name, dequantised(&out, name).len()));
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        assert!(cosine > 0.995, "{name}: {cosine}");
    }
}

/// An adapter for some matrices of both halves, in the key names of one version of PEFT.
fn adapter(folder: &Path, dora: bool, current: bool) -> Vec<(&'static str, usize)> {
    std::fs::create_dir_all(folder).unwrap();
    let changed = [("blk.0.attn_q.weight", 4), ("blk.1.ffn_down.weight", 4), ("blk.1.attn_v.weight", 2)];
    let mut all: Vec<Tensor> = Vec::new();
    for (name, rank) in changed {
        let dims = tensors(&shape()).into_iter().find(|t| t.name == name).unwrap().dims;
        let module = foreign(name, if current { Names::HuggingFace } else { Names::Original });
        let module = format!("base_model.model.{}", module.strip_suffix(".weight").unwrap());
        let mut put = |part: &str, dims: Vec<usize>| {
            let n = dims.iter().product();
            all.push((format!("{module}.{part}"), dims, values(&format!("{name} {part}"), n)));
        };
        put("lora_A.weight", vec![rank, dims[1]]);
        put("lora_B.weight", vec![dims[0], rank]);
        if dora {
            put(if current { "lora_magnitude_vector.weight" } else { "lora_magnitude_vector" }, vec![dims[0]]);
        }
    }
    let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "fan_in_fan_out": false,
        "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 5}});
    if current {
        config["use_dora"] = json!(dora);
        safetensors(&folder.join("adapter_model.safetensors"), &all, "F32");
    } else {
        torch(&folder.join("adapter_model.bin"), &all);
    }
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    changed.to_vec()
}

/// W + scale B A in f64, each row brought to its magnitude where there is one.
fn merged(name: &str, rank: usize, dora: bool, current: bool) -> Vec<f64> {
    let dims = tensors(&shape()).into_iter().find(|t| t.name == name).unwrap().dims;
    let (rows, columns) = (dims[0], dims[1]);
    let scale = if rank == 2 { 2.5 } else { 1.5 };
    let (w, a) = (values(name, rows * columns), values(&format!("{name} lora_A.weight"), rank * columns));
    let b = values(&format!("{name} lora_B.weight"), rows * rank);
    let key = if current { "lora_magnitude_vector.weight" } else { "lora_magnitude_vector" };
    let magnitude = values(&format!("{name} {key}"), rows);
    let mut out = Vec::new();
    for r in 0..rows {
        let row = (0..columns).map(|c| {
            let ba = (0..rank).map(|k| f64::from(b[r * rank + k]) * f64::from(a[k * columns + c])).sum::<f64>();
            f64::from(w[r * columns + c]) + scale * ba
        });
        let row: Vec<f64> = row.collect();
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let factor = if dora { f64::from(magnitude[r]) / length } else { 1.0 };
        out.extend(row.iter().map(|v| v * factor));
    }
    out
}

#[test]
fn lora_and_dora_of_both_peft_versions_are_merged_as_computed() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    surroundings(&base, Names::HuggingFace);
    sharded(&base, &weights(Names::HuggingFace));
    let projector = vec![
        ("base_model.model.model.mm_projector.readout.0.weight".to_owned(), vec![256, 64], values("new", 256 * 64)),
        ("base_model.model.model.mm_projector.readout.2.bias".to_owned(), vec![256], values("newer", 256)),
    ];
    let extra = dir.path().join("non_lora_trainables.bin");
    torch(&extra, &projector);
    for (dora, current) in [(false, false), (false, true), (true, false), (true, true)] {
        let folder = dir.path().join(format!("adapter {dora} {current}"));
        let changed = adapter(&folder, dora, current);
        let mut options = ImportOptions::new(&base, questions(dir.path()), Preset::F32);
        options.adapter = Some(folder);
        options.non_lora = Some(extra.clone());
        let out = dir.path().join("m.gguf");
        let made = quiet(&options, &out);
        assert_eq!(made.merged, 3);
        assert!(made.sources.adapter.is_some() && made.sources.non_lora.is_some());
        for (name, rank) in &changed {
            let (is, must) = (dequantised(&out, name), merged(name, *rank, dora, current));
            let worst = is.iter().zip(&must).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 3e-6, "{name} dora {dora} current {current}: {worst}");
        }
        assert_eq!(dequantised(&out, "mm.0.weight"), values("new", 256 * 64));
        assert_eq!(dequantised(&out, "mm.2.bias"), values("newer", 256));
        assert_eq!(dequantised(&out, "mm.2.weight"), values("mm.2.weight", 256 * 256));
        assert_eq!(dequantised(&out, "blk.0.attn_k.weight"), values("blk.0.attn_k.weight", 128 * 256));
    }
}

#[test]
fn a_tied_head_is_written_once_and_another_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    surroundings(&base, Names::HuggingFace);
    let mut config = super::convert_fixture::config(Names::HuggingFace);
    config["text_config"]["tie_word_embeddings"] = json!(true);
    std::fs::write(base.join("config.json"), config.to_string()).unwrap();
    let mut all = weights(Names::HuggingFace);
    safetensors(&base.join("model.safetensors"), &all, "F32");
    let options = ImportOptions::new(&base, questions(dir.path()), Preset::Q8_0);
    let out = dir.path().join("m.gguf");
    let error = import(&options, &out, &mut |_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("tensor lm_head.weight") && error.contains("they differ"), "{error}");

    let embedding = all.iter().find(|t| t.0.ends_with("embed_tokens.weight")).unwrap().2.clone();
    all.iter_mut().find(|t| t.0 == "lm_head.weight").unwrap().2 = embedding;
    safetensors(&base.join("model.safetensors"), &all, "F32");
    let made = quiet(&options, &out);
    assert!(made.notes.iter().any(|n| n.contains("tied head")), "{:?}", made.notes);
    assert!(verify(&out).unwrap().shape.tied);
    assert!(ModelFile::open(&out).unwrap().info("output.weight").is_none());
}

#[test]
fn random_models_pass_and_the_language_half_keeps_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (out, half) = (dir.path().join("m.gguf"), dir.path().join("half.gguf"));
    for (shape, preset) in [(shape_tiny(), Preset::F16), (shape_small(), Preset::Q4K)] {
        write_random(&shape, 3, preset, &out).unwrap();
        let said = verify(&out).unwrap();
        assert_eq!(said.licence, "none: random weights");
        export_language(&out, &half).unwrap();
        let (whole, part) = (ModelFile::open(&out).unwrap(), ModelFile::open(&half).unwrap());
        let names: Vec<&str> = part.names().collect();
        assert_eq!(names.len(), 2 + 12 * shape.text.layers);
        for name in names {
            assert_eq!(whole.bytes(name).unwrap(), part.bytes(name).unwrap(), "{name}");
        }
        assert!(part.meta().keys().all(|k| !k.starts_with("student.")));
        let error = verify(&half).unwrap_err().to_string();
        assert!(error.contains("without student.format"), "{error}");
    }
}

#[test]
fn the_users_annotation_files_give_six_questions_and_the_closed_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/crashchat");
    if !folder.exists() {
        println!("skipped: no annotation files beside the project");
        return;
    }
    let mut notes = Vec::new();
    let q = agent_student::convert::questions::read_questions(&folder, &mut notes).unwrap();
    assert!(q.prompts.iter().all(|p| p.len() > 40 && !p.contains("<video>")));
    assert_eq!([q.codebook[0].len(), q.codebook[1].len(), q.codebook[2].len()], [45, 88, 93]);
    println!("codebook version {}, notes {notes:?}", q.codebook_version);
}

#[test]
fn old_tokenizer_files_give_the_same_tokens() {
    use agent_student::convert::tokens::read_tokens;

    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    surroundings(&base, Names::Original);
    let vocab = shape().text.vocab;
    let whole = read_tokens(&base, vocab, &mut Vec::new()).unwrap();
    let table: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(base.join("tokenizer.json")).unwrap()).unwrap();
    std::fs::remove_file(base.join("tokenizer.json")).unwrap();
    std::fs::write(base.join("vocab.json"), table["model"]["vocab"].to_string()).unwrap();
    let merges: Vec<&str> = table["model"]["merges"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    std::fs::write(base.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    // Half of the added tokens in each of the two places that old checkpoints keep them in.
    let (mut decoder, mut added) = (serde_json::Map::new(), serde_json::Map::new());
    for (i, t) in table["added_tokens"].as_array().unwrap().iter().enumerate() {
        if i % 2 == 0 {
            decoder.insert(t["id"].to_string(), json!({"content": t["content"], "special": true}));
        } else {
            added.insert(t["content"].as_str().unwrap().to_owned(), t["id"].clone());
        }
    }
    let config = json!({"eos_token": {"content": "<|im_end|>"}, "added_tokens_decoder": decoder});
    std::fs::write(base.join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(base.join("added_tokens.json"), serde_json::Value::Object(added).to_string()).unwrap();
    assert_eq!(read_tokens(&base, vocab, &mut Vec::new()).unwrap(), whole);

    let mut notes = Vec::new();
    let larger = read_tokens(&base, vocab + 8, &mut notes).unwrap();
    assert_eq!((larger.tokens.len(), larger.tokens[vocab + 1].as_str()), (vocab + 8, "[PAD513]"));
    assert_eq!(notes, ["8 rows of the embedding have no token"]);
}

#[test]
fn what_a_checkpoint_does_not_state_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    surroundings(&base, Names::Original);
    safetensors(&base.join("model.safetensors"), &weights(Names::Original), "BF16");
    std::fs::remove_file(base.join("README.md")).unwrap();
    let out = dir.path().join("m.gguf");
    let options = ImportOptions::new(&base, questions(dir.path()), Preset::Q8_0);
    for (preprocessor, mean, says) in [
        (None, 0.5, Some("no preprocessor configuration")),
        (Some(json!({})), 0.481_454_66, Some("names no mean")),
        (Some(json!({"image_mean": [0.25, 0.5, 0.5], "image_std": [1, 1, 1], "max_tokens": 99_999})), 0.25, None),
    ] {
        let path = base.join("preprocessor_config.json");
        match preprocessor {
            Some(json) => std::fs::write(&path, json.to_string()).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let made = quiet(&options, &out);
        assert_eq!(made.licence, "none stated");
        assert_eq!(says.is_some(), made.notes.iter().any(|n| n.contains(says.unwrap_or("mean"))), "{:?}", made.notes);
        let image = ModelFile::open(&out).unwrap().shape().unwrap().image;
        assert_eq!(image.mean[0], mean);
        assert!(image.max_tokens <= 16_384);
        assert_eq!(verify(&out).unwrap().notes, made.notes);
    }
    std::fs::write(base.join("LICENSE"), "do as you like").unwrap();
    assert_eq!(quiet(&options, &out).licence, "do as you like");
}
